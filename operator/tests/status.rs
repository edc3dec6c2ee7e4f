//! Conditions and printer fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::ledger::{ReadRequest, SinkState, TableState};
use tidemark_crds::pipeline::Preset;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::credentials::{Holder, Lack, Missing};
use tidemark_operator::core::effect::{Effect, KafkaEffect};
use tidemark_operator::core::facts::{
    ClickHouseFacts, Failure, FailureClass, GrafanaFacts, Observation, Observed, PartitionProgress,
    ProgressFacts, ReadFacts, ReaderFacts, RefreshFacts, VerificationFacts,
};
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::position::ReadTo;
use tidemark_operator::core::problem::{Left, Problem};
use tidemark_operator::core::restart::Steadiness;
use tidemark_operator::core::rollout::Rollout;
use tidemark_operator::core::status::{Situation, same, status};
use tidemark_operator::core::step::{Stage, Step, StepKind};

use crate::fixture::{Fixture, fixture, unreachable};

const NOW: i64 = 1_800_000_000_000;

struct Case {
    observed: Observed,
    problems: Vec<Problem>,
    plan: Plan,
    missing: Vec<Missing>,
    invalid: Option<&'static str>,
    no_progress: bool,
    steadiness: Steadiness,
    left: Vec<Left>,
    views: Vec<String>,
    views_open: Vec<String>,
}

fn case(fixture: &Fixture) -> Case {
    Case {
        observed: fixture.running(),
        problems: vec![],
        plan: Plan::default(),
        missing: vec![],
        invalid: None,
        no_progress: false,
        steadiness: Steadiness::Steady,
        left: vec![],
        views: vec![],
        views_open: vec![],
    }
}

fn judged_after(
    fixture: &Fixture,
    case: &Case,
    before: &AnalyticsPipelineStatus,
    second: i64,
) -> AnalyticsPipelineStatus {
    let tables = [("public.orders".parse().unwrap(), "orders".to_owned())];
    let situation = Situation {
        kept: &[],
        left: &case.left,
        panels_open: false,
        views_open: &case.views_open,
        steadiness: case.steadiness,
        name: &fixture.name,
        generation: 7,
        spec: &fixture.spec,
        invalid: case.invalid,
        missing: &case.missing,
        observed: &case.observed,
        problems: &case.problems,
        plan: &case.plan,
        failures: &[],
        no_progress: case.no_progress,
        deleting: false,
        tables: &tables,
        views: &case.views,
        waiting: &[],
        identities: std::collections::BTreeMap::new(),
        now_ms: NOW,
    };
    status(&situation, before, &Time(jiff::Timestamp::from_second(second).unwrap()))
}

fn judged(fixture: &Fixture, case: &Case) -> AnalyticsPipelineStatus {
    judged_after(fixture, case, &AnalyticsPipelineStatus::default(), 0)
}

fn condition(status: &AnalyticsPipelineStatus, kind: ConditionType) -> (String, String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind.as_str()).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
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

