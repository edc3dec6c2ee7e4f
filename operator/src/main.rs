//! The program `tidemark`: operator and command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use tidemark_operator::cli::{Cli, Command, cluster, crd, local};
use tidemark_operator::run;
use tidemark_runtime::shell::{LogFormat, start_logging};

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run_command(Cli::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A person reads this: the causes in one line, and no backtrace.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_command(cli: Cli) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Command::Run(config) = &cli.command {
        start_logging(config.log_format, "info");
        return Box::pin(run::run(config)).await;
    }
    start_logging(LogFormat::Text, "warn");
    match cli.command {
        Command::Run(_) => Ok(()),
        Command::Plan(args) => match &args.out {
            Some(out) => Box::pin(local::plan(&args.file, out)).await,
            None => Box::pin(cluster::plan(&args.file)).await,
        },
        Command::Apply(args) => Box::pin(local::apply(&args)).await,
        Command::Delete(args) => Box::pin(local::delete(&args)).await,
        Command::Status { name, namespace, clickhouse } => {
            Box::pin(cluster::status(&name, namespace.as_deref(), clickhouse)).await
        }
        Command::Crd => crd(),
    }
}
