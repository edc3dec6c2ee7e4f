//! The task of a replica that takes requests to read tables, and says how far they are. I/O.
//!
//! A replica takes a request by a row of its own in the reads table, written anew each second: one that is old is of
//! a replica that is gone, and another goes on where that row says that it was, behind the same barrier, or from the
//! beginning behind a barrier of its own. Should two read the same request at once, nothing is wrong: rows of one barrier
//! are the same whoever reads them, and of two barriers the greater one's fence hides the rows of the other, which its
//! own read has too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidemark_crds::ledger::source_place;
use tidemark_crds::sink_config::{ReadsConfig, SinkConfig, TableRoute};
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::ClickHouse;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use super::ReadError;
use super::barrier::Barrier;
use super::claim::{Decision, Open, Own, PAUSES, ReadState, decide};
use super::pace::Pace;
use super::requests::{Answer, Requests};
use super::source::Source;
use super::table::{Job, Progress};
use crate::metrics::{CauseLabel, Metrics, TableLabel};
use crate::plan::{Encoding, TablePlan};
use crate::write::Writer;

/// Pause between two looks at the requests.
const LOOK: Duration = Duration::from_secs(1);
/// Age of a row in the reads table above which its owner is gone.
const LEASE: Duration = Duration::from_secs(15);
/// Pause between two attempts to raise the fence of a table that was read.
const FENCE_PAUSE: Duration = Duration::from_secs(1);

/// How a replica reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Connections for whole tables at once.
    pub connections: u8,
    /// Limit of rows a second over all of them; absent: none.
    pub rows_per_second: Option<u32>,
    /// Age of a row in the reads table above which its owner is gone.
    pub lease: Duration,
}

impl ReaderOptions {
    /// Those of a configuration.
    pub fn of(config: &ReadsConfig) -> Self {
        let ReadsConfig { max_connections, rows_per_second, .. } = *config;
        Self { connections: max_connections, rows_per_second, lease: LEASE }
    }
}

/// Everything that a reader works with.
#[derive(Debug, Clone)]
pub struct ReaderContext {
    /// Tables, and where they are read.
    pub config: Arc<SinkConfig>,
    /// Client whose default database is the target.
    pub clickhouse: ClickHouse,
    /// Where the rows go.
    pub writer: Writer,
    /// Figures.
    pub metrics: Metrics,
    /// Name of this replica, unlike that of any other.
    pub replica: String,
    /// How it reads.
    pub options: ReaderOptions,
}

/// A running reader. It and the reads that it has begun end when it is dropped.
#[derive(Debug)]
pub struct Reader {
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts the reader on the caller's runtime.
    pub fn start(context: ReaderContext) -> Self {
        Self { task: tokio::spawn(Box::pin(Looker::new(context).run())) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request that was taken, and how far it is.
#[derive(Debug, Clone)]
struct Claim {
    id: u64,
    epoch: u16,
    layout: u64,
    started_ms: i64,
    /// Beat of the newest row of the table in the reads table, as it was last seen.
    beat: u64,
    progress: Arc<Progress>,
}

impl Claim {
    fn of(open: &Open) -> Self {
        let progress = Progress::default();
        progress.barrier.store(open.barrier_before(), Ordering::Relaxed);
        if let Some(place) = open.left_at() {
            progress.begin_at(place);
        }
        Self {
            id: open.id,
            epoch: open.request.epoch,
            layout: open.layout,
            started_ms: open.now_ms,
            beat: open.seen.as_ref().map_or(0, |seen| seen.beat),
            progress: Arc::new(progress),
        }
    }
}

/// A read that runs here.
#[derive(Debug)]
struct Active {
    claim: Claim,
    started: Instant,
    task: JoinHandle<Result<Barrier, ReadError>>,
    /// How it ended, kept until that is written.
    outcome: Option<Result<Barrier, ReadError>>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When a request that failed is tried again.
#[derive(Debug, Clone, Copy)]
struct Failure {
    id: u64,
    layout: u64,
    attempts: u32,
    until: Instant,
}

/// The state of the task.
struct Looker {
    context: ReaderContext,
    source: Source,
    requests: Requests,
    connections: Arc<Semaphore>,
    pace: Arc<Pace>,
    active: BTreeMap<String, Active>,
    /// Told at the end of each read.
    ended: Arc<Notify>,
    failures: BTreeMap<String, Failure>,
    /// When the last look ended that found the reads of this replica still to be its own.
    looked: watch::Sender<Instant>,
    /// Last error of a look, so that one that lasts is logged once.
    trouble: Option<String>,
}

impl Looker {
    fn new(context: ReaderContext) -> Self {
        let options = context.options;
        Self {
            source: Source::new(&context.config.postgres, &context.config.pipeline),
            requests: Requests::new(&context.clickhouse, &context.config.pipeline, &context.replica),
            connections: Arc::new(Semaphore::new(usize::from(options.connections.max(1)))),
            pace: Arc::new(Pace::new(options.rows_per_second)),
            active: BTreeMap::new(),
            ended: Arc::default(),
            failures: BTreeMap::new(),
            looked: watch::Sender::new(Instant::now()),
            trouble: None,
            context,
        }
    }

    async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // A read that has ended makes room for the next: with many small tables, pauses would be most of the time.
            tokio::select! {
                _ = looks.tick() => {}
                () = self.ended.notified() => looks.reset(),
            }
            match self.requests.look().await {
                Ok(all) => {
                    self.trouble = None;
                    self.follow(&all).await;
                    self.looked.send_replace(Instant::now());
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.trouble.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "requests to read tables cannot be looked at");
                        self.trouble = Some(text);
                    }
                }
            }
        }
    }

