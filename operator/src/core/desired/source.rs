//! Whether PostgreSQL, and each table of it, is fit to be followed, and by which columns rows are told apart. Pure.
//!
//! A finding names its object and the statement that mends it. One about a table keeps that table alone back; one about
//! the server is a finding about the whole source.

mod keys;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote::{ident, qualified};

pub use self::keys::key;
use self::keys::{Identity, identities, no_identity, no_key};
use super::part::Problem;
use crate::core::facts::{IndexFacts, Lineage, OpenTransaction, PostgresFacts, SourceTableFacts};

/// Oldest server whose `pgoutput` carries logical messages, which reads of tables need.
const OLDEST_VERSION: i32 = 140_000;
/// Name under which problems of the whole source are filed.
pub(super) const SOURCE: &str = "source";

/// Why a table cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// In one word.
    pub reason: Reason,
    /// What is wrong and the statement that mends it.
    pub message: String,
    /// Whether its being followed does harm: UPDATE and DELETE fail for those who own it, or the connector ends with all tables.
    pub hurts: bool,
}

/// What makes the whole source unfit, each with the statement that mends it.
pub fn preflight(facts: &PostgresFacts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unfit = |message: String| problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
    let role = ident(&facts.role);
    if facts.server_version < OLDEST_VERSION {
        unfit(format!(
            "postgresql {} is older than 14, and does not decode the messages that tell a table's read from its \
             changes: upgrade it",
            facts.server_version / 10_000
        ));
    }
    if facts.in_recovery {
        unfit(
            "the server is a standby, on which nothing can be published: name the primary in \
             spec.source.postgres.host"
                .to_owned(),
        );
    }
    if facts.wal_level != "logical" {
        unfit(format!(
            "wal_level is {}: run ALTER SYSTEM SET wal_level = 'logical' and restart postgresql{}",
            facts.wal_level,
            hosted_wal_level(facts)
        ));
    }
    if facts.server_encoding == "SQL_ASCII" {
        unfit(format!(
            "database {0} has the encoding SQL_ASCII, so its texts may be no UTF-8 and cannot be sent: dump it and \
             restore it into one made with CREATE DATABASE {0} ENCODING 'UTF8' TEMPLATE template0",
            facts.database
        ));
    }
    // Debezium reads every type of the database, wanted or not, and ends at the first of these.
    if !facts.enums_without_labels.is_empty() {
        unfit(format!(
            "the connector cannot start beside a domain over an enum, or an enum without labels, anywhere in the \
             database: {}; let columns have the enum itself (ALTER TABLE ... ALTER COLUMN ... TYPE) and run DROP \
             DOMAIN, or give the empty enum a label with ALTER TYPE ... ADD VALUE",
            facts.enums_without_labels.join(", ")
        ));
    }
    if !facts.may_replicate {
        let statement = if facts.provider_roles.contains("rds_replication") {
            format!("GRANT rds_replication TO {role}")
        } else {
            format!("ALTER ROLE {role} REPLICATION")
        };
        unfit(format!("role {} may not replicate: run {statement}", facts.role));
    }
    if facts.slot.is_none() && facts.free_replication_slots < 1 {
        unfit(
            "all replication slots are in use: drop one that nobody reads, or raise max_replication_slots and \
             restart postgresql"
                .to_owned(),
        );
    }
    if !facts.slot.as_ref().is_some_and(|slot| slot.active) && facts.free_wal_senders < 1 {
        unfit(
            "all senders of write-ahead log are at work: stop a standby or a subscription that is not needed, or \
             raise max_wal_senders and restart postgresql"
                .to_owned(),
        );
    }
    problems
}

fn hosted_wal_level(facts: &PostgresFacts) -> &'static str {
    let has = |role: &str| facts.provider_roles.contains(role);
    if has("rds_replication") {
        " (on RDS and Aurora: rds.logical_replication = 1 in the parameter group)"
    } else if has("cloudsqlsuperuser") {
        " (on Cloud SQL: the flag cloudsql.logical_decoding = on)"
    } else if has("alloydbsuperuser") {
        " (on AlloyDB: the flag alloydb.logical_decoding = on)"
    } else if has("azure_pg_admin") {
        " (on Azure: the server parameter wal_level = LOGICAL)"
    } else {
        ""
    }
}

/// What is waited for while transactions are open, and how to end it: `open` are the transactions, oldest first.
pub fn open_transaction(open: &[OpenTransaction]) -> Option<String> {
    let first = open.first()?;
    let since = first.since_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let since = since.map_or_else(String::new, |since| format!(", open since {}", since.strftime("%FT%TZ")));
    let (what, end) = match first.pid {
        Some(pid) => (format!("process {pid}"), format!("SELECT pg_terminate_backend({pid})")),
        None => (format!("prepared transaction {}", first.gid), format!("ROLLBACK PREPARED '{}'", first.gid)),
    };
    let others = match open.len() {
        1 => String::new(),
        more => format!(", and for up to {} more", more - 1),
    };
    Some(format!(
        "a transaction that is still open: {what} of user {} in database {}{since}\
         {others}; end it there, or run {end}",
        first.user, first.database
    ))
}

