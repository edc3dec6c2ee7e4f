//! What the operator knows of the source. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::{NullAs, SourceTable, Storage};

use crate::core::position::ReadTo;

/// PostgreSQL as the role of the spec sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PostgresFacts {
    /// `system_identifier` of `pg_control_system()`, or empty where the role may not read it.
    pub system_identifier: String,
    /// Timeline of the last checkpoint; 0: the role may not read it.
    pub timeline: u32,
    /// `pg_database.oid`; 0: not read.
    pub database_oid: u32,
    /// `server_version_num`.
    pub server_version: i32,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// `server_encoding`.
    pub server_encoding: String,
    /// Types of the database that stand in the category of enums and have no labels, as SQL has their names.
    pub enums_without_labels: Vec<String>,
    /// `max_replication_slots` less the slots in use.
    pub free_replication_slots: i64,
    /// `max_wal_senders` less the senders at work.
    pub free_wal_senders: i64,
    /// `wal_sender_timeout` in milliseconds; 0: none.
    pub wal_sender_timeout_ms: i64,
    /// `max_slot_wal_keep_size` in bytes; absent: no limit.
    pub max_slot_wal_keep_bytes: Option<u64>,
    /// Whether the role has REPLICATION, is a superuser or is a member of a provider's role that stands for it.
    pub may_replicate: bool,
    /// Roles of a hosted service that exist in the cluster, such as `rds_replication`.
    pub provider_roles: BTreeSet<String>,
    /// Whether the role may CREATE in the database (to make the publication).
    pub may_create: bool,
    /// Name of the role.
    pub role: String,
    /// Name of the database.
    pub database: String,
    /// Tables of the spec that exist.
    pub tables: BTreeMap<SourceTable, SourceTableFacts>,
    /// The publication of ours, if it exists: its tables.
    pub publication: Option<PublicationFacts>,
    /// The replication slot of ours, if it exists.
    pub slot: Option<SlotFacts>,
    /// Position of the log, in bytes, read before the catalogue: an event up to here is of a catalogue that is not
    /// newer than the one read, for a table that was not [being altered](SourceTableFacts::altering).
    pub lsn_before: u64,
    /// Position of the log, in bytes, read after the catalogue: an event behind it is of a catalogue that is not older
    /// than the one read.
    pub current_lsn: u64,
    /// The server's clock when `current_lsn` was read, milliseconds since 1970; 0: not read.
    pub source_now_ms: i64,
    /// How far the connector has read, by the positions that are remembered of earlier looks; absent: not known.
    pub read_to: Option<ReadTo>,
    /// The oldest transaction that is open, with its pid, user and since when: what the making of the slot waits for, and the
    /// first read of a table that was published while it was open. Absent: there is none, or nothing waits.
    pub blocking: Option<String>,
}

impl PostgresFacts {
    /// What the making of the slot waits for.
    pub fn slot_waits_for(&self) -> Option<&str> {
        self.blocking.as_deref().filter(|_| self.slot.as_ref().is_some_and(SlotFacts::is_being_made))
    }

    /// Whether events carry stored generated columns: where our publication asks for it, or will.
    pub fn publishes_generated(&self) -> bool {
        self.publication
            .as_ref()
            .map_or(self.server_version >= PUBLISHES_GENERATED, |publication| publication.generated)
    }
}

/// First server that can publish stored generated columns.
pub const PUBLISHES_GENERATED: i32 = 180_000;

/// A transaction with an id, in any database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Process; absent for a prepared transaction.
    pub pid: Option<i32>,
    /// Id of a prepared transaction; empty for others.
    pub gid: String,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Milliseconds since 1970 at which it began; absent where the role may not see it.
    pub since_ms: Option<i64>,
}

/// One table in PostgreSQL's catalogues.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the catalogue")]
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceTableFacts {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `pg_class.relkind`: `r`, `p`, `f`, `v`, `m`.
    pub kind: char,
    /// `pg_class.relpersistence`: `p`, `u` or `t`.
    pub persistence: char,
    /// `pg_class.relreplident`: `d`, `f`, `n` or `i`.
    pub replica_identity: char,
    /// Unique indexes without expression and predicate, by name.
    pub indexes: Vec<IndexFacts>,
    /// The table's place in a hierarchy.
    pub lineage: Lineage,
    /// Leaves of a partitioned table.
    pub partitions: Vec<PartitionFacts>,
    /// Oids of leaves that existed before they, or the tables above them, were attached.
    pub attached: BTreeSet<u32>,
    /// Whether row security hides rows from the role.
    pub row_security: bool,
    /// Table access method, empty for a partitioned table.
    pub access_method: String,
    /// Files of the table or of its leaves, and a hash of its columns' rows in the catalogue.
    pub storage: Storage,
    /// What its values and events hang on beside its columns, as [`tidemark_crds::layout::TableLayout::definitions`] has them.
    pub definitions: BTreeMap<String, String>,
    /// Whether another session holds the lock of an ALTER TABLE on the table or a leaf of it.
    pub altering: bool,
    /// Live columns in order.
    pub columns: Vec<SourceColumn>,
    /// Whether the role may SELECT.
    pub may_select: bool,
    /// Whether the role owns the table (needed to publish it).
    pub owned: bool,
    /// Name of the owner.
    pub owner: String,
    /// Range of an integer key's single column, for judging `partitionBy`; absent: not asked.
    pub key_range: Option<(i64, i64)>,
    /// How much it has, partitions included; absent: not all of it was analysed yet.
    pub estimate: Option<Estimate>,
}

