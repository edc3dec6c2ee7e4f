//! Database, bookkeeping tables, state tables and their `_current` views: DDL, and what of it is missing. Pure.

use serde_json::json;
use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, TableLayout, VERSION_COLUMN};
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE, READS_TABLE, STATES_TABLE,
    SeenStorage, WAL_COLUMN, layout_key,
};
use tidemark_crds::mapping::exact_default;
use tidemark_crds::names::short_hash;
use tidemark_crds::partition::PartitionExpression;
use tidemark_crds::quote::{ident, ident_list, literal, qualified};
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;

use super::part::{OF_A_PIPELINE, Part, Problem, conflict, hash_in, is_ours};
use crate::effect::{Effect, ViewDefinition};
use crate::facts::{ClickHouseFacts, ClickHouseObject};
use crate::gate::Proof;
use crate::step::{Fact, Stage, StepKind};

/// Settings inside `_current`: a session that sets them otherwise would get wrong rows.
const CURRENT_SETTINGS: &str = "use_skip_indexes_if_final_exact_mode = 1, aggregate_functions_null_for_empty = 0, \
     empty_result_for_aggregation_by_empty_set = 0, apply_deleted_mask = 1";

/// Name of a state table within its `_current` view, where columns have other names than there.
const ROW: &str = "_tidemark_row";

/// Columns and engine of each bookkeeping table.
const BOOKKEEPING: [(&str, &str); 6] = [
    (
        LEDGER_TABLE,
        "(pipeline String, kind LowCardinality(String), key String, version UInt64, value String, \
         written_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree(version) ORDER BY (pipeline, kind, key)",
    ),
    (
        FENCES_TABLE,
        "(table String, version UInt128, reason LowCardinality(String), raised_at DateTime64(3, 'UTC')) \
         ENGINE = ReplacingMergeTree(version) ORDER BY table",
    ),
    (
        PROGRESS_TABLE,
        "(pipeline String, table String, partition Int32, replica String, rows UInt64, dead_letters UInt64, \
         dead_epoch UInt16, dead_lsn UInt64, next_offset Int64, applied_lsn UInt64, \
         last_change_at Nullable(DateTime64(3, 'UTC')), fresh_to DateTime64(3, 'UTC'), \
         applied_at DateTime64(3, 'UTC'), beat UInt64) \
         ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table, partition)",
    ),
    (
        STATES_TABLE,
        "(pipeline String, table String, replica String, beat UInt64, state LowCardinality(String), \
         reason LowCardinality(String), error_class LowCardinality(String), message String, \
         since DateTime64(3, 'UTC'), layout UInt64, wants_epoch UInt16, wants_lsn UInt64, doubt String, \
         doubt_epoch UInt16, doubt_lsn UInt64, written_at DateTime64(3, 'UTC')) \
         ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table, replica) \
         TTL toDateTime(written_at, 'UTC') + INTERVAL 1 DAY",
    ),
    (
        READS_TABLE,
        "(pipeline String, table String, request UInt64, epoch UInt16, state LowCardinality(String), \
         barrier UInt64, layout UInt64, owner String, rows UInt64, bytes UInt64, estimated_rows UInt64, \
         error String, started_at DateTime64(3, 'UTC'), updated_at DateTime64(3, 'UTC'), beat UInt64) \
         ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table)",
    ),
    (
        CONNECTOR_TABLE,
        "(pipeline String, state LowCardinality(String), tasks UInt32, failed_tasks UInt32, restarts UInt32, \
         error String, lag LowCardinality(String), fresh_to Nullable(DateTime64(3, 'UTC')), \
         wal LowCardinality(String), seen_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree \
         ORDER BY (pipeline, seen_at) \
         TTL toDateTime(seen_at, 'UTC') + INTERVAL 90 DAY",
    ),
];

/// Columns that a bookkeeping table of an older version lacks.
const ADDED: [(&str, &str, &str); 1] = [(CONNECTOR_TABLE, WAL_COLUMN, "LowCardinality(String)")];

