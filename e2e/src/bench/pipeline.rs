//! One table's whole chain: PostgreSQL, Debezium, Kafka, a sink of its own and ClickHouse. I/O.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tidemark_crds::layout::{ColumnLayout, OutOfRange, SourceTable, TableLayout, Wire};
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::names::Topics;
use tidemark_crds::types::ChType;

use super::sink_process::{Assignment, SinkProcess};
use super::{bookkeeping, target};
use crate::stack::{Role, Stack, User, wait_until};

/// The table whose rows are followed.
pub const TABLE: &str = "marks";
const DDL: &str = "CREATE TABLE marks (id bigint PRIMARY KEY, payload text NOT NULL)";
/// How long Debezium may take until it streams.
const STREAMING: Duration = Duration::from_secs(60);

/// A running chain; the sink ends with this value, everything else with the stack.
#[derive(Debug)]
pub struct Pipeline {
    /// Its name, also that of its two databases and of its topics' prefix.
    pub name: String,
    /// The sink.
    pub sink: SinkProcess,
}

impl Pipeline {
    /// Makes database, topics, tables and connector, starts a sink and waits until Debezium streams.
    pub async fn start(stack: &Stack, name: &str) -> anyhow::Result<Self> {
        stack.postgres().create_database(name).await?;
        stack.postgres().execute(Role::Shop, name, DDL).await?;
        let (topics, source) = (Topics { prefix: name }, source());
        for topic in [topics.table(&source), topics.heartbeat(), topics.dead_letter()] {
            stack.kafka().create_topic(&topic, 1).await?;
        }
        let assignment = Assignment {
            pipeline: name.into(),
            topic_prefix: name.into(),
            database: name.into(),
            routes: vec![(source, TABLE.into())],
        };
        let client = target::client(stack.clickhouse(), User::Tidemark)?;
        bookkeeping::prepare(&client, name, &assignment.name(), &[layout()]).await?;
        let sink = SinkProcess::start(stack, &assignment)?;
        let (connector, slot) = (
            assignment.name().connector(),
            assignment.name().replication_slot(),
        );
        let path = format!("/connectors/{connector}/config");
        stack
            .connect()
            .request(Method::PUT, &path, Some(&connector_config(stack, name, &slot)))
            .await?;
        wait_until(STREAMING, "the replication slot to be read", || async {
            let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
            let rows = stack
                .postgres()
                .query(Role::Superuser, "postgres", &active)
                .await?;
            Ok((rows == [[Some("t".to_owned())]]).then_some(()))
        })
        .await?;
        Ok(Self {
            name: name.into(),
            sink,
        })
    }
}

fn source() -> SourceTable {
    SourceTable {
        schema: "public".into(),
        name: TABLE.into(),
    }
}

fn layout() -> TableLayout {
    let column = |attnum: i16, name: &str, pg_type: &str, wire, r#type| ColumnLayout {
        source: name.into(),
        target: name.into(),
        attnum,
        pg_type: pg_type.into(),
        wire,
        array: false,
        r#type,
        key: (attnum == 1).then_some(0),
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
    };
    TableLayout {
        version: 1,
        source: source(),
        target: TABLE.into(),
        columns: vec![
            column(1, "id", "bigint", Wire::Int, ChType::Int64),
            column(2, "payload", "text", Wire::Text, ChType::String),
        ],
        ignored: Vec::new(),
        full_before: false,
        partition_by: None,
    }
}

fn connector_config(stack: &Stack, name: &str, slot: &str) -> Value {
    json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": "127.0.0.1",
        "database.port": stack.postgres().port().to_string(),
        "database.user": Role::Tidemark.name(),
        "database.password": Role::Tidemark.password(),
        "database.dbname": name,
        "topic.prefix": name,
        "slot.name": slot,
        "publication.name": slot,
        "publication.autocreate.mode": "filtered",
        "table.include.list": source().to_string(),
        "poll.interval.ms": "50",
        "decimal.handling.mode": "string",
        "time.precision.mode": "microseconds",
        "skipped.operations": "none",
        "tombstones.on.delete": "false",
        "heartbeat.interval.ms": "1000",
        "transforms": "epoch",
        "transforms.epoch.type": "org.apache.kafka.connect.transforms.InsertHeader",
        "transforms.epoch.header": EPOCH_HEADER,
        "transforms.epoch.value.literal": "1",
    })
}
