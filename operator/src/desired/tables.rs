//! Database, bookkeeping tables, state tables and their `_current` views: DDL, and what of it is missing. Pure.

use serde_json::json;
use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{
    COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, TableLayout, VERSION_COLUMN, Wire,
};
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, DEMANDS_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE,
};
use tidemark_crds::names::short_hash;
use tidemark_crds::partition::PartitionExpression;
use tidemark_crds::quote::{ident, ident_list, literal, qualified};
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;

use super::part::{Part, Problem, conflict, hash_in, is_ours};
use crate::effect::Effect;
use crate::facts::{ClickHouseFacts, ClickHouseObject};
use crate::step::{Fact, Stage, StepKind};

/// Settings inside `_current`: a session that sets them otherwise would get wrong rows.
const CURRENT_SETTINGS: &str = "use_skip_indexes_if_final_exact_mode = 1, aggregate_functions_null_for_empty = 0, \
     empty_result_for_aggregation_by_empty_set = 0, apply_deleted_mask = 1";

/// Columns and engine of each bookkeeping table.
const BOOKKEEPING: [(&str, &str); 5] = [
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
        DEMANDS_TABLE,
        "(pipeline String, table String, field String, layout_version UInt64, seen_at DateTime64(3, 'UTC')) \
         ENGINE = ReplacingMergeTree(seen_at) ORDER BY (pipeline, table, field)",
    ),
    (
        CONNECTOR_TABLE,
        "(pipeline String, state LowCardinality(String), tasks UInt32, failed_tasks UInt32, restarts UInt32, \
         error String, lag LowCardinality(String), fresh_to Nullable(DateTime64(3, 'UTC')), \
         seen_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree ORDER BY (pipeline, seen_at) \
         TTL toDateTime(seen_at, 'UTC') + INTERVAL 90 DAY",
    ),
];

/// Makes the target database and the bookkeeping tables; these are shared by the pipelines of a database.
pub fn bookkeeping(database: &str, mark: &str, facts: &ClickHouseFacts) -> Part {
    let mut part = Part::default();
    if !facts.database_exists {
        let sql = format!("CREATE DATABASE IF NOT EXISTS {} COMMENT {}", ident(database), literal(mark));
        let what = format!("create database {database}");
        part.step(
            (Stage::Database, StepKind::Create),
            what,
            vec![],
            Some(Fact::Database),
            Effect::ClickHouse { sql },
        );
    }
    for (name, shape) in BOOKKEEPING {
        match facts.objects.get(name) {
            None => {
                let sql = format!(
                    "CREATE TABLE IF NOT EXISTS {} {shape} COMMENT {}",
                    qualified(database, name),
                    literal(mark)
                );
                let effect = Effect::ClickHouse { sql };
                let (needs, gives) = (vec![Fact::Database], Some(Fact::Bookkeeping));
                let what = format!("create bookkeeping table {name}");
                part.step((Stage::Bookkeeping, StepKind::Create), what, needs, gives, effect);
            }
            Some(object) if !object.comment.starts_with("tidemark ") => {
                part.problems.push(conflict(name, &format!("table {database}.{name}"), &object.comment));
            }
            Some(_) => {}
        }
    }
    part
}

