//! The real components as processes on loopback, for tests and for work by hand.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tidemark_e2e::stack::{Component, Part, Stack};
//!
//! let stack = Stack::start(Part::CHAIN).await?;
//! stack.postgres().create_database("orders_test").await?;
//! stack.connect().kill().await?;
//! stack.connect().start().await?;
//! # Ok(()) }
//! ```
//!
//! Each stack has a folder and ports of its own, so stacks live side by side.
//! Dropping it ends all processes and removes the folder; a test binary that
//! panics, is interrupted or killed leaves nothing either (see [`janitor`]).
//! With `TIDEMARK_KEEP_STACK=1` the folder, with all logs, stays. It is made among other temporary ones, or in
//! `TIDEMARK_STACKS`: servers make and remove files by the ten thousand, which costs a tenth less in memory.

pub mod cache;
mod clickhouse;
mod component;
mod connect;
mod http;
mod janitor;
mod kafka;
mod kubernetes;
mod ports;
mod postgres;
mod process;
mod shared;
mod template;
mod wait;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};

pub use self::clickhouse::{ANALYTICS_DATABASE, ClickHouse, User};
pub use self::component::Component;
pub use self::connect::Connect;
pub use self::kafka::Kafka;
pub use self::kubernetes::{ApiServer, Etcd};
pub use self::postgres::{Postgres, Role, SHOP_DATABASE};
pub use self::process::{Process, Signal};
pub use self::shared::{shared, unique_name};
pub use self::wait::{PATIENCE, pause_after, wait_until};

use self::janitor::Janitor;
use self::process::Program;

/// A part of the stack that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Part {
    /// PostgreSQL with logical decoding.
    Postgres,
    /// A Kafka broker.
    Kafka,
    /// Kafka Connect with Debezium; brings Kafka.
    Connect,
    /// ClickHouse.
    Clickhouse,
    /// etcd and kube-apiserver.
    Kubernetes,
}

impl Part {
    /// The data chain: everything but Kubernetes.
    pub const CHAIN: &[Self] = &[Self::Postgres, Self::Kafka, Self::Connect, Self::Clickhouse];
    /// Everything.
    pub const ALL: &[Self] =
        &[Self::Postgres, Self::Kafka, Self::Connect, Self::Clickhouse, Self::Kubernetes];
}

/// Real components that run until this value is dropped.
#[derive(Debug)]
pub struct Stack {
    folder: PathBuf,
    postgres: Option<Postgres>,
    kafka: Option<Kafka>,
    connect: Option<Connect>,
    clickhouse: Option<ClickHouse>,
    etcd: Option<Etcd>,
    api_server: Option<ApiServer>,
    /// The stack whose parts this one uses where it has none of its own.
    beside: Option<Arc<Stack>>,
    start_times: Vec<(&'static str, Duration)>,
    /// Last, so that it is dropped, and waited for, after everything else.
    _janitor: Janitor,
}

impl Stack {
    /// Starts the parts side by side and returns when all answer real requests.
    ///
    /// A failure names the part, shows the end of its log and says what to do;
    /// the parts that run by then are stopped.
    pub async fn start(parts: &[Part]) -> anyhow::Result<Self> {
        Self::start_parts(parts, None).await
    }

    /// Starts the parts with another version of PostgreSQL than Debian's: 16, 17 or 18.
    pub async fn start_with_postgres(parts: &[Part], major: u32) -> anyhow::Result<Self> {
        Self::start_parts(parts, Some(major)).await
    }

    /// Starts another version of PostgreSQL, 16, 17 or 18, for chains over the other parts of `stack`.
    pub async fn start_beside(stack: Arc<Self>, major: u32) -> anyhow::Result<Self> {
        let mut own = Self::start_parts(&[Part::Postgres], Some(major)).await?;
        own.beside = Some(stack);
        Ok(own)
    }

    fn part<'a, T>(&'a self, part: impl Fn(&'a Self) -> Option<&'a T>) -> Option<&'a T> {
        part(self).or_else(|| self.beside.as_deref().and_then(part))
    }

    async fn start_parts(parts: &[Part], postgres: Option<u32>) -> anyhow::Result<Self> {
        let mut wanted: BTreeSet<Part> = parts.iter().copied().collect();
        if wanted.contains(&Part::Connect) {
            wanted.insert(Part::Kafka);
        }
        let mut stack = tokio::task::spawn_blocking(move || Self::prepare(&wanted, postgres)).await??;
        stack.start_times = stack.start_all().await?;
        Ok(stack)
    }

