//! Below which version everything has been visible for how long. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidemark_crds::version::Version;

use crate::visible::{TableFacts, Verdict};

/// Into how many parts the time is divided that a horizon waits.
const PARTS: u32 = 8;

/// Horizons of one table that wait until they are old enough.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    found: VecDeque<(Instant, Version)>,
}

impl Waiting {
    /// Notes that everything below a version is visible now.
    pub(super) fn note(&mut self, version: Version, now: Instant, after: Duration) {
        if self.found.back().is_some_and(|(_, last)| *last > version) {
            // Positions go back with another server or another ledger: what was found before is of the other one.
            self.found.clear();
        }
        let is_new =
            self.found.back().is_none_or(|(since, last)| *last < version && now >= *since + after / PARTS);
        if is_new {
            self.found.push_back((now, version));
        }
    }

    /// The greatest that has waited long enough.
    pub(super) fn proven(&mut self, now: Instant, after: Duration) -> Option<Version> {
        let is_old = |(since, _): &(Instant, Version)| now >= *since + after;
        while self.found.get(1).is_some_and(is_old) {
            self.found.pop_front();
        }
        self.found.front().filter(|found| is_old(found)).map(|(_, version)| *version)
    }
}

/// The version below which everything of a table is visible, by what ClickHouse has of it and the ledger's epoch.
pub(super) fn horizon(facts: &TableFacts, epoch: u16) -> Option<Version> {
    let upto = |server: &str| match facts.judge(epoch, server) {
        Verdict::Upto(lsn) if lsn > 0 => Some(lsn),
        _ => None,
    };
    // Which server runs now does not matter: records of this epoch are of one log.
    let lsn = facts.claims.iter().filter_map(|claim| upto(&claim.server)).max()?;
    // The last commit before a later transaction is at that position or behind it.
    Some(Version::of_read(epoch, lsn))
}

/// What a table has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows, every version counted.
    pub(super) rows: u64,
    /// Tombstones below the horizon.
    pub(super) tombstones: u64,
    /// Rows below the fence.
    pub(super) hidden: u64,
}

impl Counts {
    /// Whether so many rows can go that it is worth to write the others anew.
    pub(super) fn is_due(self) -> bool {
        let can_go = self.tombstones + self.hidden;
        can_go > 0 && can_go.saturating_mul(10) >= self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visible::{Claim, Read};

    const HOUR: Duration = Duration::from_hours(1);
    type Change = fn(&mut TableFacts);

    #[test]
    fn a_horizon_is_proven_when_it_has_been_one_for_long_enough() {
        let (start, mut waiting) = (Instant::now(), Waiting::default());
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        for minute in 0..120 {
            waiting.note(Version(100 + u128::from(minute)), at(minute), HOUR);
            let proven = waiting.proven(at(minute), HOUR).map(|version| version.0);
            if minute < 60 {
                assert_eq!(proven, None, "{minute}");
            } else {
                let proven = proven.unwrap();
                assert!(proven <= 100 + u128::from(minute) - 60, "{minute}: {proven} is too young");
                assert!(proven + 8 >= 100 + u128::from(minute) - 60, "{minute}: {proven}");
            }
        }
        assert!(waiting.found.len() <= 10, "{}", waiting.found.len());
        // A table at rest has one all the same.
        assert_eq!(waiting.proven(at(1000), HOUR), waiting.found.back().map(|(_, version)| *version));
    }

    #[test]
    fn positions_that_go_back_begin_anew() {
        let (start, mut waiting) = (Instant::now(), Waiting::default());
        waiting.note(Version(100), start, HOUR);
        waiting.note(Version(50), start + HOUR, HOUR);
        assert_eq!(waiting.proven(start + HOUR, HOUR), None);
        assert_eq!(waiting.proven(start + 2 * HOUR, HOUR), Some(Version(50)));
    }

    fn facts() -> TableFacts {
        let claim =
            |lsn: u64, end: i64| Claim { epoch: 3, server: "a/1".into(), lsn, ends: [(0, end)].into() };
        TableFacts {
            claims: vec![claim(70, 10), claim(90, 20)],
            next: [(0, 15)].into(),
            request: Some((5, 3)),
            read: Some(Read { request: 5, barrier: (3, 40), done: true }),
            ..TableFacts::default()
        }
    }

    #[test]
    fn nothing_is_behind_a_horizon_while_anything_of_it_may_still_be_written() {
        assert_eq!(horizon(&facts(), 3), Some(Version::of_read(3, 70)));
        let mut all = facts();
        all.next = [(0, 20)].into();
        assert_eq!(horizon(&all, 3), Some(Version::of_read(3, 90)));
        let changed: [(&str, Change); 5] = [
            ("nothing is passed", |facts| facts.next = [(0, 9)].into()),
            ("it is read", |facts| facts.read.as_mut().unwrap().done = false),
            ("a read is asked for", |facts| facts.request = Some((6, 3))),
            ("it has dead letters", |facts| facts.dead = 1),
            ("it is in doubt", |facts| facts.doubt = Some(("why".into(), (3, 60)))),
        ];
        for (why, change) in changed {
            let mut facts = facts();
            change(&mut facts);
            assert_eq!(horizon(&facts, 3), None, "{why}");
        }
        assert_eq!(horizon(&facts(), 4), None, "another epoch has begun");
    }

    #[test]
    fn a_change_behind_a_horizon_has_a_lower_version_and_every_later_one_a_greater() {
        use tidemark_crds::version::Phase;
        // The last commit up to the horizon is at 70: its own changes name the commit before it.
        let horizon = Version::of_read(3, 70);
        assert!(Version::new(3, Phase::Stream, 69, 69) < horizon);
        assert!(Version::new(3, Phase::Stream, 70, 71) > horizon && Version::of_read(3, 70) >= horizon);
    }

    #[test]
    fn a_tenth_is_worth_it() {
        let counts = |rows, tombstones, hidden| Counts { rows, tombstones, hidden }.is_due();
        assert!(
            counts(100, 10, 0) && counts(100, 4, 6) && counts(3, 1, 0) && counts(u64::MAX, u64::MAX / 2, 0)
        );
        assert!(!counts(100, 9, 0) && !counts(0, 0, 0) && !counts(1_000_000, 99_999, 0));
    }
}