/// A step that no condition but `Ready` and `Reconciling` speaks of.
fn a_step() -> Step {
    let keep = || KafkaEffect::CreateTopic {
        name: "shop.message".into(),
        partitions: 1,
        replication_factor: -1,
        config: std::collections::BTreeMap::new(),
    };
    Step {
        stage: Stage::Topic,
        kind: StepKind::Create,
        what: "create topic shop.message".into(),
        needs: vec![],
        gives: None,
        effect: Effect::Kafka(keep()),
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

fn progress(ages: &[i64]) -> ProgressFacts {
    let partition = |age: &i64| PartitionProgress {
        fresh_to_ms: NOW - age,
        applied_at_ms: NOW,
        ..PartitionProgress::default()
    };
    ProgressFacts { partitions: (0..).zip(ages.iter().map(partition)).collect() }
}

fn sink(state: TableState, reason: &str, message: &str) -> SinkState {
    SinkState { state, reason: reason.into(), message: message.into(), ..SinkState::default() }
}

fn known<T>(observation: &mut Observation<T>) -> &mut T {
    match observation {
        Observation::Known(facts) => Some(facts),
        _ => None,
    }
    .unwrap()
}

/// The source holds back so many GiB.
fn holding(case: &mut Case, gib: u64, active: bool) {
    let slot = known(&mut case.observed.postgres).slot.as_mut().unwrap();
    (slot.retained_bytes, slot.active, slot.wal_status) = (gib << 30, active, "extended".into());
}

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

/// A pipeline whose only table was read and streams.
fn streaming(fixture: &Fixture) -> Case {
    let mut case = case(fixture);
    let facts = known(&mut case.observed.clickhouse);
    facts.ledger.epoch = Some(2);
    let request = ReadRequest { epoch: 2, layout: 1, reason: "first load".into(), ..ReadRequest::default() };
    facts.ledger.reads.insert("orders".into(), (7, request));
    let read = ReadFacts { request: 7, epoch: 2, state: "read".into(), barrier: 500, ..ReadFacts::default() };
    facts.reads.insert("orders".into(), read);
    let two = [("a".to_owned(), SinkState::default()), ("b".to_owned(), SinkState::default())];
    facts.states.insert("orders".into(), two.into());
    facts.progress.insert("orders".into(), progress(&[900, 400]));
    let topics = [("shop.public.orders".to_owned(), 2)];
    known(&mut case.observed.kafka).topics.extend(topics);
    case
}

/// Changes the facts of ClickHouse.
type Change = fn(&mut ClickHouseFacts);

fn say(facts: &mut ClickHouseFacts, replica: &str, state: SinkState) {
    facts.states.entry("orders".into()).or_default().insert(replica.into(), state);
}

fn letters(facts: &mut ClickHouseFacts, count: u64, at: (u16, u64)) {
    let partitions = &mut facts.progress.get_mut("orders").unwrap().partitions;
    let partition = partitions.get_mut(&1).unwrap();
    (partition.dead_letters, partition.dead_at) = (count, at);
}

/// What happened; the entry's state and reason; whether it counts as streaming; `TablesInSync`.
const TABLES: &[(&str, Change, &str, i32, &str)] = &[
    ("read, and every sink streams", |_| {}, "", 1, "True AsDesired"),
    (
        "no read was asked for",
        |facts| facts.ledger.reads.clear(),
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    (
        "the request is of an epoch before",
        |facts| facts.ledger.epoch = Some(3),
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    ("no sink took the request yet", |facts| facts.reads.clear(), "Reading Reading", 0, "False Reading"),
    (
        "it is being read",
        |facts| facts.reads.get_mut("orders").unwrap().state = "reading".into(),
        "Reading Reading",
        0,
        "False Reading",
    ),
    (
        "an earlier request was answered",
        |facts| facts.reads.get_mut("orders").unwrap().request = 6,
        "Reading Reading",
        0,
        "False Reading",
    ),
    (
        "the read fails",
        |facts| {
            let read = facts.reads.get_mut("orders").unwrap();
            (read.state, read.error) = ("failed".into(), "permission denied for orders".into());
        },
        "Reading ReadFailed",
        0,
        "False ReadFailed",
    ),
    (
        "one of two replicas holds it",
        |facts| {
            say(
                facts,
                "b",
                sink(TableState::Held, "layout", "public.orders: a value is wider than its column"),
            );
        },
        "Held TableHeld",
        0,
        "False TableHeld",
    ),
    (
        "one retries while the other holds",
        |facts| {
            say(facts, "a", sink(TableState::Held, "layout", ""));
            say(facts, "b", sink(TableState::Retrying, "insert", "code 252: too many parts"));
        },
        "Retrying InsertFailing",
        0,
        "False InsertFailing",
    ),
    (
        "a stopped one is the worst",
        |facts| {
            say(facts, "a", sink(TableState::Stopped, "view", "code 395: thrown by a view"));
            say(facts, "b", sink(TableState::Retrying, "insert", ""));
        },
        "Stopped TableStopped",
        0,
        "False TableStopped",
    ),
    (
        "too many dead letters",
        |facts| say(facts, "a", sink(TableState::Stopped, "dead-letters", "")),
        "Stopped TooManyDeadLetters",
        0,
        "False TooManyDeadLetters",
    ),
    (
        "it cannot be written while it is read",
        |facts| {
            facts.reads.get_mut("orders").unwrap().state = "reading".into();
            say(facts, "a", sink(TableState::Stopped, "disk", "code 243"));
        },
        "Stopped TableStopped",
        0,
        "False TableStopped",
    ),
    (
        "a sink that knows no layout before the first read",
        |facts| {
            facts.ledger.reads.clear();
            say(facts, "a", sink(TableState::Held, "layout", "no layout yet"));
        },
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    ("no replica lives", |facts| facts.states.clear(), "Pending NotObserved", 0, "Unknown NotObserved"),
    (
        "letters since its read",
        |facts| letters(facts, 3, (2, 501)),
        "Degraded DeadLetters",
        1,
        "False DeadLetters",
    ),
    (
        "letters of its read",
        |facts| letters(facts, 3, (2, 500)),
        "Degraded DeadLetters",
        1,
        "False DeadLetters",
    ),
    ("all letters were replayed or skipped", |facts| letters(facts, 0, (2, 501)), "", 1, "True AsDesired"),
    ("letters from before its read", |facts| letters(facts, 3, (2, 499)), "", 1, "True AsDesired"),
    ("letters of an epoch before", |facts| letters(facts, 3, (1, 900)), "", 1, "True AsDesired"),
];

#[test]
fn what_a_table_does_is_what_its_status_says() {
    let fixture = fixture();
    for (what, change, entry, streams, in_sync) in TABLES {
        let mut case = streaming(&fixture);
        change(known(&mut case.observed.clickhouse));
        let status = judged(&fixture, &case);
        let tables = status.tables.as_ref().unwrap();
        let shown: Vec<String> =
            tables.degraded.iter().map(|table| format!("{} {}", table.state, table.reason)).collect();
        assert_eq!(shown.join(", "), *entry, "{what}");
        assert_eq!(tables.streaming, *streams, "{what}");
        let (is, reason, message) = condition(&status, ConditionType::TablesInSync);
        assert_eq!(format!("{is} {reason}"), *in_sync, "{what}");
        assert!(entry.is_empty() || message.starts_with("public.orders: "), "{what}: {message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, is, "{what}");
    }
}

#[test]
fn what_a_sink_says_is_shown_with_the_servers_class_and_its_end() {
    let fixture = fixture();
    let mut case = streaming(&fixture);
    let long = format!("a constraint {} refused it", "of many words ".repeat(100));
    let said = SinkState { error_class: "Permanent".into(), ..sink(TableState::Stopped, "insert", &long) };
    say(known(&mut case.observed.clickhouse), "a", said);
    let status = judged(&fixture, &case);
    let message = &status.tables.unwrap().degraded[0].message;
    assert!(message.starts_with("public.orders: a constraint"), "{message}");
    assert!(message.ends_with("refused it (Permanent)") && message.chars().count() <= 512, "{message}");
}

#[test]
fn freshness_stays_in_its_bucket_near_the_bound_and_leaves_it_far_from_it() {
    let fixture = fixture();
    let aged = |age: i64, before: Option<&str>| {
        let mut case = streaming(&fixture);
        known(&mut case.observed.clickhouse).progress.insert("orders".into(), progress(&[age, 0]));
        let before = AnalyticsPipelineStatus { freshness: before.map(str::to_owned), ..Default::default() };
        judged_after(&fixture, &case, &before, 0)
    };
    let bucket = |age, before| aged(age, before).freshness.unwrap();
    assert_eq!(bucket(900, None), "<1s");
    assert_eq!(bucket(1_200, None), "<10s");
    assert_eq!(bucket(1_200, Some("<1s")), "<1s");
    assert_eq!(bucket(900, Some("<10s")), "<10s");
    assert_eq!(bucket(4_000, Some("<1s")), "<10s");
    assert_eq!(bucket(400, Some("<10s")), "<1s");
    assert_eq!(condition(&aged(8_000, None), ConditionType::Fresh).1, "Stale");
    assert_eq!(condition(&judged(&fixture, &case(&fixture)), ConditionType::Fresh).0, "Unknown");
}

/// What a sink says of a comparison; `Verified`.
const VERIFIED: &[(&str, VerificationFacts, &str)] = &[
    ("a full round an hour ago", compared(NOW - 3_600_000, 0), "True AsDesired"),
    ("rows that could not be repaired", compared(NOW - 3_600_000, 2), "False Differs"),
    ("a full round eight days ago", compared(NOW - 8 * 86_400_000, 0), "False Unverified"),
    ("the first round is under way", compared(0, 0), "Unknown InProgress"),
    ("the first round began eight days ago", began(NOW - 8 * 86_400_000), "False Unverified"),
];

const fn compared(from_ms: i64, open: u64) -> VerificationFacts {
    facts_of(from_ms, from_ms, open)
}

const fn began(ms: i64) -> VerificationFacts {
    facts_of(ms, 0, 0)
}

const fn facts_of(began_ms: i64, from_ms: i64, open: u64) -> VerificationFacts {
    VerificationFacts {
        request: 0,
        began_ms,
        from_ms,
        compared: 90,
        per_mille: 370,
        differences: 5,
        repaired: 5 - open,
        open,
        error: String::new(),
    }
}

#[test]
fn verified_says_what_the_comparisons_found_and_is_no_part_of_ready() {
    let fixture = fixture();
    let of = |facts: Option<&VerificationFacts>, problems: &[Problem]| {
        let mut case = Case { problems: problems.to_vec(), ..streaming(&fixture) };
        let found = facts.map(|facts| ("orders".to_owned(), facts.clone()));
        known(&mut case.observed.clickhouse).verification.extend(found);
        judged(&fixture, &case)
    };
    for (what, facts, expected) in VERIFIED {
        let status = of(Some(facts), &[]);
        let (is, reason, message) = condition(&status, ConditionType::Verified);
        assert_eq!(format!("{is} {reason}"), *expected, "{what}");
        assert_eq!(message.is_empty(), reason == "AsDesired", "{what}: {message}");
        assert!(message.is_empty() || message.contains("public.orders"), "{what}: {message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, "True", "{what}");
        let verified = &status.tables.unwrap().verified[0];
        assert_eq!(
            (verified.coverage.as_str(), verified.oldest.is_some(), verified.differences, verified.repaired),
            ("0.3", facts.from_ms > 0, 5, i64::try_from(facts.repaired).unwrap()),
            "{what}"
        );
    }
    let status = of(None, &[]);
    assert_eq!(condition(&status, ConditionType::Verified).0, "Unknown");
    assert_eq!(status.tables.unwrap().verified, []);
    let refused = [Problem::of(
        ConditionType::TablesInSync,
        "public.orders",
        Reason::NoPrimaryKey,
        "public.orders has no key",
    )];
    let (is, reason, message) = condition(&of(None, &refused), ConditionType::Verified);
    assert_eq!((is.as_str(), reason.as_str()), ("True", "LeftOut"));
    assert!(message.contains("public.orders"), "{message}");
}

/// A connector that has read up to so long ago.
fn read_to(lag_ms: i64) -> ReadTo {
    ReadTo { at_ms: Some(NOW - lag_ms), first_ms: NOW - 700_000, lag_ms }
}

/// Changes everything observed.
type ChangeAll = fn(&mut Observed);

/// What happened; `Fresh`; the printer column.
const CAUSES: &[(&str, ChangeAll, &str, &str)] = &[
    ("an idle source whose heartbeats are applied", |_| {}, "True AsDesired", "<1s"),
    (
        "a stuck partition",
        |all| {
            known(&mut all.clickhouse).progress.insert("orders".into(), progress(&[100, 90_000]));
        },
        "False Stale",
        ">1m",
    ),
    (
        "a partition that nobody has reported",
        |all| {
            known(&mut all.clickhouse).progress.insert("orders".into(), progress(&[100]));
        },
        "False NotObserved",
        "Unknown",
    ),
    (
        "a row of a partition that the topic no longer has",
        |all| {
            known(&mut all.clickhouse).progress.insert("orders".into(), progress(&[100, 100, 900_000]));
        },
        "True AsDesired",
        "<1s",
    ),
    (
        "a held table",
        |all| {
            let facts = known(&mut all.clickhouse);
            facts.progress.insert("orders".into(), progress(&[90_000, 100]));
            say(facts, "a", sink(TableState::Held, "layout", ""));
        },
        "False TableHeld",
        ">1m",
    ),
    (
        "a stopped table",
        |all| {
            let facts = known(&mut all.clickhouse);
            facts.progress.insert("orders".into(), progress(&[90_000, 100]));
            say(facts, "a", sink(TableState::Stopped, "insert", ""));
        },
        "False TableStopped",
        ">1m",
    ),
    (
        "a connector that reads late, whatever its heartbeats say",
        |all| known(&mut all.postgres).read_to = Some(read_to(70_000)),
        "False ConnectorBehind",
        ">1m",
    ),
    (
        "a look is no lag",
        |all| known(&mut all.postgres).read_to = Some(read_to(20_000)),
        "True AsDesired",
        "<1s",
    ),
    (
        "somebody stopped the connector",
        |all| known(&mut all.connect).connector.as_mut().unwrap().state = "STOPPED".into(),
        "False ConnectorPaused",
        "<1s",
    ),
    (
        "somebody deleted the connector",
        |all| known(&mut all.connect).connector = None,
        "False ConnectorPaused",
        "<1s",
    ),
    (
        "workers begin to share their tasks anew",
        |all| known(&mut all.connect).connector.as_mut().unwrap().state = "UNASSIGNED".into(),
        "True AsDesired",
        "<1s",
    ),
    (
        "a connector that failed",
        |all| {
            known(&mut all.connect).connector.as_mut().unwrap().tasks[0].state = "FAILED".into();
        },
        "False ConnectorFailed",
        "<1s",
    ),
    ("clickhouse is away", |all| all.clickhouse = unreachable(), "Unknown NotObserved", "Unknown"),
];

#[test]
fn each_cause_of_old_data_has_its_own_reason() {
    let fixture = fixture();
    for (what, change, fresh, bucket) in CAUSES {
        let mut case = streaming(&fixture);
        change(&mut case.observed);
        let status = judged(&fixture, &case);
        let (is, reason, _) = condition(&status, ConditionType::Fresh);
        assert_eq!(format!("{is} {reason}"), *fresh, "{what}");
        assert_eq!(status.freshness.as_deref(), Some(*bucket), "{what}");
    }
}

/// Interval; age, below zero: never, and duration in seconds; whether it fails.
type Refresh = (&'static str, i64, u64, bool);

/// What happened; the refresh; the reason of `Fresh` before, and then.
const REFRESHES: &[(&str, Refresh, &str, &str)] = &[
    ("refreshed lately", ("30s", 20, 1, false), "AsDesired", "AsDesired"),
    ("longer ago than the objective of two minutes", ("30s", 130, 1, false), "AsDesired", "ViewsStale"),
    ("so slow that it is too old before each refresh", ("30s", 5, 100, false), "AsDesired", "ViewsStale"),
    ("near the bound it stays late", ("30s", 5, 75, false), "ViewsStale", "ViewsStale"),
    ("near the bound it stays in time", ("30s", 5, 75, false), "AsDesired", "AsDesired"),
    ("far from the bound it is in time again", ("30s", 5, 40, false), "ViewsStale", "AsDesired"),
    (
        "an interval that is longer than the objective was asked for",
        ("1h", 3_500, 1, false),
        "AsDesired",
        "AsDesired",
    ),
    ("and is missed, too", ("1h", 3_800, 1, false), "AsDesired", "ViewsStale"),
    ("filled for the first time", ("30s", -1, 0, false), "AsDesired", "AsDesired"),
    ("never filled, for it fails", ("30s", -1, 0, true), "AsDesired", "ViewsStale"),
];

#[test]
fn what_views_show_is_part_of_fresh() {
    for (what, (every, age, takes, fails), before, expected) in REFRESHES {
        let mut fixture = fixture();
        fixture.spec.views.refresh_interval = (*every).to_owned();
        let mut case = Case { views: vec!["sales".into()], ..streaming(&fixture) };
        let refresh = RefreshFacts {
            last_success_ms: if *age < 0 { 0 } else { NOW - age * 1000 },
            duration_ms: takes * 1000,
            exception: if *fails { "code 241".into() } else { String::new() },
            ..RefreshFacts::default()
        };
        let facts = known(&mut case.observed.clickhouse);
        facts.refreshes.insert("sales__refresh".into(), refresh.clone());
        facts.refreshes.insert("not_wanted__refresh".into(), RefreshFacts { last_success_ms: 1, ..refresh });
        let fresh = Condition {
            type_: "Fresh".into(),
            status: "False".into(),
            reason: (*before).to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        let before = AnalyticsPipelineStatus { conditions: vec![fresh], ..Default::default() };
        let status = judged_after(&fixture, &case, &before, 0);
        let (_, reason, message) = condition(&status, ConditionType::Fresh);
        assert_eq!(reason, *expected, "{what}: {message}");
        assert!(reason == "AsDesired" || message.contains("allows: sales:"), "{what}: {message}");
    }
}

#[test]
fn rows_that_are_old_are_told_before_views_are() {
    let fixture = fixture();
    let mut case = Case { views: vec!["sales".into()], ..streaming(&fixture) };
    let facts = known(&mut case.observed.clickhouse);
    facts.progress.insert("orders".into(), progress(&[90_000, 0]));
    facts
        .refreshes
        .insert("sales__refresh".into(), RefreshFacts { last_success_ms: 1, ..Default::default() });
    assert_eq!(condition(&judged(&fixture, &case), ConditionType::Fresh).1, "Stale");
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
