//! The deletion: order, what waits, what is left behind.

use std::collections::BTreeMap;

use tidemark_crds::pipeline::Policy;
use tidemark_crds::status::DeletionWait;
use tidemark_operator::core::facts::{
    ClickHouseObject, ConnectFacts, KafkaFacts, KubernetesFacts, Observation, Observed, OffsetFacts,
    PostgresFacts,
};
use tidemark_operator::core::finalize::{desire, is_clean, is_time_up, left_behind, waiting};
use tidemark_operator::core::foresee::{End, foresee};
use tidemark_operator::core::gate::Gate;
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::step::Lane;

use crate::fixture::{Fixture, fixture, unreachable};

fn gate(fixture: &Fixture, observed: &Observed) -> Gate {
    fixture.subject().gate(observed)
}

fn plan(fixture: &Fixture, observed: &Observed) -> Plan {
    let desired = desire(&fixture.subject(), observed);
    Plan::new(desired.steps, desired.held, std::collections::BTreeSet::new())
}

/// What a plan does, a line a step.
fn whats(plan: &Plan) -> String {
    plan.steps().iter().map(|step| step.what.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_connector_stops_before_anything_else_goes() {
    let fixture = fixture();
    let plan = plan(&fixture, &fixture.running());
    let first: Vec<&str> = plan.first_wave().iter().map(|step| step.what.as_str()).collect();
    assert_eq!(first, [format!("stop connector {}", fixture.name.connector())]);
    let fixture = Fixture { deleting: true, ..fixture };
    let foreseen = foresee(&fixture.subject(), &fixture.running(), &BTreeMap::new());
    let waves = foreseen.waves.iter().zip(1..).map(|(wave, number)| {
        let steps =
            wave.steps.iter().map(|(step, _)| format!("{number} {:<10} {}", step.lane().as_str(), step.what));
        let then = wave.then.iter().map(|coming| format!("{number} then waits for {coming}"));
        steps.chain(then).collect::<Vec<_>>().join("\n")
    });
    insta::assert_snapshot!(waves.collect::<Vec<_>>().join("\n"));
    assert_eq!((foreseen.end, foreseen.left), (End::Rest, vec![]));
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
    let left = left_behind(&fixture.subject(), &gate(&fixture, &observed), &observed, first.steps());
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
    assert!(is_clean(&fixture.subject(), plan(&fixture, &gone).steps(), &gone));
    let silent = Observed { clickhouse: unreachable(), ..gone };
    assert!(!is_clean(&fixture.subject(), plan(&fixture, &silent).steps(), &silent));
    let silent = Observed { kubernetes: unreachable(), ..fixture.running() };
    assert!(!is_clean(&fixture.subject(), &[], &silent));
}

#[test]
fn what_is_not_the_pipelines_stays_whatever_its_name() {
    let mut fixture = fixture();
    fixture.spec.deletion_policy.topics = Policy::Delete;
    fixture.deleting = true;
    let mut observed = fixture.running();
    let topics = ["shop.public.orders", "shop.eu.public.orders", "shop.audit"];
    if let Observation::Known(facts) = &mut observed.kafka {
        facts.topics = topics.map(|topic| (topic.to_owned(), 1)).into();
        facts.groups.insert(fixture.name.consumer_group("another"), 0);
    }
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.ledger.made_topics.insert("shop.public.orders".to_owned());
    }
    let text = whats(&plan(&fixture, &observed));
    assert!(
        text.contains("delete 1 topics") && !text.contains("eu.public") && !text.contains("another"),
        "{text}"
    );

    if let Observation::Known(facts) = &mut observed.connect {
        let config = &mut facts.connector.as_mut().unwrap().config;
        config.insert("tidemark.mark".into(), "tidemark another/shop/shop".into());
    }
    if let Observation::Known(facts) = &mut observed.postgres {
        let publication = facts.publication.as_mut().unwrap();
        (publication.ours, publication.comment) = (false, "tidemark another/shop/shop".into());
    }
    if let Observation::Known(facts) = &mut observed.kubernetes {
        for object in facts.objects.values_mut() {
            object["metadata"]["ownerReferences"][0]["uid"] = "another life".into();
        }
    }
    if let Observation::Known(facts) = &mut observed.kafka {
        facts.cluster_id = "another".into();
    }
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.ledger.identities.insert("kafka".into(), "this one".into());
    }
    let plan = plan(&fixture, &observed);
    assert!(plan.is_empty(), "{}", whats(&plan));
    // It waits for the Kafka that has the topics.
    let gate = gate(&fixture, &observed);
    let believed = gate.believed(&observed, true);
    assert!(!is_clean(&fixture.subject(), plan.steps(), &believed));
    let left = left_behind(&fixture.subject(), &gate, &believed, plan.steps());
    assert!(left[0].what.starts_with("replication slot"), "it is named all the same: {left:?}");
    let kafka: Vec<_> = left.iter().filter(|left| left.lane == Lane::Kafka).collect();
    assert!(kafka.len() == 1 && kafka[0].what.contains("another cluster than before"), "{kafka:?}");
    assert!(kafka[0].command.starts_with("none"), "nothing is to be run on another Kafka: {kafka:?}");
}

