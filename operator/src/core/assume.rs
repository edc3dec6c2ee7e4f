//! What the next look would find after a step, for every lane. Pure.
//!
//! Only what the step itself brings about is assumed here; what another program or time brings is
//! [`coming`](mod@coming).

mod clickhouse;
pub mod coming;
mod grafana;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_crds::layout::SourceTable;
use tidemark_runtime::credentials::Secret;

use self::coming::Coming;
use crate::core::desired::part::is_ours;
use crate::core::desired::pipeline::Subject;
use crate::core::desired::sink_objects::key_of;
use crate::core::effect::{ConnectEffect, Effect, KafkaEffect, KubernetesEffect, PostgresEffect, Publishes};
use crate::core::facts::{
    ConnectFacts, ConnectorFacts, KafkaFacts, KubernetesFacts, Observation, Observed, OffsetFacts,
    PostgresFacts, PublicationFacts, TaskFacts, TopicSettings,
};
use crate::core::rollout::Rollout;

/// Begins what a system gives by itself, such as an id, when something is made: nobody knows it before.
pub const GIVEN: &str = "given when it is made: ";

/// Oid of a publication that is not made yet.
const GIVEN_OID: u32 = u32::MAX;

/// Changes what was observed into what would be after `effect`, and says what that rests on and nobody can see before. A
/// lane of which nothing is known stays so.
pub fn assume(subject: &Subject<'_>, effect: &Effect, observed: &mut Observed) -> Option<Coming> {
    match effect {
        Effect::ClickHouse(effect) => {
            with(&mut observed.clickhouse, |facts| clickhouse::statement(effect, facts));
        }
        Effect::Ledger { kind, key, version, value } => {
            with(&mut observed.clickhouse, |facts| {
                clickhouse::row((*kind, key.as_str()), *version, value, &mut facts.ledger);
            });
        }
        Effect::Fence { table, version, .. } => with(&mut observed.clickhouse, |facts| {
            let fence = facts.fences.entry(table.clone()).or_default();
            *fence = (*fence).max(*version);
        }),
        Effect::Postgres(effect) => {
            with(&mut observed.postgres, |facts| postgres(subject.mark, effect, facts));
        }
        Effect::Kafka(effect) => with(&mut observed.kafka, |facts| kafka(effect, facts)),
        Effect::Connect(effect) => {
            let slot = observed.postgres.known().and_then(|facts| facts.slot.as_ref());
            let at = slot.map_or(0, |slot| slot.confirmed_lsn);
            with(&mut observed.connect, |facts| connect(effect, at, facts));
            let made = observed.connect.known().and_then(|facts| facts.connector.as_ref());
            let is_create = matches!(effect, ConnectEffect::Create { .. });
            return made.filter(|live| is_create && live.offset.is_some()).map(|_| Coming::OffsetsKept);
        }
        Effect::Kubernetes(effect) => with(&mut observed.kubernetes, |facts| kubernetes(effect, facts)),
        Effect::Grafana(effect) => grafana::request(effect, observed),
    }
    None
}

/// Changes facts, where there are any.
fn with<T>(observation: &mut Observation<T>, change: impl FnOnce(&mut T)) {
    if let Observation::Known(facts) = observation {
        change(facts);
    }
}

fn postgres(mark: &str, effect: &PostgresEffect, facts: &mut PostgresFacts) {
    match effect {
        PostgresEffect::CreatePublication { tables, options, comment, .. } => {
            facts.publication = Some(PublicationFacts {
                oid: GIVEN_OID,
                tables: tables.iter().cloned().collect(),
                all_operations: true,
                via_root: *options != Publishes::Operations,
                generated: *options == Publishes::ByRootAndGenerated,
                ours: is_ours(comment, mark),
                comment: comment.clone(),
                ..PublicationFacts::default()
            });
            published(facts, tables, "made");
        }
        PostgresEffect::AlterPublication { drop, add, set, .. } => {
            let Some(live) = &mut facts.publication else { return };
            live.tables.retain(|table| !drop.contains(table));
            live.tables.extend(add.iter().cloned());
            if let Some(options) = set {
                live.all_operations = true;
                live.via_root |= *options != Publishes::Operations;
                live.generated |= *options == Publishes::ByRootAndGenerated;
                // Its row is another one, and with it what every table is published by.
                let all: Vec<SourceTable> = live.tables.iter().cloned().collect();
                published(facts, &all, "altered");
            }
            published(facts, add, "added");
            published(facts, drop, "");
        }
        PostgresEffect::DropSlot(_) => {
            facts.slot = None;
            facts.free_replication_slots += 1;
        }
        PostgresEffect::DropPublication(_) => {
            facts.publication = None;
            let all: Vec<SourceTable> = facts.tables.keys().cloned().collect();
            published(facts, &all, "");
        }
    }
}

