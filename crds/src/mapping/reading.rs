//! How a column's values are read from PostgreSQL's text, and what they are in ClickHouse's words. Pure.

use super::{is_integer, is_text};
use crate::layout::{ColumnLayout, Wire};
use crate::pg_types::{self, split_modifier};
use crate::types::ChType;
use crate::{pg_quote, quote};

/// Whether a column's type holds less than its PostgreSQL type has: a value that does not fit tells of no change at
/// the source then.
pub fn is_narrowed(column: &ColumnLayout) -> bool {
    let element = pg_types::element(&column.pg_type).filter(|_| column.array);
    let stored = match &column.r#type {
        ChType::Array(inner) => inner.as_ref().clone(),
        scalar => scalar.clone(),
    };
    let (_, whole) = pg_types::scalar(element.unwrap_or(&column.pg_type));
    !whole.widens_to(&stored.without_null())
}

/// What to select of a column so that its text is the one that the sink takes, quoted.
pub fn read_expression(column: &ColumnLayout) -> String {
    let name = pg_quote::ident(&column.source);
    if pg_types::element(&column.pg_type).is_none()
        && split_modifier(&column.pg_type).0 == "money"
        && !is_text(&column.r#type)
    {
        // Its text depends on lc_monetary; the number does not.
        return format!("{name}::numeric");
    }
    name
}

/// ClickHouse's expression of the value that rows have which were written before the column was; `None` where there
/// is none that is exact: the rows must be read again.
pub fn exact_default(column: &ColumnLayout) -> Option<String> {
    let text = column.missing.as_deref()?;
    if column.array {
        return None;
    }
    let digits = |text: &str| {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        unsigned.bytes().any(|b| b.is_ascii_digit())
            && unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    let year =
        text.get(..5).filter(|head| head.ends_with('-')).and_then(|head| head[..4].parse::<u16>().ok());
    let in_range = year.is_some_and(|year| (1900..=2299).contains(&year)) && !text.ends_with("BC");
    let plain = column.r#type.clone().without_null();
    let value = match plain {
        ChType::Bool if matches!(text, "t" | "true") => "true".to_owned(),
        ChType::Bool if matches!(text, "f" | "false") => "false".to_owned(),
        ref integer if is_integer(integer) && digits(text) && !text.contains('.') => quote::literal(text),
        ChType::Decimal { scale, .. }
            if digits(text) && text.split_once('.').map_or(0, |(_, f)| f.len()) <= usize::from(scale) =>
        {
            quote::literal(text)
        }
        ChType::Uuid => quote::literal(text),
        ChType::Date32 if in_range && text.len() == 10 => quote::literal(text),
        ChType::DateTime64 { precision: 6 } if in_range => {
            format!("parseDateTime64BestEffort({}, 6, 'UTC')", quote::literal(text))
        }
        ChType::String | ChType::LowCardinality(_) if column.wire != Wire::Base64 => quote::literal(text),
        _ => return None,
    };
    Some(format!("CAST({value} AS {})", column.r#type))
}
