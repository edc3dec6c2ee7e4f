//! From a sealed batch to ClickHouse's acknowledgement: missing values, fence, rows, dead letters. I/O.
//!
//! Everything is repeated until it has worked: the caller gives up a batch only by dropping the future, and
//! then its offsets are not committed.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemark_crds::layout::{DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::ledger::FENCES_TABLE;
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use crate::batch::{Batch, Deferred};
use crate::dead_letter::DeadLetterTopic;
use crate::metrics::{CauseLabel, Metrics, TableLabel};
use crate::native::{Column, Corrupt};
use crate::plan::TablePlan;

/// Deadline of one insert.
const INSERT_DEADLINE: Duration = Duration::from_mins(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Rows below which a batch is not split any more.
const SMALLEST_SPLIT: usize = 1000;
/// Why an update without an earlier row is a dead letter.
const NO_EARLIER_ROW: &str = "the update lacks an unchanged value and the table has no earlier row; \
                              set REPLICA IDENTITY FULL or snapshot the table again";
/// Keys of one point read.
const KEYS_A_READ: usize = 500;

/// Settings of every insert, so that a server's or a user's profile cannot change what an insert means.
const INSERT_SETTINGS: [(&str, &str); 10] = [
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    // State is idempotent; a resent block must never be dropped because an equal one was seen before.
    ("insert_deduplicate", "0"),
    ("input_format_null_as_default", "0"),
    ("input_format_native_allow_types_conversion", "1"),
    ("throw_on_max_partitions_per_insert_block", "1"),
    ("max_insert_block_size", "1048576"),
    // A block goes in as it comes.
    ("min_insert_block_size_rows", "0"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_threads", "1"),
];

/// Writes batches.
#[derive(Debug, Clone)]
pub struct Writer {
    clickhouse: ClickHouse,
    dead_letters: DeadLetterTopic,
    metrics: Metrics,
    pipeline: String,
}

/// Dead letters that came up while a batch was written, by partition.
pub type LateDead = std::collections::BTreeMap<i32, u64>;

/// A pause that grows from attempt to attempt and is spread over its whole length.
#[derive(Debug, Default)]
struct Backoff {
    attempt: u32,
}

impl Backoff {
    async fn wait(&mut self) {
        let most = (Duration::from_millis(50) * 2_u32.saturating_pow(self.attempt)).min(LONGEST_PAUSE);
        self.attempt = (self.attempt + 1).min(16);
        tokio::time::sleep(most.mul_f64(rand::random::<f64>())).await;
    }
}

impl Writer {
    /// Writes through a client whose default database is the target.
    pub fn new(
        clickhouse: &ClickHouse,
        dead_letters: DeadLetterTopic,
        metrics: Metrics,
        pipeline: impl Into<String>,
    ) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(INSERT_DEADLINE),
            dead_letters,
            metrics,
            pipeline: pipeline.into(),
        }
    }

    /// Does everything that a batch asks for and returns when all of it is acknowledged.
    pub async fn write(&self, mut batch: Batch) -> (Batch, LateDead) {
        let table = batch.plan().layout.target.clone();
        if batch.deferred() > 0 {
            self.complete_deferred(&table, &mut batch).await;
        }
        if let Some(version) = batch.fence() {
            self.raise_fence(&table, version).await;
        }
        if batch.rows() > 0 {
            self.insert(&table, &mut batch).await;
        }
        let mut late = LateDead::new();
        for letter in std::mem::take(&mut batch.dead) {
            let mut backoff = Backoff::default();
            while let Err(error) = self.dead_letters.write(&letter).await {
                self.retried(&table, "dead_letter");
                tracing::warn!(table, %error, "a dead letter cannot be written yet");
                backoff.wait().await;
            }
            self.metrics.dead_letters.get_or_create(&TableLabel { table: table.clone() }).inc();
            *late.entry(letter.partition).or_default() += 1;
        }
        (batch, late)
    }

    async fn raise_fence(&self, table: &str, version: Version) {
        let sql = format!(
            "INSERT INTO {} (table, version, reason, raised_at) VALUES ({}, {version}, 'truncate', now64(3))",
            quote::ident(FENCES_TABLE),
            quote::literal(table),
        );
        let mut backoff = Backoff::default();
        while let Err(error) = self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await {
            self.failed(table, &error, "a fence cannot be raised yet");
            backoff.wait().await;
        }
        tracing::info!(table, %version, "raised the fence of a truncated table");
    }

    /// Inserts all rows, in smaller pieces where the server has no memory for the whole.
    async fn insert(&self, table: &str, batch: &mut Batch) {
        let label = TableLabel { table: table.to_owned() };
        let comment = format!("tidemark {} {table}", self.pipeline);
        let mut settings = INSERT_SETTINGS.to_vec();
        settings.push(("log_comment", &comment));
        let mut absent = BTreeSet::new();
        let mut pieces: Vec<Range<usize>> = std::iter::once(0..batch.rows()).collect();
        let mut backoff = Backoff::default();
        while let Some(rows) = pieces.pop() {
            let insert = batch.plan().insert_without(&absent);
            let (frames, raw) = encode(batch, &rows, &absent);
            let frames = Bytes::from(frames);
            loop {
                let begin = Instant::now();
                let Err(error) = self.clickhouse.insert_native(&insert, frames.clone(), &settings).await
                else {
                    let ms = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX);
                    self.metrics.insert_time.observe_ms(ms);
                    self.metrics.rows.get_or_create(&label).inc_by(rows.len() as u64);
                    self.metrics.bytes.get_or_create(&label).inc_by(raw);
                    backoff = Backoff::default();
                    break;
                };
                self.failed(table, &error, "rows cannot be inserted yet");
                backoff.wait().await;
                if error.class == ErrorClass::Resource && rows.len() > SMALLEST_SPLIT {
                    let middle = rows.start + rows.len() / 2;
                    pieces.push(middle..rows.end);
                    pieces.push(rows.start..middle);
                    break;
                }
                if error.class == ErrorClass::Schema
                    && let Ok(gone) = self.absent_columns(table, batch.plan()).await
                    && gone != absent
                {
                    tracing::warn!(table, columns = ?gone, "leaving out columns that the table has no more");
                    absent = gone;
                    pieces.push(rows.clone());
                    break;
                }
            }
        }
    }

    /// Columns of the layout that the table does not have; the operator may have dropped them meanwhile.
    async fn absent_columns(&self, table: &str, plan: &TablePlan) -> Result<BTreeSet<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Row {
            name: String,
        }
        let sql = format!(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {}",
            quote::literal(table)
        );
        let there: BTreeSet<String> =
            self.clickhouse.query::<Row>(&sql).await?.into_iter().map(|row| row.name).collect();
        let gone = |column: &&tidemark_crds::layout::ColumnLayout| {
            // A table that is not there at all is waited for; a key is never left out.
            !there.is_empty() && !there.contains(&column.target) && column.key.is_none()
        };
        Ok(plan.layout.columns.iter().filter(gone).map(|column| column.target.clone()).collect())
    }

    /// Finds the values that updates lack: in earlier rows of their key, or in the table.
    async fn complete_deferred(&self, table: &str, batch: &mut Batch) {
        let deferred = batch.take_deferred();
        let stored = self.read_stored(table, batch.plan(), &deferred).await;
        // Values of the newest row of each key, as far as it is known here.
        let mut newest: HashMap<&[u8], Vec<Vec<u8>>> = HashMap::new();
        for row in &deferred {
            let mut values = row.values.clone();
            let base = newest.get(row.key.as_slice()).or_else(|| match stored.get(&row.key) {
                Some(Stored::Live { version, values }) if *version < row.version => Some(values),
                _ => None,
            });
            let superseded = matches!(stored.get(&row.key), Some(
                Stored::Live { version, .. } | Stored::Deleted { version }) if *version >= row.version);
            if superseded {
                continue;
            }
            let Some(base) = base else {
                let mut letter = batch.deferred_records[row.record].clone();
                NO_EARLIER_ROW.clone_into(&mut letter.error);
                batch.dead.push(letter);
                continue;
            };
            for place in &row.unavailable {
                values[*place].clone_from(&base[*place]);
            }
            if let Err(error) = batch.append(row, &values) {
                let mut letter = batch.deferred_records[row.record].clone();
                letter.error = error.to_string();
                batch.dead.push(letter);
                continue;
            }
            newest.insert(&row.key, values);
        }
    }

    async fn read_stored(
        &self,
        table: &str,
        plan: &TablePlan,
        deferred: &[Deferred],
    ) -> HashMap<Vec<u8>, Stored> {
        let keys: BTreeSet<&[u8]> = deferred.iter().map(|row| row.key.as_slice()).collect();
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        let mut stored = HashMap::new();
        for keys in keys.chunks(KEYS_A_READ) {
            let Ok(sql) = point_read(plan, keys) else { continue };
            let mut backoff = Backoff::default();
            loop {
                match self.clickhouse.query_bytes(&sql, "RowBinary").await.map(|bytes| rows_of(plan, &bytes))
                {
                    Ok(Ok(rows)) => {
                        stored.extend(rows);
                        break;
                    }
                    Ok(Err(Corrupt)) => {
                        tracing::error!(table, "a point read answered in another form than asked for");
                        backoff.wait().await;
                    }
                    Err(error) => {
                        self.failed(table, &error, "missing values cannot be read yet");
                        backoff.wait().await;
                    }
                }
            }
        }
        stored
    }

    fn failed(&self, table: &str, error: &Error, message: &'static str) {
        self.retried(table, error.class.as_str());
        tracing::warn!(table, class = error.class.as_str(), code = error.code, %error, message);
    }

    fn retried(&self, table: &str, cause: &'static str) {
        self.metrics.retries.get_or_create(&CauseLabel { table: table.to_owned(), cause }).inc();
    }
}

