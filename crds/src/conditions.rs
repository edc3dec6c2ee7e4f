//! Condition types and reasons of a pipeline: closed sets, time-insensitive comparison. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};

/// Types of the conditions, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// Summary of all required conditions.
    Ready,
    /// Work is under way.
    Reconciling,
    /// Only a change by a person can go on.
    Stalled,
    /// The spec as a whole can be carried out.
    SpecValid,
    /// Every Secret and ConfigMap that the spec names was read.
    CredentialsResolved,
    /// PostgreSQL answers and is fit for logical replication.
    SourceReady,
    /// The Debezium connector and its task run.
    ConnectorRunning,
    /// Each state table exists with the layout that the source asks for.
    TablesInSync,
    /// Each view exists, answers and is refreshed.
    ViewsInSync,
    /// The sink's replicas are available.
    SinkAvailable,
    /// Each dashboard is in Grafana as it should be, and each of its panels has answered.
    DashboardsInSync,
    /// Rows and what views show are younger than their objectives; not part of `Ready`.
    Fresh,
}

impl ConditionType {
    /// All types in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::SpecValid,
        Self::CredentialsResolved,
        Self::SourceReady,
        Self::ConnectorRunning,
        Self::TablesInSync,
        Self::ViewsInSync,
        Self::SinkAvailable,
        Self::DashboardsInSync,
        Self::Fresh,
    ];

    /// The conditions that `Ready` is made of.
    pub const REQUIRED: [Self; 8] = [
        Self::SpecValid,
        Self::CredentialsResolved,
        Self::SourceReady,
        Self::ConnectorRunning,
        Self::TablesInSync,
        Self::ViewsInSync,
        Self::SinkAvailable,
        Self::DashboardsInSync,
    ];

    /// Text of the condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::SpecValid => "SpecValid",
            Self::CredentialsResolved => "CredentialsResolved",
            Self::SourceReady => "SourceReady",
            Self::ConnectorRunning => "ConnectorRunning",
            Self::TablesInSync => "TablesInSync",
            Self::ViewsInSync => "ViewsInSync",
            Self::SinkAvailable => "SinkAvailable",
            Self::DashboardsInSync => "DashboardsInSync",
            Self::Fresh => "Fresh",
        }
    }
}

/// Why a condition has its status: a closed set, one word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// As it should be.
    AsDesired,
    /// Not known yet.
    NotObserved,
    /// Work is under way.
    InProgress,
    /// Waits for another condition.
    Waiting,
    /// The part is switched off or left out.
    NotConfigured,
    /// `spec.suspend` is set.
    Suspended,
    /// The resource is being deleted.
    Deleting,
    /// The spec contradicts itself or the source.
    InvalidSpec,
    /// A Secret, ConfigMap or key does not exist.
    CredentialsMissing,
    /// The remote system refused the credentials.
    AuthenticationFailed,
    /// The credentials lack a right.
    PermissionDenied,
    /// The remote system cannot be reached.
    Unreachable,
    /// The remote system answered with an error.
    RemoteError,
    /// The source database lacks a setting, a table, a key or a right.
    SourceNotReady,
    /// A table does not exist at the source.
    TableNotFound,
    /// A table has no primary key.
    NoPrimaryKey,
    /// A partition expression could split the versions of a key.
    UnsafePartitionBy,
    /// A type changed in a way that ClickHouse cannot follow.
    TypeConflict,
    /// The replication slot is lost or invalidated.
    SlotLost,
    /// The replication slot holds back too much write-ahead log.
    WalRetentionHigh,
    /// The connector or its task failed.
    ConnectorFailed,
    /// The connector failed lately and has not run for long enough since.
    ConnectorUnstable,
    /// The connector reads the source's log late.
    ConnectorBehind,
    /// A row is larger than a record may be.
    RecordTooLarge,
    /// The connector is paused or stopped by the spec.
    ConnectorPaused,
    /// An object of that name exists and is not ours.
    Conflict,
    /// Tables are being read at the source.
    Reading,
    /// The read of a table fails and is tried again.
    ReadFailed,
    /// Records of a table wait for the layout that they need.
    TableHeld,
    /// ClickHouse refuses the rows of a table; they are tried again.
    InsertFailing,
    /// Nothing of a table is applied until a person mends the cause.
    TableStopped,
    /// A view's SQL was refused by ClickHouse.
    InvalidView,
    /// A view's columns or a source column that it needs do not exist.
    MissingColumns,
    /// A refresh failed.
    RefreshFailed,
    /// Records of a table went to the dead letters.
    DeadLetters,
    /// A table stopped because too many of its records cannot be applied.
    TooManyDeadLetters,
    /// A dashboard breaks a rule of the lint or is no classic model.
    InvalidDashboard,
    /// A panel's query was refused by ClickHouse.
    PanelFailed,
    /// Grafana's data source does not work.
    DataSourceFailed,
    /// The reader's account may do more or less than dashboards need.
    ReaderNotReady,
    /// Something differs from what the spec asks for, and is left: a change by hand in Grafana that `driftPolicy` keeps, a field
    /// that another writes anew each time, a topic that is not the pipeline's.
    Drifted,
    /// Objects of ours are where the spec no longer points, and cannot be removed.
    LeftBehind,
    /// Kubernetes has given up replacing the sink's pods.
    RolloutFailed,
    /// Replicas are missing.
    ReplicasUnavailable,
    /// Rows are older than the objective.
    Stale,
    /// A view shows older data than the objective.
    ViewsStale,
    /// The same plan came back without effect.
    NoProgress,
    /// The remote system is another one than before.
    IdentityChanged,
}

impl Reason {
    /// Text of the condition's `reason`: the variant's name.
    pub fn as_str(self) -> String {
        format!("{self:?}")
    }

    /// Whether it is about the data that passes, and not about what the spec asks for.
    pub fn is_of_data(self) -> bool {
        matches!(
            self,
            Self::WalRetentionHigh
                | Self::ConnectorFailed
                | Self::ConnectorUnstable
                | Self::RecordTooLarge
                | Self::Reading
                | Self::ReadFailed
                | Self::TableHeld
                | Self::InsertFailing
                | Self::TableStopped
                | Self::RefreshFailed
                | Self::DeadLetters
                | Self::TooManyDeadLetters
        )
    }

    /// Reads such a text.
    pub fn parse(text: &str) -> Option<Self> {
        let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
        Self::deserialize(text).ok()
    }
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Status {
    /// Text of the condition's `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as the operator judges it, before the clock is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Which condition.
    pub r#type: ConditionType,
    /// Its status.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// For people: what is wrong and what to do; empty only for `AsDesired`.
    pub message: String,
}

/// Merges judgements into the conditions that the resource has: `lastTransitionTime` moves only when a status
/// flips, and conditions come out in the order of [`ConditionType::ALL`].
pub fn merge(old: &[Condition], new: &[Judgement], generation: i64, now: &Time) -> Vec<Condition> {
    ConditionType::ALL
        .iter()
        .filter_map(|kind| new.iter().find(|judgement| judgement.r#type == *kind))
        .map(|judgement| {
            let before = old.iter().find(|c| c.type_ == judgement.r#type.as_str());
            let since = match before {
                Some(c) if c.status == judgement.status.as_str() => c.last_transition_time.clone(),
                _ => now.clone(),
            };
            Condition {
                type_: judgement.r#type.as_str().to_owned(),
                status: judgement.status.as_str().to_owned(),
                reason: judgement.reason.as_str(),
                message: judgement.message.clone(),
                observed_generation: Some(generation),
                last_transition_time: since,
            }
        })
        .collect()
}
