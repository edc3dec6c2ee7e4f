//! Columns followed from one layout to the next: which column of the state table each is, and what that costs. Pure.

use std::collections::BTreeSet;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, TableLayout, VERSION_COLUMN};
use tidemark_crds::mapping::{MappedColumns, exact_default};
use tidemark_crds::pipeline::Table;
use tidemark_crds::types::ChType;

use super::part::Problem;

/// The columns of a table's next layout.
#[derive(Debug)]
pub struct Followed<'a> {
    table: &'a Table,
    history: &'a [TableLayout],
    previous: &'a TableLayout,
    /// Whether it is the table of the newest layout, and not one of its name.
    same_table: bool,
    /// Names in the state table that a column has or had.
    taken: BTreeSet<String>,
    /// Why rows from before are right only after the table was read again.
    pub read_again: Vec<String>,
}

/// What a column was before.
enum Before<'a> {
    /// Stored, by the newest layout or by one before it.
    Stored { column: &'a ColumnLayout, in_newest: bool },
    /// Known to the newest layout and not stored.
    LeftOut,
    /// Not there.
    New,
}

impl<'a> Followed<'a> {
    /// Begins; `history` ends with `previous`.
    pub fn new(
        table: &'a Table,
        history: &'a [TableLayout],
        previous: &'a TableLayout,
        same_table: bool,
    ) -> Self {
        let reserved = [VERSION_COLUMN, DELETED_COLUMN, COMMITTED_AT_COLUMN].map(str::to_owned);
        let used = history.iter().flat_map(|layout| &layout.columns).map(|column| column.stored.clone());
        let taken = used.chain(reserved).collect();
        Self { table, history, previous, same_table, taken, read_again: Vec::new() }
    }

    /// Gives each mapped column its place in the state table: those that were there come first, in their order.
    pub fn columns(&mut self, mapped: &MappedColumns) -> Result<Vec<ColumnLayout>, Problem> {
        self.check_key(mapped)?;
        let mut columns = Vec::with_capacity(mapped.columns.len());
        for column in &mapped.columns {
            columns.push(self.column(column)?);
        }
        if self.same_table {
            let rank = |column: &ColumnLayout| {
                let place = self.previous.columns.iter().position(|old| old.attnum == column.attnum);
                place.unwrap_or(usize::MAX)
            };
            columns.sort_by_key(rank);
        }
        Ok(columns)
    }

    fn check_key(&self, mapped: &MappedColumns) -> Result<(), Problem> {
        let mut keys: Vec<&ColumnLayout> =
            mapped.columns.iter().filter(|column| column.key.is_some()).collect();
        keys.sort_by_key(|column| column.key);
        let before = self.previous.key_columns();
        let same = keys.len() == before.len()
            && keys.iter().zip(&before).all(|(now, old)| {
                if self.same_table { now.attnum == old.attnum } else { now.source == old.source }
            });
        if same {
            return Ok(());
        }
        let names = |columns: &[&ColumnLayout]| {
            columns.iter().map(|column| column.source.as_str()).collect::<Vec<_>>().join(", ")
        };
        if self.same_table && names(&keys) == names(&before) {
            let message = format!(
                "table {}: its key ({}) was dropped and added again, so that rows of before have other values in it, and a \
                 state table's sorting key cannot be altered: capture the table under another spec.tables[].target",
                self.table.name,
                names(&keys)
            );
            return Err(Problem::new(&self.table.name, Reason::TypeConflict, message));
        }
        let how = if self.same_table { "has" } else { "was dropped and created again with" };
        let message = format!(
            "table {} {how} another primary key than before, ({}) instead of ({}), and a state table's sorting key \
             cannot be altered: restore the key, or capture the table under another spec.tables[].target",
            self.table.name,
            names(&keys),
            names(&before)
        );
        Err(Problem::new(&self.table.name, Reason::TypeConflict, message))
    }

