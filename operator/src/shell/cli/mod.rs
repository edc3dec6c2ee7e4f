//! The command line: what each command takes. I/O is in the modules below.

pub mod bundle;
pub mod local;
pub mod look;
pub mod plan;
pub mod print;
pub mod remote;
pub mod status;
pub mod tables;
pub mod target;
pub mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::shell::config::OperatorConfig;

/// Word in place of the cluster's uid in marks, where there is no cluster.
pub(crate) const CLUSTER: &str = "local";
/// How a command ends that was called in a wrong way; the codes below are answers.
pub const USAGE: u8 = 64;
/// The program's name as a plugin: kubectl finds it by this name.
const PLUGIN: &str = "kubectl-tidemark";

/// Takes a live PostgreSQL database to ClickHouse tables and views, by one resource.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, about, max_term_width = 120)]
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
    #[command(after_help = PLAN_HELP)]
    Plan(PlanArgs),
    /// Carries out a pipeline without a cluster.
    Apply(ApplyArgs),
    /// Removes a pipeline that was carried out without a cluster.
    Delete(LocalArgs),
    /// Shows conditions, and each table's state, read, rate, lag and dead letters.
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Walks the way from PostgreSQL's log to the panels, and says where it stops.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Has tables compared with their source now, row by row, and what differs repaired.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Prints the custom resource definition as YAML.
    Crd,
}

const PLAN_HELP: &str = "\
Every step is foreseen until the operator would rest, in waves, with what is waited for between them.

Exit codes:
  0  nothing to do
  1  something would be done, or a problem stands in its way
  2  a system could not be seen: it is no plan
  3  the file is invalid: the API server would refuse it, or it cannot be read

Examples:
  # What would a change of the spec do?
  tidemark plan -f shop.yaml

  # What would deleting it remove?
  tidemark plan -f shop.yaml --deletion

  # In a pipeline of continuous integration, from outside of the cluster's network
  tidemark plan -f shop.yaml --endpoint clickhouse=http://127.0.0.1:8123 -o json | jq '.steps[].what'

  # From where the systems cannot be seen: the running operator looks
  tidemark plan -f shop.yaml --in-cluster

  # Without a cluster, for the folder of `tidemark apply --without-cluster`
  tidemark plan -f shop.yaml --out out";

const STATUS_HELP: &str = "\
Examples:
  # Follow the first read of the tables
  tidemark status shop -n shop --watch

  # With the numbers, where ClickHouse has another address from here
  kubectl port-forward -n shop service/shop-clickhouse 8123 &
  tidemark status shop -n shop --endpoint clickhouse=http://127.0.0.1:8123

  # Which tables do not stream?
  tidemark status shop -n shop -o json | jq '.tables[] | select(.state != \"Streaming\")'

  # Without a cluster
  tidemark status -f shop.yaml --out out";

const VERIFY_HELP: &str = "\
The sinks compare; this asks them by a row of the ledger in ClickHouse, as the account that the spec names, and follows them.

Exit codes:
  0  every row is equal; a table that was refused from the first has none, and is named
  1  rows differed; the answer says whether they are repaired
  2  not every table was compared to its end: it is not read yet, was refused since, or could not be seen

Examples:
  tidemark verify shop -n shop
  tidemark verify shop public.orders -n shop --endpoint clickhouse=http://127.0.0.1:8123
  tidemark verify -f shop.yaml --out out --table public.orders -o json | jq '.differences'";

const DOCTOR_HELP: &str = "\
Each hop is ok, WRONG, under way (wait), not asked for (-) or not seen (?), with the next command to run. At the end three
questions are answered: no data? stale data? slow queries?

Exit codes:
  0  all is well
  1  something is wrong, or under way
  2  something could not be seen, and nothing else is wrong

Examples:
  tidemark doctor shop -n shop
  tidemark doctor shop -n shop --endpoint kafka=127.0.0.1:9092 --endpoint connect=http://127.0.0.1:8083
  tidemark doctor -f shop.yaml --out out -o json | jq '.answers'";

