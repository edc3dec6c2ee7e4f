//! Tests of the layouts: one change at the source each. Pure.

use super::*;
use tidemark_crds::layout::{LeftOutReason, NullAs};

use crate::core::facts::IndexFacts;

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

pub(super) fn primary_key(columns: &[&str]) -> IndexFacts {
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
    SourceTableFacts {
        oid: 1,
        replica_identity: 'd',
        indexes: vec![primary_key(&["id"])],
        columns: vec![
            column(1, "id", "bigint", false),
            column(2, "status", "text", false),
            column(3, "note", "text", true),
            column(4, "quantity", "integer", false),
        ],
        storage: Storage { files: [(1, 100)].into(), columns: "a".into(), ..Storage::default() },
        may_select: true,
        owned: true,
        key_range: Some((1, 1_000_000)),
        ..SourceTableFacts::default()
    }
}

fn table() -> Table {
    serde_json::from_value(serde_json::json!({"name": "public.orders"})).unwrap()
}

fn with_column(column: &serde_json::Value) -> Table {
    serde_json::from_value(serde_json::json!({"name": "public.orders", "columns": [column]})).unwrap()
}

fn input<'a>(table: &'a Table, source: &'a SourceTableFacts, history: &'a [TableLayout]) -> LayoutInput<'a> {
    LayoutInput { table, source, history, state: &[], seen: None, storage: None, epoch: 1, by: 500 }
}

fn next(source: &SourceTableFacts, history: &[TableLayout]) -> Result<TableLayout, Problem> {
    decide(&input(&table(), source, history)).map(|decision| decision.layout)
}

fn first() -> Vec<TableLayout> {
    vec![next(&orders(), &[]).unwrap()]
}

