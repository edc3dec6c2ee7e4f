//! Requests of reads in the ledger, and the sinks' answers in the reads table. I/O.

use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{FENCES_TABLE, Kind, LEDGER_TABLE, READS_TABLE, ReadRequest, layout_key};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass, number};

/// Deadline of one question or row.
const DEADLINE: Duration = Duration::from_secs(5);

/// State of a read in the reads table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadState {
    /// A replica reads it.
    Reading,
    /// Every row is there and the fence is raised.
    Read,
    /// The last attempt failed; its owner tries again.
    Failed,
}

impl ReadState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Reading, Self::Read, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// A request and what the reads table says of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// State table.
    pub(super) table: String,
    /// Id of the request: its row's version.
    pub(super) id: u64,
    /// The request.
    pub(super) request: ReadRequest,
    /// Epoch of the ledger.
    pub(super) epoch: u16,
    /// Newest layout of the table, 0 without one.
    pub(super) layout: u64,
    /// ClickHouse's time, milliseconds since 1970-01-01.
    pub(super) now_ms: i64,
    /// The row of the reads table, whatever request it is of.
    pub(super) seen: Option<Seen>,
}

/// A row of the reads table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Request that it is of.
    pub(super) id: u64,
    /// How far that is.
    pub(super) state: ReadState,
    /// Replica that wrote it.
    pub(super) owner: String,
    /// Its place among the rows of the table.
    pub(super) beat: u64,
    /// Milliseconds since it was written, by ClickHouse's clock.
    pub(super) age_ms: i64,
}

/// What a replica writes about a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) table: &'a str,
    pub(super) id: u64,
    pub(super) epoch: u16,
    pub(super) state: ReadState,
    pub(super) barrier: u64,
    pub(super) layout: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) estimated: u64,
    pub(super) error: &'a str,
    /// ClickHouse's time at the beginning, milliseconds since 1970-01-01.
    pub(super) started_ms: i64,
    /// Least beat that makes the row the newest.
    pub(super) least_beat: u64,
}

/// The requests of one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
}

#[derive(Deserialize)]
struct Row {
    table: String,
    #[serde(deserialize_with = "number::deserialize")]
    id: u64,
    value: String,
    epoch: Option<String>,
    #[serde(deserialize_with = "number::deserialize")]
    layout: u64,
    #[serde(deserialize_with = "number::deserialize")]
    now_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    seen_id: u64,
    seen_state: String,
    seen_owner: String,
    #[serde(deserialize_with = "number::deserialize")]
    seen_beat: u64,
    #[serde(deserialize_with = "number::deserialize")]
    seen_ms: i64,
}

impl Requests {
    /// Reads and writes through a client whose default database is the target, in the name of a replica.
    pub(super) fn new(clickhouse: &ClickHouse, pipeline: &str, replica: &str) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.to_owned(),
            replica: replica.to_owned(),
        }
    }

    /// Returns every request with its answer; one that this program cannot read is left out and logged.
    pub(super) async fn look(&self) -> Result<Vec<Open>, Error> {
        let rows: Vec<Row> = self.clickhouse.query(&look_statement(&self.pipeline)).await?;
        Ok(rows.into_iter().filter_map(open).collect())
    }

    /// Returns a layout of a table.
    pub(super) async fn layout(&self, table: &str, version: u64) -> Result<TableLayout, Error> {
        #[derive(Deserialize)]
        struct Value {
            value: String,
        }
        let sql = format!(
            "SELECT value FROM {} FINAL WHERE pipeline = {} AND kind = {} AND key = {}",
            quote::ident(LEDGER_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(Kind::Layout.as_str()),
            quote::literal(&layout_key(table, version)),
        );
        let bad =
            |text: String| Error::new(ErrorClass::Permanent, format!("layout {version} of {table}: {text}"));
        let rows: Vec<Value> = self.clickhouse.query(&sql).await?;
        let row = rows.first().ok_or_else(|| bad("it is not in the ledger any more".to_owned()))?;
        serde_json::from_str(&row.value).map_err(|error| bad(error.to_string()))
    }

    /// Writes the newest row about a read.
    pub(super) async fn answer(&self, answer: &Answer<'_>) -> Result<(), Error> {
        let sql = answer_statement(&self.pipeline, &self.replica, answer);
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }

    /// Hides what is older than the rows of a read.
    pub(super) async fn raise_fence(&self, table: &str, version: Version) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO {} (table, version, reason, raised_at) VALUES ({}, toUInt128('{version}'), 'read', now64(3))",
            quote::ident(FENCES_TABLE),
            quote::literal(table),
        );
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }
}

