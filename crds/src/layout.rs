//! Table layouts: how a source table's columns become the columns of its state table. Pure.
//!
//! The operator decides layouts and keeps the history of each table's in the ledger: a layout holds from a position
//! of the log. The sink finds that of an event by its position and its shape, the ordered names of its fields, so
//! that the same bytes give the same row on any replica, after any restart, in any replay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::ChType;

/// Column of every state table that holds the row's [`Version`](crate::version::Version), a `UInt128`.
pub const VERSION_COLUMN: &str = "_version";
/// Column of every state table that is 1 for a tombstone, a `UInt8`.
pub const DELETED_COLUMN: &str = "_is_deleted";
/// Column of every state table with the commit time at the source, a `DateTime64(3, 'UTC')`.
pub const COMMITTED_AT_COLUMN: &str = "_committed_at";

/// A table of the source database, `schema.name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceTable {
    /// Schema, unquoted.
    pub schema: String,
    /// Table name, unquoted.
    pub name: String,
}

impl std::fmt::Display for SourceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table name that is not `schema.table`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table name {0:?} is not of the form schema.table, for example public.orders")]
pub struct InvalidSourceTable(pub String);

impl std::str::FromStr for SourceTable {
    type Err = InvalidSourceTable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
                Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidSourceTable(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SourceTable {
    type Error = InvalidSourceTable;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceTable> for String {
    fn from(table: SourceTable) -> Self {
        table.to_string()
    }
}

/// What becomes of a value that its ClickHouse type cannot hold: infinity, a year out of range, NaN in a Decimal.
#[derive(schemars::JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum OutOfRange {
    /// The column is a String and has PostgreSQL's own text of every value.
    Text,
    /// The column is set to NULL (nullable columns only).
    Null,
    /// The nearest value that the type can hold: its least or greatest; NaN, which has no nearest, becomes 0.
    Clamp,
    /// The record goes to the dead letters.
    DeadLetter,
}

/// How the text or number that Debezium sends is to be read: the PostgreSQL type, reduced to what matters.
///
/// The connector runs with `decimal.handling.mode=string`, `time.precision.mode=microseconds`,
/// `interval.handling.mode=string`, `binary.handling.mode=bytes`, `hstore.handling.mode=json`,
/// `include.unknown.datatypes=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// JSON true or false.
    Bool,
    /// JSON integer.
    Int,
    /// JSON number, or the strings `NaN`, `Infinity`, `-Infinity`.
    Float,
    /// Decimal number as a string (also accepted: base64 with the schema's scale, `{"scale","value"}`).
    Decimal,
    /// Text as it is.
    Text,
    /// Base64 of bytes.
    Base64,
    /// Text of a UUID.
    Uuid,
    /// Days since 1970-01-01.
    Date,
    /// `timestamp` without zone: microseconds since 1970-01-01.
    Timestamp,
    /// `timestamptz`: ISO 8601 text with offset, or `infinity`.
    ZonedTimestamp,
    /// `time`: microseconds as an integer.
    Micros,
    /// ISO 8601 text of years, months, days, hours, minutes and seconds, each with a sign of its own.
    Interval,
    /// JSON text (`json`, `jsonb`): kept as the text that came.
    Json,
    /// Base64 of PostgreSQL's text: types that Debezium does not know.
    EncodedText,
    /// `bit(n)`: base64 of its bytes, the last bit first and without zeros at the end; true or false for one bit.
    Bits,
    /// `hstore` as the text of a JSON object.
    Hstore,
    /// Geometric types: base64 of a text with Java's numbers; a point is an object with `x` and `y`.
    Geometric,
    /// No event has the value in a form that can be trusted: it is read from the source by the row's key.
    Unstreamed,
}

/// What an event has in the place of NULL.
///
/// Debezium asks the driver whether a column can be NULL, and that says no where its type is a NOT NULL domain. PostgreSQL
/// leaves NULL in such a column all the same where an outer join or an empty subquery gives it, and Debezium then sends what
/// stands for no value. Ordered: the later one covers what the earlier does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NullAs {
    /// NULL.
    #[default]
    Null,
    /// The empty value of its type: `''`, 0, false.
    Empty,
    /// The column's DEFAULT, which can be any value.
    Default,
}

