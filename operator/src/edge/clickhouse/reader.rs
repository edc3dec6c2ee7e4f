//! The account that panels query with, as ClickHouse treats it. I/O, read only.

use std::time::Duration;

use tidemark_runtime::clickhouse::{ClickHouse, Error};

use crate::core::facts::{Observation, ReaderFacts};
use crate::edge::clickhouse::act::of_error;

/// Deadline of one query.
const DEADLINE: Duration = Duration::from_secs(5);
/// Settings without which one query can take all of the server.
const LIMITS: [&str; 3] = ["max_execution_time", "max_memory_usage", "max_result_rows"];

/// Looks at the reader's account.
pub async fn observe(client: &ClickHouse) -> Observation<ReaderFacts> {
    match facts(&client.within(DEADLINE).with_database(None)).await {
        Ok(facts) => Observation::Known(facts),
        Err(error) => Observation::Unreachable(of_error(&error)),
    }
}

async fn facts(client: &ClickHouse) -> Result<ReaderFacts, Error> {
    // No settings go with these queries: under readonly = 1 each would be an error of its own.
    let columns: Vec<String> =
        ["readonly"].iter().chain(&LIMITS).map(|name| format!("toString(getSetting('{name}'))")).collect();
    let answer = client.query_bytes(&format!("SELECT {}", columns.join(", ")), "TSV").await?;
    let answer = String::from_utf8_lossy(&answer).trim().to_owned();
    let values: Vec<f64> = answer.split('\t').map(|value| value.parse().unwrap_or(0.0)).collect();
    let (readonly, limits) = values.split_first().unwrap_or((&0.0, &[]));
    let without_limit = LIMITS.iter().zip(limits).filter(|(_, limit)| **limit <= 0.0).map(|(name, _)| *name);
    // What the data source sends with every query.
    let may_set_time =
        client.execute_with_settings("SELECT 1", &[("max_execution_time", "10")]).await.is_ok();
    Ok(ReaderFacts { is_readonly: *readonly >= 1.0, may_set_time, without_limit: without_limit.collect() })
}