/// Makes the target database and the bookkeeping tables; these are shared by the pipelines of a database.
pub fn bookkeeping(database: &str, mark: &str, facts: &ClickHouseFacts) -> Part {
    let mut part = Part::default();
    if !facts.database_exists {
        let sql = format!("CREATE DATABASE IF NOT EXISTS {} COMMENT {}", ident(database), literal(mark));
        let what = format!("create database {database}");
        part.step((Stage::Database, StepKind::Create), what, vec![], Some(Fact::Database), Effect::make(sql));
    }
    for (name, shape) in BOOKKEEPING {
        match facts.objects.get(name) {
            None => {
                let sql = format!(
                    "CREATE TABLE IF NOT EXISTS {} {shape} COMMENT {}",
                    qualified(database, name),
                    literal(mark)
                );
                let effect = Effect::make(sql);
                let (needs, gives) = (vec![Fact::Database], Some(Fact::Bookkeeping));
                let what = format!("create bookkeeping table {name}");
                part.step((Stage::Bookkeeping, StepKind::Create), what, needs, gives, effect);
            }
            Some(object) if !object.comment.starts_with(OF_A_PIPELINE) => {
                part.problems.push(conflict(name, &format!("table {database}.{name}"), &object.comment));
            }
            Some(object) => part.extend(added(database, name, object)),
        }
    }
    part
}

/// Adds the columns that a bookkeeping table lacks.
fn added(database: &str, table: &str, object: &ClickHouseObject) -> Part {
    let mut part = Part::default();
    let lacks = |column: &str| !object.columns.iter().any(|(known, _)| known == column);
    for (_, column, kind) in ADDED.into_iter().filter(|(of, column, _)| *of == table && lacks(column)) {
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {kind}",
            qualified(database, table),
            ident(column)
        );
        let what = format!("add column {column} to bookkeeping table {table}");
        let effect = Effect::make(sql);
        part.step((Stage::Bookkeeping, StepKind::Change), what, vec![], Some(Fact::Bookkeeping), effect);
    }
    part
}

/// Makes or alters one state table, then writes its layout, its first fence and its `_current` view. `storage` is
/// what there is to remember of the source's files. Without a proof a view that is there stays as it is.
pub fn state(
    database: &str,
    mark: &str,
    layout: &TableLayout,
    storage: Option<&SeenStorage>,
    facts: &ClickHouseFacts,
    proof: Option<Proof>,
) -> Part {
    let target = &layout.target;
    let name = layout.source.to_string();
    let mut part = Part::default();
    match facts.objects.get(target) {
        Some(object) if !is_ours(&object.comment, mark) => {
            let mut found = conflict(target, &format!("table {database}.{target}"), &object.comment);
            found.object = name;
            return Part::problem(found);
        }
        Some(object) if !is_state_table(object) => {
            let message = format!(
                "table {name}: {database}.{target} is a view of this pipeline, or belongs to one: choose another \
                 spec.tables[].target"
            );
            return Part::problem(Problem::new(name, Reason::Conflict, message));
        }
        None => {
            let history = facts.ledger.history(target);
            let effect = Effect::make(create_table(database, mark, layout, history));
            let gives = Some(Fact::StateTable(target.clone()));
            let what = format!("create state table {target}");
            part.step((Stage::StateTable, StepKind::Create), what, vec![Fact::Database], gives, effect);
        }
        Some(object) => match alterations(database, layout, object) {
            Ok(alterations) => {
                for (what, sql) in alterations {
                    let gives = Some(Fact::StateTable(target.clone()));
                    let stage = (Stage::StateTable, StepKind::Change);
                    part.step(stage, what, vec![Fact::Database], gives, Effect::make(sql));
                }
            }
            Err(message) => return Part::problem(Problem::new(name, Reason::TypeConflict, message)),
        },
    }
    layout_row(layout, facts, &mut part);
    if let Some(seen) = storage {
        let effect = Effect::Ledger {
            kind: Kind::Storage,
            key: target.clone(),
            version: facts.ledger.next_version(Kind::Storage, target),
            value: json!(seen),
        };
        let what = format!("remember that the files of {name} changed and its rows did not");
        part.step((Stage::Layout, StepKind::Change), what, vec![Fact::Bookkeeping], None, effect);
    }
    if !facts.fences.contains_key(target) {
        let (needs, gives) = (vec![Fact::Bookkeeping], Some(Fact::Fence(target.clone())));
        let effect = Effect::Fence { table: target.clone(), version: Version(0), reason: "seed" };
        part.step(
            (Stage::FenceSeed, StepKind::Create),
            format!("seed the fence of {target}"),
            needs,
            gives,
            effect,
        );
    }
    part.extend(current_view(database, mark, layout, facts, proof));
    part
}

