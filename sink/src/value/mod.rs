//! From a JSON value to the wire form of a ClickHouse column. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_crds::layout::Wire;

use crate::decode::connect_schema::{Hint, TimeUnit};
use crate::decode::decimal::{self, DecimalError};
use crate::decode::json::{Cursor, JsonError, JsonText, Raw};
use crate::decode::time::{self, TimeError};
use crate::native::{Column, ElementColumn};
use crate::plan::{ColumnPlan, Encoding, Target};

/// What Debezium sends in place of an out-of-line value that an update did not touch.
const PLACEHOLDER: &[u8] = b"__debezium_unavailable_value";
/// The same as the value of a `bytea` column.
const PLACEHOLDER_BASE64: &[u8] = b"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
/// The same as an element of a `uuid[]` column: the name-based UUID of the placeholder.
const PLACEHOLDER_UUID: &[u8] = b"b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// Why a value does not go into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is not of the form that the column's PostgreSQL type has.
    #[error("the value is not of the column's type")]
    Malformed,
    /// No value of the type stands for it (infinity, NaN, a year out of range).
    #[error("the value is out of the type's range")]
    OutOfRange,
    /// A wider type would hold it: the column may have been widened at the source.
    #[error("the value is too wide for the column")]
    TooWide,
    /// It is NULL and the column takes none: the column may have become nullable at the source.
    #[error("null in a column that takes none")]
    Null,
    /// It is the placeholder of an out-of-line value: the event lacks it.
    #[error("the value is unchanged and not in the event")]
    Unavailable,
}

impl From<JsonError> for ValueError {
    fn from(_: JsonError) -> Self {
        Self::Malformed
    }
}

impl From<TimeError> for ValueError {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Malformed => Self::Malformed,
            TimeError::OutOfRange => Self::OutOfRange,
        }
    }
}

/// A column or the elements of an array.
trait Values {
    fn push_default(&mut self);
    fn push_fixed(&mut self, value: &[u8]);
    fn push_text(&mut self, value: &[u8]);
}

impl Values for Column {
    fn push_default(&mut self) {
        Self::push_default(self);
    }
    #[inline]
    fn push_fixed(&mut self, value: &[u8]) {
        Self::push_fixed(self, value);
    }
    #[inline]
    fn push_text(&mut self, value: &[u8]) {
        Self::push_text(self, value);
    }
}

impl Values for ElementColumn<'_> {
    fn push_default(&mut self) {
        Self::push_default(self);
    }
    fn push_fixed(&mut self, value: &[u8]) {
        Self::push_fixed(self, value);
    }
    fn push_text(&mut self, value: &[u8]) {
        Self::push_text(self, value);
    }
}

