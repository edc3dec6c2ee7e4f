//! Reads of the table by one process: claims, barrier, wait, ranges, fence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::version::Version;
use tidemark_sink::batch::Batch;
use tidemark_sink::outcome::Work;
use tidemark_sink::plan::{Encoding, TablePlan};
use tidemark_sink::read::ReadError;
use tidemark_sink::read::barrier::{Barrier, Verdict};
use tidemark_sink::read::claim::{Decision, Open, Own, PAUSES, ReadState, Seen, decide};
use tidemark_sink::read::copy::RowBuilder;
use tidemark_sink::read::ranges::{Part, Place, Rest, Span, spans};
use tidemark_sink::read::relation::{agree, are_moved, knows_all};

use super::clickhouse::{Read, TARGET};
use super::flight::insert;
use super::mutant::Mutant;
use super::op::Fault;
use super::replica::Around;
use super::source::{PAGES, Row};
use super::stream::TOPIC;

const LEASE: Duration = Duration::from_secs(15);
const PLACE: &str = "pg:5432/shop";

/// What comes next.
#[derive(Debug)]
enum Step {
    /// Another one, or the process of before, has left it in the middle.
    GoOn,
    Look,
    Message,
    Commit(u64),
    Settle {
        bound: u64,
        since: i64,
    },
    Plan,
    Ranges,
    /// How it ended, until that is written.
    Ended {
        well: bool,
    },
}

/// A read that runs here.
#[derive(Debug)]
struct Active {
    id: u64,
    epoch: u16,
    layout: u64,
    beat: u64,
    plan: Arc<TablePlan>,
    barrier: u64,
    step: Step,
    /// Files in which the rows lay when the table was parted.
    files: BTreeMap<u32, u32>,
    rest: Rest,
    /// Rows of a range, and how many inserts have to bring them: what was read before a connection broke may come, too.
    inserts: Vec<(Batch, Work, Option<Span>)>,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    active: Option<Active>,
    /// Request and layout that failed, and until when it is left alone.
    failure: Option<(u64, u64, i64)>,
}

fn name(id: usize) -> String {
    format!("r{id}")
}

