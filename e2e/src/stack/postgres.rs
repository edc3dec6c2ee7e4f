//! PostgreSQL: its own cluster with logical decoding, three roles, one database a test.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::component::Component;
use super::ports::Port;
use super::process::{Process, Program, Signal};
use super::template::{Values, render_file};
use super::{Stack, cache};

/// The database that every stack has.
pub const SHOP_DATABASE: &str = "shop";

/// A role of the cluster; each has its name's password (`tidemark`'s is `tidemark-pw`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The superuser `postgres`.
    Superuser,
    /// The application `shop`, owner of databases and tables.
    Shop,
    /// The pipeline's role: replication, reading, publications.
    Tidemark,
}

impl Role {
    /// Returns the role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::Shop => "shop",
            Self::Tidemark => "tidemark",
        }
    }

    /// Returns the role's password.
    pub fn password(self) -> &'static str {
        match self {
            Self::Superuser => "postgres-pw",
            Self::Shop => "shop-pw",
            Self::Tidemark => "tidemark-pw",
        }
    }
}

/// A PostgreSQL server of the stack.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    programs: PathBuf,
}

/// The cluster's folders and programs.
struct Layout {
    home: PathBuf,
    data: PathBuf,
    programs: PathBuf,
}

impl Postgres {
    /// Makes a cluster in the stack's folder; blocks for the second that `initdb` takes.
    ///
    /// `major` is 16, 17 or 18; absent: Debian's version, which the image of the cluster has too.
    pub(super) fn prepare(stack: &Path, major: Option<u32>) -> anyhow::Result<Self> {
        let home = stack.join("postgres");
        let programs = match major {
            None => installed()?,
            Some(major) => unpacked(stack, major)?,
        };
        let layout = Layout { data: home.join("data"), home, programs };
        let port = Port::reserve()?;
        layout.make_cluster(&port)?;
        Self::over(stack, "postgres", &layout, port)
    }

    fn over(stack: &Path, name: &'static str, layout: &Layout, port: Port) -> anyhow::Result<Self> {
        let mut command = unprivileged()?;
        command.extend([layout.programs.join("postgres").into(), "-D".into(), layout.data.clone().into()]);
        let process = Process::new(
            stack,
            Program { name, command, environment: vec![], stop: Signal::Int, end: Signal::Quit },
        );
        Ok(Self { process, port, programs: layout.programs.clone() })
    }

    /// Makes a standby of this server, which must run: its data and what is written from then on. Starts nothing;
    /// dropping the stack ends it.
    pub fn standby(&self, stack: &Stack) -> anyhow::Result<Self> {
        let home = stack.folder().join("standby");
        let layout = Layout { data: home.join("data"), home, programs: self.programs.clone() };
        fs::create_dir(&layout.home)?;
        if let Some(owner) = postgres_user()? {
            std::os::unix::fs::chown(&layout.home, Some(owner.user), Some(owner.group))?;
        }
        let mut command = unprivileged()?;
        command.extend([layout.programs.join("pg_basebackup").into(), "--pgdata".into()]);
        command.extend([layout.data.clone().into(), "--port".into(), self.port().to_string().into()]);
        let words = ["--host=127.0.0.1", "--username=postgres", "--checkpoint=fast", "--no-sync"];
        command.extend(words.map(OsString::from));
        command.extend(["--write-recovery-conf", "--wal-method=stream"].map(OsString::from));
        run(&command, &layout.home, &[("PGPASSWORD", Role::Superuser.password())])?;
        let port = Port::reserve()?;
        // The last line of a setting is the one that holds.
        let own =
            format!("\nport = {}\nunix_socket_directories = '{}'\n", port.number(), layout.home.display());
        let file = layout.data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file)? + &own)?;
        Self::over(stack.folder(), "standby", &layout, port)
    }

    /// Copies a database with all that is in it into one of the same name that is there and empty, as by a dump.
    pub fn restore_into(&self, other: &Self, database: &str) -> anyhow::Result<()> {
        let at = |server: &Self| {
            ["-h", "127.0.0.1", "-U", Role::Superuser.name(), "-p", &server.port().to_string()].join(" ")
        };
        let programs = self.programs.display();
        let script = format!(
            "set -e; {programs}/pg_dump {} {database} >dump.sql; {programs}/psql -q -v ON_ERROR_STOP=1 -f dump.sql {} {database}",
            at(self),
            at(other)
        );
        let folder = tempfile::tempdir()?;
        let command = ["sh", "-c", &script].map(OsString::from);
        run(&command, folder.path(), &[("PGPASSWORD", Role::Superuser.password())])
    }

    /// Returns the server's address, `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Returns the server's port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Connects to a database. The connection lives on the caller's runtime.
    pub async fn connect(&self, role: Role, database: &str) -> anyhow::Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port.number())
            .user(role.name())
            .password(role.password())
            .dbname(database)
            .connect_timeout(Duration::from_secs(5))
            .connect(tokio_postgres::NoTls)
            .await
            .with_context(|| format!("connecting to database {database} as {}", role.name()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "postgres connection ended");
            }
        });
        Ok(client)
    }

    /// Runs one or more statements, on a connection of their own.
    pub async fn execute(&self, role: Role, database: &str, statements: &str) -> anyhow::Result<()> {
        let client = self.connect(role, database).await?;
        client
            .batch_execute(statements)
            .await
            .with_context(|| format!("running on {database}: {}", head(statements)))
    }

    /// Runs one query and returns each row's columns as PostgreSQL prints them, `None` for NULL.
    pub async fn query(
        &self,
        role: Role,
        database: &str,
        query: &str,
    ) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let client = self.connect(role, database).await?;
        let messages = client
            .simple_query(query)
            .await
            .with_context(|| format!("running on {database}: {}", head(query)))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect())
    }

    /// Makes a database that belongs to `shop` and that `tidemark` may capture.
    ///
    /// The name is used unquoted: lowercase letters, digits and underscores.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.execute(Role::Superuser, "postgres", &format!("CREATE DATABASE {name} OWNER shop")).await?;
        let values = Values::from([("POSTGRES_DATABASE", name.to_owned())]);
        self.execute(Role::Superuser, name, &render_file("postgres/database.sql", &values)?).await
    }

    /// Makes the roles and the database `shop`, once after the first start.
    pub(super) async fn seed(&self) -> anyhow::Result<()> {
        let values = Values::from([
            ("POSTGRES_SHOP_PASSWORD", Role::Shop.password().to_owned()),
            ("POSTGRES_TIDEMARK_PASSWORD", Role::Tidemark.password().to_owned()),
        ]);
        self.execute(Role::Superuser, "postgres", &render_file("postgres/roles.sql", &values)?).await?;
        self.create_database(SHOP_DATABASE).await
    }
}

