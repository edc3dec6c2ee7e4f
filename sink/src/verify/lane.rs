//! One table that is compared here: its plan, its round, its suspects, what is counted. Pure, apart from the caller's clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_crds::sink_config::TableRoute;

use super::book::Kept;
use super::round::{Place, Round};
use crate::plan::{Encoding, PlanError, TablePlan};
use crate::read::Page;

/// Rows of a range at most; a range whose rows are large has fewer.
pub(super) const RANGE_ROWS: u64 = 2000;
/// Keys of a range of pages, of which nothing else is read.
pub(super) const RANGE_KEYS: u64 = 20_000;
/// Rows of a range at least: one may have values of many megabytes.
const LEAST_ROWS: u64 = 1;
/// Suspects that are examined at once.
pub(super) const EXAMINED: usize = 500;
/// How long suspects are gathered, so that one barrier serves many.
const GATHER: Duration = Duration::from_secs(5);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// What is to be compared, as the ledger has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Current epoch.
    pub(super) epoch: u16,
    /// Newest layout.
    pub(super) layout: u64,
    /// Last request; 0: none.
    pub(super) request: u64,
}

/// What a lane does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Rest,
    /// Examines suspects.
    Examine,
    /// Compares a range by keys.
    Keys,
    /// Compares a range by pages.
    Pages,
    /// Notes that the round is full.
    Finish,
}

/// One table.
#[derive(Debug)]
pub(super) struct Lane {
    /// Where it comes from and goes to.
    pub(super) route: TableRoute,
    /// Its layout, and the same with the key's columns alone.
    pub(super) plan: Arc<TablePlan>,
    pub(super) keys_plan: Arc<TablePlan>,
    /// What the ledger has.
    pub(super) wanted: Wanted,
    /// What is kept of it; the round's own numbers are filled in when it is written.
    pub(super) kept: Kept,
    /// The round under way.
    pub(super) round: Option<Round>,
    /// Relations of the round.
    pub(super) pages: Option<Vec<Page>>,
    /// Keys that seem different.
    pub(super) suspects: BTreeSet<Vec<u8>>,
    gathered: Option<Instant>,
    /// The round as it was before the range of the first suspect: from there another replica goes on, since it knows no
    /// suspects.
    safe: Option<Round>,
    /// Rows of the next range.
    pub(super) rows: u64,
    failures: u32,
    /// When it is tried again.
    pub(super) again: Option<Instant>,
    /// When its row was written last.
    pub(super) written: Option<Instant>,
}

impl Lane {
    /// Takes a table over from where its last owner was.
    pub(super) fn new(
        route: TableRoute,
        layout: tidemark_crds::layout::TableLayout,
        wanted: Wanted,
        kept: Option<Kept>,
    ) -> Result<Self, PlanError> {
        let mut keys = layout.clone();
        keys.columns.retain(|column| column.key.is_some());
        let kept = kept.unwrap_or_else(|| Kept { table: route.target.clone(), ..Kept::default() });
        let round = serde_json::from_str(&kept.place).ok();
        let round = round.filter(|round: &Round| round.is_of(wanted.epoch, wanted.layout));
        Ok(Self {
            route,
            plan: Arc::new(TablePlan::new(Arc::new(layout), Encoding::Contract)?),
            keys_plan: Arc::new(TablePlan::new(Arc::new(keys), Encoding::Contract)?),
            wanted,
            kept,
            round,
            pages: None,
            suspects: BTreeSet::new(),
            gathered: None,
            safe: None,
            rows: RANGE_ROWS,
            failures: 0,
            again: None,
            written: None,
        })
    }

    /// Whether somebody waits for its round.
    pub(super) fn is_asked(&self) -> bool {
        self.wanted.request > self.kept.request
    }

    /// Begins a round, where it is time for one; `now_ms` is milliseconds since 1970-01-01.
    pub(super) fn begin(&mut self, enabled: bool, interval_ms: u64, now_ms: i64) {
        let Wanted { epoch, layout, request } = self.wanted;
        let asked = self.is_asked();
        // A round that began before it was asked for says nothing of the moment of the question.
        let goes_on = self.round.as_ref().is_some_and(|round| {
            round.is_of(epoch, layout) && if asked { round.request == request } else { enabled }
        });
        if goes_on {
            return;
        }
        let interval = i64::try_from(interval_ms).unwrap_or(i64::MAX);
        // One that was cut short begins anew at once.
        let is_time =
            self.round.is_some() || now_ms - self.kept.began_ms >= interval || now_ms < self.kept.began_ms;
        self.round = None;
        if asked || enabled && is_time {
            self.round = Some(Round::begin((request, asked), epoch, layout, now_ms));
            self.pages = None;
            self.forget();
        }
    }

