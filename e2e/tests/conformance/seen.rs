//! What of a look the model and the real systems have to agree on: everything but what other programs and time bring.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_operator::core::desired::topics;
use tidemark_operator::core::facts::{
    ClickHouseFacts, ConnectFacts, KafkaFacts, KubernetesFacts, Observation, Observed, PostgresFacts,
};

/// Lines by what they are about.
pub(super) type Lines = BTreeMap<String, String>;

pub(super) fn seen(spec: &AnalyticsPipelineSpec, observed: &Observed) -> Lines {
    let mut lines = Lines::new();
    with(&observed.clickhouse, "clickhouse", &mut lines, clickhouse);
    with(&observed.postgres, "postgres", &mut lines, postgres);
    with(&observed.kafka, "kafka", &mut lines, |facts, lines| kafka(spec, facts, lines));
    with(&observed.connect, "connect", &mut lines, connect);
    with(&observed.kubernetes, "kubernetes", &mut lines, kubernetes);
    lines
}

fn with<T>(observation: &Observation<T>, system: &str, lines: &mut Lines, read: impl FnOnce(&T, &mut Lines)) {
    match observation.known() {
        Some(facts) => read(facts, lines),
        None => drop(lines.insert(system.to_owned(), "not seen".to_owned())),
    }
}

fn clickhouse(facts: &ClickHouseFacts, lines: &mut Lines) {
    lines.insert("database".into(), facts.database_exists.to_string());
    for (name, object) in &facts.objects {
        // What a refresh has is its table's.
        let columns = if object.engine == "MaterializedView" { &[][..] } else { &object.columns };
        lines.insert(
            format!("clickhouse {name}"),
            format!("{} {:?} {columns:?}", object.engine, object.comment),
        );
    }
    // What a system is told by is another one's here.
    let mut ledger = facts.ledger.clone();
    ledger.identities.values_mut().for_each(String::clear);
    lines.insert("ledger".into(), format!("{ledger:#?}"));
    lines.insert("fences".into(), format!("{:?}", facts.fences));
    let refreshes: BTreeSet<&String> = facts
        .objects
        .iter()
        .filter(|(_, live)| live.engine == "MaterializedView")
        .map(|(name, _)| name)
        .collect();
    lines.insert("refreshes".into(), format!("{refreshes:?}"));
    lines.insert("history".into(), format!("{:?}", facts.connector));
}

fn postgres(facts: &PostgresFacts, lines: &mut Lines) {
    let publication = facts.publication.as_ref().map(|it| {
        format!(
            "{:?} {} {} {} {} {}",
            it.tables, it.all_operations, it.via_root, it.generated, it.ours, it.comment
        )
    });
    lines.insert("publication".into(), format!("{publication:?}"));
    for (table, live) in &facts.tables {
        let is_published = !live.storage.published.is_empty();
        lines.insert(format!("publication of {table}"), is_published.to_string());
    }
}

fn kafka(spec: &AnalyticsPipelineSpec, facts: &KafkaFacts, lines: &mut Lines) {
    for name in topics::names(spec) {
        let own = facts.settings.get(&name).map(|settings| {
            let values: BTreeMap<&String, Option<&String>> =
                settings.own.iter().map(|key| (key, settings.all.get(key))).collect();
            format!("{values:?}")
        });
        let topic = format!("{:?} {:?} {own:?}", facts.topics.get(&name), facts.replicas.get(&name));
        lines.insert(format!("topic {name}"), topic);
    }
}

fn connect(facts: &ConnectFacts, lines: &mut Lines) {
    let config = facts.connector.as_ref().map(|live| &live.config);
    lines.insert("connector".into(), format!("{config:#?}"));
}

fn kubernetes(facts: &KubernetesFacts, lines: &mut Lines) {
    lines.insert("objects".into(), format!("{:?}", facts.objects.keys().collect::<Vec<_>>()));
}
