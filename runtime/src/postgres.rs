//! PostgreSQL: the one way to connect, what a session is told to print, and what a failure means. I/O.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tidemark_crds::pipeline::TlsMode;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::clickhouse::Authority;
use crate::credentials::CredentialSource;
use crate::foreign::{Hidden, Text, line};
use crate::{in_words, tls};

/// Deadline of connecting and logging in.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Longest message of an error, in characters.
const LONGEST_MESSAGE: usize = 400;

/// How a session prints its values, whatever the server, the database or the role has set: what is compared or
/// stored must not depend on it. `client_encoding` is UTF8 by protocol.
const PRINTING: [(&str, &str); 5] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
];

/// Of a session that reads tables as a whole: a policy that would hide rows is an error, each statement sees what
/// is committed when it begins, and one connection is one process of the server.
const READING: [(&str, &str); 4] = [
    ("row_security", "off"),
    ("default_transaction_isolation", "read\\ committed"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// What a caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The server was not reached, is starting or ending, or has no connection or memory free: try again.
    Unreachable,
    /// The role or its password is wrong.
    Authentication,
    /// The role has no right to do this.
    Permission,
    /// The server refuses: trying the same again gives the same answer until something changes.
    Remote,
}

impl ErrorClass {
    /// Name for logs, metric labels and stored errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::Remote => "remote",
        }
    }

    /// Class of a SQLSTATE.
    pub fn of_code(code: &str) -> Self {
        if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION]
            .iter()
            .any(|state| state.code() == code)
        {
            Self::Authentication
        } else if code == SqlState::INSUFFICIENT_PRIVILEGE.code() {
            Self::Permission
        } else if ["57", "53", "08"].iter().any(|class| code.starts_with(class)) {
            Self::Unreachable
        } else {
            Self::Remote
        }
    }
}

/// A failed call of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What a caller can do about it.
    pub class: ErrorClass,
    /// SQLSTATE, five characters; absent when no answer came.
    pub code: Option<String>,
    /// What was tried and what happened on one line, without the statement's text.
    pub message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.code {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Builds an error that no answer of the server stands behind.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, code: None, message: line(&message.into(), LONGEST_MESSAGE) }
    }

    /// Classifies an error of the driver in a session; `what` says what was tried. Of an answer it has the SQLSTATE and the
    /// primary message: detail, hint and context may have values of rows.
    pub fn of(what: &str, error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::of_answer(what, answer, &Hidden::default()),
            None => Self::new(ErrorClass::Unreachable, format!("{what}: {}", with_cause(error))),
        }
    }

    /// The same of a login, which the server may not have understood, or repeat.
    fn of_login(what: &str, error: &tokio_postgres::Error, hidden: &Hidden) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::of_answer(what, answer, hidden);
        }
        let (class, text) = unheard(error);
        Self::new(class, format!("{what}: {text}"))
    }

    fn of_answer(what: &str, answer: &DbError, hidden: &Hidden) -> Self {
        let code = line(answer.code().code(), 5);
        let message = format!("{what}: {}", Text::new(answer.message()).shown(hidden));
        Self { code: Some(code.clone()), ..Self::new(ErrorClass::of_code(&code), message) }
    }

    /// Whether the server gave up a statement because of `statement_timeout`, or somebody cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.code.as_deref() == Some(SqlState::QUERY_CANCELED.code())
    }

    /// Whether a lock was not given within `lock_timeout`.
    pub fn is_lock_timeout(&self) -> bool {
        self.code.as_deref() == Some(SqlState::LOCK_NOT_AVAILABLE.code())
    }
}

