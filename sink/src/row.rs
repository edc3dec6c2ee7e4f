//! From the fields of a change to rows of a batch: images, tombstones, moves, and values that the event lacks. Pure.

use std::sync::Arc;

use crate::batch::{Batch, Deferred, Place};
use crate::decode::connect_schema::{ConnectSchema, Hint};
use crate::decode::envelope::Change;
use crate::decode::fields::Span;
use crate::decode::json::{Cursor, Raw};
use crate::plan::{Mapping, Slot, TablePlan};
use crate::value::{self, Pushed, ValueError};

/// Why a change is not in the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A value does not fit its column: the column may have changed at the source.
    #[error("field {field}: {error}")]
    Unfit {
        /// Field of the event.
        field: String,
        /// What does not fit.
        error: ValueError,
    },
    /// The record can never be applied.
    #[error("{0}")]
    Dead(String),
}

/// One side of a change: the record's bytes, places of its values, and the columns that they go to.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// The record.
    pub record: &'a [u8],
    /// Values in the order of their fields.
    pub values: &'a [Span],
    /// Where they go.
    pub mapping: &'a Mapping,
    /// Whether all values are the row's; else those of the key alone are.
    pub complete: bool,
}

impl<'a> Image<'a> {
    /// Value of a column, if the event has a field for it.
    fn value(&self, column: usize) -> Option<Raw<'a>> {
        let place = self.mapping.slots.iter().position(|slot| *slot == Slot::Column(column))?;
        Some(self.values[place].raw(self.record))
    }
}

/// What is known about a change beside its rows.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The change.
    pub change: &'a Change,
    /// Where it is.
    pub place: Place,
    /// Whether its position is confirmed: what does not fit will never do.
    pub confirmed: bool,
    /// Key of the row before, where the change moved it: text of an object.
    pub old_key: Option<&'a [u8]>,
}

/// What an event said of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// Its value, which is in the column.
    Done,
    /// That it did not change.
    Unchanged,
    /// Nothing: the form in which the event would have it stands for several values.
    Uncarried,
}

/// Applies changes under one layout to a batch.
#[derive(Debug)]
pub struct RowWriter {
    plan: Arc<TablePlan>,
    hints: Vec<Hint>,
    hints_of: Option<Arc<ConnectSchema>>,
    /// Columns whose value the row lacks; kept for its room.
    lacking: Vec<usize>,
}

impl RowWriter {
    /// Starts with a compiled layout.
    pub fn new(plan: Arc<TablePlan>) -> Self {
        Self { hints: vec![Hint::default(); plan.columns.len()], hints_of: None, lacking: Vec::new(), plan }
    }

    /// Returns the compiled layout.
    pub fn plan(&self) -> &Arc<TablePlan> {
        &self.plan
    }

