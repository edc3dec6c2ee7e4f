//! Everything at once: `tidemark_e2e::chaos`, two minutes of it in `make test`, as long as is asked for in `make chaos`.

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
async fn every_row_is_equal_whatever_is_written_altered_and_killed_at_once() -> anyhow::Result<()> {
    let minutes = number("TIDEMARK_MINUTES")?;
    // Unasked it is the same each time: what a new seed finds is no fault of the change that is tested.
    let seed = number("TIDEMARK_SEED")?.unwrap_or_else(|| minutes.map_or(1, |_| rand::random()));
    let lasting = Duration::from_mins(minutes.unwrap_or(2));
    println!("seed {seed}: make chaos MINUTES={} SEED={seed}", lasting.as_secs() / 60);
    let stack = Stack::start(Part::CHAIN).await?;
    let report = chaos::run(&stack, Plan { lasting, seed }, |line| println!("{line}")).await;
    let report = report.with_context(|| format!("seed {seed}"))?;
    println!("{}", chaos::text(&report));
    report::write("chaos.json", &report)?;
    ensure!(report.transactions > 100 && report.looks > 10, "next to nothing was done");
    Ok(())
}
