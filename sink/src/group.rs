//! The consumer group: properties, callbacks and records as librdkafka has them. I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;

use crate::dead_letter::DeadLetter;
use crate::offsets::Partition;
use crate::table::{Record, epoch_of};

/// Partitions that this replica owns, shared with the heartbeat thread.
pub type Owned = Arc<Mutex<BTreeSet<Partition>>>;

/// Locks a mutex that guards plain data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Partitions, by topic, that were assigned (true) or revoked.
pub(crate) type Change = (bool, Vec<(String, i32)>);

/// What librdkafka's callbacks see and leave behind.
#[derive(Debug, Default)]
pub struct Context {
    pub(crate) applied: Mutex<HashMap<(String, i32), i64>>,
    pub(crate) changes: Mutex<Vec<Change>>,
    pub(crate) changed: AtomicBool,
    pub(crate) commit_failed: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else {
            return;
        };
        let mut list = TopicPartitionList::new();
        {
            let mut applied = lock(&self.applied);
            for partition in names(partitions) {
                if let Some(next) = applied.remove(&partition) {
                    let _ = list.add_partition_offset(&partition.0, partition.1, Offset::Offset(next));
                }
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, CommitMode::Sync)
        {
            tracing::warn!(%error, "offsets of revoked partitions are not committed: some rows are written twice");
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(partitions) => (true, names(partitions)),
            Rebalance::Revoke(partitions) => (false, names(partitions)),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "rebalance");
                return;
            }
        };
        lock(&self.changes).push(change);
        self.changed.store(true, Ordering::Release);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            tracing::warn!(%error, "offsets cannot be committed yet");
            self.commit_failed.store(true, Ordering::Release);
        }
    }
}

fn names(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
}

/// Properties of the group's consumer.
pub fn consumer_config(connection: &Connection, config: &SinkConfig, client_id: &str) -> ClientConfig {
    let mut properties = connection.client_config(client_id);
    properties
        .set("fetch.min.bytes", "1")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.max.bytes", "8388608")
        .set("max.partition.fetch.bytes", "1048576")
        .set("queued.max.messages.kbytes", "16384")
        // Partitions of a killed replica move as soon as the broker's least timeout allows.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1500")
        // A topic that is made later is found within seconds.
        .set("topic.metadata.refresh.interval.ms", "10000");
    for (name, value) in &config.kafka.properties {
        properties.set(name, value);
    }
    properties
        .set("group.id", &config.kafka.group_id)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        .set("auto.offset.reset", "earliest");
    properties
}

/// A record that is still librdkafka's.
pub(crate) struct Borrowed<'a>(pub(crate) &'a BorrowedMessage<'a>);

impl Record for Borrowed<'_> {
    fn partition(&self) -> i32 {
        self.0.partition()
    }

    fn offset(&self) -> i64 {
        self.0.offset()
    }

    fn payload(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    fn epoch(&self) -> u16 {
        let headers = self.0.headers();
        let mut headers = headers.iter().flat_map(|headers| headers.iter());
        let epoch = headers.find(|header| header.key == EPOCH_HEADER);
        epoch.and_then(|header| epoch_of(header.value?)).unwrap_or(1)
    }

    fn to_letter(&self) -> DeadLetter {
        let headers = self.0.headers();
        let headers = headers.iter().flat_map(|headers| headers.iter());
        DeadLetter {
            topic: self.0.topic().to_owned(),
            partition: self.0.partition(),
            offset: self.0.offset(),
            key: self.0.key().map(<[u8]>::to_vec),
            payload: self.0.payload().map(<[u8]>::to_vec),
            headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
            error: String::new(),
        }
    }
}

/// Logs an error of reading; a topic that is not there yet is no reason to alarm anybody.
pub(crate) fn log_read_error(error: &KafkaError) {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
        tracing::debug!(%error, "a topic does not exist yet");
    } else {
        tracing::warn!(%error, "reading from kafka");
    }
}
