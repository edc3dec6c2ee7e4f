//! When a pipeline is looked at next. Each verdict has a time of its own, and so has each step that failed or waits: the
//! least of them is when, and nothing else decides it. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::plan::{Blocker, Plan};
use crate::core::step::{Fact, Step, StepId};

/// Pause while something is under way.
const FAST: Duration = Duration::from_millis(1500);
/// Longest pause of what is looked at for its own sake.
pub const SLOW: Duration = Duration::from_secs(10);
/// Looks at the pace of something that is under way; then each is longer than the one before.
const LOOKS_AT_PACE: u32 = 20;

/// When one thing asks for another look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is under way, and may be done by the next look: soon, and less and less soon where it stays the same, as a long
    /// read does.
    Soon,
    /// When this time is over: by then it is tried again, or time alone has changed it.
    After(Duration),
    /// When something changes: the resource, what it names or owns, or what a glance sees. What a person has to mend is
    /// not mended sooner by looking.
    OnChange,
}

/// Pause for what is under way, after so many looks in a row that found the same.
fn soon(same: u32) -> Duration {
    let late = same.saturating_sub(LOOKS_AT_PACE).min(16);
    FAST.saturating_mul(1 << late).min(SLOW)
}

/// The least of all; `None`: only a change calls for a look. `same`: looks in a row that found the same.
pub fn least(all: impl IntoIterator<Item = Next>, same: u32) -> Option<Duration> {
    let due = |next| match next {
        // What has stayed the same for long is seen by the looks at rest.
        Next::Soon => Some(soon(same)).filter(|pause| *pause < SLOW),
        Next::After(pause) => Some(pause),
        Next::OnChange => None,
    };
    all.into_iter().filter_map(due).min()
}

/// What the steps ask for: one that failed is tried again after `backoff`, and what rests on it waits with it; every
/// other one that is left is looked at for its own sake, since only a look leads to a write.
pub fn of_steps<'a>(
    plan: &'a Plan,
    failed: &'a [StepId],
    backoff: Duration,
    same: u32,
) -> impl Iterator<Item = Next> + 'a {
    let held_back = held_back(plan, failed);
    let rest = plan
        .steps()
        .iter()
        .filter(move |step| !failed.contains(&step.id()) && !is_held_back(plan, step, failed, &held_back));
    failed.iter().map(move |_| Next::After(backoff)).chain(rest.map(move |_| Next::After(soon(same))))
}

/// The facts that wait for a step that failed, through however many others.
fn held_back<'a>(plan: &'a Plan, failed: &[StepId]) -> BTreeSet<&'a Fact> {
    let mut facts = BTreeSet::new();
    loop {
        let given = (plan.steps().iter())
            .filter(|step| failed.contains(&step.id()) || is_held_back(plan, step, failed, &facts));
        let next: BTreeSet<&Fact> = given.filter_map(|step| step.gives.as_ref()).collect();
        if next == facts {
            return facts;
        }
        facts = next;
    }
}

