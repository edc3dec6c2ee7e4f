//! Tables of which one has something wrong: named by itself, and the others go on.

use std::collections::BTreeMap;

use serde_json::json;
use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::SinkState;
use tidemark_operator::core::desired::pipeline::{Desired, desire};
use tidemark_operator::core::effect::Effect;
use tidemark_operator::core::facts::{
    ClickHouseFacts, Observation, Observed, PostgresFacts, SourceTableFacts,
};
use tidemark_operator::core::step::Lane;

use crate::fixture::{Fixture, fixture, source_column, source_table};

fn source(oid: u32) -> SourceTableFacts {
    source_table(oid, vec![source_column("id", 1, "bigint", false)])
}

/// A pipeline of two tables, seen at position 500.
fn two(names: [&str; 2]) -> (Fixture, Observed) {
    let mut fixture = fixture();
    let table = |name: &str| serde_json::from_value(json!({"name": format!("public.{name}")})).unwrap();
    fixture.spec.tables = names.map(table).into();
    let tables = names
        .iter()
        .zip(1..)
        .map(|(name, oid)| (SourceTable { schema: "public".into(), name: (*name).to_owned() }, source(oid)));
    let postgres = PostgresFacts {
        tables: tables.collect(),
        server_version: 150_000,
        wal_level: "logical".into(),
        lsn_before: 500,
        current_lsn: 501,
        ..PostgresFacts::default()
    };
    let observed = Observed { postgres: Observation::Known(postgres), ..fixture.running() };
    (fixture, observed)
}

fn decided(fixture: &Fixture, observed: &Observed) -> Desired {
    desire(&fixture.subject(), observed, &BTreeMap::new())
}

fn clickhouse(observed: &mut Observed) -> &mut ClickHouseFacts {
    match &mut observed.clickhouse {
        Observation::Known(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// What is written into the ledger becomes part of what is seen.
fn write_layouts(desired: &Desired, observed: &mut Observed) {
    for step in &desired.steps {
        if let Effect::Ledger { key, value, .. } = &step.effect
            && key.contains('@')
        {
            let layout: tidemark_crds::layout::TableLayout = serde_json::from_value(value.clone()).unwrap();
            clickhouse(observed).ledger.layouts.entry(layout.target.clone()).or_default().push(layout);
        }
    }
}

fn texts(desired: &Desired) -> Vec<&str> {
    desired.steps.iter().map(|step| step.what.as_str()).collect()
}

fn about(desired: &Desired, object: &str) -> Vec<Reason> {
    let of = |problem: &&tidemark_operator::core::problem::Problem| problem.object.as_deref() == Some(object);
    desired.problems.iter().filter(of).map(|problem| problem.reason).collect()
}

#[test]
fn a_ledger_row_that_cannot_be_read_holds_its_table_and_no_other() {
    let (fixture, mut observed) = two(["orders", "items"]);
    clickhouse(&mut observed).ledger.unreadable.insert(("layout".into(), "orders@0000000007".into()));
    let desired = decided(&fixture, &observed);
    assert_eq!(about(&desired, "public.orders"), [Reason::RemoteError]);
    assert_eq!(about(&desired, "public.items"), []);
    let texts = texts(&desired);
    assert!(texts.contains(&"create state table items"), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("state table orders")), "{texts:?}");
    assert!(texts.contains(&"create topic shop.public.orders with 4 partitions"), "it goes on: {texts:?}");
}

#[test]
fn a_row_of_the_whole_pipeline_that_cannot_be_read_leaves_the_connector_as_it_is() {
    let (fixture, mut observed) = two(["orders", "items"]);
    clickhouse(&mut observed).ledger.unreadable.insert(("epoch".into(), String::new()));
    let desired = decided(&fixture, &observed);
    assert!(desired.problems.iter().any(|problem| problem.message.contains("row epoch of the ledger")));
    assert!(desired.steps.iter().all(|step| step.lane() != Lane::Connect), "{:?}", texts(&desired));
    assert!(!texts(&desired).iter().any(|text| text.contains("epoch")), "{:?}", texts(&desired));
}

#[test]
fn a_table_with_the_name_of_a_view_is_refused_by_name_and_the_others_start() {
    let (mut fixture, observed) = two(["orders", "daily_sales_summary"]);
    fixture.spec.views = serde_json::from_value(json!({"preset": "Ecommerce"})).unwrap();
    let desired = decided(&fixture, &observed);
    assert_eq!(about(&desired, "public.daily_sales_summary"), [Reason::Conflict]);
    let texts = texts(&desired);
    assert!(texts.contains(&"create state table orders"), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("daily_sales_summary")), "{texts:?}");
}

#[test]
fn a_catalogue_is_seen_up_to_the_position_before_it_unless_somebody_alters_it() {
    let (fixture, mut observed) = two(["orders", "items"]);
    let first = decided(&fixture, &observed);
    assert!(first.seen.is_empty(), "its layout is not in the ledger yet");
    write_layouts(&first, &mut observed);
    if let Observation::Known(postgres) = &mut observed.postgres {
        postgres.tables.get_mut(&"public.items".parse().unwrap()).unwrap().altering = true;
    }
    let asks = SinkState { wants: (0, 400), ..SinkState::default() };
    for target in ["orders", "items"] {
        clickhouse(&mut observed).states.entry(target.into()).or_default().insert("a".into(), asks.clone());
    }
    let desired = decided(&fixture, &observed);
    let seen: Vec<_> = desired.seen.iter().map(|(target, seen)| (target.as_str(), seen.at)).collect();
    assert_eq!(seen, [("orders", (0, 500))]);
    let texts = texts(&desired);
    assert!(texts.contains(&"confirm layout 1 of orders"), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("of items up to")), "{texts:?}");
}

