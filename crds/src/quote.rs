//! The only place that quotes ClickHouse identifiers and literals. Pure.
//!
//! Every name and value that reaches a statement goes through here, whoever chose it.

/// Quotes a ClickHouse identifier: backticks, with ClickHouse's own backslash escapes inside.
pub fn ident(name: &str) -> String {
    quoted(name, '`')
}

/// Quotes `database.name`.
pub fn qualified(database: &str, name: &str) -> String {
    format!("{}.{}", ident(database), ident(name))
}

/// Quotes a ClickHouse string literal: single quotes, with ClickHouse's own backslash escapes inside.
pub fn literal(text: &str) -> String {
    quoted(text, '\'')
}

/// Quotes each name and joins them with `, `.
pub fn ident_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// Undoes [`ident`] and [`literal`]: the text between the quotes, or `None` where `quoted` is not exactly one
/// quoted text.
pub fn unquote(quoted: &str) -> Option<String> {
    let mut characters = quoted.chars();
    let quote = characters.next().filter(|c| matches!(c, '`' | '\''))?;
    let mut text = String::new();
    loop {
        match characters.next()? {
            c if c == quote => return characters.next().is_none().then_some(text),
            '\\' => text.push(match characters.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                other => other,
            }),
            c => text.push(c),
        }
    }
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_inside_a_name_cannot_end_it() {
        assert_eq!(ident("a`; DROP TABLE b"), "`a\\`; DROP TABLE b`");
        assert_eq!(literal("it's a \\ and a \0"), "'it\\'s a \\\\ and a \\0'");
    }

    #[test]
    fn a_qualified_name_quotes_both_parts() {
        assert_eq!(qualified("shop.db", "orders"), "`shop.db`.`orders`");
        assert_eq!(ident_list(["id", "a b"]), "`id`, `a b`");
    }

    #[test]
    fn what_is_not_one_quoted_text_is_not_unquoted() {
        assert_eq!(unquote("`a`b`"), None);
        assert_eq!(unquote("`a\\`"), None);
        assert_eq!(unquote("a"), None);
        assert_eq!(unquote(""), None);
    }
}
