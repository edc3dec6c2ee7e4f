//! The order table in ClickHouse that both sides of the throughput measurement fill: its layout, its making,
//! when it is complete and whether it is right. I/O, except for the layout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tidemark_crds::layout::{
    Begin, ColumnLayout, NullAs, OutOfRange, SourceTable, Storage, TableLayout, Wire,
};
use tidemark_crds::quote;
use tidemark_crds::types::ChType;
use tidemark_crds::version::{Phase, Version};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options, number};
use tidemark_runtime::credentials::{CredentialSource, Credentials};

use super::events::{COLUMNS, Expected, Mark, Shape};
use crate::stack::{self, User, wait_until};

/// State table of the orders.
pub const TABLE: &str = "orders";
/// Merges are taken to have ended when nothing has changed for this long.
const QUIET: Duration = Duration::from_secs(3);
/// How long merges may go on.
const QUIET_DEADLINE: Duration = Duration::from_secs(180);

/// How one side numbers the rows that an event gives.
pub type VersionOf = fn(&Mark) -> Version;

/// The sink's version of an event of the first epoch.
pub fn sink_version(mark: &Mark) -> Version {
    Version::new(1, Phase::Stream, mark.last_commit_lsn, mark.lsn)
}

/// The event's position alone, as a materialized view by hand would number rows.
pub fn position(mark: &Mark) -> Version {
    Version(u128::from(mark.lsn))
}

/// Returns the source table of the events.
pub fn source() -> SourceTable {
    SourceTable { schema: "public".into(), name: TABLE.into() }
}

