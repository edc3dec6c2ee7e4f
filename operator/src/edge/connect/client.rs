//! Kafka Connect's REST interface. I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tidemark_crds::pipeline::CertificateCheck;
use tidemark_crds::secrets::is_secret;
use tidemark_runtime::credentials::Credentials;
use tidemark_runtime::foreign::{Hidden, Text};
use tidemark_runtime::http::{self, Unread};
use tidemark_runtime::{in_words, tls};

use crate::core::credentials::ConnectLogin;
use crate::core::facts::{Failure, FailureClass};
use crate::edge::failure::failure;

/// Deadline of one call: Connect answers only when its group is not rebalancing.
const DEADLINE: Duration = Duration::from_secs(8);

/// Longest answer, bytes: a worker lists some hundred plugins.
const LONGEST_ANSWER: usize = 16 << 20;

/// A client of one Connect cluster; clones share connections, and whether it is Connect that answers.
#[derive(Clone)]
pub struct Connect {
    http: reqwest::Client,
    url: Url,
    credentials: Option<Credentials>,
    deadline: Duration,
    hidden: Hidden,
    /// Whether it has listed its plugins: only then its words are shown.
    is_known: Arc<AtomicBool>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// A plugin of a worker.
#[derive(Deserialize)]
struct Plugin {
    class: String,
}

/// What Connect says of an error: its code is that of the answer.
#[derive(Deserialize)]
struct ErrorBody {
    error_code: u16,
    message: Text,
}

/// How to reach a Connect cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address of the REST interface.
    pub url: String,
    /// Account and certificate authority.
    pub login: ConnectLogin,
    /// How far the certificate of an https address is checked.
    pub check: CertificateCheck,
    /// Secrets that no text has that is shown.
    pub hidden: Hidden,
}

/// What to look at where an answer is not Connect's.
const WHO_LISTENS: &str = "is it Kafka Connect that listens there?";

impl Connect {
    /// Builds a client; nothing is connected before the first call.
    pub fn new(options: &Options) -> Result<Self, Failure> {
        let Options { url, login, check, hidden } = options;
        let bad =
            |text: String| failure(FailureClass::Remote, format!("spec.source.connect.url {url:?}: {text}"));
        let url = http::address(url).map_err(bad)?;
        let mut builder = http::builder();
        if url.scheme() == "https" {
            let tls = tls::client_config(login.ca.as_deref(), *check == CertificateCheck::VerifyFull);
            builder = builder.tls_backend_preconfigured(tls.map_err(|text| {
                failure(FailureClass::Remote, format!("spec.source.connect.tls.ca: {text}"))
            })?);
        }
        let http = builder
            .connect_timeout(Duration::from_secs(3))
            // Shorter than the server's, so that no call goes out on a connection that is being closed.
            .pool_idle_timeout(Duration::from_secs(20))
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let (credentials, hidden) = (login.credentials.clone(), hidden.clone());
        Ok(Self { http, url, credentials, hidden, deadline: DEADLINE, is_known: Arc::default() })
    }

    /// The same client with another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The secrets that no text has that is shown.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Whether a worker has a plugin. What answers otherwise than a worker does is none.
    pub async fn has_plugin(&self, class: &str) -> Result<bool, Failure> {
        let plugins: Option<Vec<Plugin>> = self.get(&["connector-plugins"]).await?;
        let Some(plugins) = plugins else {
            let text = format!("kafka connect: /connector-plugins is not found: {WHO_LISTENS}");
            return Err(failure(FailureClass::Remote, text));
        };
        self.is_known.store(true, Ordering::Relaxed);
        Ok(plugins.iter().any(|plugin| plugin.class == class))
    }

