//! Tests of the layouts: one change at the source each. Pure.

use super::*;
use crate::facts::{IndexFacts, SourceColumn};

fn column(attnum: i16, name: &str, type_name: &str, nullable: bool) -> SourceColumn {
    SourceColumn {
        name: name.into(),
        attnum,
        type_name: type_name.into(),
        type_kind: 'b',
        nullable,
        deterministic: true,
        ..SourceColumn::default()
    }
}

fn source(columns: Vec<SourceColumn>) -> SourceTableFacts {
    SourceTableFacts {
        oid: 1,
        replica_identity: 'd',
        indexes: vec![primary_key(&["id"])],
        columns,
        may_select: true,
        owned: true,
        key_range: Some((1, 1_000_000)),
        ..SourceTableFacts::default()
    }
}

fn primary_key(columns: &[&str]) -> IndexFacts {
    IndexFacts {
        name: "orders_pkey".into(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        primary: true,
        immediate: true,
        valid: true,
        not_null: true,
        ..IndexFacts::default()
    }
}

fn orders() -> SourceTableFacts {
    source(vec![
        column(1, "id", "bigint", false),
        column(2, "status", "text", false),
        column(3, "note", "text", true),
        column(4, "quantity", "integer", false),
    ])
}

fn table() -> Table {
    serde_json::from_value(serde_json::json!({"name": "public.orders"})).unwrap()
}

fn next(source: &SourceTableFacts, previous: &TableLayout) -> Result<TableLayout, Problem> {
    layout(&table(), source, Some(previous), &BTreeSet::new())
}

fn first() -> TableLayout {
    layout(&table(), &orders(), None, &BTreeSet::new()).unwrap()
}

#[test]
fn the_first_layout_of_a_table() {
    insta::assert_yaml_snapshot!(first());
}

#[test]
fn nothing_changed_means_the_same_version() {
    assert_eq!(next(&orders(), &first()).unwrap(), first());
}

#[test]
fn an_added_column_comes_last_and_raises_the_version() {
    let mut now = orders();
    let mut added = column(5, "channel", "text", false);
    added.missing_value = Some("web".into());
    now.columns.insert(1, added);
    let layout = next(&now, &first()).unwrap();
    assert_eq!(layout.version, 2);
    assert_eq!(layout.columns.last().unwrap().source, "channel");
    assert_eq!(layout.columns.last().unwrap().missing.as_deref(), Some("web"));
}

#[test]
fn a_default_that_a_rewrite_at_the_source_forgot_is_kept() {
    let mut now = orders();
    let mut added = column(5, "channel", "text", false);
    added.missing_value = Some("web".into());
    now.columns.push(added);
    let before = next(&now, &first()).unwrap();
    now.columns[4].missing_value = None;
    assert_eq!(next(&now, &before).unwrap(), before);
}

#[test]
fn a_dropped_column_leaves_the_layout_and_is_ignored() {
    let mut now = orders();
    now.columns.remove(2);
    let layout = next(&now, &first()).unwrap();
    assert!(layout.columns.iter().all(|column| column.source != "note"));
    assert_eq!(layout.version, 2);
}

#[test]
fn a_column_dropped_and_added_with_another_type_is_not_a_change_of_type() {
    let mut now = orders();
    now.columns.remove(1);
    now.columns.push(column(5, "status", "integer", true));
    let layout = next(&now, &first()).unwrap();
    let status = layout.columns.iter().find(|column| column.target == "status").unwrap();
    assert_eq!((status.attnum, status.r#type.to_string().as_str()), (5, "Nullable(Int32)"));
    assert!(layout.left_out.is_empty());
}

#[test]
fn a_renamed_column_keeps_its_place_and_name_in_the_state_table() {
    let mut now = orders();
    now.columns[2].name = "remark".into();
    let layout = next(&now, &first()).unwrap();
    assert_eq!((layout.columns[2].source.as_str(), layout.columns[2].target.as_str()), ("remark", "note"));
}

#[test]
fn a_widened_column_is_followed_and_a_narrowed_one_keeps_its_type() {
    let mut now = orders();
    now.columns[3].type_name = "bigint".into();
    let wide = next(&now, &first()).unwrap();
    assert_eq!(wide.columns[3].r#type.to_string(), "Int64");
    let back = next(&orders(), &wide).unwrap();
    assert_eq!(back.columns[3].r#type.to_string(), "Int64");
}

#[test]
fn a_change_to_another_type_is_refused_with_the_statement_that_undoes_it() {
    let mut now = orders();
    now.columns[3].type_name = "uuid".into();
    let problem = next(&now, &first()).unwrap_err();
    assert_eq!(problem.reason, Reason::TypeConflict);
    assert!(
        problem.message.contains("ALTER TABLE public.orders ALTER COLUMN quantity TYPE integer"),
        "{problem:?}"
    );
}

#[test]
fn another_primary_key_is_refused() {
    let mut now = orders();
    now.indexes = vec![primary_key(&["status"])];
    assert_eq!(next(&now, &first()).unwrap_err().reason, Reason::TypeConflict);
}

#[test]
fn a_table_without_a_key_is_refused() {
    let mut now = orders();
    now.indexes = vec![];
    let problem = layout(&table(), &now, None, &BTreeSet::new()).unwrap_err();
    assert_eq!(problem.reason, Reason::NoPrimaryKey);
}

#[test]
fn a_demanded_field_that_the_source_does_not_have_any_more_is_ignored() {
    let demands = ["gone".to_owned(), "status".to_owned()].into();
    let layout = layout(&table(), &orders(), Some(&first()), &demands).unwrap();
    assert!(layout.left_out.is_empty());
}

#[test]
fn a_partition_expression_outside_the_key_is_refused_and_a_growing_range_is_not() {
    let mut wish = table();
    wish.partition_by = Some("toYYYYMM(status)".into());
    let problem = layout(&wish, &orders(), None, &BTreeSet::new()).unwrap_err();
    assert_eq!(problem.reason, Reason::UnsafePartitionBy);
    wish.partition_by = Some("intDiv(id, 100000)".into());
    let made = layout(&wish, &orders(), None, &BTreeSet::new()).unwrap();
    let mut grown = orders();
    grown.key_range = Some((1, 100_000_000));
    assert!(layout(&wish, &grown, None, &BTreeSet::new()).is_err());
    assert_eq!(layout(&wish, &grown, Some(&made), &BTreeSet::new()).unwrap(), made);
}
