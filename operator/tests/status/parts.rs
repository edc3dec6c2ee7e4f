//! What keeps one part of a pipeline from being well.

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::pipeline::Preset;
use tidemark_operator::core::facts::Observed;
use tidemark_operator::core::problem::Problem;
use tidemark_operator::core::restart::Steadiness;
use tidemark_operator::core::rollout::Rollout;
use tidemark_operator::core::status::same;

use super::{Case, case, condition, holding, judged, judged_after, known, streaming};
use crate::fixture::{fixture, unreachable};

#[test]
fn a_rollout_that_failed_is_not_ready_though_old_pods_are_available() {
    let fixture = fixture();
    let of = |rollout: Rollout| {
        let mut case = streaming(&fixture);
        known(&mut case.observed.kubernetes).rollout = rollout;
        judged(&fixture, &case)
    };
    let stuck = Rollout { replicas: 3, available: 2, updated: 1, failure: None };
    let status = of(stuck.clone());
    let (is, reason, _) = condition(&status, ConditionType::SinkAvailable);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "InProgress"));
    let failure = Some("ProgressDeadlineExceeded: ReplicaSet \"x\" has timed out progressing.".to_owned());
    let status = of(Rollout { failure, ..stuck });
    let (is, reason, message) = condition(&status, ConditionType::SinkAvailable);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "RolloutFailed"));
    assert!(
        message.contains("ProgressDeadlineExceeded") && message.contains("describe pods -l"),
        "{message}"
    );
    assert_eq!(condition(&status, ConditionType::Ready).1, "RolloutFailed");
    assert_eq!(condition(&status, ConditionType::Stalled).0, "True");
    let few = of(Rollout { replicas: 2, available: 1, updated: 2, failure: None });
    assert_eq!(condition(&few, ConditionType::SinkAvailable).1, "ReplicasUnavailable");
}

#[test]
fn what_waits_for_consent_is_late_from_the_first_moment() {
    let fixture = fixture();
    for (reason, object) in [(Reason::SlotLost, Some("source".to_owned())), (Reason::IdentityChanged, None)] {
        let condition_of = ConditionType::SourceReady;
        let problem = Problem { condition: condition_of, object, reason, message: "accept it".into() };
        let status = judged(&fixture, &Case { problems: vec![problem], ..streaming(&fixture) });
        let (is, told, message) = condition(&status, ConditionType::Fresh);
        assert_eq!((is.as_str(), told.as_str()), ("False", reason.as_str().as_str()), "{message}");
    }
}

#[test]
fn without_a_sink_a_generation_is_applied_once_its_pods_are_gone_whatever_they_said_last() {
    let mut fixture = fixture();
    fixture.spec.sink.replicas = 0;
    let mut seen = Vec::new();
    for (pods, said) in [(2, true), (0, true), (0, false)] {
        let mut case = streaming(&fixture);
        known(&mut case.observed.kubernetes).rollout = Rollout { replicas: pods, ..Rollout::default() };
        if !said {
            known(&mut case.observed.clickhouse).states.clear();
        }
        let status = judged(&fixture, &case);
        let of = |kind| condition(&status, kind).1;
        seen.push((
            status.applied_generation,
            of(ConditionType::SinkAvailable),
            of(ConditionType::TablesInSync),
        ));
    }
    let without = |applied, sink: &str| (applied, sink.to_owned(), "NotConfigured".to_owned());
    let ended = without(Some(7), "NotConfigured");
    assert_eq!(seen, [without(None, "InProgress"), ended.clone(), ended]);
}

