//! The deed foreseen: every step that the operator would take from what was observed on, until it rests. Pure.
//!
//! What the operator would desire is desired of what was observed, then of that as it would be after each wave, over all
//! lanes. What other programs and time bring is assumed to come, and named; steps that wait for anything else are left.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::assume::assume;
use crate::core::assume::coming;
use crate::core::assume::coming::Coming;
use crate::core::cost::{Cost, cost, is_read};
use crate::core::desired::pipeline::{Asked, Desired, Subject, desire};
use crate::core::desired::views::Probe;
use crate::core::facts::{Observation, Observed};
use crate::core::finalize;
use crate::core::plan::{Plan, unreachable_lanes};
use crate::core::problem::Problem;
use crate::core::step::{Step, StepId};

/// Waves at most: a plan that goes on beyond is a fault of the operator, or of what it assumes.
const MOST_WAVES: usize = 60;

/// What the operator would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreseen {
    /// What is waited for before the first wave.
    pub first: Vec<Coming>,
    /// Steps that are taken together, in order.
    pub waves: Vec<Wave>,
    /// Steps that would be left, each with what it waits for.
    pub left: Vec<(Step, String)>,
    /// What stands in the way at the end and does not now.
    pub problems: Vec<Problem>,
    /// How it ends.
    pub end: End,
}

/// Steps that are taken together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wave {
    /// The steps, each with what it has read at the source.
    pub steps: Vec<(Step, Option<Cost>)>,
    /// What is waited for behind them.
    pub then: Vec<Coming>,
}

/// How a foreseen plan ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Nothing is left that the operator would do by itself.
    #[default]
    Rest,
    /// After so many waves, or where a plan came back: what would follow is not known.
    Bound,
}

impl Foreseen {
    /// Every step that would be taken, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.waves.iter().flat_map(|wave| &wave.steps).map(|(step, _)| step)
    }

    /// Which steps they are.
    pub fn ids(&self) -> Vec<StepId> {
        self.steps().map(Step::id).collect()
    }

    /// Everything that is assumed to come by itself.
    pub fn comings(&self) -> impl Iterator<Item = &Coming> {
        self.first.iter().chain(self.waves.iter().flat_map(|wave| &wave.then))
    }

    /// What all reads together have read at the source; a dropped slot reads nothing by itself.
    pub fn reads(&self) -> Option<Cost> {
        let costs = self.waves.iter().flat_map(|wave| &wave.steps);
        costs
            .filter(|(step, _)| is_read(&step.effect))
            .filter_map(|(_, cost)| cost.clone())
            .reduce(Cost::plus)
    }
}

/// Foresees what would be done: to bring the pipeline to its spec, or to delete it. `answers` are what ClickHouse said of
/// views; what it could not be asked yet is taken to be right.
pub fn foresee(subject: &Subject<'_>, observed: &Observed, answers: &BTreeMap<String, Probe>) -> Foreseen {
    let (mut world, mut answers) = (observed.clone(), answers.clone());
    let closed = unreachable_lanes(observed);
    // What the resource's status says, with which each look of the operator begins.
    let (mut identities, mut known_epoch) = (subject.identities.clone(), subject.known_epoch);
    let mut restart_due = subject.restart_due;
    let mut reader_is_ours = coming::reader_is_ours(subject, observed);
    let (mut found, mut plans) = (Foreseen::default(), BTreeSet::new());
    let mut problems: Option<Vec<Problem>> = None;
    loop {
        let mut now = Subject { identities: &identities, known_epoch, restart_due, ..*subject };
        let mut desired = wish(&now, &world, &mut answers);
        world.seen.append(&mut desired.seen);
        let steps = std::mem::take(&mut desired.steps);
        let plan = Plan::new(steps, std::mem::take(&mut desired.held), closed.clone());
        let wave: Vec<Step> = plan.first_wave().into_iter().cloned().collect();
        let before = problems.get_or_insert_with(|| desired.problems.clone());
        // The same plan comes back once what a step of it waited for is there: then another wave of it is taken.
        let whats: Vec<&str> = wave.iter().map(|step| step.what.as_str()).collect();
        let is_new = plans.insert((plan.fingerprint(), whats.join("\n")));
        if !wave.is_empty() && is_new && found.waves.len() < MOST_WAVES {
            found.waves.push(taken(&now, wave, (observed, &desired), &mut world));
            continue;
        }
        let came = coming::settle(&mut now, &mut world, &mut reader_is_ours);
        restart_due = now.restart_due;
        let gate = now.gate(&world);
        let ledger =
            gate.believed(&world, subject.deleting).clickhouse.known().and_then(|it| it.ledger.epoch);
        let said = (gate.identities(&identities), ledger.unwrap_or(0).max(known_epoch));
        let is_other = said != (identities.clone(), known_epoch);
        (identities, known_epoch) = said;
        if !came.is_empty() || (is_other && wave.is_empty()) {
            let place = found.waves.last_mut().map_or(&mut found.first, |wave| &mut wave.then);
            place.extend(came);
            continue;
        }
        found.end = if wave.is_empty() { End::Rest } else { End::Bound };
        found.left = left(&plan);
        found.problems = desired.problems.into_iter().filter(|problem| !before.contains(problem)).collect();
        return found;
    }
}

/// One wave, and the world as it is behind it.
fn taken(
    subject: &Subject<'_>,
    wave: Vec<Step>,
    (observed, desired): (&Observed, &Desired),
    world: &mut Observed,
) -> Wave {
    let mut taken = Wave::default();
    for step in wave {
        taken.then.extend(assume(subject, &step.effect, world));
        let cost = cost(&step, observed, &desired.tables);
        taken.steps.push((step, cost));
    }
    // The next look begins behind this one's end.
    if let Observation::Known(postgres) = &mut world.postgres
        && postgres.lsn_before > 0
    {
        postgres.lsn_before = postgres.current_lsn;
    }
    taken
}

/// Desires, and takes what ClickHouse cannot be asked yet to be right.
fn wish(subject: &Subject<'_>, world: &Observed, answers: &mut BTreeMap<String, Probe>) -> Desired {
    if subject.deleting {
        return finalize::desire(subject, world);
    }
    loop {
        let desired = desire(subject, world, answers);
        if desired.questions.is_empty() || world.clickhouse.known().is_none() {
            return desired;
        }
        answers.extend(desired.questions.into_iter().map(|question| {
            let assumed = match question.asked {
                Asked::Columns { .. } => Probe::Unknown,
                Asked::Panels(..) | Asked::Replaced { .. } => Probe::Panels(Vec::new()),
            };
            (question.hash, assumed)
        }));
    }
}

/// Steps that nothing brings about, each with what it waits for.
fn left(plan: &Plan) -> Vec<(Step, String)> {
    let deferred = plan.deferred().into_iter();
    deferred.map(|it| (it.step.clone(), it.waits_for.text())).collect()
}
