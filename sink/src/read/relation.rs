//! A table in PostgreSQL's catalogue: whether it is the one that a layout describes, and its parts. I/O, read only.

use std::collections::BTreeMap;

use tidemark_crds::layout::{SourceTable, TableLayout};
use tidemark_crds::pg_quote;
use tidemark_runtime::postgres::{Error, Session};

use super::ReadError;
use super::ranges::Part;

/// What the catalogue says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Whether its rows are in partitions.
    pub partitioned: bool,
    /// Names of the live columns by `attnum`.
    pub columns: BTreeMap<i16, String>,
}

/// Begins a transaction in which the table keeps the columns that it has, and compares them with a layout's.
///
/// Rows are read by the names of columns, so a rename between the layout and the read would swap values without a
/// trace: the lock that every reader takes anyway is taken first, and holds until the transaction ends.
pub(super) async fn begin(session: &Session, layout: &TableLayout) -> Result<Relation, ReadError> {
    let table = &layout.source;
    let wrong = |error| source_error(table, "locking the table", &error);
    let name = pg_quote::qualified(&table.schema, &table.name);
    // Without rows to look for, and without a right on the table as a whole: one on a column will do.
    let lock = format!("BEGIN READ ONLY; SELECT 1 FROM ONLY {name} LIMIT 0");
    session.batch_execute(&lock).await.map_err(wrong)?;
    let found =
        find(session, table).await.map_err(|error| source_error(table, "the table's columns", &error))?;
    agree(layout, found).map_err(|reason| ReadError::Layout { table: table.to_string(), reason })
}

