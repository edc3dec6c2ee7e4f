//! From PostgreSQL's columns to a state table's: types, keys, overrides of the spec, and what is refused. Pure.
//!
//! The table of design record "types" in code. What is not listed there is kept as text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{
    COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, LeftOut, LeftOutReason, OutOfRange, VERSION_COLUMN,
    Wire,
};
use crate::pipeline::Column;
use crate::types::ChType;

/// `pg_type.typtype` of a column's type (of its elements' type for an array).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// `b`: built in, an extension's, or an array.
    Base,
    /// `e`: an enum.
    Enum,
    /// `d`: a domain; its base type's name is asked for instead.
    Domain,
    /// `c`, `r`, `m`, `p`: composites, ranges, multiranges, pseudo types.
    Other,
}

impl TypeKind {
    /// Reads `pg_type.typtype`.
    pub fn from_typtype(typtype: char) -> Self {
        match typtype {
            'b' => Self::Base,
            'e' => Self::Enum,
            'd' => Self::Domain,
            _ => Self::Other,
        }
    }
}

/// One live column as PostgreSQL's catalogues show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgColumn {
    /// `attname`.
    pub name: String,
    /// `attnum`.
    pub attnum: i16,
    /// `format_type(atttypid, atttypmod)`; of the base type where the column's type is a domain.
    pub type_name: String,
    /// Kind of the type, or of its elements' type.
    pub kind: TypeKind,
    /// Whether NULL is possible.
    pub nullable: bool,
    /// Position in the primary key, from 0.
    pub key: Option<u16>,
    /// Whether equal values have equal bytes under the column's collation (true where it has none).
    pub deterministic: bool,
    /// `attmissingval` as text.
    pub missing: Option<String>,
}

/// How a PostgreSQL type travels and is stored, before NULL is considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedType {
    /// How Debezium sends the value, or an element of it.
    pub wire: Wire,
    /// Whether the value is an array.
    pub array: bool,
    /// ClickHouse type of a column without NULL.
    pub r#type: ChType,
}

/// Columns of a state table, and what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumns {
    /// Columns in the source's order.
    pub columns: Vec<ColumnLayout>,
    /// Live columns that are not stored.
    pub left_out: Vec<LeftOut>,
}

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
    /// Equal key values would not be equal bytes.
    #[error(
        "key column {column} of type {pg_type} has equal values with different text, so one row could become \
         two: use a key of an integer, uuid, text or numeric type"
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
    #[error("columns[{column}].outOfRange is Null and the column is not nullable: use DeadLetter")]
    OutOfRangeNull {
        /// Name at the source.
        column: String,
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

/// Maps a PostgreSQL type, given as `format_type` prints it.
pub fn map_type(type_name: &str, kind: TypeKind) -> MappedType {
    if let Some(element) = type_name.strip_suffix("[]") {
        let element = map_scalar(element, kind);
        return MappedType {
            wire: element.wire,
            array: true,
            r#type: ChType::Array(Box::new(element.r#type.nullable())),
        };
    }
    map_scalar(type_name, kind)
}

fn map_scalar(type_name: &str, kind: TypeKind) -> MappedType {
    let (wire, r#type) = match kind {
        TypeKind::Enum => (Wire::Text, ChType::LowCardinality(Box::new(ChType::String))),
        TypeKind::Other => (Wire::Text, ChType::String),
        TypeKind::Base | TypeKind::Domain => map_base(type_name),
    };
    MappedType { wire, array: false, r#type }
}

fn map_base(type_name: &str) -> (Wire, ChType) {
    let (name, modifier) = split_modifier(type_name);
    let micros = ChType::DateTime64 { precision: 6 };
    match name.as_ref() {
        "boolean" => (Wire::Bool, ChType::Bool),
        "smallint" => (Wire::Int, ChType::Int16),
        "integer" => (Wire::Int, ChType::Int32),
        "bigint" => (Wire::Int, ChType::Int64),
        "oid" => (Wire::Int, ChType::UInt32),
        "real" => (Wire::Float, ChType::Float32),
        "double precision" => (Wire::Float, ChType::Float64),
        "numeric" => (Wire::Decimal, decimal(modifier).unwrap_or(ChType::String)),
        "uuid" => (Wire::Uuid, ChType::Uuid),
        "date" => (Wire::Date, ChType::Date32),
        "timestamp without time zone" => (Wire::Timestamp, micros),
        "timestamp with time zone" => (Wire::ZonedTimestamp, micros),
        "time without time zone" => (Wire::Micros, ChType::Int64),
        // `interval year to month` and the like are printed behind the name.
        interval if interval.starts_with("interval") => (Wire::Micros, ChType::Int64),
        "json" | "jsonb" => (Wire::Json, ChType::String),
        "bytea" => (Wire::Base64, ChType::String),
        _ => (Wire::Text, ChType::String),
    }
}

/// Takes the modifier out of a type's name: `timestamp(3) with time zone` is `timestamp with time zone` and `3`.
fn split_modifier(type_name: &str) -> (Cow<'_, str>, Option<&str>) {
    match type_name.split_once('(').and_then(|(head, rest)| Some((head, rest.split_once(')')?))) {
        Some((head, (modifier, tail))) => (Cow::Owned(format!("{head}{tail}")), Some(modifier)),
        None => (Cow::Borrowed(type_name), None),
    }
}

/// `Decimal` for a modifier such as `14,2`; `None` where ClickHouse has none that holds every value: without a
/// modifier, beyond 76 digits, with a negative scale or a scale beyond the precision.
fn decimal(modifier: Option<&str>) -> Option<ChType> {
    let modifier = modifier?;
    let (precision, scale) = modifier.split_once(',').unwrap_or((modifier, "0"));
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=76).contains(&precision) && scale <= precision).then_some(ChType::Decimal { precision, scale })
}