/// Judges one table: its key, or everything that is to be mended before it can be followed. `publication` is the name
/// of the pipeline's, which may not be there yet.
pub fn judge<'a>(
    name: &SourceTable,
    table: &'a SourceTableFacts,
    facts: &PostgresFacts,
    publication: &str,
) -> Result<&'a IndexFacts, Unfit> {
    if let Some(message) = other_relation(name, table) {
        return Err(Unfit { reason: Reason::SourceNotReady, message, hurts: false });
    }
    let mut findings: Vec<(Reason, String)> = Vec::new();
    let mut finding = |message: String| findings.push((Reason::SourceNotReady, message));
    let confusing = [twins(name, table), quotes(name, table), namesakes(table)];
    let mut hurts = confusing.iter().any(Option::is_some);
    confusing.into_iter().flatten().for_each(&mut finding);
    storage_findings(name, table, &mut finding);
    reading_findings(name, table, &facts.role, &mut finding);
    publishing_findings(name, table, (facts, publication), &mut finding);
    let known = findings.len();
    for (leaf, _) in identities(table).filter(|(_, identity)| *identity == Identity::Nothing) {
        hurts = true;
        findings.push((Reason::NoPrimaryKey, no_identity(name, table, leaf)));
    }
    let key = key(table);
    if key.is_none() && findings.len() == known {
        findings.push((Reason::NoPrimaryKey, no_key(name, table)));
    }
    match (key, findings.first()) {
        (Some(key), None) => Ok(key),
        (_, first) => {
            let reason = first.map_or(Reason::NoPrimaryKey, |(reason, _)| *reason);
            let texts: Vec<String> = findings.into_iter().map(|(_, message)| message).collect();
            Err(Unfit { reason, message: format!("table {name}: {}", texts.join("; ")), hurts })
        }
    }
}

/// Columns that Debezium takes for one: it stops at a table that has two of them.
fn twins(name: &SourceTable, table: &SourceTableFacts) -> Option<String> {
    let mut seen: std::collections::BTreeMap<String, &str> = std::collections::BTreeMap::new();
    table.columns.iter().find_map(|column| {
        let first = seen.insert(column.name.to_lowercase(), &column.name)?;
        let (quoted, second) = (qualified(&name.schema, &name.name), ident(&column.name));
        Some(format!(
            "its columns {} and {second} differ in case alone, which Debezium refuses: run ALTER TABLE {quoted} RENAME \
             COLUMN {second} TO another name",
            ident(first)
        ))
    })
}

/// A name with a double quote in a unique index, which the driver gives to Debezium as SQL has it. A primary key is asked
/// for elsewhere, and comes as it is.
fn quotes(name: &SourceTable, table: &SourceTableFacts) -> Option<String> {
    if table.indexes.iter().any(|index| index.primary) {
        return None;
    }
    let mut named =
        table.indexes.iter().flat_map(|index| index.columns.iter().map(move |column| (index, column)));
    let (index, column) = named.find(|(_, column)| column.contains('"'))?;
    let (table, column) = (qualified(&name.schema, &name.name), ident(column));
    Some(format!(
        "column {column} of its unique index {} has a double quote in its name, at which Debezium stops: run ALTER TABLE \
         {table} RENAME COLUMN {column} TO another name, or ALTER TABLE {table} ADD PRIMARY KEY over its key",
        ident(&index.name)
    ))
}

/// A type whose name another kind of type has, too. The connector takes one for the other: a value is wrong, or the connector ends.
/// It learns the names at its start, and starts anew when the table is followed again.
fn namesakes(table: &SourceTableFacts) -> Option<String> {
    let (column, types) = table.columns.iter().find_map(|it| Some((&it.name, it.namesake.as_ref()?)))?;
    Some(format!(
        "column {} is of a type whose name another one has, {types}, and Debezium takes one for the other: run ALTER TYPE or \
         ALTER DOMAIN … RENAME TO another name for one of them",
        ident(column)
    ))
}

