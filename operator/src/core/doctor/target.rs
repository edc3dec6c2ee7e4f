//! State tables and views in ClickHouse. Pure.

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::status::DegradedTable;

use super::{Checkup, Hop, Verdict, hop};
use crate::core::cost::grouped;
use crate::core::facts::{ClickHouseFacts, RefreshFacts};
use crate::core::freshness::oldest;
use crate::core::table_status::{TroubleState, open_letters};

/// Tables that are well and have a line of their own; more are one line.
const MOST_LINES: usize = 10;

/// Each table, then the views and their refreshes.
pub(super) fn hops(checkup: &Checkup<'_>) -> Vec<Hop> {
    let mut hops = tables(checkup);
    hops.push(views(checkup));
    hops.push(refreshes(checkup));
    hops
}

fn tables(checkup: &Checkup<'_>) -> Vec<Hop> {
    if let Some(unseen) = checkup.unseen("tables", "clickhouse", ConditionType::TablesInSync) {
        return vec![unseen];
    }
    let Some(facts) = checkup.observed.clickhouse.known() else {
        return vec![hop("tables", Verdict::Unseen, "clickhouse was not asked", "")];
    };
    let all: Vec<Hop> =
        checkup.tables.iter().map(|(source, target)| table(checkup, facts, source, target)).collect();
    let well = all.iter().filter(|hop| hop.verdict == Verdict::Ok).count();
    if well <= MOST_LINES {
        return all;
    }
    let message = format!("{well} are streaming, each with its state table, fence and view");
    let mut hops: Vec<Hop> = all.into_iter().filter(|hop| hop.verdict != Verdict::Ok).collect();
    hops.push(hop("tables", Verdict::Ok, message, ""));
    hops
}

fn table(checkup: &Checkup<'_>, facts: &ClickHouseFacts, source: &SourceTable, target: &str) -> Hop {
    let name = source.to_string();
    let line = format!("table {name}");
    let degraded = checkup.judged.tables.iter().flat_map(|tables| &tables.degraded);
    if let Some(found) = degraded.into_iter().find(|found| found.name == name) {
        return troubled(checkup, facts, &line, target, found);
    }
    let view = format!("{target}_current");
    let parts = [
        (format!("state table {target}"), facts.objects.contains_key(target)),
        ("its layout in the ledger".to_owned(), facts.ledger.newest(target).is_some()),
        ("its fence".to_owned(), facts.fences.contains_key(target)),
        (format!("view {view}"), facts.objects.contains_key(&view)),
    ];
    let missing: Vec<&str> =
        parts.iter().filter(|(_, there)| !there).map(|(what, _)| what.as_str()).collect();
    if !missing.is_empty() {
        let message = format!("missing: {}", missing.join(", "));
        return hop(&line, Verdict::Wrong, message, checkup.describe());
    }
    let behind = facts.progress.get(target).and_then(|found| oldest(&found.partitions, checkup.now_ms));
    let behind = behind.map_or(String::new(), |ms| format!(", {}.{} s behind", ms / 1000, ms % 1000 / 100));
    let fence = facts.fences.get(target).map(|fence| format!(", fence in epoch {}", fence.epoch()));
    let message = format!(
        "state table {target}, layout {}{}, view {view}{behind}",
        facts.ledger.newest(target).map_or(0, |layout| layout.version),
        fence.unwrap_or_default()
    );
    hop(&line, Verdict::Ok, message, "")
}

/// A table that is not as it should be: how the status has it, and what to run next.
fn troubled(
    checkup: &Checkup<'_>,
    facts: &ClickHouseFacts,
    name: &str,
    target: &str,
    found: &DegradedTable,
) -> Hop {
    let pending =
        [TroubleState::Reading, TroubleState::Pending].iter().any(|state| found.state == state.as_str());
    let reason = Reason::parse(&found.reason);
    let fails = matches!(reason, Some(Reason::ReadFailed | Reason::NotObserved));
    let verdict = if pending && !fails { Verdict::Waiting } else { Verdict::Wrong };
    let mut message = format!("{}: {}", found.state, found.message);
    if let Some(read) = facts.reads.get(target).filter(|read| read.state == "reading") {
        let rows = (grouped(read.rows), grouped(read.estimated_rows));
        message = format!("{message} ({} of about {} rows)", rows.0, rows.1);
    }
    let next = match reason {
        Some(Reason::DeadLetters | Reason::TooManyDeadLetters) => {
            message = format!("{message} ({} open)", grouped(open_letters(facts, target)));
            "tidemark-sink dead-letters list".to_owned()
        }
        _ if found.state == TroubleState::Refused.as_str() => checkup.describe(),
        _ => checkup.sink_log(),
    };
    hop(name, verdict, message, next)
}

fn views(checkup: &Checkup<'_>) -> Hop {
    checkup.of_condition("views", ConditionType::ViewsInSync, "clickhouse", || {
        format!("{} are there", checkup.views.len())
    })
}

/// Whether each refreshed view was refreshed lately enough.
fn refreshes(checkup: &Checkup<'_>) -> Hop {
    const HOP: &str = "refreshes";
    if let Some(unseen) = checkup.unseen(HOP, "clickhouse", ConditionType::ViewsInSync) {
        return unseen;
    }
    let all = checkup.observed.clickhouse.known().map(|facts| &facts.refreshes);
    let Some(all) = all.filter(|all| !all.is_empty()) else {
        return hop(HOP, Verdict::Off, "no view is refreshed", "");
    };
    let objective = duration::milliseconds(&checkup.spec.freshness.views).unwrap_or(0);
    let age = |refresh: &RefreshFacts| (checkup.now_ms - refresh.last_success_ms).max(0).unsigned_abs();
    let query = |columns: &str| {
        let database = &checkup.spec.clickhouse.database;
        format!(
            "clickhouse-client --query \"SELECT {columns} FROM system.view_refreshes WHERE database = '{database}'\""
        )
    };
    if let Some((view, refresh)) = all.iter().find(|(_, refresh)| !refresh.exception.is_empty()) {
        let message = format!("the refresh of {view} fails and it shows old data: {}", refresh.exception);
        return hop(HOP, Verdict::Wrong, message, query("view, exception"));
    }
    if let Some((view, _)) = all.iter().find(|(_, refresh)| refresh.last_success_ms == 0) {
        let message = format!("{view} was not refreshed yet");
        return hop(HOP, Verdict::Waiting, message, query("view, status, next_refresh_time"));
    }
    let (view, oldest) = all
        .iter()
        .max_by_key(|(_, refresh)| age(refresh))
        .map_or(("", 0), |(view, refresh)| (view, age(refresh)));
    if oldest > objective {
        let message = format!(
            "{view} was refreshed {} s ago, later than spec.freshness.views ({})",
            oldest / 1000,
            checkup.spec.freshness.views
        );
        return hop(
            HOP,
            Verdict::Wrong,
            message,
            query("view, status, last_success_time, next_refresh_time"),
        );
    }
    let slowest = all.values().map(|refresh| refresh.duration_ms).max().unwrap_or(0);
    let message =
        format!("{} views, the oldest of {} s ago, the longest took {slowest} ms", all.len(), oldest / 1000);
    hop(HOP, Verdict::Ok, message, "")
}
