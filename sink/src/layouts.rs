//! Layouts from the ledger, and demands for newer ones. I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{DEMANDS_TABLE, Kind, LEDGER_TABLE};
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

/// First and longest pause between two looks at the ledger.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The layouts of one pipeline.
#[derive(Debug, Clone)]
pub struct Layouts {
    clickhouse: ClickHouse,
    pipeline: String,
}

/// A field that the sink met and its layout does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// State table.
    pub table: String,
    /// Field of the event.
    pub field: String,
    /// Layout that does not know it.
    pub layout_version: u64,
}

impl Layouts {
    /// Reads through a client whose default database is the target.
    pub fn new(clickhouse: ClickHouse, pipeline: impl Into<String>) -> Self {
        Self { clickhouse, pipeline: pipeline.into() }
    }

    /// Returns the newest layout of each table that has one, by target.
    pub async fn all(&self) -> Result<BTreeMap<String, TableLayout>, Error> {
        #[derive(Deserialize)]
        struct Row {
            key: String,
            value: String,
        }
        let sql = format!(
            "SELECT key, value FROM {} FINAL WHERE pipeline = {} AND kind = {}",
            quote::ident(LEDGER_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(Kind::Layout.as_str()),
        );
        let rows: Vec<Row> = self.clickhouse.query(&sql).await?;
        rows.into_iter()
            .map(|row| match serde_json::from_str(&row.value) {
                Ok(layout) => Ok((row.key, layout)),
                Err(error) => Err(Error::new(
                    ErrorClass::Permanent,
                    format!("the layout of {} in the ledger cannot be read: {error}", row.key),
                )),
            })
            .collect()
    }

    /// Returns a table's layout once the ledger has one that is newer than `known`; tries for ever.
    pub async fn newer(&self, table: &str, known: u64) -> TableLayout {
        let mut pause = PAUSES.0;
        loop {
            match self.all().await {
                Ok(mut all) => {
                    if let Some(layout) = all.remove(table).filter(|layout| layout.version > known) {
                        return layout;
                    }
                }
                Err(error) => tracing::debug!(table, %error, "the ledger cannot be read yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Asks the operator for a layout that knows a field; tries until the demand is written.
    pub async fn demand(&self, demand: &Demand) {
        let sql = format!(
            "INSERT INTO {} (pipeline, table, field, layout_version, seen_at) VALUES ({}, {}, {}, {}, now64(3))",
            quote::ident(DEMANDS_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(&demand.table),
            quote::literal(&demand.field),
            demand.layout_version,
        );
        let mut pause = PAUSES.0;
        while let Err(error) = self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await {
            tracing::warn!(table = demand.table, field = demand.field, %error, "a demand cannot be written yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
