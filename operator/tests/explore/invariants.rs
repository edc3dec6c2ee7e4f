//! What holds after each write, and what holds at rest, whatever went wrong before.

use std::collections::BTreeSet;

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::Kind;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, ConnectorState, Policy};
use tidemark_operator::core::desired::connector::MARK_KEY;
use tidemark_operator::core::desired::owned::is_owned;
use tidemark_operator::core::desired::part::is_ours;
use tidemark_operator::core::step::Stage;

use super::estate::{CLUSTER, Estate};
use super::kubernetes::Resource;
use super::shell::what_runs;
use super::world::Act;

/// Stages of a deletion.
fn is_deletion(stage: Stage) -> bool {
    stage >= Stage::StopConnector && stage != Stage::DropDashboard
}

/// Whether the policy or a person says that the log may be followed anew; the first time needs neither.
fn has_consent(resource: &Resource) -> bool {
    let asks = |action: &str| resource.annotations.contains_key(&format!("tidemark.dev/{action}"));
    let is_first = resource.status.epoch.is_none();
    is_first || asks("resnapshot") || asks("accept") || resource.spec["source"]["onSlotLost"] == "Resnapshot"
}

/// I3: what nothing brings back goes only with a deletion, or in an epoch whose intent is written.
pub(super) fn of_act(act: &Act) -> Option<String> {
    let before = act.before.as_ref()?;
    let resource = before.namespace.resource.as_ref()?;
    if !act.takes_away || act.refused || resource.deleting {
        return None;
    }
    let databases = || before.clickhouse.values().flat_map(|server| server.databases.values());
    // Of two that lead the later one may note what the other has done meanwhile: that raises nothing.
    let is_done = |what: &str| {
        let epoch =
            what.strip_prefix("note the intent to raise the epoch to ").and_then(|it| it.parse().ok());
        epoch.is_some_and(|epoch: u16| databases().any(|it| it.epoch_of("shop/shop") >= Some(epoch)))
    };
    let is_intent = act.id.what.starts_with("note the intent to raise the epoch");
    if is_intent && !is_done(&act.id.what) && !has_consent(resource) {
        return Some(format!("I3: {} without consent", act.id.what));
    }
    if is_deletion(act.id.stage) {
        return Some(format!("I3: {} while nothing is deleted", act.id.what));
    }
    let gives_up =
        act.id.what.starts_with("drop replication slot") || act.id.what.starts_with("delete the offsets");
    let intent = databases().any(|database| {
        let row = ("shop/shop".to_owned(), Kind::Intent.as_str().to_owned(), "epoch".to_owned());
        database.ledger.get(&row).is_some_and(|(_, value)| !value.is_null())
    });
    (gives_up && !intent).then(|| format!("I3: {} without an intent in the ledger", act.id.what))
}

/// Everything that has to hold when nothing happens any more.
pub(super) fn at_rest(estate: &Estate) -> Vec<String> {
    let mut broken = Vec::new();
    let Some(resource) = &estate.namespace.resource else {
        return after_the_end(estate);
    };
    let status = &resource.status;
    let condition = |of: ConditionType| status.conditions.iter().find(|it| it.type_ == of.as_str());
    let is_true = |of: ConditionType| condition(of).is_some_and(|it| it.status == "True");
    // I8: ready, or a condition says by a known reason and in words why not.
    if !is_true(ConditionType::Ready) {
        let speaks = status.conditions.iter().any(|it| {
            it.type_ != ConditionType::Ready.as_str()
                && it.status != "True"
                && Reason::parse(&it.reason).is_some_and(|reason| reason != Reason::AsDesired)
                && !it.message.is_empty()
        });
        if !speaks {
            broken.push(format!("I8: not ready, and no condition says why: {:?}", status.conditions));
        }
    }
    if resource.last_valid.is_none() {
        return broken;
    }
    let (spec, ..) = what_runs(resource);
    // I10: what is deleted goes, once every system answers, and is the one of before.
    let is_another = status.deletion.iter().any(|wait| wait.waits_for.ends_with("another one does"));
    if resource.deleting && all_answer(estate, &spec) && !is_another {
        broken.push(format!("I10: the deletion does not end: {:?}", status.deletion));
    }
    let applied = status.applied_generation == Some(resource.generation);
    // What the spec asks for and nobody does, the replicas of a topic that is there, is told.
    let is_left = condition(ConditionType::ConnectorRunning).is_some_and(|it| {
        Reason::parse(&it.reason) == Some(Reason::Drifted) && it.message.starts_with("left as it is: ")
    });
    if is_true(ConditionType::Ready) && !applied && !is_left {
        broken.push("I8: ready, and the newest spec is not applied".to_owned());
    }
    // I4: rows are the source's where the status says so, and everything has been sent.
    let runs = spec.source.connect.state == ConnectorState::Running;
    let said = [ConditionType::SourceReady, ConditionType::TablesInSync, ConditionType::ConnectorRunning];
    if runs && said.into_iter().all(is_true) {
        broken.extend(of_rows(estate, &spec));
    }
    broken
}

