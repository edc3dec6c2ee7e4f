//! Requests of reads in the ledger, and the sinks' answers in the reads table. I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{FENCES_TABLE, Kind, LEDGER_TABLE, READS_TABLE, ReadRequest, layout_key};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass, number};

use super::claim::{Open, ReadState, Seen};

/// Deadline of one question or row.
const DEADLINE: Duration = Duration::from_secs(5);

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
    /// Where the read is; empty where nobody can go on with it.
    pub(super) place: &'a str,
    pub(super) error: &'a str,
    /// ClickHouse's time at the beginning, milliseconds since 1970-01-01.
    pub(super) started_ms: i64,
    /// Least beat that makes the row the newest.
    pub(super) least_beat: u64,
}

/// The requests of one pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
}

/// A row of the ledger, or under the kind [`SEEN`] one of the reads table.
#[derive(Deserialize)]
struct Row {
    kind: String,
    key: String,
    #[serde(deserialize_with = "number::deserialize")]
    version: u64,
    value: String,
    owner: String,
    #[serde(deserialize_with = "number::deserialize")]
    beat: u64,
    #[serde(deserialize_with = "number::deserialize")]
    written_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    now_ms: i64,
}

/// Kind of the rows of the reads table, whose value is the state of the read, its epoch, its barrier and its place.
const SEEN: &str = "seen";

