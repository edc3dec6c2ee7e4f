//! One pipeline on the processes of a stack: the operator without a cluster, and a sink. I/O.
//!
//! What a user applies to a cluster is applied here by `tidemark apply --without-cluster`: the same waves, the
//! same ledger, the same sink configuration, so that most of what can break breaks in seconds.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cases::Comparer;
use crate::oracle::{Endpoint, Oracle, Parameters};
use crate::stack::{Process, Role, Stack, User, wait_until};

/// How long one run of the operator may take.
const ONCE: Duration = Duration::from_mins(2);

/// A pipeline of one PostgreSQL database into one ClickHouse database of the same name.
#[derive(Debug)]
pub struct Chain<'a> {
    /// The components that it runs on.
    pub stack: &'a Stack,
    /// Name of the resource, the databases and the topic prefix.
    pub name: String,
    folder: PathBuf,
    file: PathBuf,
    /// `env` with the variables of operator and sinks.
    environment: Vec<OsString>,
    operator: Process,
    sink: Process,
}

/// Returns where a sink's HTTP listens, by its log: it is another address after each start.
pub fn http_of(sink: &Process) -> anyhow::Result<String> {
    let log = std::fs::read_to_string(sink.log())?;
    let line = log.lines().rev().find(|line| line.contains("the sink runs")).context("the sink runs")?;
    let at = line.find("127.0.0.1:").context("the sink's log says where it listens")?;
    Ok(line[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect())
}

/// Returns the path of one of the project's programs, built beside this one.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's folder")?;
    own.ancestors()
        .skip(1)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} beside {}: run `cargo build --workspace` first", own.display()))
}

/// The manifest of the shop's pipeline over a stack's components: four tables and the preset's views.
pub fn shop(stack: &Stack, name: &str) -> Value {
    let tables = ["public.customers", "public.products", "public.orders", "public.order_items"];
    let mut manifest = pipeline(stack, name, &tables);
    manifest["spec"]["views"] = json!({"preset": "Ecommerce", "refreshInterval": "5s"});
    manifest
}

/// The manifest of a pipeline of some tables, without views.
pub fn pipeline(stack: &Stack, name: &str, tables: &[&str]) -> Value {
    let tables: Vec<Value> = tables.iter().map(|table| json!({"name": table})).collect();
    json!({
        "apiVersion": "tidemark.dev/v1alpha1",
        "kind": "AnalyticsPipeline",
        "metadata": {"name": name.replace('_', "-"), "namespace": "local"},
        "spec": {
            "source": {
                "postgres": {
                    "host": "127.0.0.1", "port": stack.postgres().port(), "database": name,
                    "credentials": {"secretName": "postgres"},
                },
                "connect": {
                    "url": stack.connect().url(),
                    // A lost database is noticed, and looked for again, within a second.
                    "config": {"retriable.restart.connector.wait.ms": "1000", "status.update.interval.ms": "1000"},
                },
            },
            "kafka": {
                "bootstrapServers": stack.kafka().bootstrap_servers(), "topicPrefix": name,
                "topics": {"partitions": 2, "replicationFactor": 1},
            },
            "tables": tables,
            "clickhouse": {
                "url": stack.clickhouse().url(), "database": name, "credentials": {"secretName": "clickhouse"},
            },
        },
    })
}

/// A Secret with a user and a password.
pub fn secret(name: &str, username: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "local"},
        "stringData": {"username": username, "password": password},
    })
}

/// The Secrets that a manifest of [`pipeline`] names.
pub fn secrets() -> Vec<Value> {
    vec![
        secret("postgres", Role::Tidemark.name(), Role::Tidemark.password()),
        secret("clickhouse", User::Tidemark.name(), User::Tidemark.password()),
    ]
}

impl<'a> Chain<'a> {
    /// Prepares the files and programs of a pipeline; starts nothing. The database must exist.
    ///
    /// `name` is of lower-case letters, digits and underscores, and unique in the stack.
    pub fn prepare(stack: &'a Stack, name: &'static str, objects: &[Value]) -> anyhow::Result<Self> {
        Self::prepare_in(stack, name, objects, &[])
    }

    /// The same, with variables of the environment of operator and sink such as `RUST_LOG=trace`.
    pub fn prepare_in(
        stack: &'a Stack,
        name: &'static str,
        objects: &[Value],
        environment: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = stack.folder().join("chains").join(name);
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("pipeline.yaml");
        let out = folder.join("out");
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let env: Vec<OsString> = words(&[&["env"], environment].concat());
        let mut operator = env.clone();
        operator.push(program("tidemark")?.into_os_string());
        operator.extend(words(&["apply", "--without-cluster", "--watch", "--file"]));
        operator.extend([file.clone().into(), "--out".into(), out.clone().into()]);
        let sink = [env.clone(), sink_command(&out, "sink")?].concat();
        let chain = Self {
            stack,
            name: name.to_owned(),
            operator: stack.program(leak(name, "operator"), operator),
            sink: stack.program(leak(name, "sink"), sink),
            folder,
            file,
            environment: env,
        };
        chain.write(objects)?;
        Ok(chain)
    }

