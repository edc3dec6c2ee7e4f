//! The sink's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tidemark_runtime::shell::{LogFormat, Shutdown, start_logging};
use tidemark_sink::letters_command::{self, LettersCommand};
use tidemark_sink::plan::Encoding;
use tidemark_sink::run::{RunOptions, run};
use tidemark_sink::{check, config};

/// Applies the changes of a PostgreSQL database, read from Kafka as Debezium writes them, to ClickHouse.
///
/// Tables, topics, limits and the paths of mounted secrets are in a configuration file that the Tidemark
/// operator writes; the layout of each table is in the ledger in ClickHouse. Writing a row twice changes
/// nothing, so the sink can be killed at any time.
#[derive(Debug, Parser)]
#[command(name = "tidemark-sink", version)]
struct Arguments {
    /// Form of the log lines on standard error.
    #[arg(long, env = "TIDEMARK_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
    /// What to log, as in RUST_LOG, which wins.
    #[arg(long, env = "TIDEMARK_LOG", default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads and applies until SIGTERM; then applies what was read, commits and ends.
    Run {
        /// Configuration file (JSON), as the operator writes it; followed when it changes.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Address of /healthz, /readyz and /metrics.
        #[arg(long, env = "TIDEMARK_LISTEN", default_value = "0.0.0.0:9090")]
        listen: SocketAddr,
        /// Name of this replica in the progress table.
        #[arg(long, env = "TIDEMARK_REPLICA", default_value = "sink")]
        replica: String,
        /// How the connector writes decimals and times where records carry no schema: "contract" as the
        /// operator sets it up, "debezium-defaults" for a connector that was set up by others.
        #[arg(long, value_enum, default_value = "contract")]
        encoding: EncodingArgument,
        /// Seconds that the last batches may take after SIGTERM.
        #[arg(long, value_name = "SECONDS", default_value = "20")]
        drain: u64,
    },
    /// Looks at records that could not be applied, applies them again, or leaves them.
    ///
    /// They are in the dead-letter topic with the reason. A table of which too many die stops; once all of its letters
    /// are replayed or skipped it goes on, and status counts them no more.
    DeadLetters {
        /// Configuration file (JSON), as the operator writes it.
        #[arg(
            long,
            value_name = "FILE",
            env = "TIDEMARK_CONFIG",
            default_value = "/etc/tidemark/config.json"
        )]
        config: PathBuf,
        #[command(subcommand)]
        command: LettersCommand,
    },
    /// Checks the configuration file and every connection that it names; changes nothing.
    Check {
        /// Configuration file (JSON), as the operator writes it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncodingArgument {
    Contract,
    DebeziumDefaults,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    start_logging(arguments.log_format, &arguments.log);
    end_with_a_panic();
    match arguments.command {
        Command::Run { config, listen, replica, encoding, drain } => {
            let shutdown = Shutdown::on_signals().context("listening for signals")?;
            let encoding = match encoding {
                EncodingArgument::Contract => Encoding::Contract,
                EncodingArgument::DebeziumDefaults => Encoding::DebeziumDefaults,
            };
            let options = RunOptions { listen, replica, encoding, drain: Duration::from_secs(drain) };
            Box::pin(run(config, options, shutdown)).await.context("running the sink")
        }
        Command::DeadLetters { config, command } => {
            let config = config::load(&config)?;
            Box::pin(letters_command::run(&config, &command, &mut std::io::stdout())).await
        }
        Command::Check { config } => {
            let config = config::load(&config)?;
            let findings = Box::pin(check::check(&config)).await;
            for finding in &findings {
                match &finding.problem {
                    None => tracing::info!(what = finding.what, "ok"),
                    Some(problem) => tracing::error!(what = finding.what, problem, "not usable"),
                }
            }
            let bad = findings.iter().filter(|finding| finding.problem.is_some()).count();
            anyhow::ensure!(bad == 0, "{bad} of {} checks failed", findings.len());
            Ok(())
        }
    }
}

/// A part that is broken must not leave the rest standing: the process ends, and is started again.
fn end_with_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(%panic, "a part of the sink panicked: the process ends");
        std::process::abort();
    }));
}
