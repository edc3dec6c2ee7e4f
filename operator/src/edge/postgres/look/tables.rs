//! The tables of the spec: what they are, their indexes, columns and partitions. I/O, read only.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::{NullAs, SourceTable, Storage};
use tidemark_crds::pg_quote;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::queries;
use crate::core::desired::source;
use crate::core::facts::{
    Estimate, Failure, IndexFacts, Lineage, PartitionFacts, SourceColumn, SourceTableFacts,
};
use crate::edge::postgres::client::{PostgresSession, of_error};

type Answer<T> = Result<T, tokio_postgres::Error>;

/// Schema in which `TimescaleDB` keeps the chunks of its hypertables.
const CHUNKS: &str = "_timescaledb_internal";

/// What is known before the tables are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    /// Tables that another session may be altering.
    pub(super) locked: &'a BTreeSet<u32>,
    /// Whether stored generated columns are published.
    pub(super) generated: bool,
}

/// Reads the wanted tables within the session's transaction.
pub(super) async fn source_tables(
    session: &PostgresSession,
    tables: &[SourceTable],
    look: &Look<'_>,
) -> Result<BTreeMap<SourceTable, SourceTableFacts>, Failure> {
    let wrong = |error: tokio_postgres::Error| of_error("tables", &error);
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = session
        .query_typed(queries::TABLES, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)])
        .await
        .map_err(wrong)?;
    let mut by_oid = BTreeMap::new();
    for row in rows {
        let (source, mut facts) = source_table(&row).map_err(wrong)?;
        facts.altering = look.locked.contains(&facts.oid);
        by_oid.insert(facts.oid, (source, facts));
    }
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    for row in session.query_typed(queries::COLUMNS, &[(&oids, Type::OID_ARRAY)]).await.map_err(wrong)? {
        let oid: u32 = row.try_get("oid").map_err(wrong)?;
        let column = source_column(&row, look.generated).map_err(wrong)?;
        if let Some((_, facts)) = by_oid.get_mut(&oid) {
            facts.columns.push(column);
        }
    }
    for row in session.query_typed(queries::DEFINITIONS, &[(&oids, Type::OID_ARRAY)]).await.map_err(wrong)? {
        let oid: u32 = row.try_get("oid").map_err(wrong)?;
        if let Some((_, facts)) = by_oid.get_mut(&oid) {
            facts
                .definitions
                .insert(row.try_get("key").map_err(wrong)?, row.try_get("value").map_err(wrong)?);
        }
    }
    let roots: Vec<u32> =
        by_oid.iter().filter(|(_, (_, facts))| facts.kind == 'p').map(|(oid, _)| *oid).collect();
    if !roots.is_empty() {
        for row in
            session.query_typed(queries::PARTITIONS, &[(&roots, Type::OID_ARRAY)]).await.map_err(wrong)?
        {
            let root: u32 = row.try_get("root").map_err(wrong)?;
            if let Some((_, facts)) = by_oid.get_mut(&root) {
                add_partition(facts, &row, look.locked).map_err(wrong)?;
            }
        }
    }
    let mut indexes = indexes(session, &by_oid).await.map_err(wrong)?;
    for (_, facts) in by_oid.values_mut() {
        facts.indexes = indexes.remove(&facts.oid).unwrap_or_default();
        for leaf in &mut facts.partitions {
            leaf.indexes = indexes.remove(&leaf.oid).unwrap_or_default();
        }
    }
    Ok(by_oid.into_values().collect())
}

/// Indexes of the tables and their leaves, by the table's oid.
async fn indexes(
    session: &PostgresSession,
    tables: &BTreeMap<u32, (SourceTable, SourceTableFacts)>,
) -> Answer<BTreeMap<u32, Vec<IndexFacts>>> {
    let leaves = tables.values().flat_map(|(_, facts)| facts.partitions.iter().map(|leaf| leaf.oid));
    let oids: Vec<u32> = tables.keys().copied().chain(leaves).collect();
    let mut found: BTreeMap<u32, Vec<IndexFacts>> = BTreeMap::new();
    for row in session.query_typed(queries::INDEXES, &[(&oids, Type::OID_ARRAY)]).await? {
        found.entry(row.try_get("oid")?).or_default().push(IndexFacts {
            name: row.try_get("name")?,
            columns: row.try_get::<_, Option<Vec<String>>>("columns")?.unwrap_or_default(),
            primary: row.try_get("is_primary")?,
            identity: row.try_get("is_identity")?,
            immediate: row.try_get("immediate")?,
            valid: row.try_get("valid")?,
            not_null: row.try_get::<_, Option<bool>>("not_null")?.unwrap_or(false),
        });
    }
    Ok(found)
}

fn source_table(row: &Row) -> Answer<(SourceTable, SourceTableFacts)> {
    let source = SourceTable { schema: row.try_get("schema")?, name: row.try_get("name")? };
    let oid = row.try_get("oid")?;
    let file: u32 = row.try_get("file")?;
    let files = if file == 0 { BTreeMap::new() } else { [(oid, file)].into() };
    let kind = character(row, "kind")?.unwrap_or('r');
    let facts = SourceTableFacts {
        oid,
        kind,
        persistence: character(row, "persistence")?.unwrap_or('p'),
        replica_identity: character(row, "identity")?.unwrap_or('d'),
        lineage: lineage(row)?,
        row_security: row.try_get("row_security")?,
        access_method: row.try_get("access_method")?,
        storage: Storage { files, columns: row.try_get("columns_hash")?, ..Storage::default() },
        may_select: row.try_get("may_select")?,
        owned: row.try_get("owned")?,
        owner: row.try_get("owner")?,
        // A partitioned table has what its leaves have.
        estimate: if kind == 'p' { Some(Estimate::default()) } else { estimate(row)? },
        ..SourceTableFacts::default()
    };
    Ok((source, facts))
}

