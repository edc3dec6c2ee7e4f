//! Why a table's columns cannot be stored as asked. Pure.

use crate::types::ChType;

/// Why a table's columns cannot be stored as asked; each names the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing identifies a row.
    #[error("the table has no primary key: add one, for example ALTER TABLE ... ADD PRIMARY KEY (id)")]
    NoPrimaryKey,
    /// The spec names a column that the source lacks.
    #[error("columns[{column}] does not exist at the source: correct the name or remove the entry")]
    UnknownColumn {
        /// Name in the spec.
        column: String,
    },
    /// A key column is excluded.
    #[error("columns[{column}] is part of the primary key and cannot be excluded")]
    KeyExcluded {
        /// Name at the source.
        column: String,
    },
    /// A key column that PostgreSQL computes.
    #[error("key column {column} is generated and not in every event: use a key of stored columns")]
    GeneratedKey {
        /// Name at the source.
        column: String,
    },
    /// Values of a key would be changed.
    #[error(
        "columns[{column}].outOfRange: a key is never changed, since two rows could become one: use Text or \
         DeadLetter"
    )]
    OutOfRangeKey {
        /// Name at the source.
        column: String,
    },
    /// Equal key values would not be equal bytes.
    #[error(
        "key column {column} of type {pg_type} has equal values with different text, or is in no event, so one \
         row could become two: run ALTER TABLE ... ALTER COLUMN {column} TYPE text (or an integer, uuid, date or \
         numeric type), or CREATE UNIQUE INDEX over other columns that are NOT NULL"
    )]
    AmbiguousKey {
        /// Name at the source.
        column: String,
        /// PostgreSQL's type.
        pg_type: String,
    },
    /// The type of the spec is not a ClickHouse type that state tables know.
    #[error("columns[{column}].type {given:?} is not a type that a state table can have")]
    UnknownType {
        /// Name at the source.
        column: String,
        /// Text of the spec.
        given: String,
    },
    /// The type of the spec cannot hold the column.
    #[error("columns[{column}].type {given} cannot hold PostgreSQL's {pg_type}: {allowed} can")]
    UnsuitableType {
        /// Name at the source.
        column: String,
        /// Type of the spec.
        given: ChType,
        /// PostgreSQL's type.
        pg_type: String,
        /// What can, for people.
        allowed: &'static str,
    },
    /// The spec asks for NULL where the source has none.
    #[error("columns[{column}].type {given} is nullable and the source's column is not: leave Nullable out")]
    NeverNull {
        /// Name at the source.
        column: String,
        /// Type of the spec.
        given: ChType,
    },
    /// `outOfRange: Null` on a column that holds no NULL.
    #[error(
        "columns[{column}].outOfRange is Null and the column is not nullable: use Text, Clamp or DeadLetter"
    )]
    OutOfRangeNull {
        /// Name at the source.
        column: String,
    },
    /// `outOfRange: Text` beside a type that is no text.
    #[error(
        "columns[{column}].outOfRange is Text and {given} is no text: leave type out, or choose another answer"
    )]
    OutOfRangeText {
        /// Name at the source.
        column: String,
        /// Type of the column.
        given: ChType,
    },
    /// Two columns of one name.
    #[error("columns {first} and {second} both become {target}: give one of them another target")]
    DuplicateTarget {
        /// Source column that came first.
        first: String,
        /// Source column that came second.
        second: String,
        /// Name that both claim.
        target: String,
    },
    /// A name that Tidemark keeps for itself.
    #[error(
        "column {column} would become {target}, a name that Tidemark keeps: set columns[{column}].target"
    )]
    ReservedTarget {
        /// Name at the source.
        column: String,
        /// Name claimed.
        target: String,
    },
}
