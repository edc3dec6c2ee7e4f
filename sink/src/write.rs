//! A batch on its way to ClickHouse: missing values, fence, rows, dead letters, in this order. I/O; what becomes of a
//! failure is decided in [`outcome`](crate::outcome).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use tidemark_crds::ledger::{FENCES_TABLE, Kind, LEDGER_TABLE, ReadRequest, TableState};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};
use tokio::sync::{OnceCell, watch};

use crate::batch::{Batch, Place};
use crate::consume::{Event, Failure, Written};
use crate::dead_letter::{DeadLetter, DeadLetterTopic};
use crate::group::Records;
use crate::history::position_of;
use crate::metrics::{CauseLabel, ColumnLabel, Metrics, TableLabel};
use crate::outcome::{Backoff, Refused, Verdict, Work, is_too_many_partitions};
use crate::overlay::{Overlay, is_trusted};
use crate::plan::TablePlan;
use crate::read::KeyReader;
use crate::state::States;
use crate::stored;

/// Deadline of one insert.
const INSERT_DEADLINE: std::time::Duration = std::time::Duration::from_mins(1);
/// For how long it counts that rows are known to be this replica's to write.
const KNOWN: std::time::Duration = std::time::Duration::from_secs(30);
/// Keys that are read at the source at once.
const SOURCE_KEYS: usize = 500;

/// Settings of every insert, so that a server's or a user's profile cannot change what an insert means.
const INSERT_SETTINGS: [(&str, &str); 12] = [
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    // State is idempotent; a resent block must never be dropped because an equal one was seen before.
    ("insert_deduplicate", "0"),
    ("input_format_null_as_default", "0"),
    ("input_format_native_allow_types_conversion", "1"),
    // A first load of years falls into many partitions; a limit would refuse its rows for ever.
    ("max_partitions_per_insert_block", "0"),
    ("max_insert_block_size", "1048576"),
    // A block goes in as it comes.
    ("min_insert_block_size_rows", "0"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_threads", "1"),
    // Readers merge by version anyway: that of the block alone is work for nothing.
    ("optimize_on_insert", "0"),
    ("input_format_parallel_parsing", "0"),
];

/// Why rows cannot be read at the source now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// One word for the table's state.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Reads rows at the source by their keys.
pub trait RowSource: Send + Sync + std::fmt::Debug {
    /// Returns the rows of keys (RowBinary of the plan's key columns), a tombstone for each that the source has not,
    /// all of one version that is later than every change which the source had made before the call.
    fn rows<'a>(
        &'a self,
        plan: &'a Arc<TablePlan>,
        epoch: u16,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Batch, SourceError>>;
}

impl RowSource for KeyReader {
    fn rows<'a>(
        &'a self,
        plan: &'a Arc<TablePlan>,
        epoch: u16,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        let read = async move {
            let rows = Box::pin(Self::rows(self, plan, epoch, keys)).await;
            rows.map_err(|error| SourceError { reason: error.class().to_owned(), message: error.to_string() })
        };
        Box::pin(read)
    }
}

/// Writes batches.
#[derive(Debug, Clone)]
pub struct Writer {
    clickhouse: ClickHouse,
    dead_letters: DeadLetterTopic,
    records: Records,
    source: Arc<dyn RowSource>,
    place: String,
    states: States,
    metrics: Metrics,
    pipeline: String,
    max_share_per_mille: u32,
    /// Settings that depend on the server's version.
    more: Arc<OnceCell<Vec<(&'static str, &'static str)>>>,
}

/// Everything that the writer needs beside ClickHouse.
#[derive(Debug)]
pub struct WriterParts {
    /// Where records go that cannot be applied.
    pub dead_letters: DeadLetterTopic,
    /// Where the record of a row can be had again.
    pub records: Records,
    /// Where rows can be read by key.
    pub source: Arc<dyn RowSource>,
    /// Which place that is, [`source_place`](tidemark_crds::ledger::source_place).
    pub place: String,
    /// States, written before a doubt counts as noted.
    pub states: States,
    /// Metrics.
    pub metrics: Metrics,
    /// `namespace/name` of the pipeline.
    pub pipeline: String,
    /// Share of a table's rows above which refusals stop it.
    pub max_share_per_mille: u32,
}

