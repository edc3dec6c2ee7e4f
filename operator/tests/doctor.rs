//! Where a row stops on its way, by what was observed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::ledger::{ReadRequest, SinkState, TableState};
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_crds::version::Version;
use tidemark_operator::core::blind::{Blind, blind};
use tidemark_operator::core::credentials::{References, resolve, wanted};
use tidemark_operator::core::doctor::{Checkup, Diagnosis, SlowQuery, UNSEEN, Verdict, WELL, WRONG, examine};
use tidemark_operator::core::facts::{
    ClickHouseFacts, ClickHouseObject, ConnectFacts, Failure, FailureClass, GrafanaFacts, KafkaFacts,
    Observation, Observed, OffsetFacts, PartitionProgress, PostgresFacts, ProgressFacts, ReadFacts,
    ReaderFacts, RefreshFacts, SourceHealth,
};
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::restart::Steadiness;
use tidemark_operator::core::status::{Situation, status};

use crate::fixture::{Fixture, fixture};

const NOW: i64 = 1_800_000_000_000;

/// A pipeline, what is seen of it, and what its status says.
struct Case {
    fixture: Fixture,
    observed: Observed,
    said: Option<AnalyticsPipelineStatus>,
    slow: Observation<Vec<SlowQuery>>,
    unread: Option<Failure>,
}

fn known<T>(observation: &mut Observation<T>) -> &mut T {
    match observation {
        Observation::Known(facts) => Some(facts),
        _ => None,
    }
    .unwrap()
}

/// One table that streams, and dashboards that answer.
fn well() -> Case {
    let mut fixture = fixture();
    fixture.spec.grafana = serde_json::from_value(json!({
        "url": "http://grafana:3000",
        "credentials": {"secretName": "pg", "usernameKey": "username", "passwordKey": "password"},
        "reader": {"secretName": "ch"},
    }))
    .unwrap();
    let mut observed = fixture.running();
    let postgres: &mut PostgresFacts = known(&mut observed.postgres);
    (postgres.server_version, postgres.role, postgres.current_lsn) =
        (180_001, "tidemark".into(), 0x1_0000_4000);
    postgres.publication.as_mut().unwrap().tables.insert("public.orders".parse().unwrap());
    let slot = postgres.slot.as_mut().unwrap();
    (slot.confirmed_lsn, slot.received_lsn, slot.retained_bytes) = (0x1_0000_1000, 0x1_0000_3C00, 1 << 20);
    slot.wal_status = "reserved".into();
    let connect: &mut ConnectFacts = known(&mut observed.connect);
    connect.connector.as_mut().unwrap().offset = Some(OffsetFacts { lsn: 0x1_0000_1000 });
    let topic = "shop.public.orders".to_owned();
    let kafka: &mut KafkaFacts = known(&mut observed.kafka);
    kafka.topics.insert(topic.clone(), 2);
    kafka.end_offsets.insert(topic, [(0, 1_200), (1, 34)].into());
    target(known(&mut observed.clickhouse));
    observed.grafana = Observation::Known(GrafanaFacts {
        version: "12.4.0".into(),
        source: Some(json!({"name": "Shop"})),
        source_health: SourceHealth::Good,
        ..GrafanaFacts::default()
    });
    observed.reader = Observation::Known(ReaderFacts::default());
    let query = SlowQuery {
        panel: "dashboard executive, panel 4".into(),
        queries: 60,
        p95_ms: 137,
        read_rows: 10_000_000,
        ..SlowQuery::default()
    };
    Case { fixture, observed, said: None, slow: Observation::Known(vec![query]), unread: None }
}

