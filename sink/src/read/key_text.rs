//! Keys in RowBinary as PostgreSQL's text of their values: the way back from what a state table has. Pure.

use jiff::Span;
use jiff::civil::date;
use jiff::tz::TimeZone;
use tidemark_crds::layout::{ColumnLayout, Wire};
use tidemark_crds::pg_quote;
use tidemark_crds::types::ChType;

use crate::decode::decimal;
use crate::native::{Corrupt, take_varint};
use crate::plan::TablePlan;

/// Keys of one statement.
const MAX_KEYS: usize = 1000;
/// Keys of one statement where a key has several columns, each of which is a condition of its own.
const MAX_COMPOSITE_KEYS: usize = 200;
/// Bytes of one statement's keys.
const MAX_BYTES: usize = 256 << 10;

/// Conditions that select the rows of keys, each short enough for a statement.
///
/// Values are literals without a type: PostgreSQL takes them as of the column's.
pub(super) fn conditions(plan: &TablePlan, keys: &[&[u8]]) -> Result<Vec<String>, Corrupt> {
    let columns: Vec<&ColumnLayout> = plan.key.iter().map(|place| &plan.layout.columns[*place]).collect();
    let names: Vec<String> = columns.iter().map(|column| pg_quote::ident(&column.source)).collect();
    let single = columns.len() == 1;
    let most = if single { MAX_KEYS } else { MAX_COMPOSITE_KEYS };
    let left = if single { names.concat() } else { format!("({})", names.join(", ")) };
    let (mut all, mut list, mut count) = (Vec::new(), String::new(), 0);
    let mut end = |list: &mut String, count: &mut usize| {
        if *count > 0 {
            all.push(format!("{left} IN ({list})"));
            list.clear();
            *count = 0;
        }
    };
    for key in keys {
        let texts = texts(&columns, key)?;
        let literals: Vec<String> = texts.iter().map(|text| pg_quote::literal(text)).collect();
        let one = if single { literals.concat() } else { format!("({})", literals.join(", ")) };
        if count == most || list.len() + one.len() > MAX_BYTES {
            end(&mut list, &mut count);
        }
        if count > 0 {
            list.push_str(", ");
        }
        list.push_str(&one);
        count += 1;
    }
    end(&mut list, &mut count);
    Ok(all)
}

/// A key as a JSON object: PostgreSQL's text of each value under its column's name at the source.
pub(crate) fn key_json(plan: &TablePlan, key: &[u8]) -> Result<String, Corrupt> {
    let columns: Vec<&ColumnLayout> = plan.key.iter().map(|place| &plan.layout.columns[*place]).collect();
    let texts = texts(&columns, key)?;
    let fields = columns.iter().zip(texts).map(|(column, text)| (column.source.clone(), text.into()));
    Ok(serde_json::Value::Object(fields.collect()).to_string())
}

