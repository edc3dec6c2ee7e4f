//! Rows and keys as the source has them now, without a barrier: what a comparison begins with. I/O, read only.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use tidemark_crds::layout::SourceTable;
use tidemark_runtime::postgres::Session;

use super::ReadError;
use super::barrier::{self, Barrier, Mark};
use super::copy::{RowBuilder, expressions};
use super::copy_text::Lines;
use super::keys::{MOST_DEAD, Rows, fetch};
use super::ranges::{Part, Span, pieces};
use super::relation::{self, source_error};
use super::source::Source;
use super::table::new_batch;
use crate::batch::Batch;
use crate::plan::TablePlan;

/// Rows of a page where PostgreSQL does not say: few, so that a range is rather too large than endless.
const ROWS_OF_A_PAGE: u64 = 80;

/// A relation that has rows of a table, and how much of it is read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// What stands behind FROM; the same for the same relation.
    pub(crate) relation: String,
    /// Pages that it has.
    pub(crate) pages: u64,
    /// Pages of one range.
    pub(crate) step: u64,
    /// Rows that PostgreSQL estimates.
    pub(crate) rows: u64,
}

impl Page {
    /// One whose ranges have some `rows` rows each; `None` where rows lie on no pages that could be named.
    fn new((relation, part): (String, Part), rows: u64) -> Option<Self> {
        let of_a_page = part.rows.checked_div(part.pages).filter(|rows| *rows > 0).unwrap_or(ROWS_OF_A_PAGE);
        part.heap.then(|| Self {
            relation,
            pages: part.pages.min(u64::from(u32::MAX)),
            step: (rows / of_a_page).max(1),
            rows: part.rows,
        })
    }
}

/// Looks at a source by a connection of its own, which is opened when it is needed and lost with an error.
#[derive(Debug)]
pub(crate) struct Probe {
    source: Source,
    idle: Option<Session>,
    /// What tells the marks of this program from those of any other, and how many there were.
    marks: (String, u64),
}

impl Probe {
    /// Looks at this source, in the name of a process that no other one has.
    pub(crate) fn new(source: Source, process: String) -> Self {
        Self { source, idle: None, marks: (process, 0) }
    }

    async fn session(&mut self, table: &SourceTable) -> Result<Session, ReadError> {
        match self.idle.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => self.source.for_probes(table).await,
        }
    }

    /// Returns the rows of keys that the source has now, and the keys that it has not. Those whose rows have no place in
    /// ClickHouse are in neither.
    pub(crate) async fn rows(
        &mut self,
        plan: &Arc<TablePlan>,
        keys: &[Vec<u8>],
    ) -> Result<(Batch, Vec<Vec<u8>>), ReadError> {
        let session = self.session(&plan.layout.source).await?;
        let relation = relation::begin(&session, &plan.layout).await?;
        let Rows { batch, wanted, dead } = fetch(&session, plan, &relation, from_nowhere(plan), keys).await?;
        self.idle = Some(session);
        let found: HashSet<Vec<u8>> = (0..batch.rows()).map(|row| batch.key_of(&plan.key, row)).collect();
        let absent = wanted.into_iter().filter(|key| !found.contains(*key) && !dead.contains(*key));
        let absent = absent.map(<[u8]>::to_vec).collect();
        Ok((batch, absent))
    }

    /// Returns the relations that have the table's rows, for ranges of some `rows` rows each.
    pub(crate) async fn pages(&mut self, plan: &TablePlan, rows: u64) -> Result<Vec<Page>, ReadError> {
        let table = &plan.layout.source;
        let session = self.session(table).await?;
        let relation = relation::begin(&session, &plan.layout).await?;
        let parts = relation::parts(&session, table, &relation).await?;
        end(&session, table).await?;
        self.idle = Some(session);
        Ok(pieces(table, relation.partitioned, &parts)
            .into_iter()
            .filter_map(|piece| Page::new(piece, rows))
            .collect())
    }

    /// Returns the keys of the rows on pages from `begin` up to `end`, exclusive; `plan` is of the key's columns alone.
    pub(crate) async fn keys(
        &mut self,
        plan: &Arc<TablePlan>,
        relation: &str,
        (begin, end_page): (u64, u64),
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let table = &plan.layout.source;
        let wrong = |error| source_error(table, "reading keys", &error);
        let session = self.session(table).await?;
        relation::begin(&session, &plan.layout).await?;
        let span = Span::of_pages(relation, begin, end_page);
        let statement = format!(
            "COPY (SELECT {} FROM {}{}) TO STDOUT",
            expressions(plan),
            span.relation,
            span.condition()
        );
        let mut builder = from_nowhere(plan);
        let (mut batch, mut lines) = (new_batch(plan)?, Lines::default());
        {
            let mut stream = pin!(session.copy_out(&statement).await.map_err(wrong)?);
            while let Some(chunk) = stream.next().await {
                lines.feed(&chunk.map_err(wrong)?, |line| builder.append(&mut batch, line).map(|_| ()))?;
            }
        }
        end(&session, table).await?;
        self.idle = Some(session);
        Ok((0..batch.rows()).map(|row| batch.key_of(&plan.key, row)).collect())
    }

    /// Sets a mark in the log behind everything that could be seen before the call.
    pub(crate) async fn mark(&mut self, table: &SourceTable) -> Result<Mark, ReadError> {
        let session = self.session(table).await?;
        self.marks.1 += 1;
        let id = format!("{} {}", self.marks.0, self.marks.1);
        let mark = barrier::mark(&session, self.source.pipeline(), &table.to_string(), &id)
            .await
            .map_err(|error| ReadError::Source { table: table.to_string(), error })?;
        self.idle = Some(session);
        Ok(mark)
    }
}

/// Rows that are compared and never written have no version.
fn from_nowhere(plan: &Arc<TablePlan>) -> RowBuilder {
    RowBuilder::new(Arc::clone(plan), 0, Barrier { lsn: 0, at: 0 }, Arc::from(""), MOST_DEAD)
}

async fn end(session: &Session, table: &SourceTable) -> Result<(), ReadError> {
    session.batch_execute("COMMIT").await.map_err(|error| source_error(table, "ending a transaction", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_about_as_many_rows_as_asked_for_whatever_postgresql_knows() {
        let page = |rows, pages, heap| {
            let part = Part {
                schema: "s".into(),
                name: "t".into(),
                heap,
                readable: true,
                rows,
                pages,
                bytes: pages * 8192,
            };
            Page::new(("ONLY s.t".into(), part), 5000).map(|page| (page.pages, page.step))
        };
        assert_eq!(page(1_000_000, 10_000, true), Some((10_000, 50)));
        assert_eq!(page(0, 10_000, true), Some((10_000, 62)), "never analyzed");
        assert_eq!(page(10, 10_000, true), Some((10_000, 62)), "less than a row a page is no measure");
        assert_eq!(page(0, 0, true), Some((0, 62)));
        assert_eq!(page(1_000_000, 10_000, false), None);
    }
}
