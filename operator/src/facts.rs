//! What the operator knows of the world: the facts that observations bring and the pure core judges. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::{SourceTable, TableLayout};
use tidemark_crds::ledger::{ConnectorRecord, GrafanaRecord, Kind, ReadRequest, SinkState, SnapshotRecord};
use tidemark_crds::version::Version;
use tidemark_runtime::credentials::Secret;

/// Answer of one subsystem to one look.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Observation<T> {
    /// It answered.
    Known(T),
    /// It answered that the thing is not there.
    Absent,
    /// It did not answer, or refused.
    Unreachable(Failure),
    /// It was not asked: the part is not configured, or what it needs is not known yet.
    #[default]
    NotAsked,
}

impl<T> Observation<T> {
    /// The facts, where there are any.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(facts) => Some(facts),
            _ => None,
        }
    }
}

/// Why a remote system gave no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// Short text without secrets or response bodies, at most 256 characters.
    pub message: String,
}

/// Kinds of failure of a remote system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// No connection, a time-out, or an answer that says "later".
    Unreachable,
    /// The credentials were refused.
    Authentication,
    /// The credentials lack a right.
    Permission,
    /// It answered with another error.
    Remote,
}

/// Everything observed in one wave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// PostgreSQL's catalogues.
    pub postgres: Observation<PostgresFacts>,
    /// Kafka's topics, groups and offsets.
    pub kafka: Observation<KafkaFacts>,
    /// Our connector in Kafka Connect.
    pub connect: Observation<ConnectFacts>,
    /// ClickHouse's database of ours.
    pub clickhouse: Observation<ClickHouseFacts>,
    /// Grafana: our folder, data source and dashboards.
    pub grafana: Observation<GrafanaFacts>,
    /// The Grafana that the spec no longer names: what is still there of ours.
    pub former_grafana: Observation<GrafanaFacts>,
    /// The ClickHouse account that panels query with.
    pub reader: Observation<ReaderFacts>,
    /// Our objects in Kubernetes (in `apply --without-cluster`: in the output folder).
    pub kubernetes: Observation<KubernetesFacts>,
}

/// PostgreSQL as the role of the spec sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PostgresFacts {
    /// `system_identifier` of `pg_control_system()`, or empty where the role may not read it.
    pub system_identifier: String,
    /// `server_version_num`.
    pub server_version: i32,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_replication_slots` less the slots in use.
    pub free_replication_slots: i64,
    /// Whether the role has REPLICATION (or is a superuser).
    pub may_replicate: bool,
    /// Whether the role may CREATE in the database (to make the publication).
    pub may_create: bool,
    /// Name of the role.
    pub role: String,
    /// Tables of the spec that exist.
    pub tables: BTreeMap<SourceTable, SourceTableFacts>,
    /// The publication of ours, if it exists: its tables.
    pub publication: Option<PublicationFacts>,
    /// The replication slot of ours, if it exists.
    pub slot: Option<SlotFacts>,
    /// `pg_current_wal_lsn()` in bytes.
    pub current_lsn: u64,
    /// The server's clock when `current_lsn` was read, milliseconds since 1970; 0: not read.
    pub source_now_ms: i64,
    /// What the making of the slot waits for, with its pid, user and since when; absent: nothing is known to block it.
    pub blocking: Option<String>,
}

/// One table in PostgreSQL's catalogues.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceTableFacts {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `pg_class.relreplident`: `d`, `f`, `n` or `i`.
    pub replica_identity: char,
    /// Names of the primary key's columns in key order; empty: no primary key.
    pub primary_key: Vec<String>,
    /// Live columns in order.
    pub columns: Vec<SourceColumn>,
    /// Whether the role may SELECT.
    pub may_select: bool,
    /// Whether the role owns the table (needed to publish it).
    pub owned: bool,
    /// Range of an integer key's single column, for judging `partitionBy`; absent: not asked.
    pub key_range: Option<(i64, i64)>,
}

/// One column in PostgreSQL's catalogues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// `attname`.
    pub name: String,
    /// `attnum`.
    pub attnum: i16,
    /// `format_type(atttypid, atttypmod)` of the base type, domains unfolded.
    pub type_name: String,
    /// `pg_type.typtype` of the column's own type: `b`ase, `e`num, `d`omain, `c`omposite, `r`ange.
    pub type_kind: char,
    /// Whether NULL is possible.
    pub nullable: bool,
    /// `attmissingval` as text: the value of rows older than the column.
    pub missing_value: Option<String>,
    /// Whether the collation is deterministic (true for types without one).
    pub deterministic: bool,
}

/// A publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicationFacts {
    /// Its tables.
    pub tables: BTreeSet<SourceTable>,
    /// Whether it publishes insert, update, delete and truncate.
    pub all_operations: bool,
    /// Whether its comment carries our mark.
    pub ours: bool,
}

/// A replication slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Whether a connection uses it.
    pub active: bool,
    /// `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes of write-ahead log that it holds back.
    pub retained_bytes: u64,
    /// `confirmed_flush_lsn` in bytes: everything before it is in Kafka; 0: none.
    pub confirmed_lsn: u64,
}

