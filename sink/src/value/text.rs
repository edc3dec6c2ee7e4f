//! Columns of texts: PostgreSQL's own text of each value, whatever form it comes in. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_crds::layout::Wire;
use tidemark_crds::mapping::canonical_numeric;

use super::room::with_room;
use super::{Input, ValueError, Values, scalar, taken};
use crate::decode::json::{Cursor, JsonText, Raw};
use crate::decode::postgres_text;
use crate::decode::time::{self, Instant};
use crate::plan::ColumnPlan;

/// Appends a value of an event.
#[inline]
pub(super) fn push_event<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<(), ValueError> {
    match (plan.wire, value) {
        (Wire::Text | Wire::Json | Wire::Uuid, Raw::Text(text)) if !text.escaped => {
            taken(out.push_text(text.raw))
        }
        (Wire::Text | Wire::Json | Wire::Uuid, Raw::Text(text)) => with_room(|room| {
            text.unescape_into(room)?;
            taken(out.push_text(room))
        }),
        (Wire::Base64 | Wire::EncodedText, Raw::Text(text)) => with_room(|room| {
            decode_base64(text, room)?;
            taken(out.push_text(room))
        }),
        (Wire::Decimal, value) => {
            let text = scalar::decimal_text(value, input, None)?;
            taken(out.push_text(&decimal(plan, &text)))
        }
        // Of a connector with other settings: the text that came.
        (Wire::Text | Wire::Json, Raw::Number(text) | Raw::Array(text) | Raw::Object(text)) => {
            taken(out.push_text(text))
        }
        (Wire::Text | Wire::Json, Raw::Bool(truth)) => {
            taken(out.push_text(if truth { b"true" } else { b"false" }))
        }
        (_, value) => with_room(|room| {
            print(plan, value, input, room)?;
            taken(out.push_text(room))
        }),
    }
}

/// Prints what comes in another form than text.
fn print(plan: &ColumnPlan, value: Raw<'_>, input: Input, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let printed = |printed: bool| if printed { Ok(()) } else { Err(ValueError::Malformed) };
    match (plan.wire, value) {
        (Wire::Int, Raw::Number(text)) => out.extend_from_slice(text),
        (Wire::Bool, Raw::Bool(truth)) => out.push(if truth { b't' } else { b'f' }),
        (Wire::Bits, Raw::Bool(truth)) => out.push(if truth { b'1' } else { b'0' }),
        (Wire::Bits, Raw::Text(text)) => {
            let bytes = STANDARD.decode(text.unescape()?).map_err(|_| ValueError::Malformed)?;
            return printed(postgres_text::bits(&bytes, plan.form.bits, out));
        }
        (Wire::Float, value) if plan.form.single => postgres_text::float4(scalar::float(value)?, out),
        (Wire::Float, value) => postgres_text::float8(scalar::float(value)?, out),
        (Wire::Date, value) => {
            let instant = match scalar::days(value)? {
                i64::MAX => Instant::Future,
                i64::MIN => Instant::Past,
                days => Instant::At { days, micros: 0 },
            };
            postgres_text::date(instant, out);
        }
        (Wire::Timestamp, value) => {
            postgres_text::timestamp(scalar::exact_instant(plan, value, input)?, b"", out);
        }
        (Wire::ZonedTimestamp, value) => {
            postgres_text::timestamp(scalar::exact_instant(plan, value, input)?, b"+00", out);
        }
        (Wire::Micros, value) => {
            let micros = scalar::integer(plan, value, input)?;
            if !(0..=time::DAY).contains(&micros) {
                return Err(ValueError::Malformed);
            }
            postgres_text::time(micros, out);
        }
        (Wire::Interval, Raw::Text(text)) => {
            let iso = text.unescape()?;
            // Infinity, which PostgreSQL 17 has, comes as zero too.
            if postgres_text::is_zero_interval(&iso) {
                return Err(ValueError::NotCarried);
            }
            return printed(postgres_text::interval(&iso, out));
        }
        // Microseconds with months of an average length: nobody can tell them apart again.
        (Wire::Interval, Raw::Number(_)) => return Err(ValueError::NotCarried),
        (Wire::Hstore, Raw::Text(text)) => postgres_text::hstore(&text.unescape()?, out)?,
        (Wire::Hstore, Raw::Object(text)) => postgres_text::hstore(text, out)?,
        (Wire::Geometric, Raw::Text(text)) => {
            let java = STANDARD.decode(text.unescape()?).map_err(|_| ValueError::Malformed)?;
            return printed(postgres_text::geometric(&java, out));
        }
        (Wire::Geometric, Raw::Object(text)) => point(text, out)?,
        _ => return Err(ValueError::Malformed),
    }
    Ok(())
}

/// `{"x": 1.0, "y": 2.0, …}`
fn point(object: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (mut x, mut y) = (None, None);
    let mut cursor = Cursor::new(object);
    cursor.expect(b'{', "expected an object")?;
    let mut first = true;
    while cursor.next_item(&mut first, b'}')? {
        let key = cursor.key()?.raw;
        let value = cursor.value()?;
        match key {
            b"x" => x = Some(scalar::float::<f64>(value)?),
            b"y" => y = Some(scalar::float::<f64>(value)?),
            _ => {}
        }
    }
    out.push(b'(');
    postgres_text::float8(x.ok_or(ValueError::Malformed)?, out);
    out.push(b',');
    postgres_text::float8(y.ok_or(ValueError::Malformed)?, out);
    out.push(b')');
    Ok(())
}

fn decode_base64(text: JsonText<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    STANDARD.decode_vec(text.unescape()?, out).map_err(|_| ValueError::Malformed)
}

/// A number as PostgreSQL prints it, or as all texts of the same number are in a key.
fn decimal<'a>(plan: &ColumnPlan, text: &'a [u8]) -> Cow<'a, [u8]> {
    if let Some(name) = scalar::non_finite(text) {
        return Cow::Borrowed(name);
    }
    if !plan.form.canonical {
        return Cow::Borrowed(text);
    }
    match std::str::from_utf8(text).map(canonical_numeric) {
        Ok(Cow::Owned(canonical)) => Cow::Owned(canonical.into_bytes()),
        _ => Cow::Borrowed(text),
    }
}

/// Appends PostgreSQL's own text.
#[inline]
pub(super) fn push_postgres_text<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    text: &[u8],
) -> Result<(), ValueError> {
    match plan.form.wire {
        // As an array's text it stays hex.
        Wire::Base64 if !plan.elements || plan.array => with_room(|room| {
            unhex(text, room)?;
            taken(out.push_text(room))
        }),
        Wire::Decimal if plan.form.canonical => taken(out.push_text(&decimal(plan, text))),
        _ => taken(out.push_text(text)),
    }
}

/// Undoes `\x00ff`.
fn unhex(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let digits = text.strip_prefix(b"\\x").ok_or(ValueError::Malformed)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ValueError::Malformed);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for [high, low] in pairs {
        let (high, low) = (digit(*high), digit(*low));
        out.push(high.ok_or(ValueError::Malformed)? << 4 | low.ok_or(ValueError::Malformed)?);
    }
    Ok(())
}
