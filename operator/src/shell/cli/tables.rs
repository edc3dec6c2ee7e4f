//! The tables of `tidemark status`: what each does, how far its read is, how late it is. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Table};
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::core::cost::grouped;
use crate::core::facts::ClickHouseFacts;
use crate::core::freshness::oldest;
use crate::core::table_status::open_letters;

const HEADER: [&str; 8] = ["TABLE", "STATE", "READ", "ROWS/S", "BEHIND", "LETTERS", "VERIFIED", "DIFFERED"];

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

/// One table; what is not known is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// Its name in the spec.
    pub name: String,
    /// `Streaming`, or what is the matter.
    pub state: String,
    /// Why, from the closed set of reasons; empty while it streams.
    pub reason: String,
    /// What is the matter and what to do; empty while it streams.
    pub message: String,
    /// How far its read has come.
    pub read: Option<ReadView>,
    /// Rows that are read, or changes that are applied, a second.
    pub rows_per_second: Option<u64>,
    /// Age of its oldest partition, milliseconds.
    pub behind_ms: Option<i64>,
    /// Records that could not be applied and that nothing has made up for.
    pub dead_letters: Option<u64>,
    /// How far it is compared with its source.
    pub verified: Option<VerifiedView>,
}

/// How far a table is compared with its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedView {
    /// Share of the round that is done, per cent.
    pub percent: u16,
    /// Milliseconds since the last full round began; absent: there was none yet.
    pub age_ms: Option<i64>,
    /// Rows found different, ever.
    pub differences: u64,
    /// Those of them that were repaired.
    pub repaired: u64,
    /// Rows that differ now.
    pub open: u64,
    /// Why it does not go on; empty: it does.
    pub error: String,
}

/// How far the read of a table has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadView {
    /// `reading`, `read` or `failed`.
    pub state: String,
    /// Rows read so far.
    pub rows: u64,
    /// Rows that there are, as PostgreSQL estimates; 0: not known.
    pub estimated_rows: u64,
}

/// Each table of the spec; without a look at ClickHouse the numbers are left out.
pub fn tables(
    spec: &AnalyticsPipelineSpec,
    status: &AnalyticsPipelineStatus,
    looks: Option<&Looks<'_>>,
) -> Vec<TableView> {
    let degraded: BTreeMap<&str, _> = status
        .tables
        .iter()
        .flat_map(|tables| &tables.degraded)
        .map(|table| (table.name.as_str(), table))
        .collect();
    let view = |table: &Table| {
        let (target, found) = (table.target_name(), degraded.get(table.name.as_str()));
        let progress = looks.and_then(|looks| looks.now.progress.get(target));
        TableView {
            name: table.name.clone(),
            state: found.map_or("Streaming", |table| &table.state).to_owned(),
            reason: found.map_or(String::new(), |table| table.reason.clone()),
            message: found.map_or(String::new(), |table| table.message.clone()),
            read: looks.and_then(|looks| looks.now.reads.get(target)).map(|read| ReadView {
                state: read.state.clone(),
                rows: read.rows,
                estimated_rows: read.estimated_rows,
            }),
            rows_per_second: looks.and_then(|looks| rate(looks, target)),
            behind_ms: looks
                .zip(progress)
                .and_then(|(looks, progress)| oldest(&progress.partitions, looks.now_ms)),
            dead_letters: looks.filter(|_| progress.is_some()).map(|looks| open_letters(looks.now, target)),
            verified: looks.and_then(|looks| verified(looks, target)),
        }
    };
    spec.all_tables().iter().map(view).collect()
}

fn verified(looks: &Looks<'_>, target: &str) -> Option<VerifiedView> {
    let found = looks.now.verification.get(target)?;
    Some(VerifiedView {
        percent: found.per_mille / 10,
        age_ms: (found.from_ms > 0).then(|| (looks.now_ms - found.from_ms).max(0)),
        differences: found.differences,
        repaired: found.repaired,
        open: found.open,
        error: found.error.clone(),
    })
}

/// Rows that are read a second, while a table is read; else changes that are applied.
fn rate(looks: &Looks<'_>, target: &str) -> Option<u64> {
    let (before, elapsed_ms) = looks.before.filter(|(_, elapsed_ms)| *elapsed_ms > 0)?;
    let rows = if let Some(read) = looks.now.reads.get(target).filter(|read| read.state == "reading") {
        let before = before.reads.get(target).filter(|before| before.request == read.request)?;
        read.rows.saturating_sub(before.rows)
    } else {
        let (now, before) = (looks.now.progress.get(target)?, before.progress.get(target)?);
        let applied = now.partitions.iter().filter_map(|(partition, now)| {
            let before = before.partitions.get(partition)?;
            u64::try_from(now.next_offset - before.next_offset).ok()
        });
        applied.sum()
    };
    u64::try_from(u128::from(rows) * 1000 / u128::from(elapsed_ms.unsigned_abs())).ok()
}

