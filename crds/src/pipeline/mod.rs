//! The `AnalyticsPipeline` resource: spec, defaults, printer columns and CEL rules. Pure.
//!
//! Rules of the API: every list is a map list keyed by `name` (or a set) and bounded, every string and map is
//! bounded, defaults are written out, no `nullable`, no union of string and object: one field an alternative
//! and a rule "exactly one of". Each rule has an accepted and a refused object in `tests/data/rules.yaml`.
#![allow(unreachable_pub, reason = "the derive of KubeSchema repeats each struct inside a private scope")]
#![allow(clippy::duplicated_attributes, reason = "each printer column repeats the type \"string\"")]

mod bounds;
mod clickhouse;
mod grafana;
mod kafka;
mod policy;
mod reads;
mod sink;
mod source;
mod table;
mod views;

pub use clickhouse::{Cleanup, ClickHouse, ClickHouseTls};
pub use grafana::{
    AdoptionPolicy, Alerts, DashboardPreset, Dashboards, DriftPolicy, ExtraDashboard, Grafana,
    GrafanaCredentials, GrafanaMode, GrafanaTls, JsonSource, Sidecar,
};
pub use kafka::{ClientCertificate, Kafka, KafkaSasl, KafkaTls, SaslCredentials, SaslMechanism, Topics};
pub use policy::{DeletionPolicy, Freshness, Policy, Verification};
pub use reads::Reads;
pub use sink::{Batch, DeadLetter, Pod, PodUser, Sink};
pub use source::{
    CertificateCheck, Connect, ConnectTls, ConnectorState, DatabaseCredentials, DatabaseCredentialsType,
    OnSlotLost, Postgres, PostgresTls, Source, TlsMode,
};
pub use table::{Column, Table};
pub use views::{
    Ecommerce, ExtraView, Materialization, MaterializationType, Preset, SqlSource, ViewerLogins, Views,
};

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::status::AnalyticsPipelineStatus;

/// Takes a live PostgreSQL database through Debezium and Kafka into ClickHouse tables and views.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "AnalyticsPipeline",
    plural = "analyticspipelines",
    shortname = "ap",
    category = "analytics",
    namespaced,
    status = "AnalyticsPipelineStatus",
    derive = "PartialEq",
    doc = "Takes a live PostgreSQL database through Debezium and Kafka into ClickHouse tables and views.",
    scale(
        spec_replicas_path = ".spec.sink.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Tables", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Freshness", type_ = "string", json_path = ".status.freshness"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must have at most 40 characters, start with a letter and hold only lower-case letters, digits and dashes")
)]
#[x_kube(
    validation = Rule::new("self.views.preset == 'Ecommerce' || (has(self.tables) && size(self.tables) > 0)")
        .message("name at least one table under spec.tables, or choose a preset that brings its own"),
)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsPipelineSpec {
    /// The database that changes are captured from.
    pub source: Source,
    /// The Kafka cluster that the changes travel through.
    pub kafka: Kafka,
    /// Tables to capture. A preset brings its own (schema `public`) where none here has that target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(
            "[self.map(t, has(t.target) ? t.target : t.name.split('.')[1])]\
             .all(targets, targets.all(a, targets.exists_one(b, a == b)))"
        ).message("two tables have the same target: give one of them another target"),
    )]
    #[schemars(length(max = 256))]
    pub tables: Vec<Table>,
    /// The ClickHouse server that tables and views live in.
    pub clickhouse: ClickHouse,
    /// The workers between Kafka and ClickHouse.
    #[serde(default)]
    pub sink: Sink,
    /// Views over the state tables.
    #[serde(default)]
    pub views: Views,
    /// Dashboards in Grafana; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grafana: Option<Grafana>,
    /// How young data has to be.
    #[serde(default)]
    pub freshness: Freshness,
    /// How rows are compared with their source while changes go on.
    #[serde(default)]
    pub verification: Verification,
    /// What happens to everything when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Halts reconciling; data goes on.
    #[serde(default)]
    pub suspend: bool,
}

impl AnalyticsPipelineSpec {
    /// Every table to capture: those of the spec, then those of the preset whose target no table claims.
    pub fn all_tables(&self) -> Vec<Table> {
        let mut tables = self.tables.clone();
        for name in self.views.preset.tables() {
            if !self.tables.iter().any(|table| table.target_name() == *name) {
                tables.push(Table::new(format!("public.{name}")));
            }
        }
        tables
    }
}

/// User and password in a Secret of the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Name of the Secret.
    #[schemars(schema_with = "bounds::object_name")]
    pub secret_name: String,
    /// Key of the user name.
    #[serde(default = "username_key")]
    #[schemars(schema_with = "bounds::data_key")]
    pub username_key: String,
    /// Key of the password.
    #[serde(default = "password_key")]
    #[schemars(schema_with = "bounds::data_key")]
    pub password_key: String,
}

fn username_key() -> String {
    "username".into()
}

fn password_key() -> String {
    "password".into()
}

/// One key of a Secret or ConfigMap of the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Name of the Secret or ConfigMap.
    #[schemars(schema_with = "bounds::object_name")]
    pub name: String,
    /// Key in its data.
    #[schemars(schema_with = "bounds::data_key")]
    pub key: String,
}

/// A PEM certificate authority: exactly one of the two.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
        .message("exactly one of secretKeyRef and configMapKeyRef must be set"),
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// From a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// From a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}
