//! One value into the wire form of its type. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_crds::layout::Wire;

use super::{Input, Pushed, ValueError, Values, array, outside, taken, text};
use crate::decode::connect_schema::TimeUnit;
use crate::decode::decimal::{self, DecimalError};
use crate::decode::json::{Cursor, JsonText, Raw};
use crate::decode::time;
use crate::plan::{ColumnPlan, Encoding, Target};

/// Least timestamp of PostgreSQL, with some room: 4714 BC. What is less was beyond 64 bits: the year 294247 and later.
const LEAST_TIMESTAMP: i64 = -211_000_000_000_000_000;
/// Debezium's infinities among timestamps in microseconds.
const FUTURE: i64 = 9_223_372_036_825_200_000;
const PAST: i64 = -9_223_372_036_832_400_000;
/// Debezium's infinities among days.
const FUTURE_DAY: i64 = -2_147_472_692;
const PAST_DAY: i64 = -2_147_472_691;

/// Appends a value that is neither NULL nor an array.
#[inline]
pub(super) fn push<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<Pushed, ValueError> {
    if plan.wire == Wire::Unstreamed {
        return Err(ValueError::NotCarried);
    }
    match plan.target {
        Target::Text => text::push_event(out, plan, value, input).map(|()| Pushed::AsIs),
        _ => fixed(out, plan, value, input),
    }
}

/// Appends a value from PostgreSQL's text of it.
#[inline]
pub(super) fn push_postgres_text<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    text: &[u8],
    input: Input,
) -> Result<Pushed, ValueError> {
    match plan.target {
        Target::Text => text::push_postgres_text(out, plan, text).map(|()| Pushed::AsIs),
        _ => fixed(out, plan, array::as_raw(text), input),
    }
}

/// Appends a value to a column whose values all have one width.
#[inline]
fn fixed<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<Pushed, ValueError> {
    match plan.target {
        Target::Text => return Err(ValueError::Malformed),
        Target::Integer { width, least, most } => {
            let width = usize::from(width);
            let number = match integer(plan, value, input) {
                Err(ValueError::TooWide) => {
                    if is_negative(value) {
                        i64::MIN
                    } else {
                        i64::MAX
                    }
                }
                number => number?,
            };
            let beyond = number == i64::MIN || number == i64::MAX;
            if number < least || number > most || beyond && integer(plan, value, input).is_err() {
                let nearest = number.clamp(least, most).to_le_bytes();
                return outside(out, plan, &nearest[..width], ValueError::TooWide, input);
            }
            taken(out.push_fixed(&number.to_le_bytes()[..width]))?;
        }
        Target::Decimal { precision, scale } => return decimal(out, plan, value, (precision, scale), input),
        Target::DateTime64 { precision } => {
            let micros = instant(plan, value, input)?;
            match ticks(micros, precision) {
                Some(ticks) if time::fits_datetime64(micros) => {
                    taken(out.push_fixed(&ticks.to_le_bytes()))?;
                }
                _ => {
                    let nearest = nearest_ticks(micros, precision).to_le_bytes();
                    return outside(out, plan, &nearest, ValueError::OutOfRange, input);
                }
            }
        }
        Target::Date32 => {
            let days = days(value)?;
            let nearest = i32::try_from(time::nearest_date32(days)).map_err(|_| ValueError::Malformed)?;
            if !time::fits_date32(days) {
                return outside(out, plan, &nearest.to_le_bytes(), ValueError::OutOfRange, input);
            }
            taken(out.push_fixed(&nearest.to_le_bytes()))?;
        }
        Target::Bool => taken(out.push_fixed(&[u8::from(truth(value)?)]))?,
        Target::Float64 => taken(out.push_fixed(&float::<f64>(value)?.to_le_bytes()))?,
        Target::Float32 => {
            let number = float::<f32>(value)?;
            if number.is_infinite() && float::<f64>(value)?.is_finite() {
                let nearest = f32::MAX.copysign(number).to_le_bytes();
                return outside(out, plan, &nearest, ValueError::TooWide, input);
            }
            taken(out.push_fixed(&number.to_le_bytes()))?;
        }
        Target::Uuid => match value {
            Raw::Text(text) => taken(out.push_fixed(&uuid(text.raw).ok_or(ValueError::Malformed)?))?,
            _ => return Err(ValueError::Malformed),
        },
    }
    Ok(Pushed::AsIs)
}

