//! What ClickHouse has of the tables. I/O, read only.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidemark_crds::ledger::{
    Kind, LEDGER_TABLE, POSITIONS_TABLE, PROGRESS_TABLE, READS_TABLE, ReadRequest, STATE_SECONDS,
    STATES_TABLE, TableState,
};
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use super::verdict::{Claim, Read, TableFacts};

/// Settings of the questions, which are small and many.
const SETTINGS: [(&str, &str); 3] =
    [("select_sequential_consistency", "1"), ("max_threads", "1"), ("log_queries", "0")];

/// All tables, and the ledger's epoch; 0: it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) epoch: u16,
    pub(crate) tables: BTreeMap<String, TableFacts>,
}

#[derive(Deserialize)]
struct ClaimRow {
    table: String,
    epoch: u16,
    server: String,
    #[serde(deserialize_with = "number::deserialize")]
    lsn: u64,
    ends: String,
}

#[derive(Deserialize)]
struct ProgressRow {
    table: String,
    partition: i32,
    #[serde(deserialize_with = "number::deserialize")]
    next_offset: i64,
    #[serde(deserialize_with = "number::deserialize")]
    dead_letters: u64,
}

#[derive(Deserialize)]
struct StateRow {
    table: String,
    stuck: u8,
    message: String,
    doubt: String,
    doubt_epoch: u16,
    #[serde(deserialize_with = "number::deserialize")]
    doubt_lsn: u64,
}

#[derive(Deserialize)]
struct ReadRow {
    table: String,
    #[serde(deserialize_with = "number::deserialize")]
    request: u64,
    epoch: u16,
    done: u8,
    #[serde(deserialize_with = "number::deserialize")]
    barrier: u64,
}

#[derive(Deserialize)]
struct LedgerRow {
    kind: String,
    key: String,
    #[serde(deserialize_with = "number::deserialize")]
    version: u64,
    value: String,
}

/// Reads the bookkeeping of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Bookkeeping {
    clickhouse: ClickHouse,
    pipeline: String,
}

impl Bookkeeping {
    pub(crate) fn new(clickhouse: &ClickHouse, pipeline: &str) -> Self {
        Self { clickhouse: clickhouse.clone(), pipeline: quote::literal(pipeline) }
    }

    /// Reads everything. What is applied comes before the doubts: a sink writes down that records are gone before it
    /// counts them as applied.
    pub(crate) async fn facts(&self) -> Result<Facts, Error> {
        let mut facts = Facts { tables: self.claims().await?, ..Facts::default() };
        self.progress(&mut facts).await?;
        tokio::try_join!(self.states(), self.reads(), self.ledger()).map(|(states, reads, ledger)| {
            take_states(&mut facts, states);
            for row in reads {
                let read =
                    Read { request: row.request, barrier: (row.epoch, row.barrier), done: row.done != 0 };
                facts.tables.entry(row.table).or_default().read = Some(read);
            }
            take_ledger(&mut facts, ledger);
            facts
        })
    }

    /// What was found of each table.
    pub(super) async fn claims(&self) -> Result<BTreeMap<String, TableFacts>, Error> {
        let sql = format!(
            "SELECT table, epoch, server, lsn, toJSONString(CAST((partitions, ends), 'Map(Int32, Int64)')) AS ends \
             FROM {} FINAL WHERE pipeline = {} ORDER BY table, slot",
            quote::ident(POSITIONS_TABLE),
            self.pipeline
        );
        // Else numbers of 64 bits come as text.
        let settings: Vec<(&str, &str)> =
            SETTINGS.into_iter().chain([("output_format_json_quote_64bit_integers", "0")]).collect();
        let rows: Vec<ClaimRow> = self.clickhouse.query_with_settings(&sql, &settings).await?;
        let mut tables: BTreeMap<String, TableFacts> = BTreeMap::new();
        for ClaimRow { table, epoch, server, lsn, ends } in rows {
            // One that cannot be read claims nothing; its place is kept.
            let ends: Option<BTreeMap<i32, i64>> = serde_json::from_str(&ends).ok();
            let (lsn, ends) = ends.map_or((0, BTreeMap::new()), |ends| (lsn, ends));
            tables.entry(table).or_default().claims.push(Claim { epoch, server, lsn, ends });
        }
        Ok(tables)
    }

    /// How far the partitions are, whoever owns them.
    pub(super) async fn progress(&self, facts: &mut Facts) -> Result<(), Error> {
        let sql = format!(
            "SELECT table, partition, next_offset, dead_letters FROM {} FINAL WHERE pipeline = {}",
            quote::ident(PROGRESS_TABLE),
            self.pipeline
        );
        let rows: Vec<ProgressRow> = self.clickhouse.query_with_settings(&sql, &SETTINGS).await?;
        for row in rows {
            let table = facts.tables.entry(row.table).or_default();
            table.next.insert(row.partition, row.next_offset);
            table.dead += row.dead_letters;
        }
        Ok(())
    }

    async fn states(&self) -> Result<Vec<StateRow>, Error> {
        let sql = format!(
            "SELECT table, toUInt8(state != {} AND written_at > subtractSeconds(now64(3), {})) AS stuck, message, \
             doubt, doubt_epoch, doubt_lsn FROM {} FINAL WHERE pipeline = {}",
            quote::literal(TableState::Streaming.as_str()),
            3 * STATE_SECONDS,
            quote::ident(STATES_TABLE),
            self.pipeline
        );
        self.clickhouse.query_with_settings(&sql, &SETTINGS).await
    }

    async fn reads(&self) -> Result<Vec<ReadRow>, Error> {
        let sql = format!(
            "SELECT table, request, epoch, toUInt8(state = 'read') AS done, barrier FROM {} FINAL WHERE pipeline = {}",
            quote::ident(READS_TABLE),
            self.pipeline
        );
        self.clickhouse.query_with_settings(&sql, &SETTINGS).await
    }

    async fn ledger(&self) -> Result<Vec<LedgerRow>, Error> {
        let sql = format!(
            "SELECT toString(kind) AS kind, key, version, value FROM {} FINAL \
             WHERE pipeline = {} AND kind IN ({}, {})",
            quote::ident(LEDGER_TABLE),
            self.pipeline,
            quote::literal(Kind::Read.as_str()),
            quote::literal(Kind::Epoch.as_str()),
        );
        self.clickhouse.query_with_settings(&sql, &SETTINGS).await
    }
}

fn take_states(facts: &mut Facts, rows: Vec<StateRow>) {
    for row in rows {
        let table = facts.tables.entry(row.table).or_default();
        if row.stuck != 0 {
            table.trouble.get_or_insert(row.message);
        }
        let at = (row.doubt_epoch, row.doubt_lsn);
        if !row.doubt.is_empty() && table.doubt.as_ref().is_none_or(|(_, before)| *before < at) {
            table.doubt = Some((row.doubt, at));
        }
    }
}

fn take_ledger(facts: &mut Facts, rows: Vec<LedgerRow>) {
    for row in rows {
        if row.kind == Kind::Epoch.as_str() {
            facts.epoch = row.value.trim().parse().unwrap_or(0);
        } else if let Ok(request) = serde_json::from_str::<ReadRequest>(&row.value) {
            // What was withdrawn is null.
            facts.tables.entry(row.key).or_default().request = Some((row.version, request.epoch));
        }
    }
}
