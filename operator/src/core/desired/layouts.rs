//! The history of a table's layouts: whether what the source has now needs another entry, and which. Pure.
//!
//! A column is its table's oid and its `attnum`: a column that is renamed stays one column of the state table, one
//! that is dropped and added again becomes another one. A column that is gone leaves the layout and stays in the
//! state table. Where rows from before would not be what the source has, the entry says so: the table is read again.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{Begin, ColumnLayout, SourceTable, Storage, TableLayout};
use tidemark_crds::ledger::SeenStorage;
use tidemark_crds::mapping::{self, MappedColumns, PgColumn, Refusal, TypeKind};
use tidemark_crds::partition::PartitionExpression;
use tidemark_crds::pipeline::Table;
use tidemark_crds::types::ChType;

use super::followed::Followed;
use super::part::Problem;
use super::source;
use crate::core::facts::{SeenCatalogue, SourceColumn, SourceTableFacts};

/// Beginning of a definition's key, before the name of a type.
const TYPE_NAME: &str = "n";

/// What the layout of one table is decided from.
#[derive(Debug, Clone, Copy)]
pub struct LayoutInput<'a> {
    /// The spec's part about the table.
    pub table: &'a Table,
    /// The source's catalogue.
    pub source: &'a SourceTableFacts,
    /// Layouts so far, in order.
    pub history: &'a [TableLayout],
    /// Columns of the state table, name and type text, where it is there.
    pub state: &'a [(String, String)],
    /// Up to where the catalogue was seen to be that of the newest layout, where it is remembered.
    pub seen: Option<SeenCatalogue>,
    /// How the rows lay in files when that last changed without a change of the layout.
    pub storage: Option<&'a SeenStorage>,
    /// Epoch of the log.
    pub epoch: u16,
    /// Position of the log behind the catalogue.
    pub by: u64,
}

/// What a look makes of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The newest layout, or the entry that comes behind it.
    pub layout: TableLayout,
    /// Files to remember: they changed and the rows did not.
    pub storage: Option<SeenStorage>,
}

/// Decides the layout of a table: the newest of its history where nothing changed.
pub fn decide(input: &LayoutInput<'_>) -> Result<Decision, Problem> {
    let table = input.table;
    let refuse = |reason, message: String| Problem::new(&table.name, reason, message);
    let name: SourceTable =
        table.name.parse().map_err(|error| refuse(Reason::InvalidSpec, format!("spec.tables: {error}")))?;
    let mapped = mapped(input)?;
    let Some(previous) = input.history.last() else {
        return first(input, name, mapped);
    };
    let same_table = previous.oid == input.source.oid;
    let before = input
        .storage
        .filter(|seen| seen.layout == previous.version)
        .map_or(&previous.storage, |seen| &seen.storage);
    let mut again = unseen(input, previous, before, &name);
    let mut followed = Followed::new(table, input.history, previous, same_table);
    let mut columns = followed.columns(&mapped)?;
    again.extend(followed.read_again);
    let moved = beside(input.state, &mut columns);
    if !moved.is_empty() {
        again.push(format!("{} of the state table has another type than its layout says", moved.join(", ")));
    }
    let wanted = TableLayout {
        source: name,
        oid: input.source.oid,
        columns,
        left_out: mapped.left_out,
        full_before: input.source.has_full_before(),
        definitions: input.source.definitions.clone(),
        ..previous.clone()
    };
    if wanted == *previous && again.is_empty() {
        let moved = *before != input.source.storage && input.source.storage != Storage::default();
        let storage =
            moved.then(|| SeenStorage { layout: previous.version, storage: input.source.storage.clone() });
        return Ok(Decision { layout: wanted, storage });
    }
    let layout = TableLayout {
        version: previous.version + 1,
        from: begin(input, previous),
        storage: input.source.storage.clone(),
        read_again: (!again.is_empty()).then(|| again.join("; ")),
        ..wanted
    };
    Ok(Decision { layout, storage: None })
}

fn first(input: &LayoutInput<'_>, name: SourceTable, mapped: MappedColumns) -> Result<Decision, Problem> {
    let partition_by = partition_by(input, &mapped.columns)?;
    let mut columns = mapped.columns;
    beside(input.state, &mut columns);
    let layout = TableLayout {
        version: 1,
        source: name,
        oid: input.source.oid,
        target: input.table.target_name().to_owned(),
        from: Begin::default(),
        columns,
        left_out: mapped.left_out,
        full_before: input.source.has_full_before(),
        partition_by,
        storage: input.source.storage.clone(),
        definitions: input.source.definitions.clone(),
        read_again: None,
    };
    Ok(Decision { layout, storage: None })
}

