//! `spec.grafana`: where dashboards go, what they read with, and what happens to changes by hand. Pure.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateAuthority, Credentials, KeyReference, bounds};

/// Dashboards in Grafana, and the data source that they read through.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.mode != 'Api' || (has(self.url) && has(self.credentials))")
        .message("grafana.mode Api needs url and credentials"),
    validation = Rule::new("self.mode != 'Sidecar' || !(has(self.url) || has(self.credentials) || has(self.tls))")
        .message("grafana.mode Sidecar takes neither url nor credentials nor tls: Grafana is not called"),
    validation = Rule::new("self.mode != 'Sidecar' || self.alerts == 'Disabled'")
        .message("grafana.alerts needs mode Api"),
    validation = Rule::new("self.mode == 'Sidecar' || !has(self.sidecar)")
        .message("grafana.sidecar needs mode Sidecar"),
    validation = Rule::new("!has(self.tls) || !has(self.url) || self.url.startsWith('https://')")
        .message("grafana.tls needs an https address"),
)]
#[serde(rename_all = "camelCase")]
pub struct Grafana {
    /// Which way dashboards go.
    #[serde(default)]
    pub mode: GrafanaMode,
    /// Address of Grafana.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::url")]
    pub url: Option<String>,
    /// Organization, for user and password; a token belongs to one.
    #[serde(default = "organization_id")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub organization_id: i64,
    /// A service account's token, or user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GrafanaCredentials>,
    /// TLS for an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GrafanaTls>,
    /// What Grafana's sidecars look for; absent: what kube-prometheus-stack sets up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// Title of the folder of the dashboards.
    #[serde(default = "folder")]
    #[schemars(schema_with = "bounds::title")]
    pub folder: String,
    /// The ClickHouse user that panels query with: reads the views and nothing else.
    pub reader: Credentials,
    /// The dashboards.
    #[serde(default)]
    pub dashboards: Dashboards,
    /// Alert rules over freshness, orders, dead letters, the connector and refreshes; Grafana 9.4 and newer.
    #[serde(default)]
    pub alerts: Alerts,
    /// What happens to a change that someone made in Grafana.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// What happens to an object of the same uid that this pipeline did not make.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
}

fn organization_id() -> i64 {
    1
}

fn folder() -> String {
    "Shop analytics".into()
}

/// Which way dashboards go.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum GrafanaMode {
    /// Over Grafana's HTTP API.
    #[default]
    Api,
    /// As ConfigMaps and a Secret in the pipeline's namespace, for the sidecars beside Grafana. The operator then
    /// needs the right to write Secrets.
    Sidecar,
}

/// What Grafana's sidecars look for.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Labels of the ConfigMaps with dashboards.
    #[serde(default = "dashboard_labels")]
    #[schemars(schema_with = "bounds::labels")]
    pub dashboard_labels: BTreeMap<String, String>,
    /// Labels of the Secret with the data source.
    #[serde(default = "data_source_labels")]
    #[schemars(schema_with = "bounds::labels")]
    pub data_source_labels: BTreeMap<String, String>,
    /// Annotation that names the folder of a dashboard.
    #[serde(default = "folder_annotation")]
    #[schemars(schema_with = "bounds::annotation_key")]
    pub folder_annotation: String,
}

fn dashboard_labels() -> BTreeMap<String, String> {
    [("grafana_dashboard".to_owned(), "1".to_owned())].into()
}

fn data_source_labels() -> BTreeMap<String, String> {
    [("grafana_datasource".to_owned(), "1".to_owned())].into()
}

fn folder_annotation() -> String {
    "grafana_folder".into()
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            dashboard_labels: dashboard_labels(),
            data_source_labels: data_source_labels(),
            folder_annotation: folder_annotation(),
        }
    }
}

/// A token, or user and password, in a Secret of the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.usernameKey) == has(self.passwordKey) && has(self.tokenKey) != has(self.usernameKey)")
        .message("name either tokenKey, or usernameKey and passwordKey"),
)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaCredentials {
    /// Name of the Secret.
    #[schemars(schema_with = "bounds::object_name")]
    pub secret_name: String,
    /// Key of a service account's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub token_key: Option<String>,
    /// Key of the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub username_key: Option<String>,
    /// Key of the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub password_key: Option<String>,
}

/// TLS of the connection to Grafana.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaTls {
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// Which dashboards there are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboards {
    /// Dashboards that come with Tidemark; those of a preset need its views.
    #[serde(default)]
    pub preset: DashboardPreset,
    /// How often an open dashboard asks again, a duration such as `30s`.
    #[serde(default = "refresh")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')")
        .message("dashboards.refresh must be between 5s and 24h"))]
    pub refresh: String,
    /// Dashboards of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub extra: Vec<ExtraDashboard>,
}

fn refresh() -> String {
    "30s".into()
}

impl Default for Dashboards {
    fn default() -> Self {
        Self { preset: DashboardPreset::default(), refresh: refresh(), extra: Vec::new() }
    }
}

/// Dashboards that come with Tidemark.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum DashboardPreset {
    /// None but the user's.
    None,
    /// Executive, customers, products, and the pipeline's own health, queries and usage.
    #[default]
    Ecommerce,
}

/// A dashboard of the user: one classic dashboard model.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraDashboard {
    /// Name, part of the dashboard's uid.
    #[schemars(schema_with = "bounds::dashboard_name")]
    pub name: String,
    /// Its model as JSON.
    pub json: JsonSource,
}

/// JSON text: exactly one of the two.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.inline) != has(self.configMapKeyRef)")
        .message("exactly one of inline and configMapKeyRef must be set"),
)]
#[serde(rename_all = "camelCase")]
pub struct JsonSource {
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sql")]
    pub inline: Option<String>,
    /// From a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// Whether alert rules are made.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum Alerts {
    /// They are not.
    #[default]
    Disabled,
    /// They are.
    Enabled,
}

/// What happens to a change that someone made in Grafana.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum DriftPolicy {
    /// It is put right, and an Event names the fields.
    #[default]
    Revert,
    /// It stays, and the condition names it.
    Keep,
}

/// What happens to an object of the same uid that this pipeline did not make.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum AdoptionPolicy {
    /// It is left alone, and the condition names it.
    #[default]
    Never,
    /// It is taken over and changed.
    Adopt,
}
