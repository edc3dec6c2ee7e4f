//! The deletion: what goes, in which order, and what is left when time is up. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use tidemark_crds::ledger::{self, Kind};
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, GrafanaMode, Policy};
use tidemark_crds::status::DeletionWait;

use crate::core::cdc::slot;
use crate::core::desired::connector::is_ours as is_own_connector;
use crate::core::desired::grafana::place;
use crate::core::desired::grafana::place::Leaving;
use crate::core::desired::part::{Problem, is_ours};
use crate::core::desired::pipeline::{Desired, Subject};
use crate::core::desired::sink_objects::plan_removal;
use crate::core::desired::tables::is_state_table;
use crate::core::desired::{grafana, held, sidecar, topics, views};
use crate::core::effect::{ConnectEffect, Effect, KafkaEffect, PostgresEffect, Site};
use crate::core::facts::{
    ClickHouseFacts, ClickHouseObject, ConnectorFacts, KafkaFacts, LedgerFacts, Observation, Observed,
    PostgresFacts, SlotFacts,
};
use crate::core::gate::{Gate, Proof, System};
use crate::core::plan::{Blocker, Plan};
use crate::core::step::{Fact, Lane, Stage, Step, StepKind};

/// How long a deletion waits where the text of the policy cannot be read.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

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
    let gate = subject.gate(observed);
    let believed = gate.believed(observed, true);
    let observed = believed.as_ref();
    let mut steps = Vec::new();
    let policy = &subject.spec.deletion_policy;
    if let Some(proof) = gate.proof_to_leave(System::Connect) {
        connector(subject, observed, proof, &mut steps);
    }
    if let Some(live) = observed.kubernetes.known() {
        // The connector is stopped first, so that the sink has an end to drain to; one that does not answer
        // does not hold the sink.
        let needs = if own_connector(subject, observed).is_some() {
            vec![Fact::ConnectorStopped]
        } else {
            Vec::new()
        };
        steps.extend(plan_removal(subject.name, subject.uid, live, &needs));
    }
    if let Some(facts) = observed.postgres.known()
        && policy.replication_slot == Policy::Delete
        && let Some(proof) = gate.proof_to_leave(System::Postgres)
    {
        postgres(subject, observed, facts, proof, &mut steps);
    }
    if let Some(proof) = gate.proof_to_leave(System::Kafka) {
        kafka(subject, observed, proof, &mut steps);
    }
    forget_epoch(subject, observed, &mut steps);
    wait_for_the_ledger(observed, &mut steps);
    if let Some(facts) = observed.clickhouse.known()
        && let Some(proof) = gate.proof_to_leave(System::ClickHouse)
    {
        clickhouse(subject, observed, facts, proof, &mut steps);
    }
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
        steps.extend(sidecar::removal(subject.name, subject.uid, live, &[]));
    }
    let held = held::held((subject.name, subject.uid), &steps, &[], &[], observed);
    let tables = subject
        .spec
        .all_tables()
        .iter()
        .filter_map(|table| Some((table.name.parse().ok()?, table.target_name().to_owned())))
        .collect();
    let problems = gate.problems().cloned().collect();
    Desired { steps, problems, held, tables, ..Desired::default() }
}

fn drop_step(stage: Stage, what: String, needs: Vec<Fact>, gives: Option<Fact>, effect: Effect) -> Step {
    Step { stage, kind: StepKind::Drop, what, needs, gives, effect }
}

/// The connector, where it is there and the pipeline's.
fn own_connector<'a>(subject: &Subject<'_>, observed: &'a Observed) -> Option<&'a ConnectorFacts> {
    let live = observed.connect.known()?.connector.as_ref()?;
    is_own_connector(live, subject.mark).then_some(live)
}

/// The ledger, where it is known.
fn ledger_of(observed: &Observed) -> Option<&LedgerFacts> {
    Some(&observed.clickhouse.known()?.ledger)
}

fn own_slot<'a>(
    subject: &Subject<'_>,
    observed: &Observed,
    facts: &'a PostgresFacts,
) -> Result<Option<&'a SlotFacts>, Problem> {
    slot::own_slot(&subject.name.replication_slot(), facts, ledger_of(observed))
}