/// Limits and name of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// `application_name`: ASCII letters, digits, `-` and `/`.
    pub application_name: String,
    /// `statement_timeout`.
    pub statement_timeout: Duration,
    /// `lock_timeout`.
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout`.
    pub idle_in_transaction_timeout: Duration,
    /// Whether rows that a row security policy hides are an error (`row_security=off`): for whole tables.
    pub whole_tables: bool,
}

impl SessionSettings {
    /// The `options` of the start-up message, which win over what role and database have set.
    fn options(&self) -> String {
        let mut options = String::new();
        let reading = READING.iter().filter(|_| self.whole_tables);
        for (name, value) in PRINTING.iter().chain(reading) {
            let _ = write!(options, "-c {name}={value} ");
        }
        for (name, limit) in [
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout),
        ] {
            let _ = write!(options, "-c {name}={} ", limit.as_millis());
        }
        options.truncate(options.trim_end().len());
        options
    }
}

/// Where a database is and who asks.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role and password, read at each connect.
    pub credentials: Arc<CredentialSource>,
    /// How far the server's certificate is checked.
    pub tls: TlsMode,
    /// Who may sign the server's certificate.
    pub authority: Arc<Authority>,
    /// Deadline of connecting and logging in; [`CONNECT_DEADLINE`] is right.
    pub deadline: Duration,
}

/// An open connection; it closes when dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Options {
    /// Connects and logs in.
    pub async fn connect(&self, settings: &SessionSettings) -> Result<Session, Error> {
        let credentials = self
            .credentials
            .current()
            .map_err(|error| Error::new(ErrorClass::Authentication, error.to_string()))?;
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&credentials.username)
            .password(credentials.password.expose())
            .application_name(&settings.application_name)
            .connect_timeout(self.deadline)
            // A server that is gone without a word must not hold a read for hours.
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .options(settings.options());
        let connecting = Box::pin(async {
            match self.tls {
                TlsMode::Disable => {
                    let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
                    Ok(Ok((client, tokio::spawn(async { drop(connection.await) }))))
                }
                TlsMode::VerifyCa | TlsMode::VerifyFull => {
                    let tls = match self.tls() {
                        Ok(tls) => tls,
                        Err(error) => return Ok(Err(error)),
                    };
                    let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls).await?;
                    Ok(Ok((client, tokio::spawn(async { drop(connection.await) }))))
                }
            }
        });
        let at = format!("postgresql at {}:{}", self.host, self.port);
        match tokio::time::timeout(self.deadline, connecting).await {
            Err(_) => Err(Error::new(
                ErrorClass::Unreachable,
                format!("{at} did not answer within {}", in_words(self.deadline)),
            )),
            Ok(Err(error)) => Err(Error::of_login(&at, &error, &Hidden::of_login(&credentials))),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Ok(Ok((client, driver)))) => Ok(Session { client, driver }),
        }
    }

    fn tls(&self) -> Result<MakeRustlsConnect, Error> {
        let check_name = self.tls == TlsMode::VerifyFull;
        let config = match &*self.authority {
            Authority::System => tls::client_config(None, check_name),
            Authority::Pem(pem) => tls::client_config(Some(pem), check_name),
            Authority::File(file) => {
                let pem =
                    file.read().map_err(|error| Error::new(ErrorClass::Unreachable, error.to_string()))?;
                tls::client_config(Some(&pem), check_name)
            }
        };
        config.map(MakeRustlsConnect::new).map_err(|text| Error::new(ErrorClass::Remote, text))
    }
}

/// The driver's kind of what goes wrong while a connection is encrypted.
const TLS: &str = "error performing TLS handshake";

/// What a login came to at a server that said nothing in PostgreSQL's words. Kinds of the driver's errors are told by their
/// texts alone.
fn unheard(error: &tokio_postgres::Error) -> (ErrorClass, String) {
    if let Some(refusal) = tls::refusal(error) {
        return (ErrorClass::Remote, format!("its certificate or its TLS is refused: {refusal}"));
    }
    if of_system(error).is_some() {
        return (ErrorClass::Unreachable, with_cause(error));
    }
    let (class, text) = match error.to_string().as_str() {
        TLS => (
            ErrorClass::Remote,
            "it takes no TLS, or is not PostgreSQL: turn ssl on there, set spec.source.postgres.tls.mode to Disable, or name \
             another address",
        ),
        "connection closed" => (
            ErrorClass::Unreachable,
            "it closed the connection without a word: it ended, or what listens there is not PostgreSQL, or a proxy \
             without one behind it",
        ),
        "unexpected message from server"
        | "error parsing response from server"
        | "error communicating with the server" => (
            ErrorClass::Remote,
            "what answers does not speak as PostgreSQL does: is it PostgreSQL that listens there?",
        ),
        "authentication error" => (ErrorClass::Authentication, "authentication error"),
        kind => return (ErrorClass::Unreachable, kind.to_owned()),
    };
    (class, text.to_owned())
}

/// An error of the driver, with the cause where that is in words of the system or of TLS. What another server than PostgreSQL
/// sent is in none of them.
fn with_cause(error: &tokio_postgres::Error) -> String {
    match tls::refusal(error).or_else(|| of_system(error)) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What the operating system says is wrong.
fn of_system(error: &tokio_postgres::Error) -> Option<String> {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).find_map(|cause| {
        let text = cause.to_string();
        let is_known =
            cause.raw_os_error().is_some() || text.starts_with("failed to lookup address information");
        is_known.then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    fn settings(whole_tables: bool) -> SessionSettings {
        SessionSettings {
            application_name: "tidemark".to_owned(),
            statement_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_mins(1),
            whole_tables,
        }
    }

    #[test]
    fn a_session_prints_the_same_whatever_the_role_has_set_and_a_read_sees_all_rows_or_fails() {
        assert_eq!(
            settings(false).options(),
            "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex \
             -c extra_float_digits=1 -c statement_timeout=8000 -c lock_timeout=5000 \
             -c idle_in_transaction_session_timeout=60000"
        );
        assert!(settings(true).options().contains("-c row_security=off "));
    }

    #[test]
    fn codes_have_the_class_that_says_what_to_do() {
        for (code, class) in [
            ("28P01", ErrorClass::Authentication),
            ("28000", ErrorClass::Authentication),
            ("42501", ErrorClass::Permission),
            ("57P01", ErrorClass::Unreachable),
            ("53300", ErrorClass::Unreachable),
            ("42P01", ErrorClass::Remote),
        ] {
            assert_eq!(ErrorClass::of_code(code), class, "{code}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_and_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let options = Options {
            host: "127.0.0.1".to_owned(),
            port,
            database: "shop".to_owned(),
            credentials: Arc::new(CredentialSource::memory(Credentials::new("shop", "hunter2"))),
            tls: TlsMode::Disable,
            authority: Arc::new(Authority::System),
            deadline: CONNECT_DEADLINE,
        };
        let error = options.connect(&settings(false)).await.unwrap_err();
        assert_eq!((error.class, error.code.as_deref()), (ErrorClass::Unreachable, None), "{error}");
        assert!(error.to_string().contains(&port.to_string()) && !error.to_string().contains("hunter2"));
    }

    const PASSWORD: &str = "c4nary'p455";

    /// What a login at a server comes to that takes the first message and answers this.
    async fn answered(answer: Vec<u8>) -> Error {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&answer).await;
        });
        let options = Options {
            host: "127.0.0.1".to_owned(),
            port,
            database: "shop".to_owned(),
            credentials: Arc::new(CredentialSource::memory(Credentials::new("shop", PASSWORD))),
            tls: TlsMode::Disable,
            authority: Arc::new(Authority::System),
            deadline: CONNECT_DEADLINE,
        };
        let error = options.connect(&settings(false)).await.unwrap_err();
        server.await.unwrap();
        assert!(error.message.contains(&port.to_string()), "{error}");
        error
    }

    /// An `ErrorResponse` as PostgreSQL sends it.
    fn refusal(code: &str, message: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for (field, value) in
            [('S', "FATAL"), ('V', "FATAL"), ('C', code), ('M', message), ('D', "row detail")]
        {
            body.push(u8::try_from(field).unwrap());
            body.extend(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [b"E".as_slice(), &length, &body].concat()
    }

    #[tokio::test]
    async fn what_is_not_postgresql_is_said_to_be_that_and_its_words_are_shown_to_nobody() {
        let page = format!("HTTP/1.1 400 Bad Request\r\n\r\n<h1>the board's wiki</h1>{PASSWORD}");
        for answer in [
            page.into_bytes(),
            b"SSH-2.0-board_1.0\r\n".to_vec(),
            b"-ERR board wrong number of arguments\r\n".to_vec(),
            b"\x00\x00\x00\x00\x00board".to_vec(),
            b"R\x00\x00\x00\x08\x00\x00\x00\x63board".to_vec(),
            b"E\x00\x00\x00\x09board".to_vec(),
            b"\x1b[31mboard".repeat(1 << 20),
            Vec::new(),
        ] {
            let head = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
            let error = answered(answer).await;
            assert!(
                error.message.contains("PostgreSQL") || error.message.contains("reset"),
                "{head:?}: {error}"
            );
            assert!(
                !error.message.contains("board") && !error.message.contains("c4nary"),
                "{head:?}: {error}"
            );
            assert_eq!(error.code, None);
        }
    }

    #[tokio::test]
    async fn postgresqls_own_words_are_one_line_without_the_password_and_without_rows() {
        let error = answered(refusal("28P01", &format!("no\nlogin\x1b[2J with {PASSWORD}"))).await;
        assert!(error.message.ends_with(": no login with ***"), "{error:?}");
        assert_eq!((error.class, error.code.as_deref()), (ErrorClass::Authentication, Some("28P01")));
        let error = answered(refusal("58000", &"long ".repeat(2 << 20))).await;
        assert!(
            error.message.chars().count() <= LONGEST_MESSAGE && !error.message.contains("detail"),
            "{error}"
        );
    }
}
