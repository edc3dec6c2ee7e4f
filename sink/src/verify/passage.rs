//! Whether the stream has passed a position, and every partition of a table has applied what it had then. I/O.
//!
//! The mark that was set in the log comes as a record of the topic of messages, behind everything that the connector
//! sent before it, as heartbeats do. It is told by what it says: a position could be that of another server, to which
//! the address leads since the connector opened its connection. The ends that the table's partitions have then are what
//! has to be applied; the progress table says of each, whoever owns it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;
use tidemark_crds::ledger::PROGRESS_TABLE;
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, number};

use crate::group::Borrowed;
use crate::read::Mark;
use crate::table::Record;

/// Deadline of one question to the brokers.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the mark may take to come, and then the partitions to apply what they have.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at the progress table.
const LOOK: Duration = Duration::from_millis(250);

/// Why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPassed(pub(crate) String);

impl From<KafkaError> for NotPassed {
    fn from(error: KafkaError) -> Self {
        Self(format!("kafka does not say how far the stream is: {error}"))
    }
}

/// Follows the topic of messages.
pub(crate) struct Passage {
    config: ClientConfig,
    messages: String,
    clickhouse: ClickHouse,
    pipeline: String,
    consumer: Option<Arc<BaseConsumer>>,
    /// Ends the wait that blocks a thread.
    stop: Arc<AtomicBool>,
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passage").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Passage {
    /// Reads `messages`, a topic, through a consumer with these properties, outside of its group; opened by
    /// [`listen`](Self::listen).
    pub(crate) fn new(
        config: ClientConfig,
        messages: String,
        clickhouse: ClickHouse,
        pipeline: String,
    ) -> Self {
        Self { config, messages, clickhouse, pipeline, consumer: None, stop: Arc::default() }
    }

