//! The state table as readers of `_current` see it, by ranges of its own order and by keys. Pure but for [`Target`].

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tidemark_crds::layout::VERSION_COLUMN;
use tidemark_crds::ledger::FENCES_TABLE;
use tidemark_crds::quote;
use tidemark_crds::types::ChType;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use super::compare::{Found, Live};
use crate::native::{Corrupt, take_varint};
use crate::overlay::Stored;
use crate::plan::TablePlan;
use crate::stored;

/// Deadline of one question.
const DEADLINE: Duration = Duration::from_secs(40);
/// Longest answer, bytes: the memory that a range takes.
const ANSWER_LIMIT: usize = 48 << 20;
/// Keys of one statement without values, and bytes of them: where keys are in no order, each statement reads most of the
/// table's keys, however many it asks for.
const LOOKED_UP: (usize, usize) = (20_000, 8 << 20);
/// Rows that one statement removes.
const REMOVED: usize = 500;
/// Settings of every question: what a session could set otherwise, and how much of the server one may take.
const SETTINGS: [(&str, &str); 6] = [
    ("select_sequential_consistency", "1"),
    ("max_query_size", "16777216"),
    ("max_threads", "1"),
    ("max_execution_time", "30"),
    ("use_skip_indexes_if_final", "0"),
    ("apply_deleted_mask", "1"),
];

/// Reads state tables.
#[derive(Debug, Clone)]
pub(super) struct Target {
    clickhouse: ClickHouse,
}

fn corrupt(_: Corrupt) -> Error {
    Error::new(ErrorClass::Permanent, "a row in RowBinary is not of the form asked for")
}

impl Target {
    /// Reads through a client whose default database is the target.
    pub(super) fn new(clickhouse: &ClickHouse) -> Self {
        Self { clickhouse: clickhouse.with_deadline(DEADLINE).with_limit(ANSWER_LIMIT) }
    }

    async fn ask(&self, sql: &str) -> Result<bytes::Bytes, Error> {
        self.clickhouse.query_bytes_with_settings(sql, "RowBinary", &SETTINGS).await
    }

    /// Asks for columns of a state table, and looks whether they are of the types that the layout has: while a table is
    /// changed it has others for a moment, and their bytes would pass for other values.
    async fn ask_typed(&self, sql: &str, expected: &[String]) -> Result<bytes::Bytes, Error> {
        let answer = self.clickhouse.query_bytes_with_settings(sql, "RowBinaryWithNamesAndTypes", &SETTINGS);
        let answer = answer.await?;
        let mut rest = &answer[..];
        let types = types(&mut rest).map_err(corrupt)?;
        if !is_of(&types, expected) {
            let text = "the state table has columns of other types than its layout";
            return Err(Error::new(ErrorClass::Transient, text));
        }
        Ok(answer.slice(answer.len() - rest.len()..))
    }

    /// The last key of a range behind `after` that has `rows` rows, every version counted; `None`: fewer follow.
    pub(super) async fn edge(
        &self,
        plan: &TablePlan,
        after: Option<&[u8]>,
        rows: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let sql = edge_statement(plan, after, rows).map_err(corrupt)?;
        let answer = self.ask_typed(&sql, &key_types(plan)).await?;
        let mut rest = &answer[..];
        let mut key = Vec::new();
        for place in &plan.key {
            if rest.is_empty() {
                return Ok(None);
            }
            key.extend(stored::take_value(plan, *place, &mut rest).map_err(corrupt)?);
        }
        Ok(Some(key))
    }

    /// Rows of a range: behind `after`, up to and with `last`.
    pub(super) async fn range(
        &self,
        plan: &TablePlan,
        after: Option<&[u8]>,
        last: Option<&[u8]>,
    ) -> Result<HashMap<Vec<u8>, Live>, Error> {
        let condition = between(plan, after, last).map_err(corrupt)?;
        self.live(plan, &condition, true).await
    }

    /// Which of some keys have a row.
    pub(super) async fn having(
        &self,
        plan: &TablePlan,
        keys: &[Vec<u8>],
    ) -> Result<HashMap<Vec<u8>, Live>, Error> {
        self.of_keys(plan, keys, None).await
    }

