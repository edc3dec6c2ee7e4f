//! What a step does to a remote system: plain values, executed by `apply`, printed by `plan`. Pure.
//!
//! What takes something away is [`Allowed`] by the gate's proof, or names the one object that it was seen to be.

use std::collections::BTreeMap;

use tidemark_crds::ledger::Kind;
use tidemark_crds::version::Version;
use tidemark_runtime::credentials::Secret;

use crate::gate::Allowed;

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
    /// A statement for ClickHouse that makes or widens something.
    pub fn make(sql: String) -> Self {
        Self::ClickHouse(ClickHouseEffect::Make { sql })
    }

    /// Whether it takes away what nothing brings back by itself, or gives the place in the log up.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::ClickHouse(effect) => !matches!(effect, ClickHouseEffect::Make { .. }),
            Self::Postgres(effect) => !matches!(effect, PostgresEffect::Make { .. }),
            Self::Kafka(effect) => !matches!(effect, KafkaEffect::CreateTopic { .. }),
            Self::Connect(effect) => matches!(
                effect,
                ConnectEffect::PutConfig { .. } | ConnectEffect::DeleteOffsets(_) | ConnectEffect::Delete(_)
            ),
            Self::Kubernetes(effect) => matches!(effect, KubernetesEffect::Delete { .. }),
            Self::Grafana(effect) => effect.verb == Verb::Delete,
            Self::Ledger { kind, .. } => matches!(kind, Kind::Epoch | Kind::Intent),
            Self::Fence { .. } => false,
        }
    }
}

/// A statement for ClickHouse; no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouseEffect {
    /// Makes, widens or fills something, and takes nothing away.
    Make {
        /// The statement.
        sql: String,
    },
    /// Makes a view anew in the place of a view. ClickHouse would replace whatever has the name, a table with its rows
    /// too.
    ReplaceView(Allowed<ViewDefinition>),
    /// Drops a table with its rows, or a view.
    Drop(Allowed<ClickHouseName>),
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
    /// What it selects.
    pub select: String,
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

/// A statement for PostgreSQL; no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresEffect {
    /// Makes or alters the publication.
    Make {
        /// The statement.
        sql: String,
    },
    /// Drops a replication slot, and with it the place in the log.
    DropSlot(Allowed<String>),
    /// Drops a publication.
    DropPublication(Allowed<String>),
}

/// The methods of HTTP that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Makes.
    Post,
    /// Changes.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
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
    pub verb: Verb,
    /// Segments of the path.
    pub path: Vec<String>,
    /// JSON without secrets.
    pub body: Option<serde_json::Value>,
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
    /// Deletes an owned object.
    Delete {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// Name in the pipeline's namespace.
        name: String,
        /// Uid that it was seen with: another object of that name is not deleted. Absent without a cluster.
        uid: Option<String>,
    },
}
