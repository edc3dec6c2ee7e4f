//! A batch on its way: the steps of the writer, each of which can fail and between which anything can happen.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{Error, ErrorClass};
use tidemark_sink::batch::Batch;
use tidemark_sink::outcome::Work;
use tidemark_sink::overlay::{Overlay, Stored, is_trusted};
use tidemark_sink::plan::TablePlan;
use tidemark_sink::read::barrier::{Barrier, Verdict};
use tidemark_sink::read::copy::RowBuilder;
use tidemark_sink::read::keys::add_missing;
use tidemark_sink::read::relation::{agree, knows_all};
use tidemark_sink::table::Table;

use super::clickhouse::key_of;
use super::mutant::Mutant;
use super::op::Fault;
use super::reader::line;
use super::replica::Around;
use super::source::OID;
use super::stream::TOPIC;

/// What comes next.
#[derive(Debug)]
enum Step {
    Doubt,
    Complete,
    Message,
    Commit(u64),
    Settle { barrier: u64, bound: u64, since: i64 },
    Keys(u64),
    SourceRows(Box<Batch>, Work),
    Fence,
    Rows(Work),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) batch: Batch,
    step: Step,
    keys: Vec<Vec<u8>>,
    plan: Arc<TablePlan>,
}

impl Flight {
    pub(super) fn new(batch: Batch) -> Self {
        let plan = Arc::clone(batch.plan());
        let mut flight = Self { plan, batch, step: Step::Doubt, keys: Vec::new() };
        flight.pass();
        flight
    }

    /// Passes steps in which nothing is to be done.
    fn pass(&mut self) {
        loop {
            self.step = match self.step {
                Step::Doubt if self.batch.doubt.is_none() => Step::Complete,
                Step::Complete if self.batch.deferred().is_empty() => Step::Fence,
                Step::Fence if self.batch.fence().is_none() => Step::Rows(Work::new(self.batch.rows(), 1000)),
                _ => return,
            };
        }
    }

    /// Takes one step; whether it was the last one.
    pub(super) fn go_on(&mut self, table: &Table, id: usize, fault: Fault, around: &mut Around) -> bool {
        let step = std::mem::replace(&mut self.step, Step::Doubt);
        let next = match step {
            Step::Doubt if fault == Fault::Refused => Step::Doubt,
            Step::Doubt => {
                around.say(id, table);
                Step::Complete
            }
            Step::Complete if fault == Fault::Refused => Step::Complete,
            Step::Complete => self.complete(around),
            Step::Message => {
                // The layout may have changed since the last attempt, which is what that one failed for.
                self.plan = Arc::clone(table.history().newest().unwrap_or(self.batch.plan()));
                Step::Commit(around.source.message())
            }
            Step::Commit(barrier) => {
                around.source.commit_message(barrier);
                Step::Settle { barrier, bound: around.source.xmax(), since: around.now_ms }
            }
            Step::Settle { barrier, bound, since } => match around.verdict(bound, since) {
                Verdict::Done => Step::Keys(barrier),
                Verdict::Wait => Step::Settle { barrier, bound, since },
                Verdict::Hangs => Step::Message,
            },
            Step::Keys(barrier) => self.read_keys(barrier, around),
            Step::SourceRows(batch, mut work) => {
                if insert(&batch, &mut work, fault, around) {
                    Step::Fence
                } else {
                    Step::SourceRows(batch, work)
                }
            }
            Step::Fence if fault == Fault::Refused => Step::Fence,
            Step::Fence => {
                if let Some(version) = self.batch.fence().filter(|_| !around.is(Mutant::TruncateIgnored)) {
                    around.clickhouse.raise_fence(version);
                }
                Step::Rows(Work::new(self.batch.rows(), 1000))
            }
            Step::Rows(mut work) => {
                if insert(&self.batch, &mut work, fault, around) {
                    return true;
                }
                Step::Rows(work)
            }
        };
        self.step = next;
        self.pass();
        false
    }

    /// Finds the values that rows lack, in the batch and in the table.
    fn complete(&mut self, around: &Around) -> Step {
        let deferred = self.batch.take_deferred();
        let overlay = Overlay::new(&self.batch, &deferred);
        let (keys, columns) = overlay.wanted();
        let clickhouse = &around.clickhouse;
        let fence = if keys.is_empty() { Version(0) } else { clickhouse.fence };
        let layout = &self.batch.plan().layout;
        let stored = |key: &&[u8]| {
            let image = clickhouse.newest(key)?;
            let version = image.version;
            let value = |place: &usize| (*place, clickhouse.value(image, &layout.columns[*place].stored));
            let row = if image.deleted {
                Stored::Deleted { version }
            } else {
                Stored::Live { version, values: columns.iter().map(value).collect() }
            };
            Some((key.to_vec(), row))
        };
        let found: HashMap<Vec<u8>, Stored> = keys.iter().filter_map(stored).collect();
        let (fence, floor) = (fence.max(self.batch.read), self.batch.floor);
        let resolution = overlay.resolve(&self.batch, &found, |version| is_trusted(version, fence, floor));
        for row in resolution.rows {
            let appended = self.batch.append(&row.values, row.version, row.committed_at, row.place);
            assert!(appended.is_ok(), "the stored values are not of the columns' types");
        }
        self.keys = resolution.at_source;
        if self.keys.is_empty() { Step::Fence } else { Step::Message }
    }

    /// Reads rows by key behind a barrier.
    fn read_keys(&mut self, barrier: u64, around: &Around) -> Step {
        if around.source.is_altered() {
            return Step::Keys(barrier);
        }
        let relation = around.source.relation();
        assert_eq!(relation.oid, OID);
        let fits =
            agree(&self.plan.layout, Some(relation)).and_then(|found| knows_all(&self.plan.layout, &found));
        if fits.is_err() {
            return Step::Message;
        }
        let lsn = if around.is(Mutant::SnapshotVersion) { around.source.lsn } else { barrier };
        let (epoch, barrier) = (self.batch.epoch, Barrier { lsn, at: 5 });
        let mut builder = RowBuilder::new(Arc::clone(&self.plan), epoch, barrier, TOPIC.into(), 1000);
        let mut batch = Batch::new(Arc::clone(&self.plan)).unwrap();
        let wanted: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
        for (key, _, row) in around.source.rows() {
            if wanted.iter().any(|wanted| key_of(wanted) == key)
                && builder.append(&mut batch, &line(&self.plan, &row)).is_err()
            {
                return Step::Message;
            }
        }
        add_missing(&mut batch, &wanted, &BTreeSet::new(), (epoch, barrier)).unwrap();
        let work = Work::new(batch.rows(), 1000);
        Step::SourceRows(Box::new(batch), work)
    }
}

/// Inserts the next piece of a batch; whether nothing is left.
pub(super) fn insert(batch: &Batch, work: &mut Work, fault: Fault, around: &mut Around) -> bool {
    let Some(rows) = work.piece() else { return true };
    let block = around.clickhouse.block(batch, rows);
    let failed = |class| Error::new(class, "no answer");
    match fault {
        Fault::None => {
            around.clickhouse.insert(block);
            work.written();
        }
        Fault::Refused if around.is(Mutant::TimeoutIsDone) => work.written(),
        Fault::Refused => drop(work.failed(&failed(ErrorClass::Transient))),
        Fault::Lost => {
            around.clickhouse.insert(block);
            work.failed(&failed(ErrorClass::InDoubt));
        }
        Fault::Late => {
            around.clickhouse.insert_later(block);
            work.failed(&failed(ErrorClass::InDoubt));
        }
    }
    work.piece().is_none()
}