    /// Everything about some keys.
    pub(super) async fn found(
        &self,
        plan: &TablePlan,
        keys: &[Vec<u8>],
    ) -> Result<HashMap<Vec<u8>, Found>, Error> {
        let mut live = self.of_keys(plan, keys, Some(stored::POINTS)).await?;
        // Those that readers do not see, after the others: what changes in between is seen as later.
        let hidden: Vec<&[u8]> =
            keys.iter().filter(|key| !live.contains_key(*key)).map(Vec::as_slice).collect();
        let mut newest = stored::read(&self.clickhouse, plan, &hidden, &BTreeSet::new()).await?;
        let found = |key: &Vec<u8>| {
            let live = live.remove(key);
            let hidden = newest.remove(key).map(|stored| match stored {
                Stored::Live { version, .. } | Stored::Deleted { version } => version,
            });
            let newest = live.as_ref().map(|live| live.version).or(hidden);
            (key.clone(), Found { live, newest })
        };
        Ok(keys.iter().map(found).collect())
    }

    /// Removes rows of keys with versions which no write could hide, and no others: what a change writes meanwhile stays.
    pub(super) async fn remove(&self, plan: &TablePlan, rows: &[(&[u8], Version)]) -> Result<(), Error> {
        for rows in rows.chunks(REMOVED) {
            let sql = remove_statement(plan, rows).map_err(corrupt)?;
            let settings = [("max_query_size", "16777216"), ("lightweight_deletes_sync", "2")];
            self.clickhouse.execute_with_settings(&sql, &settings).await?;
        }
        Ok(())
    }

    /// The greatest fence of a table.
    pub(super) async fn fence(&self, plan: &TablePlan) -> Result<Version, Error> {
        let answer = self.ask(&fence(plan)).await?;
        let version = answer.first_chunk::<16>().ok_or(Corrupt).map_err(corrupt)?;
        Ok(Version(u128::from_le_bytes(*version)))
    }

    /// Rows of keys: with values, in portions of this size, or their versions alone.
    async fn of_keys(
        &self,
        plan: &TablePlan,
        keys: &[Vec<u8>],
        values: Option<(usize, usize)>,
    ) -> Result<HashMap<Vec<u8>, Live>, Error> {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut all = HashMap::new();
        for condition in stored::conditions(plan, &keys, values.unwrap_or(LOOKED_UP)).map_err(corrupt)? {
            all.extend(self.live(plan, &condition, values.is_some()).await?);
        }
        Ok(all)
    }