fn look_statement(pipeline: &str) -> String {
    let (ledger, reads) = (quote::ident(LEDGER_TABLE), quote::ident(READS_TABLE));
    let of = |kind: Kind| {
        format!("pipeline = {} AND kind = {}", quote::literal(pipeline), quote::literal(kind.as_str()))
    };
    // A layout's key ends in `@` and ten digits.
    format!(
        "SELECT request.key AS table, request.version AS id, request.value AS value, \
         (SELECT value FROM {ledger} FINAL WHERE {epoch} LIMIT 1) AS epoch, layout.newest AS layout, \
         toUnixTimestamp64Milli(now64(3)) AS now_ms, seen.request AS seen_id, seen.state AS seen_state, \
         seen.owner AS seen_owner, seen.beat AS seen_beat, seen.ms AS seen_ms \
         FROM (SELECT key, version, value FROM {ledger} FINAL WHERE {read}) AS request \
         LEFT JOIN (SELECT substring(key, 1, length(key) - 11) AS table, \
         max(toUInt64OrZero(substring(key, length(key) - 9))) AS newest \
         FROM {ledger} FINAL WHERE {layout} GROUP BY table) AS layout ON layout.table = request.key \
         LEFT JOIN (SELECT table, request, toString(state) AS state, owner, beat, \
         toUnixTimestamp64Milli(updated_at) AS ms FROM {reads} FINAL WHERE pipeline = {name}) AS seen \
         ON seen.table = request.key ORDER BY table SETTINGS join_use_nulls = 0",
        epoch = of(Kind::Epoch),
        read = of(Kind::Read),
        layout = of(Kind::Layout),
        name = quote::literal(pipeline),
    )
}

fn answer_statement(pipeline: &str, replica: &str, answer: &Answer<'_>) -> String {
    format!(
        "INSERT INTO {} (pipeline, table, request, epoch, state, barrier, layout, owner, rows, bytes, \
         estimated_rows, error, started_at, updated_at, beat) SELECT {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, \
         fromUnixTimestamp64Milli(toInt64({})), now64(3) AS now, \
         greatest(toUInt64(toUnixTimestamp64Milli(now)), toUInt64({}))",
        quote::ident(READS_TABLE),
        quote::literal(pipeline),
        quote::literal(answer.table),
        answer.id,
        answer.epoch,
        quote::literal(answer.state.as_str()),
        answer.barrier,
        answer.layout,
        quote::literal(replica),
        answer.rows,
        answer.bytes,
        answer.estimated,
        quote::literal(answer.error),
        answer.started_ms,
        answer.least_beat,
    )
}

fn open(row: Row) -> Option<Open> {
    let request: ReadRequest = match serde_json::from_str(&row.value) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(table = row.table, %error, "a request to read a table cannot be understood");
            return None;
        }
    };
    let seen = ReadState::parse(&row.seen_state).map(|state| Seen {
        id: row.seen_id,
        state,
        owner: row.seen_owner,
        beat: row.seen_beat,
        age_ms: row.now_ms - row.seen_ms,
    });
    Some(Open {
        table: row.table,
        id: row.id,
        request,
        // Without a row it is the first.
        epoch: row.epoch.and_then(|text| text.trim().parse().ok()).unwrap_or(1),
        layout: row.layout,
        now_ms: row.now_ms,
        seen,
    })
}
