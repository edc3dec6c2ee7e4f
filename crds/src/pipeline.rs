//! The `AnalyticsPipeline` resource: spec, defaults, printer columns and CEL rules. Pure.
//!
//! Rules of the API: every list is a map list keyed by `name` and bounded, every string and map is bounded,
//! defaults are written out, no `nullable`, no union of string and object: one field an alternative and a
//! rule "exactly one of".
#![allow(
    unreachable_pub,
    reason = "the derive of KubeSchema repeats each struct inside a private scope"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column repeats the type \"string\""
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layout::OutOfRange;
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
    scale(
        spec_replicas_path = ".spec.sink.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Tables", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Freshness", type_ = "string", json_path = ".status.freshness"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsPipelineSpec {
    /// The database that changes are captured from.
    pub source: Source,
    /// The Kafka cluster that the changes travel through.
    pub kafka: Kafka,
    /// Tables to capture; those of the view preset are part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// The ClickHouse server that tables and views live in.
    pub clickhouse: ClickHouse,
    /// The workers between Kafka and ClickHouse.
    #[serde(default)]
    pub sink: Sink,
    /// Views over the state tables.
    #[serde(default)]
    pub views: Views,
    /// How young data has to be.
    #[serde(default)]
    pub freshness: Freshness,
    /// What happens to everything when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Halts reconciling; data goes on.
    #[serde(default)]
    pub suspend: bool,
}

/// User and password in a Secret of the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Name of the Secret.
    pub secret_name: String,
    /// Key of the user name.
    #[serde(default = "username_key")]
    pub username_key: String,
    /// Key of the password.
    #[serde(default = "password_key")]
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
    pub name: String,
    /// Key in its data.
    pub key: String,
}

/// A PEM certificate authority: exactly one of the two.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// From a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// From a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// The database that changes are captured from, and how.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The PostgreSQL database.
    pub postgres: Postgres,
    /// The Kafka Connect cluster that runs Debezium.
    pub connect: Connect,
    /// What to do when the replication slot is gone.
    #[serde(default)]
    pub on_slot_lost: OnSlotLost,
}

/// Answer to a lost replication slot.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnSlotLost {
    /// Stop and say so.
    #[default]
    Stop,
    /// Raise the epoch and take the snapshot again.
    Resnapshot,
}

/// Address and account of the PostgreSQL database.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Host name or address, as Connect and the operator reach it.
    pub host: String,
    /// TCP port.
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// Database; immutable.
    pub database: String,
    /// A role with LOGIN and REPLICATION that may read the tables.
    pub credentials: Credentials,
    /// TLS of the connection.
    #[serde(default)]
    pub tls: PostgresTls,
}

fn postgres_port() -> u16 {
    5432
}

/// TLS of the connection to PostgreSQL.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresTls {
    /// How far the server's certificate is checked.
    #[serde(default)]
    pub mode: TlsMode,
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// How far a server's certificate is checked.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsMode {
    /// Plain text.
    #[default]
    Disable,
    /// Encrypted, the certificate's issuer is checked.
    VerifyCa,
    /// Encrypted, issuer and host name are checked.
    VerifyFull,
}

/// The Kafka Connect cluster that runs Debezium.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    /// Address of its REST interface.
    pub url: String,
    /// Basic authentication, where the interface asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Whether the connector runs.
    #[serde(default)]
    pub state: ConnectorState,
    /// How the connector gets the database account.
    #[serde(default)]
    pub database_credentials: DatabaseCredentials,
    /// Further connector properties; keys that Tidemark sets and secrets are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// Wanted state of the connector.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectorState {
    /// Changes are captured.
    #[default]
    Running,
    /// The connector keeps its place and its task idles.
    Paused,
    /// The connector keeps its place and has no task.
    Stopped,
}

/// How the connector gets the database account.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCredentials {
    /// Inline: the values of the Secret are written into the connector's configuration, which Connect stores
    /// in a topic and shows over its REST interface. ConfigProvider: placeholders that Connect resolves.
    #[serde(default)]
    pub r#type: DatabaseCredentialsType,
    /// Placeholder of the user name, for ConfigProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Placeholder of the password, for ConfigProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// How the connector gets the database account.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseCredentialsType {
    /// Values are written into the connector's configuration.
    #[default]
    Inline,
    /// Placeholders are written that a configuration provider of Connect resolves.
    ConfigProvider,
}

/// The Kafka cluster that the changes travel through.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Prefix of all topics of this pipeline; immutable.
    pub topic_prefix: String,
    /// How topics are made.
    #[serde(default)]
    pub topics: Topics,
    /// TLS; absent: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Further librdkafka properties of the sink's consumer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub consumer_properties: BTreeMap<String, String>,
}

/// How topics are made.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topics {
    /// Partitions of each table's topic.
    #[serde(default = "partitions")]
    pub partitions: i32,
    /// Replicas of each partition; -1: the brokers' default.
    #[serde(default = "replication_factor")]
    pub replication_factor: i32,
    /// How long events are kept, a duration such as `168h`.
    #[serde(default = "retention")]
    pub retention: String,
}

fn partitions() -> i32 {
    4
}

fn replication_factor() -> i32 {
    -1
}

fn retention() -> String {
    "168h".into()
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            partitions: partitions(),
            replication_factor: replication_factor(),
            retention: retention(),
        }
    }
}

/// TLS of the Kafka clients.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
    /// Client certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// Client certificate and key in a Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// Name of the Secret.
    pub secret_name: String,
    /// Key of the certificate (PEM).
    #[serde(default = "certificate_key")]
    pub certificate_key: String,
    /// Key of the private key (PEM).
    #[serde(default = "private_key_key")]
    pub private_key_key: String,
}

fn certificate_key() -> String {
    "tls.crt".into()
}

