//! Rows by their key, as they are at the source behind a barrier of their own. I/O.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote;
use tidemark_crds::version::Version;
use tidemark_runtime::postgres::{Error, ErrorClass, Session};
use tokio::sync::Mutex;

use super::barrier::Barrier;
use super::copy::{RowBuilder, expressions};
use super::copy_text::Lines;
use super::key_text::conditions;
use super::relation::{self, Relation, source_error};
use super::source::Source;
use super::table::new_batch;
use super::{ReadError, ReadMetrics, barrier};
use crate::batch::{Batch, Place};
use crate::metrics::TableLabel;
use crate::plan::TablePlan;

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_mins(3);
/// Share of rows for the dead letters that is borne, per mille: one bad row of a few asked for says nothing about the table.
pub(super) const MOST_DEAD: u32 = 1000;

/// Reads rows by key. Clones share one connection, which is opened when it is first needed.
#[derive(Debug, Clone)]
pub struct KeyReader {
    source: Source,
    topic_prefix: Arc<str>,
    metrics: ReadMetrics,
    idle: Arc<Mutex<Option<Session>>>,
}

impl KeyReader {
    /// Reads from a source; `topic_prefix` is Debezium's, for the topic that dead letters name.
    pub fn new(source: Source, topic_prefix: &str, metrics: ReadMetrics) -> Self {
        Self { source, topic_prefix: Arc::from(topic_prefix), metrics, idle: Arc::default() }
    }

    /// Returns a batch with the row of each key, or its tombstone where the source has none, all of version
    /// `(epoch, stream, W, 0)` of a barrier that is set by the call.
    ///
    /// Keys are in RowBinary, values in key order. Calls wait for each other; each holds all of its rows in memory, so
    /// the caller bounds the number of keys. A row that the policy of a column sends to the dead letters is among
    /// the batch's `dead`, and has neither a row nor a tombstone.
    pub async fn rows(
        &self,
        plan: &Arc<TablePlan>,
        epoch: u16,
        keys: &[Vec<u8>],
    ) -> Result<Batch, ReadError> {
        let table = &plan.layout.source;
        let reading = async {
            let mut idle = self.idle.lock().await;
            if let Some(session) = idle.take().filter(|session| !session.is_closed()) {
                match self.read(&session, plan, epoch, keys).await {
                    Ok(batch) => {
                        *idle = Some(session);
                        return Ok(batch);
                    }
                    // It may have been closed while it lay idle.
                    Err(error) if error.is_transient() => tracing::debug!(%error, "connecting again"),
                    Err(error) => return Err(error),
                }
            }
            let session = self.source.for_keys(table).await?;
            let batch = self.read(&session, plan, epoch, keys).await?;
            *idle = Some(session);
            Ok(batch)
        };
        tokio::time::timeout(DEADLINE, Box::pin(reading)).await.unwrap_or_else(|_| {
            let text = format!("reading rows by key: no end within {} s", DEADLINE.as_secs());
            let error = Error::new(ErrorClass::Unreachable, text);
            Err(ReadError::Source { table: table.to_string(), error })
        })
    }

    async fn read(
        &self,
        session: &Session,
        plan: &Arc<TablePlan>,
        epoch: u16,
        keys: &[Vec<u8>],
    ) -> Result<Batch, ReadError> {
        let table = &plan.layout.source;
        let barrier = barrier::set(session, self.source.pipeline(), &table.to_string())
            .await
            .map_err(|error| ReadError::Source { table: table.to_string(), error })?;
        let relation = relation::begin_behind(session, &plan.layout).await?;
        let topic = format!("{}.{table}", self.topic_prefix).into();
        let builder = RowBuilder::new(Arc::clone(plan), epoch, barrier, topic, MOST_DEAD);
        let Rows { mut batch, wanted, dead } = fetch(session, plan, &relation, builder, keys).await?;
        let found = batch.rows();
        add_missing(&mut batch, &wanted, &dead, (epoch, barrier)).ok_or_else(|| corrupt(table))?;
        let label = TableLabel { table: plan.layout.target.clone() };
        self.metrics.keys.get_or_create(&label).inc_by(keys.len() as u64);
        tracing::debug!(%table, barrier = barrier.lsn, keys = keys.len(), found, "read rows by key");
        Ok(batch)
    }
}

