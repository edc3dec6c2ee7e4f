//! What a failed ClickHouse call means for the caller. Pure.

/// Longest message that an [`Error`] keeps, in bytes: enough to act on, too short for a query's text.
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
    /// What happened, at most 256 bytes, without the statement's text.
    pub message: String,
}

impl Error {
    /// Builds an error without an exception code.
    pub fn new(class: ErrorClass, message: impl AsRef<str>) -> Self {
        Self { class, code: None, message: shorten(message.as_ref()) }
    }

    /// Reads an HTTP answer that is not a success: its exception code header, status and body.
    pub fn of_response(status: u16, code: Option<i32>, body: &str) -> Self {
        let code = code.or_else(|| code_in(body));
        let class = match (code, status) {
            (Some(code), _) => ErrorClass::of_code(code),
            (None, 401) => ErrorClass::Authentication,
            (None, 403) => ErrorClass::Permission,
            (None, 408 | 429 | 500..=599) => ErrorClass::Transient,
            (None, _) => ErrorClass::Permanent,
        };
        // The page of another server is nobody's to read in a status.
        let is_exception = code_in(body).is_some() && body.contains("DB::Exception: ");
        let text = if is_exception { without_statement(body) } else { "" };
        let message = match (text, status) {
            ("", 300..=399) => format!(
                "it answers with a redirect (http status {status}), which is not followed: name the server itself"
            ),
            ("", _) if code.is_some_and(|code| code != 0) => format!("exception {}", code.unwrap_or(0)),
            ("", 401 | 403 | 408 | 429 | 500..=599) => format!("http status {status}"),
            ("", _) => format!("http status {status}: is it ClickHouse's HTTP interface that listens there?"),
            (text, _) => shorten(text),
        };
        Self { class, code, message }
    }
}

/// Reads the code of `Code: 60. DB::Exception: ...`.
fn code_in(body: &str) -> Option<i32> {
    let rest = body.trim_start().strip_prefix("Code: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Cuts the parts of an exception's text that repeat the statement or the server's version.
fn without_statement(body: &str) -> &str {
    let text = body.lines().next().unwrap_or("").trim();
    let text = text.split_once("DB::Exception: ").map_or(text, |(_, rest)| rest);
    // Syntax errors and analyser errors repeat the statement behind these words.
    [
        "failed at position",
        ": In scope ",
        ": While processing ",
        ": while executing ",
        "(version ",
        "In query: ",
    ]
    .iter()
    .fold(text, |text, mark| text.split_once(mark).map_or(text, |(before, _)| before))
    .trim_end()
}

fn shorten(text: &str) -> String {
    if text.len() <= MESSAGE_LIMIT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MESSAGE_LIMIT - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_gives_its_class_and_a_message_without_the_statement() {
        let body = "Code: 47. DB::Exception: Unknown expression identifier `x`: In scope SELECT x, 'secret'. \
                    (UNKNOWN_IDENTIFIER) (version 26.7.2.1)";
        let error = Error::of_response(404, None, body);
        assert_eq!((error.class, error.code), (ErrorClass::Schema, Some(47)));
        assert_eq!(error.message, "Unknown expression identifier `x`");
    }

    #[test]
    fn a_proxy_that_answers_for_the_server_is_transient() {
        assert_eq!(Error::of_response(502, None, "").class, ErrorClass::Transient);
        let page = Error::of_response(404, None, "<h1>the wiki of the board</h1>");
        assert!(!page.message.contains("board") && page.message.contains("404"), "{page}");
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let error = Error::new(ErrorClass::Permanent, "ü".repeat(400));
        assert!(error.message.len() <= MESSAGE_LIMIT && error.message.ends_with('…'));
    }

    #[test]
    fn too_many_parts_asks_for_patience_and_memory_for_smaller_batches() {
        assert_eq!(ErrorClass::of_code(252), ErrorClass::MergeBackpressure);
        assert_eq!(ErrorClass::of_code(241), ErrorClass::Resource);
    }
}
