//! The connector's history: a row for each change of its state, which dashboards and alerts read. Pure.

use tidemark_crds::ledger::{CONNECTOR_TABLE, ConnectorRecord};
use tidemark_crds::quote::{literal, qualified};

use crate::effect::Effect;
use crate::facts::{ConnectFacts, ConnectorFacts, Observation};
use crate::step::{Fact, Stage, Step, StepKind};

/// State of a connector that Connect does not have.
const MISSING: &str = "MISSING";
/// State of a connector whose Connect gives no answer.
const UNREACHABLE: &str = "UNREACHABLE";
const FAILED: &str = "FAILED";
const RUNNING: &str = "RUNNING";

/// Plans the row that says how the connector is, where that is not how the newest one, `last`, says it was.
pub fn step(
    database: &str,
    pipeline: &str,
    seen: &Observation<ConnectFacts>,
    last: Option<&ConnectorRecord>,
) -> Option<Step> {
    let now = record(seen, last)?;
    if last == Some(&now) {
        return None;
    }
    let sql = format!(
        "INSERT INTO {} (pipeline, state, tasks, failed_tasks, restarts, error, seen_at) \
         VALUES ({}, {}, {}, {}, {}, {}, now64(3))",
        qualified(database, CONNECTOR_TABLE),
        literal(pipeline),
        literal(&now.state),
        now.tasks,
        now.failed_tasks,
        now.restarts,
        literal(&now.error),
    );
    Some(Step {
        stage: Stage::History,
        kind: StepKind::Create,
        what: format!("note that the connector is {}", now.state),
        needs: vec![Fact::Bookkeeping],
        gives: None,
        effect: Effect::ClickHouse { sql },
    })
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Failure, FailureClass, TaskFacts};

    fn seen(state: &str, task: &str) -> Observation<ConnectFacts> {
        let error = (task == FAILED).then(|| "it's broken".to_owned());
        let tasks = vec![TaskFacts { id: 0, state: task.into(), error }];
        let connector = ConnectorFacts { state: state.into(), tasks, ..ConnectorFacts::default() };
        Observation::Known(ConnectFacts { connector: Some(connector), plugin_installed: true })
    }

    fn after(last: &mut Option<ConnectorRecord>, seen: &Observation<ConnectFacts>) -> Option<(String, u32)> {
        let now = record(seen, last.as_ref())?;
        let found = (now.state.clone(), now.restarts);
        *last = Some(now);
        Some(found)
    }

    #[test]
    fn a_failure_and_the_way_back_are_one_restart() {
        let mut last = None;
        let unreachable = Observation::Unreachable(Failure {
            class: FailureClass::Unreachable,
            message: "no answer".into(),
        });
        let missing = Observation::Known(ConnectFacts { connector: None, plugin_installed: true });
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
        let step_of = |last| step("shop", "a/b", &failed, last).map(|step| step.effect);
        let Some(Effect::ClickHouse { sql }) = step_of(None) else { panic!("no step") };
        assert!(sql.contains(r"'it\'s broken'"), "{sql}");
        assert_eq!(step_of(record(&failed, None).as_ref()), None);
    }
}
