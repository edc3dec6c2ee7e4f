//! Other people's tables: each ends equal, refused by name or held by name, and none takes another down.
//!
//! The cases are in `e2e/cases`; a file in `TIDEMARK_CASES` is tried beside them, and `TIDEMARK_CASE` picks those whose
//! names contain it.

mod run;
mod subject;
mod writers;

use std::io::Write as _;

use anyhow::Context;
use tidemark_e2e::bench::report;
use tidemark_e2e::cases::{self, Case, Line};
use tidemark_e2e::stack::{Part, Stack};

/// Version of PostgreSQL that every case is tried on.
const MAIN: u32 = 15;
const FILES: [(&str, &str); 2] =
    [("tables", include_str!("../../cases/tables.sql")), ("more", include_str!("../../cases/more.sql"))];

/// The cases of a file that are tried on a version.
fn chosen(text: &str, version: u32) -> anyhow::Result<Vec<Case>> {
    let picked = std::env::var("TIDEMARK_CASE").unwrap_or_default();
    let fits = |case: &Case| {
        (case.versions.0..=case.versions.1).contains(&version)
            && case.names.iter().any(|name| name.contains(&picked))
    };
    Ok(cases::parse(text)?.into_iter().filter(fits).collect())
}

/// Tries the cases on a stack; the names of the report begin with `prefix`.
async fn tried(stack: &Stack, version: u32, prefix: &str) -> anyhow::Result<Vec<Line>> {
    let mut files: Vec<(String, String)> =
        FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
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
    for ran in futures::future::join_all(runs).await {
        lines.extend(ran?);
    }
    for line in &mut lines {
        line.name.insert_str(0, prefix);
    }
    Ok(lines)
}

/// Prints and writes the report, and fails on what was not expected.
fn reported(lines: &[Line]) -> anyhow::Result<()> {
    let screen = cases::screen(lines);
    // Not captured: it is the result, also of a run that passes.
    std::io::stdout().write_all(format!("\n{screen}").as_bytes())?;
    report::write("tables.json", &cases::report(lines))?;
    let wrong = lines.iter().filter(|line| line.unexpected.is_some()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} tables did not end as expected:\n{screen}", lines.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_equal_refused_or_held_and_none_takes_another_down() -> anyhow::Result<()> {
    let stack = Stack::start(Part::CHAIN).await?;
    reported(&tried(&stack, MAIN, "").await?)
}
