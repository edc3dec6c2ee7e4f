//! When failed connector tasks are restarted: growing pauses, forgotten after a quiet time. Pure: the clock is
//! an argument.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Pause before the first restart of a series.
const FIRST: Duration = Duration::from_secs(5);
/// Longest pause.
const LONGEST: Duration = Duration::from_mins(5);
/// Time without a failure after which a series is over.
const QUIET: Duration = Duration::from_mins(10);

#[derive(Debug, Clone, Copy)]
struct Series {
    restarts: u32,
    last: Timestamp,
}

impl Series {
    /// Pause before the next restart.
    fn pause(&self) -> SignedDuration {
        let pause = FIRST.saturating_mul(1 << self.restarts.min(16)).min(LONGEST);
        SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
    }
}

/// Whether that a connector runs is proof that it works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Steadiness {
    /// It is.
    #[default]
    Steady,
    /// It failed lately, and has not run for long enough since.
    Unstable,
}

/// Restarts of each pipeline's connector.
#[derive(Debug, Default)]
pub struct Restarts {
    series: Mutex<BTreeMap<String, Series>>,
}

impl Restarts {
    /// Whether the pause before the next restart is over; the first sight of a failure starts the first pause.
    pub fn is_due(&self, pipeline: &str, failed: bool, now: Timestamp) -> bool {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            all.retain(|name, series| {
                name != pipeline || now.duration_since(series.last).as_secs() < QUIET.as_secs().cast_signed()
            });
            return false;
        }
        let Some(series) = all.get(pipeline) else {
            all.insert(pipeline.to_owned(), Series { restarts: 0, last: now });
            return false;
        };
        now.duration_since(series.last) >= series.pause()
    }

    /// Whether a task that runs proves something: what fails again and again runs for a moment each time. It has to
    /// run for as long as the next pause.
    pub fn steadiness(&self, pipeline: &str, now: Timestamp) -> Steadiness {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let restarted = all.get(pipeline).filter(|series| series.restarts > 0);
        match restarted {
            Some(series) if now.duration_since(series.last) < series.pause() => Steadiness::Unstable,
            _ => Steadiness::Steady,
        }
    }

    /// Remembers that a restart was sent.
    pub fn restarted(&self, pipeline: &str, now: Timestamp) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let restarts = all.get(pipeline).map_or(0, |series| series.restarts);
        all.insert(pipeline.to_owned(), Series { restarts: restarts.saturating_add(1), last: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn pauses_double_and_a_quiet_time_starts_over() {
        let restarts = Restarts::default();
        assert!(!restarts.is_due("a", true, at(0)));
        assert!(!restarts.is_due("a", true, at(4)));
        assert!(restarts.is_due("a", true, at(5)));
        restarts.restarted("a", at(5));
        assert!(!restarts.is_due("a", true, at(14)));
        assert!(restarts.is_due("a", true, at(15)));
        restarts.restarted("a", at(15));
        assert!(!restarts.is_due("a", false, at(700)), "nothing failed");
        assert!(!restarts.is_due("a", true, at(701)), "a new series starts with its first pause");
    }

    #[test]
    fn a_task_between_two_failures_is_unstable_until_it_has_run_for_a_while() {
        let restarts = Restarts::default();
        assert!(!restarts.is_due("a", true, at(0)));
        let unstable = |name, second| restarts.steadiness(name, at(second)) == Steadiness::Unstable;
        assert!(!unstable("a", 1), "the failure itself is shown");
        restarts.restarted("a", at(5));
        assert!(unstable("a", 6) && unstable("a", 14));
        assert!(!unstable("a", 15));
        restarts.restarted("a", at(15));
        assert!(unstable("a", 34), "the longer, the more often it failed");
        assert!(!unstable("a", 35) && !unstable("b", 16));
    }
}
