//! How far the connector has read the source, from positions of the log: never from a clock of its own. Pure.
//!
//! Each look at the source notes its time and how far its log is. What was committed before that time lies before that
//! position, so a connector that has read past the position has all of it.

use std::collections::VecDeque;

use crate::core::facts::PostgresFacts;

/// Pairs that are kept; beyond them every second one of the older half goes.
const MOST_PAIRS: usize = 512;

/// Least lag that is told from none, milliseconds.
const SEEN_MS: i64 = 30_000;

/// How far behind the connector is, as bounds that it has passed.
const LAGS: [(i64, &str); 3] = [(600_000, ">10m"), (60_000, ">1m"), (SEEN_MS, ">30s")];

/// Times of the source and positions of its log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    pairs: VecDeque<Pair>,
}

/// Where the end of the log was from one look to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    /// The first look that found it there, milliseconds since 1970.
    since_ms: i64,
    /// The last one.
    at_ms: i64,
    lsn: u64,
}

/// How far the connector has read, at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTo {
    /// Everything committed before this instant of the source is read, milliseconds since 1970; absent: so late that no
    /// look is known that it has passed.
    pub at_ms: Option<i64>,
    /// The first look that is known, milliseconds since 1970.
    pub first_ms: i64,
    /// Milliseconds since the first look that found something in the log which the connector has not read, up to the last
    /// look: at least so late it is, however far apart looks are.
    pub lag_ms: i64,
}

impl ReadTo {
    /// The lag as the greatest bound that it has passed; empty: it is not late.
    pub fn lag(self) -> &'static str {
        LAGS.iter().find(|(bound, _)| self.lag_ms > *bound).map_or("", |(_, name)| name)
    }
}

/// The lag of a look as the greatest bound that it has passed, after the one that was noted last. A process that has not
/// seen how far the log was before it began cannot know that the connector has caught up: until then the lag stays that
/// was noted.
pub fn lag_after(read_to: ReadTo, last: &str) -> &'static str {
    let noted = LAGS.iter().find(|(_, name)| *name == last).map_or("", |(_, name)| name);
    let seen = read_to.lag();
    if read_to.at_ms.is_none() && least_ms(noted) > least_ms(seen) { noted } else { seen }
}

/// The least lag that a bound stands for, milliseconds; 0: none.
pub fn least_ms(lag: &str) -> i64 {
    LAGS.iter().find(|(_, name)| *name == lag).map_or(0, |(bound, _)| *bound)
}

impl Positions {
    /// Notes a look: the source's clock, and the end of its log read after the clock.
    pub fn note(&mut self, now_ms: i64, lsn: u64) {
        if self.pairs.back().is_some_and(|last| lsn < last.lsn) {
            // Another server, or one that lost the end of its log.
            self.pairs.clear();
        }
        if self.pairs.back().is_some_and(|last| now_ms < last.at_ms) {
            // The clock was set back: what it said before would be the future.
            self.pairs.retain(|pair| pair.at_ms <= now_ms);
        }
        match self.pairs.back_mut() {
            // Nothing was written since: who has read up to there has everything up to now.
            Some(last) if last.lsn == lsn => last.at_ms = now_ms,
            _ => self.pairs.push_back(Pair { since_ms: now_ms, at_ms: now_ms, lsn }),
        }
        if self.pairs.len() > MOST_PAIRS {
            let mut place = 0;
            self.pairs.retain(|_| {
                place += 1;
                place == 1 || place > MOST_PAIRS / 2 || place % 2 == 0
            });
        }
    }

    /// How far a connector has read that has everything before `lsn`; `None` before the first look.
    pub fn read_to(&self, lsn: u64) -> Option<ReadTo> {
        let now_ms = self.pairs.back()?.at_ms;
        let passed = self.pairs.partition_point(|pair| pair.lsn <= lsn);
        let at_ms = passed.checked_sub(1).map(|last| self.pairs[last].at_ms);
        let lag_ms = self.pairs.get(passed).map_or(0, |unread| now_ms - unread.since_ms);
        Some(ReadTo { at_ms, first_ms: self.pairs.front()?.at_ms, lag_ms })
    }

