//! Programs and scripts that are run to their end, with a deadline and an error that shows what they said. I/O.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::stack::cache;

/// Lines of a failed program's output that its error shows.
const SHOWN: usize = 40;

/// Returns a command that runs a script of `e2e/`.
pub(super) fn script<I: IntoIterator<Item: AsRef<OsStr>>>(name: &str, arguments: I) -> Command {
    let mut command = Command::new(cache::e2e_folder().join(name));
    command.args(arguments);
    command
}

/// Runs a command without input and returns its standard output.
pub(super) async fn run(command: Command, deadline: Duration) -> anyhow::Result<String> {
    run_with_input(command, "", deadline).await
}

/// Runs a command with a text on its standard input and returns its standard output.
pub(super) async fn run_with_input(
    mut command: Command,
    input: &str,
    deadline: Duration,
) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.with_context(|| format!("writing to {shown}"))?;
    }
    let output = tokio::time::timeout(deadline, child.wait_with_output())
        .await
        .with_context(|| format!("{shown} did not end within {:.0} s", deadline.as_secs_f64()))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{shown} ended with {}:\n{}",
        output.status,
        tail(&(text(&output.stdout) + &text(&output.stderr)))
    );
    Ok(text(&output.stdout))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
