//! What a fault on the wire becomes: the clients themselves, against a server that answers as it should not. One table of
//! all of them, as the status shows it.

mod http;
mod kafka;
mod postgres;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::effect::Effect;
use tidemark_operator::core::facts::{Failure, Observation, Observed};
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::restart::Steadiness;
use tidemark_operator::core::status::{Situation, status};
use tidemark_operator::core::step::{Lane, Stage, Step, StepKind};

use crate::fixture::{Fixture, fixture};

/// What no status may show.
const SECRET: &str = "hunter2";
/// Deadline of a call that is answered: none of them may need it.
const ENOUGH: Duration = Duration::from_secs(8);
/// Deadline of a call that is not answered.
const SOON: Duration = Duration::from_millis(300);
/// Longest message of a condition.
const LONGEST_MESSAGE: usize = 1024;

/// What is asked of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// The look at it.
    Read,
    /// A step.
    Write,
}

impl Call {
    const ALL: [Self; 2] = [Self::Read, Self::Write];
}

/// A row of the table.
struct Row {
    system: &'static str,
    call: Call,
    fault: String,
    /// Whether the next call goes out, where the server says so.
    again: Option<bool>,
    failure: Failure,
    told: String,
}

impl Row {
    /// A row whose text is fit for a status.
    fn new(
        (system, call, fault): (&'static str, Call, &str),
        again: Option<bool>,
        effect: Effect,
        failure: Failure,
    ) -> Self {
        let told = told(call, effect, &failure);
        let at = format!("{system}, {call:?}, {fault}");
        assert!(!told.contains(['\n', '\r', '\t']), "{at}: more than a line: {told:?}");
        assert!(told.chars().count() <= LONGEST_MESSAGE, "{at}: {told}");
        assert!(failure.message.chars().count() <= 256, "{at}: {}", failure.message);
        for word in [SECRET, "wiki", "board", "<html>"] {
            assert!(!told.contains(word), "{at}: {word} is nobody's to read: {told}");
        }
        Self { system, call, fault: fault.to_owned(), again, failure, told }
    }
}

/// What a condition says of a failed look or step.
fn told(call: Call, effect: Effect, failure: &Failure) -> String {
    let (stage, what, condition) = match &effect {
        Effect::ClickHouse(_) | Effect::Ledger { .. } | Effect::Fence { .. } => {
            (Stage::Database, "create database shop", ConditionType::TablesInSync)
        }
        Effect::Postgres(_) => (Stage::Publication, "create publication", ConditionType::SourceReady),
        Effect::Kafka(_) => (Stage::Topic, "create topic", ConditionType::ConnectorRunning),
        Effect::Connect(_) => (Stage::Connector, "create connector", ConditionType::ConnectorRunning),
        Effect::Kubernetes(_) => (Stage::Sink, "apply ConfigMap", ConditionType::SinkAvailable),
        Effect::Grafana(_) => (Stage::DataSource, "create data source", ConditionType::DashboardsInSync),
    };
    let step =
        Step { stage, kind: StepKind::Create, what: what.to_owned(), needs: vec![], gives: None, effect };
    let mut fixture = fixture();
    fixture.spec.grafana = serde_json::from_value(json!({
        "mode": "Api", "url": "http://grafana:3000", "credentials": {"secretName": "grafana"},
        "reader": {"secretName": "reader"},
    }))
    .unwrap();
    let mut observed = fixture.running();
    observed.grafana = Observation::Known(tidemark_operator::core::facts::GrafanaFacts::default());
    let mut failures = Vec::new();
    match call {
        Call::Read => unseen(&mut observed, step.lane(), failure),
        Call::Write => failures.push((step.id(), failure.clone())),
    }
    let plan = Plan::new(vec![step], BTreeSet::new(), BTreeSet::new());
    let status = judged(&fixture, &observed, &plan, &failures);
    let found = status.conditions.into_iter().find(|found| found.type_ == condition.as_str()).unwrap();
    format!("{}/{}: {}", found.status, found.reason, found.message)
}

fn unseen(observed: &mut Observed, lane: Lane, failure: &Failure) {
    let failure = failure.clone();
    match lane {
        Lane::ClickHouse => observed.clickhouse = Observation::Unreachable(failure),
        Lane::Postgres => observed.postgres = Observation::Unreachable(failure),
        Lane::Kafka => observed.kafka = Observation::Unreachable(failure),
        Lane::Connect => observed.connect = Observation::Unreachable(failure),
        Lane::Kubernetes => observed.kubernetes = Observation::Unreachable(failure),
        Lane::Grafana | Lane::FormerGrafana => observed.grafana = Observation::Unreachable(failure),
    }
}

fn judged(
    fixture: &Fixture,
    observed: &Observed,
    plan: &Plan,
    failures: &[(tidemark_operator::core::step::StepId, Failure)],
) -> AnalyticsPipelineStatus {
    let tables = [("public.orders".parse().unwrap(), "orders".to_owned())];
    let situation = Situation {
        kept: &[],
        left: &[],
        panels_open: false,
        views_open: &[],
        steadiness: Steadiness::Steady,
        name: &fixture.name,
        generation: 7,
        spec: &fixture.spec,
        invalid: None,
        missing: &[],
        observed,
        problems: &[],
        plan,
        failures,
        no_progress: false,
        deleting: false,
        tables: &tables,
        views: &[],
        waiting: &[],
        identities: BTreeMap::new(),
        now_ms: 1_800_000_000_000,
    };
    let now = Time(jiff::Timestamp::from_second(0).unwrap());
    status(&situation, &AnalyticsPipelineStatus::default(), &now)
}

/// What came of a call that has to fail within its deadline.
async fn failed(at: &str, deadline: Duration, call: impl Future<Output = Result<(), Failure>>) -> Failure {
    let begin = Instant::now();
    let result = call.await;
    let took = begin.elapsed();
    let Err(failure) = result else {
        panic!("{at}: taken for an answer");
    };
    // A machine that is busy wakes up late.
    assert!(took < deadline + Duration::from_secs(4), "{at}: {took:?}");
    failure
}

/// What an observation says of a look.
fn look<T>(observation: Observation<T>) -> Result<(), Failure> {
    match observation {
        Observation::Unreachable(failure) => Err(failure),
        Observation::Known(_) | Observation::Absent | Observation::NotAsked => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_on_the_wire_is_told_by_its_cause_in_time_and_gives_nothing_away() {
    let (clickhouse, connect, grafana, kubernetes, postgres, kafka) = tokio::join!(
        Box::pin(http::rows(http::System::ClickHouse)),
        Box::pin(http::rows(http::System::Connect)),
        Box::pin(http::rows(http::System::Grafana)),
        Box::pin(http::rows(http::System::Kubernetes)),
        Box::pin(postgres::rows()),
        Box::pin(kafka::rows()),
    );
    let mut table = String::new();
    for row in [clickhouse, connect, grafana, kubernetes, postgres, kafka].into_iter().flatten() {
        let Row { system, call, fault, again, failure, told } = row;
        let call = if call == Call::Read { "look" } else { "step" };
        let again = match again {
            Some(false) => ", and the next call is not made",
            Some(true) | None => "",
        };
        writeln!(table, "{system}, {call}, {fault}: {:?}{again}\n    {told}", failure.class).unwrap();
    }
    insta::assert_snapshot!(table);
}
