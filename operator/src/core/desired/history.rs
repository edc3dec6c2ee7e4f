//! The connector's history: a row for each change of its state, which dashboards and alerts read. Pure.

use tidemark_crds::ledger::ConnectorRecord;

use crate::core::effect::{ClickHouseEffect, Effect, FreshTo, HistoryRow};
use crate::core::facts::{ConnectFacts, ConnectorFacts, Observation};
use crate::core::position::{ReadTo, lag_after};
use crate::core::step::{Fact, Stage, Step, StepKind};

/// State of a connector that Connect does not have.
const MISSING: &str = "MISSING";
/// State of a connector whose Connect gives no answer.
const UNREACHABLE: &str = "UNREACHABLE";
const FAILED: &str = "FAILED";
const RUNNING: &str = "RUNNING";

/// Plans the row that says how the connector is and how far behind, where that is not how the newest one, `last`, says
/// it was.
pub fn step(
    database: &str,
    pipeline: &str,
    seen: &Observation<ConnectFacts>,
    (read_to, wal): (Option<ReadTo>, Option<&str>),
    last: Option<&ConnectorRecord>,
) -> Option<Step> {
    let mut now = record(seen, last)?;
    // While nobody knows, it is as it was.
    now.lag = match read_to {
        Some(read_to) => lag_after(read_to, last.map_or("", |last| &last.lag)).to_owned(),
        None => last.map_or_else(String::new, |last| last.lag.clone()),
    };
    now.wal = match wal {
        Some(wal) => wal.to_owned(),
        None => last.map_or_else(String::new, |last| last.wal.clone()),
    };
    if last == Some(&now) {
        return None;
    }
    let held = if now.wal.is_empty() { String::new() } else { format!(", its slot holds back {}", now.wal) };
    let behind = if now.lag.is_empty() { String::new() } else { format!(", {} behind the source", now.lag) };
    Some(Step {
        stage: Stage::History,
        kind: StepKind::Create,
        what: format!("note that the connector is {}{behind}{held}", now.state),
        needs: vec![Fact::Bookkeeping],
        gives: None,
        effect: Effect::from(ClickHouseEffect::Record(HistoryRow {
            database: database.to_owned(),
            pipeline: pipeline.to_owned(),
            fresh_to: fresh_to(&now.lag, read_to),
            record: now,
        })),
    })
}

/// Up to when the source is read; what was noted last stays where no look is known that the connector has passed.
fn fresh_to(lag: &str, read_to: Option<ReadTo>) -> FreshTo {
    if lag.is_empty() {
        return FreshTo::Now;
    }
    match read_to {
        Some(ReadTo { at_ms: Some(at_ms), .. }) => FreshTo::At(at_ms),
        Some(ReadTo { at_ms: None, first_ms, .. }) => FreshTo::LastOr(first_ms),
        None => FreshTo::Last,
    }
}

/// How the connector is; nothing for one that is not there yet.
fn record(seen: &Observation<ConnectFacts>, last: Option<&ConnectorRecord>) -> Option<ConnectorRecord> {
    let restarts = last.map_or(0, |last| last.restarts);
    let gone = |state: &str, error: String| {
        last.map(|_| ConnectorRecord {
            state: state.to_owned(),
            error,
            restarts,
            ..ConnectorRecord::default()
        })
    };
    match seen {
        Observation::Known(ConnectFacts { connector: Some(live), .. }) => {
            let mut now = of_connector(live);
            let failed = last.is_some_and(|last| last.state == FAILED);
            // On its way back it may be seen unassigned or restarting first.
            let runs_again = failed && !matches!(now.state.as_str(), FAILED | "PAUSED" | "STOPPED");
            now.restarts = restarts + u32::from(runs_again);
            Some(now)
        }
        Observation::Known(_) => gone(MISSING, String::new()),
        Observation::Unreachable(failure) => gone(UNREACHABLE, failure.message.clone()),
        Observation::Absent | Observation::NotAsked => None,
    }
}

