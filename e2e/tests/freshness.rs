//! Freshness through the whole chain, the figure that the README quotes.

use tidemark_e2e::bench::freshness::{Plan, measure};
use tidemark_e2e::bench::report;
use tidemark_e2e::stack::{Part, Stack};

/// The aim: 99 of 100 rows are visible within a second of their commit.
const AIM_MS: f64 = 1000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_visible_within_a_second_of_their_commit_busy_or_idle() -> anyhow::Result<()> {
    let stack = Stack::start(Part::CHAIN).await?;
    let report = measure(&stack, Plan::default(), |text| println!("{text}")).await?;
    report::write("freshness.json", &report)?;
    for run in &report.runs {
        assert!(run.samples >= 200, "only {} samples at {} events/s", run.samples, run.events_per_s);
        assert!(run.p99_ms < AIM_MS, "p99 {} ms at {} events/s", run.p99_ms, run.events_per_s);
    }
    Ok(())
}
