//! What a step does to a remote system: plain values, executed by `apply`, printed by `plan`. Pure.
//!
//! What takes something away is [`Allowed`] by the gate's proof, or names the one object that it was seen to be.

use std::collections::BTreeMap;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::{ConnectorRecord, Kind};
use tidemark_crds::version::Version;
use tidemark_runtime::credentials::Secret;

use crate::core::desired::grafana::owned::Own as GrafanaOwn;
use crate::core::desired::owned::Own;
use crate::core::gate::Allowed;

/// One write to one remote system.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A statement for ClickHouse.
    ClickHouse(ClickHouseEffect),
    /// A row of the ledger.
    Ledger {
        /// Kind of the row.
        kind: Kind,
        /// Key within the kind.
        key: String,
        /// Version of the row; the greatest wins.
        version: u64,
        /// JSON.
        value: serde_json::Value,
    },
    /// A fence row: rows of `table` older than `version` are hidden.
    Fence {
        /// Target.
        table: String,
        /// First visible version.
        version: Version,
        /// `seed`; the sinks write others.
        reason: &'static str,
    },
    /// A statement for PostgreSQL.
    Postgres(PostgresEffect),
    /// A call of Kafka's admin interface.
    Kafka(KafkaEffect),
    /// A call of Connect's REST interface.
    Connect(ConnectEffect),
    /// A call of the Kubernetes API.
    Kubernetes(KubernetesEffect),
    /// A call of Grafana's HTTP API.
    Grafana(GrafanaEffect),
}

impl Effect {
    /// Whether it takes away what nothing brings back by itself, or gives the place in the log up.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::ClickHouse(effect) => {
                matches!(effect, ClickHouseEffect::ReplaceView(_) | ClickHouseEffect::Drop(_))
            }
            Self::Postgres(effect) => {
                matches!(effect, PostgresEffect::DropSlot(_) | PostgresEffect::DropPublication(_))
            }
            Self::Kafka(effect) => !matches!(effect, KafkaEffect::CreateTopic { .. }),
            Self::Connect(effect) => matches!(
                effect,
                ConnectEffect::PutConfig { .. } | ConnectEffect::DeleteOffsets(_) | ConnectEffect::Delete(_)
            ),
            Self::Kubernetes(effect) => matches!(effect, KubernetesEffect::Delete(_)),
            Self::Grafana(effect) => matches!(effect.call, GrafanaCall::Delete(_)),
            Self::Ledger { kind, .. } => matches!(kind, Kind::Epoch | Kind::Intent),
            Self::Fence { .. } => false,
        }
    }
}

/// A statement for ClickHouse; no secrets. Its text is made in [`statement`](crate::core::statement).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouseEffect {
    /// Makes the target database.
    CreateDatabase(DatabaseDefinition),
    /// Makes a table where nothing has its name.
    CreateTable(TableDefinition),
    /// Makes a table with the rows of another one, which keeps them.
    CarryOver(CarriedTable),
    /// Adds a column to a table.
    AddColumn(TableName, ColumnDefinition),
    /// Gives a column of a table a type that all of its values fit into.
    WidenColumn(TableName, ColumnDefinition),
    /// Makes a view where nothing has its name.
    CreateView(ViewDefinition),
    /// Makes the refresh that fills the table of a view, where nothing has its name.
    CreateRefresh(RefreshDefinition),
    /// Adds a row to the connector's history.
    Record(HistoryRow),
    /// Makes a view anew in the place of a view. ClickHouse would replace whatever has the name, a table with its rows
    /// too.
    ReplaceView(Allowed<ViewDefinition>),
    /// Drops a table with its rows, or a view.
    Drop(Allowed<ClickHouseName>),
}

impl From<ClickHouseEffect> for Effect {
    fn from(effect: ClickHouseEffect) -> Self {
        Self::ClickHouse(effect)
    }
}

/// A database as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseDefinition {
    /// Name.
    pub name: String,
    /// COMMENT: the mark.
    pub comment: String,
}

/// A table of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
}

impl TableName {
    /// The table `name` of `database`.
    pub fn new(database: &str, name: &str) -> Self {
        Self { database: database.to_owned(), name: name.to_owned() }
    }
}

