//! Writes rows of the ledger and fences. I/O: the row's time is the server's.

use serde_json::Value;
use tidemark_crds::ledger::{FENCES_TABLE, Kind, LEDGER_TABLE};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::ClickHouse;

use super::act::execute;
use crate::core::facts::Failure;

/// Writes one row of the ledger; the greatest `version` of a kind and key wins.
pub async fn row(
    client: &ClickHouse,
    database: &str,
    pipeline: &str,
    kind: Kind,
    key: &str,
    version: u64,
    value: &Value,
) -> Result<(), Failure> {
    let sql = format!(
        "INSERT INTO {} (pipeline, kind, key, version, value, written_at) VALUES ({}, {}, {}, {version}, {}, now64(3))",
        quote::qualified(database, LEDGER_TABLE),
        quote::literal(pipeline),
        quote::literal(kind.as_str()),
        quote::literal(key),
        quote::literal(&value.to_string()),
    );
    execute(client, &sql).await
}

/// Raises the fence of a state table; a lower one than there is changes nothing.
pub async fn fence(
    client: &ClickHouse,
    database: &str,
    table: &str,
    version: Version,
    reason: &str,
) -> Result<(), Failure> {
    let sql = format!(
        "INSERT INTO {} (table, version, reason, raised_at) VALUES ({}, toUInt128({}), {}, now64(3))",
        quote::qualified(database, FENCES_TABLE),
        quote::literal(table),
        quote::literal(&version.to_string()),
        quote::literal(reason),
    );
    execute(client, &sql).await
}
