//! A script taken apart into its statements, as `psql` does it, so that each runs in a transaction of its own. Pure.

/// Returns the statements of a script without their semicolons; comments stay within them, and alone are none.
pub(super) fn split(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut rest = script;
    let mut begin = 0;
    let mut position = 0;
    while let Some(first) = rest.chars().next() {
        if first == ';' {
            statements.push(&script[begin..position]);
            begin = position + 1;
        }
        let length = token(rest, script[..position].chars().next_back()).max(first.len_utf8());
        position += length;
        rest = &script[position..];
    }
    statements.push(&script[begin..]);
    statements.into_iter().map(str::trim).filter(|text| !is_empty(text)).map(str::to_owned).collect()
}

/// Length in bytes of the quoted text or comment that `text` begins with; 0 where it begins with neither.
fn token(text: &str, before: Option<char>) -> usize {
    let escapes = matches!(before, Some('e' | 'E'));
    if text.starts_with("--") {
        return text.find('\n').unwrap_or(text.len());
    }
    if let Some(inner) = text.strip_prefix("/*") {
        return inner.find("*/").map_or(text.len(), |end| end + 4);
    }
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => closing(text, quote, escapes && quote == '\''),
        Some('$') => dollar(text).unwrap_or(0),
        _ => 0,
    }
}

/// Length of a text in quotes. A doubled quote ends one text and begins the next, which is the same.
fn closing(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        if character == '\\' && escapes {
            characters.next();
        } else if character == quote {
            return index + quote.len_utf8();
        }
    }
    text.len()
}

/// Length of a text between `$tag$`s.
fn dollar(text: &str) -> Option<usize> {
    let tag = text[1..].find('$').map(|end| &text[..end + 2])?;
    let is_tag = tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag[1..].starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return None;
    }
    Some(text[tag.len()..].find(tag).map_or(text.len(), |end| end + 2 * tag.len()))
}

fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let script = "INSERT INTO t VALUES ('a;b', \"c;d\"); -- e;f\nSELECT 'it''s;' /* g;h */;\n;;SELECT 1";
        let all = split(script);
        assert_eq!(
            all,
            ["INSERT INTO t VALUES ('a;b', \"c;d\")", "-- e;f\nSELECT 'it''s;' /* g;h */", "SELECT 1"]
        );
    }

    #[test]
    fn dollar_quotes_and_escapes_are_texts() {
        assert_eq!(
            split("DO $$ BEGIN; END; $$; SELECT $a$ ; $$ ; $a$"),
            ["DO $$ BEGIN; END; $$", "SELECT $a$ ; $$ ; $a$"]
        );
        assert_eq!(
            split(r"SELECT E'\';'; SELECT '\'; SELECT $1"),
            [r"SELECT E'\';'", r"SELECT '\'", "SELECT $1"]
        );
    }

    #[test]
    fn comments_alone_are_no_statement() {
        assert_eq!(split("-- nothing\n\n  -- at all\n"), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_closed_ends_with_the_script() {
        assert_eq!(split("SELECT 'a; SELECT 2"), ["SELECT 'a; SELECT 2"]);
    }
}