    /// Returns PostgreSQL, which must have been asked for.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("the stack was started with PostgreSQL")
    }

    /// Returns Kafka, which must have been asked for.
    pub fn kafka(&self) -> &Kafka {
        self.part(|stack| stack.kafka.as_ref()).expect("the stack was started with Kafka")
    }

    /// Returns Connect, which must have been asked for.
    pub fn connect(&self) -> &Connect {
        self.part(|stack| stack.connect.as_ref()).expect("the stack was started with Connect")
    }

    /// Returns ClickHouse, which must have been asked for.
    pub fn clickhouse(&self) -> &ClickHouse {
        self.part(|stack| stack.clickhouse.as_ref()).expect("the stack was started with ClickHouse")
    }

    /// Returns etcd; Kubernetes must have been asked for.
    pub fn etcd(&self) -> &Etcd {
        self.etcd.as_ref().expect("the stack was started with Kubernetes")
    }

    /// Returns kube-apiserver; Kubernetes must have been asked for.
    pub fn api_server(&self) -> &ApiServer {
        self.api_server.as_ref().expect("the stack was started with Kubernetes")
    }

    /// Returns the stack's folder: logs in `logs/`, process ids in `pids/`, configuration and data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Prepares a program of the caller's, such as the sink, that lives and dies with the stack.
    ///
    /// `name` must be unique in the stack: it names the log. Start it with [`Process::spawn`]; dropping the
    /// stack, or the end of its owner, ends it.
    pub fn program(&self, name: &'static str, command: Vec<OsString>) -> Process {
        let environment = Vec::new();
        let (stop, end) = (Signal::Term, Signal::Kill);
        Process::new(&self.folder, Program { name, command, environment, stop, end })
    }

    /// Returns how long each part took to be ready.
    pub fn start_times(&self) -> &[(&'static str, Duration)] {
        &self.start_times
    }

    /// Returns the processes of all parts, running or not.
    pub fn processes(&self) -> Vec<&Process> {
        let all: [Option<&Process>; 6] = [
            // Readers before what they read: the way down is quieter.
            self.connect.as_ref().map(Component::process),
            self.clickhouse.as_ref().map(Component::process),
            self.api_server.as_ref().map(Component::process),
            self.etcd.as_ref().map(Component::process),
            self.kafka.as_ref().map(Component::process),
            self.postgres.as_ref().map(Component::process),
        ];
        all.into_iter().flatten().collect()
    }

    /// Makes folders, configuration and PostgreSQL's cluster; starts nothing but the janitor.
    fn prepare(wanted: &BTreeSet<Part>, postgres: Option<u32>) -> anyhow::Result<Self> {
        let keep = std::env::var_os("TIDEMARK_KEEP_STACK").is_some();
        let among = std::env::var_os("TIDEMARK_STACKS").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new()
            .prefix("tidemark-")
            .tempdir_in(among)
            .context("making the stack's folder")?
            // From here on the janitor removes it.
            .keep();
        let janitor = Janitor::start(&folder, keep).context("starting the stack's janitor")?;
        // PostgreSQL runs as a user of its own and must reach its data.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        fs::create_dir(folder.join("logs"))?;
        fs::create_dir(folder.join("pids"))?;
        let has = |part: Part| wanted.contains(&part);
        let kafka = has(Part::Kafka).then(|| Kafka::prepare(&folder)).transpose()?;
        let etcd = has(Part::Kubernetes).then(|| Etcd::prepare(&folder)).transpose()?;
        Ok(Self {
            postgres: has(Part::Postgres).then(|| Postgres::prepare(&folder, postgres)).transpose()?,
            connect: kafka
                .as_ref()
                .filter(|_| has(Part::Connect))
                .map(|kafka| Connect::prepare(&folder, kafka))
                .transpose()?,
            clickhouse: has(Part::Clickhouse).then(|| ClickHouse::prepare(&folder)).transpose()?,
            api_server: etcd.as_ref().map(|etcd| ApiServer::prepare(&folder, etcd)).transpose()?,
            kafka,
            etcd,
            folder,
            start_times: Vec::new(),
            beside: None,
            _janitor: janitor,
        })
    }

    async fn start_all(&self) -> anyhow::Result<Vec<(&'static str, Duration)>> {
        let mut starts: Vec<BoxFuture<'_, anyhow::Result<(&'static str, Duration)>>> = Vec::new();
        if let Some(postgres) = &self.postgres {
            let seeded = async move {
                let begin = Instant::now();
                postgres.start().await?;
                postgres.seed().await.context("making the roles and the database shop")?;
                Ok(("postgres", begin.elapsed()))
            };
            starts.push(seeded.boxed());
        }
        starts.extend(self.kafka.as_ref().map(timed_start));
        starts.extend(self.connect.as_ref().map(timed_start));
        starts.extend(self.clickhouse.as_ref().map(timed_start));
        if let (Some(etcd), Some(api_server)) = (&self.etcd, &self.api_server) {
            starts.push(etcd.start().and_then(|_| timed_start(api_server)).boxed());
        }
        futures::future::try_join_all(starts).await
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for process in self.processes() {
            process.end();
        }
    }
}

fn timed_start<C: Component>(component: &C) -> BoxFuture<'_, anyhow::Result<(&'static str, Duration)>> {
    component.start().map_ok(|time| (component.process().name(), time)).boxed()
}
