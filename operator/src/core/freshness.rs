//! How old the data is: the worst of the connector, of every partition of every table, and of every refresh. Pure.

use std::collections::BTreeMap;

use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::Topics;
use tidemark_crds::pipeline::ConnectorState;

use crate::core::facts::{PartitionProgress, RefreshFacts};
use crate::core::position::{lag_after, least_ms};
use crate::core::status::Situation;

/// Milliseconds without a progress row after which the sinks are taken for silent.
const SILENT_MS: i64 = 10_000;
const BUCKETS: [(&str, i64); 4] = [("<1s", 1_000), ("<10s", 10_000), ("<1m", 60_000), (">1m", i64::MAX)];
/// Tables that a message names at most.
const MOST_NAMES: usize = 3;

/// How old the oldest data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// `<1s`, `<10s`, `<1m` or `>1m`; `Unknown` where a partition was never reported.
    pub bucket: &'static str,
    /// Why the objective is missed, and what to do; absent: it is met.
    pub missed: Option<(Reason, String)>,
}

/// Judges the oldest data; `None` where nothing is known. `before` is the bucket and the reason that are shown now.
pub fn freshness(
    situation: &Situation<'_>,
    (before, reason): (Option<&str>, Option<Reason>),
) -> Option<Freshness> {
    let facts = situation.observed.clickhouse.known()?;
    if situation.tables.iter().all(|(_, target)| !facts.progress.contains_key(target)) {
        return None;
    }
    let objective =
        i64::try_from(duration::milliseconds(&situation.spec.freshness.rows).ok()?).unwrap_or(i64::MAX);
    // One that was refused from the first has no layout: nothing of it is captured, and nothing of it can be late.
    let refused = |source: &SourceTable, target: &str| {
        let name = source.to_string();
        facts.ledger.newest(target).is_none()
            && situation.problems.iter().any(|problem| problem.object.as_deref() == Some(name.as_str()))
    };
    let captured = situation.tables.iter().filter(|(source, target)| !refused(source, target));
    let ages: Vec<(&SourceTable, Result<i64, i32>)> =
        captured.map(|(source, target)| (source, age(situation, source, target))).collect();
    let connector = situation.observed.postgres.known().and_then(|facts| facts.read_to);
    let noted = situation.observed.clickhouse.known().and_then(|facts| facts.connector.as_ref());
    let noted = noted.map_or("", |last| &last.lag);
    let connector_lag = connector
        .map(|read_to| (read_to, lag_after(read_to, noted)))
        .filter(|(_, lag)| !lag.is_empty())
        .map(|(read_to, lag)| (read_to.lag_ms.max(least_ms(lag)), lag));
    let oldest = ages.iter().filter_map(|(_, age)| age.as_ref().ok().copied()).max();
    let unreported = ages.iter().find_map(|(source, age)| Some((*source, *age.as_ref().err()?)));
    let late: Vec<&SourceTable> = ages
        .iter()
        .filter(|(_, age)| age.is_ok_and(|age| age > objective))
        .map(|(source, _)| *source)
        .collect();
    let missed = connector_stands(situation)
        .or_else(|| {
            let (_, lag) = connector_lag.filter(|(lag_ms, _)| *lag_ms > objective)?;
            let message = format!(
                "the connector has not read the source's log of {} ago: look at its tasks, and at the load of Kafka \
                 Connect and of the source",
                lag.trim_start_matches('>')
            );
            Some((Reason::ConnectorBehind, message))
        })
        .or_else(|| standing_table(situation, &late))
        .or_else(|| {
            let (source, partition) = unreported?;
            let message = format!("no sink has reported partition {partition} of the topic of {source}: look at its pods");
            Some((Reason::NotObserved, message))
        })
        .or_else(|| {
            let message = format!(
                "rows are older than spec.freshness.rows ({}): {}: look at the sink's pods and at ClickHouse's load",
                situation.spec.freshness.rows,
                names(&late, situation.tables.len())
            );
            (!late.is_empty()).then_some((Reason::Stale, message))
        })
        .or_else(|| old_views(situation, reason == Some(Reason::ViewsStale)));
    let behind = connector_lag.map(|(lag_ms, _)| lag_ms);
    let (Some(age), None) = (oldest.max(behind), unreported) else {
        return Some(Freshness { bucket: "Unknown", missed });
    };
    Some(Freshness { bucket: age_bucket(age, before), missed })
}

