//! Flags and environment of `tidemark run`, checked. Reads nothing but its arguments.

use std::net::SocketAddr;

use clap::Args;
use tidemark_runtime::addresses::Range;
use tidemark_runtime::shell::LogFormat;

use crate::shell::leader::LEASE_NAME;

/// How the operator runs.
#[derive(Debug, Clone, Args)]
pub struct OperatorConfig {
    /// Namespaces to watch, comma-separated; empty: all.
    #[arg(long, env = "TIDEMARK_WATCH_NAMESPACES", value_delimiter = ',', default_value = "")]
    pub watch_namespaces: Vec<String>,
    /// Image of the sink's pods.
    #[arg(long, env = "TIDEMARK_SINK_IMAGE", default_value = DEFAULT_SINK_IMAGE)]
    pub sink_image: String,
    /// How log lines look: text or json.
    #[arg(long, env = "TIDEMARK_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// Whether one of several replicas is elected to act.
    #[arg(long, env = "TIDEMARK_LEADER_ELECTION", default_value = "true", action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Namespace of the Lease; by default the pod's.
    #[arg(long, env = "TIDEMARK_NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of the Lease; each installation has its own.
    #[arg(long, env = "TIDEMARK_LEASE", default_value = LEASE_NAME)]
    pub lease: String,
    /// Word that tells this cluster from others in the marks of what the operator makes; by default the uid of the namespace
    /// kube-system, which takes the right to read it.
    #[arg(long, env = "TIDEMARK_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Ranges of addresses that no URL of a pipeline may lead to, comma-separated, such as the API server's; link-local ones
    /// never are.
    #[arg(long, env = "TIDEMARK_DENIED_RANGES", value_delimiter = ',')]
    pub denied_ranges: Vec<Range>,
    /// Address of probes and metrics.
    #[arg(long, env = "TIDEMARK_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Reconciles at the same time; pipelines whose systems are slow or silent have two more for themselves.
    #[arg(long, env = "TIDEMARK_CONCURRENCY", default_value_t = 8)]
    pub concurrency: u16,
}

/// Image of the sink that belongs to this version.
pub const DEFAULT_SINK_IMAGE: &str = concat!("tidemark/sink:", env!("CARGO_PKG_VERSION"));

impl OperatorConfig {
    /// Namespaces to watch; empty: all.
    pub fn namespaces(&self) -> Vec<&str> {
        self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect()
    }
}
