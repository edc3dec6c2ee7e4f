//! The pieces in which a table is read: ranges of pages, leaf by leaf. Pure.
//!
//! A range is `ctid >= '(a,0)' AND ctid < '(b,0)'`, which PostgreSQL reads as those pages alone. The last one of a
//! relation has no end, so that pages which are added meanwhile are read too; it would not matter if they were not,
//! since their rows were committed behind the barrier.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote;

/// Bytes of a range, out-of-line values included, as they lie on disk.
const RANGE_BYTES: u64 = 64 << 20;
/// Pages of the smallest range that is planned: values out of line can be a thousand times their row.
const LEAST_PAGES: u64 = 16;
/// Seconds' worth of rows in a range, where their number a second is limited: whoever goes on with a read begins the range anew.
const RANGE_SECONDS: u64 = 1;
/// Bytes of a [`Place`] that are written at most; of what is longer, nobody goes on in the middle.
const LONGEST_PLACE: usize = 64 << 10;

/// A relation that has rows of the table: itself, or a leaf of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Whether its rows lie on pages that can be named: a heap.
    pub heap: bool,
    /// Whether the role may read it by its own name.
    pub readable: bool,
    /// Rows that PostgreSQL estimates.
    pub rows: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes of its pages and of its out-of-line values.
    pub bytes: u64,
}

/// A piece of a table that is read by one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// What stands behind FROM.
    pub relation: String,
    /// First page, and the one behind the last; without one all that follow.
    pages: Option<(u64, Option<u64>)>,
    /// Pages that it had when it was planned.
    expected: u64,
    /// Pages of a range of the relation.
    step: u64,
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}", self.relation, self.condition())
    }
}

impl Span {
    /// Pages of a relation that a table was parted into by [`pieces`].
    pub(super) fn of_pages(relation: &str, begin: u64, end: u64) -> Self {
        let expected = end - begin;
        Self { relation: relation.to_owned(), pages: Some((begin, Some(end))), expected, step: expected }
    }

    fn whole(relation: String) -> Self {
        Self { relation, pages: None, expected: 0, step: 0 }
    }

    /// The ranges of a piece.
    fn parted(self) -> Vec<Self> {
        let Some((first, end)) = self.pages else { return vec![self] };
        let step = self.step.max(1);
        let count = self.expected.div_ceil(step).max(1);
        let part = |place| {
            let begin = first + place * step;
            let last = place + 1 == count;
            Self {
                relation: self.relation.clone(),
                pages: Some((begin, if last { end } else { Some(begin + step) })),
                expected: if last { self.expected - place * step } else { step },
                step: self.step,
            }
        };
        (0..count).map(part).collect()
    }

    /// This piece and the next one as one, where nothing lies between them.
    fn joined(&self, next: &Self) -> Option<Self> {
        let ((begin, end), (from, to)) = (self.pages?, next.pages?);
        let follows = self.relation == next.relation && self.step == next.step && end == Some(from);
        follows.then(|| Self {
            relation: self.relation.clone(),
            pages: Some((begin, to)),
            expected: self.expected + next.expected,
            step: self.step,
        })
    }

    /// Text behind the relation: empty, or ` WHERE …`.
    pub fn condition(&self) -> String {
        match self.pages {
            None | Some((0, None)) => String::new(),
            Some((0, Some(end))) => format!(" WHERE ctid < '({end},0)'::tid"),
            Some((begin, None)) => format!(" WHERE ctid >= '({begin},0)'::tid"),
            Some((begin, Some(end))) => {
                format!(" WHERE ctid >= '({begin},0)'::tid AND ctid < '({end},0)'::tid")
            }
        }
    }

    /// Whether it has the rows of a page.
    pub fn covers(&self, page: u64) -> bool {
        self.pages.is_none_or(|(begin, end)| page >= begin && end.is_none_or(|end| page < end))
    }