/// Appends a value to its column; after an error the column may hold a part of it and must be cut.
#[inline]
pub fn push(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<(), ValueError> {
    if plan.toastable && is_placeholder(plan, value) {
        return Err(ValueError::Unavailable);
    }
    if plan.array {
        return push_array(column, plan, value, hint, encoding);
    }
    match value {
        Raw::Null if plan.nullable => column.push_default(),
        Raw::Null => return Err(ValueError::Null),
        value => push_scalar(column, plan, value, hint, encoding)?,
    }
    Ok(())
}

/// Appends what the column has where the event says nothing: the value that rows had before the column was
/// added, or NULL, or the type's default.
pub fn push_missing(column: &mut Column, plan: &ColumnPlan) {
    let rows = column.len();
    if let Some(text) = &plan.missing
        && !plan.array
        && push_postgres_text(column, plan, text).is_ok()
    {
        return;
    }
    column.truncate(rows);
    column.push_default();
}

/// Whether the value is the placeholder in one of its forms.
fn is_placeholder(plan: &ColumnPlan, value: Raw<'_>) -> bool {
    match value {
        Raw::Text(JsonText { raw, .. }) => {
            raw == PLACEHOLDER
                || raw == PLACEHOLDER_BASE64 && matches!(plan.wire, Wire::Base64 | Wire::Decimal)
        }
        // Some arrays have the placeholder as their one element, arrays of numbers its bytes.
        Raw::Array(text) if plan.array => {
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

fn bytes_of_numbers(text: &[u8]) -> bool {
    let inside = text.get(1..text.len() - 1).unwrap_or_default();
    let bytes: Option<Vec<u8>> =
        inside.split(|byte| *byte == b',').map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect();
    bytes.is_some_and(|bytes| bytes == PLACEHOLDER)
}

fn push_array(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<(), ValueError> {
    let text = match value {
        Raw::Null => {
            column.push_default();
            return Ok(());
        }
        Raw::Array(text) => text,
        _ => return Err(ValueError::Malformed),
    };
    let mut cursor = Cursor::new(text);
    cursor.expect(b'[', "expected an array")?;
    let mut first = true;
    while cursor.next_item(&mut first, b']')? {
        let mut element = column.element().ok_or(ValueError::Malformed)?;
        match cursor.value()? {
            Raw::Null if plan.nullable => element.push_default(),
            Raw::Null => return Err(ValueError::Null),
            // PostgreSQL's arrays of arrays have no fixed depth: there is no type for them.
            Raw::Array(_) if plan.target != Target::Text => return Err(ValueError::Malformed),
            value => push_scalar(&mut element, plan, value, hint, encoding)?,
        }
    }
    column.end_array();
    Ok(())
}

#[inline]
fn push_scalar(
    out: &mut impl Values,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<(), ValueError> {
    match plan.target {
        Target::Integer { width, least, most } => {
            let number = integer(plan, value, hint)?;
            if number < least || number > most {
                return Err(ValueError::TooWide);
            }
            out.push_fixed(&number.to_le_bytes()[..usize::from(width)]);
        }
        Target::Text => push_text(out, plan, value, hint, encoding)?,
        Target::Decimal { precision, scale } => {
            let text = decimal_text(value, hint, encoding, Some(i32::from(scale)))?;
            let number = decimal::parse(&text, precision, scale).map_err(|error| match error {
                DecimalError::Malformed => ValueError::Malformed,
                DecimalError::OutOfRange if text.iter().any(u8::is_ascii_digit) => ValueError::TooWide,
                DecimalError::OutOfRange => ValueError::OutOfRange,
            })?;
            let width = match precision {
                0..=9 => 4,
                10..=18 => 8,
                19..=38 => 16,
                _ => 32,
            };
            out.push_fixed(&number.to_le_bytes()[..width]);
        }
        Target::DateTime64 { precision } => {
            let micros = instant(plan, value, hint)?;
            if !time::fits_datetime64(micros) {
                return Err(ValueError::OutOfRange);
            }
            out.push_fixed(&ticks(micros, precision)?.to_le_bytes());
        }
        Target::Date32 => {
            let days = match value {
                Raw::Text(text) => time::parse_date(&text.unescape()?)?,
                value => whole(value)?,
            };
            if !time::fits_date32(days) {
                return Err(ValueError::OutOfRange);
            }
            let days = i32::try_from(days).map_err(|_| ValueError::OutOfRange)?;
            out.push_fixed(&days.to_le_bytes());
        }
        Target::Bool => {
            let truth = match value {
                Raw::Bool(truth) => truth,
                Raw::Text(text) => match text.raw {
                    b"t" | b"true" => true,
                    b"f" | b"false" => false,
                    _ => return Err(ValueError::Malformed),
                },
                _ => return Err(ValueError::Malformed),
            };
            out.push_fixed(&[u8::from(truth)]);
        }
        Target::Float64 => out.push_fixed(&float::<f64>(value)?.to_le_bytes()),
        Target::Float32 => out.push_fixed(&float::<f32>(value)?.to_le_bytes()),
        Target::Uuid => match value {
            Raw::Text(text) => out.push_fixed(&uuid(text.raw).ok_or(ValueError::Malformed)?),
            _ => return Err(ValueError::Malformed),
        },
    }
    Ok(())
}

/// Appends a string column: text as it is, bytes from base64, decimals in plain notation.
#[inline]
fn push_text(
    out: &mut impl Values,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<(), ValueError> {
    match (plan.wire, value) {
        (Wire::Base64, Raw::Text(text)) => {
            let bytes = STANDARD.decode(text.unescape()?).map_err(|_| ValueError::Malformed)?;
            out.push_text(&bytes);
        }
        (Wire::Base64, _) => return Err(ValueError::Malformed),
        (Wire::Decimal, value) => out.push_text(&decimal_text(value, hint, encoding, None)?),
        (_, Raw::Text(text)) if !text.escaped => out.push_text(text.raw),
        (_, Raw::Text(text)) => out.push_text(&text.unescape()?),
        (_, Raw::Number(text) | Raw::Array(text) | Raw::Object(text)) => out.push_text(text),
        (_, Raw::Bool(truth)) => out.push_text(if truth { b"true" } else { b"false" }),
        (_, Raw::Null) => out.push_default(),
    }
    Ok(())
}

/// Reads a whole number; times of day and intervals may be text.
#[inline]
fn integer(plan: &ColumnPlan, value: Raw<'_>, hint: Hint) -> Result<i64, ValueError> {
    let number = match (plan.wire, value) {
        (Wire::Micros, Raw::Text(text)) => return Ok(time::parse_micros(&text.unescape()?)?),
        (_, value) => whole(value)?,
    };
    match hint.unit {
        Some(TimeUnit::Millis) if plan.wire == Wire::Micros => {
            number.checked_mul(1000).ok_or(ValueError::OutOfRange)
        }
        Some(TimeUnit::Nanos) if plan.wire == Wire::Micros => Ok(number.div_euclid(1000)),
        _ => Ok(number),
    }
}

#[inline]
fn whole(value: Raw<'_>) -> Result<i64, ValueError> {
    let (Raw::Number(text) | Raw::Text(JsonText { raw: text, .. })) = value else {
        return Err(ValueError::Malformed);
    };
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(ValueError::Malformed);
    }
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ValueError::Malformed);
        }
        // Counted downwards, so that the least number of all fits.
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_sub(i64::from(digit)))
            .ok_or(ValueError::TooWide)?;
    }
    if negative { Ok(number) } else { number.checked_neg().ok_or(ValueError::TooWide) }
}

/// Reads an instant in microseconds since 1970-01-01 UTC.
#[inline]
fn instant(plan: &ColumnPlan, value: Raw<'_>, hint: Hint) -> Result<i64, ValueError> {
    match value {
        Raw::Text(text) if !text.escaped => Ok(time::parse_timestamp(text.raw)?),
        Raw::Text(text) => Ok(time::parse_timestamp(&text.unescape()?)?),
        value => {
            let number = whole(value)?;
            match hint.unit {
                Some(TimeUnit::Nanos) => Ok(number.div_euclid(1000)),
                Some(TimeUnit::Millis) => number.checked_mul(1000).ok_or(ValueError::OutOfRange),
                None if plan.millis => number.checked_mul(1000).ok_or(ValueError::OutOfRange),
                Some(TimeUnit::Micros) | None => Ok(number),
            }
        }
    }
}

fn ticks(micros: i64, precision: u8) -> Result<i64, ValueError> {
    if precision >= 6 {
        let factor = 10_i64.pow(u32::from(precision) - 6);
        micros.checked_mul(factor).ok_or(ValueError::OutOfRange)
    } else {
        Ok(micros.div_euclid(10_i64.pow(6 - u32::from(precision))))
    }
}

/// Reads a float; whole numbers and the names of the non-finite ones are floats too.
fn float<T: std::str::FromStr>(value: Raw<'_>) -> Result<T, ValueError> {
    let (Raw::Number(text) | Raw::Text(JsonText { raw: text, .. })) = value else {
        return Err(ValueError::Malformed);
    };
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ValueError::Malformed)
}

/// Returns a decimal in text form, from text, base64 of its unscaled value, or `{"scale", "value"}`.
fn decimal_text(
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
    column_scale: Option<i32>,
) -> Result<Cow<'_, [u8]>, ValueError> {
    match value {
        Raw::Number(text) => Ok(Cow::Borrowed(text)),
        Raw::Text(text) => {
            let plain = text.unescape()?;
            let scale = match (hint.scale, encoding) {
                (Some(scale), _) => Some(scale),
                // Text is what the operator asks the connector for; base64 is not mistaken for it unless
                // it happens to consist of digits.
                (None, Encoding::Contract) if looks_decimal(&plain) => None,
                (None, _) => column_scale,
            };
            match scale {
                None => Ok(plain),
                Some(scale) => unscaled(&plain, scale),
            }
        }
        Raw::Object(text) => {
            let (mut scale, mut unscaled_text) = (None, None);
            let mut cursor = Cursor::new(text);
            cursor.expect(b'{', "expected an object")?;
            let mut first = true;
            while cursor.next_item(&mut first, b'}')? {
                let key = cursor.key()?.raw;
                match (key, cursor.value()?) {
                    (b"scale", value) => scale = Some(whole(value)?),
                    (b"value", Raw::Text(text)) => unscaled_text = Some(text.unescape()?),
                    _ => {}
                }
            }
            let scale = scale.and_then(|scale| i32::try_from(scale).ok()).ok_or(ValueError::Malformed)?;
            unscaled(&unscaled_text.ok_or(ValueError::Malformed)?, scale)
        }
        _ => Err(ValueError::Malformed),
    }
}

