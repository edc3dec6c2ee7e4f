//! `spec.source`: PostgreSQL, Kafka Connect and what happens to a lost slot. Pure.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateAuthority, Credentials, Reads, bounds};
use crate::connect_settings;

/// The database that changes are captured from, and how.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.postgres.tls) || !has(self.postgres.tls.ca) || (has(self.connect.config) && \
        self.connect.config.exists(k, k in ['database.sslrootcert', 'database.sslfactory']))")
        .message("postgres.tls.ca reaches the operator and the sink alone: give the connector the same authority as a file \
            of its Connect workers, in connect.config['database.sslrootcert']"),
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The PostgreSQL database.
    pub postgres: Postgres,
    /// The Kafka Connect cluster that runs Debezium.
    pub connect: Connect,
    /// What to do when changes are lost: the replication slot is gone, Connect has no offsets of the connector, or
    /// ClickHouse has not the ledger that they belong to.
    #[serde(default)]
    pub on_slot_lost: OnSlotLost,
}

/// Answer to lost changes.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum OnSlotLost {
    /// Stop and say so; nothing is dropped.
    #[default]
    Stop,
    /// Drop the slot, begin anew and read all tables again.
    Resnapshot,
}

/// Address and account of the PostgreSQL database.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Host name or address, as Connect and the operator reach it.
    #[schemars(schema_with = "bounds::host")]
    pub host: String,
    /// TCP port.
    #[serde(default = "postgres_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Database; immutable.
    #[schemars(schema_with = "bounds::postgres_name")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("source.postgres.database is immutable: make a new pipeline beside this one, then switch"))]
    pub database: String,
    /// A role with LOGIN and REPLICATION that may read the tables.
    pub credentials: Credentials,
    /// TLS of the connection.
    #[serde(default)]
    pub tls: PostgresTls,
    /// Where tables are read, and how much of the source that may take.
    #[serde(default)]
    pub reads: Reads,
}

fn postgres_port() -> u16 {
    5432
}

/// TLS of the connection to PostgreSQL.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.mode != 'Disable' || !has(self.ca)")
        .message("tls.ca has no effect with mode Disable: set mode to VerifyCa or VerifyFull, or leave ca out"),
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresTls {
    /// How far the server's certificate is checked.
    #[serde(default)]
    pub mode: TlsMode,
    /// Certificate authority of the operator and the sink; absent: the system's. The connector runs in Connect, which reads
    /// no Secret: `connect.config` names the file there, as `database.sslrootcert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// How far a server's certificate is checked.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
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
#[x_kube(
    validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')")
        .message("connect.tls needs an https address"),
)]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    /// Address of its REST interface.
    #[schemars(schema_with = "bounds::url")]
    pub url: String,
    /// Basic authentication, where the interface asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// TLS for an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ConnectTls>,
    /// Whether the connector runs.
    #[serde(default)]
    pub state: ConnectorState,
    /// How the connector gets the database account.
    #[serde(default)]
    pub database_credentials: DatabaseCredentials,
    /// Further connector properties: of connections, TLS, retries and pace (docs/postgresql.md lists them), secrets as
    /// placeholders alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::properties")]
    #[x_kube(
        validation = Rule::new(connect_settings::rule()).message(connect_settings::MESSAGE),
        validation = Rule::new(
            "self.all(k, self[k].startsWith('${') || !(k.endsWith('password') || k.endsWith('secret') || \
             k.endsWith('token') || k.endsWith('jaas.config') || k.endsWith('keystore.key') || \
             k.endsWith('user.info') || k.endsWith('secret.access.key')))"
        ).message("connect.config may not hold a secret: use a placeholder such as ${secrets:NAMESPACE/NAME:KEY} that Connect resolves"),
    )]
    pub config: BTreeMap<String, String>,
}

/// TLS of the connection to Connect's REST interface.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectTls {
    /// How far the certificate is checked.
    #[serde(default)]
    pub mode: CertificateCheck,
    /// Certificate authority; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// How far the certificate of a server is checked that is called by TLS.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum CertificateCheck {
    /// Issuer and host name.
    #[default]
    VerifyFull,
    /// The issuer alone: workers that advertise another name than their certificate has.
    VerifyCa,
}

/// Wanted state of the connector.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
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
#[x_kube(
    validation = Rule::new("self.type != 'ConfigProvider' || (has(self.username) && has(self.password))")
        .message("databaseCredentials of type ConfigProvider needs username and password, both placeholders"),
    validation = Rule::new("self.type != 'Inline' || !(has(self.username) || has(self.password))")
        .message("databaseCredentials of type Inline takes its values from postgres.credentials: leave username and password out"),
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCredentials {
    /// Inline: the values of the Secret are written into the connector's configuration, which Connect stores
    /// in a topic and shows over its REST interface. ConfigProvider: placeholders that Connect resolves.
    #[serde(default)]
    pub r#type: DatabaseCredentialsType,
    /// Placeholder of the user name, for ConfigProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "placeholder")]
    pub username: Option<String>,
    /// Placeholder of the password, for ConfigProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "placeholder")]
    pub password: Option<String>,
}

fn placeholder(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[$][{][A-Za-z0-9_-]+:[^{}\\s]+[}]$",
    })
}

/// How the connector gets the database account.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum DatabaseCredentialsType {
    /// Values are written into the connector's configuration.
    #[default]
    Inline,
    /// Placeholders are written that a configuration provider of Connect resolves.
    ConfigProvider,
}
