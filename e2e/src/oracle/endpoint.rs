//! A ClickHouse server over HTTP, asked as any client would: statements with settings of the session. I/O.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;

/// How long one statement may take.
const DEADLINE: Duration = Duration::from_mins(2);

/// A ClickHouse server and who asks it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: reqwest::Url,
    user: String,
    password: String,
    client: reqwest::Client,
}

impl Endpoint {
    /// Makes an endpoint of `http://HOST:PORT`; does not connect.
    pub fn new(url: &str, user: &str, password: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.parse().with_context(|| format!("ClickHouse's URL {url:?}"))?,
            user: user.into(),
            password: password.into(),
            client: tidemark_runtime::http::builder().timeout(DEADLINE).build()?,
        })
    }

    /// Runs one statement with settings of the session and returns the answer's text.
    pub async fn query(&self, statement: &str, settings: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut url = self.url.clone();
        // Errors after the first bytes would else come as text under status 200.
        url.query_pairs_mut().append_pair("wait_end_of_query", "1").extend_pairs(settings);
        let answer = self
            .client
            .post(url)
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password)
            .body(statement.to_owned())
            .send()
            .await
            .with_context(|| format!("asking ClickHouse at {}", self.url))?;
        let status = answer.status();
        let text = answer.text().await.context("reading ClickHouse's answer")?;
        ensure!(status.is_success(), "{}", text.trim());
        Ok(text)
    }

    /// Runs one SELECT (or DESCRIBE) and returns each row's columns as a tuple or array.
    pub async fn rows<T: DeserializeOwned>(
        &self,
        select: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Vec<T>> {
        let text = self.query(&format!("{select}\nFORMAT JSONCompactEachRow"), settings).await?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("ClickHouse's row {line}")))
            .collect()
    }
}
