//! The command line: what each command takes. I/O is in the modules below.

pub mod bundle;
pub mod cluster;
pub mod local;
pub mod print;
pub mod tables;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::OperatorConfig;

/// Takes a live PostgreSQL database to ClickHouse tables and views, by one resource.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator in a cluster.
    Run(Box<OperatorConfig>),
    /// Prints what would be done, and does nothing.
    Plan(PlanArgs),
    /// Carries out a pipeline without a cluster.
    Apply(ApplyArgs),
    /// Removes a pipeline that was carried out without a cluster.
    Delete(LocalArgs),
    /// Shows conditions, tables and freshness of a pipeline in the cluster.
    Status {
        /// Name of the pipeline.
        name: String,
        /// Its namespace; by default that of the kubeconfig.
        #[arg(long, short)]
        namespace: Option<String>,
        /// Address of ClickHouse from here, for the numbers: a URL in place of the spec's.
        #[arg(long)]
        clickhouse: Option<String>,
    },
    /// Prints the custom resource definition as YAML.
    Crd,
}

/// A pipeline from a file, with other addresses.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// File with the `AnalyticsPipeline` and the Secrets and `ConfigMaps` that it names.
    #[arg(long, short)]
    pub file: PathBuf,
    /// Address in place of the spec's: postgres=HOST:PORT, kafka=HOST:PORT, connect=URL, clickhouse=URL or grafana=URL.
    #[arg(long = "endpoint", value_name = "SYSTEM=ADDRESS")]
    pub endpoints: Vec<String>,
}

/// `tidemark plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pipeline.
    #[command(flatten)]
    pub file: FileArgs,
    /// Folder of a pipeline without a cluster; absent: the cluster of the kubeconfig.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// A pipeline without a cluster.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// The pipeline.
    #[command(flatten)]
    pub file: FileArgs,
    /// Says that there is no cluster.
    #[arg(long, required = true)]
    pub without_cluster: bool,
    /// Folder for manifests, the sink's configuration and the status.
    #[arg(long)]
    pub out: PathBuf,
    /// How long to wait until the pipeline is ready, or gone; 0: until nothing is left to start.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub wait: std::time::Duration,
}

/// `tidemark apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The pipeline and its folder.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Goes on reconciling until it is interrupted.
    #[arg(long)]
    pub watch: bool,
}

fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    tidemark_crds::duration::duration(text).map_err(|error| error.to_string())
}

/// `tidemark crd`: prints the custom resource definition.
#[allow(clippy::print_stdout, reason = "the definition is the command's output")]
pub fn crd() -> anyhow::Result<()> {
    print!("{}", serde_yaml_ng::to_string(&tidemark_crds::manifest::definition())?);
    Ok(())
}
