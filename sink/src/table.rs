//! One table on its way from records to batches: layout, batch under construction, records on hold. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tidemark_crds::layout::TableLayout;
use tidemark_crds::sink_config::TableRoute;

use crate::batch::{Batch, FlushCause};
use crate::dead_letter::{DeadLetter, ShareLimit};
use crate::decode::envelope::{self, SchemaMemo};
use crate::plan::{Encoding, PlanError, TablePlan};
use crate::row::{RowError, RowWriter};

/// A record of Kafka, as the decoder sees it.
pub trait Record {
    /// Partition that it is from.
    fn partition(&self) -> i32;
    /// Its offset there.
    fn offset(&self) -> i64;
    /// Its value; absent for a tombstone.
    fn payload(&self) -> Option<&[u8]>;
    /// Epoch from its header, 1 where there is none.
    fn epoch(&self) -> u16;
    /// A copy of everything, for the dead letters or to be kept.
    fn to_letter(&self) -> DeadLetter;
}

impl Record for DeadLetter {
    fn partition(&self) -> i32 {
        self.partition
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    fn epoch(&self) -> u16 {
        let epoch = self.headers.iter().find(|(name, _)| name == tidemark_crds::ledger::EPOCH_HEADER);
        epoch.and_then(|(_, value)| epoch_of(value.as_deref()?)).unwrap_or(1)
    }

    fn to_letter(&self) -> DeadLetter {
        self.clone()
    }
}

/// Reads the value of the epoch header.
pub fn epoch_of(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// What a table waits for, in a word to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Field that the layout does not know or whose column does not fit.
    pub field: String,
    /// What does not fit.
    pub why: &'static str,
}

/// A table that is read.
#[derive(Debug)]
pub struct Table {
    /// Where it comes from and goes to.
    pub route: TableRoute,
    writer: Option<RowWriter>,
    memo: SchemaMemo,
    batch: Option<Batch>,
    /// When the first record of the batch under construction came.
    first: Option<Instant>,
    sealed: VecDeque<Batch>,
    held: VecDeque<DeadLetter>,
    wanted: Option<Wanted>,
    share: ShareLimit,
}

impl Table {
    /// Starts without a layout: everything is held until there is one.
    pub fn new(route: TableRoute, max_share_per_mille: u32) -> Self {
        Self {
            route,
            writer: None,
            memo: SchemaMemo::default(),
            batch: None,
            first: None,
            sealed: VecDeque::new(),
            held: VecDeque::new(),
            wanted: None,
            share: ShareLimit::new(max_share_per_mille),
        }
    }

    /// Version of the layout in use, 0 where there is none.
    pub fn layout_version(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.plan().layout.version)
    }

    /// Whether records are kept back because the layout is missing or too old.
    pub fn waits(&self) -> bool {
        self.writer.is_none() || self.wanted.is_some()
    }

    /// Whether so many records die that it is better to stop.
    pub fn stopped(&self) -> bool {
        self.share.exceeded()
    }

