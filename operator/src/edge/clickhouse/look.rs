//! ClickHouse as it is: objects, the ledger, fences, progress, what the sinks say, refreshes. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemark_crds::layout::VERSION_COLUMN;
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, ConnectorRecord, FENCES_TABLE, LEDGER_TABLE, PROGRESS_TABLE, READS_TABLE, STATE_SECONDS,
    STATES_TABLE, SinkState, TableState, VERIFICATION_TABLE, WAL_COLUMN,
};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, exception_in_table, number};
use tidemark_runtime::foreign::{Hidden, Text};

use crate::core::desired::part::is_ours;
use crate::core::desired::tables::is_bookkeeping;
use crate::core::facts::{
    ClickHouseFacts, ClickHouseObject, FailureClass, LedgerFacts, Observation, PartitionProgress,
    ProgressFacts, ReadFacts, RefreshFacts, VerificationFacts,
};
use crate::core::ledger::{LedgerRow, facts_of};
use crate::edge::clickhouse::act::of_error;
use crate::edge::failure::failure;

/// Seconds for which a retry that succeeds is nobody's business.
const BLIP_SECONDS: u32 = 5;
/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);
/// Deadline of one query.
const QUERY_DEADLINE: Duration = Duration::from_secs(8);
/// The server id of a ClickHouse that was not given one.
const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Deserialize)]
struct Server {
    uuid: String,
    version: String,
    database_uuid: String,
    #[serde(deserialize_with = "number::deserialize")]
    databases: u64,
}

