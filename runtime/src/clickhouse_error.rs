//! What a failed ClickHouse call means for the caller. Pure.

use crate::foreign::{Hidden, Text, line};
use crate::http;

/// Longest message that an [`Error`] keeps, in characters: enough to act on, too short for a query's text.
const MESSAGE_LIMIT: usize = 256;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The server was not reached or could not answer now; nothing was done: try again.
    Transient,
    /// Whether the statement took effect is not known: try again if it is idempotent.
    InDoubt,
    /// Merges do not keep up: try again later and less often.
    MergeBackpressure,
    /// The statement was too big for the memory or disk there is: try a smaller one.
    Resource,
    /// A database, table or column is missing or of another type.
    Schema,
    /// The user or the password is wrong.
    Authentication,
    /// The user has no right to do this.
    Permission,
    /// Trying again gives the same answer.
    Permanent,
}

impl ErrorClass {
    /// Name for logs and metric labels, snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::InDoubt => "in_doubt",
            Self::MergeBackpressure => "merge_backpressure",
            Self::Resource => "resource",
            Self::Schema => "schema",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::Permanent => "permanent",
        }
    }

    /// Class of an exception code of ClickHouse.
    pub fn of_code(code: i32) -> Self {
        match code {
            // TOO_SLOW, SOCKET_TIMEOUT and the like can strike after the data was taken;
            // UNKNOWN_STATUS_OF_INSERT says so itself.
            159 | 209 | 319 => Self::InDoubt,
            // TOO_MANY_SIMULTANEOUS_QUERIES, NETWORK_ERROR, NO_ZOOKEEPER, ABORTED, TABLE_IS_READ_ONLY,
            // ALL_CONNECTION_TRIES_FAILED, TOO_FEW_LIVE_REPLICAS, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE,
            // QUERY_WAS_CANCELLED, DATABASE_REPLICATION_FAILED, KEEPER_EXCEPTION.
            202 | 210 | 225 | 236 | 242 | 279 | 285 | 286 | 394 | 650 | 999 => Self::Transient,
            252 => Self::MergeBackpressure,
            // CANNOT_ALLOCATE_MEMORY, QUOTA_EXCEEDED, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE.
            173 | 201 | 241 | 243 => Self::Resource,
            // THERE_IS_NO_COLUMN, ILLEGAL_COLUMN, NO_SUCH_COLUMN_IN_TABLE, NUMBER_OF_COLUMNS_DOESNT_MATCH,
            // UNKNOWN_IDENTIFIER, TYPE_MISMATCH, UNKNOWN_TABLE, CANNOT_CONVERT_TYPE, UNKNOWN_DATABASE,
            // INCOMPATIBLE_COLUMNS, CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN.
            8 | 44 | 16 | 20 | 47 | 53 | 60 | 70 | 81 | 122 | 349 => Self::Schema,
            192..=194 | 516 => Self::Authentication,
            // READONLY, DATABASE_ACCESS_DENIED, ACCESS_DENIED.
            164 | 291 | 497 => Self::Permission,
            _ => Self::Permanent,
        }
    }
}

/// A failed call of ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("clickhouse: {message}")]
pub struct Error {
    /// What a caller can do about it.
    pub class: ErrorClass,
    /// ClickHouse's exception code, absent when no answer came.
    pub code: Option<i32>,
    /// What happened on one line of at most 256 characters, without the statement's text.
    pub message: String,
}

impl Error {
    /// Builds an error without an exception code.
    pub fn new(class: ErrorClass, message: impl AsRef<str>) -> Self {
        Self { class, code: None, message: line(message.as_ref(), MESSAGE_LIMIT) }
    }

    /// Reads an HTTP answer that is not a success: its status, its exception code header, and its body. Only an exception
    /// of ClickHouse is shown, which has its code in both: anything else is the page of another server, and nobody's to
    /// read in a status.
    pub fn of_response(status: u16, code: Option<i32>, body: &Text, hidden: &Hidden) -> Self {
        let class = match (code, status) {
            (Some(code), _) => ErrorClass::of_code(code),
            (None, 401) => ErrorClass::Authentication,
            (None, 403) => ErrorClass::Permission,
            (None, 408 | 429 | 500..=599) => ErrorClass::Transient,
            // ClickHouse has said nothing: neither the statement nor its rows are wrong for it.
            (None, _) => ErrorClass::InDoubt,
        };
        let first = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let text = match exception(first) {
            Some((in_body, text)) if Some(in_body) == code => Text::new(text).shown(hidden),
            _ => String::new(),
        };
        let message = match (text.as_str(), status) {
            ("", 300..=399) => format!("http status {status}: {}", http::REDIRECT),
            ("", _) if code.is_some_and(|code| code != 0) => format!("exception {}", code.unwrap_or(0)),
            ("", 401 | 403 | 408 | 429 | 500..=599) => format!("http status {status}"),
            ("", _) => format!("http status {status}: is it ClickHouse's HTTP interface that listens there?"),
            (text, _) => text.to_owned(),
        };
        Self { code, ..Self::new(class, message) }
    }
}