/// Whether there is a system behind each address of a spec, and it gives answers.
fn all_answer(estate: &Estate, spec: &AnalyticsPipelineSpec) -> bool {
    let shown = spec.grafana.as_ref().and_then(|part| part.url.as_deref());
    estate.silent.is_empty()
        && estate.postgres.contains_key(estate.name(&spec.source.postgres.host))
        && estate.kafka.contains_key(estate.name(&spec.kafka.bootstrap_servers))
        && estate.connect.contains_key(estate.name(&spec.source.connect.url))
        && estate.clickhouse.contains_key(estate.name(&spec.clickhouse.url))
        && shown.is_none_or(|url| estate.grafana.contains_key(estate.name(url)))
}

/// I10: when a deletion has ended and left nothing behind, what its policy names is gone.
fn after_the_end(estate: &Estate) -> Vec<String> {
    let Some(resource) = &estate.namespace.gone else { return Vec::new() };
    // Nothing is done by a spec that is invalid, its policy neither.
    let (spec, ..) = what_runs(resource);
    let (policy, name) = (&spec.deletion_policy, PipelineName::new("shop", "shop"));
    let mark = name.mark(CLUSTER);
    let source = estate.postgres.get(estate.name(&spec.source.postgres.host));
    let workers = estate.connect.get(estate.name(&spec.source.connect.url));
    let server = estate.clickhouse.get(estate.name(&spec.clickhouse.url));
    let objects = server.and_then(|server| server.databases.get(&spec.clickhouse.database));
    let objects = objects.iter().flat_map(|database| &database.objects);
    let (ours, others): (Vec<_>, Vec<_>) = objects.partition(|(_, live)| is_ours(&live.comment, &mark));
    // Bookkeeping is every pipeline's of the database: it stays with tables of others.
    let stays = |name: &str| name.starts_with("_tidemark_") && !others.is_empty();
    let ours = ours.into_iter().filter(|(name, _)| !stays(name)).count();
    let marked = workers.and_then(|workers| workers.connectors.get(&name.connector()));
    let marked = marked.is_some_and(|live| live.setting(MARK_KEY) == mark);
    let mut broken = Vec::new();
    let mut check = |what: &str, policy: Policy, there: bool| {
        if policy == Policy::Delete && there {
            broken.push(format!("I10: {what} is there after the deletion"));
        }
    };
    check("an object in ClickHouse", policy.clickhouse, ours > 0);
    check("the connector", policy.connector, marked);
    let brokers = estate.kafka.get(estate.name(&spec.kafka.bootstrap_servers));
    let claim = Topics { prefix: &spec.kafka.topic_prefix }.owner(&mark);
    let keeps = brokers.is_some_and(|brokers| brokers.topics.contains_key(&claim));
    check("the topic that says whose the topic prefix is", Policy::Delete, keeps);
    let slot = source.and_then(|source| source.slots.get(&name.replication_slot()));
    let slot = slot.filter(|slot| slot.database == spec.source.postgres.database);
    // It is whose the publication of its name is.
    let publication = source.and_then(|source| source.publications.get(&name.publication()));
    let slot = slot.filter(|_| publication.is_none_or(|live| is_ours(&live.comment, &mark)));
    let deletes_both = policy.connector == Policy::Delete && policy.replication_slot == Policy::Delete;
    check("the slot", policy.replication_slot, deletes_both && slot.is_some());
    let objects = estate.namespace.objects.values();
    let owned = objects.filter(|live| is_owned(&name, Some(&resource.uid), live)).count();
    check("an object of the sink", Policy::Delete, owned > 0);
    broken
}

fn of_rows(estate: &Estate, spec: &AnalyticsPipelineSpec) -> Vec<String> {
    let mut broken = Vec::new();
    let source = estate.postgres.get(estate.name(&spec.source.postgres.host));
    let server = estate.clickhouse.get(estate.name(&spec.clickhouse.url));
    let database = server.and_then(|server| server.databases.get(&spec.clickhouse.database));
    let (Some(source), Some(database)) = (source, database) else {
        return vec!["I4: in sync with systems that are not there".to_owned()];
    };
    for wanted in spec.all_tables() {
        let name: SourceTable = wanted.name.parse().unwrap();
        let target = wanted.target_name();
        let committed: BTreeSet<u64> =
            source.changes.iter().filter(|change| change.table == name).map(|change| change.lsn).collect();
        let rows = database.objects.get(target).and_then(|live| database.rows.get(&live.uuid));
        let fence = database.fences.get(target).copied().unwrap_or_default();
        // I5: rows of an epoch that the ledger has not would outrank all that comes.
        let epoch = database.epoch_of("shop/shop").unwrap_or(0);
        let newest =
            rows.into_iter().flat_map(|rows| &rows.applied).map(|(version, _)| version.epoch()).max();
        if let Some(newest) = newest.filter(|newest| *newest > epoch) {
            broken.push(format!("I5: {target} has rows of epoch {newest}, and the ledger has {epoch}"));
        }
        let shown = rows.map(|rows| rows.shown(fence)).unwrap_or_default();
        let lacks: Vec<&u64> = committed.difference(&shown).collect();
        if !lacks.is_empty() {
            broken.push(format!("I4: {target} lacks the changes at {lacks:?} and is said to be in sync"));
        }
        let surplus: Vec<&u64> = shown.difference(&committed).collect();
        if !surplus.is_empty() {
            broken.push(format!(
                "I4: {target} shows what the source never had, {surplus:?}, and is said to be in sync"
            ));
        }
    }
    broken
}
