//! The topic of the throughput measurement: filled once, counted, and read without decoding as a bound. I/O.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Serialize;
use tidemark_crds::ledger::EPOCH_HEADER;

use super::events::{Expected, PARTITIONS, Workload, generate};
use super::usage;

/// The deadline of one request to the broker.
const REQUEST: Duration = Duration::from_secs(10);
/// How long the last records may take to be acknowledged, and how long reading may stand still.
const STALL: Duration = Duration::from_secs(60);

/// What it takes to read the topic and count its records, without decoding one: no consumer can be cheaper.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ConsumeAndCount {
    /// Records a second, from the first record to the last.
    pub events_per_s: f64,
    /// CPU seconds for a million records, of the reader alone.
    pub cpu_s_per_million: f64,
}

/// Produces the workload to an empty topic and returns the state that it leads to; blocks.
///
/// Fails unless the topic then holds exactly the workload's events.
pub fn fill(client: &ClientConfig, topic: &str, workload: Workload) -> anyhow::Result<Expected> {
    let producer: ThreadedProducer<DefaultProducerContext> = client
        .clone()
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("compression.type", "lz4")
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "262144")
        .create()
        .context("making the producer")?;
    // As the connector's transform marks each record of the first epoch.
    let headers =
        || OwnedHeaders::new_with_capacity(1).insert(Header { key: EPOCH_HEADER, value: Some("1") });
    let expected = generate(workload, |record| {
        let mut next = BaseRecord::to(topic)
            .partition(record.partition)
            .key(record.key)
            .payload(record.value)
            .headers(headers());
        loop {
            next = match producer.send(next) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => refused,
                Err((error, _)) => return Err(error),
            };
            // The queue is full: waits until some of it is delivered.
            producer.flush(Duration::from_millis(50)).or_else(still_in_flight)?;
        }
    })
    .context("producing the events")?;
    producer.flush(STALL).context("waiting for the last acknowledgements")?;
    let held = held(client, topic)?;
    ensure!(held == workload.events, "{topic} holds {held} records after {} were produced", workload.events);
    Ok(expected)
}

/// Reads the whole topic, counts its records and measures what that took; blocks.
pub fn consume_and_count(client: &ClientConfig, topic: &str, events: u64) -> anyhow::Result<ConsumeAndCount> {
    let consumer: BaseConsumer = client
        .clone()
        .set("group.id", "tidemark-bench-count")
        .set("enable.auto.commit", "false")
        .set("queued.max.messages.kbytes", "65536")
        .set("fetch.message.max.bytes", "4194304")
        .create()
        .context("making the consumer")?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let own = std::process::id();
    let cpu_before = usage::cpu_time(own)?;
    consumer.assign(&partitions)?;
    let (mut count, mut bytes, mut first) = (0_u64, 0_u64, None);
    while count < events {
        let Some(record) = consumer.poll(STALL) else {
            bail!("no record of {topic} came within {} s: {count} of {events} were read", STALL.as_secs());
        };
        first.get_or_insert_with(Instant::now);
        count += 1;
        bytes += record.context("reading the topic")?.payload().map_or(0, <[u8]>::len) as u64;
    }
    let wall = first.map(|first| first.elapsed()).unwrap_or_default();
    let cpu = usage::cpu_time(own)?.saturating_sub(cpu_before);
    tracing::debug!(count, bytes, "topic read without decoding");
    let events = u32::try_from(events).map(f64::from).context("more events than a u32 holds")?;
    Ok(ConsumeAndCount {
        events_per_s: events / wall.as_secs_f64(),
        cpu_s_per_million: cpu.as_secs_f64() / events * 1e6,
    })
}

/// Returns the number of records that the topic's partitions hold.
fn held(client: &ClientConfig, topic: &str) -> anyhow::Result<u64> {
    let consumer: BaseConsumer = client.clone().set("group.id", "tidemark-bench-count").create()?;
    let mut total = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, REQUEST)
            .with_context(|| format!("asking for the offsets of {topic}"))?;
        total += high - low;
    }
    u64::try_from(total).context("offsets go backwards")
}

fn still_in_flight(error: KafkaError) -> Result<(), KafkaError> {
    match error {
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Ok(()),
        other => Err(other),
    }
}
