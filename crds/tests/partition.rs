//! Partition expressions: what is safe passes and is quoted, what is not is refused with its reason.

use proptest::prelude::*;
use tidemark_crds::layout::{ColumnLayout, NullAs};
use tidemark_crds::mapping::{PgColumn, TypeKind, map_columns};
use tidemark_crds::partition::{MAX_PARTITIONS, PartitionExpression, Unsafe};

fn columns(key: &[(&str, &str)]) -> Vec<ColumnLayout> {
    let column = |attnum: i16, name: &str, type_name: &str, key| PgColumn {
        name: name.into(),
        attnum,
        type_name: type_name.into(),
        kind: TypeKind::Base,
        dimensions: 0,
        domain: false,
        generated: false,
        nullable: false,
        key,
        deterministic: true,
        missing: None,
        null_as: NullAs::Null,
    };
    let mut source: Vec<_> = (0u16..)
        .zip(key)
        .map(|(position, (name, type_name))| {
            column(i16::try_from(position).unwrap() + 1, name, type_name, Some(position))
        })
        .collect();
    source.push(column(100, "created_at", "timestamp with time zone", None));
    map_columns(&source, &[]).unwrap().columns
}

fn check(text: &str, key: &[(&str, &str)]) -> Result<String, String> {
    PartitionExpression::check(text, &columns(key)).map(|e| e.sql()).map_err(|e| e.to_string())
}

#[test]
fn safe_expressions_pass_and_are_quoted() {
    for (text, r#type, sql) in [
        ("intDiv(id, 10000000)", "bigint", "intDiv(`id`, 10000000)"),
        (" intDiv( `id` ,7 ) ", "integer", "intDiv(`id`, 7)"),
        ("toYYYYMM(UUIDv7ToDateTime(id))", "uuid", "toYYYYMM(UUIDv7ToDateTime(`id`))"),
        (
            "toYYYYMM(UUIDv7ToDateTime(id, 'UTC'), 'UTC')",
            "uuid",
            "toYYYYMM(UUIDv7ToDateTime(`id`, 'UTC'), 'UTC')",
        ),
        ("toStartOfMonth(ULIDStringToDateTime(id))", "text", "toStartOfMonth(ULIDStringToDateTime(`id`))"),
        (
            "toYear(snowflakeIDToDateTime(id, 1288834974657))",
            "bigint",
            "toYear(snowflakeIDToDateTime(toUInt64(`id`), 1288834974657))",
        ),
        ("toYYYYMM(id)", "date", "toYYYYMM(`id`)"),
        ("id", "boolean", "`id`"),
    ] {
        assert_eq!(check(text, &[("id", r#type)]).as_deref(), Ok(sql), "{text}");
    }
    assert_eq!(
        check("(toYYYYMM(day), intDiv(id, 1000))", &[("day", "date"), ("id", "bigint")]).as_deref(),
        Ok("(toYYYYMM(`day`), intDiv(`id`, 1000))")
    );
}

#[test]
fn unsafe_expressions_are_refused_with_their_reason() {
    for (text, r#type, reason) in [
        ("toYYYYMM(created_at)", "bigint", "created_at, which is not in the primary key (id)"),
        ("id % 16", "bigint", "spreads every insert"),
        ("modulo(id, 16)", "bigint", "spreads every insert"),
        ("id / 1000", "bigint", "floating-point"),
        ("id", "bigint", "one partition a value"),
        ("intDiv(id, 0)", "bigint", "N of at least 1"),
        ("intDiv(id, 10)", "text", "INTEGER_KEY"),
        ("cityHash64(id)", "bigint", "not known to give one and few"),
        ("UUIDv7ToDateTime(id)", "uuid", "put toYYYYMM around it"),
        ("toYYYYMM(UUIDv7ToDateTime(id))", "bigint", "UUIDv7 of a uuid"),
        ("toYYYYMM(now())", "bigint", "takes"),
        ("intDiv(1, 2)", "bigint", "intDiv(INTEGER_KEY, N)"),
        ("(", "bigint", "cannot be read"),
        ("intDiv(id, 10)) ENGINE = Log --", "bigint", "cannot be read"),
        ("`id", "bigint", "cannot be read"),
        ("intDiv(id, 99999999999999999999999)", "bigint", "cannot be read"),
        ("((((((id))))))", "bigint", "cannot be read"),
    ] {
        let refused = check(text, &[("id", r#type)]).expect_err(text);
        let expected = if text.contains("now") { "a date or time column of the key" } else { reason };
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn too_many_partitions_are_refused_with_a_divisor_that_does() {
    let expression = PartitionExpression::check("intDiv(id, 1000)", &columns(&[("id", "bigint")])).unwrap();
    assert_eq!(expression.check_range(1, 49_999), Ok(()));
    assert!(matches!(expression.check_range(1, 50_000), Err(Unsafe::TooMany { partitions: 51, .. })));
}

proptest! {
    #[test]
    fn the_divisor_that_is_advised_is_enough(lowest in any::<i64>(), length in 1_000_000u64..) {
        let highest = lowest.saturating_add_unsigned(length);
        let expression = PartitionExpression::check("intDiv(id, 1)", &columns(&[("id", "bigint")])).unwrap();
        let Err(Unsafe::TooMany { divisor, .. }) = expression.check_range(lowest, highest) else {
            prop_assume!(highest.abs_diff(lowest) >= MAX_PARTITIONS);
            return Err(TestCaseError::fail("a range far too long passed"));
        };
        let advised = format!("intDiv(id, {divisor})");
        let advised = PartitionExpression::check(&advised, &columns(&[("id", "bigint")])).unwrap();
        prop_assert_eq!(advised.check_range(lowest, highest), Ok(()));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = check(&text, &[("id", "bigint")]);
    }

    #[test]
    fn what_passes_is_printed_as_something_that_passes_again(text in r"(intDiv|toYYYYMM|\(|\)|id|,| |`|'|5|%){1,12}") {
        if let Ok(sql) = check(&text, &[("id", "bigint")]) {
            prop_assert_eq!(check(&sql, &[("id", "bigint")]), Ok(sql));
        }
    }
}