    /// Takes over what the record's schema says about values.
    #[inline]
    pub fn take_hints(&mut self, schema: Option<&Arc<ConnectSchema>>) {
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

    /// Appends the row of an insert or update; `before` is its former image, if there is one. After an error the batch
    /// is as it was.
    pub fn write_image(
        &mut self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        before: Option<&Image<'_>>,
        after: &Image<'_>,
    ) -> Result<(), RowError> {
        let mark = batch.mark();
        self.image(batch, facts, before, after).inspect_err(|_| batch.roll_back(mark))
    }

    /// Appends the tombstone of a deleted row. After an error the batch is as it was.
    pub fn write_tombstone(
        &mut self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        before: &Image<'_>,
    ) -> Result<(), RowError> {
        let mark = batch.mark();
        self.tombstone(batch, facts, before).inspect_err(|_| batch.roll_back(mark))
    }

    fn image(
        &mut self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        before: Option<&Image<'_>>,
        after: &Image<'_>,
    ) -> Result<(), RowError> {
        // Debezium splits an update of the key that it knows in two. It does not of a table without a primary key, or
        // while it knows the key by a column's former name: the old place gets a tombstone here.
        if let Some(before) = before
            && self.plan.key.iter().any(|place| before.value(*place) != after.value(*place))
        {
            self.tombstone(batch, facts, before)?;
        }
        self.lacking.clear();
        let mut uncarried = false;
        for (span, slot) in after.values.iter().zip(&after.mapping.slots) {
            let Slot::Column(column) = *slot else { continue };
            let put = match self.put(batch, facts, column, span.raw(after.record))? {
                Put::Unchanged => self.put_from(batch, facts, column, before)?,
                put => put,
            };
            if put != Put::Done {
                batch.columns[column].push_default();
                self.lacking.push(column);
                // It changed, and only the source says to what.
                uncarried |= put == Put::Uncarried;
            }
        }
        for column in &after.mapping.absent {
            batch.columns[*column].push_default();
            self.lacking.push(*column);
        }
        if self.lacking.is_empty() {
            batch.end_row(facts.change.version, false, facts.change.committed_at, facts.place);
            return Ok(());
        }
        if self.lacking.iter().any(|column| self.plan.key.contains(column)) {
            return Err(RowError::Dead("a key value is not in the event".to_owned()));
        }
        let old_key = facts.old_key.and_then(|text| self.key_of_object(batch, text));
        batch.defer_row(Deferred {
            key: batch.key_of(&self.plan.key, batch.rows()),
            lacking: self.lacking.clone(),
            unstreamed: uncarried || !after.mapping.absent.is_empty(),
            old_key,
            values: Vec::new(),
            version: facts.change.version,
            committed_at: facts.change.committed_at,
            place: facts.place,
        });
        Ok(())
    }

    /// Takes a value that the row after lacks from the complete row before.
    fn put_from(
        &self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        column: usize,
        before: Option<&Image<'_>>,
    ) -> Result<Put, RowError> {
        match before.filter(|before| before.complete).and_then(|before| before.value(column)) {
            Some(value) => self.put(batch, facts, column, value),
            None => Ok(Put::Unchanged),
        }
    }

    /// Only the key of `before` can be trusted: under the default replica identity the rest is type defaults.
    fn tombstone(&self, batch: &mut Batch, facts: &Facts<'_>, before: &Image<'_>) -> Result<(), RowError> {
        for column in 0..self.plan.columns.len() {
            if self.plan.layout.columns[column].key.is_none() {
                batch.columns[column].push_default();
                continue;
            }
            let put = match before.value(column) {
                Some(value) => self.put(batch, facts, column, value)?,
                None => Put::Unchanged,
            };
            if put != Put::Done {
                let field = &self.plan.columns[column].source;
                return Err(RowError::Dead(format!("key field {field} of a delete is not in the event")));
            }
        }
        batch.end_row(facts.change.version, true, facts.change.committed_at, facts.place);
        Ok(())
    }

    /// Key in RowBinary from the text of an object with the key's fields, alone or inside a schema.
    fn key_of_object(&self, batch: &mut Batch, text: &[u8]) -> Option<Vec<u8>> {
        let mut values: Vec<Option<Raw<'_>>> = vec![None; self.plan.key.len()];
        members(text, &self.plan, &mut values)?;
        let mut key = Vec::new();
        for (column, value) in self.plan.key.iter().zip(values) {
            let value = value?;
            // The value goes behind the row's own and is taken away again.
            let rows = batch.rows() + 1;
            let column_plan = &self.plan.columns[*column];
            let data = &mut batch.columns[*column];
            let pushed = value::push(data, column_plan, value, self.hints[*column], self.plan.encoding);
            if pushed == Ok(Pushed::AsIs) {
                data.row_binary(rows, &mut key);
            }
            data.truncate(rows);
            pushed.ok()?;
        }
        Some(key)
    }

    /// Appends one value; nothing where the event lacks it.
    #[inline]
    fn put(
        &self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        column: usize,
        value: Raw<'_>,
    ) -> Result<Put, RowError> {
        let plan = &self.plan.columns[column];
        let push = if facts.confirmed { value::push_settled } else { value::push };
        match push(&mut batch.columns[column], plan, value, self.hints[column], self.plan.encoding) {
            Ok(Pushed::AsIs) => Ok(Put::Done),
            Ok(Pushed::Clamped | Pushed::Nulled) => {
                batch.count_changed(column);
                Ok(Put::Done)
            }
            Err(error) => self.refused(batch, facts, column, error),
        }
    }

    #[cold]
    fn refused(
        &self,
        batch: &mut Batch,
        facts: &Facts<'_>,
        column: usize,
        error: ValueError,
    ) -> Result<Put, RowError> {
        let plan = &self.plan.columns[column];
        let rows = batch.rows();
        batch.columns[column].truncate(rows);
        match error {
            ValueError::Unavailable => Ok(Put::Unchanged),
            ValueError::NotCarried => Ok(Put::Uncarried),
            ValueError::Malformed | ValueError::TooWide | ValueError::Null if !facts.confirmed => {
                Err(RowError::Unfit { field: plan.source.clone(), error })
            }
            error => Err(RowError::Dead(format!("field {}: {error}", plan.source))),
        }
    }
}

/// Finds the values of the key's fields in an object; `None` where the text is none.
fn members<'a>(text: &'a [u8], plan: &TablePlan, values: &mut [Option<Raw<'a>>]) -> Option<()> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'{', "expected a key").ok()?;
    let mut first = true;
    while cursor.next_item(&mut first, b'}').ok()? {
        let name = cursor.key().ok()?.unescape().ok()?;
        let value = cursor.value().ok()?;
        if let (b"payload", Raw::Object(inside)) = (&*name, value) {
            members(inside, plan, values)?;
        }
        let place = plan.key.iter().position(|column| plan.columns[*column].source.as_bytes() == &*name);
        if let Some(place) = place {
            values[place] = Some(value);
        }
    }
    Some(())
}
