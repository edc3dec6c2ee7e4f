//! The newest rows of some keys in their table, by point reads. Pure but for [`read`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidemark_crds::layout::{DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::quote;
use tidemark_crds::types::ChType;
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
    for condition in conditions(plan, keys, POINTS).map_err(corrupt)? {
        let sql = statement(plan, &condition, columns);
        let answer = clickhouse.query_bytes_with_settings(&sql, "RowBinary", &settings).await?;
        stored.extend(rows_of(plan, columns, &answer).map_err(corrupt)?);
    }
    Ok(stored)
}

/// The statement that reads the newest row of each key; it names keys by their bytes, whatever their type.
fn statement(plan: &TablePlan, condition: &str, columns: &BTreeSet<usize>) -> String {
    let layout = &plan.layout;
    let named = |place: &usize| layout.columns[*place].stored.as_str();
    let key = quote::ident_list(plan.key.iter().map(named));
    let wanted = plan.key.iter().map(named).chain(columns.iter().map(named));
    let wanted = quote::ident_list(wanted.chain([VERSION_COLUMN, DELETED_COLUMN]));
    format!(
        "SELECT {wanted} FROM {} WHERE {condition} ORDER BY {} DESC LIMIT 1 BY {key}",
        quote::ident(&layout.target),
        quote::ident(VERSION_COLUMN),
    )
}

/// Each value of a key as a literal, from its bytes in RowBinary.
pub(crate) fn key_literals(plan: &TablePlan, key: &[u8]) -> Result<Vec<String>, Corrupt> {
    let digits = key_digits(plan, key)?;
    let types = plan.key.iter().map(|place| &plan.layout.columns[*place].r#type);
    types.zip(digits).map(|(of, digits)| value_of(of, &quote::literal(&digits))).collect()
}

/// The bytes of each value of a key, as hexadecimal digits.
fn key_digits(plan: &TablePlan, key: &[u8]) -> Result<Vec<String>, Corrupt> {
    use std::fmt::Write as _;
    let mut rest = key;
    let mut parts = Vec::new();
    for place in &plan.key {
        let mut column = Column::new(&plan.layout.columns[*place].r#type).map_err(|_| Corrupt)?;
        let before = rest;
        column.push_row_binary(&mut rest)?;
        let mut bytes = &before[..before.len() - rest.len()];
        if is_text(column.wire_type()) {
            crate::native::take_varint(&mut bytes).ok_or(Corrupt)?;
        }
        parts.push(bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02X}");
            hex
        }));
    }
    Ok(parts)
}

fn is_text(wire_type: &str) -> bool {
    matches!(wire_type, "String" | "LowCardinality(String)")
}

/// The value of a key column whose bytes an expression has as hexadecimal digits.
fn value_of(of: &ChType, digits: &str) -> Result<String, Corrupt> {
    let column = Column::new(of).map_err(|_| Corrupt)?;
    Ok(match column.wire_type() {
        text if is_text(text) => format!("unhex({digits})"),
        // The one type of keys that the server reinterprets nothing as.
        "Date32" => format!("CAST(reinterpret(unhex({digits}), 'Int32') AS Date32)"),
        name => format!("reinterpret(unhex({digits}), {})", quote::literal(name)),
    })
}

/// Conditions that select keys, each with at most so many of them, and bytes of text, as fit a statement.
///
/// The keys are one literal, whose values the server makes all at once: a function for each takes it eight times as long.
pub(crate) fn conditions(
    plan: &TablePlan,
    keys: &[&[u8]],
    (most_keys, most_bytes): (usize, usize),
) -> Result<Vec<String>, Corrupt> {
    let single = plan.key.len() == 1;
    let columns = plan.key.iter().map(|place| &plan.layout.columns[*place]);
    let names = quote::ident_list(columns.clone().map(|column| column.stored.as_str()));
    let values = columns.enumerate().map(|(at, column)| {
        value_of(&column.r#type, &if single { "k".to_owned() } else { format!("k.{}", at + 1) })
    });
    let values = values.collect::<Result<Vec<String>, Corrupt>>()?.join(", ");
    let (mut all, mut list, mut count) = (Vec::new(), String::new(), 0);
    let mut end = |list: &mut String| {
        let list = std::mem::take(list);
        all.push(format!("({names}) IN (SELECT {values} FROM (SELECT arrayJoin([{list}]) AS k))"));
    };
    for key in keys {
        let parts = key_digits(plan, key)?.into_iter().map(|digits| quote::literal(&digits));
        let parts = parts.collect::<Vec<String>>().join(",");
        let one = if single { parts } else { format!("({parts})") };
        if count == most_keys || count > 0 && list.len() + one.len() >= most_bytes {
            end(&mut list);
            count = 0;
        }
        if count > 0 {
            list.push(',');
        }
        list.push_str(&one);
        count += 1;
    }
    if count > 0 {
        end(&mut list);
    }
    Ok(all)
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
            key_literals(&plan(layout), &key).unwrap().join(", "),
            "reinterpret(unhex('0700000000000000'), 'Int64'), CAST(reinterpret(unhex('FFFFFFFF'), 'Int32') AS Date32)"
        );
    }

    #[test]
    fn keys_are_one_literal_and_parted_by_their_number_and_by_their_text() {
        let keys: Vec<Vec<u8>> = (0..5_i64).map(|id| id.to_le_bytes().to_vec()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let of = |limit| conditions(&plan(layout()), &keys, limit).unwrap();
        assert_eq!(
            of((2, 1000))[2],
            "(`id`) IN (SELECT reinterpret(unhex(k), 'Int64') FROM (SELECT arrayJoin(['0400000000000000']) AS k))"
        );
        for (limit, parts) in [((2, 1000), 3), ((9, 40), 3), ((9, 1), 5), ((9, 1000), 1)] {
            assert_eq!(of(limit).len(), parts, "{limit:?}");
        }
        let mut layout = layout();
        layout.columns.push(column("part", 4, "text", Wire::Text, ChType::String, Some(1)));
        let key = [&7_i64.to_le_bytes()[..], &[2, b'x', 0xFF]].concat();
        assert_eq!(
            conditions(&plan(layout), &[&key, &key], POINTS).unwrap(),
            ["(`id`, `part`) IN (SELECT reinterpret(unhex(k.1), 'Int64'), unhex(k.2) \
              FROM (SELECT arrayJoin([('0700000000000000','78FF'),('0700000000000000','78FF')]) AS k))"]
        );
    }
}
