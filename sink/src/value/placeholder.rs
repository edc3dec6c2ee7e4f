//! What Debezium sends in place of what it does not have, and what it makes of values that it cannot read. Pure.

use tidemark_crds::layout::{NullAs, Wire};

use crate::decode::json::{Cursor, JsonError, JsonText, Raw};
use crate::plan::ColumnPlan;

/// What Debezium sends in place of an out-of-line value that an update did not touch.
const PLACEHOLDER: &[u8] = b"__debezium_unavailable_value";
/// The same as the value of a `bytea` column, and of a type that Debezium does not know.
const PLACEHOLDER_BASE64: &[u8] = b"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
/// The same as an element of a `uuid[]` column: the name-based UUID of the placeholder.
const PLACEHOLDER_UUID: &[u8] = b"b68a35a7-17ad-35b3-af2a-ae46edb4545a";
/// The same as an hstore in JSON, its quotes escaped once more.
const PLACEHOLDER_HSTORE: &[u8] = br#"{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}"#;

/// Whether the value is the placeholder in one of its forms.
#[inline]
pub(super) fn is_placeholder(plan: &ColumnPlan, value: Raw<'_>) -> bool {
    match value {
        Raw::Text(JsonText { raw, .. }) => match raw.len() {
            28 => raw == PLACEHOLDER,
            40 => {
                raw == PLACEHOLDER_BASE64
                    && matches!(
                        plan.wire,
                        Wire::Base64 | Wire::Decimal | Wire::EncodedText | Wire::Geometric | Wire::Bits
                    )
            }
            _ => plan.wire == Wire::Hstore && raw == PLACEHOLDER_HSTORE,
        },
        // Some arrays have the placeholder as their one element, arrays of numbers its bytes.
        Raw::Array(text) if plan.elements => {
            if let Some(element) = text.strip_prefix(b"[\"").and_then(|text| text.strip_suffix(b"\"]")) {
                return element == PLACEHOLDER
                    || element == PLACEHOLDER_BASE64
                    || element == PLACEHOLDER_UUID;
            }
            text.starts_with(b"[95,95,100,101,98,101,122,105,117,109,95,") && bytes_of_numbers(text)
        }
        // hstore as a map.
        Raw::Object(text) => text.strip_prefix(b"{\"").is_some_and(|text| text.starts_with(PLACEHOLDER)),
        _ => false,
    }
}

/// Whether the value is what Debezium has for NULL in a column that it takes for NOT NULL. One that really is so is read at the
/// source without need, which does no harm.
#[inline]
pub(super) fn may_be_null(plan: &ColumnPlan, value: Raw<'_>) -> bool {
    match plan.null_as {
        NullAs::Null => false,
        NullAs::Default => value != Raw::Null,
        NullAs::Empty => is_empty(plan, value),
    }
}

#[cold]
fn is_empty(plan: &ColumnPlan, value: Raw<'_>) -> bool {
    match (plan.wire, value) {
        (_, Raw::Null | Raw::Bool(true)) => false,
        (_, Raw::Array(text)) => text == b"[]",
        (_, Raw::Number(text)) => is_zero(text),
        (Wire::Text | Wire::Base64 | Wire::Interval, Raw::Text(text)) => text.raw.is_empty(),
        // Nothing but zeros, in base64 or not.
        (Wire::Uuid | Wire::Bits | Wire::EncodedText, Raw::Text(text)) => {
            text.raw.iter().all(|byte| b"0A=-".contains(byte))
        }
        (Wire::Decimal | Wire::Float, Raw::Text(text)) => is_zero(text.raw),
        (Wire::ZonedTimestamp, Raw::Text(text)) => text.raw.starts_with(b"1970-01-01T"),
        (Wire::Json | Wire::Hstore, Raw::Text(text)) => text.raw.is_empty() || text.raw == b"{}",
        _ => true,
    }
}

