//! How long a row takes from PostgreSQL's commit until ClickHouse shows it, as seen from outside. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// Samples that are kept: the newest.
const KEPT: usize = 5000;

/// Times from commit to the first look that showed the row.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// Rows seen: primary key to the moment of commit, microseconds since 1970.
    seen: BTreeMap<i64, i64>,
    samples: Vec<Duration>,
    oldest: usize,
}

impl Freshness {
    /// Takes what one look at ClickHouse showed: rows as (primary key, moment of commit), and the moment
    /// before the look began, all in microseconds since 1970 by PostgreSQL's clock.
    ///
    /// Rows older than `since`, from before the first look, tell nothing.
    pub(super) fn look(&mut self, rows: &[(i64, i64)], since: i64, now: i64) {
        for &(key, committed) in rows {
            if committed < since || self.seen.insert(key, committed).is_some() {
                continue;
            }
            let sample = Duration::from_micros(u64::try_from(now - committed).unwrap_or(0));
            if self.samples.len() < KEPT {
                self.samples.push(sample);
            } else {
                self.samples[self.oldest] = sample;
                self.oldest = (self.oldest + 1) % KEPT;
            }
        }
    }

    /// Forgets rows committed before a moment, which later looks do not ask for.
    pub(super) fn forget(&mut self, before: i64) {
        self.seen.retain(|_, committed| *committed >= before);
    }

    /// Returns how many rows were timed.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Returns the time that so many per cent of the rows did not exceed; `None` without a sample.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        // The nearest rank, counted from 1 and rounded up.
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a percentile in milliseconds.
    fn percentile(freshness: &Freshness, percent: usize) -> u128 {
        freshness.percentile(percent).unwrap().as_millis()
    }

    #[test]
    fn a_row_is_timed_once_at_the_first_look_that_shows_it() {
        let mut freshness = Freshness::default();
        freshness.look(&[(1, 1_000_000)], 0, 1_200_000);
        freshness.look(&[(1, 1_000_000), (2, 1_150_000)], 0, 1_300_000);
        assert_eq!(freshness.samples(), 2);
        assert_eq!((percentile(&freshness, 1), percentile(&freshness, 99)), (150, 200));
    }

    #[test]
    fn rows_from_before_the_first_look_are_not_timed() {
        let mut freshness = Freshness::default();
        freshness.look(&[(1, 999)], 1000, 2000);
        assert_eq!((freshness.samples(), freshness.percentile(50)), (0, None));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut freshness = Freshness::default();
        let rows: Vec<(i64, i64)> = (1..=200).map(|number| (number, 1_000_000 - number * 1000)).collect();
        freshness.look(&rows, 0, 1_000_000);
        assert_eq!(percentile(&freshness, 50), 100);
        assert_eq!(percentile(&freshness, 99), 198);
        assert_eq!(percentile(&freshness, 100), 200);
    }

    #[test]
    fn only_the_newest_samples_are_kept() {
        let mut freshness = Freshness::default();
        for key in 0..10_000 {
            freshness.look(&[(key, 0)], 0, if key < 5000 { 1000 } else { 2000 });
        }
        assert_eq!((freshness.samples(), percentile(&freshness, 1)), (KEPT, 2));
        freshness.forget(1);
        assert!(freshness.seen.is_empty());
    }
}