    /// Listens from now on; to be called before the first mark is set.
    pub(crate) async fn listen(&mut self) -> Result<(), NotPassed> {
        if self.consumer.is_some() {
            return Ok(());
        }
        let (config, messages) = (self.config.clone(), self.messages.clone());
        let listening = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let mut list = TopicPartitionList::new();
            for (partition, end) in ends(&consumer, &messages)? {
                list.add_partition_offset(&messages, partition, Offset::Offset(end))?;
            }
            consumer.assign(&list)?;
            Ok::<_, NotPassed>(consumer)
        });
        let consumer = listening.await.map_err(|error| NotPassed(error.to_string()))??;
        self.consumer = Some(Arc::new(consumer));
        Ok(())
    }

    /// Waits until the stream has passed `mark`, which was set after [`listen`](Self::listen), and every partition of
    /// `topic` has applied what it had then.
    pub(crate) async fn wait(&mut self, mark: &Mark, topic: &str, table: &str) -> Result<(), NotPassed> {
        let Some(consumer) = self.consumer.take() else {
            return Err(NotPassed(
                "the topic of messages was not listened to before the mark was set".into(),
            ));
        };
        let (shared, topic, stop) = (Arc::clone(&consumer), topic.to_owned(), Arc::clone(&self.stop));
        let content = mark.content.clone();
        let passed = tokio::task::spawn_blocking(move || {
            follow(&shared, &content, &stop)?;
            ends(&shared, &topic)
        });
        let ends = passed.await.map_err(|error| NotPassed(error.to_string()))?;
        // One that failed is opened anew.
        let ends = ends?;
        self.consumer = Some(consumer);
        self.applied(table, &ends).await
    }

    /// Waits until the stream has passed `mark`, which was set after [`listen`](Self::listen); returns the epoch in
    /// which the connector sent it.
    pub(crate) async fn seen(&mut self, mark: &Mark) -> Result<Option<u16>, NotPassed> {
        let Some(consumer) = self.consumer.take() else {
            return Err(NotPassed(
                "the topic of messages was not listened to before the mark was set".into(),
            ));
        };
        let (shared, stop, content) = (Arc::clone(&consumer), Arc::clone(&self.stop), mark.content.clone());
        let seen = tokio::task::spawn_blocking(move || follow(&shared, &content, &stop));
        let epoch = seen.await.map_err(|error| NotPassed(error.to_string()))??;
        self.consumer = Some(consumer);
        Ok(epoch)
    }

    async fn applied(&self, table: &str, ends: &BTreeMap<i32, i64>) -> Result<(), NotPassed> {
        #[derive(Deserialize)]
        struct Row {
            partition: i32,
            #[serde(deserialize_with = "number::deserialize")]
            next_offset: i64,
        }
        let sql = format!(
            "SELECT partition, next_offset FROM {} FINAL WHERE pipeline = {} AND table = {}",
            quote::ident(PROGRESS_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(table),
        );
        let settings = [("select_sequential_consistency", "1"), ("max_threads", "1"), ("log_queries", "0")];
        let begin = Instant::now();
        loop {
            let rows: Vec<Row> = self
                .clickhouse
                .query_with_settings(&sql, &settings)
                .await
                .map_err(|error| NotPassed(format!("the progress table: {error}")))?;
            let next: BTreeMap<i32, i64> = rows.iter().map(|row| (row.partition, row.next_offset)).collect();
            let Some(behind) = behind(ends, &next) else { return Ok(()) };
            if begin.elapsed() >= PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(NotPassed(format!(
                    "partition {behind} has not applied what it had {seconds} s ago: the sink is late"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The first partition that has not applied everything up to its end. One without records has nothing to apply.
fn behind(ends: &BTreeMap<i32, i64>, next: &BTreeMap<i32, i64>) -> Option<i32> {
    let is_behind = |(partition, end): &(&i32, &i64)| **end > next.get(partition).copied().unwrap_or(0);
    ends.iter().find(is_behind).map(|(partition, _)| *partition)
}

/// End of each partition of a topic. Blocks.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, NotPassed> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    let mut list = TopicPartitionList::new();
    for partition in topics.flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        list.add_partition_offset(topic, partition.id(), Offset::End)?;
    }
    if list.count() == 0 {
        return Err(NotPassed(format!("there is no topic {topic}")));
    }
    let found = consumer.offsets_for_times(list, DEADLINE)?;
    let mut ends = BTreeMap::new();
    for element in found.elements() {
        element.error()?;
        if let Offset::Offset(end) = element.offset() {
            ends.insert(element.partition(), end);
        }
    }
    Ok(ends)
}

/// What a logical message says, out of Debezium's record of it, with and without its Connect schema.
fn content_of(record: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Said {
        content: String,
    }
    #[derive(Deserialize)]
    struct Envelope {
        message: Option<Said>,
        payload: Option<Box<Envelope>>,
    }
    let envelope: Envelope = serde_json::from_slice(record).ok()?;
    let said = envelope.message.or_else(|| envelope.payload?.message)?;
    STANDARD.decode(said.content).ok()
}

/// Reads until the mark that says this, and returns its epoch. Blocks.
fn follow(consumer: &BaseConsumer, mark: &str, stop: &AtomicBool) -> Result<Option<u16>, NotPassed> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && !stop.load(Ordering::Acquire) {
        let message = match consumer.poll(Duration::from_millis(200)) {
            None => continue,
            Some(message) => message?,
        };
        if message.payload().and_then(content_of).is_some_and(|content| content == mark.as_bytes()) {
            return Ok(Borrowed(&message).epoch());
        }
    }
    Err(NotPassed(format!(
        "the connector has not sent a mark of {} s ago: it does not run, or reads the log late",
        PATIENCE.as_secs()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_told_by_what_it_says_in_both_forms_of_a_record() {
        let content = r#"{"mark":"a 1"}"#;
        let plain = serde_json::json!({"op": "m", "source": {"lsn": 5},
            "message": {"prefix": "tidemark", "content": STANDARD.encode(content)}});
        let wrapped = serde_json::json!({"schema": {"type": "struct"}, "payload": plain});
        for record in [&plain, &wrapped] {
            assert_eq!(content_of(record.to_string().as_bytes()).unwrap(), content.as_bytes());
        }
        let change = serde_json::json!({"op": "c", "after": {"id": 1}});
        assert_eq!(content_of(change.to_string().as_bytes()), None);
        assert_eq!(content_of(b"tombstone"), None);
    }

    #[test]
    fn every_partition_with_records_has_to_have_applied_them_and_none_other() {
        let ends = [(0, 10), (1, 0), (2, 5)].into();
        assert_eq!(behind(&ends, &[(0, 10), (2, 4)].into()), Some(2));
        assert_eq!(behind(&ends, &[(2, 5)].into()), Some(0));
        assert_eq!(behind(&ends, &[(0, 11), (2, 5), (7, 0)].into()), None);
        assert_eq!(behind(&BTreeMap::new(), &BTreeMap::new()), None);
    }
}