/// Renders a line for each table, with columns under each other and what is the matter at the end.
pub fn render(tables: &[TableView]) -> String {
    let mut lines = vec![(HEADER.map(str::to_owned), "MESSAGE")];
    lines.extend(tables.iter().map(|table| (cells(table), table.message.as_str())));
    let widths: [usize; 8] = std::array::from_fn(|column| {
        lines.iter().map(|(cells, _)| cells[column].chars().count()).max().unwrap_or(0)
    });
    let line = |(cells, message): &([String; 8], &str)| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("{}  {message}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

fn cells(table: &TableView) -> [String; 8] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        table.name.clone(),
        table.state.clone(),
        or_none(table.read.as_ref().map(how_far)),
        or_none(table.rows_per_second.map(grouped)),
        or_none(table.behind_ms.map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))),
        or_none(table.dead_letters.map(grouped)),
        or_none(table.verified.as_ref().map(age)),
        or_none(table.verified.as_ref().map(differed)),
    ]
}

/// `12 min ago`, or how much of the first round is done.
fn age(verified: &VerifiedView) -> String {
    match verified.age_ms {
        None => format!("{} %", verified.percent),
        Some(ms) if ms < 120_000 => format!("{} s ago", ms / 1000),
        Some(ms) if ms < 7_200_000 => format!("{} min ago", ms / 60_000),
        Some(ms) => format!("{} h ago", ms / 3_600_000),
    }
}

/// `3`, or `3 (1 open)`.
fn differed(verified: &VerifiedView) -> String {
    let open = if verified.open > 0 { format!(" ({} open)", grouped(verified.open)) } else { String::new() };
    format!("{}{open}", grouped(verified.differences))
}

/// `40,000 of ~100,000 (40 %)`, or the rows alone once all are read.
fn how_far(read: &ReadView) -> String {
    if read.state == "read" || read.estimated_rows == 0 {
        return grouped(read.rows);
    }
    // An estimate may be too low.
    let percent = (u128::from(read.rows) * 100 / u128::from(read.estimated_rows)).min(99);
    format!("{} of ~{} ({percent} %)", grouped(read.rows), grouped(read.estimated_rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemark_crds::status::{DegradedTable, TablesStatus};

    use super::*;
    use crate::core::facts::{PartitionProgress, ProgressFacts, ReadFacts, VerificationFacts};

    fn reading(rows: u64) -> ClickHouseFacts {
        let mut facts = ClickHouseFacts::default();
        let read =
            ReadFacts { rows, estimated_rows: 100_000, state: "reading".into(), ..ReadFacts::default() };
        facts.reads.insert("orders".into(), read);
        let done = ReadFacts { rows: 1_234_567, state: "read".into(), ..ReadFacts::default() };
        facts.reads.insert("customers".into(), done);
        let at = |fresh_to_ms, dead_letters| PartitionProgress {
            next_offset: i64::try_from(rows).unwrap() / 10,
            fresh_to_ms,
            applied_at_ms: 9_000,
            dead_letters,
            dead_at: (1, 5),
        };
        let progress = ProgressFacts { partitions: [(0, at(8_700, 0)), (1, at(5_450, 2))].into() };
        facts.progress.insert("customers".into(), progress);
        let verified = VerificationFacts {
            from_ms: 4_500,
            per_mille: 310,
            differences: 3,
            repaired: 2,
            open: 1,
            ..VerificationFacts::default()
        };
        facts.verification.insert("customers".into(), verified);
        let first = VerificationFacts { per_mille: 340, ..VerificationFacts::default() };
        facts.verification.insert("orders".into(), first);
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
                verified: vec![],
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
        insta::assert_snapshot!(render(&tables(&spec, &status, Some(&looks))), @r"
        TABLE             STATE                           READ  ROWS/S  BEHIND  LETTERS  VERIFIED    DIFFERED  MESSAGE
        public.orders     Reading    40,000 of ~100,000 (40 %)   8,000       -        -      34 %           0  public.orders: it is being read at the source: first load
        public.customers  Streaming                  1,234,567   1,600   3.5 s        2   5 s ago  3 (1 open)
        public.odd        Refused                            -       -       -        -         -           -  public.odd has no key: add one
        ");
        let without = render(&tables(&spec, &status, None));
        assert_eq!(
            without.lines().nth(2),
            Some("public.customers  Streaming     -       -       -        -         -         -")
        );
    }
}
