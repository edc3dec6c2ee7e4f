//! `spec.freshness`, `spec.verification` and `spec.deletionPolicy`: objectives, proof, and what stays. Pure.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// How young data has to be.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// Commit at the source to row in ClickHouse.
    #[serde(default = "rows_objective")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms')")
        .message("freshness.rows must be at least 100ms"))]
    pub rows: String,
    /// Commit at the source to what a view shows.
    #[serde(default = "views_objective")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')")
        .message("freshness.views must be at least 1s"))]
    pub views: String,
}

fn rows_objective() -> String {
    "5s".into()
}

fn views_objective() -> String {
    "2m".into()
}

impl Default for Freshness {
    fn default() -> Self {
        Self { rows: rows_objective(), views: views_objective() }
    }
}

/// How the rows in ClickHouse are compared with those at the source, again and again, while changes go on; what differs is
/// repaired.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("duration(self.maxAge) >= duration(self.interval)")
        .message("verification.maxAge must be at least verification.interval: a round begins no sooner"),
)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Whether tables are compared without being asked for; `tidemark verify` does it at any time.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Rows a second that each replica of the sink reads at the source for it, at most.
    #[serde(default = "rows_per_second")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rows_per_second: i32,
    /// From the beginning of a round over a table to that of its next one, at least.
    #[serde(default = "round_interval")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('720h')")
        .message("verification.interval must be between 1s and 720h"))]
    pub interval: String,
    /// Age of a table's last full round, by its beginning, from which on the condition `Verified` is false.
    #[serde(default = "round_max_age")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('8760h')")
        .message("verification.maxAge must be between 1m and 8760h"))]
    pub max_age: String,
}

fn yes() -> bool {
    true
}

fn rows_per_second() -> i32 {
    1000
}

fn round_interval() -> String {
    "1h".into()
}

fn round_max_age() -> String {
    "168h".into()
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            enabled: yes(),
            rows_per_second: rows_per_second(),
            interval: round_interval(),
            max_age: round_max_age(),
        }
    }
}

/// What happens to everything when this resource is deleted.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionPolicy {
    /// State tables and the ledger (views always go).
    #[serde(default = "retain")]
    pub clickhouse: Policy,
    /// Kafka topics.
    #[serde(default = "retain")]
    pub topics: Policy,
    /// The connector and its offsets.
    #[serde(default = "delete")]
    pub connector: Policy,
    /// The replication slot and our publication.
    #[serde(default = "delete")]
    pub replication_slot: Policy,
    /// Folder, data source, dashboards and alert rules in Grafana, also where the spec named another one before.
    #[serde(default = "delete")]
    pub grafana: Policy,
    /// How long a part that does not answer is tried before it is left behind and named.
    #[serde(default = "deletion_timeout")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("deletionPolicy.timeout must be between 1s and 168h"))]
    pub timeout: String,
}

fn retain() -> Policy {
    Policy::Retain
}

fn delete() -> Policy {
    Policy::Delete
}

fn deletion_timeout() -> String {
    "10m".into()
}

impl Default for DeletionPolicy {
    fn default() -> Self {
        Self {
            clickhouse: Policy::Retain,
            topics: Policy::Retain,
            connector: Policy::Delete,
            replication_slot: Policy::Delete,
            grafana: Policy::Delete,
            timeout: deletion_timeout(),
        }
    }
}

/// Kept or removed.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum Policy {
    /// Kept.
    Retain,
    /// Removed.
    Delete,
}