impl Component for Postgres {
    fn process(&self) -> &Process {
        &self.process
    }

    async fn probe(&self) -> anyhow::Result<()> {
        self.query(Role::Superuser, "postgres", "SELECT 1").await.map(drop)
    }

    fn advice(&self) -> &'static str {
        "its data folder must be readable to the user postgres: TMPDIR must not be below a private folder"
    }
}

impl Layout {
    fn make_cluster(&self, port: &Port) -> anyhow::Result<()> {
        fs::create_dir(&self.home)?;
        let password_file = self.home.join("password");
        fs::write(&password_file, Role::Superuser.password())?;
        if let Some(owner) = postgres_user()? {
            for path in [&self.home, &password_file] {
                std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group))?;
            }
        }
        let mut command = unprivileged()?;
        command.extend([self.programs.join("initdb").into(), "--pgdata".into(), self.data.clone().into()]);
        command.extend(["--username=postgres".into(), "--pwfile".into(), password_file.into()]);
        command.extend(
            ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"].map(OsString::from),
        );
        let output = Command::new(&command[0]).args(&command[1..]).current_dir(&self.home).output()?;
        if !output.status.success() {
            bail!(
                "initdb failed ({}); is {} readable to the user postgres?\n{}",
                output.status,
                self.home.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        self.configure(port)
    }

    fn configure(&self, port: &Port) -> anyhow::Result<()> {
        let values = Values::from([
            ("BIND", "127.0.0.1".to_owned()),
            ("POSTGRES_PORT", port.number().to_string()),
            ("POSTGRES_SOCKETS", self.home.display().to_string()),
        ]);
        let file = self.data.join("postgresql.conf");
        let own = fs::read_to_string(&file)?;
        fs::write(&file, own + "\n" + &render_file("postgres/postgresql.conf", &values)?)?;
        fs::write(self.data.join("pg_hba.conf"), render_file("postgres/pg_hba.conf", &values)?)?;
        Ok(())
    }
}

/// The programs of Debian's package.
fn installed() -> anyhow::Result<PathBuf> {
    let major =
        cache::versions()?.remove("POSTGRES_MAJOR").context("POSTGRES_MAJOR is not in versions.env")?;
    let programs = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if !programs.join("initdb").exists() {
        bail!("{} has no initdb: run {}", programs.display(), cache::setup_script("postgres").display());
    }
    Ok(programs)
}

/// The programs of another version. For root they are copied into the stack's folder: PostgreSQL runs as a user of its
/// own, who may not look into root's cache.
fn unpacked(stack: &Path, major: u32) -> anyhow::Result<PathBuf> {
    let cached = cache::part("postgres-versions")?.join(major.to_string());
    if !cached.is_dir() {
        bail!("{} is not there: versions.env has other versions of postgresql", cached.display());
    }
    if !is_root()? {
        return Ok(cached.join("bin"));
    }
    let own = stack.join(format!("postgres-{major}"));
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(&cached).arg(&own).status()?;
    if !copied.success() {
        bail!("copying {} to {} failed: {copied}", cached.display(), own.display());
    }
    Ok(own.join("bin"))
}

struct Owner {
    user: u32,
    group: u32,
}

fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// Returns the user `postgres` if this is root, as whom PostgreSQL refuses to run.
fn postgres_user() -> anyhow::Result<Option<Owner>> {
    if !is_root()? {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let fields: Vec<&str> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .context("there is no user postgres: install PostgreSQL from Debian's package")?
        .split(':')
        .collect();
    let [_, _, user, group, ..] = fields[..] else { bail!("/etc/passwd: the line of postgres is cut short") };
    Ok(Some(Owner { user: user.parse()?, group: group.parse()? }))
}

/// Returns the beginning of a command that must not run as root: empty for any other user.
fn unprivileged() -> anyhow::Result<Vec<OsString>> {
    if !is_root()? {
        return Ok(Vec::new());
    }
    Ok(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"].map(OsString::from).to_vec())
}

/// Runs a program to its end.
fn run(command: &[OsString], folder: &Path, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]).current_dir(folder).envs(environment.iter().copied());
    let output = program.output()?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Returns the first characters of a statement, for a message.
fn head(statement: &str) -> String {
    statement.chars().take(200).collect()
}
