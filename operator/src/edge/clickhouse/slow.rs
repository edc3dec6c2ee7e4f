//! How long panels' queries took, by the server's own log. I/O, read only.

use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};
use tidemark_runtime::foreign::{Hidden, Text};

use crate::core::doctor::SlowQuery;
use crate::core::facts::Observation;
use crate::edge::clickhouse::act::of_error;

/// Deadline of the query: the log can be long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Kinds of queries that are named.
const MOST: usize = 3;
/// Longest text of a query, characters.
const TEXT_LIMIT: usize = 100;

#[derive(Deserialize)]
struct Row {
    dashboard: String,
    panel: String,
    query: String,
    #[serde(deserialize_with = "number::deserialize")]
    queries: u64,
    #[serde(deserialize_with = "number::deserialize")]
    failures: u64,
    #[serde(deserialize_with = "number::deserialize")]
    p95_ms: u64,
    #[serde(deserialize_with = "number::deserialize")]
    read_rows: u64,
    error: Text,
}

/// Looks at the queries of the last hour that `reader` asked of `database`, those that failed and the slowest first.
pub async fn observe(client: &ClickHouse, database: &str, reader: &str) -> Observation<Vec<SlowQuery>> {
    match slowest(&client.within(DEADLINE).with_database(None), database, reader).await {
        Ok(found) => Observation::Known(found),
        Err(error) => Observation::Unreachable(of_error(&error)),
    }
}

async fn slowest(client: &ClickHouse, database: &str, reader: &str) -> Result<Vec<SlowQuery>, Error> {
    let (database, reader) = (quote::literal(database), quote::literal(reader));
    let sql = format!(
        "SELECT extract(any(q.client), 'grafana_dashboard:([^;)]+)') AS dashboard, \
         extract(any(q.client), 'grafana_panel:([^;)]+)') AS panel, any(q.text) AS query, count() AS queries, \
         countIf(q.exception_code != 0) AS failures, toUInt64(quantileExact(0.95)(q.duration)) AS p95_ms, \
         max(q.rows) AS read_rows, argMaxIf(q.exception, q.at, q.exception_code != 0) AS error FROM (\
         SELECT event_time_microseconds AS at, coalesce(nullIf(client_name, ''), http_user_agent) AS client, \
         substring(replaceRegexpAll(normalizeQuery(query), '\\\\s+', ' '), 1, {TEXT_LIMIT}) AS text, \
         normalizedQueryHash(query) AS hash, exception_code, substring(exception, 1, 200) AS exception, \
         query_duration_ms AS duration, read_rows AS rows FROM system.query_log \
         WHERE event_date >= toDate(now() - INTERVAL 1 HOUR) AND event_time >= now() - INTERVAL 1 HOUR \
         AND type != 'QueryStart' AND is_initial_query = 1 AND query_kind = 'Select' AND user = {reader} \
         AND (has(databases, {database}) OR current_database = {database})) AS q \
         GROUP BY q.hash ORDER BY failures > 0 DESC, p95_ms DESC LIMIT {MOST}"
    );
    let row = |row: Row| {
        let Row { dashboard, panel, query, queries, failures, p95_ms, read_rows, error } = row;
        let panel = match (dashboard.as_str(), panel.as_str()) {
            ("", _) => String::new(),
            (dashboard, "") => format!("dashboard {dashboard}"),
            (dashboard, panel) => format!("dashboard {dashboard}, panel {panel}"),
        };
        let error = error.shown(&Hidden::default());
        SlowQuery { panel, query, queries, failures, p95_ms, read_rows, error }
    };
    Ok(client.query::<Row>(&sql).await?.into_iter().map(row).collect())
}
