//! The one ClickHouse client: HTTP, TLS with an own authority, credentials that may change, a deadline on
//! each call, typed errors. I/O.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

pub use crate::clickhouse_error::{Error, ErrorClass, exception_in_table};
use crate::credentials::{CredentialSource, WatchedFile};
use crate::foreign::{Hidden, Text};
use crate::http::{self, Unread};
use crate::in_words;

/// Deadline of a call unless the client is given another one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// What to look at where an answer is not ClickHouse's.
const WHO_LISTENS: &str = "is it ClickHouse's HTTP interface that listens there?";

/// Where the certificate authority of the server comes from.
#[derive(Debug)]
pub enum Authority {
    /// The authorities that the system trusts.
    System,
    /// PEM text in memory.
    Pem(String),
    /// A mounted PEM file, read again when it changes.
    File(WatchedFile),
}

/// How to reach a ClickHouse server.
#[derive(Debug)]
pub struct Options {
    /// `http://` or `https://` address of the HTTP interface.
    pub url: String,
    /// Database that unqualified names refer to; absent: the user's default.
    pub database: Option<String>,
    /// User and password, read for each call.
    pub credentials: Arc<CredentialSource>,
    /// Who may sign the server's certificate.
    pub authority: Authority,
}

/// A ClickHouse client; clones share connections.
#[derive(Debug, Clone)]
pub struct ClickHouse {
    shared: Arc<Shared>,
    database: Option<Arc<str>>,
    deadline: Duration,
    limit: usize,
    agent: Option<HeaderValue>,
}

#[derive(Debug)]
struct Shared {
    url: reqwest::Url,
    credentials: Arc<CredentialSource>,
    authority: Authority,
    /// The HTTP client and the authority's text that it was built with.
    http: Mutex<Option<(Arc<str>, reqwest::Client)>>,
}

/// What ClickHouse says about a finished statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows written.
    pub written_rows: u64,
    /// Bytes written, uncompressed.
    pub written_bytes: u64,
}

