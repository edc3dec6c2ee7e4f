//! ClickHouse: the server inside libchdb.so, with users from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use super::cache;
use super::component::Component;
use super::http;
use super::ports::Port;
use super::process::{Process, Program, Signal};
use super::template::{Values, render_file};

/// The database whose views `reader` may read.
pub const ANALYTICS_DATABASE: &str = "ecommerce_analytics";

/// A user of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Without a password, from loopback: everything.
    Default,
    /// The operator and the sinks.
    Tidemark,
    /// Views of users run as it, in the database `boards_viewed`, and in `boards_held_viewer`.
    Viewer,
    /// Reads the views of [`ANALYTICS_DATABASE`], under any settings.
    Reader,
    /// Grafana: the same under limits, and the databases `boards_*` of the tests.
    Dashboards,
}

impl User {
    /// Returns the user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tidemark => "tidemark",
            Self::Viewer => "viewer",
            Self::Reader => "reader",
            Self::Dashboards => "dashboards",
        }
    }

    /// Returns the user's password.
    pub fn password(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Tidemark => "tidemark-pw",
            Self::Viewer => "viewer-pw",
            Self::Reader => "reader-pw",
            Self::Dashboards => "dashboards-pw",
        }
    }
}

/// A ClickHouse server of the stack.
#[derive(Debug)]
pub struct ClickHouse {
    process: Process,
    http: Port,
    native: Port,
    data: PathBuf,
    /// Folder of the server's own logs.
    logs: PathBuf,
}

impl ClickHouse {
    /// Writes the server's configuration and empty data folder.
    pub(super) fn prepare(stack: &Path) -> anyhow::Result<Self> {
        let (http, native) = (Port::reserve()?, Port::reserve()?);
        let (data, users) = (stack.join("clickhouse"), stack.join("users.xml"));
        fs::create_dir(&data)?;
        let values = Values::from([
            ("BIND", "127.0.0.1".to_owned()),
            ("CLICKHOUSE_HTTP_PORT", http.number().to_string()),
            ("CLICKHOUSE_TCP_PORT", native.number().to_string()),
            ("CLICKHOUSE_DATA", data.display().to_string()),
            ("CLICKHOUSE_USERS_CONFIG", users.display().to_string()),
            ("CLICKHOUSE_DATABASE", ANALYTICS_DATABASE.to_owned()),
            ("CLICKHOUSE_TIDEMARK_PASSWORD_SHA256", sha256(User::Tidemark.password())),
            ("CLICKHOUSE_VIEWER_PASSWORD_SHA256", sha256(User::Viewer.password())),
            ("CLICKHOUSE_READER_PASSWORD_SHA256", sha256(User::Reader.password())),
            ("CLICKHOUSE_DASHBOARDS_PASSWORD_SHA256", sha256(User::Dashboards.password())),
        ]);
        let config = stack.join("config.xml");
        fs::write(&config, render_file("clickhouse/config.xml", &values)?)?;
        fs::write(&users, render_file("clickhouse/users.xml", &values)?)?;
        let command = vec![
            cache::part("clickhouse")?.join("clickhouse-server").into(),
            format!("--config-file={}", config.display()).into(),
            format!("--path={}", data.display()).into(),
            format!("--http_port={}", http.number()).into(),
            format!("--tcp_port={}", native.number()).into(),
            "--listen_host=127.0.0.1".into(),
            // The configuration file's level is not obeyed, and the default is `trace`.
            "--log-level=information".into(),
            format!("--logger.log={}", stack.join("logs/clickhouse-server.log").display()).into(),
        ];
        let program = Program {
            name: "clickhouse",
            command,
            environment: vec![],
            stop: Signal::Term,
            end: Signal::Kill,
        };
        let logs = data.join("data/system");
        Ok(Self { process: Process::new(stack, program), http, native, data, logs })
    }

