//! ClickHouse types: text round trip, and what widens to what.

use proptest::prelude::*;
use tidemark_crds::types::ChType;

fn scalar() -> impl Strategy<Value = ChType> {
    prop_oneof![
        prop_oneof![
            Just(ChType::Bool),
            Just(ChType::Int16),
            Just(ChType::Int32),
            Just(ChType::Int64),
            Just(ChType::UInt8),
            Just(ChType::UInt32),
            Just(ChType::UInt64),
            Just(ChType::UInt128),
            Just(ChType::Float32),
        ],
        prop_oneof![
            Just(ChType::Float64),
            Just(ChType::String),
            Just(ChType::Uuid),
            Just(ChType::Date32),
            (1..=76u8, 0..=76u8)
                .prop_map(|(precision, scale)| ChType::Decimal { precision, scale: scale.min(precision) }),
            (0..=9u8).prop_map(|precision| ChType::DateTime64 { precision }),
            Just(ChType::LowCardinality(Box::new(ChType::String))),
        ],
    ]
}

fn any_type() -> impl Strategy<Value = ChType> {
    (scalar(), any::<bool>(), any::<bool>()).prop_map(|(scalar, nullable, array)| {
        let element = if nullable { scalar.nullable() } else { scalar };
        if array { ChType::Array(Box::new(element)) } else { element }
    })
}

proptest! {
    #[test]
    fn every_type_is_printed_and_read_back(r#type in any_type()) {
        prop_assert_eq!(r#type.to_string().parse::<ChType>(), Ok(r#type));
    }

    #[test]
    fn a_type_widens_to_itself_and_to_its_nullable(r#type in any_type()) {
        prop_assert!(r#type.widens_to(&r#type));
        prop_assert!(r#type.widens_to(&r#type.clone().nullable()));
    }

    #[test]
    fn nothing_widens_away_from_null(r#type in scalar()) {
        prop_assert!(r#type.clone().nullable().is_narrowing(&r#type));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = text.parse::<ChType>();
    }
}

/// Types of every kind, small and large.
fn sample() -> Vec<ChType> {
    let scalars = [
        "Bool",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt32",
        "UInt64",
        "UInt128",
        "Float32",
        "Float64",
        "String",
        "UUID",
        "Date32",
        "DateTime64(3, 'UTC')",
        "DateTime64(6, 'UTC')",
        "Decimal(5, 0)",
        "Decimal(10, 0)",
        "Decimal(10, 2)",
        "Decimal(12, 2)",
        "Decimal(14, 4)",
        "Decimal(38, 6)",
        "Decimal(76, 0)",
        "LowCardinality(String)",
    ];
    let scalars: Vec<ChType> = scalars.iter().map(|text| text.parse().unwrap()).collect();
    let arrays = scalars.iter().map(|scalar| ChType::Array(Box::new(scalar.clone().nullable())));
    let nullables = scalars.iter().map(|scalar| scalar.clone().nullable());
    arrays.chain(nullables).chain(scalars.clone()).collect()
}

#[test]
fn widening_is_transitive() {
    let types = sample();
    let mut chains = 0;
    for a in &types {
        for b in types.iter().filter(|b| a.widens_to(b)) {
            for c in types.iter().filter(|c| b.widens_to(c)) {
                chains += 1;
                assert!(a.widens_to(c), "{a} to {b} to {c}");
            }
        }
    }
    assert!(chains > 1_000, "only {chains} chains of three were tried");
}

#[test]
fn two_types_that_widen_to_each_other_hold_the_same_values() {
    let types = sample();
    let plain = |t: &ChType| {
        t.to_string()
            .replace("LowCardinality(String)", "String")
            .replace("LowCardinality(Nullable(String))", "Nullable(String)")
    };
    for a in &types {
        for b in types.iter().filter(|b| a.widens_to(b) && b.widens_to(a)) {
            assert_eq!(plain(a), plain(b));
        }
    }
}

fn widens(from: &str, to: &str) -> bool {
    from.parse::<ChType>().unwrap().widens_to(&to.parse().unwrap())
}

#[test]
fn what_postgresql_widens_widens_here() {
    for (from, to) in [
        ("Int16", "Int32"),
        ("Int32", "Int64"),
        ("Float32", "Float64"),
        ("Decimal(10, 2)", "Decimal(14, 2)"),
        ("Decimal(10, 2)", "Decimal(14, 4)"),
        ("Int32", "Decimal(10, 0)"),
        ("LowCardinality(String)", "String"),
        ("Int64", "String"),
        ("DateTime64(3, 'UTC')", "DateTime64(6, 'UTC')"),
        ("Array(Nullable(Int32))", "Array(Nullable(Int64))"),
        ("Int32", "Nullable(Int64)"),
    ] {
        assert!(widens(from, to), "{from} to {to}");
    }
}

#[test]
fn what_could_lose_values_or_change_text_is_narrowing() {
    for (from, to) in [
        ("Int64", "Int32"),
        ("Decimal(14, 2)", "Decimal(14, 4)"),
        ("Decimal(14, 2)", "String"),
        ("Int32", "Decimal(9, 0)"),
        ("UInt32", "Int32"),
        ("Nullable(Int32)", "Int64"),
        ("String", "Int32"),
        ("Bool", "String"),
        ("Date32", "DateTime64(6, 'UTC')"),
        ("Array(Nullable(Int64))", "Array(Nullable(Int32))"),
        ("Int32", "Array(Nullable(Int32))"),
    ] {
        assert!(!widens(from, to), "{from} to {to}");
    }
}
