//! What a deletion may remove: topics that the pipeline made, tables by their mark, and what a ledger that cannot be read
//! would say more of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tidemark_crds::names::Topics;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Policy};
use tidemark_operator::core::desired::topics;
use tidemark_operator::core::effect::{Effect, KafkaEffect};
use tidemark_operator::core::facts::{
    ClickHouseObject, ConnectFacts, KafkaFacts, KubernetesFacts, LedgerFacts, Observation, Observed,
    PostgresFacts, TopicSettings,
};
use tidemark_operator::core::finalize::{desire, is_clean, left_behind, waiting};
use tidemark_operator::core::gate::System;
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::step::{Stage, Step};

use crate::fixture::{Fixture, fixture};

/// The topics that a spec asks for, as somebody made them.
fn made(spec: &AnalyticsPipelineSpec, retention: &str, facts: &mut KafkaFacts) {
    for name in topics::names(spec) {
        let partitions = if name.contains(".public.") { spec.kafka.topics.partitions } else { 1 };
        let config = [("retention.ms", retention), ("max.message.bytes", "77"), ("cleanup.policy", "delete")];
        let all: BTreeMap<String, String> =
            config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let own = all.keys().cloned().collect();
        facts.settings.insert(name.clone(), TopicSettings { all, own });
        facts.topics.insert(name, partitions);
    }
}

