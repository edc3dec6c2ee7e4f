//! The bookkeeping tables that live beside the state tables: names, DDL-independent row shapes. Pure.
//!
//! The ledger is the memory that survives a lost status, a restored cluster and a re-applied resource.

use serde::{Deserialize, Serialize};

use crate::pipeline::{GrafanaCredentials, GrafanaTls};

/// Ledger table: one row a `(pipeline, kind, key)`, the greatest `version` wins.
///
/// Columns: `pipeline String, kind LowCardinality(String), key String, version UInt64, value String,
/// written_at DateTime64(3, 'UTC')`; `ReplacingMergeTree(version) ORDER BY (pipeline, kind, key)`.
/// `value` is JSON, see [`Kind`].
pub const LEDGER_TABLE: &str = "_tidemark_ledger";

/// Fence table: rows of a state table older than its greatest fence are hidden.
///
/// Columns: `table String` (the target), `version UInt128`, `reason LowCardinality(String)`,
/// `raised_at DateTime64(3, 'UTC')`; `ReplacingMergeTree(version) ORDER BY table`.
pub const FENCES_TABLE: &str = "_tidemark_fences";

/// Progress table, written once a second by each sink replica, one row a partition.
///
/// Columns: `pipeline String, table String, partition Int32, replica String, rows UInt64, dead_letters UInt64,
/// next_offset Int64` (the offset up to which everything is applied, exclusive)`, applied_lsn UInt64,
/// last_change_at Nullable(DateTime64(3, 'UTC')), fresh_to DateTime64(3, 'UTC'),
/// applied_at DateTime64(3, 'UTC')`; `ReplacingMergeTree(applied_at) ORDER BY (pipeline, table, partition)`.
pub const PROGRESS_TABLE: &str = "_tidemark_progress";

/// Demand table: a field that the sink met and its layout does not know; the operator answers with a layout.
///
/// Columns: `pipeline String, table String, field String, layout_version UInt64,
/// seen_at DateTime64(3, 'UTC')`; `ReplacingMergeTree(seen_at) ORDER BY (pipeline, table, field)`.
pub const DEMANDS_TABLE: &str = "_tidemark_demands";

/// Connector table: one row a change of the connector's state, as the operator saw it, for 90 days.
///
/// Columns: `pipeline String, state LowCardinality(String), tasks UInt32, failed_tasks UInt32, restarts UInt32,
/// error String, seen_at DateTime64(3, 'UTC')`; `ReplacingMergeTree ORDER BY (pipeline, seen_at)`. See [`ConnectorRecord`].
pub const CONNECTOR_TABLE: &str = "_tidemark_connector";

/// How the connector was; one row of [`CONNECTOR_TABLE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorRecord {
    /// A state of Kafka Connect (`FAILED` where a task has it), or `MISSING`, or `UNREACHABLE` for Connect itself.
    pub state: String,
    /// Tasks.
    pub tasks: u32,
    /// Tasks that failed.
    pub failed_tasks: u32,
    /// How often it ran again after a failure, since the history began.
    pub restarts: u32,
    /// Why a task failed, or Connect gives no answer.
    pub error: String,
}

/// Kafka header with which the connector marks each record's epoch, decimal text.
pub const EPOCH_HEADER: &str = "tidemark.epoch";

/// What a ledger row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Random id made with the state tables, part of the consumer group's id; key empty, value a JSON string.
    Incarnation,
    /// Current epoch; key empty, value a JSON number.
    Epoch,
    /// Layout of a state table; key the target, value a [`TableLayout`](crate::layout::TableLayout),
    /// version that of the layout.
    Layout,
    /// Snapshot of a table that is fenced or being fenced; key the target, value a [`SnapshotRecord`].
    Snapshot,
    /// Identity of a remote system that must not change under us; key `postgres`, `kafka` or `clickhouse`.
    Identity,
    /// Intent written before something that cannot be seen afterwards; key the intent's name.
    Intent,
    /// Answered request of an annotation; key the action, value the token.
    Request,
    /// A Grafana that has objects of the pipeline; key a hash of its address, value a [`GrafanaRecord`].
    Grafana,
}

impl Kind {
    /// Text stored in the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incarnation => "incarnation",
            Self::Epoch => "epoch",
            Self::Layout => "layout",
            Self::Snapshot => "snapshot",
            Self::Identity => "identity",
            Self::Intent => "intent",
            Self::Request => "request",
            Self::Grafana => "grafana",
        }
    }
}

/// Where a pipeline's dashboards are, and the login that can remove them; `value` of a [`Kind::Grafana`] row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaRecord {
    /// Address.
    pub url: String,
    /// Organization of user and password; a token belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// Secret with the login; never its values.
    pub credentials: GrafanaCredentials,
    /// TLS for an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GrafanaTls>,
    /// Title that the pipeline gave its folder last.
    pub folder: String,
}

/// How far the snapshot of one table has come; `value` of a [`Kind::Snapshot`] row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRecord {
    /// Epoch that the snapshot belongs to.
    pub epoch: u16,
    /// Stage of the snapshot.
    pub state: SnapshotState,
    /// End offset of each partition taken after the snapshot's end, by partition number.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub end_offsets: std::collections::BTreeMap<i32, i64>,
    /// Fence that the end of the snapshot raised, decimal text of a `UInt128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,
    /// Id of the signal that asked for an incremental snapshot; absent: part of the initial snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// Stage of a table's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotState {
    /// Asked for and not yet seen to be complete.
    Requested,
    /// Complete at the source; its end offsets are being applied.
    Applying,
    /// Applied and fenced.
    Done,
}