impl Reader {
    pub(super) fn is_busy(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !matches!(active.step, Step::Ended { .. }))
    }

    /// Looks at the request: takes it, says how far it is, or leaves it.
    pub(super) fn look(&mut self, id: usize, around: &mut Around) {
        let clickhouse = &around.clickhouse;
        let Some((request, asked)) = clickhouse.request.clone() else {
            self.active = None;
            return;
        };
        let seen = clickhouse.read.as_ref().map(|read| Seen {
            id: read.request,
            state: read.state,
            barrier: (read.epoch, read.barrier),
            owner: name(read.owner),
            beat: read.beat,
            age_ms: around.now_ms - read.at_ms,
            place: read.place.clone(),
        });
        let open = Open {
            table: TARGET.to_owned(),
            id: request,
            request: asked,
            epoch: clickhouse.epoch,
            layout: clickhouse.layouts.last().map_or(0, |layout| layout.version),
            now_ms: around.now_ms,
            seen,
        };
        self.active.take_if(|active| active.id != open.id || active.epoch != open.epoch);
        let pausing = self.failure.is_some_and(|(id, layout, until)| {
            id == open.id && layout >= open.layout && around.now_ms < until
        });
        let own = Own { active: self.active.is_some(), pausing };
        match decide(&open, (&name(id), PLACE), LEASE, own) {
            Decision::Leave => self.active = None,
            Decision::Read if own.active => self.tell(id, &open, around),
            Decision::Read => self.begin(id, &open, around),
        }
    }

    fn begin(&mut self, id: usize, open: &Open, around: &mut Around) {
        let Some(layout) = around.clickhouse.layouts.last().cloned() else { return };
        let plan = Arc::new(TablePlan::new(Arc::new(layout), Encoding::Contract).unwrap());
        let active = Active {
            id: open.id,
            epoch: open.request.epoch,
            layout: open.layout,
            beat: open.seen.as_ref().map_or(0, |seen| seen.beat),
            plan,
            barrier: open.barrier_before(),
            step: Step::Look,
            files: BTreeMap::new(),
            rest: Rest::default(),
            inserts: Vec::new(),
        };
        let active = match open.left_at() {
            Some(place) => Active { step: Step::GoOn, rest: Rest::of(&place), files: place.files, ..active },
            None => active,
        };
        active.answer(id, ReadState::Reading, around);
        self.active = Some(active);
    }

    fn tell(&mut self, id: usize, open: &Open, around: &mut Around) {
        let Some(mut active) = self.active.take() else { return };
        active.beat = open.seen.as_ref().map_or(active.beat, |seen| seen.beat);
        match active.step {
            Step::Ended { well: true } => active.answer(id, ReadState::Read, around),
            Step::Ended { well: false } => {
                let pause = i64::try_from(PAUSES.0.as_millis()).unwrap();
                self.failure = Some((active.id, active.layout, around.now_ms + pause));
                active.answer(id, ReadState::Failed, around);
            }
            _ => {
                active.answer(id, ReadState::Reading, around);
                self.active = Some(active);
            }
        }
    }

    /// A barrier is one statement.
    pub(super) fn end_barrier(&mut self, around: &mut Around) {
        if let Some(active) = self.active.as_mut().filter(|active| matches!(active.step, Step::Commit(_))) {
            active.go_on(0, Fault::None, around);
        }
    }

    /// Goes on with the read.
    pub(super) fn go_on(&mut self, pick: u8, fault: Fault, around: &mut Around) {
        if let Some(active) = &mut self.active {
            active.go_on(usize::from(pick), fault, around);
        }
    }
}

impl Active {
    fn answer(&self, owner: usize, state: ReadState, around: &mut Around) {
        let beat = u64::try_from(around.now_ms).unwrap().max(self.beat + 1);
        around.clickhouse.answer(Read {
            request: self.id,
            epoch: self.epoch,
            state,
            barrier: self.barrier,
            owner,
            beat,
            at_ms: around.now_ms,
            place: if state == ReadState::Reading { self.place() } else { String::new() },
        });
    }

    fn place(&self) -> String {
        let parted = matches!(self.step, Step::Ranges | Step::GoOn);
        let place = || Place {
            server: "s".to_owned(),
            layout: self.layout,
            at: 5,
            files: self.files.clone(),
            estimated: 0,
            rows: 0,
            open: self.rest.open(),
        };
        if parted { place().text() } else { String::new() }
    }

    fn go_on(&mut self, pick: usize, fault: Fault, around: &mut Around) {
        let locked = around.source.is_altered();
        let fits = || agree(&self.plan.layout, Some(around.source.relation())).is_ok();
        let step = std::mem::replace(&mut self.step, Step::Ended { well: false });
        self.step = match step {
            // Another session has the table's lock.
            Step::Look | Step::Plan | Step::GoOn if locked => step,
            Step::Look | Step::Plan | Step::GoOn if !fits() => Step::Ended { well: false },
            Step::GoOn if self.is_moved(around) => Step::Look,
            Step::GoOn => Step::Ranges,
            Step::Look => Step::Message,
            Step::Message => Step::Commit(around.source.message()),
            Step::Commit(barrier) => {
                around.source.commit_message(barrier);
                self.barrier = barrier;
                Step::Settle { bound: around.source.xmax(), since: around.now_ms }
            }
            Step::Settle { bound, since } => match around.verdict(bound, since) {
                Verdict::Done => Step::Plan,
                Verdict::Wait => step,
                Verdict::Hangs => Step::Ended { well: false },
            },
            Step::Plan
                if knows_all(&self.plan.layout, &around.source.relation()).is_err()
                    && !around.is(Mutant::ColumnUnseen) =>
            {
                Step::Ended { well: false }
            }
            Step::Plan => {
                let table: SourceTable = "public.t".parse().unwrap();
                self.rest = Rest::new(spans(&table, false, &[part()], None));
                self.files = around.source.files();
                Step::Ranges
            }
            Step::Ranges => self.ranges(pick, fault, around),
            Step::Ended { .. } => step,
        };
    }

