//! What a column holds, in the words of `expected.sql`: an independent reading of the wire form.

use serde_json::Value;
use tidemark_crds::layout::{ColumnLayout, Wire};
use tidemark_crds::types::ChType;
use tidemark_sink::native::Column;

/// Text of a row's value, `None` for NULL.
pub(super) fn value(ch_type: &ChType, column: &Column, row: usize) -> Option<String> {
    let mut bytes = Vec::new();
    column.row_binary(row, &mut bytes);
    let mut rest = bytes.as_slice();
    let text = read(ch_type, &mut rest);
    assert_eq!(rest, b"", "the value is read whole");
    text
}

/// A text in the form in which both sides can be compared: decimals without zeros at their end.
pub(super) fn canonical(column: &ColumnLayout, text: &str) -> String {
    if column.wire == Wire::Decimal { without_zeros(text) } else { text.to_owned() }
}

fn read(ch_type: &ChType, rest: &mut &[u8]) -> Option<String> {
    Some(match ch_type {
        ChType::Nullable(inner) => {
            return if take::<1>(rest) == [1] { None } else { read(inner, rest) };
        }
        ChType::LowCardinality(inner) => return read(inner, rest),
        ChType::Bool => (take::<1>(rest) == [1]).to_string(),
        ChType::UInt8 => take::<1>(rest)[0].to_string(),
        ChType::Int16 => i16::from_le_bytes(take(rest)).to_string(),
        ChType::Int32 | ChType::Date32 => i32::from_le_bytes(take(rest)).to_string(),
        ChType::UInt32 => u32::from_le_bytes(take(rest)).to_string(),
        ChType::Int64 | ChType::DateTime64 { .. } => i64::from_le_bytes(take(rest)).to_string(),
        ChType::UInt64 => u64::from_le_bytes(take(rest)).to_string(),
        ChType::UInt128 => u128::from_le_bytes(take(rest)).to_string(),
        ChType::Float32 => float(f64::from(f32::from_le_bytes(take(rest)))),
        ChType::Float64 => float(f64::from_le_bytes(take(rest))),
        ChType::Decimal { precision, scale } => {
            let unscaled = match precision {
                0..=9 => i128::from(i32::from_le_bytes(take(rest))),
                10..=18 => i128::from(i64::from_le_bytes(take(rest))),
                19..=38 => i128::from_le_bytes(take(rest)),
                _ => panic!("no recorded column is that wide"),
            };
            let scale = usize::from(*scale);
            let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if unscaled < 0 { "-" } else { "" };
            without_zeros(&format!("{sign}{whole}.{fraction}"))
        }
        ChType::String => {
            let bytes = take_text(rest);
            // Bytes that are no text are PostgreSQL's bytea.
            String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| {
                bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).map(char::from).collect()
            })
        }
        ChType::Uuid => {
            let value = u128::from_le_bytes(take(rest)).rotate_left(64);
            let hex = format!("{value:032x}");
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
        }
        ChType::Array(inner) => {
            let count = take::<1>(rest)[0];
            let number = matches!(**inner, ChType::Nullable(ref inner) if **inner == ChType::Int32);
            let element = |rest: &mut &[u8]| match read(inner, rest) {
                None => Value::Null,
                Some(text) if number => text.parse::<i64>().unwrap().into(),
                Some(text) => text.into(),
            };
            Value::Array((0..count).map(|_| element(rest)).collect()).to_string()
        }
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, behind) = rest.split_first_chunk::<N>().unwrap();
    *rest = behind;
    *taken
}

fn take_text<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let [byte] = take::<1>(rest);
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (taken, behind) = rest.split_at(length);
    *rest = behind;
    taken
}

fn without_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

fn float(value: f64) -> String {
    if value.is_infinite() {
        format!("{}Infinity", if value < 0.0 { "-" } else { "" })
    } else {
        value.to_string()
    }
}