    /// Two halves of a span that took too long; `None` where there is nothing to part.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let (begin, end) = self.pages?;
        let half = self.expected / 2;
        if half == 0 {
            return None;
        }
        let of = |begin, end, expected| Self {
            relation: self.relation.clone(),
            pages: Some((begin, end)),
            expected,
            step: self.step,
        };
        Some((of(begin, Some(begin + half), half), of(begin + half, end, self.expected - half)))
    }
}

/// Parts a table into spans.
///
/// A partitioned table is read leaf by leaf. Where the role may read it as a whole alone, all leaves are read page
/// range by page range: a range of `ctid` means those pages of each leaf.
///
/// `rows_per_second` is the limit of the whole read, where it has one.
pub fn spans(
    table: &SourceTable,
    partitioned: bool,
    parts: &[Part],
    rows_per_second: Option<u32>,
) -> Vec<Span> {
    let pieces = pieces(table, partitioned, parts);
    pieces.iter().flat_map(|(relation, part)| spans_of(relation, part, rows_per_second)).collect()
}

/// The relations by which a table is read, each with what stands behind FROM.
pub(super) fn pieces(table: &SourceTable, partitioned: bool, parts: &[Part]) -> Vec<(String, Part)> {
    let own = pg_quote::qualified(&table.schema, &table.name);
    if !partitioned {
        return parts.iter().map(|part| (format!("ONLY {own}"), part.clone())).collect();
    }
    if parts.iter().all(|part| part.readable) {
        let leaf = |part: &Part| format!("ONLY {}", pg_quote::qualified(&part.schema, &part.name));
        return parts.iter().map(|part| (leaf(part), part.clone())).collect();
    }
    let together = Part {
        schema: table.schema.clone(),
        name: table.name.clone(),
        heap: parts.iter().all(|part| part.heap),
        readable: true,
        rows: parts.iter().map(|part| part.rows).sum(),
        pages: parts.iter().map(|part| part.pages).max().unwrap_or(0),
        bytes: parts.iter().map(|part| part.bytes).sum(),
    };
    vec![(own, together)]
}

fn spans_of(relation: &str, part: &Part, rows_per_second: Option<u32>) -> Vec<Span> {
    if !part.heap {
        return vec![Span::whole(relation.to_owned())];
    }
    let pages = part.pages.min(u64::from(u32::MAX));
    let of_all = |share: u64, all: u64| share.saturating_mul(pages).checked_div(all).unwrap_or(pages);
    let slow = rows_per_second.map(|rows| of_all(u64::from(rows) * RANGE_SECONDS, part.rows));
    let step = of_all(RANGE_BYTES, part.bytes).min(slow.unwrap_or(u64::MAX)).max(LEAST_PAGES);
    Span { relation: relation.to_owned(), pages: Some((0, None)), expected: pages, step }.parted()
}

/// Where a read is, for whoever goes on with it: behind the same barrier each range can be read by anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The server that the ranges are of, as the read had it.
    pub server: String,
    /// Layout by which the rows are read.
    pub layout: u64,
    /// When the barrier was set, by PostgreSQL's clock, milliseconds since 1970-01-01.
    pub at: i64,
    /// Files in which the rows lay when the table was parted.
    pub files: BTreeMap<u32, u32>,
    /// Rows that PostgreSQL estimated for the whole.
    pub estimated: u64,
    /// Rows of the ranges that are done.
    pub rows: u64,
    /// What is not done, neighbours as one.
    pub open: Vec<Span>,
}

/// The ranges of a read that are not done: those that nobody has taken yet, and those that are read, or whose rows
/// ClickHouse has not acknowledged.
#[derive(Debug, Default)]
pub struct Rest {
    waiting: VecDeque<Span>,
    taken: Vec<Span>,
}

impl Rest {
    /// All ranges of a read that begins.
    pub fn new(spans: Vec<Span>) -> Self {
        Self { waiting: spans.into(), taken: Vec::new() }
    }

    /// What another one left.
    pub fn of(place: &Place) -> Self {
        Self::new(place.open.iter().cloned().flat_map(Span::parted).collect())
    }

