//! Carries out a plan, and everything that can go wrong on its way.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::estate::Estate;
use super::foreseen::{of_fork, of_run, taken_away};
use super::invariants::{at_rest, of_act};
use super::kubernetes::Resource;
use super::normal::{difference, normal};
use super::plans::Plan;
use super::shell::Operator;
use super::world::{Fault, Model};

/// Before one of so many next writes a late one arrives.
const MOST_BETWEEN: u64 = 12;

/// What was done, and what was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) plans: usize,
    /// Calls of the operator, of all sorts.
    pub(super) calls: u64,
    /// Writes of undisturbed runs.
    pub(super) acts: usize,
    /// Runs from the middle of another one.
    pub(super) forks: usize,
    /// Forks that reached an estate whose end is known.
    pub(super) memo_hits: usize,
    /// What was broken, each with the plan and the fault.
    pub(super) broken: Vec<String>,
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.plans += other.plans;
        self.calls += other.calls;
        self.acts += other.acts;
        self.forks += other.forks;
        self.memo_hits += other.memo_hits;
        self.broken.extend(other.broken);
    }
}

/// One move of a plan, undisturbed.
struct Stretch {
    /// The estate before each write, what the write was, and how many of the resources that are kept are older.
    before: Vec<(Estate, String, usize)>,
    /// What the plan from the state before takes away.
    foreseen: BTreeSet<String>,
    /// The estate at rest.
    end: Vec<String>,
}

/// Which faults are tried: those whose number, by a seed, is a multiple of `every`; 0: none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) seed: u64,
    pub(super) every: u64,
    /// Whether what is done has to be what was foreseen.
    pub(super) foresees: bool,
}

impl Choice {
    fn has(self, what: &str) -> bool {
        self.every > 0 && self.number(what).is_multiple_of(self.every)
    }

    /// A number that hangs on the seed and on `what` alone.
    fn number(self, what: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, what).hash(&mut hasher);
        hasher.finish()
    }
}

/// Carries out a plan, and again with the chosen faults at its writes.
pub(super) fn run(plan: &Plan, choice: Choice) -> Found {
    let mut found = Found { plans: 1, ..Found::default() };
    let model = &mut Model::new(plan.start());
    model.inner().keeps = true;
    let operator = Operator::new();
    let (mut stretches, mut resources): (Vec<(String, Stretch)>, Vec<Resource>) = (Vec::new(), Vec::new());
    for (what, change) in &plan.moves {
        let name = format!("{}, {what}", plan.name);
        change(&mut model.inner().estate);
        let foreseen =
            choice.foresees.then(|| Operator::foresee(&model.inner().estate)).flatten().unwrap_or_default();
        if operator.rest(model).is_none() {
            let acts: Vec<String> =
                model.inner().acts.iter().rev().take(6).map(|act| act.id.what.clone()).collect();
            found.broken.push(format!("{name}: I6: never at rest; last {acts:?}"));
            return found;
        }
        let mut inner = model.inner();
        let acts = std::mem::take(&mut inner.acts);
        found.broken.extend(acts.iter().filter_map(of_act).map(|text| format!("{name}: {text}")));
        found.broken.extend(at_rest(&inner.estate).into_iter().map(|text| format!("{name}: {text}")));
        found.broken.extend(plan.foreign(&inner.estate).into_iter().map(|text| format!("{name}: {text}")));
        if choice.foresees {
            let wrong = of_run(&foreseen, &acts, &inner.estate);
            found.broken.extend(wrong.into_iter().map(|text| format!("{name}: {text}")));
        }
        let foreseen = taken_away(&foreseen);
        let mut before = Vec::new();
        for act in acts {
            let Some(estate) = act.before else { continue };
            before.push((*estate, act.id.what, resources.len()));
            let live = before.iter().rev().find_map(|(estate, ..)| estate.namespace.resource.clone());
            if live != resources.last().cloned() {
                resources.extend(live);
            }
        }
        stretches.push((name.clone(), Stretch { before, foreseen, end: normal(&inner.estate) }));
        drop(inner);
        found.broken.extend(after_a_restart(model, &name));
    }
    let mut inner = model.inner();
    let ready = unwell(&inner.estate).iter().all(|said| !said.starts_with("Ready "));
    if plan.ends_ready && !ready {
        found.broken.push(format!("{}: not ready at the end: {:?}", plan.name, unwell(&inner.estate)));
    }
    found
        .broken
        .extend(std::mem::take(&mut inner.leaks).into_iter().map(|said| format!("{}: {said}", plan.name)));
    found.calls += inner.calls;
    for (name, stretch) in &stretches {
        found.acts += stretch.before.len();
        for (place, (estate, write, seen)) in stretch.before.iter().enumerate() {
            for fault in Fault::ALL {
                let what = format!("{name}: {fault:?} at write {place}, {write:?}");
                if choice.has(&what) {
                    found.forks += 1;
                    let chance = (fault, choice.number(&what));
                    fork(plan, estate.clone(), chance, (stretch, &resources[..*seen]), &what, &mut found);
                }
            }
        }
    }
    found
}

