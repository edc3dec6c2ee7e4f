//! Tests of the DDL: what is made, altered, replaced, and what is never touched. Pure.

use std::collections::BTreeSet;

use tidemark_crds::layout::{Begin, NullAs, OutOfRange, SourceTable, Storage, Wire};

use super::*;
use crate::core::effect::ClickHouseEffect;
use crate::core::gate::{Gate, System};
use crate::core::statement;

fn proof() -> Option<Proof> {
    Gate::open().proof(System::ClickHouse)
}

const MARK: &str = "tidemark u/ns/shop";

fn column(attnum: i16, name: &str, r#type: &str, wire: Wire) -> ColumnLayout {
    let r#type: ChType = r#type.parse().unwrap();
    ColumnLayout {
        source: name.into(),
        target: name.into(),
        stored: name.into(),
        attnum,
        pg_type: "text".into(),
        wire,
        array: false,
        out_of_range: if r#type.is_nullable() { OutOfRange::Null } else { OutOfRange::DeadLetter },
        r#type,
        key: (name == "id").then_some(0),
        missing: None,
        null_as: NullAs::Null,
    }
}

fn orders() -> TableLayout {
    TableLayout {
        version: 1,
        source: SourceTable { schema: "public".into(), name: "orders".into() },
        target: "orders".into(),
        columns: vec![
            column(1, "id", "Int64", Wire::Int),
            column(2, "status", "LowCardinality(String)", Wire::Text),
            column(3, "created_at", "DateTime64(6, 'UTC')", Wire::ZonedTimestamp),
        ],
        oid: 1,
        from: Begin::default(),
        left_out: vec![],
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
        full_before: false,
        partition_by: Some("intDiv(id, 1000000)".into()),
    }
}

