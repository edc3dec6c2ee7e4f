//! Grafana's HTTP API. I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tidemark_runtime::foreign::{Hidden, Text};
use tidemark_runtime::http::{self, Unread};
use tidemark_runtime::{in_words, tls};

use crate::core::credentials::Login;
use crate::core::facts::{Failure, FailureClass};
use crate::edge::failure::failure;

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(8);
/// Pause after the first answer that asks for time without saying how much.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause that grows by itself.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longest answer, bytes: a folder of large dashboards.
const LONGEST_ANSWER: usize = 64 << 20;
/// Longest pause that an answer can ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(5);
/// What to look at where an answer is not Grafana's.
const WHO_LISTENS: &str = "is it Grafana that listens there?";

/// A client of one Grafana; clones share connections and what became of the login.
///
/// Five failed logins lock a user out, people included. So calls go one after another, and after the first 401 none
/// is sent any more: all that follow fail alike. One that is overloaded or is being started (429, 502 to 504) is left
/// alone for as long as it asks, or for a pause that grows.
#[derive(Clone)]
pub struct Grafana {
    http: reqwest::Client,
    url: Url,
    login: Login,
    deadline: Duration,
    hidden: Hidden,
    /// Whether it has said how it is: only then its words are shown.
    is_known: Arc<AtomicBool>,
    mood: Arc<tokio::sync::Mutex<Mood>>,
}

/// What the last answers say of the next call.
#[derive(Debug, Clone, Default)]
struct Mood {
    /// The login was refused.
    refusal: Option<Failure>,
    /// Grafana asked for time.
    pause: Option<Pause>,
}

/// No call before a moment.
#[derive(Debug, Clone)]
struct Pause {
    until: Instant,
    /// Answers in a row that asked for time.
    failures: u32,
    failure: Failure,
}

impl std::fmt::Debug for Grafana {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grafana").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What Grafana says of an error; a list where a field is missing.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: Text,
}

impl Grafana {
    /// Builds a client; nothing is connected before the first call. `ca` is PEM; absent: the system's. What is `hidden` is
    /// in no text that is shown.
    pub fn new(url: &str, login: Login, ca: Option<&str>, hidden: Hidden) -> Result<Self, Failure> {
        let bad = |text: String| failure(FailureClass::Remote, format!("spec.grafana.url {url:?}: {text}"));
        let url = http::address(url).map_err(bad)?;
        let mut builder = http::builder().connect_timeout(Duration::from_secs(3));
        if let Some(pem) = ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| bad("the certificate authority is not valid PEM".to_owned()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| bad(error.to_string()))?;
        let (is_known, mood) = (Arc::default(), Arc::default());
        Ok(Self { http, url, login, hidden, deadline: DEADLINE, is_known, mood })
    }

    /// The same client with another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Its version, such as `12.4.0`; empty where it does not tell.
    ///
    /// # Errors
    /// Those of the call, and that what answers is no Grafana.
    pub async fn version(&self) -> Result<String, Failure> {
        let health = self.get(&["api", "health"], &[]).await?.unwrap_or_default();
        if !health["database"].is_string() {
            let text = format!("grafana: /api/health does not answer as Grafana's does: {WHO_LISTENS}");
            return Err(failure(FailureClass::Remote, text));
        }
        self.is_known.store(true, Ordering::Relaxed);
        Ok(health["version"].as_str().unwrap_or_default().to_owned())
    }

    /// What of a text of Grafana's can be shown.
    pub fn shown(&self, text: &Value) -> String {
        Text::new(text.as_str().unwrap_or_default()).shown(&self.hidden)
    }

    /// Reads an object; `None` where Grafana answers 404.
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Option<Value>, Failure> {
        let found = self.call(Method::GET, path, query, None, &[]).await?;
        found.map(|value| if value.is_object() { Ok(value) } else { Err(shapeless()) }).transpose()
    }

