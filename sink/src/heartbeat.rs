//! Heartbeats, by which an idle source is told from a broken chain, and where partitions start. I/O.
//!
//! Debezium writes a heartbeat behind everything that it sent before. Every replica reads that topic itself,
//! outside the group: a partition is fresh up to a heartbeat once it has reached the end that it had when the
//! heartbeat was seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidemark_runtime::shell::Readiness;

use crate::consume::Event;
use crate::decode::json::{Cursor, Raw};
use crate::group::{Context, Owned, lock};
use crate::letters::Notice;
use crate::offsets::Partition;

/// Deadline of one question to the brokers.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two looks for the topic.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches the heartbeat topic until it is told to stop.
pub struct Watch {
    /// The group's consumer, asked for committed offsets.
    pub consumer: Arc<BaseConsumer<Context>>,
    /// Partitions of this replica.
    pub owned: Owned,
    /// Where answers go.
    pub events: Sender<Event>,
    /// Topics by place of their table.
    pub topics: Vec<String>,
    /// Topic of the heartbeats.
    pub heartbeat_topic: String,
    /// Topic of the dead letters: what is there beside them says which are open.
    pub dead_letter_topic: String,
    /// Opened when the brokers have answered.
    pub readiness: Readiness,
    /// Ends the watch.
    pub stop: Arc<std::sync::atomic::AtomicBool>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("heartbeat_topic", &self.heartbeat_topic).finish_non_exhaustive()
    }
}

impl Watch {
    /// Runs on a thread of its own: the questions block.
    pub fn run(self, config: &ClientConfig) -> KafkaResult<()> {
        let reader: BaseConsumer = config.create()?;
        // A broker answers a connection's requests one after another: a question behind a fetch that waits for
        // records waits along, half a second each.
        let questions: BaseConsumer = config.create()?;
        let (mut subscribed, mut asked) = (false, None);
        let mut started: BTreeSet<Partition> = BTreeSet::new();
        while !self.stopped() {
            if !subscribed && asked.is_none_or(|asked: Instant| asked.elapsed() >= PAUSE) {
                asked = Some(Instant::now());
                subscribed = self.assign_heartbeats(&questions, &reader);
            }
            if self.stopped() {
                break;
            }
            self.find_starts(&questions, &mut started);
            if self.stopped() {
                break;
            }
            let Some(Ok(message)) = reader.poll(Duration::from_millis(200)) else {
                continue;
            };
            let mut instant = self.instant(&message);
            // Only the newest of a row of heartbeats is worth the questions.
            while let Some(Ok(message)) = reader.poll(Duration::ZERO) {
                instant = self.instant(&message).or(instant);
            }
            let Some(instant) = instant else {
                continue;
            };
            let ends = self.ends(&questions);
            let _ = self.events.send(Event::Heartbeat(instant, ends));
            let _ = self.events.send(Event::Firsts(self.firsts(&questions)));
        }
        Ok(())
    }

    /// Instant of a heartbeat; a dead letter is handed on.
    fn instant(&self, message: &BorrowedMessage<'_>) -> Option<i64> {
        if message.topic() == self.dead_letter_topic {
            if let Some(notice) = Notice::of(message) {
                let _ = self.events.send(Event::Letter(notice));
            }
            return None;
        }
        message.payload().and_then(instant_of)
    }