#[derive(Deserialize)]
struct Object {
    database: String,
    name: String,
    engine: String,
    comment: String,
    uuid: String,
    columns: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct TableVersion {
    name: String,
    #[serde(deserialize_with = "number::deserialize")]
    version: u128,
}

#[allow(clippy::struct_field_names, reason = "the names of the table's columns")]
#[derive(Deserialize)]
struct State {
    name: String,
    replica: String,
    state: String,
    reason: Text,
    error_class: Text,
    message: Text,
    #[serde(deserialize_with = "number::deserialize")]
    layout: u64,
    wants_epoch: u16,
    #[serde(deserialize_with = "number::deserialize")]
    wants_lsn: u64,
    doubt: Text,
    doubt_epoch: u16,
    #[serde(deserialize_with = "number::deserialize")]
    doubt_lsn: u64,
}

#[derive(Deserialize)]
struct Read {
    name: String,
    #[serde(deserialize_with = "number::deserialize")]
    request: u64,
    epoch: u16,
    state: String,
    #[serde(deserialize_with = "number::deserialize")]
    barrier: u64,
    #[serde(deserialize_with = "number::deserialize")]
    layout: u64,
    #[serde(deserialize_with = "number::deserialize")]
    rows: u64,
    #[serde(deserialize_with = "number::deserialize")]
    estimated_rows: u64,
    error: Text,
    #[serde(deserialize_with = "number::deserialize")]
    age_ms: i64,
}

#[derive(Deserialize)]
struct Verification {
    name: String,
    #[serde(deserialize_with = "number::deserialize")]
    request: u64,
    #[serde(deserialize_with = "number::deserialize")]
    began_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    from_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    compared: u64,
    per_mille: u16,
    #[serde(deserialize_with = "number::deserialize")]
    differences: u64,
    #[serde(deserialize_with = "number::deserialize")]
    repaired: u64,
    #[serde(deserialize_with = "number::deserialize")]
    open: u64,
    error: Text,
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
    exception: Text,
    #[serde(deserialize_with = "number::deserialize")]
    last_success_ms: i64,
    #[serde(deserialize_with = "number::deserialize")]
    duration_ms: u64,
}

/// Looks at the target database; the pipeline is `namespace/name` and its mark, `targets` are the state tables of the spec.
pub async fn observe(
    client: &ClickHouse,
    database: &str,
    (pipeline, mark): (&str, &str),
    targets: &[String],
) -> Observation<ClickHouseFacts> {
    let client = client.within(QUERY_DEADLINE).with_database(None);
    let look = Look { client: &client, database, pipeline };
    match tokio::time::timeout(DEADLINE, Box::pin(look.facts(mark, targets))).await {
        Ok(Ok(facts)) => Observation::Known(facts),
        Ok(Err(error)) => Observation::Unreachable(of_error(&error)),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("clickhouse did not answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

/// How the sinks of a pipeline are: a part of what [`observe`] asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pulse {
    /// What each living sink says of each target.
    pub states: BTreeMap<String, BTreeMap<String, SinkState>>,
    /// How far the read of each target has come.
    pub reads: BTreeMap<String, ReadFacts>,
    /// How far each target is.
    pub progress: BTreeMap<String, ProgressFacts>,
}

/// Asks how the sinks of a pipeline are, of a database that has the bookkeeping.
pub async fn pulse(client: &ClickHouse, database: &str, pipeline: &str) -> Observation<Pulse> {
    let client = client.with_deadline(QUERY_DEADLINE).with_database(None);
    let look = Look { client: &client, database, pipeline };
    let asked = async {
        let (states, reads, progress) = tokio::try_join!(look.states(), look.reads(), look.progress())?;
        Ok::<_, Error>(Pulse { states, reads, progress })
    };
    match asked.await {
        Ok(pulse) => Observation::Known(pulse),
        Err(error) => Observation::Unreachable(of_error(&error)),
    }
}

/// The answer to a question that can be asked, or else nothing.
async fn of<T: Default>(
    can_be_asked: bool,
    question: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    if can_be_asked { question.await } else { Ok(T::default()) }
}

/// Empty where there is none.
fn of_uuid(uuid: String) -> String {
    if uuid == NO_UUID { String::new() } else { uuid }
}

struct Look<'a> {
    client: &'a ClickHouse,
    database: &'a str,
    pipeline: &'a str,
}

impl Look<'_> {
    async fn facts(&self, mark: &str, targets: &[String]) -> Result<ClickHouseFacts, Error> {
        let mut facts = self.server().await?;
        (facts.objects, facts.has_query_log) = self.objects().await?;
        if !facts.database_exists {
            return Ok(facts);
        }
        // What somebody else has in the place of one may be of any columns, and is a conflict of its own.
        let has = |name: &str| facts.objects.get(name).is_some_and(|object| is_bookkeeping(name, object));
        let (has_ledger, has_fences, has_progress) =
            (has(LEDGER_TABLE), has(FENCES_TABLE), has(PROGRESS_TABLE));
        let (has_states, has_reads, has_connector) =
            (has(STATES_TABLE), has(READS_TABLE), has(CONNECTOR_TABLE));
        let has_verification = has(VERIFICATION_TABLE);
        let has_refreshes = facts.objects.values().any(|object| object.engine == "MaterializedView");
        // Side by side: none of them says which of the others to ask.
        (
            facts.ledger,
            facts.fences,
            facts.states,
            facts.reads,
            facts.verification,
            facts.progress,
            facts.connector,
            facts.refreshes,
        ) = tokio::try_join!(
            of(has_ledger, self.ledger()),
            of(has_fences, self.fences()),
            of(has_states, self.states()),
            of(has_reads, self.reads()),
            of(has_verification, self.verification()),
            of(has_progress, self.progress()),
            of(has_connector, self.connector(facts.objects.get(CONNECTOR_TABLE))),
            of(has_refreshes, self.refreshes()),
        )?;
        if facts.ledger.epoch.is_none() {
            facts.greatest_epochs = self.greatest_epochs(mark, targets, &facts.objects).await?;
        }
        Ok(facts)
    }

    fn table(&self, name: &str) -> String {
        quote::qualified(self.database, name)
    }

    /// Rows of what is small: a second thread costs more than it takes over.
    async fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, Error> {
        self.client.query_with_settings(sql, &[("max_threads", "1")]).await
    }

    async fn server(&self) -> Result<ClickHouseFacts, Error> {
        let sql = format!(
            "SELECT toString(serverUUID()) AS uuid, version() AS version, count() AS databases, \
             max(toString(d.uuid)) AS database_uuid FROM system.databases AS d WHERE d.name = {}",
            quote::literal(self.database)
        );
        let server = self.rows::<Server>(&sql).await?.into_iter().next();
        Ok(server.map_or_else(ClickHouseFacts::default, |server| ClickHouseFacts {
            server_uuid: of_uuid(server.uuid),
            database_uuid: of_uuid(server.database_uuid),
            version: server.version,
            database_exists: server.databases > 0,
            ..ClickHouseFacts::default()
        }))
    }

    /// Tables and views of the database, and whether the server keeps a log of queries.
    ///
    /// Not asked for: the statement that made each, which the server reads from its file and prints anew.
    async fn objects(&self) -> Result<(BTreeMap<String, ClickHouseObject>, bool), Error> {
        let database = quote::literal(self.database);
        let sql = format!(
            "SELECT t.database AS database, t.name AS name, t.engine AS engine, t.comment AS comment, \
             toString(t.uuid) AS uuid, c.columns AS columns FROM system.tables AS t LEFT JOIN (\
             SELECT table, groupArray((name, type)) AS columns FROM (\
             SELECT table, name, type FROM system.columns WHERE database = {database} ORDER BY table, position) \
             GROUP BY table) AS c ON c.table = t.name AND t.database = {database} \
             WHERE t.database IN ({database}, 'system') AND NOT startsWith(t.name, '.') \
             AND (t.database = {database} OR t.name = 'query_log')"
        );
        let mut objects = BTreeMap::new();
        let mut has_query_log = false;
        for object in self.rows::<Object>(&sql).await? {
            let Object { database, name, engine, comment, uuid, columns } = object;
            has_query_log |= database == "system" && name == "query_log";
            if database == self.database {
                objects.insert(name, ClickHouseObject { engine, comment, columns, uuid: of_uuid(uuid) });
            }
        }
        Ok((objects, has_query_log))
    }

    async fn ledger(&self) -> Result<LedgerFacts, Error> {
        let sql = format!(
            "SELECT kind, key, version, value FROM {} FINAL WHERE pipeline = {}",
            self.table(LEDGER_TABLE),
            quote::literal(self.pipeline)
        );
        Ok(facts_of(self.rows::<LedgerRow>(&sql).await?))
    }

    async fn fences(&self) -> Result<BTreeMap<String, Version>, Error> {
        let sql = format!(
            "SELECT table AS name, max(f.version) AS version FROM {} AS f GROUP BY table",
            self.table(FENCES_TABLE)
        );
        let rows = self.rows::<TableVersion>(&sql).await?;
        Ok(rows.into_iter().map(|row| (row.name, Version(row.version))).collect())
    }

    /// What the living sinks say: one whose row is old by the server's clock is gone.
    async fn states(&self) -> Result<BTreeMap<String, BTreeMap<String, SinkState>>, Error> {
        let sql = format!(
            "SELECT s.table AS name, s.replica AS replica, \
             if(s.state = 'retrying' AND s.since > now64(3) - INTERVAL {BLIP_SECONDS} SECOND, 'streaming', \
             toString(s.state)) AS state, s.reason AS reason, s.error_class AS error_class, s.message AS message, \
             s.layout AS layout, s.wants_epoch AS wants_epoch, s.wants_lsn AS wants_lsn, s.doubt AS doubt, \
             s.doubt_epoch AS doubt_epoch, s.doubt_lsn AS doubt_lsn FROM {} AS s FINAL \
             WHERE s.pipeline = {} AND s.written_at > now64(3) - INTERVAL {} SECOND",
            self.table(STATES_TABLE),
            quote::literal(self.pipeline),
            3 * STATE_SECONDS,
        );
        let mut all: BTreeMap<String, BTreeMap<String, SinkState>> = BTreeMap::new();
        for row in self.rows::<State>(&sql).await? {
            let shown = |text: Text| text.shown(&Hidden::default());
            let state = SinkState {
                // A word of a later sink than this operator: something is the matter, and the message says what.
                state: serde_json::from_value(Value::String(row.state)).unwrap_or(TableState::Stopped),
                reason: shown(row.reason),
                error_class: shown(row.error_class),
                message: shown(row.message),
                layout: row.layout,
                wants: (row.wants_epoch, row.wants_lsn),
                doubt: shown(row.doubt),
                doubt_at: (row.doubt_epoch, row.doubt_lsn),
            };
            all.entry(row.name).or_default().insert(row.replica, state);
        }
        Ok(all)
    }

    async fn reads(&self) -> Result<BTreeMap<String, ReadFacts>, Error> {
        let sql = format!(
            "SELECT table AS name, request, epoch, state, barrier, layout, rows, estimated_rows, error, \
             toInt64(dateDiff('millisecond', updated_at, now64(3))) AS age_ms FROM {} WHERE pipeline = {} \
             ORDER BY beat DESC LIMIT 1 BY table",
            self.table(READS_TABLE),
            quote::literal(self.pipeline)
        );
        let read = |row: Read| {
            let Read { name, request, epoch, state, barrier, layout, rows, estimated_rows, error, age_ms } =
                row;
            let error = error.shown(&Hidden::default());
            (name, ReadFacts { request, epoch, state, barrier, layout, rows, estimated_rows, error, age_ms })
        };
        Ok(self.rows::<Read>(&sql).await?.into_iter().map(read).collect())
    }

    async fn verification(&self) -> Result<BTreeMap<String, VerificationFacts>, Error> {
        let sql = format!(
            "SELECT table AS name, request, toUnixTimestamp64Milli(began_at) AS began_ms, \
             ifNull(toUnixTimestamp64Milli(verified_from), 0) AS from_ms, compared, \
             toUInt16(floor(least(greatest(coverage, 0), 1) * 1000)) AS per_mille, differences, repaired, open, error \
             FROM {} WHERE pipeline = {} ORDER BY beat DESC LIMIT 1 BY table",
            self.table(VERIFICATION_TABLE),
            quote::literal(self.pipeline)
        );
        let facts = |row: Verification| {
            let Verification { name, request, began_ms, from_ms, compared, per_mille, .. } = row;
            let Verification { differences, repaired, open, error, .. } = row;
            let error = error.shown(&Hidden::default());
            (
                name,
                VerificationFacts {
                    request,
                    began_ms,
                    from_ms,
                    compared,
                    per_mille,
                    differences,
                    repaired,
                    open,
                    error,
                },
            )
        };
        Ok(self.rows::<Verification>(&sql).await?.into_iter().map(facts).collect())
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

    /// The newest row; one of a table of an older version says nothing of the write-ahead log.
    async fn connector(&self, table: Option<&ClickHouseObject>) -> Result<Option<ConnectorRecord>, Error> {
        let has_wal = table.is_some_and(|table| table.columns.iter().any(|(name, _)| name == WAL_COLUMN));
        let wal = if has_wal { WAL_COLUMN } else { "'' AS wal" };
        let sql = format!(
            "SELECT state, tasks, failed_tasks, restarts, error, lag, {wal} FROM {} WHERE pipeline = {} \
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
            let exception = exception_in_table(&row.exception, &Hidden::default());
            let Refresh { name, status, last_success_ms, duration_ms, .. } = row;
            (name, RefreshFacts { status, exception, last_success_ms, duration_ms })
        };
        Ok(self.rows::<Refresh>(&sql).await?.into_iter().map(refresh).collect())
    }

    /// Epochs that rows have though the ledger has none: it was lost. A whole column is read, so only then.
    ///
    /// Of the pipeline's own tables alone: others may be closed to its account, or anything else than tables.
    async fn greatest_epochs(
        &self,
        mark: &str,
        targets: &[String],
        objects: &BTreeMap<String, ClickHouseObject>,
    ) -> Result<BTreeMap<String, u16>, Error> {
        let has_versions = |target: &&String| {
            objects.get(*target).is_some_and(|object| {
                is_ours(&object.comment, mark)
                    && object.columns.iter().any(|(name, kind)| name == VERSION_COLUMN && kind == "UInt128")
            })
        };
        let selects: Vec<String> = (targets.iter().filter(has_versions))
            .map(|target| {
                let name = quote::literal(target);
                format!("SELECT {name} AS name, max({VERSION_COLUMN}) AS version FROM {}", self.table(target))
            })
            .collect();
        if selects.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows: Vec<TableVersion> = self.client.query(&selects.join(" UNION ALL ")).await?;
        Ok(rows.into_iter().map(|row| (row.name, Version(row.version).epoch())).collect())
    }
}
