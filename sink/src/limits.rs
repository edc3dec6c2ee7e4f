//! When a batch is sent, and how many inserts a second may be. Pure.

use std::time::Duration;

/// Least share of the budget that is left while the server's merges do not keep up.
const LEAST_SHARE: f64 = 1.0 / 32.0;
/// How long the budget stays where it is before it grows again.
const CALM: Duration = Duration::from_secs(10);

/// Limits at which a batch is sealed or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Bytes in memory.
    pub bytes: usize,
    /// How long to gather rows after the first one when nothing is in flight.
    pub linger: Duration,
    /// How long to gather rows while records come without a pause: a backlog is better moved in large pieces.
    pub age: Duration,
}

/// Why a batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlushCause {
    /// It has all the rows that one may have.
    Rows,
    /// It has all the bytes that one may have.
    Bytes,
    /// Its rows have waited long enough.
    Age,
    /// There is too little memory to keep it longer.
    Memory,
    /// The layout changed, or the process ends.
    Drain,
}

impl FlushCause {
    /// Name for metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Memory => "memory",
            Self::Drain => "drain",
        }
    }
}

/// What decides whether a batch with nothing of its table in flight is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Time since its first record came.
    pub age: Duration,
    /// Whether reading has waited for a record since then.
    pub caught_up: bool,
    /// Whether memory is short.
    pub short: bool,
    /// Whether it must go.
    pub drain: bool,
}

/// Says whether a batch is to be sent now, and why.
pub fn due(limits: &Limits, rows: usize, bytes: usize, moment: Moment) -> Option<FlushCause> {
    let wait = if moment.caught_up { limits.linger } else { limits.age.max(limits.linger) };
    if rows >= limits.rows {
        Some(FlushCause::Rows)
    } else if bytes >= limits.bytes {
        Some(FlushCause::Bytes)
    } else if moment.drain {
        Some(FlushCause::Drain)
    } else if moment.age >= wait {
        Some(FlushCause::Age)
    } else {
        moment.short.then_some(FlushCause::Memory)
    }
}

/// Spreads inserts over time: a bucket that fills at the allowed rate and holds a short burst.
#[derive(Debug, Clone)]
pub struct InsertBudget {
    per_second: f64,
    /// Share of the rate that the server takes at present, up to 1.
    share: f64,
    /// Time since the server last asked for less.
    calm: Duration,
    tokens: f64,
}

impl InsertBudget {
    /// Builds the budget of one replica.
    pub fn new(inserts_per_second: u32, replicas: u32) -> Self {
        let per_second = f64::from(inserts_per_second.max(1)) / f64::from(replicas.max(1));
        Self { per_second, share: 1.0, calm: Duration::ZERO, tokens: 1.0 }
    }

    /// Adds what has become free since the last call.
    pub fn refill(&mut self, elapsed: Duration) {
        self.calm += elapsed;
        if self.share < 1.0 && self.calm >= CALM {
            self.calm = Duration::ZERO;
            self.share = (self.share * 1.5).min(1.0);
        }
        let rate = self.per_second * self.share;
        // A burst of a quarter second lets a transaction over several tables out at once; one more keeps the
        // fraction that has gathered beside a whole one.
        let most = (rate / 4.0).max(1.0) + 1.0;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate).min(most);
    }

    /// Takes one insert, if there is one.
    pub fn take(&mut self) -> bool {
        let free = self.tokens >= 1.0;
        if free {
            self.tokens -= 1.0;
        }
        free
    }

    /// Halves the rate: the server's merges do not keep up. It grows again once that is over.
    pub fn halve(&mut self) {
        self.calm = Duration::ZERO;
        self.share = (self.share / 2.0).max(LEAST_SHARE);
        self.tokens = self.tokens.min(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { rows: 100, bytes: 1000, linger: Duration::from_millis(20), age: Duration::from_millis(300) };

    #[test]
    fn a_batch_goes_out_when_full_or_after_its_linger_and_later_in_a_backlog() {
        let moment =
            |ms, caught_up| Moment { age: Duration::from_millis(ms), caught_up, ..Moment::default() };
        let after = |rows, bytes, ms| due(&LIMITS, rows, bytes, moment(ms, true));
        assert_eq!(after(1, 10, 5), None);
        assert_eq!(after(1, 10, 20), Some(FlushCause::Age));
        assert_eq!(after(100, 10, 0), Some(FlushCause::Rows));
        assert_eq!(after(1, 1000, 0), Some(FlushCause::Bytes));
        assert_eq!(due(&LIMITS, 1, 1, moment(299, false)), None);
        assert_eq!(due(&LIMITS, 1, 1, moment(300, false)), Some(FlushCause::Age));
        let drain = Moment { drain: true, ..moment(0, false) };
        assert_eq!(due(&LIMITS, 1, 1, drain), Some(FlushCause::Drain));
        let short = Moment { short: true, ..moment(0, false) };
        assert_eq!(due(&LIMITS, 1, 1, short), Some(FlushCause::Memory));
    }

    fn taken(budget: &mut InsertBudget, seconds: u32) -> usize {
        let mut taken = 0;
        for _ in 0..seconds * 10 {
            budget.refill(Duration::from_millis(100));
            taken += usize::from(budget.take());
        }
        taken
    }

    #[test]
    fn the_budget_is_shared_by_the_replicas_and_never_piles_up() {
        let mut budget = InsertBudget::new(8, 2);
        budget.refill(Duration::from_hours(1));
        assert!(budget.take() && budget.take() && !budget.take());
        let taken = taken(&mut budget, 10);
        assert!((39..=41).contains(&taken), "{taken} inserts in 10 s at 4 a second");
    }

    #[test]
    fn a_server_that_cannot_keep_up_gets_half_and_later_all_again() {
        let mut budget = InsertBudget::new(8, 1);
        budget.halve();
        let half = taken(&mut budget, 9);
        assert!((35..=38).contains(&half), "{half} inserts in 9 s at 4 a second");
        taken(&mut budget, 30);
        let whole = taken(&mut budget, 10);
        assert!((79..=81).contains(&whole), "{whole} inserts in 10 s at 8 a second");
    }
}