/// Whether a step waits for one that failed: for what that one gives, or for the system that gave it no answer.
fn is_held_back(plan: &Plan, step: &Step, failed: &[StepId], facts: &BTreeSet<&Fact>) -> bool {
    match plan.blocker(step) {
        Some(Blocker::Fact(fact)) => facts.contains(fact),
        Some(Blocker::Lane) => failed.iter().any(|id| id.lane == step.lane()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::effect::{ClickHouseEffect, DatabaseDefinition, Effect};
    use crate::core::step::{Lane, Stage, StepKind};

    const BACKOFF: Duration = Duration::from_secs(40);

    fn step(number: u8, needs: Option<u8>) -> Step {
        let fact = |number: u8| Fact::Other(number.to_string());
        let made = DatabaseDefinition { name: number.to_string(), comment: String::new() };
        Step {
            stage: Stage::Topic,
            kind: StepKind::Create,
            what: number.to_string(),
            needs: needs.map(fact).into_iter().collect(),
            gives: Some(fact(number)),
            effect: Effect::from(ClickHouseEffect::CreateDatabase(made)),
        }
    }

    fn plan(needs: &[Option<u8>], closed: bool) -> Plan {
        let steps =
            needs.iter().enumerate().map(|(number, needs)| step(u8::try_from(number).unwrap(), *needs));
        let closed = closed.then_some(Lane::ClickHouse).into_iter().collect();
        Plan::new(steps.collect(), BTreeSet::new(), closed)
    }

    fn steps(plan: &Plan, failed: &[usize], same: u32) -> Option<Duration> {
        let failed: Vec<StepId> = failed.iter().map(|place| plan.steps()[*place].id()).collect();
        least(of_steps(plan, &failed, BACKOFF, same), same)
    }

    #[test]
    fn what_stays_the_same_is_looked_at_less_and_less_often_and_at_last_when_something_changes() {
        assert_eq!(least([Next::Soon], 1), Some(FAST));
        assert_eq!(least([Next::Soon], LOOKS_AT_PACE), Some(FAST));
        let all: Vec<Duration> = (0..1000).map(soon).collect();
        assert!(all.is_sorted() && all.iter().all(|pause| (FAST..=SLOW).contains(pause)));
        assert_eq!((least([Next::Soon], 999), least([Next::Soon], u32::MAX)), (None, None));
        assert_eq!(least([Next::Soon, Next::After(BACKOFF)], 999), Some(BACKOFF));
    }

    #[test]
    fn what_rests_on_a_step_that_failed_waits_with_it_and_all_else_does_not() {
        let chain = [None, Some(0), Some(1)];
        assert_eq!(steps(&plan(&[], false), &[], 1), None, "nothing is left");
        assert_eq!(steps(&plan(&chain, false), &[], 1), Some(FAST));
        assert_eq!(steps(&plan(&chain, false), &[0], 1), Some(BACKOFF));
        assert_eq!(steps(&plan(&chain, false), &[1], 1), Some(FAST), "the first has not failed");
        assert_eq!(steps(&plan(&[None, Some(0), None], false), &[0], 1), Some(FAST));
        // It waits for what no step brings, such as a read: only a look finds it done.
        assert_eq!(steps(&plan(&[None, Some(9)], false), &[0], 1), Some(FAST));
        assert_eq!(steps(&plan(&[None, Some(9)], false), &[0], 999), Some(SLOW));
        // The system gave a step no answer: the others of its lane wait for the same one.
        assert_eq!(steps(&plan(&[None, None], true), &[0], 1), Some(BACKOFF));
        assert_eq!(steps(&plan(&[None, None], true), &[], 1), Some(FAST));
    }

    fn next() -> impl Strategy<Value = Next> {
        prop_oneof![
            Just(Next::Soon),
            Just(Next::OnChange),
            (0..100_000_u64).prop_map(|ms| Next::After(Duration::from_millis(ms))),
        ]
    }

    proptest! {
        #[test]
        fn the_pace_is_the_least_of_all_and_what_waits_for_a_change_changes_nothing(
            all in prop::collection::vec(next(), 0..8),
            same in 0..60_u32,
        ) {
            let found = least(all.clone(), same);
            let each: Vec<Duration> = all.iter().filter_map(|next| least([*next], same)).collect();
            prop_assert_eq!(found, each.iter().min().copied());
            let but_changes = all.iter().copied().filter(|next| *next != Next::OnChange);
            prop_assert_eq!(found, least(but_changes, same));
        }

        #[test]
        fn as_long_as_a_step_is_left_it_is_looked_for_and_never_later_than_what_failed_is_tried_again(
            needs in prop::collection::vec(prop::option::of(0..12_u8), 1..10),
            failed in prop::collection::btree_set(0..10_usize, 0..4),
            closed in any::<bool>(),
            same in 0..60_u32,
        ) {
            let plan = plan(&needs, closed);
            let failed: Vec<usize> = failed.into_iter().filter(|place| *place < needs.len()).collect();
            let found = steps(&plan, &failed, same);
            let latest = if failed.is_empty() { SLOW } else { BACKOFF };
            prop_assert!(found.is_some_and(|pause| pause <= latest));
        }
    }
}