/// Notes by which entry tables are published from now on; empty: by none.
fn published(facts: &mut PostgresFacts, tables: &[SourceTable], how: &str) {
    let entry = if how.is_empty() { String::new() } else { format!("{GIVEN}{how}") };
    for table in tables {
        if let Some(live) = facts.tables.get_mut(table) {
            live.storage.published.clone_from(&entry);
        }
    }
}

fn kafka(effect: &KafkaEffect, facts: &mut KafkaFacts) {
    match effect {
        KafkaEffect::CreateTopic { name, partitions, replication_factor, config } => {
            facts.topics.insert(name.clone(), *partitions);
            // What the brokers give where nothing is asked for is right whatever it is.
            facts.replicas.insert(name.clone(), (*replication_factor).max(1));
            let own = config.keys().cloned().collect();
            facts.settings.insert(name.clone(), TopicSettings { all: config.clone(), own });
        }
        KafkaEffect::AlterTopic { name, config } => {
            let live = facts.settings.entry(name.clone()).or_default();
            live.all.extend((**config).clone());
            live.own = config.keys().cloned().collect();
        }
        KafkaEffect::DeleteTopics(names) => {
            for name in names.iter() {
                facts.topics.remove(name);
                facts.replicas.remove(name);
                facts.settings.remove(name);
            }
        }
        KafkaEffect::DeleteGroup(name) => drop(facts.groups.remove(name.as_str())),
    }
}

/// `at` is the position up to which the slot's reader has confirmed.
fn connect(effect: &ConnectEffect, at: u64, facts: &mut ConnectFacts) {
    let made = |name: &str, config: &BTreeMap<String, String>| {
        let mut config = config.clone();
        config.insert("name".to_owned(), name.to_owned());
        config
    };
    if let ConnectEffect::Create { name, config } = effect {
        let made = ConnectorFacts {
            config: made(name, config),
            state: "STOPPED".to_owned(),
            ..ConnectorFacts::default()
        };
        // Connect keeps the offsets of a connector that is gone, and tells them once it is there again.
        let offset = made.epoch().filter(|epoch| *epoch > 0).map(|_| OffsetFacts { lsn: at });
        facts.connector = Some(ConnectorFacts { offset, ..made });
        return;
    }
    let Some(live) = &mut facts.connector else { return };
    match effect {
        ConnectEffect::Create { .. } => {}
        ConnectEffect::PutConfig { name, config } => live.config = made(name, config),
        ConnectEffect::Pause(_) => become_state(live, "PAUSED"),
        ConnectEffect::Resume(_) | ConnectEffect::RestartFailed(_) => become_state(live, "RUNNING"),
        ConnectEffect::Stop(_) => {
            become_state(live, "STOPPED");
            // A task that ends writes how far it has come.
            if at > 0 {
                let offset = live.offset.get_or_insert_default();
                offset.lsn = offset.lsn.max(at);
            }
        }
        ConnectEffect::DeleteOffsets(_) => live.offset = None,
        ConnectEffect::Delete(_) => facts.connector = None,
    }
}

fn become_state(live: &mut ConnectorFacts, state: &str) {
    state.clone_into(&mut live.state);
    live.tasks = match state {
        "STOPPED" => Vec::new(),
        _ => vec![TaskFacts { id: 0, state: state.to_owned(), ..TaskFacts::default() }],
    };
}

fn kubernetes(effect: &KubernetesEffect, facts: &mut KubernetesFacts) {
    match effect {
        KubernetesEffect::Apply { object, data } => apply(object, data, facts),
        KubernetesEffect::Delete(own) => {
            let key = format!("{}/{}", own.kind, own.name);
            facts.objects.remove(&key);
            facts.secrets.remove(&key);
            if own.kind == "Deployment" {
                facts.rollout = Rollout::default();
            }
        }
    }
}

fn apply(object: &Value, data: &BTreeMap<String, Secret>, facts: &mut KubernetesFacts) {
    let key = key_of(object);
    let mut object = object.clone();
    let before = facts.objects.get(&key).map(|live| live["metadata"]["uid"].clone());
    object["metadata"]["uid"] = before.unwrap_or_else(|| json!(format!("{GIVEN}{key}")));
    if !data.is_empty() {
        facts.secrets.insert(key.clone(), data.clone());
    }
    if object["kind"] == "Deployment" {
        // Until its controller has judged it.
        facts.rollout = Rollout { replicas: facts.rollout.replicas, ..Rollout::default() };
    }
    facts.objects.insert(key, object);
}

/// Whether a text is, or is made of, what a system gives by itself.
pub fn is_given(text: &str) -> bool {
    text.contains(GIVEN)
}