/// Kafka as the operator's admin client sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KafkaFacts {
    /// `cluster.id`.
    pub cluster_id: String,
    /// Brokers.
    pub brokers: usize,
    /// Topics of our prefix (and heartbeat, dead-letter, signal): partitions each.
    pub topics: BTreeMap<String, i32>,
    /// End offsets of table topics: topic → partition → offset.
    pub end_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// First offsets of table topics that are still there: topic → partition → offset.
    pub begin_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Committed offsets of our consumer group: topic → partition → offset.
    pub committed: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Consumer groups that start with our prefix, with their number of members.
    pub groups: BTreeMap<String, usize>,
    /// Signals in the signal topic: id → milliseconds since it was sent last.
    pub signals: BTreeMap<String, i64>,
    /// What the connector said about its snapshots, oldest first.
    pub notifications: Vec<Notification>,
}

/// One message of the connector's notification topic about a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// `Initial Snapshot` or `Incremental Snapshot`.
    pub aggregate: String,
    /// `STARTED`, `IN_PROGRESS`, `TABLE_SCAN_COMPLETED`, `COMPLETED`, `ABORTED`, `SKIPPED`.
    pub kind: String,
    /// For incremental snapshots, the id of the signal that asked for it.
    pub id: String,
    /// Epoch header of the message; 0: none.
    pub epoch: u16,
}

/// Our connector in Kafka Connect; `Absent` when Connect answers 404.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectFacts {
    /// The connector, or `None` when Connect answers 404 for it.
    pub connector: Option<ConnectorFacts>,
    /// Whether the Debezium PostgreSQL plugin is installed.
    pub plugin_installed: bool,
}

/// A connector's configuration and state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectorFacts {
    /// Its configuration, secrets included as Connect gives them: never logged.
    pub config: BTreeMap<String, String>,
    /// `RUNNING`, `PAUSED`, `STOPPED`, `FAILED`, `UNASSIGNED`.
    pub state: String,
    /// State of each task and the first line of its trace.
    pub tasks: Vec<TaskFacts>,
    /// Source offset (`GET /connectors/NAME/offsets`), if one was stored.
    pub offset: Option<OffsetFacts>,
}

impl ConnectorFacts {
    /// Epoch that the connector writes into each record's header; 0: a new connector that never ran.
    pub fn epoch(&self) -> Option<u16> {
        self.config.get("transforms.epoch.value.literal").and_then(|text| text.parse().ok())
    }
}

/// State of a connector's task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Task number.
    pub id: i32,
    /// `RUNNING`, `FAILED`, …
    pub state: String,
    /// The first line of the trace and of its root cause, at most 256 characters, without secrets.
    pub error: Option<String>,
}