    /// Returns the URL of the HTTP interface, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.number())
    }

    /// Returns the address of the native protocol, `HOST:PORT`.
    pub fn native_address(&self) -> String {
        format!("127.0.0.1:{}", self.native.number())
    }

    /// Copies all data aside, as a backup of the disk would; the server must not run.
    pub fn back_up(&self) -> anyhow::Result<()> {
        copy(&self.data, &self.data.with_extension("backup"))
    }

    /// Puts the data of [`back_up`](Self::back_up) in the place of today's; the server must not run.
    pub fn restore(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.data)?;
        copy(&self.data.with_extension("backup"), &self.data)
    }

    /// Gives the server a disk of its own of so many bytes, which is memory; it must not run.
    ///
    /// The janitor unmounts it.
    pub fn confine(&self, bytes: u64) -> anyhow::Result<()> {
        let before = self.data.with_extension("before");
        fs::rename(&self.data, &before)?;
        fs::create_dir(&self.data)?;
        let options = format!("size={bytes},mode=0755");
        run("mount", &["-t", "tmpfs", "-o", &options, "tidemark-clickhouse"], &[&self.data])?;
        run("cp", &["-a", "--no-target-directory"], &[&before, &self.data])
    }

    /// Takes all that is free on the disk of [`confine`](Self::confine), but for less than what an insert asks for.
    pub fn fill_disk(&self) -> anyhow::Result<()> {
        let data = self.data.display();
        // What the server writes and removes meanwhile is free again: once more, smaller.
        let script = format!(
            "for part in 1 2 3; do free=$(($(stat -f -c '%a * %S' '{data}') - 1000000));
             [ $free -lt 65536 ] || fallocate -l $free '{data}/filler.'$part || true; done"
        );
        run("sh", &["-c", &script], &[])
    }

    /// Gives back what [`fill_disk`](Self::fill_disk) took.
    pub fn free_disk(&self) -> anyhow::Result<()> {
        run("sh", &["-c", "rm -f \"$0\"/filler.*"], &[&self.data])
    }

    /// Starts the server again with an account `tidemark` that may only read, or that may what it does else.
    pub async fn restart_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        let file = self.data.with_file_name("users.xml");
        let text = fs::read_to_string(&file)?;
        let (head, account) = text.split_once("<tidemark>").context("users.xml has the account tidemark")?;
        let (profile, rest) = account.split_once("</profile>").context("it has a profile")?;
        let (before, _) = profile.rsplit_once("<profile>").context("it has a profile")?;
        let profile = if read_only { "readonly" } else { "default" };
        self.stop().await?;
        fs::write(&file, format!("{head}<tidemark>{before}<profile>{profile}</profile>{rest}"))?;
        self.start().await.map(drop)
    }

    /// Runs one statement as `tidemark` and returns the answer's text, tab-separated unless it names a format.
    pub async fn query(&self, statement: &str) -> anyhow::Result<String> {
        self.query_as(User::Tidemark, statement, &[]).await
    }

    /// Runs one statement as a user, with settings or a `database` of the session.
    pub async fn query_as(
        &self,
        user: User,
        statement: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let client = http::client(Duration::from_mins(1)).build()?;
        // Errors after the first bytes would else come as text under status 200.
        let mut url = reqwest::Url::parse_with_params(&self.url(), [("wait_end_of_query", "1")])?;
        url.query_pairs_mut().extend_pairs(settings);
        let answer = client
            .post(url)
            .header("X-ClickHouse-User", user.name())
            .header("X-ClickHouse-Key", user.password())
            .body(statement.to_owned())
            .send()
            .await
            .context("asking ClickHouse")?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "ClickHouse: {status}: {}\nstatement: {statement}", text.trim());
        Ok(text)
    }
}

impl Component for ClickHouse {
    fn process(&self) -> &Process {
        &self.process
    }

    /// This server keeps its database `system` in memory, so that it does not know the log tables of its last run, and
    /// makes no new ones over their files. One that is installed keeps both.
    fn prepare_start(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.logs.display()))
            }
            _ => Ok(()),
        }
    }

    async fn probe(&self) -> anyhow::Result<()> {
        self.query("SELECT 1").await.map(drop)
    }

    fn advice(&self) -> &'static str {
        "it needs the part `clickhouse` of this machine's architecture (x86-64) and about 1 GB of memory"
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run("cp", &["-a", "--reflink=auto"], &[from, to])
}

/// Runs a small program to its end.
fn run(program: &str, words: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let output = std::process::Command::new(program).args(words).args(paths).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {words:?} {paths:?}: {}: {said}", output.status);
    Ok(())
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