/// For whom a batch is written.
#[derive(Debug, Clone)]
pub struct Task {
    /// Place of the table.
    pub table: usize,
    /// Topic of its records.
    pub topic: String,
    /// The newest plan: what the source has is read by it.
    pub newest: watch::Receiver<Arc<TablePlan>>,
    /// Where failures are reported.
    pub events: Sender<Event>,
    /// When it was last known that the rows are still this replica's to write; absent: they are of records.
    pub known: Option<watch::Receiver<Instant>>,
}

impl Task {
    /// Waits until it is known that the rows are still to be written: a process that stood still may have lost its lease long
    /// ago, and what its rows would show been deleted since, with the tombstones.
    async fn is_due(&self) {
        if let Some(known) = &self.known
            && known.clone().wait_for(|at| at.elapsed() < KNOWN).await.is_err()
        {
            // Nobody looks any more: this task is about to be ended.
            std::future::pending::<()>().await;
        }
    }

    fn failed(&self, state: TableState, reason: &str, class: &str, error: &Error) {
        let code = error.code.map(|code| format!(" (code {code})")).unwrap_or_default();
        self.report(Failure {
            state,
            reason: reason.to_owned(),
            class: class.to_owned(),
            message: format!("{error}{code}"),
            backpressure: error.class == ErrorClass::MergeBackpressure && !is_too_many_partitions(error),
        });
    }

    fn report(&self, failure: Failure) {
        let _ = self.events.send(Event::Failed(self.table, Box::new(failure)));
    }
}

impl Writer {
    /// Writes through a client whose default database is the target.
    pub fn new(clickhouse: &ClickHouse, parts: WriterParts) -> Self {
        let WriterParts {
            dead_letters,
            records,
            source,
            place,
            states,
            metrics,
            pipeline,
            max_share_per_mille,
        } = parts;
        let clickhouse = clickhouse.with_deadline(INSERT_DEADLINE);
        let more = Arc::default();
        Self {
            clickhouse,
            dead_letters,
            records,
            source,
            place,
            states,
            metrics,
            pipeline,
            max_share_per_mille,
            more,
        }
    }

    /// Does everything that a batch asks for and returns when all of it is acknowledged.
    pub async fn write(&self, mut batch: Batch, task: &Task) -> Written {
        let table = batch.plan().layout.target.clone();
        if batch.doubt.is_some() {
            // Offsets behind what was passed over count only once the doubt outlives this process.
            self.write_states(&table).await;
        }
        let early = std::mem::take(&mut batch.dead);
        let mut letters = Vec::new();
        if !batch.deferred().is_empty() {
            letters = Box::pin(self.complete(&mut batch, task)).await;
        }
        if let Some(version) = batch.fence() {
            self.raise_fence(&table, version, task).await;
        }
        for Refused { row, error } in self.insert(&batch, task).await {
            let version = batch.version_of(row).0;
            let place = batch.place_of(row).unwrap_or_default();
            letters.push(self.letter(&task.topic, place, version, error).await);
        }
        for letter in early {
            self.bury(&table, letter).await;
        }
        let mut late: BTreeMap<i32, u64> = BTreeMap::new();
        let mut position = (0, 0);
        for letter in letters {
            *late.entry(letter.partition).or_default() += 1;
            position = position.max((batch.epoch, letter.position));
            self.bury(&table, letter).await;
        }
        self.count_changed(&batch);
        Written { table: task.table, batch, late, position }
    }

    /// Writes rows that were read at the source, with the letters of those that could not be.
    ///
    /// Failures are reported to `events`, without a place of the table that means anything.
    pub async fn store(
        &self,
        mut batch: Batch,
        topic: &str,
        events: Sender<Event>,
        known: watch::Receiver<Instant>,
    ) {
        let table = batch.plan().layout.target.clone();
        let task = Task {
            table: 0,
            topic: topic.to_owned(),
            newest: watch::channel(Arc::clone(batch.plan())).1,
            events,
            known: Some(known),
        };
        let mut letters = std::mem::take(&mut batch.dead);
        for Refused { row, error } in self.insert(&batch, &task).await {
            let (version, _) = batch.version_of(row);
            let place = batch.place_of(row).unwrap_or_default();
            letters.push(DeadLetter {
                topic: task.topic.clone(),
                partition: place.partition,
                offset: place.offset,
                key: Some(batch.key_of(&batch.plan().key, row)),
                position: position_of(version).1,
                error: format!("a row read at the source: {error}"),
                ..DeadLetter::default()
            });
        }
        for letter in letters {
            self.bury(&table, letter).await;
        }
        self.count_changed(&batch);
    }

