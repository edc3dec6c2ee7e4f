//! Database, bookkeeping tables, state tables and their `_current` views: DDL, and what of it is missing. Pure.

use serde_json::json;
use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::{COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, TableLayout, VERSION_COLUMN};
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, DIFFERENCES_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, POSITIONS_TABLE, PROGRESS_TABLE,
    READS_TABLE, STATES_TABLE, SeenStorage, VERIFICATION_TABLE, VISIBLE_VIEW, WAL_COLUMN, layout_key,
};
use tidemark_crds::mapping::exact_default;
use tidemark_crds::names::short_hash;
use tidemark_crds::partition::PartitionExpression;
use tidemark_crds::quote::{ident, literal, qualified};
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;

use super::part::{OF_A_PIPELINE, Part, Problem, conflict, hash_in, is_ours};
use crate::core::effect::{
    ClickHouseEffect, ColumnDefinition, DatabaseDefinition, Effect, Keep, Merge, TableDefinition, TableName,
    ViewDefinition,
};
use crate::core::facts::{ClickHouseFacts, ClickHouseObject};
use crate::core::gate::Proof;
use crate::core::step::{Fact, Stage, StepKind};

/// Settings inside `_current`: a session that sets them otherwise would get wrong rows.
const CURRENT_SETTINGS: &str = "use_skip_indexes_if_final_exact_mode = 1, aggregate_functions_null_for_empty = 0, \
     empty_result_for_aggregation_by_empty_set = 0, apply_deleted_mask = 1";

/// Name of a state table within its `_current` view, where columns have other names than there.
const ROW: &str = "_tidemark_row";

/// A bookkeeping table.
struct Bookkeeping {
    name: &'static str,
    columns: &'static [(&'static str, &'static str)],
    /// Which of the rows with the same key stays.
    stays: Merge,
    order_by: &'static [&'static str],
    /// Column and days after which rows go.
    keep: Option<(&'static str, u32)>,
}

const NAME: &str = "LowCardinality(String)";
const MOMENT: &str = "DateTime64(3, 'UTC')";
const MAYBE_MOMENT: &str = "Nullable(DateTime64(3, 'UTC'))";