    fn is_moved(&self, around: &Around) -> bool {
        are_moved(&self.files, &around.source.files()) && !around.is(Mutant::MovedUnseen)
    }

    /// Reads a range, inserts one that was read, or ends.
    fn ranges(&mut self, pick: usize, fault: Fault, around: &mut Around) -> Step {
        if !self.inserts.is_empty() && (self.rest.waiting() == 0 || pick.is_multiple_of(2)) {
            let place = pick / 2 % self.inserts.len();
            let (batch, work, _) = &mut self.inserts[place];
            if insert(batch, work, fault, around)
                && let (.., Some(span)) = self.inserts.remove(place)
            {
                self.rest.done(&span);
            }
            return Step::Ranges;
        }
        if self.rest.waiting() == 0 {
            if fault == Fault::Refused {
                return Step::Ranges;
            }
            if !around.is(Mutant::GhostsStay) {
                around.clickhouse.raise_fence(Version::of_read(self.epoch, self.barrier));
            }
            return Step::Ended { well: true };
        }
        if around.source.is_altered() {
            return Step::Ranges;
        }
        if agree(&self.plan.layout, Some(around.source.relation())).is_err() || self.is_moved(around) {
            return Step::Ended { well: false };
        }
        let Some(span) = self.rest.take_at(pick / 2 % self.rest.waiting()) else { return Step::Ranges };
        // It takes too long.
        if fault == Fault::Refused && self.rest.halve(&span) {
            return Step::Ranges;
        }
        // A value has no place in its column: the layout is not the table's.
        let Ok(batch) = self.read(&span, around) else { return Step::Ended { well: false } };
        let rows = batch.rows();
        // Its connection breaks, and it is read again: what was read of it may be inserted.
        let whole = (fault != Fault::Lost).then(|| span.clone());
        if whole.is_none() {
            self.rest.put_back(span.clone());
        }
        if rows > 0 {
            self.inserts.push((batch, Work::new(rows, 1000), whole));
        }
        if fault != Fault::Lost && (rows == 0 || around.is(Mutant::RangeFirst)) {
            self.rest.done(&span);
        }
        Step::Ranges
    }

    fn read(&self, span: &Span, around: &Around) -> Result<Batch, ReadError> {
        let lsn = if around.is(Mutant::SnapshotVersion) { around.source.lsn } else { self.barrier };
        let barrier = Barrier { lsn, at: 5 };
        let mut builder = RowBuilder::new(Arc::clone(&self.plan), self.epoch, barrier, TOPIC.into(), 1000);
        let mut batch = Batch::new(Arc::clone(&self.plan)).unwrap();
        for (_, page, row) in around.source.rows() {
            if span.covers(page) {
                builder.append(&mut batch, &line(&self.plan, &row))?;
            }
        }
        Ok(batch)
    }
}

/// The table on disk: large enough for some ranges.
fn part() -> Part {
    Part {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        heap: true,
        readable: true,
        rows: 4,
        pages: PAGES,
        bytes: PAGES << 22,
    }
}

/// A row as COPY prints it.
pub(super) fn line(plan: &TablePlan, row: &Row) -> Vec<u8> {
    let value = |attnum: i16| row.get(&attnum).cloned().flatten().unwrap_or_else(|| "\\N".to_owned());
    let values: Vec<String> = plan.layout.columns.iter().map(|column| value(column.attnum)).collect();
    values.join("\t").into_bytes()
}
