//! One reconcile of one pipeline from its inputs to its status, the same with and without a cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::duration::{duration, milliseconds};
use tidemark_crds::names::{PipelineName, short_hash};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::{AnalyticsPipelineStatus, DeletionWait};

use crate::core::credentials;
use crate::core::credentials::References;
use crate::core::desired::grafana::place;
use crate::core::desired::neighbours::{Neighbour, claimed};
use crate::core::desired::pipeline::Subject;
use crate::core::desired::sink_config::Paths;
use crate::core::facts::Observed;
use crate::core::finalize;
use crate::core::finalize::LeftBehind;
use crate::core::foresee::{Foreseen, foresee};
use crate::core::gate::{ACCEPT, Gate};
use crate::core::pace::{self, Next};
use crate::core::plan::Plan;
use crate::core::rest::{Glance, Rests, all_answered};
use crate::core::restart::Restarts;
use crate::core::status;
use crate::core::status::Situation;
use crate::core::step::{StepId, StepKind};
use crate::edge::breaker::Breakers;
use crate::edge::glance;
use crate::edge::grafana::former::Opener;
use crate::edge::kubernetes::objects::ObjectStore;
use crate::edge::metrics::Metrics;
use crate::edge::systems::Handles;
use crate::edge::world::{Remote, World};
use crate::shell::leader::Term;
use crate::shell::pools::SLOW_LOOK;
use crate::shell::reconcile::{Memory, Mode, Outcome, Progress, reconcile};

/// Prefix of the annotations that ask for an action.
pub const REQUEST_PREFIX: &str = "tidemark.dev/";
/// Actions that can be asked for.
const REQUESTS: [&str; 2] = ["resnapshot", "restart-connector"];

/// What all reconciles share.
#[derive(Debug, Default)]
pub struct Engine {
    /// What is remembered between reconciles.
    pub memory: Memory,
    /// Metrics.
    pub metrics: Metrics,
    /// Restarts of connectors.
    pub restarts: Restarts,
    /// Handles that outlive a reconcile.
    pub handles: Handles,
    /// Systems that give no answer.
    pub breakers: Breakers,
    /// Pipelines that nothing is to be done for.
    pub rests: Rests,
}

/// One pipeline at one moment.
#[derive(Debug)]
pub struct Input<'a> {
    /// Namespace and name.
    pub name: &'a PipelineName,
    /// `metadata.uid`; absent without a cluster.
    pub uid: Option<&'a str>,
    /// Generation of the spec that was read.
    pub generation: i64,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// The spec with the addresses at which the systems are reached from here.
    pub addresses: &'a AnalyticsPipelineSpec,
    /// Why the spec that was read does not run.
    pub invalid: Option<&'a str>,
    /// Annotations of the resource.
    pub annotations: &'a BTreeMap<String, String>,
    /// Secrets and ConfigMaps that the spec names.
    pub references: &'a References,
    /// Where the sink's objects live.
    pub objects: ObjectStore,
    /// Uid of the cluster, or a word in its place.
    pub cluster: &'a str,
    /// Folders in which the sink finds its files.
    pub paths: &'a Paths,
    /// Image of the sink.
    pub image: &'a str,
    /// When the resource was made; absent without a cluster.
    pub created: Option<Timestamp>,
    /// All pipelines that are known, this one among them or not.
    pub neighbours: &'a [Neighbour<'a>],
    /// The status that the resource has.
    pub before: &'a AnalyticsPipelineStatus,
    /// Until when may be written.
    pub term: &'a Term,
    /// What may be done.
    pub mode: Mode,
}

/// How far a deletion is.
#[derive(Default)]
struct Ending {
    clean: bool,
    time_is_up: bool,
    left_behind: Vec<LeftBehind>,
}

impl Ending {
    fn of(
        subject: &Subject<'_>,
        gate: &Gate,
        believed: &Observed,
        plan: &Plan,
        waiting: &[DeletionWait],
        now: Timestamp,
    ) -> Option<Self> {
        if !subject.deleting {
            return None;
        }
        let clean = finalize::is_clean(subject, plan.steps(), believed);
        let timeout = duration(&subject.spec.deletion_policy.timeout).unwrap_or(finalize::DEFAULT_TIMEOUT);
        Some(Self {
            clean,
            time_is_up: !clean && finalize::is_time_up(waiting, timeout, now),
            left_behind: finalize::left_behind(subject, gate, believed, plan.steps()),
        })
    }
}

