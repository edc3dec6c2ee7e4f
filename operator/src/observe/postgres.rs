//! PostgreSQL's catalogues as the role of the spec sees them. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote;
use tokio_postgres::Row;

use crate::clients::failure;
use crate::clients::postgres::{PostgresSession, PostgresTarget, of_error};
use crate::desired::part::is_ours;
use crate::facts::{
    Failure, FailureClass, Observation, PostgresFacts, PublicationFacts, SlotFacts, SourceColumn,
    SourceTableFacts,
};

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);

const SERVER: &str = "
SELECT current_setting('server_version_num')::int AS version,
       current_setting('wal_level') AS wal_level,
       current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots) AS free_slots,
       r.rolreplication OR r.rolsuper AS may_replicate,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       current_user::text AS role,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint END AS lsn,
       (extract(epoch FROM now()) * 1000)::bigint AS now_ms
FROM pg_roles r WHERE r.rolname = current_user";

/// One row a wanted table that exists. The owner's members may publish it as the owner may.
const TABLES: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid AS oid, c.relreplident::text AS identity,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_select,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.ord)
                 FROM pg_index i
                 CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                 WHERE i.indrelid = c.oid AND i.indisprimary), '{}') AS key
FROM unnest($1::text[], $2::text[]) AS w(schema, name)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')";

/// One row a live column. Domains are unfolded to their base type; an array's kind is that of its elements,
/// so that an array of enums is known as one.
const COLUMNS: &str = "
WITH RECURSIVE wanted AS (
  SELECT a.attrelid, a.attnum, a.attname::text AS name, a.attnotnull, a.attcollation, a.attmissingval,
         a.atttypid AS own, a.atttypid AS typ, a.atttypmod AS typmod, false AS not_null
  FROM pg_attribute a
  WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT w.attrelid, w.attnum, w.name, w.attnotnull, w.attcollation, w.attmissingval,
         w.own, t.typbasetype, t.typtypmod, w.not_null OR t.typnotnull
  FROM wanted w JOIN pg_type t ON t.oid = w.typ WHERE t.typtype = 'd'
)
SELECT w.attrelid AS oid, w.attnum AS attnum, w.name AS name,
       format_type(w.typ, w.typmod) AS type_name,
       CASE WHEN o.typtype = 'd' AND e.oid IS NULL AND b.typtype = 'b' THEN 'd'
            ELSE coalesce(e.typtype, b.typtype) END::text AS type_kind,
       NOT (w.attnotnull OR w.not_null) AS nullable,
       CASE WHEN w.attmissingval IS NULL THEN NULL
            ELSE (w.attmissingval::text::text[])[1] END AS missing,
       coalesce((SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = w.attcollation), true) AS deterministic
FROM wanted w
JOIN pg_type o ON o.oid = w.own
JOIN pg_type b ON b.oid = w.typ AND b.typtype <> 'd'
LEFT JOIN pg_type e ON b.typcategory = 'A' AND e.oid = b.typelem
ORDER BY w.attrelid, w.attnum";

const PUBLICATION: &str = "
SELECT p.puballtables AS all_tables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AS all_operations,
       coalesce(obj_description(p.oid, 'pg_publication'), '') AS comment
FROM pg_publication p WHERE p.pubname = $1";

const PUBLISHED: &str = "SELECT schemaname::text AS schema, tablename::text AS name FROM pg_publication_tables WHERE pubname = $1";