    /// Reads a list; `None` where Grafana answers 404.
    pub async fn list(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Option<Vec<Value>>, Failure> {
        match self.call(Method::GET, path, query, None, &[]).await? {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(shapeless()),
        }
    }

    /// Writes; `None` where Grafana answers 404. What is in `secrets` never comes back in an error's text.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        secrets: &[&str],
    ) -> Result<Option<Value>, Failure> {
        let answer = self.call(method, path, &[], body, secrets).await?;
        // Whatever was written, Grafana says one of them, or nothing at all.
        let is_grafanas = |value: &Value| {
            value.is_null() || ["uid", "message", "status"].iter().any(|key| value[*key].is_string())
        };
        if answer.as_ref().is_some_and(|value| !is_grafanas(value)) {
            return Err(shapeless());
        }
        Ok(answer)
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        secrets: &[&str],
    ) -> Result<Option<Value>, Failure> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(path);
            }
            Err(()) => return Err(failure(FailureClass::Remote, "spec.grafana.url has no path")),
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).timeout(self.deadline);
        request = match &self.login {
            Login::Token(token) => request.bearer_auth(token.expose()),
            // The header holds for this call alone; the parameter of the same name would move the user for good.
            Login::User(credentials, organization) => request
                .basic_auth(&credentials.username, Some(credentials.password.expose()))
                .header("X-Grafana-Org-Id", *organization),
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut mood = self.mood.lock().await;
        if let Some(failure) = &mood.refusal {
            return Err(failure.clone());
        }
        let failures = mood.pause.as_ref().map_or(0, |pause| pause.failures);
        if let Some(pause) = mood.pause.as_ref().filter(|pause| Instant::now() < pause.until) {
            return Err(pause.failure.clone());
        }
        let broken = |error: &reqwest::Error| of_transport(error, self.deadline);
        let response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = http::body(response, LONGEST_ANSWER).await.map_err(|unread| match unread {
            Unread::Broken(error) => broken(&error),
            Unread::TooLong => {
                let most = LONGEST_ANSWER >> 20;
                let text = format!("grafana: the answer is longer than {most} MiB: {WHO_LISTENS}");
                failure(FailureClass::Remote, text)
            }
        })?;
        let pause = pause_after(status, asked, failures);
        if pause.is_none() {
            mood.pause = None;
        }
        // What another server says yes to was not carried out, and what it does not have says nothing of Grafana.
        let value = if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
        if status.is_success() {
            return value.map(Some).ok_or_else(shapeless);
        }
        if status == StatusCode::NOT_FOUND && value.is_some() {
            return Ok(None);
        }
        let hidden = secrets.iter().fold(self.hidden.clone(), |hidden, secret| hidden.with(secret));
        let words = self.is_known.load(Ordering::Relaxed).then_some(bytes);
        let failure = of_status(status, words.as_deref(), &hidden);
        if failure.class == FailureClass::Authentication {
            tracing::warn!(
                url = self.url.as_str(),
                "grafana refused the login: it is not tried again until the Secret or the address changes"
            );
            mood.refusal = Some(failure.clone());
        }
        if let Some(pause) = pause {
            mood.pause = Some(Pause {
                until: Instant::now() + pause,
                failures: failures.saturating_add(1),
                failure: failure.clone(),
            });
        }
        Err(failure)
    }
}

/// How long a Grafana that answers `status` is left alone: as many seconds as it `asked` for, or twice as long after
/// each of the `failures` in a row; none where the answer does not ask for time. A plain 500 does not: Grafana gives it
/// for one data source whose plugin is missing.
fn pause_after(status: StatusCode, asked: Option<u64>, failures: u32) -> Option<Duration> {
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return None;
    }
    let growing = FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE);
    Some(asked.map_or(growing, |seconds| Duration::from_secs(seconds).min(LONGEST_ASKED)))
}

/// An answer that cannot be read.
fn shapeless() -> Failure {
    let text = format!("grafana: the answer is not of the expected shape: {WHO_LISTENS}");
    failure(FailureClass::Remote, text)
}