/// A table as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// Database and name.
    pub name: TableName,
    /// COMMENT: mark, and hash where it is a view's.
    pub comment: String,
    /// Columns.
    pub columns: Vec<ColumnDefinition>,
    /// Columns that have an index of their least and greatest value.
    pub indexed: Vec<String>,
    /// What a merge makes of rows with the same key.
    pub merge: Merge,
    /// Expression of PARTITION BY.
    pub partition_by: Option<String>,
    /// Columns of ORDER BY.
    pub order_by: Vec<String>,
    /// How long rows are kept.
    pub keep: Option<Keep>,
}

/// A table that begins with the rows of an older one: sorting key and time of keeping are the older one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedTable {
    /// Database and name.
    pub name: TableName,
    /// COMMENT: mark and hash.
    pub comment: String,
    /// The older one, of the same database.
    pub from: String,
    /// Columns of the older one that it has not.
    pub without: Vec<String>,
    /// Columns that it has instead, each with the column that it stands behind; absent: it is the first. Older rows have
    /// their types' defaults.
    pub with: Vec<(ColumnDefinition, Option<String>)>,
}

/// What a merge makes of rows with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// All stay.
    All,
    /// The newest by insertion stays.
    Last,
    /// The one with the greatest value of a column stays.
    Greatest(&'static str),
    /// The one with the greatest version stays, unless its second column is 1.
    Current(&'static str, &'static str),
}

/// How long rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Column with the time that their age is counted from.
    pub from: String,
    /// Days.
    pub days: u32,
}

/// A column as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Name.
    pub name: String,
    /// Type of ClickHouse.
    pub kind: String,
    /// Expression of DEFAULT.
    pub default: Option<String>,
    /// CODEC.
    pub codec: Option<&'static str>,
}

impl ColumnDefinition {
    /// A column with a type and nothing else.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { name: name.into(), kind: kind.into(), default: None, codec: None }
    }
}

/// A refreshable materialized view as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshDefinition {
    /// The view: its name, mark and SELECT.
    pub view: ViewDefinition,
    /// Seconds from one refresh to the next.
    pub every_s: u64,
    /// Views of the same database whose refresh comes first.
    pub after: Vec<String>,
    /// Whether rows are added to those of before, or replace them.
    pub append: bool,
    /// Table of the same database that it fills.
    pub to: String,
}

/// A row of the connector's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Database.
    pub database: String,
    /// `NAMESPACE/NAME`.
    pub pipeline: String,
    /// How the connector is.
    pub record: ConnectorRecord,
    /// Up to when the source is read.
    pub fresh_to: FreshTo,
}

/// The instant up to which the source is read, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshTo {
    /// It is not behind.
    Now,
    /// An instant.
    At(i64),
    /// What was noted last.
    Last,
    /// What was noted last, or where nothing was an instant.
    LastOr(i64),
}

/// A view as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDefinition {
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
    /// COMMENT: mark and hash.
    pub comment: String,
    /// The account that it runs as; absent: the one that makes it.
    pub definer: Option<String>,
    /// What it selects.
    pub select: String,
    /// Columns that it shows, name and type text, by what was known when it was planned.
    pub columns: Vec<(String, String)>,
}

/// What is dropped in ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouseName {
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
    /// Whether it is a view, refreshed or not, or a table.
    pub is_view: bool,
    /// COMMENT that it was seen with: what has another one by now is left alone.
    pub comment: String,
}

/// A statement for PostgreSQL; no secrets. Its text is made in [`statement`](crate::core::statement).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresEffect {
    /// Makes the publication.
    CreatePublication {
        /// Name.
        name: String,
        /// Tables that it publishes.
        tables: Vec<SourceTable>,
        /// How it publishes.
        options: Publishes,
        /// COMMENT: the mark.
        comment: String,
    },
    /// Alters the publication.
    AlterPublication {
        /// Name.
        name: String,
        /// Tables that it publishes no more.
        drop: Vec<SourceTable>,
        /// Tables that it publishes from now on.
        add: Vec<SourceTable>,
        /// How it publishes from now on.
        set: Option<Publishes>,
    },
    /// Drops a replication slot, and with it the place in the log.
    DropSlot(Allowed<String>),
    /// Drops a publication.
    DropPublication(Allowed<String>),
}

impl From<PostgresEffect> for Effect {
    fn from(effect: PostgresEffect) -> Self {
        Self::Postgres(effect)
    }
}

/// How a publication publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishes {
    /// Every operation; nothing else is said.
    Operations,
    /// Every operation, and partitions under the name of their root.
    ByRoot,
    /// So, and stored generated columns too: from PostgreSQL 18 on.
    ByRootAndGenerated,
}