/// Every bookkeeping table.
const BOOKKEEPING: [Bookkeeping; 9] = [
    Bookkeeping {
        name: LEDGER_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("kind", NAME),
            ("key", "String"),
            ("version", "UInt64"),
            ("value", "String"),
            ("written_at", MOMENT),
        ],
        stays: Merge::Greatest("version"),
        order_by: &["pipeline", "kind", "key"],
        keep: None,
    },
    Bookkeeping {
        name: FENCES_TABLE,
        columns: &[("table", "String"), ("version", "UInt128"), ("reason", NAME), ("raised_at", MOMENT)],
        stays: Merge::Greatest("version"),
        order_by: &["table"],
        keep: None,
    },
    Bookkeeping {
        name: PROGRESS_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("partition", "Int32"),
            ("replica", "String"),
            ("rows", "UInt64"),
            ("dead_letters", "UInt64"),
            ("dead_epoch", "UInt16"),
            ("dead_lsn", "UInt64"),
            ("next_offset", "Int64"),
            ("applied_lsn", "UInt64"),
            ("applied_epoch", "UInt16"),
            ("last_change_at", MAYBE_MOMENT),
            ("fresh_to", MOMENT),
            ("kafka_time", MOMENT),
            ("applied_at", MOMENT),
            ("beat", "UInt64"),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table", "partition"],
        keep: None,
    },
    Bookkeeping {
        name: POSITIONS_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("slot", "UInt8"),
            ("epoch", "UInt16"),
            ("server", "String"),
            ("lsn", "UInt64"),
            ("partitions", "Array(Int32)"),
            ("ends", "Array(Int64)"),
            ("seen_at", MOMENT),
            ("beat", "UInt64"),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table", "slot"],
        keep: None,
    },
    Bookkeeping {
        name: STATES_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("replica", "String"),
            ("beat", "UInt64"),
            ("state", NAME),
            ("reason", NAME),
            ("error_class", NAME),
            ("message", "String"),
            ("since", MOMENT),
            ("layout", "UInt64"),
            ("wants_epoch", "UInt16"),
            ("wants_lsn", "UInt64"),
            ("doubt", "String"),
            ("doubt_epoch", "UInt16"),
            ("doubt_lsn", "UInt64"),
            ("written_at", MOMENT),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table", "replica"],
        keep: Some(("written_at", 1)),
    },
    Bookkeeping {
        name: READS_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("request", "UInt64"),
            ("epoch", "UInt16"),
            ("state", NAME),
            ("barrier", "UInt64"),
            ("layout", "UInt64"),
            ("owner", "String"),
            ("rows", "UInt64"),
            ("bytes", "UInt64"),
            ("estimated_rows", "UInt64"),
            ("place", "String"),
            ("error", "String"),
            ("started_at", MOMENT),
            ("updated_at", MOMENT),
            ("beat", "UInt64"),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table"],
        keep: None,
    },
    Bookkeeping {
        name: VERIFICATION_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("owner", "String"),
            ("request", "UInt64"),
            ("epoch", "UInt16"),
            ("layout", "UInt64"),
            ("began_at", MOMENT),
            ("verified_from", MAYBE_MOMENT),
            ("verified_to", MAYBE_MOMENT),
            ("compared", "UInt64"),
            ("coverage", "Float64"),
            ("differences", "UInt64"),
            ("repaired", "UInt64"),
            ("open", "UInt64"),
            ("error", "String"),
            ("place", "String"),
            ("updated_at", MOMENT),
            ("beat", "UInt64"),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table"],
        keep: None,
    },
    Bookkeeping {
        name: DIFFERENCES_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("table", "String"),
            ("key", "String"),
            ("kind", NAME),
            ("columns", "Array(String)"),
            ("found_at", MOMENT),
            ("repaired_at", MAYBE_MOMENT),
            ("beat", "UInt64"),
        ],
        stays: Merge::Greatest("beat"),
        order_by: &["pipeline", "table", "key", "found_at"],
        keep: Some(("found_at", 90)),
    },
    Bookkeeping {
        name: CONNECTOR_TABLE,
        columns: &[
            ("pipeline", "String"),
            ("state", NAME),
            ("tasks", "UInt32"),
            ("failed_tasks", "UInt32"),
            ("restarts", "UInt32"),
            ("error", "String"),
            ("lag", NAME),
            ("fresh_to", MAYBE_MOMENT),
            (WAL_COLUMN, NAME),
            ("seen_at", MOMENT),
        ],
        stays: Merge::Last,
        order_by: &["pipeline", "seen_at"],
        keep: Some(("seen_at", 90)),
    },
];

impl Bookkeeping {
    fn definition(&self, database: &str, mark: &str) -> TableDefinition {
        TableDefinition {
            name: TableName::new(database, self.name),
            comment: mark.to_owned(),
            columns: self.columns.iter().map(|(name, kind)| ColumnDefinition::new(*name, *kind)).collect(),
            indexed: Vec::new(),
            merge: self.stays,
            partition_by: None,
            order_by: self.order_by.iter().map(|&name| name.to_owned()).collect(),
            keep: self.keep.map(|(from, days)| Keep { from: from.to_owned(), days }),
        }
    }
}

/// Columns that a bookkeeping table of an older version lacks.
const ADDED: [(&str, &str, &str); 4] = [
    (CONNECTOR_TABLE, WAL_COLUMN, NAME),
    (PROGRESS_TABLE, "applied_epoch", "UInt16"),
    (PROGRESS_TABLE, "kafka_time", MOMENT),
    (READS_TABLE, "place", "String"),
];

/// Whether what has the name of a bookkeeping table is one: by its mark, and by the columns that each version's has.
pub fn is_bookkeeping(name: &str, object: &ClickHouseObject) -> bool {
    let is_added = |column: &str| ADDED.iter().any(|(table, added, _)| (*table, *added) == (name, column));
    let has = |column: &str| object.columns.iter().any(|(known, _)| known == column);
    object.comment.starts_with(OF_A_PIPELINE)
        && BOOKKEEPING
            .iter()
            .find(|table| table.name == name)
            .is_some_and(|table| table.columns.iter().all(|(column, _)| is_added(column) || has(column)))
}

