//! Condition types and reasons of a pipeline: closed sets, time-insensitive comparison. Pure.

use std::fmt::Write as _;

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
    /// Every table was compared with its source lately, and is equal; not part of `Ready`.
    Verified,
}

impl ConditionType {
    /// All types in the order in which they are shown.
    pub const ALL: [Self; 13] = [
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
        Self::Verified,
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

    /// What `True` means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "all of the required conditions below are `True`",
            Self::Reconciling => "work is under way",
            Self::Stalled => "only a change by a person can go on",
            Self::SpecValid => "the spec as a whole can be carried out",
            Self::CredentialsResolved => "every Secret and ConfigMap that the spec names was read",
            Self::SourceReady => {
                "PostgreSQL answers, is fit for logical replication, and its disk is not filling up for us"
            }
            Self::ConnectorRunning => "the Debezium connector and its task run",
            Self::TablesInSync => {
                "each state table exists with the layout that the source asks for, and is filled"
            }
            Self::ViewsInSync => "each view exists, answers and is refreshed",
            Self::SinkAvailable => "the sink's replicas are available and of the newest template",
            Self::DashboardsInSync => {
                "each dashboard is in Grafana as it should be, and each of its panels has answered"
            }
            Self::Fresh => "rows and what views show are younger than their objectives",
            Self::Verified => {
                "every table was compared with its source lately, and what differed is repaired"
            }
        }
    }

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
            Self::Verified => "Verified",
        }
    }
}

/// Defines the reasons, each with its meaning, which is its documentation, and what to do next.
macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident => $next:literal,)+) => {
        /// Why a condition has its status: a closed set, one word each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it means, one sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+).trim_ascii_start(),)+
                }
            }

            /// What to do next, for people.
            pub fn next(self) -> &'static str {
                match self {
                    $(Self::$name => $next,)+
                }
            }
        }
    };
}

