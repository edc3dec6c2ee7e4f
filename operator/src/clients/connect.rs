//! Kafka Connect's REST interface. I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemark_crds::secrets::is_secret;
use tidemark_runtime::credentials::Credentials;
use tidemark_runtime::http;

use super::failure;
use crate::facts::{Failure, FailureClass};

/// Deadline of one call: Connect answers only when its group is not rebalancing.
const DEADLINE: Duration = Duration::from_secs(8);

/// A client of one Connect cluster; clones share connections.
#[derive(Clone)]
pub struct Connect {
    http: reqwest::Client,
    url: Url,
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What Connect says of an error.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
}

impl Connect {
    /// Builds a client; nothing is connected before the first call.
    pub fn new(url: &str, credentials: Option<Credentials>) -> Result<Self, Failure> {
        let bad =
            |text: String| failure(FailureClass::Remote, format!("spec.source.connect.url {url:?}: {text}"));
        let url = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("is neither http nor https".to_owned()));
        }
        let http = http::builder()
            .timeout(DEADLINE)
            .connect_timeout(Duration::from_secs(3))
            // Shorter than the server's, so that no call goes out on a connection that is being closed.
            .pool_idle_timeout(Duration::from_secs(20))
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self { http, url, credentials })
    }

    /// Reads `path`; `None` where Connect answers 404.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, Failure> {
        match self.call(Method::GET, path, &[], None).await? {
            None => Ok(None),
            Some(body) => serde_json::from_slice(&body).map(Some).map_err(|_| {
                failure(FailureClass::Remote, "kafka connect: the answer is not of the expected shape")
            }),
        }
    }

    /// Makes a connector that does not run yet.
    pub async fn create_stopped(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let body = serde_json::json!({"name": name, "config": config, "initial_state": "STOPPED"});
        self.call(Method::POST, &["connectors"], &[], Some(&body)).await.map(drop)
    }

    /// Writes a connector's whole configuration.
    pub async fn put_config(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let body = serde_json::json!(config);
        self.call(Method::PUT, &["connectors", name, "config"], &[], Some(&body)).await.map(drop)
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
    ) -> Result<Option<Vec<u8>>, Failure> {
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
        let mut request = self.http.request(method, url);
        if let Some(credentials) = &self.credentials {
            request = request.basic_auth(&credentials.username, Some(credentials.password.expose()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| of_transport(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| of_transport(&error))?;
        if status.is_success() {
            return Ok(Some(bytes.to_vec()));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let secrets: Vec<&str> = body.map(secret_values).unwrap_or_default();
        Err(of_status(status, &bytes, &secrets))
    }
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

fn of_transport(error: &reqwest::Error) -> Failure {
    let text = if error.is_timeout() {
        format!("kafka connect did not answer within {} s", DEADLINE.as_secs())
    } else if error.is_connect() {
        "kafka connect cannot be reached".to_owned()
    } else {
        "kafka connect: the connection broke".to_owned()
    };
    failure(FailureClass::Unreachable, text)
}

/// Only the `message` of Connect's own JSON is shown: anything else could be another server's page.
fn of_status(status: StatusCode, body: &[u8], secrets: &[&str]) -> Failure {
    let class = match status.as_u16() {
        401 => FailureClass::Authentication,
        403 => FailureClass::Permission,
        // 409: the group is rebalancing; 404 is handled before.
        408 | 409 | 429 | 502..=504 => FailureClass::Unreachable,
        _ => FailureClass::Remote,
    };
    let mut message = serde_json::from_slice::<ErrorBody>(body).map(|body| body.message).unwrap_or_default();
    for secret in secrets {
        message = message.replace(secret, "***");
    }
    let message = message.replace('\n', " ");
    let text = if message.is_empty() { format!("http status {status}") } else { message };
    failure(class, format!("kafka connect: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_connects_message_without_the_password() {
        let body = serde_json::json!({"database.password": "s3cret", "a": "b"});
        let answer = br#"{"error_code":400,"message":"login with s3cret\nfailed"}"#;
        let failure = of_status(StatusCode::BAD_REQUEST, answer, &secret_values(&body));
        assert_eq!(failure.message, "kafka connect: login with *** failed");
        assert_eq!(failure.class, FailureClass::Remote);
    }

    #[test]
    fn the_page_of_another_server_is_not_shown() {
        let failure = of_status(StatusCode::INTERNAL_SERVER_ERROR, b"<html>inner</html>", &[]);
        assert_eq!(failure.message, "kafka connect: http status 500 Internal Server Error");
    }

    #[test]
    fn an_address_that_is_no_url_is_refused() {
        assert!(Connect::new("connect:8083", None).is_err());
    }
}