/// Looks a table up by its name.
async fn find(session: &Session, table: &SourceTable) -> Result<Option<Relation>, tokio_postgres::Error> {
    const TABLE: &str = "
SELECT c.oid, c.relkind = 'p',
       coalesce(array_agg(a.attnum ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}'),
       coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')
GROUP BY c.oid, c.relkind";
    let Some(row) = session.query_opt(TABLE, &[&table.schema, &table.name]).await? else {
        return Ok(None);
    };
    let (numbers, names): (Vec<i16>, Vec<String>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(Relation {
        oid: row.try_get(0)?,
        partitioned: row.try_get(1)?,
        columns: numbers.into_iter().zip(names).collect(),
    }))
}

/// Says what a table has otherwise than its layout.
pub fn agree(layout: &TableLayout, found: Option<Relation>) -> Result<Relation, String> {
    let Some(found) = found else {
        return Err("the table does not exist".to_owned());
    };
    if found.oid != layout.oid {
        return Err("the table was dropped and created again".to_owned());
    }
    for column in &layout.columns {
        match found.columns.get(&column.attnum) {
            None => return Err(format!("column {} was dropped", column.source)),
            Some(name) if *name != column.source => {
                return Err(format!("column {} was renamed to {name}", column.source));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// Compares a table behind a barrier with its layout: a column that the layout does not know may have got values before
/// the barrier, and their events are older than the rows that are read without them.
///
/// Columns that come later do no harm: what they get is in events behind the barrier.
pub fn knows_all(layout: &TableLayout, found: &Relation) -> Result<(), String> {
    let known = |attnum: i16| {
        layout.columns.iter().any(|column| column.attnum == attnum)
            || layout.left_out.iter().any(|column| column.attnum == attnum)
    };
    match found.columns.iter().find(|(attnum, _)| !known(**attnum)) {
        Some((_, name)) => Err(format!("column {name} was added")),
        None => Ok(()),
    }
}

/// Begins a transaction behind a barrier, as [`begin`] does, in which the table has no column that its layout lacks.
pub(super) async fn begin_behind(session: &Session, layout: &TableLayout) -> Result<Relation, ReadError> {
    let relation = begin(session, layout).await?;
    knows_all(layout, &relation)
        .map_err(|reason| ReadError::Layout { table: layout.source.to_string(), reason })?;
    Ok(relation)
}

/// Returns the relations that have the table's rows, and the bytes of a page.
pub(super) async fn parts(
    session: &Session,
    table: &SourceTable,
    relation: &Relation,
) -> Result<Vec<Part>, ReadError> {
    const PARTS: &str = "
SELECT n.nspname::text, c.relname::text, c.relkind IN ('r', 'm') AND coalesce(am.amname = 'heap', false),
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
       greatest(c.reltuples, 0)::bigint,
       coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint,
       coalesce(pg_table_size(c.oid), 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
WHERE CASE WHEN $2 THEN c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass) WHERE isleaf)
           ELSE c.oid = $1 END
ORDER BY c.oid";
    let wrong = |error| source_error(table, "the table's size", &error);
    let rows = session.query(PARTS, &[&relation.oid, &relation.partitioned]).await.map_err(wrong)?;
    let part = |row: &tokio_postgres::Row| {
        let count = |at: usize| row.try_get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Part {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            heap: row.try_get(2)?,
            readable: row.try_get(3)?,
            rows: count(4)?,
            pages: count(5)?,
            bytes: count(6)?,
        })
    };
    rows.iter().map(part).collect::<Result<_, _>>().map_err(wrong)
}

/// Returns the files in which the table's rows lie, by the relations that have them.
pub(super) async fn files(
    session: &Session,
    table: &SourceTable,
    relation: &Relation,
) -> Result<BTreeMap<u32, u32>, ReadError> {
    const FILES: &str = "
SELECT c.oid, coalesce(pg_relation_filenode(c.oid), 0::oid)
FROM pg_class c
WHERE CASE WHEN $2 THEN c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass) WHERE isleaf)
           ELSE c.oid = $1 END";
    let wrong = |error| source_error(table, "the table's files", &error);
    let rows = session.query(FILES, &[&relation.oid, &relation.partitioned]).await.map_err(wrong)?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, _>>().map_err(wrong)
}

/// Whether rows were moved to other pages without an event, as VACUUM FULL and CLUSTER do it: a range that was read
/// before and one that is read now may have missed some between them.
pub fn are_moved(before: &BTreeMap<u32, u32>, now: &BTreeMap<u32, u32>) -> bool {
    before.iter().any(|(oid, file)| now.get(oid).is_some_and(|now| now != file))
}

/// Names the table and what was tried.
pub(super) fn source_error(table: &SourceTable, what: &str, error: &tokio_postgres::Error) -> ReadError {
    ReadError::Source { table: table.to_string(), error: Error::of(what, error) }
}

#[cfg(test)]
mod tests {
    use tidemark_crds::layout::LeftOut;

    use super::super::table_tests::layout;
    use super::*;

    fn found() -> Relation {
        let columns = [(1, "id"), (2, "note"), (3, "price")];
        Relation {
            oid: 16_400,
            partitioned: false,
            columns: columns.map(|(number, name)| (number, name.to_owned())).into(),
        }
    }

    #[test]
    fn a_column_is_its_number_so_a_swap_of_two_names_is_seen() {
        let layout = layout();
        assert!(agree(&layout, Some(found())).is_ok());
        let mut swapped = found();
        swapped.columns.insert(2, "price".into());
        swapped.columns.insert(3, "note".into());
        assert_eq!(agree(&layout, Some(swapped)).unwrap_err(), "column note was renamed to price");
        let mut dropped = found();
        dropped.columns.remove(&3);
        assert_eq!(agree(&layout, Some(dropped)).unwrap_err(), "column price was dropped");
        let mut wider = found();
        wider.columns.insert(4, "added".into());
        assert!(agree(&layout, Some(wider.clone())).is_ok(), "it may have come behind the barrier");
        assert_eq!(knows_all(&layout, &wider).unwrap_err(), "column added was added");
        let left_out = LeftOut {
            source: "added".into(),
            attnum: 4,
            why: tidemark_crds::layout::LeftOutReason::Excluded,
        };
        assert!(knows_all(&TableLayout { left_out: vec![left_out], ..layout }, &wider).is_ok());
    }

    #[test]
    fn rows_that_were_written_anew_are_in_another_file() {
        let before: BTreeMap<u32, u32> = [(1, 10), (2, 20)].into();
        assert!(!are_moved(&before, &before) && are_moved(&before, &[(1, 10), (2, 21)].into()));
        // A partition that came has rows from behind the barrier, and one that went is read no more.
        assert!(!are_moved(&before, &[(1, 10), (3, 30)].into()));
    }

    #[test]
    fn another_table_of_the_same_name_is_not_the_layouts() {
        let other = Relation { oid: 16_401, ..found() };
        assert_eq!(agree(&layout(), Some(other)).unwrap_err(), "the table was dropped and created again");
        assert_eq!(agree(&layout(), None).unwrap_err(), "the table does not exist");
    }
}