/// Makes or alters one state table, then writes its layout, its first fence and its `_current` view.
pub fn state(database: &str, mark: &str, layout: &TableLayout, facts: &ClickHouseFacts) -> Part {
    let target = &layout.target;
    let name = layout.source.to_string();
    let mut part = Part::default();
    let table = facts.objects.get(target);
    match table {
        Some(object) if !is_ours(&object.comment, mark) => {
            let mut found = conflict(target, &format!("table {database}.{target}"), &object.comment);
            found.object = name;
            return Part::problem(found);
        }
        None => {
            let effect = Effect::ClickHouse { sql: create_table(database, mark, layout) };
            let gives = Some(Fact::StateTable(target.clone()));
            let what = format!("create state table {target}");
            part.step((Stage::StateTable, StepKind::Create), what, vec![Fact::Database], gives, effect);
        }
        Some(object) => match alterations(database, layout, facts.ledger.layouts.get(target), object) {
            Ok(alterations) => {
                for (what, sql) in alterations {
                    let gives = Some(Fact::StateTable(target.clone()));
                    let stage = (Stage::StateTable, StepKind::Change);
                    part.step(stage, what, vec![Fact::Database], gives, Effect::ClickHouse { sql });
                }
            }
            Err(message) => return Part::problem(Problem::new(name, Reason::TypeConflict, message)),
        },
    }
    layout_row(layout, facts, &mut part);
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
    part.extend(current_view(database, mark, layout, facts));
    part
}

fn layout_row(layout: &TableLayout, facts: &ClickHouseFacts, part: &mut Part) {
    let target = &layout.target;
    if facts.ledger.layouts.get(target) == Some(layout) {
        return;
    }
    let version = layout.version.max(facts.ledger.next_version(Kind::Layout, target));
    let layout = TableLayout { version, ..layout.clone() };
    let what = format!("write layout {version} of {target} into the ledger");
    let needs = vec![Fact::Bookkeeping, Fact::StateTable(target.clone())];
    let effect = Effect::Ledger { kind: Kind::Layout, key: target.clone(), version, value: json!(layout) };
    let kind = if version == 1 { StepKind::Create } else { StepKind::Change };
    part.step((Stage::Layout, kind), what, needs, Some(Fact::Layout(target.clone())), effect);
}

/// The CREATE of a state table.
pub fn create_table(database: &str, mark: &str, layout: &TableLayout) -> String {
    let mut lines: Vec<String> = layout.columns.iter().map(column_definition).collect();
    lines.push(format!("{VERSION_COLUMN} UInt128 CODEC(ZSTD(1))"));
    lines.push(format!("{DELETED_COLUMN} UInt8 CODEC(ZSTD(1))"));
    lines.push(format!("{COMMITTED_AT_COLUMN} DateTime64(3, 'UTC')"));
    // Windows on a moment read a part of the table: an index that costs next to nothing.
    let moments = layout.columns.iter().filter(|column| matches!(column.r#type, ChType::DateTime64 { .. }));
    lines.extend(moments.map(|column| {
        let index = ident(&format!("by_{}", column.target));
        format!("INDEX {index} {} TYPE minmax GRANULARITY 1", ident(&column.target))
    }));
    let partition = layout
        .partition_by
        .as_ref()
        .and_then(|text| PartitionExpression::check(text, &layout.columns).ok())
        .map_or_else(String::new, |expression| format!("PARTITION BY {} ", expression.sql()));
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = ReplacingMergeTree({VERSION_COLUMN}, {DELETED_COLUMN}) \
         {partition}ORDER BY ({}) COMMENT {}",
        qualified(database, &layout.target),
        lines.join(", "),
        ident_list(layout.key_columns().iter().map(|column| column.target.as_str())),
        literal(mark),
    )
}

fn column_definition(column: &ColumnLayout) -> String {
    let default = default_expression(column).map_or_else(String::new, |value| format!(" DEFAULT {value}"));
    format!("{} {}{default}", ident(&column.target), column.r#type)
}

/// What brings an existing state table to its layout; each statement is complete in itself.
fn alterations(
    database: &str,
    layout: &TableLayout,
    known: Option<&TableLayout>,
    object: &ClickHouseObject,
) -> Result<Vec<(String, String)>, String> {
    let table = qualified(database, &layout.target);
    let there = |name: &str| object.columns.iter().find(|(column, _)| column == name).map(|(_, text)| text);
    let mut statements = Vec::new();
    for column in &layout.columns {
        let name = &column.target;
        // The column that had this name belonged to one that the source dropped: it steps aside.
        let replaced = known
            .and_then(|known| {
                known.columns.iter().find(|old| old.target == *name && old.attnum != column.attnum)
            })
            .map(|old| format!("{name}__{}", old.attnum))
            .filter(|aside| there(name).is_some() && there(aside).is_none());
        if let Some(aside) = replaced {
            let sql = format!(
                "ALTER TABLE {table} RENAME COLUMN {} TO {}, ADD COLUMN {}",
                ident(name),
                ident(&aside),
                column_definition(column)
            );
            statements
                .push((format!("alter {}: put column {name} aside and add a new one", layout.target), sql));
            continue;
        }
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
                        "table {database}.{}: column {name} is {text} and has to be {}: it was altered by hand, or \
                         its type in spec.tables changed; alter it, or choose another target",
                        layout.target, column.r#type
                    ));
                }
            },
        }
    }
    Ok(statements)
}

