//! What the operator says, as the ledger has it: layouts, how far they are confirmed, reads that are asked for, the
//! epoch. Pure but for [`Poller`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::history::Position;
use tidemark_crds::layout::{Begin, SourceTable, TableLayout};
use tidemark_crds::ledger::{Confirmed, Kind, LEDGER_TABLE, READS_TABLE, ReadRequest};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use crate::history::History;
use crate::plan::Encoding;

/// Pause between two looks at the ledger.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after looks that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Deadline of one look.
const DEADLINE: Duration = Duration::from_secs(5);
/// Settings of the questions, which are small and many.
const SETTINGS: [(&str, &str); 2] = [("max_threads", "1"), ("log_queries", "0")];
/// Kind of the rows that say how far reads have come; they are not of the ledger.
const READ_STATE: &str = "read-state";

/// A read that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Version of its ledger row: its id.
    pub id: u64,
    /// What is asked for.
    pub request: ReadRequest,
}

/// How far the last read of a table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// Request that it answers.
    pub request: u64,
    /// Position of its barrier.
    pub barrier: Position,
    /// Whether all rows are there.
    pub done: bool,
}

/// The operator's word at one moment.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// Current epoch; 0 before the operator wrote one.
    pub epoch: u16,
    /// Layouts, by state table.
    pub histories: BTreeMap<String, Arc<History>>,
    /// Reads that are asked for, by state table.
    pub requests: BTreeMap<String, Request>,
    /// Reads that were begun, by state table.
    pub reads: BTreeMap<String, ReadState>,
    /// Versions below which every change was applied, by state table.
    pub horizons: BTreeMap<String, Version>,
}

/// One row of the look.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Kind of the ledger row, or [`READ_STATE`].
    pub kind: String,
    /// Key of the row.
    pub key: String,
    /// Version of the row.
    #[serde(deserialize_with = "number::deserialize")]
    pub version: u64,
    /// Value of the row.
    pub value: String,
}

#[derive(Deserialize)]
struct Digest {
    digest: String,
}

impl Board {
    /// Puts the rows together; plans that the board before had are taken over.
    pub fn new(rows: &[Row], encoding: Encoding, before: &Self) -> Self {
        let mut board = Self::default();
        let mut layouts: BTreeMap<&str, Vec<TableLayout>> = BTreeMap::new();
        let mut confirmed: BTreeMap<&str, Confirmed> = BTreeMap::new();
        // What was withdrawn is null.
        for row in rows.iter().filter(|row| row.value.trim() != "null") {
            let unreadable = |error: &dyn std::fmt::Display| {
                tracing::error!(kind = row.kind, key = row.key, %error, "a row of the ledger cannot be read");
            };
            if row.kind == Kind::Layout.as_str() {
                if let Some((target, version)) = row.key.rsplit_once('@') {
                    let layout = serde_json::from_str(&row.value).unwrap_or_else(|error| {
                        unreadable(&error);
                        unknown_layout(target, version, &row.value)
                    });
                    layouts.entry(target).or_default().push(layout);
                }
            } else if row.kind == Kind::Confirmed.as_str() {
                match serde_json::from_str(&row.value) {
                    Ok(value) => drop(confirmed.insert(&row.key, value)),
                    Err(error) => unreadable(&error),
                }
            } else if row.kind == Kind::Read.as_str() {
                match serde_json::from_str(&row.value) {
                    Ok(request) => {
                        board.requests.insert(row.key.clone(), Request { id: row.version, request });
                    }
                    Err(error) => unreadable(&error),
                }
            } else if row.kind == Kind::Horizon.as_str() {
                match serde_json::from_str::<String>(&row.value).map(|version| version.parse()) {
                    Ok(Ok(version)) => drop(board.horizons.insert(row.key.clone(), Version(version))),
                    Ok(Err(error)) => unreadable(&error),
                    Err(error) => unreadable(&error),
                }
            } else if row.kind == Kind::Epoch.as_str() {
                match row.value.trim().parse() {
                    Ok(epoch) => board.epoch = epoch,
                    Err(error) => unreadable(&error),
                }
            } else if row.kind == READ_STATE
                && let Some(state) = read_state(row)
            {
                board.reads.insert(row.key.clone(), state);
            }
        }
        for (target, mut layouts) in layouts {
            layouts.sort_by_key(|layout| layout.version);
            let known = before.histories.get(target).map(Arc::as_ref);
            let history = History::new(layouts, confirmed.get(target), encoding, known);
            board.histories.insert(target.to_owned(), Arc::new(history));
        }
        board
    }
}