    async fn live(
        &self,
        plan: &TablePlan,
        condition: &str,
        values: bool,
    ) -> Result<HashMap<Vec<u8>, Live>, Error> {
        let mut expected = key_types(plan);
        expected.push("UInt128".to_owned());
        if values {
            expected.extend(plan.layout.columns.iter().map(|column| column.r#type.to_string()));
        }
        let answer = self.ask_typed(&live_statement(plan, condition, values), &expected).await?;
        rows_of(plan, values, &answer).map_err(corrupt)
    }
}

fn key_columns(plan: &TablePlan) -> String {
    quote::ident_list(plan.key.iter().map(|place| plan.layout.columns[*place].stored.as_str()))
}

fn key_types(plan: &TablePlan) -> Vec<String> {
    plan.key.iter().map(|place| plan.layout.columns[*place].r#type.to_string()).collect()
}

/// Takes the header off an answer: the types of its columns.
fn types(answer: &mut &[u8]) -> Result<Vec<String>, Corrupt> {
    let columns = take_varint(answer).ok_or(Corrupt)?;
    let mut texts = Vec::new();
    for _ in 0..columns.saturating_mul(2) {
        let length = take_varint(answer).and_then(|length| usize::try_from(length).ok()).ok_or(Corrupt)?;
        let (text, rest) = answer.split_at_checked(length).ok_or(Corrupt)?;
        *answer = rest;
        texts.push(String::from_utf8(text.to_vec()).map_err(|_| Corrupt)?);
    }
    // Names come first.
    Ok(texts.split_off(texts.len() / 2))
}

/// Whether the types are these, however the server spells them.
fn is_of(types: &[String], expected: &[String]) -> bool {
    let same = |(one, other): (&String, &String)| {
        one == other
            || matches!((one.parse::<ChType>(), other.parse::<ChType>()), (Ok(one), Ok(other)) if one == other)
    };
    types.len() == expected.len() && types.iter().zip(expected).all(same)
}

fn remove_statement(plan: &TablePlan, rows: &[(&[u8], Version)]) -> Result<String, Corrupt> {
    let row = |(key, version): &(&[u8], Version)| {
        let mut parts = stored::key_literals(plan, key)?;
        parts.push(format!("toUInt128('{version}')"));
        Ok(format!("({})", parts.join(", ")))
    };
    let rows: Result<Vec<String>, Corrupt> = rows.iter().map(row).collect();
    Ok(format!(
        "DELETE FROM {} WHERE ({}, {VERSION_COLUMN}) IN ({})",
        quote::ident(&plan.layout.target),
        key_columns(plan),
        rows?.join(", "),
    ))
}

fn fence(plan: &TablePlan) -> String {
    let table = quote::literal(&plan.layout.target);
    format!("SELECT max(version) FROM {} WHERE table = {table}", quote::ident(FENCES_TABLE))
}

/// Rows by the rule of `_current`, with the key and the version in front of the values.
fn live_statement(plan: &TablePlan, condition: &str, values: bool) -> String {
    let stored = plan.layout.columns.iter().map(|column| column.stored.as_str());
    let values = if values { format!(", {}", quote::ident_list(stored)) } else { String::new() };
    format!(
        "SELECT {}, {VERSION_COLUMN}{values} FROM {} FINAL WHERE {condition} AND {VERSION_COLUMN} >= ({})",
        key_columns(plan),
        quote::ident(&plan.layout.target),
        fence(plan),
    )
}

fn edge_statement(plan: &TablePlan, after: Option<&[u8]>, rows: u64) -> Result<String, Corrupt> {
    let (key, condition) = (key_columns(plan), between(plan, after, None)?);
    Ok(format!(
        "SELECT {key} FROM {} WHERE {condition} ORDER BY {key} LIMIT 1 OFFSET {}",
        quote::ident(&plan.layout.target),
        rows.saturating_sub(1),
    ))
}

/// The condition of keys behind one and up to another. ClickHouse's index takes no tuples, so each column is compared.
fn between(plan: &TablePlan, after: Option<&[u8]>, last: Option<&[u8]>) -> Result<String, Corrupt> {
    let mut all = Vec::new();
    if let Some(after) = after {
        all.push(beyond(plan, after, ">", ">")?);
    }
    if let Some(last) = last {
        all.push(beyond(plan, last, "<", "<=")?);
    }
    Ok(if all.is_empty() { "1".to_owned() } else { all.join(" AND ") })
}

/// Keys on one side of another, in the order of their columns; `end` compares the last column.
fn beyond(plan: &TablePlan, key: &[u8], side: &str, end: &str) -> Result<String, Corrupt> {
    let literals = stored::key_literals(plan, key)?;
    let names: Vec<String> =
        plan.key.iter().map(|place| quote::ident(&plan.layout.columns[*place].stored)).collect();
    let alternatives = (0..names.len()).map(|at| {
        let equal = (0..at).map(|before| format!("{} = {}", names[before], literals[before]));
        let side = if at + 1 == names.len() { end } else { side };
        let last = format!("{} {side} {}", names[at], literals[at]);
        equal.chain([last]).collect::<Vec<_>>().join(" AND ")
    });
    let alternatives: Vec<String> = alternatives.collect();
    if alternatives.len() == 1 {
        return Ok(alternatives.concat());
    }
    // What the index sees of it.
    let bound = format!("{} {side}= {}", names[0], literals[0]);
    Ok(format!("{bound} AND ({})", alternatives.join(" OR ")))
}

fn rows_of(plan: &TablePlan, values: bool, mut answer: &[u8]) -> Result<HashMap<Vec<u8>, Live>, Corrupt> {
    let mut rows = HashMap::new();
    while !answer.is_empty() {
        let mut key = Vec::new();
        for place in &plan.key {
            key.extend(stored::take_value(plan, *place, &mut answer)?);
        }
        let (version, rest) = answer.split_first_chunk::<16>().ok_or(Corrupt)?;
        answer = rest;
        let version = Version(u128::from_le_bytes(*version));
        let columns = if values { plan.layout.columns.len() } else { 0 };
        let values: Result<Vec<_>, _> =
            (0..columns).map(|place| stored::take_value(plan, place, &mut answer)).collect();
        rows.insert(key, Live { version, values: values? });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use tidemark_crds::layout::Wire;
    use tidemark_crds::types::ChType;

    use super::*;
    use crate::read::table_tests::{column, layout, plan};

    #[test]
    fn a_range_of_a_key_of_several_columns_is_told_column_by_column() {
        let mut layout = layout();
        layout.columns.push(column("Part \"b\"", 4, "text", Wire::Text, ChType::String, Some(1)));
        let plan = plan(layout);
        let mut key = 5_i64.to_le_bytes().to_vec();
        key.extend([1, b'x']);
        let number = "reinterpret(unhex('0500000000000000'), 'Int64')";
        assert_eq!(
            between(&plan, Some(&key), None).unwrap(),
            format!(
                "`id` >= {number} AND (`id` > {number} OR `id` = {number} AND `Part \"b\"` > unhex('78'))"
            )
        );
        assert_eq!(
            between(&plan, None, Some(&key)).unwrap(),
            format!(
                "`id` <= {number} AND (`id` < {number} OR `id` = {number} AND `Part \"b\"` <= unhex('78'))"
            )
        );
        assert_eq!(between(&plan, None, None).unwrap(), "1");
        assert!(between(&plan, Some(&key[..9]), None).is_err());
    }

    #[test]
    fn a_header_says_the_types_and_a_wider_one_is_another() {
        let mut answer = vec![2, 2, b'i', b'd', 1, b'a', 5];
        answer.extend(b"Int64");
        answer.push(14);
        answer.extend(b"Decimal(10, 2)");
        answer.push(99);
        let mut rest = &answer[..];
        let found = types(&mut rest).unwrap();
        assert_eq!(
            (found.as_slice(), rest),
            (&["Int64".to_owned(), "Decimal(10, 2)".to_owned()][..], &[99][..])
        );
        let of = |one: &str, other: &str| is_of(&found, &[one.to_owned(), other.to_owned()]);
        assert!(of("Int64", "Decimal(10, 2)"));
        assert!(!of("Int32", "Decimal(10, 2)") && !of("Int64", "Decimal(12, 2)"));
        assert!(!is_of(&found[..1], &found));
        assert_eq!(types(&mut &answer[..9]), Err(Corrupt));
    }

    #[test]
    fn a_row_that_is_removed_is_named_by_its_key_and_its_version() {
        let plan = plan(layout());
        let id = 7_i64.to_le_bytes();
        let sql = remove_statement(&plan, &[(&id[..], Version(5))]).unwrap();
        assert_eq!(
            sql,
            "DELETE FROM `notes` WHERE (`id`, _version) IN ((reinterpret(unhex('0700000000000000'), 'Int64'), toUInt128('5')))"
        );
    }

    #[test]
    fn a_row_is_read_with_its_key_and_version_in_front() {
        let plan = plan(layout());
        let (id, version) = (7_i64.to_le_bytes(), Version::of_read(1, 9).0.to_le_bytes());
        let mut answer = id.to_vec();
        answer.extend(version);
        answer.extend(id);
        answer.extend([1]);
        answer.extend(99_i64.to_le_bytes());
        let rows = rows_of(&plan, true, &answer).unwrap();
        let live = &rows[&id.to_vec()];
        assert_eq!(live.version, Version::of_read(1, 9));
        assert_eq!(live.values, [id.to_vec(), vec![1], 99_i64.to_le_bytes().to_vec()]);
        assert_eq!(rows_of(&plan, true, &answer[..40]), Err(Corrupt));
        assert_eq!(rows_of(&plan, false, &answer[..24]).unwrap().len(), 1);
    }
}
