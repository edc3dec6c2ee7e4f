//! What is refused in a user's view before ClickHouse sees it. Pure.
//!
//! A plain view ignores the session's time zone and a refreshed one obeys it, so a date function without a
//! zone means two things. And a view reads the target database alone: ClickHouse reads a table function's files,
//! addresses and other servers with its own rights and from its own network, as soon as it is asked for the columns.

use std::collections::BTreeSet;

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

/// Functions that read files, other servers, or tables that no part of the text names as such, wherever they stand.
const FOREIGN: [&str; 13] = [
    "file",
    "catboostevaluate",
    "getclienthttpheader",
    "joinget",
    "joingetornull",
    "hascolumnintable",
    "notin",
    "globalin",
    "globalnotin",
    "nullin",
    "notnullin",
    "globalnullin",
    "globalnotnullin",
];

/// What ends the names of further forms of IN.
const FORMS_OF_IN: &str = "ignoreset";

/// What begins the names of functions that read dictionaries, of any database.
const DICTIONARIES: &str = "dict";

/// What a parenthesis in the place of a table begins with, where it is a query.
const QUERIES: [&str; 3] = ["select", "with", "from"];

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
pub fn lint(sql: &str, database: &str) -> Option<String> {
    let tokens = tokens(sql);
    match tokens.first() {
        Some(first) if first.is("select") || first.is("with") => {}
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
        let word = &word.to_lowercase();
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
    let known = qualifiers(tokens, database);
    // The last one is of what goes on now.
    let mut frames = vec![Frame::default()];
    let mut expects_table = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let bare = if before.is_some_and(|before| before.is("as")) { String::new() } else { token.bare() };
        if *token == Token::Sign(')') && frames.len() > 1 {
            frames.pop();
            expects_table = false;
            continue;
        }
        let frame = frames.last_mut()?;
        if let Some(outside) = call(tokens, at) {
            return Some(outside);
        }
        match token {
            Token::Sign('(') => {
                let is_in = |name: &&str| name.eq_ignore_ascii_case("in");
                let function = before.and_then(Token::name).filter(|name| !is_in(name));
                let is_query = tokens.get(at + 1).is_some_and(|next| QUERIES.contains(&next.bare().as_str()));
                // `x IN (database.table)` reads a table, and so does `in(x, database.table)`.
                let opens = before.and_then(Token::name).is_some_and(|name| is_in(&name));
                let is_list = !is_query && (opens || frame.is_list && function.is_none());
                let has_from = function.is_some_and(|name| WITH_FROM.contains(&name.to_lowercase().as_str()));
                frames.push(Frame { in_tables: false, has_from: has_from && !is_query, is_list });
                expects_table &= !is_query && !is_list;
            }
            Token::Sign('{') if expects_table || before.is_some_and(|it| *it == Token::Sign('.')) => {
                return Some("it takes the name of a table from who asks: write the name itself".to_owned());
            }
            Token::Sign(',') => expects_table = frame.in_tables,
            _ if bare == "from" && !frame.has_from => (frame.in_tables, expects_table) = (true, true),
            _ if bare == "join" && !before.is_some_and(|it| it.is("array")) => {
                (frame.in_tables, expects_table) = (true, true);
            }
            // `x IN database.table` reads a table too.
            _ if bare == "in" => expects_table = true,
            _ if AFTER_TABLES.contains(&bare.as_str()) && begins_clause(tokens.get(at + 1)) => {
                (frame.in_tables, expects_table) = (false, false);
            }
            Token::Word(name) | Token::Name(name) => {
                let is_table = std::mem::take(&mut expects_table);
                if is_table && is(tokens.get(at + 1), '(') && !is_plain(name) {
                    return Some(foreign(name));
                }
                let Some(part) = qualified(tokens, at) else { continue };
                // In a list of more than one nothing is a table.
                let is_table = is_table || frame.is_list && !is(tokens.get(at + 3), ',');
                if name != database && (is_table || !known.contains(name.as_str())) {
                    return Some(format!(
                        "it reads {name}.{part}, and a view reads the tables and views of {database} alone: name these \
                         without a database, and columns by their table or its alias"
                    ));
                }
            }
            _ => expects_table = false,
        }
    }
    None
}