/// What can be known of a layout that this program cannot read: where it begins.
fn unknown_layout(target: &str, version: &str, value: &str) -> TableLayout {
    #[derive(Deserialize, Default)]
    struct Known {
        #[serde(default)]
        from: Begin,
    }
    TableLayout {
        version: version.parse().unwrap_or(u64::MAX),
        source: SourceTable { schema: String::new(), name: String::new() },
        oid: 0,
        target: target.to_owned(),
        from: serde_json::from_str::<Known>(value).unwrap_or_default().from,
        columns: Vec::new(),
        left_out: Vec::new(),
        full_before: false,
        partition_by: None,
        storage: tidemark_crds::layout::Storage::default(),
        definitions: BTreeMap::new(),
        read_again: None,
    }
}

/// Reads `EPOCH BARRIER STATE`.
fn read_state(row: &Row) -> Option<ReadState> {
    let mut words = row.value.split(' ');
    let epoch = words.next()?.parse().ok()?;
    let barrier = words.next()?.parse().ok()?;
    Some(ReadState { request: row.version, barrier: (epoch, barrier), done: words.next()? == "read" })
}

/// Looks at the ledger once a second.
#[derive(Debug, Clone)]
pub struct Poller {
    clickhouse: ClickHouse,
    pipeline: String,
    encoding: Encoding,
}

impl Poller {
    /// Reads through a client whose default database is the target.
    pub fn new(clickhouse: &ClickHouse, pipeline: impl Into<String>, encoding: Encoding) -> Self {
        Self { clickhouse: clickhouse.with_deadline(DEADLINE), pipeline: pipeline.into(), encoding }
    }

    /// Returns all rows, sorted.
    pub async fn look(&self) -> Result<Vec<Row>, Error> {
        let mut rows: Vec<Row> =
            self.clickhouse.query_with_settings(&self.statement("FINAL"), &SETTINGS).await?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// Returns what tells the rows from those before and after each write. A merge may change it too.
    async fn digest(&self) -> Result<String, Error> {
        // A sum and not an exclusive or, to which a row that is there twice adds nothing.
        let statement = format!(
            "SELECT concat(toString(count()), ' ', toString(sum(cityHash64(kind, key, version, value)))) AS digest \
             FROM ({})",
            self.statement("")
        );
        let rows: Vec<Digest> = self.clickhouse.query_with_settings(&statement, &SETTINGS).await?;
        Ok(rows.into_iter().next().map(|row| row.digest).unwrap_or_default())
    }

    fn statement(&self, modifier: &str) -> String {
        let (ledger, reads) = (quote::ident(LEDGER_TABLE), quote::ident(READS_TABLE));
        let pipeline = quote::literal(&self.pipeline);
        let kinds = [Kind::Layout, Kind::Confirmed, Kind::Read, Kind::Epoch, Kind::Horizon];
        let kinds = kinds.map(|kind| quote::literal(kind.as_str())).join(", ");
        format!(
            "SELECT toString(kind) AS kind, key, version, value FROM {ledger} {modifier} \
             WHERE pipeline = {pipeline} AND kind IN ({kinds}) \
             UNION ALL \
             SELECT {} AS kind, table AS key, request AS version, \
             concat(toString(epoch), ' ', toString(barrier), ' ', toString(state)) AS value \
             FROM {reads} {modifier} WHERE pipeline = {pipeline}",
            quote::literal(READ_STATE),
        )
    }

    /// Looks for ever, and says of each look that ended whether there is a board that differs from the one before.
    pub async fn run(self, mut looked: impl FnMut(Option<Arc<Board>>)) {
        let (mut board, mut seen) = (Arc::new(Board::default()), Seen::default());
        let mut pause = PAUSE;
        loop {
            match self.changed(&mut seen).await {
                Ok(changed) => {
                    pause = PAUSE;
                    if changed {
                        board = Arc::new(Board::new(&seen.rows, self.encoding, &board));
                    }
                    looked(changed.then(|| Arc::clone(&board)));
                }
                Err(error) => {
                    tracing::debug!(%error, "the ledger cannot be read yet");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the rows where they may have changed; whether they have, and there are any.
    async fn changed(&self, seen: &mut Seen) -> Result<bool, Error> {
        // The digest first: what is written between the two is found by the next look.
        let digest = self.digest().await?;
        if digest == seen.digest {
            return Ok(false);
        }
        let rows = self.look().await?;
        seen.digest = digest;
        let changed = !rows.is_empty() && rows != seen.rows;
        if changed {
            seen.rows = rows;
        }
        Ok(changed)
    }
}

/// What the last board was made of.
#[derive(Default)]
struct Seen {
    digest: String,
    rows: Vec<Row>,
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
