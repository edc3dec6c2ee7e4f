//! The deletion: what goes, in which order, and what is left when time is up. Pure.

use std::collections::BTreeSet;

use tidemark_crds::ledger;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pg_quote;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, GrafanaMode, Policy, Table};
use tidemark_crds::quote;

use crate::desired::grafana::place::{self, Leaving};
use crate::desired::part::is_ours;
use crate::desired::pipeline::{Desired, Subject};
use crate::desired::sink_objects::plan_removal;
use crate::desired::{grafana, held, sidecar, views};
use crate::effect::{ConnectEffect, Effect, KafkaEffect, Site};
use crate::facts::{ClickHouseFacts, Observation, Observed};
use crate::step::{Fact, Lane, Stage, Step, StepKind};

/// Something that a deletion could not remove, and the command that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// System that it is in.
    pub lane: Lane,
    /// What it is.
    pub what: String,
    /// What removes it.
    pub command: String,
}

/// Plans the deletion: the reverse of the creation, each lane by itself.
pub fn desire(subject: &Subject<'_>, observed: &Observed) -> Desired {
    let mut steps = Vec::new();
    let policy = &subject.spec.deletion_policy;
    connector(subject, observed, &mut steps);
    if let Some(live) = observed.kubernetes.known() {
        // The connector is stopped first, so that the sink has an end to drain to; one that does not answer
        // does not hold the sink.
        let needs = match observed.connect {
            Observation::Known(_) => vec![Fact::ConnectorStopped],
            _ => Vec::new(),
        };
        steps.extend(plan_removal(subject.name, live, &needs));
    }
    if let Some(facts) = observed.clickhouse.known() {
        clickhouse(subject, facts, &mut steps);
    }
    if let Some(facts) = observed.postgres.known()
        && policy.replication_slot == Policy::Delete
    {
        let name = subject.name.replication_slot();
        // A slot in use cannot be dropped: the connector goes first, where it answers.
        let needs = match (&observed.connect, policy.connector) {
            (Observation::Known(_), Policy::Delete) => vec![Fact::ConnectorGone],
            (Observation::Known(_), Policy::Retain) => vec![Fact::ConnectorStopped],
            _ => Vec::new(),
        };
        if let Some(slot) = &facts.slot {
            let mut needs = needs;
            if slot.active {
                needs.push(Fact::Other("the slot to be left by its reader".into()));
            }
            let sql = format!("SELECT pg_drop_replication_slot({})", pg_quote::literal(&name));
            let what = format!("drop replication slot {name}");
            steps.push(drop_step(
                Stage::DropSlot,
                what,
                needs,
                Some(Fact::SlotGone),
                Effect::Postgres { sql },
            ));
        }
        if facts.publication.as_ref().is_some_and(|publication| publication.ours) {
            let name = subject.name.publication();
            let sql = format!("DROP PUBLICATION {}", pg_quote::ident(&name));
            let what = format!("drop publication {name}");
            steps.push(drop_step(
                Stage::DropPublication,
                what,
                vec![Fact::SlotGone],
                None,
                Effect::Postgres { sql },
            ));
        }
    }
    kafka(subject, observed, &mut steps);
    let names = grafana::Names::new(subject.name, subject.mark);
    if let Some(facts) = observed.grafana.known()
        && policy.grafana == Policy::Delete
    {
        steps.extend(grafana::removal(&names, subject.mark, facts, Site::Current));
    }
    if let Some(facts) = observed.clickhouse.known() {
        let ledger = &facts.ledger;
        let leaving = Leaving { spec: subject.spec, names: &names, mark: subject.mark, ledger };
        if let Some(place) = place::former(subject.spec, ledger) {
            let part = leaving.former(&place, &observed.former_grafana);
            steps.extend(part.steps.into_iter().map(|step| Step { needs: vec![], ..step }));
        }
        steps.extend(leaving.end(&observed.grafana));
    }
    if let Some(live) = observed.kubernetes.known()
        && policy.grafana == Policy::Delete
    {
        steps.extend(sidecar::removal(live, &[]));
    }
    let held = held::held(subject.name, &steps, &[], &[], observed);
    let tables = subject
        .spec
        .all_tables()
        .iter()
        .filter_map(|table| Some((table.name.parse().ok()?, table.target_name().to_owned())))
        .collect();
    Desired { steps, held, tables, ..Desired::default() }
}

fn drop_step(stage: Stage, what: String, needs: Vec<Fact>, gives: Option<Fact>, effect: Effect) -> Step {
    Step { stage, kind: StepKind::Drop, what, needs, gives, effect }
}