/// Why rows from before are right only after the table was read again, whatever its columns: something changed that no
/// event says.
fn unseen(
    input: &LayoutInput<'_>,
    previous: &TableLayout,
    before: &Storage,
    name: &SourceTable,
) -> Vec<String> {
    let mut again = Vec::new();
    let same_table = previous.oid == input.source.oid;
    if !same_table {
        again.push("the table was dropped and created again".to_owned());
    } else if let Some(reason) =
        rewritten(previous.oid, before, &input.source.storage, &input.source.attached)
    {
        again.push(reason);
    }
    again.extend(unpublished(&before.published, &input.source.storage.published));
    if previous.source != *name {
        again.push(format!(
            "it was {} before, and what changed before the connector knew the new name is in no topic",
            previous.source
        ));
    }
    if same_table {
        again.extend(redefined(&previous.definitions, &input.source.definitions));
        again.extend(retyped(input.history, &input.source.definitions));
    }
    if same_table && is_ambiguous(input, previous) {
        again.push(
            "columns were dropped and added between two looks, so that events of both look alike".to_owned(),
        );
    }
    again
}

/// Why changes may be in no event: the publication has not the table that it had, or has it otherwise.
fn unpublished(before: &str, now: &str) -> Option<String> {
    let text = match now {
        _ if before.is_empty() || before == now => return None,
        "" => "the publication has it no more",
        _ => "it was taken out of the publication, or that was altered or made anew",
    };
    Some(text.to_owned())
}

/// Puts columns beside those of the state table that they do not fit, and names them. A table is altered before its layout
/// is written: where the source changes back in between, and where the table was altered by hand or has outlived its
/// ledger, it is not what the layout says.
fn beside(state: &[(String, String)], columns: &mut [ColumnLayout]) -> Vec<String> {
    let fits = |column: &ColumnLayout, name: &str| {
        let live = state.iter().find(|(live, _)| live == name);
        live.is_none_or(|(_, text)| {
            text.parse::<ChType>().is_ok_and(|live| live == column.r#type || live.widens_to(&column.r#type))
        })
    };
    let mut moved = Vec::new();
    // A key's type is told by the step that would alter it.
    for column in columns.iter_mut().filter(|column| column.key.is_none()) {
        let mut name = column.stored.clone();
        while !fits(column, &name) {
            name.push('_');
        }
        if name != column.stored {
            moved.push(column.stored.clone());
            column.stored = name;
        }
    }
    moved
}

/// Between the last look that saw the catalogue before and this one.
fn begin(input: &LayoutInput<'_>, previous: &TableLayout) -> Begin {
    let epoch = input.epoch;
    // Not its `by`: the table may have been altered again before that position.
    let earlier = previous.from.after();
    let seen = input.seen.filter(|seen| seen.layout == previous.version).map_or(earlier, |seen| seen.at);
    let (of, after) = seen.max(earlier);
    // A position of an earlier epoch says nothing of this one's.
    let after = if of == epoch { after } else { 0 };
    Begin { epoch, after, by: input.by.max(after) }
}

/// Whether an event since the last look may have the shape of a layout and not its columns.
///
/// A shape is the names in the order of `attnum`, so among the same columns it tells which is which, whatever they
/// are called. One can stand for another only where some went and others came, or came and went unseen.
fn is_ambiguous(input: &LayoutInput<'_>, previous: &TableLayout) -> bool {
    let of = |layout: &TableLayout| -> BTreeSet<i16> {
        let columns = layout.columns.iter().map(|column| column.attnum);
        columns.chain(layout.left_out.iter().map(|column| column.attnum)).collect()
    };
    let before = of(previous);
    let from = begin(input, previous);
    // Layouts that an event behind the last certain look may have, beside the one of now.
    let followed = input.history.iter().zip(input.history.iter().skip(1));
    let possible = followed.filter(|(_, next)| next.from.by() > from.after()).map(|(layout, _)| layout);
    let possible: Vec<BTreeSet<i16>> =
        possible.filter(|layout| layout.oid == previous.oid).map(of).chain([before.clone()]).collect();
    let now: BTreeSet<i16> = input.source.columns.iter().map(|column| column.attnum).collect();
    let earlier = input.history.iter().filter(|layout| layout.oid == previous.oid);
    let top = earlier.flat_map(of).max().unwrap_or(0);
    let added: Vec<i16> = now.difference(&before).copied().collect();
    let unseen = added.iter().zip(1..).any(|(attnum, nth)| *attnum != top.saturating_add(nth));
    let differs = |other: &BTreeSet<i16>| {
        now.difference(other).next().is_some() && other.difference(&now).next().is_some()
    };
    (!added.is_empty() && unseen) || (now != before && possible.iter().any(differs))
}

/// Why rows changed without an event, if they did: a rewrite changes files and columns in one transaction.
fn rewritten(oid: u32, before: &Storage, now: &Storage, attached: &BTreeSet<u32>) -> Option<String> {
    if before.files.is_empty() || now.files.is_empty() {
        return None;
    }
    if before.files.keys().any(|leaf| !now.files.contains_key(leaf)) {
        return Some("a partition was detached or dropped".to_owned());
    }
    if now.files.keys().any(|leaf| !before.files.contains_key(leaf) && attached.contains(leaf)) {
        return Some("a partition was attached with the rows that it had".to_owned());
    }
    if before.links.iter().any(|(leaf, link)| now.links.get(leaf).is_some_and(|now| now != link)) {
        return Some("a partition was detached and attached again".to_owned());
    }
    let other = |leaf: &u32, file: &u32| now.files.get(leaf) != Some(file);
    // A partition can be emptied or detached and changed by itself, of which nothing comes under its root's name.
    if before.files.iter().any(|(leaf, file)| *leaf != oid && other(leaf, file)) {
        return Some("a partition was emptied or rewritten by itself".to_owned());
    }
    let moved = before.files.iter().any(|(leaf, file)| other(leaf, file));
    (moved && before.columns != now.columns).then(|| "its rows were rewritten at the source".to_owned())
}

/// Why values or events from before read otherwise now, though no row changed. A label that was added is none.
fn redefined(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let changed = now.iter().find(|(key, value)| {
        !key.starts_with(TYPE_NAME) && before.get(*key).is_some_and(|before| before != *value)
    });
    let text = match changed?.0.get(..1) {
        Some("e") => "a label of an enum was renamed",
        Some("c") => "a composite type has other attributes",
        // Deletes in between may have come without the key.
        Some("i" | "k") => {
            "its key or its replica identity was another one for a while, or has another index"
        }
        // Events in between may have come under the other name, which nobody follows.
        _ => "the table was renamed or moved, or given to another owner",
    };
    Some(text.to_owned())
}

/// Why events may have been decoded by another type than a column's, if they were: the connector keeps which name is which
/// type's from its start on.
fn retyped(history: &[TableLayout], now: &BTreeMap<String, String>) -> Option<String> {
    let mut names = now.iter().filter_map(|(key, kind)| Some((key.strip_prefix(TYPE_NAME)?, key, kind)));
    let other = |(name, key, kind): (&str, &String, &String)| {
        let before = history.iter().rev().find_map(|layout| layout.definitions.get(key))?;
        (before != kind)
            .then(|| format!("type {name} is another kind of type than the one that had its name"))
    };
    names.find_map(other)
}

/// The names of types that stood for several kinds of types, each with these in their order: a connector that was started
/// by other ones takes one for another.
pub fn renamed_types(histories: &BTreeMap<String, Vec<TableLayout>>) -> Vec<String> {
    let mut layouts: Vec<&TableLayout> = histories.values().flatten().collect();
    layouts.sort_by_key(|layout| (layout.from.by(), layout.version));
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, kind) in layouts.iter().flat_map(|layout| &layout.definitions) {
        if let Some(name) = key.strip_prefix(TYPE_NAME) {
            let known = kinds.entry(name).or_default();
            if known.last() != Some(&kind.as_str()) {
                known.push(kind);
            }
        }
    }
    let several = kinds.into_iter().filter(|(_, kinds)| kinds.len() > 1);
    several.map(|(name, kinds)| format!("{name}:{}", kinds.join(">"))).collect()
}

