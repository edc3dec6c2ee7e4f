//! `tidemark-sink check`: whether a configuration's connections work. I/O, read only.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;

use crate::board::{Board, Poller};
use crate::plan::Encoding;
use crate::read::Source;
use crate::run::clickhouse;

/// Deadline of one question.
const DEADLINE: Duration = Duration::from_secs(10);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What is wrong with it, and what to do.
    pub problem: Option<String>,
}

impl Finding {
    fn new<T>(what: impl Into<String>, result: Result<T, String>) -> Self {
        Self { what: what.into(), problem: result.err() }
    }
}

/// Looks at ClickHouse, the layouts in its ledger, PostgreSQL, Kafka and the topics.
pub async fn check(config: &SinkConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    match clickhouse(config) {
        Err(error) => findings.push(Finding::new::<()>("clickhouse", Err(error.to_string()))),
        Ok(client) => {
            findings.push(Finding::new("clickhouse", client.ping().await.map_err(|e| e.to_string())));
            let poller = Poller::new(&client, &config.pipeline, Encoding::Contract);
            let board =
                poller.look().await.map(|rows| Board::new(&rows, Encoding::Contract, &Board::default()));
            for table in &config.tables {
                let result = match &board {
                    Err(error) => Err(error.to_string()),
                    Ok(board) => match board.histories.get(&table.target) {
                        None => Err("the ledger has none; the operator writes it with the table".to_owned()),
                        Some(history) => history.trouble().map_or(Ok(()), Err),
                    },
                };
                findings.push(Finding::new(format!("layout of {}", table.target), result));
            }
        }
    }
    let source = Source::new(&config.postgres, &config.pipeline);
    findings.push(Finding::new("postgresql", Box::pin(source.ping()).await));
    let kafka = config.clone();
    let topics = tokio::task::spawn_blocking(move || kafka_topics(&kafka)).await;
    match topics.unwrap_or_else(|error| Err(error.to_string())) {
        Err(error) => findings.push(Finding::new::<()>("kafka", Err(error))),
        Ok(topics) => {
            findings.push(Finding::new("kafka", Ok(())));
            let tables = config.tables.iter().map(|table| &table.topic);
            for topic in tables.chain([&config.kafka.heartbeat_topic, &config.dead_letter.topic]) {
                let there = topics.contains(topic);
                let result = if there { Ok(()) } else { Err("the topic does not exist".to_owned()) };
                findings.push(Finding::new(format!("topic {topic}"), result));
            }
        }
    }
    findings
}

fn kafka_topics(config: &SinkConfig) -> Result<Vec<String>, String> {
    let connection = Connection::read(&config.kafka).map_err(|error| error.to_string())?;
    let consumer: BaseConsumer =
        connection.client_config("tidemark-sink-check").create().map_err(|error| error.to_string())?;
    let metadata = consumer.fetch_metadata(None, DEADLINE).map_err(|error| error.to_string())?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}