fn connector(subject: &Subject<'_>, observed: &Observed, steps: &mut Vec<Step>) {
    let Some(live) = observed.connect.known().and_then(|facts| facts.connector.as_ref()) else {
        return;
    };
    let name = subject.name.connector();
    if live.state != "STOPPED" {
        let effect = Effect::Connect(ConnectEffect::Stop(name.clone()));
        let step = drop_step(
            Stage::StopConnector,
            format!("stop connector {name}"),
            vec![],
            Some(Fact::ConnectorStopped),
            effect,
        );
        steps.push(Step { kind: StepKind::Change, ..step });
    }
    if subject.spec.deletion_policy.connector == Policy::Retain {
        return;
    }
    if live.offset.is_some() {
        let effect = Effect::Connect(ConnectEffect::DeleteOffsets(name.clone()));
        let needs = vec![Fact::ConnectorStopped];
        let what = format!("delete offsets of connector {name}");
        steps.push(drop_step(Stage::DeleteOffsets, what, needs, Some(Fact::OffsetsGone), effect));
    }
    let effect = Effect::Connect(ConnectEffect::Delete(name.clone()));
    let needs = vec![Fact::ConnectorStopped, Fact::OffsetsGone];
    let what = format!("delete connector {name}");
    steps.push(drop_step(Stage::DeleteConnector, what, needs, Some(Fact::ConnectorGone), effect));
}

fn clickhouse(subject: &Subject<'_>, facts: &ClickHouseFacts, steps: &mut Vec<Step>) {
    let database = &subject.spec.clickhouse.database;
    let views = views::drop_all(database, subject.mark, facts);
    let no_views = views.is_empty();
    steps.extend(views);
    if subject.spec.deletion_policy.clickhouse == Policy::Retain {
        return;
    }
    let ours =
        |name: &str| facts.objects.get(name).is_some_and(|object| is_ours(&object.comment, subject.mark));
    let drop = |name: &str| Effect::ClickHouse {
        sql: format!("DROP TABLE {} SYNC", quote::qualified(database, name)),
    };
    let mut left = BTreeSet::new();
    for target in subject.spec.all_tables().iter().map(Table::target_name).filter(|target| ours(target)) {
        left.insert(target.to_owned());
        let what = format!("drop state table {target}");
        steps.push(drop_step(Stage::DropTable, what, vec![Fact::SinkDrained], None, drop(target)));
    }
    // Nor while the ledger says where else dashboards are.
    if !left.is_empty() || !no_views || place::former(subject.spec, &facts.ledger).is_some() {
        return;
    }
    // The bookkeeping goes last, and only when no other pipeline's tables need it.
    let own = [
        ledger::FENCES_TABLE,
        ledger::PROGRESS_TABLE,
        ledger::STATES_TABLE,
        ledger::READS_TABLE,
        ledger::CONNECTOR_TABLE,
        ledger::LEDGER_TABLE,
    ];
    let others = facts.objects.keys().any(|name| !own.contains(&name.as_str()));
    for name in own.into_iter().filter(|name| !others && ours(name)) {
        let what = format!("drop bookkeeping table {name}");
        steps.push(drop_step(Stage::DropTable, what, vec![Fact::SinkDrained], None, drop(name)));
    }
}

fn kafka(subject: &Subject<'_>, observed: &Observed, steps: &mut Vec<Step>) {
    let Some(facts) = observed.kafka.known() else {
        return;
    };
    // A group with members cannot be removed: the sink goes first.
    for (id, members) in &facts.groups {
        if *members == 0 {
            let effect = Effect::Kafka(KafkaEffect::DeleteGroup { id: id.clone() });
            let what = format!("delete consumer group {id}");
            steps.push(drop_step(Stage::DeleteGroup, what, vec![Fact::SinkDrained], None, effect));
        }
    }
    if subject.spec.deletion_policy.topics == Policy::Delete && !facts.topics.is_empty() {
        let names: Vec<String> = facts.topics.keys().cloned().collect();
        let needs = match observed.connect {
            Observation::Known(_) => vec![Fact::ConnectorGone, Fact::SinkDrained],
            _ => vec![Fact::SinkDrained],
        };
        let what = format!("delete {} topics", names.len());
        steps.push(drop_step(
            Stage::DeleteTopics,
            what,
            needs,
            None,
            Effect::Kafka(KafkaEffect::DeleteTopics { names }),
        ));
    }
}

/// Whether everything that the policy names is gone, as far as it can be seen.
pub fn is_clean(spec: &AnalyticsPipelineSpec, desired_steps: &[Step], observed: &Observed) -> bool {
    let answered = |silent: bool| !silent;
    desired_steps.is_empty()
        && answered(matches!(observed.postgres, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.kafka, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.connect, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.clickhouse, Observation::Unreachable(_) | Observation::NotAsked))
        && observed.kafka.known().is_none_or(|facts| facts.groups.is_empty())
        && (observed.grafana.known().is_some() || !cleans_grafana(spec))
        && observed.clickhouse.known().is_none_or(|facts| place::former(spec, &facts.ledger).is_none())
}

