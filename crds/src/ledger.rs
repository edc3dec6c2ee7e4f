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
/// Columns: `pipeline String, table String, partition Int32, replica String, rows UInt64, dead_letters UInt64` (that are
/// not dealt with, of epoch `dead_epoch`)`, dead_epoch UInt16, dead_lsn UInt64` (position at or behind the last one)`,
/// next_offset Int64` (the offset up to which everything is applied, exclusive)`, applied_lsn UInt64` (greatest log position
/// applied, of epoch `applied_epoch`)`, applied_epoch UInt16, last_change_at Nullable(DateTime64(3, 'UTC')), fresh_to DateTime64(3, 'UTC'), kafka_time DateTime64(3, 'UTC')`
/// (greatest time that Kafka gave a record which is applied: a record before `next_offset` with a later one is of another topic)`, applied_at DateTime64(3, 'UTC'),
/// beat UInt64` (counts up whatever the server's clock does)`; `ReplacingMergeTree(beat) ORDER BY (pipeline, table,
/// partition)`.
pub const PROGRESS_TABLE: &str = "_tidemark_progress";

/// Positions table: which offsets of a table's topic hold all commits up to a position of the source's log; two rows a
/// `(pipeline, table)`, the one that readers have and the one that is waited for, written by one sink.
///
/// Columns: `pipeline String, table String, slot UInt8, epoch UInt16, server String` (whose log it is:
/// `STARTED/TIMELINE`, the start of the server in microseconds since 1970 and the log's timeline as in the names of its
/// files)`, lsn UInt64` (0: of that server nothing is known yet)`, partitions Array(Int32), ends Array(Int64)` (of these
/// partitions, exclusive: what was committed at `lsn` or before lies below)`, seen_at DateTime64(3, 'UTC'),
/// beat UInt64` (milliseconds since 1970 at the server)`;
/// `ReplacingMergeTree(beat) ORDER BY (pipeline, table, slot)`.
pub const POSITIONS_TABLE: &str = "_tidemark_positions";

/// View over the bookkeeping: up to which position of the source's log each table shows everything; for applications.
///
/// Columns: `pipeline String, table String, lsn UInt64` (0: of nothing)`, position String` (the same as PostgreSQL
/// writes it)`, server String` (as in [`POSITIONS_TABLE`])`, problem String` (why it is 0: `reading`, `doubt`,
/// `dead-letters`, else empty)`.
pub const VISIBLE_VIEW: &str = "_tidemark_visible";

/// State table of the sinks: one row a `(pipeline, table, replica)`, see [`SinkState`]. Written when it changes, and
/// every [`STATE_SECONDS`] otherwise: one that is older than three times as much is of a replica that is gone.
///
/// Columns: `pipeline String, table String, replica String, beat UInt64` (counts up; milliseconds since 1970 at the
/// server)`, state LowCardinality(String), reason LowCardinality(String), error_class LowCardinality(String),
/// message String, since DateTime64(3, 'UTC'), layout UInt64, wants_epoch UInt16, wants_lsn UInt64, doubt String,
/// doubt_epoch UInt16, doubt_lsn UInt64, written_at DateTime64(3, 'UTC')`;
/// `ReplacingMergeTree(beat) ORDER BY (pipeline, table, replica) TTL written_at + 1 day`.
pub const STATES_TABLE: &str = "_tidemark_states";

/// Seconds after which a sink writes its states again though nothing changed.
pub const STATE_SECONDS: u64 = 5;

/// Reads table: how far the read of a table has come; one row a `(pipeline, table)`, written by the sink that reads.
///
/// Columns: `pipeline String, table String, request UInt64, epoch UInt16, state LowCardinality(String)` (`reading`,
/// `read`, `failed`)`, barrier UInt64` (position in the log of the read's barrier)`, layout UInt64, owner String,
/// rows UInt64, bytes UInt64, estimated_rows UInt64, place String, error String, started_at DateTime64(3, 'UTC'),
/// updated_at DateTime64(3, 'UTC'), beat UInt64`; `ReplacingMergeTree(beat) ORDER BY (pipeline, table)`.
pub const READS_TABLE: &str = "_tidemark_reads";

