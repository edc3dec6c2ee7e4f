//! What Grafana makes of a query before ClickHouse sees it: the plugin's macros and the dashboard's variables. Pure.
//!
//! The macros are those of the ClickHouse data source 4.14 to 4.18, as recorded from the real plugin; variables
//! are replaced in the browser, so whoever asks without one replaces them first.

use std::collections::BTreeMap;

use tidemark_crds::quote::literal;

/// The time that a dashboard shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Begin, milliseconds since 1970.
    pub from_ms: i64,
    /// End, milliseconds since 1970.
    pub to_ms: i64,
    /// Seconds between two points of a series, at least 1.
    pub interval_s: u32,
}

impl TimeRange {
    /// The `days` before `now_ms`, with some 300 points.
    pub fn last_days(days: u32, now_ms: i64) -> Self {
        let span_s = i64::from(days) * 86_400;
        let interval_s = u32::try_from((span_s / 300).max(1)).unwrap_or(u32::MAX);
        Self { from_ms: now_ms - span_s * 1000, to_ms: now_ms, interval_s }
    }
}

/// Values of variables: name to the chosen ones.
pub type Values = BTreeMap<String, Vec<String>>;

/// Replaces variables, then macros. A macro or variable that is not known stays as it is, as in Grafana.
pub fn expand(sql: &str, range: TimeRange, values: &Values) -> String {
    macros(&variables(sql, values), range)
}

/// Replaces `$name`, `${name}`, `${name:format}` and `[[name]]`.
pub fn variables(text: &str, values: &Values) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '[']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some((reference, length)) = reference(from)
            && let Some(chosen) = values.get(reference.name)
        {
            out.push_str(&format_value(chosen, reference.format));
            rest = &from[length..];
        } else {
            let sign = from.chars().next().map_or(1, char::len_utf8);
            out.push_str(&from[..sign]);
            rest = &from[sign..];
        }
    }
    out.push_str(rest);
    out
}

/// Names of the variables that a text refers to, with their formats; macros are none.
pub fn references(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '[']) {
        let from = &rest[at..];
        match reference(from) {
            Some((reference, length)) => {
                if !reference.name.starts_with("__") {
                    found.push((reference.name.to_owned(), reference.format.to_owned()));
                }
                rest = &from[length..];
            }
            None => rest = &from[1..],
        }
    }
    found
}

struct Reference<'a> {
    name: &'a str,
    format: &'a str,
}

