//! The tables of `tidemark status`: what each does, how far its read is, how late it is. Pure.

use std::collections::BTreeMap;

use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::facts::{ClickHouseFacts, ReadFacts};
use crate::freshness::oldest;
use crate::table_status::open_letters;

const HEADER: [&str; 6] = ["TABLE", "STATE", "READ", "ROWS/S", "BEHIND", "LETTERS"];

/// What ClickHouse says, now and a moment before.
#[derive(Debug)]
pub struct Looks<'a> {
    /// The last look.
    pub now: &'a ClickHouseFacts,
    /// Milliseconds since 1970 at the last look.
    pub now_ms: i64,
    /// An earlier look, and milliseconds between the two.
    pub before: Option<(&'a ClickHouseFacts, i64)>,
}

/// Renders a line for each table, with columns under each other and what is the matter at the end; without a look at
/// ClickHouse the numbers are left out.
pub fn render(
    spec: &AnalyticsPipelineSpec,
    status: &AnalyticsPipelineStatus,
    looks: Option<&Looks<'_>>,
) -> String {
    let degraded: BTreeMap<&str, _> = status
        .tables
        .iter()
        .flat_map(|tables| &tables.degraded)
        .map(|table| (table.name.as_str(), table))
        .collect();
    let mut lines = vec![(HEADER.map(str::to_owned), "MESSAGE".to_owned())];
    for table in spec.all_tables() {
        let found = degraded.get(table.name.as_str());
        let state = found.map_or("Streaming", |table| &table.state).to_owned();
        let message = found.map_or(String::new(), |table| table.message.clone());
        let numbers = looks.map(|looks| numbers(looks, table.target_name()));
        let [read, rate, behind, letters] = numbers.unwrap_or_else(|| ["-"; 4].map(str::to_owned));
        lines.push(([table.name.clone(), state, read, rate, behind, letters], message));
    }
    let widths: [usize; 6] = std::array::from_fn(|column| {
        lines.iter().map(|(cells, _)| cells[column].chars().count()).max().unwrap_or(0)
    });
    let line = |(cells, message): (&[String; 6], &str)| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("{}  {message}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    lines.iter().map(|(cells, message)| line((cells, message)) + "\n").collect()
}

/// Read, rate, lag and dead letters of a target.
fn numbers(looks: &Looks<'_>, target: &str) -> [String; 4] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let read = looks.now.reads.get(target);
    let rate = read.filter(|read| read.state == "reading").and_then(|read| {
        let (before, elapsed_ms) = looks.before.filter(|(_, elapsed_ms)| *elapsed_ms > 0)?;
        let before = before.reads.get(target).filter(|before| before.request == read.request)?;
        let rows = u128::from(read.rows.saturating_sub(before.rows));
        Some(grouped(u64::try_from(rows * 1000 / u128::from(elapsed_ms.unsigned_abs())).unwrap_or(u64::MAX)))
    });
    let behind =
        looks.now.progress.get(target).and_then(|progress| oldest(&progress.partitions, looks.now_ms));
    let letters = looks.now.progress.contains_key(target).then(|| grouped(open_letters(looks.now, target)));
    [
        or_none(read.map(how_far)),
        or_none(rate),
        or_none(behind.map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))),
        or_none(letters),
    ]
}

/// `40,000 of ~100,000 (40 %)`, or the rows alone once all are read.
fn how_far(read: &ReadFacts) -> String {
    if read.state == "read" || read.estimated_rows == 0 {
        return grouped(read.rows);
    }
    // An estimate may be too low.
    let percent = (u128::from(read.rows) * 100 / u128::from(read.estimated_rows)).min(99);
    format!("{} of ~{} ({percent} %)", grouped(read.rows), grouped(read.estimated_rows))
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(group));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemark_crds::status::{DegradedTable, TablesStatus};

    use super::*;
    use crate::facts::{PartitionProgress, ProgressFacts};

    fn reading(rows: u64) -> ClickHouseFacts {
        let mut facts = ClickHouseFacts::default();
        let read =
            ReadFacts { rows, estimated_rows: 100_000, state: "reading".into(), ..ReadFacts::default() };
        facts.reads.insert("orders".into(), read);
        let done = ReadFacts { rows: 1_234_567, state: "read".into(), ..ReadFacts::default() };
        facts.reads.insert("customers".into(), done);
        let at = |fresh_to_ms, dead_letters| PartitionProgress {
            fresh_to_ms,
            applied_at_ms: 9_000,
            dead_letters,
            dead_at: (1, 5),
            ..PartitionProgress::default()
        };
        let progress = ProgressFacts { partitions: [(0, at(8_700, 0)), (1, at(5_450, 2))].into() };
        facts.progress.insert("customers".into(), progress);
        facts
    }

    #[test]
    fn each_table_has_a_line_and_columns_stand_under_each_other() {
        let spec: AnalyticsPipelineSpec = serde_json::from_value(json!({
            "source": {
                "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                "connect": {"url": "http://connect:8083"},
            },
            "kafka": {"bootstrapServers": "kafka:9093", "topicPrefix": "shop"},
            "tables": [{"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.odd"}],
            "clickhouse": {"url": "http://ch:8123", "database": "shop", "credentials": {"secretName": "ch"}},
        }))
        .unwrap();
        let entry = |name: &str, state: &str, message: &str| DegradedTable {
            name: name.into(),
            state: state.into(),
            reason: state.into(),
            message: message.into(),
        };
        let status = AnalyticsPipelineStatus {
            tables: Some(TablesStatus {
                total: 3,
                streaming: 1,
                degraded: vec![
                    entry("public.odd", "Refused", "public.odd has no key: add one"),
                    entry(
                        "public.orders",
                        "Reading",
                        "public.orders: it is being read at the source: first load",
                    ),
                ],
            }),
            ..AnalyticsPipelineStatus::default()
        };
        let (now, before) = (reading(40_000), reading(24_000));
        let looks = Looks { now: &now, now_ms: 9_500, before: Some((&before, 2_000)) };
        insta::assert_snapshot!(render(&spec, &status, Some(&looks)), @r"
        TABLE             STATE                           READ  ROWS/S  BEHIND  LETTERS  MESSAGE
        public.orders     Reading    40,000 of ~100,000 (40 %)   8,000       -        -  public.orders: it is being read at the source: first load
        public.customers  Streaming                  1,234,567       -   3.5 s        2
        public.odd        Refused                            -       -       -        -  public.odd has no key: add one
        ");
        let without = render(&spec, &status, None);
        assert_eq!(
            without.lines().nth(2),
            Some("public.customers  Streaming     -       -       -        -")
        );
    }
}
