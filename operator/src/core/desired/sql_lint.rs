//! What is refused in a user's view before ClickHouse sees it. Pure.
//!
//! A plain view ignores the session's time zone and a refreshed one obeys it, so a date function without a
//! zone means two things. And a view reads the target database alone: ClickHouse reads a table function's files,
//! addresses and other servers with its own rights and from its own network, as soon as it is asked for the columns.

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

/// Table functions that read nothing but their arguments.
const PLAIN_TABLES: [&str; 8] =
    ["numbers", "numbers_mt", "generateseries", "generate_series", "zeros", "values", "view", "null"];

/// Functions that read files or other servers, wherever they stand.
const FOREIGN: [&str; 4] = ["file", "catboostevaluate", "getclienthttpheader", "joinget"];

/// Words that end a list of tables.
const AFTER_TABLES: [&str; 14] = [
    "where",
    "prewhere",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "settings",
    "window",
    "qualify",
    "offset",
    "format",
];

/// Functions with a FROM among their arguments.
const WITH_FROM: [&str; 5] = ["extract", "trim", "substring", "overlay", "position"];

/// Signs of ClickHouse's that could hide what follows from who reads the text: heredocs and typographic quotes.
const HIDING: [char; 5] = ['$', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}'];

/// Says what is wrong with a user's SELECT over `database`, if anything.
pub(super) fn lint(sql: &str, database: &str) -> Option<String> {
    let tokens = tokens(sql);
    match tokens.first() {
        Some(Token::Word(word)) if matches!(word.as_str(), "select" | "with") => {}
        Some(Token::Sign('(')) => {}
        _ => return Some("it is not a SELECT: a view is one SELECT".to_owned()),
    }
    if tokens.contains(&Token::Sign(';')) {
        return Some("it has a semicolon: a view is one SELECT without one".to_owned());
    }
    if let Some(hiding) = HIDING.iter().find(|sign| tokens.contains(&Token::Sign(**sign))) {
        return Some(format!("it has the sign {hiding}: write texts in '…' and names in `…`"));
    }
    if let Some(outside) = outside(&tokens, database) {
        return Some(outside);
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

/// What reads anything else than the target database.
fn outside(tokens: &[Token], database: &str) -> Option<String> {
    let called = |at: usize| tokens.get(at + 1) == Some(&Token::Sign('('));
    let name = |at: usize| match tokens.get(at) {
        Some(Token::Word(name) | Token::Name(name)) => Some(name.as_str()),
        _ => None,
    };
    // Of each parenthesis: whether a list of tables goes on within it, and whether it is of a function with a FROM.
    let mut frames = vec![(false, false)];
    let mut expects_table = false;
    for (at, token) in tokens.iter().enumerate() {
        let bare = if let Token::Word(word) = token { word.as_str() } else { "" };
        if *token == Token::Sign(')') && frames.len() > 1 {
            frames.pop();
            continue;
        }
        let (in_tables, has_from) = frames.last_mut().map(|(tables, from)| (tables, *from))?;
        if FOREIGN.contains(&name(at).unwrap_or_default().to_lowercase().as_str()) && called(at) {
            return Some(foreign(name(at)?));
        }
        match token {
            Token::Sign('(') => {
                expects_table = false;
                let function = at.checked_sub(1).and_then(name).unwrap_or_default();
                frames.push((false, WITH_FROM.contains(&function.to_lowercase().as_str())));
            }
            Token::Sign(',') => expects_table = *in_tables,
            _ if bare == "from" && !has_from => (*in_tables, expects_table) = (true, true),
            _ if bare == "join" && at.checked_sub(1).and_then(name) != Some("array") => {
                (*in_tables, expects_table) = (true, true);
            }
            // `x IN database.table` reads a table too.
            _ if bare == "in" => expects_table = true,
            _ if AFTER_TABLES.contains(&bare) => (*in_tables, expects_table) = (false, false),
            Token::Word(table) | Token::Name(table) if std::mem::take(&mut expects_table) => {
                if called(at) && !PLAIN_TABLES.contains(&table.to_lowercase().as_str()) {
                    return Some(foreign(table));
                }
                let qualified = tokens.get(at + 1) == Some(&Token::Sign('.')) && name(at + 2).is_some();
                if qualified && !table.eq_ignore_ascii_case(database) {
                    return Some(format!(
                        "it reads {table}.{}, and a view reads the tables and views of {database} alone: name these \
                         without a database",
                        name(at + 2).unwrap_or_default()
                    ));
                }
            }
            _ => expects_table = false,
        }
    }
    None
}

fn foreign(function: &str) -> String {
    format!(
        "it calls {function}(), which reads outside of the target database with ClickHouse's own rights: bring the data \
         in as a table of spec.tables"
    )
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
            '#' if rest.starts_with("# ") || rest.starts_with("#!") => rest.find('\n').unwrap_or(rest.len()),
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
        assert!(lint("SELECT toDate(created_at) FROM orders_current", "shop").unwrap().contains("todate()"));
        assert!(lint("SELECT toStartOfInterval(t, INTERVAL 1 day) FROM x", "shop").is_some());
        assert!(lint("SELECT today()", "shop").is_some());
        assert!(lint("SELECT now()", "shop").is_some());
        for fine in [
            "SELECT toDate(created_at, 'UTC') FROM orders_current",
            "SELECT toDate(if(a, b, c), 'Europe/Berlin') FROM x",
            "SELECT now('UTC')",
            "WITH 1 AS x SELECT x -- toDate(y)",
            "SELECT 'toDate(x)' AS today",
            "SELECT sum(amount) AS total FROM payments_current",
        ] {
            assert_eq!(lint(fine, "shop"), None, "{fine}");
        }
    }

    #[test]
    fn what_is_not_one_select_is_refused() {
        assert!(lint("DROP TABLE x", "shop").is_some());
        assert!(lint("SELECT 1; SELECT 2", "shop").is_some());
        assert!(lint("", "shop").is_some());
        assert_eq!(lint("SELECT ';'", "shop"), None);
    }

    #[test]
    fn a_view_reads_the_target_database_alone_whatever_it_is_hidden_behind() {
        for outside in [
            "SELECT * FROM url('http://169.254.169.254/latest/meta-data/')",
            "SELECT * FROM orders_current, remote('127.0.0.1', bank.accounts)",
            "SELECT * FROM orders_current AS o JOIN `postgresql`('pg:5432', 'shop', 't', 'u', 'p') AS p ON 1",
            "SELECT * FROM (SELECT 1), s3('http://bucket/x')",
            "SELECT file('/etc/passwd')",
            "WITH x AS (SELECT * FROM executable('sh', TSV, 'a String')) SELECT * FROM x",
            "SELECT 1 FROM merge('.*', 'secret')",
            "SELECT * FROM bank.accounts",
            "SELECT * FROM orders_current CROSS JOIN system.query_log",
            "SELECT * FROM orders_current, `bank`.accounts WHERE 1",
            "SELECT * FROM orders_current WHERE id IN bank.accounts",
            "SELECT * FROM orders_current WHERE id IN (SELECT id FROM bank.accounts)",
            // Comments, heredocs and typographic quotes that would hide a quote from who reads the text.
            "SELECT 1 # '\n FROM url('http://x')",
            "SELECT $$'$$ FROM url('http://x')",
            "SELECT \u{2018}'\u{2019} FROM url('http://x')",
            "SELECT 1 /* ' */ FROM url('http://x') -- '",
        ] {
            assert!(lint(outside, "shop").is_some(), "{outside}");
        }
        for fine in [
            "SELECT * FROM shop.orders_current AS o JOIN items_current AS i ON o.id = i.order_id",
            "SELECT * FROM `shop`.`orders_current`, numbers(10) WHERE o.id IN (1, 2)",
            "SELECT n.number FROM numbers_mt(10) AS n LEFT ARRAY JOIN n.list AS x",
            "SELECT extract(year FROM o.created_at), trim(BOTH ' ' FROM o.name) FROM orders_current AS o",
            "SELECT url, file FROM pages_current WHERE url(1) = 2",
            "SELECT if(o.a IN (1, 2), o.b, o.c) FROM orders_current AS o ORDER BY o.a, o.b",
            "SELECT 'FROM bank.accounts' FROM orders_current",
        ] {
            assert_eq!(lint(fine, "shop"), None, "{fine}");
        }
    }
}