    /// How many nobody has taken.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next one.
    pub fn take(&mut self) -> Option<Span> {
        self.take_at(0)
    }

    /// One out of turn.
    pub fn take_at(&mut self, index: usize) -> Option<Span> {
        let span = self.waiting.remove(index)?;
        self.taken.push(span.clone());
        Some(span)
    }

    /// One that was taken waits again.
    pub fn put_back(&mut self, span: Span) {
        self.done(&span);
        self.waiting.push_front(span);
    }

    /// One that was taken waits again, in two halves; `false` where it has none.
    pub fn halve(&mut self, span: &Span) -> bool {
        let Some((first, second)) = span.halves() else { return false };
        self.done(span);
        self.waiting.push_front(second);
        self.waiting.push_front(first);
        true
    }

    /// ClickHouse has all rows of one that was taken.
    pub fn done(&mut self, span: &Span) {
        if let Some(index) = self.taken.iter().position(|taken| taken == span) {
            self.taken.swap_remove(index);
        }
    }

    /// All that is not done, in order, neighbours as one.
    pub fn open(&self) -> Vec<Span> {
        let mut all: Vec<&Span> = self.waiting.iter().chain(&self.taken).collect();
        all.sort_by_key(|span| (&span.relation, span.pages.map_or(0, |(begin, _)| begin)));
        let mut joined: Vec<Span> = Vec::new();
        for span in all {
            match joined.last().and_then(|last| last.joined(span)) {
                Some(both) => {
                    joined.pop();
                    joined.push(both);
                }
                None => joined.push(span.clone()),
            }
        }
        joined
    }
}

impl Place {
    /// The text of the reads table; empty where it would be too long.
    pub fn text(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() > LONGEST_PLACE { String::new() } else { text }
    }

