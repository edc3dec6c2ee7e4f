//! The layout of a state table: what the source has now, read in the light of the layout before. Pure.
//!
//! Columns are followed by `attnum`: a column that is renamed stays one column, one that is dropped and added
//! again becomes another one. A column that is gone leaves the layout and stays in the state table.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{Begin, ColumnLayout, SourceTable, Storage, TableLayout};
use tidemark_crds::mapping::{self, MappedColumns, PgColumn, Refusal, TypeKind};
use tidemark_crds::partition::PartitionExpression;
use tidemark_crds::pipeline::Table;

use super::part::Problem;
use crate::facts::SourceTableFacts;

/// Chooses the layout of a table. It equals `previous`, version included, when nothing changed; `demands` are
/// fields that the sink met and does not know.
pub fn layout(
    table: &Table,
    source: &SourceTableFacts,
    previous: Option<&TableLayout>,
    _demands: &BTreeSet<String>,
) -> Result<TableLayout, Problem> {
    let refuse = |reason, message: String| Problem::new(&table.name, reason, message);
    let name: SourceTable =
        table.name.parse().map_err(|error| refuse(Reason::InvalidSpec, format!("spec.tables: {error}")))?;
    let mapped = mapping::map_columns(&pg_columns(source), &table.columns)
        .map_err(|refusals| of_refusals(&table.name, &refusals))?;
    let columns = match previous {
        None => mapped.columns.clone(),
        Some(previous) => followed(&table.name, &mapped, previous)?,
    };
    let partition_by = table.partition_by.clone();
    if let Some(text) = &partition_by {
        let fail = |error| refuse(Reason::UnsafePartitionBy, format!("table {}: {error}", table.name));
        let expression = PartitionExpression::check(text, &columns).map_err(fail)?;
        // Later growth is not refused: the table is there and holds its rows.
        if let (None, Some((lowest, highest))) = (previous, source.key_range) {
            expression.check_range(lowest, highest).map_err(fail)?;
        }
    }
    let mut wanted = TableLayout {
        version: previous.map_or(1, |previous| previous.version),
        source: name,
        target: table.target_name().to_owned(),
        oid: source.oid,
        from: previous.map_or_else(Begin::default, |previous| previous.from),
        left_out: mapped.left_out.clone(),
        columns,
        full_before: source.replica_identity == 'f',
        partition_by,
        storage: Storage::default(),
        read_again: None,
    };
    if previous.is_some_and(|previous| *previous != wanted) {
        wanted.version += 1;
    }
    Ok(wanted)
}

fn pg_columns(source: &SourceTableFacts) -> Vec<PgColumn> {
    let key = |name: &str| {
        let position = source.primary_key.iter().position(|key| key == name)?;
        u16::try_from(position).ok()
    };
    let column = |column: &crate::facts::SourceColumn| PgColumn {
        name: column.name.clone(),
        attnum: column.attnum,
        type_name: column.type_name.clone(),
        kind: TypeKind::from_typtype(column.type_kind),
        dimensions: 0,
        domain: false,
        generated: false,
        nullable: column.nullable,
        key: key(&column.name),
        deterministic: column.deterministic,
        missing: column.missing_value.clone(),
    };
    source.columns.iter().map(column).collect()
}

fn of_refusals(table: &str, refusals: &[Refusal]) -> Problem {
    let reason =
        if refusals.contains(&Refusal::NoPrimaryKey) { Reason::NoPrimaryKey } else { Reason::InvalidSpec };
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Problem::new(table, reason, format!("table {table}: {}", texts.join("; ")))
}

/// Columns in the order of the state table: those that were there, then the new ones.
fn followed(
    table: &str,
    mapped: &MappedColumns,
    previous: &TableLayout,
) -> Result<Vec<ColumnLayout>, Problem> {
    let now: BTreeMap<i16, &ColumnLayout> =
        mapped.columns.iter().map(|column| (column.attnum, column)).collect();
    let before: BTreeSet<i16> = previous.columns.iter().map(|column| column.attnum).collect();
    let keys = |columns: &[ColumnLayout]| {
        columns.iter().filter_map(|column| Some((column.key?, column.attnum))).collect::<BTreeMap<_, _>>()
    };
    if keys(&mapped.columns) != keys(&previous.columns) {
        let message = format!(
            "table {table}: the primary key is another one than before, and a state table's sorting key cannot be \
             altered: restore the key, or capture the table under another spec.tables[].target"
        );
        return Err(Problem::new(table, Reason::TypeConflict, message));
    }
    let mut columns = Vec::with_capacity(mapped.columns.len());
    for old in &previous.columns {
        if let Some(new) = now.get(&old.attnum) {
            columns.push(merged(table, old, new)?);
        }
    }
    columns.extend(mapped.columns.iter().filter(|column| !before.contains(&column.attnum)).cloned());
    Ok(columns)
}

/// One column that was there before.
fn merged(table: &str, old: &ColumnLayout, new: &ColumnLayout) -> Result<ColumnLayout, Problem> {
    let mut merged = new.clone();
    // A rewrite of the table at the source clears it; rows that lack the column still mean the same.
    merged.missing = new.missing.clone().or_else(|| old.missing.clone());
    if old.source != new.source {
        // Renamed at the source: the state table's column keeps its name, and so do the views on it.
        merged.target.clone_from(&old.target);
        merged.stored.clone_from(&old.stored);
    }
    if old.r#type == new.r#type || (new.key.is_none() && old.r#type.widens_to(&new.r#type)) {
        return Ok(merged);
    }
    // What comes now fits what is there: nothing needs to change.
    if old.wire == new.wire && old.array == new.array && new.r#type.widens_to(&old.r#type) {
        merged.r#type.clone_from(&old.r#type);
        merged.out_of_range = old.out_of_range;
        return Ok(merged);
    }
    let message = format!(
        "table {table}: column {} was {} ({}) and is {} ({}) now, which ClickHouse cannot follow without losing \
         values: undo it with ALTER TABLE {table} ALTER COLUMN {} TYPE {}, or capture the table under another \
         spec.tables[].target",
        new.source, old.pg_type, old.r#type, new.pg_type, new.r#type, new.source, old.pg_type
    );
    Err(Problem::new(table, Reason::TypeConflict, message))
}

#[cfg(test)]
#[path = "layouts_tests.rs"]
mod tests;