/// How a command prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document, with names that stay.
    Json,
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
    /// Context of the kubeconfig.
    #[arg(long, conflicts_with = "out")]
    pub context: Option<String>,
    /// Plans the deletion of the pipeline.
    #[arg(long)]
    pub deletion: bool,
    /// Has the running operator look, with its addresses and rights, at the spec of the file; takes the right to change the
    /// pipeline, and changes nothing of its spec.
    #[arg(long, conflicts_with_all = ["out", "endpoints"])]
    pub in_cluster: bool,
    /// How long the operator is waited for.
    #[arg(long, default_value = "60s", value_parser = parse_duration, requires = "in_cluster")]
    pub timeout: std::time::Duration,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// A pipeline in the cluster, or one without a cluster.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Name of the pipeline in the cluster.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub name: Option<String>,
    /// Its namespace; by default that of the kubeconfig.
    #[arg(long, short, conflicts_with = "file")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, conflicts_with = "file")]
    pub context: Option<String>,
    /// File of a pipeline without a cluster.
    #[arg(long, short, requires = "out")]
    pub file: Option<PathBuf>,
    /// Folder of that pipeline, as `tidemark apply --without-cluster` has it.
    #[arg(long, requires = "file")]
    pub out: Option<PathBuf>,
    /// Address from here in place of the spec's: postgres=HOST:PORT, kafka=HOST:PORT, connect=URL, clickhouse=URL or
    /// grafana=URL.
    #[arg(long = "endpoint", value_name = "SYSTEM=ADDRESS")]
    pub endpoints: Vec<String>,
}

/// `tidemark status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The pipeline.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Follows it, and draws it again when something changed; Ctrl-C ends it.
    #[arg(long, short)]
    pub watch: bool,
    /// How it is printed; JSON that is followed is one document a line.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `tidemark doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The pipeline.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `tidemark verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The pipeline.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Tables, by their names in the spec or in ClickHouse; none: all of them.
    #[arg(value_name = "TABLE")]
    pub tables: Vec<String>,
    /// A table, where the pipeline is named by its file.
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// How long it is followed.
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    pub timeout: std::time::Duration,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
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

impl Cli {
    /// Reads the arguments, the program's name first: help shows the words by which it was called.
    pub fn from_words(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        if is_plugin(words.first()) {
            command = command.name(PLUGIN).bin_name("kubectl tidemark");
        }
        let matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches)
    }
}

/// Whether kubectl called the program, or somebody by the name under which kubectl does.
fn is_plugin(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_stem());
    name.is_some_and(|name| name == PLUGIN)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::from_words(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn help_shows_the_words_by_which_it_was_called() {
        let usage = |program: &str| {
            let help = read(&[program, "doctor", "--help"]).unwrap_err().to_string();
            help.lines().find(|line| line.starts_with("Usage:")).unwrap().to_owned()
        };
        assert_eq!(usage("/usr/bin/kubectl-tidemark"), "Usage: kubectl tidemark doctor [OPTIONS] [NAME]");
        assert_eq!(usage("target/debug/tidemark"), "Usage: tidemark doctor [OPTIONS] [NAME]");
    }

    #[test]
    fn every_looking_command_has_examples() {
        for command in ["plan", "status", "doctor", "verify"] {
            let help = read(&["tidemark", command, "--help"]).unwrap_err().to_string();
            assert!(help.contains("Examples:") && help.contains(&format!("tidemark {command} ")), "{help}");
        }
    }

    #[test]
    fn a_pipeline_is_named_in_the_cluster_or_by_file_and_folder() {
        for command in ["status", "doctor", "verify"] {
            assert!(read(&["tidemark", command, "shop", "-n", "shop", "-o", "json"]).is_ok());
            assert!(read(&["tidemark", command, "-f", "shop.yaml", "--out", "out"]).is_ok());
            for wrong in [&["tidemark", command][..], &["tidemark", command, "-f", "shop.yaml"]] {
                assert!(read(wrong).is_err(), "{wrong:?}");
            }
            assert!(read(&["tidemark", command, "shop", "-f", "shop.yaml", "--out", "out"]).is_err());
        }
    }
}
