//! The deletion: order, what waits, what is left behind.

use tidemark_crds::pipeline::Policy;
use tidemark_operator::facts::{
    ConnectFacts, KafkaFacts, KubernetesFacts, Observation, Observed, PostgresFacts,
};
use tidemark_operator::finalize::{desire, is_clean, left_behind};
use tidemark_operator::plan::Plan;

use crate::fixture::{Fixture, fixture, unreachable};

fn plan(fixture: &Fixture, observed: &Observed) -> Plan {
    let desired = desire(&fixture.subject(), observed);
    Plan::new(desired.steps, desired.held, std::collections::BTreeSet::new())
}

#[test]
fn the_connector_stops_before_anything_else_goes() {
    let fixture = fixture();
    let plan = plan(&fixture, &fixture.running());
    let first: Vec<&str> = plan.first_wave().iter().map(|step| step.what.as_str()).collect();
    assert_eq!(first, [format!("stop connector {}", fixture.name.connector())]);
    insta::assert_snapshot!(plan.render(false));
}

#[test]
fn a_stopped_connector_lets_sink_and_connector_go_side_by_side_and_the_slot_waits_for_its_reader() {
    let fixture = fixture();
    let mut observed = fixture.running();
    if let Observation::Known(facts) = &mut observed.connect {
        facts.connector.as_mut().unwrap().state = "STOPPED".into();
    }
    let plan = plan(&fixture, &observed);
    let first: Vec<String> = plan.first_wave().iter().map(|step| step.what.clone()).collect();
    let connector = format!("delete connector {}", fixture.name.connector());
    assert_eq!(
        first,
        ["delete Deployment shop-sink".to_owned(), "delete ConfigMap shop-sink".to_owned(), connector]
    );
}

#[test]
fn a_connect_that_does_not_answer_does_not_hold_up_the_sink() {
    let fixture = fixture();
    let observed = Observed { connect: unreachable(), ..fixture.running() };
    let first = plan(&fixture, &observed);
    assert!(first.first_wave().iter().any(|step| step.what == "delete Deployment shop-sink"));
    let left = left_behind(&fixture.subject(), &observed, first.steps());
    assert!(left[0].what.starts_with("replication slot"), "the slot comes first: {left:?}");
    assert!(left.iter().any(|left| left.command.contains("http://connect:8083/connectors/")));
}

#[test]
fn nothing_left_anywhere_is_clean_and_a_silent_system_is_not() {
    let fixture = fixture();
    let gone = Observed {
        postgres: Observation::Known(PostgresFacts::default()),
        kafka: Observation::Known(KafkaFacts::default()),
        connect: Observation::Known(ConnectFacts::default()),
        kubernetes: Observation::Known(KubernetesFacts::default()),
        ..fixture.running()
    };
    assert!(is_clean(&fixture.spec, plan(&fixture, &gone).steps(), &gone));
    let silent = Observed { clickhouse: unreachable(), ..gone };
    assert!(!is_clean(&fixture.spec, plan(&fixture, &silent).steps(), &silent));
}

#[test]
fn retained_parts_give_no_step() {
    let mut fixture = fixture();
    fixture.spec.deletion_policy.connector = Policy::Retain;
    fixture.spec.deletion_policy.replication_slot = Policy::Retain;
    let text = plan(&fixture, &fixture.running()).render(false);
    assert!(!text.contains("delete connector") && !text.contains("replication slot"), "{text}");
}
