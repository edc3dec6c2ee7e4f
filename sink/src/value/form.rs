//! What a column's PostgreSQL type says about the text of its values. Pure.

use tidemark_crds::layout::{ColumnLayout, Wire};
use tidemark_crds::mapping;
use tidemark_crds::pg_types;

/// What a column's PostgreSQL type says about its values, or about the elements of its arrays.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the type")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// How Debezium sends such a value, whether this column is in events or not.
    pub wire: Wire,
    /// Length of a bit string.
    pub bits: u32,
    /// Whether a float is of single precision.
    pub single: bool,
    /// Whether zeros at the end of a number are left out: texts of a key, which must be equal where numbers are.
    pub canonical: bool,
    /// Whether the column's type holds less than PostgreSQL's, so that a value that is too wide tells of no change there.
    pub narrowed: bool,
    /// Whether the values are pgvector's, whose text is that of a list of numbers.
    pub vector: bool,
}

impl Form {
    /// Reads it off a column's layout.
    pub fn of(column: &ColumnLayout) -> Self {
        let element = pg_types::element(&column.pg_type).filter(|_| column.array);
        let name = element.unwrap_or(&column.pg_type);
        let wire = pg_types::find(name).wire;
        // With a negative scale Debezium writes two thousand zeros behind the point.
        let no_fraction = name.strip_prefix("numeric(").is_some_and(|modifier| modifier.contains(",-"));
        Self {
            wire,
            bits: pg_types::bits(name),
            single: name == "real",
            canonical: wire == Wire::Decimal && (column.key.is_some() || no_fraction),
            narrowed: mapping::is_narrowed(column),
            vector: element.is_none() && mapping::is_vector(name),
        }
    }
}
