//! Records that cannot be applied, and the topic that keeps them. I/O in [`DeadLetterTopic`] alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use crate::group::lock;

/// How long one attempt to write a dead letter may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a value that are kept where the whole is above the limit of a record.
const KEPT_BYTES: usize = 64 << 10;
/// Bytes that headers and the frame of a record take beside key and value, at most.
const FRAME_BYTES: usize = 64 << 10;

/// Header of a dead letter: topic of the record.
pub const TOPIC: &str = "tidemark.topic";
/// Header of a dead letter: partition of the record.
pub const PARTITION: &str = "tidemark.partition";
/// Header of a dead letter: offset of the record.
pub const OFFSET: &str = "tidemark.offset";
/// Header of a dead letter: why it is one.
pub const ERROR: &str = "tidemark.error";
/// Header of a dead letter: position in the log of its change, in decimal.
pub const POSITION: &str = "tidemark.position";
/// Header of a dead letter whose value is cut: bytes of the whole.
pub const TRUNCATED: &str = "tidemark.truncated";
/// Header of a record that says that a dead letter is dealt with: `replayed` or `skipped`.
pub const RESOLVED: &str = "tidemark.resolved";
/// Headers that are not those of the record itself begin so; the epoch's does too, and is the record's.
const OURS: [&str; 7] = [TOPIC, PARTITION, OFFSET, ERROR, POSITION, TRUNCATED, RESOLVED];

/// A record as it came, with the reason why it was not applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Topic that it came from.
    pub topic: String,
    /// Partition that it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Kafka's time of it, milliseconds since 1970-01-01; 0: it has none.
    pub kafka_time: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Position in the log of its change; 0 where it has none that can be read.
    pub position: u64,
    /// Why it was not applied.
    pub error: String,
    /// Bytes of the whole value where the letter has a part of it.
    pub truncated: Option<usize>,
}

impl DeadLetter {
    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        128 + self.key.as_ref().map_or(0, Vec::len) + self.payload.as_ref().map_or(0, Vec::len) + headers
    }

    /// Cuts the value so that the letter is below a limit of bytes.
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Self {
        if self.bytes() + self.error.len() + FRAME_BYTES.min(limit / 2) > limit
            && let Some(payload) = &mut self.payload
            && payload.len() > KEPT_BYTES
        {
            self.truncated = Some(payload.len());
            payload.truncate(KEPT_BYTES);
            payload.shrink_to_fit();
        }
        self
    }

    /// Headers of the dead letter: those of the record, then where it came from and why it is here.
    fn all_headers(&self) -> OwnedHeaders {
        let mut all = record_headers(&self.headers);
        let texts = [
            (TOPIC, Some(self.topic.clone())),
            (PARTITION, Some(self.partition.to_string())),
            (OFFSET, Some(self.offset.to_string())),
            (POSITION, Some(self.position.to_string())),
            (ERROR, Some(self.error.clone())),
            (TRUNCATED, self.truncated.map(|bytes| bytes.to_string())),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                all = all.insert(Header { key, value: Some(value.as_bytes()) });
            }
        }
        all
    }
}

/// Headers of a record, without those that a dead letter adds.
pub fn record_headers(headers: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    let own = headers.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
    own.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }))
}

/// The Kafka topic of the dead letters; its producer is made with the first of them.
#[derive(Clone)]
pub struct DeadLetterTopic {
    config: ClientConfig,
    producer: Arc<Mutex<Option<FutureProducer>>>,
    topic: String,
    max_bytes: usize,
}

impl std::fmt::Debug for DeadLetterTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetterTopic {
    /// Writes to `topic` through a producer with these properties, records of at most `max_bytes`.
    pub fn new(mut config: ClientConfig, topic: String, max_bytes: u64) -> Self {
        // librdkafka takes no more than this.
        let max_bytes = max_bytes.clamp(1 << 20, 1_000_000_000);
        config.set("message.max.bytes", max_bytes.to_string());
        Self {
            config,
            producer: Arc::default(),
            topic,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
        }
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut made = lock(&self.producer);
        if let Some(producer) = &*made {
            return Ok(producer.clone());
        }
        let producer: FutureProducer = self.config.create()?;
        *made = Some(producer.clone());
        Ok(producer)
    }

    /// Writes one dead letter and returns when the broker has it; one that is too large for the broker is cut.
    pub async fn write(&self, letter: DeadLetter) -> Result<(), KafkaError> {
        let letter = letter.cut(self.max_bytes);
        match self.send(&self.topic, None, &letter, letter.all_headers()).await {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                // The broker or the topic takes less than the configuration says.
                let letter = letter.cut(0);
                self.send(&self.topic, None, &letter, letter.all_headers()).await
            }
            other => other,
        }
    }

    /// Writes that a dead letter is dealt with.
    pub async fn resolve(&self, letter: &DeadLetter, how: &str) -> Result<(), KafkaError> {
        let marker =
            DeadLetter { payload: None, headers: Vec::new(), error: String::new(), ..letter.clone() };
        let headers = marker.all_headers().insert(Header { key: RESOLVED, value: Some(how.as_bytes()) });
        self.send(&self.topic, None, &marker, headers).await
    }

    /// Writes the record to where it came from, as it was.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        self.send(&letter.topic, Some(letter.partition), letter, record_headers(&letter.headers)).await
    }

    async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        letter: &DeadLetter,
        headers: OwnedHeaders,
    ) -> Result<(), KafkaError> {
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.partition = partition;
        record.key = letter.key.as_deref();
        record.payload = letter.payload.as_deref();
        self.producer()?.send(record, Timeout::After(DEADLINE)).await.map(|_| ()).map_err(|(error, _)| error)
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
    pub const TOLERATED: u64 = 10;
    /// Records after which the past counts half.
    const WINDOW: u64 = 10_000;

    /// Builds the limit from a share in per mille.
    pub fn new(per_mille: u32) -> Self {
        Self { per_mille: u64::from(per_mille), records: 0, dead: 0 }
    }

    /// Counts a record.
    #[inline]
    pub fn count(&mut self, dead: bool) {
        self.records += 1;
        self.dead += u64::from(dead);
        if self.records >= Self::WINDOW {
            self.records /= 2;
            self.dead /= 2;
        }
    }

    /// Counts dead letters of records that were counted already.
    pub fn count_late(&mut self, dead: u64) {
        self.dead += dead;
    }

    /// The same limit with nothing counted.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self { records: 0, dead: 0, ..*self }
    }

    /// Whether more records die than may.
    #[inline]
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

    #[test]
    fn a_letter_above_the_limit_keeps_its_beginning_and_says_how_long_it_was() {
        let letter = |bytes| DeadLetter { payload: Some(vec![7; bytes]), ..DeadLetter::default() };
        let cut = letter(2 << 20).cut(1 << 20);
        assert_eq!(
            (cut.payload.map(|payload| payload.len()), cut.truncated),
            (Some(KEPT_BYTES), Some(2 << 20))
        );
        let whole = letter(500 << 10).cut(1 << 20);
        assert_eq!((whole.payload.map(|payload| payload.len()), whole.truncated), (Some(500 << 10), None));
    }
}
