//! Pipelines of one cluster that would write the same topics: the older one keeps them. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use crate::core::problem::Problem;

/// Another pipeline, or this one, as far as claims go.
#[derive(Debug, Clone)]
pub struct Neighbour<'a> {
    /// Namespace and name.
    pub name: PipelineName,
    /// When it was made; absent: it is not yet.
    pub created: Option<Timestamp>,
    /// Kafka's id of its cluster, as its status has it.
    pub kafka: Option<&'a str>,
    /// The spec that was read.
    pub spec: &'a AnalyticsPipelineSpec,
}

impl Neighbour<'_> {
    /// Topics that the pipeline's connector writes. Several may share one of dead letters.
    fn topics(&self) -> BTreeSet<String> {
        let names = Topics { prefix: &self.spec.kafka.topic_prefix };
        let tables = self.spec.all_tables();
        let tables = tables.iter().filter_map(|table| Some(names.table(&table.name.parse().ok()?)));
        tables.chain([names.heartbeat(), names.message()]).collect()
    }

    /// Whether any of the topics could be another's, by the prefixes alone.
    fn is_near(&self, other: &Self) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let (one, other) = (&self.spec.kafka.topic_prefix, &other.spec.kafka.topic_prefix);
        within(one, other) || within(other, one)
    }

    fn servers(&self) -> BTreeSet<&str> {
        self.spec.kafka.bootstrap_servers.split(',').map(str::trim).collect()
    }

    /// Two that were made in the same second have an order too.
    fn age(&self) -> (Timestamp, &PipelineName) {
        (self.created.unwrap_or(Timestamp::MAX), &self.name)
    }
}

/// Why the pipeline may not write its topics: an older one does.
pub fn claimed(own: &Neighbour<'_>, others: &[Neighbour<'_>]) -> Option<Problem> {
    let (servers, topics) = (own.servers(), own.topics());
    let same_kafka = |other: &&Neighbour<'_>| {
        !servers.is_disjoint(&other.servers()) || (own.kafka.is_some() && own.kafka == other.kafka)
    };
    let older = |other: &&Neighbour<'_>| other.name != own.name && other.age() < own.age();
    let near = others.iter().filter(|other| other.is_near(own));
    let (owner, topic) = near.filter(older).filter(same_kafka).find_map(|other| {
        let topic = other.topics().intersection(&topics).next().cloned()?;
        Some((&other.name, topic))
    })?;
    let message = format!(
        "topic {topic} is written by the connector of AnalyticsPipeline {owner}, which is older: two would hide each \
         other's rows; choose another spec.kafka.topicPrefix, or delete one of the two"
    );
    Some(Problem::of_all(ConditionType::ConnectorRunning, Reason::Conflict, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(servers: &str, prefix: &str) -> AnalyticsPipelineSpec {
        serde_json::from_value(json!({
            "source": {
                "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                "connect": {"url": "http://connect:8083"},
            },
            "kafka": {"bootstrapServers": servers, "topicPrefix": prefix},
            "tables": [{"name": "public.orders"}, {"name": "eu.orders"}],
            "clickhouse": {"url": "http://ch:8123", "credentials": {"secretName": "ch"}},
            "sink": {"deadLetter": {"topic": "dlq"}},
        }))
        .unwrap()
    }

    fn neighbour<'a>(name: &str, second: i64, spec: &'a AnalyticsPipelineSpec) -> Neighbour<'a> {
        let created = Timestamp::from_second(second).ok();
        Neighbour { name: PipelineName::new("ns", name), created, kafka: None, spec }
    }

    #[test]
    fn of_two_that_would_write_one_topic_the_older_one_does_and_others_are_no_concern() {
        let mine = spec("k1:9092,k2:9092", "shop");
        let mut own = neighbour("b", 10, &mine);
        for (name, second, servers, prefix, taken) in [
            ("a", 5, "k2:9092", "shop", true),
            ("a", 10, "k2:9092", "shop", true),
            ("c", 10, "k2:9092", "shop", false),
            ("a", 20, "k2:9092", "shop", false),
            ("a", 5, "other:9092", "shop", false),
            ("b", 5, "k1:9092", "shop", false),
            ("a", 5, "k1:9092", "shop2", false),
            // A prefix within a prefix meets it where a schema has the name of the rest.
            ("a", 5, "k1:9092", "shop.eu", false),
            ("a", 5, "k1:9092", "shop.public", false),
        ] {
            let theirs = spec(servers, prefix);
            let other = neighbour(name, second, &theirs);
            assert_eq!(claimed(&own, &[other]).is_some(), taken, "{name} {second} {servers} {prefix}");
        }
        // The same brokers under other names.
        own.kafka = Some("id");
        let theirs = spec("kafka:9092", "shop");
        let mut other = neighbour("a", 5, &theirs);
        other.kafka = Some("id");
        let said = claimed(&own, &[other]).unwrap().message;
        assert!(said.contains("AnalyticsPipeline ns/a") && said.contains("topicPrefix"), "{said}");
    }
}
