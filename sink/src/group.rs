//! The consumer group: properties, callbacks and records as librdkafka has them. I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tidemark_crds::ledger::{EPOCH_HEADER, epoch_of};
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;

use crate::batch::Place;
use crate::dead_letter::DeadLetter;
use crate::offsets::Partition;
use crate::table::{OLD_KEY_HEADER, Record};

/// How long one record may take to be found again.
const RECORD_DEADLINE: Duration = Duration::from_secs(15);
/// Bytes of an answer that librdkafka takes by default.
const USUAL_ANSWER: u64 = 100_000_000;

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
            // Not waited for: where the next owner begins is in the progress table, and a broker that is away would
            // keep this thread.
            && let Err(error) = consumer.commit(&list, CommitMode::Async)
        {
            tracing::warn!(%error, "offsets of revoked partitions are not committed: some rows are written twice");
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(partitions) => {
                // Nothing is read before it is known where the rows in the tables end.
                if partitions.count() > 0
                    && let Err(error) = consumer.pause(partitions)
                {
                    tracing::warn!(%error, "new partitions cannot be paused");
                }
                (true, names(partitions))
            }
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
    // The largest record comes in an answer of its own, whatever `fetch.max.bytes` says.
    let answer = (config.kafka.max_message_bytes + (1 << 20)).clamp(USUAL_ANSWER, i32::MAX as u64);
    properties
        .set("fetch.min.bytes", "1")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.max.bytes", "2097152")
        .set("fetch.message.max.bytes", "1048576")
        .set("receive.message.max.bytes", answer.to_string())
        .set("queued.max.messages.kbytes", "4096")
        // Partitions of a killed replica move as soon as the broker's least timeout allows; a container that is
        // throttled for longer than that sets its own in `consumerProperties`.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1500")
        // A topic that is made later is found within seconds.
        .set("topic.metadata.refresh.interval.ms", "10000");
    for (name, value) in &config.kafka.properties {
        properties.set(name, value);
    }
    // The newer protocol assigns at the broker, and refuses the settings of the classic one.
    let classic = config.kafka.properties.get("group.protocol").is_none_or(|protocol| protocol != "consumer");
    if classic {
        properties.set("partition.assignment.strategy", "cooperative-sticky");
    } else {
        properties.remove("session.timeout.ms");
        properties.remove("heartbeat.interval.ms");
    }
    properties
        .set("group.id", &config.kafka.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        // Where reading begins is decided by the progress table, and every jump is looked at.
        .set("auto.offset.reset", "earliest");
    properties
}

/// Reads single records again, by their places.
#[derive(Debug, Clone)]
pub struct Records {
    config: ClientConfig,
}

impl Records {
    /// Reads through a consumer with these properties, outside of its group.
    pub fn new(config: ClientConfig) -> Self {
        Self { config }
    }

    /// Returns the record at a place; `None` where there is none any more or the brokers do not answer in time.
    pub async fn fetch(&self, topic: &str, place: Place) -> Option<DeadLetter> {
        let (config, topic) = (self.config.clone(), topic.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, place.partition, Offset::Offset(place.offset))?;
            consumer.assign(&list)?;
            let deadline = Instant::now() + RECORD_DEADLINE;
            while Instant::now() < deadline {
                match consumer.poll(Duration::from_millis(200)) {
                    Some(Ok(message)) if message.offset() == place.offset => {
                        return Ok(Some(Borrowed(&message).to_letter()));
                    }
                    Some(Ok(_)) => return Ok(None),
                    Some(Err(error)) => log_read_error(&error),
                    None => {}
                }
            }
            Ok::<_, KafkaError>(None)
        });
        match found.await {
            Ok(Ok(record)) => record,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a record cannot be read again");
                None
            }
            Err(_) => None,
        }
    }
}

/// A record that is still librdkafka's.
pub(crate) struct Borrowed<'a>(pub(crate) &'a BorrowedMessage<'a>);

impl Borrowed<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        headers.iter().find(|header| header.key == name)?.value
    }
}

impl Record for Borrowed<'_> {
    #[inline]
    fn place(&self) -> Place {
        Place { partition: self.0.partition(), offset: self.0.offset() }
    }

    #[inline]
    fn kafka_time(&self) -> i64 {
        self.0.timestamp().to_millis().unwrap_or(0)
    }

    #[inline]
    fn payload(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    #[inline]
    fn epoch(&self) -> Option<u16> {
        epoch_of(self.header(EPOCH_HEADER)?)
    }

    fn old_key(&self) -> Option<&[u8]> {
        self.header(OLD_KEY_HEADER)
    }

    fn to_letter(&self) -> DeadLetter {
        let headers = self.0.headers();
        let headers = headers.iter().flat_map(|headers| headers.iter());
        DeadLetter {
            topic: self.0.topic().to_owned(),
            partition: self.0.partition(),
            offset: self.0.offset(),
            kafka_time: self.kafka_time(),
            key: self.0.key().map(<[u8]>::to_vec),
            payload: self.0.payload().map(<[u8]>::to_vec),
            headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
            ..DeadLetter::default()
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
