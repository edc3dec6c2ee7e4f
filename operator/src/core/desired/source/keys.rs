//! By which columns a table's rows are told apart, and what gives it such columns. Pure.

use std::collections::BTreeSet;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote::{ident, qualified};

use crate::core::facts::{IndexFacts, PartitionFacts, SourceTableFacts};

/// The columns by which a table's rows are told apart: a key of which every change carries the values, where there is
/// one. The primary key is preferred, then the replica identity's index, then the one with fewest columns.
pub fn key(table: &SourceTableFacts) -> Option<&IndexFacts> {
    let identities: Vec<Identity<'_>> = identities(table).map(|(_, identity)| identity).collect();
    candidates(table).into_iter().find(|index| {
        identities.iter().all(|identity| match identity {
            Identity::Full => true,
            Identity::Columns(columns) => index.columns.iter().all(|column| columns.contains(column)),
            Identity::Nothing => false,
        })
    })
}

/// What a change tells of the row before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    Full,
    Columns(&'a [String]),
    /// PostgreSQL refuses UPDATE and DELETE while it is published.
    Nothing,
}

fn identity(replica_identity: char, indexes: &[IndexFacts]) -> Identity<'_> {
    let chosen = match replica_identity {
        'f' => return Identity::Full,
        'd' => indexes.iter().find(|index| index.primary),
        'i' => indexes.iter().find(|index| index.identity),
        _ => None,
    };
    match chosen.filter(|index| index.immediate && index.valid) {
        Some(index) => Identity::Columns(&index.columns),
        None => Identity::Nothing,
    }
}

/// The table, or the leaves of a partitioned one, in which the rows are: `None` stands for the table itself.
pub(super) fn identities(
    table: &SourceTableFacts,
) -> impl Iterator<Item = (Option<&PartitionFacts>, Identity<'_>)> {
    let own = table.partitions.is_empty().then(|| (None, identity(table.replica_identity, &table.indexes)));
    let leaves =
        table.partitions.iter().map(|leaf| (Some(leaf), identity(leaf.replica_identity, &leaf.indexes)));
    own.into_iter().chain(leaves)
}

/// Indexes that tell rows apart at every moment, with columns that events have; the best first.
fn candidates(table: &SourceTableFacts) -> Vec<&IndexFacts> {
    let unpublished = |name: &String| table.columns.iter().any(|c| c.unpublished && c.name == *name);
    let mut found: Vec<&IndexFacts> = table
        .indexes
        .iter()
        .filter(|index| index.is_key() && !index.columns.iter().any(unpublished))
        .collect();
    found.sort_by_key(|index| (!index.primary, !index.identity, index.columns.len(), &index.name));
    found
}

/// Message about a table, or a leaf of it, whose UPDATE and DELETE PostgreSQL refuses once it is published.
pub(super) fn no_identity(
    name: &SourceTable,
    table: &SourceTableFacts,
    leaf: Option<&PartitionFacts>,
) -> String {
    let (part, replica_identity, indexes) = match leaf {
        Some(leaf) => (&leaf.name, leaf.replica_identity, &leaf.indexes),
        None => (name, table.replica_identity, &table.indexes),
    };
    let quoted = qualified(&part.schema, &part.name);
    let deferrable = indexes.iter().find(|index| index.primary && !index.immediate);
    let why = match (replica_identity, deferrable) {
        ('n', _) => "its REPLICA IDENTITY is NOTHING",
        ('i', _) => "the index of its REPLICA IDENTITY is gone or not valid",
        (_, Some(_)) => "its primary key is DEFERRABLE and can identify no row",
        _ => "it has no primary key",
    };
    let mend = mend_identity(&quoted, replica_identity, indexes);
    format!(
        "{part}: {why}, so PostgreSQL would refuse each UPDATE and DELETE while it is published: run {mend}"
    )
}

fn mend_identity(quoted: &str, replica_identity: char, indexes: &[IndexFacts]) -> String {
    let key = indexes.iter().filter(|index| index.is_key()).min_by_key(|index| !index.primary);
    match key {
        Some(index) if index.primary => format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT"),
        Some(index) => format!("ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX {}", ident(&index.name)),
        None => add_key(quoted, replica_identity, indexes),
    }
}

/// The statement that gives a table a key: a primary key that is checked at once, or one at all.
fn add_key(quoted: &str, replica_identity: char, indexes: &[IndexFacts]) -> String {
    let columns =
        |index: &IndexFacts| index.columns.iter().map(|column| ident(column)).collect::<Vec<_>>().join(", ");
    let identity = if matches!(replica_identity, 'd' | 'f') {
        String::new()
    } else {
        format!("; ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT")
    };
    if let Some(deferrable) = indexes.iter().find(|index| index.primary && !index.immediate) {
        return format!(
            "ALTER TABLE {quoted} DROP CONSTRAINT {}, ADD PRIMARY KEY ({}){identity}",
            ident(&deferrable.name),
            columns(deferrable)
        );
    }
    // An index whose columns may be NULL says at least which columns are meant.
    match indexes.iter().find(|index| index.immediate && index.valid) {
        Some(index) => format!("ALTER TABLE {quoted} ADD PRIMARY KEY ({}){identity}", columns(index)),
        None => format!(
            "ALTER TABLE {quoted} ADD PRIMARY KEY (...) over the columns that are unique, or over a new one: ADD \
             COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY{identity}"
        ),
    }
}

/// Message about a table that is published without harm and whose rows cannot be told apart.
pub(super) fn no_key(name: &SourceTable, table: &SourceTableFacts) -> String {
    let quoted = qualified(&name.schema, &name.name);
    let Some(best) = candidates(table).first().copied() else {
        let is_computed = |index: &&IndexFacts| {
            index.is_key()
                && table.columns.iter().any(|it| it.unpublished && index.columns.contains(&it.name))
        };
        if let Some(index) = table.indexes.iter().filter(is_computed).min_by_key(|index| !index.primary) {
            return format!(
                "its key {} has a generated column, which is in no event: run ALTER TABLE {quoted} ADD COLUMN row_id bigint \
                 GENERATED ALWAYS AS IDENTITY UNIQUE, REPLICA IDENTITY FULL, or give it a unique index of other NOT NULL columns \
                 that are not generated, and REPLICA IDENTITY FULL",
                ident(&index.name)
            );
        }
        let why = if table.indexes.iter().any(|index| index.primary && !index.immediate) {
            "its primary key is DEFERRABLE, so two rows may have one key for a moment, and it has no other"
        } else {
            "it has no primary key and no unique index of NOT NULL columns"
        };
        return format!("{why}: run {}", add_key(&quoted, table.replica_identity, &table.indexes));
    };
    let lacks = |(leaf, identity): (Option<&PartitionFacts>, Identity<'_>)| match identity {
        Identity::Columns(columns) if !best.columns.iter().all(|column| columns.contains(column)) => {
            Some(leaf.map_or_else(|| name.clone(), |leaf| leaf.name.clone()))
        }
        _ => None,
    };
    let parts: BTreeSet<SourceTable> = identities(table).filter_map(lacks).collect();
    let statements: Vec<String> = parts
        .iter()
        .map(|part| format!("ALTER TABLE {} REPLICA IDENTITY FULL", qualified(&part.schema, &part.name)))
        .collect();
    format!(
        "its REPLICA IDENTITY, or that of partitions, does not have the columns of {}: run {}",
        best.name,
        statements.join("; ")
    )
}
