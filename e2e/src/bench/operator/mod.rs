//! Many pipelines under one operator: how soon a change of one of them is carried out, what the operator takes of the
//! machine, and what the systems feel of it; at rest, among objects of others, and with pipelines whose systems never
//! answer. I/O.

mod figures;
mod fleet;
mod stand_in;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use self::figures::Figures;
use self::fleet::Fleet;
use super::statistics::{median, percentile};
use crate::chain::program;
use crate::resources::metric;
use crate::stack::{Part, Process, Stack, wait_until};

/// Counter of writes to the API server and to every other system.
const WRITES: &str = "tidemark_remote_writes_total";
/// Seconds without a write that are rest.
const QUIET: u64 = 30;
/// Edits that are followed in each phase.
const EDITS: u32 = 20;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pipelines whose systems answer.
    pub pipelines: u32,
    /// Pipelines whose systems take a connection and never say a word.
    pub hanging: u32,
    /// Secrets that no pipeline names, in the pipelines' namespace and in another; a sixth as many ConfigMaps.
    pub foreign: u32,
    /// Seconds of each phase.
    pub seconds: u64,
    /// The operator's program; absent: the one beside this one.
    pub operator: Option<PathBuf>,
}

/// What was measured while nothing changed but the edits.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// `at rest`, `foreign objects` or `hanging`.
    pub name: &'static str,
    /// Reconciles that ended.
    pub reconciles: f64,
    /// Median of their durations, seconds, as the bound of a bucket of the operator's histogram.
    pub reconcile_p50_s: f64,
    /// The 99th percentile, so.
    pub reconcile_p99_s: f64,
    /// Median of the seconds from an edit of a pipeline until its status and its Deployment show it.
    pub edit_p50_s: f64,
    /// The 99th percentile, so.
    pub edit_p99_s: f64,
    /// CPU seconds a second of the operator, while nothing is edited.
    pub cores: f64,
    /// Resident memory of the operator at the end, MiB.
    pub rss_mib: f64,
    /// The highest since the phase began, MiB.
    pub peak_rss_mib: f64,
    /// Sessions that PostgreSQL had from the operator, a minute and a pipeline: each is one look.
    pub postgres_looks: f64,
    /// Statements that PostgreSQL had from the operator, a minute and a pipeline.
    pub postgres_statements: f64,
    /// Queries that ClickHouse had, a minute and a pipeline.
    pub clickhouse_queries: f64,
}

/// All phases.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Pipelines whose systems answer.
    pub pipelines: u32,
    /// Those whose systems do not.
    pub hanging: u32,
    /// Secrets of others.
    pub foreign: u32,
    /// Seconds from the operator's start until all pipelines were at rest.
    pub rest_after_s: f64,
    /// What was measured.
    pub phases: Vec<Phase>,
}

/// Starts everything and measures.
pub async fn measure(plan: &Plan, say: impl Fn(String)) -> anyhow::Result<Report> {
    let stack = Stack::start(Part::ALL).await?;
    let fleet = Fleet::prepare(&stack, plan.pipelines).await?;
    say(format!("{} pipelines are applied", plan.pipelines));
    let listen = free_address()?;
    let operator = operator(&stack, plan, listen)?;
    let begin = Instant::now();
    operator.spawn()?;
    let stand_in = tokio::spawn(stand_in::run(fleet.deployments()));
    let rested = rest(&fleet, listen, &operator, &say).await;
    let rest_after_s = begin.elapsed().as_secs_f64();
    rested.with_context(|| format!("the operator's log ends with\n{}", operator.log_tail(30)))?;
    say(format!("all are at rest after {rest_after_s:.0} s"));
    let process = operator.id().context("the operator runs")?;
    let figures = Figures { stack: &stack, listen, process };
    say(headings());
    let measured = async |name| {
        let phase = phase(name, plan, &fleet, &figures).await?;
        // What was measured stays known whatever becomes of the phases after it.
        say(row(&phase));
        anyhow::Ok(phase)
    };
    let mut phases = vec![measured("at rest").await?];
    if plan.foreign > 0 {
        fleet.make_foreign(plan.foreign).await?;
        say(format!("{} Secrets and {} ConfigMaps of others are made", plan.foreign, plan.foreign / 6));
        phases.push(measured("foreign objects").await?);
    }
    if plan.hanging > 0 {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = silent.local_addr()?.port();
        let silence = tokio::spawn(keep_silent(silent));
        fleet.apply_hanging(plan.hanging, port).await?;
        say(format!("{} pipelines that hang are applied", plan.hanging));
        phases.push(measured("hanging").await?);
        silence.abort();
    }
    stand_in.abort();
    operator.stop().await?;
    let (pipelines, hanging, foreign) = (plan.pipelines, plan.hanging, plan.foreign);
    Ok(Report { pipelines, hanging, foreign, rest_after_s, phases })
}

/// Takes every connection, reads what comes and says nothing.
async fn keep_silent(listener: tokio::net::TcpListener) {
    while let Ok((mut connection, _)) = listener.accept().await {
        tokio::spawn(async move { tokio::io::copy(&mut connection, &mut tokio::io::sink()).await });
    }
}