impl ClickHouse {
    /// Builds a client; nothing is connected before the first call.
    pub fn new(options: Options) -> Result<Self, Error> {
        let url = http::address(&options.url).map_err(|error| {
            Error::new(ErrorClass::Permanent, format!("spec.clickhouse.url {:?}: {error}", options.url))
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                url,
                credentials: options.credentials,
                authority: options.authority,
                http: Mutex::new(None),
            }),
            database: options.database.map(Arc::from),
            deadline: DEFAULT_DEADLINE,
            limit: http::ANSWER_LIMIT,
            agent: None,
        })
    }

    /// Returns a client on the same connections that names itself in the server's query log, column
    /// `http_user_agent`. What an HTTP header cannot hold becomes a question mark.
    #[must_use]
    pub fn with_agent(&self, name: &str) -> Self {
        let name: String =
            name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        Self { agent: HeaderValue::from_str(&name).ok(), ..self.clone() }
    }

    /// Returns a client on the same connections with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Returns a client on the same connections whose calls end within `deadline`, or sooner where they already do.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        self.with_deadline(deadline.min(self.deadline))
    }

    /// Returns a client on the same connections that reads longer, or only shorter, answers: bytes.
    #[must_use]
    pub fn with_limit(&self, limit: usize) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Returns a client on the same connections with another default database.
    #[must_use]
    pub fn with_database(&self, database: Option<&str>) -> Self {
        Self { database: database.map(Arc::from), ..self.clone() }
    }

    /// Returns the default database.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Runs a statement that returns no rows.
    pub async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.execute_with_settings(sql, &[]).await
    }

    /// Runs a statement that returns no rows under the given settings.
    pub async fn execute_with_settings(&self, sql: &str, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.call(None, Bytes::copy_from_slice(sql.as_bytes()), settings).await.map(|_| ())
    }

    /// Runs a SELECT without a FORMAT clause and reads its rows by column name.
    ///
    /// Integers of 64 bits and more and decimals come as strings: see [`number`].
    pub async fn query<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, Error> {
        self.query_with_settings(sql, &[]).await
    }

    /// As [`query`](Self::query), under the given settings.
    pub async fn query_with_settings<T: DeserializeOwned>(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
    ) -> Result<Vec<T>, Error> {
        let body = self.query_text(sql, "JSONEachRow", settings).await?;
        // What the parser says may repeat what stands there.
        let row = |line: &str| serde_json::from_str(line).map_err(|_| shapeless());
        body.lines().filter(|line| !line.is_empty()).map(row).collect()
    }

    /// Runs a SELECT and returns its answer in the named format, as text.
    pub async fn query_text(
        &self,
        sql: &str,
        format: &str,
        settings: &[(&str, &str)],
    ) -> Result<String, Error> {
        let mut all = vec![
            ("default_format", format),
            ("output_format_json_quote_64bit_integers", "1"),
            ("output_format_json_quote_decimals", "1"),
            ("output_format_json_quote_denormals", "1"),
        ];
        all.extend_from_slice(settings);
        let (body, _) = self.call(None, Bytes::copy_from_slice(sql.as_bytes()), &all).await?;
        String::from_utf8(body.into()).map_err(|_| shapeless())
    }

    /// Runs a SELECT and returns its answer in the named format, as bytes.
    pub async fn query_bytes(&self, sql: &str, format: &str) -> Result<Bytes, Error> {
        self.query_bytes_with_settings(sql, format, &[]).await
    }

    /// As [`query_bytes`](Self::query_bytes), under the given settings.
    pub async fn query_bytes_with_settings(
        &self,
        sql: &str,
        format: &str,
        settings: &[(&str, &str)],
    ) -> Result<Bytes, Error> {
        let mut all = vec![("default_format", format)];
        all.extend_from_slice(settings);
        self.call(None, Bytes::copy_from_slice(sql.as_bytes()), &all).await.map(|(body, _)| body)
    }

    /// Inserts one block in Native format, wrapped in ClickHouse's compressed frames.
    ///
    /// `insert` is the statement up to and including the column list: `INSERT INTO t (a, b)`.
    pub async fn insert_native(
        &self,
        insert: &str,
        frames: Bytes,
        settings: &[(&str, &str)],
    ) -> Result<Summary, Error> {
        let mut all = vec![("decompress", "1")];
        all.extend_from_slice(settings);
        let sql = format!("{insert} FORMAT Native");
        let (_, summary) = self.call(Some(&sql), frames, &all).await?;
        Ok(summary)
    }

    /// Answers whether the server takes calls with these credentials.
    pub async fn ping(&self) -> Result<(), Error> {
        self.query_text("SELECT 1", "TSV", &[]).await.map(|_| ())
    }

    async fn call(
        &self,
        statement: Option<&str>,
        body: Bytes,
        settings: &[(&str, &str)],
    ) -> Result<(Bytes, Summary), Error> {
        let http = self.shared.http()?;
        let credentials = self
            .shared
            .credentials
            .current()
            .map_err(|error| Error::new(ErrorClass::Authentication, error.to_string()))?;
        let mut url = self.shared.url.clone();
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(database) = &self.database {
                pairs.append_pair("database", database);
            }
            if let Some(statement) = statement {
                pairs.append_pair("query", statement);
            }
            // Without it an error after the first block of an answer looks like success.
            pairs.append_pair("wait_end_of_query", "1");
            for (name, value) in settings {
                pairs.append_pair(name, value);
            }
        }
        let mut request = http
            .post(url)
            .header("X-ClickHouse-User", header(&credentials.username)?)
            .header("X-ClickHouse-Key", header(credentials.password.expose())?)
            .timeout(self.deadline)
            .body(body);
        if let Some(agent) = &self.agent {
            request = request.header("User-Agent", agent);
        }
        let response = request.send().await.map_err(|error| of_transport(&error, self.deadline))?;
        let status = response.status();
        let code = text_header(&response, "x-clickhouse-exception-code").and_then(|code| code.parse().ok());
        let summary = text_header(&response, "x-clickhouse-summary").map(Summary::parse).unwrap_or_default();
        // Every answer of ClickHouse has some of them. A statement that another server says yes to was not carried out.
        let is_clickhouse = response.headers().keys().any(|name| name.as_str().starts_with("x-clickhouse-"));
        let body = http::body(response, self.limit).await.map_err(|unread| match unread {
            Unread::Broken(error) => of_transport(&error, self.deadline),
            Unread::TooLong => {
                let text = format!("the answer is longer than {} MiB: {WHO_LISTENS}", self.limit >> 20);
                Error::new(ErrorClass::Permanent, text)
            }
        })?;
        if status.is_success() && !is_clickhouse {
            let text = format!("it says yes, and not as ClickHouse does: {WHO_LISTENS}");
            return Err(Error::new(ErrorClass::InDoubt, text));
        }
        if status.is_success() && code.is_none() {
            return Ok((body, summary));
        }
        let hidden = Hidden::of_login(&credentials);
        Err(Error::of_response(status.as_u16(), code, &Text::of_bytes(&body), &hidden))
    }
}

impl Summary {
    fn parse(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(deserialize_with = "number::deserialize")]
            written_rows: u64,
            #[serde(deserialize_with = "number::deserialize")]
            written_bytes: u64,
        }
        serde_json::from_str::<Wire>(text)
            .map(|w| Self { written_rows: w.written_rows, written_bytes: w.written_bytes })
            .unwrap_or_default()
    }
}