    fn count_changed(&self, batch: &Batch) {
        let layout = &batch.plan().layout;
        for (column, count) in batch.changed() {
            let column = layout.columns[column].target.clone();
            let label = ColumnLabel { table: layout.target.clone(), column };
            self.metrics.changed_values.get_or_create(&label).inc_by(count);
        }
    }

    async fn write_states(&self, table: &str) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.states.write(true).await {
            tracing::warn!(table, %error, "a doubt cannot be noted yet");
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// The record of a row, as a dead letter.
    async fn letter(&self, topic: &str, place: Place, version: Version, error: String) -> DeadLetter {
        let record = self.records.fetch(topic, place).await;
        let kept = record.unwrap_or_else(|| DeadLetter {
            topic: topic.to_owned(),
            partition: place.partition,
            offset: place.offset,
            truncated: Some(0),
            ..DeadLetter::default()
        });
        DeadLetter { error, position: position_of(version).1, ..kept }
    }

    async fn bury(&self, table: &str, letter: DeadLetter) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.dead_letters.write(letter.clone()).await {
            self.retried(table, "dead_letter");
            tracing::warn!(table, %error, "a dead letter cannot be written yet");
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
        tracing::warn!(
            table,
            partition = letter.partition,
            offset = letter.offset,
            error = letter.error,
            "a record cannot be applied: it is in the dead letters"
        );
        self.metrics.dead_letters.get_or_create(&TableLabel { table: table.to_owned() }).inc();
    }

    async fn raise_fence(&self, table: &str, version: Version, task: &Task) {
        let sql = format!(
            "INSERT INTO {} (table, version, reason, raised_at) VALUES ({}, {version}, 'truncate', now64(3))",
            quote::ident(FENCES_TABLE),
            quote::literal(table),
        );
        let mut backoff = Backoff::default();
        while let Err(error) = self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await {
            self.failed(table, &error, "a fence cannot be raised yet");
            task.failed(TableState::Retrying, "fence", error.class.as_str(), &error);
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
        tracing::info!(table, %version, "raised the fence of a truncated table");
    }

    /// Inserts all rows but those that the server refuses by themselves, which are returned.
    pub async fn insert(&self, batch: &Batch, task: &Task) -> Vec<Refused> {
        let table = &batch.plan().layout.target;
        let label = TableLabel { table: table.clone() };
        let comment = format!("tidemark {} {table}", self.pipeline);
        let insert = batch.plan().insert();
        let mut work = Work::new(batch.rows(), self.max_share_per_mille);
        let mut backoff = Backoff::default();
        let mut encoded: Option<(std::ops::Range<usize>, Bytes, u64)> = None;
        while let Some(rows) = work.piece() {
            let (frames, raw) = match &encoded {
                Some((same, frames, raw)) if *same == rows => (frames.clone(), *raw),
                _ => {
                    let (frames, raw) = encode(batch, &rows);
                    (Bytes::from(frames), raw)
                }
            };
            let mut settings = INSERT_SETTINGS.to_vec();
            settings.extend_from_slice(self.more_settings().await);
            settings.push(("log_comment", &comment));
            task.is_due().await;
            let begin = Instant::now();
            let Err(error) = self.clickhouse.insert_native(&insert, frames.clone(), &settings).await else {
                let ms = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX);
                self.metrics.insert_time.observe_ms(ms);
                self.metrics.rows.get_or_create(&label).inc_by(rows.len() as u64);
                self.metrics.bytes.get_or_create(&label).inc_by(raw);
                backoff = Backoff::default();
                encoded = None;
                work.written();
                continue;
            };
            encoded = Some((rows, frames, raw));
            let verdict = work.failed(&error);
            if verdict != Verdict::Search {
                self.failed(table, &error, "rows cannot be inserted yet");
                let (state, reason) = match verdict {
                    Verdict::Stopped => (TableState::Stopped, "refused"),
                    _ => (TableState::Retrying, "insert"),
                };
                task.failed(state, reason, error.class.as_str(), &error);
            }
            tokio::time::sleep(verdict.pause(&mut backoff, rand::random())).await;
        }
        work.into_refused()
    }

    /// Settings that only newer servers know.
    async fn more_settings(&self) -> &[(&'static str, &'static str)] {
        let found = self
            .more
            .get_or_try_init(|| async {
                let version = self.clickhouse.query_text("SELECT version()", "TSV", &[]).await?;
                // From 26.2 on this one overrides `insert_deduplicate`.
                let newer = is_at_least(&version, (26, 2));
                Ok::<_, Error>(if newer { vec![("deduplicate_insert", "disable")] } else { vec![] })
            })
            .await;
        found.map_or(&[], Vec::as_slice)
    }

    /// Finds the values that rows lack: in the batch, in the table, at the source. Returns the records of rows that
    /// the server refuses.
    async fn complete(&self, batch: &mut Batch, task: &Task) -> Vec<DeadLetter> {
        let table = batch.plan().layout.target.clone();
        let deferred = batch.take_deferred();
        let overlay = Overlay::new(batch, &deferred);
        let (keys, columns) = overlay.wanted();
        let (mut found, mut fence) = (HashMap::new(), Version(0));
        let mut backoff = Backoff::default();
        while !keys.is_empty() {
            let read = async {
                let stored = stored::read(&self.clickhouse, batch.plan(), &keys, &columns).await?;
                Ok::<_, Error>((stored, self.fence_of(&table).await?))
            };
            match Box::pin(read).await {
                Ok(read) => {
                    (found, fence) = read;
                    break;
                }
                Err(error) => {
                    self.failed(&table, &error, "missing values cannot be read yet");
                    task.failed(TableState::Retrying, "missing-values", error.class.as_str(), &error);
                    tokio::time::sleep(backoff.next(rand::random())).await;
                }
            }
        }
        let (fence, floor) = (fence.max(batch.read), batch.floor);
        let trusted = |version: Version| is_trusted(version, fence, floor);
        let resolution = overlay.resolve(batch, &found, trusted);
        let mut letters = Vec::new();
        for row in resolution.rows {
            // The values were written by columns of the same types.
            if batch.append(&row.values, row.version, row.committed_at, row.place).is_err() {
                let error = "the stored values that it lacks are not of the columns' types".to_owned();
                letters.push(self.letter(&task.topic, row.place, row.version, error).await);
            }
        }
        let newest: HashMap<&[u8], _> = deferred.iter().map(|row| (row.key.as_slice(), row)).collect();
        for keys in resolution.at_source.chunks(SOURCE_KEYS) {
            let mut rows = self.read_at_source(&table, batch.epoch, keys, task).await;
            letters.append(&mut rows.dead);
            for Refused { row, error } in self.insert(&rows, task).await {
                let key = rows.key_of(&rows.plan().key, row);
                if let Some(row) = newest.get(key.as_slice()) {
                    letters.push(self.letter(&task.topic, row.place, row.version, error).await);
                }
            }
        }
        letters
    }

    async fn read_at_source(&self, table: &str, epoch: u16, keys: &[Vec<u8>], task: &Task) -> Batch {
        let mut backoff = Backoff::default();
        loop {
            // The layout may have changed since the last attempt, which is what that one failed for.
            let newest = Arc::clone(&task.newest.borrow());
            let read = async {
                match self.elsewhere(table, epoch).await {
                    Ok(None) => self.source.rows(&newest, epoch, keys).await,
                    Ok(Some(message)) => Err(SourceError { reason: "another-source".to_owned(), message }),
                    Err(error) => {
                        Err(SourceError { reason: "missing-values".to_owned(), message: error.to_string() })
                    }
                }
            };
            match Box::pin(read).await {
                Ok(rows) => return rows,
                Err(error) => {
                    self.retried(table, "source");
                    tracing::warn!(table, keys = keys.len(), %error, "rows cannot be read at the source yet");
                    task.report(Failure {
                        state: TableState::Retrying,
                        reason: error.reason,
                        class: "source".to_owned(),
                        message: error.message,
                        backpressure: false,
                    });
                    tokio::time::sleep(backoff.next(rand::random())).await;
                }
            }
        }
    }

    /// Where else than here the rows of an epoch are, as the ledger has it: the pipeline may have moved to another server, and
    /// this process be on its way out with the configuration of before.
    async fn elsewhere(&self, table: &str, epoch: u16) -> Result<Option<String>, Error> {
        let sql = format!(
            "SELECT value FROM {} FINAL WHERE pipeline = {} AND kind = {} AND key = {}",
            quote::ident(LEDGER_TABLE),
            quote::literal(&self.pipeline),
            quote::literal(Kind::Read.as_str()),
            quote::literal(table)
        );
        let asked =
            self.clickhouse.query_text(&sql, "TSVRaw", &[("select_sequential_consistency", "1")]).await?;
        Ok(is_elsewhere(asked.trim(), epoch, &self.place))
    }

    /// The greatest fence of a table.
    async fn fence_of(&self, table: &str) -> Result<Version, Error> {
        let sql = format!(
            "SELECT toString(max(version)) FROM {} WHERE table = {}",
            quote::ident(FENCES_TABLE),
            quote::literal(table)
        );
        let text = self.clickhouse.query_text(&sql, "TSV", &[("select_sequential_consistency", "1")]).await?;
        let version = text.trim().parse().map_err(|_| {
            Error::new(ErrorClass::Permanent, format!("the fence of {table} is no number: {:?}", text.trim()))
        })?;
        Ok(Version(version))
    }

    fn failed(&self, table: &str, error: &Error, message: &'static str) {
        self.retried(table, error.class.as_str());
        tracing::warn!(table, class = error.class.as_str(), code = error.code, %error, message);
    }

    fn retried(&self, table: &str, cause: &'static str) {
        self.metrics.retries.get_or_create(&CauseLabel { table: table.to_owned(), cause }).inc();
    }
}

/// Where else than at `place` the rows of an epoch are, by the last request to read their table.
fn is_elsewhere(request: &str, epoch: u16, place: &str) -> Option<String> {
    let request: ReadRequest = serde_json::from_str(request).ok()?;
    let source = request.source.filter(|source| request.epoch == epoch && source != place)?;
    Some(format!(
        "the rows are at {source}, and this sink is configured for {place}: it waits for its new configuration"
    ))
}

/// Whether a version such as `26.7.2.1` is at least the given one.
fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.trim().split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

fn encode(batch: &Batch, rows: &std::ops::Range<usize>) -> (Vec<u8>, u64) {
    // Compression is work for a processor, not for a reactor; a block is small enough to stay here only when
    // it takes less than a scheduler's time slice.
    if rows.len() > 2000
        && tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
    {
        tokio::task::block_in_place(|| batch.encode(rows))
    } else {
        batch.encode(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_epoch_are_read_where_its_tables_are() {
        let asked = r#"{"epoch":2,"layout":1,"reason":"the log is followed anew","source":"new:5432/shop"}"#;
        assert!(is_elsewhere(asked, 2, "old:5432/shop").unwrap().contains("new:5432/shop"));
        for (request, epoch, place) in [
            (asked, 2, "new:5432/shop"),
            // What is asked for is of another epoch than the change: it was asked for before, or hides it.
            (asked, 1, "old:5432/shop"),
            (r#"{"epoch":2,"layout":1,"reason":"first load"}"#, 2, "old:5432/shop"),
            ("null", 2, "old:5432/shop"),
            ("", 2, "old:5432/shop"),
        ] {
            assert_eq!(is_elsewhere(request, epoch, place), None, "{request}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_at_least("26.2.1.7\n", (26, 2)) && is_at_least("27.1", (26, 2)));
        assert!(!is_at_least("26.1.9", (26, 2)) && !is_at_least("3.9", (26, 2)) && !is_at_least("", (26, 2)));
    }
}