/// What the planner knows, which costs nothing; the size of the files would wait for the lock of an ALTER TABLE.
fn estimate(row: &Row) -> Answer<Option<Estimate>> {
    let (rows, bytes): (i64, i64) = (row.try_get("estimated_rows")?, row.try_get("estimated_bytes")?);
    // -1: never analysed.
    Ok(u64::try_from(rows).ok().zip(u64::try_from(bytes).ok()).map(|(rows, bytes)| Estimate { rows, bytes }))
}

fn lineage(row: &Row) -> Answer<Lineage> {
    let named = |schema: &str, name: &str| -> Answer<Option<SourceTable>> {
        let (schema, name): (Option<String>, Option<String>) = (row.try_get(schema)?, row.try_get(name)?);
        Ok(schema.zip(name).map(|(schema, name)| SourceTable { schema, name }))
    };
    if let Some(root) = named("root_schema", "root_name")? {
        return Ok(Lineage::Partition(root));
    }
    Ok(match named("child_schema", "child_name")? {
        Some(child) if child.schema == CHUNKS => Lineage::Hypertable,
        Some(child) => Lineage::Parent(child),
        None => Lineage::Alone,
    })
}

fn add_partition(facts: &mut SourceTableFacts, row: &Row, locked: &BTreeSet<u32>) -> Answer<()> {
    let oid: u32 = row.try_get("oid")?;
    facts.storage.files.insert(oid, row.try_get("file")?);
    facts.storage.links.insert(oid, row.try_get("links")?);
    if row.try_get("attached")? {
        facts.attached.insert(oid);
    }
    facts.altering |= locked.contains(&oid);
    facts.estimate = facts.estimate.zip(estimate(row)?).map(|(all, leaf)| all.plus(leaf));
    facts.partitions.push(PartitionFacts {
        name: SourceTable { schema: row.try_get("schema")?, name: row.try_get("name")? },
        oid,
        kind: character(row, "kind")?.unwrap_or('r'),
        persistence: character(row, "persistence")?.unwrap_or('p'),
        replica_identity: character(row, "identity")?.unwrap_or('d'),
        indexes: Vec::new(),
        access_method: row.try_get("access_method")?,
        row_security: row.try_get("row_security")?,
        may_select: row.try_get("may_select")?,
    });
    Ok(())
}

fn source_column(row: &Row, publishes_generated: bool) -> Answer<SourceColumn> {
    Ok(SourceColumn {
        name: row.try_get("name")?,
        attnum: row.try_get("attnum")?,
        type_name: row.try_get("type_name")?,
        type_kind: character(row, "type_kind")?.unwrap_or('b'),
        domains: row.try_get("domains")?,
        element: row.try_get("element")?,
        dimensions: row.try_get("dimensions")?,
        unpublished: match character(row, "generated")? {
            None => false,
            // A virtual one is nowhere in the log.
            Some(kind) => kind != 's' || !publishes_generated,
        },
        nullable: row.try_get("nullable")?,
        null_as: match row.try_get("null_as")? {
            "Default" => NullAs::Default,
            "Empty" => NullAs::Empty,
            _ => NullAs::Null,
        },
        missing_value: row.try_get("missing")?,
        namesake: row.try_get("namesake")?,
        deterministic: row.try_get("deterministic")?,
    })
}

/// The first character of a text; absent for an empty one.
fn character(row: &Row, column: &str) -> Answer<Option<char>> {
    Ok(row.try_get::<_, String>(column)?.chars().next())
}

/// Finds the least and greatest value of the key of wanted tables where it is one integer column: two probes of its index.
pub(super) async fn key_ranges(
    session: &PostgresSession,
    wanted: &BTreeSet<SourceTable>,
    tables: &mut BTreeMap<SourceTable, SourceTableFacts>,
) {
    for (source, facts) in tables.iter_mut().filter(|(source, _)| wanted.contains(*source)) {
        facts.key_range = key_range(session, source, facts).await;
    }
}

async fn key_range(
    session: &PostgresSession,
    source: &SourceTable,
    facts: &SourceTableFacts,
) -> Option<(i64, i64)> {
    let [key] = source::key(facts)?.columns.as_slice() else {
        return None;
    };
    let column = facts.columns.iter().find(|column| column.name == *key)?;
    if !facts.may_select || !matches!(column.type_name.as_str(), "smallint" | "integer" | "bigint") {
        return None;
    }
    let (key, table) = (pg_quote::ident(key), pg_quote::qualified(&source.schema, &source.name));
    let sql = format!("SELECT min({key})::bigint, max({key})::bigint FROM {table}");
    let row = session.query_typed_one(&sql, &[]).await.ok()?;
    Some((row.try_get::<_, Option<i64>>(0).ok()??, row.try_get::<_, Option<i64>>(1).ok()??))
}
