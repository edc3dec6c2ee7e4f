//! From PostgreSQL's columns to a state table's: types, keys, overrides of the spec, and what is refused. Pure.
//!
//! What a type becomes is in [`pg_types`]; here is what a column adds to it: NULL, keys, arrays, wishes.

mod reading;
mod refusal;
mod wishes;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{
    COMMITTED_AT_COLUMN, ColumnLayout, DELETED_COLUMN, LeftOut, LeftOutReason, NullAs, OutOfRange,
    VERSION_COLUMN, Wire,
};
use crate::pg_types;
use crate::pipeline::Column;
use crate::types::ChType;

pub use reading::{exact_default, is_narrowed, read_expression};
pub use refusal::Refusal;
pub use wishes::is_vector;

use wishes::overridden;

/// `pg_type.typtype` of a column's type (of its elements' type for an array).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// `b`: built in, an extension's, or an array.
    Base,
    /// `e`: an enum.
    Enum,
    /// `d`: a domain; its base type's name is asked for instead. Of an array: its elements are of a domain.
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
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the column")]
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
    /// `attndims`: dimensions that an array was declared with.
    pub dimensions: i32,
    /// Whether the column's own type is a domain.
    pub domain: bool,
    /// Whether PostgreSQL computes the column (`attgenerated`).
    pub generated: bool,
    /// Whether NULL is possible.
    pub nullable: bool,
    /// What an event has in the place of NULL.
    pub null_as: NullAs,
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

/// Maps a column's type, NULL considered for arrays alone: ClickHouse has none that is NULL.
pub fn map_type(column: &PgColumn) -> MappedType {
    let Some(element) = pg_types::element(&column.type_name) else {
        let (wire, r#type) = if column.kind == TypeKind::Enum {
            (pg_types::ENUM.wire, pg_types::ENUM.stored.parse().unwrap_or(ChType::String))
        } else {
            pg_types::scalar(&column.type_name)
        };
        return MappedType { wire, array: false, r#type };
    };
    let row = pg_types::find(element);
    let carried = row.arrays
        && column.dimensions <= 1
        && !column.domain
        && !matches!(column.kind, TypeKind::Domain | TypeKind::Enum);
    if !carried {
        return MappedType { wire: Wire::Unstreamed, array: true, r#type: ChType::String };
    }
    let r#type = if column.nullable && column.key.is_none() {
        ChType::String
    } else {
        ChType::Array(Box::new(pg_types::scalar(element).1.nullable()))
    };
    MappedType { wire: row.wire, array: true, r#type }
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
        if column.generated {
            if column.key.is_some() {
                refusals.push(Refusal::GeneratedKey { column: column.name.clone() });
            }
            left_out.push(LeftOut {
                source: column.name.clone(),
                attnum: column.attnum,
                why: LeftOutReason::Generated,
            });
            continue;
        }
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
    let mapped = map_type(column);
    if column.key.is_some() && !is_unambiguous_key(column) {
        return Err(Refusal::AmbiguousKey { column: column.name.clone(), pg_type: column.type_name.clone() });
    }
    let may_be_null = column.nullable && column.key.is_none();
    let asked = wish.and_then(|wish| wish.out_of_range);
    let plain = match wish.and_then(|wish| wish.r#type.as_deref()) {
        Some(given) => overridden(column, &mapped, given, may_be_null)?,
        None if asked == Some(OutOfRange::Text) && !mapped.array => as_text(mapped.r#type),
        None => mapped.r#type,
    };
    let r#type = if may_be_null { plain.nullable() } else { plain };
    let out_of_range = match asked {
        Some(OutOfRange::Null | OutOfRange::Clamp) if column.key.is_some() => {
            return Err(Refusal::OutOfRangeKey { column: column.name.clone() });
        }
        Some(OutOfRange::Null) if !r#type.is_nullable() && !matches!(r#type, ChType::Array(_)) => {
            return Err(Refusal::OutOfRangeNull { column: column.name.clone() });
        }
        Some(OutOfRange::Text) if !is_text(&r#type) => {
            return Err(Refusal::OutOfRangeText { column: column.name.clone(), given: r#type });
        }
        Some(chosen) => chosen,
        None if column.key.is_some() => OutOfRange::DeadLetter,
        None if r#type.is_nullable() => OutOfRange::Null,
        None => OutOfRange::Clamp,
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
        null_as: if may_be_null { column.null_as } else { NullAs::Null },
    })
}

/// The type that holds PostgreSQL's text of every value; types that hold every value stay.
fn as_text(r#type: ChType) -> ChType {
    match r#type {
        ChType::Decimal { .. } | ChType::Date32 | ChType::DateTime64 { .. } => ChType::String,
        whole => whole,
    }
}

/// Whether no value is out of the type's range, or the type is text.
fn is_text(r#type: &ChType) -> bool {
    let plain = r#type.clone().without_null();
    !matches!(plain, ChType::Array(_)) && as_text(plain.clone()) == plain
}

/// Whether equal values of a key column always have equal bytes in their column.
fn is_unambiguous_key(column: &PgColumn) -> bool {
    if pg_types::element(&column.type_name).is_some() || !column.deterministic {
        return false;
    }
    if column.kind == TypeKind::Enum {
        return pg_types::ENUM.key;
    }
    pg_types::find(&column.type_name).key && pg_types::scalar(&column.type_name).0 != Wire::Unstreamed
}

fn is_integer(r#type: &ChType) -> bool {
    matches!(
        r#type,
        ChType::Int16 | ChType::Int32 | ChType::Int64 | ChType::UInt8 | ChType::UInt32 | ChType::UInt64
    )
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
