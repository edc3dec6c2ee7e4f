//! What is refused in a user's view before ClickHouse sees it. Pure.
//!
//! A plain view ignores the session's time zone and a refreshed one obeys it, so a date function without a
//! zone means two things.

/// Functions that take a zone, and the number of arguments with it.
const ZONED: [(&str, usize); 27] = [
    ("now", 1),
    ("now64", 2),
    ("todate", 2),
    ("todate32", 2),
    ("todatetime", 2),
    ("tostartofday", 2),
    ("tostartofweek", 3),
    ("tostartofmonth", 2),
    ("tostartofquarter", 2),
    ("tostartofyear", 2),
    ("tostartofhour", 2),
    ("tostartofinterval", 3),
    ("tomonday", 2),
    ("toyyyymm", 2),
    ("toyyyymmdd", 2),
    ("toyear", 2),
    ("toquarter", 2),
    ("tomonth", 2),
    ("toweek", 3),
    ("todayofmonth", 2),
    ("todayofweek", 3),
    ("todayofyear", 2),
    ("tohour", 2),
    ("tominute", 2),
    ("formatdatetime", 3),
    ("date_trunc", 3),
    ("datetrunc", 3),
];

/// Functions that always mean the server's or the session's day.
const UNZONED: [&str; 4] = ["today", "yesterday", "curdate", "current_date"];

/// Says what is wrong with a user's SELECT, if anything.
pub(super) fn lint(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    match tokens.first() {
        Some(Token::Word(word)) if matches!(word.as_str(), "select" | "with") => {}
        Some(Token::Sign('(')) => {}
        _ => return Some("it is not a SELECT: a view is one SELECT".to_owned()),
    }
    if tokens.contains(&Token::Sign(';')) {
        return Some("it has a semicolon: a view is one SELECT without one".to_owned());
    }
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let called = tokens.get(at + 1) == Some(&Token::Sign('('));
        if UNZONED.contains(&word.as_str()) && (called || word == "current_date") {
            return Some(format!("{word}() is a day of no named time zone: use toDate(now('UTC'), 'UTC')"));
        }
        let needed = ZONED.iter().find(|(name, _)| called && name == word).map(|(_, needed)| *needed);
        if needed.is_some_and(|needed| arguments(&tokens[at + 1..]) < needed) {
            return Some(format!("{word}() names no time zone: give it as the last argument, such as 'UTC'"));
        }
    }
    None
}

/// Words of a text, lower case, without those inside quotes and comments.
pub(super) fn words(sql: &str) -> impl Iterator<Item = String> {
    tokens(sql).into_iter().filter_map(|token| match token {
        Token::Word(word) | Token::Name(word) => Some(word),
        Token::Text | Token::Sign(_) => None,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A bare word, lower case.
    Word(String),
    /// A quoted name, as it is.
    Name(String),
    /// A literal in quotes.
    Text,
    /// Any other character.
    Sign(char),
}

/// Arguments of the call whose parenthesis comes first.
fn arguments(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    let mut commas = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[') => depth += 1,
            Token::Sign(')' | ']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return if at == 1 { 0 } else { commas + 1 };
                }
            }
            Token::Sign(',') if depth == 1 => commas += 1,
            _ => {}
        }
    }
    commas + 1
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' | '"' | '`' => {
                let length = quoted(rest, first);
                tokens.push(match (first, rest.get(1..length.saturating_sub(1))) {
                    ('\'', _) | (_, None) => Token::Text,
                    (_, Some(name)) => Token::Name(name.to_owned()),
                });
                length
            }
            c if c.is_alphanumeric() || c == '_' => {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_lowercase()));
                length
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Sign(c));
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// Length of the quoted text that `rest` starts with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return at + 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_function_without_a_zone_is_refused_and_one_with_it_passes() {
        assert!(lint("SELECT toDate(created_at) FROM orders_current").unwrap().contains("todate()"));
        assert!(lint("SELECT toStartOfInterval(t, INTERVAL 1 day) FROM x").is_some());
        assert!(lint("SELECT today()").is_some());
        assert!(lint("SELECT now()").is_some());
        for fine in [
            "SELECT toDate(created_at, 'UTC') FROM orders_current",
            "SELECT toDate(if(a, b, c), 'Europe/Berlin') FROM x",
            "SELECT now('UTC')",
            "WITH 1 AS x SELECT x -- toDate(y)",
            "SELECT 'toDate(x)' AS today",
            "SELECT sum(amount) AS total FROM payments_current",
        ] {
            assert_eq!(lint(fine), None, "{fine}");
        }
    }

    #[test]
    fn what_is_not_one_select_is_refused() {
        assert!(lint("DROP TABLE x").is_some());
        assert!(lint("SELECT 1; SELECT 2").is_some());
        assert!(lint("").is_some());
        assert_eq!(lint("SELECT ';'"), None);
    }
}