/// The bucket of an age, milliseconds; `before` is the one that is shown now.
pub fn age_bucket(age: i64, before: Option<&str>) -> &'static str {
    // A value near a bound would flip the status at each look: the old bucket holds while it is nearly right.
    if let Some(index) = BUCKETS.iter().position(|(name, _)| Some(*name) == before) {
        let above = age < BUCKETS[index].1.saturating_mul(2);
        let below = index == 0 || age * 2 > BUCKETS[index - 1].1;
        if above && below {
            return BUCKETS[index].0;
        }
    }
    BUCKETS.iter().find(|(_, bound)| age < *bound).map_or(">1m", |(name, _)| name)
}

/// Age of a table's oldest partition, milliseconds, or a partition of its topic that no sink has reported.
pub fn age(situation: &Situation<'_>, source: &SourceTable, target: &str) -> Result<i64, i32> {
    let topic = Topics { prefix: &situation.spec.kafka.topic_prefix }.table(source);
    let wanted = situation.observed.kafka.known().and_then(|facts| facts.topics.get(&topic)).copied();
    let progress = situation.observed.clickhouse.known().and_then(|facts| facts.progress.get(target));
    let Some(partitions) = progress.map(|progress| &progress.partitions).filter(|all| !all.is_empty()) else {
        return Err(0);
    };
    if let Some(missing) = (0..wanted.unwrap_or(0)).find(|partition| !partitions.contains_key(partition)) {
        return Err(missing);
    }
    // Rows of partitions that the topic no longer has say nothing.
    let own = partitions.iter().filter(|(partition, _)| wanted.is_none_or(|wanted| **partition < wanted));
    own.map(|(_, progress)| age_of(progress, situation.now_ms)).max().ok_or(0)
}

/// Age of the oldest of partitions, milliseconds.
pub fn oldest(partitions: &BTreeMap<i32, PartitionProgress>, now_ms: i64) -> Option<i64> {
    partitions.values().map(|progress| age_of(progress, now_ms)).max()
}

fn age_of(progress: &PartitionProgress, now_ms: i64) -> i64 {
    // How late it was when it was written; once nothing is written any more, the time since counts.
    let silent = now_ms - progress.applied_at_ms > SILENT_MS;
    let until = if silent { now_ms } else { progress.applied_at_ms };
    (until - progress.fresh_to_ms).max(0)
}

/// A connector that does not run: what it has not read grows older with every moment.
fn connector_stands(situation: &Situation<'_>) -> Option<(Reason, String)> {
    let state = situation.spec.source.connect.state;
    if state != ConnectorState::Running {
        let message = format!("spec.source.connect.state is {state:?}: no change leaves the source");
        return Some((Reason::ConnectorPaused, message));
    }
    // What waits for consent is late from the first moment, though the last rows are young.
    let waits = |reason: &Reason| matches!(reason, Reason::SlotLost | Reason::IdentityChanged);
    if let Some(reason) = situation.problems.iter().map(|problem| problem.reason).find(waits) {
        let message = "changes are lost, or may be, and wait for consent: the condition with this reason says what to do";
        return Some((reason, message.to_owned()));
    }
    let Some(live) = &situation.observed.connect.known()?.connector else {
        let message = "there is no connector, and no change leaves the source: ConnectorRunning says why";
        return Some((Reason::ConnectorPaused, message.to_owned()));
    };
    if live.state == "FAILED" || live.tasks.iter().any(|task| task.state == "FAILED") {
        let message = "the connector failed, and no change leaves the source: ConnectorRunning says why";
        return Some((Reason::ConnectorFailed, message.to_owned()));
    }
    // Workers that begin to share tasks anew have neither state.
    matches!(live.state.as_str(), "STOPPED" | "PAUSED").then(|| {
        let message = format!(
            "the connector is {}, and no change leaves the source: ConnectorRunning says why",
            live.state
        );
        (Reason::ConnectorPaused, message)
    })
}

