//! A table's batch under construction, and when to send it. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemark_crds::layout::{COMMITTED_AT_COLUMN, DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;

use crate::dead_letter::DeadLetter;
use crate::native::{BlockColumn, Column, Corrupt, UnsupportedType, encode_block};
use crate::offsets::OffsetRange;
use crate::plan::TablePlan;

/// A row that waits for values which are only in its table.
#[derive(Debug, Clone)]
pub struct Deferred {
    /// Key of the row, in RowBinary.
    pub key: Vec<u8>,
    /// Columns whose value is missing.
    pub unavailable: Vec<usize>,
    /// All values in RowBinary, in column order, defaults where they are missing.
    pub values: Vec<Vec<u8>>,
    /// Version of the row.
    pub version: Version,
    /// Commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: i64,
    /// Place of its record in [`Batch::deferred_records`].
    pub record: usize,
}

/// Rows of one table that are inserted together, and everything that must be done before their offsets
/// count as applied.
#[derive(Debug)]
pub struct Batch {
    plan: Arc<TablePlan>,
    /// The columns of the layout.
    pub columns: Vec<Column>,
    version: Column,
    deleted: Column,
    committed_at: Column,
    versions: Vec<Version>,
    index: Option<HashMap<Vec<u8>, usize>>,
    indexed: usize,
    deferred: Vec<Deferred>,
    fence: Option<Version>,
    /// Records that could not be applied.
    pub dead: Vec<DeadLetter>,
    /// Records of the deferred rows, for the dead letters.
    pub deferred_records: Vec<DeadLetter>,
    /// Offsets that the batch covers, by partition.
    pub offsets: BTreeMap<i32, OffsetRange>,
}

/// A state of a batch to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    rows: usize,
    deferred: usize,
}

impl Batch {
    /// Builds an empty batch for a layout.
    pub fn new(plan: Arc<TablePlan>) -> Result<Self, UnsupportedType> {
        let columns: Result<_, _> =
            plan.layout.columns.iter().map(|column| Column::new(&column.r#type)).collect();
        Ok(Self {
            columns: columns?,
            version: Column::new(&ChType::UInt128)?,
            deleted: Column::new(&ChType::UInt8)?,
            committed_at: Column::new(&ChType::DateTime64 { precision: 3 })?,
            versions: Vec::new(),
            index: None,
            indexed: 0,
            deferred: Vec::new(),
            fence: None,
            dead: Vec::new(),
            deferred_records: Vec::new(),
            offsets: BTreeMap::new(),
            plan,
        })
    }

    /// Returns the layout that the batch was built for.
    pub fn plan(&self) -> &Arc<TablePlan> {
        &self.plan
    }

    /// Number of complete rows.
    pub fn rows(&self) -> usize {
        self.versions.len()
    }

    /// Bytes that the rows take in memory, without spare capacity.
    pub fn bytes(&self) -> usize {
        let values: usize = self.columns.iter().map(Column::bytes).sum();
        let deferred: usize = self.deferred_records.iter().chain(&self.dead).map(DeadLetter::bytes).sum();
        values + deferred + self.rows() * 41
    }

    /// Whether nothing at all was read into it.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Greatest version of a truncate in the batch.
    pub fn fence(&self) -> Option<Version> {
        self.fence
    }

    /// Hides what is older than a truncate.
    pub fn raise_fence(&mut self, version: Version) {
        self.fence = self.fence.max(Some(version));
    }

    /// Remembers the present state.
    pub fn mark(&self) -> Mark {
        Mark { rows: self.rows(), deferred: self.deferred.len() }
    }

    /// Goes back to a state, also out of the middle of a row.
    pub fn roll_back(&mut self, mark: Mark) {
        self.versions.truncate(mark.rows);
        self.deferred.truncate(mark.deferred);
        for column in [&mut self.version, &mut self.deleted, &mut self.committed_at] {
            column.truncate(mark.rows);
        }
        self.roll_back_row();
        if self.indexed > mark.rows {
            self.index = None;
            self.indexed = 0;
        }
    }

    /// Drops the values of a row that was not ended.
    pub fn roll_back_row(&mut self) {
        let rows = self.rows();
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Ends a row whose columns all have a value.
    pub fn end_row(&mut self, version: Version, deleted: bool, committed_at: i64) {
        debug_assert!(self.columns.iter().all(|column| column.len() == self.rows() + 1), "the row is whole");
        self.version.push_fixed(&version.0.to_le_bytes());
        self.deleted.push_fixed(&[u8::from(deleted)]);
        self.committed_at.push_fixed(&committed_at.to_le_bytes());
        self.versions.push(version);
    }

    /// Takes the row that was not ended out of the columns and keeps it until its values are known.
    pub fn defer_row(&mut self, mut deferred: Deferred) {
        let row = self.rows();
        let value = |column: &Column| {
            let mut value = Vec::new();
            column.row_binary(row, &mut value);
            value
        };
        deferred.values = self.columns.iter().map(value).collect();
        self.roll_back_row();
        self.deferred.push(deferred);
    }

    /// Number of rows that wait for values.
    pub fn deferred(&self) -> usize {
        self.deferred.len()
    }

    /// Attaches the record of a row that was just deferred.
    pub fn keep_deferred_record(&mut self, record: DeadLetter) {
        let place = self.deferred_records.len();
        self.deferred_records.push(record);
        if let Some(deferred) = self.deferred.last_mut() {
            deferred.record = place;
        }
    }

    /// Takes the rows that wait for values.
    pub fn take_deferred(&mut self) -> Vec<Deferred> {
        std::mem::take(&mut self.deferred)
    }

    /// Whether a row of this key waits for values.
    pub fn has_deferred(&self, key: &[u8]) -> bool {
        self.deferred.iter().any(|deferred| deferred.key == key)
    }

    /// Appends a deferred row whose values are all known now.
    pub fn append(&mut self, deferred: &Deferred, values: &[Vec<u8>]) -> Result<(), Corrupt> {
        let mark = self.mark();
        for (column, value) in self.columns.iter_mut().zip(values) {
            if let Err(error) = column.push_row_binary(&mut value.as_slice()) {
                self.roll_back(mark);
                return Err(error);
            }
        }
        self.end_row(deferred.version, false, deferred.committed_at);
        Ok(())
    }

    /// Key of a row in RowBinary; the row need not be ended yet.
    pub fn key_of(&self, key: &[usize], row: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for place in key {
            self.columns[*place].row_binary(row, &mut bytes);
        }
        bytes
    }

    /// Returns the row with the greatest version among the complete rows of a key.
    ///
    /// The index is built when a table first needs it: most never do.
    pub fn newest(&mut self, key: &[usize], wanted: &[u8]) -> Option<usize> {
        let mut index = self.index.take().unwrap_or_default();
        for row in self.indexed..self.rows() {
            let place = index.entry(self.key_of(key, row)).or_insert(row);
            if self.versions[row] >= self.versions[*place] {
                *place = row;
            }
        }
        self.indexed = self.rows();
        let found = index.get(wanted).copied();
        self.index = Some(index);
        found
    }

    /// Version of a row, and whether it is a tombstone.
    pub fn version_of(&self, row: usize) -> (Version, bool) {
        let mut deleted = Vec::new();
        self.deleted.row_binary(row, &mut deleted);
        (self.versions[row], deleted == [1])
    }

    /// Commit times of all rows, milliseconds since 1970-01-01.
    pub fn commit_times(&self) -> impl Iterator<Item = i64> + '_ {
        self.committed_at.int64_values()
    }

    /// Encodes some rows as a compressed Native block without the columns that the table does not have; also
    /// returns its size before compression.
    pub fn encode(&self, rows: &Range<usize>, absent: &BTreeSet<String>) -> (Vec<u8>, u64) {
        let layout = self.plan.layout.columns.iter().zip(&self.columns);
        let mut columns: Vec<BlockColumn<'_>> = layout
            .filter(|(layout, _)| !absent.contains(&layout.target))
            .map(|(layout, column)| BlockColumn { name: &layout.target, column })
            .collect();
        columns.push(BlockColumn { name: VERSION_COLUMN, column: &self.version });
        columns.push(BlockColumn { name: DELETED_COLUMN, column: &self.deleted });
        columns.push(BlockColumn { name: COMMITTED_AT_COLUMN, column: &self.committed_at });
        encode_block(&columns, rows)
    }
}

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
            Self::Drain => "drain",
        }
    }
}