/// I6: a new process over an estate at rest writes nothing, and says what the former one said.
fn after_a_restart(model: &mut Model, name: &str) -> Vec<String> {
    let operator = Operator::new();
    let mut broken = Vec::new();
    let status = |model: &Model| -> BTreeSet<String> {
        let inner = model.inner();
        let conditions = inner.estate.namespace.resource.iter().flat_map(|it| &it.status.conditions);
        conditions.map(|it| format!("{} {} {}: {}", it.type_, it.status, it.reason, it.message)).collect()
    };
    for _ in 0..3 {
        model.inner().estate.tick();
        let before = status(model);
        let round = operator.round(model);
        let acts = std::mem::take(&mut model.inner().acts);
        if round.changed && acts.is_empty() {
            let now = status(model);
            let (said, was) = (now.difference(&before), before.difference(&now));
            let (said, was) = (said.collect::<Vec<_>>(), was.collect::<Vec<_>>());
            broken.push(format!("{name}: I6: a restart at rest says {said:?} instead of {was:?}"));
        } else if round.changed {
            let acts = acts.into_iter().map(|act| act.id.what).collect::<Vec<_>>();
            broken.push(format!("{name}: I6: a restart at rest wrote {acts:?}"));
        }
    }
    broken
}

/// What becomes of an estate with a fault at the next write; `chance` decides what the fault leaves open. `None`: it
/// never comes to rest.
fn disturbed(model: &mut Model, (fault, chance): (Fault, u64), former: &[Resource]) -> Option<u32> {
    let first = Operator::new();
    match fault {
        Fault::Silent(lane) => {
            if model.inner().estate.silent.insert(lane) {
                first.rest(model)?;
                model.inner().estate.silent.remove(&lane);
            }
            return first.rest(model);
        }
        Fault::Two => {
            model.inner().other = Some((Operator::new(), chance));
            first.rest(model)?;
            let (second, _) = model.inner().other.take()?;
            model.inner().other = Some((first, chance.rotate_left(7)));
            second.rest(model)?;
            let (first, _) = model.inner().other.take()?;
            return first.rest(model);
        }
        Fault::Denied => {
            model.inner().fault = Some(fault);
            first.rest(model)?;
            let wrong = while_denied(model, &first);
            let mut inner = model.inner();
            inner.leaks.extend(wrong);
            inner.denied = None;
            drop(inner);
            return first.rest(model);
        }
        Fault::Stale => {
            let count = u64::try_from(former.len()).unwrap();
            if let Some(index) = chance.checked_rem(count) {
                first.round_of(model, former[usize::try_from(index).unwrap()].clone());
            }
            return first.rest(model);
        }
        _ => model.inner().fault = Some(fault),
    }
    let rested = first.rest(model);
    if !model.inner().killed {
        return rested;
    }
    {
        let mut inner = model.inner();
        inner.killed = false;
        inner.arrives_at = (fault == Fault::Between).then_some(chance % MOST_BETWEEN);
    }
    // Whoever comes next knows nothing.
    let second = Operator::new();
    let rested = second.rest(model);
    if model.inner().late.is_none() {
        return rested;
    }
    model.inner().arrives = true;
    second.rest(model)
}