/// Reads `Code: 60. DB::Exception: ...`: the code, and the text without what repeats the statement.
fn exception(first: &str) -> Option<(i32, &str)> {
    let rest = first.strip_prefix("Code: ")?;
    let (code, text) = rest.split_once(". DB::Exception: ")?;
    Some((code.parse().ok()?, without_statement(text)))
}

/// An exception as a table of the server has it, on one line: its text without code, statement and trace.
pub fn exception_in_table(text: &Text, hidden: &Hidden) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let told = exception(first).map_or_else(|| without_statement(first), |(_, text)| text);
    line(&Text::new(told).shown(hidden), MESSAGE_LIMIT)
}

/// Cuts the parts of an exception's text that repeat the statement or the server's version.
fn without_statement(text: &str) -> &str {
    // Syntax errors and analyser errors repeat the statement behind these words.
    [
        "failed at position",
        ": In scope ",
        ": While processing ",
        ": while executing ",
        "(version ",
        ", Stack trace (",
        "In query: ",
    ]
    .iter()
    .fold(text, |text, mark| text.split_once(mark).map_or(text, |(before, _)| before))
    .trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: Option<i32>, body: &str) -> Error {
        Error::of_response(status, code, &Text::new(body), &Hidden::default().with("hunter2"))
    }

    #[test]
    fn an_exception_gives_its_class_and_a_message_without_the_statement() {
        let body = "Code: 47. DB::Exception: Unknown expression identifier `x`: In scope SELECT x, 'secret'. \
                    (UNKNOWN_IDENTIFIER) (version 26.7.2.1)";
        let error = of(404, Some(47), body);
        assert_eq!((error.class, error.code), (ErrorClass::Schema, Some(47)));
        assert_eq!(error.message, "Unknown expression identifier `x`");
    }

    #[test]
    fn only_an_exception_of_clickhouse_is_shown() {
        assert_eq!(of(502, None, "").class, ErrorClass::Transient);
        let real = "Code: 516. DB::Exception: shop: no login with hunter2\u{1b}[2J";
        assert_eq!(of(403, Some(516), real).message, "shop: no login with ***");
        for (status, code, body) in [
            (404, None, "<h1>the board's wiki</h1>"),
            (200, Some(0), "the board's wiki"),
            (500, None, "{\"message\":\"board\"}"),
            // Whoever repeats what ClickHouse would say has no code beside it, or another one.
            (500, None, "Code: 60. DB::Exception: board"),
            (500, Some(60), "Code: 61. DB::Exception: board"),
            (500, Some(60), "board Code: 60. DB::Exception: board"),
            (500, Some(60), "Code: 60 board. DB::Exception: board"),
            (302, None, "board"),
        ] {
            let error = of(status, code, body);
            assert!(!error.message.contains("board"), "{error}");
        }
    }

    #[test]
    fn an_exception_in_a_table_is_shown_without_its_trace() {
        let shown = |text: &str| exception_in_table(&Text::new(text), &Hidden::default());
        let whole = "Code: 497. DB::Exception: viewer: Not enough privileges. (ACCESS_DENIED), Stack trace (when copying \
                     this message, always include the lines below):\n\n0. ? @ 0x000000001c8fa4b3";
        assert_eq!(shown(whole), "viewer: Not enough privileges. (ACCESS_DENIED)");
        assert_eq!((shown(""), shown("broken")), (String::new(), "broken".to_owned()));
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let error = Error::new(ErrorClass::Permanent, "ü".repeat(400));
        assert!(error.message.chars().count() == MESSAGE_LIMIT && error.message.ends_with('…'));
    }

    #[test]
    fn too_many_parts_asks_for_patience_and_memory_for_smaller_batches() {
        assert_eq!(ErrorClass::of_code(252), ErrorClass::MergeBackpressure);
        assert_eq!(ErrorClass::of_code(241), ErrorClass::Resource);
    }
}