fn target(facts: &mut ClickHouseFacts) {
    facts.has_query_log = true;
    facts.ledger.epoch = Some(2);
    let layout = json!({"version": 3, "source": "public.orders", "oid": 1, "target": "orders",
        "from": {"epoch": 0, "after": 0, "by": 0}, "columns": []});
    facts.ledger.layouts.insert("orders".into(), vec![serde_json::from_value(layout).unwrap()]);
    let request = ReadRequest { epoch: 2, layout: 3, reason: "first load".into(), ..ReadRequest::default() };
    facts.ledger.reads.insert("orders".into(), (7, request));
    let read = ReadFacts { request: 7, epoch: 2, state: "read".into(), barrier: 500, ..ReadFacts::default() };
    facts.reads.insert("orders".into(), read);
    let sinks = ["a", "b"].map(|replica| (replica.to_owned(), SinkState::default()));
    facts.states.insert("orders".into(), sinks.into());
    let partition = |next_offset, age| PartitionProgress {
        next_offset,
        fresh_to_ms: NOW - age,
        applied_at_ms: NOW,
        ..PartitionProgress::default()
    };
    let partitions = [(0, partition(1_198, 400)), (1, partition(34, 900))].into();
    facts.progress.insert("orders".into(), ProgressFacts { partitions });
    facts.fences.insert("orders".into(), Version(0));
    for name in ["orders", "orders_current"] {
        facts.objects.insert(name.into(), ClickHouseObject::default());
    }
    let refresh = RefreshFacts { last_success_ms: NOW - 12_000, duration_ms: 250, ..RefreshFacts::default() };
    facts.refreshes.insert("daily_sales".into(), refresh);
}

/// The status that follows from what is seen.
fn judged(case: &Case, tables: &[(tidemark_crds::layout::SourceTable, String)]) -> AnalyticsPipelineStatus {
    let situation = Situation {
        kept: &[],
        panels_open: false,
        views_open: &[],
        steadiness: Steadiness::Steady,
        name: &case.fixture.name,
        generation: 1,
        spec: &case.fixture.spec,
        invalid: None,
        missing: &[],
        observed: &case.observed,
        problems: &[],
        plan: &Plan::default(),
        failures: &[],
        no_progress: false,
        deleting: false,
        tables,
        views: &[],
        waiting: &[],
        left: &[],
        identities: std::collections::BTreeMap::new(),
        now_ms: NOW,
    };
    status(&situation, &AnalyticsPipelineStatus::default(), &Time(jiff::Timestamp::UNIX_EPOCH))
}

fn unseen(case: &Case) -> Vec<Blind> {
    let resolved = match &case.unread {
        Some(failure) => {
            let mut references = References::default();
            for (holder, name) in wanted(&case.fixture.spec) {
                references.unread(holder, name, failure.clone());
            }
            resolve(&case.fixture.spec, &references)
        }
        None => case.fixture.resolved.clone(),
    };
    blind(&case.fixture.spec, &case.observed, &resolved)
}

fn diagnosis(case: &Case) -> Diagnosis {
    let tables = [("public.orders".parse().unwrap(), "orders".to_owned())];
    examine(&Checkup {
        name: &case.fixture.name,
        spec: &case.fixture.spec,
        observed: &case.observed,
        tables: &tables,
        views: &[],
        problems: &[],
        judged: &judged(case, &tables),
        said: case.said.as_ref(),
        blind: &unseen(case),
        slow: &case.slow,
        in_cluster: true,
        now_ms: NOW,
    })
}

