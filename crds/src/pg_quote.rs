//! The only place that quotes PostgreSQL identifiers and literals. Pure.

/// Quotes a PostgreSQL identifier: double quotes, doubled inside.
///
/// PostgreSQL's names hold no NUL; one in `name` becomes U+FFFD, so that the name simply does not exist there.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", without_nul(name).replace('"', "\"\""))
}

/// Quotes `schema.name`.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// Quotes a PostgreSQL string literal so that it means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let text = without_nul(text).replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_force_the_escape_form() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(qualified("public", "Order Items"), "\"public\".\"Order Items\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
