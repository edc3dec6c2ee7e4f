//! The text of the statements that steps are carried out by. Pure.

use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::CONNECTOR_TABLE;
use tidemark_crds::pg_quote;
use tidemark_crds::quote::{ident, ident_list, literal, qualified};

use crate::core::effect::{
    CarriedTable, ClickHouseEffect, ColumnDefinition, DatabaseDefinition, FreshTo, HistoryRow, Merge,
    PostgresEffect, Publishes, RefreshDefinition, TableDefinition, TableName, ViewDefinition,
};

/// How a publication publishes: all there is, and partitions under the name of their root.
const OPERATIONS: &str = "publish = 'insert, update, delete, truncate'";
const BY_ROOT: &str = "publish_via_partition_root = true";
/// Newer servers publish stored generated columns too.
const GENERATED: &str = "publish_generated_columns = stored";

/// The statement of ClickHouse.
pub fn clickhouse(effect: &ClickHouseEffect) -> String {
    match effect {
        ClickHouseEffect::CreateDatabase(DatabaseDefinition { name, comment }) => {
            format!("CREATE DATABASE IF NOT EXISTS {} COMMENT {}", ident(name), literal(comment))
        }
        ClickHouseEffect::CreateTable(table) => create_table(table),
        ClickHouseEffect::CarryOver(table) => carry_over(table).join(";\n"),
        ClickHouseEffect::AddColumn(table, column) => {
            format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}", quoted(table), column_definition(column))
        }
        ClickHouseEffect::WidenColumn(table, column) => {
            format!("ALTER TABLE {} MODIFY COLUMN {}", quoted(table), column_definition(column))
        }
        ClickHouseEffect::CreateView(view) => view_statement("CREATE", view),
        ClickHouseEffect::CreateRefresh(refresh) => create_refresh(refresh),
        ClickHouseEffect::Record(row) => history_row(row),
        ClickHouseEffect::ReplaceView(view) => view_statement("CREATE OR REPLACE", view),
        ClickHouseEffect::Drop(name) => {
            let kind = if name.is_view { "VIEW" } else { "TABLE" };
            format!("DROP {kind} IF EXISTS {} SYNC", qualified(&name.database, &name.name))
        }
    }
}

fn quoted(table: &TableName) -> String {
    qualified(&table.database, &table.name)
}

fn create_table(table: &TableDefinition) -> String {
    let mut lines: Vec<String> = table.columns.iter().map(column_definition).collect();
    lines.extend(table.indexed.iter().map(|column| {
        let index = ident(&format!("by_{column}"));
        format!("INDEX {index} {} TYPE minmax GRANULARITY 1", ident(column))
    }));
    let partition =
        table.partition_by.as_ref().map_or_else(String::new, |text| format!(" PARTITION BY {text}"));
    let keep = table.keep.as_ref().map_or_else(String::new, |keep| {
        format!(" TTL toDateTime({}, 'UTC') + toIntervalDay({})", ident(&keep.from), keep.days)
    });
    let (engine, settings) = match table.merge {
        // Keys of a view's rows may be NULL.
        Merge::All => ("MergeTree".to_owned(), " SETTINGS allow_nullable_key = 1"),
        Merge::Last => ("ReplacingMergeTree".to_owned(), ""),
        Merge::Greatest(version) => (format!("ReplacingMergeTree({version})"), ""),
        Merge::Current(version, deleted) => (format!("ReplacingMergeTree({version}, {deleted})"), ""),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = {engine}{partition} ORDER BY {}{keep}{settings} COMMENT {}",
        quoted(&table.name),
        lines.join(", "),
        if table.order_by.is_empty() {
            "tuple()".to_owned()
        } else {
            format!("({})", list_of(&table.order_by))
        },
        literal(&table.comment),
    )
}

