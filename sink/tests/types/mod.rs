//! Every type of the table, from real events and from PostgreSQL's own text: one row, whichever way it came.
//!
//! `data/types.jsonl` was recorded from Debezium 3.6.1 with the settings of the operator's connector, one line a column:
//! its catalogue entry, and rows of the event's value (raw JSON) beside what COPY prints of it (of money: `v::numeric`).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};
use tidemark_crds::mapping::{PgColumn, TypeKind, map_columns};
use tidemark_crds::pg_types;
use tidemark_crds::pipeline::Column as Wish;
use tidemark_sink::decode::connect_schema::Hint;
use tidemark_sink::decode::json::{Cursor, Raw};
use tidemark_sink::native::Column;
use tidemark_sink::plan::{Encoding, TablePlan, Target};
use tidemark_sink::value::{self, Pushed, ValueError};

/// What Debezium sends for an unchanged out-of-line `uuid[]`.
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

#[derive(Deserialize)]
struct Recorded {
    declared: String,
    r#type: String,
    kind: String,
    dimensions: i32,
    domain: bool,
    nullable: bool,
    rows: Vec<Row>,
    #[serde(default)]
    unchanged: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    event: Option<String>,
}

fn recording() -> Vec<Recorded> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/types.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pg_column(name: &str, type_name: &str) -> PgColumn {
    PgColumn {
        name: name.into(),
        attnum: 2,
        type_name: type_name.into(),
        kind: TypeKind::Base,
        dimensions: i32::from(type_name.ends_with("[]")),
        domain: false,
        generated: false,
        nullable: false,
        key: None,
        deterministic: true,
        missing: None,
        null_as: NullAs::Null,
    }
}

