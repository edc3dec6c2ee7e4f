//! The conditions together: what is known of each, which of them count for the whole, and when to look again.

use std::time::Duration;

use serde_json::json;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::ledger::SinkState;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::credentials::{Holder, Lack, Missing};
use tidemark_operator::core::facts::{
    Failure, FailureClass, GrafanaFacts, Observation, Observed, ReaderFacts,
};
use tidemark_operator::core::pace::least;
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::problem::{Left, Problem};
use tidemark_operator::core::rollout::Rollout;
use tidemark_operator::core::status::same;

use super::{
    Case, a_step, case, condition, holding, judged, judged_after, judged_with_nexts, known, letters, say,
    streaming,
};
use crate::fixture::{Fixture, fixture, unreachable};

/// When the verdicts ask for another look.
fn next(fixture: &Fixture, case: &Case) -> Option<Duration> {
    least(judged_with_nexts(fixture, case, &AnalyticsPipelineStatus::default(), 0).1, 1)
}

#[test]
fn what_only_a_person_can_change_waits_for_a_change_and_what_goes_on_by_itself_does_not() {
    let fixture = fixture();
    assert_eq!(next(&fixture, &streaming(&fixture)), None, "at rest");
    for reason in Reason::ALL {
        for condition in ConditionType::REQUIRED {
            let problem = Problem::of_all(condition, *reason, "mend it");
            let is_terminal = problem.is_terminal();
            let found = next(&fixture, &Case { problems: vec![problem], ..streaming(&fixture) });
            assert!(!is_terminal || found.is_none(), "{condition:?} {reason:?}: {found:?}");
        }
    }
    let mut asking = streaming(&fixture);
    let asks = SinkState { wants: (1, 700), ..SinkState::default() };
    say(known(&mut asking.observed.clickhouse), "a", asks);
    let soon = next(&fixture, &asking).expect("a sink waits for an answer");
    let problem = Problem::of(ConditionType::TablesInSync, "public.orders", Reason::TypeConflict, "mend it");
    asking.problems.push(problem);
    assert_eq!(next(&fixture, &asking), None, "which no look brings");
    let mut replaced = streaming(&fixture);
    let Observation::Known(kubernetes) = &mut replaced.observed.kubernetes else { unreachable!() };
    kubernetes.rollout = Rollout { replicas: 2, available: 1, updated: 1, failure: None };
    assert_eq!(next(&fixture, &replaced), Some(soon));
    let Observation::Known(kubernetes) = &mut replaced.observed.kubernetes else { unreachable!() };
    kubernetes.rollout.failure = Some("no such image".into());
    assert_eq!(next(&fixture, &replaced), None);
    let mut failing = streaming(&fixture);
    let Observation::Known(connect) = &mut failing.observed.connect else { unreachable!() };
    connect.connector.as_mut().unwrap().state = "FAILED".into();
    assert!(
        next(&fixture, &failing).is_some_and(|later| later > soon),
        "its restart comes when its pause is over"
    );
}

#[test]
fn all_conditions_are_there_on_first_sight_and_the_generation_advances() {
    let fixture = fixture();
    let status = judged(&fixture, &Case { observed: Observed::default(), ..case(&fixture) });
    assert_eq!(status.conditions.len(), ConditionType::ALL.len());
    assert_eq!(status.observed_generation, Some(7));
    assert_eq!(condition(&status, ConditionType::Ready).0, "Unknown");
}

#[test]
fn what_cannot_be_reached_is_unknown_and_what_refuses_is_false() {
    let fixture = fixture();
    let mut silent = case(&fixture);
    silent.observed.clickhouse = unreachable();
    let status = judged(&fixture, &silent);
    let (is, reason, message) = condition(&status, ConditionType::TablesInSync);
    assert_eq!((is.as_str(), reason.as_str()), ("Unknown", "Unreachable"));
    assert!(message.contains("http://ch:8123"), "{message}");
    assert_eq!(
        condition(&status, ConditionType::SourceReady).0,
        "True",
        "the others are judged all the same"
    );

    let mut refused = case(&fixture);
    refused.observed.postgres = Observation::Unreachable(Failure {
        class: FailureClass::Authentication,
        message: "password authentication failed".into(),
    });
    let (is, reason, message) = condition(&judged(&fixture, &refused), ConditionType::SourceReady);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "AuthenticationFailed"));
    assert!(message.contains("postgres") && message.contains("Secret"), "{message}");
}

#[test]
fn one_refused_table_is_named_and_degrades_itself() {
    let fixture = fixture();
    let problem = Problem::of(
        ConditionType::TablesInSync,
        "public.orders",
        Reason::NoPrimaryKey,
        "public.orders has no key",
    );
    let status = judged(&fixture, &Case { problems: vec![problem], ..case(&fixture) });
    assert_eq!(condition(&status, ConditionType::TablesInSync).1, "NoPrimaryKey");
    assert_eq!(condition(&status, ConditionType::Stalled).0, "True", "only a person can mend it");
    assert_eq!(condition(&status, ConditionType::ConnectorRunning).0, "True");
    let degraded = &status.tables.unwrap().degraded;
    assert_eq!((degraded[0].name.as_str(), degraded[0].state.as_str()), ("public.orders", "Refused"));
}

