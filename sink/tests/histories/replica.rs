//! One process of the sink: its own code for everything that it decides, and what happens to a process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidemark_crds::layout::SourceTable;
use tidemark_crds::sink_config::TableRoute;
use tidemark_sink::assignment::begin;
use tidemark_sink::batch::Doubt;
use tidemark_sink::board::Board;
use tidemark_sink::offsets::{Applied, Offsets};
use tidemark_sink::plan::Encoding;
use tidemark_sink::read::barrier::Verdict;
use tidemark_sink::router::{Router, Step};
use tidemark_sink::table::{Record as _, Table, Taken};

use super::clickhouse::{ClickHouse, TARGET};
use super::flight::Flight;
use super::mutant::Mutant;
use super::op::Fault;
use super::reader::Reader;
use super::source::Source;
use super::stream::{Stream, TOPIC};

/// Everything outside the process.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) source: Source,
    pub(super) stream: Stream,
    pub(super) clickhouse: ClickHouse,
    pub(super) now_ms: i64,
    pub(super) start: Instant,
    pub(super) mutant: Option<Mutant>,
    /// Processes that were started.
    pub(super) processes: usize,
}

impl Around {
    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(u64::try_from(self.now_ms).unwrap())
    }

    /// Whether a read may begin whose barrier was set then, with all transactions of before below `bound`.
    pub(super) fn verdict(&self, bound: u64, since: i64) -> Verdict {
        if self.is(Mutant::NoWait) {
            return Verdict::Done;
        }
        let waited = Duration::from_millis(u64::try_from(self.now_ms - since).unwrap());
        self.source.open_below(bound).verdict(waited)
    }

    /// Writes what a table of a process does.
    pub(super) fn say(&mut self, id: usize, table: &Table) {
        let mut state = table.state();
        if self.is(Mutant::DoubtUnsaid) {
            state.doubt.clear();
        }
        self.clickhouse.states.insert(id, (state, self.now_ms));
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

#[derive(Debug)]
pub(super) struct Replica {
    /// Of the process: the next one of the same place has another.
    pub(super) id: usize,
    pub(super) table: Table,
    router: Router,
    offsets: Offsets,
    recorded: BTreeSet<(usize, i32)>,
    /// Where the consumer reads.
    fetch: BTreeMap<i32, i64>,
    board: Board,
    /// What the board was made of; none before earlier doubts are known.
    heard: Option<u64>,
    pub(super) flight: Option<Flight>,
    pub(super) reader: Reader,
}

impl Replica {
    pub(super) fn start(around: &mut Around) -> Self {
        let source: SourceTable = "public.t".parse().unwrap();
        around.processes += 1;
        Self {
            id: around.processes,
            table: Table::new(
                TableRoute { source, topic: TOPIC.to_owned(), target: TARGET.to_owned() },
                1000,
                None,
            ),
            router: Router::new([TOPIC]),
            offsets: Offsets::default(),
            recorded: BTreeSet::new(),
            fetch: BTreeMap::new(),
            board: Board::default(),
            heard: None,
            flight: None,
            reader: Reader::default(),
        }
    }

    pub(super) fn partitions(&self) -> Vec<i32> {
        self.offsets.all().map(|((_, partition), _)| partition).collect()
    }

    pub(super) fn assign(&mut self, partition: i32) {
        if self.offsets.has((0, partition)) {
            return;
        }
        self.router.assign((0, partition));
        self.offsets.assign((0, partition), None);
    }

    pub(super) fn revoke(&mut self, partition: i32) {
        self.router.revoke((0, partition));
        self.offsets.revoke((0, partition));
        self.recorded.remove(&(0, partition));
        self.table.forget(partition);
        self.go_back();
    }

    /// Finds where a partition begins, or whether records of it are gone.
    fn locate(&mut self, partition: i32, next: Option<i64>, around: &Around) {
        let place = (0, partition);
        let there = &around.stream.partitions[usize::try_from(partition).unwrap()];
        let recorded: Option<Applied> = around.clickhouse.progress.get(&partition).copied();
        let next = next.or(recorded.and_then(|applied| applied.next));
        let (start, gap) = begin(next, there.low, there.end());
        let Some(part) = self.router.get(place) else { return };
        part.begin(start);
        self.fetch.insert(partition, start);
        let again = self.recorded.contains(&place);
        if !again || gap.is_some() {
            let counters = recorded.map(|applied| Applied { next: None, ..applied });
            self.offsets.begin(place, start, again, counters);
        }
        self.recorded.insert(place);
        if let Some(why) = gap.filter(|_| !around.is(Mutant::GapUnseen)) {
            self.table.lost(why, recorded.map_or((0, 0), |applied| applied.at));
        }
    }

    pub(super) fn poll(&mut self, mut records: usize, around: &Around) {
        // What is gone is in doubt behind the reads that there were: those have to be known first.
        if self.heard.is_none() && !around.is(Mutant::ReadsUnknown) {
            return;
        }
        for partition in self.partitions() {
            if self.router.get((0, partition)).is_some_and(|part| !part.located) {
                self.locate(partition, None, around);
            }
            while records > 0 && self.poll_one(partition, around) {
                records -= 1;
            }
        }
    }

    /// Looks again where records are gone that come next.
    fn look_for_gaps(&mut self, around: &Around) {
        for partition in self.partitions() {
            let low = around.stream.partitions[usize::try_from(partition).unwrap()].low;
            if let Some(part) = self.router.get((0, partition)).filter(|part| part.is_cut(low)) {
                let next = part.next;
                part.allowed = Some(low);
                self.locate(partition, Some(next), around);
            }
        }
    }

    /// Takes the next record of a partition; whether there was one.
    fn poll_one(&mut self, partition: i32, around: &Around) -> bool {
        let there = &around.stream.partitions[usize::try_from(partition).unwrap()];
        let from = self.fetch.get(&partition).copied().unwrap_or(0);
        let Some(record) = there.at(from) else { return false };
        let offset = record.place().offset;
        let Some(index) = self.router.find(TOPIC, partition) else { return false };
        let part = self.router.part(index);
        match part.step(offset) {
            Step::Take => match self.table.take(record, around.now()) {
                Taken::Refused => part.refused = Some(offset),
                Taken::Applied | Taken::Held => part.next = offset + 1,
            },
            Step::Skip => {}
            Step::Look => {
                let next = part.next;
                self.router.ask_again(index);
                self.router.part(index).allowed = Some(offset);
                self.locate(partition, Some(next), around);
                return true;
            }
        }
        self.fetch.insert(partition, offset + 1);
        true
    }

    /// Goes back to records that were not taken while their table waited.
    fn go_back(&mut self) {
        if self.table.waits() {
            return;
        }
        for part in self.router.of_table(0) {
            if let Some(offset) = part.refused {
                part.go_back(offset);
                self.fetch.insert(part.partition.1, offset);
            }
        }
    }

    /// Hears what processes before this one said, and then what the operator says.
    pub(super) fn hear(&mut self, around: &Around) {
        self.hear_board(around);
        self.look_for_gaps(around);
    }

    fn hear_board(&mut self, around: &Around) {
        let clickhouse = &around.clickhouse;
        if self.heard.is_none() {
            for (state, _) in clickhouse.states.values().filter(|(state, _)| !state.doubt.is_empty()) {
                self.table.remember(Doubt { why: state.doubt.clone(), at: state.doubt_at });
            }
        }
        self.table.looked();
        if self.heard == Some(clickhouse.stamp) {
            return;
        }
        self.heard = Some(clickhouse.stamp);
        let (epoch, now) = (self.board.epoch, around.now());
        self.board = Board::new(&clickhouse.board_rows(), Encoding::Contract, &self.board);
        if self.board.epoch != epoch {
            self.table.use_epoch(self.board.epoch);
            self.table.resume(now);
        }
        if let Some(read) = self.board.reads.get(TARGET) {
            self.table.hear(read, now);
        }
        if let Some(history) = self.board.histories.get(TARGET)
            && !std::sync::Arc::ptr_eq(history, self.table.history())
        {
            self.table.use_history(std::sync::Arc::clone(history), now);
        }
        self.go_back();
    }

    /// Begins to write what it has.
    pub(super) fn send(&mut self) {
        if self.flight.is_none()
            && let Some((batch, _)) =
                self.table.next_batch(|_, _, _| Some(tidemark_sink::limits::FlushCause::Drain))
        {
            self.flight = Some(Flight::new(batch));
        }
    }

    /// Goes on with what it writes; behind the last step it counts as applied.
    pub(super) fn go_on(&mut self, fault: Fault, around: &mut Around) {
        let Some(mut flight) = self.flight.take() else { return };
        if !flight.go_on(&self.table, self.id, fault, around) {
            self.flight = Some(flight);
            return;
        }
        for (partition, range) in flight.batch.offsets() {
            self.offsets.apply((0, *partition), range);
        }
        self.table.give_back(flight.batch);
        self.go_back();
    }

    /// Writes states and progress.
    pub(super) fn report(&mut self, fault: Fault, around: &mut Around) {
        if fault == Fault::Refused {
            return;
        }
        around.say(self.id, &self.table);
        if fault == Fault::Late {
            return;
        }
        let received = around.is(Mutant::ProgressFirst);
        for (place, applied) in self.offsets.all() {
            if !self.recorded.contains(&place) || applied.next.is_none() {
                continue;
            }
            let next = if received { self.router.get(place).map(|part| part.next) } else { applied.next };
            around.clickhouse.progress.insert(place.1, Applied { next, ..applied });
        }
    }

    /// Whether it has nothing to do, and has applied all that there is.
    pub(super) fn is_at_rest(&self, around: &Around) -> bool {
        let applied = self.offsets.all().all(|((_, partition), applied)| {
            let there = &around.stream.partitions[usize::try_from(partition).unwrap()];
            applied.next.is_some_and(|next| next >= there.end())
        });
        applied
            && self.flight.is_none()
            && !self.table.has_batch()
            && !self.table.waits()
            && self.table.doubt().is_none()
    }
}