/// What has to hold before that goes which the connector uses.
fn left_by_connector(subject: &Subject<'_>, observed: &Observed) -> Vec<Fact> {
    match (own_connector(subject, observed), subject.spec.deletion_policy.connector) {
        (Some(_), Policy::Delete) => vec![Fact::ConnectorGone],
        (Some(_), Policy::Retain) => vec![Fact::ConnectorStopped],
        (None, _) => Vec::new(),
    }
}

fn postgres(
    subject: &Subject<'_>,
    observed: &Observed,
    facts: &PostgresFacts,
    proof: Proof,
    steps: &mut Vec<Step>,
) {
    let name = subject.name.replication_slot();
    let own = own_slot(subject, observed, facts).ok().flatten();
    if let Some(slot) = own {
        // A slot in use cannot be dropped: the connector goes first, where it answers.
        let mut needs = left_by_connector(subject, observed);
        if slot.active {
            needs.push(Fact::Other("the slot to be left by its reader".into()));
        }
        let what = format!("drop replication slot {name}");
        let effect = Effect::Postgres(PostgresEffect::DropSlot(proof.allow(name)));
        steps.push(drop_step(Stage::DropSlot, what, needs, Some(Fact::SlotGone), effect));
    }
    if facts.publication.as_ref().is_some_and(|publication| publication.ours) {
        let name = subject.name.publication();
        let what = format!("drop publication {name}");
        let effect = Effect::Postgres(PostgresEffect::DropPublication(proof.allow(name)));
        let needs = if own.is_some() { vec![Fact::SlotGone] } else { Vec::new() };
        steps.push(drop_step(Stage::DropPublication, what, needs, None, effect));
    }
}

/// Before the place in the log is given up, the ledger has it: whoever takes the state tables up again then begins anew,
/// and does not take the missing slot for a loss.
fn forget_epoch(subject: &Subject<'_>, observed: &Observed, steps: &mut Vec<Step>) {
    let given_up = |step: &Step| matches!(step.stage, Stage::DeleteOffsets | Stage::DropSlot);
    // While ClickHouse gave no answer that may have been done already.
    let policy = &subject.spec.deletion_policy;
    let no_connector = observed.connect.known().is_some_and(|facts| facts.connector.is_none());
    let no_slot = observed.postgres.known().is_some_and(|facts| facts.slot.is_none());
    let is_given_up = (policy.connector == Policy::Delete && no_connector)
        || (policy.replication_slot == Policy::Delete && no_slot);
    let Some(ledger) = observed.clickhouse.known().map(|facts| &facts.ledger) else {
        return;
    };
    if ledger.epoch.is_none() || !(is_given_up || steps.iter().any(given_up)) {
        return;
    }
    let forgotten = Fact::Other("the ledger to have it that the log is left".into());
    for step in steps.iter_mut().filter(|step| given_up(step)) {
        step.needs.push(forgotten.clone());
    }
    let effect = Effect::Ledger {
        kind: Kind::Epoch,
        key: String::new(),
        version: ledger.next_version(Kind::Epoch, ""),
        value: Value::Null,
    };
    steps.push(Step {
        stage: Stage::StopConnector,
        kind: StepKind::Change,
        what: "note in the ledger that the log is left".to_owned(),
        needs: vec![Fact::Bookkeeping],
        gives: Some(forgotten),
        effect,
    });
}

/// A row of the ledger that cannot be read, and that a deletion would have to know.
fn unread_row(observed: &Observed) -> Option<String> {
    let row = ledger_of(observed)?.unreadable_of_all()?;
    Some(format!(
        "row {row} of the ledger to be read: a newer version of tidemark wrote it, and that one can"
    ))
}

/// What the ledger would say more of than is read waits for it: the place in the log would be given up without a note of
/// it, and what is somebody else's could not be told.
fn wait_for_the_ledger(observed: &Observed, steps: &mut [Step]) {
    let Some(row) = unread_row(observed) else {
        return;
    };
    let hangs = |step: &&mut Step| {
        matches!(
            step.stage,
            Stage::DeleteConnector
                | Stage::DeleteGroup
                | Stage::DeleteOffsets
                | Stage::DeleteTopics
                | Stage::DropSlot
        )
    };
    for step in steps.iter_mut().filter(hangs) {
        step.needs.push(Fact::Other(row.clone()));
    }
}