    /// Replaces the file that the operator watches.
    pub fn write(&self, objects: &[Value]) -> anyhow::Result<()> {
        let documents: Result<Vec<String>, _> = objects.iter().map(serde_yaml_ng::to_string).collect();
        // A rename, so that the operator never reads half a file.
        let next = self.file.with_extension("next");
        std::fs::write(&next, documents?.join("---\n"))?;
        std::fs::rename(&next, &self.file)?;
        Ok(())
    }

    /// Replaces the file by one of another spec, and waits until the operator has written a status of it.
    pub async fn apply(&self, objects: &[Value], deadline: Duration) -> anyhow::Result<()> {
        let observed = || anyhow::Ok(self.status()?["observedGeneration"].as_i64());
        let before = observed()?;
        self.write(objects)?;
        wait_until(deadline, "a status of the new spec", || async {
            Ok((observed()? > before).then_some(()))
        })
        .await
        .with_context(|| format!("the operator's log ends with\n{}", self.operator.log_tail(15)))
    }

    /// Starts operator and sink.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.start_operator()?;
        self.start_sink().await
    }

    /// Starts the operator alone.
    pub fn start_operator(&self) -> anyhow::Result<()> {
        self.operator.spawn()
    }

    /// Waits for the sink's configuration, which the operator writes, and starts the sink.
    pub async fn start_sink(&self) -> anyhow::Result<()> {
        let config = self.folder.join("out/sink.json");
        wait_until(Duration::from_mins(4), "the operator to write the sink's configuration", || async {
            anyhow::ensure!(
                self.operator.ended()?.is_none(),
                "tidemark ended: {}",
                self.operator.log_tail(20)
            );
            Ok(config.is_file().then_some(()))
        })
        .await
        .with_context(|| self.operator.log_tail(20))?;
        self.sink.spawn()
    }

    /// Prepares another sink of the same pipeline, a replica of that name, without starting it.
    pub fn another_sink(&self, replica: &'static str) -> anyhow::Result<Process> {
        let sink = sink_command(&self.folder.join("out"), replica)?;
        let command = [self.environment.clone(), sink].concat();
        Ok(self.stack.program(leak(&self.name, replica), command))
    }

    /// Runs the operator until it has nothing left to do, and returns what it printed.
    pub async fn apply_once(&self) -> anyhow::Result<String> {
        let out = self.folder.join("out");
        self.tidemark(&["apply", "--without-cluster", "--wait", "60s"], &["--out".into(), out.into()]).await
    }

    /// Deletes the pipeline as its policy says, and returns what the operator printed.
    pub async fn delete(&self) -> anyhow::Result<String> {
        let out = self.folder.join("out");
        self.tidemark(&["delete", "--without-cluster"], &["--out".into(), out.into()]).await
    }

    /// The word in this folder's marks in place of a cluster's uid.
    pub fn owner(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.folder.join("out/owner"))?;
        Ok(text.trim().to_owned())
    }

    /// Runs a command over the pipeline's file and the folder of somebody else; its exit code and what it printed.
    pub async fn elsewhere(&self, words: &[&str]) -> anyhow::Result<(i32, String)> {
        let mut command = tokio::process::Command::new(program("tidemark")?);
        command.args(words).args(["--without-cluster", "--file"]).arg(&self.file);
        ended(command.arg("--out").arg(self.folder.join("elsewhere"))).await
    }

    /// Removes what would go on without operator and sink: the refreshed views and the connector.
    async fn leave(&self) -> anyhow::Result<()> {
        self.stack.clickhouse().query(&format!("DROP DATABASE IF EXISTS {}", self.name)).await?;
        let connect = self.stack.connect();
        let own = format!("local.{}-", self.name.replace('_', "-"));
        let all: Vec<String> =
            serde_json::from_value(connect.request(reqwest::Method::GET, "/connectors", None).await?)?;
        for connector in all.iter().filter(|name| name.starts_with(&own)) {
            connect.request(reqwest::Method::DELETE, &format!("/connectors/{connector}"), None).await?;
        }
        Ok(())
    }

    /// Runs `tidemark plan`, `status` or `doctor` over the pipeline's file and folder; its exit code and what it printed.
    pub async fn asks(&self, command: &str) -> anyhow::Result<(i32, String)> {
        self.asks_with(command, &[]).await
    }

    /// Runs a command over the pipeline's file and folder, with further words; its exit code and what it printed.
    pub async fn asks_with(&self, command: &str, words: &[&str]) -> anyhow::Result<(i32, String)> {
        let mut asked = tokio::process::Command::new(program("tidemark")?);
        asked
            .arg(command)
            .args(words)
            .arg("--file")
            .arg(&self.file)
            .arg("--out")
            .arg(self.folder.join("out"));
        ended(&mut asked).await
    }

    async fn tidemark(&self, words: &[&str], rest: &[OsString]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(program("tidemark")?);
        command.args(words).arg("--file").arg(&self.file).args(rest).kill_on_drop(true);
        let output = tokio::time::timeout(ONCE, command.output()).await.context("tidemark did not end")??;
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        anyhow::ensure!(output.status.success(), "tidemark {words:?} ended with {}:\n{text}", output.status);
        Ok(text)
    }

    /// Runs `tidemark-sink dead-letters` with some words, and returns what it printed.
    pub async fn dead_letters(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(program("tidemark-sink")?);
        command.args(["dead-letters", "--config"]).arg(self.folder.join("out/sink.json"));
        let output = command.args(words).kill_on_drop(true).output();
        let output = tokio::time::timeout(ONCE, output).await.context("tidemark-sink did not end")??;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        anyhow::ensure!(
            output.status.success(),
            "dead-letters {words:?}: {}:\n{}",
            output.status,
            text.concat()
        );
        Ok(text.concat())
    }

    /// The consumer group of the sinks, as their configuration names it.
    pub fn consumer_group(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.folder.join("out/sink.json"))?;
        let config: Value = serde_json::from_str(&text).context("reading sink.json")?;
        config["kafka"]["groupId"].as_str().map(str::to_owned).context("sink.json has a kafka.groupId")
    }

    /// Folder of the manifests that a cluster would have as objects.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("out/manifests")
    }

    /// The operator's process.
    pub fn operator(&self) -> &Process {
        &self.operator
    }

    /// The sink's process.
    pub fn sink(&self) -> &Process {
        &self.sink
    }

    /// Returns the status that the operator wrote last.
    pub fn status(&self) -> anyhow::Result<Value> {
        let text = std::fs::read_to_string(self.folder.join("out/status.yaml"))?;
        serde_yaml_ng::from_str(&text).context("reading status.yaml")
    }

    /// Returns status, reason and message of a condition.
    pub fn condition(&self, kind: &str) -> anyhow::Result<(String, String, String)> {
        let status = self.status()?;
        let conditions =
            status["conditions"].as_array().or_else(|| status["status"]["conditions"].as_array());
        let found = conditions
            .and_then(|all| all.iter().find(|condition| condition["type"] == kind))
            .with_context(|| format!("no condition {kind} in {status}"))?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason"), text("message")))
    }

    /// Waits until a condition has a status and, unless empty, a reason; returns its message.
    pub async fn wait_condition(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        let what = format!("condition {kind}={status} {reason}");
        wait_until(deadline, &what, || async {
            let (is, why, message) = self.condition(kind)?;
            let holds = is == status && (reason.is_empty() || why == reason);
            anyhow::ensure!(holds, "it is {kind}={is} {why}: {message}");
            Ok(Some(message))
        })
        .await
        .with_context(|| format!("the operator's log ends with\n{}", self.operator.log_tail(15)))
    }

    /// Waits until the pipeline says that it is ready.
    pub async fn wait_ready(&self, deadline: Duration) -> anyhow::Result<()> {
        self.wait_condition("Ready", "True", "", deadline).await?;
        Ok(())
    }

    /// Returns what compares single tables of the two databases, whatever their columns are.
    pub async fn comparer(&self) -> anyhow::Result<Comparer> {
        let postgres = self.stack.postgres().connect(Role::Superuser, &self.name).await?;
        let (user, password) = (User::Tidemark.name(), User::Tidemark.password());
        let clickhouse = Endpoint::new(&self.stack.clickhouse().url(), user, password)?;
        Comparer::new(postgres, clickhouse, &self.name).await
    }

    /// Returns an oracle that compares the two databases.
    pub async fn oracle(&self) -> anyhow::Result<Oracle> {
        let postgres = self.stack.postgres().connect(Role::Superuser, &self.name).await?;
        let (user, password) = (User::Tidemark.name(), User::Tidemark.password());
        let clickhouse = Endpoint::new(&self.stack.clickhouse().url(), user, password)?;
        let mut parameters = Parameters::new(&self.name);
        parameters.pipeline = format!("local/{}", self.name.replace('_', "-"));
        Oracle::new(postgres, clickhouse, parameters).await
    }
}

