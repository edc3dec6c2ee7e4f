//! The mapping from PostgreSQL's types: the table of the design, overrides and refusals.

use proptest::prelude::*;
use tidemark_crds::layout::{ColumnLayout, LeftOut, LeftOutReason, NullAs, OutOfRange, Wire};
use tidemark_crds::mapping::{
    PgColumn, Refusal, TypeKind, canonical_numeric, exact_default, is_narrowed, map_columns, map_type,
    read_expression,
};
use tidemark_crds::pipeline::Column;
use tidemark_crds::types::ChType;

fn source(name: &str, type_name: &str) -> PgColumn {
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

fn key(name: &str, type_name: &str) -> PgColumn {
    PgColumn { key: Some(0), attnum: 1, ..source(name, type_name) }
}

fn wish(name: &str) -> Column {
    Column { name: name.into(), ..Column::default() }
}

/// Maps one column beside a key.
fn map_one(column: PgColumn, wishes: &[Column]) -> Result<ColumnLayout, Vec<Refusal>> {
    map_columns(&[key("id", "bigint"), column], wishes)
        .map(|mapped| mapped.columns.into_iter().nth(1).unwrap())
}

/// Wire and type of a column, both as text.
fn mapped(column: &PgColumn) -> (Wire, String) {
    let mapped = map_type(column);
    (mapped.wire, mapped.r#type.to_string())
}

#[test]
fn kinds_and_domains_choose_the_row_of_the_table() {
    let of = |type_name: &str, kind: TypeKind| mapped(&PgColumn { kind, ..source("a", type_name) });
    assert_eq!(of("order_status", TypeKind::Enum), (Wire::Text, "LowCardinality(String)".to_owned()));
    // A domain is asked for by its base type's name.
    assert_eq!(of("numeric(10,2)", TypeKind::Domain), (Wire::Decimal, "Decimal(10, 2)".to_owned()));
    assert_eq!(of("int4range", TypeKind::Other), (Wire::Text, "String".to_owned()));
    assert_eq!(of("shop.address", TypeKind::Other), (Wire::EncodedText, "String".to_owned()));
    assert_eq!(of("cube", TypeKind::Base), (Wire::EncodedText, "String".to_owned()));
}

#[test]
fn arrays_are_typed_where_they_are_never_null_and_in_events() {
    let required = |type_name: &str| mapped(&source("a", type_name));
    let nullable = |type_name: &str| mapped(&PgColumn { nullable: true, ..source("a", type_name) });
    let unstreamed = (Wire::Unstreamed, "String".to_owned());
    assert_eq!(required("integer[]"), (Wire::Int, "Array(Nullable(Int32))".to_owned()));
    assert_eq!(required("bytea[]"), (Wire::Base64, "Array(Nullable(String))".to_owned()));
    assert_eq!(required("character varying(20)[]"), (Wire::Text, "Array(Nullable(String))".to_owned()));
    assert_eq!(nullable("integer[]"), (Wire::Int, "String".to_owned()));
    for type_name in [
        "numeric(10,2)[]",
        "boolean[]",
        "date[]",
        "time with time zone[]",
        "interval[]",
        "address[]",
        "box[]",
    ] {
        assert_eq!(required(type_name), unstreamed, "{type_name}");
        assert_eq!(nullable(type_name), unstreamed, "{type_name}");
    }
    let grid = PgColumn { dimensions: 2, ..source("a", "integer[]") };
    let domain = PgColumn { domain: true, ..source("a", "integer[]") };
    let of_enum = PgColumn { kind: TypeKind::Enum, ..source("a", "order_status[]") };
    let of_domain = PgColumn { kind: TypeKind::Domain, ..source("a", "positive[]") };
    for column in [grid, domain, of_enum, of_domain] {
        assert_eq!(mapped(&column), unstreamed, "{column:?}");
    }
    let column = map_one(PgColumn { nullable: true, ..source("tags", "text[]") }, &[]).unwrap();
    assert_eq!((column.r#type.to_string().as_str(), column.array), ("Nullable(String)", true));
}

#[test]
fn arrays_take_the_type_that_is_asked_for() {
    let typed = |column: PgColumn, r#type: &str| {
        map_one(column, &[Column { r#type: Some(r#type.into()), ..wish("a") }]).map(|c| c.r#type.to_string())
    };
    let nullable = |type_name: &str| PgColumn { nullable: true, ..source("a", type_name) };
    assert_eq!(typed(nullable("text[]"), "Array(String)"), Ok("Array(Nullable(String))".to_owned()));
    assert_eq!(typed(nullable("date[]"), "Array(Date32)"), Ok("Array(Nullable(Date32))".to_owned()));
    assert_eq!(typed(source("a", "text[]"), "String"), Ok("String".to_owned()));
    assert_eq!(typed(source("a", "vector(3)"), "Array(Float32)"), Ok("Array(Float32)".to_owned()));
    assert!(typed(source("a", "text[]"), "Array(Int32)").is_err());
    assert!(typed(PgColumn { dimensions: 2, ..source("a", "text[]") }, "Array(String)").is_err());
    assert!(typed(source("a", "text"), "Array(String)").is_err());
}

#[test]
fn generated_columns_are_left_out_and_no_key() {
    let area = PgColumn { generated: true, attnum: 3, ..source("area", "integer") };
    let found = map_columns(&[key("id", "bigint"), area], &[]).unwrap();
    assert_eq!(found.columns.len(), 1);
    assert_eq!(found.left_out, [LeftOut { source: "area".into(), attnum: 3, why: LeftOutReason::Generated }]);
    let refused = map_columns(&[PgColumn { generated: true, ..key("id", "bigint") }], &[]).unwrap_err();
    assert_eq!(refused[0], Refusal::GeneratedKey { column: "id".into() });
}

#[test]
fn what_is_out_of_range_has_an_answer_that_streams() {
    let answer = |column: PgColumn, chosen: Option<OutOfRange>| {
        let wishes = chosen.map(|chosen| Column { out_of_range: Some(chosen), ..wish(&column.name) });
        map_columns(&[key("id", "date"), column], wishes.as_slice())
            .map(|found| (found.columns[1].r#type.to_string(), found.columns[1].out_of_range))
    };
    let nullable = PgColumn { nullable: true, ..source("a", "date") };
    assert_eq!(answer(source("a", "date"), None), Ok(("Date32".to_owned(), OutOfRange::Clamp)));
    assert_eq!(answer(nullable.clone(), None), Ok(("Nullable(Date32)".to_owned(), OutOfRange::Null)));
    let text = Some(OutOfRange::Text);
    assert_eq!(answer(source("a", "date"), text), Ok(("String".to_owned(), OutOfRange::Text)));
    assert_eq!(answer(nullable, text), Ok(("Nullable(String)".to_owned(), OutOfRange::Text)));
    assert_eq!(answer(source("a", "integer"), text), Ok(("Int32".to_owned(), OutOfRange::Text)));
    // A key is never changed.
    let of_key = |chosen: Option<OutOfRange>| {
        let wishes = chosen.map(|chosen| Column { out_of_range: Some(chosen), ..wish("id") });
        map_columns(&[key("id", "date")], wishes.as_slice())
            .map(|found| (found.columns[0].r#type.to_string(), found.columns[0].out_of_range))
    };
    assert_eq!(of_key(None), Ok(("Date32".to_owned(), OutOfRange::DeadLetter)));
    assert_eq!(of_key(text), Ok(("String".to_owned(), OutOfRange::Text)));
    assert_eq!(of_key(Some(OutOfRange::Clamp)), Err(vec![Refusal::OutOfRangeKey { column: "id".into() }]));
}

#[test]
fn a_type_that_holds_less_than_the_sources_is_known() {
    for (pg_type, given, narrowed) in [
        ("numeric", "Decimal(38, 6)", true),
        ("numeric(10,2)", "Decimal(10, 2)", false),
        ("numeric(10,2)", "Decimal(8, 2)", true),
        ("bigint", "Int32", true),
        ("integer", "Int64", false),
        ("date", "String", false),
    ] {
        let column = map_one(source("a", pg_type), &[Column { r#type: Some(given.into()), ..wish("a") }]);
        assert_eq!(is_narrowed(&column.unwrap()), narrowed, "{pg_type} as {given}");
    }
}

#[test]
fn money_is_read_as_a_number_and_names_are_quoted() {
    let expression = |name: &str, type_name: &str| {
        let column = PgColumn { name: name.into(), ..source("a", type_name) };
        read_expression(&map_one(column, &[]).unwrap())
    };
    assert_eq!(expression("Total \"net\"", "money"), "\"Total \"\"net\"\"\"::numeric");
    assert_eq!(expression("a", "date"), "\"a\"");
    assert_eq!(expression("a", "money[]"), "\"a\"");
}

#[test]
fn the_default_of_old_rows_is_exact_or_not_given() {
    let default = |type_name: &str, missing: &str| {
        exact_default(
            &map_one(PgColumn { missing: Some(missing.into()), ..source("a", type_name) }, &[]).unwrap(),
        )
    };
    for (type_name, missing, expected) in [
        ("integer", "-5", Some("CAST('-5' AS Int32)")),
        ("boolean", "t", Some("CAST(true AS Bool)")),
        ("text", "it's", Some("CAST('it\\'s' AS String)")),
        ("numeric(10,2)", "1.50", Some("CAST('1.50' AS Decimal(10, 2))")),
        ("numeric(10,2)", "NaN", None),
        ("date", "2024-02-29", Some("CAST('2024-02-29' AS Date32)")),
        ("date", "9999-12-31", None),
        ("date", "infinity", None),
        ("date", "0044-03-15 BC", None),
        ("bytea", "\\x00", None),
        ("double precision", "0.1", None),
        ("time without time zone", "10:00:00", None),
        ("integer[]", "{1}", None),
    ] {
        assert_eq!(default(type_name, missing).as_deref(), expected, "{type_name} {missing}");
    }
}

#[test]
fn null_is_possible_only_where_the_source_has_it_and_never_in_a_key() {
    let nullable = map_one(PgColumn { nullable: true, ..source("note", "text") }, &[]).unwrap();
    assert_eq!(
        (nullable.r#type.to_string().as_str(), nullable.out_of_range),
        ("Nullable(String)", OutOfRange::Null)
    );
    let required = map_one(source("note", "text"), &[]).unwrap();
    assert_eq!((required.r#type, required.out_of_range), (ChType::String, OutOfRange::Clamp));
    let keyed = map_columns(&[PgColumn { nullable: true, ..key("id", "bigint") }], &[]).unwrap();
    assert_eq!(keyed.columns[0].r#type, ChType::Int64);
}

#[test]
fn overrides_change_type_name_and_answer() {
    let column = map_one(
        PgColumn { nullable: true, ..source("rate", "numeric") },
        &[Column {
            target: Some("exchange_rate".into()),
            r#type: Some("Decimal(38, 6)".into()),
            out_of_range: Some(OutOfRange::DeadLetter),
            ..wish("rate")
        }],
    )
    .unwrap();
    assert_eq!(column.target, "exchange_rate");
    assert_eq!(column.r#type.to_string(), "Nullable(Decimal(38, 6))");
    assert_eq!(column.out_of_range, OutOfRange::DeadLetter);
    let city = map_one(
        PgColumn { nullable: true, ..source("city", "text") },
        &[Column { r#type: Some("LowCardinality(String)".into()), ..wish("city") }],
    );
    assert_eq!(city.unwrap().r#type.to_string(), "LowCardinality(Nullable(String))");
}

#[test]
fn excluded_columns_are_known_and_not_stored() {
    let mapped = map_columns(
        &[key("id", "bigint"), source("memo", "text")],
        &[Column { exclude: true, ..wish("memo") }],
    )
    .unwrap();
    let left_out: Vec<&str> = mapped.left_out.iter().map(|column| column.source.as_str()).collect();
    assert_eq!((mapped.columns.len(), left_out), (1, vec!["memo"]));
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    let refusals = |column: PgColumn, wish: Column| {
        map_one(column, &[wish]).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let typed = |name: &str, r#type: &str| Column { r#type: Some(r#type.into()), ..wish(name) };
    for (text, part) in [
        (refusals(source("a", "text"), wish("b")), "columns[b] does not exist"),
        (
            refusals(source("a", "text"), Column { exclude: true, ..wish("id") }),
            "columns[id] is part of the primary key",
        ),
        (refusals(source("a", "text"), typed("a", "Varchar")), "columns[a].type \"Varchar\" is not a type"),
        (refusals(source("a", "text"), typed("a", "Int32")), "String or LowCardinality(String) can"),
        (refusals(source("a", "bigint"), typed("a", "Nullable(Int64)")), "leave Nullable out"),
        (refusals(source("a", "text[]"), typed("a", "UUID")), "cannot hold PostgreSQL's text[]"),
        (
            refusals(
                source("a", "date"),
                Column { out_of_range: Some(OutOfRange::Text), ..typed("a", "Date32") },
            ),
            "Date32 is no text",
        ),
        (refusals(source("a", "text"), typed("a", "Array(String)")), "cannot hold PostgreSQL's text"),
        (
            refusals(source("a", "date"), Column { out_of_range: Some(OutOfRange::Null), ..wish("a") }),
            "columns[a].outOfRange is Null",
        ),
        (
            refusals(source("a", "text"), Column { target: Some("id".into()), ..wish("a") }),
            "id and a both become id",
        ),
        (refusals(source("_version", "text"), wish("_version")), "set columns[_version].target"),
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(map_columns(&[source("a", "text")], &[]), Err(vec![Refusal::NoPrimaryKey]));
}

#[test]
fn a_key_whose_equal_values_differ_in_text_is_refused() {
    for (type_name, kind) in [
        ("real", TypeKind::Base),
        ("double precision", TypeKind::Base),
        ("citext", TypeKind::Base),
        ("jsonb", TypeKind::Base),
        ("integer[]", TypeKind::Base),
        ("numrange", TypeKind::Other),
        ("interval", TypeKind::Base),
        ("time with time zone", TypeKind::Base),
        ("bit varying", TypeKind::Base),
        ("bit(200)", TypeKind::Base),
        ("money", TypeKind::Base),
        ("shop.address", TypeKind::Other),
    ] {
        let refused = map_columns(&[PgColumn { kind, ..key("id", type_name) }], &[]).unwrap_err();
        assert!(matches!(&refused[..], [Refusal::AmbiguousKey { .. }]), "{type_name}: {refused:?}");
    }
    let collated = PgColumn { deterministic: false, ..key("id", "text") };
    assert!(map_columns(&[collated], &[]).is_err());
    for (type_name, kind) in [
        ("bigint", TypeKind::Base),
        ("uuid", TypeKind::Base),
        ("text", TypeKind::Base),
        ("character varying(64)", TypeKind::Base),
        ("numeric", TypeKind::Base),
        ("date", TypeKind::Base),
        ("order_status", TypeKind::Enum),
        ("text", TypeKind::Domain),
    ] {
        let accepted = map_columns(&[PgColumn { kind, ..key("id", type_name) }], &[]);
        assert!(accepted.is_ok(), "{type_name}: {accepted:?}");
    }
}

#[test]
fn every_spelling_of_a_number_is_one_key() {
    for (one, canonical) in [
        ("1.00", "1"),
        ("001", "1"),
        ("-0.0", "0"),
        ("+5", "5"),
        (".5", "0.5"),
        ("-10.50", "-10.5"),
        ("100", "100"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
    ] {
        assert_eq!(canonical_numeric(one), canonical);
    }
}

fn type_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("integer".to_owned()),
        Just("text".to_owned()),
        Just("date".to_owned()),
        Just("timestamp with time zone".to_owned()),
        Just("bytea".to_owned()),
        Just("uuid".to_owned()),
        (1..=100u8, 0..=100u8).prop_map(|(p, s)| format!("numeric({p},{s})")),
        r"[a-z ]{1,12}(\([0-9]{1,3}\))?(\[\])?",
    ]
}

proptest! {
    #[test]
    fn whatever_is_mapped_holds_every_value(name in type_name(), nullable in any::<bool>()) {
        let column = map_one(PgColumn { nullable, ..source("a", &name) }, &[]).unwrap();
        prop_assert_eq!(column.r#type.is_nullable(), nullable);
        prop_assert!(!is_narrowed(&column), "{name} as {}", column.r#type);
        prop_assert_eq!(column.r#type.to_string().parse::<ChType>(), Ok(column.r#type.clone()));
    }

    #[test]
    fn writing_the_mapped_type_as_an_override_changes_nothing(name in type_name(), nullable in any::<bool>()) {
        let plain = map_one(PgColumn { nullable, ..source("a", &name) }, &[]).unwrap();
        let written = Column { r#type: Some(plain.r#type.to_string()), ..wish("a") };
        prop_assert_eq!(map_one(PgColumn { nullable, ..source("a", &name) }, &[written]), Ok(plain));
    }

    #[test]
    fn equal_numbers_have_one_text_and_different_ones_two(a in -10_000i64..10_000, b in -10_000i64..10_000, zeros in 0usize..4) {
        let spell = |n: i64, zeros: usize| {
            let sign = if n < 0 { "-" } else { "" };
            format!("{sign}{:0>3}.{:02}{}", n.abs() / 100, n.abs() % 100, "0".repeat(zeros))
        };
        let (first, second) = (spell(a, zeros), spell(b, 0));
        prop_assert_eq!(canonical_numeric(&first) == canonical_numeric(&second), a == b);
        let canonical = canonical_numeric(&first).into_owned();
        prop_assert_eq!(canonical_numeric(&canonical), canonical.as_str());
    }
}
