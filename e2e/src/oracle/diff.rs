//! Comparing two sets of rows. Pure.

use std::collections::BTreeMap;
use std::fmt;

/// A row: each column's canonical text, `None` for NULL.
pub type Row = Vec<Option<String>>;

/// How many differences of one object are kept; the rest is only counted.
pub(super) const SHOWN: usize = 20;

/// One row that differs, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What differs between one object on PostgreSQL and the same on ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The table or view, and how it was read.
    pub object: String,
    /// Rows on PostgreSQL and on ClickHouse.
    pub rows: (usize, usize),
    /// Differences in all.
    pub count: usize,
    /// The first [`SHOWN`] of them.
    pub differences: Vec<Difference>,
}

impl Mismatch {
    /// Makes a mismatch of an object's columns rather than its rows.
    pub fn structural(object: &str, texts: Vec<String>) -> Self {
        let differences: Vec<Difference> = texts.into_iter().map(Difference).collect();
        Self { object: object.into(), rows: (0, 0), count: differences.len(), differences }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, rows: (postgres, clickhouse), count, differences } = self;
        write!(
            formatter,
            "{object}: {count} differences ({postgres} rows in PostgreSQL, {clickhouse} in ClickHouse)"
        )?;
        for difference in differences {
            write!(formatter, "\n  {difference}")?;
        }
        Ok(())
    }
}

/// Compares two multisets of rows; `None` when they are equal.
///
/// Rows without a partner are paired by their first `key` columns, so that the
/// report names the columns that differ and not only the rows.
pub fn compare(
    object: &str,
    columns: &[String],
    key: usize,
    postgres: Vec<Row>,
    clickhouse: Vec<Row>,
) -> Option<Mismatch> {
    let rows = (postgres.len(), clickhouse.len());
    let mut surplus: BTreeMap<Row, i64> = BTreeMap::new();
    for row in postgres {
        *surplus.entry(row).or_default() += 1;
    }
    for row in clickhouse {
        *surplus.entry(row).or_default() -= 1;
    }
    let mut unpaired: BTreeMap<Row, (Vec<Row>, Vec<Row>)> = BTreeMap::new();
    for (row, times) in surplus {
        let pair = unpaired.entry(row[..key.min(row.len())].to_vec()).or_default();
        for _ in 0..times.unsigned_abs() {
            if times > 0 {
                pair.0.push(row.clone());
            } else {
                pair.1.push(row.clone());
            }
        }
    }
    let mut all = Vec::new();
    for (left, right) in unpaired.into_values() {
        let both = left.len().min(right.len());
        all.extend(left.iter().zip(&right).map(|(left, right)| changed(columns, key, left, right)));
        all.extend(
            left[both..].iter().map(|row| Difference(format!("only in PostgreSQL: {}", named(columns, row)))),
        );
        all.extend(
            right[both..]
                .iter()
                .map(|row| Difference(format!("only in ClickHouse: {}", named(columns, row)))),
        );
    }
    if all.is_empty() {
        return None;
    }
    let count = all.len();
    all.truncate(SHOWN);
    Some(Mismatch { object: object.into(), rows, count, differences: all })
}

fn changed(columns: &[String], key: usize, left: &Row, right: &Row) -> Difference {
    let key = named(&columns[..key.min(columns.len())], left);
    let parts: Vec<String> = columns
        .iter()
        .zip(left.iter().zip(right))
        .filter(|(_, (left, right))| left != right)
        .map(|(column, (left, right))| {
            format!(
                "{column} is {} in PostgreSQL, {} in ClickHouse",
                text(left.as_ref()),
                text(right.as_ref())
            )
        })
        .collect();
    Difference(format!("{key}: {}", parts.join("; ")))
}

fn named(columns: &[String], row: &[Option<String>]) -> String {
    columns
        .iter()
        .zip(row)
        .map(|(column, value)| format!("{column}={}", text(value.as_ref())))
        .collect::<Vec<_>>()
        .join(" ")
}

fn text(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".into(), |text| format!("{text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect()
    }

    fn columns() -> Vec<String> {
        ["id", "name", "note"].map(str::to_owned).to_vec()
    }

    fn diff(postgres: &[&[&str]], clickhouse: &[&[&str]]) -> Option<Mismatch> {
        let rows = |all: &[&[&str]]| all.iter().map(|values| row(values)).collect();
        compare("t", &columns(), 1, rows(postgres), rows(clickhouse))
    }

    #[test]
    fn equal_rows_in_another_order_are_equal() {
        assert_eq!(
            diff(&[&["1", "a", "x"], &["2", "b", "NULL"]], &[&["2", "b", "NULL"], &["1", "a", "x"]]),
            None
        );
        assert_eq!(diff(&[], &[]), None);
    }

    #[test]
    fn a_changed_column_is_named_with_both_values() {
        let mismatch = diff(&[&["1", "a", "NULL"]], &[&["1", "b", ""]]).unwrap();
        assert_eq!(
            mismatch.differences[0].to_string(),
            r#"id="1": name is "a" in PostgreSQL, "b" in ClickHouse; note is NULL in PostgreSQL, "" in ClickHouse"#
        );
    }

    #[test]
    fn a_row_on_one_side_alone_is_shown_whole() {
        let mismatch = diff(&[&["1", "a", "x"]], &[&["2", "a", "x"]]).unwrap();
        assert_eq!(mismatch.count, 2);
        assert!(mismatch.to_string().contains(r#"only in PostgreSQL: id="1" name="a" note="x""#));
        assert!(mismatch.to_string().contains(r#"only in ClickHouse: id="2" name="a" note="x""#));
    }

    #[test]
    fn a_row_that_is_there_twice_is_a_difference() {
        let mismatch = diff(&[&["1", "a", "x"]], &[&["1", "a", "x"], &["1", "a", "x"]]).unwrap();
        assert_eq!((mismatch.count, mismatch.rows), (1, (1, 2)));
    }

    #[test]
    fn the_report_ends_after_the_first_differences_and_counts_the_rest() {
        let numbers: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let rows: Vec<Row> = numbers.iter().map(|number| row(&[number, "a", "x"])).collect();
        let mismatch = compare("t", &columns(), 1, rows, Vec::new()).unwrap();
        assert_eq!((mismatch.count, mismatch.differences.len()), (30, SHOWN));
    }
}