impl NullAs {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

/// One column of a table layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnLayout {
    /// Column name at the source, as Debezium sends it.
    pub source: String,
    /// Today's name for readers: the column of `TARGET_current`.
    pub target: String,
    /// Column of the state table: named once, never renamed. It differs from `target` after a rename at the source, or
    /// where another column had the name before.
    pub stored: String,
    /// `pg_attribute.attnum`: what tells a renamed column from a dropped and re-added one.
    pub attnum: i16,
    /// PostgreSQL's own name of the type (`format_type`), for people and for change detection.
    pub pg_type: String,
    /// How Debezium sends the value; for arrays, how it sends an element.
    pub wire: Wire,
    /// Whether the value is an array of `wire` values; one whose column is a String is stored as PostgreSQL's text.
    #[serde(default)]
    pub array: bool,
    /// ClickHouse type of the column in the state table.
    pub r#type: ChType,
    /// Position in the primary key, from 0; absent for other columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u16>,
    /// What becomes of a value that does not fit the type.
    pub out_of_range: OutOfRange,
    /// PostgreSQL's text of the value that rows have which were written before the column was added
    /// (`attmissingval`); absent: NULL or the type's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What an event has in the place of NULL.
    #[serde(default, skip_serializing_if = "NullAs::is_null")]
    pub null_as: NullAs,
}

/// A live column of the source that is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Name at the source.
    pub source: String,
    /// `pg_attribute.attnum`.
    pub attnum: i16,
    /// Why it is not stored.
    pub why: LeftOutReason,
}

/// Why a live column is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeftOutReason {
    /// `columns[].exclude` of the spec.
    Excluded,
    /// PostgreSQL computes it and publishes it in no version before 18.
    Generated,
    /// No other form of its type can be had than one that would be wrong.
    Unreadable,
}

/// From which position of the log a layout holds.
///
/// The catalogue that it describes was not there yet at `after` and was there at `by`: an event of a later position
/// than `by` is of this layout (or a later one), one up to `after` is of an earlier one, and one between them is
/// known by its shape alone. Positions are ordered within an epoch; a later epoch is later than all of an earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// Epoch of the positions.
    pub epoch: u16,
    /// Position in bytes of write-ahead log at which the earlier catalogue was seen last.
    pub after: u64,
    /// Position at which this one was seen first.
    pub by: u64,
}

/// How one source table is stored from a position of the log on; one entry of the table's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableLayout {
    /// Counts up from 1 with each entry of this table's history.
    pub version: u64,
    /// Table at the source.
    pub source: SourceTable,
    /// `pg_class.oid`: tells a table that was dropped and created again from the one before.
    pub oid: u32,
    /// State table in the target database.
    pub target: String,
    /// Where it begins; zeros for the first.
    pub from: Begin,
    /// Stored columns, in the order of `TARGET_current`, without the three bookkeeping columns.
    pub columns: Vec<ColumnLayout>,
    /// Live columns that are not stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Whether `before` images are complete (REPLICA IDENTITY FULL).
    #[serde(default)]
    pub full_before: bool,
    /// Partition expression over key columns, as text, where the table opted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
    /// What changes when PostgreSQL writes the table's rows anew: its files and those of its partitions, and the
    /// transactions that wrote its columns into the catalogue.
    #[serde(default)]
    pub storage: Storage,
    /// What values and events hang on beside the rows, each with the transactions that wrote it: the labels of the enums
    /// in the columns' types by their oids (`e16401`), the attributes of their composite types (`c16390`), the table's row
    /// type, which has its name (`t16388`), its indexes (`i16391`) and which of them are its key (`k16388`). The names of
    /// its columns' types (`nstatus`) each have the kind of type that they name: `e`, `c`, `b23` for all over `integer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub definitions: BTreeMap<String, String>,
    /// Why rows from before are right only after the table was read again under this layout; absent: they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_again: Option<String>,
}

/// What tells that rows changed without an event: compared for equality alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// `relfilenode` of the table or of its partitions, by oid.
    pub files: BTreeMap<u32, u32>,
    /// Transactions that hung each partition in its place, from the root down, by its oid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<u32, String>,
    /// A hash over `(attnum, xmin)` of the table's rows in `pg_attribute`.
    pub columns: String,
    /// Publication and the table's entry in it, by their oids and the transactions that wrote them; empty: the
    /// publication has not the table. What is changed while it is another is in no event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub published: String,
}

impl TableLayout {
    /// Key columns in key order.
    pub fn key_columns(&self) -> Vec<&ColumnLayout> {
        let mut keys: Vec<_> = self.columns.iter().filter(|c| c.key.is_some()).collect();
        keys.sort_by_key(|c| c.key);
        keys
    }

    /// Names of the fields that an event of this layout may have, in order, each with whether it must be there:
    /// generated columns are in some events only.
    pub fn shape(&self) -> Vec<(&str, bool)> {
        let stored = self
            .columns
            .iter()
            .map(|column| (column.attnum, column.source.as_str(), column.wire != Wire::Unstreamed));
        let left_out = self
            .left_out
            .iter()
            .map(|column| (column.attnum, column.source.as_str(), column.why == LeftOutReason::Excluded));
        let mut all: Vec<(i16, &str, bool)> = stored.chain(left_out).collect();
        all.sort_by_key(|(attnum, ..)| *attnum);
        all.into_iter().map(|(_, name, required)| (name, required)).collect()
    }
}