/// Where a connector stands at its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFacts {
    /// Whether the initial snapshot is complete (no snapshot mark, or `last_snapshot_record`/`snapshot_completed`).
    pub snapshot_completed: bool,
    /// Position in bytes of write-ahead log.
    pub lsn: u64,
    /// Tables that an incremental snapshot still has to read, as Debezium names them.
    pub incremental_pending: Vec<String>,
}

/// ClickHouse as the account of the spec sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClickHouseFacts {
    /// `serverUUID()`.
    pub server_uuid: String,
    /// `version()`.
    pub version: String,
    /// Whether the server keeps `system.query_log`.
    pub has_query_log: bool,
    /// Whether the target database exists.
    pub database_exists: bool,
    /// Tables and views of the target database.
    pub objects: BTreeMap<String, ClickHouseObject>,
    /// The ledger's rows of this pipeline; empty where there is no ledger.
    pub ledger: LedgerFacts,
    /// Greatest fence of each target.
    pub fences: BTreeMap<String, Version>,
    /// Greatest version of phase Snapshot of each target, per current epoch; absent: no such row.
    pub snapshot_versions: BTreeMap<String, Version>,
    /// Greatest version of each target whose snapshot is not done (any target, where the ledger has no epoch);
    /// absent: no row.
    pub greatest_versions: BTreeMap<String, Version>,
    /// Fields that the sink met and its layouts do not know: target → fields.
    pub demands: BTreeMap<String, BTreeSet<String>>,
    /// Progress of each target, the worst of its partitions.
    pub progress: BTreeMap<String, ProgressFacts>,
    /// What each living sink replica says of each target: target → replica → state.
    pub states: BTreeMap<String, BTreeMap<String, SinkState>>,
    /// How far the read of each target has come.
    pub reads: BTreeMap<String, ReadFacts>,
    /// The newest row of the connector's history.
    pub connector: Option<ConnectorRecord>,
    /// Refreshable views: name → state.
    pub refreshes: BTreeMap<String, RefreshFacts>,
}

/// A table or view of ClickHouse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClickHouseObject {
    /// Engine.
    pub engine: String,
    /// COMMENT.
    pub comment: String,
    /// Columns in order: name and type text.
    pub columns: Vec<(String, String)>,
    /// `create_table_query` as ClickHouse prints it.
    pub definition: String,
}

/// The ledger's rows of one pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerFacts {
    /// Incarnation of the state tables.
    pub incarnation: Option<String>,
    /// Epoch.
    pub epoch: Option<u16>,
    /// Newest layout of each target.
    pub layouts: BTreeMap<String, TableLayout>,
    /// Snapshot of each target.
    pub snapshots: BTreeMap<String, SnapshotRecord>,
    /// Read that was asked for last of each target: version of its row, which is the request's id, and the request.
    pub reads: BTreeMap<String, (u64, ReadRequest)>,
    /// Remote identities.
    pub identities: BTreeMap<String, String>,
    /// Open intents.
    pub intents: BTreeMap<String, String>,
    /// Answered requests.
    pub requests: BTreeMap<String, String>,
    /// Each Grafana that has objects of the pipeline, by a hash of its address.
    pub grafanas: BTreeMap<String, GrafanaRecord>,
    /// Version of each row, whatever its value, by the text of its kind and its key.
    pub versions: BTreeMap<(String, String), u64>,
}

impl LedgerFacts {
    /// Version with which a row replaces the one that is there.
    pub fn next_version(&self, kind: Kind, key: &str) -> u64 {
        self.versions.get(&(kind.as_str().to_owned(), key.to_owned())).map_or(1, |version| version + 1)
    }
}

/// How far one target is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgressFacts {
    /// Milliseconds since 1970 up to which the target is complete (its worst partition).
    pub fresh_to_ms: i64,
    /// Milliseconds since 1970 of the newest progress row.
    pub applied_at_ms: i64,
    /// Records sent to the dead letters since the replicas started.
    pub dead_letters: u64,
    /// Applied offset of each partition, exclusive.
    pub next_offsets: BTreeMap<i32, i64>,
}

