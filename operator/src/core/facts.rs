//! What the operator knows of the world: the facts that observations bring and the pure core judges. Pure.

mod postgres;

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::history::Position;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{
    Confirmed, ConnectorRecord, GrafanaRecord, Kind, ReadRequest, SeenPublication, SeenStorage, SinkState,
};
use tidemark_crds::version::Version;
use tidemark_runtime::credentials::Secret;
use tidemark_runtime::foreign::line;

use crate::core::rollout::Rollout;

pub use self::postgres::{
    Estimate, IndexFacts, Lineage, OpenTransaction, PUBLISHES_GENERATED, PartitionFacts, PostgresFacts,
    PublicationFacts, SlotFacts, SourceColumn, SourceTableFacts,
};

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

/// Longest text of a failure, in characters.
const LONGEST_MESSAGE: usize = 1024;

/// Why a remote system gave no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// One line of visible characters, without secrets and without words of what is not known to be the system.
    pub message: String,
}

impl Failure {
    /// A failure with its text made fit for a condition: the one place where one is made. What another system said is a
    /// part of it by [`Text`](tidemark_runtime::foreign::Text) alone.
    pub fn new(class: FailureClass, message: impl AsRef<str>) -> Self {
        Self { class, message: line(message.as_ref(), LONGEST_MESSAGE) }
    }
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

impl FailureClass {
    /// What to do next about a system that the spec names.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "check its address in the spec and that it is up; it is tried again",
            Self::Authentication => "check user and password in its Secret",
            Self::Permission => "grant the account the right",
            Self::Remote => "it is tried again",
        }
    }

    /// What to do next about the cluster that the operator runs in, by its own account.
    pub fn advice_in_cluster(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Remote => "it is tried again",
            Self::Authentication => {
                "see that the operator's service account is there and its token is mounted"
            }
            Self::Permission => "grant the operator's service account the right",
        }
    }
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
    /// What earlier looks saw of each target's source, as far as it is remembered.
    pub seen: BTreeMap<String, SeenCatalogue>,
}

/// Up to where a table's catalogue was seen to be that of its newest layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenCatalogue {
    /// Version of the layout.
    pub layout: u64,
    /// Position of the log.
    pub at: Position,
}

impl From<&Confirmed> for SeenCatalogue {
    fn from(row: &Confirmed) -> Self {
        Self { layout: row.layout, at: (row.epoch, row.lsn) }
    }
}

/// Kafka as the operator's admin client sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KafkaFacts {
    /// `cluster.id`.
    pub cluster_id: String,
    /// Brokers.
    pub brokers: usize,
    /// Topics of our prefix, and others that the spec asks for: partitions each.
    pub topics: BTreeMap<String, i32>,
    /// Replicas of each topic that the spec asks for, of the partition that has the fewest.
    pub replicas: BTreeMap<String, i32>,
    /// How each topic that the spec asks for is set up, as far as the brokers tell.
    pub settings: BTreeMap<String, TopicSettings>,
    /// End offsets of table topics: topic → partition → offset.
    pub end_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// First offsets of table topics that are still there: topic → partition → offset.
    pub begin_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Consumer groups that start with our prefix, with their number of members.
    pub groups: BTreeMap<String, usize>,
    /// Greatest epoch that the last records of each table topic are marked with, of those that have any: asked where nothing
    /// else says of one. A topic whose records could not be read is not among them.
    pub epochs: BTreeMap<String, u16>,
}

/// How a topic is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// The settings that hold, the brokers' defaults among them.
    pub all: BTreeMap<String, String>,
    /// Names of those that were set for this topic.
    pub own: BTreeSet<String>,
}

/// Our connector in Kafka Connect; `Absent` when Connect answers 404.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectFacts {
    /// The connector, or `None` when Connect answers 404 for it.
    pub connector: Option<ConnectorFacts>,
    /// Whether the Debezium PostgreSQL plugin is installed.
    pub plugin_installed: bool,
    /// Cluster id of the brokers that its workers write to (`kafka_cluster_id` of `GET /`); empty where they do not say.
    pub kafka_cluster_id: String,
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
    /// Whether it failed at a change that Debezium never gets past, whatever the source is now.
    pub is_stuck: bool,
}

/// Where a connector stands at its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFacts {
    /// Position in bytes of write-ahead log.
    pub lsn: u64,
}

/// ClickHouse as the account of the spec sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClickHouseFacts {
    /// `serverUUID()`; empty where the server has none.
    pub server_uuid: String,
    /// `system.databases.uuid` of the target database; empty where it is not there, or keeps none.
    pub database_uuid: String,
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
    /// Greatest epoch of the rows of each state table; asked for only where the ledger has no epoch.
    pub greatest_epochs: BTreeMap<String, u16>,
    /// Progress of each target, the worst of its partitions.
    pub progress: BTreeMap<String, ProgressFacts>,
    /// What each living sink replica says of each target: target → replica → state.
    pub states: BTreeMap<String, BTreeMap<String, SinkState>>,
    /// How far the read of each target has come.
    pub reads: BTreeMap<String, ReadFacts>,
    /// How far the comparison of each target with its source has come.
    pub verification: BTreeMap<String, VerificationFacts>,
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
    /// `system.tables.uuid`: another table of the same name has another one; empty where the database keeps none.
    pub uuid: String,
}