/// The source holds back so many GiB.
#[test]
fn a_disk_that_fills_up_is_told_while_the_connector_is_paused_and_beside_every_other_fault() {
    use tidemark_crds::pipeline::ConnectorState::Paused;

    let mut fixture = fixture();
    fixture.spec.source.connect.state = Paused;
    let mut paused = case(&fixture);
    let fine = judged(&fixture, &paused);
    assert_eq!(condition(&fine, ConditionType::SourceReady).1, "AsDesired");
    holding(&mut paused, 3, true);
    let first = judged_after(&fixture, &paused, &fine, 1);
    let (is, reason, message) = condition(&first, ConditionType::SourceReady);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "WalRetentionHigh"));
    for part in ["more than 1GiB", "no max_slot_wal_keep_size", "is Paused", &fixture.name.replication_slot()]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(condition(&first, ConditionType::Ready).1, "WalRetentionHigh");
    assert_eq!(first.held_back.as_deref(), Some(">1Gi"));

    // It moves, and nothing is written.
    holding(&mut paused, 9, true);
    assert!(same(&first, &judged_after(&fixture, &paused, &first, 2)));
    paused.observed.postgres = unreachable();
    let silent = judged_after(&fixture, &paused, &first, 3);
    assert_eq!(silent.held_back.as_deref(), Some(">1Gi"), "while nobody knows, it is as it was");

    let mut faulty = case(&fixture);
    holding(&mut faulty, 20, false);
    let lacks = Problem::of_all(ConditionType::SourceReady, Reason::SourceNotReady, "wal_level is replica");
    faulty.problems.push(lacks);
    let (_, reason, message) = condition(&judged(&fixture, &faulty), ConditionType::SourceReady);
    assert_eq!(reason, "SourceNotReady");
    assert!(message.contains("wal_level is replica; ") && message.contains("more than 10GiB"), "{message}");
}

#[test]
fn what_keeps_the_connector_from_running_is_named() {
    let failing = |error: &str| {
        let error = error.to_owned();
        move |all: &mut Observed| {
            let task = &mut known(&mut all.connect).connector.as_mut().unwrap().tasks[0];
            (task.state, task.error) = ("FAILED".into(), Some(error.clone()));
        }
    };
    let starting = |blocking: Option<&str>| {
        let blocking = blocking.map(str::to_owned);
        move |all: &mut Observed| {
            known(&mut all.connect).connector.as_mut().unwrap().tasks.clear();
            known(&mut all.postgres).blocking.clone_from(&blocking);
        }
    };
    let fixture = fixture();
    let judge_with = |change: &dyn Fn(&mut Observed), steadiness| {
        let mut case = Case { steadiness, ..streaming(&fixture) };
        change(&mut case.observed);
        let status = judged(&fixture, &case);
        let (is, reason, message) = condition(&status, ConditionType::ConnectorRunning);
        (format!("{is} {reason}"), message, condition(&status, ConditionType::Ready).0)
    };
    let judge = |change: &dyn Fn(&mut Observed)| judge_with(change, Steadiness::Steady);
    let large = "Unrecoverable exception: The message is 70000000 bytes when serialized which is larger than 67108864, \
                 which is the value of the max.request.size configuration.";
    let (is, message, _) = judge(&failing(large));
    assert_eq!(is, "False RecordTooLarge");
    assert!(
        message.contains("spec.kafka.maxMessageBytes (64Mi)") && message.contains("70000000"),
        "{message}"
    );
    let long = format!("Failed {}: the slot is gone", "again and ".repeat(200));
    let (is, message, _) = judge(&failing(&long));
    assert_eq!(is, "False ConnectorFailed");
    assert!(message.ends_with("the slot is gone"), "{message}");
    let (is, message, _) = judge(&starting(Some("transaction 77 of pid 12 (bob, since 09:00)")));
    assert_eq!(is, "False InProgress");
    assert!(message.contains("waits for transaction 77 of pid 12"), "{message}");
    assert_eq!(judge(&starting(None)).1, "the connector is starting");
    let (is, _, ready) = judge_with(&|_| {}, Steadiness::Unstable);
    assert_eq!((is.as_str(), ready.as_str()), ("False ConnectorUnstable", "False"), "between two failures");
    assert_eq!(judge(&|_| {}).0, "True AsDesired");
}

#[test]
fn a_view_of_which_nothing_is_known_is_not_in_sync() {
    let mut fixture = fixture();
    fixture.spec.views.preset = Preset::Ecommerce;
    let mut case = Case { views: vec!["sales".into()], ..streaming(&fixture) };
    case.views_open = vec!["sales".into()];
    let (is, reason, message) = condition(&judged(&fixture, &case), ConditionType::ViewsInSync);
    assert_eq!((is.as_str(), reason.as_str()), ("False", "InProgress"));
    assert!(message.contains("view sales"), "{message}");
}