/// A table that a sink keeps back or that is read: that it is late has a cause of its own.
fn standing_table(situation: &Situation<'_>, late: &[&SourceTable]) -> Option<(Reason, String)> {
    let facts = situation.observed.clickhouse.known()?;
    let target_of = |source: &SourceTable| {
        situation.tables.iter().find(|(known, _)| known == source).map(|(_, target)| target)
    };
    late.iter().find_map(|source| {
        use tidemark_crds::ledger::TableState;
        let states = facts.states.get(target_of(source)?)?;
        let worst =
            states.values().map(|state| state.state).filter(|state| *state != TableState::Streaming).max()?;
        let (reason, what) = match worst {
            TableState::Held => (Reason::TableHeld, "is held"),
            TableState::Retrying => (Reason::InsertFailing, "cannot be written"),
            TableState::Stopped | TableState::Streaming => (Reason::TableStopped, "is stopped"),
        };
        Some((reason, format!("{source} {what}, and its rows grow old: status.tables.degraded says why")))
    })
}

/// Views whose refreshes are longer ago than the objective. It counts how old a view is before its next refresh, too, so
/// that one which cannot be quick enough is late all the time and not in the second half of each round.
fn old_views(situation: &Situation<'_>, was_late: bool) -> Option<(Reason, String)> {
    let facts = situation.observed.clickhouse.known()?;
    let objective = &situation.spec.freshness.views;
    let late: Vec<&String> = (situation.views.iter())
        .filter(|view| {
            let refresh = facts.refreshes.get(&format!("{view}__refresh"));
            refresh.is_some_and(|refresh| is_old(situation, view, refresh, was_late))
        })
        .collect();
    let message = format!(
        "views show data that is older than spec.freshness.views ({objective}) allows: {}: look at ClickHouse's load and at \
         view_refreshes, or let them be refreshed more often",
        some(&late)
    );
    (!late.is_empty()).then_some((Reason::ViewsStale, message))
}

fn is_old(situation: &Situation<'_>, view: &str, refresh: &RefreshFacts, was_late: bool) -> bool {
    if refresh.last_success_ms == 0 {
        // One that is filled for the first time is not there yet.
        return !refresh.exception.is_empty();
    }
    let ms = |text: &str| duration::milliseconds(text).ok().and_then(|ms| i64::try_from(ms).ok());
    let (Some(objective), Some(every)) = (ms(&situation.spec.freshness.views), ms(interval(situation, view)))
    else {
        return false;
    };
    // Who asks for a view at a longer interval has asked for older data.
    let limit = if every < objective { objective } else { every.saturating_add(objective) };
    let limit = if was_late { limit / 4 * 3 } else { limit };
    let takes = i64::try_from(refresh.duration_ms).unwrap_or(i64::MAX);
    (situation.now_ms - refresh.last_success_ms).max(every.saturating_add(takes)) > limit
}

/// How often a view is refreshed.
fn interval<'a>(situation: &'a Situation<'_>, view: &str) -> &'a str {
    let views = &situation.spec.views;
    let own = views.extra.iter().find(|extra| extra.name == view);
    own.and_then(|extra| extra.materialization.every.as_deref()).unwrap_or(&views.refresh_interval)
}

fn names(late: &[&SourceTable], all: usize) -> String {
    if late.len() == all { "all tables".to_owned() } else { some(late) }
}

fn some<T: ToString>(late: &[T]) -> String {
    let shown: Vec<String> = late.iter().take(MOST_NAMES).map(ToString::to_string).collect();
    let more = if late.len() > MOST_NAMES { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}