/// ClickHouse as it is once every step of `part` was carried out.
fn after(layout: &TableLayout, view_hash: &str) -> ClickHouseFacts {
    let object = |engine: &str, comment: String, columns: Vec<(String, String)>| ClickHouseObject {
        engine: engine.into(),
        comment,
        columns,
        uuid: String::new(),
    };
    let columns: Vec<(String, String)> =
        layout.columns.iter().map(|column| (column.stored.clone(), column.r#type.to_string())).collect();
    let mut facts = ClickHouseFacts { database_exists: true, ..ClickHouseFacts::default() };
    facts.objects.insert("orders".into(), object("ReplacingMergeTree", MARK.into(), columns.clone()));
    facts.objects.insert("orders_current".into(), object("View", format!("{MARK} {view_hash}"), columns));
    facts.ledger.layouts.insert("orders".into(), vec![layout.clone()]);
    facts.ledger.versions.insert(("layout".into(), layout_key("orders", layout.version)), 1);
    facts.fences.insert("orders".into(), Version(0));
    facts
}

fn view_hash(part: &Part) -> String {
    let sql = part.steps.iter().find_map(|step| match &step.effect {
        Effect::ClickHouse(effect) => Some(statement::clickhouse(effect)).filter(|sql| sql.contains("VIEW")),
        _ => None,
    });
    let sql = sql.unwrap();
    let at = sql.find(MARK).unwrap() + MARK.len() + 1;
    sql[at..at + 8].to_owned()
}

fn settled() -> ClickHouseFacts {
    let made = state("db", MARK, &orders(), None, &ClickHouseFacts::default(), proof());
    after(&orders(), &view_hash(&made))
}

#[test]
fn an_empty_server_gets_database_and_bookkeeping() {
    insta::assert_debug_snapshot!(bookkeeping("db", MARK, &ClickHouseFacts::default()));
}

#[test]
fn a_column_that_a_bookkeeping_table_of_an_older_version_lacks_is_added_once() {
    let mut facts = ClickHouseFacts { database_exists: true, ..ClickHouseFacts::default() };
    for Bookkeeping { name, .. } in BOOKKEEPING {
        let object = ClickHouseObject { comment: MARK.into(), ..ClickHouseObject::default() };
        facts.objects.insert(name.to_owned(), object);
    }
    let part = bookkeeping("db", MARK, &facts);
    let mut what: Vec<&str> = part.steps.iter().map(|step| step.what.as_str()).collect();
    what.sort_unstable();
    assert_eq!(
        what,
        [
            "add column applied_epoch to bookkeeping table _tidemark_progress",
            "add column kafka_time to bookkeeping table _tidemark_progress",
            "add column place to bookkeeping table _tidemark_reads",
            "add column wal to bookkeeping table _tidemark_connector"
        ]
    );
    assert!(part.steps.iter().all(|step| step.gives == Some(Fact::Bookkeeping)), "what writes to them waits");
    for (table, column, kind) in ADDED {
        let made = BOOKKEEPING.iter().find(|made| made.name == table).unwrap();
        assert!(made.columns.contains(&(column, kind)), "a new table has it, too");
        facts.objects.get_mut(table).unwrap().columns.push((column.to_owned(), kind.to_owned()));
    }
    assert_eq!(bookkeeping("db", MARK, &facts), Part::default());
}

#[test]
fn the_view_of_what_is_visible_waits_until_no_table_that_it_reads_is_somebody_elses() {
    let mut facts = ClickHouseFacts { database_exists: true, ..ClickHouseFacts::default() };
    let made = |facts: &ClickHouseFacts| visible_view("db", MARK, facts, proof().unwrap()).steps.len();
    assert_eq!(made(&facts), 1);
    for Bookkeeping { name, .. } in BOOKKEEPING {
        let object =
            |comment: &str| ClickHouseObject { comment: comment.into(), ..ClickHouseObject::default() };
        facts.objects.insert(name.to_owned(), object("theirs"));
        assert_eq!(visible_view("db", MARK, &facts, proof().unwrap()), Part::default(), "{name}");
        facts.objects.insert(name.to_owned(), object("tidemark elsewhere/ns/other"));
        assert_eq!(made(&facts), 1, "{name}");
    }
}

/// Columns of the bookkeeping as the first version of each table had them: tables of it are there for ever.
const FIRST: [(&str, &str); 9] = [
    (LEDGER_TABLE, "pipeline kind key version value written_at"),
    (FENCES_TABLE, "table version reason raised_at"),
    (
        PROGRESS_TABLE,
        "pipeline table partition replica rows dead_letters dead_epoch dead_lsn next_offset applied_lsn last_change_at \
         fresh_to applied_at beat",
    ),
    (
        STATES_TABLE,
        "pipeline table replica beat state reason error_class message since layout wants_epoch wants_lsn doubt \
         doubt_epoch doubt_lsn written_at",
    ),
    (
        READS_TABLE,
        "pipeline table request epoch state barrier layout owner rows bytes estimated_rows error started_at updated_at \
         beat",
    ),
    (
        VERIFICATION_TABLE,
        "pipeline table owner request epoch layout began_at verified_from verified_to compared coverage differences \
         repaired open error place updated_at beat",
    ),
    (DIFFERENCES_TABLE, "pipeline table key kind columns found_at repaired_at beat"),
    (POSITIONS_TABLE, "pipeline table slot epoch server lsn partitions ends seen_at beat"),
    (CONNECTOR_TABLE, "pipeline state tasks failed_tasks restarts error lag fresh_to seen_at"),
];

#[test]
fn a_column_of_the_bookkeeping_is_of_the_first_version_or_added_to_its_tables() {
    assert_eq!(BOOKKEEPING.len(), FIRST.len());
    for Bookkeeping { name, columns, .. } in BOOKKEEPING {
        let (_, first) = FIRST.iter().find(|(first, _)| *first == name).unwrap();
        let added = ADDED.iter().filter(|(table, ..)| *table == name).map(|(_, column, _)| *column);
        let known: BTreeSet<&str> = first.split(' ').chain(added).collect();
        let now: BTreeSet<&str> = columns.iter().map(|(column, _)| *column).collect();
        assert_eq!(now, known, "{name}: a new column belongs to ADDED, and none ever goes");
    }
}

#[test]
fn what_has_the_name_of_bookkeeping_is_told_by_mark_and_columns() {
    for Bookkeeping { name, columns, .. } in BOOKKEEPING {
        let of = |comment: &str, columns: &[(&str, &str)]| ClickHouseObject {
            comment: comment.into(),
            columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect(),
            ..ClickHouseObject::default()
        };
        assert!(is_bookkeeping(name, &of("tidemark elsewhere/ns/other", columns)), "pipelines share it");
        assert!(!is_bookkeeping(name, &of("somebody's", columns)));
        assert!(!is_bookkeeping(name, &of(MARK, &columns[1..])));
        let first: Vec<(&str, &str)> = (columns.iter().copied())
            .filter(|(column, _)| !ADDED.iter().any(|(table, added, _)| (*table, *added) == (name, *column)))
            .collect();
        assert!(is_bookkeeping(name, &of(MARK, &first)), "one of the first version is one");
    }
    assert!(!is_bookkeeping(
        "orders",
        &ClickHouseObject { comment: MARK.into(), ..ClickHouseObject::default() }
    ));
}

#[test]
fn a_new_table_is_made_with_layout_fence_and_view() {
    insta::assert_debug_snapshot!(state("db", MARK, &orders(), None, &ClickHouseFacts::default(), proof()));
}

#[test]
fn what_is_there_is_never_written_again() {
    assert_eq!(state("db", MARK, &orders(), None, &settled(), proof()), Part::default());
}

#[test]
fn an_added_column_alters_the_table_raises_the_layout_and_replaces_the_view() {
    let mut layout = orders();
    layout.version = 2;
    layout.columns.push(ColumnLayout {
        missing: Some("12.50".into()),
        ..column(4, "total", "Nullable(Decimal(14, 2))", Wire::Decimal)
    });
    let part = state("db", MARK, &layout, None, &settled(), proof());
    let what: Vec<&str> = part.steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "alter orders: add column total",
            "write layout 2 of orders into the ledger",
            "replace view orders_current",
        ]
    );
    let Effect::ClickHouse(effect) = &part.steps[0].effect else { unreachable!("an alter is a statement") };
    let sql = statement::clickhouse(effect);
    assert!(sql.ends_with("DEFAULT CAST('12.50' AS Nullable(Decimal(14, 2)))"), "{sql}");
}