/// Whether the policy has anything removed from Grafana over its API.
fn cleans_grafana(spec: &AnalyticsPipelineSpec) -> bool {
    let called = spec.grafana.as_ref().is_some_and(|grafana| grafana.mode == GrafanaMode::Api);
    called && spec.deletion_policy.grafana == Policy::Delete
}

/// What is left in Grafana, and in one that the spec named before.
fn grafana_left(subject: &Subject<'_>, observed: &Observed, steps: &[Step]) -> Vec<LeftBehind> {
    let names = grafana::Names::new(subject.name, subject.mark);
    let waits = |lane: Lane| steps.iter().any(|step| step.lane() == lane);
    let left = |lane: Lane, url: &str| LeftBehind {
        lane,
        what: format!(
            "folder {} with its dashboards and data source {} at {url}",
            names.folder, names.prefix
        ),
        command: format!(
            "curl -X DELETE {url}/api/folders/{} && curl -X DELETE {url}/api/datasources/uid/{}",
            names.folder, names.prefix
        ),
    };
    let mut all = Vec::new();
    if cleans_grafana(subject.spec)
        && let Some(place) = place::current(subject.spec)
        && (observed.grafana.known().is_none() || waits(Lane::Grafana))
    {
        all.push(left(Lane::Grafana, &place.record.url));
    }
    let former = observed.clickhouse.known().and_then(|facts| place::former(subject.spec, &facts.ledger));
    if let Some(place) = former
        && subject.spec.deletion_policy.grafana == Policy::Delete
        && (observed.former_grafana.known().is_none() || waits(Lane::FormerGrafana))
    {
        all.push(left(Lane::FormerGrafana, &place.record.url));
    }
    all
}

/// Lists what is left, the slot first: it holds back write-ahead log until the source's disk is full.
pub fn left_behind(subject: &Subject<'_>, observed: &Observed, steps: &[Step]) -> Vec<LeftBehind> {
    let spec = subject.spec;
    let name: &PipelineName = subject.name;
    let policy = &spec.deletion_policy;
    let mut all = Vec::new();
    let mut leave = |lane, what: String, command: String| all.push(LeftBehind { lane, what, command });
    let waits = |lane: Lane| steps.iter().any(|step| step.lane() == lane);
    if policy.replication_slot == Policy::Delete
        && (observed.postgres.known().is_none() || waits(Lane::Postgres))
    {
        let psql = format!(
            "psql -h {} -p {} -d {}",
            spec.source.postgres.host, spec.source.postgres.port, spec.source.postgres.database
        );
        let slot = name.replication_slot();
        leave(
            Lane::Postgres,
            format!("replication slot {slot}"),
            format!("{psql} -c \"SELECT pg_drop_replication_slot('{slot}')\""),
        );
        let publication = name.publication();
        leave(
            Lane::Postgres,
            format!("publication {publication}"),
            format!("{psql} -c 'DROP PUBLICATION IF EXISTS \"{publication}\"'"),
        );
    }
    if policy.connector == Policy::Delete && (observed.connect.known().is_none() || waits(Lane::Connect)) {
        let url =
            format!("{}/connectors/{}", spec.source.connect.url.trim_end_matches('/'), name.connector());
        leave(
            Lane::Connect,
            format!("connector {} and its offsets", name.connector()),
            format!("curl -X PUT {url}/stop && curl -X DELETE {url}/offsets && curl -X DELETE {url}"),
        );
    }
    if observed.kafka.known().is_none_or(|facts| !facts.groups.is_empty()) {
        let servers = &spec.kafka.bootstrap_servers;
        let prefix = name.consumer_group_prefix();
        leave(
            Lane::Kafka,
            format!("consumer groups {prefix}*"),
            format!(
                "kafka-consumer-groups.sh --bootstrap-server {servers} --list, then --delete --group of each {prefix}*"
            ),
        );
    }
    if policy.topics == Policy::Delete && (observed.kafka.known().is_none() || waits(Lane::Kafka)) {
        let topics = Topics { prefix: &spec.kafka.topic_prefix };
        leave(
            Lane::Kafka,
            format!("topics {}.* and {}", topics.prefix, topics.heartbeat()),
            format!(
                "kafka-topics.sh --bootstrap-server {} --delete --topic '{}[.].*'",
                spec.kafka.bootstrap_servers, topics.prefix
            ),
        );
    }
    if observed.clickhouse.known().is_none() || waits(Lane::ClickHouse) {
        let database = &spec.clickhouse.database;
        let what = match policy.clickhouse {
            Policy::Retain => "views",
            Policy::Delete => "tables and views",
        };
        leave(
            Lane::ClickHouse,
            format!("{what} of database {database}"),
            format!(
                "SELECT 'DROP TABLE ' || database || '.' || name FROM system.tables WHERE database = '{database}' \
                 AND comment LIKE '{}%'",
                subject.mark
            ),
        );
    }
    all.extend(grafana_left(subject, observed, steps));
    all
}