fn free_address() -> anyhow::Result<std::net::SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn operator(stack: &Stack, plan: &Plan, listen: std::net::SocketAddr) -> anyhow::Result<Process> {
    let tidemark = plan.operator.clone().map_or_else(|| program("tidemark"), Ok)?;
    let kubeconfig = format!("KUBECONFIG={}", stack.api_server().kubeconfig().display());
    let listen = listen.to_string();
    let mut command: Vec<std::ffi::OsString> =
        vec!["env".into(), kubeconfig.into(), "MALLOC_ARENA_MAX=2".into(), tidemark.into()];
    command.extend(
        ["run", "--leader-election", "false", "--log-format", "text", "--listen", &listen]
            .map(std::ffi::OsString::from),
    );
    Ok(stack.program("tidemark-operator", command))
}

/// Waits until every pipeline has a status that says so, and nothing has been written for a while.
async fn rest(
    fleet: &Fleet,
    listen: std::net::SocketAddr,
    operator: &Process,
    say: &impl Fn(String),
) -> anyhow::Result<()> {
    let deadline = Duration::from_secs(120 + 10 * u64::from(fleet.size()));
    let (mut writes, mut since, mut told) = (-1.0, Instant::now(), Instant::now());
    loop {
        anyhow::ensure!(operator.ended()?.is_none(), "the operator ended");
        let now = metric(listen, WRITES).await.unwrap_or(-1.0);
        if (now - writes).abs() > 0.5 {
            (writes, since) = (now, Instant::now());
        }
        let open = fleet.unsettled().await?;
        if open.is_empty() && since.elapsed() > Duration::from_secs(QUIET) {
            return Ok(());
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let first = open.first().map(String::as_str).unwrap_or_default();
            say(format!("{} are not at rest, {now} writes; {first}", open.len()));
        }
        anyhow::ensure!(since.elapsed() < deadline, "{} are not at rest: {:?}", open.len(), open.first());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn phase(
    name: &'static str,
    plan: &Plan,
    fleet: &Fleet,
    figures: &Figures<'_>,
) -> anyhow::Result<Phase> {
    // What began it is over.
    tokio::time::sleep(Duration::from_secs(QUIET)).await;
    figures.reset()?;
    let before = figures.take().await?;
    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    let after = figures.take().await?;
    let mut edits = Vec::new();
    for edit in 0..EDITS.min(fleet.size()) {
        let begin = Instant::now();
        let number = edit * fleet.size() / EDITS.min(fleet.size());
        let generation = fleet.edit(number).await?;
        wait_until(Duration::from_mins(2), "an edit to be carried out", || async {
            Ok(fleet.shows(number, generation).await?.then_some(()))
        })
        .await?;
        edits.push(begin.elapsed().as_secs_f64());
    }
    let minutes = (after.at - before.at).as_secs_f64() / 60.0;
    let of_pipeline = |before: f64, after: f64| (after - before) / minutes / f64::from(plan.pipelines.max(1));
    let durations = after.reconciles.minus(&before.reconciles);
    Ok(Phase {
        name,
        reconciles: durations.count(),
        reconcile_p50_s: durations.quantile(0.50),
        reconcile_p99_s: durations.quantile(0.99),
        edit_p50_s: median(&edits),
        edit_p99_s: percentile(&edits, 99),
        cores: after.cpu.saturating_sub(before.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64(),
        rss_mib: after.rss_mib,
        peak_rss_mib: after.peak_mib,
        postgres_looks: of_pipeline(before.sessions, after.sessions),
        postgres_statements: of_pipeline(before.statements, after.statements),
        clickhouse_queries: of_pipeline(before.queries, after.queries),
    })
}

/// What the columns of [`row`] are.
fn headings() -> String {
    format!(
        "{:<16} {:>6} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "phase",
        "looks",
        "p50 s",
        "p99 s",
        "edit p50",
        "edit p99",
        "cores",
        "RSS MiB",
        "peak MiB",
        "PG looks",
        "PG stmts",
        "CH stmts"
    )
}

/// The figures of a phase for people.
fn row(phase: &Phase) -> String {
    format!(
        "{:<16} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>6.2} {:>8.0} {:>8.0} {:>8.2} {:>8.1} {:>8.1}",
        phase.name,
        phase.reconciles,
        phase.reconcile_p50_s,
        phase.reconcile_p99_s,
        phase.edit_p50_s,
        phase.edit_p99_s,
        phase.cores,
        phase.rss_mib,
        phase.peak_rss_mib,
        phase.postgres_looks,
        phase.postgres_statements,
        phase.clickhouse_queries
    )
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{} pipelines, at rest {:.0} s after the operator's start; then with {} Secrets of others, and {} that hang\n",
        report.pipelines, report.rest_after_s, report.foreign, report.hanging
    );
    for line in std::iter::once(headings()).chain(report.phases.iter().map(row)) {
        let _ = writeln!(text, "{line}");
    }
    text + "the last three are a minute and a pipeline"
}