/// Makes the target database and the bookkeeping tables; these are shared by the pipelines of a database.
pub fn bookkeeping(database: &str, mark: &str, facts: &ClickHouseFacts) -> Part {
    let mut part = Part::default();
    if !facts.database_exists {
        let definition = DatabaseDefinition { name: database.to_owned(), comment: mark.to_owned() };
        let effect = ClickHouseEffect::CreateDatabase(definition);
        let what = format!("create database {database}");
        part.step((Stage::Database, StepKind::Create), what, vec![], Some(Fact::Database), effect);
    }
    for table in BOOKKEEPING {
        let name = table.name;
        match facts.objects.get(name) {
            None => {
                let effect = ClickHouseEffect::CreateTable(table.definition(database, mark));
                let (needs, gives) = (vec![Fact::Database], Some(Fact::Bookkeeping));
                let what = format!("create bookkeeping table {name}");
                part.step((Stage::Bookkeeping, StepKind::Create), what, needs, gives, effect);
            }
            Some(object) if is_foreign(object) => {
                part.problems.push(conflict(name, &format!("table {database}.{name}"), &object.comment));
            }
            Some(object) => part.extend(added(database, name, object)),
        }
    }
    part
}

fn is_foreign(object: &ClickHouseObject) -> bool {
    !object.comment.starts_with(OF_A_PIPELINE)
}

/// Settings inside [`VISIBLE_VIEW`]: a session that sets them otherwise would get wrong rows.
const VISIBLE_SETTINGS: &str = "join_use_nulls = 0, join_default_strictness = 'ALL', transform_null_in = 0, \
     aggregate_functions_null_for_empty = 0, group_by_use_nulls = 0, prefer_column_name_to_alias = 0, \
     apply_deleted_mask = 1";

/// Up to which position each table shows everything: a claim of [`POSITIONS_TABLE`] holds once every partition has
/// applied what lies below its ends, in the epoch of now and for the server that was seen last.
fn visible_select(database: &str) -> String {
    let of = |table: &str| qualified(database, table);
    let (ledger, reads, states) = (of(LEDGER_TABLE), of(READS_TABLE), of(STATES_TABLE));
    let (progress, positions) = (of(PROGRESS_TABLE), of(POSITIONS_TABLE));
    let (read, epoch) = (literal(Kind::Read.as_str()), literal(Kind::Epoch.as_str()));
    let epochs = format!(
        "SELECT pipeline, toUInt16OrZero(value) AS epoch FROM {ledger} FINAL WHERE kind = {epoch} AND key = ''"
    );
    let applied = format!(
        "SELECT pipeline, table, groupArray(partition) AS partitions, groupArray(next_offset) AS nexts, \
         sum(dead_letters) AS dead FROM {progress} FINAL GROUP BY pipeline, table"
    );
    let passed = format!(
        "SELECT c.pipeline AS pipeline, c.table AS table, max(c.lsn) AS lsn, any(c.server) AS server \
         FROM (SELECT pipeline, table, epoch, server, lsn, partitions, ends FROM {positions} FINAL) AS c \
         INNER JOIN ({epochs}) AS e ON e.pipeline = c.pipeline AND e.epoch = c.epoch \
         INNER JOIN (SELECT pipeline, argMax(server, beat) AS server FROM {positions} FINAL GROUP BY pipeline) AS n \
         ON n.pipeline = c.pipeline AND n.server = c.server \
         LEFT JOIN ({applied}) AS p ON p.pipeline = c.pipeline AND p.table = c.table \
         WHERE arrayAll((partition, end) -> end <= p.nexts[indexOf(p.partitions, partition)], c.partitions, c.ends) \
         GROUP BY pipeline, table"
    );
    let problems = format!(
        "SELECT q.pipeline AS pipeline, q.key AS table, multiIf(\
         r.request != q.version OR r.state != 'read' OR r.epoch != e.epoch OR q.epoch != e.epoch, 'reading', \
         d.at >= (r.epoch, r.barrier), 'doubt', p.dead > 0, 'dead-letters', '') AS problem \
         FROM (SELECT pipeline, key, version, JSONExtractUInt(value, 'epoch') AS epoch FROM {ledger} FINAL \
         WHERE kind = {read} AND value != 'null') AS q \
         LEFT JOIN ({epochs}) AS e ON e.pipeline = q.pipeline \
         LEFT JOIN (SELECT pipeline, table, request, state, epoch, barrier FROM {reads} FINAL) AS r \
         ON r.pipeline = q.pipeline AND r.table = q.key \
         LEFT JOIN (SELECT pipeline, table, max((doubt_epoch, doubt_lsn)) AS at FROM {states} FINAL \
         WHERE doubt != '' GROUP BY pipeline, table) AS d ON d.pipeline = q.pipeline AND d.table = q.key \
         LEFT JOIN ({applied}) AS p ON p.pipeline = q.pipeline AND p.table = q.key"
    );
    let digits = |number: &str| format!("if({number} = 0, '0', replaceRegexpOne(hex({number}), '^0+', ''))");
    let (high, low) = (digits("bitShiftRight(lsn, 32)"), digits("bitAnd(lsn, 4294967295)"));
    format!(
        "SELECT t.pipeline AS pipeline, t.table AS table, if(t.problem = '', v.lsn, 0) AS lsn, \
         concat({high}, '/', {low}) AS position, v.server AS server, t.problem AS problem \
         FROM ({problems}) AS t LEFT JOIN ({passed}) AS v ON v.pipeline = t.pipeline AND v.table = t.table \
         SETTINGS {VISIBLE_SETTINGS}"
    )
}