#[test]
fn a_pipeline_that_is_well_has_a_line_for_each_hop() {
    let found = diagnosis(&well());
    insta::assert_snapshot!(found.render(), @r"
    shop/shop
    ok    source               PostgreSQL 18, database shop, as tidemark; its log is at 1/4000
    ok    publication          tidemark_shop_shop_0b6553f4 has 1 tables
    ok    slot                 tidemark_shop_shop_0b6553f4 is active, 1.0 KiB behind, holds back 1.0 MiB of log
    ok    connector            RUNNING, task 0 RUNNING; it stored 1/1000
    ok    topics               1 topics, 1,234 records came in so far
    ok    consumer group       tidemark.shop.shop-0b6553f4.0badcafe has 2 members, 2 records wait for it
    ok    sink                 2 replicas are available, 2 speak in ClickHouse
    ok    table public.orders  state table orders, layout 3, fence in epoch 0, view orders_current, 0.9 s behind
    -     views                NotConfigured: spec.views asks for none
    ok    refreshes            1 views, the oldest of 12 s ago, the longest took 250 ms
    ok    freshness            the oldest data is <1s old
    ok    data source          Shop answers, Grafana 12.4.0
    ok    panels               every panel of 0 dashboards answers to the reader
    ok    queries              slowest in the last hour: dashboard executive, panel 4 p95 137 ms over 60 queries, 10,000,000 rows read

    ok    no data?             rows come through: every hop up to the views is well
    ok    stale data?          the oldest data is <1s old
    ok    slow queries?        no: slowest in the last hour: dashboard executive, panel 4 p95 137 ms over 60 queries, 10,000,000 rows read
    ");
    assert_eq!(found.exit(), WELL);
}

fn unreachable<T>() -> Observation<T> {
    failed(FailureClass::Unreachable)
}

fn failed<T>(class: FailureClass) -> Observation<T> {
    Observation::Unreachable(Failure { class, message: "it failed".into() })
}

/// A condition of the status as the operator wrote it.
fn said(case: &mut Case, condition: ConditionType, is: &str) {
    let tables = [("public.orders".parse().unwrap(), "orders".to_owned())];
    let mut status = judged(&well(), &tables);
    for found in &mut status.conditions {
        if found.type_ == condition.as_str() {
            (found.status, found.reason, found.message) =
                (is.into(), "Unreachable".into(), "no answer".into());
        }
    }
    case.said = Some(status);
}

/// What happened; hop, verdict and a part of its line; how the command ends; the verdicts of the three questions.
type Row = (&'static str, fn(&mut Case), &'static str, Verdict, &'static str, u8, [Verdict; 3]);

const CASES: &[Row] = {
    use Verdict::{Off, Ok, Unseen, Waiting, Wrong};
    &[
        (
            "the role's password is refused",
            |case| case.observed.postgres = failed(FailureClass::Authentication),
            "source",
            Wrong,
            "next: check user and password in its Secret",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the source is not reached from here, and the operator sees it",
            |case| {
                case.observed.postgres = unreachable();
                said(case, ConditionType::SourceReady, "True");
            },
            "source",
            Unseen,
            "SourceReady is True, says the status",
            UNSEEN,
            [Unseen, Ok, Ok],
        ),
        (
            "the source is not reached from here, nor by the operator",
            |case| {
                case.observed.postgres = unreachable();
                said(case, ConditionType::SourceReady, "False");
            },
            "source",
            Wrong,
            "Unreachable: no answer, says the status",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the Secrets may not be read from here",
            |case| {
                let message = "secrets is forbidden".to_owned();
                case.unread = Some(Failure { class: FailureClass::Permission, message });
                case.observed.postgres = Observation::NotAsked;
            },
            "source",
            Unseen,
            "secrets is forbidden",
            UNSEEN,
            [Unseen, Unseen, Ok],
        ),
        (
            "a table is not published",
            |case| known(&mut case.observed.postgres).publication.as_mut().unwrap().tables.clear(),
            "publication",
            Wrong,
            "lacks public.orders",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "nobody reads the slot",
            |case| {
                let slot = known(&mut case.observed.postgres).slot.as_mut().unwrap();
                slot.active = false;
            },
            "slot",
            Wrong,
            "is not active, nobody reads it: 12.0 KiB behind, holds back 1.0 MiB of log",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the slot is lost",
            |case| {
                known(&mut case.observed.postgres).slot.as_mut().unwrap().wal_status = "lost".into();
            },
            "slot",
            Wrong,
            "is lost",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the connector's task failed",
            |case| {
                let live = known(&mut case.observed.connect).connector.as_mut().unwrap();
                (live.tasks[0].state, live.tasks[0].error) = ("FAILED".into(), Some("no route".into()));
            },
            "connector",
            Wrong,
            "next: curl -s http://connect:8083/connectors/",
            WRONG,
            [Wrong, Wrong, Ok],
        ),
        (
            "the connector is paused by the spec",
            |case| {
                case.fixture.spec.source.connect.state = tidemark_crds::pipeline::ConnectorState::Paused;
            },
            "connector",
            Off,
            "spec.source.connect.state is Paused",
            WRONG,
            [Ok, Wrong, Ok],
        ),
        (
            "Kafka is not reached, and Connect is",
            |case| case.observed.kafka = unreachable(),
            "connector",
            Ok,
            "RUNNING, task 0 RUNNING",
            UNSEEN,
            [Unseen, Ok, Ok],
        ),
        (
            "a topic is gone",
            |case| known(&mut case.observed.kafka).topics.clear(),
            "topics",
            Wrong,
            "there is no topic shop.public.orders",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "nobody is in the group",
            |case| known(&mut case.observed.kafka).groups.clear(),
            "consumer group",
            Wrong,
            "has no member, 2 records wait for it",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the sink's pods are not there",
            |case| known(&mut case.observed.kubernetes).rollout.available = 0,
            "sink",
            Wrong,
            "kubectl get pods --namespace shop --selector app.kubernetes.io/instance=shop",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the pods are there and do not speak",
            |case| known(&mut case.observed.clickhouse).states.clear(),
            "sink",
            Wrong,
            "none has spoken in ClickHouse lately",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "a table is being read",
            |case| {
                let read = known(&mut case.observed.clickhouse).reads.get_mut("orders").unwrap();
                (read.state, read.rows, read.estimated_rows) = ("reading".into(), 4_000, 10_000);
            },
            "table public.orders",
            Waiting,
            "first load (4,000 of about 10,000 rows)",
            WRONG,
            [Waiting, Ok, Ok],
        ),
        (
            "a sink keeps a table back",
            |case| {
                let state = SinkState { state: TableState::Held, ..SinkState::default() };
                known(&mut case.observed.clickhouse)
                    .states
                    .get_mut("orders")
                    .unwrap()
                    .insert("a".into(), state);
            },
            "table public.orders",
            Wrong,
            "next: kubectl logs deployment/shop-sink --namespace shop",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "a record went to the dead letters",
            |case| {
                let progress = known(&mut case.observed.clickhouse).progress.get_mut("orders").unwrap();
                let partition = progress.partitions.get_mut(&0).unwrap();
                (partition.dead_letters, partition.dead_at) = (3, (2, 900));
            },
            "table public.orders",
            Wrong,
            "next: tidemark-sink dead-letters list",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "the fence is gone",
            |case| known(&mut case.observed.clickhouse).fences.clear(),
            "table public.orders",
            Wrong,
            "missing: its fence",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "a refresh fails",
            |case| {
                let facts = known(&mut case.observed.clickhouse);
                facts.refreshes.get_mut("daily_sales").unwrap().exception = "Code: 241".into();
            },
            "refreshes",
            Wrong,
            "the refresh of daily_sales fails and it shows old data: Code: 241",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "a refresh is late",
            |case| {
                let facts = known(&mut case.observed.clickhouse);
                facts.refreshes.get_mut("daily_sales").unwrap().last_success_ms = NOW - 121_000;
            },
            "refreshes",
            Wrong,
            "daily_sales was refreshed 121 s ago, later than spec.freshness.views (2m)",
            WRONG,
            [Wrong, Ok, Ok],
        ),
        (
            "rows are old",
            |case| {
                let facts = known(&mut case.observed.clickhouse);
                for partition in facts.progress.get_mut("orders").unwrap().partitions.values_mut() {
                    partition.fresh_to_ms = NOW - 300_000;
                }
            },
            "freshness",
            Wrong,
            "Stale: rows are older than spec.freshness.rows",
            WRONG,
            [Ok, Wrong, Ok],
        ),
        (
            "ClickHouse is not reached",
            |case| {
                case.observed.clickhouse = unreachable();
                case.slow = unreachable();
            },
            "tables",
            Unseen,
            "not seen (clickhouse at http://ch:8123: it failed)",
            UNSEEN,
            [Unseen, Unseen, Unseen],
        ),
        (
            "Grafana's data source does not answer",
            |case| known(&mut case.observed.grafana).source_health = SourceHealth::Bad("no route".into()),
            "data source",
            Wrong,
            "Grafana's own check of it fails: no route",
            WRONG,
            [Ok, Ok, Ok],
        ),
        (
            "the reader's password is refused",
            |case| case.observed.reader = failed(FailureClass::Authentication),
            "panels",
            Wrong,
            "reader at http://ch:8123",
            WRONG,
            [Ok, Ok, Ok],
        ),
        (
            "there are no dashboards",
            |case| {
                case.fixture.spec.grafana = None;
                (case.observed.grafana, case.observed.reader) =
                    (Observation::NotAsked, Observation::NotAsked);
                case.slow = Observation::NotAsked;
            },
            "grafana",
            Off,
            "spec.grafana is not set",
            WELL,
            [Ok, Ok, Off],
        ),
        (
            "a panel is slow",
            |case| known(&mut case.slow)[0].p95_ms = 4_200,
            "queries",
            Wrong,
            "dashboard executive, panel 4 p95 4200 ms over 60 queries, 10,000,000 rows read",
            WRONG,
            [Ok, Ok, Wrong],
        ),
        (
            "a panel fails",
            |case| {
                let query = &mut known(&mut case.slow)[0];
                (query.failures, query.error) = (2, "Code: 159. Timeout".into());
            },
            "queries",
            Wrong,
            "failed 2 of 60 times in the last hour: Code: 159. Timeout",
            WRONG,
            [Ok, Ok, Wrong],
        ),
        (
            "the log of queries may not be read",
            |case| case.slow = failed(FailureClass::Permission),
            "queries",
            Unseen,
            "GRANT SELECT ON system.query_log",
            UNSEEN,
            [Ok, Ok, Unseen],
        ),
    ]
};

#[test]
fn each_fault_is_found_at_its_hop_with_what_to_do() {
    let mut wrong = Vec::new();
    for (what, change, hop, verdict, text, exit, answers) in CASES {
        let mut case = well();
        change(&mut case);
        let found = diagnosis(&case);
        let at = found.hops.iter().find(|found| found.hop == *hop);
        let line = at.map(|at| format!("{} next: {}", at.message, at.next)).unwrap_or_default();
        let verdicts: Vec<Verdict> = found.answers.iter().map(|answer| answer.verdict).collect();
        let is_right = at.is_some_and(|at| at.verdict == *verdict)
            && line.contains(text)
            && found.exit() == *exit
            && verdicts == answers;
        if !is_right {
            wrong.push(format!("{what}: exit {}\n{}", found.exit(), found.render()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_first_fault_on_the_way_answers_where_data_stops() {
    let mut case = well();
    let live = known(&mut case.observed.connect).connector.as_mut().unwrap();
    (live.tasks[0].state, live.tasks[0].error) = ("FAILED".into(), Some("no route".into()));
    known(&mut case.observed.postgres).slot.as_mut().unwrap().active = false;
    known(&mut case.observed.kafka).groups.clear();
    insta::assert_snapshot!(diagnosis(&case).render(), @r#"
    shop/shop
    ok    source               PostgreSQL 18, database shop, as tidemark; its log is at 1/4000
    ok    publication          tidemark_shop_shop_0b6553f4 has 1 tables
    WRONG slot                 tidemark_shop_shop_0b6553f4 is not active, nobody reads it: 12.0 KiB behind, holds back 1.0 MiB of log
                               next: psql -h pg -p 5432 -d shop -c "SELECT * FROM pg_replication_slots WHERE slot_name = 'tidemark_shop_shop_0b6553f4'"
    WRONG connector            ConnectorFailed: task 0 of the connector failed: mend the cause; it is restarted with growing pauses: no route
                               next: curl -s http://connect:8083/connectors/shop.shop-0b6553f4/status
    ok    topics               1 topics, 1,234 records came in so far
    WRONG consumer group       tidemark.shop.shop-0b6553f4.0badcafe has no member, 2 records wait for it
                               next: kafka-consumer-groups.sh --bootstrap-server kafka:9093 --describe --group tidemark.shop.shop-0b6553f4.0badcafe
    ok    sink                 2 replicas are available, 2 speak in ClickHouse
    ok    table public.orders  state table orders, layout 3, fence in epoch 0, view orders_current, 0.9 s behind
    -     views                NotConfigured: spec.views asks for none
    ok    refreshes            1 views, the oldest of 12 s ago, the longest took 250 ms
    WRONG freshness            ConnectorFailed: the connector failed, and no change leaves the source: ConnectorRunning says why
                               next: kubectl describe analyticspipeline shop --namespace shop
    ok    data source          Shop answers, Grafana 12.4.0
    ok    panels               every panel of 0 dashboards answers to the reader
    ok    queries              slowest in the last hour: dashboard executive, panel 4 p95 137 ms over 60 queries, 10,000,000 rows read

    WRONG no data?             look at slot: tidemark_shop_shop_0b6553f4 is not active, nobody reads it: 12.0 KiB behind, holds back 1.0 MiB of log
    WRONG stale data?          ConnectorFailed: the connector failed, and no change leaves the source: ConnectorRunning says why; look at slot first
    ok    slow queries?        no: slowest in the last hour: dashboard executive, panel 4 p95 137 ms over 60 queries, 10,000,000 rows read
    "#);
}

#[test]
fn many_tables_that_are_well_are_one_line_and_the_others_are_named() {
    let mut case = well();
    let facts = known(&mut case.observed.clickhouse);
    let copies: BTreeMap<String, ClickHouseFacts> =
        (0..20).map(|number| (format!("t{number}"), facts.clone())).collect();
    let tables: Vec<(tidemark_crds::layout::SourceTable, String)> =
        copies.keys().map(|target| (format!("public.{target}").parse().unwrap(), target.clone())).collect();
    for (target, other) in &copies {
        facts.states.insert(target.clone(), other.states["orders"].clone());
        facts.progress.insert(target.clone(), other.progress["orders"].clone());
        facts.reads.insert(target.clone(), other.reads["orders"].clone());
        facts.ledger.reads.insert(target.clone(), other.ledger.reads["orders"].clone());
        facts.ledger.layouts.insert(target.clone(), other.ledger.layouts["orders"].clone());
        facts.fences.insert(target.clone(), Version(0));
        facts.objects.insert(target.clone(), ClickHouseObject::default());
        facts.objects.insert(format!("{target}_current"), ClickHouseObject::default());
    }
    facts.objects.remove("t7_current");
    let judged = judged(&case, &tables);
    let found = examine(&Checkup {
        name: &case.fixture.name,
        spec: &case.fixture.spec,
        observed: &case.observed,
        tables: &tables,
        views: &[],
        problems: &[],
        judged: &judged,
        said: None,
        blind: &[],
        slow: &case.slow,
        in_cluster: false,
        now_ms: NOW,
    });
    let lines: Vec<String> = (found.hops.iter())
        .filter(|hop| hop.hop.starts_with("table"))
        .map(|hop| format!("{}: {}", hop.hop, hop.message))
        .collect();
    assert_eq!(
        lines,
        [
            "table public.t7: missing: view t7_current",
            "tables: 19 are streaming, each with its state table, fence and view"
        ]
    );
}
