//! When the next order comes: at random, and now and then in a burst. Pure.

use std::time::Duration;

use rand::Rng;

/// Orders in bursts come this much faster than the mean.
const BURST_SPEED: f64 = 8.0;
/// One in this many orders begins a burst.
const BURST_EVERY: u32 = 40;
/// Orders in a burst.
const BURST_LENGTH: u32 = 25;

/// The pauses between orders, at a mean rate.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Seconds between two orders of quiet times.
    calm: f64,
    /// Seconds between two orders of a burst.
    burst: f64,
    left: u32,
}

impl Pace {
    /// Makes a pace of so many orders a second in the long run.
    pub(super) fn new(orders_per_second: f64) -> Self {
        let mean = 1.0 / orders_per_second;
        let burst = mean / BURST_SPEED;
        // A burst takes its time from the quiet orders between two bursts.
        let (calm_orders, burst_orders) = (f64::from(BURST_EVERY), f64::from(BURST_LENGTH));
        let calm = (mean * (calm_orders + burst_orders) - burst * burst_orders) / calm_orders;
        Self { calm, burst, left: 0 }
    }

    /// Draws the pause before the next order.
    pub(super) fn pause(&mut self, random: &mut impl Rng) -> Duration {
        let mean = if self.left > 0 {
            self.left -= 1;
            self.burst
        } else {
            if random.random_ratio(1, BURST_EVERY) {
                self.left = BURST_LENGTH;
            }
            self.calm
        };
        // 1 - [0, 1) is never 0, whose logarithm is infinite.
        let exponential = -(1.0 - random.random::<f64>()).ln();
        Duration::from_secs_f64(mean * exponential)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_rate_is_kept_in_the_long_run() {
        let mut random = StdRng::seed_from_u64(5);
        let mut pace = Pace::new(20.0);
        let total: Duration = (0..200_000).map(|_| pace.pause(&mut random)).sum();
        let rate = 200_000.0 / total.as_secs_f64();
        assert!((19.0..21.0).contains(&rate), "{rate}");
    }

    #[test]
    fn orders_come_in_bursts() {
        let mut random = StdRng::seed_from_u64(5);
        let mut pace = Pace::new(10.0);
        let pauses: Vec<f64> = (0..20_000).map(|_| pace.pause(&mut random).as_secs_f64()).collect();
        let mut busiest = f64::MAX;
        for window in pauses.windows(20) {
            busiest = busiest.min(window.iter().sum());
        }
        // At an even pace twenty orders take two seconds.
        assert!(busiest < 0.25, "{busiest}");
    }
}
