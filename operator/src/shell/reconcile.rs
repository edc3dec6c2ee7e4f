//! The waves: look → desire → ask → plan → run the first wave → look again. I/O through the [`World`] alone; what to do
//! is decided by the pure modules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use crate::core::desired::grafana::place;
use crate::core::desired::grafana::place::Place;
use crate::core::desired::pipeline::{Desired, Subject, desire};
use crate::core::desired::views::Probe;
use crate::core::facts::{Failure, FailureClass, Observation, Observed, SeenCatalogue};
use crate::core::finalize;
use crate::core::gate::adopted_mark;
use crate::core::plan::{Plan, unreachable_lanes};
use crate::core::position::Positions;
use crate::core::step::{Lane, Step, StepId};
use crate::edge::metrics::Metrics;
use crate::edge::world::World;
use crate::shell::engine::Engine;
use crate::shell::leader::Term;

/// Waves of one reconcile at most.
const MOST_WAVES: u32 = 20;
/// Reconciles in a row that end with the same plan until nothing is expected of the next one.
const SAME_PLANS: u32 = 30;

/// Time after which a reconcile begins no other wave: the next one goes on.
const LONGEST: Duration = Duration::from_mins(1);

/// Rounds of questions of one look.
const MOST_ROUNDS: u32 = 3;

/// Answers of one pipeline that are kept at most: beyond them all are asked again.
const MOST_ANSWERS: usize = 1_000;

/// What is remembered between reconciles of all pipelines; all of it can be lost without harm.
#[derive(Debug, Default)]
pub struct Memory {
    pipelines: Mutex<BTreeMap<String, Remembered>>,
}

/// What is remembered of one pipeline.
#[derive(Debug, Default)]
struct Remembered {
    /// Of the ledger: it names the consumer group, so that the first look sees the group's offsets.
    incarnation: Option<String>,
    /// Of the ledger: the mark of the pipeline's objects, where it is another one than this cluster would give.
    mark: Option<String>,
    /// Up to where the catalogue of each target was seen to be that of its newest layout.
    seen: BTreeMap<String, SeenCatalogue>,
    /// What ClickHouse said, by the hash of the question.
    answers: BTreeMap<String, Probe>,
    /// Fingerprint of the plan that the last reconcile ended with.
    plan: String,
    /// How many in a row ended with it and had something to carry out.
    in_vain: u32,
    /// What the last look found: its plan and its verdicts.
    found: String,
    /// How many in a row found the same.
    same: u32,
    /// How far the source's log was at earlier looks.
    positions: Positions,
}

/// What a reconcile may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries out the plan.
    Run,
    /// Looks and plans, and writes nothing.
    PlanOnly,
    /// Looks and foresees, and writes nothing.
    Foresee,
    /// Carries out the deletion.
    Delete,
    /// Looks and foresees the deletion, and writes nothing.
    ForeseeDeletion,
}

impl Mode {
    /// Whether it is about the deletion.
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::ForeseeDeletion)
    }

    /// Whether all steps are foreseen, and not only the next.
    pub fn foresees(self) -> bool {
        matches!(self, Self::Foresee | Self::ForeseeDeletion)
    }

    /// Whether steps are carried out.
    pub fn writes(self) -> bool {
        matches!(self, Self::Run | Self::Delete)
    }
}

/// How a reconcile ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The last observation.
    pub observed: Observed,
    /// What the pure core made of it.
    pub desired: Desired,
    /// What ClickHouse said of views and panels, by the hash of the question.
    pub answers: BTreeMap<String, Probe>,
    /// What is left to do.
    pub plan: Plan,
    /// Steps that failed.
    pub failures: Vec<(StepId, Failure)>,
    /// Steps that were carried out.
    pub done: Vec<StepId>,
    /// Waves that ran.
    pub waves: u32,
    /// Whether the same plan came back too often.
    pub no_progress: bool,
    /// Whether the ledger has another mark than the objects were looked at with: nothing was done.
    pub other_mark: bool,
}

