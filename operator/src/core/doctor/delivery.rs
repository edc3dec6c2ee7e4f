//! From Kafka's topics to the sink. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::ConditionType;
use tidemark_crds::names::Topics;

use super::{Checkup, Hop, Verdict, hop};
use crate::core::cost::grouped;
use crate::core::desired::selector_text;
use crate::core::facts::KafkaFacts;

/// Topics, consumer group, sink.
pub(super) fn hops(checkup: &Checkup<'_>) -> Vec<Hop> {
    vec![topics(checkup), group(checkup), sink(checkup)]
}

/// A hop that Kafka answers.
fn seen<'a>(checkup: &Checkup<'a>, name: &str, condition: ConditionType) -> Result<&'a KafkaFacts, Hop> {
    if let Some(found) = checkup.unseen(name, "kafka", condition) {
        return Err(found);
    }
    let unknown = || hop(name, Verdict::Unseen, "kafka was not asked", "");
    checkup.observed.kafka.known().ok_or_else(unknown)
}

/// Topics of the tables that are captured.
fn names(checkup: &Checkup<'_>) -> Vec<String> {
    let topics = Topics { prefix: &checkup.spec.kafka.topic_prefix };
    let refused =
        |table: &str| checkup.problems.iter().any(|problem| problem.object.as_deref() == Some(table));
    let captured = checkup.tables.iter().filter(|(source, _)| !refused(&source.to_string()));
    captured.map(|(source, _)| topics.table(source)).collect()
}

fn topics(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "topics", ConditionType::ConnectorRunning) {
        Ok(facts) => facts,
        Err(unseen) => return unseen,
    };
    let names = names(checkup);
    let missing: Vec<&str> =
        names.iter().filter(|name| !facts.topics.contains_key(*name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let servers = &checkup.spec.kafka.bootstrap_servers;
        let next = format!("kafka-topics.sh --bootstrap-server {servers} --list");
        let message =
            format!("there is no topic {}: no event of these tables is anywhere", missing.join(", "));
        return hop("topics", Verdict::Wrong, message, next);
    }
    let ends = sum(names.iter().filter_map(|name| facts.end_offsets.get(name)));
    let message = format!("{} topics, {} records came in so far", names.len(), grouped(ends));
    hop("topics", Verdict::Ok, message, "")
}

fn sum<'a>(topics: impl Iterator<Item = &'a BTreeMap<i32, i64>>) -> u64 {
    topics.flat_map(BTreeMap::values).map(|offset| u64::try_from(*offset).unwrap_or(0)).sum()
}

fn group(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "consumer group", ConditionType::SinkAvailable) {
        Ok(facts) => facts,
        Err(unseen) => return unseen,
    };
    let ledger = checkup.observed.clickhouse.known().map(|facts| &facts.ledger);
    let Some(incarnation) = ledger.and_then(|ledger| ledger.incarnation.as_deref()) else {
        let message = "its name is in the ledger in ClickHouse, which has none";
        return hop("consumer group", Verdict::Unseen, message, "");
    };
    let group = checkup.name.consumer_group(incarnation);
    let servers = &checkup.spec.kafka.bootstrap_servers;
    let next = format!("kafka-consumer-groups.sh --bootstrap-server {servers} --describe --group {group}");
    let members = facts.groups.get(&group).copied().unwrap_or(0);
    let behind: u64 = names(checkup).iter().map(|topic| lag(facts, topic)).sum();
    if members == 0 {
        let off = checkup.spec.sink.replicas == 0;
        let verdict = if off { Verdict::Off } else { Verdict::Wrong };
        let message = format!("{group} has no member, {} records wait for it", grouped(behind));
        return hop("consumer group", verdict, message, if off { String::new() } else { next });
    }
    let message = format!("{group} has {members} members, {} records wait for it", grouped(behind));
    hop("consumer group", Verdict::Ok, message, "")
}

/// Records of a topic that the group has not confirmed.
fn lag(facts: &KafkaFacts, topic: &str) -> u64 {
    let (begin, committed) = (facts.begin_offsets.get(topic), facts.committed.get(topic));
    let ends = facts.end_offsets.get(topic).into_iter().flatten();
    ends.map(|(partition, end)| {
        let of = |offsets: Option<&BTreeMap<i32, i64>>| offsets.and_then(|all| all.get(partition)).copied();
        let from = of(committed).max(of(begin)).unwrap_or(0);
        u64::try_from(end - from).unwrap_or(0)
    })
    .sum()
}

fn sink(checkup: &Checkup<'_>) -> Hop {
    let wanted = checkup.spec.sink.replicas;
    let states = checkup.observed.clickhouse.known().map(|facts| &facts.states);
    let speaking: BTreeSet<&String> =
        states.into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).collect();
    let found = checkup.of_condition("sink", ConditionType::SinkAvailable, "kubernetes", || {
        format!("{wanted} replicas are available, {} speak in ClickHouse", speaking.len())
    });
    match found.verdict {
        Verdict::Ok if states.is_some() && speaking.is_empty() && !checkup.tables.is_empty() => {
            let message = format!("{wanted} replicas should run, and none has spoken in ClickHouse lately");
            hop("sink", Verdict::Wrong, message, checkup.sink_log())
        }
        Verdict::Wrong | Verdict::Waiting if checkup.in_cluster => {
            let next = format!(
                "kubectl get pods --namespace {} --selector {}",
                checkup.name.namespace,
                selector_text(checkup.name)
            );
            Hop { next, ..found }
        }
        _ => found,
    }
}
