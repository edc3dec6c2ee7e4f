//! A round over one table: where it is, what comes next, how much of it is done. Pure.

use serde::{Deserialize, Serialize};

use crate::read::Page;

/// Share that a way which is not over has at most.
const NEARLY: f64 = 0.999;

/// Where a round goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Place {
    /// By keys, in ClickHouse's order, behind this one (RowBinary as hexadecimal digits; absent: from the first).
    Keys(Option<String>),
    /// By pages of the source, from this page of this relation on; an empty name: from the first.
    Pages {
        /// Relation.
        relation: String,
        /// Page.
        page: u64,
    },
    /// Every range is compared.
    Over,
}

/// A round under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Round {
    /// Request that it answers, or the last one before.
    pub(super) request: u64,
    /// Whether somebody waits for it.
    pub(super) asked: bool,
    /// Epoch in which it began.
    pub(super) epoch: u16,
    /// Layout by which rows are read.
    pub(super) layout: u64,
    /// When it began, milliseconds since 1970-01-01.
    pub(super) began_ms: i64,
    /// Where it goes on.
    pub(super) place: Place,
    /// Rows compared by their keys.
    pub(super) rows: u64,
    /// Keys looked up from pages.
    pub(super) keys: u64,
    /// Rows that PostgreSQL estimates.
    pub(super) estimated: u64,
    /// Rows found different.
    pub(super) differences: u64,
    /// Those of them that could not be repaired.
    pub(super) open: u64,
}

/// A range of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageRange<'a> {
    /// Relation.
    pub(super) relation: &'a str,
    /// First page, and the one behind the last.
    pub(super) pages: (u64, u64),
}

impl Round {
    /// Begins a round.
    pub(super) fn begin((request, asked): (u64, bool), epoch: u16, layout: u64, began_ms: i64) -> Self {
        Self {
            request,
            asked,
            epoch,
            layout,
            began_ms,
            place: Place::Keys(None),
            rows: 0,
            keys: 0,
            estimated: 0,
            differences: 0,
            open: 0,
        }
    }

    /// Whether what was compared so far still counts.
    pub(super) fn is_of(&self, epoch: u16, layout: u64) -> bool {
        (self.epoch, self.layout) == (epoch, layout)
    }

    /// The key behind which the way of keys goes on.
    pub(super) fn after(&self) -> Option<Vec<u8>> {
        let Place::Keys(Some(text)) = &self.place else { return None };
        unhex(text)
    }

    /// Goes on behind a key; without one, by pages.
    pub(super) fn passed_keys(&mut self, rows: u64, last: Option<&[u8]>) {
        self.rows += rows;
        self.place = match last {
            Some(last) => Place::Keys(Some(hex(last))),
            None => Place::Pages { relation: String::new(), page: 0 },
        };
    }

    /// Goes on behind a range of pages.
    pub(super) fn passed_pages(&mut self, keys: u64, range: &PageRange<'_>) {
        self.keys += keys;
        self.place = Place::Pages { relation: range.relation.to_owned(), page: range.pages.1 };
    }

    /// Share that is done, 0 to 1: half of it by keys, half by pages.
    pub(super) fn coverage(&self, pages: &[Page]) -> f64 {
        match &self.place {
            Place::Keys(_) => 0.5 * share(self.rows, self.estimated.max(self.rows + 1)),
            Place::Pages { relation, page } => {
                let at = position(pages, relation);
                let before: u64 = pages.iter().take(at).map(|page| page.pages).sum();
                let all: u64 = pages.iter().map(|page| page.pages).sum();
                0.5 + 0.5 * share(before + page, all)
            }
            Place::Over => 1.0,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share")]
fn share(done: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { (done as f64 / all as f64).min(NEARLY) }
}

/// Place of a relation; one that is gone begins anew.
fn position(pages: &[Page], relation: &str) -> usize {
    pages.iter().position(|page| page.relation == relation).unwrap_or(0)
}

/// The next range of pages from a place on; `None` where there is none left.
pub(super) fn next_pages<'a>(pages: &'a [Page], relation: &str, page: u64) -> Option<PageRange<'a>> {
    let at = position(pages, relation);
    let is_known = pages.get(at).is_some_and(|page| page.relation == relation);
    let mut from = if is_known { page } else { 0 };
    for page in pages.iter().skip(at) {
        if from < page.pages {
            let end = (from + page.step.max(1)).min(page.pages);
            return Some(PageRange { relation: &page.relation, pages: (from, end) });
        }
        from = 0;
    }
    None
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(relation: &str, pages: u64, step: u64) -> Page {
        Page { relation: relation.into(), pages, step, rows: 0 }
    }

    #[test]
    fn the_share_that_is_done_rises_from_nothing_to_all_and_is_all_at_the_end_alone() {
        let pages = [page("a", 10, 4), page("b", 0, 4), page("c", 10, 4)];
        let mut round = Round::begin((7, false), 1, 2, 0);
        round.estimated = 100;
        let mut seen = vec![round.coverage(&pages)];
        for last in [Some(&b"k"[..]), Some(b"kk"), None] {
            // More rows than PostgreSQL estimates.
            round.passed_keys(60, last);
            seen.push(round.coverage(&pages));
        }
        while let Place::Pages { relation, page } = round.place.clone() {
            match next_pages(&pages, &relation, page) {
                Some(range) => round.passed_pages(3, &range),
                None => round.place = Place::Over,
            }
            seen.push(round.coverage(&pages));
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.iter().filter(|share| **share >= 1.0).count(), 1, "{seen:?}");
        assert_eq!((seen[0], seen[1]), (0.0, 0.3));
        assert_eq!((round.rows, round.keys), (180, 18));
    }

    #[test]
    fn a_place_comes_back_from_its_text() {
        let mut round = Round::begin((0, true), 1, 1, 5);
        round.passed_keys(1, Some(&[0, 255, 10]));
        let back: Round = serde_json::from_str(&serde_json::to_string(&round).unwrap()).unwrap();
        assert_eq!(back, round);
        assert_eq!(back.after().unwrap(), [0, 255, 10]);
        assert!(back.is_of(1, 1) && !back.is_of(2, 1) && !back.is_of(1, 2));
    }

    proptest! {
        /// Each page of each relation is read once, also where the round goes on after a restart that knows the
        /// relations in the same order.
        #[test]
        fn every_page_is_in_exactly_one_range(
            sizes in proptest::collection::vec((0_u64..40, 0_u64..9), 0..6),
        ) {
            let pages: Vec<Page> =
                sizes.iter().enumerate().map(|(at, (size, step))| page(&format!("r{at}"), *size, *step)).collect();
            let (mut relation, mut at) = (String::new(), 0);
            let mut read = Vec::new();
            while let Some(range) = next_pages(&pages, &relation, at) {
                read.extend((range.pages.0..range.pages.1).map(|page| (range.relation.to_owned(), page)));
                (relation, at) = (range.relation.to_owned(), range.pages.1);
                prop_assert!(read.len() < 1000);
            }
            let all: Vec<(String, u64)> =
                pages.iter().flat_map(|page| (0..page.pages).map(|at| (page.relation.clone(), at))).collect();
            prop_assert_eq!(read, all);
        }
    }
}
