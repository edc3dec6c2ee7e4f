//! One text for a value, whichever server it was read from. Pure.
//!
//! PostgreSQL's side is the text that its output function gives (UTC, ISO dates, hexadecimal bytes); ClickHouse's side
//! is the text of its own value. A column that ClickHouse has as a String must be PostgreSQL's text, letter by letter;
//! one of another type must be the same value. `None` is NULL, which equals nothing else.

use serde_json::Value;

use crate::oracle::plain;

/// How a column's values become their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text itself.
    Text,
    /// An array's text, without bounds other than from 1: no event has them.
    ArrayText,
    /// Bytes in hexadecimal.
    Bytes,
    /// `true` or `false`.
    Bool,
    /// A float of 32 bits.
    Float32,
    /// A float of 64 bits.
    Float64,
    /// A number of so many digits, so many of them behind the point.
    Decimal(u32, u32),
    /// A number of any size, without the zeros that end it: in a key, two spellings of one number are one.
    Number,
    /// A day.
    Date,
    /// A moment, or a date and time without zone.
    Timestamp,
    /// `time` as microseconds.
    Time,
    /// `interval` as microseconds, a month as Debezium counts it.
    Interval,
    /// `hstore`, in its own text or as a JSON object.
    Hstore,
    /// An array of one dimension.
    Array(Box<Kind>),
}

/// What becomes of a value that ClickHouse's type cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    /// The nearest value.
    Clamp,
    /// NULL.
    Null,
}

impl Kind {
    /// How the values of a column are compared that PostgreSQL has as `source` (`format_type`, domains resolved) and
    /// ClickHouse as `target`.
    pub fn of(source: &str, target: &str, key: bool) -> Self {
        let target = plain(target);
        if let Some(element) = target.strip_prefix("Array(").and_then(|rest| rest.strip_suffix(')')) {
            return Self::Array(Box::new(Self::of(
                source.strip_suffix("[]").unwrap_or(source),
                element,
                false,
            )));
        }
        let base = source.split(['(', ' ']).next().unwrap_or(source);
        match (target.split('(').next().unwrap_or(target), base) {
            ("String", "numeric") if key => Self::Number,
            ("String", "bytea") => Self::Bytes,
            ("String", "hstore") => Self::Hstore,
            ("Bool", _) => Self::Bool,
            ("Float32", _) => Self::Float32,
            ("Float64", _) => Self::Float64,
            ("Decimal", _) => {
                digits(target).map_or(Self::Text, |(precision, scale)| Self::Decimal(precision, scale))
            }
            ("Date" | "Date32", _) => Self::Date,
            ("DateTime" | "DateTime64", _) => Self::Timestamp,
            ("Int64", "time") => Self::Time,
            ("Int64", "interval") => Self::Interval,
            ("String", _) if source.ends_with("[]") => Self::ArrayText,
            _ => Self::Text,
        }
    }

    /// The expression that ClickHouse evaluates: a String, NULL, or an array of these.
    pub fn clickhouse(&self, column: &str) -> String {
        match self {
            Self::Bytes => format!("lower(hex({column}))"),
            Self::Decimal(_, scale) => format!("toDecimalString({column}, {scale})"),
            Self::Array(element) => format!("arrayMap(x -> {}, {column})", element.clickhouse("x")),
            _ => format!("toString({column})"),
        }
    }
}