    /// Notes what a look found, and says how far the connector has read.
    pub fn look(&mut self, facts: &PostgresFacts) -> Option<ReadTo> {
        if facts.source_now_ms == 0 || facts.current_lsn == 0 {
            return None;
        }
        self.note(facts.source_now_ms, facts.current_lsn);
        let slot = facts.slot.as_ref()?;
        // What a connection has received counts, too: on a server where only other databases write, nothing of it is
        // ever confirmed.
        let received = if slot.active { slot.received_lsn } else { 0 };
        self.read_to(slot.confirmed_lsn.max(received))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::facts::SlotFacts;

    #[test]
    fn a_new_process_does_not_take_a_late_connector_for_one_that_has_caught_up() {
        let read_to = |at_ms, lag_ms| ReadTo { at_ms, first_ms: 7, lag_ms };
        for (at_ms, lag_ms, last, expected) in [
            (None, 0, ">10m", ">10m"),
            (None, 40_000, "", ">30s"),
            (None, 700_000, ">1m", ">10m"),
            (Some(9), 0, ">10m", ""),
            (Some(9), 40_000, ">10m", ">30s"),
            (None, 0, "", ""),
            (None, 0, "something newer", ""),
        ] {
            assert_eq!(lag_after(read_to(at_ms, lag_ms), last), expected, "{at_ms:?} {lag_ms} {last}");
        }
    }

    fn seen(pairs: &[(i64, u64)]) -> Positions {
        let mut positions = Positions::default();
        for (at, lsn) in pairs {
            positions.note(*at, *lsn);
        }
        positions
    }

    #[test]
    fn the_lag_is_that_of_the_oldest_position_that_was_not_read() {
        let positions = seen(&[(0, 100), (10_000, 200), (20_000, 300), (95_000, 400)]);
        let read = |lsn| positions.read_to(lsn).map(|read| (read.at_ms, read.lag_ms, read.lag()));
        assert_eq!(read(400), Some((Some(95_000), 0, "")));
        assert_eq!(read(399), Some((Some(20_000), 0, "")), "it may have been written just now");
        assert_eq!(read(300), Some((Some(20_000), 0, "")));
        assert_eq!(read(250), Some((Some(10_000), 75_000, ">1m")));
        assert_eq!(read(150), Some((Some(0), 85_000, ">1m")));
        assert_eq!(read(99), Some((None, 95_000, ">1m")), "older than all that was seen");
        assert_eq!(Positions::default().read_to(5), None);
    }

    #[test]
    fn an_idle_source_is_read_up_to_now_and_a_busy_one_that_nobody_reads_is_not() {
        let mut idle = seen(&[(0, 100)]);
        (1..100).for_each(|look| idle.note(look * 10_000, 100));
        assert_eq!(idle.read_to(100), Some(ReadTo { at_ms: Some(990_000), first_ms: 990_000, lag_ms: 0 }));
        // Nothing more is written, and what was is not read.
        idle.note(1_000_000, 150);
        (1..10).for_each(|look| idle.note(1_000_000 + look * 10_000, 150));
        assert_eq!(idle.read_to(100).map(|read| (read.at_ms, read.lag())), Some((Some(990_000), ">1m")));
        // Looks that are a minute apart make nobody late.
        let mut rare = seen(&[(0, 100)]);
        (1..10).for_each(|look: i64| rare.note(look * 60_000, 100 + look.unsigned_abs()));
        assert_eq!(rare.read_to(108).map(|read| (read.at_ms, read.lag())), Some((Some(480_000), "")));
        assert_eq!(rare.read_to(107).unwrap().lag(), ">30s");
        let mut busy = seen(&[(0, 100)]);
        (1..100).for_each(|look: i64| busy.note(look * 10_000, 100 + look.unsigned_abs()));
        assert_eq!(busy.read_to(100).unwrap().lag(), ">10m");
    }

    #[test]
    fn another_log_and_a_clock_that_goes_back_are_no_past() {
        assert_eq!(seen(&[(0, 900), (10_000, 50)]).read_to(60).unwrap().at_ms, Some(10_000));
        assert_eq!(
            seen(&[(50_000, 100), (10_000, 200)]).read_to(150),
            Some(ReadTo { at_ms: None, first_ms: 10_000, lag_ms: 0 })
        );
    }

    #[test]
    fn wal_of_other_databases_that_the_connection_received_is_no_lag() {
        let facts = |now, lsn, active, received_lsn| PostgresFacts {
            source_now_ms: now,
            current_lsn: lsn,
            slot: Some(SlotFacts { active, confirmed_lsn: 100, received_lsn, ..SlotFacts::default() }),
            ..PostgresFacts::default()
        };
        let mut positions = Positions::default();
        positions.look(&facts(1, 100, true, 100));
        assert_eq!(positions.look(&facts(100_001, 900, true, 0)).unwrap().lag(), "");
        assert_eq!(positions.look(&facts(200_001, 900, true, 0)).unwrap().lag(), ">1m");
        assert_eq!(positions.look(&facts(200_002, 900, true, 900)).unwrap().lag(), "");
        assert_eq!(
            positions.look(&facts(200_003, 900, false, 900)).unwrap().lag(),
            ">1m",
            "nobody is connected"
        );
    }

    proptest! {
        #[test]
        fn never_fresher_than_the_newest_look_that_was_passed(
            steps in prop::collection::vec((0..20_000_i64, 0..50_u64), 1..1500),
            read in 0..40_000_u64,
        ) {
            let (mut now, mut lsn) = (1_000, 1_000);
            let mut positions = Positions::default();
            let mut all = Vec::new();
            for (wait, written) in steps {
                now += wait;
                lsn += written;
                positions.note(now, lsn);
                all.push((now, lsn));
            }
            prop_assert!(positions.pairs.len() <= MOST_PAIRS);
            let read_to = positions.read_to(read).unwrap();
            let newest = all.iter().rev().find(|(_, position)| *position <= read).map(|(at, _)| *at);
            prop_assert!(read_to.at_ms <= newest, "{read_to:?} {newest:?}");
            prop_assert!(read_to.lag_ms >= 0);
            if read >= lsn {
                prop_assert_eq!((read_to.at_ms, read_to.lag_ms), (Some(now), 0));
            }
        }
    }
}