impl Shared {
    /// Returns the HTTP client, built anew when the authority's file has changed.
    fn http(&self) -> Result<reqwest::Client, Error> {
        let permanent = |text: String| Error::new(ErrorClass::Permanent, text);
        let pem: Arc<str> = match &self.authority {
            Authority::System => Arc::from(""),
            Authority::Pem(text) => Arc::from(text.as_str()),
            Authority::File(file) => {
                file.read().map_err(|error| Error::new(ErrorClass::Transient, error.to_string()))?
            }
        };
        let mut built = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((with, client)) = built.as_ref()
            && *with == pem
        {
            return Ok(client.clone());
        }
        let mut builder = http::builder().pool_idle_timeout(Duration::from_secs(8)).tcp_nodelay(true);
        if !matches!(self.authority, Authority::System) {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| permanent(format!("the certificate authority is not valid PEM: {error}")))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| permanent(chain(&error)))?;
        *built = Some((pem, client.clone()));
        Ok(client)
    }
}

/// An answer that cannot be read.
fn shapeless() -> Error {
    Error::new(ErrorClass::Permanent, format!("the answer is not of the expected shape: {WHO_LISTENS}"))
}

fn header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::new(ErrorClass::Authentication, "the user name or password has characters that http refuses")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn text_header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn of_transport(error: &reqwest::Error, deadline: Duration) -> Error {
    if let Some(refused) = http::refused(error) {
        return Error::new(ErrorClass::Permanent, format!("spec.clickhouse.url: {refused}"));
    }
    if error.is_connect() {
        return Error::new(ErrorClass::Transient, format!("cannot connect: {}", chain(error)));
    }
    if error.is_timeout() {
        return Error::new(ErrorClass::InDoubt, format!("no answer within {}", in_words(deadline)));
    }
    Error::new(ErrorClass::InDoubt, format!("the connection broke: {}", chain(error)))
}

/// Text of the causes below an error; the outermost text is left out because it repeats the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{error}");
        cause = error.source();
    }
    text
}

/// Reads an integer that ClickHouse's JSON gives as a number or, from 64 bits on, as a string.
///
/// `#[serde(deserialize_with = "tidemark_runtime::clickhouse::number::deserialize")]`
pub mod number {
    use std::fmt::Display;
    use std::marker::PhantomData;
    use std::str::FromStr;

    use super::Deserializer;

    /// Reads any integer type from a JSON number or a string of digits.
    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr,
        T::Err: Display,
    {
        struct Visitor<T>(PhantomData<T>);

        impl<T: FromStr<Err: Display>> serde::de::Visitor<'_> for Visitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a string of one")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    fn client(url: &str) -> Result<ClickHouse, Error> {
        ClickHouse::new(Options {
            url: url.to_owned(),
            database: Some("shop".to_owned()),
            credentials: Arc::new(CredentialSource::memory(Credentials::new("default", ""))),
            authority: Authority::System,
        })
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_transient() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = client(&format!("http://{address}")).unwrap().ping().await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_leaves_the_call_in_doubt() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(&url).unwrap().with_deadline(Duration::from_millis(50));
        assert_eq!(client.ping().await.unwrap_err().class, ErrorClass::InDoubt);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_another_servers_page_is_not_shown() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = elsewhere.local_addr().unwrap();
        let answers = tokio::spawn(async move {
            for status in [format!("307 Temporary Redirect\r\nLocation: http://{target}/"), "200 OK".into()] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nX-ClickHouse-Exception-Code: 0\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let client = client(&url).unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(error.message.contains("redirect") && !error.message.contains("secret"), "{error}");
        let error = client.query::<u8>("SELECT 1").await.unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        answers.await.unwrap();
        let none = tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await;
        assert!(none.is_err(), "the redirect was followed");
    }

    #[test]
    fn an_address_that_is_no_url_is_refused() {
        assert_eq!(client("clickhouse:8123").unwrap_err().class, ErrorClass::Permanent);
    }

    #[test]
    fn an_address_that_is_never_called_is_named_with_its_field() {
        let error = client("http://[::ffff:169.254.169.254]:8123").unwrap_err();
        assert!(error.message.starts_with("spec.clickhouse.url "), "{error}");
        assert!(error.message.contains("nothing in 169.254.0.0/16 is called"), "{error}");
        assert_eq!(error.class, ErrorClass::Permanent);
    }

    #[test]
    fn numbers_are_read_from_strings_and_numbers() {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "number::deserialize")]
            version: u128,
        }
        let of = |text: &str| serde_json::from_str::<Row>(text).unwrap().version;
        assert_eq!(of(r#"{"version":"340282366920938463463374607431768211455"}"#), u128::MAX);
        assert_eq!(of(r#"{"version":7}"#), 7);
    }
}
