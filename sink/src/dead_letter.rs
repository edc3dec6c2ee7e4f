//! Records that cannot be applied, and the topic that keeps them. I/O in [`DeadLetterTopic`] alone.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

/// How long one attempt to write a dead letter may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A record as it came, with the reason why it was not applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Topic that it came from.
    pub topic: String,
    /// Partition that it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Why it was not applied.
    pub error: String,
}

impl DeadLetter {
    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        128 + self.key.as_ref().map_or(0, Vec::len) + self.payload.as_ref().map_or(0, Vec::len) + headers
    }

    /// Headers of the dead letter: those of the record, then where it came from and why it is here.
    fn all_headers(&self) -> OwnedHeaders {
        let mut all = OwnedHeaders::new();
        for (key, value) in &self.headers {
            all = all.insert(Header { key, value: value.as_deref() });
        }
        let (partition, offset) = (self.partition.to_string(), self.offset.to_string());
        for (key, value) in [
            ("tidemark.topic", self.topic.as_str()),
            ("tidemark.partition", &partition),
            ("tidemark.offset", &offset),
            ("tidemark.error", &self.error),
        ] {
            all = all.insert(Header { key, value: Some(value.as_bytes()) });
        }
        all
    }
}

/// The Kafka topic of the dead letters.
#[derive(Clone)]
pub struct DeadLetterTopic {
    producer: FutureProducer,
    topic: String,
}

impl std::fmt::Debug for DeadLetterTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetterTopic {
    /// Writes to `topic` through a producer.
    pub fn new(producer: FutureProducer, topic: String) -> Self {
        Self { producer, topic }
    }

    /// Writes one dead letter and returns when the broker has it.
    pub async fn write(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.topic).headers(letter.all_headers());
        record.key = letter.key.as_deref();
        record.payload = letter.payload.as_deref();
        self.producer.send(record, Timeout::After(DEADLINE)).await.map(|_| ()).map_err(|(error, _)| error)
    }
}

/// Counts records and dead letters of a table, and says when it is better to stop than to skip on.
#[derive(Debug, Clone)]
pub struct ShareLimit {
    per_mille: u64,
    records: u64,
    dead: u64,
}

impl ShareLimit {
    /// Dead letters that are tolerated whatever their share: one bad deployment of the source shows more.
    const TOLERATED: u64 = 10;
    /// Records after which the past counts half.
    const WINDOW: u64 = 10_000;

    /// Builds the limit from a share in per mille.
    pub fn new(per_mille: u32) -> Self {
        Self { per_mille: u64::from(per_mille), records: 0, dead: 0 }
    }

    /// Counts a record.
    pub fn count(&mut self, dead: bool) {
        self.records += 1;
        self.dead += u64::from(dead);
        if self.records >= Self::WINDOW {
            self.records /= 2;
            self.dead /= 2;
        }
    }

    /// The same limit with nothing counted.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { records: 0, dead: 0, ..*self }
    }

    /// Whether more records die than may.
    pub fn exceeded(&self) -> bool {
        self.dead > Self::TOLERATED && self.dead * 1000 > self.records * self.per_mille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_dead_letters_do_not_stop_a_table_and_a_broken_source_does() {
        let mut limit = ShareLimit::new(10);
        (0..10).for_each(|_| limit.count(true));
        assert!(!limit.exceeded());
        limit.count(true);
        assert!(limit.exceeded());
        let mut limit = ShareLimit::new(10);
        (0..100_000).for_each(|record| limit.count(record % 200 == 0));
        assert!(!limit.exceeded(), "5 per mille are below 10");
    }
}
