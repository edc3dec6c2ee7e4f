//! The conditions: what is true of each part, why, and what to do. Pure.

use tidemark_crds::conditions::{ConditionType, Judgement, Reason, Status};
use tidemark_crds::pipeline::{ConnectorState, GrafanaMode, Preset};
use tidemark_crds::status::{DegradedTable, TablesStatus};

use crate::core::credentials::Missing;
use crate::core::desired::selector_text;
use crate::core::facts::{Failure, FailureClass, Observation, TaskFacts};
use crate::core::freshness::Freshness;
use crate::core::pace::{Next, SLOW};
use crate::core::problem::Problem;
use crate::core::restart::Steadiness;
use crate::core::retention;
use crate::core::rollout::Rollout;
use crate::core::status::{Situation, cut};
use crate::core::step::{Lane, Stage, StepId};
use crate::core::table_status::TroubleState;
use crate::core::verified;

/// Longest message of a condition, characters.
const LONGEST_MESSAGE: usize = 1024;

/// Judges all conditions, in the order in which they are shown.
pub fn judge(
    situation: &Situation<'_>,
    tables: &TablesStatus,
    freshness: Option<&Freshness>,
    held_back: Option<&str>,
) -> Vec<Verdict> {
    let required = vec![
        spec_valid(situation),
        credentials(situation),
        source(situation, held_back),
        connector(situation),
        tables_in_sync(situation, tables),
        views_in_sync(situation),
        sink(situation),
        dashboards(situation),
    ];
    let mut all = vec![ready(situation, &required), reconciling(situation, tables), stalled(situation)];
    all.extend(required);
    all.push(fresh(freshness));
    // Sinks write of it and nothing else is changed by it: the looks at rest see it soon enough.
    all.push(Verdict { judgement: verified::judge(situation), next: Next::OnChange });
    for verdict in &mut all {
        verdict.judgement.message = cut(&verdict.judgement.message, LONGEST_MESSAGE);
    }
    all
}

/// What is true of one part, and when to look again for its sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The condition.
    pub judgement: Judgement,
    /// When to look again.
    pub next: Next,
}

impl Verdict {
    /// So, and it goes on by itself.
    fn and_goes_on(self) -> Self {
        Self { next: Next::Soon, ..self }
    }

    /// So, and time alone changes it.
    fn and_passes(self) -> Self {
        Self { next: Next::After(SLOW), ..self }
    }
}