fn private_key_key() -> String {
    "tls.key".into()
}

/// SASL of the Kafka clients.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSasl {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// User and password.
    pub credentials: SaslCredentials,
}

/// User and password for SASL: the user may stand in the spec, as with Strimzi's Secrets.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaslCredentials {
    /// User name; absent: taken from the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name of the Secret.
    pub secret_name: String,
    /// Key of the user name.
    #[serde(default = "username_key")]
    pub username_key: String,
    /// Key of the password.
    #[serde(default = "password_key")]
    pub password_key: String,
}

/// SASL mechanism.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// `PLAIN`.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}

/// A table to capture.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// `schema.table` at the source.
    pub name: String,
    /// State table in the target database, unique and immutable; absent: the table's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Partition expression over key columns; immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
    /// Columns that are not taken as they come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
}

/// A column that is not taken as it comes.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Name at the source.
    pub name: String,
    /// Name in the state table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// ClickHouse type in place of the mapped one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Leaves the column out.
    #[serde(default)]
    pub exclude: bool,
    /// What becomes of a value that does not fit; absent: NULL where nullable, else the dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_range: Option<OutOfRange>,
}

/// The ClickHouse server that tables and views live in.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouse {
    /// Address of the HTTP interface.
    pub url: String,
    /// Database of tables and views; made when it does not exist; immutable.
    #[serde(default = "clickhouse_database")]
    pub database: String,
    /// An account that may create and write in the database.
    pub credentials: Credentials,
    /// TLS for an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClickHouseTls>,
}

fn clickhouse_database() -> String {
    "ecommerce_analytics".into()
}

/// TLS of the connection to ClickHouse.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouseTls {
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// The workers between Kafka and ClickHouse.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sink {
    /// Worker pods; leave it out of Git under an autoscaler.
    #[serde(default = "sink_replicas")]
    pub replicas: i32,
    /// Requests and limits of a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub max_rows: i64,
    /// Bytes at which a batch is sealed, a quantity such as `64Mi`.
    #[serde(default = "max_bytes")]
    pub max_bytes: String,
    /// Age at which a batch is sent, a duration such as `300ms`.
    #[serde(default = "max_age")]
    pub max_age: String,
    /// Inserts a second of all replicas together; wins over `maxAge`.
    #[serde(default = "inserts_per_second")]
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
    pub topic: Option<String>,
    /// Share of a table's records above which the table stops, such as `1%`.
    #[serde(default = "max_share")]
    pub max_share: String,
}

fn max_share() -> String {
    "1%".into()
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self {
            topic: None,
            max_share: max_share(),
        }
    }
}

/// Further properties of the worker pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Node selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<core::Toleration>,
    /// Priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets for image registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<core::LocalObjectReference>,
}

/// Views over the state tables.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Views {
    /// Views that come with Tidemark.
    #[serde(default)]
    pub preset: Preset,
    /// How the preset reads the shop.
    #[serde(default)]
    pub ecommerce: Ecommerce,
    /// How often refreshed views are computed, a duration such as `30s`.
    #[serde(default = "refresh_interval")]
    pub refresh_interval: String,
    /// Time zone of days and months, an IANA name.
    #[serde(default = "time_zone")]
    pub time_zone: String,
    /// Views of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraView>,
}

fn refresh_interval() -> String {
    "30s".into()
}

fn time_zone() -> String {
    "UTC".into()
}

impl Default for Views {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            ecommerce: Ecommerce::default(),
            refresh_interval: refresh_interval(),
            time_zone: time_zone(),
            extra: Vec::new(),
        }
    }
}

/// Views that come with Tidemark.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// No views but the user's.
    #[default]
    None,
    /// Nine views of a shop with customers, products, orders and order_items.
    Ecommerce,
}

/// How the Ecommerce preset reads the shop.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ecommerce {
    /// Order statuses that mean cancelled.
    #[serde(default = "cancelled_statuses")]
    pub cancelled_statuses: Vec<String>,
    /// Order statuses that mean refunded.
    #[serde(default = "refunded_statuses")]
    pub refunded_statuses: Vec<String>,
}

fn cancelled_statuses() -> Vec<String> {
    vec!["cancelled".into()]
}

fn refunded_statuses() -> Vec<String> {
    vec!["refunded".into()]
}

impl Default for Ecommerce {
    fn default() -> Self {
        Self {
            cancelled_statuses: cancelled_statuses(),
            refunded_statuses: refunded_statuses(),
        }
    }
}

/// A view of the user: one SELECT.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraView {
    /// Name of the view.
    pub name: String,
    /// Its SELECT.
    pub sql: SqlSource,
    /// How it is computed.
    #[serde(default)]
    pub materialization: Materialization,
}

/// SQL text: exactly one of the two.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqlSource {
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// From a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// How a view is computed.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Materialization {
    /// View: at each query. Refresh: at an interval, into a table.
    #[serde(default)]
    pub r#type: MaterializationType,
    /// Interval of a refresh, a duration such as `1m`; absent: `views.refreshInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
}

/// How a view is computed.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaterializationType {
    /// At each query.
    #[default]
    View,
    /// At an interval, into a table.
    Refresh,
}

/// How young data has to be.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// Commit at the source to row in ClickHouse.
    #[serde(default = "rows_objective")]
    pub rows: String,
    /// Commit at the source to what a view shows.
    #[serde(default = "views_objective")]
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
        Self {
            rows: rows_objective(),
            views: views_objective(),
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
    /// How long a part that does not answer is tried before it is left behind and named.
    #[serde(default = "deletion_timeout")]
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
            timeout: deletion_timeout(),
        }
    }
}

/// Kept or removed.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Kept.
    Retain,
    /// Removed.
    Delete,
}