#[test]
fn a_table_that_is_gone_for_a_moment_stays_captured_and_is_named() {
    let (fixture, mut observed) = two(["orders", "items"]);
    let first = decided(&fixture, &observed);
    write_layouts(&first, &mut observed);
    if let Observation::Known(postgres) = &mut observed.postgres {
        postgres.tables.remove(&"public.items".parse().unwrap());
    }
    let desired = decided(&fixture, &observed);
    assert_eq!(about(&desired, "public.items"), [Reason::TableNotFound]);
    let texts = texts(&desired);
    assert!(texts.contains(&"create topic shop.public.items with 4 partitions"), "it goes on: {texts:?}");
    assert!(!texts.iter().any(|text| text.contains("items to be read")), "{texts:?}");
}

#[test]
fn another_server_behind_an_address_gets_no_connector_no_publication_and_no_topic() {
    let (mut fixture, mut observed) = two(["orders", "items"]);
    fixture.known_epoch = 3;
    if let Observation::Known(connect) = &mut observed.connect {
        connect.connector = None;
    }
    for (system, lanes) in [
        ("postgres", vec![Lane::Connect, Lane::Postgres]),
        ("kafka", vec![Lane::Connect, Lane::Kafka]),
        ("clickhouse", vec![Lane::Connect, Lane::ClickHouse, Lane::Kubernetes]),
    ] {
        let mut observed = observed.clone();
        let steps = |observed: &Observed| {
            let steps = decided(&fixture, observed).steps;
            steps.iter().filter(|step| lanes.contains(&step.lane())).count()
        };
        if let Observation::Known(postgres) = &mut observed.postgres {
            postgres.system_identifier = "this one".into();
            postgres.may_create = true;
        }
        if let Observation::Known(kafka) = &mut observed.kafka {
            kafka.cluster_id = "this one".into();
        }
        clickhouse(&mut observed).server_uuid = "this one".into();
        assert!(steps(&observed) > 0, "{system}: there is something to do");
        clickhouse(&mut observed).ledger.identities.insert(system.into(), "another".into());
        assert_eq!(steps(&observed), 0, "{system}");
        let problems = decided(&fixture, &observed).problems;
        assert!(problems.iter().any(|problem| problem.reason == Reason::IdentityChanged), "{system}");
    }
}