/// Whether an object is what state tables are, whatever a server makes of the engine's name.
pub fn is_state_table(object: &ClickHouseObject) -> bool {
    object.engine.ends_with("ReplacingMergeTree")
}

/// Writes the newest entry of the history, once.
fn layout_row(layout: &TableLayout, facts: &ClickHouseFacts, part: &mut Part) {
    let (target, version) = (&layout.target, layout.version);
    if facts.ledger.newest(target) == Some(layout) {
        return;
    }
    let mut what = format!("write layout {version} of {target} into the ledger");
    if let Some(reason) = &layout.read_again {
        what = format!("{what}, to be read again: {reason}");
    }
    let key = layout_key(target, version);
    let needs = vec![Fact::Bookkeeping, Fact::StateTable(target.clone())];
    let row = facts.ledger.next_version(Kind::Layout, &key);
    let effect = Effect::Ledger { kind: Kind::Layout, key, version: row, value: json!(layout) };
    let kind = if version == 1 { StepKind::Create } else { StepKind::Change };
    part.step((Stage::Layout, kind), what, needs, Some(Fact::Layout(target.clone())), effect);
}

/// The CREATE of a state table. Columns of former layouts are made too: events of these may still come.
pub fn create_table(database: &str, mark: &str, layout: &TableLayout, history: &[TableLayout]) -> String {
    let mut columns: Vec<&ColumnLayout> = layout.columns.iter().collect();
    for column in history.iter().rev().flat_map(|earlier| &earlier.columns) {
        if !columns.iter().any(|known| known.stored == column.stored) {
            columns.push(column);
        }
    }
    let mut lines: Vec<String> = columns.iter().map(|column| column_definition(column)).collect();
    lines.push(format!("{VERSION_COLUMN} UInt128 CODEC(ZSTD(1))"));
    lines.push(format!("{DELETED_COLUMN} UInt8 CODEC(ZSTD(1))"));
    lines.push(format!("{COMMITTED_AT_COLUMN} DateTime64(3, 'UTC')"));
    // Windows on a moment read a part of the table: an index that costs next to nothing.
    let moments = layout.columns.iter().filter(|column| matches!(column.r#type, ChType::DateTime64 { .. }));
    lines.extend(moments.map(|column| {
        let index = ident(&format!("by_{}", column.stored));
        format!("INDEX {index} {} TYPE minmax GRANULARITY 1", ident(&column.stored))
    }));
    // Written over the names of the first layout, which are those of the state table.
    let stored: Vec<ColumnLayout> = (layout.columns.iter())
        .map(|column| ColumnLayout { target: column.stored.clone(), ..column.clone() })
        .collect();
    let partition = layout
        .partition_by
        .as_ref()
        .and_then(|text| PartitionExpression::check(text, &stored).ok())
        .map_or_else(String::new, |expression| format!("PARTITION BY {} ", expression.sql()));
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = ReplacingMergeTree({VERSION_COLUMN}, {DELETED_COLUMN}) \
         {partition}ORDER BY ({}) COMMENT {}",
        qualified(database, &layout.target),
        lines.join(", "),
        ident_list(layout.key_columns().iter().map(|column| column.stored.as_str())),
        literal(mark),
    )
}

fn column_definition(column: &ColumnLayout) -> String {
    let default = exact_default(column).map_or_else(String::new, |value| format!(" DEFAULT {value}"));
    format!("{} {}{default}", ident(&column.stored), column.r#type)
}

/// What brings an existing state table to its layout; each statement is complete in itself. Columns are added and
/// widened, and never renamed.
fn alterations(
    database: &str,
    layout: &TableLayout,
    object: &ClickHouseObject,
) -> Result<Vec<(String, String)>, String> {
    let table = qualified(database, &layout.target);
    let there = |name: &str| object.columns.iter().find(|(column, _)| column == name).map(|(_, text)| text);
    let mut statements = Vec::new();
    for column in &layout.columns {
        let name = &column.stored;
        match there(name) {
            None => {
                let sql =
                    format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {}", column_definition(column));
                statements.push((format!("alter {}: add column {name}", layout.target), sql));
            }
            Some(text) => match text.parse::<ChType>() {
                Ok(live) if live == column.r#type => {}
                Ok(live) if live.widens_to(&column.r#type) && column.key.is_none() => {
                    let sql = format!("ALTER TABLE {table} MODIFY COLUMN {} {}", ident(name), column.r#type);
                    statements.push((format!("alter {}: widen column {name}", layout.target), sql));
                }
                _ => {
                    return Err(format!(
                        "table {database}.{}: column {name} is {text} and has to be {}: it was altered by hand: \
                         alter it back, or choose another target",
                        layout.target, column.r#type
                    ));
                }
            },
        }
    }
    Ok(statements)
}

/// The `_current` view: newest images behind the fence, the same whatever the session says.
pub fn current_select(database: &str, layout: &TableLayout) -> String {
    let columns: Vec<String> = (layout.columns.iter())
        .map(|column| {
            let (stored, target) = (ident(&column.stored), ident(&column.target));
            // Qualified: a name alone could be that of another column's alias, as where two names were swapped.
            if stored == target { stored } else { format!("{ROW}.{stored} AS {target}") }
        })
        .collect();
    let renamed = layout.columns.iter().any(|column| column.stored != column.target);
    let alias = if renamed { format!(" AS {ROW}") } else { String::new() };
    format!(
        "SELECT {} FROM {}{alias} FINAL WHERE {VERSION_COLUMN} >= (SELECT max(version) FROM {} WHERE table = {}) \
         SETTINGS {CURRENT_SETTINGS}",
        columns.join(", "),
        qualified(database, &layout.target),
        qualified(database, FENCES_TABLE),
        literal(&layout.target),
    )
}

fn current_view(
    database: &str,
    mark: &str,
    layout: &TableLayout,
    facts: &ClickHouseFacts,
    proof: Option<Proof>,
) -> Part {
    let name = format!("{}_current", layout.target);
    let select = current_select(database, layout);
    // A view's columns are frozen when it is made: other types make another view.
    let types: Vec<String> = layout.columns.iter().map(|column| column.r#type.to_string()).collect();
    let hash = short_hash(&format!("{select}\n{}", types.join("\n")));
    let mut part = Part::default();
    let replaces = match facts.objects.get(&name) {
        Some(object) if !is_ours(&object.comment, mark) => {
            let mut found = conflict(&name, &format!("view {database}.{name}"), &object.comment);
            found.object = layout.source.to_string();
            return Part::problem(found);
        }
        Some(object) if object.engine != "View" => {
            let message = format!(
                "table {}: {database}.{name} is a table of this pipeline, and its view has to have that name: choose \
                 another spec.tables[].target for one of them",
                layout.source
            );
            return Part::problem(Problem::new(layout.source.to_string(), Reason::Conflict, message));
        }
        Some(object) if hash_in(&object.comment, mark) == hash => return part,
        Some(_) if proof.is_none() => return part,
        there => there.and(proof),
    };
    let comment = format!("{mark} {hash}");
    let definition = ViewDefinition { database: database.to_owned(), name, comment, select };
    let needs = vec![Fact::StateTable(layout.target.clone()), Fact::Fence(layout.target.clone())];
    let gives = Some(Fact::CurrentView(layout.target.clone()));
    part.view(Stage::CurrentView, needs, gives, definition, replaces);
    part
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
