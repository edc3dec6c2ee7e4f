//! The mapping from PostgreSQL's types: the table of the design, overrides and refusals.

use proptest::prelude::*;
use tidemark_crds::layout::{ColumnLayout, OutOfRange, Wire};
use tidemark_crds::mapping::{
    PgColumn, Refusal, TypeKind, can_hold, canonical_numeric, map_columns, map_type,
};
use tidemark_crds::pipeline::Column;
use tidemark_crds::types::ChType;

fn source(name: &str, type_name: &str) -> PgColumn {
    PgColumn {
        name: name.into(),
        attnum: 2,
        type_name: type_name.into(),
        kind: TypeKind::Base,
        nullable: false,
        key: None,
        deterministic: true,
        missing: None,
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

#[test]
fn the_table_of_types() {
    for (pg, wire, ch) in [
        ("smallint", Wire::Int, "Int16"),
        ("integer", Wire::Int, "Int32"),
        ("bigint", Wire::Int, "Int64"),
        ("oid", Wire::Int, "UInt32"),
        ("real", Wire::Float, "Float32"),
        ("double precision", Wire::Float, "Float64"),
        ("numeric(12,2)", Wire::Decimal, "Decimal(12, 2)"),
        ("numeric(76,0)", Wire::Decimal, "Decimal(76, 0)"),
        ("numeric(77,0)", Wire::Decimal, "String"),
        ("numeric(3,-2)", Wire::Decimal, "String"),
        ("numeric(2,4)", Wire::Decimal, "String"),
        ("numeric", Wire::Decimal, "String"),
        ("boolean", Wire::Bool, "Bool"),
        ("text", Wire::Text, "String"),
        ("character varying(20)", Wire::Text, "String"),
        ("character(3)", Wire::Text, "String"),
        ("citext", Wire::Text, "String"),
        ("uuid", Wire::Uuid, "UUID"),
        ("inet", Wire::Text, "String"),
        ("date", Wire::Date, "Date32"),
        ("timestamp without time zone", Wire::Timestamp, "DateTime64(6, 'UTC')"),
        ("timestamp(3) without time zone", Wire::Timestamp, "DateTime64(6, 'UTC')"),
        ("timestamp with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')"),
        ("timestamp(0) with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')"),
        ("time without time zone", Wire::Micros, "Int64"),
        ("time(3) without time zone", Wire::Micros, "Int64"),
        ("time with time zone", Wire::Text, "String"),
        ("interval", Wire::Micros, "Int64"),
        ("interval day to second(3)", Wire::Micros, "Int64"),
        ("json", Wire::Json, "String"),
        ("jsonb", Wire::Json, "String"),
        ("bytea", Wire::Base64, "String"),
        ("int4range", Wire::Text, "String"),
        ("point", Wire::Text, "String"),
    ] {
        let mapped = map_type(pg, TypeKind::Base);
        assert_eq!(
            (mapped.wire, mapped.r#type.to_string(), mapped.array),
            (wire, ch.to_owned(), false),
            "{pg}"
        );
    }
    let status = map_type("order_status", TypeKind::Enum);
    assert_eq!((status.wire, status.r#type.to_string()), (Wire::Text, "LowCardinality(String)".to_owned()));
    assert_eq!(map_type("numeric(3,1)", TypeKind::Other).r#type, ChType::String);
}

#[test]
fn arrays_hold_nullable_elements_and_are_never_nullable() {
    let array = map_type("numeric(10,2)[]", TypeKind::Base);
    assert_eq!(
        (array.wire, array.array, array.r#type.to_string().as_str()),
        (Wire::Decimal, true, "Array(Nullable(Decimal(10, 2)))")
    );
    let statuses = map_type("order_status[]", TypeKind::Enum);
    assert_eq!(statuses.r#type.to_string(), "Array(LowCardinality(Nullable(String)))");
    let column = map_one(PgColumn { nullable: true, ..source("tags", "text[]") }, &[]).unwrap();
    assert_eq!(column.r#type.to_string(), "Array(Nullable(String))");
    assert_eq!(column.out_of_range, OutOfRange::DeadLetter);
}

#[test]
fn null_is_possible_only_where_the_source_has_it_and_never_in_a_key() {
    let nullable = map_one(PgColumn { nullable: true, ..source("note", "text") }, &[]).unwrap();
    assert_eq!(
        (nullable.r#type.to_string().as_str(), nullable.out_of_range),
        ("Nullable(String)", OutOfRange::Null)
    );
    let required = map_one(source("note", "text"), &[]).unwrap();
    assert_eq!((required.r#type, required.out_of_range), (ChType::String, OutOfRange::DeadLetter));
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
        (refusals(source("a", "text[]"), typed("a", "String")), "cannot hold PostgreSQL's text[]"),
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
    fn whatever_is_mapped_can_be_written_by_the_sink(name in type_name(), nullable in any::<bool>()) {
        let mapped = map_type(&name, TypeKind::Base);
        let element = match mapped.r#type.clone() {
            ChType::Array(element) => element.without_null(),
            scalar => scalar,
        };
        prop_assert!(can_hold(mapped.wire, &element), "{name}: {:?} into {element}", mapped.wire);
        let column = map_one(PgColumn { nullable, ..source("a", &name) }, &[]).unwrap();
        prop_assert_eq!(column.r#type.is_nullable(), nullable && !mapped.array);
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