/// What is no table of its own, and so has no changes under its name.
fn other_relation(name: &SourceTable, table: &SourceTableFacts) -> Option<String> {
    let beneath = "name the tables that it reads in spec.tables, and make it a view in spec.views";
    match table.kind {
        'v' => return Some(format!("{name} is a view, which has no changes of its own: {beneath}")),
        'm' => {
            return Some(format!(
                "{name} is a materialized view, which is not in the log as changes: {beneath}"
            ));
        }
        'f' => {
            return Some(format!(
                "{name} is a foreign table, whose changes are in another server's log: make a pipeline of that server"
            ));
        }
        _ => {}
    }
    match &table.lineage {
        Lineage::Alone => None,
        Lineage::Partition(root) => Some(format!(
            "{name} is a partition, and its changes come under the name of {root}: name {root} in spec.tables"
        )),
        Lineage::Parent(child) => Some(format!(
            "tables inherit from {name} ({child} is one), and their rows are part of it without being in its \
             changes: name each of the children in spec.tables instead, or make {name} a partitioned table"
        )),
        Lineage::Hypertable => Some(format!(
            "{name} is a hypertable of TimescaleDB: its rows are in chunks, whose changes do not come under its name: \
             copy what is wanted into a plain or partitioned table, and name that"
        )),
    }
}

fn storage_findings(name: &SourceTable, table: &SourceTableFacts, finding: &mut impl FnMut(String)) {
    let own = (name, table.kind, table.persistence, table.access_method.as_str());
    let leaves = table
        .partitions
        .iter()
        .map(|leaf| (&leaf.name, leaf.kind, leaf.persistence, leaf.access_method.as_str()));
    for (part, kind, persistence, method) in std::iter::once(own).chain(leaves) {
        let quoted = qualified(&part.schema, &part.name);
        match persistence {
            'u' => finding(format!(
                "{part} is unlogged, so its changes are in no log: run ALTER TABLE {quoted} SET LOGGED"
            )),
            't' => finding(format!(
                "{part} is a temporary table, which only its own session sees: copy it into a plain one"
            )),
            _ => {}
        }
        if kind == 'f' {
            let root = qualified(&name.schema, &name.name);
            finding(format!(
                "partition {part} is a foreign table, whose changes are in another server's log: run ALTER TABLE \
                 {root} DETACH PARTITION {quoted}"
            ));
        }
        if method == "columnar" {
            finding(format!(
                "{part} is stored by columns, and its changes are not in the log: run ALTER TABLE {quoted} SET ACCESS \
                 METHOD heap"
            ));
        }
    }
}

fn reading_findings(
    name: &SourceTable,
    table: &SourceTableFacts,
    role: &str,
    finding: &mut impl FnMut(String),
) {
    let quoted_role = ident(role);
    let own = (name, table.may_select, table.row_security);
    let leaves = table.partitions.iter().map(|leaf| (&leaf.name, leaf.may_select, leaf.row_security));
    let mut hidden = false;
    for (part, may_select, row_security) in std::iter::once(own).chain(leaves) {
        if !may_select {
            let (schema, quoted) = (ident(&part.schema), qualified(&part.schema, &part.name));
            finding(format!(
                "role {role} may not read {part}: run GRANT USAGE ON SCHEMA {schema} TO {quoted_role}; GRANT SELECT \
                 ON {quoted} TO {quoted_role}"
            ));
        }
        hidden |= row_security;
    }
    if hidden {
        finding(format!(
            "row security hides rows from role {role}, which are among the changes all the same: run ALTER ROLE \
             {quoted_role} BYPASSRLS"
        ));
    }
}

fn publishing_findings(
    name: &SourceTable,
    table: &SourceTableFacts,
    (facts, publication): (&PostgresFacts, &str),
    finding: &mut impl FnMut(String),
) {
    let (quoted, alter) =
        (qualified(&name.schema, &name.name), format!("ALTER PUBLICATION {}", ident(publication)));
    let Some(live) = &facts.publication else {
        // Where none is owned, the whole publication is for their owner to make.
        if !table.owned && facts.tables.values().any(|table| table.owned) {
            finding(not_owned(table, &facts.role));
        }
        return;
    };
    if !live.tables.contains(name) {
        if !live.ours {
            finding(format!(
                "publication {publication} does not have it and is not ours to alter: let its owner run {alter} ADD \
                 TABLE {quoted}"
            ));
        } else if !table.owned {
            finding(not_owned(table, &facts.role));
        }
    }
    for (what, tables) in [("some columns", &live.column_lists), ("some rows", &live.row_filters)] {
        if tables.contains(name) {
            finding(format!(
                "publication {publication} has {what} of it alone: let its owner run {alter} DROP TABLE {quoted}; \
                 {alter} ADD TABLE {quoted}"
            ));
        }
    }
    if table.kind == 'p' && !live.via_root && !live.ours {
        finding(format!(
            "publication {publication} sends its changes under the names of its partitions: let its owner run {alter} \
             SET (publish_via_partition_root = true)"
        ));
    }
}

fn not_owned(table: &SourceTableFacts, role: &str) -> String {
    format!(
        "role {role} may not publish it, which only its owner may: run GRANT {} TO {}",
        ident(&table.owner),
        ident(role)
    )
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