    /// Ends, goes on with and begins reads.
    async fn follow(&mut self, all: &[Open]) {
        let wanted: BTreeMap<&str, &Open> = all.iter().map(|open| (open.table.as_str(), open)).collect();
        // A request that was taken back has nobody who waits for its rows.
        self.active.retain(|table, active| {
            wanted
                .get(table.as_str())
                .is_some_and(|open| open.id == active.claim.id && open.epoch == active.claim.epoch)
        });
        let config = Arc::clone(&self.context.config);
        let source = source_place(&config.postgres.host, config.postgres.port, &config.postgres.database);
        for route in &config.tables {
            let Some(open) = wanted.get(route.target.as_str()) else { continue };
            let own = Own {
                active: self.active.contains_key(&route.target),
                pausing: self.pausing(&route.target, open),
            };
            match decide(open, (&self.context.replica, &source), self.context.options.lease, own) {
                Decision::Leave => drop(self.active.remove(&route.target)),
                Decision::Read if own.active => self.go_on(&route.target, open).await,
                Decision::Read => self.begin(route, open).await,
            }
        }
        for route in &config.tables {
            let running = i64::from(self.active.contains_key(&route.target));
            self.context.metrics.reads.running.get_or_create(&label(&route.target)).set(running);
        }
    }

    /// Whether the pause after a failure lasts. A newer layout is what many failures wait for.
    fn pausing(&self, table: &str, open: &Open) -> bool {
        self.failures.get(table).is_some_and(|failure| {
            failure.id == open.id && failure.layout >= open.layout && Instant::now() < failure.until
        })
    }

    /// Takes a request, if a connection is free.
    async fn begin(&mut self, route: &TableRoute, open: &Open) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else { return };
        let plan = match self.requests.layout(&route.target, open.layout).await {
            Ok(layout) => TablePlan::new(Arc::new(layout), Encoding::Contract).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let claim = Claim::of(open);
        let plan = match plan {
            Ok(plan) => Arc::new(plan),
            Err(error) => return self.refuse(&route.target, &claim, &error).await,
        };
        // Nobody else knows of it before this is written: without it the read waits for the next look.
        if let Err(error) =
            self.answer(&route.target, &claim, (ReadState::Reading, &claim.progress.place()), "").await
        {
            tracing::warn!(table = route.target, %error, "a read cannot be taken yet");
            return;
        }
        let job = Job {
            source: self.source.clone(),
            writer: self.context.writer.clone(),
            plan,
            epoch: claim.epoch,
            topic: Arc::from(route.topic.as_str()),
            max_share_per_mille: self.context.config.dead_letter.max_share_per_mille,
            rows_per_second: self.context.options.rows_per_second,
            pace: Arc::clone(&self.pace),
            progress: Arc::clone(&claim.progress),
            metrics: self.context.metrics.reads.clone(),
            known: self.looked.subscribe(),
        };
        let (requests, connections) = (self.requests.clone(), Arc::clone(&self.connections));
        let (target, ended, left) = (route.target.clone(), Arc::clone(&self.ended), open.left_at());
        let read = async move {
            let _permit = permit;
            let barrier = job.run(left, || Arc::clone(&connections).try_acquire_owned().ok()).await?;
            let version = Version::of_read(job.epoch, barrier.lsn);
            while let Err(error) = requests.raise_fence(&target, version).await {
                tracing::warn!(table = target, %error, "the fence of a table that was read cannot be raised yet");
                tokio::time::sleep(FENCE_PAUSE).await;
            }
            Ok(barrier)
        };
        let task = tokio::spawn(Box::pin(async move {
            let outcome = read.await;
            ended.notify_one();
            outcome
        }));
        tracing::info!(table = route.target, request = open.id, reason = open.request.reason, "took a read");
        let active = Active { claim, started: Instant::now(), task, outcome: None };
        self.active.insert(route.target.clone(), active);
    }