/// The ledger's rows of one pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerFacts {
    /// Incarnation of the state tables.
    pub incarnation: Option<String>,
    /// Epoch.
    pub epoch: Option<u16>,
    /// History of each target's layouts, in the order of their versions; never empty.
    pub layouts: BTreeMap<String, Vec<TableLayout>>,
    /// Up to where the newest layout of each target is known to hold, where a sink asked.
    pub confirmed: BTreeMap<String, Confirmed>,
    /// How the source's files were when they last changed without a change of the layout.
    pub storages: BTreeMap<String, SeenStorage>,
    /// Read that was asked for last of each target: version of its row, which is the request's id, and the request.
    pub reads: BTreeMap<String, (u64, ReadRequest)>,
    /// Remote identities.
    pub identities: BTreeMap<String, String>,
    /// Open intents.
    pub intents: BTreeMap<String, String>,
    /// Publication by which the log is decoded.
    pub publication: Option<SeenPublication>,
    /// Topics that the pipeline was going to make.
    pub topics: BTreeSet<String>,
    /// Topics that it made.
    pub made_topics: BTreeSet<String>,
    /// Answered requests.
    pub requests: BTreeMap<String, String>,
    /// Each Grafana that has objects of the pipeline, by a hash of its address.
    pub grafanas: BTreeMap<String, GrafanaRecord>,
    /// Rows whose value this version of the operator cannot read, by the text of their kind and their key: they are
    /// there, and what they say is not known.
    pub unreadable: BTreeSet<(String, String)>,
    /// Version of each row, whatever its value, by the text of its kind and its key.
    pub versions: BTreeMap<(String, String), u64>,
}

impl LedgerFacts {
    /// The history of a target's layouts; empty where it has none.
    pub fn history(&self, target: &str) -> &[TableLayout] {
        self.layouts.get(target).map_or(&[], Vec::as_slice)
    }

    /// The newest layout of a target.
    pub fn newest(&self, target: &str) -> Option<&TableLayout> {
        self.history(target).last()
    }

    /// A row of a target that cannot be read, for people.
    pub fn unreadable_of(&self, target: &str) -> Option<String> {
        self.unreadable
            .iter()
            .find(|(kind, key)| target_of(kind, key) == Some(target))
            .map(|(kind, key)| format!("{kind} {key}"))
    }

    /// A row of the pipeline, and of no single table, that cannot be read, for people.
    pub fn unreadable_of_all(&self) -> Option<String> {
        self.unreadable
            .iter()
            .find(|(kind, key)| target_of(kind, key).is_none())
            .map(|(kind, key)| format!("{kind} {key}").trim_end().to_owned())
    }

    /// Whether there is a row, also one whose value is that there is none.
    pub fn has_row(&self, kind: Kind, key: &str) -> bool {
        self.versions.contains_key(&(kind.as_str().to_owned(), key.to_owned()))
    }

    /// Version with which a row replaces the one that is there.
    pub fn next_version(&self, kind: Kind, key: &str) -> u64 {
        self.versions.get(&(kind.as_str().to_owned(), key.to_owned())).map_or(1, |version| version + 1)
    }
}

/// The target that a row of the ledger is about; `None`: it is about the whole pipeline.
fn target_of<'a>(kind: &str, key: &'a str) -> Option<&'a str> {
    if kind == Kind::Layout.as_str() {
        return Some(key.rsplit_once('@').map_or(key, |(target, _)| target));
    }
    [Kind::Read, Kind::Verify, Kind::Confirmed, Kind::Storage]
        .iter()
        .any(|one| one.as_str() == kind)
        .then_some(key)
}

/// How far one target is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgressFacts {
    /// Its partitions that a sink has reported.
    pub partitions: BTreeMap<i32, PartitionProgress>,
}

/// How far one partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Applied offset, exclusive.
    pub next_offset: i64,
    /// Milliseconds since 1970 up to which it is complete.
    pub fresh_to_ms: i64,
    /// Milliseconds since 1970 of the newest progress row.
    pub applied_at_ms: i64,
    /// Dead letters that are not dealt with.
    pub dead_letters: u64,
    /// Epoch and log position at or behind the last of them.
    pub dead_at: (u16, u64),
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

/// How far the comparison of one target with its source has come, as the sink that compares it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerificationFacts {
    /// Id of the last request that is answered; 0: none.
    pub request: u64,
    /// Milliseconds since 1970 at which the round under way, or the last one, began.
    pub began_ms: i64,
    /// Milliseconds since 1970 at which the last full round began; 0: there was none.
    pub from_ms: i64,
    /// Rows compared in the round.
    pub compared: u64,
    /// Per mille of the round that is done.
    pub per_mille: u16,
    /// Rows found different, ever.
    pub differences: u64,
    /// Rows repaired, ever.
    pub repaired: u64,
    /// Rows that are different and not repaired.
    pub open: u64,
    /// Why it does not go on; empty: it does.
    pub error: String,
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
    /// How far the sink's Deployment is.
    pub rollout: Rollout,
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
    /// Dashboards with our tags and prefix: uid → the tags that it has.
    pub tagged: BTreeMap<String, Vec<String>>,
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
