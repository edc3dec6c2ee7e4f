//! Everything at once: `tidemark_e2e::chaos`, for as long as `make chaos` is asked for.

use std::time::Duration;

use anyhow::{Context, ensure};
use tidemark_e2e::bench::report;
use tidemark_e2e::chaos::{self, Plan};
use tidemark_e2e::stack::{Part, Stack};

/// A number of the environment; nothing where it is empty.
fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let text = std::env::var(variable).unwrap_or_default();
    let number = if text.is_empty() { None } else { Some(text.parse()) };
    number.transpose().with_context(|| format!("{variable}={text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make chaos"]
async fn every_row_is_equal_whatever_is_written_altered_and_killed_at_once() -> anyhow::Result<()> {
    let seed = number("TIDEMARK_SEED")?.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let lasting = Duration::from_mins(number("TIDEMARK_MINUTES")?.unwrap_or(2));
    println!("seed {seed}: make chaos MINUTES={} SEED={seed}", lasting.as_secs() / 60);
    let stack = Stack::start(Part::CHAIN).await?;
    let report = chaos::run(&stack, Plan { lasting, seed }, |line| println!("{line}")).await;
    let report = report.with_context(|| format!("seed {seed}"))?;
    println!("{}", chaos::text(&report));
    report::write("chaos.json", &report)?;
    ensure!(report.transactions > 100 && report.looks > 10, "next to nothing was done");
    Ok(())
}