reasons! {
    /// As it should be.
    AsDesired => "nothing",
    /// Not known yet.
    NotObserved => "wait for the next look; where it lasts, see the other conditions and the log of whoever should speak",
    /// Work is under way.
    InProgress => "nothing: the message says what comes next",
    /// Waits for another condition.
    Waiting => "nothing here: the message names what it waits for",
    /// The part is switched off or left out.
    NotConfigured => "nothing, unless the part is wanted: the message names the field",
    /// `spec.suspend` is set.
    Suspended => "set `spec.suspend` to false to have changes carried out again",
    /// The resource is being deleted.
    Deleting => "nothing: `status.deletion` says what is left and since when",
    /// The spec contradicts itself or the source.
    InvalidSpec => "correct the field that the message names; the last valid spec goes on meanwhile",
    /// A Secret, ConfigMap or key does not exist.
    CredentialsMissing => "create the object or key that the message names",
    /// The remote system refused the credentials.
    AuthenticationFailed => "put the right user and password into the Secret; it is tried again when the Secret changes",
    /// The credentials lack a right.
    PermissionDenied => "grant the account the right that the message names",
    /// The remote system cannot be reached.
    Unreachable => "check the address in the spec, the network and that the system is up; it is tried again",
    /// The remote system answered with an error.
    RemoteError => "read the message of the system; it is tried again",
    /// The source database lacks a setting, a table, a key or a right.
    SourceNotReady => "run the statement that the message has, as the owner of the tables or an administrator",
    /// A table does not exist at the source.
    TableNotFound => "create the table, or take it out of `spec.tables`",
    /// A table has no primary key.
    NoPrimaryKey => "give the table a key: the message has the statement",
    /// A partition expression could split the versions of a key.
    UnsafePartitionBy => "choose a `partitionBy` over the columns of the key alone, or none",
    /// A type changed in a way that ClickHouse cannot follow.
    TypeConflict => "change the type back, or choose another `target`, which is read anew",
    /// The replication slot is lost or invalidated.
    SlotLost => "annotate with `tidemark.dev/resnapshot`, or set `spec.source.onSlotLost` to `Resnapshot`: all tables are read again",
    /// The replication slot holds back too much write-ahead log.
    WalRetentionHigh => "let the connector run, or end what holds it back, before the disk of the source is full",
    /// The connector or its task failed.
    ConnectorFailed => "mend the cause that the message has; it is restarted with growing pauses",
    /// The connector failed lately and has not run for long enough since.
    ConnectorUnstable => "see the events of the resource for why it fails",
    /// The connector reads the source's log late.
    ConnectorBehind => "see the load of Kafka Connect, Kafka and the source",
    /// A row is larger than a record may be.
    RecordTooLarge => "raise `spec.kafka.maxMessageBytes`, or leave the large column out",
    /// The connector is paused or stopped by the spec.
    ConnectorPaused => "set `spec.source.connect.state` to `Running` when it shall go on",
    /// An object of that name exists and is not ours.
    Conflict => "rename or remove the object, or choose another name: it is never overwritten",
    /// Tables are being read at the source.
    Reading => "nothing: `tidemark status NAME` shows how far it is",
    /// The read of a table fails and is tried again.
    ReadFailed => "mend the cause that the message has; it is tried again",
    /// Records of a table wait for the layout that they need.
    TableHeld => "nothing, unless it lasts: then the operator cannot see the catalogue of the source",
    /// ClickHouse refuses the rows of a table; they are tried again.
    InsertFailing => "mend what ClickHouse says; nothing is lost meanwhile",
    /// Nothing of a table is applied until a person mends the cause.
    TableStopped => "mend the cause that the message has",
    /// A view's SQL was refused by ClickHouse.
    InvalidView => "correct the view's SQL",
    /// A view's columns or a source column that it needs do not exist.
    MissingColumns => "add the table or column that the message names, or map one onto it",
    /// A refresh failed.
    RefreshFailed => "mend what ClickHouse says; readers see the rows of the last refresh",
    /// Records of a table went to the dead letters.
    DeadLetters => "`tidemark-sink dead-letters list` says why; then replay, skip, or have the table read again",
    /// A table stopped because too many of its records cannot be applied.
    TooManyDeadLetters => "mend the cause, then replay or skip them",
    /// A dashboard breaks a rule of the lint or is no classic model.
    InvalidDashboard => "correct the dashboard as the message says",
    /// A panel's query was refused by ClickHouse.
    PanelFailed => "correct the panel or the view that it reads",
    /// Grafana's data source does not work.
    DataSourceFailed => "check address and account of the data source from where Grafana runs",
    /// The reader's account may do more or less than dashboards need.
    ReaderNotReady => "give the reader's account the rights that the message names, and no others",
    /// Something differs from what the spec asks for, and is left: a change by hand in Grafana that `driftPolicy` keeps, a field
    /// that another writes anew each time, a topic that is not the pipeline's.
    Drifted => "nothing, or end the difference: the message names it",
    /// Objects of ours are where the spec no longer points, and cannot be removed.
    LeftBehind => "remove what the message names, or give the login back for a while",
    /// Kubernetes has given up replacing the sink's pods.
    RolloutFailed => "see the pods: their image, Secrets, quota and resources",
    /// Replicas are missing.
    ReplicasUnavailable => "see the pods of the Deployment",
    /// Rows are older than the objective.
    Stale => "see the other conditions; `tidemark doctor NAME` finds the hop",
    /// A view shows older data than the objective.
    ViewsStale => "see `system.view_refreshes`; a refresh that takes longer than its interval needs a longer one",
    /// Rows differ from their source, and could not be repaired.
    Differs => "see `_tidemark_differences` and the sink's log; have the table read again by `tidemark.dev/resnapshot`",
    /// Tables are left out, for they are refused.
    LeftOut => "see `status.tables.degraded` for why",
    /// A table was not compared with its source for too long.
    Unverified => "see `tidemark status NAME` for how far it is, and the sink's log; a large table needs a greater \
                   `spec.verification.rowsPerSecond`",
    /// The same plan came back without effect.
    NoProgress => "see the operator's log: a write succeeds and changes nothing",
    /// The remote system is another one than before.
    IdentityChanged => "set the address back, or annotate with the `tidemark.dev/accept` that the message has",
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

/// The conditions and reasons as a page of the documentation.
pub fn document() -> String {
    // Writing to a String does not fail.
    let mut text = "# Conditions\n\n<!-- Generated from crds/src/conditions.rs by `cargo run -p tidemark-crds --bin \
                    crdgen`: do not edit. -->\n\nWhat `kubectl describe analyticspipeline NAME` and `tidemark status \
                    NAME` show. A message names the object, what is wrong, and what to do; the tables have the rest.\n\n\
                    | Condition | `True` means | Part of `Ready` |\n|---|---|---|\n"
        .to_owned();
    for condition in ConditionType::ALL {
        let part = if ConditionType::REQUIRED.contains(&condition) { "yes" } else { "" };
        let _ = writeln!(text, "| `{}` | {} | {part} |", condition.as_str(), condition.meaning());
    }
    text.push_str("\n| Reason | What it means | What to do next |\n|---|---|---|\n");
    for reason in Reason::ALL {
        let _ = writeln!(text, "| `{}` | {} | {} |", reason.as_str(), reason.meaning(), reason.next());
    }
    text
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
