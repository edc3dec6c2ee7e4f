//! Outcomes to conditions and printer fields: what is true, since when nothing changed, what to do. Pure.
//!
//! Messages hold no number that moves: a status is written only when something flips.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::{self, ConditionType, Judgement, Reason, Status};
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::SnapshotState;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, ConnectorState};
use tidemark_crds::status::{AnalyticsPipelineStatus, DegradedTable, TablesStatus};

use crate::desired::selector_text;
use crate::facts::{Failure, FailureClass, Observation, Observed};
use crate::plan::Plan;
use crate::problem::Problem;
use crate::step::{Lane, Stage};

/// Entries of `status.tables.degraded` at most.
const MOST_DEGRADED: usize = 20;
/// Longest message of a condition, characters.
const LONGEST_MESSAGE: usize = 1024;

/// Everything that the status is judged from.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Namespace and name.
    pub name: &'a PipelineName,
    /// Generation of the spec that was read.
    pub generation: i64,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Why the spec that was read does not run; the last valid one goes on.
    pub invalid: Option<&'a str>,
    /// References that lead nowhere.
    pub missing: &'a [String],
    /// The last observation.
    pub observed: &'a Observed,
    /// What stands in the way.
    pub problems: &'a [Problem],
    /// What is left to do.
    pub plan: &'a Plan,
    /// Steps that failed in this reconcile: lane, what it was to do, and why.
    pub failures: &'a [(Lane, String, Failure)],
    /// Whether waves left the same plan twice.
    pub no_progress: bool,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// Source tables and their state tables.
    pub tables: &'a [(SourceTable, String)],
    /// Names of the views that should be there.
    pub views: &'a [String],
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// Builds the status; what did not change is taken from `before`, with its times.
pub fn status(situation: &Situation<'_>, before: &AnalyticsPipelineStatus, now: &Time) -> AnalyticsPipelineStatus {
    let tables = tables(situation);
    let freshness = freshness(situation, before.freshness.as_deref());
    let judgements = judge(situation, &tables, freshness.as_ref());
    let ledger = situation.observed.clickhouse.known().map(|facts| &facts.ledger);
    AnalyticsPipelineStatus {
        observed_generation: Some(situation.generation),
        applied_generation: if situation.plan.is_empty() && situation.invalid.is_none() && !situation.deleting {
            Some(situation.generation)
        } else {
            before.applied_generation
        },
        conditions: conditions::merge(&before.conditions, &judgements, situation.generation, now),
        epoch: ledger.and_then(|ledger| ledger.epoch).map(i32::from).or(before.epoch),
        summary: Some(format!("{}/{}", tables.streaming, tables.total)),
        freshness: Some(freshness.map_or("Unknown", |(bucket, _)| bucket).to_owned()),
        tables: Some(tables),
        handled_requests: match ledger {
            Some(ledger) => ledger.requests.clone(),
            None => before.handled_requests.clone(),
        },
        replicas: match situation.observed.kubernetes.known() {
            Some(facts) => Some(facts.sink_replicas),
            None => before.replicas,
        },
        selector: Some(selector_text(situation.name)),
    }
}

