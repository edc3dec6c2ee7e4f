//! PostgreSQL's own text of values, from what Debezium sends of them. Pure.
//!
//! As its output functions print it with `DateStyle` ISO, `IntervalStyle` postgres, `TimeZone` UTC and
//! `extra_float_digits` 1.

use super::json::{Cursor, JsonError, Raw};
use super::time::{Instant, date_of_days};

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

/// Appends a float of double precision.
pub fn float8(number: f64, out: &mut Vec<u8>) {
    float(
        number.is_nan(),
        number.is_infinite(),
        number.is_sign_negative(),
        format_args!("{number:e}"),
        15,
        out,
    );
}

/// Appends a float of single precision.
pub fn float4(number: f32, out: &mut Vec<u8>) {
    float(
        number.is_nan(),
        number.is_infinite(),
        number.is_sign_negative(),
        format_args!("{number:e}"),
        6,
        out,
    );
}

/// The fewest digits that are the number, with an exponent where it has more whole digits than the type is good for.
fn float(
    nan: bool,
    infinite: bool,
    negative: bool,
    scientific: std::fmt::Arguments<'_>,
    good: i32,
    out: &mut Vec<u8>,
) {
    if nan {
        out.extend_from_slice(b"NaN");
        return;
    }
    if negative {
        out.push(b'-');
    }
    if infinite {
        out.extend_from_slice(b"Infinity");
        return;
    }
    let text = scientific.to_string();
    let (mantissa, exponent) = text.trim_start_matches('-').split_once('e').unwrap_or(("0", "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(|byte| *byte != b'.').collect();
    if exponent < -4 || exponent >= good {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
    } else if let Ok(whole) = usize::try_from(exponent + 1)
        && whole > 0
    {
        let shown = digits.len().min(whole);
        out.extend_from_slice(&digits[..shown]);
        out.extend(std::iter::repeat_n(b'0', whole - shown));
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent - 1).unwrap_or(0)));
        out.extend_from_slice(&digits);
    }
}

/// Appends a date, or infinity.
pub fn date(instant: Instant, out: &mut Vec<u8>) {
    if let Some(days) = finite(instant, out) {
        let era = calendar(days.0, out);
        out.extend_from_slice(era);
    }
}

/// Appends a timestamp, or infinity; `zone` goes behind the time: `+00` or nothing.
pub fn timestamp(instant: Instant, zone: &[u8], out: &mut Vec<u8>) {
    if let Some((days, micros)) = finite(instant, out) {
        let era = calendar(days, out);
        out.push(b' ');
        time(micros, out);
        out.extend_from_slice(zone);
        out.extend_from_slice(era);
    }
}

fn finite(instant: Instant, out: &mut Vec<u8>) -> Option<(i64, i64)> {
    match instant {
        Instant::At { days, micros } => return Some((days, micros)),
        Instant::Future => out.extend_from_slice(b"infinity"),
        Instant::Past => out.extend_from_slice(b"-infinity"),
    }
    None
}

/// Appends the date and returns what stands behind it all before Christ.
fn calendar(days: i64, out: &mut Vec<u8>) -> &'static [u8] {
    let (year, month, day) = date_of_days(days);
    let (year, era): (i64, &[u8]) = if year > 0 { (year, b"") } else { (1 - year, b" BC") };
    out.extend_from_slice(format!("{year:04}-{month:02}-{day:02}").as_bytes());
    era
}

/// Appends a time of day in microseconds since midnight.
pub fn time(micros: i64, out: &mut Vec<u8>) {
    clock(micros.unsigned_abs(), out);
}

/// Hours, minutes, seconds and what of the fraction is not zero.
fn clock(micros: u64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (micros / SECOND, micros % SECOND);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    out.extend_from_slice(text.as_bytes());
    if fraction > 0 {
        let digits = format!(".{fraction:06}");
        out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
    }
}