#[test]
fn the_place_in_the_log_is_given_up_after_the_ledger_has_it() {
    let fixture = fixture();
    let mut observed = fixture.running();
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.ledger.epoch = Some(3);
        facts.objects.insert("_tidemark_ledger".into(), ClickHouseObject::default());
    }
    if let Observation::Known(facts) = &mut observed.connect {
        let connector = facts.connector.as_mut().unwrap();
        (connector.state, connector.offset) = ("STOPPED".into(), Some(OffsetFacts { lsn: 1 }));
    }
    let first = |observed: &Observed| -> Vec<String> {
        plan(&fixture, observed).first_wave().iter().map(|step| step.what.clone()).collect()
    };
    assert!(first(&observed).contains(&"note in the ledger that the log is left".to_owned()));
    assert!(!first(&observed).iter().any(|what| what.starts_with("delete offsets")));
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.ledger.epoch = None;
    }
    assert!(first(&observed).iter().any(|what| what.starts_with("delete offsets")));
}

#[test]
fn a_deletion_waits_for_each_system_as_long_as_nothing_changes_there_and_not_since_it_was_asked_for() {
    let fixture = fixture();
    let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
    let timeout = std::time::Duration::from_secs(60);
    let look = |observed: &Observed, before: &[DeletionWait], second| {
        let plan = plan(&fixture, observed);
        waiting(&fixture.subject(), &gate(&fixture, observed), observed, (&plan, before), at(second))
    };
    let silent = Observed { postgres: unreachable(), ..fixture.running() };
    // However long ago it was asked for: the operator looks for the first time.
    let first = look(&silent, &[], 0);
    assert!(!is_time_up(&first, timeout, at(0)));
    assert!(first.iter().any(|wait| wait.system == "postgres" && wait.waits_for.contains("no answer")));
    assert!(is_time_up(&look(&silent, &first, 60), timeout, at(60)));
    // It answers after 50 s: what is left there has its time anew.
    let later = look(&fixture.running(), &first, 50);
    assert!(!is_time_up(&later, timeout, at(60)));
    let slot = later.iter().find(|wait| wait.system == "postgres").unwrap();
    assert!(slot.waits_for.starts_with("drop replication slot"), "{slot:?}");
    assert!(is_time_up(&look(&fixture.running(), &later, 110), timeout, at(110)));
    assert!(is_time_up(&[], timeout, at(0)), "what is left is a person's to remove");
}

#[test]
fn retained_parts_give_no_step() {
    let mut fixture = fixture();
    fixture.spec.deletion_policy.connector = Policy::Retain;
    fixture.spec.deletion_policy.replication_slot = Policy::Retain;
    let text = whats(&plan(&fixture, &fixture.running()));
    assert!(!text.contains("delete connector") && !text.contains("replication slot"), "{text}");
}

#[test]
fn the_ledger_goes_when_nothing_hangs_on_it_any_more_and_every_state_table_before_it() {
    let mut fixture = fixture();
    fixture.spec.deletion_policy.clickhouse = Policy::Delete;
    let mut observed = Observed {
        connect: Observation::Known(ConnectFacts::default()),
        postgres: Observation::Known(PostgresFacts::default()),
        kafka: Observation::Known(KafkaFacts::default()),
        ..fixture.running()
    };
    let table = |mark: &str| ClickHouseObject {
        engine: "ReplacingMergeTree".into(),
        comment: mark.into(),
        ..ClickHouseObject::default()
    };
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.objects.insert("_tidemark_ledger".into(), table(&fixture.mark));
    }
    let what = |observed: &Observed| -> Vec<String> {
        let plan = plan(&fixture, observed);
        let steps = plan.steps().iter().map(|step| step.what.clone());
        steps.filter(|what| what.contains("table")).collect()
    };
    assert_eq!(what(&observed), ["drop bookkeeping table _tidemark_ledger"]);
    // It says which topics are the pipeline's: a Kafka that gives no answer now may give one later.
    let silent = Observed { kafka: unreachable(), ..observed.clone() };
    assert_eq!(what(&silent), Vec::<String>::new());
    // A table that the spec no longer names.
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.objects.insert("former".into(), table(&fixture.mark));
        facts.objects.insert("theirs".into(), table(""));
    }
    assert_eq!(what(&observed), ["drop state table former"]);
}
