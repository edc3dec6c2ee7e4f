//! From a change to rows of a batch: images, tombstones, moves, and values that the event lacks. Pure.

use std::sync::Arc;

use tidemark_crds::layout::{OutOfRange, TableLayout};

use crate::batch::{Batch, Deferred};
use crate::decode::connect_schema::{ConnectSchema, Hint};
use crate::decode::envelope::{Change, Op};
use crate::decode::json::{Cursor, JsonError, Raw};
use crate::plan::{Slot, TablePlan};
use crate::value::{self, ValueError};

/// Why a change is not in the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The layout does not know a field, or its column no longer fits the source: the operator is asked for
    /// a newer one.
    #[error("field {field}: {why}")]
    NeedsLayout {
        /// Field of the event.
        field: String,
        /// What does not fit.
        why: &'static str,
    },
    /// The record can never be applied.
    #[error("{0}")]
    Dead(String),
}

impl From<JsonError> for RowError {
    fn from(error: JsonError) -> Self {
        Self::Dead(error.to_string())
    }
}

/// Room that is reused from row to row, and what is remembered of the last one.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    values: Vec<Option<Raw<'a>>>,
}

/// The order of fields in the events of a table, learned from event to event: Debezium keeps it.
#[derive(Debug, Default)]
pub struct FieldOrder {
    expected: Vec<(Vec<u8>, Slot)>,
}

impl FieldOrder {
    /// Expects the fields in the order of the layout.
    pub fn new(layout: &TableLayout) -> Self {
        let expect = |(place, column): (usize, &tidemark_crds::layout::ColumnLayout)| {
            (quoted(column.source.as_bytes()), Slot::Column(place))
        };
        Self { expected: layout.columns.iter().enumerate().map(expect).collect() }
    }

    /// Notes where each value of a row object is; the error names a field that the layout does not know.
    fn scan<'a>(
        &mut self,
        plan: &TablePlan,
        object: &'a [u8],
        values: &mut Vec<Option<Raw<'a>>>,
    ) -> Result<(), RowError> {
        values.clear();
        values.resize(plan.columns.len(), None);
        let mut cursor = Cursor::new(object);
        cursor.expect(b'{', "expected a row")?;
        let (mut first, mut place) = (true, 0);
        while cursor.next_item(&mut first, b'}')? {
            cursor.peek();
            let slot = match self.expected.get(place) {
                Some((key, slot)) if cursor.take_exact(key) => *slot,
                _ => self.learn(plan, &mut cursor, place)?,
            };
            place += 1;
            let value = cursor.value()?;
            if let Slot::Column(column) = slot {
                values[column] = Some(value);
            }
        }
        cursor.finish()?;
        Ok(())
    }

    fn learn(&mut self, plan: &TablePlan, cursor: &mut Cursor<'_>, place: usize) -> Result<Slot, RowError> {
        let key = cursor.key()?;
        let name = key.unescape()?;
        let slot = plan.slot(&name).ok_or_else(|| RowError::NeedsLayout {
            field: String::from_utf8_lossy(&name).into_owned(),
            why: "the layout does not know it",
        })?;
        self.expected.truncate(place);
        self.expected.push((quoted(key.raw), slot));
        Ok(slot)
    }
}

fn quoted(raw: &[u8]) -> Vec<u8> {
    [b"\"", raw, b"\":"].concat()
}

/// Applies changes of one table to a batch.
#[derive(Debug)]
pub struct RowWriter {
    plan: Arc<TablePlan>,
    order: FieldOrder,
    hints: Vec<Hint>,
    hints_of: Option<Arc<ConnectSchema>>,
    /// Columns for which the operator was asked and had no wider type: their policy applies.
    settled: Vec<bool>,
}