fn connector(subject: &Subject<'_>, observed: &Observed, proof: Proof, steps: &mut Vec<Step>) {
    let Some(live) = own_connector(subject, observed) else {
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
        let effect = Effect::Connect(ConnectEffect::DeleteOffsets(proof.allow(name.clone())));
        let needs = vec![Fact::ConnectorStopped];
        let what = format!("delete offsets of connector {name}");
        steps.push(drop_step(Stage::DeleteOffsets, what, needs, Some(Fact::OffsetsGone), effect));
    }
    let effect = Effect::Connect(ConnectEffect::Delete(proof.allow(name.clone())));
    let needs = vec![Fact::ConnectorStopped, Fact::OffsetsGone];
    let what = format!("delete connector {name}");
    steps.push(drop_step(Stage::DeleteConnector, what, needs, Some(Fact::ConnectorGone), effect));
}

/// The bookkeeping, what reads it first and the ledger last.
const BOOKKEEPING: [&str; 10] = [
    ledger::VISIBLE_VIEW,
    ledger::POSITIONS_TABLE,
    ledger::FENCES_TABLE,
    ledger::PROGRESS_TABLE,
    ledger::STATES_TABLE,
    ledger::READS_TABLE,
    ledger::VERIFICATION_TABLE,
    ledger::DIFFERENCES_TABLE,
    ledger::CONNECTOR_TABLE,
    ledger::LEDGER_TABLE,
];

/// Objects in ClickHouse with the pipeline's mark that the policy does not keep.
fn marked<'a>(subject: &Subject<'_>, observed: &'a Observed) -> Vec<&'a str> {
    let Some(facts) = observed.clickhouse.known() else {
        return Vec::new();
    };
    let retained = subject.spec.deletion_policy.clickhouse == Policy::Retain;
    // The bookkeeping serves all pipelines of the database.
    let stays = |name: &String, object: &ClickHouseObject| {
        BOOKKEEPING.contains(&name.as_str())
            || retained && (is_state_table(object) || views::is_history(name, object))
    };
    let ours = facts.objects.iter().filter(|(_, object)| is_ours(&object.comment, subject.mark));
    ours.filter(|(name, object)| !stays(name, object)).map(|(name, _)| name.as_str()).collect()
}

fn clickhouse(
    subject: &Subject<'_>,
    observed: &Observed,
    facts: &ClickHouseFacts,
    proof: Proof,
    steps: &mut Vec<Step>,
) {
    let database = &subject.spec.clickhouse.database;
    let policy = subject.spec.deletion_policy.clickhouse;
    let views = views::drop_all(database, subject.mark, facts, policy, proof);
    let no_views = views.is_empty();
    steps.extend(views);
    if policy == Policy::Retain {
        return;
    }
    let ours =
        |name: &str| facts.objects.get(name).is_some_and(|object| is_ours(&object.comment, subject.mark));
    let drop = |name: &str| views::drop_effect(database, name, &facts.objects[name], proof);
    let own = BOOKKEEPING;
    // Those of tables that the spec named once, too.
    let state = |(name, object): &(&String, &ClickHouseObject)| {
        is_state_table(object) && ours(name) && !own.contains(&name.as_str())
    };
    let left: Vec<&String> = facts.objects.iter().filter(state).map(|(name, _)| name).collect();
    for target in &left {
        let what = format!("drop state table {target}");
        steps.push(drop_step(Stage::DropTable, what, vec![Fact::SinkDrained], None, drop(target)));
    }
    // Nor while the ledger says where else dashboards are.
    if !left.is_empty() || !no_views || place::former(subject.spec, &facts.ledger).is_some() {
        return;
    }
    // Nor while it says what else is the pipeline's, also of a system that gives no answer now.
    let others = [Stage::DeleteOffsets, Stage::DropSlot, Stage::DeleteGroup, Stage::DeleteTopics];
    let silent = observed.postgres.known().is_none()
        || observed.kafka.known().is_none()
        || observed.connect.known().is_none()
        || unread_row(observed).is_some();
    if silent || steps.iter().any(|step| others.contains(&step.stage)) {
        return;
    }
    // The bookkeeping goes last, and only when no other pipeline's tables need it.
    let others = facts.objects.keys().any(|name| !own.contains(&name.as_str()));
    for name in own.into_iter().filter(|name| !others && ours(name)) {
        let what = format!("drop bookkeeping table {name}");
        steps.push(drop_step(Stage::DropTable, what, vec![Fact::SinkDrained], None, drop(name)));
    }
}