    /// Suspects nothing any more.
    pub(super) fn forget(&mut self) {
        self.suspects.clear();
        self.gathered = None;
        self.safe = None;
    }

    /// What is to be done now.
    pub(super) fn next(&self, now: Instant) -> Next {
        let Some(round) = &self.round else { return Next::Rest };
        if self.again.is_some_and(|again| now < again) {
            return Next::Rest;
        }
        let old = self.gathered.is_some_and(|since| now.saturating_duration_since(since) >= GATHER);
        let over = round.place == Place::Over;
        if self.suspects.len() >= EXAMINED || !self.suspects.is_empty() && (old || over) {
            return Next::Examine;
        }
        match round.place {
            Place::Keys(_) => Next::Keys,
            Place::Pages { .. } => Next::Pages,
            Place::Over => Next::Finish,
        }
    }

    /// Takes keys that seem different, before the round goes on behind their range.
    pub(super) fn suspect(&mut self, keys: Vec<Vec<u8>>, now: Instant) {
        if !keys.is_empty() {
            self.gathered.get_or_insert(now);
            if self.suspects.is_empty() {
                self.safe.clone_from(&self.round);
            }
        }
        self.suspects.extend(keys);
    }

    /// Keys to be examined at once; they stay suspects until [`cleared`](Self::cleared).
    pub(super) fn some_suspects(&self) -> Vec<Vec<u8>> {
        self.suspects.iter().take(EXAMINED).cloned().collect()
    }

    /// Notes that keys were examined.
    pub(super) fn cleared(&mut self, keys: &[Vec<u8>], now: Instant) {
        for key in keys {
            self.suspects.remove(key);
        }
        if self.suspects.is_empty() {
            self.forget();
        } else {
            self.gathered = Some(now);
        }
    }

    /// Notes that it went well.
    pub(super) fn went_well(&mut self) {
        self.failures = 0;
        self.again = None;
        self.rows = (self.rows * 2).min(RANGE_ROWS);
        self.kept.error.clear();
    }

    /// Notes a failure; returns whether it is another one than before.
    pub(super) fn failed(&mut self, error: &str, now: Instant) -> bool {
        let pause = (PAUSES.0 * 2_u32.saturating_pow(self.failures)).min(PAUSES.1);
        self.failures += 1;
        self.again = Some(now + pause);
        // Rows may be too large for as many at once.
        self.rows = (self.rows / 4).max(LEAST_ROWS);
        // A partition may be gone.
        self.pages = None;
        std::mem::replace(&mut self.kept.error, error.to_owned()) != error
    }

    /// Ends the round.
    pub(super) fn finish(&mut self, now_ms: i64) {
        let Some(round) = self.round.take() else { return };
        self.fill(&round);
        self.kept.from_ms = round.began_ms;
        self.kept.to_ms = now_ms;
        self.kept.open = round.open;
        if round.asked {
            self.kept.request = round.request;
        }
        self.kept.coverage = 1.0;
        self.pages = None;
    }

    fn fill(&mut self, round: &Round) {
        self.kept.epoch = round.epoch;
        self.kept.layout = round.layout;
        self.kept.began_ms = round.began_ms;
        self.kept.compared = round.rows + round.keys;
        self.kept.coverage = round.coverage(self.pages.as_deref().unwrap_or_default());
    }