/// Total digits and those behind the point of `Decimal(p, s)`.
fn digits(kind: &str) -> Option<(u32, u32)> {
    let (precision, scale) = kind.strip_prefix("Decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// The text of PostgreSQL's value. `nullable`: whether ClickHouse's column can hold NULL.
pub fn canonical(kind: &Kind, text: Option<&str>, nullable: bool) -> Option<String> {
    let text = text?;
    let beyond = if nullable { Beyond::Null } else { Beyond::Clamp };
    match kind {
        Kind::Array(element) => Some(match elements(text) {
            Some(all) => list(all.iter().map(|item| canonical(element, item.as_deref(), true))),
            None => format!("no array of one dimension: {text}"),
        }),
        Kind::ArrayText => Some(match text.split_once("={") {
            Some((bounds, elements)) if bounds.starts_with('[') => format!("{{{elements}"),
            _ => text.to_owned(),
        }),
        Kind::Date => day(text, beyond),
        Kind::Timestamp => moment(text, beyond),
        Kind::Decimal(precision, scale) => decimal(text, *precision, *scale, beyond),
        Kind::Time => Some(time_micros(text).map_or_else(|| text.to_owned(), |micros| micros.to_string())),
        Kind::Interval => {
            Some(interval_micros(text).map_or_else(|| text.to_owned(), |micros| micros.to_string()))
        }
        Kind::Bytes => Some(text.strip_prefix("\\x").unwrap_or(text).to_owned()),
        _ => Some(same(kind, text)),
    }
}

impl Kind {
    /// The text of what ClickHouse answered for [`Kind::clickhouse`].
    pub fn answered(&self, value: &Value) -> Option<String> {
        match (self, value) {
            (_, Value::Null) => None,
            (Self::Array(element), Value::Array(items)) => {
                Some(list(items.iter().map(|item| element.answered(item))))
            }
            (Self::Timestamp | Self::Decimal(..), Value::String(text)) => Some(without_zeros(text)),
            (_, Value::String(text)) => Some(same(self, text)),
            (_, other) => Some(format!("no text: {other}")),
        }
    }
}

/// What is the same of both sides.
fn same(kind: &Kind, text: &str) -> String {
    match kind {
        Kind::Bool => match text {
            "t" => "true".into(),
            "f" => "false".into(),
            other => other.into(),
        },
        Kind::Float32 => text.parse::<f32>().map_or_else(|_| text.into(), |number| format!("{number:?}")),
        Kind::Float64 => text.parse::<f64>().map_or_else(|_| text.into(), |number| format!("{number:?}")),
        Kind::Number => without_zeros(text),
        Kind::Hstore => hstore(text).unwrap_or_else(|| text.into()),
        _ => text.into(),
    }
}

/// A list in which NULL is nothing that a text could be.
fn list(items: impl Iterator<Item = Option<String>>) -> String {
    let items: Vec<Value> = items.map(|item| item.map_or(Value::Null, Value::String)).collect();
    Value::Array(items).to_string()
}

fn day(text: &str, beyond: Beyond) -> Option<String> {
    match out_of_range(text) {
        None => Some(text.to_owned()),
        Some(_) if beyond == Beyond::Null => None,
        Some(false) => Some("1900-01-01".into()),
        Some(true) => Some("2299-12-31".into()),
    }
}

fn moment(text: &str, beyond: Beyond) -> Option<String> {
    match out_of_range(text) {
        None => Some(without_zeros(text.strip_suffix("+00").unwrap_or(text))),
        Some(_) if beyond == Beyond::Null => None,
        Some(false) => Some("1900-01-01 00:00:00".into()),
        Some(true) => Some("2299-12-31 23:59:59.999999".into()),
    }
}

/// Whether a date is below (`false`) or above (`true`) what ClickHouse's types hold.
fn out_of_range(text: &str) -> Option<bool> {
    match text {
        "infinity" => return Some(true),
        "-infinity" => return Some(false),
        _ if text.ends_with(" BC") => return Some(false),
        _ => {}
    }
    let year: i64 = text.split('-').next()?.parse().ok()?;
    if year < 1900 {
        Some(false)
    } else if year > 2299 {
        Some(true)
    } else {
        None
    }
}

fn decimal(text: &str, precision: u32, scale: u32, beyond: Beyond) -> Option<String> {
    let greatest = || {
        let whole = "9".repeat((precision - scale) as usize);
        let whole = if whole.is_empty() { "0".to_owned() } else { whole };
        if scale == 0 { whole } else { format!("{whole}.{}", "9".repeat(scale as usize)) }
    };
    let clamped = match text {
        "NaN" => "0".to_owned(),
        "Infinity" => greatest(),
        "-Infinity" => format!("-{}", greatest()),
        // Money has a sign of its currency, and commas.
        number => return Some(without_zeros(&number.replace(['$', ','], ""))),
    };
    (beyond == Beyond::Clamp).then_some(clamped)
}

/// A number or a time without the zeros that end its fraction.
fn without_zeros(text: &str) -> String {
    match text.rsplit_once('.') {
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            rest => format!("{whole}.{rest}"),
        },
        None => text.to_owned(),
    }
}

fn time_micros(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let negative = hours.starts_with('-');
    let hours: i64 = hours.trim_start_matches(['-', '+']).parse().ok()?;
    let all =
        ((hours * 60 + minutes.parse::<i64>().ok()?) * 60 + whole.parse::<i64>().ok()?) * 1_000_000 + micros;
    Some(if negative { -all } else { all })
}

/// Microseconds of an interval in PostgreSQL's own style: `1 year 2 mons -3 days 04:05:06.7`.
fn interval_micros(text: &str) -> Option<i64> {
    /// A twelfth of 365.25 days.
    const MONTH: i64 = 2_629_800_000_000;
    let mut words = text.split(' ');
    let mut sum = 0i64;
    while let Some(word) = words.next() {
        if word.contains(':') {
            sum += time_micros(word)?;
            continue;
        }
        let number: i64 = word.parse().ok()?;
        sum += number
            * match words.next()? {
                "year" | "years" => 12 * MONTH,
                "mon" | "mons" => MONTH,
                "day" | "days" => 86_400_000_000,
                _ => return None,
            };
    }
    Some(sum)
}

/// Elements of an array's text; `None` where it has other dimensions or bounds, or is none.
fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let mut all = Vec::new();
    let mut characters = inner.chars().peekable();
    loop {
        let quoted = characters.next_if_eq(&'"').is_some();
        let mut item = String::new();
        loop {
            match characters.next() {
                Some('\\') => item.push(characters.next()?),
                Some('"') if quoted => break,
                Some('{') if !quoted => return None,
                Some(',') if !quoted => {
                    all.push(unquoted(item));
                    item = String::new();
                    if characters.peek() == Some(&'"') {
                        break;
                    }
                }
                Some(character) => item.push(character),
                None if quoted => return None,
                None => {
                    all.push(unquoted(item));
                    return Some(all);
                }
            }
        }
        if quoted {
            all.push(Some(item));
            match characters.next() {
                Some(',') => {}
                None => return Some(all),
                Some(_) => return None,
            }
        }
    }
}

fn unquoted(item: String) -> Option<String> {
    (item != "NULL").then_some(item)
}

/// The pairs of an hstore, by their keys, from its own text or from a JSON object.
fn hstore(text: &str) -> Option<String> {
    let pairs: std::collections::BTreeMap<String, Option<String>> =
        if text.starts_with('{') { serde_json::from_str(text).ok()? } else { pairs(text)? };
    serde_json::to_string(&pairs).ok()
}

/// Reads `"k"=>"v", "n"=>NULL`.
fn pairs(text: &str) -> Option<std::collections::BTreeMap<String, Option<String>>> {
    let mut all = std::collections::BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = word(rest)?;
        rest = after.strip_prefix("=>")?;
        if let Some(after) = rest.strip_prefix("NULL") {
            all.insert(key, None);
            rest = after;
        } else {
            let (value, after) = word(rest)?;
            all.insert(key, Some(value));
            rest = after;
        }
        rest = rest.strip_prefix(", ").unwrap_or(rest);
    }
    Some(all)
}

/// A text in double quotes, and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut word = String::new();
    let mut characters = inner.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => word.push(characters.next()?.1),
            '"' => return Some((word, &inner[index + 1..])),
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
