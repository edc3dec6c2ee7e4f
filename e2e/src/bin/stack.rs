//! Starts the real components by hand: `tidemark-stack up`.
#![allow(clippy::print_stdout, reason = "the addresses are this program's output")]

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tidemark_e2e::stack::{Part, Role, SHOP_DATABASE, Stack, User};
use tokio::signal::unix::{SignalKind, signal};

/// Runs PostgreSQL, Kafka, Connect with Debezium, ClickHouse and Kubernetes' API server on loopback.
#[derive(Parser)]
#[command(name = "tidemark-stack", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the parts, prints their addresses and runs until Ctrl-C.
    Up {
        /// The parts to start; by default the data chain, which is all but Kubernetes.
        #[arg(long, value_enum, value_delimiter = ',')]
        parts: Vec<Part>,
        /// A file to write NAME=value lines to, for a shell to source, once all parts are ready.
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
        /// A file to write the same as one JSON object to.
        #[arg(long, value_name = "FILE")]
        json_file: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Up { parts, env_file, json_file } = Arguments::parse().command;
    let parts = if parts.is_empty() { Part::CHAIN.to_vec() } else { parts };
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    println!("starting {parts:?} ...");
    let stack = tokio::select! {
        started = Stack::start(&parts) => started?,
        _ = interrupted.recv() => anyhow::bail!("interrupted before all parts were ready"),
        _ = terminated.recv() => anyhow::bail!("terminated before all parts were ready"),
    };
    let settings = settings(&stack, &parts);
    for (part, time) in stack.start_times() {
        println!("{part:<16} ready after {:.1} s", time.as_secs_f64());
    }
    let width = settings.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &settings {
        println!("{name:<width$}  {value}");
    }
    if let Some(file) = json_file {
        let object: serde_json::Map<_, _> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        write_whole(&file, &serde_json::to_string_pretty(&object)?)?;
    }
    if let Some(file) = env_file {
        write_whole(&file, &shell_lines(&settings)?)?;
    }
    println!("Ctrl-C stops everything");
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    println!("stopping");
    drop(stack);
    Ok(())
}

/// Returns addresses and credentials by name, as far as the parts run.
fn settings(stack: &Stack, parts: &[Part]) -> Vec<(&'static str, String)> {
    let mut all = vec![("STACK_FOLDER", stack.folder().display().to_string())];
    if parts.contains(&Part::Postgres) {
        let url = |role: Role| {
            let address = stack.postgres().address();
            format!("postgres://{}:{}@{address}/{SHOP_DATABASE}", role.name(), role.password())
        };
        all.push(("POSTGRES_HOST", "127.0.0.1".into()));
        all.push(("POSTGRES_PORT", stack.postgres().port().to_string()));
        all.push(("POSTGRES_SUPERUSER_URL", url(Role::Superuser)));
        all.push(("POSTGRES_SHOP_URL", url(Role::Shop)));
        all.push(("POSTGRES_TIDEMARK_URL", url(Role::Tidemark)));
    }
    if parts.contains(&Part::Kafka) || parts.contains(&Part::Connect) {
        all.push(("KAFKA_BOOTSTRAP", stack.kafka().bootstrap_servers()));
    }
    if parts.contains(&Part::Connect) {
        all.push(("CONNECT_URL", stack.connect().url()));
    }
    if parts.contains(&Part::Clickhouse) {
        all.push(("CLICKHOUSE_URL", stack.clickhouse().url()));
        all.push(("CLICKHOUSE_NATIVE", stack.clickhouse().native_address()));
        all.push(("CLICKHOUSE_USER", User::Tidemark.name().into()));
        all.push(("CLICKHOUSE_PASSWORD", User::Tidemark.password().into()));
        all.push(("CLICKHOUSE_READER_USER", User::Reader.name().into()));
        all.push(("CLICKHOUSE_READER_PASSWORD", User::Reader.password().into()));
    }
    if parts.contains(&Part::Kubernetes) {
        all.push(("KUBECONFIG", stack.api_server().kubeconfig().display().to_string()));
    }
    all
}

fn shell_lines(settings: &[(&'static str, String)]) -> anyhow::Result<String> {
    let mut text = String::new();
    for (name, value) in settings {
        writeln!(text, "export {name}='{value}'")?;
    }
    Ok(text)
}

/// Writes a file that appears complete, so that a script can wait for it.
fn write_whole(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, file))
        .with_context(|| format!("writing {}", file.display()))
}
