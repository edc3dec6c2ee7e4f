//! Conditions and printer fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::facts::{Failure, FailureClass, Observation, Observed, ProgressFacts};
use tidemark_operator::plan::Plan;
use tidemark_operator::problem::Problem;
use tidemark_operator::status::{Situation, same, status};

use crate::fixture::{Fixture, fixture, unreachable};

struct Case {
    observed: Observed,
    problems: Vec<Problem>,
    missing: Vec<String>,
    invalid: Option<&'static str>,
    no_progress: bool,
}

fn case(fixture: &Fixture) -> Case {
    Case { observed: fixture.running(), problems: vec![], missing: vec![], invalid: None, no_progress: false }
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
        panels_open: false,
        name: &fixture.name,
        generation: 7,
        spec: &fixture.spec,
        invalid: case.invalid,
        missing: &case.missing,
        observed: &case.observed,
        problems: &case.problems,
        plan: &Plan::default(),
        failures: &[],
        no_progress: case.no_progress,
        deleting: false,
        tables: &tables,
        views: &[],
        now_ms: 1_800_000_000_000,
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

#[test]
fn missing_credentials_an_invalid_spec_and_no_progress_have_their_reasons() {
    let fixture = fixture();
    let missing = Case { missing: vec!["spec.x: the Secret \"a\" does not exist".into()], ..case(&fixture) };
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
fn a_status_that_says_the_same_later_is_the_same_and_keeps_its_times() {
    let fixture = fixture();
    let first = judged_after(&fixture, &case(&fixture), &AnalyticsPipelineStatus::default(), 100);
    let later = judged_after(&fixture, &case(&fixture), &first, 200);
    assert!(same(&first, &later));
    assert_eq!(first.conditions, later.conditions, "nothing flipped, so no time moved");
}

#[test]
fn freshness_stays_in_its_bucket_near_the_bound_and_leaves_it_far_from_it() {
    let fixture = fixture();
    let aged = |age: i64, before: Option<&str>| {
        let mut case = case(&fixture);
        if let Observation::Known(facts) = &mut case.observed.clickhouse {
            let applied_at_ms = 1_800_000_000_000;
            let progress =
                ProgressFacts { fresh_to_ms: applied_at_ms - age, applied_at_ms, ..ProgressFacts::default() };
            facts.progress.insert("orders".into(), progress);
        }
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
