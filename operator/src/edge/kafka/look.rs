//! Kafka as it is: topics, offsets, groups. I/O, read only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::Offset;

use crate::core::facts::{Failure, FailureClass, KafkaFacts, Observation};
use crate::edge::failure::failure;
use crate::edge::kafka::client::{KafkaAdmin, KafkaLook};

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);

/// What is asked of Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaQuestion {
    /// Topics of the tables.
    pub table_topics: Vec<String>,
    /// Every topic that the spec asks for, of the prefix or not.
    pub topics: BTreeSet<String>,
    /// Prefix of the pipeline's topics.
    pub prefix: String,
    /// Prefix of the groups of all incarnations.
    pub group_prefix: String,
    /// Whether to read which epoch the last records are of.
    pub epochs: bool,
}

/// Looks at Kafka.
pub async fn observe(admin: &KafkaAdmin, question: &KafkaQuestion) -> Observation<KafkaFacts> {
    let (admin, question) = (admin.clone(), question.clone());
    let look = tokio::task::spawn_blocking(move || admin.look(|cluster| look(cluster, &question)));
    match tokio::time::timeout(DEADLINE, look).await {
        Ok(Ok(Ok(facts))) => Observation::Known(facts),
        Ok(Ok(Err(failure))) => Observation::Unreachable(failure),
        Ok(Err(_)) => Observation::Unreachable(failure(FailureClass::Remote, "kafka: the look ended early")),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("kafka: no answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

fn look(look: &KafkaLook, question: &KafkaQuestion) -> Result<KafkaFacts, Failure> {
    let (brokers, all) = look.topics()?;
    let ours = |topic: &str| {
        topic.strip_prefix(&question.prefix).is_some_and(|rest| rest.starts_with('.'))
            || question.topics.contains(topic)
    };
    let shapes: BTreeMap<String, (i32, i32)> = all.into_iter().filter(|(topic, _)| ours(topic)).collect();
    let topics: BTreeMap<String, i32> =
        shapes.iter().map(|(topic, (partitions, _))| (topic.clone(), *partitions)).collect();
    let asked_for = shapes.iter().filter(|(topic, _)| question.topics.contains(*topic));
    let tables: BTreeMap<String, i32> =
        question.table_topics.iter().filter_map(|topic| Some((topic.clone(), *topics.get(topic)?))).collect();
    let asked: Vec<&str> =
        question.topics.iter().filter(|topic| topics.contains_key(*topic)).map(String::as_str).collect();
    let ends = look.edge(&tables, Offset::End)?;
    let begins = look.edge(&tables, Offset::Beginning)?;
    Ok(KafkaFacts {
        cluster_id: look.cluster_id(),
        brokers,
        epochs: if question.epochs { look.last_epochs(&begins, &ends) } else { BTreeMap::new() },
        end_offsets: ends,
        begin_offsets: begins,
        groups: look.groups(&question.group_prefix)?,
        settings: look.settings(&asked),
        replicas: asked_for.map(|(topic, (_, replicas))| (topic.clone(), *replicas)).collect(),
        topics,
    })
}
