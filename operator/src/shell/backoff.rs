//! Exponential back-off of each object after failures, with jitter, reset by success. Pure: the clock and
//! the randomness are arguments.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest delay.
const LONGEST: Duration = Duration::from_mins(1);

/// Failures in a row of each object.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<BTreeMap<String, u32>>,
}

impl Backoff {
    /// Counts a failure and returns the delay before the next try: half of it fixed, half drawn by
    /// `random`, which lies in 0..=1, so that many objects do not come back at once.
    pub fn failed(&self, object: &str, random: f64) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        let full = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count = count.saturating_add(1);
        full / 2 + (full / 2).mul_f64(random.clamp(0.0, 1.0))
    }

    /// Forgets the failures of an object that went well, or is gone.
    pub fn succeeded(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_start_over_after_a_success() {
        let backoff = Backoff::default();
        let delays: Vec<u64> = (0..8).map(|_| backoff.failed("a", 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", 1.0), FIRST);
    }

    #[test]
    fn jitter_takes_away_at_most_half_and_objects_do_not_share_failures() {
        let backoff = Backoff::default();
        assert_eq!(backoff.failed("a", 0.0), FIRST / 2);
        assert_eq!(backoff.failed("b", 1.0), FIRST);
    }
}
