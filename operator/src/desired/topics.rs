//! Kafka topics: of the tables, of the heartbeats and logical messages, of the dead letters. Pure.

use std::collections::BTreeMap;

use serde_json::json;
use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::Kind;
use tidemark_crds::names::Topics;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Kafka};

use super::part::{Part, Problem};
use crate::effect::{Effect, KafkaEffect};
use crate::facts::{KafkaFacts, LedgerFacts};
use crate::step::{Fact, Stage, StepKind};

/// Retention of the table topics where the spec's text is none, in milliseconds.
const WEEK_MS: u64 = 7 * 24 * 3_600_000;
/// Retention of heartbeats and messages, in milliseconds: only the newest count.
const HOUR_MS: u64 = 3_600_000;

/// Characters that the name of a topic may have at most.
const LONGEST_NAME: usize = 249;

/// The topics of a pipeline's tables: each must have one of its own.
#[derive(Debug)]
pub struct Names<'a> {
    topics: Topics<'a>,
    taken: BTreeMap<String, SourceTable>,
}

impl<'a> Names<'a> {
    /// Begins with no table.
    pub fn new(prefix: &'a str) -> Self {
        Self { topics: Topics { prefix }, taken: BTreeMap::new() }
    }

    /// Takes the topic of a table; an error where Kafka can have none of that name, or another table has it: a topic's
    /// name has `_` for each character that it cannot have.
    pub fn claim(&mut self, table: &SourceTable) -> Result<(), Problem> {
        let topic = self.topics.table(table);
        if topic.len() > LONGEST_NAME {
            let message = format!(
                "table {table}: its topic would have a name of {} characters, and {LONGEST_NAME} are possible: choose \
                 a shorter spec.kafka.topicPrefix in a new pipeline, or rename the table",
                topic.len()
            );
            return Err(Problem::new(table.to_string(), Reason::InvalidSpec, message));
        }
        match self.taken.get(&topic) {
            Some(other) if other != table => {
                let message = format!(
                    "table {table}: its topic {topic} is that of {other} too: run ALTER TABLE ... RENAME TO on one of \
                     them, or capture it by a pipeline of its own"
                );
                Err(Problem::new(table.to_string(), Reason::Conflict, message))
            }
            _ => {
                self.taken.insert(topic, table.clone());
                Ok(())
            }
        }
    }
}

/// Every topic that a spec asks for.
pub fn names(spec: &AnalyticsPipelineSpec) -> Vec<String> {
    let names = Topics { prefix: &spec.kafka.topic_prefix };
    let tables = spec.all_tables();
    let tables = tables.iter().filter_map(|table| Some(names.table(&table.name.parse().ok()?)));
    let others = [names.heartbeat(), names.message(), dead_letter(spec)];
    tables.chain(others).collect()
}

/// Topic of the dead letters.
pub fn dead_letter(spec: &AnalyticsPipelineSpec) -> String {
    let topics = Topics { prefix: &spec.kafka.topic_prefix };
    spec.sink.dead_letter.topic.clone().unwrap_or_else(|| topics.dead_letter())
}

/// Makes the topics that are missing, each after the ledger has it that it is the pipeline's. One that exists is left
/// as it is, and is nobody's to remove: its partitions and configuration may have been chosen by somebody.
pub fn steps(
    kafka: &Kafka,
    tables: &[SourceTable],
    dead_letter: &str,
    facts: &KafkaFacts,
    ledger: Option<&LedgerFacts>,
) -> Part {
    let names = Topics { prefix: &kafka.topic_prefix };
    let retention = duration::milliseconds(&kafka.topics.retention).unwrap_or(WEEK_MS);
    let mut wanted: BTreeMap<String, (i32, u64)> =
        tables.iter().map(|table| (names.table(table), (kafka.topics.partitions, retention))).collect();
    wanted.insert(dead_letter.to_owned(), (1, retention));
    wanted.insert(names.heartbeat(), (1, HOUR_MS));
    wanted.insert(names.message(), (1, HOUR_MS));
    let most = kafka.most_message_bytes();
    let mut part = Part::default();
    for (name, (partitions, retention)) in wanted {
        if facts.topics.contains_key(&name) {
            continue;
        }
        if let Some(ledger) = ledger.filter(|ledger| !ledger.topics.contains(&name)) {
            let effect = Effect::Ledger {
                kind: Kind::Topic,
                key: name.clone(),
                version: ledger.next_version(Kind::Topic, &name),
                value: json!(true),
            };
            let (needs, gives) = (vec![Fact::Bookkeeping], Some(Fact::TopicNoted(name.clone())));
            let what = format!("note topic {name} as the pipeline's in the ledger");
            part.step((Stage::Ledger, StepKind::Create), what, needs, gives, effect);
        }
        let effect = Effect::Kafka(KafkaEffect::CreateTopic {
            name: name.clone(),
            partitions,
            replication_factor: kafka.topics.replication_factor,
            config: [
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", retention.to_string()),
                ("max.message.bytes", most.to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        });
        let what = format!("create topic {name} with {partitions} partitions");
        let needs = vec![Fact::TopicNoted(name.clone())];
        part.step((Stage::Topic, StepKind::Create), what, needs, Some(Fact::Topic(name)), effect);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tables_of_one_topic_and_one_without_are_named() {
        let mut names = Names::new("shop");
        let table = |name: &str| name.parse::<SourceTable>().unwrap();
        names.claim(&table("public.a b")).unwrap();
        names.claim(&table("public.a b")).unwrap();
        let taken = names.claim(&table("public.a,b")).unwrap_err();
        assert!(taken.message.contains("shop.public.a_b is that of public.a b too"), "{taken:?}");
        let long = format!("{}.{}", "s".repeat(63), "t".repeat(63));
        assert!(Names::new("shop").claim(&table(&long)).is_ok());
        let refused = Names::new(&"p".repeat(150)).claim(&table(&long)).unwrap_err();
        assert!(refused.message.contains("278 characters"), "{refused:?}");
    }

    #[test]
    fn missing_topics_are_made_and_existing_ones_left_alone() {
        let kafka: Kafka =
            serde_json::from_value(serde_json::json!({"bootstrapServers": "k:9092", "topicPrefix": "shop"}))
                .unwrap();
        let tables = ["public.orders".parse().unwrap()];
        let nothing = KafkaFacts::default();
        let noted = ["shop.dead-letter", "shop.message", "__debezium-heartbeat.shop", "shop.public.orders"];
        let noted = LedgerFacts { topics: noted.map(str::to_owned).into(), ..LedgerFacts::default() };
        let part = steps(&kafka, &tables, "shop.dead-letter", &nothing, Some(&noted));
        insta::assert_debug_snapshot!(part);
        let first = steps(&kafka, &tables, "shop.dead-letter", &nothing, Some(&LedgerFacts::default()));
        assert_eq!(first.steps.len(), 8, "each is noted before it is made");
        for made in first.steps.iter().filter(|step| step.stage == Stage::Topic) {
            assert!(
                first.steps.iter().any(|step| made.needs == step.gives.iter().cloned().collect::<Vec<_>>())
            );
        }
        let topics = part.steps.iter().filter_map(|step| match &step.effect {
            Effect::Kafka(KafkaEffect::CreateTopic { name, partitions, .. }) => {
                Some((name.clone(), *partitions))
            }
            _ => None,
        });
        let all = KafkaFacts { topics: topics.collect(), ..KafkaFacts::default() };
        let unknown = LedgerFacts::default();
        assert_eq!(steps(&kafka, &tables, "shop.dead-letter", &all, Some(&unknown)), Part::default());
    }
}
