//! How fast a source is read: a limit in rows a second. Pure, apart from the caller's clock.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Spreads rows over time; shared by all connections of a replica.
#[derive(Debug)]
pub(crate) struct Pace {
    rows_per_second: Option<u32>,
    /// When the rows that were paid for so far would be through at the allowed rate.
    through: Mutex<Option<Instant>>,
}

impl Pace {
    /// Without a limit nothing ever waits.
    pub(crate) fn new(rows_per_second: Option<u32>) -> Self {
        Self { rows_per_second: rows_per_second.filter(|rows| *rows > 0), through: Mutex::new(None) }
    }

    /// How long to wait after `rows` rows were read.
    pub(crate) fn pay(&self, rows: u32, now: Instant) -> Duration {
        let Some(limit) = self.rows_per_second else {
            return Duration::ZERO;
        };
        let mut through = self.through.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cost = Duration::from_secs_f64(f64::from(rows) / f64::from(limit));
        let end = through.filter(|through| *through > now).unwrap_or(now) + cost;
        *through = Some(end);
        end - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_connections_share_the_rate_and_no_limit_waits_for_nothing() {
        let now = Instant::now();
        assert_eq!(Pace::new(None).pay(1_000_000, now), Duration::ZERO);
        let pace = Pace::new(Some(1000));
        assert_eq!(pace.pay(500, now), Duration::from_millis(500));
        assert_eq!(pace.pay(500, now), Duration::from_secs(1));
        assert_eq!(pace.pay(500, now + Duration::from_secs(9)), Duration::from_millis(500));
    }
}
