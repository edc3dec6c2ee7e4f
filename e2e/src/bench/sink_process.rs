//! A `tidemark-sink` as a process of the stack, configured by the operator's own text, with its use of the
//! machine. I/O.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_operator::core::desired::sink_config::{CONFIG_FILE, Paths, sink_config};
use tidemark_operator::core::desired::sink_deployment::ARENAS;

use super::usage;
use crate::chain::program;
use crate::stack::{Process, Role, Stack, User};

/// What a sink is told: where the events are and where the rows go.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Namespace and name of the pipeline, unique in its stack; the key of its rows in the ledger.
    pub name: PipelineName,
    /// Debezium's `topic.prefix`.
    pub topic_prefix: String,
    /// Target database.
    pub database: String,
    /// Port of the PostgreSQL server that has the rows which events lack, in a database of the target's name; absent:
    /// no event lacks any.
    pub source: Option<u16>,
    /// Source tables with their state tables.
    pub routes: Vec<(SourceTable, String)>,
}

/// A running sink; it ends with this value or with its stack.
#[derive(Debug)]
pub struct SinkProcess {
    process: Process,
    config: PathBuf,
}

impl SinkProcess {
    /// Starts a sink of the stack without waiting for it.
    pub fn start(stack: &Stack, assignment: &Assignment) -> anyhow::Result<Self> {
        let config = write_configuration(stack, assignment)?;
        let command = vec![
            // As its container is run.
            "env".into(),
            format!("{}={}", ARENAS.0, ARENAS.1).into(),
            program("tidemark-sink")?.into(),
            "run".into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--config".into(),
            config.clone().into(),
        ];
        // The names of a stack's programs live as long as the measurement.
        let name: &'static str = Box::leak(assignment.name.name.clone().into_boxed_str());
        let process = stack.program(name, command);
        process.spawn()?;
        Ok(Self { process, config })
    }

    /// Returns CPU time and highest resident memory, in bytes, so far.
    ///
    /// Fails with the end of the log if the sink has ended by itself.
    pub fn usage(&self) -> anyhow::Result<(Duration, u64)> {
        let ended = self.process.ended()?;
        ensure!(ended.is_none(), "the sink ended by itself ({ended:?}):\n{}", self.log_tail());
        let id = self.process.id().context("the sink was never started")?;
        Ok((usage::cpu_time(id)?, usage::peak_memory(id)?))
    }

    /// Runs `dead-letters` with these arguments under the sink's configuration, and returns what it prints.
    pub fn letters(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new(program("tidemark-sink")?)
            .arg("dead-letters")
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .context("running tidemark-sink dead-letters")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "dead-letters {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Lets the sink drain and waits until it has ended.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.process.stop().await
    }

    /// Returns the last lines of the sink's log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail(30)
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        self.process.end();
    }
}

/// Writes the sink's configuration file and credentials, as the operator's ConfigMap and Secrets would be
/// mounted, and returns the file's path.
fn write_configuration(stack: &Stack, assignment: &Assignment) -> anyhow::Result<PathBuf> {
    let folder = stack.folder().join("sinks").join(&assignment.name.name);
    let (config, secrets) = (folder.join("config"), folder.join("secrets"));
    let clickhouse = secrets.join("clickhouse");
    fs::create_dir_all(&config)?;
    fs::create_dir_all(&clickhouse)?;
    fs::write(clickhouse.join("username"), User::Tidemark.name())?;
    fs::write(clickhouse.join("password"), User::Tidemark.password())?;
    let postgres = secrets.join("postgres");
    fs::create_dir_all(&postgres)?;
    fs::write(postgres.join("username"), Role::Tidemark.name())?;
    fs::write(postgres.join("password"), Role::Tidemark.password())?;
    let paths = Paths { config: config.display().to_string(), secrets: secrets.display().to_string() };
    let text = sink_config(&spec(stack, assignment)?, &assignment.name, "bench", &assignment.routes, &paths)?;
    let file = config.join(CONFIG_FILE);
    fs::write(&file, serde_json::to_string_pretty(&text)?)?;
    Ok(file)
}

/// Returns the spec of a pipeline with nothing but defaults where a default exists.
fn spec(stack: &Stack, assignment: &Assignment) -> anyhow::Result<AnalyticsPipelineSpec> {
    let spec = serde_json::json!({
        "source": {
            "postgres": {
                "host": "127.0.0.1",
                "port": assignment.source.unwrap_or(5432),
                "database": assignment.database,
                "credentials": {"secretName": "postgres"},
                "tls": {"mode": "Disable"},
            },
            // Nobody asks it: the topic is filled by hand.
            "connect": {"url": "http://127.0.0.1:8083"},
        },
        "kafka": {
            "bootstrapServers": stack.kafka().bootstrap_servers(),
            "topicPrefix": assignment.topic_prefix,
        },
        "clickhouse": {
            "url": stack.clickhouse().url(),
            "database": assignment.database,
            "credentials": {"secretName": "clickhouse"},
        },
    });
    serde_json::from_value(spec).context("the pipeline of the measurement")
}
