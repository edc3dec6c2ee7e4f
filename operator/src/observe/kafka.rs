//! Kafka as it is: topics, offsets, groups, and what the connector says of its snapshots. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use serde::Deserialize;
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::names::Topics;

use crate::clients::failure;
use crate::clients::kafka_admin::{KafkaAdmin, KafkaLook, TailMessage};
use crate::facts::{Failure, FailureClass, KafkaFacts, Notification, Observation};

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);

/// What is asked of Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaQuestion {
    /// Topics of the tables.
    pub table_topics: Vec<String>,
    /// Prefix of the pipeline's topics.
    pub prefix: String,
    /// The consumer group, once the ledger has an incarnation.
    pub group: Option<String>,
    /// Prefix of the groups of all incarnations.
    pub group_prefix: String,
}

/// Looks at Kafka.
pub async fn observe(admin: &KafkaAdmin, question: &KafkaQuestion) -> Observation<KafkaFacts> {
    let (admin, question) = (admin.clone(), question.clone());
    let group = question.group.clone();
    let look =
        tokio::task::spawn_blocking(move || admin.look(group.as_deref(), |cluster| look(cluster, &question)));
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
    let names = Topics { prefix: &question.prefix };
    let (brokers, all) = look.topics()?;
    let ours = |topic: &str| {
        topic.strip_prefix(&question.prefix).is_some_and(|rest| rest.starts_with('.'))
            || topic == names.heartbeat()
    };
    let topics: BTreeMap<String, i32> = all.into_iter().filter(|(topic, _)| ours(topic)).collect();
    let tables: BTreeMap<String, i32> =
        question.table_topics.iter().filter_map(|topic| Some((topic.clone(), *topics.get(topic)?))).collect();
    let tail = |topic: String| {
        if topics.contains_key(&topic) { look.tail(&topic) } else { Ok(Vec::new()) }
    };
    Ok(KafkaFacts {
        cluster_id: look.cluster_id(),
        brokers,
        end_offsets: look.edge(&tables, Offset::End)?,
        begin_offsets: look.edge(&tables, Offset::Beginning)?,
        committed: if question.group.is_some() { look.committed(&tables)? } else { BTreeMap::new() },
        groups: look.groups(&question.group_prefix)?,
        signals: signals(&tail(names.signal())?),
        notifications: notifications(&tail(names.notification())?),
        topics,
    })
}

/// Ids of the signals with their ages; the newest of an id counts.
fn signals(messages: &[TailMessage]) -> BTreeMap<String, i64> {
    #[derive(Deserialize)]
    struct Signal {
        id: String,
    }
    let read = |message: &TailMessage| {
        let signal: Signal = serde_json::from_slice(&message.value).ok()?;
        Some((signal.id, message.age_ms))
    };
    messages.iter().filter_map(read).collect()
}

/// What the connector says of its snapshots; progress within one says nothing that is needed.
fn notifications(messages: &[TailMessage]) -> Vec<Notification> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        id: String,
        r#type: String,
        aggregate_type: String,
    }
    let read = |message: &TailMessage| {
        let wire: Wire = serde_json::from_slice(&message.value).ok()?;
        if !wire.aggregate_type.ends_with("Snapshot") || wire.r#type == "IN_PROGRESS" {
            return None;
        }
        let epoch = message.headers.get(EPOCH_HEADER).and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Notification { aggregate: wire.aggregate_type, kind: wire.r#type, id: wire.id, epoch })
    };
    messages.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_of_snapshots_carry_their_epoch() {
        let message = |value: &str, epoch: &str| TailMessage {
            value: value.as_bytes().to_vec(),
            headers: [(EPOCH_HEADER.to_owned(), epoch.to_owned())].into(),
            age_ms: 5,
        };
        let read = notifications(&[
            message(
                r#"{"id":"a","type":"COMPLETED","aggregate_type":"Initial Snapshot","timestamp":1}"#,
                "3",
            ),
            message(r#"{"id":"a","type":"IN_PROGRESS","aggregate_type":"Initial Snapshot"}"#, "3"),
            message("not json", "3"),
        ]);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].epoch, read[0].kind.as_str()), (3, "COMPLETED"));
    }
}
