//! `spec.sink`: the workers between Kafka and ClickHouse. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// The workers between Kafka and ClickHouse.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sink {
    /// Worker pods; leave it out of Git under an autoscaler.
    #[serde(default = "sink_replicas")]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: i32,
    /// Requests and limits of a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::resources")]
    pub resources: Option<core::ResourceRequirements>,
    /// When a batch is sent.
    #[serde(default)]
    pub batch: Batch,
    /// Where records go that cannot be applied.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// Further properties of the worker pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

fn sink_replicas() -> i32 {
    1
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            replicas: sink_replicas(),
            resources: None,
            batch: Batch::default(),
            dead_letter: DeadLetter::default(),
            pod: None,
        }
    }
}

/// When a batch is sent.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Rows at which a batch is sealed.
    #[serde(default = "max_rows")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_rows: i64,
    /// Bytes at which a batch is sealed, a quantity such as `64Mi`.
    #[serde(default = "max_bytes")]
    #[schemars(schema_with = "bounds::size")]
    pub max_bytes: String,
    /// Age at which a batch is sent, a duration such as `300ms`.
    #[serde(default = "max_age")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('10m')")
        .message("sink.batch.maxAge must be between 10ms and 10m"))]
    pub max_age: String,
    /// Inserts a second of all replicas together; wins over `maxAge`.
    #[serde(default = "inserts_per_second")]
    #[schemars(range(min = 1, max = 1000))]
    pub inserts_per_second: i32,
}

fn max_rows() -> i64 {
    1_000_000
}

fn max_bytes() -> String {
    "64Mi".into()
}

fn max_age() -> String {
    "300ms".into()
}

fn inserts_per_second() -> i32 {
    25
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_rows: max_rows(),
            max_bytes: max_bytes(),
            max_age: max_age(),
            inserts_per_second: inserts_per_second(),
        }
    }
}

/// Where records go that cannot be applied.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Kafka topic; absent: `TOPICPREFIX.dead-letter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::topic")]
    pub topic: Option<String>,
    /// Share of a table's records above which the table stops, such as `1%`.
    #[serde(default = "max_share")]
    #[schemars(schema_with = "bounds::share")]
    pub max_share: String,
}

fn max_share() -> String {
    "1%".into()
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self { topic: None, max_share: max_share() }
    }
}

/// Further properties of the worker pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Node selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::tolerations")]
    pub tolerations: Vec<core::Toleration>,
    /// Priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::object_name")]
    pub priority_class_name: Option<String>,
    /// Secrets for image registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::image_pull_secrets")]
    pub image_pull_secrets: Vec<core::LocalObjectReference>,
    /// User and groups that the pods run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodUser>,
}

/// User and groups of the worker pods. What is absent is the image's user, or the one that the cluster assigns, as OpenShift
/// does. Never root.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUser {
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_group: Option<i64>,
    /// Further group, which files of volumes belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub fs_group: Option<i64>,
}