/// Carries out the steps about topics, as brokers and ledger would.
fn carry_out(steps: &[Step], facts: &mut KafkaFacts, ledger: &mut LedgerFacts) {
    for step in steps {
        match &step.effect {
            Effect::Kafka(KafkaEffect::CreateTopic { name, partitions, config, .. }) => {
                assert!(!facts.topics.contains_key(name), "{name} is there");
                let own = config.keys().cloned().collect();
                facts.settings.insert(name.clone(), TopicSettings { all: config.clone(), own });
                facts.topics.insert(name.clone(), *partitions);
            }
            Effect::Ledger { kind, key, version, value } => {
                let row = tidemark_operator::core::ledger::LedgerRow {
                    kind: kind.as_str().into(),
                    key: key.clone(),
                    version: *version,
                    value: value.to_string(),
                };
                tidemark_operator::core::ledger::note(row, ledger);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The steps once the topic is there that says whose the prefix is.
fn steps(spec: &AnalyticsPipelineSpec, facts: &KafkaFacts, ledger: &LedgerFacts) -> Vec<Step> {
    let tables: Vec<_> = spec.all_tables().iter().filter_map(|table| table.name.parse().ok()).collect();
    let fixture = fixture();
    let proof = fixture.subject().gate(&fixture.running()).proof(System::Kafka);
    assert!(proof.is_some());
    let mark = fixture.mark.as_str();
    let mut facts = facts.clone();
    facts.topics.insert(Topics { prefix: &spec.kafka.topic_prefix }.owner(mark), 1);
    topics::steps(&spec.kafka, &tables, &topics::dead_letter(spec), &facts, Some(ledger), (mark, proof)).steps
}

fn whats(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.what.as_str()).collect()
}

#[test]
fn a_topic_is_the_pipelines_once_it_was_seen_as_it_was_made() {
    let spec = fixture().spec;
    let (mut facts, mut ledger) = (KafkaFacts::default(), LedgerFacts::default());
    let first = steps(&spec, &facts, &ledger);
    carry_out(&first, &mut facts, &mut ledger);
    let all = facts.topics.len();
    assert_eq!(topics::own(&spec, &facts, &ledger).len(), all, "also before the ledger has it");
    let second = steps(&spec, &facts, &ledger);
    assert_eq!(whats(&second), [format!("note in the ledger that {all} topics are made")]);
    carry_out(&second, &mut facts, &mut ledger);
    assert!(steps(&spec, &facts, &ledger).is_empty());
    // What is changed by hand later stays the pipeline's.
    made(&spec, "1", &mut facts);
    assert_eq!(topics::own(&spec, &facts, &ledger).len(), all);
    // One that somebody removes and makes anew is not.
    facts.topics.remove("shop.public.orders");
    let mut gone = ledger.clone();
    let noted: Vec<Step> =
        steps(&spec, &facts, &gone).into_iter().filter(|step| step.stage == Stage::Ledger).collect();
    carry_out(&noted, &mut facts.clone(), &mut gone);
    made(&spec, "1", &mut facts);
    assert!(!topics::own(&spec, &facts, &gone).contains(&"shop.public.orders".to_owned()));
}

#[test]
fn a_topic_that_others_made_while_ours_was_refused_stays_theirs() {
    let spec = fixture().spec;
    let (mut facts, mut ledger) = (KafkaFacts::default(), LedgerFacts::default());
    let noted: Vec<Step> =
        steps(&spec, &facts, &ledger).into_iter().filter(|step| step.stage == Stage::Ledger).collect();
    carry_out(&noted, &mut facts, &mut ledger);
    made(&spec, "7776000000", &mut facts);
    let withdrawn = steps(&spec, &facts, &ledger);
    assert!(whats(&withdrawn).iter().all(|what| what.contains("which others made")), "{withdrawn:?}");
    assert_eq!(withdrawn.len(), facts.topics.len());
    carry_out(&withdrawn, &mut facts, &mut ledger);
    assert!(steps(&spec, &facts, &ledger).is_empty(), "their retention is left as it is");
    assert_eq!(topics::own(&spec, &facts, &ledger), Vec::<String>::new());
    // Not even where it cannot be seen how they are.
    let unseen = KafkaFacts { settings: BTreeMap::new(), ..facts };
    ledger.topics.insert("shop.public.orders".into());
    assert_eq!(topics::own(&spec, &unseen, &ledger), Vec::<String>::new());
}

#[test]
fn a_topic_of_dead_letters_that_others_may_share_is_made_and_never_touched_again() {
    let mut spec = fixture().spec;
    spec.sink.dead_letter.topic = Some("dlq".into());
    let (mut facts, mut ledger) = (KafkaFacts::default(), LedgerFacts::default());
    for _ in 0..2 {
        let all = steps(&spec, &facts, &ledger);
        carry_out(&all, &mut facts, &mut ledger);
    }
    assert!(facts.topics.contains_key("dlq") && !ledger.topics.contains("dlq"));
    assert!(!topics::own(&spec, &facts, &ledger).contains(&"dlq".to_owned()));
    assert!(!topics::exclusive(&spec).contains(&"dlq".to_owned()));
    // Another pipeline asks for another retention of it.
    spec.kafka.topics.retention = "720h".into();
    assert!(!whats(&steps(&spec, &facts, &ledger)).iter().any(|what| what.contains("dlq")));
    // One of its own prefix is its own.
    spec.sink.dead_letter.topic = Some("shop.dlq".into());
    assert!(topics::exclusive(&spec).contains(&"shop.dlq".to_owned()));
}

/// A deletion under which nothing is kept, and that has come to its end but for what a test adds.
fn gone() -> (Fixture, Observed) {
    let mut fixture = fixture();
    fixture.deleting = true;
    let policy = &mut fixture.spec.deletion_policy;
    (policy.clickhouse, policy.topics) = (Policy::Delete, Policy::Delete);
    let mut observed = Observed {
        postgres: Observation::Known(PostgresFacts::default()),
        kafka: Observation::Known(KafkaFacts::default()),
        connect: Observation::Known(ConnectFacts::default()),
        kubernetes: Observation::Known(KubernetesFacts::default()),
        ..fixture.running()
    };
    let Observation::Known(facts) = &mut observed.clickhouse else { unreachable!() };
    facts.objects.clear();
    facts.ledger = LedgerFacts::default();
    (fixture, observed)
}

fn object(engine: &str, mark: &str) -> ClickHouseObject {
    ClickHouseObject { engine: engine.into(), comment: mark.into(), ..ClickHouseObject::default() }
}

#[test]
fn what_is_marked_goes_by_whatever_name_a_server_gives_its_engine() {
    for family in ["", "Replicated", "Shared"] {
        let (fixture, mut observed) = gone();
        let Observation::Known(facts) = &mut observed.clickhouse else { unreachable!() };
        let objects = [
            ("orders", format!("{family}ReplacingMergeTree")),
            ("totals__1a2b", format!("{family}MergeTree")),
            ("totals", "View".to_owned()),
            ("totals__refresh", "MaterializedView".to_owned()),
        ];
        for (name, engine) in &objects {
            facts.objects.insert((*name).into(), object(engine, &fixture.mark));
        }
        let steps = desire(&fixture.subject(), &observed).steps;
        for (name, _) in &objects {
            let ends = format!(" {name}");
            assert!(steps.iter().any(|step| step.what.ends_with(&ends)), "{family}: {name}: {steps:?}");
        }
    }
}

#[test]
fn an_object_with_our_mark_that_no_step_removes_is_no_clean_end() {
    let (fixture, mut observed) = gone();
    assert!(is_clean(&fixture.subject(), &[], &observed));
    let Observation::Known(facts) = &mut observed.clickhouse else { unreachable!() };
    facts.objects.insert("odd".into(), object("Log", &fixture.mark));
    facts.objects.insert("theirs".into(), object("Log", "theirs"));
    assert!(desire(&fixture.subject(), &observed).steps.is_empty());
    assert!(!is_clean(&fixture.subject(), &[], &observed));
    let gate = fixture.subject().gate(&observed);
    let left = left_behind(&fixture.subject(), &gate, &observed, &[]);
    assert!(left.iter().any(|left| left.what.starts_with("tables and views")), "{left:?}");
}

#[test]
fn a_row_of_the_ledger_that_cannot_be_read_is_waited_for_by_name() {
    for kind in ["epoch", "topic", "grafana"] {
        let (mut fixture, _) = gone();
        fixture.deleting = true;
        let mut observed = fixture.running();
        if let Observation::Known(facts) = &mut observed.connect {
            facts.connector.as_mut().unwrap().state = "STOPPED".into();
        }
        let Observation::Known(facts) = &mut observed.clickhouse else { unreachable!() };
        facts.ledger.unreadable.insert((kind.into(), String::new()));
        if kind == "epoch" {
            facts.ledger.epoch = None;
        }
        let desired = desire(&fixture.subject(), &observed);
        let plan = Plan::new(desired.steps, desired.held, std::collections::BTreeSet::new());
        for step in plan.first_wave() {
            let given_up =
                [Stage::DeleteOffsets, Stage::DropSlot, Stage::DeleteTopics, Stage::DeleteConnector];
            assert!(!given_up.contains(&step.stage), "{kind}: {step:?}");
        }
        let gate = fixture.subject().gate(&observed);
        let waits = waiting(&fixture.subject(), &gate, &observed, (&plan, &[]), Timestamp::UNIX_EPOCH);
        let named = format!("row {kind} of the ledger");
        assert!(waits.iter().any(|wait| wait.waits_for.contains(&named)), "{kind}: {waits:?}");
        assert!(!is_clean(&fixture.subject(), &[], &observed));
        let left = left_behind(&fixture.subject(), &gate, &observed, plan.steps());
        assert!(left.iter().any(|left| left.what.contains(&named)), "{kind}: {left:?}");
    }
}
