//! Looks at every system: side by side, each under its own deadline. I/O, read only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::Table;

use crate::core::desired::grafana::{Names, leaving, question};
use crate::core::desired::pipeline::Subject;
use crate::core::desired::topics;
use crate::core::facts::{Observation, Observed};
use crate::edge::breaker::{Advice, Breakers};
use crate::edge::kafka::look::KafkaQuestion;
use crate::edge::metrics::Metrics;
use crate::edge::postgres::look::SourceQuestion;
use crate::edge::systems::{Access, Systems};
use crate::edge::{clickhouse, connect, grafana, kafka, kubernetes, postgres};

/// What to look for at the source.
fn source_question(name: &PipelineName, tables: Vec<SourceTable>) -> SourceQuestion {
    SourceQuestion { tables, publication: name.publication(), slot: name.replication_slot() }
}

/// Tables that are to be divided into partitions and have no layout yet: only their first one is judged by the range of the
/// key, since what is there holds its rows.
fn partitioned_first(wanted: &[Table], observed: &Observed) -> BTreeSet<SourceTable> {
    let Some(clickhouse) = observed.clickhouse.known() else {
        return BTreeSet::new();
    };
    let is_new = |table: &&Table| {
        table.partition_by.is_some() && clickhouse.ledger.newest(table.target_name()).is_none()
    };
    wanted.iter().filter(is_new).filter_map(|table| table.name.parse().ok()).collect()
}

/// Looks at everything.
pub async fn observe(
    (metrics, breakers): (&Metrics, &Breakers),
    systems: &Systems,
    subject: &Subject<'_>,
) -> Observed {
    let Subject { spec, name, mark, .. } = *subject;
    let wanted = spec.all_tables();
    let sources: Vec<SourceTable> = wanted.iter().filter_map(|table| table.name.parse().ok()).collect();
    let targets: Vec<String> = wanted.iter().map(|table| table.target_name().to_owned()).collect();
    let names = Topics { prefix: &spec.kafka.topic_prefix };
    let kafka_question = KafkaQuestion {
        table_topics: sources.iter().map(|source| names.table(source)).collect(),
        topics: topics::names(spec).into_iter().collect(),
        prefix: spec.kafka.topic_prefix.clone(),
        group_prefix: name.consumer_group_prefix(),
        epochs: subject.known_epoch == 0 && !subject.deleting,
    };
    let names = Names::new(name, mark);
    let source_question = source_question(name, sources);
    let (connector, pipeline, database) = (name.connector(), name.to_string(), &spec.clickhouse.database);
    let postgres = async {
        match &systems.postgres {
            Access::Open(target) => postgres::look::observe(target, &source_question, mark).await,
            closed => closed.closed(),
        }
    };
    let kafka = async {
        match &systems.kafka {
            Access::Open(admin) => kafka::look::observe(admin, &kafka_question).await,
            closed => closed.closed(),
        }
    };
    let connect = async {
        match &systems.connect {
            Access::Open(client) => connect::look::observe(client, &connector).await,
            closed => closed.closed(),
        }
    };
    let clickhouse = async {
        match &systems.clickhouse {
            Access::Open(client) => {
                clickhouse::look::observe(client, database, (&pipeline, mark), &targets).await
            }
            closed => closed.closed(),
        }
    };
    let grafana = async {
        match (&systems.grafana, &spec.grafana) {
            (Access::Open(client), Some(part)) => {
                grafana::look::observe(client, &question(part, &names)).await
            }
            (closed, _) => closed.closed(),
        }
    };
    let former_grafana = async {
        match &systems.former_grafana {
            Some((place, Access::Open(client))) => {
                grafana::look::observe(client, &leaving(&place.record.folder, &names)).await
            }
            Some((_, closed)) => closed.closed(),
            None => Observation::NotAsked,
        }
    };
    let reader = async {
        match &systems.reader {
            Access::Open(client) => clickhouse::reader::observe(client).await,
            closed => closed.closed(),
        }
    };
    let guard = Guard { breakers, systems, pipeline: &pipeline };
    let (postgres, kafka, connect, clickhouse, grafana, former_grafana, reader, kubernetes) = tokio::join!(
        Box::pin(timed(metrics, "postgres", guard.unless_silent("postgres", postgres))),
        Box::pin(timed(metrics, "kafka", guard.unless_silent("kafka", kafka))),
        Box::pin(timed(metrics, "connect", guard.unless_silent("connect", connect))),
        Box::pin(timed(metrics, "clickhouse", guard.unless_silent("clickhouse", clickhouse))),
        Box::pin(timed(metrics, "grafana", guard.unless_silent("grafana", grafana))),
        Box::pin(timed(metrics, "former-grafana", former_grafana)),
        Box::pin(timed(metrics, "reader", guard.unless_silent("reader", reader))),
        timed(metrics, "kubernetes", kubernetes::look::observe(&systems.objects, name)),
    );
    let seen = BTreeMap::new();
    Observed { postgres, kafka, connect, clickhouse, grafana, former_grafana, reader, kubernetes, seen }
}