/// What is broken while one write is denied each time: nothing but that deletions do not end, and it is told.
fn while_denied(model: &mut Model, operator: &Operator) -> Vec<String> {
    let known = model.inner().acts.len();
    operator.round(model);
    let inner = model.inner();
    let wrong = at_rest(&inner.estate).into_iter().filter(|said| !said.starts_with("I10"));
    let mut wrong: Vec<String> = wrong.map(|said| format!("while it is denied: {said}")).collect();
    let resource = inner.estate.namespace.resource.as_ref().filter(|resource| !resource.deleting);
    let is_tried = inner.acts[known..].iter().any(|act| Some(&act.id) == inner.denied.as_ref());
    if let Some(resource) = resource.filter(|_| is_tried) {
        let says = |text: &str| text.contains("not enough privileges");
        if !resource.status.conditions.iter().any(|it| it.status == "False" && says(&it.message)) {
            wrong.push("I8: a write is denied, and no condition says so".to_owned());
        }
    }
    wrong
}

/// Goes on from before a write, with a fault at it; the end has to be that of the undisturbed run.
fn fork(
    plan: &Plan,
    estate: Estate,
    (fault, chance): (Fault, u64),
    (stretch, former): (&Stretch, &[Resource]),
    what: &str,
    found: &mut Found,
) {
    let model = &mut Model::new(estate);
    model.inner().keeps = true;
    let rested = disturbed(model, (fault, chance), former);
    let inner = model.inner();
    found.calls += inner.calls;
    let mut broken = Vec::new();
    if rested.is_none() {
        let acts: Vec<&str> = inner.acts.iter().rev().take(6).map(|act| act.id.what.as_str()).collect();
        broken.push(format!("I6: never at rest; last {acts:?}"));
    }
    // Of two that lead one may still do what the other has done and closed the intent of: there the end is what counts.
    if fault != Fault::Two {
        broken.extend(inner.acts.iter().filter_map(of_act));
    }
    broken.extend(of_fork(&stretch.foreseen, &inner.acts));
    broken.extend(at_rest(&inner.estate));
    broken.extend(plan.foreign(&inner.estate));
    broken.extend(inner.leaks.iter().cloned());
    let end = normal(&inner.estate);
    if end == stretch.end {
        found.memo_hits += 1;
    } else if matches!(fault, Fault::Late | Fault::Between | Fault::Two) && waits_for_a_person(&inner.estate)
    {
        // A configuration that comes when another one holds: nothing is guessed.
    } else if fault == Fault::Two && gave_up_waiting(&difference(&stretch.end, &end), &inner.estate) {
        // A deletion that waits for a system that is away: with two at it more time passes, and it was up.
    } else {
        let lines = difference(&stretch.end, &end);
        let lines: Vec<String> = lines.iter().take(6).map(|line| line.chars().take(400).collect()).collect();
        broken.push(format!("I1: another end:\n    {}", lines.join("\n    ")));
    }
    if let Some(first) = broken.first_mut() {
        let acts: Vec<&str> = inner.acts.iter().map(|act| act.id.what.as_str()).collect();
        *first = format!("{first}\n    said: {:?}\n    done: {acts:?}", unwell(&inner.estate));
    }
    found.broken.extend(broken.into_iter().map(|text| format!("{what}: {text}")));
}

/// Whether two ends differ by nothing but that a resource was still being deleted and is gone.
fn gave_up_waiting(lines: &[String], estate: &Estate) -> bool {
    estate.namespace.resource.is_none()
        && lines.iter().any(|line| line.contains(r#"["True","Deleting""#))
        && lines.iter().all(|line| line.starts_with("- condition ") || line.starts_with("- resource"))
}

/// Whether the pipeline waits for consent, and says so.
fn waits_for_a_person(estate: &Estate) -> bool {
    let resource = estate.namespace.resource.as_ref();
    let mut conditions = resource.into_iter().flat_map(|resource| &resource.status.conditions);
    conditions.any(|it| it.status == "False" && it.reason == "SlotLost" && it.message.contains("annotate"))
}

/// The conditions that are not true, for people.
pub(super) fn unwell(estate: &Estate) -> Vec<String> {
    let resource = estate.namespace.resource.iter();
    let conditions = resource.flat_map(|resource| &resource.status.conditions);
    let unwell = conditions.filter(|it| it.status != "True");
    unwell.map(|it| format!("{} {}: {}", it.type_, it.reason, it.message)).collect()
}