fn partition_by(input: &LayoutInput<'_>, columns: &[ColumnLayout]) -> Result<Option<String>, Problem> {
    let name = &input.table.name;
    let Some(text) = &input.table.partition_by else {
        return Ok(None);
    };
    let fail = |error| Problem::new(name, Reason::UnsafePartitionBy, format!("table {name}: {error}"));
    let expression = PartitionExpression::check(text, columns).map_err(fail)?;
    // Later growth is not refused: the table is there and holds its rows.
    if let Some((lowest, highest)) = input.source.key_range {
        expression.check_range(lowest, highest).map_err(fail)?;
    }
    Ok(Some(text.clone()))
}

/// The source's columns under the spec's overrides.
fn mapped(input: &LayoutInput<'_>) -> Result<MappedColumns, Problem> {
    mapping::map_columns(&pg_columns(input.source), &input.table.columns)
        .map_err(|refusals| of_refusals(&input.table.name, &refusals))
}

fn pg_columns(table: &SourceTableFacts) -> Vec<PgColumn> {
    let chosen = source::key(table);
    let key = |name: &str| {
        let position = chosen?.columns.iter().position(|key| key == name)?;
        u16::try_from(position).ok()
    };
    let column = |column: &SourceColumn| PgColumn {
        name: column.name.clone(),
        attnum: column.attnum,
        type_name: column.type_name.clone(),
        kind: TypeKind::from_typtype(column.type_kind),
        dimensions: column.dimensions,
        domain: !column.domains.is_empty(),
        generated: column.unpublished,
        nullable: column.nullable,
        null_as: column.null_as,
        key: key(&column.name),
        deterministic: column.deterministic,
        missing: column.missing_value.clone(),
    };
    table.columns.iter().map(column).collect()
}

fn of_refusals(table: &str, refusals: &[Refusal]) -> Problem {
    let reason =
        if refusals.contains(&Refusal::NoPrimaryKey) { Reason::NoPrimaryKey } else { Reason::InvalidSpec };
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Problem::new(table, reason, format!("table {table}: {}", texts.join("; ")))
}

#[cfg(test)]
#[path = "layouts_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "history_model.rs"]
mod model;