/// Maps the columns of a table, with the overrides of the spec; gives every refusal at once.
pub fn map_columns(source: &[PgColumn], overrides: &[Column]) -> Result<MappedColumns, Vec<Refusal>> {
    let mut refusals = Vec::new();
    if source.iter().all(|column| column.key.is_none()) {
        refusals.push(Refusal::NoPrimaryKey);
    }
    let known: BTreeSet<&str> = source.iter().map(|column| column.name.as_str()).collect();
    let overrides: BTreeMap<&str, &Column> = overrides.iter().map(|o| (o.name.as_str(), o)).collect();
    for name in overrides.keys().filter(|name| !known.contains(*name)) {
        refusals.push(Refusal::UnknownColumn { column: (*name).to_owned() });
    }

    let mut columns = Vec::with_capacity(source.len());
    let mut left_out = Vec::new();
    for column in source {
        let wish = overrides.get(column.name.as_str()).copied();
        if wish.is_some_and(|wish| wish.exclude) {
            if column.key.is_some() {
                refusals.push(Refusal::KeyExcluded { column: column.name.clone() });
            }
            left_out.push(LeftOut {
                source: column.name.clone(),
                attnum: column.attnum,
                why: LeftOutReason::Excluded,
            });
            continue;
        }
        match map_column(column, wish) {
            Ok(layout) => columns.push(layout),
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals.extend(target_conflicts(&columns));
    if refusals.is_empty() { Ok(MappedColumns { columns, left_out }) } else { Err(refusals) }
}

fn map_column(column: &PgColumn, wish: Option<&Column>) -> Result<ColumnLayout, Refusal> {
    let mapped = map_type(&column.type_name, column.kind);
    if column.key.is_some() && !is_unambiguous_key(column, &mapped) {
        return Err(Refusal::AmbiguousKey { column: column.name.clone(), pg_type: column.type_name.clone() });
    }
    let may_be_null = column.nullable && column.key.is_none();
    let plain = match wish.and_then(|wish| wish.r#type.as_deref()) {
        Some(given) => overridden(column, &mapped, given, may_be_null)?,
        None => mapped.r#type,
    };
    let r#type = if may_be_null { plain.nullable() } else { plain };
    let out_of_range = match wish.and_then(|wish| wish.out_of_range) {
        Some(OutOfRange::Null) if !r#type.is_nullable() => {
            return Err(Refusal::OutOfRangeNull { column: column.name.clone() });
        }
        Some(chosen) => chosen,
        None if r#type.is_nullable() => OutOfRange::Null,
        None => OutOfRange::DeadLetter,
    };
    let target = wish.and_then(|wish| wish.target.clone()).unwrap_or_else(|| column.name.clone());
    Ok(ColumnLayout {
        source: column.name.clone(),
        stored: target.clone(),
        target,
        attnum: column.attnum,
        pg_type: column.type_name.clone(),
        wire: mapped.wire,
        array: mapped.array,
        r#type,
        key: column.key,
        out_of_range,
        missing: column.missing.clone(),
    })
}

/// Whether equal values of a key column always have equal text on the wire (numeric: after
/// [`canonical_numeric`]).
fn is_unambiguous_key(column: &PgColumn, mapped: &MappedType) -> bool {
    if mapped.array || !column.deterministic || column.kind == TypeKind::Other {
        return false;
    }
    match mapped.wire {
        Wire::Float | Wire::Json => false,
        Wire::Text => column.kind == TypeKind::Enum || is_plain_text(&column.type_name),
        _ => true,
    }
}

fn is_plain_text(type_name: &str) -> bool {
    let (name, _) = split_modifier(type_name);
    matches!(
        name.as_ref(),
        "text"
            | "character varying"
            | "character"
            | "name"
            | "\"char\""
            | "inet"
            | "cidr"
            | "macaddr"
            | "macaddr8"
            | "time with time zone"
            | "bit"
            | "bit varying"
            | "pg_lsn"
    )
}

fn overridden(
    column: &PgColumn,
    mapped: &MappedType,
    given: &str,
    may_be_null: bool,
) -> Result<ChType, Refusal> {
    let unknown = || Refusal::UnknownType { column: column.name.clone(), given: given.to_owned() };
    let parsed: ChType = given.parse().map_err(|_| unknown())?;
    if parsed.is_nullable() && !may_be_null {
        return Err(Refusal::NeverNull { column: column.name.clone(), given: parsed });
    }
    let plain = parsed.without_null();
    let element = match (&plain, mapped.array) {
        (ChType::Array(element), true) => Some(element.as_ref().clone().without_null()),
        (ChType::Array(_), false) | (_, true) => None,
        (scalar, false) => Some(scalar.clone()),
    };
    if !element.is_some_and(|element| can_hold(mapped.wire, &element)) {
        return Err(Refusal::UnsuitableType {
            column: column.name.clone(),
            given: plain,
            pg_type: column.type_name.clone(),
            allowed: suitable(mapped.wire),
        });
    }
    // An array's elements can be NULL at the source whatever the column says.
    Ok(match plain {
        ChType::Array(element) => ChType::Array(Box::new(element.nullable())),
        scalar => scalar,
    })
}

/// Whether the sink can write values of `wire` into a column of the (not nullable) type.
pub fn can_hold(wire: Wire, r#type: &ChType) -> bool {
    match r#type {
        ChType::LowCardinality(inner) => **inner == ChType::String && wire == Wire::Text,
        ChType::String => {
            matches!(wire, Wire::Text | Wire::Json | Wire::Base64 | Wire::Decimal | Wire::Uuid)
        }
        ChType::Bool => wire == Wire::Bool,
        ChType::Int16 | ChType::Int32 | ChType::UInt8 | ChType::UInt32 | ChType::UInt64 => wire == Wire::Int,
        ChType::Int64 => matches!(wire, Wire::Int | Wire::Micros),
        ChType::Float32 | ChType::Float64 => wire == Wire::Float,
        ChType::Decimal { .. } => matches!(wire, Wire::Decimal | Wire::Int),
        ChType::Uuid => wire == Wire::Uuid,
        ChType::Date32 => wire == Wire::Date,
        ChType::DateTime64 { .. } => matches!(wire, Wire::Timestamp | Wire::ZonedTimestamp),
        ChType::UInt128 | ChType::Array(_) | ChType::Nullable(_) => false,
    }
}

