//! What is kept in ClickHouse: requests, how far rounds are, the differences. I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::ledger::{
    DIFFERENCES_TABLE, Kind, LEDGER_TABLE, STATE_SECONDS, STATES_TABLE, TableState, VERIFICATION_TABLE,
};
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

/// Deadline of one question or row.
const DEADLINE: Duration = Duration::from_secs(5);
const SETTINGS: [(&str, &str); 2] = [("max_threads", "1"), ("log_queries", "0")];

/// How far the comparison of a table is, as its last owner wrote it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Kept {
    /// State table.
    pub(super) table: String,
    /// Last request that is answered; 0: none.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) request: u64,
    /// Epoch of the round.
    pub(super) epoch: u16,
    /// Its layout.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) layout: u64,
    /// When it began, milliseconds since 1970-01-01.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) began_ms: i64,
    /// Beginning and end of the last full round; 0: none.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) from_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) to_ms: i64,
    /// Rows compared in the round.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) compared: u64,
    /// Share of it that is done.
    pub(super) coverage: f64,
    /// Rows found different, ever.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) differences: u64,
    /// Rows repaired, ever.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) repaired: u64,
    /// Rows that are different and not repaired.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) open: u64,
    /// Why it does not go on; empty: it does.
    pub(super) error: String,
    /// The round, as JSON; empty: none is under way.
    pub(super) place: String,
    /// Its place among the rows of the table.
    #[serde(deserialize_with = "number::deserialize")]
    pub(super) beat: u64,
}

/// A difference as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Key as a JSON object.
    pub(super) key: String,
    /// How it differs.
    pub(super) kind: &'static str,
    /// Names of the columns that differ.
    pub(super) columns: Vec<String>,
    /// Whether it is repaired.
    pub(super) repaired: bool,
}

/// What the replicas say of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Said {
    /// State table.
    table: String,
    /// Whether one of them does something else than apply changes.
    held: u8,
    /// Position up to which the last doubt reaches; zeros: there is none.
    epoch: u16,
    #[serde(deserialize_with = "number::deserialize")]
    lsn: u64,
}

impl Said {
    /// Whether the table is not what the stream made of it since the barrier of its last read.
    pub(super) fn is_busy(&self, barrier: (u16, u64)) -> bool {
        let doubt = (self.epoch, self.lsn);
        self.held != 0 || doubt != (0, 0) && doubt >= barrier
    }
}

/// The rows of one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Book {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
}

