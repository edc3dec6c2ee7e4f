//! Table layouts: how a source table's columns become the columns of its state table. Pure.
//!
//! The operator decides layouts and keeps the newest of each table in the ledger; the sink obeys them.

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

/// What becomes of a value that its ClickHouse type cannot hold.
#[derive(schemars::JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum OutOfRange {
    /// The column is set to NULL (nullable columns only).
    Null,
    /// The record goes to the dead letters.
    DeadLetter,
}

/// How the text or number that Debezium sends is to be read: the PostgreSQL type, reduced to what matters.
///
/// The connector runs with `decimal.handling.mode=string`, `time.precision.mode=microseconds`,
/// `interval.handling.mode=numeric`, `binary.handling.mode=base64`, `hstore.handling.mode=json`.
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
    /// `time`, `interval`: microseconds as an integer.
    Micros,
    /// JSON text (`json`, `jsonb`): kept as the text that came.
    Json,
}

/// One column of a table layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnLayout {
    /// Column name at the source, as Debezium sends it.
    pub source: String,
    /// Column name in the state table.
    pub target: String,
    /// `pg_attribute.attnum`: what tells a renamed column from a dropped and re-added one.
    pub attnum: i16,
    /// PostgreSQL's own name of the type (`format_type`), for people and for change detection.
    pub pg_type: String,
    /// How Debezium sends the value; for arrays, how it sends an element.
    pub wire: Wire,
    /// Whether the value is a JSON array of `wire` values.
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
}

/// How one source table is stored; the operator raises `version` with every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableLayout {
    /// Counts up from 1 with each change of this table's layout.
    pub version: u64,
    /// Table at the source.
    pub source: SourceTable,
    /// State table in the target database.
    pub target: String,
    /// Columns in the order of the state table, without the three bookkeeping columns.
    pub columns: Vec<ColumnLayout>,
    /// Source columns that are known and deliberately not stored: excluded, or gone again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Whether `before` images are complete (REPLICA IDENTITY FULL).
    #[serde(default)]
    pub full_before: bool,
    /// Partition expression over key columns, as text, where the table opted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
}

impl TableLayout {
    /// Key columns in key order.
    pub fn key_columns(&self) -> Vec<&ColumnLayout> {
        let mut keys: Vec<_> = self.columns.iter().filter(|c| c.key.is_some()).collect();
        keys.sort_by_key(|c| c.key);
        keys
    }
}