    /// The row to write; each has a greater beat than the one before.
    pub(super) fn row(&mut self) -> Kept {
        self.kept.place.clear();
        if let Some(round) = self.round.clone() {
            self.fill(&round);
            self.kept.open = self.kept.open.max(round.open);
            let Round { differences, open, .. } = round;
            let safe = Round { differences, open, ..self.safe.clone().unwrap_or(round) };
            self.kept.place = serde_json::to_string(&safe).unwrap_or_default();
        }
        self.kept.beat += 1;
        self.kept.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::table_tests::layout;

    fn lane(kept: Option<Kept>) -> Lane {
        let route =
            TableRoute { source: "public.notes".parse().unwrap(), topic: "t".into(), target: "notes".into() };
        let wanted = Wanted { epoch: 1, layout: 3, request: 0 };
        Lane::new(route, layout(), wanted, kept).unwrap()
    }

    #[test]
    fn a_round_begins_at_its_time_or_when_somebody_asks() {
        let mut lane = lane(Some(Kept { began_ms: 1000, request: 4, ..Kept::default() }));
        lane.begin(true, 500, 1400);
        assert_eq!(lane.round, None);
        lane.begin(true, 500, 1500);
        assert_eq!(lane.round.as_ref().unwrap().began_ms, 1500);
        // It goes on, whatever the time.
        lane.begin(true, 500, 9000);
        assert_eq!(lane.round.as_ref().unwrap().began_ms, 1500);
        // A question is answered by a round that began behind it.
        lane.wanted.request = 5;
        lane.begin(true, 500, 9001);
        assert_eq!(lane.round.as_ref().unwrap().began_ms, 9001);
        assert!(lane.is_asked());
        lane.begin(true, 500, 9100);
        assert_eq!(lane.round.as_ref().unwrap().began_ms, 9001);
        lane.finish(9200);
        assert!(!lane.is_asked());
        assert_eq!((lane.kept.from_ms, lane.kept.to_ms, lane.kept.request), (9001, 9200, 5));
        // Another layout, in the middle of a round.
        lane.begin(true, 500, 9600);
        lane.wanted.layout = 4;
        lane.begin(true, 500, 9601);
        assert_eq!(lane.round.as_ref().unwrap().layout, 4);
        // Switched off, nothing goes on but what was asked for.
        lane.begin(false, 500, 9900);
        assert_eq!(lane.round, None);
        lane.wanted.request = 6;
        lane.begin(false, 500, 9901);
        assert!(lane.round.is_some());
    }

    #[test]
    fn a_round_goes_on_where_the_replica_before_was_unless_the_layout_is_another() {
        let mut before = lane(None);
        before.begin(true, 500, 9000);
        before.round.as_mut().unwrap().passed_keys(7, Some(b"key"));
        let row = before.row();
        let mut after = lane(Some(row.clone()));
        assert_eq!(after.round, before.round);
        assert!(after.row().beat > row.beat);
        let wanted = Wanted { layout: 4, ..before.wanted };
        assert_eq!(Lane::new(before.route, layout(), wanted, Some(row)).unwrap().round, None);
    }

    #[test]
    fn what_is_kept_of_a_round_leaves_no_suspect_behind() {
        let (mut lane, now) = (lane(None), Instant::now());
        lane.begin(true, 500, 9000);
        let place = |lane: &mut Lane| serde_json::from_str::<Round>(&lane.row().place).unwrap().place;
        let passed = |lane: &mut Lane, last: &[u8]| lane.round.as_mut().unwrap().passed_keys(5, Some(last));
        passed(&mut lane, b"a");
        let before = place(&mut lane);
        for (suspect, last) in [(&b"b1"[..], &b"b"[..]), (b"c1", b"c")] {
            lane.suspect(vec![suspect.to_vec()], now);
            passed(&mut lane, last);
            assert_eq!(place(&mut lane), before, "b1 is not examined yet");
        }
        lane.cleared(&[b"b1".to_vec()], now);
        assert_eq!(place(&mut lane), before, "c1 is not examined yet");
        lane.round.as_mut().unwrap().open = 2;
        assert_eq!(serde_json::from_str::<Round>(&lane.row().place).unwrap().open, 2);
        lane.cleared(&[b"c1".to_vec()], now);
        assert_eq!(place(&mut lane), lane.round.as_ref().unwrap().place);
    }

    #[test]
    fn suspects_are_gathered_for_a_while_and_the_round_is_not_over_before_they_are_examined() {
        let (mut lane, now) = (lane(None), Instant::now());
        assert_eq!(lane.next(now), Next::Rest);
        lane.begin(true, 500, 9000);
        lane.suspect(vec![b"a".to_vec(), b"b".to_vec()], now);
        assert_eq!(lane.next(now), Next::Keys);
        assert_eq!(lane.next(now + GATHER), Next::Examine);
        lane.round.as_mut().unwrap().place = Place::Over;
        assert_eq!(lane.next(now), Next::Examine);
        lane.cleared(&[b"a".to_vec()], now);
        assert_eq!(lane.some_suspects(), [b"b".to_vec()]);
        lane.cleared(&[b"b".to_vec()], now);
        assert_eq!(lane.next(now), Next::Finish);
        assert!(lane.failed("no", now) && !lane.failed("no", now));
        assert_eq!((lane.next(now), lane.next(now + PAUSES.1)), (Next::Rest, Next::Finish));
        lane.went_well();
        assert_eq!(lane.next(now), Next::Finish);
    }
}
