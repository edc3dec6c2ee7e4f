//! Types that the spec asks for in place of the mapped ones. Pure.

use super::{MappedType, PgColumn, Refusal, TypeKind, is_integer};
use crate::pg_types::{self, split_modifier};
use crate::types::ChType;

/// The type of the spec for a column, made one that can hold what the column can.
pub(super) fn overridden(
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
    let element_type = pg_types::element(&column.type_name).filter(|_| mapped.array);
    let fits = match (&plain, element_type) {
        (ChType::Array(inner), Some(element)) => {
            column.dimensions <= 1
                && can_hold(&scalar_of(element, column.kind), &inner.as_ref().clone().without_null())
        }
        // The one type whose text is an array's without being one.
        (ChType::Array(inner), None) => {
            is_vector(&column.type_name)
                && matches!(inner.as_ref().clone().without_null(), ChType::Float32 | ChType::Float64)
        }
        (text, Some(_)) => *text == ChType::String,
        (scalar, None) => can_hold(&scalar_of(&column.type_name, column.kind), scalar),
    };
    if !fits {
        return Err(Refusal::UnsuitableType {
            column: column.name.clone(),
            given: plain,
            pg_type: column.type_name.clone(),
            allowed: suitable(&scalar_of(element_type.unwrap_or(&column.type_name), column.kind)),
        });
    }
    // An array's elements can be NULL at the source whatever the column says.
    Ok(match plain {
        ChType::Array(element) if !is_vector(&column.type_name) => {
            ChType::Array(Box::new(element.nullable()))
        }
        other => other,
    })
}

/// Whether the type is pgvector's dense one, whose text is that of a list of numbers.
pub fn is_vector(type_name: &str) -> bool {
    let (name, _) = split_modifier(type_name);
    let last = name.rsplit_once('.').map_or(name.as_ref(), |(_, last)| last);
    matches!(last, "vector" | "halfvec")
}

/// ClickHouse type that a scalar of the type has by default: what it is, whether events have it or not.
fn scalar_of(type_name: &str, kind: TypeKind) -> ChType {
    if kind == TypeKind::Enum {
        return ChType::String;
    }
    match pg_types::find(type_name).names.first() {
        Some(&"numeric") => ChType::Decimal { precision: 38, scale: 0 },
        Some(&"bit") if pg_types::bits(type_name) == 1 => ChType::Bool,
        Some(&"json" | &"bytea") => ChType::String,
        _ => pg_types::scalar(type_name).1,
    }
}

/// Whether values whose own type is `own` can be written into a column of the (not nullable) type.
fn can_hold(own: &ChType, r#type: &ChType) -> bool {
    match (own, r#type) {
        // A String takes PostgreSQL's text of any value.
        (_, ChType::LowCardinality(inner)) => **inner == ChType::String,
        (_, ChType::String)
        | (ChType::Bool, ChType::Bool)
        | (ChType::Uuid, ChType::Uuid)
        | (ChType::Date32, ChType::Date32)
        | (ChType::DateTime64 { .. }, ChType::DateTime64 { .. })
        | (ChType::Decimal { .. }, ChType::Decimal { .. })
        | (ChType::Float32 | ChType::Float64, ChType::Float32 | ChType::Float64) => true,
        (own, given) if is_integer(own) => is_integer(given) || matches!(given, ChType::Decimal { .. }),
        _ => false,
    }
}

fn suitable(own: &ChType) -> &'static str {
    match own {
        ChType::Bool => "Bool or String",
        ChType::Float32 | ChType::Float64 => "Float32, Float64 or String",
        ChType::Decimal { .. } => "Decimal(p, s) or String",
        ChType::Uuid => "UUID or String",
        ChType::Date32 => "Date32 or String",
        ChType::DateTime64 { .. } => "DateTime64(p, 'UTC') or String",
        own if is_integer(own) => "Int16, Int32, Int64, UInt8, UInt32, UInt64, Decimal(p, s) or String",
        _ => "String or LowCardinality(String)",
    }
}
