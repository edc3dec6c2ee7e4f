//! Rows of the state table: what this replica does with each table. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidemark_crds::history::Position;
use tidemark_crds::ledger::{DEAD_LETTERS, STATE_SECONDS, STATES_TABLE, SinkState, TableState};
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use crate::batch::Doubt;
use crate::consume::now_ms;
use crate::group::lock;

/// Deadline of one write: the next one says the same and more.
const DEADLINE: Duration = Duration::from_secs(5);

/// What replicas said before this one began, and what of it holds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// State table.
    pub table: String,
    /// Whether dead letters stopped it, and under which layout.
    pub stopped_under: Option<u64>,
    /// Why it has to be read again.
    pub doubt: Option<Doubt>,
}

/// The states of this replica's tables; clones share them.
#[derive(Debug, Clone)]
pub struct States {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
    tables: Arc<Mutex<BTreeMap<String, Entry>>>,
}

#[derive(Debug, Clone)]
struct Entry {
    state: SinkState,
    /// Since when it is in this state, milliseconds since 1970-01-01.
    since: i64,
    /// Counts its changes.
    change: u64,
    /// The change that was written last, and when.
    written: Option<(u64, Instant)>,
}

impl States {
    /// Writes through a client whose default database is the target, in the name of a replica.
    pub fn new(clickhouse: &ClickHouse, pipeline: impl Into<String>, replica: impl Into<String>) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.into(),
            replica: replica.into(),
            tables: Arc::default(),
        }
    }

    /// Notes what a table does now.
    pub fn set(&self, table: &str, state: SinkState) {
        let mut tables = lock(&self.tables);
        let Some(entry) = tables.get_mut(table) else {
            tables.insert(table.to_owned(), Entry { state, since: now_ms(), change: 1, written: None });
            return;
        };
        if entry.state == state {
            return;
        }
        if (entry.state.state, &entry.state.reason) != (state.state, &state.reason) {
            entry.since = now_ms();
        }
        entry.state = state;
        entry.change += 1;
    }

    /// Writes what changed, and what was not written for some seconds; with `all` everything.
    pub async fn write(&self, all: bool) -> Result<(), Error> {
        let now = Instant::now();
        let due = |entry: &&mut Entry| match entry.written {
            Some((change, at)) => all || change != entry.change || (now - at).as_secs() >= STATE_SECONDS,
            None => true,
        };
        let rows: Vec<(String, Entry)> = {
            let mut tables = lock(&self.tables);
            let due = tables.iter_mut().filter(|(_, entry)| due(entry));
            due.map(|(table, entry)| (table.clone(), entry.clone())).collect()
        };
        if rows.is_empty() {
            return Ok(());
        }
        let statement = self.statement(&rows);
        self.clickhouse.execute_with_settings(&statement, &[("async_insert", "0")]).await?;
        let mut tables = lock(&self.tables);
        for (table, written) in rows {
            if let Some(entry) = tables.get_mut(&table) {
                entry.written = Some((written.change, now));
            }
        }
        Ok(())
    }

    fn statement(&self, rows: &[(String, Entry)]) -> String {
        let mut sql = format!(
            "INSERT INTO {} (pipeline, table, replica, beat, state, reason, error_class, message, since, layout, \
             wants_epoch, wants_lsn, doubt, doubt_epoch, doubt_lsn, written_at) VALUES ",
            quote::ident(STATES_TABLE)
        );
        let (pipeline, replica) = (quote::literal(&self.pipeline), quote::literal(&self.replica));
        for (place, (table, Entry { state, since, .. })) in rows.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let _ = write!(
                sql,
                "{separator}({pipeline}, {}, {replica}, toUnixTimestamp64Milli(now64(3)), {}, {}, {}, {}, \
                 fromUnixTimestamp64Milli(toInt64({since})), {}, {}, {}, {}, {}, {}, now64(3))",
                quote::literal(table),
                quote::literal(state.state.as_str()),
                quote::literal(&state.reason),
                quote::literal(&state.error_class),
                quote::literal(&state.message),
                state.layout,
                state.wants.0,
                state.wants.1,
                quote::literal(&state.doubt),
                state.doubt_at.0,
                state.doubt_at.1,
            );
        }
        sql
    }

    /// Returns what replicas said before.
    pub async fn earlier(&self) -> Result<Vec<Earlier>, Error> {
        #[derive(Deserialize)]
        struct Row {
            table: String,
            state: String,
            reason: String,
            #[serde(deserialize_with = "number::deserialize")]
            layout: u64,
            doubt: String,
            doubt_epoch: u16,
            #[serde(deserialize_with = "number::deserialize")]
            doubt_lsn: u64,
        }
        let sql = format!(
            "SELECT table, toString(state) AS state, toString(reason) AS reason, layout, doubt, doubt_epoch, \
             doubt_lsn FROM {} FINAL WHERE pipeline = {} AND (doubt != '' OR state = {})",
            quote::ident(STATES_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(TableState::Stopped.as_str()),
        );
        let rows: Vec<Row> = self.clickhouse.query(&sql).await?;
        let earlier = rows.into_iter().map(|row| {
            let at: Position = (row.doubt_epoch, row.doubt_lsn);
            let stopped = row.state == TableState::Stopped.as_str() && row.reason == DEAD_LETTERS;
            Earlier {
                table: row.table,
                stopped_under: stopped.then_some(row.layout),
                doubt: (!row.doubt.is_empty()).then_some(Doubt { why: row.doubt, at }),
            }
        });
        Ok(earlier.collect())
    }

    /// Tables that have a state.
    pub fn tables(&self) -> BTreeSet<String> {
        lock(&self.tables).keys().cloned().collect()
    }
}
