//! Dead letters as they are in their topic: which are open, what to do with them. Pure but for [`read_topic`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::Place;
use crate::dead_letter::{DeadLetter, ERROR, OFFSET, PARTITION, POSITION, RESOLVED, TOPIC, TRUNCATED};
use crate::group::Borrowed;
use crate::table::Record;

/// Deadline of one question to the brokers.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long reading the topic may take without an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One record of the topic, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Topic of the record that died.
    pub topic: String,
    /// Its place there.
    pub place: Place,
    /// Key of a row that was read at the source: many have one place. Empty for others.
    pub key: Vec<u8>,
    /// Epoch and position of its change.
    pub at: (u16, u64),
    /// Whether it says that the letter is dealt with.
    pub resolved: bool,
}

impl Notice {
    /// Reads a record of the topic; `None` for what is none of ours.
    pub fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        Self::of_letter(&Borrowed(message).to_letter())
    }

    fn of_letter(record: &DeadLetter) -> Option<Self> {
        let text = |name: &str| {
            let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let place = Place { partition: text(PARTITION)?.parse().ok()?, offset: text(OFFSET)?.parse().ok()? };
        Some(Self {
            topic: text(TOPIC)?.to_owned(),
            place,
            key: record.key.clone().filter(|_| place.partition < 0).unwrap_or_default(),
            at: (record.epoch().unwrap_or(0), text(POSITION).and_then(|text| text.parse().ok()).unwrap_or(0)),
            resolved: text(RESOLVED).is_some(),
        })
    }
}

/// The open letters of one table: each once, however often it was written.
#[derive(Debug, Clone, Default)]
pub struct Open {
    letters: BTreeMap<(Place, Vec<u8>), (u16, u64)>,
    dealt_with: BTreeSet<(Place, Vec<u8>)>,
}

impl Open {
    /// Takes a record of the topic.
    pub fn take(&mut self, notice: &Notice) {
        let letter = (notice.place, notice.key.clone());
        if notice.resolved {
            self.letters.remove(&letter);
            self.dealt_with.insert(letter);
        } else if !self.dealt_with.contains(&letter) {
            self.letters.insert(letter, notice.at);
        }
    }

    /// Letters of a partition that count, and the greatest position of them: they are of this epoch, and later than
    /// the table's last read, or of that read itself. Rows that were read at the source count as partition 0's.
    pub fn count(&self, partition: i32, epoch: u16, read: (u16, u64)) -> (u64, (u16, u64)) {
        // What is no event has no position: no read is known to make up for it.
        let known = |at: (u16, u64)| if at.1 == 0 { (u16::MAX, u64::MAX) } else { at };
        let counts = |place: Place, at: (u16, u64)| {
            let of_read = place.partition < 0;
            place.partition.max(0) == partition && at.0 >= epoch && (at > read || of_read && at == read)
        };
        let all = self.letters.iter().map(|((place, _), at)| (*place, known(*at)));
        let counted = all.filter(|(place, at)| counts(*place, *at));
        counted.fold((0, (0, 0)), |(count, greatest), (_, at)| (count + 1, greatest.max(at)))
    }

    /// How many records of these offsets are known to have died, dealt with or not.
    pub fn heard(&self, partition: i32, offsets: &std::ops::Range<i64>) -> u64 {
        let known = self.letters.keys().chain(&self.dealt_with);
        let is_one = |place: &Place| place.partition == partition && offsets.contains(&place.offset);
        known.filter(|(place, _)| is_one(place)).count() as u64
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }
}

/// A letter as it is in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The record, with the reason.
    pub record: DeadLetter,
    /// When it was written, milliseconds since 1970-01-01.
    pub written_at: i64,
}