    /// Reads `path`; `None` where Connect answers 404.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, Failure> {
        match self.call(Method::GET, path, &[], None).await? {
            None => Ok(None),
            Some(body) => serde_json::from_slice(&body).map(Some).map_err(|_| shapeless()),
        }
    }

    /// Makes a connector that does not run yet.
    pub async fn create_stopped(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let body = serde_json::json!({"name": name, "config": config, "initial_state": "STOPPED"});
        Self::written(name, self.call(Method::POST, &["connectors"], &[], Some(&body)).await?)
    }

    /// Writes a connector's whole configuration.
    pub async fn put_config(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let body = serde_json::json!(config);
        Self::written(name, self.call(Method::PUT, &["connectors", name, "config"], &[], Some(&body)).await?)
    }

    /// Asks for `pause`, `resume` or `stop`.
    pub async fn set_state(&self, name: &str, verb: &str) -> Result<(), Failure> {
        self.found(Method::PUT, &["connectors", name, verb], &[]).await
    }

    /// Restarts the connector and its tasks where they failed.
    pub async fn restart_failed(&self, name: &str) -> Result<(), Failure> {
        let query = [("includeTasks", "true"), ("onlyFailed", "true")];
        self.found(Method::POST, &["connectors", name, "restart"], &query).await
    }

    /// Forgets where a stopped connector stands; one that is gone has nothing to forget.
    pub async fn delete_offsets(&self, name: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, &["connectors", name, "offsets"], &[], None).await.map(drop)
    }

    /// Removes a connector; one that is gone is as it should be.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, &["connectors", name], &[], None).await.map(drop)
    }

    /// Connect answers with the connector that it wrote.
    fn written(name: &str, answer: Option<Bytes>) -> Result<(), Failure> {
        let answer: Option<Value> = answer.and_then(|body| serde_json::from_slice(&body).ok());
        if answer.is_some_and(|answer| answer["name"] == name) { Ok(()) } else { Err(shapeless()) }
    }

    async fn found(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> Result<(), Failure> {
        match self.call(method, path, query, None).await? {
            Some(_) => Ok(()),
            None => Err(failure(FailureClass::Remote, "kafka connect: the connector does not exist")),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Option<Bytes>, Failure> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(path);
            }
            Err(()) => {
                return Err(failure(FailureClass::Remote, "spec.source.connect.url has no path"));
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).timeout(self.deadline);
        if let Some(credentials) = &self.credentials {
            request = request.basic_auth(&credentials.username, Some(credentials.password.expose()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let broken = |error: &reqwest::Error| of_transport(error, self.deadline);
        let response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        let bytes = http::body(response, LONGEST_ANSWER).await.map_err(|unread| match unread {
            Unread::Broken(error) => broken(&error),
            Unread::TooLong => {
                let most = LONGEST_ANSWER >> 20;
                let text = format!("kafka connect: the answer is longer than {most} MiB: {WHO_LISTENS}");
                failure(FailureClass::Remote, text)
            }
        })?;
        if status.is_success() {
            // What another server says yes to was not carried out.
            let is_connects = bytes.is_empty() || serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
            return if is_connects { Ok(Some(bytes)) } else { Err(shapeless()) };
        }
        // That a connector is not there is for Connect alone to say.
        if status == StatusCode::NOT_FOUND && said(status, &bytes).is_some() {
            return Ok(None);
        }
        let secrets = body.map(secret_values).unwrap_or_default();
        let hidden = secrets.into_iter().fold(self.hidden.clone(), Hidden::with);
        let words = self.is_known.load(Ordering::Relaxed).then_some(bytes);
        Err(of_status(status, words.as_deref(), &hidden))
    }
}

/// An answer that cannot be read.
fn shapeless() -> Failure {
    let text = format!("kafka connect: the answer is not of the expected shape: {WHO_LISTENS}");
    failure(FailureClass::Remote, text)
}

/// Values of a configuration that must not come back in an error's text.
fn secret_values(body: &Value) -> Vec<&str> {
    let config = body.get("config").unwrap_or(body);
    let entries = config.as_object().into_iter().flatten();
    entries
        .filter(|(key, _)| is_secret(key))
        .filter_map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
        .collect()
}

fn of_transport(error: &reqwest::Error, deadline: Duration) -> Failure {
    if let Some(refused) = http::refused(error) {
        return failure(FailureClass::Remote, format!("spec.source.connect.url: {refused}"));
    }
    let text = if let Some(refusal) = tls::refusal(error) {
        format!(
            "kafka connect: its certificate is refused ({refusal}): check spec.source.connect.tls, and the name in \
             spec.source.connect.url"
        )
    } else if error.is_timeout() {
        format!("kafka connect did not answer within {}", in_words(deadline))
    } else if error.is_connect() {
        "kafka connect cannot be reached".to_owned()
    } else {
        "kafka connect: the connection broke".to_owned()
    };
    failure(FailureClass::Unreachable, text)
}

/// The message of Connect's own JSON, which has the code of the answer.
fn said(status: StatusCode, bytes: &[u8]) -> Option<Text> {
    let body: ErrorBody = serde_json::from_slice(bytes).ok()?;
    (body.error_code == status.as_u16()).then_some(body.message)
}

/// Only Connect's own message is shown, and only of what is known to be Connect: `words` are absent of anything else, which
/// could be another server's.
fn of_status(status: StatusCode, words: Option<&[u8]>, hidden: &Hidden) -> Failure {
    let class = match status.as_u16() {
        401 => FailureClass::Authentication,
        403 => FailureClass::Permission,
        // 409: the group is rebalancing; 404 is handled before.
        408 | 409 | 429 | 502..=504 => FailureClass::Unreachable,
        _ => FailureClass::Remote,
    };
    let message = words.and_then(|words| said(status, words)).map(|message| message.shown(hidden));
    let text = match message {
        Some(message) if !message.is_empty() => message,
        _ if status.is_redirection() => format!("http status {status}: {}", http::REDIRECT),
        // What stands before a Connect that is known gives these too.
        _ if class != FailureClass::Remote || (words.is_some() && status.is_server_error()) => {
            format!("http status {status}")
        }
        _ => format!("http status {status}: {WHO_LISTENS}"),
    };
    failure(class, format!("kafka connect: {text}"))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
