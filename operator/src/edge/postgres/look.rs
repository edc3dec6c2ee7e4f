//! PostgreSQL's catalogues as the role of the spec sees them. I/O, read only.
//!
//! All that says what a table is comes from one snapshot, with the positions of the log before and behind it. Each
//! question is sent with the types of its parameters: prepared first, it would cost a second way there and back.

mod queries;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemark_crds::layout::SourceTable;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::core::desired::part::is_ours;
use crate::core::desired::source;
use crate::core::facts::{
    Failure, FailureClass, Observation, OpenTransaction, PostgresFacts, PublicationFacts, SlotFacts,
};
use crate::edge::failure::failure;
use crate::edge::postgres::client::{PostgresSession, PostgresTarget, of_error};

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);

/// What to look for at the source.
#[derive(Debug, Clone)]
pub struct SourceQuestion {
    /// Tables of the spec.
    pub tables: Vec<SourceTable>,
    /// Publication.
    pub publication: String,
    /// Replication slot.
    pub slot: String,
}

/// Looks at the source: the named tables, the publication, the slot.
pub async fn observe(
    target: &PostgresTarget,
    question: &SourceQuestion,
    mark: &str,
) -> Observation<PostgresFacts> {
    let look = Box::pin(look(target, question, mark));
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
    question: &SourceQuestion,
    mark: &str,
) -> Result<PostgresFacts, Failure> {
    let SourceQuestion { tables, publication, slot } = question;
    let session = target.connect().await?;
    let wrong = |error: tokio_postgres::Error| of_error("postgresql settings", &error);
    // Not every role may read it, and a refusal would end the transaction.
    let control = match session.query_typed_one(queries::CONTROL, &[]).await {
        Ok(row) => Some(row),
        // An answer that was only late is none: without its identity the server would pass for another one.
        Err(error) if error.code().is_none_or(|code| *code == SqlState::QUERY_CANCELED) => {
            return Err(of_error("postgresql identity", &error));
        }
        Err(_) => None,
    };
    // In this order: what changes a table after the position is seen by its lock, or by the snapshot.
    let before = session.query_typed_one(queries::POSITION, &[]).await.map_err(wrong)?;
    let locked = locked_tables(&session).await.map_err(wrong)?;
    session.batch_execute(queries::BEGIN).await.map_err(wrong)?;
    let server = session.query_typed_one(queries::SERVER, &[]).await.map_err(wrong)?;
    let mut facts = server_facts(&server).map_err(wrong)?;
    facts.lsn_before = position(&before, "lsn").map_err(wrong)?;
    if let Some(control) = control {
        facts.system_identifier = control.try_get("system_identifier").map_err(wrong)?;
        facts.timeline = u32::try_from(control.try_get::<_, i32>("timeline").map_err(wrong)?).unwrap_or(0);
    }
    let (live, published) = publication_facts(&session, publication, mark, tables).await?.unzip();
    facts.publication = live;
    let look = tables::Look { locked: &locked, generated: facts.publishes_generated() };
    facts.tables = tables::source_tables(&session, tables, &look).await?;
    for (source, version) in published.unwrap_or_default() {
        if let Some(table) = facts.tables.get_mut(&source) {
            table.storage.published = version;
        }
    }
    let wrong = |error: tokio_postgres::Error| of_error("replication slots", &error);
    let row = session.query_typed_opt(queries::SLOT, &[(slot, Type::NAME)]).await.map_err(wrong)?;
    facts.slot = row.map(|row| slot_facts(&row)).transpose().map_err(wrong)?;
    let unsettled = facts.publication.as_ref().is_some_and(|publication| !publication.unsettled.is_empty());
    if unsettled || facts.slot.as_ref().is_some_and(SlotFacts::is_being_made) {
        let open = session.query_typed(queries::OPEN_TRANSACTIONS, &[]).await.map_err(wrong)?;
        let open: Vec<_> = open.iter().map(open_transaction).collect::<Result<_, _>>().map_err(wrong)?;
        facts.blocking = source::open_transaction(&open);
    }
    session.batch_execute("COMMIT").await.map_err(wrong)?;
    Ok(facts)
}

/// Asks for the least and greatest key of some tables. A table that is locked, a refusal, or a server that is gone again
/// costs this answer alone.
pub async fn key_ranges(target: &PostgresTarget, wanted: &BTreeSet<SourceTable>, facts: &mut PostgresFacts) {
    let asked = async {
        let session = target.connect().await?;
        tables::key_ranges(&session, wanted, &mut facts.tables).await;
        Ok::<_, Failure>(())
    };
    if let Ok(Err(failure)) = tokio::time::timeout(DEADLINE, asked).await {
        tracing::debug!(failure.message, "the ranges of keys cannot be read yet");
    }
}

/// Tables of this database that another session may be altering.
async fn locked_tables(session: &PostgresSession) -> Result<BTreeSet<u32>, tokio_postgres::Error> {
    let rows = session.query_typed(queries::LOCKED, &[]).await?;
    rows.iter().map(|row| row.try_get("relation")).collect()
}

fn position(row: &Row, column: &str) -> Result<u64, tokio_postgres::Error> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
}