fn of_transport(error: &reqwest::Error, deadline: Duration) -> Failure {
    if let Some(refused) = http::refused(error) {
        return failure(FailureClass::Remote, format!("spec.grafana.url: {refused}"));
    }
    let text = if let Some(refusal) = tls::refusal(error) {
        format!(
            "grafana: its certificate is refused ({refusal}): check spec.grafana.tls.ca, and the name in spec.grafana.url"
        )
    } else if error.is_timeout() {
        format!("grafana did not answer within {}", in_words(deadline))
    } else if error.is_connect() {
        "grafana cannot be reached".to_owned()
    } else {
        "grafana: the connection broke".to_owned()
    };
    failure(FailureClass::Unreachable, text)
}

/// Only the `message` of Grafana's own JSON is shown, and only of what is known to be Grafana: `words` are absent of
/// anything else, which could be another server's.
fn of_status(status: StatusCode, words: Option<&[u8]>, hidden: &Hidden) -> Failure {
    let class = match status.as_u16() {
        401 => FailureClass::Authentication,
        403 => FailureClass::Permission,
        408 | 429 | 502..=504 => FailureClass::Unreachable,
        _ => FailureClass::Remote,
    };
    let said = words.and_then(|words| serde_json::from_slice::<ErrorBody>(words).ok());
    let text = match said.map(|said| said.message.shown(hidden)) {
        Some(message) if !message.is_empty() => format!("{message} ({status})"),
        _ if status.is_redirection() => format!("http status {status}: {}", http::REDIRECT),
        _ if status == StatusCode::NOT_FOUND => format!("http status {status}: {WHO_LISTENS}"),
        _ => format!("http status {status}"),
    };
    failure(class, format!("grafana: {text}"))
}

#[cfg(test)]
mod tests {
    use tidemark_runtime::credentials::Secret;

    use super::*;

    #[test]
    fn an_address_that_is_never_called_is_named_with_its_field() {
        let login = Login::Token(Secret::new("s3cret"));
        let failure = Grafana::new("http://[fe80::1]:3000", login, None, Hidden::default()).unwrap_err();
        assert!(failure.message.starts_with("spec.grafana.url "), "{failure:?}");
        assert!(failure.message.contains("nothing in fe80::/10 is called"), "{failure:?}");
    }

    #[test]
    fn an_error_shows_grafanas_message_without_the_password() {
        let hidden = Hidden::default().with("s3cret");
        let of = |status, words: &[u8]| of_status(status, Some(words), &hidden);
        let failure = of(StatusCode::INTERNAL_SERVER_ERROR, br#"{"message":"no\ns3cret"}"#);
        assert_eq!(failure.message, "grafana: no *** (500 Internal Server Error)");
        let failure = of(StatusCode::UNPROCESSABLE_ENTITY, br#"[{"fieldNames":["Type"]}]"#);
        assert_eq!(failure.message, "grafana: http status 422 Unprocessable Entity");
        assert_eq!(of(StatusCode::TOO_MANY_REQUESTS, b"").class, FailureClass::Unreachable);
        let another = of_status(StatusCode::INTERNAL_SERVER_ERROR, None, &hidden);
        assert_eq!(another.message, "grafana: http status 500 Internal Server Error");
    }

    #[test]
    fn a_pause_grows_up_to_a_minute_or_is_as_long_as_it_is_asked_for() {
        let pause =
            |status, asked, failures| pause_after(status, asked, failures).map(|pause| pause.as_secs());
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!([0, 1, 2, 9, 99].map(|failures| pause(busy, None, failures)), [2, 4, 8, 60, 60].map(Some));
        assert_eq!(pause(StatusCode::TOO_MANY_REQUESTS, Some(17), 0), Some(17));
        assert_eq!(pause(StatusCode::TOO_MANY_REQUESTS, Some(86_400), 0), Some(300));
        assert_eq!(pause(StatusCode::INTERNAL_SERVER_ERROR, Some(17), 0), None);
        assert_eq!(pause(StatusCode::UNAUTHORIZED, None, 3), None);
    }

    #[test]
    fn an_address_that_is_no_url_is_refused() {
        assert!(
            Grafana::new("grafana:3000", Login::Token(Secret::new("t")), None, Hidden::default()).is_err()
        );
    }
}
