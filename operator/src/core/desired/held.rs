//! The facts that hold: what was observed, and what no planned step makes anew. Pure.

use std::collections::BTreeSet;

use tidemark_crds::conditions::ConditionType;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::LEDGER_TABLE;
use tidemark_crds::names::PipelineName;

use super::grafana::{folder_fact, place, source_fact};
use super::owned::is_owned;
use crate::core::facts::Observed;
use crate::core::problem::Problem;
use crate::core::step::{Fact, Step};

/// Finds the facts that hold. A fact that a step of the same plan gives does not hold yet, whatever the
/// observation looked like.
pub fn held(
    (name, uid): (&PipelineName, Option<&str>),
    steps: &[Step],
    problems: &[Problem],
    layouts: &[TableLayout],
    observed: &Observed,
) -> BTreeSet<Fact> {
    let given: BTreeSet<&Fact> = steps.iter().filter_map(|step| step.gives.as_ref()).collect();
    let mut held = BTreeSet::new();
    let mut add = |fact: Fact, there: bool| {
        if there && !given.contains(&fact) {
            held.insert(fact);
        }
    };
    if let Some(facts) = observed.clickhouse.known() {
        add(Fact::Database, facts.database_exists);
        add(Fact::Bookkeeping, facts.objects.contains_key(LEDGER_TABLE));
        add(Fact::Incarnation, facts.ledger.incarnation.is_some());
        for topic in &facts.ledger.topics {
            add(Fact::TopicNoted(topic.clone()), true);
        }
        for layout in layouts {
            let target = &layout.target;
            add(Fact::StateTable(target.clone()), facts.objects.contains_key(target));
            let newest = facts.ledger.newest(target).is_some_and(|known| known.version >= layout.version);
            add(Fact::Layout(target.clone()), newest);
            add(Fact::Fence(target.clone()), facts.fences.contains_key(target));
            add(Fact::CurrentView(target.clone()), facts.objects.contains_key(&format!("{target}_current")));
        }
        for view in facts.objects.keys() {
            add(Fact::View(view.clone()), true);
        }
        // A step that writes it down gives it.
        add(place::fact(), true);
    }
    if let Some(facts) = observed.postgres.known() {
        let fit = !problems.iter().any(|p| p.condition == ConditionType::SourceReady && p.object.is_none());
        add(Fact::Source, fit);
        add(Fact::Publication, facts.publication.is_some());
        add(Fact::SlotGone, facts.slot.is_none());
    }
    if let Some(facts) = observed.kafka.known() {
        for topic in facts.topics.keys() {
            add(Fact::Topic(topic.clone()), true);
        }
    }
    if let Some(facts) = observed.connect.known() {
        let connector = facts.connector.as_ref();
        add(Fact::Connector, connector.is_some());
        add(Fact::ConnectorStopped, connector.is_none_or(|connector| connector.state == "STOPPED"));
        add(Fact::ConnectorGone, connector.is_none());
        add(Fact::OffsetsGone, connector.is_none_or(|connector| connector.offset.is_none()));
    }
    if let Some(facts) = observed.grafana.known() {
        add(folder_fact(), facts.folder.is_some());
        add(source_fact(), facts.source.is_some());
    }
    if let Some(facts) = observed.kubernetes.known() {
        let live = facts.objects.get(&format!("Deployment/{}", name.sink()));
        let deployment = live.is_some_and(|live| is_owned(name, uid, live));
        add(Fact::Sink, deployment);
        // Its pods write on for a while: the consumer group has no member when the last has ended.
        let members =
            observed.kafka.known().is_some_and(|kafka| kafka.groups.values().any(|members| *members > 0));
        add(Fact::SinkDrained, !deployment && !members);
    }
    held
}