    /// Reads all partitions of the topic from their ends on, and the dead letters; false if there is none yet.
    fn assign_heartbeats(&self, questions: &BaseConsumer, reader: &BaseConsumer) -> bool {
        let metadata = match questions.fetch_metadata(Some(&self.heartbeat_topic), DEADLINE) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::debug!(%error, "the brokers do not answer yet");
                return false;
            }
        };
        self.readiness.open("kafka");
        let mut list = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            for partition in topic.partitions() {
                // The last heartbeat counts: a source may send the next one much later.
                let _ = list.add_partition_offset(topic.name(), partition.id(), Offset::OffsetTail(1));
            }
        }
        if list.count() == 0 {
            return false;
        }
        match questions.fetch_metadata(Some(&self.dead_letter_topic), DEADLINE) {
            Ok(metadata) => {
                for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
                    for partition in topic.partitions() {
                        let _ = list.add_partition_offset(topic.name(), partition.id(), Offset::Beginning);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the dead letters cannot be read yet");
                return false;
            }
        }
        reader.assign(&list).is_ok()
    }

    /// Finds where new partitions start: at the committed offset, or at the first one there is.
    fn find_starts(&self, questions: &BaseConsumer, started: &mut BTreeSet<Partition>) {
        let owned = lock(&self.owned).clone();
        started.retain(|partition| owned.contains(partition));
        let new: Vec<Partition> = owned.difference(started).copied().collect();
        if new.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (table, partition) in &new {
            list.add_partition(&self.topics[*table], *partition);
        }
        let Ok(committed) = self.consumer.committed_offsets(list.clone(), DEADLINE) else {
            return;
        };
        let committed_of = |partition: Partition| match self.found(&committed, partition) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        };
        let unread: Vec<Partition> =
            new.iter().copied().filter(|partition| committed_of(*partition).is_none()).collect();
        // In place of an instant: the first offset that is still there.
        let firsts = if unread.is_empty() || self.stopped() {
            Vec::new()
        } else {
            self.at(questions, &unread, Offset::Beginning)
        };
        let starts = new.iter().filter_map(|partition| Some((*partition, committed_of(*partition)?)));
        for (partition, start) in starts.chain(firsts) {
            started.insert(partition);
            let _ = self.events.send(Event::Start(partition, start));
        }
    }

    /// End offsets of the partitions that this replica owns.
    fn ends(&self, questions: &BaseConsumer) -> Vec<(Partition, i64)> {
        let owned: Vec<Partition> = lock(&self.owned).iter().copied().collect();
        // In place of an instant: the offset after the last record.
        self.at(questions, &owned, Offset::End)
    }

    /// First offsets of the partitions that this replica owns.
    fn firsts(&self, questions: &BaseConsumer) -> Vec<(Partition, i64)> {
        let owned: Vec<Partition> = lock(&self.owned).iter().copied().collect();
        self.at(questions, &owned, Offset::Beginning)
    }

    /// Offsets at one end of partitions: one request a broker, however many they are.
    fn at(&self, questions: &BaseConsumer, partitions: &[Partition], end: Offset) -> Vec<(Partition, i64)> {
        let mut list = TopicPartitionList::new();
        for (table, partition) in partitions {
            let _ = list.add_partition_offset(&self.topics[*table], *partition, end);
        }
        let Ok(offsets) = questions.offsets_for_times(list, DEADLINE) else {
            return Vec::new();
        };
        let offset = |partition: Partition| match self.found(&offsets, partition)? {
            Offset::Offset(offset) => Some((partition, offset)),
            _ => None,
        };
        partitions.iter().copied().filter_map(offset).collect()
    }

    fn found(&self, list: &TopicPartitionList, (table, partition): Partition) -> Option<Offset> {
        let found = list.find_partition(&self.topics[table], partition)?;
        found.error().is_ok().then(|| found.offset())
    }

    fn stopped(&self) -> bool {
        self.stop.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Reads `ts_ms` of a heartbeat, with or without a schema around it.
fn instant_of(payload: &[u8]) -> Option<i64> {
    let mut cursor = Cursor::new(payload);
    cursor.expect(b'{', "expected an object").ok()?;
    let mut first = true;
    while cursor.next_item(&mut first, b'}').ok()? {
        let key = cursor.key().ok()?;
        match (key.raw, cursor.value().ok()?) {
            (b"ts_ms", Raw::Number(text)) => return std::str::from_utf8(text).ok()?.parse().ok(),
            (b"payload", Raw::Object(payload)) => return instant_of(payload),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instant_is_found_with_and_without_a_schema() {
        assert_eq!(instant_of(br#"{"ts_ms":1795455364270}"#), Some(1_795_455_364_270));
        assert_eq!(instant_of(br#"{"schema":{"ts_ms":1},"payload":{"ts_ms":5}}"#), Some(5));
        assert_eq!(instant_of(b"{}"), None);
    }
}