    /// Says how far a read is, or how it ended.
    async fn go_on(&mut self, table: &str, open: &Open) {
        let Some(mut active) = self.active.remove(table) else { return };
        active.claim.beat = open.seen.as_ref().map_or(active.claim.beat, |seen| seen.beat);
        if active.outcome.is_none() && active.task.is_finished() {
            let ended = (&mut active.task).await.unwrap_or_else(|error| {
                let reason = format!("the read ended by itself: {error}");
                Err(ReadError::Refused { table: table.to_owned(), reason })
            });
            self.count(table, &active, &ended);
            active.outcome = Some(ended);
        }
        let (state, error) = match &active.outcome {
            None => (ReadState::Reading, active.claim.progress.trouble()),
            Some(Ok(_)) => (ReadState::Read, String::new()),
            Some(Err(error)) => (ReadState::Failed, error.to_string()),
        };
        // What failed for the rows' or the pages' sake begins anew.
        let goes_on = match &active.outcome {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => error.is_transient(),
        };
        let place = if goes_on { active.claim.progress.place() } else { String::new() };
        let written = self.answer(table, &active.claim, (state, &place), &error).await;
        if let Err(error) = &written {
            tracing::warn!(table, %error, "how far a read is cannot be written yet");
        }
        if active.outcome.is_none() || written.is_err() {
            self.active.insert(table.to_owned(), active);
        }
    }

    /// Counts a read that ended; a failure begins its pause.
    fn count(&mut self, table: &str, active: &Active, ended: &Result<Barrier, ReadError>) {
        let (metrics, label) = (&self.context.metrics.reads, label(table));
        let seconds = active.started.elapsed().as_secs_f64();
        metrics.time.get_or_create(&label).inc_by(seconds);
        let rows = active.claim.progress.rows.load(Ordering::Relaxed);
        match ended {
            Ok(barrier) => {
                self.failures.remove(table);
                metrics.finished.get_or_create(&label).inc();
                tracing::info!(
                    table,
                    request = active.claim.id,
                    rows,
                    seconds,
                    barrier = barrier.lsn,
                    "read a table"
                );
            }
            Err(error) => {
                let cause = CauseLabel { table: table.to_owned(), cause: error.class() };
                metrics.failed.get_or_create(&cause).inc();
                let pause = self.pause(table, &active.claim);
                tracing::error!(
                    table, request = active.claim.id, rows, class = error.class(), %error, again_in = pause.as_secs(),
                    "a read of a table failed"
                );
            }
        }
    }

    /// Begins the pause after a failure, longer each time, and returns its length.
    fn pause(&mut self, table: &str, claim: &Claim) -> Duration {
        let (id, layout) = (claim.id, claim.layout);
        let before = self.failures.get(table).filter(|failure| failure.id == id && failure.layout == layout);
        let attempts = before.map_or(0, |failure| failure.attempts) + 1;
        let pause = (PAUSES.0 * 2_u32.saturating_pow(attempts - 1)).min(PAUSES.1);
        let until = Instant::now() + pause;
        self.failures.insert(table.to_owned(), Failure { id, layout, attempts, until });
        pause
    }

    /// Says that a request cannot even be begun.
    async fn refuse(&mut self, table: &str, claim: &Claim, error: &str) {
        let pause = self.pause(table, claim);
        tracing::error!(table, error, again_in = pause.as_secs(), "a table cannot be read");
        if let Err(error) = self.answer(table, claim, (ReadState::Failed, ""), error).await {
            tracing::warn!(table, %error, "a failed read cannot be written");
        }
    }

    async fn answer(
        &self,
        table: &str,
        claim: &Claim,
        (state, place): (ReadState, &str),
        error: &str,
    ) -> Result<(), tidemark_runtime::clickhouse::Error> {
        let progress = &claim.progress;
        let answer = Answer {
            table,
            id: claim.id,
            epoch: claim.epoch,
            state,
            barrier: progress.barrier.load(Ordering::Relaxed),
            layout: claim.layout,
            rows: progress.rows.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            estimated: progress.estimated.load(Ordering::Relaxed),
            place,
            error,
            started_ms: claim.started_ms,
            least_beat: claim.beat + 1,
        };
        self.requests.answer(&answer).await
    }
}

fn label(table: &str) -> TableLabel {
    TableLabel { table: table.to_owned() }
}