/// Makes [`VISIBLE_VIEW`], which is shared by the pipelines of a database as the tables are that it reads.
pub fn visible_view(database: &str, mark: &str, facts: &ClickHouseFacts, proof: Proof) -> Part {
    const COLUMNS: [(&str, &str); 6] = [
        ("pipeline", "String"),
        ("table", "String"),
        ("lsn", "UInt64"),
        ("position", "String"),
        ("server", "String"),
        ("problem", "String"),
    ];
    let mut part = Part::default();
    // Over a table of somebody else it could not be made; that one is named, and to be moved first.
    let objects = BOOKKEEPING.iter().filter_map(|table| facts.objects.get(table.name));
    if objects.into_iter().any(is_foreign) {
        return part;
    }
    let select = visible_select(database);
    let hash = short_hash(&select);
    let there = facts.objects.get(VISIBLE_VIEW);
    match there {
        Some(object) if is_foreign(object) || object.engine != "View" => {
            let what = format!("view {database}.{VISIBLE_VIEW}");
            return Part::problem(conflict(VISIBLE_VIEW, &what, &object.comment));
        }
        // Whichever pipeline made it.
        Some(object) if object.comment.ends_with(&hash) => return part,
        Some(_) | None => {}
    }
    let definition = ViewDefinition {
        database: database.to_owned(),
        name: VISIBLE_VIEW.to_owned(),
        comment: format!("{mark} {hash}"),
        definer: None,
        select,
        columns: COLUMNS.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into(),
    };
    let replaces = there.map(|_| proof);
    part.view(Stage::CurrentView, vec![Fact::Bookkeeping], None, definition, replaces);
    part
}

