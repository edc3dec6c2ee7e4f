//! A table's batch under construction. Pure.

use std::ops::Range;
use std::sync::Arc;

use tidemark_crds::history::Position;
use tidemark_crds::layout::{COMMITTED_AT_COLUMN, DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;

use crate::dead_letter::DeadLetter;
use crate::native::{BlockColumn, Column, Corrupt, UnsupportedType, encode_block};
use crate::offsets::OffsetRange;
use crate::plan::TablePlan;

/// Where a record is; rows that were read at the source come from none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Partition of the table's topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
}

/// A row that lacks values which are only in its table, or only at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// Key of the row, in RowBinary.
    pub key: Vec<u8>,
    /// Columns whose value is missing.
    pub lacking: Vec<usize>,
    /// Whether one of them is never in an event.
    pub unstreamed: bool,
    /// Key that the row had before, where the change moved it.
    pub old_key: Option<Vec<u8>>,
    /// All values in RowBinary, in column order, defaults where they are missing.
    pub values: Vec<Vec<u8>>,
    /// Version of the row.
    pub version: Version,
    /// Commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: i64,
    /// Where its record is.
    pub place: Place,
}

impl Place {
    /// That of a row which was read at the source behind a barrier.
    pub fn source(barrier: u64) -> Self {
        Self { partition: -1, offset: i64::try_from(barrier).unwrap_or(i64::MAX) }
    }
}

impl Deferred {
    fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(|value| 24 + value.capacity()).sum();
        128 + self.key.len() + 8 * self.lacking.len() + values
    }
}

/// Why a table has to be read again, and up to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// For people.
    pub why: String,
    /// A read with a later barrier ends it.
    pub at: Position,
}

impl Doubt {
    /// Adds another one: the first reason stays, the later position counts.
    pub fn join(into: &mut Option<Self>, other: Self) {
        match into {
            Some(doubt) => doubt.at = doubt.at.max(other.at),
            None => *into = Some(other),
        }
    }
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
    rows: usize,
    /// Where records of rows are: a row and the place of its record, wherever it does not follow from the one before.
    places: Vec<(usize, Place)>,
    deferred: Vec<Deferred>,
    deferred_bytes: usize,
    fence: Option<Version>,
    /// Records that could not be applied.
    pub dead: Vec<DeadLetter>,
    dead_bytes: usize,
    /// What was passed over.
    pub doubt: Option<Doubt>,
    /// Values that are not as they came, by column.
    changed: Vec<u64>,
    offsets: Vec<(i32, OffsetRange)>,
    last: usize,
    /// Greatest epoch of its records.
    pub epoch: u16,
    /// Rows up to this position are not taken for the values that an event lacks.
    pub floor: Position,
    /// Nor are rows below this version: changes between them and the read that has it were passed over.
    pub read: Version,
}

/// A state of a batch to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    rows: usize,
    places: usize,
}

impl Batch {
    /// Builds an empty batch for a layout.
    pub fn new(plan: Arc<TablePlan>) -> Result<Self, UnsupportedType> {
        let columns: Result<Vec<_>, _> =
            plan.layout.columns.iter().map(|column| Column::new(&column.r#type)).collect();
        let columns = columns?;
        Ok(Self {
            changed: vec![0; columns.len()],
            columns,
            version: Column::new(&ChType::UInt128)?,
            deleted: Column::new(&ChType::UInt8)?,
            committed_at: Column::new(&ChType::DateTime64 { precision: 3 })?,
            rows: 0,
            places: Vec::new(),
            deferred: Vec::new(),
            deferred_bytes: 0,
            fence: None,
            dead: Vec::new(),
            dead_bytes: 0,
            doubt: None,
            offsets: Vec::new(),
            last: 0,
            epoch: 0,
            floor: (0, 0),
            read: Version(0),
            plan,
        })
    }

    /// Drops everything and keeps the room that it took.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        for column in [&mut self.version, &mut self.deleted, &mut self.committed_at] {
            column.clear();
        }
        self.rows = 0;
        self.places.clear();
        self.deferred.clear();
        self.deferred_bytes = 0;
        self.fence = None;
        self.dead.clear();
        self.dead_bytes = 0;
        self.doubt = None;
        self.changed.fill(0);
        self.offsets.clear();
        self.last = 0;
        self.epoch = 0;
        self.floor = (0, 0);
        self.read = Version(0);
    }

    /// Returns the layout that the batch was built for.
    pub fn plan(&self) -> &Arc<TablePlan> {
        &self.plan
    }

    /// Number of complete rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the rows and records in it.
    pub fn bytes(&self) -> usize {
        let values: usize = self.columns.iter().map(Column::bytes).sum();
        values + self.deferred_bytes + self.dead_bytes + self.rows * 25
    }