/// Verification table: how far the comparison of a table with its source has come; one row a `(pipeline, table)`,
/// written by the sink that compares.
///
/// Columns: `pipeline String, table String, owner String, request UInt64` (id of the last request that is answered)`,
/// epoch UInt16, layout UInt64, began_at DateTime64(3, 'UTC')` (beginning of the round under way, or of the last one)`,
/// verified_from Nullable(DateTime64(3, 'UTC')), verified_to Nullable(DateTime64(3, 'UTC'))` (beginning and end of the
/// last full round)`, compared UInt64` (rows compared in that round)`, coverage Float64, differences UInt64,
/// repaired UInt64` (since the table is compared)`, open UInt64` (that are not repaired)`, error String, place String`
/// (where the round goes on)`, updated_at DateTime64(3, 'UTC'), beat UInt64`;
/// `ReplacingMergeTree(beat) ORDER BY (pipeline, table)`.
pub const VERIFICATION_TABLE: &str = "_tidemark_verification";

/// Table of the differences that were found, for 90 days; keys and names of columns, never values.
///
/// Columns: `pipeline String, table String, key String` (a JSON object of PostgreSQL's text of the key's values)`,
/// kind LowCardinality(String)` (`missing`, `surplus`, `columns`, `version`)`, columns Array(String),
/// found_at DateTime64(3, 'UTC'), repaired_at Nullable(DateTime64(3, 'UTC')), beat UInt64`;
/// `ReplacingMergeTree(beat) ORDER BY (pipeline, table, key, found_at) TTL found_at + 90 days`.
pub const DIFFERENCES_TABLE: &str = "_tidemark_differences";

/// What a sink replica does with one table, and what it needs; one row of [`STATES_TABLE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// What it does.
    pub state: TableState,
    /// Why, one word; empty while it streams.
    pub reason: String,
    /// Class of the server's error, empty without one.
    pub error_class: String,
    /// For people, with what to do; empty while it streams.
    pub message: String,
    /// Newest layout that the replica knows and can use; 0: none.
    pub layout: u64,
    /// Position of an event that waits until the operator has seen the catalogue at or behind it; zeros: none. With
    /// reason [`EPOCH`] the epoch of the record, and 0.
    pub wants: (u16, u64),
    /// Why the table has to be read again; empty: it has not.
    pub doubt: String,
    /// Position up to which the doubt reaches: a read with a later barrier ends it.
    pub doubt_at: (u16, u64),
}

/// What a sink does with a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableState {
    /// Changes are applied as they come.
    #[default]
    Streaming,
    /// Records are kept back until the layout that they need is known.
    Held,
    /// An insert failed and is tried again.
    Retrying,
    /// Nothing is applied until a person mends the cause.
    Stopped,
}

impl TableState {
    /// Text of the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Held => "held",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
        }
    }
}

/// Connector table: one row a change of the connector's state, as the operator saw it, for 90 days.
///
/// Columns: `pipeline String, state LowCardinality(String), tasks UInt32, failed_tasks UInt32, restarts UInt32,
/// error String, lag LowCardinality(String), fresh_to Nullable(DateTime64(3, 'UTC'))` (up to which instant of the source
/// it had read; absent while `lag` is empty)`, wal LowCardinality(String), seen_at DateTime64(3, 'UTC')`; `ReplacingMergeTree ORDER BY (pipeline, seen_at)`. See [`ConnectorRecord`].
pub const CONNECTOR_TABLE: &str = "_tidemark_connector";

/// Column of [`CONNECTOR_TABLE`] that tables of older versions lack.
pub const WAL_COLUMN: &str = "wal";

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
    /// How far it is behind the source, at least: empty (it is not), `>30s`, `>1m` or `>10m`.
    #[serde(default)]
    pub lag: String,
    /// How much write-ahead log the replication slot holds back, where that is too much: empty (it is not), `>1Gi`, `>10Gi`,
    /// `>100Gi`, `>50%` of the server's limit, or `Unreserved`: more than the limit.
    #[serde(default)]
    pub wal: String,
}

/// [`SinkState::reason`] of a table that too many dead letters stopped.
pub const DEAD_LETTERS: &str = "dead-letters";

/// [`SinkState::reason`] of a table whose record is of an epoch that the ledger has not: it is held until the ledger was
/// asked, and stopped then. [`SinkState::wants`] has the epoch.
pub const EPOCH: &str = "epoch";

/// Kafka header with which the connector marks each record's epoch, decimal text.
pub const EPOCH_HEADER: &str = "tidemark.epoch";