fn kafka(subject: &Subject<'_>, observed: &Observed, proof: Proof, steps: &mut Vec<Step>) {
    let Some(facts) = observed.kafka.known() else {
        return;
    };
    // A group with members cannot be removed: the sink goes first.
    let group = own_group(subject, observed, facts);
    if let Some(id) = group.filter(|id| facts.groups.get(id) == Some(&0)) {
        let what = format!("delete consumer group {id}");
        let effect = Effect::Kafka(KafkaEffect::DeleteGroup(proof.allow(id)));
        steps.push(drop_step(Stage::DeleteGroup, what, vec![Fact::SinkDrained], None, effect));
    }
    let mut needs = left_by_connector(subject, observed);
    needs.push(Fact::SinkDrained);
    if observed.connect.known().is_none() {
        // A connector that may run would make them again, or fail and hold the source's log back.
        needs.push(Fact::ConnectorStopped);
    }
    let mut drop = |what: String, names: Vec<String>| {
        let effect = Effect::Kafka(KafkaEffect::DeleteTopics(proof.allow(names)));
        steps.push(drop_step(Stage::DeleteTopics, what, needs.clone(), None, effect));
    };
    let names = own_topics(subject, observed, facts);
    if subject.spec.deletion_policy.topics == Policy::Delete && !names.is_empty() {
        drop(format!("delete {} topics", names.len()), names);
    }
    // Whatever stays: the prefix is anybody's to take.
    let owner = owner(subject);
    if facts.topics.contains_key(&owner) {
        drop(format!("delete topic {owner}, which says whose the topic prefix is"), vec![owner]);
    }
}

/// The topic that says that the topic prefix is the pipeline's.
fn owner(subject: &Subject<'_>) -> String {
    Topics { prefix: &subject.spec.kafka.topic_prefix }.owner(subject.mark)
}

/// The consumer group of the incarnation that the ledger has, where it is still there. Those of earlier ones hold
/// nothing, and Kafka forgets them.
fn own_group(subject: &Subject<'_>, observed: &Observed, facts: &KafkaFacts) -> Option<String> {
    let ledger = ledger_of(observed)?;
    let group = subject.name.consumer_group(ledger.incarnation.as_deref()?);
    facts.groups.contains_key(&group).then_some(group)
}

/// Topics that are there and that the pipeline made.
fn own_topics(subject: &Subject<'_>, observed: &Observed, facts: &KafkaFacts) -> Vec<String> {
    ledger_of(observed).map_or_else(Vec::new, |ledger| topics::own(subject.spec, facts, ledger))
}

/// Whether everything that the policy names is gone, as far as it can be seen.
pub fn is_clean(subject: &Subject<'_>, desired_steps: &[Step], observed: &Observed) -> bool {
    let spec = subject.spec;
    let answered = |silent: bool| !silent;
    desired_steps.is_empty()
        && answered(matches!(observed.postgres, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.kafka, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.connect, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.clickhouse, Observation::Unreachable(_) | Observation::NotAsked))
        && answered(matches!(observed.kubernetes, Observation::Unreachable(_) | Observation::NotAsked))
        && observed.kafka.known().is_none_or(|facts| own_group(subject, observed, facts).is_none())
        && (observed.grafana.known().is_some() || !cleans_grafana(spec))
        && observed.clickhouse.known().is_none_or(|facts| place::former(spec, &facts.ledger).is_none())
        && marked(subject, observed).is_empty()
        && unread_row(observed).is_none()
}