fn of_connector(live: &ConnectorFacts) -> ConnectorRecord {
    let count = |tasks: usize| u32::try_from(tasks).unwrap_or(u32::MAX);
    let failed = live.tasks.iter().filter(|task| task.state == FAILED);
    let failed_tasks = count(failed.clone().count());
    let other = live.tasks.iter().map(|task| task.state.as_str()).find(|state| *state != RUNNING);
    let state = match live.state.as_str() {
        RUNNING if failed_tasks > 0 => FAILED,
        RUNNING if live.tasks.is_empty() => "UNASSIGNED",
        RUNNING => other.unwrap_or(RUNNING),
        state => state,
    };
    ConnectorRecord {
        state: state.to_owned(),
        tasks: count(live.tasks.len()),
        failed_tasks,
        restarts: 0,
        error: failed.clone().find_map(|task| task.error.clone()).unwrap_or_default(),
        lag: String::new(),
        wal: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::facts::{Failure, FailureClass, TaskFacts};
    use crate::core::statement;

    fn seen(state: &str, task: &str) -> Observation<ConnectFacts> {
        let error = (task == FAILED).then(|| "it's broken".to_owned());
        let tasks = vec![TaskFacts { id: 0, state: task.into(), error, is_stuck: false }];
        let connector = ConnectorFacts { state: state.into(), tasks, ..ConnectorFacts::default() };
        Observation::Known(ConnectFacts {
            connector: Some(connector),
            plugin_installed: true,
            kafka_cluster_id: String::new(),
        })
    }

    fn after(last: &mut Option<ConnectorRecord>, seen: &Observation<ConnectFacts>) -> Option<(String, u32)> {
        let now = record(seen, last.as_ref())?;
        let found = (now.state.clone(), now.restarts);
        *last = Some(now);
        Some(found)
    }

    fn sql_of(effect: Option<Effect>) -> String {
        let Some(Effect::ClickHouse(effect)) = effect else { panic!("a statement: {effect:?}") };
        statement::clickhouse(&effect)
    }

    #[test]
    fn a_failure_and_the_way_back_are_one_restart() {
        let mut last = None;
        let unreachable = Observation::Unreachable(Failure {
            class: FailureClass::Unreachable,
            message: "no answer".into(),
        });
        let missing = Observation::Known(ConnectFacts {
            connector: None,
            plugin_installed: true,
            kafka_cluster_id: String::new(),
        });
        for nothing_yet in [&unreachable, &missing, &Observation::NotAsked] {
            assert_eq!(after(&mut last, nothing_yet), None);
        }
        let steps = [
            (seen(RUNNING, RUNNING), (RUNNING, 0)),
            (seen(RUNNING, FAILED), (FAILED, 0)),
            (seen(RUNNING, "UNASSIGNED"), ("UNASSIGNED", 1)),
            (seen(RUNNING, RUNNING), (RUNNING, 1)),
            (seen(FAILED, RUNNING), (FAILED, 1)),
            (seen("STOPPED", RUNNING), ("STOPPED", 1)),
            (unreachable, (UNREACHABLE, 1)),
            (missing, (MISSING, 1)),
            (seen(RUNNING, RUNNING), (RUNNING, 1)),
        ];
        for (seen, (state, restarts)) in steps {
            assert_eq!(after(&mut last, &seen), Some((state.to_owned(), restarts)));
        }
    }

    #[test]
    fn the_same_state_is_not_noted_twice_and_an_error_is_quoted() {
        let failed = seen(RUNNING, FAILED);
        let step_of = |last| step("shop", "a/b", &failed, (None, None), last).map(|step| step.effect);
        let sql = sql_of(step_of(None));
        assert!(sql.contains(r"'it\'s broken'"), "{sql}");
        assert_eq!(step_of(record(&failed, None).as_ref()), None);
    }

    #[test]
    fn a_row_is_written_when_the_lag_passes_a_bound_and_not_while_it_grows() {
        let running = seen(RUNNING, RUNNING);
        let last = record(&running, None).unwrap();
        let sql = |lag_ms, at_ms, last: &ConnectorRecord| {
            let read_to = ReadTo { at_ms, first_ms: 7, lag_ms };
            let step = step("shop", "a/b", &running, (Some(read_to), None), Some(last))?;
            Some(sql_of(Some(step.effect)))
        };
        assert_eq!(sql(20_000, Some(5), &last), None, "that of looking");
        let late = sql(31_000, Some(5), &last).unwrap();
        assert!(late.contains("'>30s', fromUnixTimestamp64Milli(toInt64(5), 'UTC')"), "{late}");
        let last = ConnectorRecord { lag: ">30s".into(), ..last };
        assert_eq!(sql(59_000, Some(5), &last), None);
        let unknown = sql(61_000, None, &last).unwrap();
        assert!(
            unknown.contains("'>1m', ifNull((SELECT argMax(") && unknown.contains("toInt64(7)"),
            "{unknown}"
        );
        assert!(sql(0, Some(9), &last).unwrap().contains("'', NULL,"), "caught up");
    }

    #[test]
    fn a_row_is_written_when_the_slot_passes_a_bound_of_the_log_whatever_the_connector_does() {
        let paused = seen("PAUSED", "PAUSED");
        let last = record(&paused, None).unwrap();
        let of = |wal, last: &ConnectorRecord| step("shop", "a/b", &paused, (None, wal), Some(last));
        let step = of(Some(">1Gi"), &last).unwrap();
        assert!(step.what.ends_with("its slot holds back >1Gi"), "{}", step.what);
        let sql = sql_of(Some(step.effect));
        assert!(sql.contains("NULL, '>1Gi', now64(3)"), "{sql}");
        let last = ConnectorRecord { wal: ">1Gi".into(), ..last };
        assert_eq!(of(Some(">1Gi"), &last), None);
        assert_eq!(of(None, &last), None, "while nobody knows, it is as it was");
        assert!(of(Some(""), &last).is_some(), "it was read");
    }
}