/// The newest row of a key in the table.
#[derive(Debug)]
enum Stored {
    Live { version: Version, values: Vec<Vec<u8>> },
    Deleted { version: Version },
}

/// The statement that reads the newest row of each key; it names keys by their bytes, whatever their type.
fn point_read(plan: &TablePlan, keys: &[&[u8]]) -> Result<String, Corrupt> {
    let layout = &plan.layout;
    let columns = layout.columns.iter().map(|column| column.target.as_str());
    let columns = quote::ident_list(columns.chain([VERSION_COLUMN, DELETED_COLUMN]));
    let key = quote::ident_list(plan.key.iter().map(|place| layout.columns[*place].target.as_str()));
    let tuples: Result<Vec<String>, Corrupt> = keys.iter().map(|key| key_literal(plan, key)).collect();
    Ok(format!(
        "SELECT {columns} FROM {} WHERE ({key}) IN ({}) ORDER BY {} DESC LIMIT 1 BY {key}",
        quote::ident(&layout.target),
        tuples?.join(", "),
        quote::ident(VERSION_COLUMN),
    ))
}

/// A tuple of key values, each from its bytes in RowBinary.
fn key_literal(plan: &TablePlan, key: &[u8]) -> Result<String, Corrupt> {
    use std::fmt::Write as _;
    let mut rest = key;
    let mut parts = Vec::new();
    for place in &plan.key {
        let ch_type = &plan.layout.columns[*place].r#type;
        let mut column = Column::new(ch_type).map_err(|_| Corrupt)?;
        let before = rest;
        column.push_row_binary(&mut rest)?;
        let mut bytes = &before[..before.len() - rest.len()];
        let type_name = column.wire_type().to_owned();
        let text = matches!(type_name.as_str(), "String" | "LowCardinality(String)");
        if text {
            crate::native::take_varint(&mut bytes).ok_or(Corrupt)?;
        }
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        });
        parts.push(if text {
            format!("unhex('{hex}')")
        } else {
            format!("reinterpret(unhex('{hex}'), {})", quote::literal(&type_name))
        });
    }
    Ok(if parts.len() == 1 { parts.concat() } else { format!("({})", parts.join(", ")) })
}