    fn column(&mut self, now: &ColumnLayout) -> Result<ColumnLayout, Problem> {
        let name = &now.source;
        match self.before(now) {
            Before::Stored { column: old, in_newest } => {
                if self.same_table && !in_newest {
                    self.read_again.push(format!("column {name} is stored again"));
                }
                if let Some(r#type) = held_type(old, now) {
                    if self.same_table && in_newest && is_of_spec(old, now) {
                        self.read_again.push(format!(
                            "column {name} is stored as {} instead of {}",
                            now.r#type, old.r#type
                        ));
                    }
                    if self.same_table && in_newest && (old.wire, old.array) != (now.wire, now.array) {
                        let reason = format!("column {name} of type {} is sent in another form", now.pg_type);
                        self.read_again.push(reason);
                    }
                    return Ok(self.kept(old, now, r#type));
                }
                if now.key.is_some() {
                    return Err(self.key_type(old, now));
                }
                if self.same_table && in_newest {
                    self.read_again.push(format!(
                        "column {name} is {} and was {}",
                        described(now),
                        described(old)
                    ));
                }
            }
            Before::LeftOut => self.read_again.push(format!("column {name} is stored now")),
            Before::New => {
                if now.missing.is_some() && exact_default(now).is_none() {
                    self.read_again.push(format!(
                        "column {name} was added with a default that only the source can tell"
                    ));
                }
            }
        }
        Ok(ColumnLayout { stored: self.fresh(&now.target), ..now.clone() })
    }

    fn before(&self, now: &ColumnLayout) -> Before<'a> {
        if !self.same_table {
            // Of another table: all its rows are read again, and what had the name can be used on.
            let old = self.previous.columns.iter().find(|old| old.source == now.source && old.key == now.key);
            return old.map_or(Before::New, |column| Before::Stored { column, in_newest: true });
        }
        let of = |layout: &'a TableLayout| layout.columns.iter().find(|old| old.attnum == now.attnum);
        if let Some(column) = of(self.previous) {
            return Before::Stored { column, in_newest: true };
        }
        let earlier = self.history.iter().rev().filter(|layout| layout.oid == self.previous.oid).find_map(of);
        match earlier {
            Some(column) => Before::Stored { column, in_newest: false },
            None if self.previous.left_out.iter().any(|old| old.attnum == now.attnum) => Before::LeftOut,
            None => Before::New,
        }
    }

    fn kept(&mut self, old: &ColumnLayout, now: &ColumnLayout, r#type: ChType) -> ColumnLayout {
        // A domain is altered in silence: the connector has NULL as before until it asks for the columns again, and events of
        // before may have it as after.
        if self.same_table && now.null_as > old.null_as {
            self.read_again.push(format!("NULL of column {} may have come as another value", now.source));
        }
        let as_nullable = r#type.is_nullable() == now.r#type.is_nullable();
        let out_of_range = if as_nullable { now.out_of_range } else { old.out_of_range };
        // What becomes of such values by itself follows whether the column can be NULL.
        let asked = self
            .table
            .columns
            .iter()
            .any(|column| column.name == now.source && column.out_of_range.is_some());
        if self.same_table
            && out_of_range != old.out_of_range
            && (asked || old.r#type.is_nullable() == r#type.is_nullable())
        {
            let reason = format!(
                "outOfRange of column {} is {out_of_range:?} instead of {:?}",
                now.source, old.out_of_range
            );
            self.read_again.push(reason);
        }
        ColumnLayout {
            stored: old.stored.clone(),
            r#type,
            out_of_range,
            // A rewrite of the table at the source clears it; rows that lack the column still mean the same.
            missing: now.missing.clone().or_else(|| old.missing.clone().filter(|_| self.same_table)),
            null_as: if self.same_table { now.null_as.max(old.null_as) } else { now.null_as },
            ..now.clone()
        }
    }

    /// A name in the state table that no column has or had.
    fn fresh(&mut self, name: &str) -> String {
        let mut stored = name.to_owned();
        if self.taken.contains(&stored) {
            stored = format!("{name}__{}", self.previous.version + 1);
        }
        while !self.taken.insert(stored.clone()) {
            stored.push('_');
        }
        stored
    }

    fn key_type(&self, old: &ColumnLayout, now: &ColumnLayout) -> Problem {
        let table = &self.table.name;
        let undo = if self.same_table {
            format!("undo it with ALTER TABLE {table} ALTER COLUMN {} TYPE {}, or ", now.source, old.pg_type)
        } else {
            String::new()
        };
        let message = format!(
            "table {table}: key column {} was {} and is {}, and a state table's sorting key cannot be altered: \
             {undo}capture the table under another spec.tables[].target",
            now.source,
            described(old),
            described(now)
        );
        Problem::new(table, Reason::TypeConflict, message)
    }
}

fn described(column: &ColumnLayout) -> String {
    format!("{} ({})", column.pg_type, column.r#type)
}

/// Whether the type changed and the source's did not.
fn is_of_spec(old: &ColumnLayout, now: &ColumnLayout) -> bool {
    old.pg_type == now.pg_type && old.r#type.clone().without_null() != now.r#type.clone().without_null()
}

/// The type that the column of the state table keeps or gets; `None`: it takes another column.
fn held_type(old: &ColumnLayout, now: &ColumnLayout) -> Option<ChType> {
    // A column that holds NULLs goes on to: it may have some.
    let wanted = if old.r#type.is_nullable() { now.r#type.clone().nullable() } else { now.r#type.clone() };
    (old.r#type == wanted || (now.key.is_none() && old.r#type.widens_to(&wanted))).then_some(wanted)
}