/// Called with every wave before it runs: its number, from 1, and its steps.
pub type Progress<'a> = dyn Fn(u32, &[&Step]) + Send + Sync + 'a;

/// Runs waves until nothing is left that can be done now, or the term is over.
pub async fn reconcile<W: World>(
    engine: &Engine,
    subject: &Subject<'_>,
    world: &mut W,
    (mode, term): (Mode, &Term),
    progress: &Progress<'_>,
) -> Outcome {
    let (memory, metrics) = (&engine.memory, &engine.metrics);
    let mut outcome = Outcome::default();
    let pipeline = subject.name.to_string();
    let mut incarnation = memory.of(&pipeline, |known| known.incarnation.clone());
    let mut former: Option<Place> = None;
    let mut closed: BTreeSet<Lane> = BTreeSet::new();
    let mut previous = String::new();
    let begin = world.now();
    loop {
        outcome.observed = Box::pin(world.look(subject, incarnation.as_deref(), former.as_ref())).await;
        outcome.observed.seen = memory.of(&pipeline, |known| known.seen.clone());
        if let Observation::Known(postgres) = &mut outcome.observed.postgres {
            postgres.read_to = memory.of(&pipeline, |known| known.positions.look(postgres));
        }
        let ledger = outcome.observed.clickhouse.known().map(|facts| &facts.ledger);
        if let Some(ledger) = ledger
            && ledger.incarnation != incarnation
        {
            // The consumer group's name is known only now: look again before anything is decided by its offsets.
            incarnation.clone_from(&ledger.incarnation);
            memory.of(&pipeline, |known| known.incarnation.clone_from(&incarnation));
            continue;
        }
        if let Some(mark) = ledger.and_then(|ledger| {
            adopted_mark(&subject.gate(&outcome.observed), subject.mark, ledger).map(str::to_owned)
        }) {
            // What is whose is told by the mark.
            memory.of(&pipeline, |known| known.mark = Some(mark));
            outcome.other_mark = true;
            return outcome;
        }
        let place = ledger.and_then(|ledger| place::former(subject.spec, ledger));
        if place.is_some() && place != former {
            // So is where dashboards were before the spec named another Grafana.
            former = place;
            continue;
        }
        if mode.deletes() {
            outcome.desired = finalize::desire(subject, &outcome.observed);
        } else {
            let answered = Box::pin(desire_with_answers(memory, subject, world, &outcome.observed)).await;
            (outcome.desired, outcome.answers) = answered;
        }
        memory.of(&pipeline, |known| known.seen.extend(outcome.desired.seen.clone()));
        let mut lanes = unreachable_lanes(&outcome.observed);
        lanes.extend(&closed);
        let steps = std::mem::take(&mut outcome.desired.steps);
        outcome.plan = Plan::new(steps, outcome.desired.held.clone(), lanes);
        // What was refused is tried again at the next reconcile.
        let was_refused = |step: &Step| outcome.failures.iter().any(|(id, _)| *id == step.id());
        let wave = outcome.plan.first_wave().into_iter().filter(|step| !was_refused(step));
        let wave: Vec<Step> = wave.cloned().collect();
        let fingerprint = outcome.plan.fingerprint();
        let again = fingerprint == previous;
        let over = outcome.waves >= MOST_WAVES || world.now().duration_since(begin).unsigned_abs() > LONGEST;
        if !mode.writes() || wave.is_empty() || again || over {
            outcome.no_progress = memory.is_in_vain(&pipeline, &fingerprint, is_idle(mode, &wave));
            return outcome;
        }
        if !term.holds() || !is_still_wanted(subject, world, &wave).await {
            return outcome;
        }
        previous = fingerprint;
        outcome.waves += 1;
        progress(outcome.waves, &wave.iter().collect::<Vec<_>>());
        let failed = run_wave(metrics, (subject, term), world, &wave, &mut outcome.done).await;
        closed.extend(failed.iter().filter(|(_, failure)| ends_the_lane(failure)).map(|(step, _)| step.lane));
        outcome.failures.extend(failed);
    }
}

