//! The program `tidemark`: operator and command line.

use std::process::ExitCode;

use tidemark_operator::shell::cli::{Cli, Command, USAGE, crd, local, look, print, verify};
use tidemark_operator::shell::run;
use tidemark_runtime::shell::{LogFormat, start_logging};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::from_words(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    Box::pin(run_command(cli)).await.unwrap_or_else(|error| {
        print::error(&error);
        ExitCode::FAILURE
    })
}

async fn run_command(cli: Cli) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Command::Run(config) = &cli.command {
        start_logging(config.log_format, "info");
        tidemark_runtime::http::deny(&config.denied_ranges);
        Box::pin(run::run(config)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    start_logging(LogFormat::Text, "warn");
    match cli.command {
        Command::Run(_) => {}
        Command::Plan(args) => return Box::pin(look::plan(&args)).await,
        Command::Apply(args) => Box::pin(local::apply(&args)).await?,
        Command::Delete(args) => Box::pin(local::delete(&args)).await?,
        Command::Status(args) => return Box::pin(look::status(&args)).await,
        Command::Doctor(args) => return Box::pin(look::doctor(&args)).await,
        Command::Verify(args) => return Box::pin(verify::verify(&args)).await,
        Command::Crd => crd()?,
    }
    Ok(ExitCode::SUCCESS)
}