/// Rows of keys, and the keys that were asked for.
pub(super) struct Rows<'k> {
    /// The rows that the source has.
    pub(super) batch: Batch,
    /// Every key once, sorted.
    pub(super) wanted: Vec<&'k [u8]>,
    /// Keys whose rows a column's policy sends to the dead letters.
    pub(super) dead: BTreeSet<Vec<u8>>,
}

/// Reads the rows of keys in the transaction that looked at the relation, and ends it.
pub(super) async fn fetch<'k>(
    session: &Session,
    plan: &Arc<TablePlan>,
    relation: &Relation,
    mut builder: RowBuilder,
    keys: &'k [Vec<u8>],
) -> Result<Rows<'k>, ReadError> {
    let table = &plan.layout.source;
    let wrong = |error| source_error(table, "reading rows by key", &error);
    let wanted: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut wanted: Vec<&[u8]> = wanted.into_iter().collect();
    // An order of its own, so that equal calls ask alike.
    wanted.sort_unstable();
    let only = if relation.partitioned { "" } else { "ONLY " };
    let from = format!("{only}{}", pg_quote::qualified(&table.schema, &table.name));
    let columns = expressions(plan);
    let (mut batch, mut dead) = (new_batch(plan)?, BTreeSet::new());
    for condition in conditions(plan, &wanted).map_err(|_| corrupt(table))? {
        let statement = format!("COPY (SELECT {columns} FROM {from} WHERE {condition}) TO STDOUT");
        let mut stream = pin!(session.copy_out(&statement).await.map_err(wrong)?);
        let mut lines = Lines::default();
        while let Some(chunk) = stream.next().await {
            lines.feed(&chunk.map_err(wrong)?, |line| {
                if !builder.append(&mut batch, line)? {
                    dead.insert(builder.key_of(line).ok_or_else(|| corrupt(table))?);
                }
                Ok(())
            })?;
        }
    }
    session.batch_execute("COMMIT").await.map_err(wrong)?;
    Ok(Rows { batch, wanted, dead })
}

fn corrupt(table: &SourceTable) -> ReadError {
    ReadError::Refused {
        table: table.to_string(),
        reason: "a key is not in the form of the layout's key columns".to_owned(),
    }
}

/// Appends a tombstone for each wanted key that has neither a row nor a dead letter; `None` where one is no key of the
/// batch's plan.
pub fn add_missing(
    batch: &mut Batch,
    wanted: &[&[u8]],
    dead: &BTreeSet<Vec<u8>>,
    (epoch, barrier): (u16, Barrier),
) -> Option<()> {
    let plan = Arc::clone(batch.plan());
    let found: HashSet<Vec<u8>> = (0..batch.rows()).map(|row| batch.key_of(&plan.key, row)).collect();
    for key in wanted.iter().filter(|key| !found.contains(**key) && !dead.contains(**key)) {
        tombstone(batch, &plan, key)?;
        let version = Version::of_read(epoch, barrier.lsn);
        batch.end_row(version, true, barrier.at, Place::source(version.last_commit_lsn()));
    }
    Some(())
}

/// Appends the key's values and defaults for all others; `None` if it is no key of the plan.
fn tombstone(batch: &mut Batch, plan: &TablePlan, key: &[u8]) -> Option<()> {
    let mut rest = key;
    for place in &plan.key {
        if batch.columns[*place].push_row_binary(&mut rest).is_err() {
            batch.roll_back_row();
            return None;
        }
    }
    for (place, column) in batch.columns.iter_mut().enumerate() {
        if !plan.key.contains(&place) {
            column.push_default();
        }
    }
    Some(())
}
