//! The pieces in which a table is read: ranges of pages, leaf by leaf. Pure.
//!
//! A range is `ctid >= '(a,0)' AND ctid < '(b,0)'`, which PostgreSQL reads as those pages alone. The last one of a
//! relation has no end, so that pages which are added meanwhile are read too; it would not matter if they were not,
//! since their rows were committed behind the barrier.

use tidemark_crds::layout::SourceTable;
use tidemark_crds::pg_quote;

/// Bytes of a range, out-of-line values included, as they lie on disk.
const RANGE_BYTES: u64 = 64 << 20;
/// Pages of the smallest range that is planned: values out of line can be a thousand times their row.
const LEAST_PAGES: u64 = 16;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What stands behind FROM.
    pub relation: String,
    /// First page, and the one behind the last; without one all that follow.
    pages: Option<(u64, Option<u64>)>,
    /// Pages that it had when it was planned.
    expected: u64,
}

impl Span {
    /// Pages of a relation that a table was parted into by [`pieces`].
    pub(super) fn of_pages(relation: &str, begin: u64, end: u64) -> Self {
        Self { relation: relation.to_owned(), pages: Some((begin, Some(end))), expected: end - begin }
    }

    fn whole(relation: String) -> Self {
        Self { relation, pages: None, expected: 0 }
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
        };
        Some((of(begin, Some(begin + half), half), of(begin + half, end, self.expected - half)))
    }
}

/// Parts a table into spans.
///
/// A partitioned table is read leaf by leaf. Where the role may read it as a whole alone, all leaves are read page
/// range by page range: a range of `ctid` means those pages of each leaf.
pub fn spans(table: &SourceTable, partitioned: bool, parts: &[Part]) -> Vec<Span> {
    let pieces = pieces(table, partitioned, parts);
    pieces.iter().flat_map(|(relation, part)| spans_of(relation, part)).collect()
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

fn spans_of(relation: &str, part: &Part) -> Vec<Span> {
    if !part.heap {
        return vec![Span::whole(relation.to_owned())];
    }
    let pages = part.pages.min(u64::from(u32::MAX));
    let step = RANGE_BYTES.saturating_mul(pages).checked_div(part.bytes).unwrap_or(pages).max(LEAST_PAGES);
    let count = pages.div_ceil(step).max(1);
    (0..count)
        .map(|place| {
            let begin = place * step;
            let last = place + 1 == count;
            Span {
                relation: relation.to_owned(),
                pages: Some((begin, (!last).then_some(begin + step))),
                expected: if last { pages - begin } else { step },
            }
        })
        .collect()
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
        let of = |pages, bytes| statements(&spans(&table(), false, &[part(pages, bytes)]));
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
            statements(&spans(&table(), true, &leaves))[..2],
            ["ONLY \"s\".\"leaf \"\"1\"\"\"", "ONLY \"s\".\"leaf \"\"1\"\"\" WHERE ctid < '(8192,0)'::tid"]
        );
        leaves[0].readable = false;
        let together = statements(&spans(&table(), true, &leaves));
        assert_eq!(together[0], "\"public\".\"Order Items\" WHERE ctid < '(8187,0)'::tid");
        assert_eq!(together.len(), 3);
        leaves[0].heap = false;
        assert_eq!(statements(&spans(&table(), true, &leaves)), ["\"public\".\"Order Items\""]);
        assert!(spans(&table(), true, &[]).is_empty());
    }

    #[test]
    fn what_is_no_heap_is_read_by_one_statement() {
        let spans = spans(&table(), false, &[Part { heap: false, ..part(20_000, 1 << 40) }]);
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
            let mut all = spans(&table(), false, &[part(pages, pages * bytes_a_page)]);
            prop_assert_eq!(all.iter().filter(|span| span.covers(page)).count(), 1);
            let place = halved.index(all.len());
            if let Some((first, second)) = all[place].halves() {
                all.splice(place..=place, [first, second]);
            }
            prop_assert_eq!(all.iter().filter(|span| span.covers(page)).count(), 1);
        }

        #[test]
        fn halving_ends(pages in 1_u64..100_000) {
            let mut open = spans(&table(), false, &[part(pages, 0)]);
            let mut rounds = 0;
            while let Some((first, second)) = open.pop().and_then(|span| span.halves()) {
                open = vec![first, second];
                rounds += 1;
                prop_assert!(rounds < 64);
            }
        }
    }
}