fn looks_decimal(text: &[u8]) -> bool {
    let named = [&b"NaN"[..], b"Infinity", b"-Infinity"].contains(&text);
    let digits = !text.is_empty()
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'E' | b'e'))
        && text.iter().any(u8::is_ascii_digit);
    named || digits
}

fn unscaled(text: &[u8], scale: i32) -> Result<Cow<'static, [u8]>, ValueError> {
    if looks_non_finite(text) {
        return Ok(Cow::Owned(text.to_vec()));
    }
    let bytes = STANDARD.decode(text).map_err(|_| ValueError::Malformed)?;
    Ok(Cow::Owned(decimal::text_of_unscaled(&bytes, scale).into_bytes()))
}

fn looks_non_finite(text: &[u8]) -> bool {
    [&b"NaN"[..], b"Infinity", b"-Infinity", b"POSITIVE_INFINITY", b"NEGATIVE_INFINITY"].contains(&text)
}

/// Reads a UUID into ClickHouse's wire form: both halves little-endian.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut value = 0_u128;
    let mut digits = 0;
    for byte in text {
        if *byte == b'-' {
            continue;
        }
        value = value << 4 | u128::from(char::from(*byte).to_digit(16)?);
        digits += 1;
    }
    (digits == 32).then(|| value.rotate_left(64).to_le_bytes())
}

/// Appends a value from PostgreSQL's own text of it.
fn push_postgres_text(column: &mut Column, plan: &ColumnPlan, text: &str) -> Result<(), ValueError> {
    if plan.wire == Wire::Base64 {
        let digits = text.strip_prefix("\\x").ok_or(ValueError::Malformed)?.as_bytes();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        column.push_text(&bytes.ok_or(ValueError::Malformed)?);
        return Ok(());
    }
    // PostgreSQL's text has nothing escaped, so a backslash in it is just a backslash.
    let value = Raw::Text(JsonText { raw: text.as_bytes(), escaped: false });
    push_scalar(column, plan, value, Hint::default(), Encoding::Contract)
}