/// PostgreSQL's text of each value of a key.
fn texts(columns: &[&ColumnLayout], key: &[u8]) -> Result<Vec<String>, Corrupt> {
    let mut rest = key;
    let texts: Result<Vec<String>, Corrupt> =
        columns.iter().map(|column| text(column, &column.r#type, &mut rest)).collect();
    if rest.is_empty() { texts } else { Err(Corrupt) }
}

fn text(column: &ColumnLayout, ch_type: &ChType, input: &mut &[u8]) -> Result<String, Corrupt> {
    match ch_type {
        ChType::LowCardinality(inner) => text(column, inner, input),
        ChType::Bool => Ok(if fixed::<1>(input)? == [0] { "false" } else { "true" }.to_owned()),
        ChType::Int16 => Ok(i16::from_le_bytes(fixed(input)?).to_string()),
        ChType::Int32 => Ok(i32::from_le_bytes(fixed(input)?).to_string()),
        ChType::Int64 => {
            let number = i64::from_le_bytes(fixed(input)?);
            Ok(if column.wire == Wire::Micros { micros(column, number) } else { number.to_string() })
        }
        ChType::UInt8 => Ok(u8::from_le_bytes(fixed(input)?).to_string()),
        ChType::UInt32 => Ok(u32::from_le_bytes(fixed(input)?).to_string()),
        ChType::UInt64 => Ok(u64::from_le_bytes(fixed(input)?).to_string()),
        ChType::UInt128 => Ok(u128::from_le_bytes(fixed(input)?).to_string()),
        ChType::Float32 => Ok(float(f32::from_le_bytes(fixed(input)?).into())),
        ChType::Float64 => Ok(float(f64::from_le_bytes(fixed(input)?))),
        ChType::Decimal { precision, scale } => {
            let mut bytes = match precision {
                0..=9 => fixed::<4>(input)?.to_vec(),
                10..=18 => fixed::<8>(input)?.to_vec(),
                19..=38 => fixed::<16>(input)?.to_vec(),
                _ => fixed::<32>(input)?.to_vec(),
            };
            bytes.reverse();
            Ok(decimal::text_of_unscaled(&bytes, i32::from(*scale)))
        }
        ChType::String => {
            let length = take_varint(input).and_then(|length| usize::try_from(length).ok()).ok_or(Corrupt)?;
            let (bytes, rest) = input.split_at_checked(length).ok_or(Corrupt)?;
            *input = rest;
            if column.wire == Wire::Base64 {
                return Ok(hex(bytes));
            }
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Corrupt)
        }
        ChType::Uuid => {
            let value = u128::from_le_bytes(fixed(input)?).rotate_left(64);
            let hex = format!("{value:032x}");
            Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
        }
        ChType::Date32 => {
            let days = i32::from_le_bytes(fixed(input)?);
            let day = date(1970, 1, 1).checked_add(Span::new().days(days)).map_err(|_| Corrupt)?;
            Ok(day.to_string())
        }
        ChType::DateTime64 { precision } => {
            let ticks = i64::from_le_bytes(fixed(input)?);
            let nanos = i128::from(ticks) * 10_i128.pow(9 - u32::from(*precision).min(9));
            let instant = jiff::Timestamp::from_nanosecond(nanos).map_err(|_| Corrupt)?;
            let zone = if column.wire == Wire::Timestamp { "" } else { "Z" };
            Ok(format!("{}{zone}", instant.to_zoned(TimeZone::UTC).datetime()))
        }
        ChType::Nullable(_) | ChType::Array(_) => Err(Corrupt),
    }
}

fn fixed<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (value, rest) = input.split_first_chunk::<N>().ok_or(Corrupt)?;
    *input = rest;
    Ok(*value)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A time of day, or an interval.
fn micros(column: &ColumnLayout, micros: i64) -> String {
    if column.pg_type.starts_with("interval") {
        return format!("{micros} microseconds");
    }
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::table_tests::{column, layout, plan};
    use super::*;
    use crate::native::Column;
    use crate::value::push_postgres_text;

    /// Types that keys have, each with PostgreSQL's text of some values.
    fn cases() -> Vec<(&'static str, Wire, ChType, Vec<&'static str>)> {
        let decimal = |precision, scale| ChType::Decimal { precision, scale };
        let micros = || ChType::DateTime64 { precision: 6 };
        vec![
            ("boolean", Wire::Bool, ChType::Bool, vec!["true", "false"]),
            ("smallint", Wire::Int, ChType::Int16, vec!["-32768", "32767", "0"]),
            ("integer", Wire::Int, ChType::Int32, vec!["-2147483648", "2147483647"]),
            ("bigint", Wire::Int, ChType::Int64, vec!["-9223372036854775808", "9223372036854775807"]),
            ("oid", Wire::Int, ChType::UInt32, vec!["4294967295"]),
            ("numeric(9,2)", Wire::Decimal, decimal(9, 2), vec!["-0.01", "9999999.99", "0.00"]),
            ("numeric(18,0)", Wire::Decimal, decimal(18, 0), vec!["-999999999999999999"]),
            (
                "numeric(38,10)",
                Wire::Decimal,
                decimal(38, 10),
                vec!["-1234567890123456789012345678.0123456789"],
            ),
            (
                "numeric(76,1)",
                Wire::Decimal,
                decimal(76, 1),
                vec!["-99999999999999999999999999999999999999999.9"],
            ),
            ("numeric", Wire::Decimal, ChType::String, vec!["1.5", "NaN"]),
            ("text", Wire::Text, ChType::String, vec!["", "it's \\ \u{e9}\n\ttab"]),
            ("character(5)", Wire::Text, ChType::String, vec!["ab   "]),
            ("mood", Wire::Text, ChType::LowCardinality(Box::new(ChType::String)), vec!["sad", ""]),
            ("bytea", Wire::Base64, ChType::String, vec!["\\x", "\\x00ff10"]),
            ("uuid", Wire::Uuid, ChType::Uuid, vec!["00112233-4455-6677-8899-aabbccddeeff"]),
            ("date", Wire::Date, ChType::Date32, vec!["1900-01-01", "2299-12-31", "1969-12-31"]),
            (
                "time without time zone",
                Wire::Micros,
                ChType::Int64,
                vec!["00:00:00.000000", "23:59:59.999999"],
            ),
        ]
        .into_iter()
        .chain([
            ("timestamp without time zone", Wire::Timestamp, micros(), vec!["1969-12-31T23:59:59.999999"]),
            ("timestamp with time zone", Wire::ZonedTimestamp, micros(), vec!["2024-02-29T21:59:59.5Z"]),
        ])
        .collect()
    }

    #[test]
    fn the_text_of_a_key_is_the_one_that_the_key_was_made_of() {
        for (pg_type, wire, ch_type, values) in cases() {
            let mut layout = layout();
            layout.columns[0] = column("k", 1, pg_type, wire, ch_type.clone(), Some(0));
            let plan = plan(layout);
            for value in values {
                let mut built = Column::new(&ch_type).unwrap();
                push_postgres_text(&mut built, &plan.columns[0], value.as_bytes())
                    .unwrap_or_else(|error| panic!("{pg_type} {value}: {error}"));
                let mut key = Vec::new();
                built.row_binary(0, &mut key);
                assert_eq!(texts(&[&plan.layout.columns[0]], &key).unwrap(), [value], "{pg_type}");
            }
        }
    }

    #[test]
    fn keys_are_asked_for_by_literals_in_statements_of_a_bounded_length() {
        let mut layout = layout();
        layout.columns[1] = column("no te", 2, "text", Wire::Text, ChType::String, Some(1));
        let plan = plan(layout);
        let key = |number: i64, text: &str| {
            let mut key = number.to_le_bytes().to_vec();
            crate::native::put_varint(&mut key, text.len() as u64);
            key.extend(text.as_bytes());
            key
        };
        let keys = [key(1, "it's"), key(-2, "a\\b")];
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        assert_eq!(
            conditions(&plan, &keys).unwrap(),
            ["(\"id\", \"no te\") IN (('1', 'it''s'), ('-2', E'a\\\\b'))"]
        );
        let many: Vec<Vec<u8>> = (0..401).map(|number| key(number, "x")).collect();
        let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        assert_eq!(conditions(&plan, &many).unwrap().len(), 3);
        let long = key(1, &"x".repeat(200 << 10));
        assert_eq!(conditions(&plan, &[&long, &long]).unwrap().len(), 2);
        assert!(conditions(&plan, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_single_column_is_one_list_and_what_is_no_key_is_refused() {
        let plan = plan(layout());
        assert_eq!(conditions(&plan, &[&7_i64.to_le_bytes()]).unwrap(), ["\"id\" IN ('7')"]);
        for broken in [&b"1234567"[..], b"123456789"] {
            assert_eq!(conditions(&plan, &[broken]), Err(Corrupt));
        }
    }
}