/// What decides whether a batch with nothing of its table in flight is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since its first record came.
    pub age: Duration,
    /// Whether reading has waited for a record since then.
    pub caught_up: bool,
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
    } else {
        (moment.age >= wait).then_some(FlushCause::Age)
    }
}

/// Spreads inserts over time: a bucket that fills at the allowed rate and holds a short burst.
#[derive(Debug, Clone)]
pub struct InsertBudget {
    per_second: f64,
    tokens: f64,
}

impl InsertBudget {
    /// Builds the budget of one replica.
    pub fn new(inserts_per_second: u32, replicas: u32) -> Self {
        let per_second = f64::from(inserts_per_second.max(1)) / f64::from(replicas.max(1));
        Self { per_second, tokens: 1.0 }
    }

    /// Adds what has become free since the last call.
    pub fn refill(&mut self, elapsed: Duration) {
        // A burst of a quarter second lets a transaction over several tables out at once; one more keeps the
        // fraction that has gathered beside a whole one.
        let most = (self.per_second / 4.0).max(1.0) + 1.0;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(most);
    }

    /// Takes one insert, if there is one.
    pub fn take(&mut self) -> bool {
        let free = self.tokens >= 1.0;
        if free {
            self.tokens -= 1.0;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { rows: 100, bytes: 1000, linger: Duration::from_millis(20), age: Duration::from_millis(300) };

    #[test]
    fn a_batch_goes_out_when_full_or_after_its_linger_and_later_in_a_backlog() {
        let moment = |ms, caught_up| Moment { age: Duration::from_millis(ms), caught_up, drain: false };
        let after = |rows, bytes, ms| due(&LIMITS, rows, bytes, moment(ms, true));
        assert_eq!(after(1, 10, 5), None);
        assert_eq!(after(1, 10, 20), Some(FlushCause::Age));
        assert_eq!(after(100, 10, 0), Some(FlushCause::Rows));
        assert_eq!(after(1, 1000, 0), Some(FlushCause::Bytes));
        assert_eq!(due(&LIMITS, 1, 1, moment(299, false)), None);
        assert_eq!(due(&LIMITS, 1, 1, moment(300, false)), Some(FlushCause::Age));
        let drain = Moment { drain: true, ..moment(0, false) };
        assert_eq!(due(&LIMITS, 1, 1, drain), Some(FlushCause::Drain));
    }

    #[test]
    fn the_budget_is_shared_by_the_replicas_and_never_piles_up() {
        let mut budget = InsertBudget::new(8, 2);
        budget.refill(Duration::from_hours(1));
        assert!(budget.take() && budget.take() && !budget.take());
        let mut taken = 0;
        for _ in 0..100 {
            budget.refill(Duration::from_millis(100));
            taken += usize::from(budget.take());
        }
        assert!((39..=41).contains(&taken), "{taken} inserts in 10 s at 4 a second");
    }
}
