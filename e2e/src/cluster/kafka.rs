//! What a test asks of the cluster's Kafka: how far topics are, who consumes, what Connect remembers. I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

const REQUEST: Duration = Duration::from_secs(10);
/// Topic in which Connect keeps the positions of its connectors.
const CONNECTOR_OFFSETS: &str = "_connect_offsets";

/// The cluster's broker, from beside the cluster.
#[derive(Debug, Clone)]
pub struct Kafka {
    bootstrap: String,
}

impl Kafka {
    pub(super) fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned() }
    }

    /// Returns the number of records that a topic has taken; 0 if it does not exist.
    pub async fn records(&self, topic: &str) -> anyhow::Result<i64> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let ends = ends(client, &topic)?;
            Ok(ends.values().sum())
        })
        .await
    }

    /// Returns the names of the consumer groups that begin with a prefix.
    pub async fn groups(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.ask(move |client| {
            let list = client.fetch_group_list(None, REQUEST)?;
            let names = list.groups().iter().map(|group| group.name().to_owned());
            Ok(names.filter(|name| name.starts_with(&prefix)).collect())
        })
        .await
    }

    /// Whether Connect still keeps a position of a connector, also of one that does not exist any more.
    pub async fn keeps_connector_offsets(&self, connector: &str) -> anyhow::Result<bool> {
        let key = format!("[{connector:?},");
        self.ask(move |client| {
            let newest = newest_by_key(client, CONNECTOR_OFFSETS)?;
            Ok(newest.iter().any(|(name, value)| name.starts_with(&key) && *value))
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("broker.address.family", "v4")
            // The library asks for a group's name even where no group is used.
            .set("group.id", "tidemark-e2e")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config.create()?;
            question(&client)
        })
        .await?
        .context("asking Kafka")
    }
}

/// Returns the end offset of each partition of a topic; none if it does not exist.
fn ends(client: &BaseConsumer, topic: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
    let metadata = client.fetch_metadata(Some(topic), REQUEST)?;
    let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (_, end) = client.fetch_watermarks(topic, partition.id(), REQUEST)?;
        ends.insert(partition.id(), end);
    }
    Ok(ends)
}

/// Reads a compacted topic to its end and says of each key whether its newest record has a value.
fn newest_by_key(client: &BaseConsumer, topic: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let ends = ends(client, topic)?;
    ensure!(!ends.is_empty(), "topic {topic} does not exist");
    let mut partitions = TopicPartitionList::new();
    for partition in ends.keys() {
        partitions.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    client.assign(&partitions)?;
    let mut left = ends.len();
    let mut newest = BTreeMap::new();
    while left > 0 {
        match client.poll(REQUEST) {
            Some(Ok(record)) => {
                let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
                newest.insert(key, record.payload().is_some());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
            Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
            None => anyhow::bail!("topic {topic} did not come to its end within {REQUEST:?}"),
        }
    }
    Ok(newest)
}