/// Adds what only the first layout of a table is judged by.
pub async fn key_ranges(systems: &Systems, subject: &Subject<'_>, observed: &mut Observed) {
    let partitioned = partitioned_first(&subject.spec.all_tables(), observed);
    if partitioned.is_empty() {
        return;
    }
    if let (Access::Open(target), Observation::Known(facts)) = (&systems.postgres, &mut observed.postgres) {
        postgres::look::key_ranges(target, &partitioned, facts).await;
    }
}

/// Keeps a look from waiting for what others found silent.
struct Guard<'a> {
    breakers: &'a Breakers,
    systems: &'a Systems,
    pipeline: &'a str,
}

impl Guard<'_> {
    /// Asks a system, or says what others heard of it just now.
    async fn unless_silent<T>(
        &self,
        system: &'static str,
        look: impl Future<Output = Observation<T>>,
    ) -> Observation<T> {
        let Some(endpoint) = self.systems.endpoints.get(system) else {
            return look.await;
        };
        if let Advice::Known(failure, age) = self.breakers.advice(endpoint, Instant::now()) {
            let (pipeline, age_s) = (self.pipeline, age.as_secs());
            tracing::debug!(
                pipeline,
                system,
                age_s,
                error = failure.message,
                "not asked: others heard nothing of it"
            );
            return Observation::Unreachable(failure);
        }
        let heard = look.await;
        self.breakers.heard(endpoint, self.pipeline, &heard, Instant::now());
        heard
    }
}

/// Counts how long a look takes: the slowest one is the length of the reconcile.
async fn timed<T>(metrics: &Metrics, system: &'static str, look: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let facts = look.await;
    let seconds = begin.elapsed().as_secs_f64();
    metrics.looked(system, seconds);
    tracing::debug!(system, seconds, "looked");
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::facts::ClickHouseFacts;

    #[test]
    fn the_range_of_a_key_is_asked_for_the_first_layout_of_a_partitioned_table_alone() {
        let table = |name: &str, partition_by: Option<&str>| -> Table {
            serde_json::from_value(serde_json::json!({"name": name, "partitionBy": partition_by})).unwrap()
        };
        let wanted = [table("public.a", Some("id")), table("public.b", Some("id")), table("public.c", None)];
        let mut observed = Observed { clickhouse: Observation::NotAsked, ..Observed::default() };
        assert_eq!(partitioned_first(&wanted, &observed), BTreeSet::new(), "nobody knows yet");
        let mut facts = ClickHouseFacts::default();
        let layout = serde_json::json!({"version": 1, "source": "public.a", "oid": 1, "target": "a",
            "from": {"epoch": 0, "after": 0, "by": 0}, "columns": []});
        facts.ledger.layouts.insert("a".into(), vec![serde_json::from_value(layout).unwrap()]);
        observed.clickhouse = Observation::Known(facts);
        let asked: Vec<String> =
            partitioned_first(&wanted, &observed).iter().map(ToString::to_string).collect();
        assert_eq!(asked, ["public.b"]);
    }
}