/// The statements that make a table of an older one's rows. They are begun anew where they were broken off: it has its name
/// only once it is whole. Parts of tables are shared, so that ninety days of rows take no longer than one.
pub fn carry_over(table: &CarriedTable) -> Vec<String> {
    let CarriedTable { name, comment, from, without, with } = table;
    let made = qualified(&name.database, &format!("{}__copy", name.name));
    let from = qualified(&name.database, from);
    let mut all = vec![
        format!("CREATE OR REPLACE TABLE {made} AS {from} COMMENT {}", literal(comment)),
        format!("ALTER TABLE {made} ATTACH PARTITION tuple() FROM {from}"),
    ];
    let drops: Vec<String> = without.iter().map(|column| format!("DROP COLUMN {}", ident(column))).collect();
    let adds = with.iter().map(|(column, before)| {
        let place = before.as_ref().map_or("FIRST".to_owned(), |before| format!("AFTER {}", ident(before)));
        format!("ADD COLUMN {} {place}", column_definition(column))
    });
    let adds: Vec<String> = adds.collect();
    // One by one: a column may be dropped and another one of its name be added.
    for changes in [drops, adds].iter().filter(|changes| !changes.is_empty()) {
        all.push(format!("ALTER TABLE {made} {}", changes.join(", ")));
    }
    all.push(format!("RENAME TABLE {made} TO {}", quoted(name)));
    all
}

fn list_of(names: &[String]) -> String {
    ident_list(names.iter().map(String::as_str))
}

fn column_definition(column: &ColumnDefinition) -> String {
    let default = column.default.as_ref().map_or_else(String::new, |value| format!(" DEFAULT {value}"));
    let codec = column.codec.map_or_else(String::new, |codec| format!(" CODEC({codec})"));
    format!("{} {}{default}{codec}", ident(&column.name), column.kind)
}

/// A view whose readers need no right on what is below it.
fn view_statement(verb: &str, view: &ViewDefinition) -> String {
    format!(
        "{verb} VIEW {}{} SQL SECURITY DEFINER COMMENT {} AS {}",
        qualified(&view.database, &view.name),
        definer(view),
        literal(&view.comment),
        view.select
    )
}

fn definer(view: &ViewDefinition) -> String {
    view.definer.as_ref().map_or_else(String::new, |definer| format!(" DEFINER = {}", ident(definer)))
}

/// What lets an account make views that run as another one.
pub fn grant_definer(viewer: &str, maker: &str) -> String {
    format!("GRANT SET DEFINER ON {} TO {}", ident(viewer), ident(maker))
}

/// What lets an account read these objects of a database, and nothing else; absent where there are none.
pub fn grant_select(database: &str, objects: &[String], viewer: &str) -> Option<String> {
    let each: Vec<String> =
        objects.iter().map(|name| format!("SELECT ON {}", qualified(database, name))).collect();
    (!each.is_empty()).then(|| format!("GRANT {} TO {}", each.join(", "), ident(viewer)))
}

/// A SELECT of columns of these names and types that reads nothing: of no constants, so that nothing is computed with them.
pub fn stand_in(columns: &[(String, String)]) -> String {
    let column = |(name, kind): &(String, String)| {
        format!("materialize(defaultValueOfTypeName({})) AS {}", literal(kind), ident(name))
    };
    format!("SELECT {}", columns.iter().map(column).collect::<Vec<String>>().join(", "))
}

fn create_refresh(refresh: &RefreshDefinition) -> String {
    let ViewDefinition { database, name, comment, select, .. } = &refresh.view;
    let after: Vec<String> = refresh.after.iter().map(|name| qualified(database, name)).collect();
    let depends = if after.is_empty() { String::new() } else { format!(" DEPENDS ON {}", after.join(", ")) };
    let append = if refresh.append { " APPEND" } else { "" };
    format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {} REFRESH EVERY {} SECOND{depends}{append} TO {} SQL SECURITY DEFINER \
         COMMENT {} AS {select}",
        qualified(database, name),
        refresh.every_s,
        qualified(database, &refresh.to),
        literal(comment),
    )
}