fn stored(layout: &TableLayout, source: &str) -> (String, String) {
    let column = layout.columns.iter().find(|column| column.source == source).unwrap();
    (column.stored.clone(), column.r#type.to_string())
}

#[test]
fn the_first_layout_of_a_table() {
    insta::assert_yaml_snapshot!(first()[0]);
}

#[test]
fn nothing_changed_means_the_same_entry() {
    let decision = decide(&input(&table(), &orders(), &first())).unwrap();
    assert_eq!(decision, Decision { layout: first().remove(0), storage: None });
}

#[test]
fn an_entry_begins_between_the_last_look_at_the_former_catalogue_and_this_one() {
    let mut now = orders();
    now.columns.push(column(5, "channel", "text", true));
    let (table, history) = (table(), first());
    let at = |seen| decide(&LayoutInput { seen, ..input(&table, &now, &history) }).unwrap().layout.from;
    let seen = |layout, epoch, lsn| Some(SeenCatalogue { layout, at: (epoch, lsn) });
    assert_eq!(at(seen(1, 1, 400)), Begin { epoch: 1, after: 400, by: 500 });
    assert_eq!(at(None), Begin { epoch: 1, after: 0, by: 500 }, "after a restart: since the entry before");
    assert_eq!(at(seen(0, 1, 400)).after, 0, "it was that of another entry");
    assert_eq!(at(seen(1, 0, 900)).after, 0, "positions of another epoch say nothing");
}

#[test]
fn an_added_column_comes_last_and_is_read_only_where_its_default_has_no_exact_expression() {
    let add = |type_name: &str, missing: &str| {
        let mut now = orders();
        let mut added = column(5, "channel", type_name, false);
        added.missing_value = Some(missing.into());
        now.columns.insert(1, added);
        next(&now, &first()).unwrap()
    };
    let layout = add("text", "web");
    assert_eq!((layout.version, layout.read_again.as_deref()), (2, None));
    assert_eq!(layout.columns.last().unwrap().source, "channel");
    assert_eq!(layout.columns.last().unwrap().missing.as_deref(), Some("web"));
    assert!(add("timestamp with time zone", "infinity").read_again.is_some());
    assert!(add("timestamp with time zone", "2026-01-01 00:00:00+00").read_again.is_none());
}

#[test]
fn a_default_that_a_rewrite_at_the_source_forgot_is_kept() {
    let mut now = orders();
    let mut added = column(5, "channel", "text", false);
    added.missing_value = Some("web".into());
    now.columns.push(added);
    let mut history = first();
    history.push(next(&now, &history).unwrap());
    now.columns[4].missing_value = None;
    assert_eq!(next(&now, &history).unwrap(), history[1]);
}

#[test]
fn a_dropped_column_leaves_the_layout() {
    let mut now = orders();
    now.columns.remove(2);
    let layout = next(&now, &first()).unwrap();
    assert!(layout.columns.iter().all(|column| column.source != "note"));
    assert_eq!((layout.version, layout.read_again), (2, None));
}

#[test]
fn a_column_dropped_and_added_gets_a_column_of_its_own() {
    let mut history = first();
    let mut now = orders();
    now.columns.remove(1);
    history.push(next(&now, &history).unwrap());
    now.columns.push(column(5, "status", "text", true));
    let (table, seen) = (table(), Some(SeenCatalogue { layout: 2, at: (1, 500) }));
    let layout = decide(&LayoutInput { seen, ..input(&table, &now, &history) }).unwrap().layout;
    assert_eq!(stored(&layout, "status"), ("status__3".into(), "Nullable(String)".into()));
    assert_eq!(layout.read_again, None, "rows from before have none");
    // Nobody knows when the one in between ended: it was not seen twice.
    assert!(next(&now, &history).unwrap().read_again.unwrap().contains("dropped and added"));
    // Within one look an event of the old column looks like one of the new.
    assert!(next(&now, &first()).unwrap().read_again.unwrap().contains("dropped and added"));
}

#[test]
fn renamed_and_swapped_columns_keep_their_place_in_the_state_table_under_todays_names() {
    let mut now = orders();
    now.columns[2].name = "remark".into();
    let layout = next(&now, &first()).unwrap();
    assert_eq!((layout.columns[2].target.as_str(), layout.columns[2].stored.as_str()), ("remark", "note"));
    let mut now = orders();
    now.columns[1].name = "note".into();
    now.columns[2].name = "status".into();
    let layout = next(&now, &first()).unwrap();
    assert_eq!(stored(&layout, "note").0, "status");
    assert_eq!(stored(&layout, "status").0, "note");
    assert_eq!(layout.read_again, None);
}

#[test]
fn a_renamed_column_whose_name_another_takes_keeps_its_place() {
    let mut history = first();
    let mut now = orders();
    now.columns[2].name = "remark".into();
    now.columns.push(column(5, "note", "text", true));
    history.push(next(&now, &history).unwrap());
    assert_eq!(stored(&history[1], "remark").0, "note");
    assert_eq!(stored(&history[1], "note").0, "note__2");
    assert_eq!(next(&now, &history).unwrap(), history[1]);
}

#[test]
fn a_wider_type_is_followed_and_any_other_gets_another_column_and_a_read() {
    let mut history = first();
    let mut now = orders();
    now.columns[3].type_name = "bigint".into();
    history.push(next(&now, &history).unwrap());
    assert_eq!(stored(&history[1], "quantity"), ("quantity".into(), "Int64".into()));
    assert_eq!(history[1].read_again, None, "the files say whether rows were rewritten");
    history.push(next(&orders(), &history).unwrap());
    assert_eq!(stored(&history[2], "quantity"), ("quantity__3".into(), "Int32".into()));
    assert!(history[2].read_again.is_some());
    assert_eq!(next(&orders(), &history).unwrap(), history[2], "and then it stays");
}

#[test]
fn a_column_that_loses_or_gets_nulls_stays_one_column() {
    let mut history = first();
    let mut now = orders();
    now.columns[2].nullable = false;
    assert_eq!(next(&now, &history).unwrap(), history[0], "it may hold some");
    now.columns[3].nullable = true;
    history.push(next(&now, &history).unwrap());
    assert_eq!(stored(&history[1], "quantity"), ("quantity".into(), "Nullable(Int32)".into()));
    assert_eq!(history[1].read_again, None);
    assert_eq!(next(&orders(), &history).unwrap(), history[1]);
}

#[test]
fn a_change_in_the_spec_is_read_again() {
    let of = |column| decide(&input(&with_column(&column), &orders(), &first())).unwrap().layout;
    let wide = of(serde_json::json!({"name": "quantity", "type": "Int64"}));
    assert_eq!(stored(&wide, "quantity"), ("quantity".into(), "Int64".into()));
    assert!(wide.read_again.unwrap().contains("quantity"));
    let without = of(serde_json::json!({"name": "note", "exclude": true}));
    assert_eq!(without.read_again, None);
    let mut history = first();
    history.push(without);
    let again = next(&orders(), &history).unwrap();
    assert_eq!(stored(&again, "note").0, "note", "its own column is there still");
    assert!(again.read_again.unwrap().contains("note is stored again"));
    let renamed = of(serde_json::json!({"name": "note", "target": "remark"}));
    assert_eq!((renamed.columns[2].stored.as_str(), renamed.read_again), ("note", None));
}

#[test]
fn a_column_that_was_never_stored_is_read_when_it_is_wanted() {
    let without = with_column(&serde_json::json!({"name": "note", "exclude": true}));
    let history = vec![decide(&input(&without, &orders(), &[])).unwrap().layout];
    assert!(next(&orders(), &history).unwrap().read_again.unwrap().contains("note is stored now"));
}

#[test]
fn files_alone_are_remembered_and_a_rewrite_is_read() {
    let (table, history) = (table(), first());
    let mut now = orders();
    now.storage.files.insert(1, 101);
    let moved = decide(&input(&table, &now, &history)).unwrap();
    assert_eq!(moved.layout, history[0], "VACUUM FULL and TRUNCATE change no row without an event");
    let seen = moved.storage.unwrap();
    let again = |now: &SourceTableFacts| {
        decide(&LayoutInput { storage: Some(&seen), ..input(&table, now, &history) }).unwrap()
    };
    assert_eq!(again(&now).storage, None, "and are not written again");
    // SET NOT NULL writes the catalogue and no row.
    now.storage.columns = "b".into();
    let decision = again(&now);
    assert_eq!((decision.layout, decision.storage.is_some()), (history[0].clone(), true));
    now.storage.files.insert(1, 102);
    let rewritten = again(&now).layout;
    assert_eq!((rewritten.version, rewritten.columns.clone()), (2, history[0].columns.clone()));
    assert!(rewritten.read_again.unwrap().contains("rewritten"));
}

#[test]
fn partitions_that_come_with_rows_or_go_are_read_and_empty_ones_are_not() {
    let history = first();
    let with = |files: &[(u32, u32)], attached: &[u32]| {
        let mut now = orders();
        now.storage.files = files.iter().copied().collect();
        now.attached = attached.iter().copied().collect();
        let decision = decide(&input(&table(), &now, &history)).unwrap();
        (decision.layout.read_again.is_some(), decision.storage.is_some())
    };
    assert_eq!(with(&[(1, 100), (2, 200)], &[]), (false, true));
    assert_eq!(with(&[(1, 100), (2, 200)], &[2]), (true, false));
    assert_eq!(with(&[(1, 100)], &[1]), (false, false), "it was attached before");
    assert_eq!(with(&[(2, 200)], &[]), (true, false));
    assert_eq!(with(&[(1, 101)], &[]), (false, true), "the table's own file");
    let mut now = orders();
    now.storage.files.insert(2, 200);
    now.storage.links.insert(2, "700".to_owned());
    let history = vec![next(&now, &[]).unwrap()];
    let reason = |change: &dyn Fn(&mut SourceTableFacts)| {
        let mut now = now.clone();
        change(&mut now);
        next(&now, &history).unwrap().read_again.unwrap_or_default()
    };
    assert_eq!(reason(&|_| {}), "");
    let emptied = |now: &mut SourceTableFacts| {
        now.storage.files.insert(2, 201);
    };
    assert!(reason(&emptied).contains("emptied"));
    assert!(reason(&|now| drop(now.storage.links.insert(2, "701".to_owned()))).contains("attached again"));
    assert_eq!(reason(&|now| drop(now.storage.links.insert(3, "702".to_owned()))), "");
}

#[test]
fn a_table_dropped_and_created_again_uses_its_columns_on_and_is_read() {
    let mut now = orders();
    now.oid = 9;
    now.storage.files = [(9, 900)].into();
    now.columns = vec![
        column(1, "note", "text", true),
        column(2, "id", "bigint", false),
        column(3, "status", "uuid", false),
    ];
    let layout = next(&now, &first()).unwrap();
    assert_eq!(stored(&layout, "note").0, "note");
    assert_eq!(stored(&layout, "id").0, "id");
    assert_eq!(stored(&layout, "status").0, "status__2", "its type is another one");
    assert_eq!(layout.read_again.as_deref(), Some("the table was dropped and created again"));
}

#[test]
fn a_first_layout_takes_what_fits_of_a_state_table_that_is_there() {
    let (table, source) = (table(), orders());
    let live = |columns: &[(&str, &str)]| -> Vec<(String, String)> {
        columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
    };
    let stored = |state: &[(String, String)]| -> Vec<String> {
        let layout = decide(&LayoutInput { state, ..input(&table, &source, &[]) }).unwrap().layout;
        layout.columns.into_iter().map(|column| column.stored).collect()
    };
    assert_eq!(stored(&[]), ["id", "status", "note", "quantity"]);
    let same = [("id", "Int64"), ("status", "String"), ("note", "Nullable(String)"), ("quantity", "Int32")];
    assert_eq!(stored(&live(&same)), ["id", "status", "note", "quantity"]);
    // The type was another one when the table was made.
    let other = [("id", "Int64"), ("note", "UUID"), ("quantity", "Int64"), ("quantity_", "UUID")];
    assert_eq!(stored(&live(&other)), ["id", "status", "note", "quantity__"], "a UUID widens to text");
}

#[test]
fn a_type_that_changed_back_after_the_table_was_altered_and_before_the_layout_was_written_takes_another_column()
 {
    let (table, source) = (table(), orders());
    let history = [next(&source, &[]).unwrap()];
    let live = |quantity: &str| -> Vec<(String, String)> {
        [("id", "Int64"), ("status", "String"), ("note", "Nullable(String)"), ("quantity", quantity)]
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .into()
    };
    let seen = |state: &[(String, String)]| {
        decide(&LayoutInput { state, ..input(&table, &source, &history) }).unwrap().layout
    };
    assert_eq!(seen(&live("Int32")), history[0]);
    let back = seen(&live("String"));
    assert_eq!((back.version, stored(&back, "quantity").0.as_str()), (2, "quantity_"));
    assert!(back.read_again.unwrap().contains("quantity of the state table"));
}

#[test]
fn what_was_not_published_for_a_while_is_read_again_and_what_is_published_first_is_not() {
    let (table, mut source) = (table(), orders());
    let first = next(&source, &[]).unwrap();
    source.storage.published = "9:700 1:701".into();
    let decision = decide(&input(&table, &source, std::slice::from_ref(&first))).unwrap();
    assert_eq!(decision.layout, first, "it was not streamed before");
    let seen = decision.storage.unwrap();
    let later = |published: &str, seen: &SeenStorage| {
        let mut source = source.clone();
        source.storage.published = published.into();
        let input =
            LayoutInput { storage: Some(seen), ..input(&table, &source, std::slice::from_ref(&first)) };
        decide(&input).unwrap().layout
    };
    assert_eq!(later("9:700 1:701", &seen), first);
    for (published, why) in [
        ("9:700 2:720", "taken out of the publication"),
        ("9:720 1:701", "taken out of the publication"),
        ("10:720 2:721", "taken out of the publication"),
        ("", "has it no more"),
    ] {
        let layout = later(published, &seen);
        assert!(layout.read_again.as_ref().unwrap().contains(why), "{published}: {layout:?}");
        assert_eq!((layout.version, layout.storage.published.as_str()), (2, published));
    }
}

#[test]
fn a_table_under_another_name_and_labels_under_others_are_read_and_a_new_label_is_not() {
    let mut source = orders();
    source.definitions = [("e1".to_owned(), "new".to_owned())].into();
    let mut history = vec![next(&source, &[]).unwrap()];
    source.definitions.insert("e2".to_owned(), "sent".to_owned());
    let added = next(&source, &history).unwrap();
    assert_eq!((added.version, added.read_again.clone()), (2, None));
    history.push(added);
    source.definitions.insert("e2".to_owned(), "gone".to_owned());
    let renamed = next(&source, &history).unwrap();
    assert!(renamed.read_again.as_ref().unwrap().contains("a label of an enum was renamed"));
    history.push(renamed);
    source.definitions.insert("t9".to_owned(), "800".to_owned());
    history.push(next(&source, &history).unwrap());
    source.definitions.insert("t9".to_owned(), "801".to_owned());
    let back = next(&source, &history).unwrap();
    assert!(back.read_again.as_ref().unwrap().contains("the table was renamed or moved"));
    history.push(back);
    let moved = Table { name: "public.orders_2".to_owned(), target: Some("orders".to_owned()), ..table() };
    let moved = decide(&input(&moved, &source, &history)).unwrap().layout;
    assert!(moved.read_again.unwrap().contains("it was public.orders before"));
}

#[test]
fn what_comes_in_the_place_of_null_is_remembered_and_the_table_is_read_where_more_may_have() {
    let with = |null_as| {
        let mut source = orders();
        source.columns[2].null_as = null_as;
        source
    };
    let null_as = |layout: &TableLayout| layout.columns[2].null_as;
    let mut history = first();
    for (now, kept, read) in [
        (NullAs::Empty, NullAs::Empty, true),
        // The connector goes on as it began where a domain loses its NOT NULL.
        (NullAs::Null, NullAs::Empty, false),
        (NullAs::Default, NullAs::Default, true),
        (NullAs::Empty, NullAs::Default, false),
    ] {
        let layout = next(&with(now), &history).unwrap();
        let added = layout.version > history.last().unwrap().version;
        assert_eq!((null_as(&layout), added), (kept, read), "{now:?}");
        if added {
            assert!(layout.read_again.as_ref().unwrap().contains("NULL of column note"), "{layout:?}");
            history.push(layout);
        }
    }
    let mut key = orders();
    key.columns[0].null_as = NullAs::Empty;
    assert_eq!(next(&key, &[]).unwrap().columns[0].null_as, NullAs::Null, "a key has no NULL");
}

#[test]
fn a_name_that_another_kind_of_type_took_is_a_read_and_a_new_start_of_the_connector() {
    let with = |names: &[(&str, &str)]| {
        let mut source = orders();
        source.definitions =
            names.iter().map(|(key, kind)| ((*key).to_owned(), (*kind).to_owned())).collect();
        source
    };
    let mut history = vec![next(&with(&[("ncents", "b23")]), &[]).unwrap()];
    let names = |history: &[TableLayout]| renamed_types(&[("orders".to_owned(), history.to_vec())].into());
    for (definitions, why, renamed) in [
        (&[("ncents", "b23"), ("nstate", "e")][..], "", &[][..]),
        (&[("ncents", "b20"), ("nstate", "e")], "type cents", &["cents:b23>b20"]),
        // Another column has the name later.
        (&[("nstate", "e")], "", &["cents:b23>b20"]),
        (&[("ncents", "b23"), ("nstate", "e")], "type cents", &["cents:b23>b20>b23"]),
        (&[("nstate", "c")], "type state", &["cents:b23>b20>b23", "state:e>c"]),
    ] {
        let layout = next(&with(definitions), &history).unwrap();
        assert!(layout.read_again.clone().unwrap_or_default().contains(why), "{definitions:?}: {layout:?}");
        assert_eq!(layout.read_again.is_none(), why.is_empty(), "{definitions:?}");
        history.push(layout);
        assert_eq!(names(&history), renamed, "{definitions:?}");
    }
}

#[test]
fn another_primary_key_is_refused_by_name_also_of_a_table_created_again() {
    let mut now = orders();
    now.indexes = vec![primary_key(&["status"])];
    let problem = next(&now, &first()).unwrap_err();
    assert_eq!(problem.reason, Reason::TypeConflict);
    assert!(problem.message.contains("(status) instead of (id)"), "{problem:?}");
    now.oid = 9;
    assert!(next(&now, &first()).unwrap_err().message.contains("dropped and created again"));
    let mut anew = orders();
    anew.columns[0].attnum = 5;
    let problem = next(&anew, &first()).unwrap_err();
    assert!(problem.message.contains("its key (id) was dropped and added again"), "{problem:?}");
    let mut wide = orders();
    wide.columns[0].type_name = "numeric(20,0)".into();
    let problem = next(&wide, &first()).unwrap_err();
    assert!(problem.message.contains("ALTER TABLE public.orders ALTER COLUMN id TYPE bigint"), "{problem:?}");
}

#[test]
fn a_table_without_a_key_is_refused() {
    let mut now = orders();
    now.indexes = vec![];
    assert_eq!(next(&now, &[]).unwrap_err().reason, Reason::NoPrimaryKey);
}

#[test]
fn a_column_that_no_event_has_is_left_out() {
    let mut now = orders();
    now.columns[2].unpublished = true;
    let layout = next(&now, &[]).unwrap();
    assert_eq!((layout.columns.len(), layout.left_out[0].why), (3, LeftOutReason::Generated));
    let history = vec![layout];
    assert!(next(&orders(), &history).unwrap().read_again.is_some(), "PostgreSQL 18 can publish it");
}

#[test]
fn a_partition_expression_outside_the_key_is_refused_and_a_growing_range_is_not() {
    let mut wish = table();
    wish.partition_by = Some("toYYYYMM(status)".into());
    assert_eq!(decide(&input(&wish, &orders(), &[])).unwrap_err().reason, Reason::UnsafePartitionBy);
    wish.partition_by = Some("intDiv(id, 100000)".into());
    let made = vec![decide(&input(&wish, &orders(), &[])).unwrap().layout];
    let mut grown = orders();
    grown.key_range = Some((1, 100_000_000));
    assert!(decide(&input(&wish, &grown, &[])).is_err());
    assert_eq!(decide(&input(&wish, &grown, &made)).unwrap().layout, made[0]);
}
