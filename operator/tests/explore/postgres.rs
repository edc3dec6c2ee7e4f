//! A source: tables, a log of changes, publications, slots.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::{SourceTable, Storage};
use tidemark_operator::core::desired::part::is_ours;
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::effect::{PostgresEffect, Publishes};
use tidemark_operator::core::facts::{Failure, PostgresFacts, PublicationFacts, SlotFacts, SourceTableFacts};

use super::estate::{Ids, remote};
use crate::fixture::{source_column, source_table};

/// A server with one database.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) system_identifier: String,
    pub(super) timeline: u32,
    pub(super) database: String,
    /// End of the log.
    pub(super) lsn: u64,
    pub(super) tables: BTreeMap<SourceTable, SourceTableFacts>,
    /// What was committed, in order.
    pub(super) changes: Vec<Change>,
    pub(super) publications: BTreeMap<String, Publication>,
    pub(super) slots: BTreeMap<String, Slot>,
}

/// A committed change of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) lsn: u64,
    pub(super) table: SourceTable,
    /// Publications that had the table when it was committed: pgoutput decodes by the catalogue of then.
    pub(super) published_by: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Publication {
    pub(super) oid: u32,
    /// Position at which it was made: changes before that cannot be decoded with it.
    pub(super) made: u64,
    /// Its tables, each with the id of its entry.
    pub(super) tables: BTreeMap<SourceTable, u32>,
    pub(super) publishes: Publishes,
    pub(super) comment: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    pub(super) database: String,
    pub(super) plugin: String,
    /// Everything before it was sent and confirmed.
    pub(super) confirmed: u64,
    /// The connector that reads from it.
    pub(super) reader: Option<String>,
    /// Whether the server gave up what it held back.
    pub(super) lost: bool,
}

/// A table with a key and a column of text.
pub(super) fn table(oid: u32) -> SourceTableFacts {
    source_table(oid, vec![source_column("id", 1, "bigint", false), source_column("note", 2, "text", true)])
}

impl Source {
    pub(super) fn new(ids: &mut Ids, tables: &[&str]) -> Self {
        let made = tables.iter().zip(16_384..).map(|(name, oid)| (name.parse().unwrap(), table(oid)));
        Self {
            system_identifier: ids.name("system"),
            timeline: 1,
            database: "shop".into(),
            lsn: 1_000,
            tables: made.collect(),
            changes: Vec::new(),
            publications: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// Commits a change of a table.
    pub(super) fn commit(&mut self, table: &SourceTable) {
        self.lsn += 100;
        let has = |publication: &Publication| publication.tables.contains_key(table);
        let published_by =
            self.publications.iter().filter(|(_, it)| has(it)).map(|(name, _)| name.clone()).collect();
        self.changes.push(Change { lsn: self.lsn, table: table.clone(), published_by });
    }

    pub(super) fn look(&self, subject: &Subject<'_>, now_ms: i64) -> PostgresFacts {
        let wanted = subject.spec.all_tables();
        let named = wanted.iter().filter_map(|table| table.name.parse::<SourceTable>().ok());
        let publication = self.publications.get(&subject.name.publication());
        let slot = self.slots.get(&subject.name.replication_slot());
        PostgresFacts {
            system_identifier: self.system_identifier.clone(),
            timeline: self.timeline,
            database_oid: 16_000,
            server_version: 150_018,
            wal_level: "logical".into(),
            server_encoding: "UTF8".into(),
            free_replication_slots: 5,
            free_wal_senders: 5,
            wal_sender_timeout_ms: 60_000,
            may_replicate: true,
            may_create: true,
            role: "tidemark".into(),
            database: self.database.clone(),
            tables: named.filter_map(|name| Some((name.clone(), self.table(&name, publication)?))).collect(),
            publication: publication.map(|it| it.facts(subject.mark)),
            slot: slot.map(|slot| slot.facts(self.lsn)),
            lsn_before: self.lsn,
            current_lsn: self.lsn,
            source_now_ms: now_ms,
            ..PostgresFacts::default()
        }
    }

    /// A table as the catalogue has it.
    fn table(&self, name: &SourceTable, publication: Option<&Publication>) -> Option<SourceTableFacts> {
        let mut facts = self.tables.get(name)?.clone();
        let entry =
            publication.and_then(|publication| Some((publication.oid, publication.tables.get(name)?)));
        facts.storage = Storage {
            files: [(facts.oid, facts.oid + 1)].into(),
            columns: format!("{:?}", facts.columns),
            published: entry.map(|(oid, entry)| format!("{oid}/{entry}")).unwrap_or_default(),
            ..Storage::default()
        };
        Some(facts)
    }

    pub(super) fn act(&mut self, mark: &str, effect: &PostgresEffect, ids: &mut Ids) -> Result<(), Failure> {
        match effect {
            PostgresEffect::CreatePublication { name, tables, options, comment } => {
                if self.publications.contains_key(name) {
                    return Err(remote(format!("publication {name} already exists")));
                }
                let made = Publication {
                    oid: ids.number(),
                    made: self.lsn,
                    tables: tables.iter().map(|table| (table.clone(), ids.number())).collect(),
                    publishes: *options,
                    comment: comment.clone(),
                };
                self.publications.insert(name.clone(), made);
            }
            PostgresEffect::AlterPublication { name, drop, add, set } => {
                let live = self.publications.get_mut(name).ok_or_else(|| remote("there is none".into()))?;
                for table in drop {
                    live.tables.remove(table);
                }
                live.tables.extend(add.iter().map(|table| (table.clone(), ids.number())));
                live.publishes = set.unwrap_or(live.publishes);
            }
            PostgresEffect::DropSlot(name) => match self.slots.get(name.as_str()) {
                Some(slot) if slot.plugin != "pgoutput" || slot.database != self.database => {
                    return Err(remote(format!("{} is another one than a moment ago", name.as_str())));
                }
                Some(Slot { reader: Some(_), .. }) => return Err(remote("it is active".into())),
                _ => drop(self.slots.remove(name.as_str())),
            },
            PostgresEffect::DropPublication(name) => match self.publications.get(name.as_str()) {
                Some(live) if !is_ours(&live.comment, mark) => {
                    return Err(remote(format!("{} is another one than a moment ago", name.as_str())));
                }
                _ => drop(self.publications.remove(name.as_str())),
            },
        }
        Ok(())
    }
}

impl Publication {
    fn facts(&self, mark: &str) -> PublicationFacts {
        PublicationFacts {
            oid: self.oid,
            tables: self.tables.keys().cloned().collect(),
            all_operations: true,
            via_root: self.publishes != Publishes::Operations,
            generated: self.publishes == Publishes::ByRootAndGenerated,
            ours: is_ours(&self.comment, mark),
            comment: self.comment.clone(),
            ..PublicationFacts::default()
        }
    }
}

impl Slot {
    fn facts(&self, end: u64) -> SlotFacts {
        SlotFacts {
            database: self.database.clone(),
            plugin: self.plugin.clone(),
            active: self.reader.is_some(),
            active_pid: self.reader.as_ref().map(|_| 4_711),
            wal_status: if self.lost { "lost" } else { "reserved" }.into(),
            retained_bytes: end - self.confirmed.min(end),
            confirmed_lsn: self.confirmed,
            received_lsn: if self.reader.is_some() { self.confirmed } else { 0 },
        }
    }
}