/// A verdict that stands until something changes; a step that is left to do asks for the next look itself.
fn verdict(r#type: ConditionType, status: Status, reason: Reason, message: impl Into<String>) -> Verdict {
    let judgement = Judgement { r#type, status, reason, message: message.into() };
    Verdict { judgement, next: Next::OnChange }
}

fn as_desired(r#type: ConditionType) -> Verdict {
    verdict(r#type, Status::True, Reason::AsDesired, "")
}

fn ready(situation: &Situation<'_>, required: &[Verdict]) -> Verdict {
    use ConditionType::Ready;
    if situation.deleting {
        return verdict(Ready, Status::False, Reason::Deleting, "the resource is being deleted")
            .and_goes_on();
    }
    let first = |status| {
        required.iter().map(|verdict| &verdict.judgement).find(|judgement| judgement.status == status)
    };
    let found = first(Status::False).or_else(|| first(Status::Unknown));
    // Data goes on, and what the newest spec asks for beyond it does not hold: this is no resource that is as desired.
    if let Some(todo) = situation.todo().filter(|_| situation.spec.suspend)
        && found.is_none_or(|found| found.reason == Reason::InProgress)
    {
        let message =
            format!("spec.suspend holds changes back: {todo}: set it to false to have them carried out");
        return verdict(Ready, Status::False, Reason::Suspended, message);
    }
    match found {
        Some(found) => verdict(
            Ready,
            found.status,
            found.reason,
            format!("{}: {}", found.r#type.as_str(), found.message),
        ),
        None => as_desired(Ready),
    }
}

fn reconciling(situation: &Situation<'_>, tables: &TablesStatus) -> Verdict {
    use ConditionType::Reconciling;
    if situation.deleting {
        return verdict(Reconciling, Status::True, Reason::Deleting, "cleaning up");
    }
    if situation.spec.suspend {
        return verdict(Reconciling, Status::False, Reason::Suspended, "spec.suspend is set; data goes on");
    }
    if let Some(todo) = situation.todo() {
        return verdict(Reconciling, Status::True, Reason::InProgress, format!("to do: {todo}"));
    }
    if tables.degraded.iter().any(|table| table.state == TroubleState::Reading.as_str()) {
        return verdict(Reconciling, Status::True, Reason::Reading, "tables are being read at the source");
    }
    verdict(Reconciling, Status::False, Reason::AsDesired, "")
}

fn stalled(situation: &Situation<'_>) -> Verdict {
    use ConditionType::Stalled;
    if let Some(invalid) = situation.invalid {
        return verdict(Stalled, Status::True, Reason::InvalidSpec, invalid);
    }
    if let Some(problem) = situation.problems.iter().find(|problem| problem.is_terminal()) {
        return verdict(Stalled, Status::True, problem.reason, &problem.message);
    }
    let failed = situation.observed.kubernetes.known().is_some_and(|facts| facts.rollout.failure.is_some());
    if failed && !situation.deleting {
        let message = "the sink's pods cannot be replaced: SinkAvailable says why";
        return verdict(Stalled, Status::True, Reason::RolloutFailed, message);
    }
    if situation.no_progress {
        let what = situation.plan.first_wave().first().map_or(String::new(), |step| step.what.clone());
        let message = format!("{what}: done without effect, again and again; look at the operator's log");
        return verdict(Stalled, Status::True, Reason::NoProgress, message);
    }
    verdict(Stalled, Status::False, Reason::AsDesired, "")
}

fn spec_valid(situation: &Situation<'_>) -> Verdict {
    use ConditionType::SpecValid;
    match situation.invalid {
        Some(message) => verdict(SpecValid, Status::False, Reason::InvalidSpec, message),
        None => match problems(situation, SpecValid) {
            Some((reason, message)) => verdict(SpecValid, Status::False, reason, message),
            None => as_desired(SpecValid),
        },
    }
}

fn credentials(situation: &Situation<'_>) -> Verdict {
    use ConditionType::CredentialsResolved;
    let verdicts = || situation.missing.iter().map(Missing::verdict);
    // What a person has to mend counts before what time may.
    let worst = verdicts().find(|(status, _)| *status == Status::False).or_else(|| verdicts().next());
    let Some((status, reason)) = worst else {
        return as_desired(CredentialsResolved);
    };
    let all: Vec<String> = situation.missing.iter().map(ToString::to_string).collect();
    verdict(CredentialsResolved, status, reason, all.join("; "))
}

/// As it should be, apart from what is known and left.
fn settled(situation: &Situation<'_>, r#type: ConditionType) -> Verdict {
    let left: Vec<&str> = situation
        .left
        .iter()
        .filter(|left| left.condition == r#type)
        .map(|left| left.message.as_str())
        .collect();
    if left.is_empty() {
        return as_desired(r#type);
    }
    verdict(r#type, Status::True, Reason::Drifted, format!("left as it is: {}", left.join("; ")))
}

/// Reason and message of all problems of one condition, as far as there are any.
fn problems(situation: &Situation<'_>, condition: ConditionType) -> Option<(Reason, String)> {
    let mine: Vec<&Problem> =
        situation.problems.iter().filter(|problem| problem.condition == condition).collect();
    let reason = mine.first()?.reason;
    Some((reason, mine.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")))
}

/// Judges what keeps a system's answer away, or the failure of one of its steps.
fn trouble<T>(
    situation: &Situation<'_>,
    r#type: ConditionType,
    system: &str,
    lane: Lane,
    observation: &Observation<T>,
) -> Option<Verdict> {
    // It answers, and is not the one of before, or not this pipeline's.
    let another = |problem: &&Problem| {
        let told = matches!(problem.reason, Reason::IdentityChanged | Reason::Conflict | Reason::InvalidSpec);
        told && problem.condition == r#type && problem.object.is_none()
    };
    let others: Vec<&Problem> = situation.problems.iter().filter(another).collect();
    if let Some(first) = others.first() {
        let mut messages: Vec<&str> = others.iter().map(|problem| problem.message.as_str()).collect();
        // What is done all the same can fail, whichever of the condition's systems it is done to.
        let failed = step_that_failed(situation, r#type, |_| true)
            .map(|(step, failure)| failed(r#type, &step.what, step.lane, failure));
        messages.extend(failed.as_ref().map(|failed| failed.judgement.message.as_str()));
        return Some(verdict(r#type, Status::False, first.reason, messages.join("; ")));
    }
    match observation {
        Observation::Unreachable(failure) => return Some(failed(r#type, system, lane, failure)),
        Observation::NotAsked => {
            let message = format!("{system} was not asked yet: it waits for other conditions");
            return Some(verdict(r#type, Status::Unknown, Reason::Waiting, message));
        }
        Observation::Known(_) | Observation::Absent => {}
    }
    failed_step(situation, r#type, system, lane)
}

/// Judges the failure of a step that the condition tells of.
fn failed_step(
    situation: &Situation<'_>,
    r#type: ConditionType,
    system: &str,
    lane: Lane,
) -> Option<Verdict> {
    let (step, failure) = step_that_failed(situation, r#type, |of| of == lane)?;
    Some(failed(r#type, &format!("{system}: {}", step.what), lane, failure))
}

fn step_that_failed<'a>(
    situation: &'a Situation<'_>,
    r#type: ConditionType,
    of: impl Fn(Lane) -> bool,
) -> Option<(&'a StepId, &'a Failure)> {
    // One that is not planned any more has happened otherwise.
    let planned = |id: &StepId| situation.plan.steps().iter().any(|step| step.id() == *id);
    let mut failures = situation.failures.iter().map(|(step, failure)| (step, failure));
    failures.find(|(step, _)| of(step.lane) && told_by(step) == r#type && planned(step))
}

/// The condition that tells of a step that fails; each has one.
fn told_by(step: &StepId) -> ConditionType {
    match (step.lane, step.stage) {
        (Lane::Postgres, _) => ConditionType::SourceReady,
        (Lane::Kafka | Lane::Connect, _) => ConditionType::ConnectorRunning,
        (Lane::ClickHouse, Stage::View | Stage::DropView | Stage::Cleanup) => ConditionType::ViewsInSync,
        (Lane::ClickHouse, _) => ConditionType::TablesInSync,
        // In files for a sidecar, too.
        (
            Lane::Kubernetes,
            Stage::Folder | Stage::DataSource | Stage::Dashboard | Stage::AlertRule | Stage::DropDashboard,
        )
        | (Lane::Grafana | Lane::FormerGrafana, _) => ConditionType::DashboardsInSync,
        (Lane::Kubernetes, _) => ConditionType::SinkAvailable,
    }
}

/// The judgement of a failure: nobody knows what an unreachable system is like.
fn failed(r#type: ConditionType, system: &str, lane: Lane, failure: &Failure) -> Verdict {
    let (status, reason) = match failure.class {
        FailureClass::Unreachable => (Status::Unknown, Reason::Unreachable),
        FailureClass::Authentication => (Status::False, Reason::AuthenticationFailed),
        FailureClass::Permission => (Status::False, Reason::PermissionDenied),
        FailureClass::Remote => (Status::False, Reason::RemoteError),
    };
    let advice = match lane {
        Lane::Kubernetes => failure.class.advice_in_cluster(),
        _ => failure.class.advice(),
    };
    verdict(r#type, status, reason, format!("{system}: {}: {advice}", failure.message))
}

fn source(situation: &Situation<'_>, held_back: Option<&str>) -> Verdict {
    use ConditionType::SourceReady;
    // Its failures name the address themselves.
    if let Some(found) =
        trouble(situation, SourceReady, "postgres", Lane::Postgres, &situation.observed.postgres)
    {
        return found;
    }
    // Whatever else is wrong: a disk that fills up stops the shop.
    let slot = situation.name.replication_slot();
    let filling = situation
        .observed
        .postgres
        .known()
        .and_then(|facts| Some(retention::message(situation.spec, &slot, held_back?, facts)));
    let (reason, mut messages) = match problems(situation, SourceReady) {
        Some((reason, message)) => (reason, vec![message]),
        None => (Reason::WalRetentionHigh, Vec::new()),
    };
    messages.extend(filling);
    if !messages.is_empty() {
        return verdict(SourceReady, Status::False, reason, messages.join("; "));
    }
    if let Some(step) = situation.plan.steps().iter().find(|step| step.stage == Stage::Publication) {
        return verdict(SourceReady, Status::False, Reason::InProgress, format!("to do: {}", step.what));
    }
    settled(situation, SourceReady)
}

fn connector(situation: &Situation<'_>) -> Verdict {
    use ConditionType::ConnectorRunning;
    let spec = situation.spec;
    let kafka = format!("kafka {}", spec.kafka.bootstrap_servers);
    let connect = format!("kafka connect {}", spec.source.connect.url);
    let found =
        trouble(situation, ConnectorRunning, &kafka, Lane::Kafka, &situation.observed.kafka).or_else(|| {
            trouble(situation, ConnectorRunning, &connect, Lane::Connect, &situation.observed.connect)
        });
    if let Some(found) = found {
        return found;
    }
    if let Some((reason, message)) = problems(situation, ConnectorRunning) {
        return verdict(ConnectorRunning, Status::False, reason, message);
    }
    let live = situation.observed.connect.known().and_then(|facts| facts.connector.as_ref());
    let Some(live) = live else {
        let waits = "the connector is made when tables and topics are there";
        return verdict(ConnectorRunning, Status::False, Reason::InProgress, waits);
    };
    if spec.source.connect.state != ConnectorState::Running {
        let message = format!("spec.source.connect.state is {:?}", spec.source.connect.state);
        return verdict(ConnectorRunning, Status::True, Reason::ConnectorPaused, message);
    }
    if let Some(task) = live.tasks.iter().find(|task| task.state == "FAILED") {
        return failed_task(situation, task);
    }
    if live.state == "FAILED" {
        let message =
            "the connector failed: look at its status in Connect; it is restarted with growing pauses";
        return verdict(ConnectorRunning, Status::False, Reason::ConnectorFailed, message).and_passes();
    }
    let running = live.state == "RUNNING" && live.tasks.iter().any(|task| task.state == "RUNNING");
    if running && situation.steadiness == Steadiness::Unstable {
        let message = "the connector failed and was restarted: it counts as running once it has run for as long as the next \
                       pause would be; the events of this resource say why it failed";
        return verdict(ConnectorRunning, Status::False, Reason::ConnectorUnstable, message).and_passes();
    }
    if running && !situation.plan.steps().iter().any(|step| step.stage == Stage::Connector) {
        return settled(situation, ConnectorRunning);
    }
    let blocking = situation.observed.postgres.known().and_then(|facts| facts.slot_waits_for());
    let message = match blocking {
        Some(blocking) => format!("the connector is starting: its replication slot waits for {blocking}"),
        None => "the connector is starting".to_owned(),
    };
    verdict(ConnectorRunning, Status::False, Reason::InProgress, message).and_goes_on()
}

fn failed_task(situation: &Situation<'_>, task: &TaskFacts) -> Verdict {
    use ConditionType::ConnectorRunning;
    let error = task.error.as_deref().unwrap_or("no trace");
    let lower = error.to_lowercase();
    let too_large = [
        "recordtoolarge",
        "max.request.size",
        "message larger than",
        "message.max.bytes",
        "max.message.bytes",
    ];
    if too_large.iter().any(|word| lower.contains(word)) {
        let message = format!(
            "task {} of the connector failed, for a row is larger than a record may be: raise spec.kafka.maxMessageBytes \
             ({}), or leave its large column out with spec.tables[].columns[].exclude: {error}",
            task.id, situation.spec.kafka.max_message_bytes
        );
        return verdict(ConnectorRunning, Status::False, Reason::RecordTooLarge, message).and_passes();
    }
    let message = format!(
        "task {} of the connector failed: mend the cause; it is restarted with growing pauses: {error}",
        task.id
    );
    verdict(ConnectorRunning, Status::False, Reason::ConnectorFailed, message).and_passes()
}

fn tables_in_sync(situation: &Situation<'_>, tables: &TablesStatus) -> Verdict {
    use ConditionType::TablesInSync;
    let system = format!("clickhouse {}", situation.spec.clickhouse.url);
    let observation = &situation.observed.clickhouse;
    if let Some(found) = trouble(situation, TablesInSync, &system, Lane::ClickHouse, observation) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, TablesInSync) {
        return verdict(TablesInSync, Status::False, reason, message);
    }
    if let Some(step) = situation.plan.steps().iter().find(|step| step.stage <= Stage::CurrentView) {
        return verdict(TablesInSync, Status::False, Reason::InProgress, format!("to do: {}", step.what));
    }
    table_trouble(tables)
}

/// What the worst of the tables makes of the condition.
fn table_trouble(tables: &TablesStatus) -> Verdict {
    use ConditionType::TablesInSync;
    let silent = |table: &&DegradedTable| table.reason == Reason::NotObserved.as_str();
    for state in TroubleState::ALL {
        let mut of_state = tables.degraded.iter().filter(|table| table.state == state.as_str());
        let Some(first) = of_state.next() else {
            continue;
        };
        // That a view is broken is told by its own condition.
        let Some(reason) = Reason::parse(&first.reason) else {
            continue;
        };
        if state == TroubleState::Degraded && reason != Reason::DeadLetters {
            continue;
        }
        let others: Vec<&str> = of_state.map(|table| table.name.as_str()).collect();
        let also = if others.is_empty() { String::new() } else { format!("; also: {}", others.join(", ")) };
        let status =
            if tables.degraded.iter().all(|table| silent(&table)) { Status::Unknown } else { Status::False };
        return verdict(TablesInSync, status, reason, format!("{}{also}", first.message));
    }
    as_desired(TablesInSync)
}

fn views_in_sync(situation: &Situation<'_>) -> Verdict {
    use ConditionType::ViewsInSync;
    let views = &situation.spec.views;
    let system = format!("clickhouse {}", situation.spec.clickhouse.url);
    let mut steps = situation.plan.steps().iter();
    let to_do = steps
        .find(|step| matches!(step.stage, Stage::View | Stage::DropView))
        .map(|step| verdict(ViewsInSync, Status::False, Reason::InProgress, format!("to do: {}", step.what)));
    if views.preset == Preset::None && views.extra.is_empty() {
        // Those that there were are to go.
        let leaving = failed_step(situation, ViewsInSync, &system, Lane::ClickHouse).or(to_do);
        return leaving.unwrap_or_else(|| {
            verdict(ViewsInSync, Status::True, Reason::NotConfigured, "spec.views asks for none")
        });
    }
    let observation = &situation.observed.clickhouse;
    if let Some(found) = trouble(situation, ViewsInSync, &system, Lane::ClickHouse, observation) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, ViewsInSync) {
        return verdict(ViewsInSync, Status::False, reason, message);
    }
    if let Some(to_do) = to_do {
        return to_do;
    }
    if situation.views.is_empty() {
        return verdict(
            ViewsInSync,
            Status::Unknown,
            Reason::Waiting,
            "the views are made when state tables are there",
        );
    }
    if let Some(view) = situation.views_open.first() {
        let message = format!(
            "view {view} is not as it should be yet: clickhouse has not said what its columns are, what it reads is not \
             there, or it is being filled"
        );
        return verdict(ViewsInSync, Status::False, Reason::InProgress, message).and_goes_on();
    }
    let broken = observation.known().and_then(|facts| {
        // One that is not wanted just now, such as a copy of a query log that the server lacks, is not missed.
        let wanted = |name: &str| {
            let view = name.strip_suffix("__refresh").unwrap_or(name);
            situation.views.iter().any(|wanted| wanted == view)
        };
        let mut failed = facts.refreshes.iter().filter(|(_, refresh)| !refresh.exception.is_empty());
        failed.find(|(name, _)| wanted(name)).map(|(name, refresh)| {
            format!("the refresh of {name} failed and shows old data: {}", refresh.exception)
        })
    });
    match broken {
        Some(message) => verdict(ViewsInSync, Status::False, Reason::RefreshFailed, message),
        None => as_desired(ViewsInSync),
    }
}

fn sink(situation: &Situation<'_>) -> Verdict {
    use ConditionType::SinkAvailable;
    let observation = &situation.observed.kubernetes;
    if let Some(found) = trouble(situation, SinkAvailable, "kubernetes", Lane::Kubernetes, observation) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, SinkAvailable) {
        return verdict(SinkAvailable, Status::False, reason, message);
    }
    let deployment = format!("Deployment/{}", situation.name.sink());
    let made = observation.known().is_some_and(|facts| facts.objects.contains_key(&deployment));
    if !made || situation.plan.steps().iter().any(|step| step.stage == Stage::Sink) {
        let waits = "the sink is made when state tables are there";
        return verdict(SinkAvailable, Status::False, Reason::InProgress, waits);
    }
    let wanted = situation.spec.sink.replicas;
    let rollout = observation.known().map(|facts| facts.rollout.clone()).unwrap_or_default();
    if wanted == 0 && rollout.replicas > 0 {
        let message = "spec.sink.replicas is 0, and pods of the sink are ending";
        return verdict(SinkAvailable, Status::False, Reason::InProgress, message).and_goes_on();
    }
    if wanted == 0 {
        let message = "spec.sink.replicas is 0: nothing is applied";
        return verdict(SinkAvailable, Status::True, Reason::NotConfigured, message);
    }
    if rollout.is_complete(wanted) {
        return settled(situation, SinkAvailable);
    }
    unfinished(situation, &rollout, wanted)
}

/// A Deployment whose pods are not, or not yet, those of the newest template.
fn unfinished(situation: &Situation<'_>, rollout: &Rollout, wanted: i32) -> Verdict {
    use ConditionType::SinkAvailable;
    let sink = situation.name.sink();
    let pods =
        format!("kubectl -n {} describe pods -l {}", situation.name.namespace, selector_text(situation.name));
    if let Some(why) = &rollout.failure {
        let message = format!(
            "Deployment {sink} cannot replace its pods, and older ones go on as far as there are any: {why} Most likely its \
             image, a Secret, a quota or its resources: `{pods}` says which"
        );
        return verdict(SinkAvailable, Status::False, Reason::RolloutFailed, message);
    }
    if rollout.available >= wanted {
        let message = format!("the pods of Deployment {sink} are being replaced");
        return verdict(SinkAvailable, Status::False, Reason::InProgress, message).and_goes_on();
    }
    let message = format!(
        "{} of {wanted} replicas of Deployment {sink} are available: `{pods}` says why",
        rollout.available
    );
    verdict(SinkAvailable, Status::False, Reason::ReplicasUnavailable, message).and_goes_on()
}

fn dashboards(situation: &Situation<'_>) -> Verdict {
    use ConditionType::DashboardsInSync;
    let Some(grafana) = &situation.spec.grafana else {
        return blocked(situation).unwrap_or_else(|| {
            verdict(DashboardsInSync, Status::True, Reason::NotConfigured, "spec.grafana is not set")
        });
    };
    let observed = situation.observed;
    let found = match grafana.mode {
        GrafanaMode::Api => {
            let system = format!("grafana {}", grafana.url.as_deref().unwrap_or_default());
            trouble(situation, DashboardsInSync, &system, Lane::Grafana, &observed.grafana)
        }
        GrafanaMode::Sidecar => {
            let system = "the objects for Grafana's sidecars";
            trouble(situation, DashboardsInSync, system, Lane::Kubernetes, &observed.kubernetes)
        }
    };
    if let Some(found) = found {
        return found;
    }
    // Before Grafana's own check of the data source, which fails for the same reason and knows less of it.
    if let Observation::Unreachable(failure) = &situation.observed.reader {
        let system = format!("spec.grafana.reader at clickhouse {}", situation.spec.clickhouse.url);
        return failed(DashboardsInSync, &system, Lane::ClickHouse, failure);
    }
    // What is wanted, and whether panels answer, is known by it alone: without it there is no plan, and nothing is as
    // desired.
    if let Observation::Unreachable(failure) = &situation.observed.clickhouse {
        let system = format!("clickhouse {}", situation.spec.clickhouse.url);
        return failed(DashboardsInSync, &system, Lane::ClickHouse, failure);
    }
    if let Some(found) = blocked(situation) {
        return found;
    }
    if let Some(step) =
        situation.plan.steps().iter().find(|step| matches!(step.stage, Stage::View | Stage::DropView))
    {
        let message = format!("to do: {}", step.what);
        return verdict(DashboardsInSync, Status::False, Reason::InProgress, message);
    }
    if situation.panels_open || situation.observed.clickhouse.known().is_none() {
        let message = "the panels are asked once every view is there";
        return verdict(DashboardsInSync, Status::Unknown, Reason::Waiting, message).and_goes_on();
    }
    if !situation.kept.is_empty() {
        let message = format!(
            "changed by hand, and kept, also from newer versions of ours, since spec.grafana.driftPolicy is Keep (delete \
             one in Grafana to get ours): {}",
            situation.kept.join("; ")
        );
        return verdict(DashboardsInSync, Status::True, Reason::Drifted, message);
    }
    settled(situation, DashboardsInSync)
}

/// What stands in the way of dashboards, or of leaving a Grafana that the spec does not name any more.
fn blocked(situation: &Situation<'_>) -> Option<Verdict> {
    use ConditionType::DashboardsInSync;
    if let Some((reason, message)) = problems(situation, DashboardsInSync) {
        return Some(verdict(DashboardsInSync, Status::False, reason, message));
    }
    let mut failures = situation.failures.iter();
    if let Some((step, failure)) = failures.find(|(step, _)| step.lane == Lane::FormerGrafana) {
        let system = format!("the former grafana: {}", step.what);
        return Some(failed(DashboardsInSync, &system, Lane::FormerGrafana, failure));
    }
    let step = situation.plan.steps().iter().find(|step| step.lane() == Lane::FormerGrafana)?;
    Some(verdict(DashboardsInSync, Status::False, Reason::InProgress, format!("to do: {}", step.what)))
}

fn fresh(freshness: Option<&Freshness>) -> Verdict {
    use ConditionType::Fresh;
    match freshness {
        None => verdict(Fresh, Status::Unknown, Reason::NotObserved, "no sink has reported progress lately"),
        Some(Freshness { missed: None, .. }) => as_desired(Fresh),
        Some(Freshness { missed: Some((reason, message)), .. }) => {
            verdict(Fresh, Status::False, *reason, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::step::StepKind;

    #[test]
    fn a_step_that_fails_is_told_where_people_look_for_it() {
        use ConditionType::{
            ConnectorRunning, DashboardsInSync, SinkAvailable, SourceReady, TablesInSync, ViewsInSync,
        };
        for (lane, stage, told) in [
            (Lane::Postgres, Stage::Publication, SourceReady),
            (Lane::Postgres, Stage::DropSlot, SourceReady),
            (Lane::Kafka, Stage::Topic, ConnectorRunning),
            (Lane::Connect, Stage::Connector, ConnectorRunning),
            (Lane::ClickHouse, Stage::StateTable, TablesInSync),
            (Lane::ClickHouse, Stage::History, TablesInSync),
            (Lane::ClickHouse, Stage::View, ViewsInSync),
            (Lane::ClickHouse, Stage::Cleanup, ViewsInSync),
            (Lane::Kubernetes, Stage::Sink, SinkAvailable),
            // A sidecar's files.
            (Lane::Kubernetes, Stage::DataSource, DashboardsInSync),
            (Lane::Kubernetes, Stage::Dashboard, DashboardsInSync),
            (Lane::Grafana, Stage::AlertRule, DashboardsInSync),
            (Lane::FormerGrafana, Stage::DropDashboard, DashboardsInSync),
        ] {
            let step = StepId { lane, stage, kind: StepKind::Create, what: String::new() };
            assert_eq!(told_by(&step), told, "{lane:?} {stage:?}");
        }
    }
}
