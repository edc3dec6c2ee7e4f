//! A `tidemark-sink` as a process, configured as the operator configures it, with its use of the machine. I/O.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_operator::desired::sink_config::{CONFIG_FILE, Paths, sink_config};

use super::usage;
use crate::stack::{Stack, User, wait_until};

/// The namespace of pipelines that run without Kubernetes.
const NAMESPACE: &str = "bench";
/// How long a sink may take to be ready, and to end.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a sink is told: where the events are and where the rows go.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Name of the pipeline, unique in its stack.
    pub pipeline: String,
    /// Debezium's `topic.prefix`.
    pub topic_prefix: String,
    /// Target database.
    pub database: String,
    /// Source tables with their state tables.
    pub routes: Vec<(SourceTable, String)>,
}

impl Assignment {
    /// Returns the pipeline's name with its namespace, the key of its rows in the ledger.
    pub fn name(&self) -> PipelineName {
        PipelineName::new(NAMESPACE, &self.pipeline)
    }
}

/// A sink that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct SinkProcess {
    child: Option<Child>,
    id: u32,
    log: PathBuf,
    pid_file: PathBuf,
}

impl SinkProcess {
    /// Starts a sink of the stack without waiting for it.
    pub fn start(stack: &Stack, assignment: &Assignment) -> anyhow::Result<Self> {
        let folder = stack.folder().join("sinks").join(&assignment.pipeline);
        let config = write_configuration(stack, assignment, &folder)?;
        let log_path = stack
            .folder()
            .join("logs")
            .join(format!("sink-{}.log", assignment.pipeline));
        let log = File::create(&log_path)?;
        let child = Command::new(program("tidemark-sink")?)
            .args(["run", "--config"])
            .arg(&config)
            .env("TIDEMARK_LISTEN", free_address()?)
            .env("TIDEMARK_REPLICA", &assignment.pipeline)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("starting tidemark-sink")?;
        let id = child.id();
        // Read by the stack's janitor, which ends the sink if this program is killed.
        let pid_file = stack
            .folder()
            .join("pids")
            .join(format!("sink-{}", assignment.pipeline));
        let sink = Self {
            child: Some(child),
            id,
            log: log_path,
            pid_file,
        };
        fs::write(&sink.pid_file, format!("KILL {id}\n"))?;
        Ok(sink)
    }

    /// Returns the highest resident memory so far, in bytes.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        ensure!(
            !usage::is_zombie(self.id)?,
            "the sink has ended by itself:\n{}",
            self.log_tail()
        );
        usage::peak_memory(self.id)
    }

    /// Fails with the end of the log if the sink has ended by itself.
    pub fn ensure_running(&self) -> anyhow::Result<()> {
        self.peak_memory().map(drop)
    }

    /// Lets the sink drain and end, and returns all CPU time that it took.
    pub async fn stop(mut self) -> anyhow::Result<Duration> {
        let status = Command::new("kill")
            .args(["-s", "TERM", &self.id.to_string()])
            .status()?;
        ensure!(status.success(), "kill -s TERM {} failed", self.id);
        // A zombie still tells its CPU time; reaping it would lose the figure.
        wait_until(DEADLINE, "the sink to end after SIGTERM", || async {
            Ok(usage::is_zombie(self.id)?.then_some(()))
        })
        .await?;
        let cpu = usage::cpu_time(self.id)?;
        let Some(mut child) = self.child.take() else {
            bail!("the sink was stopped before")
        };
        let status = child.wait()?;
        fs::remove_file(&self.pid_file)?;
        ensure!(
            status.success(),
            "the sink ended with {status}:\n{}",
            self.log_tail()
        );
        Ok(cpu)
    }

    /// Returns the last lines of the sink's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no log: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only for a process that has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(&self.pid_file);
        }
    }
}

/// Returns the path of a program of this workspace: built into the folder of the running one, or the one
/// above it, where cargo puts test programs.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the path of the running program")?;
    let places: Vec<PathBuf> = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .collect();
    places
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .with_context(|| {
            format!(
                "{} is not there: run `cargo build --workspace --bins` first",
                places[0].display()
            )
        })
}

/// Writes the sink's configuration file and credentials, as the operator's ConfigMap and Secrets would be
/// mounted, and returns the file's path.
fn write_configuration(stack: &Stack, assignment: &Assignment, folder: &Path) -> anyhow::Result<PathBuf> {
    let paths = Paths {
        config: folder.join("config").display().to_string(),
        secrets: folder.join("secrets").display().to_string(),
    };
    let secrets = folder.join("secrets/clickhouse");
    fs::create_dir_all(folder.join("config"))?;
    fs::create_dir_all(&secrets)?;
    fs::write(secrets.join("username"), User::Tidemark.name())?;
    fs::write(secrets.join("password"), User::Tidemark.password())?;
    let config = sink_config(
        &spec(stack, assignment)?,
        &assignment.name(),
        "bench",
        &assignment.routes,
        &paths,
    )?;
    let file = folder.join("config").join(CONFIG_FILE);
    fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    Ok(file)
}

/// Returns the spec of a pipeline with nothing but defaults where a default exists.
fn spec(stack: &Stack, assignment: &Assignment) -> anyhow::Result<AnalyticsPipelineSpec> {
    let spec = serde_json::json!({
        "source": {
            "postgres": {"host": "127.0.0.1", "database": "shop", "credentials": {"secretName": "postgres"}},
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

/// Returns a loopback address whose port was free a moment ago.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