/// How far the read of one target has come, as the sink that reads it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadFacts {
    /// Id of the request that it answers.
    pub request: u64,
    /// Epoch of the rows.
    pub epoch: u16,
    /// `reading`, `read` or `failed`.
    pub state: String,
    /// Position in the log of the read's barrier; 0: none yet.
    pub barrier: u64,
    /// Layout that the rows were read by.
    pub layout: u64,
    /// Rows read so far.
    pub rows: u64,
    /// Rows that there are, as PostgreSQL estimates.
    pub estimated_rows: u64,
    /// Why it failed last; empty: it did not.
    pub error: String,
    /// Milliseconds since it was written.
    pub age_ms: i64,
}

/// State of a refreshable view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefreshFacts {
    /// `system.view_refreshes.status`.
    pub status: String,
    /// The exception of the last refresh, at most 256 characters; empty: none.
    pub exception: String,
    /// Milliseconds since 1970 of the last success; 0: never.
    pub last_success_ms: i64,
    /// Duration of the last refresh, milliseconds.
    pub duration_ms: u64,
}

/// Our objects in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubernetesFacts {
    /// Objects by `Kind/name`: the live object as JSON, for subset comparison.
    pub objects: BTreeMap<String, serde_json::Value>,
    /// Data of the Secrets among them, by `Secret/name`; the objects are without.
    pub secrets: BTreeMap<String, BTreeMap<String, Secret>>,
    /// Available replicas of the sink's Deployment.
    pub sink_available: i32,
    /// Replicas of the sink's Deployment.
    pub sink_replicas: i32,
}

/// Grafana as our login sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GrafanaFacts {
    /// Its version, such as `12.4.0`.
    pub version: String,
    /// Our folder.
    pub folder: Option<FolderFacts>,
    /// Uid of another folder with our folder's title.
    pub folder_title_taken: Option<String>,
    /// Our data source; its secrets are never part of it.
    pub source: Option<serde_json::Value>,
    /// Uid of another data source with our data source's name.
    pub source_name_taken: Option<String>,
    /// What Grafana's own check of our data source says.
    pub source_health: SourceHealth,
    /// The wanted dashboards that exist, by uid.
    pub dashboards: BTreeMap<String, DashboardFacts>,
    /// Dashboards in our folder: what their title becomes in an address → uid.
    pub titles: BTreeMap<String, String>,
    /// Uids of all dashboards with our tags and prefix.
    pub ours: BTreeSet<String>,
    /// Whether our folder has folders in it; ours are none of them.
    pub has_subfolders: bool,
    /// Our alert rules by uid; absent: this Grafana has no such interface, or the login no right to it.
    pub rules: Option<BTreeMap<String, serde_json::Value>>,
}

impl GrafanaFacts {
    /// The first number of the version; 0 where it cannot be read.
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// A folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderFacts {
    /// Numeric id, for Grafana that knows no other.
    pub id: i64,
    /// Title.
    pub title: String,
    /// Version, for the check of a conflict.
    pub version: Option<i64>,
}

/// A dashboard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DashboardFacts {
    /// The model as stored.
    pub model: serde_json::Value,
    /// Version of the model.
    pub version: i64,
    /// Uid of its folder; absent in old Grafana.
    pub folder_uid: Option<String>,
    /// Numeric id of its folder.
    pub folder_id: i64,
}

/// What Grafana's check of a data source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SourceHealth {
    /// There is none to ask, or this Grafana has no such check.
    #[default]
    NotOffered,
    /// It works.
    Good,
    /// It does not, and why.
    Bad(String),
}

/// The ClickHouse account that panels query with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderFacts {
    /// `readonly` is 1 or 2.
    pub is_readonly: bool,
    /// It may set `max_execution_time`, which the data source sends with every query.
    pub may_set_time: bool,
    /// Settings that should be its limits and are 0: no limit.
    pub without_limit: Vec<&'static str>,
}
