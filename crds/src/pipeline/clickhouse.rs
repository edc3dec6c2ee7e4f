//! `spec.clickhouse`: server, database and account. Pure.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateAuthority, Credentials, bounds};

/// The ClickHouse server that tables and views live in.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')")
        .message("clickhouse.tls needs an https address"),
)]
#[serde(rename_all = "camelCase")]
pub struct ClickHouse {
    /// Address of the HTTP interface.
    #[schemars(schema_with = "bounds::url")]
    pub url: String,
    /// Database of tables and views; made when it does not exist; immutable.
    #[serde(default = "clickhouse_database")]
    #[schemars(schema_with = "bounds::clickhouse_database")]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("clickhouse.database is immutable: make a new pipeline beside this one, then switch"),
        validation = Rule::new("!(self.lowerAscii() in ['system', 'information_schema'])")
            .message("clickhouse.database names a database of ClickHouse's own"),
    )]
    pub database: String,
    /// An account that may create and write in the database.
    pub credentials: Credentials,
    /// An account that may read what views of `views.extra` read, such as `orders_current`, and nothing else: they run as it,
    /// and ClickHouse is asked by it what they are. Absent: they run as the account of `credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<Credentials>,
    /// TLS for an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClickHouseTls>,
    /// Whether and when the sinks remove rows that nobody sees.
    #[serde(default)]
    pub cleanup: Cleanup,
}

/// Rows that nobody sees are removed from the state tables: those of deleted keys with their tombstones, and what a TRUNCATE
/// or a newer read hides, once a tenth of a table's rows is of that kind.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Whether they are; without it they stay for ever.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// For how long everything up to a deletion must have been visible before its tombstone goes. A sink that stands still
    /// for longer than that and then goes on could bring a deleted row back, until the verification finds it.
    #[serde(default = "cleanup_after")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')")
        .message("clickhouse.cleanup.after must be between 1m and 720h"))]
    pub after: String,
}

fn yes() -> bool {
    true
}

fn cleanup_after() -> String {
    "1h".into()
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { enabled: yes(), after: cleanup_after() }
    }
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