/// ClickHouse's expression for the value of rows that are older than the column; `None`: NULL, the type's
/// default, or a type whose text ClickHouse does not read as PostgreSQL prints it.
pub fn default_expression(column: &ColumnLayout) -> Option<String> {
    let text = column.missing.as_deref()?;
    if column.array || matches!(column.wire, Wire::Base64 | Wire::Micros) {
        return None;
    }
    let value = match column.wire {
        Wire::Bool => if matches!(text, "t" | "true") { "true" } else { "false" }.to_owned(),
        Wire::Timestamp | Wire::ZonedTimestamp => {
            if text.contains("infinity") || text.ends_with("BC") {
                return None;
            }
            format!("parseDateTime64BestEffort({}, 6, 'UTC')", literal(text))
        }
        _ => literal(text),
    };
    Some(format!("CAST({value} AS {})", column.r#type))
}

/// The `_current` view: newest images behind the fence, the same whatever the session says.
pub fn current_select(database: &str, layout: &TableLayout) -> String {
    format!(
        "SELECT {} FROM {} FINAL WHERE {VERSION_COLUMN} >= (SELECT max(version) FROM {} WHERE table = {}) \
         SETTINGS {CURRENT_SETTINGS}",
        ident_list(layout.columns.iter().map(|column| column.target.as_str())),
        qualified(database, &layout.target),
        qualified(database, FENCES_TABLE),
        literal(&layout.target),
    )
}

fn current_view(database: &str, mark: &str, layout: &TableLayout, facts: &ClickHouseFacts) -> Part {
    let name = format!("{}_current", layout.target);
    let select = current_select(database, layout);
    // A view's columns are frozen when it is made: other types make another view.
    let types: Vec<String> = layout.columns.iter().map(|column| column.r#type.to_string()).collect();
    let hash = short_hash(&format!("{select}\n{}", types.join("\n")));
    let mut part = Part::default();
    let kind = match facts.objects.get(&name) {
        Some(object) if !is_ours(&object.comment, mark) => {
            let mut found = conflict(&name, &format!("view {database}.{name}"), &object.comment);
            found.object = layout.source.to_string();
            return Part::problem(found);
        }
        Some(object) if hash_in(&object.comment, mark) == hash => return part,
        Some(_) => StepKind::Replace,
        None => StepKind::Create,
    };
    let sql = create_view(database, &name, &format!("{mark} {hash}"), &select);
    let needs = vec![Fact::StateTable(layout.target.clone()), Fact::Fence(layout.target.clone())];
    let gives = Some(Fact::CurrentView(layout.target.clone()));
    let verb = if kind == StepKind::Create { "create" } else { "replace" };
    part.step(
        (Stage::CurrentView, kind),
        format!("{verb} view {name}"),
        needs,
        gives,
        Effect::ClickHouse { sql },
    );
    part
}

/// A view whose readers need no right on what is below it.
pub fn create_view(database: &str, name: &str, comment: &str, select: &str) -> String {
    format!(
        "CREATE OR REPLACE VIEW {} SQL SECURITY DEFINER COMMENT {} AS {select}",
        qualified(database, name),
        literal(comment)
    )
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