    /// Whether nothing at all was read into it.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.rows == 0
    }

    /// Greatest version of a truncate in the batch.
    pub fn fence(&self) -> Option<Version> {
        self.fence
    }

    /// Hides what is older than a truncate.
    pub fn raise_fence(&mut self, version: Version) {
        self.fence = self.fence.max(Some(version));
    }

    /// Counts a value that is not as it came.
    pub fn count_changed(&mut self, column: usize) {
        self.changed[column] += 1;
    }

    /// Values that are not as they came, by place of their column.
    pub fn changed(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.changed.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Keeps a record for the dead letters.
    pub fn bury(&mut self, letter: DeadLetter) {
        self.dead_bytes += letter.bytes();
        self.dead.push(letter);
    }

    /// What the batch covers of a partition.
    #[inline]
    pub fn range(&mut self, partition: i32) -> &mut OffsetRange {
        if self.offsets.get(self.last).is_none_or(|(last, _)| *last != partition) {
            self.last = self.offsets.iter().position(|(known, _)| *known == partition).unwrap_or_else(|| {
                self.offsets.push((partition, OffsetRange::default()));
                self.offsets.len() - 1
            });
        }
        &mut self.offsets[self.last].1
    }

    /// Offsets that the batch covers, by partition.
    pub fn offsets(&self) -> &[(i32, OffsetRange)] {
        &self.offsets
    }

    /// Greatest position of its records.
    pub fn reach(&self) -> Position {
        self.offsets.iter().map(|(_, range)| (range.epoch, range.lsn)).max().unwrap_or_default()
    }

    /// Remembers the present state.
    pub fn mark(&self) -> Mark {
        Mark { rows: self.rows, places: self.places.len() }
    }

    /// Goes back to a state, also out of the middle of a row.
    pub fn roll_back(&mut self, mark: Mark) {
        self.rows = mark.rows;
        self.places.truncate(mark.places);
        for column in [&mut self.version, &mut self.deleted, &mut self.committed_at] {
            column.truncate(mark.rows);
        }
        self.roll_back_row();
    }

    /// Drops the values of a row that was not ended.
    pub fn roll_back_row(&mut self) {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Ends a row whose columns all have a value.
    #[inline]
    pub fn end_row(&mut self, version: Version, deleted: bool, committed_at: i64, place: Place) {
        debug_assert!(self.columns.iter().all(|column| column.len() == self.rows + 1), "the row is whole");
        self.version.push_fixed(&version.0.to_le_bytes());
        self.deleted.push_fixed(&[u8::from(deleted)]);
        self.committed_at.push_fixed(&committed_at.to_le_bytes());
        if self.place_after(self.rows) != Some(place) {
            self.places.push((self.rows, place));
        }
        self.rows += 1;
    }

    /// Takes the row that was not ended out of the columns and keeps it until its values are known.
    pub fn defer_row(&mut self, mut deferred: Deferred) {
        let row = self.rows;
        let value = |column: &Column| {
            let mut value = Vec::new();
            column.row_binary(row, &mut value);
            value
        };
        deferred.values = self.columns.iter().map(value).collect();
        self.columns.iter_mut().for_each(|column| column.truncate(row));
        self.deferred_bytes += deferred.bytes();
        self.deferred.push(deferred);
    }

    /// Rows that wait for values, in the order in which they came.
    pub fn deferred(&self) -> &[Deferred] {
        &self.deferred
    }

    /// Takes the rows that wait for values.
    pub fn take_deferred(&mut self) -> Vec<Deferred> {
        self.deferred_bytes = 0;
        std::mem::take(&mut self.deferred)
    }

    /// Appends a row whose values are all known.
    pub fn append(
        &mut self,
        values: &[Vec<u8>],
        version: Version,
        committed_at: i64,
        place: Place,
    ) -> Result<(), Corrupt> {
        let mark = self.mark();
        for (column, value) in self.columns.iter_mut().zip(values) {
            if let Err(error) = column.push_row_binary(&mut value.as_slice()) {
                self.roll_back(mark);
                return Err(error);
            }
        }
        self.end_row(version, false, committed_at, place);
        Ok(())
    }

    /// Key of a row in RowBinary; the row need not be ended yet.
    pub fn key_of(&self, key: &[usize], row: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_key(key, row, &mut bytes);
        bytes
    }

    /// Writes the key of a row in RowBinary to `out`.
    pub fn write_key(&self, key: &[usize], row: usize, out: &mut Vec<u8>) {
        for place in key {
            self.columns[*place].row_binary(row, out);
        }
    }

    /// Values of a row in RowBinary, in column order.
    pub fn values_of(&self, row: usize) -> Vec<Vec<u8>> {
        let value = |column: &Column| {
            let mut value = Vec::new();
            column.row_binary(row, &mut value);
            value
        };
        self.columns.iter().map(value).collect()
    }

    /// Version of a row, and whether it is a tombstone.
    pub fn version_of(&self, row: usize) -> (Version, bool) {
        let version =
            self.version.fixed(row).first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes));
        (Version(version), self.deleted.fixed(row) == [1])
    }

    /// Where the record of a row is.
    pub fn place_of(&self, row: usize) -> Option<Place> {
        let run = self.places.partition_point(|(first, _)| *first <= row).checked_sub(1)?;
        let (first, place) = self.places[run];
        Some(Place { offset: place.offset + i64::try_from(row - first).unwrap_or(0), ..place })
    }

    /// Where the record of a row is if it follows on that of the row before it.
    fn place_after(&self, row: usize) -> Option<Place> {
        let (first, place) = *self.places.last()?;
        Some(Place { offset: place.offset + i64::try_from(row - first).unwrap_or(0), ..place })
    }

    /// Commit times of all rows, milliseconds since 1970-01-01.
    pub fn commit_times(&self) -> impl Iterator<Item = i64> + '_ {
        self.committed_at.int64_values()
    }

    /// Encodes some rows as a compressed Native block; also returns its size before compression.
    pub fn encode(&self, rows: &Range<usize>) -> (Vec<u8>, u64) {
        let layout = self.plan.layout.columns.iter().zip(&self.columns);
        let mut columns: Vec<BlockColumn<'_>> =
            layout.map(|(layout, column)| BlockColumn { name: &layout.stored, column }).collect();
        columns.push(BlockColumn { name: VERSION_COLUMN, column: &self.version });
        columns.push(BlockColumn { name: DELETED_COLUMN, column: &self.deleted });
        columns.push(BlockColumn { name: COMMITTED_AT_COLUMN, column: &self.committed_at });
        encode_block(&columns, rows)
    }
}