/// What a deletion waits for, a line a system, and since when it has been the same: a system that was silent and
/// answers, or goes on, has all of the time anew.
pub fn waiting(
    subject: &Subject<'_>,
    gate: &Gate,
    observed: &Observed,
    (plan, before): (&Plan, &[DeletionWait]),
    now: Timestamp,
) -> Vec<DeletionWait> {
    fn is_silent<T>(observation: &Observation<T>) -> bool {
        matches!(observation, Observation::Unreachable(_) | Observation::NotAsked)
    }
    let grafana = cleans_grafana(subject.spec);
    let ledger = observed.clickhouse.known().map(|facts| &facts.ledger);
    let former = ledger.is_some_and(|ledger| place::former(subject.spec, ledger).is_some());
    let silent = [
        (Lane::Postgres, is_silent(&observed.postgres)),
        (Lane::Kafka, is_silent(&observed.kafka)),
        (Lane::Connect, is_silent(&observed.connect)),
        (Lane::ClickHouse, is_silent(&observed.clickhouse)),
        (Lane::Kubernetes, is_silent(&observed.kubernetes)),
        (Lane::Grafana, grafana && observed.grafana.known().is_none()),
        (Lane::FormerGrafana, former && is_silent(&observed.former_grafana)),
    ];
    let silent = silent.into_iter().filter(|(_, silent)| *silent);
    let why = |lane: Lane| match gate.another(lane) {
        Some(_) => "the system of before to answer: another one does".to_owned(),
        None => "it gives no answer".to_owned(),
    };
    let mut lines: Vec<(Lane, String)> = silent.map(|(lane, _)| (lane, why(lane))).collect();
    let members = observed.kafka.known().and_then(|facts| {
        own_group(subject, observed, facts)
            .filter(|group| facts.groups.get(group).is_some_and(|members| *members > 0))
    });
    lines.extend(
        members.map(|group| (Lane::Kafka, format!("consumer group {group} to be left by its members"))),
    );
    lines.extend(unread_row(observed).map(|row| (Lane::ClickHouse, row)));
    for step in plan.steps() {
        if lines.iter().any(|(lane, _)| *lane == step.lane()) {
            continue;
        }
        let line = match plan.blocker(step) {
            Some(Blocker::Fact(fact)) => format!("{}, which waits for {}", step.what, fact.text()),
            Some(Blocker::Lane) | None => step.what.clone(),
        };
        lines.push((step.lane(), line));
    }
    let wait = |(lane, waits_for): (Lane, String)| {
        let system = lane.as_str().to_owned();
        let known = before.iter().find(|known| known.system == system && known.waits_for == waits_for);
        let since = known.map_or(Time(now), |known| known.since.clone());
        DeletionWait { system, waits_for, since }
    };
    lines.into_iter().map(wait).collect()
}