impl Book {
    /// Reads and writes through a client whose default database is the target, in the name of a replica.
    pub(super) fn new(clickhouse: &ClickHouse, pipeline: &str, replica: &str) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.to_owned(),
            replica: replica.to_owned(),
        }
    }

    /// Returns the last request of each table: its id.
    pub(super) async fn requests(&self) -> Result<BTreeMap<String, u64>, Error> {
        #[derive(Deserialize)]
        struct Row {
            key: String,
            #[serde(deserialize_with = "number::deserialize")]
            version: u64,
        }
        let sql = format!(
            "SELECT key, version FROM {} FINAL WHERE pipeline = {} AND kind = {}",
            quote::ident(LEDGER_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(Kind::Verify.as_str()),
        );
        let rows: Vec<Row> = self.clickhouse.query_with_settings(&sql, &SETTINGS).await?;
        Ok(rows.into_iter().map(|row| (row.key, row.version)).collect())
    }

    /// Returns what the replicas say of each table, this one among them.
    pub(super) async fn said(&self) -> Result<BTreeMap<String, Said>, Error> {
        let sql = format!(
            "SELECT table, toUInt8(max(state != {} AND written_at > now64(3) - toIntervalSecond({}))) AS held, \
             maxIf((doubt_epoch, doubt_lsn), doubt != '') AS last, last.1 AS epoch, last.2 AS lsn \
             FROM {} FINAL WHERE pipeline = {} GROUP BY table",
            quote::literal(TableState::Streaming.as_str()),
            3 * STATE_SECONDS,
            quote::ident(STATES_TABLE),
            quote::literal(&self.pipeline),
        );
        let rows: Vec<Said> = self.clickhouse.query_with_settings(&sql, &SETTINGS).await?;
        Ok(rows.into_iter().map(|row| (row.table.clone(), row)).collect())
    }

    /// Returns what is kept of a table.
    pub(super) async fn kept(&self, table: &str) -> Result<Option<Kept>, Error> {
        let ms = |column: &str| format!("ifNull(toUnixTimestamp64Milli({column}), 0)");
        let sql = format!(
            "SELECT table, request, epoch, layout, toUnixTimestamp64Milli(began_at) AS began_ms, {} AS from_ms, \
             {} AS to_ms, compared, coverage, differences, repaired, open, error, place, beat FROM {} FINAL \
             WHERE pipeline = {} AND table = {}",
            ms("verified_from"),
            ms("verified_to"),
            quote::ident(VERIFICATION_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(table),
        );
        let settings = [SETTINGS[0], SETTINGS[1], ("select_sequential_consistency", "1")];
        Ok(self.clickhouse.query_with_settings(&sql, &settings).await?.into_iter().next())
    }

    /// Writes the newest row about a table.
    pub(super) async fn keep(&self, kept: &Kept) -> Result<(), Error> {
        let sql = self.statement(kept);
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }

    fn statement(&self, kept: &Kept) -> String {
        let moment = |ms: i64| match ms {
            0 => "NULL".to_owned(),
            ms => format!("fromUnixTimestamp64Milli(toInt64({ms}))"),
        };
        format!(
            "INSERT INTO {} (pipeline, table, owner, request, epoch, layout, began_at, verified_from, verified_to, \
             compared, coverage, differences, repaired, open, error, place, updated_at, beat) SELECT {}, {}, {}, {}, {}, \
             {}, fromUnixTimestamp64Milli(toInt64({})), {}, {}, {}, {}, {}, {}, {}, {}, {}, now64(3) AS now, \
             greatest(toUInt64(toUnixTimestamp64Milli(now)), toUInt64({}))",
            quote::ident(VERIFICATION_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(&kept.table),
            quote::literal(&self.replica),
            kept.request,
            kept.epoch,
            kept.layout,
            kept.began_ms,
            moment(kept.from_ms),
            moment(kept.to_ms),
            kept.compared,
            kept.coverage,
            kept.differences,
            kept.repaired,
            kept.open,
            quote::literal(&kept.error),
            quote::literal(&kept.place),
            kept.beat,
        )
    }

    /// Writes differences that were found at `found_ms`, milliseconds since 1970-01-01; a later row about the same one
    /// replaces the earlier.
    pub(super) async fn differences(
        &self,
        table: &str,
        found_ms: i64,
        entries: &[Entry],
    ) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let sql = self.differences_statement(table, found_ms, entries);
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }

    fn differences_statement(&self, table: &str, found_ms: i64, entries: &[Entry]) -> String {
        let mut sql = format!(
            "INSERT INTO {} (pipeline, table, key, kind, columns, found_at, repaired_at, beat) VALUES ",
            quote::ident(DIFFERENCES_TABLE)
        );
        let (pipeline, table) = (quote::literal(&self.pipeline), quote::literal(table));
        for (place, entry) in entries.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let columns: Vec<String> = entry.columns.iter().map(|column| quote::literal(column)).collect();
            let (repaired_at, beat) = if entry.repaired { ("now64(3)", 2) } else { ("NULL", 1) };
            let _ = write!(
                sql,
                "{separator}({pipeline}, {table}, {}, {}, [{}], fromUnixTimestamp64Milli(toInt64({found_ms})), \
                 {repaired_at}, {beat})",
                quote::literal(&entry.key),
                quote::literal(entry.kind),
                columns.join(", "),
            );
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use tidemark_runtime::clickhouse::{Authority, Options};
    use tidemark_runtime::credentials::{CredentialSource, Credentials};

    use super::*;

    fn book() -> Book {
        let clickhouse = ClickHouse::new(Options {
            url: "http://127.0.0.1:1".into(),
            database: None,
            credentials: std::sync::Arc::new(CredentialSource::memory(Credentials::new("u", "p"))),
            authority: Authority::System,
        });
        Book::new(&clickhouse.unwrap(), "a/b", "it's")
    }

    #[test]
    fn a_round_that_never_was_full_has_no_moment_and_names_are_quoted() {
        let kept = Kept { table: "t".into(), began_ms: 5, coverage: 0.25, beat: 7, ..Kept::default() };
        let sql = book().statement(&kept);
        assert!(
            sql.contains(
                r"'a/b', 't', 'it\'s', 0, 0, 0, fromUnixTimestamp64Milli(toInt64(5)), NULL, NULL, 0, 0.25"
            ),
            "{sql}"
        );
        assert!(sql.ends_with("toUInt64(7))"), "{sql}");
    }

    #[test]
    fn a_doubt_ends_with_a_read_behind_it() {
        let doubt = Said { table: "t".into(), held: 0, epoch: 2, lsn: 50 };
        assert!(doubt.is_busy((2, 50)) && doubt.is_busy((1, 900)));
        assert!(!doubt.is_busy((2, 51)) && !doubt.is_busy((3, 0)));
        assert!(Said { held: 1, ..doubt }.is_busy((3, 0)));
        assert!(!Said::default().is_busy((0, 0)));
    }

    #[test]
    fn a_difference_has_its_key_and_names_of_columns_and_no_values() {
        let entry = |repaired| Entry {
            key: r#"{"id":"7"}"#.into(),
            kind: "columns",
            columns: vec!["note".into()],
            repaired,
        };
        let sql = book().differences_statement("t", 9, &[entry(false), entry(true)]);
        let (_, rows) = sql.split_once("VALUES ").unwrap();
        assert_eq!(
            rows,
            r#"('a/b', 't', '{"id":"7"}', 'columns', ['note'], fromUnixTimestamp64Milli(toInt64(9)), NULL, 1), ('a/b', 't', '{"id":"7"}', 'columns', ['note'], fromUnixTimestamp64Milli(toInt64(9)), now64(3), 2)"#
        );
    }
}
