//! The read of one table behind one barrier, by one connection or several. I/O.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use tidemark_runtime::postgres::Session;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use super::barrier::{self, Barrier};
use super::copy::{RowBuilder, expressions};
use super::copy_text::Lines;
use super::pace::Pace;
use super::ranges::{Place, Rest, Span, spans};
use super::relation::{self, Relation, are_moved, source_error};
use super::source::{Server, Source};
use super::{ReadError, ReadMetrics};
use crate::batch::Batch;
use crate::consume::Event;
use crate::metrics::TableLabel;
use crate::plan::TablePlan;
use crate::write::Writer;

/// Rows at which a batch is sent.
const BATCH_ROWS: usize = 100_000;
/// Bytes of column data at which a batch is sent.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of text between two looks at the size of a batch.
const LOOK_BYTES: usize = 64 << 10;
/// How often a range is tried whose connection breaks, or whose lock is not given, before the read fails.
const ATTEMPTS: u32 = 6;

/// How far a read is, for the reads table.
#[derive(Debug)]
pub(super) struct Progress {
    /// Rows read.
    pub(super) rows: AtomicU64,
    /// Bytes of their text.
    pub(super) bytes: AtomicU64,
    /// Rows that PostgreSQL estimates for the whole.
    pub(super) estimated: AtomicU64,
    /// Position of the barrier; before there is one, of the barrier of the read before, 0 without one.
    pub(super) barrier: AtomicU64,
    /// What is done and what is not, once the table is parted.
    rest: Mutex<Option<(Place, Rest)>>,
    /// Where the writer says why an insert does not work yet.
    failures: Sender<Event>,
    trouble: Mutex<(Receiver<Event>, Option<String>)>,
}

impl Default for Progress {
    fn default() -> Self {
        let (failures, said) = std::sync::mpsc::channel();
        Self {
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            estimated: AtomicU64::new(0),
            barrier: AtomicU64::new(0),
            rest: Mutex::new(None),
            failures,
            trouble: Mutex::new((said, None)),
        }
    }
}

impl Progress {
    /// Goes on at a place, or at the beginning of a read.
    pub(super) fn begin_at(&self, place: Place) {
        self.rows.store(place.rows, Ordering::Relaxed);
        self.estimated.store(place.estimated, Ordering::Relaxed);
        let rest = Rest::of(&place);
        *self.rest() = Some((place, rest));
    }

    /// What was parted is not, since the read begins anew.
    fn forget(&self) {
        self.rows.store(0, Ordering::Relaxed);
        *self.rest() = None;
    }

    /// Where the read is, as the reads table has it; empty before the table is parted.
    pub(super) fn place(&self) -> String {
        let rest = self.rest();
        rest.as_ref()
            .map_or_else(String::new, |(place, rest)| Place { open: rest.open(), ..place.clone() }.text())
    }

    fn rest(&self) -> MutexGuard<'_, Option<(Place, Rest)>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_rest<T: Default>(&self, with: impl FnOnce(&mut Rest) -> T) -> T {
        self.rest().as_mut().map_or_else(T::default, |(_, rest)| with(rest))
    }

    /// ClickHouse has all rows of a range.
    fn done(&self, span: &Span, rows: u64) {
        if let Some((place, rest)) = self.rest().as_mut() {
            place.rows += rows;
            rest.done(span);
        }
    }

    /// Why rows cannot be inserted now, empty while they can.
    pub(super) fn trouble(&self) -> String {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let said = trouble.0.try_iter().filter_map(|event| match event {
            Event::Failed(_, failure) => Some(failure.message),
            _ => None,
        });
        if let Some(last) = said.last() {
            trouble.1 = Some(last);
        }
        trouble.1.clone().unwrap_or_default()
    }

    /// An insert was acknowledged: what was said before is over.
    fn inserted(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.0.try_iter().for_each(drop);
        trouble.1 = None;
    }
}