impl Input<'_> {
    /// The pipeline as its neighbours see it.
    fn own(&self) -> Neighbour<'_> {
        let kafka = self.before.identities.get("kafka").map(String::as_str);
        Neighbour { name: self.name.clone(), created: self.created, kafka, spec: self.spec }
    }
}

/// What came of a reconcile.
#[derive(Debug)]
pub struct Report {
    /// Observation, plan, failures.
    pub outcome: Outcome,
    /// Every step that would be taken, where that was asked for.
    pub foreseen: Option<Foreseen>,
    /// The status that follows.
    pub status: AnalyticsPipelineStatus,
    /// When each verdict asks for another look.
    pub nexts: Vec<Next>,
    /// Looks in a row that found the same, this one among them.
    pub same: u32,
    /// Whether nothing is left that the deletion has to remove.
    pub clean: bool,
    /// Whether a deletion has waited for all that is left as long as the policy says.
    pub time_is_up: bool,
    /// What a deletion would leave behind if it ended now.
    pub left_behind: Vec<LeftBehind>,
    /// Whether a system kept the reconcile waiting, or gave no answer.
    pub slow: bool,
}

impl Report {
    /// When to look next; `None`: when something changes. Steps that failed are tried again after `backoff`.
    pub fn next(&self, backoff: Duration) -> Option<Duration> {
        let failed: Vec<StepId> = self.outcome.failures.iter().map(|(id, _)| id.clone()).collect();
        let of_steps = pace::of_steps(&self.outcome.plan, &failed, backoff, self.same);
        // Who gave no answer is asked again.
        let unanswered = (!all_answered(&self.outcome.observed)).then_some(Next::After(pace::SLOW));
        pace::least(self.nexts.iter().copied().chain(of_steps).chain(unanswered), self.same)
    }

    /// What was found, as far as looks are compared by it.
    fn found(status: &AnalyticsPipelineStatus, plan: &Plan) -> String {
        let said = status.conditions.iter().map(|it| (&it.type_, &it.status, &it.reason));
        let tables = status.tables.iter().flat_map(|tables| &tables.degraded);
        let tables = tables.map(|table| (&table.name, &table.state, &table.reason));
        format!("{} {:?}", plan.fingerprint(), said.chain(tables).collect::<Vec<_>>())
    }
}