fn decimal<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    value: Raw<'_>,
    (precision, scale): (u8, u8),
    input: Input,
) -> Result<Pushed, ValueError> {
    let width = match precision {
        0..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        _ => 32,
    };
    let text = decimal_text(value, input, Some(i32::from(scale)))?;
    let error = match decimal::parse(&text, precision, scale) {
        Ok(number) => {
            taken(out.push_fixed(&number.to_le_bytes()[..width]))?;
            return Ok(Pushed::AsIs);
        }
        Err(DecimalError::Malformed) => return Err(ValueError::Malformed),
        Err(DecimalError::OutOfRange) => ValueError::OutOfRange,
        Err(DecimalError::TooWide) => ValueError::TooWide,
    };
    let nearest = decimal::nearest(&text, precision, scale).map_err(|_| ValueError::Malformed)?;
    outside(out, plan, &nearest.to_le_bytes()[..width], error, input)
}

fn truth(value: Raw<'_>) -> Result<bool, ValueError> {
    match value {
        Raw::Bool(truth) => Ok(truth),
        Raw::Text(text) => match text.raw {
            b"t" | b"true" | b"1" => Ok(true),
            b"f" | b"false" | b"0" => Ok(false),
            _ => Err(ValueError::Malformed),
        },
        _ => Err(ValueError::Malformed),
    }
}

/// Reads a whole number; times of day may be text.
#[inline]
pub(super) fn integer(plan: &ColumnPlan, value: Raw<'_>, input: Input) -> Result<i64, ValueError> {
    let number = match (plan.form.wire, value) {
        (Wire::Micros | Wire::Interval, Raw::Text(text)) => {
            return Ok(time::parse_micros(&text.unescape()?)?);
        }
        (_, value) => whole(value)?,
    };
    match input.hint.unit {
        Some(TimeUnit::Millis) if plan.form.wire == Wire::Micros => {
            number.checked_mul(1000).ok_or(ValueError::OutOfRange)
        }
        Some(TimeUnit::Nanos) if plan.form.wire == Wire::Micros => Ok(number.div_euclid(1000)),
        _ => Ok(number),
    }
}

fn is_negative(value: Raw<'_>) -> bool {
    matches!(value, Raw::Number(text) | Raw::Text(JsonText { raw: text, .. }) if text.first() == Some(&b'-'))
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
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ValueError::Malformed);
    }
    let mut number = 0_i64;
    for byte in digits {
        // Counted downwards, so that the least number of all fits.
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_sub(i64::from(byte - b'0')))
            .ok_or(ValueError::TooWide)?;
    }
    if negative { Ok(number) } else { number.checked_neg().ok_or(ValueError::TooWide) }
}

/// Reads an instant in microseconds since 1970-01-01 UTC; infinity is the least or greatest number of all.
#[inline]
pub(super) fn instant(plan: &ColumnPlan, value: Raw<'_>, input: Input) -> Result<i64, ValueError> {
    match value {
        Raw::Text(text) if !text.escaped => Ok(time::parse_timestamp(text.raw)?),
        Raw::Text(text) => Ok(time::parse_timestamp(&text.unescape()?)?),
        value => {
            let number = whole(value)?;
            match input.hint.unit {
                Some(TimeUnit::Nanos) => Ok(number.div_euclid(1000)),
                Some(TimeUnit::Millis) => Ok(number.saturating_mul(1000)),
                None if plan.millis => Ok(number.saturating_mul(1000)),
                Some(TimeUnit::Micros) | None => Ok(match number {
                    FUTURE => i64::MAX,
                    PAST => i64::MIN,
                    number if number < LEAST_TIMESTAMP => i64::MAX,
                    number => number,
                }),
            }
        }
    }
}

