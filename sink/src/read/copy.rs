//! From lines of COPY to rows of a batch: no allocation a row or a field beyond what the batch keeps. Pure.

use std::sync::Arc;

use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::mapping::read_expression;
use tidemark_crds::version::Version;

use super::ReadError;
use super::barrier::Barrier;
use super::copy_text::{Field, Fields};
use crate::batch::{Batch, Place};
use crate::dead_letter::{DeadLetter, ShareLimit};
use crate::native::Column;
use crate::plan::{ColumnPlan, TablePlan};
use crate::value::{self, Pushed, ValueError};

/// The SELECT list of a plan: one expression a column, in the layout's order.
pub(super) fn expressions(plan: &TablePlan) -> String {
    let all: Vec<String> = plan.layout.columns.iter().map(read_expression).collect();
    all.join(", ")
}

/// What was wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A value of a column.
    Value(usize, ValueError),
    /// It has more or fewer fields than the plan, or is no line of COPY.
    Shape,
}

/// Makes rows of lines, all of one version.
#[derive(Debug)]
pub struct RowBuilder {
    plan: Arc<TablePlan>,
    version: Version,
    committed_at: i64,
    topic: Arc<str>,
    scratch: Vec<u8>,
    share: ShareLimit,
}

impl RowBuilder {
    /// Builds rows behind a barrier; dead letters name the topic.
    pub fn new(
        plan: Arc<TablePlan>,
        epoch: u16,
        barrier: Barrier,
        topic: Arc<str>,
        max_share_per_mille: u32,
    ) -> Self {
        Self {
            plan,
            version: Version::of_read(epoch, barrier.lsn),
            committed_at: barrier.at,
            topic,
            scratch: Vec::new(),
            share: ShareLimit::new(max_share_per_mille),
        }
    }

    /// Appends the row of a line; one whose value is out of range goes the way that the column's policy says.
    ///
    /// Returns whether the batch has the row; otherwise it is among the batch's dead letters.
    pub fn append(&mut self, batch: &mut Batch, line: &[u8]) -> Result<bool, ReadError> {
        let fault = match self.fill(batch, line) {
            Ok(()) => {
                let place = Place::source(self.version.last_commit_lsn());
                batch.end_row(self.version, false, self.committed_at, place);
                self.share.count(false);
                return Ok(true);
            }
            Err(fault) => fault,
        };
        batch.roll_back_row();
        let plan = Arc::clone(&self.plan);
        let table = || plan.layout.source.to_string();
        let Fault::Value(place, error) = fault else {
            let reason = "the server answered with other columns than were asked for".to_owned();
            return Err(ReadError::Refused { table: table(), reason });
        };
        let column = plan.columns[place].source.clone();
        let key = self.json(line, |place| plan.key.contains(&place));
        // Out of range: the column's policy takes no other value in its place. Anything else: the layout is not that
        // of the table, and nothing that is read is right.
        if error != ValueError::OutOfRange {
            return Err(ReadError::Value { table: table(), column, key, error });
        }
        let error = format!("read of the table: column {column}: {error}");
        let letter = DeadLetter {
            topic: self.topic.to_string(),
            // It comes from no partition; its place is the barrier's.
            partition: -1,
            offset: i64::try_from(self.version.last_commit_lsn()).unwrap_or(i64::MAX),
            key: Some(key.into_bytes()),
            payload: Some(self.json(line, |_| true).into_bytes()),
            headers: vec![(EPOCH_HEADER.to_owned(), Some(self.version.epoch().to_string().into_bytes()))],
            position: self.version.last_commit_lsn(),
            error: error.clone(),
            truncated: None,
        };
        self.share.count(true);
        if self.share.exceeded() {
            return Err(ReadError::DeadLetters { table: table(), last: error });
        }
        batch.bury(letter);
        Ok(false)
    }

    /// Appends every value of a line to its column.
    fn fill(&mut self, batch: &mut Batch, line: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(line);
        for (place, plan) in self.plan.columns.iter().enumerate() {
            let Ok(Some(field)) = fields.next(&mut self.scratch) else { return Err(Fault::Shape) };
            let pushed = put(&mut batch.columns[place], plan, field);
            if pushed.map_err(|error| Fault::Value(place, error))? != Pushed::AsIs {
                batch.count_changed(place);
            }
        }
        match fields.next(&mut self.scratch) {
            Ok(None) => Ok(()),
            _ => Err(Fault::Shape),
        }
    }

    /// Key of a line in RowBinary, also where other values of it have no place.
    pub fn key_of(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = vec![Vec::new(); self.plan.columns.len()];
        let mut fields = Fields::new(line);
        for (place, plan) in self.plan.columns.iter().enumerate() {
            let field = fields.next(&mut self.scratch).ok()??;
            if self.plan.key.contains(&place) {
                let mut column = Column::new(&self.plan.layout.columns[place].r#type).ok()?;
                put(&mut column, plan, field).ok()?;
                column.row_binary(0, &mut parts[place]);
            }
        }
        Some(self.plan.key.iter().flat_map(|place| parts[*place].iter().copied()).collect())
    }

    /// Text of some columns of a line as a JSON object: PostgreSQL's own text of each value, NULL as null.
    fn json(&self, line: &[u8], wanted: impl Fn(usize) -> bool) -> String {
        let (mut fields, mut scratch) = (Fields::new(line), Vec::new());
        let mut object = serde_json::Map::new();
        for (place, plan) in self.plan.columns.iter().enumerate() {
            let Ok(Some(field)) = fields.next(&mut scratch) else { break };
            if wanted(place) {
                let value = match field {
                    Field::Null => serde_json::Value::Null,
                    Field::Text(text) => String::from_utf8_lossy(text).into(),
                };
                object.insert(plan.source.clone(), value);
            }
        }
        serde_json::Value::Object(object).to_string()
    }
}

#[inline]
fn put(column: &mut Column, plan: &ColumnPlan, field: Field<'_>) -> Result<Pushed, ValueError> {
    match field {
        Field::Text(text) => value::push_postgres_text(column, plan, text),
        Field::Null => value::push_null(column, plan).map(|()| Pushed::AsIs),
    }
}