/// Judges all conditions, in the order in which they are shown.
fn judge(
    situation: &Situation<'_>,
    tables: &TablesStatus,
    freshness: Option<&(&'static str, bool)>,
) -> Vec<Judgement> {
    let required = vec![
        spec_valid(situation),
        credentials(situation),
        source(situation),
        connector(situation),
        tables_in_sync(situation, tables),
        views_in_sync(situation),
        sink(situation),
    ];
    let mut all = vec![ready(situation, &required), reconciling(situation, tables), stalled(situation)];
    all.extend(required);
    all.push(fresh(situation, freshness));
    for judgement in &mut all {
        if judgement.message.chars().count() > LONGEST_MESSAGE {
            judgement.message = judgement.message.chars().take(LONGEST_MESSAGE - 1).chain(['…']).collect();
        }
    }
    all
}

fn judgement(r#type: ConditionType, status: Status, reason: Reason, message: impl Into<String>) -> Judgement {
    Judgement { r#type, status, reason, message: message.into() }
}

fn as_desired(r#type: ConditionType) -> Judgement {
    judgement(r#type, Status::True, Reason::AsDesired, "")
}

fn ready(situation: &Situation<'_>, required: &[Judgement]) -> Judgement {
    use ConditionType::Ready;
    if situation.deleting {
        return judgement(Ready, Status::False, Reason::Deleting, "the resource is being deleted");
    }
    let first = |status| required.iter().find(|judgement| judgement.status == status);
    match first(Status::False).or_else(|| first(Status::Unknown)) {
        Some(found) => {
            judgement(Ready, found.status, found.reason, format!("{}: {}", found.r#type.as_str(), found.message))
        }
        None => as_desired(Ready),
    }
}

fn reconciling(situation: &Situation<'_>, tables: &TablesStatus) -> Judgement {
    use ConditionType::Reconciling;
    if situation.deleting {
        return judgement(Reconciling, Status::True, Reason::Deleting, "cleaning up");
    }
    if situation.spec.suspend {
        return judgement(Reconciling, Status::False, Reason::Suspended, "spec.suspend is set; data goes on");
    }
    let waiting: Vec<String> = situation.plan.steps().iter().take(3).map(|step| step.what.clone()).collect();
    if !waiting.is_empty() {
        let more = situation.plan.steps().len() - waiting.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return judgement(Reconciling, Status::True, Reason::InProgress, format!("to do: {}{more}", waiting.join(", ")));
    }
    if tables.degraded.iter().any(|table| table.state == "Snapshotting") {
        return judgement(Reconciling, Status::True, Reason::Snapshotting, "a snapshot is under way");
    }
    judgement(Reconciling, Status::False, Reason::AsDesired, "")
}

fn stalled(situation: &Situation<'_>) -> Judgement {
    use ConditionType::Stalled;
    if let Some(invalid) = situation.invalid {
        return judgement(Stalled, Status::True, Reason::InvalidSpec, invalid);
    }
    if let Some(problem) = situation.problems.iter().find(|problem| problem.is_terminal()) {
        return judgement(Stalled, Status::True, problem.reason, &problem.message);
    }
    if situation.no_progress {
        let what = situation.plan.first_wave().first().map_or(String::new(), |step| step.what.clone());
        let message = format!("{what}: done without effect, again and again; look at the operator's log");
        return judgement(Stalled, Status::True, Reason::NoProgress, message);
    }
    judgement(Stalled, Status::False, Reason::AsDesired, "")
}

fn spec_valid(situation: &Situation<'_>) -> Judgement {
    use ConditionType::SpecValid;
    match situation.invalid {
        Some(message) => judgement(SpecValid, Status::False, Reason::InvalidSpec, message),
        None => match problems(situation, SpecValid) {
            Some((reason, message)) => judgement(SpecValid, Status::False, reason, message),
            None => as_desired(SpecValid),
        },
    }
}

fn credentials(situation: &Situation<'_>) -> Judgement {
    use ConditionType::CredentialsResolved;
    if situation.missing.is_empty() {
        return as_desired(CredentialsResolved);
    }
    judgement(CredentialsResolved, Status::False, Reason::CredentialsMissing, situation.missing.join("; "))
}

/// Reason and message of all problems of one condition, as far as there are any.
fn problems(situation: &Situation<'_>, condition: ConditionType) -> Option<(Reason, String)> {
    let mine: Vec<&Problem> = situation.problems.iter().filter(|problem| problem.condition == condition).collect();
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
    stages: impl Fn(Stage) -> bool,
) -> Option<Judgement> {
    match observation {
        Observation::Unreachable(failure) => return Some(failed(r#type, system, failure)),
        Observation::NotAsked => {
            let message = format!("{system} was not asked yet: it waits for other conditions");
            return Some(judgement(r#type, Status::Unknown, Reason::Waiting, message));
        }
        Observation::Known(_) | Observation::Absent => {}
    }
    let (_, what, failure) = situation.failures.iter().find(|(failed, what, _)| {
        *failed == lane && situation.plan.steps().iter().any(|step| step.what == *what && stages(step.stage))
    })?;
    Some(failed(r#type, &format!("{system}: {what}"), failure))
}

/// The judgement of a failure: nobody knows what an unreachable system is like.
fn failed(r#type: ConditionType, system: &str, failure: &Failure) -> Judgement {
    let (status, reason, advice) = match failure.class {
        FailureClass::Unreachable => (
            Status::Unknown,
            Reason::Unreachable,
            "check its address in the spec and that it is up; it is tried again",
        ),
        FailureClass::Authentication => {
            (Status::False, Reason::AuthenticationFailed, "check user and password in its Secret")
        }
        FailureClass::Permission => (Status::False, Reason::PermissionDenied, "grant the account the right"),
        FailureClass::Remote => (Status::False, Reason::RemoteError, "it is tried again"),
    };
    judgement(r#type, status, reason, format!("{system}: {}: {advice}", failure.message))
}

fn source(situation: &Situation<'_>) -> Judgement {
    use ConditionType::SourceReady;
    let stages = |stage| stage == Stage::Publication;
    let postgres = &situation.spec.source.postgres;
    let system = format!("postgres {}:{}", postgres.host, postgres.port);
    if let Some(found) =
        trouble(situation, SourceReady, &system, Lane::Postgres, &situation.observed.postgres, stages)
    {
        return found;
    }
    if let Some((reason, message)) = problems(situation, SourceReady) {
        return judgement(SourceReady, Status::False, reason, message);
    }
    if let Some(step) = situation.plan.steps().iter().find(|step| stages(step.stage)) {
        return judgement(SourceReady, Status::False, Reason::InProgress, format!("to do: {}", step.what));
    }
    as_desired(SourceReady)
}

fn connector(situation: &Situation<'_>) -> Judgement {
    use ConditionType::ConnectorRunning;
    let spec = situation.spec;
    let kafka = format!("kafka {}", spec.kafka.bootstrap_servers);
    let connect = format!("kafka connect {}", spec.source.connect.url);
    let topic = |stage| stage == Stage::Topic;
    let own = |stage| matches!(stage, Stage::Connector | Stage::Snapshot | Stage::StopConnector);
    let found = trouble(situation, ConnectorRunning, &kafka, Lane::Kafka, &situation.observed.kafka, topic)
        .or_else(|| trouble(situation, ConnectorRunning, &connect, Lane::Connect, &situation.observed.connect, own));
    if let Some(found) = found {
        return found;
    }
    if let Some((reason, message)) = problems(situation, ConnectorRunning) {
        return judgement(ConnectorRunning, Status::False, reason, message);
    }
    let live = situation.observed.connect.known().and_then(|facts| facts.connector.as_ref());
    let Some(live) = live else {
        let waits = "the connector is made when tables and topics are there";
        return judgement(ConnectorRunning, Status::False, Reason::InProgress, waits);
    };
    if spec.source.connect.state != ConnectorState::Running {
        let message = format!("spec.source.connect.state is {:?}", spec.source.connect.state);
        return judgement(ConnectorRunning, Status::True, Reason::ConnectorPaused, message);
    }
    let broken = live.tasks.iter().find(|task| task.state == "FAILED");
    if let Some(task) = broken {
        let error = task.error.as_deref().unwrap_or("no trace");
        let message = format!(
            "task {} of the connector failed: {error}: mend the cause; it is restarted with growing pauses",
            task.id
        );
        return judgement(ConnectorRunning, Status::False, Reason::ConnectorFailed, message);
    }
    if live.state == "FAILED" {
        let message = "the connector failed: look at its status in Connect; it is restarted with growing pauses";
        return judgement(ConnectorRunning, Status::False, Reason::ConnectorFailed, message);
    }
    let running = live.state == "RUNNING" && live.tasks.iter().any(|task| task.state == "RUNNING");
    if running && !situation.plan.steps().iter().any(|step| step.stage == Stage::Connector) {
        return as_desired(ConnectorRunning);
    }
    judgement(ConnectorRunning, Status::False, Reason::InProgress, "the connector is starting")
}

fn tables_in_sync(situation: &Situation<'_>, tables: &TablesStatus) -> Judgement {
    use ConditionType::TablesInSync;
    let stages = |stage: Stage| stage <= Stage::CurrentView || stage == Stage::Snapshot;
    let system = format!("clickhouse {}", situation.spec.clickhouse.url);
    let observation = &situation.observed.clickhouse;
    if let Some(found) = trouble(situation, TablesInSync, &system, Lane::ClickHouse, observation, stages) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, TablesInSync) {
        return judgement(TablesInSync, Status::False, reason, message);
    }
    if let Some(step) = situation.plan.steps().iter().find(|step| step.stage <= Stage::CurrentView) {
        return judgement(TablesInSync, Status::False, Reason::InProgress, format!("to do: {}", step.what));
    }
    let of = |state: &str| -> Vec<&str> {
        tables.degraded.iter().filter(|table| table.state == state).map(|table| table.name.as_str()).collect()
    };
    for (state, reason) in [("Pending", Reason::InProgress), ("Snapshotting", Reason::Snapshotting)] {
        let names = of(state);
        if !names.is_empty() {
            let message = format!("{}: {}", state.to_lowercase(), names.join(", "));
            return judgement(TablesInSync, Status::False, reason, message);
        }
    }
    match tables.degraded.iter().find(|table| table.reason == Reason::DeadLetters.as_str()) {
        // The others go on, and so does this one: what is lost is named, and nothing waits for it.
        Some(table) => judgement(TablesInSync, Status::True, Reason::DeadLetters, &table.message),
        None => as_desired(TablesInSync),
    }
}

fn views_in_sync(situation: &Situation<'_>) -> Judgement {
    use ConditionType::ViewsInSync;
    if situation.views.is_empty() && situation.spec.views.extra.is_empty() {
        return judgement(ViewsInSync, Status::True, Reason::NotConfigured, "spec.views asks for none");
    }
    let stages = |stage| matches!(stage, Stage::View | Stage::DropView);
    let system = format!("clickhouse {}", situation.spec.clickhouse.url);
    let observation = &situation.observed.clickhouse;
    if let Some(found) = trouble(situation, ViewsInSync, &system, Lane::ClickHouse, observation, stages) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, ViewsInSync) {
        return judgement(ViewsInSync, Status::False, reason, message);
    }
    if let Some(step) = situation.plan.steps().iter().find(|step| stages(step.stage)) {
        return judgement(ViewsInSync, Status::False, Reason::InProgress, format!("to do: {}", step.what));
    }
    let broken = observation.known().and_then(|facts| {
        facts.refreshes.iter().find(|(_, refresh)| !refresh.exception.is_empty()).map(|(name, refresh)| {
            format!("the refresh of {name} failed and shows old data: {}", refresh.exception)
        })
    });
    match broken {
        Some(message) => judgement(ViewsInSync, Status::False, Reason::RefreshFailed, message),
        None => as_desired(ViewsInSync),
    }
}

fn sink(situation: &Situation<'_>) -> Judgement {
    use ConditionType::SinkAvailable;
    let stages = |stage| matches!(stage, Stage::Sink | Stage::RemoveSink);
    let observation = &situation.observed.kubernetes;
    if let Some(found) = trouble(situation, SinkAvailable, "kubernetes", Lane::Kubernetes, observation, stages) {
        return found;
    }
    if let Some((reason, message)) = problems(situation, SinkAvailable) {
        return judgement(SinkAvailable, Status::False, reason, message);
    }
    if situation.plan.steps().iter().any(|step| step.stage == Stage::Sink) {
        let waits = "the sink is made when state tables are there";
        return judgement(SinkAvailable, Status::False, Reason::InProgress, waits);
    }
    let wanted = situation.spec.sink.replicas;
    if wanted == 0 {
        let message = "spec.sink.replicas is 0: nothing is applied";
        return judgement(SinkAvailable, Status::True, Reason::NotConfigured, message);
    }
    let available = observation.known().map_or(0, |facts| facts.sink_available);
    if available >= wanted {
        return as_desired(SinkAvailable);
    }
    let message = format!(
        "{available} of {wanted} replicas of Deployment {} are available: look at its pods",
        situation.name.sink()
    );
    judgement(SinkAvailable, Status::False, Reason::ReplicasUnavailable, message)
}

fn fresh(situation: &Situation<'_>, freshness: Option<&(&'static str, bool)>) -> Judgement {
    use ConditionType::Fresh;
    match freshness {
        None => judgement(Fresh, Status::Unknown, Reason::NotObserved, "no sink has reported progress lately"),
        Some((_, true)) => as_desired(Fresh),
        Some((_, false)) => {
            let objective = &situation.spec.freshness.rows;
            let message = format!("rows are older than spec.freshness.rows ({objective})");
            judgement(Fresh, Status::False, Reason::Stale, message)
        }
    }
}

/// Counts tables and names those that do not stream.
fn tables(situation: &Situation<'_>) -> TablesStatus {
    let mut degraded = Vec::new();
    let known = situation.observed.clickhouse.known();
    let by_object: BTreeMap<&str, &Problem> = situation
        .problems
        .iter()
        .rev()
        .filter_map(|problem| Some((problem.object.as_deref()?, problem)))
        .collect();
    let mut streaming = 0;
    for (source, target) in situation.tables {
        let name = source.to_string();
        let entry = |state: &str, reason: Reason, message: &str| DegradedTable {
            name: name.clone(),
            state: state.to_owned(),
            reason: reason.as_str(),
            message: message.to_owned(),
        };
        if let Some(problem) = by_object.get(name.as_str()) {
            degraded.push(entry("Refused", problem.reason, &problem.message));
            continue;
        }
        let snapshot = known.and_then(|facts| facts.ledger.snapshots.get(target)).map(|record| record.state);
        match snapshot {
            None => degraded.push(entry("Pending", Reason::InProgress, "no snapshot was taken yet")),
            Some(SnapshotState::Requested | SnapshotState::Applying) => {
                degraded.push(entry("Snapshotting", Reason::Snapshotting, "its snapshot is under way"));
            }
            Some(SnapshotState::Done) => {
                let lost = known.and_then(|facts| facts.progress.get(target)).is_some_and(|p| p.dead_letters > 0);
                if lost {
                    let message = format!(
                        "{name}: records could not be applied and went to the dead-letter topic: read their header \
                         tidemark.error, mend the cause, then set the annotation tidemark.dev/resnapshot to a new token"
                    );
                    degraded.push(entry("Degraded", Reason::DeadLetters, &message));
                }
                streaming += 1;
            }
        }
    }
    let views = situation.views.iter().map(String::as_str);
    let extra = situation.spec.views.extra.iter().map(|view| view.name.as_str());
    for name in views.chain(extra).collect::<std::collections::BTreeSet<_>>() {
        if let Some(problem) = by_object.get(name) {
            degraded.push(DegradedTable {
                name: name.to_owned(),
                state: "Degraded".into(),
                reason: problem.reason.as_str(),
                message: problem.message.clone(),
            });
        }
    }
    degraded.truncate(MOST_DEGRADED);
    TablesStatus { total: i32::try_from(situation.tables.len()).unwrap_or(i32::MAX), streaming, degraded }
}

/// Milliseconds without a progress row after which the sinks are taken for silent.
const SILENT_MS: i64 = 10_000;
const BUCKETS: [(&str, i64); 4] = [("<1s", 1_000), ("<10s", 10_000), ("<1m", 60_000), (">1m", i64::MAX)];

/// Bucket of the oldest table's age, and whether the objective is met; `None` where nothing is known.
fn freshness(situation: &Situation<'_>, before: Option<&str>) -> Option<(&'static str, bool)> {
    let progress = &situation.observed.clickhouse.known()?.progress;
    let ages: Vec<i64> = situation
        .tables
        .iter()
        .map(|(_, target)| {
            let progress = progress.get(target)?;
            // How late it was when it was written; once nothing is written any more, the time since counts.
            let silent = situation.now_ms - progress.applied_at_ms > SILENT_MS;
            let until = if silent { situation.now_ms } else { progress.applied_at_ms };
            Some((until - progress.fresh_to_ms).max(0))
        })
        .collect::<Option<_>>()?;
    let age = ages.into_iter().max()?;
    let objective = duration::milliseconds(&situation.spec.freshness.rows).ok()?;
    let met = u64::try_from(age).unwrap_or(0) <= objective;
    // A value near a bound would flip the status at each look: the old bucket holds while it is nearly right.
    let old = BUCKETS.iter().position(|(name, _)| Some(*name) == before);
    if let Some(index) = old {
        let above = age < BUCKETS[index].1.saturating_mul(2);
        let below = index == 0 || age * 2 > BUCKETS[index - 1].1;
        if above && below {
            return Some((BUCKETS[index].0, met));
        }
    }
    BUCKETS.iter().find(|(_, bound)| age < *bound).map(|(name, _)| (*name, met))
}

/// Whether two statuses say the same, times apart.
pub fn same(a: &AnalyticsPipelineStatus, b: &AnalyticsPipelineStatus) -> bool {
    let timeless = |status: &AnalyticsPipelineStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(jiff::Timestamp::UNIX_EPOCH);
        }
        status
    };
    timeless(a) == timeless(b)
}