    /// The place of a text; `None` where there is none, or it is of another version.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(pages: u64, bytes: u64) -> Part {
        Part {
            schema: "s".into(),
            name: "leaf \"1\"".into(),
            heap: true,
            readable: true,
            rows: 1,
            pages,
            bytes,
        }
    }

    fn table() -> SourceTable {
        "public.Order Items".parse().unwrap()
    }

    fn statements(spans: &[Span]) -> Vec<String> {
        spans.iter().map(|span| format!("{}{}", span.relation, span.condition())).collect()
    }

    #[test]
    fn a_table_is_read_in_ranges_of_some_64_mib_and_the_last_has_no_end() {
        let of = |pages, bytes| statements(&spans(&table(), false, &[part(pages, bytes)], None));
        assert_eq!(of(0, 0), ["ONLY \"public\".\"Order Items\""]);
        assert_eq!(of(100, 100 * 8192), ["ONLY \"public\".\"Order Items\""]);
        assert_eq!(
            of(20_000, 20_000 * 8192),
            [
                "ONLY \"public\".\"Order Items\" WHERE ctid < '(8192,0)'::tid",
                "ONLY \"public\".\"Order Items\" WHERE ctid >= '(8192,0)'::tid AND ctid < '(16384,0)'::tid",
                "ONLY \"public\".\"Order Items\" WHERE ctid >= '(16384,0)'::tid",
            ]
        );
        // A page of rows with a hundred pages of values out of line.
        assert_eq!(of(1000, 1000 * 8192 * 100).len(), 13);
    }

    #[test]
    fn partitions_are_read_by_leaf_or_all_at_once_where_the_role_may_read_the_table_alone() {
        let mut leaves = [part(10, 81_920), part(20_000, 20_000 * 8192)];
        assert_eq!(
            statements(&spans(&table(), true, &leaves, None))[..2],
            ["ONLY \"s\".\"leaf \"\"1\"\"\"", "ONLY \"s\".\"leaf \"\"1\"\"\" WHERE ctid < '(8192,0)'::tid"]
        );
        leaves[0].readable = false;
        let together = statements(&spans(&table(), true, &leaves, None));
        assert_eq!(together[0], "\"public\".\"Order Items\" WHERE ctid < '(8187,0)'::tid");
        assert_eq!(together.len(), 3);
        leaves[0].heap = false;
        assert_eq!(statements(&spans(&table(), true, &leaves, None)), ["\"public\".\"Order Items\""]);
        assert!(spans(&table(), true, &[], None).is_empty());
    }

    #[test]
    fn a_range_of_a_slow_read_is_a_seconds_worth_of_rows() {
        let of = |rows, limit| {
            spans(&table(), false, &[Part { rows, ..part(20_000, 20_000 * 8192) }], limit).len()
        };
        assert_eq!(of(1_000_000, None), 3);
        assert_eq!(of(1_000_000, Some(10_000)), 100);
        assert_eq!(of(1_000_000, Some(1)), 1250, "as small as a range may be");
        assert_eq!(of(0, Some(10)), 3, "nobody has counted them yet");
    }

    #[test]
    fn what_is_no_heap_is_read_by_one_statement() {
        let spans = spans(&table(), false, &[Part { heap: false, ..part(20_000, 1 << 40) }], None);
        assert_eq!(statements(&spans), ["ONLY \"public\".\"Order Items\""]);
        assert_eq!(spans[0].halves(), None);
    }

    proptest! {
        #[test]
        fn every_page_is_in_one_span_also_after_halving(
            pages in 0_u64..400_000,
            bytes_a_page in 1_u64..2_000_000,
            page in 0_u64..500_000,
            halved in any::<proptest::sample::Index>(),
        ) {
            let mut all = spans(&table(), false, &[part(pages, pages * bytes_a_page)], None);
            prop_assert_eq!(all.iter().filter(|span| span.covers(page)).count(), 1);
            let place = halved.index(all.len());
            if let Some((first, second)) = all[place].halves() {
                all.splice(place..=place, [first, second]);
            }
            prop_assert_eq!(all.iter().filter(|span| span.covers(page)).count(), 1);
        }

        #[test]
        fn whoever_goes_on_reads_each_page_that_is_not_done_and_no_other(
            pages in 0_u64..100_000,
            bytes_a_page in 1_u64..2_000_000,
            acts in proptest::collection::vec((0_u8..5, any::<proptest::sample::Index>()), 0..60),
            page in 0_u64..120_000,
        ) {
            let mut rest = Rest::new(spans(&table(), false, &[part(pages, pages * bytes_a_page)], None));
            let (mut taken, mut done): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
            for (act, index) in acts {
                let at = |taken: &mut Vec<Span>| (!taken.is_empty()).then(|| taken.remove(index.index(taken.len())));
                match act {
                    0 | 1 => taken.extend(rest.take()),
                    2 => if let Some(span) = at(&mut taken) {
                        rest.done(&span);
                        done.push(span);
                    },
                    3 => if let Some(span) = at(&mut taken) {
                        rest.put_back(span);
                    },
                    _ => if let Some(span) = at(&mut taken)
                        && !rest.halve(&span)
                    {
                        rest.put_back(span);
                    },
                }
            }
            let place = Place {
                server: "s".into(), layout: 1, at: 2, files: BTreeMap::new(), estimated: 3, rows: 4, open: rest.open(),
            };
            let next = Rest::of(&Place::parse(&place.text()).unwrap());
            let open = next.waiting.iter().filter(|span| span.covers(page)).count();
            let is_done = done.iter().any(|span| span.covers(page));
            prop_assert_eq!(open, usize::from(!is_done));
            prop_assert_eq!(next.open(), place.open);
        }

        #[test]
        fn halving_ends(pages in 1_u64..100_000) {
            let mut open = spans(&table(), false, &[part(pages, 0)], None);
            let mut rounds = 0;
            while let Some((first, second)) = open.pop().and_then(|span| span.halves()) {
                open = vec![first, second];
                rounds += 1;
                prop_assert!(rounds < 64);
            }
        }
    }
}