/// The methods of HTTP that make or change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Makes.
    Post,
    /// Changes.
    Put,
}

impl Verb {
    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// Which Grafana a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// The one that the spec names.
    Current,
    /// One that the spec named before.
    Former,
}

/// A write to Grafana.
#[derive(Debug, Clone, PartialEq)]
pub struct GrafanaEffect {
    /// Which Grafana.
    pub site: Site,
    /// What is done.
    pub call: GrafanaCall,
}

/// What is done in Grafana.
#[derive(Debug, Clone, PartialEq)]
pub enum GrafanaCall {
    /// Makes or changes something.
    Save(Saving),
    /// Deletes an object.
    Delete(GrafanaOwn),
}

impl GrafanaCall {
    /// Method and path, for people.
    pub fn text(&self) -> String {
        match self {
            Self::Save(saving) => format!("{} /{}", saving.verb.as_str(), saving.path.join("/")),
            Self::Delete(own) => format!("DELETE /{}", own.path().join("/")),
        }
    }
}

/// Something that is made or changed in Grafana.
#[derive(Debug, Clone, PartialEq)]
pub struct Saving {
    /// Whether it is made or changed.
    pub verb: Verb,
    /// Segments of the path.
    pub path: Vec<String>,
    /// JSON without secrets.
    pub body: serde_json::Value,
    /// The password of a data source; goes into the request and nowhere else.
    pub password: Option<Secret>,
    /// Uid that Grafana has to answer with.
    pub uid: Option<String>,
}

/// A write to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaEffect {
    /// Makes a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its partitions.
        partitions: i32,
        /// Its replicas; -1: the brokers' default.
        replication_factor: i32,
        /// Its configuration.
        config: BTreeMap<String, String>,
    },
    /// Sets up a topic that is there.
    AlterTopic {
        /// Its name.
        name: String,
        /// All of its own settings.
        config: Allowed<BTreeMap<String, String>>,
    },
    /// Removes topics.
    DeleteTopics(Allowed<Vec<String>>),
    /// Removes a consumer group.
    DeleteGroup(Allowed<String>),
}

/// A write to Kafka Connect.
#[derive(Clone, PartialEq, Eq)]
pub enum ConnectEffect {
    /// `POST /connectors` with `initial_state` STOPPED: nothing flows before the epoch is settled.
    Create {
        /// Connector.
        name: String,
        /// Full configuration, as in `PutConfig`.
        config: BTreeMap<String, String>,
    },
    /// `PUT /connectors/NAME/config`.
    PutConfig {
        /// Connector.
        name: String,
        /// Full configuration; may hold secrets: `Debug` shows the keys alone.
        config: Allowed<BTreeMap<String, String>>,
    },
    /// `PUT /connectors/NAME/pause`.
    Pause(String),
    /// `PUT /connectors/NAME/resume`.
    Resume(String),
    /// `PUT /connectors/NAME/stop`.
    Stop(String),
    /// `POST /connectors/NAME/restart?includeTasks=true&onlyFailed=true`.
    RestartFailed(String),
    /// `DELETE /connectors/NAME/offsets`; the connector must be stopped.
    DeleteOffsets(Allowed<String>),
    /// `DELETE /connectors/NAME`.
    Delete(Allowed<String>),
}

impl std::fmt::Debug for ConnectEffect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PutConfig { name, config } => {
                f.debug_struct("PutConfig").field("name", name).field("keys", &config.keys()).finish()
            }
            Self::Create { name, config } => {
                f.debug_struct("Create").field("name", name).field("keys", &config.keys()).finish()
            }
            Self::Pause(name) => write!(f, "Pause({name})"),
            Self::Resume(name) => write!(f, "Resume({name})"),
            Self::Stop(name) => write!(f, "Stop({name})"),
            Self::RestartFailed(name) => write!(f, "RestartFailed({name})"),
            Self::DeleteOffsets(name) => write!(f, "DeleteOffsets({})", **name),
            Self::Delete(name) => write!(f, "Delete({})", **name),
        }
    }
}

/// A write to Kubernetes.
#[derive(Debug, Clone, PartialEq)]
pub enum KubernetesEffect {
    /// Server-side apply of an owned object.
    Apply {
        /// The object with apiVersion, kind and metadata, and without a Secret's data.
        object: serde_json::Value,
        /// Data of a Secret, as text; goes into the request and nowhere else.
        data: BTreeMap<String, Secret>,
    },
    /// Deletes an object.
    Delete(Own),
}