fn server_facts(row: &Row) -> Result<PostgresFacts, tokio_postgres::Error> {
    let providers: Vec<String> = row.try_get("providers")?;
    let keep: i64 = row.try_get("wal_keep_mib")?;
    Ok(PostgresFacts {
        server_version: row.try_get("version")?,
        database_oid: row.try_get("database_oid")?,
        wal_level: row.try_get("wal_level")?,
        in_recovery: row.try_get("in_recovery")?,
        server_encoding: row.try_get("encoding")?,
        enums_without_labels: row.try_get("enums_without_labels")?,
        free_replication_slots: row.try_get("free_slots")?,
        free_wal_senders: row.try_get("free_senders")?,
        wal_sender_timeout_ms: row.try_get("sender_timeout")?,
        max_slot_wal_keep_bytes: u64::try_from(keep).ok().map(|mib| mib << 20),
        may_replicate: row.try_get("may_replicate")?,
        provider_roles: providers.into_iter().collect(),
        may_create: row.try_get("may_create")?,
        role: row.try_get("role")?,
        database: row.try_get("database")?,
        current_lsn: position(row, "lsn")?,
        source_now_ms: row.try_get("now_ms")?,
        ..PostgresFacts::default()
    })
}

fn slot_facts(row: &Row) -> Result<SlotFacts, tokio_postgres::Error> {
    Ok(SlotFacts {
        database: row.try_get("database")?,
        plugin: row.try_get("plugin")?,
        active: row.try_get("active")?,
        active_pid: row.try_get("active_pid")?,
        wal_status: row.try_get("wal_status")?,
        retained_bytes: position(row, "retained")?,
        confirmed_lsn: position(row, "confirmed")?,
        received_lsn: position(row, "received")?,
    })
}

fn open_transaction(row: &Row) -> Result<OpenTransaction, tokio_postgres::Error> {
    Ok(OpenTransaction {
        pid: row.try_get("pid")?,
        gid: row.try_get("gid")?,
        user: row.try_get("user")?,
        database: row.try_get("database")?,
        since_ms: row.try_get("since_ms")?,
    })
}

/// The publication, and in which form it has each of the wanted tables.
async fn publication_facts(
    session: &PostgresSession,
    name: &str,
    mark: &str,
    wanted: &[SourceTable],
) -> Result<Option<(PublicationFacts, BTreeMap<SourceTable, String>)>, Failure> {
    let wrong = |error: tokio_postgres::Error| of_error("publications", &error);
    let Some(row) =
        session.query_typed_opt(queries::PUBLICATION, &[(&name, Type::NAME)]).await.map_err(wrong)?
    else {
        return Ok(None);
    };
    let comment: String = row.try_get("comment").map_err(wrong)?;
    let version: String = row.try_get("version").map_err(wrong)?;
    let settled: bool = row.try_get("settled").map_err(wrong)?;
    let mut versions = BTreeMap::new();
    let mut facts = PublicationFacts {
        oid: row.try_get("oid").map_err(wrong)?,
        all_operations: row.try_get("all_operations").map_err(wrong)?,
        via_root: row.try_get("via_root").map_err(wrong)?,
        generated: row.try_get("generated").map_err(wrong)?,
        ours: is_ours(&comment, mark),
        comment,
        ..PublicationFacts::default()
    };
    if row.try_get("all_tables").map_err(wrong)? {
        facts.tables.extend(wanted.iter().cloned());
        versions.extend(wanted.iter().map(|table| (table.clone(), version.clone())));
        facts.unsettled.extend(wanted.iter().filter(|_| !settled).cloned());
        return Ok(Some((facts, versions)));
    }
    if row.try_get("has_schemas").map_err(wrong)? {
        for row in
            session.query_typed(queries::PUBLISHED_SCHEMAS, &[(&name, Type::NAME)]).await.map_err(wrong)?
        {
            let schema: String = row.try_get("schema").map_err(wrong)?;
            let entry: String = row.try_get("version").map_err(wrong)?;
            let settled = settled && row.try_get("settled").map_err(wrong)?;
            for table in wanted.iter().filter(|table| table.schema == schema) {
                facts.unsettled.extend((!settled).then(|| table.clone()));
                facts.tables.insert(table.clone());
                versions.insert(table.clone(), format!("{version} {entry}"));
            }
        }
    }
    for row in session.query_typed(queries::PUBLISHED, &[(&name, Type::NAME)]).await.map_err(wrong)? {
        let table = SourceTable {
            schema: row.try_get("schema").map_err(wrong)?,
            name: row.try_get("name").map_err(wrong)?,
        };
        if row.try_get("column_list").map_err(wrong)? {
            facts.column_lists.insert(table.clone());
        }
        if row.try_get("row_filter").map_err(wrong)? {
            facts.row_filters.insert(table.clone());
        }
        if !settled || !row.try_get::<_, bool>("settled").map_err(wrong)? {
            facts.unsettled.insert(table.clone());
        }
        let entry: String = row.try_get("version").map_err(wrong)?;
        versions
            .entry(table.clone())
            .and_modify(|known| *known = format!("{known} {entry}"))
            .or_insert_with(|| format!("{version} {entry}"));
        facts.tables.insert(table);
    }
    Ok(Some((facts, versions)))
}
