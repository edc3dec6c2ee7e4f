//! Two pipelines of two clusters, whose operators know nothing of each other and share nothing but Kafka and a topic prefix.

use std::collections::BTreeMap;

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::names::{PipelineName, Topics};

use super::estate::{CLUSTER, Estate};
use super::invariants::at_rest;
use super::kafka::Brokers;
use super::plans::{Plan, apply, delete, spec};
use super::run::unwell;
use super::shell::Operator;
use super::world::Model;

/// Uid of the other operator's cluster.
const OTHER: &str = "other-uid";

/// The estate before each write of the first set-up.
fn first_set_up() -> Vec<Estate> {
    let model = &mut Model::new(Plan::applied("").start());
    apply(&mut model.inner().estate, spec());
    model.inner().keeps = true;
    Operator::new().rest(model).unwrap();
    let acts = std::mem::take(&mut model.inner().acts);
    acts.into_iter().filter_map(|act| act.before).map(|before| *before).collect()
}

/// Another cluster's pipeline of the same name, with systems of its own.
fn other() -> Estate {
    let mut estate = Estate::new();
    // Ids that nobody else has.
    for _ in 0..1_000 {
        estate.ids.number();
    }
    apply(&mut estate, spec());
    estate
}

/// Comes to rest over brokers that others use too.
fn rest(operator: &Operator, model: &mut Model, brokers: &mut BTreeMap<String, Brokers>) {
    model.inner().estate.kafka.clone_from(brokers);
    assert!(operator.rest(model).is_some(), "never at rest: {:?}", unwell(&model.inner().estate));
    brokers.clone_from(&model.inner().estate.kafka);
}

fn said(model: &Model) -> (String, String, String) {
    let inner = model.inner();
    let resource = inner.estate.namespace.resource.as_ref().unwrap();
    let mut conditions = resource.status.conditions.iter();
    let found = conditions.find(|it| it.type_ == ConditionType::ConnectorRunning.as_str()).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// What nobody may have written who was refused.
fn written(model: &Model) -> Vec<String> {
    let mut inner = model.inner();
    let connectors = inner.estate.workers().connectors.keys().cloned().collect::<Vec<_>>();
    let slots = inner.estate.source().slots.keys().cloned().collect::<Vec<_>>();
    [connectors, slots].concat()
}

#[test]
fn of_two_clusters_the_one_that_was_first_has_a_topic_prefix_wherever_it_stood_when_the_other_came() {
    let name = PipelineName::new("shop", "shop");
    let owner = |cluster: &str| Topics { prefix: "shop" }.owner(&name.mark(cluster));
    let (mut firsts, mut seconds) = (0, 0);
    for (place, before) in first_set_up().into_iter().enumerate() {
        let mut brokers = before.kafka.clone();
        let is_first = before.kafka.values().any(|live| live.topics.contains_key(&owner(CLUSTER)));
        let (mut one, mut two) = (Model::new(before), Model::new(other()));
        // The first was killed amid its set-up, and comes back when the other one has done all that it will.
        let (operator, another) = (Operator::new(), Operator::of(OTHER));
        for _ in 0..3 {
            rest(&another, &mut two, &mut brokers);
            rest(&operator, &mut one, &mut brokers);
        }
        let (mut winner, mut loser) = if is_first { (one, two) } else { (two, one) };
        let (winners, losers) = if is_first { (operator, another) } else { (another, operator) };
        let (first_cluster, cluster) = if is_first { (CLUSTER, OTHER) } else { (OTHER, CLUSTER) };
        firsts += usize::from(is_first);
        seconds += usize::from(!is_first);
        assert_eq!(said(&winner).0, "True", "{place}: {:?}", unwell(&winner.inner().estate));
        let (status, reason, message) = said(&loser);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", Reason::Conflict.as_str().as_str()),
            "{place}: {message}"
        );
        for part in ["topic prefix shop", "shop/shop", first_cluster, "topicPrefix"] {
            assert!(message.contains(part), "{place}: {message}");
        }
        assert_eq!(written(&loser), Vec::<String>::new(), "{place}");
        assert!(!brokers.values().any(|live| live.topics.contains_key(&owner(cluster))), "{place}");
        let broken = [at_rest(&winner.inner().estate), at_rest(&loser.inner().estate)].concat();
        assert_eq!(broken, Vec::<String>::new(), "{place}");
        // Topics stay, and the prefix is free.
        delete(&mut winner.inner().estate);
        rest(&winners, &mut winner, &mut brokers);
        assert!(winner.inner().estate.namespace.resource.is_none(), "{place}");
        rest(&losers, &mut loser, &mut brokers);
        assert_eq!(said(&loser).0, "True", "{place}: {:?}", unwell(&loser.inner().estate));
        assert_eq!(at_rest(&loser.inner().estate), Vec::<String>::new(), "{place}");
    }
    assert!(firsts > 10 && seconds > 1, "{firsts} {seconds}");
}
