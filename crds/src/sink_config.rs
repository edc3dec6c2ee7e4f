//! The file that the operator writes and the sink reads: versioned, without secrets. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::layout::SourceTable;

/// Version of this file's format; the sink refuses others.
pub const SINK_CONFIG_VERSION: u32 = 6;

/// Everything a sink replica needs to know; secrets are paths of mounted files.
///
/// Layouts are not in here: the sink reads them from the ledger, so that a new column rolls no pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkConfig {
    /// [`SINK_CONFIG_VERSION`].
    pub version: u32,
    /// `namespace/name` of the pipeline: the key of its ledger rows.
    pub pipeline: String,
    /// Where the events come from.
    pub kafka: KafkaConfig,
    /// Where the rows go.
    pub clickhouse: ClickHouseConfig,
    /// Where tables are read from.
    pub postgres: PostgresConfig,
    /// Where the connector says how far it is; absent: nobody says up to which position everything is visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectConfig>,
    /// Tables to apply.
    pub tables: Vec<TableRoute>,
    /// When a batch is sent.
    pub batch: BatchConfig,
    /// Where records go that cannot be applied.
    pub dead_letter: DeadLetterConfig,
    /// How tables are compared with their source.
    pub verification: VerificationConfig,
    /// Whether and when rows that nobody sees are removed.
    pub cleanup: CleanupConfig,
}

/// Kafka side of the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port[,host:port]`.
    pub bootstrap_servers: String,
    /// Consumer group; contains the ledger's incarnation.
    pub group_id: String,
    /// Debezium's `topic.prefix`.
    pub topic_prefix: String,
    /// Topic of Debezium's heartbeats, read by every replica outside the group.
    pub heartbeat_topic: String,
    /// Bytes of the largest record.
    pub max_message_bytes: u64,
    /// TLS, absent for plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// SASL, absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslFiles>,
    /// Further librdkafka consumer properties from `spec.kafka.consumerProperties`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// Paths of mounted TLS files (PEM).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Client key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// SASL mechanism and paths of the mounted user and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SaslFiles {
    /// librdkafka's name, such as `SCRAM-SHA-512`.
    pub mechanism: String,
    /// Path of the file with the user name.
    pub username_file: String,
    /// Path of the file with the password.
    pub password_file: String,
}

/// ClickHouse side of the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// `http://` or `https://` address of the HTTP interface.
    pub url: String,
    /// Target database.
    pub database: String,
    /// Path of the file with the user name.
    pub username_file: String,
    /// Path of the file with the password.
    pub password_file: String,
    /// Path of the certificate authority (PEM); absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// The source: tables are read from it, and single rows whose events lack a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Path of the file with the user name.
    pub username_file: String,
    /// Path of the file with the password.
    pub password_file: String,
    /// How far the server's certificate is checked.
    pub tls: crate::pipeline::TlsMode,
    /// Path of the certificate authority (PEM); absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// How whole tables are read.
    pub reads: ReadsConfig,
}

/// Kafka Connect's REST interface, which is asked for the position that it has committed for the connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectConfig {
    /// `http://` or `https://` address.
    pub url: String,
    /// Name of the connector.
    pub connector: String,
    /// How far the certificate of an https address is checked.
    #[serde(default)]
    pub check: crate::pipeline::CertificateCheck,
    /// Path of the certificate authority (PEM); absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Paths of the mounted user and password; absent: it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginFiles>,
}

/// Paths of a mounted user and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginFiles {
    /// Path of the file with the user name.
    pub username_file: String,
    /// Path of the file with the password.
    pub password_file: String,
}

/// How whole tables are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadsConfig {
    /// Connections of this replica at once.
    pub max_connections: u8,
    /// Rows a second over all of them; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<u32>,
    /// The standby that the rows come from; absent: the source itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<StandbyConfig>,
}

/// Address of a standby; database, account and TLS are those of its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StandbyConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// One source table, its topic and its state table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableRoute {
    /// Table at the source.
    pub source: SourceTable,
    /// Kafka topic of its events.
    pub topic: String,
    /// State table in the target database: the key of its layout in the ledger.
    pub target: String,
}

/// When a batch is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchConfig {
    /// Rows at which a batch is sealed.
    pub max_rows: u64,
    /// Bytes of column data at which a batch is sealed.
    pub max_bytes: u64,
    /// Milliseconds after its first row at which a batch is sent, if the insert budget allows.
    pub max_age_ms: u64,
    /// Inserts a second of all replicas together; each replica takes its share.
    pub inserts_per_second: u32,
    /// Replicas that share the budget.
    pub replicas: u32,
}

/// Where records go that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// Kafka topic of the dead letters.
    pub topic: String,
    /// Share of a table's records, in per mille, above which the table stops instead of skipping on.
    pub max_share_per_mille: u32,
}

/// How tables are compared with their source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerificationConfig {
    /// Whether tables are compared without being asked for.
    pub enabled: bool,
    /// Rows a second that each replica reads at the source at most.
    pub rows_per_second: u32,
    /// Milliseconds from the beginning of a round over a table to that of the next one, at least.
    pub interval_ms: u64,
}

/// Whether and when rows that nobody sees are removed: tombstones with what they hide, and what lies below a fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CleanupConfig {
    /// Whether they are.
    pub enabled: bool,
    /// Milliseconds for which everything up to a tombstone must have been visible.
    pub after_ms: u64,
}