fn history_row(row: &HistoryRow) -> String {
    let HistoryRow { database, pipeline, record, fresh_to } = row;
    let (table, pipeline) = (qualified(database, CONNECTOR_TABLE), literal(pipeline));
    let last = format!(
        "(SELECT argMax(tuple(c.fresh_to), c.seen_at).1 FROM {table} AS c WHERE c.pipeline = {pipeline})"
    );
    let instant = |ms: i64| format!("fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')");
    let fresh_to = match *fresh_to {
        FreshTo::Now => "NULL".to_owned(),
        FreshTo::At(ms) => instant(ms),
        FreshTo::Last => last,
        FreshTo::LastOr(ms) => format!("ifNull({last}, {})", instant(ms)),
    };
    format!(
        "INSERT INTO {table} (pipeline, state, tasks, failed_tasks, restarts, error, lag, fresh_to, wal, seen_at) \
         SELECT {pipeline}, {}, {}, {}, {}, {}, {}, {fresh_to}, {}, now64(3)",
        literal(&record.state),
        record.tasks,
        record.failed_tasks,
        record.restarts,
        literal(&record.error),
        literal(&record.lag),
        literal(&record.wal),
    )
}

/// The statement of PostgreSQL.
pub fn postgres(effect: &PostgresEffect) -> String {
    match effect {
        PostgresEffect::CreatePublication { name, tables, options, comment } => {
            let name = pg_quote::ident(name);
            format!(
                "CREATE PUBLICATION {name} FOR TABLE {} WITH ({}); COMMENT ON PUBLICATION {name} IS {}",
                list(tables),
                publishes(*options),
                pg_quote::literal(comment)
            )
        }
        PostgresEffect::AlterPublication { name, drop, add, set } => {
            let name = pg_quote::ident(name);
            let tables = |verb: &str, tables: &[SourceTable]| {
                (!tables.is_empty())
                    .then(|| format!("ALTER PUBLICATION {name} {verb} TABLE {}", list(tables)))
            };
            let set = set.map(|set| format!("ALTER PUBLICATION {name} SET ({})", publishes(set)));
            let statements: Vec<String> =
                [tables("DROP", drop), tables("ADD", add), set].into_iter().flatten().collect();
            statements.join("; ")
        }
        PostgresEffect::DropSlot(name) => {
            let name = pg_quote::literal(name);
            // One that is gone is as it should be.
            format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}"
            )
        }
        PostgresEffect::DropPublication(name) => {
            format!("DROP PUBLICATION IF EXISTS {}", pg_quote::ident(name))
        }
    }
}

fn list(tables: &[SourceTable]) -> String {
    let names: Vec<String> =
        tables.iter().map(|table| pg_quote::qualified(&table.schema, &table.name)).collect();
    names.join(", ")
}

fn publishes(options: Publishes) -> String {
    match options {
        Publishes::Operations => OPERATIONS.to_owned(),
        Publishes::ByRoot => format!("{OPERATIONS}, {BY_ROOT}"),
        Publishes::ByRootAndGenerated => format!("{OPERATIONS}, {BY_ROOT}, {GENERATED}"),
    }
}

#[cfg(test)]
mod tests {
    use tidemark_crds::ledger::ConnectorRecord;

    use super::*;
    use crate::core::desired::tables::bookkeeping;
    use crate::core::effect::{ClickHouseName, Effect, Keep};
    use crate::core::facts::ClickHouseFacts;
    use crate::core::gate::{Gate, System};

    fn view(name: &str) -> ViewDefinition {
        ViewDefinition {
            database: "db".into(),
            name: name.into(),
            comment: "tidemark u/ns/shop 1a2b".into(),
            definer: None,
            select: "SELECT 1 AS n".into(),
            columns: Vec::new(),
        }
    }