const SLOT: &str = "
SELECT s.active AS active, coalesce(s.wal_status, 'lost') AS wal_status,
       CASE WHEN pg_is_in_recovery() OR s.restart_lsn IS NULL THEN 0
            ELSE greatest(0, pg_current_wal_lsn() - s.restart_lsn)::bigint END AS retained,
       coalesce((s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, 0) AS confirmed
FROM pg_replication_slots s WHERE s.slot_name = $1";

/// Looks at the source: the named tables, the publication, the slot.
pub async fn observe(
    target: &PostgresTarget,
    tables: &[SourceTable],
    publication: &str,
    slot: &str,
    mark: &str,
) -> Observation<PostgresFacts> {
    let look = Box::pin(look(target, tables, publication, slot, mark));
    match tokio::time::timeout(DEADLINE, look).await {
        Ok(Ok(facts)) => Observation::Known(facts),
        Ok(Err(failure)) => Observation::Unreachable(failure),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("postgresql did not answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

async fn look(
    target: &PostgresTarget,
    tables: &[SourceTable],
    publication: &str,
    slot: &str,
    mark: &str,
) -> Result<PostgresFacts, Failure> {
    let session = target.connect().await?;
    let server =
        session.query_one(SERVER, &[]).await.map_err(|error| of_error("postgresql settings", &error))?;
    let mut facts = server_facts(&server).map_err(|error| of_error("postgresql settings", &error))?;
    // Not every role may read it.
    if let Ok(row) = session.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await {
        facts.system_identifier = row.try_get(0).unwrap_or_default();
    }
    facts.tables = source_tables(&session, tables).await?;
    facts.publication = publication_facts(&session, publication, mark).await?;
    let row =
        session.query_opt(SLOT, &[&slot]).await.map_err(|error| of_error("replication slots", &error))?;
    facts.slot =
        row.map(|row| slot_facts(&row)).transpose().map_err(|error| of_error("replication slots", &error))?;
    Ok(facts)
}

fn server_facts(row: &Row) -> Result<PostgresFacts, tokio_postgres::Error> {
    Ok(PostgresFacts {
        server_version: row.try_get("version")?,
        wal_level: row.try_get("wal_level")?,
        free_replication_slots: row.try_get("free_slots")?,
        may_replicate: row.try_get("may_replicate")?,
        may_create: row.try_get("may_create")?,
        role: row.try_get("role")?,
        current_lsn: u64::try_from(row.try_get::<_, i64>("lsn")?).unwrap_or(0),
        source_now_ms: row.try_get("now_ms")?,
        ..PostgresFacts::default()
    })
}

fn slot_facts(row: &Row) -> Result<SlotFacts, tokio_postgres::Error> {
    Ok(SlotFacts {
        active: row.try_get("active")?,
        wal_status: row.try_get("wal_status")?,
        retained_bytes: u64::try_from(row.try_get::<_, i64>("retained")?).unwrap_or(0),
        confirmed_lsn: u64::try_from(row.try_get::<_, i64>("confirmed")?).unwrap_or(0),
    })
}

async fn source_tables(
    session: &PostgresSession,
    tables: &[SourceTable],
) -> Result<BTreeMap<SourceTable, SourceTableFacts>, Failure> {
    let wrong = |error: tokio_postgres::Error| of_error("tables", &error);
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = session.query(TABLES, &[&schemas, &names]).await.map_err(wrong)?;
    let mut by_oid = BTreeMap::new();
    for row in rows {
        let (source, facts) = source_table(&row).map_err(wrong)?;
        by_oid.insert(facts.oid, (source, facts));
    }
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    for row in session.query(COLUMNS, &[&oids]).await.map_err(wrong)? {
        let oid: u32 = row.try_get("oid").map_err(wrong)?;
        let column = source_column(&row).map_err(wrong)?;
        if let Some((_, facts)) = by_oid.get_mut(&oid) {
            facts.columns.push(column);
        }
    }
    let mut found: BTreeMap<SourceTable, SourceTableFacts> = by_oid.into_values().collect();
    for (source, facts) in &mut found {
        facts.key_range = key_range(session, source, facts).await;
    }
    Ok(found)
}

fn source_table(row: &Row) -> Result<(SourceTable, SourceTableFacts), tokio_postgres::Error> {
    let source = SourceTable { schema: row.try_get("schema")?, name: row.try_get("name")? };
    let identity: String = row.try_get("identity")?;
    Ok((
        source,
        SourceTableFacts {
            oid: row.try_get("oid")?,
            replica_identity: identity.chars().next().unwrap_or('d'),
            primary_key: row.try_get("key")?,
            columns: Vec::new(),
            may_select: row.try_get("may_select")?,
            owned: row.try_get("owned")?,
            key_range: None,
        },
    ))
}

fn source_column(row: &Row) -> Result<SourceColumn, tokio_postgres::Error> {
    let kind: String = row.try_get("type_kind")?;
    Ok(SourceColumn {
        name: row.try_get("name")?,
        attnum: row.try_get("attnum")?,
        type_name: row.try_get("type_name")?,
        type_kind: kind.chars().next().unwrap_or('b'),
        nullable: row.try_get("nullable")?,
        missing_value: row.try_get("missing")?,
        deterministic: row.try_get("deterministic")?,
    })
}

/// Least and greatest value of an integer key of one column: two probes of its index.
async fn key_range(
    session: &PostgresSession,
    source: &SourceTable,
    facts: &SourceTableFacts,
) -> Option<(i64, i64)> {
    let [key] = facts.primary_key.as_slice() else {
        return None;
    };
    let column = facts.columns.iter().find(|column| column.name == *key)?;
    if !facts.may_select || !matches!(column.type_name.as_str(), "smallint" | "integer" | "bigint") {
        return None;
    }
    let (key, table) = (pg_quote::ident(key), pg_quote::qualified(&source.schema, &source.name));
    let sql = format!("SELECT min({key})::bigint, max({key})::bigint FROM {table}");
    let row = session.query_one(&sql, &[]).await.ok()?;
    Some((row.try_get::<_, Option<i64>>(0).ok()??, row.try_get::<_, Option<i64>>(1).ok()??))
}

async fn publication_facts(
    session: &PostgresSession,
    name: &str,
    mark: &str,
) -> Result<Option<PublicationFacts>, Failure> {
    let wrong = |error: tokio_postgres::Error| of_error("publications", &error);
    let Some(row) = session.query_opt(PUBLICATION, &[&name]).await.map_err(wrong)? else {
        return Ok(None);
    };
    let comment: String = row.try_get("comment").map_err(wrong)?;
    let mut facts = PublicationFacts {
        all_operations: row.try_get("all_operations").map_err(wrong)?,
        ours: is_ours(&comment, mark),
        ..PublicationFacts::default()
    };
    for row in session.query(PUBLISHED, &[&name]).await.map_err(wrong)? {
        let table = SourceTable {
            schema: row.try_get("schema").map_err(wrong)?,
            name: row.try_get("name").map_err(wrong)?,
        };
        facts.tables.insert(table);
    }
    Ok(Some(facts))
}
