//! Guards of which nothing tells at rest, rows and objects being what they would be without: what the status says.

use serde_json::json;
use tidemark_crds::conditions::ConditionType;

use super::connect::Workers;
use super::estate::{CONNECT, Estate};
use super::invariants::at_rest;
use super::kafka::Brokers;
use super::plans::{accept_what_was_found, apply, spec};
use super::run::unwell;
use super::shell::Operator;
use super::world::Model;

/// Status, reason and message of a condition.
fn said(model: &Model, of: ConditionType) -> (String, String) {
    let inner = model.inner();
    let resource = inner.estate.namespace.resource.as_ref().unwrap();
    let found = resource.status.conditions.iter().find(|it| it.type_ == of.as_str()).unwrap();
    (format!("{} {}", found.status, found.reason), found.message.clone())
}

/// Comes to rest with a pipeline that is well.
fn is_well(operator: &Operator, model: &mut Model) {
    operator.rest(model).unwrap();
    let estate = &model.inner().estate;
    assert!(unwell(estate).iter().all(|said| !said.starts_with("Ready ")), "{:?}", unwell(estate));
    assert_eq!(at_rest(estate), Vec::<String>::new());
}

#[test]
fn a_connect_that_writes_to_other_brokers_is_named_and_nothing_is_made_there() {
    let (mut model, operator) = (Model::new(Estate::new()), Operator::new());
    let lead = |model: &Model, url: &str| {
        let mut wanted = spec();
        wanted["source"]["connect"]["url"] = json!(url);
        let estate = &mut model.inner().estate;
        apply(estate, wanted);
        estate.write();
    };
    {
        let estate = &mut model.inner().estate;
        let made = Brokers::new(&mut estate.ids);
        estate.kafka.insert("beside:9092".into(), made);
        estate.connect.insert("http://beside:8083".into(), Workers::new("beside:9092"));
    }
    lead(&model, "http://beside:8083");
    operator.rest(&mut model).unwrap();
    let (is, message) = said(&model, ConditionType::ConnectorRunning);
    assert_eq!(is, "False InvalidSpec", "{message}");
    assert!(message.contains("writes to the Kafka cluster"), "{message}");
    assert_eq!(model.inner().estate.connect["http://beside:8083"].connectors.len(), 0);
    lead(&model, CONNECT);
    is_well(&operator, &mut model);
}

#[test]
fn a_promoted_standby_waits_for_a_word() {
    let (mut model, operator) = (Model::new(Estate::new()), Operator::new());
    apply(&mut model.inner().estate, spec());
    is_well(&operator, &mut model);
    model.inner().estate.source().timeline = 2;
    operator.rest(&mut model).unwrap();
    let (is, message) = said(&model, ConditionType::SourceReady);
    assert_eq!(is, "False SlotLost", "{message}");
    assert!(message.contains("timeline 2 of its log instead of 1"), "{message}");
    accept_what_was_found(&mut model.inner().estate);
    is_well(&operator, &mut model);
}