/// How much a table has, as PostgreSQL's planner estimates it: says what a read costs, and decides nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows and of values that are kept apart, without indexes.
    pub bytes: u64,
}

impl Estimate {
    /// The two together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl SourceTableFacts {
    /// Whether every change carries the whole row before it: REPLICA IDENTITY FULL, of each leaf where there are any.
    pub fn has_full_before(&self) -> bool {
        if self.partitions.is_empty() {
            self.replica_identity == 'f'
        } else {
            self.partitions.iter().all(|leaf| leaf.replica_identity == 'f')
        }
    }
}

/// A unique index of plain columns over all rows.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the catalogue")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexFacts {
    /// Its name.
    pub name: String,
    /// Key columns in order, without those of INCLUDE.
    pub columns: Vec<String>,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// Whether it is the replica identity's.
    pub identity: bool,
    /// Whether it is checked at once: `pg_index.indimmediate`.
    pub immediate: bool,
    /// Whether it is complete: `pg_index.indisvalid`.
    pub valid: bool,
    /// Whether all its columns are NOT NULL.
    pub not_null: bool,
}

impl IndexFacts {
    /// Whether it tells rows apart at every moment.
    pub fn is_key(&self) -> bool {
        self.immediate && self.valid && self.not_null && !self.columns.is_empty()
    }
}

/// Where a table stands among others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Lineage {
    /// Alone, or the root of a partitioned table.
    #[default]
    Alone,
    /// A partition of the named root.
    Partition(SourceTable),
    /// Other tables inherit from it, that are no partitions: one of them.
    Parent(SourceTable),
    /// A hypertable of `TimescaleDB`, whose rows are in chunks that inherit from it.
    Hypertable,
}

/// A leaf of a partitioned table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Its name.
    pub name: SourceTable,
    /// `pg_class.oid`.
    pub oid: u32,
    /// `pg_class.relkind`: `r` or `f`.
    pub kind: char,
    /// `pg_class.relpersistence`.
    pub persistence: char,
    /// `pg_class.relreplident`.
    pub replica_identity: char,
    /// Unique indexes without expression and predicate, by name.
    pub indexes: Vec<IndexFacts>,
    /// Table access method.
    pub access_method: String,
    /// Whether row security hides rows from the role that reads the leaf by its own name.
    pub row_security: bool,
    /// Whether the role may SELECT from the leaf by its own name.
    pub may_select: bool,
}

/// One column in PostgreSQL's catalogues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceColumn {
    /// `attname`.
    pub name: String,
    /// `attnum`.
    pub attnum: i16,
    /// `format_type(atttypid, atttypmod)` of the base type, domains unfolded.
    pub type_name: String,
    /// `pg_type.typtype` of the column's own type: `b`ase, `e`num, `d`omain, `c`omposite, `r`ange; of an array that of
    /// its elements.
    pub type_kind: char,
    /// Names of the domains between the column and its base type, the column's own first.
    pub domains: Vec<String>,
    /// `format_type` of an array's elements, their domains unfolded; absent: no array.
    pub element: Option<String>,
    /// `attndims`: 2 or more for a column declared as an array of arrays.
    pub dimensions: i32,
    /// Whether PostgreSQL computes it and no event has it.
    pub unpublished: bool,
    /// Whether NULL is possible: in a column of a NOT NULL domain it is.
    pub nullable: bool,
    /// What an event has in the place of NULL.
    pub null_as: NullAs,
    /// `attmissingval` as text: the value of rows older than the column.
    pub missing_value: Option<String>,
    /// Its type and one of another kind that has the same name, in words of SQL.
    pub namesake: Option<String>,
    /// Whether the collation is deterministic (true for types without one).
    pub deterministic: bool,
}

/// A publication.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the catalogue")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicationFacts {
    /// `pg_publication.oid`: one that was made anew has another.
    pub oid: u32,
    /// Its tables: those that it names, and those of the spec that it publishes with a schema or with all tables.
    pub tables: BTreeSet<SourceTable>,
    /// Those of them that were published while a transaction was open that is open still: what it wrote before is in no event.
    pub unsettled: BTreeSet<SourceTable>,
    /// Tables of which it publishes some columns alone.
    pub column_lists: BTreeSet<SourceTable>,
    /// Tables of which it publishes some rows alone.
    pub row_filters: BTreeSet<SourceTable>,
    /// Whether it publishes insert, update, delete and truncate.
    pub all_operations: bool,
    /// Whether changes of partitions come under the name of their root.
    pub via_root: bool,
    /// Whether it publishes stored generated columns.
    pub generated: bool,
    /// Whether its comment carries our mark.
    pub ours: bool,
    /// Its comment.
    pub comment: String,
}

impl SlotFacts {
    /// Whether it waits for the transactions that were open when its making began.
    pub fn is_being_made(&self) -> bool {
        self.active && self.confirmed_lsn == 0
    }
}

/// A replication slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Database that it is of; empty for a physical one.
    pub database: String,
    /// Plugin that decodes for it; empty for a physical one.
    pub plugin: String,
    /// Whether a connection uses it.
    pub active: bool,
    /// Process of that connection.
    pub active_pid: Option<i32>,
    /// `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes of write-ahead log that it holds back.
    pub retained_bytes: u64,
    /// `confirmed_flush_lsn` in bytes: everything before it was handed to Kafka's producer, acknowledged or not; 0: none.
    pub confirmed_lsn: u64,
    /// Up to where its connection says that it received the log, in bytes; 0: none, or the role may not see it.
    pub received_lsn: u64,
}
