//! From Kafka's topics to the sink. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::ConditionType;
use tidemark_crds::layout::SourceTable;
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

/// The tables that are captured: source and target.
fn captured<'a>(checkup: &'a Checkup<'_>) -> impl Iterator<Item = &'a (SourceTable, String)> {
    let refused =
        |table: &str| checkup.problems.iter().any(|problem| problem.object.as_deref() == Some(table));
    checkup.tables.iter().filter(move |(source, _)| !refused(&source.to_string()))
}

/// Their topics.
fn names(checkup: &Checkup<'_>) -> Vec<String> {
    let topics = Topics { prefix: &checkup.spec.kafka.topic_prefix };
    captured(checkup).map(|(source, _)| topics.table(source)).collect()
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
    let behind: u64 = captured(checkup).map(|(source, target)| lag(checkup, facts, (source, target))).sum();
    if members == 0 {
        let off = checkup.spec.sink.replicas == 0;
        let verdict = if off { Verdict::Off } else { Verdict::Wrong };
        let message = format!("{group} has no member, {} records wait for it", grouped(behind));
        return hop("consumer group", verdict, message, if off { String::new() } else { next });
    }
    let message = format!("{group} has {members} members, {} records wait for it", grouped(behind));
    hop("consumer group", Verdict::Ok, message, "")
}

/// Records of a table's topic that no sink has applied, by what they say in ClickHouse.
fn lag(checkup: &Checkup<'_>, facts: &KafkaFacts, (source, target): (&SourceTable, &str)) -> u64 {
    let topic = Topics { prefix: &checkup.spec.kafka.topic_prefix }.table(source);
    let begins = facts.begin_offsets.get(&topic);
    let progress = checkup.observed.clickhouse.known().and_then(|seen| seen.progress.get(target));
    let ends = facts.end_offsets.get(&topic).into_iter().flatten();
    ends.map(|(partition, end)| {
        let applied = progress.and_then(|seen| seen.partitions.get(partition)).map(|seen| seen.next_offset);
        let begin = begins.and_then(|all| all.get(partition)).copied();
        u64::try_from(end - applied.max(begin).unwrap_or(0)).unwrap_or(0)
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