/// Returns the layout of the order table.
pub fn layout(shape: Shape) -> TableLayout {
    let note = match shape {
        Shape::Whole => ChType::String,
        Shape::Lacking => ChType::String.nullable(),
    };
    let text = || ChType::LowCardinality(Box::new(ChType::String));
    let instant = || ChType::DateTime64 { precision: 6 };
    let columns = [
        ("id", "bigint", Wire::Int, ChType::Int64),
        ("customer_id", "bigint", Wire::Int, ChType::Int64),
        ("status", "order_status", Wire::Text, text()),
        ("currency", "text", Wire::Text, text()),
        ("total", "numeric(14,2)", Wire::Decimal, ChType::Decimal { precision: 14, scale: 2 }),
        ("note", "text", Wire::Text, note),
        ("ship_to", "jsonb", Wire::Json, ChType::String),
        ("placed_at", "timestamp with time zone", Wire::ZonedTimestamp, instant()),
        ("updated_at", "timestamp with time zone", Wire::ZonedTimestamp, instant()),
    ];
    let columns = (1..).zip(columns).map(|(attnum, (name, pg_type, wire, r#type))| ColumnLayout {
        source: name.into(),
        target: name.into(),
        stored: name.into(),
        attnum,
        pg_type: pg_type.into(),
        wire,
        array: false,
        r#type,
        key: (attnum == 1).then_some(0),
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    });
    TableLayout {
        version: 1,
        source: source(),
        target: TABLE.into(),
        columns: columns.collect(),
        oid: 1,
        from: Begin::default(),
        left_out: Vec::new(),
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
        full_before: shape == Shape::Whole,
        partition_by: None,
    }
}

/// Returns a client that keeps its connections, for statements that may take minutes.
pub fn client(server: &stack::ClickHouse, user: User) -> anyhow::Result<ClickHouse> {
    let credentials = CredentialSource::memory(Credentials::new(user.name(), user.password()));
    let options = Options {
        url: server.url(),
        database: None,
        credentials: Arc::new(credentials),
        authority: Authority::System,
    };
    Ok(ClickHouse::new(options)?.with_deadline(Duration::from_secs(120)))
}

/// When the rows of the topic's last events became visible, counted from `start`.
#[derive(Debug, Clone, Copy)]
pub struct Visible {
    /// The first row of any event.
    pub first: Duration,
    /// The last event of every partition.
    pub last: Duration,
}

/// Polls the table until the last event of each partition is in it.
pub async fn wait_until_complete(
    client: &ClickHouse,
    database: &str,
    expected: &Expected,
    version_of: VersionOf,
    start: Instant,
    deadline: Duration,
) -> anyhow::Result<Visible> {
    let table = quote::qualified(database, TABLE);
    // A version is quoted: a literal of that size would be read as a floating-point number.
    let marks: Vec<String> = expected
        .last
        .iter()
        .map(|mark| format!("({}, toUInt128('{}'))", mark.id, version_of(mark)))
        .collect();
    let ids: Vec<String> = expected.last.iter().map(|mark| mark.id.to_string()).collect();
    // A look-up by key: cheap beside what is measured, and the same for both sides.
    let any = format!("SELECT count() AS count FROM (SELECT 1 FROM {table} LIMIT 1)");
    let last = format!(
        "SELECT uniqExact(id) AS count FROM {table} WHERE id IN ({}) AND (id, _version) IN ({})",
        ids.join(", "),
        marks.join(", ")
    );
    let first = wait_until(deadline, "the first row", || async {
        Ok((count(client, &any).await? > 0).then(|| start.elapsed()))
    })
    .await?;
    let last = wait_until(deadline, "the last event of every partition", || async {
        Ok((count(client, &last).await? == expected.last.len() as u64).then(|| start.elapsed()))
    })
    .await?;
    Ok(Visible { first, last })
}

/// Waits until no merge runs and the parts stay the same, so that both sides are charged for their merges.
///
/// Returns the number of active parts that are left.
pub async fn wait_until_quiet(client: &ClickHouse, database: &str) -> anyhow::Result<u64> {
    // Of the order table alone: a sink that runs on writes its progress each second.
    let table = format!("database = {} AND table = {}", quote::literal(database), quote::literal(TABLE));
    let merges = format!("SELECT count() AS count FROM system.merges WHERE {table}");
    let parts = format!(
        "SELECT count() AS count, toString(groupBitXor(sipHash64(name))) AS names FROM system.parts
         WHERE active AND {table}"
    );
    let last = std::sync::Mutex::new((Instant::now(), Parts::default()));
    wait_until(QUIET_DEADLINE, "the merges to end", || async {
        let running = count(client, &merges).await?;
        let now: Parts = one(client, &parts).await?;
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if running > 0 || now != last.1 {
            *last = (Instant::now(), now);
            return Ok(None);
        }
        Ok((last.0.elapsed() >= QUIET).then_some(now.count))
    })
    .await
}

/// Fails unless the table holds exactly the orders that the events lead to, column by column.
pub async fn check(client: &ClickHouse, database: &str, expected: &Expected) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct State {
        #[serde(deserialize_with = "number::deserialize")]
        rows: u64,
        sums: Vec<String>,
    }
    let table = quote::qualified(database, TABLE);
    let text = |column: &str| match column {
        "total" => "toDecimalString(total, 2)".to_owned(),
        "note" => "ifNull(note, char(0))".to_owned(),
        time if time.ends_with("_at") => format!("toString(toUnixTimestamp64Micro({time}))"),
        other => format!("toString({other})"),
    };
    // Sums of 64 bits, which wrap around as ours do.
    let sum = |column: &&str| {
        let hash = format!("SHA256(concat(toString(id), '|', {}))", text(column));
        format!("toString(sum(reinterpretAsUInt64(substring({hash}, 1, 8))))")
    };
    let sums: Vec<String> = COLUMNS.iter().map(sum).collect();
    let select = format!("SELECT count() AS rows, [{}] AS sums FROM {table} FINAL", sums.join(", "));
    let state: State = one(client, &select).await?;
    let wrong: Vec<&str> = COLUMNS
        .iter()
        .zip(state.sums.iter().zip(&expected.columns))
        .filter(|(_, (sum, wanted))| **sum != wanted.to_string())
        .map(|(column, _)| *column)
        .collect();
    ensure!(
        state.rows == expected.rows && state.sums.len() == COLUMNS.len() && wrong.is_empty(),
        "wrong end state in {table}: {} rows instead of {}; columns with other values: {wrong:?}",
        state.rows,
        expected.rows
    );
    Ok(())
}

#[derive(Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Parts {
    #[serde(deserialize_with = "number::deserialize")]
    count: u64,
    #[serde(deserialize_with = "number::deserialize")]
    names: u64,
}

async fn count(client: &ClickHouse, sql: &str) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(deserialize_with = "number::deserialize")]
        count: u64,
    }
    one::<Row>(client, sql).await.map(|row| row.count)
}

async fn one<T: serde::de::DeserializeOwned>(client: &ClickHouse, sql: &str) -> anyhow::Result<T> {
    client.query(sql).await?.pop().with_context(|| format!("no row came for {sql}"))
}