impl Requests {
    /// Reads and writes through a client whose default database is the target, in the name of a replica.
    pub(crate) fn new(clickhouse: &ClickHouse, pipeline: &str, replica: &str) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.to_owned(),
            replica: replica.to_owned(),
        }
    }

    /// Returns every request with its answer; one that this program cannot read is left out and logged.
    pub(crate) async fn look(&self) -> Result<Vec<Open>, Error> {
        let statement = look_statement(&self.pipeline);
        let settings = [("max_threads", "1")];
        Ok(open(&self.clickhouse.query_with_settings::<Row>(&statement, &settings).await?))
    }

    /// Returns a layout of a table.
    pub(crate) async fn layout(&self, table: &str, version: u64) -> Result<TableLayout, Error> {
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

/// The rows that [`open`] joins: this once a second costs the server half of what a join there does.
fn look_statement(pipeline: &str) -> String {
    let (ledger, reads) = (quote::ident(LEDGER_TABLE), quote::ident(READS_TABLE));
    let literal = |kind: Kind| quote::literal(kind.as_str());
    format!(
        "SELECT toString(kind) AS kind, key, version, if(kind = {layout}, '', value) AS value, '' AS owner, \
         toUInt64(0) AS beat, toInt64(0) AS written_ms, toUnixTimestamp64Milli(now64(3)) AS now_ms \
         FROM {ledger} FINAL WHERE pipeline = {name} AND kind IN ({epoch}, {read}, {layout}) \
         UNION ALL \
         SELECT {seen} AS kind, table AS key, request AS version, \
         concat(toString(state), ' ', toString(epoch), ' ', toString(barrier), ' ', place) AS value, owner, beat, \
         toUnixTimestamp64Milli(updated_at) AS written_ms, toUnixTimestamp64Milli(now64(3)) AS now_ms \
         FROM {reads} FINAL WHERE pipeline = {name}",
        name = quote::literal(pipeline),
        epoch = literal(Kind::Epoch),
        read = literal(Kind::Read),
        layout = literal(Kind::Layout),
        seen = quote::literal(SEEN),
    )
}

fn answer_statement(pipeline: &str, replica: &str, answer: &Answer<'_>) -> String {
    format!(
        "INSERT INTO {} (pipeline, table, request, epoch, state, barrier, layout, owner, rows, bytes, \
         estimated_rows, place, error, started_at, updated_at, beat) SELECT {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, \
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
        quote::literal(answer.place),
        quote::literal(answer.error),
        answer.started_ms,
        answer.least_beat,
    )
}

/// A row of the reads table; `None` where its state is a word of another version.
fn seen(row: &Row) -> Option<Seen> {
    let mut words = row.value.splitn(4, ' ');
    let state = ReadState::parse(words.next()?)?;
    let barrier = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let place = words.next().unwrap_or_default().to_owned();
    let (owner, age_ms) = (row.owner.clone(), row.now_ms - row.written_ms);
    Some(Seen { id: row.version, state, barrier, owner, beat: row.beat, age_ms, place })
}

/// Puts each request together with the answer to it, the epoch and the newest layout; sorted by table.
fn open(rows: &[Row]) -> Vec<Open> {
    let mut layouts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut answers: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut requests: BTreeMap<&str, &Row> = BTreeMap::new();
    // Without a row it is the first.
    let mut epoch = 1;
    for row in rows {
        let is = |kind: Kind| row.kind == kind.as_str();
        if is(Kind::Read) {
            // One that was withdrawn is null.
            if row.value.trim() != "null" {
                requests.insert(&row.key, row);
            }
        } else if is(Kind::Epoch) {
            epoch = row.value.trim().parse().unwrap_or(1);
        } else if is(Kind::Layout) {
            if let Some((table, version)) = row.key.rsplit_once('@') {
                let newest = layouts.entry(table).or_default();
                *newest = version.parse().map_or(*newest, |version: u64| version.max(*newest));
            }
        } else if let Some(seen) = seen(row) {
            answers.insert(&row.key, seen);
        }
    }
    let open = |(table, row): (&str, &Row)| match serde_json::from_str::<ReadRequest>(&row.value) {
        Ok(request) => Some(Open {
            table: table.to_owned(),
            id: row.version,
            request,
            epoch,
            layout: layouts.get(table).copied().unwrap_or(0),
            now_ms: row.now_ms,
            seen: answers.remove(table),
        }),
        Err(error) => {
            tracing::warn!(table, %error, "a request to read a table cannot be understood");
            None
        }
    };
    requests.into_iter().filter_map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, key: &str, version: u64, value: &str) -> Row {
        let owner = if kind == SEEN { "r" } else { "" };
        Row {
            kind: kind.into(),
            key: key.into(),
            version,
            value: value.into(),
            owner: owner.into(),
            beat: 5,
            written_ms: 100,
            now_ms: 350,
        }
    }

    #[test]
    fn a_request_is_joined_with_its_answer_the_epoch_and_the_newest_layout() {
        let request = r#"{"epoch":3,"layout":1,"reason":"first load"}"#;
        let rows = [
            row(SEEN, "orders", 16, "read 3 500 {\"a b\": 1}"),
            row(SEEN, "a@b", 7, "later 3 500"),
            row("layout", "orders@0000000002", 2, ""),
            row("layout", "orders@0000000001", 1, ""),
            row("layout", "a@b@0000000004", 4, ""),
            row("read", "orders", 17, request),
            row("read", "a@b", 18, request),
            row("read", "broken", 19, "{"),
            row("read", "withdrawn", 20, "null"),
            row("epoch", "", 4, "3"),
        ];
        let open = open(&rows);
        let found: Vec<_> =
            open.iter().map(|open| (open.table.as_str(), open.id, open.epoch, open.layout)).collect();
        assert_eq!(found, [("a@b", 18, 3, 4), ("orders", 17, 3, 2)]);
        let seen = Seen {
            id: 16,
            state: ReadState::Read,
            barrier: (3, 500),
            owner: "r".into(),
            beat: 5,
            age_ms: 250,
            place: "{\"a b\": 1}".into(),
        };
        assert_eq!((&open[0].seen, &open[1].seen), (&None, &Some(seen)));
        assert_eq!(open[1].barrier_before(), 500);
        let later = ReadRequest { epoch: 4, ..open[1].request.clone() };
        let later = Open { request: later, ..open[1].clone() };
        assert_eq!(later.barrier_before(), 0, "a position is of its epoch");
    }

    #[test]
    fn without_an_epoch_and_a_layout_a_request_is_of_the_first_epoch_and_waits() {
        let request = r#"{"epoch":1,"layout":1,"reason":"first load"}"#;
        let open = open(&[row("read", "orders", 17, request)]);
        assert_eq!((open[0].epoch, open[0].layout, &open[0].seen), (1, 0, &None));
    }
}