/// Makes a letter of a record of the topic; `None` for what is none.
fn letter(message: &BorrowedMessage<'_>) -> Option<(Letter, Option<String>)> {
    let mut record = Borrowed(message).to_letter();
    let notice = Notice::of_letter(&record)?;
    let text = |name: &str| {
        let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
        value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let (error, truncated, resolved) = (text(ERROR), text(TRUNCATED), text(RESOLVED));
    record.topic = notice.topic;
    record.partition = notice.place.partition;
    record.offset = notice.place.offset;
    record.position = notice.at.1;
    record.error = error.unwrap_or_default();
    record.truncated = truncated.and_then(|bytes| bytes.parse().ok());
    let written_at = message.timestamp().to_millis().unwrap_or(0);
    Some((Letter { record, written_at }, resolved))
}

/// Reads the whole topic and returns the open letters, oldest first. Blocks.
pub fn read_topic(config: &ClientConfig, topic: &str) -> KafkaResult<Vec<Letter>> {
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let (mut list, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for found in metadata.topics() {
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        for partition in found.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), DEADLINE)?;
            if low < high {
                ends.insert(partition.id(), high);
                list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            }
        }
    }
    consumer.assign(&list)?;
    let mut open: BTreeMap<(String, Place, Vec<u8>), Letter> = BTreeMap::new();
    // What is said of a letter can be in another partition, and come before it.
    let mut dealt_with = BTreeSet::new();
    let mut heard = Instant::now();
    while !ends.is_empty() {
        let Some(message) = consumer.poll(Duration::from_millis(500)) else {
            // Records that are not there any more, or not readable, leave a partition short of its end.
            for element in consumer.position()?.elements() {
                if let Offset::Offset(at) = element.offset()
                    && ends.get(&element.partition()).is_some_and(|end| at >= *end)
                {
                    ends.remove(&element.partition());
                }
            }
            if heard.elapsed() > PATIENCE {
                return Err(KafkaError::MessageConsumption(
                    rdkafka::error::RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            continue;
        };
        let message = message?;
        heard = Instant::now();
        if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            ends.remove(&message.partition());
        }
        if let Some((letter, resolved)) = letter(&message) {
            let place = letter.record.place();
            let own = letter.record.key.clone().filter(|_| place.partition < 0).unwrap_or_default();
            let key = (letter.record.topic.clone(), place, own);
            if resolved.is_some() {
                open.remove(&key);
                dealt_with.insert(key);
            } else if !dealt_with.contains(&key) {
                open.insert(key, letter);
            }
        }
    }
    let mut letters: Vec<Letter> = open.into_values().collect();
    letters.sort_by_key(|letter| letter.written_at);
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(offset: i64, at: (u16, u64), resolved: bool) -> Notice {
        Notice { topic: "t".to_owned(), place: Place { partition: 1, offset }, key: vec![], at, resolved }
    }

    #[test]
    fn a_letter_counts_once_until_it_is_dealt_with_or_the_table_was_read_again() {
        let mut open = Open::default();
        for offset in [1, 2, 2, 3] {
            open.take(&notice(offset, (2, 100 * offset.unsigned_abs()), false));
        }
        assert_eq!(open.count(1, 2, (0, 0)), (3, (2, 300)));
        assert_eq!(open.count(0, 2, (0, 0)), (0, (0, 0)));
        assert_eq!(open.count(1, 3, (0, 0)).0, 0, "of an earlier epoch");
        assert_eq!(open.count(1, 2, (2, 200)).0, 1, "read since");
        open.take(&notice(4, (0, 0), false));
        assert_eq!(open.count(1, 3, (3, 1)).0, 1, "no event: nobody knows what it was");
        open.take(&notice(4, (0, 0), true));
        open.take(&notice(3, (0, 0), true));
        assert_eq!(open.count(1, 2, (0, 0)), (2, (2, 200)));
        // Written again by a replica that had not committed: dealt with it is all the same.
        open.take(&notice(3, (2, 300), false));
        assert_eq!(open.count(1, 2, (0, 0)).0, 2);
    }
}