    /// One of each sort, with names that have to be quoted.
    fn effects() -> Vec<ClickHouseEffect> {
        let proof = Gate::open().proof(System::ClickHouse).expect("the gate is open");
        let table = || TableName::new("db", "odd`name");
        let users = |name| ViewDefinition { definer: Some("view`er".into()), ..view(name) };
        let row = |fresh_to| {
            let record = ConnectorRecord {
                state: "FAILED".into(),
                error: "it's".into(),
                ..ConnectorRecord::default()
            };
            ClickHouseEffect::Record(HistoryRow {
                database: "db".into(),
                pipeline: "ns/shop".into(),
                record,
                fresh_to,
            })
        };
        let amount = ColumnDefinition {
            default: Some("CAST('1' AS Int64)".into()),
            ..ColumnDefinition::new("amount", "Int64")
        };
        let moment = ColumnDefinition::new("at", "DateTime64(3, 'UTC')");
        let definition = |merge, order_by: &[&str]| TableDefinition {
            name: table(),
            comment: "tidemark u/ns/shop".into(),
            columns: vec![ColumnDefinition { codec: Some("ZSTD(1)"), ..amount.clone() }, moment.clone()],
            indexed: vec!["at".into()],
            merge,
            partition_by: Some("toYYYYMM(`at`)".into()),
            order_by: order_by.iter().map(|&name| name.to_owned()).collect(),
            keep: Some(Keep { from: "at".into(), days: 7 }),
        };
        vec![
            ClickHouseEffect::CreateTable(definition(
                Merge::Current("_version", "_is_deleted"),
                &["at", "amount"],
            )),
            ClickHouseEffect::CreateTable(definition(Merge::All, &[])),
            ClickHouseEffect::CarryOver(CarriedTable {
                name: TableName::new("db", "v__0b"),
                comment: "tidemark u/ns/shop 1a2b".into(),
                from: "v__0a".into(),
                without: vec!["gone".into(), "other".into()],
                with: vec![
                    (moment.clone(), None),
                    (ColumnDefinition::new("new", "String"), Some("at".into())),
                ],
            }),
            ClickHouseEffect::AddColumn(table(), amount.clone()),
            ClickHouseEffect::WidenColumn(table(), moment.clone()),
            ClickHouseEffect::CreateView(view("v")),
            ClickHouseEffect::ReplaceView(proof.allow(view("v"))),
            ClickHouseEffect::CreateRefresh(RefreshDefinition {
                view: view("v__refresh"),
                every_s: 30,
                after: vec!["w__refresh".into()],
                append: true,
                to: "v__0a".into(),
            }),
            ClickHouseEffect::CreateView(users("u")),
            ClickHouseEffect::CreateRefresh(RefreshDefinition {
                view: view("u__refresh"),
                every_s: 30,
                after: vec![],
                append: false,
                to: "u__0a".into(),
            }),
            row(FreshTo::Now),
            row(FreshTo::LastOr(7)),
            ClickHouseEffect::Drop(proof.allow(ClickHouseName {
                database: "db".into(),
                name: "v".into(),
                is_view: true,
                comment: String::new(),
            })),
        ]
    }

    #[test]
    fn the_statements_of_clickhouse_are_as_reviewed() {
        let made = bookkeeping("db", "tidemark u/ns/shop", &ClickHouseFacts::default());
        let of_ledger = made.steps.into_iter().filter_map(|step| match step.effect {
            Effect::ClickHouse(effect) => Some(effect),
            _ => None,
        });
        let text: Vec<String> = of_ledger.chain(effects()).map(|effect| clickhouse(&effect)).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn the_statements_of_postgresql_are_as_reviewed() {
        let proof = Gate::open().proof(System::Postgres).expect("the gate is open");
        let tables = || vec!["public.Odd Name".parse().expect("a name"), "public.b".parse().expect("a name")];
        let name = || "odd\"name".to_owned();
        let alter = |drop, add, set| PostgresEffect::AlterPublication { name: name(), drop, add, set };
        let text = [
            PostgresEffect::CreatePublication {
                name: name(),
                tables: tables(),
                options: Publishes::ByRootAndGenerated,
                comment: "tidemark u/ns/shop".into(),
            },
            alter(tables(), tables(), Some(Publishes::ByRoot)),
            alter(Vec::new(), tables(), None),
            alter(Vec::new(), Vec::new(), Some(Publishes::Operations)),
            PostgresEffect::DropSlot(proof.allow("it's".into())),
            PostgresEffect::DropPublication(proof.allow(name())),
        ]
        .map(|effect| postgres(&effect));
        insta::assert_snapshot!(text.join("\n"));
    }
}