impl RowWriter {
    /// Starts with a compiled layout.
    pub fn new(plan: Arc<TablePlan>) -> Self {
        let columns = plan.columns.len();
        Self {
            order: FieldOrder::new(&plan.layout),
            hints: vec![Hint::default(); columns],
            hints_of: None,
            settled: vec![false; columns],
            plan,
        }
    }

    /// Returns the compiled layout.
    pub fn plan(&self) -> &Arc<TablePlan> {
        &self.plan
    }

    /// Stops asking for a wider type of a field: what does not fit is treated by the column's policy.
    pub fn settle(&mut self, field: &str) {
        for (column, settled) in self.plan.columns.iter().zip(&mut self.settled) {
            *settled |= column.source == field;
        }
    }

    /// Appends the rows of a change; after an error the batch is as it was.
    pub fn apply(&mut self, batch: &mut Batch, change: &Change<'_>) -> Result<(), RowError> {
        self.take_hints(change.schema.as_ref());
        let mut scratch = Scratch::default();
        match (change.op, change.before, change.after) {
            (Op::Insert | Op::Update, before, Some(after)) => {
                let mark = batch.mark();
                self.image(batch, change, before, after, &mut scratch).inspect_err(|_| batch.roll_back(mark))
            }
            (Op::Delete, Some(before), _) => {
                let mark = batch.mark();
                self.tombstone(batch, change, before, &mut scratch).inspect_err(|_| batch.roll_back(mark))
            }
            (Op::Truncate, ..) => {
                batch.raise_fence(change.version);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_hints(&mut self, schema: Option<&Arc<ConnectSchema>>) {
        let same = match (schema, &self.hints_of) {
            (None, None) => true,
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            _ => false,
        };
        if same {
            return;
        }
        self.hints_of = schema.cloned();
        for (hint, column) in self.hints.iter_mut().zip(&self.plan.columns) {
            *hint = schema.map(|schema| schema.hint(&column.source)).unwrap_or_default();
        }
    }

    fn image<'a>(
        &mut self,
        batch: &mut Batch,
        change: &Change<'a>,
        before: Option<&'a [u8]>,
        after: &'a [u8],
        scratch: &mut Scratch<'a>,
    ) -> Result<(), RowError> {
        let full_before = before.filter(|_| self.plan.layout.full_before && change.op == Op::Update);
        if let Some(before) = full_before {
            self.move_away(batch, change, before, after, scratch)?;
        }
        self.order.scan(&self.plan, after, &mut scratch.values)?;
        let mut unavailable = Vec::new();
        for (place, value) in scratch.values.iter().enumerate() {
            match value {
                None => value::push_missing(&mut batch.columns[place], &self.plan.columns[place]),
                Some(value) => {
                    if self.put(batch, place, *value)? {
                        continue;
                    }
                    unavailable.push(place);
                }
            }
        }
        if !unavailable.is_empty()
            && let Some(before) = full_before
        {
            let mut values = Vec::new();
            self.order.scan(&self.plan, before, &mut values)?;
            let (mut still, rows) = (Vec::new(), batch.rows());
            for place in unavailable {
                batch.columns[place].truncate(rows);
                if !(match values[place] {
                    Some(value) => self.put(batch, place, value)?,
                    None => false,
                }) {
                    still.push(place);
                }
            }
            unavailable = still;
        }
        if !unavailable.is_empty() {
            return self.complete(batch, change, &unavailable);
        }
        batch.end_row(change.version, false, change.committed_at);
        Ok(())
    }

    /// With complete `before` images a row whose key changed is not split by Debezium when the table has no
    /// primary key of its own: the old place gets a tombstone.
    fn move_away<'a>(
        &mut self,
        batch: &mut Batch,
        change: &Change<'a>,
        before: &'a [u8],
        after: &'a [u8],
        scratch: &mut Scratch<'a>,
    ) -> Result<(), RowError> {
        self.order.scan(&self.plan, after, &mut scratch.values)?;
        let key: Vec<_> = self.plan.key.iter().map(|place| scratch.values[*place]).collect();
        self.order.scan(&self.plan, before, &mut scratch.values)?;
        let old_key = self.plan.key.iter().map(|place| scratch.values[*place]);
        if key.iter().copied().eq(old_key) {
            return Ok(());
        }
        self.tombstone(batch, change, before, scratch)
    }

    /// Only the key of `before` can be trusted: under the default replica identity the rest is type defaults.
    fn tombstone<'a>(
        &mut self,
        batch: &mut Batch,
        change: &Change<'a>,
        before: &'a [u8],
        scratch: &mut Scratch<'a>,
    ) -> Result<(), RowError> {
        self.order.scan(&self.plan, before, &mut scratch.values)?;
        for (place, value) in scratch.values.iter().enumerate() {
            if self.plan.layout.columns[place].key.is_none() {
                batch.columns[place].push_default();
                continue;
            }
            let named = |why: &str| {
                RowError::Dead(format!("key field {} of a delete: {why}", self.plan.columns[place].source))
            };
            let value = value.ok_or_else(|| named("it is not in the event"))?;
            if !self.put(batch, place, value)? {
                return Err(named("it is not in the event"));
            }
        }
        batch.end_row(change.version, true, change.committed_at);
        Ok(())
    }

