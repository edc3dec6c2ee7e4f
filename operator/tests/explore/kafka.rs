//! Brokers: topics with their records, consumer groups.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::names::Topics;
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::desired::topics;
use tidemark_operator::core::effect::KafkaEffect;
use tidemark_operator::core::facts::{Failure, KafkaFacts, TopicSettings};

use super::estate::{Ids, remote};

/// One cluster of brokers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Brokers {
    pub(super) cluster_id: String,
    pub(super) topics: BTreeMap<String, Topic>,
    /// Members of each consumer group.
    pub(super) groups: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Topic {
    /// Tells it from another one of its name; nobody but the sink notices, by the times of the records.
    pub(super) id: String,
    pub(super) partitions: i32,
    pub(super) replicas: i32,
    /// What was set for it.
    pub(super) config: BTreeMap<String, String>,
    /// All in the first partition.
    pub(super) records: Vec<Record>,
}

/// A record with a change of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Record {
    pub(super) epoch: u16,
    pub(super) lsn: u64,
}

impl Brokers {
    pub(super) fn new(ids: &mut Ids) -> Self {
        Self { cluster_id: ids.name("kafka"), topics: BTreeMap::new(), groups: BTreeMap::new() }
    }

    pub(super) fn look(&self, subject: &Subject<'_>) -> KafkaFacts {
        let spec = subject.spec;
        let names: BTreeSet<String> = topics::names(spec).into_iter().collect();
        let prefix = format!("{}.", spec.kafka.topic_prefix);
        let seen = |name: &str| name.starts_with(&prefix) || names.contains(name);
        let tables = spec.all_tables();
        let of_tables: BTreeSet<String> = (tables.iter())
            .filter_map(|table| table.name.parse().ok())
            .map(|table| Topics { prefix: &spec.kafka.topic_prefix }.table(&table))
            .collect();
        let table_topics = || self.topics.iter().filter(|(name, _)| of_tables.contains(*name));
        let ends = |topic: &Topic| {
            let end = i64::try_from(topic.records.len()).unwrap();
            (0..topic.partitions).map(|partition| (partition, if partition == 0 { end } else { 0 })).collect()
        };
        let begins = |topic: &Topic| (0..topic.partitions).map(|partition| (partition, 0)).collect();
        let groups = subject.name.consumer_group_prefix();
        KafkaFacts {
            cluster_id: self.cluster_id.clone(),
            brokers: 1,
            topics: (self.topics.iter().filter(|(name, _)| seen(name)))
                .map(|(name, topic)| (name.clone(), topic.partitions))
                .collect(),
            replicas: (self.topics.iter().filter(|(name, _)| names.contains(*name)))
                .map(|(name, topic)| (name.clone(), topic.replicas))
                .collect(),
            settings: (self.topics.iter().filter(|(name, _)| names.contains(*name)))
                .map(|(name, topic)| (name.clone(), topic.settings()))
                .collect(),
            end_offsets: table_topics().map(|(name, topic)| (name.clone(), ends(topic))).collect(),
            begin_offsets: table_topics().map(|(name, topic)| (name.clone(), begins(topic))).collect(),
            groups: (self.groups.iter().filter(|(name, _)| name.starts_with(&groups)))
                .map(|(name, members)| (name.clone(), *members))
                .collect(),
            epochs: (table_topics().filter(|(_, topic)| !topic.records.is_empty()))
                .map(|(name, topic)| {
                    let greatest = topic.records.iter().map(|record| record.epoch).max();
                    (name.clone(), greatest.unwrap_or(0))
                })
                .collect(),
        }
    }

    pub(super) fn act(&mut self, effect: &KafkaEffect, ids: &mut Ids) -> Result<(), Failure> {
        match effect {
            KafkaEffect::CreateTopic { name, partitions, replication_factor, config } => {
                if self.topics.contains_key(name) {
                    return Err(remote(format!("kafka: create topic {name}: TopicAlreadyExists")));
                }
                let made = Topic {
                    id: ids.name("topic"),
                    partitions: *partitions,
                    replicas: (*replication_factor).max(1),
                    config: config.clone(),
                    records: Vec::new(),
                };
                self.topics.insert(name.clone(), made);
            }
            KafkaEffect::AlterTopic { name, config } => {
                let topic = self.topics.get_mut(name).ok_or_else(|| remote("no such topic".into()))?;
                topic.config = (**config).clone();
            }
            KafkaEffect::DeleteTopics(names) => {
                for name in names.iter() {
                    self.topics.remove(name);
                }
            }
            KafkaEffect::DeleteGroup(name) => {
                if self.groups.get(name.as_str()).is_some_and(|members| *members > 0) {
                    return Err(remote("the group is not empty".into()));
                }
                self.groups.remove(name.as_str());
            }
        }
        Ok(())
    }
}

impl Topic {
    fn settings(&self) -> TopicSettings {
        let mut all = BTreeMap::from(
            [
                ("retention.ms", "604800000"),
                ("max.message.bytes", "1048588"),
                ("cleanup.policy", "delete"),
                ("segment.ms", "604800000"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        all.extend(self.config.clone());
        TopicSettings { all, own: self.config.keys().cloned().collect() }
    }
}