/// Adds the columns that a bookkeeping table lacks.
fn added(database: &str, table: &str, object: &ClickHouseObject) -> Part {
    let mut part = Part::default();
    let lacks = |column: &str| !object.columns.iter().any(|(known, _)| known == column);
    for (_, column, kind) in ADDED.into_iter().filter(|(of, column, _)| *of == table && lacks(column)) {
        let effect =
            ClickHouseEffect::AddColumn(TableName::new(database, table), ColumnDefinition::new(column, kind));
        let what = format!("add column {column} to bookkeeping table {table}");
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
            let effect = ClickHouseEffect::CreateTable(create_table(database, mark, layout, history));
            let gives = Some(Fact::StateTable(target.clone()));
            let what = format!("create state table {target}");
            part.step((Stage::StateTable, StepKind::Create), what, vec![Fact::Database], gives, effect);
        }
        Some(object) => match alterations(database, layout, object) {
            Ok(alterations) => {
                for (what, effect) in alterations {
                    let gives = Some(Fact::StateTable(target.clone()));
                    let stage = (Stage::StateTable, StepKind::Change);
                    part.step(stage, what, vec![Fact::Database], gives, effect);
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

/// A state table. Columns of former layouts are made too: events of these may still come.
pub fn create_table(
    database: &str,
    mark: &str,
    layout: &TableLayout,
    history: &[TableLayout],
) -> TableDefinition {
    let mut known: Vec<&ColumnLayout> = layout.columns.iter().collect();
    for column in history.iter().rev().flat_map(|earlier| &earlier.columns) {
        if !known.iter().any(|known| known.stored == column.stored) {
            known.push(column);
        }
    }
    let mut columns: Vec<ColumnDefinition> = known.into_iter().map(column_definition).collect();
    let packed =
        |name, kind| ColumnDefinition { codec: Some("ZSTD(1)"), ..ColumnDefinition::new(name, kind) };
    columns.push(packed(VERSION_COLUMN, "UInt128"));
    columns.push(packed(DELETED_COLUMN, "UInt8"));
    columns.push(ColumnDefinition::new(COMMITTED_AT_COLUMN, MOMENT));
    // Windows on a moment read a part of the table: an index that costs next to nothing.
    let moments = layout.columns.iter().filter(|column| matches!(column.r#type, ChType::DateTime64 { .. }));
    // Written over the names of the first layout, which are those of the state table.
    let stored: Vec<ColumnLayout> = (layout.columns.iter())
        .map(|column| ColumnLayout { target: column.stored.clone(), ..column.clone() })
        .collect();
    let partition = (layout.partition_by.as_ref())
        .and_then(|text| PartitionExpression::check(text, &stored).ok())
        .map(|expression| expression.sql());
    TableDefinition {
        name: TableName::new(database, &layout.target),
        comment: mark.to_owned(),
        columns,
        indexed: moments.map(|column| column.stored.clone()).collect(),
        merge: Merge::Current(VERSION_COLUMN, DELETED_COLUMN),
        partition_by: partition,
        order_by: layout.key_columns().iter().map(|column| column.stored.clone()).collect(),
        keep: None,
    }
}

fn column_definition(column: &ColumnLayout) -> ColumnDefinition {
    let plain = ColumnDefinition::new(&column.stored, column.r#type.to_string());
    ColumnDefinition { default: exact_default(column), ..plain }
}

/// What brings an existing state table to its layout; each is complete in itself. Columns are added and widened, and
/// never renamed.
fn alterations(
    database: &str,
    layout: &TableLayout,
    object: &ClickHouseObject,
) -> Result<Vec<(String, ClickHouseEffect)>, String> {
    let table = || TableName::new(database, &layout.target);
    let there = |name: &str| object.columns.iter().find(|(column, _)| column == name).map(|(_, text)| text);
    let mut effects = Vec::new();
    for column in &layout.columns {
        let name = &column.stored;
        match there(name) {
            None => {
                let effect = ClickHouseEffect::AddColumn(table(), column_definition(column));
                effects.push((format!("alter {}: add column {name}", layout.target), effect));
            }
            Some(text) => match text.parse::<ChType>() {
                Ok(live) if live == column.r#type => {}
                Ok(live) if live.widens_to(&column.r#type) && column.key.is_none() => {
                    let wider = ColumnDefinition::new(name, column.r#type.to_string());
                    let effect = ClickHouseEffect::WidenColumn(table(), wider);
                    effects.push((format!("alter {}: widen column {name}", layout.target), effect));
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
    Ok(effects)
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
    let columns = layout.columns.iter().map(|column| (column.target.clone(), column.r#type.to_string()));
    let columns = columns.collect();
    let database = database.to_owned();
    let definition = ViewDefinition { database, name, comment, definer: None, select, columns };
    let needs = vec![Fact::StateTable(layout.target.clone()), Fact::Fence(layout.target.clone())];
    let gives = Some(Fact::CurrentView(layout.target.clone()));
    part.view(Stage::CurrentView, needs, gives, definition, replaces);
    part
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
