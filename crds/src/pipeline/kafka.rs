//! `spec.kafka`: brokers, topics, TLS and SASL. Pure.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateAuthority, bounds, password_key, username_key};

/// The Kafka cluster that the changes travel through.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// `host:port`, comma-separated.
    #[schemars(schema_with = "bounds::bootstrap_servers")]
    pub bootstrap_servers: String,
    /// Prefix of all topics of this pipeline; immutable.
    #[schemars(schema_with = "bounds::topic_prefix")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("kafka.topicPrefix is immutable: make a new pipeline beside this one, then switch"))]
    pub topic_prefix: String,
    /// How topics are made.
    #[serde(default)]
    pub topics: Topics,
    /// Size of the largest record that the connector sends and topics of ours take, a quantity such as `64Mi`. A row
    /// becomes JSON, with its image before the change under REPLICA IDENTITY FULL: leave room.
    #[serde(default = "max_message_bytes")]
    #[schemars(schema_with = "bounds::size")]
    pub max_message_bytes: String,
    /// TLS; absent: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Further librdkafka properties of the sink's consumer; keys that Tidemark sets and secrets are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::properties")]
    #[x_kube(
        validation = Rule::new(
            "self.all(k, !(k in ['bootstrap.servers', 'metadata.broker.list', 'group.id', 'group.protocol', \
             'enable.auto.commit', 'enable.auto.offset.store', 'auto.offset.reset', 'security.protocol', \
             'isolation.level', 'enable.partition.eof', 'partition.assignment.strategy']) && \
             !k.startsWith('sasl.') && !k.startsWith('ssl.'))"
        ).message("kafka.consumerProperties may not set a property that Tidemark sets itself, nor sasl.* or ssl.*: use kafka.tls and kafka.sasl"),
    )]
    pub consumer_properties: BTreeMap<String, String>,
}

/// How topics are made.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topics {
    /// Partitions of each table's topic, when it is made; can only grow, and what grew is for topics that are made later:
    /// to one in use none are added.
    #[serde(default = "partitions")]
    #[schemars(range(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self >= oldSelf")
        .message("kafka.topics.partitions can only grow: Kafka removes no partitions"))]
    pub partitions: i32,
    /// Replicas of each partition; -1: the brokers' default.
    #[serde(default = "replication_factor")]
    #[schemars(range(min = -1, max = 32))]
    #[x_kube(validation = Rule::new("self != 0")
        .message("kafka.topics.replicationFactor must be at least 1, or -1 for the brokers' default"))]
    pub replication_factor: i32,
    /// How long events are kept, a duration such as `168h`; topics that Tidemark made follow it.
    #[serde(default = "retention")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')")
        .message("kafka.topics.retention must be at least 10m: the sink could not catch up with less"))]
    pub retention: String,
}

fn max_message_bytes() -> String {
    "64Mi".into()
}

/// Bytes of the largest record unless the spec says otherwise, and those that Kafka's clients count with at most.
const MESSAGE_BYTES: (u64, u64) = (64 << 20, i32::MAX as u64);

impl Kafka {
    /// Bytes of the largest record.
    pub fn most_message_bytes(&self) -> u64 {
        crate::duration::bytes(&self.max_message_bytes).unwrap_or(MESSAGE_BYTES.0).min(MESSAGE_BYTES.1)
    }
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
        Self { partitions: partitions(), replication_factor: replication_factor(), retention: retention() }
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
    #[schemars(schema_with = "bounds::object_name")]
    pub secret_name: String,
    /// Key of the certificate (PEM).
    #[serde(default = "certificate_key")]
    #[schemars(schema_with = "bounds::data_key")]
    pub certificate_key: String,
    /// Key of the private key (PEM).
    #[serde(default = "private_key_key")]
    #[schemars(schema_with = "bounds::data_key")]
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
    #[schemars(schema_with = "bounds::line")]
    pub username: Option<String>,
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

/// SASL mechanism.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum SaslMechanism {
    /// `PLAIN`.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}