/// The same without loss.
pub(super) fn exact_instant(
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<time::Instant, ValueError> {
    if let Raw::Text(text) = value {
        return Ok(time::parse_instant(&text.unescape()?)?);
    }
    Ok(match (instant(plan, value, input)?, whole(value)?) {
        // Debezium keeps the fraction alone of what is beyond 64 bits.
        (i64::MAX, number) if number != FUTURE => return Err(ValueError::NotCarried),
        (i64::MAX, _) => time::Instant::Future,
        (i64::MIN, _) => time::Instant::Past,
        (micros, _) => {
            time::Instant::At { days: micros.div_euclid(time::DAY), micros: micros.rem_euclid(time::DAY) }
        }
    })
}

/// Reads a date as days since 1970-01-01; infinity is the least or greatest number of all.
#[inline]
pub(super) fn days(value: Raw<'_>) -> Result<i64, ValueError> {
    match value {
        Raw::Text(text) => Ok(time::parse_date(&text.unescape()?)?),
        value => Ok(match whole(value)? {
            FUTURE_DAY => i64::MAX,
            PAST_DAY => i64::MIN,
            days => days,
        }),
    }
}

fn ticks(micros: i64, precision: u8) -> Option<i64> {
    if precision >= 6 {
        micros.checked_mul(10_i64.pow(u32::from(precision) - 6))
    } else {
        Some(micros.div_euclid(10_i64.pow(6 - u32::from(precision))))
    }
}

fn nearest_ticks(micros: i64, precision: u8) -> i64 {
    let micros = time::nearest_datetime64(micros);
    ticks(micros, precision).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

/// Reads a float; whole numbers and the names of the non-finite ones are floats too.
pub(super) fn float<T: std::str::FromStr>(value: Raw<'_>) -> Result<T, ValueError> {
    let (Raw::Number(text) | Raw::Text(JsonText { raw: text, .. })) = value else {
        return Err(ValueError::Malformed);
    };
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ValueError::Malformed)
}

/// Returns a decimal in text form, from text, base64 of its unscaled value, or `{"scale", "value"}`.
pub(super) fn decimal_text(
    value: Raw<'_>,
    input: Input,
    column_scale: Option<i32>,
) -> Result<Cow<'_, [u8]>, ValueError> {
    match value {
        Raw::Number(text) => Ok(Cow::Borrowed(text)),
        Raw::Text(text) => {
            let plain = text.unescape()?;
            let scale = match (input.hint.scale, input.encoding) {
                (Some(scale), _) => Some(scale),
                // Text is what the operator asks the connector for: other text is no number, and no base64.
                (None, Encoding::Contract) => None,
                (None, Encoding::DebeziumDefaults) => column_scale,
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

fn unscaled(text: &[u8], scale: i32) -> Result<Cow<'static, [u8]>, ValueError> {
    if let Some(name) = non_finite(text) {
        return Ok(Cow::Borrowed(name));
    }
    let bytes = STANDARD.decode(text).map_err(|_| ValueError::Malformed)?;
    Ok(Cow::Owned(decimal::text_of_unscaled(&bytes, scale).into_bytes()))
}

/// PostgreSQL's name of what is no finite number; Debezium has names of its own.
pub(super) fn non_finite(text: &[u8]) -> Option<&'static [u8]> {
    Some(match text {
        b"NaN" | b"NAN" => b"NaN",
        b"Infinity" | b"POSITIVE_INFINITY" => b"Infinity",
        b"-Infinity" | b"NEGATIVE_INFINITY" => b"-Infinity",
        _ => return None,
    })
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
