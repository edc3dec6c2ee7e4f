//! The newest rows of some keys in their table, by point reads. Pure but for [`read`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidemark_crds::layout::{DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::quote;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use crate::native::{Column, Corrupt};
use crate::overlay::Stored;
use crate::plan::TablePlan;

/// Keys of one statement at most, and bytes of them: the server takes 256 KiB of text (`max_query_size`).
pub(crate) const POINTS: (usize, usize) = (1000, 96 << 10);
/// Longest answer, bytes: rows are as large as their values.
const ANSWER_LIMIT: usize = 1 << 30;

/// Reads the newest row of each key: its version, and the columns at these places.
pub async fn read(
    clickhouse: &ClickHouse,
    plan: &TablePlan,
    keys: &[&[u8]],
    columns: &BTreeSet<usize>,
) -> Result<HashMap<Vec<u8>, Stored>, Error> {
    let corrupt =
        |Corrupt| Error::new(ErrorClass::Permanent, "a row in RowBinary is not of the form asked for");
    // A row that another replica of the server took must be seen.
    let settings = [("select_sequential_consistency", "1"), ("max_query_size", "1048576")];
    let clickhouse = clickhouse.with_limit(ANSWER_LIMIT);
    let mut stored = HashMap::new();
    for keys in portions(plan, keys, POINTS).map_err(corrupt)? {
        let sql = statement(plan, &keys, columns);
        let answer = clickhouse.query_bytes_with_settings(&sql, "RowBinary", &settings).await?;
        stored.extend(rows_of(plan, columns, &answer).map_err(corrupt)?);
    }
    Ok(stored)
}

/// Keys as literals, in portions of at most so many keys, and bytes of text, as fit a statement.
pub(crate) fn portions(
    plan: &TablePlan,
    keys: &[&[u8]],
    (most_keys, most_bytes): (usize, usize),
) -> Result<Vec<Vec<String>>, Corrupt> {
    let mut portions: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for key in keys {
        let literal = key_literal(plan, key)?;
        bytes += literal.len() + 2;
        match portions.last_mut() {
            Some(last) if bytes <= most_bytes && last.len() < most_keys => last.push(literal),
            _ => {
                bytes = literal.len() + 2;
                portions.push(vec![literal]);
            }
        }
    }
    Ok(portions)
}

/// The statement that reads the newest row of each key; it names keys by their bytes, whatever their type.
fn statement(plan: &TablePlan, keys: &[String], columns: &BTreeSet<usize>) -> String {
    let layout = &plan.layout;
    let named = |place: &usize| layout.columns[*place].stored.as_str();
    let key = quote::ident_list(plan.key.iter().map(named));
    let wanted = plan.key.iter().map(named).chain(columns.iter().map(named));
    let wanted = quote::ident_list(wanted.chain([VERSION_COLUMN, DELETED_COLUMN]));
    format!(
        "SELECT {wanted} FROM {} WHERE ({key}) IN ({}) ORDER BY {} DESC LIMIT 1 BY {key}",
        quote::ident(&layout.target),
        keys.join(", "),
        quote::ident(VERSION_COLUMN),
    )
}

/// A tuple of key values, each from its bytes in RowBinary.
fn key_literal(plan: &TablePlan, key: &[u8]) -> Result<String, Corrupt> {
    let parts = key_literals(plan, key)?;
    Ok(if parts.len() == 1 { parts.concat() } else { format!("({})", parts.join(", ")) })
}

/// Each value of a key as a literal, from its bytes in RowBinary.
pub(crate) fn key_literals(plan: &TablePlan, key: &[u8]) -> Result<Vec<String>, Corrupt> {
    use std::fmt::Write as _;
    let mut rest = key;
    let mut parts = Vec::new();
    for place in &plan.key {
        let ch_type = &plan.layout.columns[*place].r#type;
        let mut column = Column::new(ch_type).map_err(|_| Corrupt)?;
        let before = rest;
        column.push_row_binary(&mut rest)?;
        let mut bytes = &before[..before.len() - rest.len()];
        let type_name = column.wire_type().to_owned();
        let text = matches!(type_name.as_str(), "String" | "LowCardinality(String)");
        if text {
            crate::native::take_varint(&mut bytes).ok_or(Corrupt)?;
        }
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        });
        parts.push(match type_name.as_str() {
            _ if text => format!("unhex('{hex}')"),
            // The one type of keys that the server reinterprets nothing as.
            "Date32" => format!("CAST(reinterpret(unhex('{hex}'), 'Int32') AS Date32)"),
            name => format!("reinterpret(unhex('{hex}'), {})", quote::literal(name)),
        });
    }
    Ok(parts)
}

/// Takes the value of a column off the front of an answer in RowBinary.
pub(crate) fn take_value(plan: &TablePlan, place: usize, answer: &mut &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut reader = Column::new(&plan.layout.columns[place].r#type).map_err(|_| Corrupt)?;
    let before = *answer;
    reader.push_row_binary(answer)?;
    Ok(before[..before.len() - answer.len()].to_vec())
}

/// Reads the answer of a point read.
fn rows_of(
    plan: &TablePlan,
    columns: &BTreeSet<usize>,
    mut answer: &[u8],
) -> Result<HashMap<Vec<u8>, Stored>, Corrupt> {
    let mut stored = HashMap::new();
    while !answer.is_empty() {
        let mut key = Vec::new();
        for place in &plan.key {
            key.extend(take_value(plan, *place, &mut answer)?);
        }
        let mut values = BTreeMap::new();
        for place in columns {
            values.insert(*place, take_value(plan, *place, &mut answer)?);
        }
        let (version, rest) = answer.split_first_chunk::<16>().ok_or(Corrupt)?;
        let (deleted, rest) = rest.split_first().ok_or(Corrupt)?;
        answer = rest;
        let version = Version(u128::from_le_bytes(*version));
        let row = if *deleted == 0 { Stored::Live { version, values } } else { Stored::Deleted { version } };
        stored.insert(key, row);
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use tidemark_crds::layout::Wire;
    use tidemark_crds::types::ChType;

    use super::*;
    use crate::read::table_tests::{column, layout, plan};

    #[test]
    fn a_date_in_a_key_is_named_by_its_day_since_no_bytes_are_reinterpreted_as_one() {
        let mut layout = layout();
        layout.columns.push(column("day", 4, "date", Wire::Date, ChType::Date32, Some(1)));
        let mut key = 7_i64.to_le_bytes().to_vec();
        key.extend((-1_i32).to_le_bytes());
        assert_eq!(
            key_literal(&plan(layout), &key).unwrap(),
            "(reinterpret(unhex('0700000000000000'), 'Int64'), CAST(reinterpret(unhex('FFFFFFFF'), 'Int32') AS Date32))"
        );
    }

    #[test]
    fn keys_are_parted_by_their_number_and_by_their_text() {
        let keys: Vec<Vec<u8>> = (0..5_i64).map(|id| id.to_le_bytes().to_vec()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let sizes = |limit| {
            let portions = portions(&plan(layout()), &keys, limit).unwrap();
            portions.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes((2, 1000)), [2, 2, 1]);
        assert_eq!(sizes((9, 100)), [2, 2, 1]);
        assert_eq!(sizes((9, 1)), [1; 5]);
    }
}
