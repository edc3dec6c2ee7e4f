//! What keeps an operator from writing: the end of its term, a resource that cannot be read, an older pipeline of the same
//! topics.

use tidemark_operator::shell::leader::Term;

use super::plans::Plan;
use super::shell::Operator;
use super::world::{Answers, Model};

/// A pipeline that is made, then deleted with all that it has: the moves one after the other.
fn life() -> Plan {
    let all = serde_json::json!({"deletionPolicy": {
        "clickhouse": "Delete", "connector": "Delete", "replicationSlot": "Delete", "topics": "Delete", "timeout": "1m",
    }});
    Plan::applied("a life").with("policy", all).then("delete", super::plans::delete)
}

/// Carries out the moves before the last one, and makes the last.
fn before_the_end(plan: &Plan) -> Model {
    let (mut model, operator) = (Model::new(plan.start()), Operator::new());
    let (last, first) = plan.moves.split_last().unwrap();
    for (_, change) in first {
        change(&mut model.inner().estate);
        operator.rest(&mut model).unwrap();
    }
    (last.1)(&mut model.inner().estate);
    model.inner().acts.clear();
    model
}

#[test]
fn no_write_follows_the_end_of_a_term() {
    let plan = life();
    let made = |estate: &Model| {
        let estate = estate.inner().estate.clone();
        Model::new(estate)
    };
    let fresh = Model::new(plan.start());
    plan.moves[0].1(&mut fresh.inner().estate);
    fresh.inner().acts.clear();
    for start in [fresh, before_the_end(&plan)] {
        let mut whole = made(&start);
        Operator::new().rest(&mut whole).unwrap();
        let writes = whole.inner().acts.len();
        assert!(writes > 10, "only {writes}");
        for last in 0..writes {
            let mut model = made(&start);
            let (mut operator, written) = (Operator::new(), model.clone());
            operator.term = Term::without_end().of_reconcile(move || written.inner().acts.len() < last);
            operator.rest(&mut model).unwrap();
            let acts: Vec<String> = model.inner().acts.iter().map(|act| act.id.what.clone()).collect();
            assert_eq!(acts.len(), last, "after the end: {:?}", &acts[last.min(acts.len())..]);
        }
    }
}

#[test]
fn of_a_resource_that_cannot_be_read_nothing_is_taken_away_and_the_rest_goes_on() {
    let plan = life();
    let mut model = Model::new(plan.start());
    plan.moves[0].1(&mut model.inner().estate);
    model.inner().resource = Answers::Never;
    Operator::new().rest(&mut model).unwrap();
    assert!(model.inner().acts.len() > 10, "a new pipeline is made");
    assert!(!model.inner().acts.iter().any(|act| act.takes_away));

    let mut model = before_the_end(&plan);
    model.inner().resource = Answers::Never;
    Operator::new().rest(&mut model);
    let taken: Vec<String> =
        (model.inner().acts.iter().filter(|act| act.takes_away)).map(|act| act.id.what.clone()).collect();
    assert_eq!(taken, Vec::<String>::new());
    model.inner().resource = Answers::Always;
    Operator::new().rest(&mut model);
    assert!(model.inner().acts.iter().any(|act| act.takes_away), "once it can be read");
}

#[test]
fn of_two_pipelines_of_one_prefix_the_younger_writes_no_topic_and_has_no_connector() {
    let plan = life();
    let mut model = Model::new(plan.start());
    plan.moves[0].1(&mut model.inner().estate);
    let mut operator = Operator::new();
    operator.older = Some(serde_json::from_value(super::plans::spec()).unwrap());
    operator.rest(&mut model).unwrap();
    let mut inner = model.inner();
    assert!(inner.estate.brokers().topics.is_empty());
    assert!(inner.estate.workers().connectors.is_empty());
    let conditions = inner.estate.namespace.resource.as_ref().unwrap().status.conditions.clone();
    let found = conditions.iter().find(|it| it.type_ == "ConnectorRunning").unwrap();
    assert_eq!((found.status.as_str(), found.reason.as_str()), ("False", "Conflict"), "{}", found.message);
    assert!(found.message.contains("shop/older"), "{}", found.message);
    drop(inner);
    // The older one is gone.
    operator.older = None;
    operator.rest(&mut model).unwrap();
    assert!(!model.inner().estate.workers().connectors.is_empty());
}
