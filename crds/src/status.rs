//! Status of an `AnalyticsPipeline`: states and buckets, no numbers that move. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw last. Numbers that move live in metrics and in `data_freshness`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsPipelineStatus {
    /// Generation of the spec that was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Newest generation of the spec of which everything was seen to be as it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,
    /// Conditions, all of them from the first look on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Greatest epoch that the ledger had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i32>,
    /// Tables streaming of tables in all, such as `4/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Age of the oldest table's data: `<1s`, `<10s`, `<1m`, `>1m` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<String>,
    /// How much write-ahead log the replication slot holds back at the source, where that is too much: `>1Gi`, `>10Gi`,
    /// `>100Gi`, `>50%` of `max_slot_wal_keep_size`, or `Unreserved`: more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<String>,
    /// Tables and what is wrong with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<TablesStatus>,
    /// Answered action annotations: action to token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handled_requests: BTreeMap<String, String>,
    /// What each system was told by when it was seen last: `clickhouse` (id of the database, or of a server without
    /// one), `postgres` (system identifier and oid of the database), `kafka` (id of the cluster), `connect` (address).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<String, String>,
    /// What the deletion waits for, while there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["system"]))]
    pub deletion: Vec<DeletionWait>,
    /// Grafanas that a spec of this resource named and that still have something of it. The ledger says where they are;
    /// that a Secret may be used for an address is said here alone, by whoever may write this resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub grafanas: Vec<GrafanaPlace>,
    /// Sink replicas that exist; for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the sink's pods; for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// A system that a deletion is not done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletionWait {
    /// `postgres`, `kafka`, `connect`, `clickhouse`, `kubernetes`, `grafana`, or `former-grafana`: one that the spec named
    /// before.
    pub system: String,
    /// What is to be removed there next, or that it gives no answer.
    pub waits_for: String,
    /// Since when that has been the same; after `spec.deletionPolicy.timeout` it is left behind.
    pub since: Time,
}

/// A Grafana and the login that a spec named for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaPlace {
    /// Address.
    pub url: String,
    /// Organization, names of the Secret and of its keys, and the certificate authority, as JSON; never their values.
    pub login: String,
}

/// Counts of tables, and those that are not as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TablesStatus {
    /// Tables of the spec.
    pub total: i32,
    /// Tables that were read and whose changes every living sink applies.
    pub streaming: i32,
    /// How far each table is compared with its source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub verified: Vec<VerifiedTable>,
    /// Tables that are not as they should be, the worst first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<DegradedTable>,
}

/// How far a table is compared with its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedTable {
    /// Its name in the spec.
    pub name: String,
    /// Share of its rows that the round under way, or the last one, has compared, in tenths: `0.0` to `1.0`.
    pub coverage: String,
    /// When the last full round began: every row is as it was at the source then or later. Absent: there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    /// Rows found different since the table is compared.
    pub differences: i64,
    /// Those of them that were repaired.
    pub repaired: i64,
}

/// A table (or view) that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DegradedTable {
    /// Its name in the spec.
    pub name: String,
    /// `Pending`, `Reading`, `Held`, `Retrying`, `Stopped`, `Degraded` or `Refused`.
    pub state: String,
    /// Why, from the closed set of reasons.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}