/// Reads the value of [`EPOCH_HEADER`].
pub fn epoch_of(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// What a ledger row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Random id made with the state tables, part of the consumer group's id; key empty, value a JSON string.
    Incarnation,
    /// Current epoch; key empty, value a JSON number.
    Epoch,
    /// One entry of the history of a state table's layouts; key [`layout_key`], value a
    /// [`TableLayout`](crate::layout::TableLayout).
    Layout,
    /// How a table's rows lay in the source's files when that last changed without a change of the layout; key the
    /// target, value a [`SeenStorage`].
    Storage,
    /// Up to where the catalogue was seen to be that of a table's newest layout, written where a sink waits for it;
    /// key the target, value a [`Confirmed`].
    Confirmed,
    /// Read of a table that was asked for; key the target, value a [`ReadRequest`]. The row's version is the request's
    /// id.
    Read,
    /// Verification of a table that was asked for; key the target, value a [`VerifyRequest`]. The row's version is the
    /// request's id.
    Verify,
    /// Below which version every change of a table was applied, so that tombstones of before it may be gone; key the target,
    /// value a JSON string of the decimal number. Written by a sink; it only rises.
    Horizon,
    /// Identity of a remote system that must not change under us; key `postgres`, `kafka` or `clickhouse`.
    Identity,
    /// Intent written before something that cannot be seen afterwards; key the intent's name.
    Intent,
    /// Publication by which the log is decoded; key empty, value a [`SeenPublication`].
    Publication,
    /// A topic that the pipeline is going to make: written before it is made, and only where there is none of that name;
    /// key its name, value true. With an empty key the names of those that were seen as they were made, a JSON array: these
    /// are the pipeline's. A note of one that somebody else made meanwhile is withdrawn.
    Topic,
    /// Answered request of an annotation; key the action, value the token.
    Request,
    /// A Grafana that has objects of the pipeline; key a hash of its address, value a [`GrafanaRecord`].
    Grafana,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 14] = [
        Self::Incarnation,
        Self::Epoch,
        Self::Layout,
        Self::Storage,
        Self::Confirmed,
        Self::Read,
        Self::Verify,
        Self::Horizon,
        Self::Identity,
        Self::Intent,
        Self::Publication,
        Self::Topic,
        Self::Request,
        Self::Grafana,
    ];

    /// Text stored in the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incarnation => "incarnation",
            Self::Epoch => "epoch",
            Self::Layout => "layout",
            Self::Storage => "storage",
            Self::Confirmed => "confirmed",
            Self::Read => "read",
            Self::Verify => "verify",
            Self::Horizon => "horizon",
            Self::Identity => "identity",
            Self::Intent => "intent",
            Self::Publication => "publication",
            Self::Topic => "topic",
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

/// Key of a layout's row: `TARGET@VERSION`, the version padded so that keys sort as versions do.
pub fn layout_key(target: &str, version: u64) -> String {
    format!("{target}@{version:010}")
}

/// Up to where a table's newest layout is known to hold; `value` of a [`Kind::Confirmed`] row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmed {
    /// Version of the layout.
    pub layout: u64,
    /// Epoch of the position.
    pub epoch: u16,
    /// Position of the log at which the catalogue was read.
    pub lsn: u64,
}

/// A publication and when it was seen first; `value` of a [`Kind::Publication`] row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPublication {
    /// `pg_publication.oid`: one that was dropped and made anew has another.
    pub oid: u32,
    /// Position of the log at which it was there.
    pub by: u64,
    /// Whether another had its name before.
    pub anew: bool,
}

/// What [`Kind::Storage`] remembers: the next look compares with it, not with what the layout saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenStorage {
    /// Version of the layout that was the newest; void under another one.
    pub layout: u64,
    /// What was seen.
    pub storage: crate::layout::Storage,
}

/// A table that is to be read at the source; `value` of a [`Kind::Read`] row.
///
/// The sinks answer in [`READS_TABLE`]. Rows are read behind a barrier, a logical message whose position `W` is their
/// version, `(epoch, stream, W, 0)`, and at the end the table's fence rises to it: what is older is hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadRequest {
    /// Epoch of the rows; a request of another epoch than the ledger's is void.
    pub epoch: u16,
    /// Layout that the reader has to know at least.
    pub layout: u64,
    /// Why, for people: `first load`, `the table was rewritten`, …
    pub reason: String,
    /// Token of the annotation that asked for it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Identity of the state table that is filled, `system.tables.uuid`: another one is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_table: Option<String>,
    /// Where the rows are, [`source_place`]: a sink that has another configuration, or not yet this one, leaves the
    /// request alone, since it would read another server's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A table that is to be compared with its source now; `value` of a [`Kind::Verify`] row. The sink answers in
/// [`VERIFICATION_TABLE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyRequest {
    /// When it was asked for, for people.
    pub asked_at: String,
}

/// A database of a PostgreSQL server as `host:port/database`.
pub fn source_place(host: &str, port: u16, database: &str) -> String {
    format!("{host}:{port}/{database}")
}