    /// Appends one value. Returns false, with the type's default in its place, where the event lacks it.
    fn put(&self, batch: &mut Batch, place: usize, value: Raw<'_>) -> Result<bool, RowError> {
        let plan = &self.plan.columns[place];
        let column = &mut batch.columns[place];
        let rows = column.len();
        let Err(error) = value::push(column, plan, value, self.hints[place], self.plan.encoding) else {
            return Ok(true);
        };
        column.truncate(rows);
        let dead = |error: ValueError| RowError::Dead(format!("field {}: {error}", plan.source));
        let ask = !self.settled[place];
        match error {
            ValueError::Unavailable => {
                column.push_default();
                return Ok(false);
            }
            ValueError::TooWide if ask => {
                return Err(RowError::NeedsLayout {
                    field: plan.source.clone(),
                    why: "the value is too wide",
                });
            }
            ValueError::Null if ask => {
                return Err(RowError::NeedsLayout { field: plan.source.clone(), why: "the value is null" });
            }
            ValueError::OutOfRange | ValueError::TooWide
                if plan.out_of_range == OutOfRange::Null && plan.nullable =>
            {
                column.push_default();
            }
            error => return Err(dead(error)),
        }
        Ok(true)
    }

    /// Ends a row that lacks values: from the newest row of its key in the batch, or later from the table.
    fn complete(
        &self,
        batch: &mut Batch,
        change: &Change<'_>,
        unavailable: &[usize],
    ) -> Result<(), RowError> {
        if unavailable.iter().any(|place| self.plan.key.contains(place)) {
            return Err(RowError::Dead("a key value is not in the event".to_owned()));
        }
        let rows = batch.rows();
        let key = batch.key_of(&self.plan.key, rows);
        match batch.newest(&self.plan.key, &key) {
            Some(row) if !batch.has_deferred(&key) => {
                let (version, deleted) = batch.version_of(row);
                if version >= change.version {
                    // A replay of something older: the newer row is in the batch already.
                    batch.roll_back_row();
                    return Ok(());
                }
                if deleted {
                    return Err(RowError::Dead("an update of a deleted row lacks a value".to_owned()));
                }
                for place in unavailable {
                    batch.columns[*place].truncate(rows);
                    batch.columns[*place].push_copy(row);
                }
                batch.end_row(change.version, false, change.committed_at);
                Ok(())
            }
            _ => {
                batch.defer_row(Deferred {
                    key,
                    unavailable: unavailable.to_vec(),
                    values: Vec::new(),
                    version: change.version,
                    committed_at: change.committed_at,
                    record: 0,
                });
                Ok(())
            }
        }
    }
}
