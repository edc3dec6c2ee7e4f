//! Conditions and printer fields.

mod freshness;
mod parts;
mod tables;
mod verified;
mod whole;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::ledger::{ReadRequest, SinkState, TableState};
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::credentials::Missing;
use tidemark_operator::core::effect::{Effect, KafkaEffect};
use tidemark_operator::core::facts::{
    ClickHouseFacts, Observation, Observed, PartitionProgress, ProgressFacts, ReadFacts,
};
use tidemark_operator::core::pace::Next;
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::problem::{Left, Problem};
use tidemark_operator::core::restart::Steadiness;
use tidemark_operator::core::status::{Situation, status_and_nexts};
use tidemark_operator::core::step::{Stage, Step, StepKind};

use crate::fixture::Fixture;

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
    judged_with_nexts(fixture, case, before, second).0
}

fn judged_with_nexts(
    fixture: &Fixture,
    case: &Case,
    before: &AnalyticsPipelineStatus,
    second: i64,
) -> (AnalyticsPipelineStatus, Vec<Next>) {
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
    status_and_nexts(&situation, before, &Time(jiff::Timestamp::from_second(second).unwrap()))
}

fn judged(fixture: &Fixture, case: &Case) -> AnalyticsPipelineStatus {
    judged_after(fixture, case, &AnalyticsPipelineStatus::default(), 0)
}

fn condition(status: &AnalyticsPipelineStatus, kind: ConditionType) -> (String, String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind.as_str()).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
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

fn say(facts: &mut ClickHouseFacts, replica: &str, state: SinkState) {
    facts.states.entry("orders".into()).or_default().insert(replica.into(), state);
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

fn letters(facts: &mut ClickHouseFacts, count: u64, at: (u16, u64)) {
    let partitions = &mut facts.progress.get_mut("orders").unwrap().partitions;
    let partition = partitions.get_mut(&1).unwrap();
    (partition.dead_letters, partition.dead_at) = (count, at);
}

fn holding(case: &mut Case, gib: u64, active: bool) {
    let slot = known(&mut case.observed.postgres).slot.as_mut().unwrap();
    (slot.retained_bytes, slot.active, slot.wal_status) = (gib << 30, active, "extended".into());
}