/// Appends an interval that comes as `P1Y-2M3DT4H5M6.5S`. Returns false where the text is none.
///
/// The parts keep their own signs; hours, minutes and seconds are one part for PostgreSQL.
pub fn interval(iso: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(parts) = IntervalParts::read(iso) else { return false };
    let (mut first, mut before) = (true, false);
    for (value, unit) in [(parts.years, "year"), (parts.months, "mon"), (parts.days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if first { "" } else { " " };
        let plus = if before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        out.extend_from_slice(format!("{space}{plus}{value} {unit}{plural}").as_bytes());
        (first, before) = (false, value < 0);
    }
    if first || parts.micros != 0 {
        if !first {
            out.push(b' ');
        }
        match parts.micros {
            ..0 => out.push(b'-'),
            _ if before => out.push(b'+'),
            _ => {}
        }
        clock(u64::try_from(parts.micros.unsigned_abs()).unwrap_or(u64::MAX), out);
    }
    true
}

/// Whether an interval in ISO 8601 is of no length: infinity looks the same.
pub fn is_zero_interval(iso: &[u8]) -> bool {
    IntervalParts::read(iso)
        .is_some_and(|parts| (parts.years, parts.months, parts.days, parts.micros) == (0, 0, 0, 0))
}

#[derive(Default)]
struct IntervalParts {
    years: i64,
    months: i64,
    days: i64,
    micros: i128,
}

impl IntervalParts {
    fn read(iso: &[u8]) -> Option<Self> {
        let mut rest = iso.strip_prefix(b"P")?;
        let (mut parts, mut in_time) = (Self::default(), false);
        while let Some((&byte, behind)) = rest.split_first() {
            if byte == b'T' && !in_time {
                (in_time, rest) = (true, behind);
                continue;
            }
            let (negative, unsigned) = rest.strip_prefix(b"-").map_or((false, rest), |rest| (true, rest));
            let end = unsigned.iter().position(|byte| !byte.is_ascii_digit())?;
            let whole: i64 = std::str::from_utf8(&unsigned[..end]).ok()?.parse().ok()?;
            let (micros, behind) = fraction(&unsigned[end..])?;
            let (unit, behind) = behind.split_first()?;
            let signed = if negative { -whole } else { whole };
            let time = |seconds: i64| {
                let value = i128::from(whole) * i128::from(seconds) * 1_000_000 + i128::from(micros);
                if negative { -value } else { value }
            };
            match (unit, in_time) {
                (b'S', true) => parts.micros += time(1),
                _ if micros != 0 => return None,
                (b'Y', false) => parts.years = signed,
                (b'M', false) => parts.months = signed,
                (b'D', false) => parts.days = signed,
                (b'H', true) => parts.micros += time(3600),
                (b'M', true) => parts.micros += time(60),
                _ => return None,
            }
            rest = behind;
        }
        Some(parts)
    }
}

/// Microseconds of `.5`, and what follows; digits beyond the sixth must be zeros.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    if count == 0 || digits.iter().skip(6).any(|digit| *digit != b'0') {
        return None;
    }
    let shown = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Some((shown.fold(0, |value, digit| value * 10 + i64::from(digit - b'0')), rest))
}

/// Appends an hstore that comes as a JSON object: pairs in PostgreSQL's order, shorter keys first.
pub fn hstore(json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(json);
    cursor.expect(b'{', "expected an object")?;
    let (mut pairs, mut first) = (Vec::new(), true);
    while cursor.next_item(&mut first, b'}')? {
        let key = cursor.key()?.unescape()?;
        let value = match cursor.value()? {
            Raw::Null => None,
            Raw::Text(text) => Some(text.unescape()?),
            _ => return Err(cursor.error("expected a text")),
        };
        pairs.push((key, value));
    }
    cursor.finish()?;
    pairs.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
    for (place, (key, value)) in pairs.iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(key, out);
        out.extend_from_slice(b"=>");
        match value {
            Some(value) => quoted(value, out),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    Ok(())
}

/// Appends a text in double quotes, with quotes and backslashes escaped.
pub fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a text as an element of an array, in quotes where PostgreSQL's array needs them.
pub fn element(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| {
        matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
    };
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        quoted(text, out);
    } else {
        out.extend_from_slice(text);
    }
}

/// Appends bytes as `bytea` prints them in hex.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends a geometric text whose numbers are printed by Java: `(1.0,2.5E20)` is `(1,2.5e+20)`.
pub fn geometric(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        if matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',') {
            out.push(byte);
            rest = behind;
            continue;
        }
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b','))
            .unwrap_or(rest.len());
        let number = std::str::from_utf8(&rest[..end]).ok().and_then(|number| number.parse().ok());
        let Some(number) = number else { return false };
        float8(number, out);
        rest = &rest[end..];
    }
    true
}

/// Appends the bits of a bit string: bytes with the last bit first, zeros at the end left out. Returns false where
/// there are more bits than the type has.
pub fn bits(bytes: &[u8], count: u32, out: &mut Vec<u8>) -> bool {
    let count = count as usize;
    let is_set = |bit: usize| bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    if (count..bytes.len() * 8).any(is_set) {
        return false;
    }
    out.extend((0..count).rev().map(|bit| if is_set(bit) { b'1' } else { b'0' }));
    true
}

#[cfg(test)]
#[path = "postgres_text_tests.rs"]
mod tests;