impl Recorded {
    fn column(&self) -> PgColumn {
        PgColumn {
            kind: TypeKind::from_typtype(self.kind.chars().next().unwrap()),
            dimensions: self.dimensions,
            domain: self.domain,
            nullable: self.nullable,
            ..pg_column("v", &self.r#type)
        }
    }
}

/// The sink's plan of a table of a key and the column.
fn plan(column: PgColumn, wish: Option<&Wish>) -> Result<TablePlan, String> {
    let key = PgColumn { attnum: 1, key: Some(0), ..pg_column("id", "integer") };
    plan_of(&[key, column], wish.cloned().as_slice())
}

fn plan_of(source: &[PgColumn], wishes: &[Wish]) -> Result<TablePlan, String> {
    let columns = map_columns(source, wishes).map_err(|refusals| format!("{refusals:?}"))?.columns;
    let layout = TableLayout {
        version: 1,
        source: "public.t".parse().unwrap(),
        oid: 1,
        target: "t".into(),
        from: Begin::default(),
        columns,
        left_out: Vec::new(),
        full_before: false,
        partition_by: None,
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
    };
    TablePlan::new(Arc::new(layout), Encoding::Contract).map_err(|error| error.to_string())
}

fn layout_of(plan: &TablePlan) -> &ColumnLayout {
    &plan.layout.columns[plan.layout.columns.len() - 1]
}

fn bytes(
    plan: &TablePlan,
    push: impl FnOnce(&mut Column) -> Result<Pushed, ValueError>,
) -> Result<(Vec<u8>, Pushed), ValueError> {
    let mut column = Column::new(&layout_of(plan).r#type).unwrap();
    let pushed = push(&mut column)?;
    assert_eq!(column.len(), 1, "{:?}", layout_of(plan));
    let mut bytes = Vec::new();
    column.row_binary(0, &mut bytes);
    Ok((bytes, pushed))
}

fn of_event(plan: &TablePlan, event: &str) -> Result<(Vec<u8>, Pushed), ValueError> {
    let value = Cursor::new(event.as_bytes()).value().unwrap();
    let column_plan = plan.columns.last().unwrap();
    bytes(plan, |column| value::push(column, column_plan, value, Hint::default(), Encoding::Contract))
}

fn of_text(plan: &TablePlan, text: Option<&str>) -> Result<(Vec<u8>, Pushed), ValueError> {
    let column_plan = plan.columns.last().unwrap();
    bytes(plan, |column| match text {
        Some(text) => value::push_postgres_text(column, column_plan, text.as_bytes()),
        None => value::push_null(column, column_plan).map(|()| Pushed::AsIs),
    })
}

/// Bytes of a text in a String column.
fn string(plan: &TablePlan, text: &str) -> Vec<u8> {
    let nullable = layout_of(plan).r#type.is_nullable().then_some(0);
    let mut length = text.len();
    let mut bytes: Vec<u8> = nullable.into_iter().collect();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// PostgreSQL's text as the column has it: an array without bounds other than from 1.
fn shown<'a>(plan: &TablePlan, text: &'a str) -> &'a str {
    match text.split_once('=') {
        Some((bounds, rest)) if plan.columns.last().unwrap().elements && bounds.starts_with('[') => rest,
        _ => text,
    }
}

/// Compares one recorded column under one answer to what is out of range. Returns how many events were compared and
/// how many of them said nothing.
fn compare(recorded: &Recorded, chosen: Option<OutOfRange>) -> (usize, usize) {
    let wish = chosen.map(|chosen| Wish { name: "v".into(), out_of_range: Some(chosen), ..Wish::default() });
    let plan = plan(recorded.column(), wish.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", recorded.declared));
    let column = layout_of(&plan);
    let (mut compared, mut unsaid) = (0, 0);
    for row in &recorded.rows {
        let name = || format!("{} ({}) {:?} {:?}", recorded.declared, column.r#type, row.text, row.event);
        let read = of_text(&plan, row.text.as_deref());
        if let Some(text) = &row.text {
            let is_text =
                plan.columns.last().unwrap().target == Target::Text && !plan.columns.last().unwrap().array;
            if is_text && !matches!(recorded.r#type.as_str(), "bytea") {
                assert_eq!(read, Ok((string(&plan, shown(&plan, text)), Pushed::AsIs)), "{}", name());
            } else if recorded.dimensions < 2 && !text.contains("{{") {
                assert!(read.is_ok(), "{}: {read:?}", name());
            }
        }
        if column.wire == Wire::Unstreamed {
            continue;
        }
        let Some(event) = &row.event else { panic!("{}: no event has it", name()) };
        if event.contains(PLACEHOLDER_UUID) {
            // The one value of a type that Debezium uses for itself.
            continue;
        }
        compared += 1;
        match of_event(&plan, event) {
            Err(ValueError::NotCarried) => unsaid += 1,
            streamed => assert_eq!(streamed, read, "{}", name()),
        }
    }
    if let Some(unchanged) =
        recorded.unchanged.as_ref().filter(|_| column.wire != Wire::Unstreamed && column.wire != Wire::Bits)
    {
        assert_eq!(
            of_event(&plan, unchanged),
            Err(ValueError::Unavailable),
            "{}: {unchanged}",
            recorded.declared
        );
    }
    (compared, unsaid)
}

#[test]
fn a_row_is_the_same_whether_it_was_streamed_or_read() {
    let (mut compared, mut unsaid) = (0, 0);
    for recorded in recording() {
        let (some, none) = compare(&recorded, None);
        (compared, unsaid) = (compared + some, unsaid + none);
    }
    assert!(compared > 500, "only {compared} events were compared");
    // Intervals of zero, arrays of NULLs alone and those of more than one dimension.
    assert!((1..25).contains(&unsaid), "{unsaid} events said nothing");
}

#[test]
fn every_answer_to_what_is_out_of_range_is_the_same_both_ways() {
    for recorded in recording().iter().filter(|recorded| pg_types::element(&recorded.r#type).is_none()) {
        compare(recorded, Some(OutOfRange::Text));
        compare(recorded, Some(OutOfRange::Clamp));
        if recorded.nullable {
            compare(recorded, Some(OutOfRange::Null));
        }
    }
}

#[test]
fn every_value_can_be_had_as_text() {
    for recorded in
        recording().iter().filter(|recorded| recorded.r#type != "bytea" && recorded.r#type != "money")
    {
        let wish = Wish { name: "v".into(), r#type: Some("String".into()), ..Wish::default() };
        let plan = plan(recorded.column(), Some(&wish))
            .unwrap_or_else(|error| panic!("{}: {error}", recorded.declared));
        for row in recorded.rows.iter().filter(|_| layout_of(&plan).wire != Wire::Unstreamed) {
            let (Some(text), Some(event)) = (&row.text, &row.event) else { continue };
            if event.contains(PLACEHOLDER_UUID) {
                continue;
            }
            match of_event(&plan, event) {
                Err(ValueError::NotCarried) => {}
                streamed => assert_eq!(
                    streamed,
                    Ok((string(&plan, shown(&plan, text)), Pushed::AsIs)),
                    "{} {text}",
                    recorded.declared
                ),
            }
        }
    }
}

#[test]
fn every_type_of_the_table_builds_the_sinks_own_column() {
    let recorded: BTreeSet<String> = recording()
        .iter()
        .map(|recorded| pg_types::split_modifier(&recorded.r#type).0.into_owned())
        .collect();
    // PostGIS is not among the extensions at hand; its types are not taken from events.
    let not_at_hand = ["geometry", "geography"];
    for row in pg_types::TABLE {
        for name in row.names {
            let known = recorded.contains(*name) || not_at_hand.contains(name);
            assert!(known, "{name} is not in the recording");
            for nullable in [false, true] {
                for type_name in [(*name).to_owned(), format!("{name}[]"), format!("{name}(3)")] {
                    let column = PgColumn { nullable, ..pg_column("v", &type_name) };
                    plan(column, None).unwrap_or_else(|error| panic!("{type_name}: {error}"));
                }
            }
            let key = PgColumn { key: Some(0), ..pg_column("v", name) };
            assert_eq!(plan_of(&[key], &[]).is_ok(), row.key, "{name} in a key");
        }
    }
}

#[test]
fn arrays_take_the_elements_that_are_asked_for() {
    for (type_name, asked, texts) in [
        ("date[]", "Array(Date32)", &["{2024-02-29,NULL}", "{}"][..]),
        ("boolean[]", "Array(Bool)", &["{t,f,NULL}"]),
        ("numeric(10,2)[]", "Array(Decimal(10, 2))", &["{1.50,-99999999.99,NULL}"]),
        ("double precision[]", "Array(Float64)", &["{NaN,-Infinity,0.1,NULL}"]),
        ("text[]", "Array(String)", &["{a,\"b,c\",\"\",NULL,\"NULL\",\"q\\\"\\\\\"}", "[2:3]={a,b}"]),
        ("vector(3)", "Array(Float32)", &["[1,2.5,-0.1]"]),
    ] {
        let wish = Wish { name: "v".into(), r#type: Some(asked.into()), ..Wish::default() };
        let plan = plan(pg_column("v", type_name), Some(&wish)).unwrap();
        for text in texts {
            let read = of_text(&plan, Some(text));
            assert!(matches!(read, Ok((_, Pushed::AsIs))), "{type_name} {text}: {read:?}");
        }
        let nested = of_text(&plan, Some("{{1,2},{3,4}}"));
        assert!(nested.is_err(), "{type_name}: {nested:?}");
    }
}

#[test]
fn a_key_has_one_text_for_every_spelling_of_a_number() {
    let key = PgColumn { key: Some(0), ..pg_column("v", "numeric") };
    let plan = plan_of(&[key], &[]).unwrap();
    for (one, other) in [("1.00", "1"), ("0", "0.000"), ("NaN", "NaN")] {
        assert_eq!(of_event(&plan, &format!("\"{one}\"")), of_text(&plan, Some(other)), "{one} and {other}");
    }
}

#[test]
fn what_is_out_of_range_is_changed_as_the_policy_says_and_counted() {
    let date = |text: &str| of_text(&plan(pg_column("v", "date"), None).unwrap(), Some(text)).unwrap();
    assert_eq!(date("9999-12-31"), (120_529_i32.to_le_bytes().to_vec(), Pushed::Clamped));
    assert_eq!(date("infinity").1, Pushed::Clamped);
    assert_eq!(date("-infinity"), ((-25_567_i32).to_le_bytes().to_vec(), Pushed::Clamped));
    assert_eq!(date("0044-03-15 BC"), date("-infinity"));
    let nullable = PgColumn { nullable: true, ..pg_column("v", "date") };
    assert_eq!(of_text(&plan(nullable, None).unwrap(), Some("infinity")), Ok((vec![1], Pushed::Nulled)));
    let narrow = Wish { name: "v".into(), r#type: Some("Decimal(4, 2)".into()), ..Wish::default() };
    let narrow = plan(pg_column("v", "numeric"), Some(&narrow)).unwrap();
    assert_eq!(of_text(&narrow, Some("123.456")), Ok((9999_i32.to_le_bytes().to_vec(), Pushed::Clamped)));
    // A value that is too wide for the source's own type tells of another type there.
    let plain = plan(pg_column("v", "numeric(4,2)"), None).unwrap();
    assert_eq!(of_text(&plain, Some("123.45")), Err(ValueError::TooWide));
    let column_plan = plain.columns.last().unwrap();
    let settled = bytes(&plain, |column| {
        value::push_settled(column, column_plan, Raw::Number(b"123.45"), Hint::default(), Encoding::Contract)
    });
    assert_eq!(settled, Ok((9999_i32.to_le_bytes().to_vec(), Pushed::Clamped)));
}

proptest::proptest! {
    #[test]
    fn no_event_and_no_text_makes_it_panic(
        place in 0_usize..60,
        array in proptest::prelude::any::<bool>(),
        text in "[-+0-9a-zA-Z{}\\[\\]()\",:;@.= \\\\]{0,24}|.{0,12}",
    ) {
        let row = &pg_types::TABLE[place % pg_types::TABLE.len()];
        let type_name = if array { format!("{}[]", row.names[0]) } else { row.names[0].to_owned() };
        let plan = plan(pg_column("v", &type_name), None).unwrap();
        let _ = of_text(&plan, Some(&text));
        let column_plan = plan.columns.last().unwrap();
        for event in [text.clone(), serde_json::to_string(&text).unwrap(), format!("[{text}]"), format!("{{{text}}}")] {
            if let Ok(value) = Cursor::new(event.as_bytes()).value() {
                let _ = bytes(&plan, |column| {
                    value::push_settled(column, column_plan, value, Hint::default(), Encoding::DebeziumDefaults)
                });
            }
        }
    }
}
