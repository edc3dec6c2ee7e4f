//! Rows of the progress table: how far each partition has come. I/O.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::ledger::PROGRESS_TABLE;
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use crate::offsets::Applied;

/// Deadline of one write: the next one says the same and more.
const DEADLINE: Duration = Duration::from_secs(5);

/// What an earlier owner of a partition recorded.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Recorded {
    /// State table.
    pub table: String,
    /// Partition of its topic.
    pub partition: i32,
    /// Rows applied.
    #[serde(deserialize_with = "number::deserialize")]
    pub rows: u64,
    /// Dead letters.
    #[serde(deserialize_with = "number::deserialize")]
    pub dead_letters: u64,
    /// Offset up to which everything is applied, exclusive.
    #[serde(deserialize_with = "number::deserialize")]
    pub next_offset: i64,
    /// Greatest log position applied.
    #[serde(deserialize_with = "number::deserialize")]
    pub applied_lsn: u64,
    /// Instant up to which everything was applied, milliseconds since 1970-01-01.
    #[serde(deserialize_with = "number::deserialize")]
    pub fresh_to_ms: i64,
}

/// The progress table of one pipeline.
#[derive(Debug, Clone)]
pub struct Progress {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
}

impl Progress {
    /// Writes through a client whose default database is the target, in the name of a replica.
    pub fn new(clickhouse: &ClickHouse, pipeline: impl Into<String>, replica: impl Into<String>) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.into(),
            replica: replica.into(),
        }
    }

    /// Returns what is recorded of all partitions.
    pub async fn recorded(&self) -> Result<Vec<Recorded>, Error> {
        let sql = format!(
            "SELECT table, partition, rows, dead_letters, next_offset, applied_lsn, \
             toUnixTimestamp64Milli(fresh_to) AS fresh_to_ms \
             FROM {} FINAL WHERE pipeline = {}",
            quote::ident(PROGRESS_TABLE),
            quote::literal(&self.pipeline),
        );
        self.clickhouse.query(&sql).await
    }

    /// Writes one row a partition.
    pub async fn write(&self, rows: &[(String, i32, Applied)]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut sql = format!(
            "INSERT INTO {} (pipeline, table, partition, replica, rows, dead_letters, next_offset, applied_lsn, \
             last_change_at, fresh_to, applied_at) VALUES ",
            quote::ident(PROGRESS_TABLE)
        );
        let (pipeline, replica) = (quote::literal(&self.pipeline), quote::literal(&self.replica));
        for (place, (table, partition, applied)) in rows.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let last_change_at = applied
                .last_change_at
                .map_or_else(|| "NULL".to_owned(), |ms| format!("fromUnixTimestamp64Milli(toInt64({ms}))"));
            let _ = write!(
                sql,
                "{separator}({pipeline}, {}, {partition}, {replica}, {}, {}, {}, {}, {last_change_at}, \
                 fromUnixTimestamp64Milli(toInt64({})), now64(3))",
                quote::literal(table),
                applied.rows,
                applied.dead,
                applied.next.unwrap_or(0),
                applied.lsn,
                applied.fresh_to,
            );
        }
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }
}