fn lacking(why: Lack) -> Missing {
    let (field, name, key) = ("spec.x".into(), "a".into(), "password".into());
    Missing { field, holder: Holder::Secret, name, key, why }
}

#[test]
fn a_secret_that_cannot_be_read_is_a_verdict_and_everything_else_is_judged_all_the_same() {
    let fixture = fixture();
    let refused = |class| Lack::Answer(Failure { class, message: "answered 403".into() });
    let of = |missing: &[Lack]| {
        let missing = missing.iter().cloned().map(lacking).collect();
        let status = judged(&fixture, &Case { missing, ..streaming(&fixture) });
        let (is, reason, message) = condition(&status, ConditionType::CredentialsResolved);
        assert_eq!(condition(&status, ConditionType::ConnectorRunning).0, "True");
        assert_eq!(condition(&status, ConditionType::Ready).0, is);
        assert_eq!(status.observed_generation, Some(7));
        (format!("{is} {reason}"), message)
    };
    let (forbidden, silent) = (refused(FailureClass::Permission), refused(FailureClass::Unreachable));
    assert_eq!(of(std::slice::from_ref(&forbidden)).0, "False PermissionDenied");
    assert_eq!(of(std::slice::from_ref(&silent)).0, "Unknown Unreachable");
    let (worst, message) = of(&[silent, forbidden]);
    assert_eq!(worst, "False PermissionDenied", "what a person has to mend comes first");
    assert_eq!(message.matches("the Secret \"a\" cannot be read").count(), 2, "{message}");
}

#[test]
fn missing_credentials_an_invalid_spec_and_no_progress_have_their_reasons() {
    let fixture = fixture();
    let missing = Case { missing: vec![lacking(Lack::Object)], ..case(&fixture) };
    assert_eq!(
        condition(&judged(&fixture, &missing), ConditionType::CredentialsResolved).1,
        "CredentialsMissing"
    );
    let invalid = Case { invalid: Some("spec.tables: twice"), ..case(&fixture) };
    let status = judged(&fixture, &invalid);
    assert_eq!(condition(&status, ConditionType::SpecValid).1, "InvalidSpec");
    assert_eq!((status.observed_generation, status.applied_generation), (Some(7), None));
    let stuck = Case { no_progress: true, ..case(&fixture) };
    assert_eq!(condition(&judged(&fixture, &stuck), ConditionType::Stalled).1, "NoProgress");
}

#[test]
fn a_generation_is_applied_when_everything_of_it_was_seen_to_be() {
    type ChangeCase = fn(&mut Case);
    let fixture = fixture();
    let silences: [(&str, ChangeCase); 5] = [
        ("postgres", |case| case.observed.postgres = unreachable()),
        ("kafka", |case| case.observed.kafka = unreachable()),
        ("connect", |case| case.observed.connect = unreachable()),
        ("clickhouse", |case| case.observed.clickhouse = unreachable()),
        ("kubernetes", |case| case.observed.kubernetes = unreachable()),
    ];
    let others: [(&str, ChangeCase); 5] = [
        ("nothing was asked", |case| case.observed = Observed::default()),
        ("a table is refused", |case| {
            let key =
                Problem::of(ConditionType::TablesInSync, "public.orders", Reason::NoPrimaryKey, "no key");
            case.problems.push(key);
        }),
        ("a Secret is missing", |case| case.missing.push(lacking(Lack::Object))),
        ("pods are being replaced", |case| known(&mut case.observed.kubernetes).rollout.updated = 1),
        ("a topic lacks partitions", |case| {
            case.left.push(Left { is_open: true, ..Left::settled(ConditionType::ConnectorRunning, "few") });
        }),
    ];
    let before = AnalyticsPipelineStatus { applied_generation: Some(6), ..Default::default() };
    let applied = |change: ChangeCase| {
        let mut case = streaming(&fixture);
        change(&mut case);
        judged_after(&fixture, &case, &before, 0).applied_generation
    };
    for (what, change) in silences.into_iter().chain(others) {
        assert_eq!(applied(change), Some(6), "{what}");
    }
    let data: [(&str, ChangeCase); 4] = [
        ("all is well", |_| {}),
        ("letters", |case| letters(known(&mut case.observed.clickhouse), 3, (2, 501))),
        ("the disk fills", |case| holding(case, 20, true)),
        ("what others decided", |case| case.left.push(Left::settled(ConditionType::SinkAvailable, "image"))),
    ];
    for (what, change) in data {
        assert_eq!(applied(change), Some(7), "{what}");
    }
}

