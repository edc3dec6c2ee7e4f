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
