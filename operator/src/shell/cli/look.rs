//! Commands that look: `plan`, `status` and `doctor`, in a cluster or without one. I/O, read only.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidemark_runtime::shell::Shutdown;

use super::bundle::{self, Faults};
use super::plan::PlanView;
use super::status::StatusView;
use super::tables::{self, Looks};
use super::target::{Missed, Target};
use super::{DoctorArgs, Output, PlanArgs, StatusArgs, print, remote};
use crate::core::doctor;
use crate::core::doctor::{Checkup, Diagnosis, SlowQuery};
use crate::core::facts::{ClickHouseFacts, Failure, FailureClass, Observation};
use crate::edge::clickhouse;
use crate::shell::engine::Report;
use crate::shell::reconcile::Mode;

/// Pause between two looks that a rate is taken from, and that `--watch` draws.
const RATE: Duration = Duration::from_secs(2);

/// `tidemark plan`: what would be done.
pub async fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let file = args.file.file.display().to_string();
    let view = match Box::pin(planned(args)).await {
        Ok(view) => view,
        Err(Missed::Invalid(Faults(faults))) => PlanView::invalid(file, Faults(faults)),
        Err(Missed::Unseen(blind)) => PlanView::unseen(file, vec![blind]),
        Err(missed @ (Missed::Absent(_) | Missed::NotYet(_))) => return Err(missed.into()),
    };
    match args.output {
        Output::Text => print::text(&view.render(print::colours())),
        Output::Json => print::json(&view, false)?,
    }
    Ok(ExitCode::from(view.exit()))
}

async fn planned(args: &PlanArgs) -> Result<PlanView, Missed> {
    if args.in_cluster {
        return Box::pin(remote::plan(args)).await;
    }
    let bundle = bundle::read_as_applied(&args.file)?;
    let target = match &args.out {
        Some(out) => Target::in_folder(bundle, out)?,
        None => Box::pin(Target::of_file(bundle, args.context.as_deref())).await?,
    };
    let deletes = args.deletion || target.deleting;
    let mode = if deletes { Mode::ForeseeDeletion } else { Mode::Foresee };
    let report = Box::pin(target.report(mode)).await;
    let view = PlanView::new(target.name.to_string(), &report, target.blind(&report));
    Ok(PlanView { suspended: target.spec.suspend && !deletes, ..view })
}

/// `tidemark status`: what is said of the pipeline, and each table's numbers where ClickHouse can be asked.
pub async fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let mut target = Box::pin(Target::open(&args.target)).await?;
    let shutdown = Shutdown::on_signals()?;
    let mut before: Option<(ClickHouseFacts, Instant)> = None;
    let mut shown = None;
    loop {
        let looked = tokio::select! {
            looked = Box::pin(look(&target)) => looked,
            () = shutdown.requested() => return Ok(ExitCode::SUCCESS),
        };
        let now = Instant::now();
        // A rate takes two looks; whoever watches sees it at the second.
        let is_first = before.is_none() && looked.is_ok();
        if !is_first || args.watch {
            let view = view(&target, &looked, before.as_ref(), now);
            if shown.as_ref() != Some(&view) {
                draw(&view, args)?;
                shown = Some(view);
            }
            if !args.watch {
                return Ok(ExitCode::SUCCESS);
            }
        }
        before = looked.ok().map(|facts| (facts, now));
        if tokio::time::timeout(RATE, shutdown.requested()).await.is_ok() {
            return Ok(ExitCode::SUCCESS);
        }
        target.refresh().await;
    }
}

fn view(
    target: &Target,
    looked: &Result<ClickHouseFacts, Failure>,
    before: Option<&(ClickHouseFacts, Instant)>,
    now: Instant,
) -> StatusView {
    let elapsed = |since: Instant| i64::try_from((now - since).as_millis()).unwrap_or(i64::MAX);
    let looks = looked.as_ref().ok().map(|facts| Looks {
        now: facts,
        now_ms: jiff::Timestamp::now().as_millisecond(),
        before: before.map(|(facts, since)| (facts, elapsed(*since))),
    });
    let said = target.said.as_ref();
    StatusView {
        tables: said.map_or_else(Vec::new, |said| tables::tables(&target.spec, said, looks.as_ref())),
        blind: looked.as_ref().err().map(|failure| target.blind_for(failure)).into_iter().collect(),
        ..StatusView::new(target.name.to_string(), said)
    }
}

fn draw(view: &StatusView, args: &StatusArgs) -> anyhow::Result<()> {
    match (args.output, args.watch) {
        (Output::Json, watch) => print::json(view, watch)?,
        (Output::Text, true) => print::redraw(&view.render(print::colours())),
        (Output::Text, false) => print::text(&view.render(print::colours())),
    }
    Ok(())
}

/// What ClickHouse says of a pipeline, by the account that its spec names.
pub(super) async fn look(target: &Target) -> Result<ClickHouseFacts, Failure> {
    let systems = target.systems();
    let server = systems.clickhouse.open()?;
    let database = &target.spec.clickhouse.database;
    match clickhouse::look::observe(server, database, (&target.name.to_string(), ""), &[]).await {
        Observation::Known(facts) => Ok(facts),
        Observation::Unreachable(failure) => Err(failure),
        Observation::Absent | Observation::NotAsked => {
            Err(Failure::new(FailureClass::Remote, "it has nothing of this pipeline"))
        }
    }
}

/// `tidemark doctor`: where a row stops on its way.
pub async fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let target = match Box::pin(Target::open(&args.target)).await {
        Ok(target) => target,
        Err(missed) => {
            print::error(&missed);
            let unseen = matches!(missed, Missed::Unseen(_));
            return Ok(ExitCode::from(if unseen { doctor::UNSEEN } else { doctor::WRONG }));
        }
    };
    let report = Box::pin(target.report(Mode::PlanOnly)).await;
    let slow = slow(&target, &report).await;
    let diagnosis = diagnosis(&target, &report, &slow);
    match args.output {
        Output::Text => print::text(&diagnosis.render()),
        Output::Json => print::json(&diagnosis, false)?,
    }
    Ok(ExitCode::from(diagnosis.exit()))
}

fn diagnosis(target: &Target, report: &Report, slow: &Observation<Vec<SlowQuery>>) -> Diagnosis {
    let desired = &report.outcome.desired;
    doctor::examine(&Checkup {
        name: &target.name,
        spec: &target.spec,
        observed: &report.outcome.observed,
        tables: &desired.tables,
        views: &desired.views,
        problems: &desired.problems,
        judged: &report.status,
        said: target.said.as_ref(),
        blind: &target.blind(report),
        slow,
        in_cluster: target.in_cluster,
        now_ms: jiff::Timestamp::now().as_millisecond(),
    })
}

/// The slowest queries of panels, where there are panels and the server keeps a log.
async fn slow(target: &Target, report: &Report) -> Observation<Vec<SlowQuery>> {
    let resolved = target.resolved();
    let Ok(Some(reader)) = &resolved.reader else {
        return Observation::NotAsked;
    };
    match &report.outcome.observed.clickhouse {
        Observation::Known(facts) if !facts.has_query_log => return Observation::Absent,
        Observation::Known(_) => {}
        Observation::Unreachable(failure) => return Observation::Unreachable(failure.clone()),
        Observation::Absent | Observation::NotAsked => return Observation::NotAsked,
    }
    match target.systems().clickhouse.open() {
        Ok(client) => {
            clickhouse::slow::observe(client, &target.spec.clickhouse.database, &reader.username).await
        }
        Err(failure) => Observation::Unreachable(failure),
    }
}