#[test]
fn a_suspended_pipeline_is_ready_as_long_as_nothing_is_held_back() {
    let mut fixture = fixture();
    let plan = || {
        Plan::new(vec![a_step()], std::collections::BTreeSet::default(), std::collections::BTreeSet::new())
    };
    fixture.spec.suspend = true;
    assert_eq!(condition(&judged(&fixture, &streaming(&fixture)), ConditionType::Ready).0, "True");
    let held = judged(&fixture, &Case { plan: plan(), ..streaming(&fixture) });
    let (is, reason, message) = condition(&held, ConditionType::Ready);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "Suspended"));
    assert!(message.contains("create topic shop.message"), "{message}");
    assert_eq!(held.applied_generation, None);
    assert_eq!(condition(&held, ConditionType::Reconciling).1, "Suspended");
    // What is worse is told first.
    let mut silent = Case { plan: plan(), ..streaming(&fixture) };
    silent.observed.postgres = unreachable();
    assert_eq!(condition(&judged(&fixture, &silent), ConditionType::Ready).1, "Unreachable");
}

#[test]
fn a_difference_that_is_left_is_named_and_stops_nothing() {
    let fixture = fixture();
    for kind in [ConditionType::SinkAvailable, ConditionType::ConnectorRunning] {
        let left = vec![Left::settled(kind, "spec.image is written by another")];
        let status = judged(&fixture, &Case { left, ..streaming(&fixture) });
        let (is, reason, message) = condition(&status, kind);
        assert_eq!((is.as_str(), reason.as_str()), ("True", "Drifted"));
        assert!(message.contains("spec.image"), "{message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, "True");
    }
}

#[test]
fn a_status_that_says_the_same_later_is_the_same_and_keeps_its_times() {
    let fixture = fixture();
    let first = judged_after(&fixture, &case(&fixture), &AnalyticsPipelineStatus::default(), 100);
    let later = judged_after(&fixture, &case(&fixture), &first, 200);
    assert!(same(&first, &later));
    assert_eq!(first.conditions, later.conditions, "nothing flipped, so no time moved");
}

/// Makes a system give no answer.
type Silence = fn(&mut Observed);

#[test]
fn no_condition_is_true_while_a_system_that_it_speaks_of_gives_no_answer() {
    let mut fixture = fixture();
    fixture.spec.views = serde_json::from_value(json!({"extra": [
        {"name": "mine", "sql": {"inline": "SELECT 1"}, "materialization": {"type": "View"}}
    ]}))
    .unwrap();
    fixture.spec.grafana = serde_json::from_value(json!({
        "url": "http://grafana:3000", "credentials": {"secretName": "grafana"}, "reader": {"secretName": "reader"},
    }))
    .unwrap();
    let base = || {
        let mut observed = fixture.running();
        observed.grafana = Observation::Known(GrafanaFacts::default());
        observed.reader = Observation::Known(ReaderFacts::default());
        observed
    };
    let rests_on: [(ConditionType, &[Silence]); 6] = [
        (ConditionType::SourceReady, &[|observed| observed.postgres = unreachable()]),
        (
            ConditionType::ConnectorRunning,
            &[|observed| observed.kafka = unreachable(), |observed| observed.connect = unreachable()],
        ),
        (ConditionType::TablesInSync, &[|observed| observed.clickhouse = unreachable()]),
        (ConditionType::ViewsInSync, &[|observed| observed.clickhouse = unreachable()]),
        (ConditionType::SinkAvailable, &[|observed| observed.kubernetes = unreachable()]),
        (
            ConditionType::DashboardsInSync,
            &[
                |observed| observed.grafana = unreachable(),
                |observed| observed.reader = unreachable(),
                |observed| observed.clickhouse = unreachable(),
                |observed| observed.clickhouse = Observation::NotAsked,
            ],
        ),
    ];
    for (kind, silences) in rests_on {
        for (number, silence) in silences.iter().enumerate() {
            let mut observed = base();
            silence(&mut observed);
            let status = judged(&fixture, &Case { observed, ..case(&fixture) });
            let (is, reason, message) = condition(&status, kind);
            assert_ne!(is, "True", "{kind:?} {number}: {reason}");
            assert!(!message.is_empty(), "{kind:?} {number}: it does not say what gives no answer");
            assert_ne!(condition(&status, ConditionType::Ready).0, "True", "{kind:?} {number}");
        }
    }
    let well = judged(&fixture, &Case { observed: base(), ..case(&fixture) });
    assert_eq!(condition(&well, ConditionType::DashboardsInSync).0, "True", "{:?}", well.conditions);
}

#[test]
fn a_system_that_is_another_one_than_before_is_told_by_that_word() {
    let fixture = fixture();
    let message = "database shop of http://ch:8123 is another one than before (b)";
    let problem = Problem::of_all(ConditionType::TablesInSync, Reason::IdentityChanged, message);
    let moved = |what: &str| Problem::of_all(ConditionType::ConnectorRunning, Reason::IdentityChanged, what);
    let problems = vec![problem, moved("the brokers moved"), moved("connect moved")];
    let failure = Failure { class: FailureClass::Remote, message: message.into() };
    let observed = Observed { clickhouse: Observation::Unreachable(failure), ..fixture.running() };
    let status = judged(&fixture, &Case { observed, problems, ..case(&fixture) });
    assert_eq!(condition(&status, ConditionType::TablesInSync).1, "IdentityChanged");
    assert_eq!(condition(&status, ConditionType::ConnectorRunning).2, "the brokers moved; connect moved");
    assert_eq!(condition(&status, ConditionType::Stalled).0, "True", "only a person can mend it");
}