    /// When the oldest record that is not sent yet came.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.first
    }

    /// Rows and bytes of the batch under construction.
    pub fn filling(&self) -> (usize, usize) {
        self.batch.as_ref().map_or((0, 0), |batch| (batch.rows() + batch.deferred(), batch.bytes()))
    }

    /// Bytes of everything that is not sent yet.
    pub fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(Batch::bytes).sum();
        let held: usize = self.held.iter().map(DeadLetter::bytes).sum();
        self.filling().1 + sealed + held
    }

    /// Takes one record; returns what is newly waited for.
    pub fn take(&mut self, record: &impl Record, now: Instant) -> Option<Wanted> {
        if self.waits() || !self.held.is_empty() {
            self.held.push_back(record.to_letter());
            return None;
        }
        self.first.get_or_insert(now);
        if let Err(wanted) = self.apply(record) {
            self.held.push_back(record.to_letter());
            self.wanted = Some(wanted.clone());
            return Some(wanted);
        }
        None
    }

    /// Uses another layout: what was read under the old one is sealed, then what was held is taken.
    pub fn use_layout(
        &mut self,
        layout: TableLayout,
        encoding: Encoding,
        now: Instant,
    ) -> Result<Option<Wanted>, PlanError> {
        let plan = Arc::new(TablePlan::new(Arc::new(layout), encoding)?);
        if let Some(batch) = self.batch.take().filter(|batch| !batch.is_empty()) {
            self.sealed.push_back(batch);
        }
        self.share = self.share.restarted();
        self.writer = Some(RowWriter::new(plan));
        self.wanted = None;
        Ok(self.retry_held(now))
    }

    /// Treats what does not fit the column of this field by the column's policy from now on.
    pub fn settle(&mut self, field: &str, now: Instant) -> Option<Wanted> {
        if self.wanted.as_ref().is_none_or(|wanted| wanted.field != field) {
            return None;
        }
        if let Some(writer) = &mut self.writer {
            writer.settle(field);
        }
        self.wanted = None;
        self.retry_held(now)
    }

    /// Forgets what was read of a partition and not sent; its new owner reads it again.
    pub fn forget(&mut self, partition: i32) {
        self.held.retain(|record| record.partition != partition);
    }

    /// Returns the next batch to send: a sealed one, or the one under construction if it is `due`.
    pub fn next_batch(
        &mut self,
        due: impl FnOnce(usize, usize, Instant) -> Option<FlushCause>,
    ) -> Option<(Batch, FlushCause)> {
        if let Some(batch) = self.sealed.pop_front() {
            return Some((batch, FlushCause::Drain));
        }
        let (rows, bytes) = self.filling();
        let cause = due(rows, bytes, self.first?)?;
        let batch = self.batch.take()?;
        self.first = None;
        Some((batch, cause))
    }

    /// Whether [`next_batch`](Self::next_batch) would return one.
    pub fn is_due(&self, due: impl FnOnce(usize, usize, Instant) -> Option<FlushCause>) -> bool {
        let (rows, bytes) = self.filling();
        !self.sealed.is_empty() || self.first.is_some_and(|first| due(rows, bytes, first).is_some())
    }

    /// Whether the layout has a column for this field.
    pub fn knows(&self, field: &str) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.plan().slot(field.as_bytes()).is_some())
    }

    /// Whether a batch could be sent at all.
    pub fn has_batch(&self) -> bool {
        !self.sealed.is_empty() || self.batch.as_ref().is_some_and(|batch| !batch.is_empty())
    }

    fn retry_held(&mut self, now: Instant) -> Option<Wanted> {
        while let Some(record) = self.held.pop_front() {
            self.first.get_or_insert(now);
            if let Err(wanted) = self.apply(&record) {
                self.held.push_front(record);
                self.wanted = Some(wanted.clone());
                return Some(wanted);
            }
        }
        None
    }

    fn apply(&mut self, record: &impl Record) -> Result<(), Wanted> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let batch = match &mut self.batch {
            Some(batch) => batch,
            empty => match Batch::new(Arc::clone(writer.plan())) {
                Ok(batch) => empty.insert(batch),
                // The plan was compiled from the same types.
                Err(_) => return Ok(()),
            },
        };
        let before = batch.rows() + batch.deferred();
        let (mut lsn, mut committed_at) = (0, None);
        let mut dead = None;
        if let Some(payload) = record.payload() {
            match envelope::parse(payload, record.epoch(), &mut self.memo) {
                Ok(Some(change)) => {
                    lsn = change.lsn;
                    committed_at = Some(change.committed_at);
                    let deferred = batch.deferred();
                    match writer.apply(batch, &change) {
                        Ok(()) if batch.deferred() > deferred => {
                            batch.keep_deferred_record(record.to_letter());
                        }
                        Ok(()) => {}
                        Err(RowError::NeedsLayout { field, why }) => return Err(Wanted { field, why }),
                        Err(RowError::Dead(error)) => dead = Some(error),
                    }
                }
                Ok(None) => {}
                Err(error) => dead = Some(error.to_string()),
            }
        }
        self.share.count(dead.is_some());
        let rows = batch.rows() + batch.deferred() - before;
        let range = batch.offsets.entry(record.partition()).or_default();
        range.cover(record.offset(), record.epoch(), lsn, committed_at);
        range.rows += rows as u64;
        if let Some(error) = dead {
            batch.dead.push(DeadLetter { error, ..record.to_letter() });
        }
        Ok(())
    }
}
