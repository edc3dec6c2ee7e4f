//! Other people's tables: each ends equal, refused by name or held by name, and none takes another down.
//!
//! The cases are in `e2e/cases`; a file in `TIDEMARK_CASES` is tried beside them, and `TIDEMARK_CASE` picks those whose
//! names contain one of its words, or those of the pipeline of that name (`plain`: of none).

mod run;
mod subject;
mod writers;

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use futures::StreamExt as _;
use tidemark_e2e::bench::report;
use tidemark_e2e::cases::{self, Case, Line};
use tidemark_e2e::stack::{Part, Stack};

/// Version of PostgreSQL that every case is tried on.
const MAIN: u32 = 15;
/// The others, of which the first cases are tried, too.
const NEWER: [u32; 3] = [16, 17, 18];
/// The cases that are tried on every version, and those that take longer.
const TABLES: (&str, &str) = ("tables", include_str!("../../cases/tables.sql"));
const MORE: (&str, &str) = ("more", include_str!("../../cases/more.sql"));

/// Pipelines that run at once on a stack: each more of them takes from all others what it needs to live.
const AT_ONCE: usize = 4;

/// Lines of all versions that this program tried.
static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// The cases of a file that are tried on a version.
fn chosen(text: &str, version: u32) -> anyhow::Result<Vec<Case>> {
    let picked = std::env::var("TIDEMARK_CASE").unwrap_or_default();
    let fits = |case: &Case| {
        (case.versions.0..=case.versions.1).contains(&version)
            && picked.split(',').any(|word| {
                case.names.iter().any(|name| name.contains(word))
                    || case.pipeline.as_deref().unwrap_or("plain") == word
            })
    };
    Ok(cases::parse(text)?.into_iter().filter(fits).collect())
}

/// Tries the cases of files on a stack. Names of another version than the main one begin with it.
async fn tried(stack: &Stack, version: u32, files: &[(&str, &str)]) -> anyhow::Result<Vec<Line>> {
    let mut files: Vec<(String, String)> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if let Some(path) = std::env::var_os("TIDEMARK_CASES") {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        files.push(("given".to_owned(), text));
    }
    let mut all = Vec::new();
    for (file, text) in &files {
        all.push((file, chosen(text, version).with_context(|| format!("cases {file}"))?));
    }
    let mut runs = Vec::new();
    for (file, cases) in &all {
        for (number, group) in cases::groups(cases).into_iter().enumerate() {
            let name: &'static str = Box::leak(format!("{file}_{version}_{number}").into_boxed_str());
            runs.push(Box::pin(run::group(stack, name, cases, group)));
        }
    }
    let mut lines = Vec::new();
    let mut ran = futures::stream::iter(runs).buffered(AT_ONCE);
    while let Some(ran) = ran.next().await {
        lines.extend(ran?);
    }
    if version != MAIN {
        for line in &mut lines {
            line.name.insert_str(0, &format!("{version}/"));
        }
    }
    Ok(lines)
}

/// Prints and writes the report, and fails on what was not expected.
fn reported(lines: Vec<Line>) -> anyhow::Result<()> {
    let screen = cases::screen(&lines);
    // Not captured: it is the result, also of a run that passes.
    std::io::stdout().write_all(format!("\n{screen}").as_bytes())?;
    let (tried, wrong) = (lines.len(), lines.iter().filter(|line| line.unexpected.is_some()).count());
    let mut all = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(lines);
    report::write("tables.json", &cases::report(&all))?;
    anyhow::ensure!(wrong == 0, "{wrong} of {tried} tables did not end as expected:\n{screen}");
    Ok(())
}

async fn on(version: u32, files: &[(&str, &str)]) -> anyhow::Result<()> {
    let stack = Stack::start_with_postgres(Part::CHAIN, version).await?;
    reported(tried(&stack, version, files).await?)
}

/// All versions, one after the other, over one Kafka, one Connect and one ClickHouse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_equal_refused_or_held_and_none_takes_another_down() -> anyhow::Result<()> {
    let stack = Arc::new(Stack::start(Part::CHAIN).await?);
    let mut lines = tried(&stack, MAIN, &[TABLES]).await?;
    for version in NEWER {
        let other = Stack::start_beside(Arc::clone(&stack), version).await?;
        lines.extend(tried(&other, version, &[TABLES]).await?);
    }
    reported(lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_on_postgresql_15() -> anyhow::Result<()> {
    let stack = Stack::start(Part::CHAIN).await?;
    reported(tried(&stack, MAIN, &[MORE]).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make test-tables"]
async fn the_others_on_postgresql_16() -> anyhow::Result<()> {
    on(16, &[MORE]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make test-tables"]
async fn the_others_on_postgresql_17() -> anyhow::Result<()> {
    on(17, &[MORE]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make test-tables"]
async fn the_others_on_postgresql_18() -> anyhow::Result<()> {
    on(18, &[MORE]).await
}