/// Whether everything that a deletion waits for has been the same for as long as the policy says; so too where it waits for
/// nothing, since what is left is a person's to remove.
pub fn is_time_up(waiting: &[DeletionWait], timeout: Duration, now: Timestamp) -> bool {
    let age = |wait: &DeletionWait| Duration::try_from(now.duration_since(wait.since.0)).unwrap_or_default();
    waiting.iter().all(|wait| age(wait) >= timeout)
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

/// The slot and the publication, where they are left.
fn postgres_left(subject: &Subject<'_>, observed: &Observed, steps: &[Step]) -> Vec<LeftBehind> {
    let (spec, name) = (subject.spec, subject.name);
    let silent = observed.postgres.known().is_none();
    let waits = steps.iter().any(|step| step.lane() == Lane::Postgres);
    let unproven = observed.postgres.known().and_then(|facts| own_slot(subject, observed, facts).err());
    if spec.deletion_policy.replication_slot == Policy::Retain || !(silent || waits || unproven.is_some()) {
        return Vec::new();
    }
    let psql = format!(
        "psql -h {} -p {} -d {}",
        spec.source.postgres.host, spec.source.postgres.port, spec.source.postgres.database
    );
    let left = |what: String, command: String| LeftBehind { lane: Lane::Postgres, what, command };
    let slot = name.replication_slot();
    let mut all = vec![left(
        unproven.map_or_else(|| format!("replication slot {slot}"), |problem| problem.message),
        format!("{psql} -c \"SELECT pg_drop_replication_slot('{slot}')\""),
    )];
    if silent || waits {
        let publication = name.publication();
        let drop = format!("{psql} -c 'DROP PUBLICATION IF EXISTS \"{publication}\"'");
        all.push(left(format!("publication {publication}"), drop));
    }
    all
}

/// Lists what is left, the slot first: it holds back write-ahead log until the source's disk is full. Of a system that
/// is another one than before no command is given: it would be run there.
pub fn left_behind(
    subject: &Subject<'_>,
    gate: &Gate,
    observed: &Observed,
    steps: &[Step],
) -> Vec<LeftBehind> {
    let mut all = left_in_place(subject, observed, steps);
    all.retain(|left| gate.another(left.lane).is_none());
    for lane in [Lane::Postgres, Lane::Connect, Lane::Kafka, Lane::ClickHouse] {
        all.extend(gate.another(lane).map(|problem| LeftBehind {
            lane,
            what: format!("what the pipeline has in the {} of before: {}", lane.as_str(), problem.message),
            command: "none: it would be run on the one that answers now".to_owned(),
        }));
    }
    all
}

/// What is left where the systems are those of before.
fn left_in_place(subject: &Subject<'_>, observed: &Observed, steps: &[Step]) -> Vec<LeftBehind> {
    let spec = subject.spec;
    let name: &PipelineName = subject.name;
    let policy = &spec.deletion_policy;
    let mut all = postgres_left(subject, observed, steps);
    let mut leave = |lane, what: String, command: String| all.push(LeftBehind { lane, what, command });
    let waits = |lane: Lane| steps.iter().any(|step| step.lane() == lane);
    if policy.connector == Policy::Delete && (observed.connect.known().is_none() || waits(Lane::Connect)) {
        let url =
            format!("{}/connectors/{}", spec.source.connect.url.trim_end_matches('/'), name.connector());
        leave(
            Lane::Connect,
            format!("connector {} and its offsets", name.connector()),
            format!("curl -X PUT {url}/stop && curl -X DELETE {url}/offsets && curl -X DELETE {url}"),
        );
    }
    let servers = &spec.kafka.bootstrap_servers;
    let ledger = observed.clickhouse.known().map(|facts| &facts.ledger);
    if observed.kafka.known().is_none_or(|facts| {
        ledger.map_or(!facts.groups.is_empty(), |_| own_group(subject, observed, facts).is_some())
    }) {
        let incarnation = ledger.and_then(|ledger| ledger.incarnation.as_deref());
        let group = name.consumer_group(incarnation.unwrap_or("*"));
        leave(
            Lane::Kafka,
            format!("consumer group {group}"),
            format!("kafka-consumer-groups.sh --bootstrap-server {servers} --delete --group '{group}'"),
        );
    }
    let mut topics: Vec<String> = match (observed.kafka.known(), ledger) {
        _ if policy.topics == Policy::Retain => Vec::new(),
        (Some(facts), Some(_)) => own_topics(subject, observed, facts),
        (None, Some(ledger)) => ledger.made_topics.iter().cloned().collect(),
        (_, None) => topics::exclusive(spec),
    };
    let owner = owner(subject);
    topics.extend(
        observed.kafka.known().is_none_or(|facts| facts.topics.contains_key(&owner)).then_some(owner),
    );
    if !topics.is_empty() {
        // The tool reads a regular expression.
        let exact = topics.iter().map(|topic| topic.replace('.', "[.]")).collect::<Vec<_>>().join("|");
        leave(
            Lane::Kafka,
            format!("topics {}", topics.join(", ")),
            format!("kafka-topics.sh --bootstrap-server {servers} --delete --topic '{exact}'"),
        );
    }
    let bookkeeping = policy.clickhouse == Policy::Delete
        && ledger.is_some_and(|ledger| place::former(spec, ledger).is_some());
    if let Some(row) = ledger.and_then(LedgerFacts::unreadable_of_all) {
        leave(
            Lane::ClickHouse,
            format!("what row {row} of the ledger names, which this version of tidemark cannot read"),
            "none: the version that wrote it can delete the pipeline".to_owned(),
        );
    }
    let marked = !marked(subject, observed).is_empty();
    if observed.clickhouse.known().is_none() || waits(Lane::ClickHouse) || bookkeeping || marked {
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