/// Whether a number has no digit but zeros.
fn is_zero(number: &[u8]) -> bool {
    let digits = number.split(|byte| byte.eq_ignore_ascii_case(&b'e')).next().unwrap_or_default();
    !digits.iter().any(|byte| matches!(byte, b'1'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'))
}

fn bytes_of_numbers(text: &[u8]) -> bool {
    let inside = text.get(1..text.len() - 1).unwrap_or_default();
    let bytes: Option<Vec<u8>> =
        inside.split(|byte| *byte == b',').map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect();
    bytes.is_some_and(|bytes| bytes == PLACEHOLDER)
}

/// Whether an array is what Debezium makes of one with more dimensions than one: NULLs alone, or the names of Java's
/// objects. An array that really is so is read at the source without need, which does no harm.
pub(super) fn is_flattened(array: &[u8]) -> Result<bool, JsonError> {
    let mut cursor = Cursor::new(array);
    cursor.expect(b'[', "expected an array")?;
    let (mut first, mut elements, mut suspects) = (true, 0_usize, 0_usize);
    while cursor.next_item(&mut first, b']')? {
        elements += 1;
        match cursor.value()? {
            Raw::Null => suspects += 1,
            Raw::Text(text) if is_java_object(text.raw) => return Ok(true),
            // The first value shows that the others are values too.
            _ => return Ok(false),
        }
    }
    Ok(elements > 0 && elements == suspects)
}

/// `[Ljava.lang.String;@6c88b709`.
fn is_java_object(text: &[u8]) -> bool {
    text.starts_with(b"[") && text.windows(2).any(|pair| pair == b";@")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Encoding, TablePlan};
    use crate::testing::{column, layout};

    #[test]
    fn what_may_stand_for_null_is_what_debezium_has_for_it_and_no_other_value() {
        let plan = |wire, null_as| {
            let mut note = column("note", 2, "text", "Nullable(String)", None);
            (note.wire, note.null_as) = (wire, null_as);
            let columns = vec![column("id", 1, "bigint", "Int64", Some(0)), note];
            TablePlan::new(layout("t", columns).into(), Encoding::Contract).unwrap()
        };
        let may = |wire, null_as, json: &str| {
            let plan = plan(wire, null_as);
            let value = Cursor::new(json.as_bytes()).value().unwrap();
            let column = plan.columns.iter().find(|column| column.source == "note").unwrap();
            assert!(column.guarded || null_as == NullAs::Null);
            may_be_null(column, value)
        };
        for (wire, empty, others) in [
            (Wire::Bool, "false", &["true"][..]),
            (Wire::Int, "0", &["1", "-7", "10"]),
            (Wire::Float, "0.0", &["0.5", "1E-300", r#""NaN""#, r#""Infinity""#]),
            (Wire::Decimal, r#""0.00""#, &[r#""0.01""#, r#""NaN""#, r#""-5""#]),
            (Wire::Text, r#""""#, &[r#""0""#, r#"" ""#, r#""\u0000""#]),
            (Wire::Base64, r#""""#, &[r#""AA==""#]),
            (Wire::Json, r#""{}""#, &[r#""[]""#, r#""null""#]),
            (Wire::ZonedTimestamp, r#""1970-01-01T00:00:00Z""#, &[r#""1970-01-02T00:00:00Z""#]),
            (Wire::Date, "0", &["1"]),
            (
                Wire::Uuid,
                r#""00000000-0000-0000-0000-000000000000""#,
                &[r#""00000000-0000-0000-0000-000000000001""#],
            ),
            (Wire::Bits, r#""AA==""#, &[r#""BQ==""#]),
            (Wire::EncodedText, r#""""#, &[r#""eA==""#]),
        ] {
            assert!(may(wire, NullAs::Empty, empty), "{wire:?} {empty}");
            assert!(!may(wire, NullAs::Null, empty), "{wire:?} {empty}");
            for other in others.iter().chain(&["null"]) {
                assert!(!may(wire, NullAs::Empty, other), "{wire:?} {other}");
                assert_eq!(may(wire, NullAs::Default, other), *other != "null", "{wire:?} {other}");
            }
        }
    }
}
