//! ClickHouse as it is: objects, the ledger, fences, demands, progress, refreshes. I/O, read only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemark_crds::layout::VERSION_COLUMN;
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, ConnectorRecord, DEMANDS_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE,
    SnapshotRecord, SnapshotState,
};
use tidemark_crds::quote;
use tidemark_crds::version::{Phase, Version};
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use crate::apply::clickhouse::of_error;
use crate::clients::failure;
use crate::facts::{
    ClickHouseFacts, ClickHouseObject, FailureClass, LedgerFacts, Observation, PartitionProgress,
    ProgressFacts, RefreshFacts,
};

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);
/// Deadline of one query.
const QUERY_DEADLINE: Duration = Duration::from_secs(8);
/// The server id of a ClickHouse that was not given one.
const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";
/// Longest exception of a refresh, in characters.
const EXCEPTION_LIMIT: usize = 256;

#[derive(Deserialize)]
struct Server {
    uuid: String,
    version: String,
    #[serde(deserialize_with = "number::deserialize")]
    databases: u64,
    #[serde(deserialize_with = "number::deserialize")]
    query_logs: u64,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    engine: String,
    comment: String,
    definition: String,
    columns: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct LedgerRow {
    kind: String,
    key: String,
    #[serde(deserialize_with = "number::deserialize")]
    version: u64,
    value: String,
}

#[derive(Deserialize)]
struct TableVersion {
    name: String,
    #[serde(deserialize_with = "number::deserialize")]
    version: u128,
    #[serde(default, deserialize_with = "number::deserialize")]
    snapshot: u128,
}

#[derive(Deserialize)]
struct Demand {
    name: String,
    fields: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Progress {
    name: String,
    partition: i32,
    #[serde(deserialize_with = "number::deserialize")]
    next_offset: i64,
    #[serde(deserialize_with = "number::deserialize")]
    dead_letters: u64,
    dead_epoch: u16,
    #[serde(deserialize_with = "number::deserialize")]
    dead_lsn: u64,
    #[serde(deserialize_with = "number::deserialize")]
    fresh_to_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    applied_at_ms: i64,
}

#[derive(Deserialize)]
struct Refresh {
    name: String,
    status: String,
    exception: String,
    #[serde(deserialize_with = "number::deserialize")]
    last_success_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    duration_ms: u64,
}

/// Looks at the target database; `pipeline` is `namespace/name`, `targets` are the state tables of the spec.
pub async fn observe(
    client: &ClickHouse,
    database: &str,
    pipeline: &str,
    targets: &[String],
) -> Observation<ClickHouseFacts> {
    let client = client.with_deadline(QUERY_DEADLINE).with_database(None);
    let look = Look { client: &client, database, pipeline };
    match tokio::time::timeout(DEADLINE, Box::pin(look.facts(targets))).await {
        Ok(Ok(facts)) => Observation::Known(facts),
        Ok(Err(error)) => Observation::Unreachable(of_error(&error)),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("clickhouse did not answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

struct Look<'a> {
    client: &'a ClickHouse,
    database: &'a str,
    pipeline: &'a str,
}

impl Look<'_> {
    async fn facts(&self, targets: &[String]) -> Result<ClickHouseFacts, Error> {
        let mut facts = self.server().await?;
        if !facts.database_exists {
            return Ok(facts);
        }
        facts.objects = self.objects().await?;
        let has = |name: &str| facts.objects.contains_key(name);
        let (has_ledger, has_fences, has_demands, has_progress) =
            (has(LEDGER_TABLE), has(FENCES_TABLE), has(DEMANDS_TABLE), has(PROGRESS_TABLE));
        let has_connector = has(CONNECTOR_TABLE);
        if has_ledger {
            facts.ledger = self.ledger().await?;
        }
        if has_fences {
            facts.fences = self.fences().await?;
        }
        if has_demands {
            facts.demands = self.demands(&facts.ledger).await?;
        }
        if has_progress {
            facts.progress = self.progress().await?;
        }
        if has_connector {
            facts.connector = self.connector().await?;
        }
        if facts.objects.values().any(|object| object.engine == "MaterializedView") {
            facts.refreshes = self.refreshes().await?;
        }
        self.versions(targets, &mut facts).await?;
        Ok(facts)
    }

    fn table(&self, name: &str) -> String {
        quote::qualified(self.database, name)
    }

    async fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, Error> {
        self.client.query(sql).await
    }

    async fn server(&self) -> Result<ClickHouseFacts, Error> {
        let sql = format!(
            "SELECT toString(serverUUID()) AS uuid, version() AS version, \
             (SELECT count() FROM system.databases WHERE name = {}) AS databases, \
             (SELECT count() FROM system.tables WHERE database = 'system' AND name = 'query_log') AS query_logs",
            quote::literal(self.database)
        );
        let server = self.rows::<Server>(&sql).await?.into_iter().next();
        Ok(server.map_or_else(ClickHouseFacts::default, |server| ClickHouseFacts {
            server_uuid: if server.uuid == NO_UUID { String::new() } else { server.uuid },
            version: server.version,
            database_exists: server.databases > 0,
            has_query_log: server.query_logs > 0,
            ..ClickHouseFacts::default()
        }))
    }

    async fn objects(&self) -> Result<BTreeMap<String, ClickHouseObject>, Error> {
        let database = quote::literal(self.database);
        let sql = format!(
            "SELECT t.name AS name, t.engine AS engine, t.comment AS comment, t.create_table_query AS definition, \
             c.columns AS columns FROM system.tables AS t LEFT JOIN (\
             SELECT table, groupArray((name, type)) AS columns FROM (\
             SELECT table, name, type FROM system.columns WHERE database = {database} ORDER BY table, position) \
             GROUP BY table) AS c ON c.table = t.name \
             WHERE t.database = {database} AND NOT startsWith(t.name, '.')"
        );
        let object = |object: Object| {
            let Object { name, engine, comment, definition, columns } = object;
            (name, ClickHouseObject { engine, comment, columns, definition })
        };
        Ok(self.rows::<Object>(&sql).await?.into_iter().map(object).collect())
    }

    async fn ledger(&self) -> Result<LedgerFacts, Error> {
        let sql = format!(
            "SELECT kind, key, max(l.version) AS version, argMax(l.value, l.version) AS value FROM {} AS l \
             WHERE pipeline = {} GROUP BY kind, key",
            self.table(LEDGER_TABLE),
            quote::literal(self.pipeline)
        );
        Ok(ledger_facts(self.rows::<LedgerRow>(&sql).await?))
    }

    async fn fences(&self) -> Result<BTreeMap<String, Version>, Error> {
        let sql = format!(
            "SELECT table AS name, max(f.version) AS version FROM {} AS f GROUP BY table",
            self.table(FENCES_TABLE)
        );
        let rows = self.rows::<TableVersion>(&sql).await?;
        Ok(rows.into_iter().map(|row| (row.name, Version(row.version))).collect())
    }

    /// Demands that the newest layout of their table does not answer.
    async fn demands(&self, ledger: &LedgerFacts) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
        let sql = format!(
            "SELECT table AS name, groupUniqArray(field) AS fields FROM {} WHERE pipeline = {} GROUP BY table",
            self.table(DEMANDS_TABLE),
            quote::literal(self.pipeline)
        );
        let mut open = BTreeMap::new();
        for Demand { name, mut fields } in self.rows::<Demand>(&sql).await? {
            if let Some(layout) = ledger.layouts.get(&name) {
                fields.retain(|field| {
                    !layout.columns.iter().any(|column| column.source == *field)
                        && !layout.left_out.iter().any(|column| column.source == *field)
                });
            }
            if !fields.is_empty() {
                open.insert(name, fields);
            }
        }
        Ok(open)
    }

    async fn progress(&self) -> Result<BTreeMap<String, ProgressFacts>, Error> {
        let sql = format!(
            "SELECT p.table AS name, p.partition AS partition, argMax(p.next_offset, p.beat) AS next_offset, \
             argMax(p.dead_letters, p.beat) AS dead_letters, argMax(p.dead_epoch, p.beat) AS dead_epoch, \
             argMax(p.dead_lsn, p.beat) AS dead_lsn, \
             toUnixTimestamp64Milli(argMax(p.fresh_to, p.beat)) AS fresh_to_ms, \
             toUnixTimestamp64Milli(argMax(p.applied_at, p.beat)) AS applied_at_ms FROM {} AS p \
             WHERE p.pipeline = {} GROUP BY p.table, p.partition",
            self.table(PROGRESS_TABLE),
            quote::literal(self.pipeline)
        );
        let mut all: BTreeMap<String, ProgressFacts> = BTreeMap::new();
        for row in self.rows::<Progress>(&sql).await? {
            let progress = PartitionProgress {
                next_offset: row.next_offset,
                fresh_to_ms: row.fresh_to_ms,
                applied_at_ms: row.applied_at_ms,
                dead_letters: row.dead_letters,
                dead_at: (row.dead_epoch, row.dead_lsn),
            };
            all.entry(row.name).or_default().partitions.insert(row.partition, progress);
        }
        Ok(all)
    }

    async fn connector(&self) -> Result<Option<ConnectorRecord>, Error> {
        let sql = format!(
            "SELECT state, tasks, failed_tasks, restarts, error, lag FROM {} WHERE pipeline = {} \
             ORDER BY seen_at DESC LIMIT 1",
            self.table(CONNECTOR_TABLE),
            quote::literal(self.pipeline)
        );
        Ok(self.rows(&sql).await?.into_iter().next())
    }

    async fn refreshes(&self) -> Result<BTreeMap<String, RefreshFacts>, Error> {
        let sql = format!(
            "SELECT view AS name, toString(status) AS status, exception, \
             ifNull(toUnixTimestamp(last_success_time), 0) * 1000 AS last_success_ms, \
             ifNull(last_success_duration_ms, 0) AS duration_ms FROM system.view_refreshes WHERE database = {}",
            quote::literal(self.database)
        );
        let refresh = |row: Refresh| {
            let exception =
                row.exception.lines().next().unwrap_or_default().chars().take(EXCEPTION_LIMIT).collect();
            let Refresh { name, status, last_success_ms, duration_ms, .. } = row;
            (name, RefreshFacts { status, exception, last_success_ms, duration_ms })
        };
        Ok(self.rows::<Refresh>(&sql).await?.into_iter().map(refresh).collect())
    }

    /// Greatest versions of the tables whose snapshot is not done: a whole column is read, so only of those.
    async fn versions(&self, targets: &[String], facts: &mut ClickHouseFacts) -> Result<(), Error> {
        let epoch = facts.ledger.epoch;
        let unsettled =
            targets.iter().filter(|target| facts.objects.contains_key(*target)).filter(|target| {
                let record = facts.ledger.snapshots.get(*target);
                !record
                    .is_some_and(|record| Some(record.epoch) == epoch && record.state == SnapshotState::Done)
            });
        let first_streamed = Version::new(epoch.unwrap_or(0), Phase::Stream, 0, 0);
        let first = Version::new(epoch.unwrap_or(0), Phase::Snapshot, 0, 0);
        let selects: Vec<String> = unsettled
            .map(|target| {
                format!(
                    "SELECT {} AS name, max({VERSION_COLUMN}) AS version, \
                     maxIf({VERSION_COLUMN}, {VERSION_COLUMN} >= toUInt128({first}) AND \
                     {VERSION_COLUMN} < toUInt128({first_streamed})) AS snapshot FROM {}",
                    quote::literal(target),
                    self.table(target),
                    first = quote::literal(&first.to_string()),
                    first_streamed = quote::literal(&first_streamed.to_string()),
                )
            })
            .collect();
        if selects.is_empty() {
            return Ok(());
        }
        for row in self.rows::<TableVersion>(&selects.join(" UNION ALL ")).await? {
            if row.snapshot > 0 {
                facts.snapshot_versions.insert(row.name.clone(), Version(row.snapshot));
            }
            if row.version > 0 {
                facts.greatest_versions.insert(row.name, Version(row.version));
            }
        }
        Ok(())
    }
}

/// Reads the ledger's rows; a value of JSON null means that the row is gone.
fn ledger_facts(rows: Vec<LedgerRow>) -> LedgerFacts {
    let mut facts = LedgerFacts::default();
    for row in rows {
        facts.versions.insert((row.kind.clone(), row.key.clone()), row.version);
        let Ok(value) = serde_json::from_str::<Value>(&row.value) else {
            continue;
        };
        if value.is_null() {
            continue;
        }
        let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let is = |kind: Kind| row.kind == kind.as_str();
        if is(Kind::Incarnation) {
            facts.incarnation = Some(text());
        } else if is(Kind::Epoch) {
            facts.epoch = value.as_u64().and_then(|epoch| u16::try_from(epoch).ok());
        } else if is(Kind::Layout) {
            if let Ok(layout) = serde_json::from_value(value) {
                facts.layouts.insert(row.key, layout);
            }
        } else if is(Kind::Snapshot) {
            if let Ok(record) = serde_json::from_value::<SnapshotRecord>(value) {
                facts.snapshots.insert(row.key, record);
            }
        } else if is(Kind::Identity) {
            facts.identities.insert(row.key.clone(), text());
        } else if is(Kind::Intent) {
            facts.intents.insert(row.key.clone(), text());
        } else if is(Kind::Request) {
            facts.requests.insert(row.key.clone(), text());
        } else if is(Kind::Grafana)
            && let Ok(record) = serde_json::from_value(value)
        {
            facts.grafanas.insert(row.key, record);
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_that_was_closed_with_null_is_gone_and_its_version_stays() {
        let row = |key: &str, version, value: &str| LedgerRow {
            kind: "intent".into(),
            key: key.into(),
            version,
            value: value.into(),
        };
        let facts = ledger_facts(vec![row("epoch", 4, "null"), row("other", 1, "\"x\"")]);
        assert_eq!(facts.intents, [("other".to_owned(), "x".to_owned())].into());
        assert_eq!(facts.next_version(Kind::Intent, "epoch"), 5);
    }
}
