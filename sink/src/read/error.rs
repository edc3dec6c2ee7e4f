//! Why a read failed: each names the table, what PostgreSQL said with its SQLSTATE, and the next step. Pure.

use tidemark_runtime::clickhouse;
use tidemark_runtime::postgres::{self, ErrorClass};

use crate::value::ValueError;

/// A failed read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// PostgreSQL could not be asked, or refused.
    Source {
        /// Table at the source.
        table: String,
        /// What it said.
        error: postgres::Error,
    },
    /// The catalogue is not the one that the layout describes; a newer layout ends it.
    Layout {
        /// Table at the source.
        table: String,
        /// What differs.
        reason: String,
    },
    /// The source is not of a kind that can be read.
    Refused {
        /// Table at the source.
        table: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A value has no place in its column.
    Value {
        /// Table at the source.
        table: String,
        /// Column at the source.
        column: String,
        /// Key of the row, as JSON.
        key: String,
        /// What is wrong with the value.
        error: ValueError,
    },
    /// More rows than may went to the dead letters.
    DeadLetters {
        /// Table at the source.
        table: String,
        /// What was wrong with the last of them.
        last: String,
    },
    /// ClickHouse did not take what was read.
    Target {
        /// Table at the source.
        table: String,
        /// What it said.
        error: clickhouse::Error,
    },
}

impl ReadError {
    /// Class for logs and metric labels.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Source { error, .. } => error.class.as_str(),
            Self::Layout { .. } => "layout",
            Self::Refused { .. } => "refused",
            Self::Value { .. } => "value",
            Self::DeadLetters { .. } => "dead_letters",
            Self::Target { error, .. } => error.class.as_str(),
        }
    }

    /// Whether the same range may well be read a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Source { error, .. } => {
                error.class == ErrorClass::Unreachable
                    || error.is_lock_timeout()
                    || error.code.as_deref().is_some_and(|code| code.starts_with("40"))
            }
            _ => false,
        }
    }

    /// Whether a statement took longer than it may.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Source { error, .. } if error.is_cancelled())
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source { table, error } => {
                write!(f, "{table}: {}: {error}; {}", error.class.as_str(), next_step(table, error))
            }
            Self::Layout { table, reason } => {
                write!(f, "{table}: {reason}; it is read again as soon as the operator has seen the change")
            }
            Self::Refused { table, reason } => write!(f, "{table}: {reason}"),
            Self::Value { table, column, key, error } => write!(
                f,
                "{table}: column {column} of the row with key {key}: {error}; if its type has changed, the operator \
                 writes a layout that fits, otherwise set columns[{column}].type or outOfRange"
            ),
            Self::DeadLetters { table, last } => write!(
                f,
                "{table}: more of its rows than deadLetter.maxSharePerMille allows went to the dead letters; the \
                 last: {last}; set outOfRange or type of the column"
            ),
            Self::Target { table, error } => write!(f, "{table}: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

fn next_step(table: &str, error: &postgres::Error) -> String {
    match (error.class, error.code.as_deref()) {
        (ErrorClass::Authentication, _) => {
            "correct the user and password in the Secret of source.postgres.credentials".to_owned()
        }
        (ErrorClass::Permission, _) => format!(
            "GRANT SELECT ON {table} TO the role of source.postgres.credentials, or, where row security is on, \
             ALTER ROLE … BYPASSRLS"
        ),
        (_, Some("57014")) => {
            "the statement was cancelled: it took too long, or somebody ended it; it is tried again"
                .to_owned()
        }
        (_, Some("55P03")) => {
            "another session holds a lock on the table (pg_locks shows which); it is tried again".to_owned()
        }
        (ErrorClass::Unreachable, _) => "it is tried again".to_owned(),
        (ErrorClass::Remote, _) => {
            "it is tried again, also as soon as the operator writes another layout".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_table_the_state_and_the_next_step() {
        let error = postgres::Error {
            class: ErrorClass::Permission,
            code: Some("42501".to_owned()),
            message: "reading rows: query would be affected by row-level security policy".to_owned(),
        };
        let text = ReadError::Source { table: "public.notes".to_owned(), error }.to_string();
        for part in ["public.notes", "permission", "42501", "row-level security", "BYPASSRLS"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_range_is_read_again_after_what_passes_by_itself_alone() {
        let of = |code: &str| ReadError::Source {
            table: "t".to_owned(),
            error: postgres::Error {
                class: ErrorClass::of_code(code),
                code: Some(code.to_owned()),
                message: String::new(),
            },
        };
        assert!(of("57P01").is_transient() && of("55P03").is_transient() && of("40P01").is_transient());
        assert!(!of("42501").is_transient() && !of("42703").is_transient());
        assert!(of("57014").is_cancelled() && !of("57P01").is_cancelled());
    }
}
