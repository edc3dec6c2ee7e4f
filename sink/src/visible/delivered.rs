//! How far the connector is by Connect's own word. I/O, read only.

use std::time::Duration;

use serde::Deserialize;
use tidemark_crds::pipeline::CertificateCheck;
use tidemark_crds::sink_config::ConnectConfig;
use tidemark_runtime::credentials::{CredentialSource, WatchedFile};
use tidemark_runtime::{http, tls};

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(8);
/// Longest answer, bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kafka connect: {0}")]
pub(super) struct Unasked(String);

/// Asks Connect for the position that it has committed.
pub(super) struct Delivered {
    http: reqwest::Client,
    url: reqwest::Url,
    login: Option<CredentialSource>,
}

#[derive(Deserialize)]
struct Offsets {
    offsets: Vec<Stored>,
}

#[derive(Deserialize)]
struct Stored {
    offset: Option<Offset>,
}

#[derive(Deserialize)]
struct Offset {
    lsn_commit: Option<u64>,
}

impl Delivered {
    /// Builds the client; nothing is connected.
    pub(super) fn new(config: &ConnectConfig) -> Result<Self, Unasked> {
        let mut url = http::address(&config.url).map_err(|text| Unasked(format!("its address {text}")))?;
        let path = ["connectors", &config.connector, "offsets"];
        url.path_segments_mut()
            .map_err(|()| Unasked("its address has no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        let mut builder = http::builder();
        if url.scheme() == "https" {
            let authority = config.ca_file.as_ref().map(|path| WatchedFile::new(path).read()).transpose();
            let authority = authority.map_err(|error| Unasked(error.to_string()))?;
            let check = config.check == CertificateCheck::VerifyFull;
            let tls = tls::client_config(authority.as_deref(), check).map_err(Unasked)?;
            builder = builder.tls_backend_preconfigured(tls);
        }
        let http = builder.timeout(DEADLINE).build().map_err(|error| Unasked(error.to_string()))?;
        let login = config.login.as_ref();
        let login = login.map(|login| CredentialSource::files(&login.username_file, &login.password_file));
        Ok(Self { http, url, login })
    }

    /// The last commit of the source before the record whose position Connect has committed, 0 before the first: the
    /// records of all commits up to it are acknowledged by their brokers.
    pub(super) async fn position(&self) -> Result<u64, Unasked> {
        let mut request = self.http.get(self.url.clone());
        if let Some(login) = &self.login {
            let login = login.current().map_err(|error| Unasked(error.to_string()))?;
            request = request.basic_auth(&login.username, Some(login.password.expose()));
        }
        let answer = request.send().await.map_err(|error| Unasked(error.without_url().to_string()))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Unasked(format!("asked for the connector's offsets, it answers {status}")));
        }
        let body = http::body(answer, LONGEST_ANSWER).await;
        let body = body.map_err(|_| Unasked("its answer breaks off or is too long".to_owned()))?;
        committed(&body)
    }
}

/// Reads Connect's answer. A connector of ours has one partition of its source.
fn committed(body: &[u8]) -> Result<u64, Unasked> {
    let Offsets { offsets } = serde_json::from_slice(body)
        .map_err(|_| Unasked("its answer has no offsets of a connector for PostgreSQL".to_owned()))?;
    match offsets.as_slice() {
        [] => Ok(0),
        [Stored { offset }] => Ok(offset.as_ref().and_then(|offset| offset.lsn_commit).unwrap_or(0)),
        _ => Err(Unasked("the connector has offsets of more than one source".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_counts_and_no_position_within_a_transaction() {
        let one = br#"{"offsets":[{"partition":{"server":"shop"},"offset":{"lsn_proc":9,"lsn_commit":7,"lsn":9}}]}"#;
        assert_eq!(committed(one).unwrap(), 7);
        for nothing in [
            r#"{"offsets":[]}"#,
            r#"{"offsets":[{"partition":{"server":"shop"},"offset":{"lsn":9}}]}"#,
            r#"{"offsets":[{"partition":{"server":"shop"},"offset":{"lsn_commit":null,"lsn":9}}]}"#,
            r#"{"offsets":[{"partition":{"server":"shop"},"offset":null}]}"#,
        ] {
            assert_eq!(committed(nothing.as_bytes()).unwrap(), 0, "{nothing}");
        }
        let two = br#"{"offsets":[{"offset":{"lsn_commit":7}},{"offset":{"lsn_commit":8}}]}"#;
        assert!(committed(two).is_err() && committed(b"<html>").is_err());
    }
}
