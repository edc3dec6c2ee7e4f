//! What became of a table, and how it is reported. Pure.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Serialize;

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its rows are PostgreSQL's.
    Equal,
    /// The status names it as refused, with what mends it, and the shop can write it.
    Refused,
    /// The status names it as held, with what mends it.
    Held,
    /// Anything else.
    Different,
}

impl Outcome {
    /// Word of the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Different => "different",
        }
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        [Self::Equal, Self::Refused, Self::Held]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| anyhow::anyhow!("{text:?} is none of equal, refused and held"))
    }
}

/// One table's line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Name of the case.
    pub name: String,
    /// What became of the table.
    pub outcome: Outcome,
    /// From the last statement to the outcome.
    pub seconds: f64,
    /// What was expected, where that was something else.
    #[serde(skip)]
    pub unexpected: Option<String>,
    /// What was seen: the status' message, or the first differences.
    #[serde(skip)]
    pub seen: String,
}

/// What is known of a table at one look.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Whether all rows were equal; an error of a server counts as not.
    pub equal: bool,
    /// State and message of the status' entry.
    pub named: Option<(String, String)>,
    /// Differences, for people.
    pub differences: String,
}

impl fmt::Display for Verdict {
    /// One line, its beginning alone where there is much to say.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((state, message)) = &self.named {
            write!(formatter, "{state}: {message:.200} ")?;
        }
        let differences = if self.equal { "equal".to_owned() } else { self.differences.replace('\n', "; ") };
        write!(formatter, "{differences:.300}")
    }
}

/// Says what became of a table; [`Outcome::Different`] may still become something else.
pub fn judge(verdict: &Verdict) -> Outcome {
    let Some((state, message)) = &verdict.named else {
        return if verdict.equal { Outcome::Equal } else { Outcome::Different };
    };
    match state.as_str() {
        "Refused" if mends(message) => Outcome::Refused,
        "Held" | "Stopped" | "Retrying" | "Degraded" if !verdict.equal && mends(message) => Outcome::Held,
        // Named, and equal: it was only late to say so.
        "Refused" => Outcome::Different,
        _ if verdict.equal => Outcome::Equal,
        _ => Outcome::Different,
    }
}

/// Whether a message says what to do: a statement, or what to change in the spec.
pub fn mends(message: &str) -> bool {
    const STATEMENTS: [&str; 8] =
        ["ALTER ", "CREATE ", "GRANT ", "SET ", "DROP ", "VACUUM", "SELECT ", "ADD PRIMARY KEY"];
    const WORDS: [&str; 6] =
        ["spec", "columns[", "remove ", "annotation", "tidemark-sink dead-letters", "target"];
    STATEMENTS.iter().chain(&WORDS).any(|words| message.contains(words))
}

/// The report of `target/reports/tables.json`.
pub fn report(lines: &[Line]) -> serde_json::Value {
    serde_json::json!({"cases": lines})
}

/// The report as a table, with what was seen of each table that is not as expected.
pub fn screen(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let mark = if line.unexpected.is_some() { "  <-- not as expected" } else { "" };
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "{:width$}  {:9}  {:6.1} s{mark}", line.name, line.outcome.as_str(), line.seconds);
    }
    for line in lines {
        if let Some(expected) = &line.unexpected {
            let _ =
                writeln!(text, "{}: {}, not {expected}:\n{}", line.name, line.outcome.as_str(), line.seen);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(equal: bool, named: Option<(&str, &str)>) -> Outcome {
        let named = named.map(|(state, message)| (state.to_owned(), message.to_owned()));
        judge(&Verdict { equal, named, differences: String::new() })
    }

    #[test]
    fn a_table_is_equal_named_or_different() {
        let mend = "t has no key: ALTER TABLE t ADD PRIMARY KEY (id)";
        assert_eq!(verdict(true, None), Outcome::Equal);
        assert_eq!(verdict(false, None), Outcome::Different);
        assert_eq!(verdict(false, Some(("Refused", mend))), Outcome::Refused);
        assert_eq!(verdict(false, Some(("Held", mend))), Outcome::Held);
        assert_eq!(verdict(false, Some(("Degraded", mend))), Outcome::Held);
        assert_eq!(verdict(false, Some(("Reading", mend))), Outcome::Different);
    }

    #[test]
    fn a_name_without_what_to_do_is_none() {
        assert_eq!(verdict(false, Some(("Refused", "it does not work"))), Outcome::Different);
        assert_eq!(verdict(true, Some(("Refused", "it does not work"))), Outcome::Different);
        assert_eq!(verdict(false, Some(("Held", "ClickHouse: 27"))), Outcome::Different);
    }

    #[test]
    fn the_report_has_names_outcomes_and_seconds_and_the_screen_what_was_seen() {
        let line = Line {
            name: "swap".into(),
            outcome: Outcome::Different,
            seconds: 1.5,
            unexpected: Some("equal".into()),
            seen: "id=1: a is 2".into(),
        };
        let expected =
            serde_json::json!({"cases": [{"name": "swap", "outcome": "different", "seconds": 1.5}]});
        assert_eq!(report(std::slice::from_ref(&line)), expected);
        let text = screen(&[line]);
        assert!(text.contains("different") && text.contains("id=1: a is 2"), "{text}");
    }
}