/// What is within one parenthesis.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    /// Whether a list of tables goes on.
    in_tables: bool,
    /// Whether it is of a function with a FROM.
    has_from: bool,
    /// Whether it is what IN looks in.
    is_list: bool,
}

/// What a call reads outside of the target database, if there is one at that place.
fn call(tokens: &[Token], at: usize) -> Option<String> {
    let name = tokens[at].name().filter(|_| is(tokens.get(at + 1), '('))?;
    let function = name.to_lowercase();
    let is_foreign = FOREIGN.contains(&function.as_str())
        || function.starts_with(DICTIONARIES)
        || function.ends_with(FORMS_OF_IN);
    is_foreign.then(|| foreign(name))
}

/// Names that may stand before a point: tables, their aliases and those of expressions and queries.
fn qualifiers<'a>(tokens: &'a [Token], database: &'a str) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::from([database]);
    let mut tables = false;
    for (at, token) in tokens.iter().enumerate() {
        let (before, next) = (at.checked_sub(1).map(|at| &tokens[at]), tokens.get(at + 1));
        tables = match token {
            Token::Word(_) if token.is("from") || token.is("join") => true,
            Token::Word(_) if AFTER_TABLES.iter().any(|word| token.is(word)) => false,
            _ => tables,
        };
        let Some(name) = token.name() else { continue };
        let is_alias = before.is_some_and(|before| before.is("as"));
        let is_query = next.is_some_and(|next| next.is("as")) && is(tokens.get(at + 2), '(');
        if is_alias || is_query || tables && !is(next, '.') && !is(next, '(') {
            known.insert(name);
        }
    }
    known
}

/// The second part of a name of two, whose first is at that place.
fn qualified(tokens: &[Token], at: usize) -> Option<&str> {
    let continues = at.checked_sub(1).is_some_and(|before| is(tokens.get(before), '.'));
    let is_number =
        |token: &Token| matches!(token, Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()));
    if continues || is_number(&tokens[at]) || !is(tokens.get(at + 1), '.') {
        return None;
    }
    // `pair.1` is a part of a tuple.
    tokens.get(at + 2).filter(|part| !is_number(part))?.name()
}

/// Whether a word that ends a list of tables does so before this: else it is a name.
fn begins_clause(next: Option<&Token>) -> bool {
    next.is_some_and(|next| {
        !matches!(next, Token::Sign(',' | ')' | '.'))
            && !["final", "sample", "as", "on", "using"].iter().any(|word| next.is(word))
    })
}

fn is(token: Option<&Token>, sign: char) -> bool {
    token == Some(&Token::Sign(sign))
}

fn is_plain(table: &str) -> bool {
    PLAIN_TABLES.contains(&table.to_lowercase().as_str())
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
        Token::Word(word) => Some(word.to_lowercase()),
        Token::Name(word) => Some(word),
        Token::Text | Token::Sign(_) => None,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A bare word, as it is: names differ by their case, and keywords do not.
    Word(String),
    /// A quoted name, as it is.
    Name(String),
    /// A literal in quotes.
    Text,
    /// Any other character.
    Sign(char),
}

impl Token {
    /// A bare word in lower case; empty for anything else.
    fn bare(&self) -> String {
        if let Self::Word(word) = self { word.to_lowercase() } else { String::new() }
    }

    /// Whether it is that keyword, given in lower case.
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// What may be a name.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            Self::Text | Self::Sign(_) => None,
        }
    }
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
                tokens.push(Token::Word(rest[..length].to_owned()));
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
#[path = "sql_lint_tests.rs"]
mod tests;