/// What is read, and where the rows go.
#[derive(Debug)]
pub(super) struct Job {
    /// Source of the rows.
    pub(super) source: Source,
    /// Where they go.
    pub(super) writer: Writer,
    /// The table's layout.
    pub(super) plan: Arc<TablePlan>,
    /// Epoch of the rows' version.
    pub(super) epoch: u16,
    /// Topic that dead letters name.
    pub(super) topic: Arc<str>,
    /// Share of dead letters at which the read fails.
    pub(super) max_share_per_mille: u32,
    /// Limit of rows a second, and how it is kept.
    pub(super) rows_per_second: Option<u32>,
    pub(super) pace: Arc<Pace>,
    /// How far it is.
    pub(super) progress: Arc<Progress>,
    /// Figures.
    pub(super) metrics: ReadMetrics,
    /// When it was last known that the read is still this replica's.
    pub(super) known: watch::Receiver<Instant>,
}

/// What all connections of a read have in common.
struct Begun {
    barrier: Barrier,
    server: Server,
    /// The table, and the files in which its rows lay when it was parted.
    place: (Relation, BTreeMap<u32, u32>),
}

/// One connection's way through the spans.
struct Worker<'a> {
    job: &'a Job,
    barrier: Barrier,
    server: &'a Server,
    /// The table, and the files in which its rows lay when it was parted.
    place: &'a (Relation, BTreeMap<u32, u32>),
    statement: String,
    /// At most one insert, while the next batch is read.
    inserts: JoinSet<()>,
    /// A range whose last rows that insert has, and how many rows it has in all.
    ending: Option<(Span, u64)>,
}

impl Job {
    /// Reads the whole table, or what another one left of it, and returns the barrier when ClickHouse has every row.
    ///
    /// `more` is asked for a connection as long as it gives one and there is work for it.
    pub(super) async fn run(
        &self,
        left: Option<Place>,
        more: impl Fn() -> Option<OwnedSemaphorePermit>,
    ) -> Result<Barrier, ReadError> {
        let begun = match left {
            Some(place) => self.go_on(place).await?,
            None => None,
        };
        let (session, begun) = match begun {
            Some(begun) => begun,
            None => self.begin().await?,
        };
        let ranges = self.progress.with_rest(|rest| rest.waiting());
        let helpers: Vec<_> = std::iter::from_fn(&more).take(ranges.saturating_sub(1)).collect();
        let worker = || Worker {
            job: self,
            barrier: begun.barrier,
            server: &begun.server,
            place: &begun.place,
            statement: format!("COPY (SELECT {} FROM ", expressions(&self.plan)),
            inserts: JoinSet::new(),
            ending: None,
        };
        let first: BoxFuture<'_, _> = Box::pin(worker().run(Some(session)));
        let others = helpers.into_iter().map(|permit| -> BoxFuture<'_, _> {
            let worker = worker();
            Box::pin(async move {
                let _permit = permit;
                worker.run(None).await
            })
        });
        futures::future::try_join_all(std::iter::once(first).chain(others)).await?;
        Ok(begun.barrier)
    }

    /// Goes on where another one ended, behind its barrier; `None` where its pages are no longer what they were.
    async fn go_on(&self, place: Place) -> Result<Option<(Session, Begun)>, ReadError> {
        let table = &self.plan.layout.source;
        let (session, server) = self.source.for_ranges(table).await?;
        let relation = relation::begin(&session, &self.plan.layout).await?;
        let files = relation::files(&session, table, &relation).await?;
        self.end(&session).await?;
        if server.to_string() != place.server || are_moved(&place.files, &files) {
            self.progress.forget();
            return Ok(None);
        }
        let barrier = Barrier { lsn: self.progress.barrier.load(Ordering::Relaxed), at: place.at };
        tracing::info!(
            table = %table, barrier = barrier.lsn, rows = place.rows,
            ranges = self.progress.with_rest(|rest| rest.waiting()), "going on with the read of a table"
        );
        Ok(Some((session, Begun { barrier, server, place: (relation, place.files) })))
    }

    async fn end(&self, session: &Session) -> Result<(), ReadError> {
        let end = |error| source_error(&self.plan.layout.source, "ending a transaction", &error);
        session.batch_execute("COMMIT").await.map_err(end)
    }

    /// Sets a barrier and parts the table.
    async fn begin(&self) -> Result<(Session, Begun), ReadError> {
        let table = &self.plan.layout.source;
        let (session, server) = self.source.for_barrier(table).await?;
        // A table that is not the layout's gets no barrier.
        relation::begin(&session, &self.plan.layout).await?;
        self.end(&session).await?;
        let barrier = barrier::set(&session, self.source.pipeline(), &table.to_string())
            .await
            .map_err(|error| ReadError::Source { table: table.to_string(), error })?;
        self.progress.barrier.store(barrier.lsn, Ordering::Relaxed);
        let (session, server) = self.source.behind(session, server, table).await?;
        // Partitions that are made from here on have rows from behind the barrier alone.
        let relation = relation::begin_behind(&session, &self.plan.layout).await?;
        let parts = relation::parts(&session, table, &relation).await?;
        let files = relation::files(&session, table, &relation).await?;
        self.end(&session).await?;
        let spans = spans(table, relation.partitioned, &parts, self.rows_per_second);
        tracing::info!(
            table = %table, barrier = barrier.lsn, ranges = spans.len(),
            layout = self.plan.layout.version, "reading a table at the source"
        );
        self.progress.begin_at(Place {
            server: server.to_string(),
            layout: self.plan.layout.version,
            at: barrier.at,
            files: files.clone(),
            estimated: parts.iter().map(|part| part.rows).sum(),
            rows: 0,
            open: spans,
        });
        Ok((session, Begun { barrier, server, place: (relation, files) }))
    }
}

