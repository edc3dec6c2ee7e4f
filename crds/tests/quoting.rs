//! Quoting: whatever the text, it stays inside its quotes and comes back.

use proptest::prelude::*;
use tidemark_crds::{pg_quote, quote};

proptest! {
    #[test]
    fn any_clickhouse_identifier_comes_back(name in any::<String>()) {
        prop_assert_eq!(quote::unquote(&quote::ident(&name)), Some(name));
    }

    #[test]
    fn any_clickhouse_literal_comes_back(text in any::<String>()) {
        prop_assert_eq!(quote::unquote(&quote::literal(&text)), Some(text));
    }

    #[test]
    fn a_hostile_clickhouse_name_stays_one_name(name in r"[`'\\\n;a]{0,12}") {
        let quoted = quote::ident(&name);
        prop_assert_eq!(quote::unquote(&quoted), Some(name));
        prop_assert!(!quoted.contains('\n'));
    }

    #[test]
    fn a_postgresql_identifier_ends_only_at_its_end(name in r#"["'\\;a]{0,12}"#) {
        let quoted = pg_quote::ident(&name);
        let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
        prop_assert_eq!(inside.replace("\"\"", "\u{1}").matches('"').count(), 0);
        prop_assert_eq!(inside.replace("\"\"", "\""), name);
    }

    #[test]
    fn a_postgresql_literal_ends_only_at_its_end(text in r"['\\;a]{0,12}") {
        let quoted = pg_quote::literal(&text);
        let escapes = quoted.starts_with('E');
        let inside = quoted.trim_start_matches('E').strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
        let unescaped = if escapes { inside.replace("\\\\", "\\") } else { inside.to_owned() };
        prop_assert_eq!(unescaped.replace("''", "'"), text);
    }
}
