//! How old the data is, and why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::ledger::TableState;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::facts::{Observed, RefreshFacts};
use tidemark_operator::core::position::ReadTo;

use super::{Case, NOW, case, condition, judged, judged_after, known, progress, say, sink, streaming};
use crate::fixture::{fixture, unreachable};

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