impl Engine {
    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.memory.forget(pipeline);
        self.handles.forget(pipeline);
        self.metrics.forget(pipeline);
        self.rests.wake(pipeline);
    }

    /// Reconciles once; once more where the ledger has it that the objects carry another mark.
    pub async fn run(&self, input: &Input<'_>, progress: &Progress<'_>) -> Report {
        let resolved = credentials::resolve(input.spec, input.references);
        let key = input.name.to_string();
        let places = place::places(&input.before.grafanas, input.spec, None);
        let mut world = Remote {
            systems: self.handles.systems(&key, input.addresses, &resolved, input.objects.clone()),
            opener: Opener { references: input.references, handles: &self.handles, places: &places },
            metrics: self.metrics.clone(),
            breakers: &self.breakers,
            slowest: Duration::ZERO,
        };
        let mut report = Box::pin(self.run_in(&mut world, input, progress)).await;
        report.slow = world.slowest > SLOW_LOOK || !all_answered(&report.outcome.observed);
        self.handles.forget_failed(&key, &report.outcome.observed);
        report
    }

    /// Glances at a pipeline at rest. True: all is as it was at the last look, which is `before`.
    pub async fn glance(
        &self,
        name: &PipelineName,
        spec: &AnalyticsPipelineSpec,
        (references, objects): (&References, ObjectStore),
        before: &Glance,
    ) -> bool {
        let (key, begin) = (name.to_string(), Instant::now());
        let systems = self.handles.systems(&key, spec, &credentials::resolve(spec, references), objects);
        let glance = glance::glance(&systems, spec, name, Timestamp::now().as_millisecond()).await;
        self.metrics.looked("glance", begin.elapsed().as_secs_f64());
        let objective = milliseconds(&spec.freshness.rows).ok().and_then(|ms| i64::try_from(ms).ok());
        let differs = match &glance {
            Some(glance) => glance.differs(before, objective.unwrap_or(i64::MAX)),
            None => Some("no answer"),
        };
        if let Some(what) = differs {
            tracing::debug!(pipeline = key, what, "a glance calls for a look");
        }
        differs.is_none()
    }

    /// So, in another world than that of the handles.
    pub async fn run_in<W: World>(
        &self,
        world: &mut W,
        input: &Input<'_>,
        progress: &Progress<'_>,
    ) -> Report {
        let report = Box::pin(self.run_once(world, input, progress)).await;
        if report.outcome.other_mark { Box::pin(self.run_once(world, input, progress)).await } else { report }
    }

    async fn run_once<W: World>(&self, world: &mut W, input: &Input<'_>, progress: &Progress<'_>) -> Report {
        let resolved = credentials::resolve(input.spec, input.references);
        let key = input.name.to_string();
        let mark = self.memory.mark(&key).unwrap_or_else(|| input.name.mark(input.cluster));
        let requests = requests(input);
        let new_incarnation = format!("{:08x}", world.new_id());
        let claimed = claimed(&input.own(), input.neighbours);
        let subject = Subject {
            name: input.name,
            uid: input.uid,
            mark: &mark,
            image: input.image,
            spec: input.spec,
            resolved: &resolved,
            paths: input.paths,
            requests: &requests,
            new_incarnation: &new_incarnation,
            known_epoch: input.before.epoch.and_then(|epoch| u16::try_from(epoch).ok()).unwrap_or(0),
            cluster: input.cluster,
            identities: &input.before.identities,
            accepted: input.annotations.get(&format!("{REQUEST_PREFIX}{ACCEPT}")).map(String::as_str),
            claimed: claimed.as_ref(),
            deleting: input.mode.deletes(),
            generation: input.generation,
            restart_due: self.restarts.is_due(&key, was_failing(input.before), world.now()),
        };
        let mode = if input.spec.suspend && input.mode == Mode::Run { Mode::PlanOnly } else { input.mode };
        let outcome = Box::pin(reconcile(self, &subject, world, (mode, input.term), progress)).await;
        let now = world.now();
        // One that was only asked for says nothing against it.
        if was_failing(input.before) && outcome.done.iter().any(|step| step.kind == StepKind::Restart) {
            self.restarts.restarted(&key, now);
        }
        let deleting = input.mode.deletes();
        let foreseen = input.mode.foresees().then(|| foresee(&subject, &outcome.observed, &outcome.answers));
        let gate = subject.gate(&outcome.observed);
        let believed = gate.believed(&outcome.observed, deleting);
        let waiting = if deleting {
            finalize::waiting(&subject, &gate, &believed, (&outcome.plan, &input.before.deletion), now)
        } else {
            Vec::new()
        };
        let missing = resolved.missing();
        let situation = Situation {
            name: input.name,
            generation: input.generation,
            spec: input.spec,
            invalid: input.invalid,
            missing: &missing,
            observed: &believed,
            problems: &outcome.desired.problems,
            plan: &outcome.plan,
            failures: &outcome.failures,
            no_progress: outcome.no_progress,
            deleting,
            tables: &outcome.desired.tables,
            views: &outcome.desired.views,
            views_open: &outcome.desired.views_open,
            kept: &outcome.desired.kept,
            left: &outcome.desired.left,
            panels_open: outcome.desired.panels_open,
            steadiness: self.restarts.steadiness(&key, now),
            waiting: &waiting,
            identities: gate.identities(&input.before.identities),
            now_ms: now.as_millisecond(),
        };
        let (status, nexts) = status::status_and_nexts(&situation, input.before, &Time(now));
        let same = self.memory.same_looks(&key, &short_hash(&Report::found(&status, &outcome.plan)));
        if let Some(tables) = &status.tables {
            self.metrics.set_tables(&key, tables);
        }
        let slot = outcome.observed.postgres.known().and_then(|facts| facts.slot.as_ref());
        self.metrics.set_retained(&key, slot.map(|slot| slot.retained_bytes));
        let ending = Ending::of(&subject, &gate, &believed, &outcome.plan, &waiting, now);
        drop(believed);
        let Ending { clean, time_is_up, left_behind } = ending.unwrap_or_default();
        Report { outcome, foreseen, status, nexts, same, clean, time_is_up, left_behind, slow: false }
    }
}

/// Whether the connector had failed at the last look.
fn was_failing(before: &AnalyticsPipelineStatus) -> bool {
    before.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::ConnectorRunning.as_str()
            && Reason::parse(&condition.reason) == Some(Reason::ConnectorFailed)
    })
}

/// The annotations that ask for an action and were not answered, as far as the status knows: another ledger knows nothing
/// of it.
fn requests(input: &Input<'_>) -> BTreeMap<String, String> {
    let open = |action: &&str| {
        let text = input.annotations.get(&format!("{REQUEST_PREFIX}{action}"))?;
        let handled = input.before.handled_requests.get(*action) == Some(text);
        (!handled).then(|| ((*action).to_owned(), text.clone()))
    };
    REQUESTS.iter().filter_map(open).collect()
}