fn reference(text: &str) -> Option<(Reference<'_>, usize)> {
    let (open, close) = match text.as_bytes() {
        [b'$', b'{', ..] => (2, "}"),
        [b'[', b'[', ..] => (2, "]]"),
        [b'$', ..] => {
            let name = word(&text[1..]);
            return (!name.is_empty()).then(|| (Reference { name, format: "" }, 1 + name.len()));
        }
        _ => return None,
    };
    let end = text[open..].find(close)?;
    let inside = &text[open..open + end];
    let (name, format) = inside.split_once(':').unwrap_or((inside, ""));
    (word(name) == name && !name.is_empty()).then(|| (Reference { name, format }, open + end + close.len()))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Grafana's formats that SQL needs; any other one gives the values with commas.
fn format_value(values: &[String], format: &str) -> String {
    let join =
        |each: &dyn Fn(&str) -> String| values.iter().map(|value| each(value)).collect::<Vec<_>>().join(",");
    match format {
        "singlequote" => join(&|value| format!("'{}'", value.replace('\'', "\\'"))),
        "sqlstring" => join(&|value| format!("'{}'", value.replace('\'', "''"))),
        "doublequote" => join(&|value| format!("\"{}\"", value.replace('"', "\\\""))),
        _ => join(&str::to_owned),
    }
}

/// Replaces the plugin's macros.
pub fn macros(sql: &str, range: TimeRange) -> String {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut rest = sql;
    while let Some(at) = rest.find("$__") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name = word(&from[1..]);
        let after = &from[1 + name.len()..];
        let arguments = arguments(after);
        let (list, length) = arguments.clone().unwrap_or_default();
        match (one(name, range), with_arguments(name, &list, range)) {
            (Some(text), _) => {
                out.push_str(&text);
                rest = after;
            }
            (None, Some(text)) if arguments.is_some() => {
                out.push_str(&text);
                rest = &after[length..];
            }
            _ => {
                out.push_str(&from[..=name.len()]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

fn date(ms: i64) -> String {
    let date = jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    literal(&date.date().to_string())
}

/// Macros without arguments.
fn one(name: &str, range: TimeRange) -> Option<String> {
    let TimeRange { from_ms, to_ms, interval_s } = range;
    Some(match name {
        "__fromTime" => format!("toDateTime({})", seconds(from_ms)),
        "__toTime" => format!("toDateTime({})", seconds(to_ms)),
        "__fromTime_ms" => format!("fromUnixTimestamp64Milli({from_ms})"),
        "__toTime_ms" => format!("fromUnixTimestamp64Milli({to_ms})"),
        "__interval_s" => interval_s.to_string(),
        "__interval_ms" => (u64::from(interval_s) * 1000).to_string(),
        "__interval" => short_interval(interval_s),
        _ => return None,
    })
}

/// Grafana's short form: the greatest unit that divides it.
fn short_interval(seconds: u32) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// Macros with arguments.
fn with_arguments(name: &str, arguments: &[String], range: TimeRange) -> Option<String> {
    let TimeRange { from_ms, to_ms, interval_s } = range;
    let time = |column: &str| {
        format!("{column} >= toDateTime({}) AND {column} <= toDateTime({})", seconds(from_ms), seconds(to_ms))
    };
    let day = |column: &str| {
        format!("{column} >= toDate({}) AND {column} <= toDate({})", date(from_ms), date(to_ms))
    };
    Some(match (name, arguments) {
        ("__timeFilter", [column]) => time(column),
        ("__timeFilter_ms", [column]) => format!(
            "{column} >= fromUnixTimestamp64Milli({from_ms}) AND {column} <= fromUnixTimestamp64Milli({to_ms})"
        ),
        ("__dateFilter", [column]) => day(column),
        ("__dateTimeFilter" | "__dt", [date, column]) => format!("({}) AND ({})", day(date), time(column)),
        ("__timeInterval", [column]) => {
            format!("toStartOfInterval(toDateTime({column}), INTERVAL {interval_s} second)")
        }
        ("__timeInterval_ms", [column]) => format!(
            "toStartOfInterval(toDateTime64({column}, 3), INTERVAL {} millisecond)",
            u64::from(interval_s) * 1000
        ),
        _ => return None,
    })
}

/// The arguments behind a macro's name and the length of their text, parentheses included.
fn arguments(text: &str) -> Option<(Vec<String>, usize)> {
    if !text.starts_with('(') {
        return None;
    }
    let (mut list, mut argument, mut depth) = (Vec::new(), String::new(), 0_u32);
    for (at, sign) in text.char_indices() {
        match sign {
            '(' => {
                depth += 1;
                if depth > 1 {
                    argument.push(sign);
                }
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    list.push(argument.trim().to_owned());
                    return Some((list, at + 1));
                }
                argument.push(sign);
            }
            ',' if depth == 1 => list.push(std::mem::take(&mut argument).trim().to_owned()),
            _ => argument.push(sign),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: TimeRange =
        TimeRange { from_ms: 1_700_000_000_123, to_ms: 1_700_086_400_456, interval_s: 60 };

    /// Recorded from the plugin itself, 4.14.1 and 4.18.0 alike.
    #[test]
    fn macros_are_those_of_the_plugin() {
        let golden = [
            ("$__timeFilter(ts)", "ts >= toDateTime(1700000000) AND ts <= toDateTime(1700086400)"),
            (
                "$__timeFilter_ms(ts)",
                "ts >= fromUnixTimestamp64Milli(1700000000123) AND ts <= fromUnixTimestamp64Milli(1700086400456)",
            ),
            ("$__dateFilter(d)", "d >= toDate('2023-11-14') AND d <= toDate('2023-11-15')"),
            (
                "$__dateTimeFilter(d,ts)",
                "(d >= toDate('2023-11-14') AND d <= toDate('2023-11-15')) AND (ts >= toDateTime(1700000000) AND ts \
                 <= toDateTime(1700086400))",
            ),
            ("$__fromTime", "toDateTime(1700000000)"),
            ("$__toTime", "toDateTime(1700086400)"),
            ("$__fromTime_ms", "fromUnixTimestamp64Milli(1700000000123)"),
            ("$__timeInterval(ts)", "toStartOfInterval(toDateTime(ts), INTERVAL 60 second)"),
            ("$__timeInterval_ms(ts)", "toStartOfInterval(toDateTime64(ts, 3), INTERVAL 60000 millisecond)"),
            ("$__interval_s", "60"),
            ("$__interval", "1m"),
            ("$__interval_ms", "60000"),
            ("$__unknown(ts)", "$__unknown(ts)"),
        ];
        for (text, expected) in golden {
            assert_eq!(macros(text, RANGE), expected);
        }
        assert_eq!(
            macros("$__timeFilter(toDateTime(day, 'UTC')) AND x", RANGE),
            "toDateTime(day, 'UTC') >= toDateTime(1700000000) AND toDateTime(day, 'UTC') <= toDateTime(1700086400) \
             AND x"
        );
    }

    #[test]
    fn a_variable_is_replaced_in_the_format_that_is_asked_for() {
        let values = Values::from([("country".to_owned(), vec!["DE".to_owned(), "it's".to_owned()])]);
        assert_eq!(variables("IN (${country:singlequote})", &values), r"IN ('DE','it\'s')");
        assert_eq!(variables("IN (${country:sqlstring})", &values), "IN ('DE','it''s')");
        assert_eq!(variables("$country [[country]] ${other}", &values), "DE,it's DE,it's ${other}");
        assert_eq!(
            references("$__timeFilter(a[1]) ${country:csv} $x"),
            [("country".to_owned(), "csv".to_owned()), ("x".to_owned(), String::new())]
        );
    }
}
