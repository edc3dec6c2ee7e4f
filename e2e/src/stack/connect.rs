//! Kafka Connect with Debezium's connector for PostgreSQL.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::cache;
use super::component::Component;
use super::http;
use super::kafka::{Kafka, java};
use super::ports::Port;
use super::process::{Process, Program, Signal};
use super::template::{Values, render_file};

/// The class of the connector that must be there.
const CONNECTOR: &str = "io.debezium.connector.postgresql.PostgresConnector";

/// A Connect worker of the stack.
#[derive(Debug)]
pub struct Connect {
    process: Process,
    port: Port,
}

impl Connect {
    /// Writes the worker's configuration and plugin folder.
    pub(super) fn prepare(stack: &Path, kafka: &Kafka) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let plugins = stack.join("plugins");
        fs::create_dir(&plugins)?;
        std::os::unix::fs::symlink(cache::part("debezium")?, plugins.join("debezium"))?;
        let values = Values::from([
            ("BIND", "127.0.0.1".to_owned()),
            ("HOST", "127.0.0.1".to_owned()),
            ("KAFKA_BOOTSTRAP", kafka.bootstrap_servers()),
            ("CONNECT_PORT", port.number().to_string()),
            ("CONNECT_PLUGINS", plugins.display().to_string()),
        ]);
        let file = stack.join("connect-distributed.properties");
        fs::write(&file, render_file("kafka/connect-distributed.properties", &values)?)?;
        let mut command = java("connect")?;
        command.extend(["org.apache.kafka.connect.cli.ConnectDistributed".into(), file.into()]);
        let program =
            Program { name: "connect", command, environment: vec![], stop: Signal::Term, end: Signal::Kill };
        Ok(Self { process: Process::new(stack, program), port })
    }

    /// Returns the base URL of the REST API, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Sends one request to the REST API and returns the answer's JSON, `null` if it has no body.
    ///
    /// `path` begins with a slash. A status other than 2xx is an error with the answer's text.
    pub async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let client = http::client(Duration::from_secs(30)).build()?;
        let mut request = client.request(method.clone(), format!("{}{path}", self.url()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path} at Connect"))?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{method} {path} at Connect: {status}: {text}");
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}

impl Component for Connect {
    fn process(&self) -> &Process {
        &self.process
    }

    async fn probe(&self) -> anyhow::Result<()> {
        // Answered only by a worker that has joined its group and read its topics.
        self.request(reqwest::Method::GET, "/connectors", None).await?;
        let plugins = self.request(reqwest::Method::GET, "/connector-plugins", None).await?;
        let found =
            plugins.as_array().is_some_and(|all| all.iter().any(|plugin| plugin["class"] == CONNECTOR));
        ensure!(found, "the plugin {CONNECTOR} is missing");
        Ok(())
    }

    fn advice(&self) -> &'static str {
        "it needs Java 17, 512 MB of memory and a running Kafka"
    }
}