/// Reads the answer of a point read.
fn rows_of(plan: &TablePlan, mut answer: &[u8]) -> Result<HashMap<Vec<u8>, Stored>, Corrupt> {
    let mut stored = HashMap::new();
    while !answer.is_empty() {
        let mut values = Vec::with_capacity(plan.layout.columns.len());
        for column in &plan.layout.columns {
            let mut reader = Column::new(&column.r#type).map_err(|_| Corrupt)?;
            let before = answer;
            reader.push_row_binary(&mut answer)?;
            values.push(before[..before.len() - answer.len()].to_vec());
        }
        let (version, rest) = answer.split_first_chunk::<16>().ok_or(Corrupt)?;
        let (deleted, rest) = rest.split_first().ok_or(Corrupt)?;
        answer = rest;
        let version = Version(u128::from_le_bytes(*version));
        let key = plan.key.iter().flat_map(|place| values[*place].iter().copied()).collect();
        let row = if *deleted == 0 { Stored::Live { version, values } } else { Stored::Deleted { version } };
        stored.insert(key, row);
    }
    Ok(stored)
}

fn encode(batch: &Batch, rows: &Range<usize>, absent: &BTreeSet<String>) -> (Vec<u8>, u64) {
    // Compression is work for a processor, not for a reactor; a block is small enough to stay here only when
    // it takes less than a scheduler's time slice.
    if rows.len() > 2000
        && tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
    {
        tokio::task::block_in_place(|| batch.encode(rows, absent))
    } else {
        batch.encode(rows, absent)
    }
}