#[test]
fn a_column_of_an_old_name_and_another_attnum_is_added_and_shown_under_its_name() {
    let mut layout = orders();
    layout.version = 2;
    layout.read_again = Some("columns were dropped and added".into());
    layout.columns[1] =
        ColumnLayout { stored: "status__2".into(), ..column(7, "status", "Nullable(Int32)", Wire::Int) };
    let part = state("db", MARK, &layout, None, &settled(), proof());
    let sql = |index: usize| match &part.steps[index].effect {
        Effect::ClickHouse(effect) => statement::clickhouse(effect),
        other => unreachable!("{other:?}"),
    };
    assert!(sql(0).ends_with("ADD COLUMN IF NOT EXISTS `status__2` Nullable(Int32)"), "{part:?}");
    assert!(part.steps[1].what.ends_with("to be read again: columns were dropped and added"), "{part:?}");
    assert!(sql(2).contains("_tidemark_row.`status__2` AS `status`"), "{}", sql(2));
}

#[test]
fn a_state_table_made_again_has_the_columns_of_former_layouts_too() {
    let mut layout = orders();
    layout.version = 2;
    layout.columns.remove(1);
    let table = create_table("db", MARK, &layout, &[orders(), layout.clone()]);
    let sql = statement::clickhouse(&ClickHouseEffect::CreateTable(table));
    assert!(sql.contains("`status` LowCardinality(String)"), "{sql}");
    assert_eq!(sql.matches("`id` Int64").count(), 1, "{sql}");
}

#[test]
fn the_history_of_a_table_is_never_written_over() {
    let mut layout = orders();
    layout.version = 2;
    layout.full_before = true;
    let part = state("db", MARK, &layout, None, &settled(), proof());
    let Effect::Ledger { kind, key, version, .. } = &part.steps[0].effect else { unreachable!("a layout") };
    assert_eq!((*kind, key.as_str(), *version), (Kind::Layout, "orders@0000000002", 1));
}

#[test]
fn files_that_changed_alone_are_remembered_in_the_ledger() {
    let seen = SeenStorage { layout: 1, storage: Storage::default() };
    let part = state("db", MARK, &orders(), Some(&seen), &settled(), proof());
    let Effect::Ledger { kind, key, .. } = &part.steps[0].effect else { unreachable!("what was seen") };
    assert_eq!((part.steps.len(), *kind, key.as_str()), (1, Kind::Storage, "orders"));
}

#[test]
fn a_view_of_ours_in_the_place_of_a_state_table_is_a_conflict_and_so_is_a_table_in_that_of_its_view() {
    for (name, engine) in
        [("orders", "View"), ("orders", "MergeTree"), ("orders_current", "ReplacingMergeTree")]
    {
        let mut facts = settled();
        facts.objects.get_mut(name).unwrap().engine = engine.into();
        let part = state("db", MARK, &orders(), None, &facts, proof());
        assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::Conflict), "{name} {engine}");
        assert_eq!(part.problems[0].object, "public.orders");
    }
}

#[test]
fn a_widened_column_is_modified_and_a_column_altered_by_hand_is_a_conflict() {
    let mut layout = orders();
    layout.columns[1] = column(2, "status", "Nullable(String)", Wire::Text);
    let part = state("db", MARK, &layout, None, &settled(), proof());
    assert!(part.steps[0].what.contains("widen column status"), "{part:?}");
    let mut facts = settled();
    facts.objects.get_mut("orders").unwrap().columns[1].1 = "Array(String)".into();
    let part = state("db", MARK, &orders(), None, &facts, proof());
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::TypeConflict));
}

#[test]
fn what_is_not_ours_is_named_and_never_touched() {
    for comment in ["", "tidemark u/ns/shop2", "tidemark other/ns/shop"] {
        for name in ["orders", "orders_current"] {
            let mut facts = settled();
            facts.objects.get_mut(name).unwrap().comment = comment.into();
            let part = state("db", MARK, &orders(), None, &facts, proof());
            assert_eq!(
                (part.steps.len(), part.problems[0].reason),
                (0, Reason::Conflict),
                "{name} {comment}"
            );
            assert_eq!(part.problems[0].object, "public.orders");
        }
    }
}