impl Worker<'_> {
    /// Reads spans until there are none left, then waits for the last insert.
    async fn run(mut self, session: Option<Session>) -> Result<(), ReadError> {
        let mut session = session;
        let mut attempt = 0;
        while let Some(span) = self.job.progress.with_rest(Rest::take) {
            let mut rows = 0;
            let result = match session.take() {
                Some(open) => Ok(open),
                None => self.connect().await,
            };
            let result = match result {
                Ok(open) => match self.read(&open, &span, &mut rows).await {
                    Ok(()) => Ok(open),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(open) => {
                    session = Some(open);
                    attempt = 0;
                    continue;
                }
                Err(error) => error,
            };
            // What was read of the span is read again, at the same version; it counts once.
            self.job.progress.rows.fetch_sub(rows, Ordering::Relaxed);
            if error.is_cancelled() && self.job.progress.with_rest(|rest| rest.halve(&span)) {
                tracing::warn!(%error, "a range took too long; going on with its halves");
                continue;
            }
            if !error.is_transient() || attempt >= ATTEMPTS {
                return Err(error);
            }
            let pause = Duration::from_secs(1 << attempt).min(Duration::from_secs(30));
            attempt += 1;
            tracing::warn!(%error, attempt, "a range cannot be read yet");
            self.job.progress.with_rest(|rest| rest.put_back(span));
            tokio::time::sleep(pause).await;
        }
        self.inserted().await;
        Ok(())
    }

    /// Connects again. Another server has another log, in which the barrier may not be.
    async fn connect(&self) -> Result<Session, ReadError> {
        let table = &self.job.plan.layout.source;
        let (session, server) = self.job.source.for_ranges(table).await?;
        if server == *self.server {
            return Ok(session);
        }
        let reason = "the server was started again, or another one answers; the read begins anew".to_owned();
        Err(ReadError::Refused { table: table.to_string(), reason })
    }

    /// Reads one span; `rows` counts what of it is in a batch or further.
    async fn read(&mut self, session: &Session, span: &Span, rows: &mut u64) -> Result<(), ReadError> {
        let plan = &self.job.plan;
        let table = &plan.layout.source;
        let wrong = |error| source_error(table, "reading rows", &error);
        relation::begin(session, &plan.layout).await?;
        let statement = format!("{}{}{}) TO STDOUT", self.statement, span.relation, span.condition());
        let mut stream = pin!(session.copy_out(&statement).await.map_err(wrong)?);
        let mut builder = RowBuilder::new(
            Arc::clone(plan),
            self.job.epoch,
            self.barrier,
            Arc::clone(&self.job.topic),
            self.job.max_share_per_mille,
        );
        let label = TableLabel { table: plan.layout.target.clone() };
        let (read_rows, read_bytes) = (
            self.job.metrics.rows.get_or_create_owned(&label),
            self.job.metrics.bytes.get_or_create_owned(&label),
        );
        let (mut batch, mut lines) = (new_batch(plan)?, Lines::default());
        let (mut looked, mut looked_rows) = (0, 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(wrong)?;
            lines.feed(&chunk, |line| {
                looked_rows += 1;
                builder.append(&mut batch, line).map(|_| ())
            })?;
            looked += chunk.len();
            if looked < LOOK_BYTES && batch.rows() < BATCH_ROWS {
                continue;
            }
            *rows += u64::from(looked_rows);
            self.job.progress.rows.fetch_add(u64::from(looked_rows), Ordering::Relaxed);
            self.job.progress.bytes.fetch_add(looked as u64, Ordering::Relaxed);
            read_rows.inc_by(u64::from(looked_rows));
            read_bytes.inc_by(looked as u64);
            let pause = self.job.pace.pay(looked_rows, Instant::now());
            (looked, looked_rows) = (0, 0);
            if batch.rows() >= BATCH_ROWS || batch.bytes() >= BATCH_BYTES {
                self.insert(std::mem::replace(&mut batch, new_batch(plan)?)).await;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        *rows += u64::from(looked_rows);
        self.job.progress.rows.fetch_add(u64::from(looked_rows), Ordering::Relaxed);
        self.job.progress.bytes.fetch_add(looked as u64, Ordering::Relaxed);
        read_rows.inc_by(u64::from(looked_rows));
        read_bytes.inc_by(looked as u64);
        if !lines.is_complete() {
            let reason = "the server's answer ended in the middle of a row".to_owned();
            return Err(ReadError::Refused { table: table.to_string(), reason });
        }
        // The statement has the lock: they are still where it read them.
        let (relation, files) = self.place;
        if are_moved(files, &relation::files(session, table, relation).await?) {
            let reason = "its rows were written anew while it was read, as VACUUM FULL, CLUSTER and TRUNCATE do it; the \
                          read begins anew"
                .to_owned();
            return Err(ReadError::Refused { table: table.to_string(), reason });
        }
        session.batch_execute("COMMIT").await.map_err(wrong)?;
        self.insert(batch).await;
        self.ending = Some((span.clone(), *rows));
        Ok(())
    }

    /// Sends a batch once the one before it is acknowledged.
    async fn insert(&mut self, batch: Batch) {
        self.inserted().await;
        if batch.rows() > 0 || !batch.dead.is_empty() {
            let writer = self.job.writer.clone();
            let (topic, progress) = (Arc::clone(&self.job.topic), Arc::clone(&self.job.progress));
            let known = self.job.known.clone();
            self.inserts.spawn(async move {
                writer.store(batch, &topic, progress.failures.clone(), known).await;
                progress.inserted();
            });
        }
    }

    async fn inserted(&mut self) {
        while let Some(result) = self.inserts.join_next().await {
            if let Err(error) = result
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        if let Some((span, rows)) = self.ending.take() {
            tracing::debug!(table = %self.job.plan.layout.source, range = %span, rows, "a range is done");
            self.job.progress.done(&span, rows);
        }
    }
}

/// An empty batch of a plan.
pub(super) fn new_batch(plan: &Arc<TablePlan>) -> Result<Batch, ReadError> {
    Batch::new(Arc::clone(plan)).map_err(|error| ReadError::Refused {
        table: plan.layout.source.to_string(),
        reason: error.to_string(),
    })
}