fn suitable(wire: Wire) -> &'static str {
    match wire {
        Wire::Bool => "Bool",
        Wire::Int => "Int16, Int32, Int64, UInt8, UInt32, UInt64 or Decimal(p, s)",
        Wire::Float => "Float32 or Float64",
        Wire::Decimal => "Decimal(p, s) or String",
        Wire::Text => "String or LowCardinality(String)",
        Wire::Base64 | Wire::Json => "String",
        Wire::Uuid => "UUID or String",
        Wire::Date => "Date32",
        Wire::Timestamp | Wire::ZonedTimestamp => "DateTime64(p, 'UTC')",
        Wire::Micros => "Int64",
        Wire::Unstreamed => "String",
    }
}

fn target_conflicts(columns: &[ColumnLayout]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut claimed: BTreeMap<&str, &str> = BTreeMap::new();
    for column in columns {
        if [VERSION_COLUMN, DELETED_COLUMN, COMMITTED_AT_COLUMN].contains(&column.target.as_str()) {
            refusals.push(Refusal::ReservedTarget {
                column: column.source.clone(),
                target: column.target.clone(),
            });
        }
        if let Some(first) = claimed.insert(&column.target, &column.source) {
            refusals.push(Refusal::DuplicateTarget {
                first: first.to_owned(),
                second: column.source.clone(),
                target: column.target.clone(),
            });
        }
    }
    refusals
}

/// The one text of a decimal number that all its spellings share: `1.00`, `01` and `1` are one key in PostgreSQL.
///
/// For `numeric` key columns stored as String. Text that is no plain decimal number (`NaN`, `Infinity`) comes
/// back as it is: PostgreSQL has one spelling of each.
pub fn canonical_numeric(text: &str) -> Cow<'_, str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Cow::Borrowed(text);
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let fraction = fraction.trim_end_matches('0');
    let sign = if negative && !(whole == "0" && fraction.is_empty()) { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    let canonical = [sign, whole, point, fraction].concat();
    if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) }
}
