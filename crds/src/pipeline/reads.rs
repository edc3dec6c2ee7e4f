//! `spec.source.postgres.reads`: where tables are read, and how much of the source a read may take. Pure.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// How tables are read: at first, and whenever they are read again.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.port) || has(self.host)")
        .message("postgres.reads.port is that of a standby: name it in postgres.reads.host"),
)]
#[serde(rename_all = "camelCase")]
pub struct Reads {
    /// Connections of each replica of the sink that read tables at the same time.
    #[serde(default = "max_connections")]
    #[schemars(range(min = 1, max = 16))]
    pub max_connections: i32,
    /// Rows a second of each replica; absent: as fast as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rows_per_second: Option<i64>,
    /// Host name or address of a standby of the source from which the rows come; absent: from the source itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::host")]
    pub host: Option<String>,
    /// TCP port of the standby; absent: that of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

fn max_connections() -> i32 {
    2
}

impl Default for Reads {
    fn default() -> Self {
        Self { max_connections: max_connections(), rows_per_second: None, host: None, port: None }
    }
}