/// Looks once more before anything is written: what the cache has may be another life of the name, or a spec of a while
/// ago. Where there is no answer nothing is taken away, and the rest goes on.
async fn is_still_wanted<W: World>(subject: &Subject<'_>, world: &W, wave: &[Step]) -> bool {
    match world.is_still(subject).await {
        Ok(still) => still,
        Err(failure) => {
            let takes_away = wave.iter().any(|step| step.effect.takes_away());
            tracing::warn!(pipeline = %subject.name, error = failure.message, takes_away, "the resource cannot be read; nothing is removed");
            !takes_away
        }
    }
}

/// Whether nothing was tried: a plan that is not to be carried out is no sign that carrying it out is in vain.
fn is_idle(mode: Mode, wave: &[Step]) -> bool {
    !mode.writes() || wave.is_empty()
}

/// Whether what failed would fail for every step of the lane: a refusal holds back what rests on the step alone.
fn ends_the_lane(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::Unreachable | FailureClass::Authentication)
}

/// Runs the steps of one wave: lanes side by side, the steps of a lane in order. None of them rests on another one, so one
/// that is refused does not keep the others from being carried out.
async fn run_wave<W: World>(
    metrics: &Metrics,
    (subject, term): (&Subject<'_>, &Term),
    world: &W,
    wave: &[Step],
    done: &mut Vec<StepId>,
) -> Vec<(StepId, Failure)> {
    let mut lanes: BTreeMap<Lane, Vec<&Step>> = BTreeMap::new();
    for step in wave {
        lanes.entry(step.lane()).or_default().push(step);
    }
    let runs = lanes.into_iter().map(|(lane, steps)| async move {
        let (mut carried_out, mut failed) = (Vec::new(), Vec::new());
        for step in steps {
            if !term.holds() {
                break;
            }
            let pipeline = subject.name.to_string();
            if let Err(failure) = Box::pin(world.act(subject, step)).await {
                metrics.failed(lane);
                tracing::warn!(
                    pipeline,
                    lane = lane.as_str(),
                    step = step.what,
                    error = failure.message,
                    "step failed"
                );
                let is_over = ends_the_lane(&failure);
                failed.push((step.id(), failure));
                if is_over {
                    break;
                }
                continue;
            }
            metrics.wrote(lane);
            tracing::info!(pipeline, lane = lane.as_str(), step = step.what, "step done");
            carried_out.push(step.id());
        }
        (carried_out, failed)
    });
    let mut failures = Vec::new();
    for (carried_out, failed) in join_all(runs).await {
        done.extend(carried_out);
        failures.extend(failed);
    }
    failures
}

/// Desires, and asks ClickHouse what is open, until every question that can be asked has its answer.
async fn desire_with_answers<W: World>(
    memory: &Memory,
    subject: &Subject<'_>,
    world: &W,
    observed: &Observed,
) -> (Desired, BTreeMap<String, Probe>) {
    let pipeline = subject.name.to_string();
    let mut answers = memory.of(&pipeline, |known| known.answers.clone());
    let mut desired = desire(subject, observed, &answers);
    // An answer can open another question: what a view's columns are, then whether panels can do with them.
    for _ in 0..MOST_ROUNDS {
        if desired.questions.is_empty() {
            break;
        }
        let new = Box::pin(world.ask(subject, &desired.questions)).await;
        if new.is_empty() {
            break;
        }
        memory.keep(&pipeline, &new);
        answers.extend(new);
        desired = desire(subject, observed, &answers);
    }
    (desired, answers)
}

impl Memory {
    /// The mark of a pipeline's objects, where the ledger has another one than this cluster would give.
    pub fn mark(&self, pipeline: &str) -> Option<String> {
        self.of(pipeline, |known| known.mark.clone())
    }

    fn of<T>(&self, pipeline: &str, use_it: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(pipelines.entry(pipeline.to_owned()).or_default())
    }

    /// Keeps good answers. Another one is asked again at the next look: what it lacked may be there by then.
    fn keep(&self, pipeline: &str, new: &BTreeMap<String, Probe>) {
        let good = new.iter().filter(|(_, answer)| match answer {
            Probe::Columns(_) => true,
            Probe::Panels(faults) => faults.is_empty(),
            Probe::Refused(_) | Probe::Denied(_) | Probe::Unknown => false,
        });
        self.of(pipeline, |known| {
            if known.answers.len() > MOST_ANSWERS {
                known.answers.clear();
            }
            known.answers.extend(good.map(|(hash, answer)| (hash.clone(), answer.clone())));
        });
    }

    /// Whether a pipeline's reconcile has ended with the same plan, which had something to run, too often in a row.
    fn is_in_vain(&self, pipeline: &str, fingerprint: &str, nothing_to_run: bool) -> bool {
        self.of(pipeline, |known| {
            if known.plan != fingerprint {
                (known.plan, known.in_vain) = (fingerprint.to_owned(), 0);
            }
            known.in_vain = if nothing_to_run { 0 } else { known.in_vain.saturating_add(1) };
            known.in_vain >= SAME_PLANS
        })
    }

    /// Counts how many looks in a row, this one among them, found the same of a pipeline.
    pub fn same_looks(&self, pipeline: &str, found: &str) -> u32 {
        self.of(pipeline, |known| {
            if known.found != found {
                (known.found, known.same) = (found.to_owned(), 0);
            }
            known.same = known.same.saturating_add(1);
            known.same
        })
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::{ClickHouseEffect, DatabaseDefinition, Effect};
    use crate::core::step::{Stage, StepKind};

    #[test]
    fn the_same_plan_again_and_again_is_no_progress_only_where_it_is_carried_out() {
        let step = Step {
            stage: Stage::Topic,
            kind: StepKind::Create,
            what: "create a topic".into(),
            needs: vec![],
            gives: None,
            effect: Effect::from(ClickHouseEffect::CreateDatabase(DatabaseDefinition {
                name: "db".into(),
                comment: String::new(),
            })),
        };
        let wave = [step];
        for (mode, wave, expected) in [
            (Mode::Run, &wave[..], true),
            (Mode::Delete, &wave[..], true),
            // spec.suspend: however long it is set, nothing is wrong.
            (Mode::PlanOnly, &wave[..], false),
            // It waits for something that is not its own to bring.
            (Mode::Run, &[], false),
        ] {
            let memory = Memory::default();
            let mut told = false;
            for _ in 0..SAME_PLANS * 3 {
                told = memory.is_in_vain("ns/shop", "the same", is_idle(mode, wave));
            }
            assert_eq!(told, expected, "{mode:?} {}", wave.len());
        }
    }

    #[test]
    fn a_plan_that_waits_is_not_in_vain_and_another_one_begins_anew() {
        let memory = Memory::default();
        for _ in 1..=SAME_PLANS {
            assert!(!memory.is_in_vain("p", "a", true));
        }
        for _ in 1..SAME_PLANS {
            assert!(!memory.is_in_vain("p", "a", false));
        }
        assert!(memory.is_in_vain("p", "a", false));
        assert!(!memory.is_in_vain("p", "b", false));
    }

    #[test]
    fn looks_that_find_the_same_are_counted_for_each_pipeline() {
        let memory = Memory::default();
        assert_eq!([1, 2, 3].map(|_| memory.same_looks("p", "a")), [1, 2, 3]);
        assert_eq!((memory.same_looks("q", "a"), memory.same_looks("p", "b")), (1, 1));
    }
}