/// Runs a command to its end; its exit code and what it printed.
async fn ended(command: &mut tokio::process::Command) -> anyhow::Result<(i32, String)> {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(ONCE, output).await.context("tidemark did not end")??;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code().context("it was ended by a signal")?, text.concat()))
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        self.sink.end();
        self.operator.end();
        // On a shared stack its views would be refreshed, and its connector would run, beside the tests that follow.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // On a thread of its own: waiting here a second time would take the wake-ups of the future that this
            // thread already waits for.
            let leave = || std::thread::scope(|scope| scope.spawn(|| runtime.block_on(self.leave())).join());
            let _ = tokio::task::block_in_place(leave);
        }
    }
}

/// The command of a sink with the configuration that the operator writes into `out`.
fn sink_command(out: &std::path::Path, replica: &str) -> anyhow::Result<Vec<OsString>> {
    let words = ["run", "--listen", "127.0.0.1:0", "--replica", replica, "--config"];
    let mut command = vec![program("tidemark-sink")?.into_os_string()];
    command.extend(words.map(OsString::from));
    command.push(out.join("sink.json").into());
    Ok(command)
}

/// Names of a stack's programs live as long as the test binary.
fn leak(name: &str, part: &str) -> &'static str {
    Box::leak(format!("{name}-{part}").into_boxed_str())
}
