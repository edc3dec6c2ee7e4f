//! Rows of the source against rows of the target: what seems different, and what is. Pure.

use std::collections::HashMap;

use tidemark_crds::version::Version;

use crate::batch::Batch;

/// The row of a key that readers of the state table see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    /// Its version.
    pub(super) version: Version,
    /// Values in RowBinary, in the layout's order; none where they were not asked for.
    pub(super) values: Vec<Vec<u8>>,
}

/// What the target has of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The row that readers see.
    pub(super) live: Option<Live>,
    /// Greatest version of any row of the key, tombstones and hidden rows included.
    pub(super) newest: Option<Version>,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// The source has it, the target has not.
    Missing,
    /// The target has it, the source has not.
    Surplus,
    /// Both have it, with other values.
    Columns,
    /// Its version is one that no log has reached: nothing that is written hides it, so it has to be removed.
    Version,
}

impl Kind {
    /// Text of the `kind` column, and the metric's label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Surplus => "surplus",
            Self::Columns => "columns",
            Self::Version => "version",
        }
    }
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Its key in RowBinary.
    pub(super) key: Vec<u8>,
    /// How.
    pub(super) kind: Kind,
    /// Places of the columns that differ, of a row that both have.
    pub(super) columns: Vec<usize>,
    /// The version that no log has reached.
    pub(super) of_nowhere: Option<Version>,
}

/// What came of an examination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Keys that changed behind the barrier.
    pub(super) moved: usize,
    /// Rows that differ.
    pub(super) different: Vec<Difference>,
}

/// Places of the columns in which a row of the source differs from one of the target.
fn differing(source: &Batch, row: usize, values: &[Vec<u8>]) -> Vec<usize> {
    let mut own = Vec::new();
    let differs = |(place, value): (usize, &Vec<u8>)| {
        own.clear();
        source.columns[place].row_binary(row, &mut own);
        (own != *value).then_some(place)
    };
    values.iter().enumerate().filter_map(differs).collect()
}

/// Keys of a range that seem different: their rows at the source are others, or there are none.
///
/// Keys that are neither in `source` nor `absent` have rows that no column can hold.
pub(super) fn suspects(
    target: &HashMap<Vec<u8>, Live>,
    source: &Batch,
    absent: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut all = absent;
    for row in 0..source.rows() {
        let key = source.key_of(&source.plan().key, row);
        let same = target.get(&key).is_some_and(|live| differing(source, row, &live.values).is_empty());
        if !same {
            all.push(key);
        }
    }
    all
}

/// Keys of the source's pages that the target has not.
pub(super) fn missing(target: &HashMap<Vec<u8>, Live>, source: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    source.into_iter().filter(|key| !target.contains_key(key)).collect()
}

/// Whether no log has reached a version, where the source's was at `end` after the version was seen.
pub(super) fn is_impossible(version: Version, epoch: u16, end: u64) -> bool {
    version.epoch() > epoch || version.epoch() == epoch && version.last_commit_lsn() > end
}

/// Compares rows that were read behind a barrier, all of its version, with what the target has of these keys once it has
/// applied all that the read saw. `end` is a position of the log behind that look.
pub(super) fn examine(source: &Batch, target: &HashMap<Vec<u8>, Found>, end: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for row in 0..source.rows() {
        let key = source.key_of(&source.plan().key, row);
        let (barrier, deleted) = source.version_of(row);
        let Some(found) = target.get(&key) else { continue };
        if let Some(newest) = found.newest.filter(|newest| *newest > barrier) {
            if is_impossible(newest, barrier.epoch(), end) {
                let of_nowhere = Some(newest);
                outcome.different.push(Difference { key, kind: Kind::Version, columns: vec![], of_nowhere });
            } else {
                outcome.moved += 1;
            }
            continue;
        }
        let (kind, columns) = match (&found.live, deleted) {
            (None, true) => continue,
            (None, false) => (Kind::Missing, vec![]),
            (Some(_), true) => (Kind::Surplus, vec![]),
            (Some(live), false) => {
                let columns = differing(source, row, &live.values);
                if columns.is_empty() {
                    continue;
                }
                (Kind::Columns, columns)
            }
        };
        outcome.different.push(Difference { key, kind, columns, of_nowhere: None });
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::batch::Place;
    use crate::plan::TablePlan;
    use crate::read::table_tests::{layout, plan};

    const BARRIER: u64 = 1000;
    const END: u64 = 2000;

    fn plan_of_notes() -> Arc<TablePlan> {
        plan(layout())
    }

    fn key(id: i64) -> Vec<u8> {
        id.to_le_bytes().to_vec()
    }

    /// Values of `notes(id, note, price)`.
    fn values(id: i64, note: u8, price: i64) -> Vec<Vec<u8>> {
        vec![key(id), vec![0, 1, b'a' + note % 20], price.to_le_bytes().to_vec()]
    }

    fn batch(rows: &BTreeMap<i64, Option<(u8, i64)>>) -> Batch {
        let mut batch = Batch::new(plan_of_notes()).unwrap();
        let version = Version::of_read(1, BARRIER);
        for (id, row) in rows {
            if let Some((note, price)) = row {
                batch.append(&values(*id, *note, *price), version, 0, Place::source(BARRIER)).unwrap();
            } else {
                batch.columns[0].push_fixed(&key(*id));
                batch.columns[1].push_default();
                batch.columns[2].push_default();
                batch.end_row(version, true, 0, Place::source(BARRIER));
            }
        }
        batch
    }

    fn live(id: i64, row: (u8, i64), at: u64) -> Found {
        let version = Version::of_read(1, at);
        Found { live: Some(Live { version, values: values(id, row.0, row.1) }), newest: Some(version) }
    }

    fn kinds(outcome: &Outcome) -> Vec<(i64, Kind, Vec<usize>)> {
        let id = |key: &[u8]| i64::from_le_bytes(key.try_into().unwrap());
        outcome.different.iter().map(|d| (id(&d.key), d.kind, d.columns.clone())).collect()
    }

    #[test]
    fn each_kind_of_difference_is_named_and_a_row_that_changed_meanwhile_is_left() {
        let source = batch(
            &[
                (1, Some((0, 5))),
                (2, Some((0, 5))),
                (3, None),
                (4, Some((1, 6))),
                (5, Some((0, 5))),
                (6, None),
                (7, Some((0, 5))),
                (8, None),
            ]
            .into(),
        );
        let tombstone = |at| Found { live: None, newest: Some(Version::of_read(1, at)) };
        let target = [
            (key(1), live(1, (0, 5), 10)),
            (key(2), Found::default()),
            (key(3), live(3, (0, 5), 10)),
            (key(4), live(4, (0, 6), 10)),
            // Changed and deleted behind the barrier.
            (key(5), live(5, (9, 9), BARRIER + 1)),
            (key(6), tombstone(BARRIER + 1)),
            // From nowhere.
            (key(7), live(7, (0, 5), END + 1)),
            (key(8), tombstone(10)),
        ]
        .into();
        let outcome = examine(&source, &target, END);
        let expected = [
            (2, Kind::Missing, vec![]),
            (3, Kind::Surplus, vec![]),
            (4, Kind::Columns, vec![1]),
            (7, Kind::Version, vec![]),
        ];
        assert_eq!((kinds(&outcome), outcome.moved), (expected.to_vec(), 2));
        // What is removed is this version alone, since a later change may come meanwhile.
        let of_nowhere: Vec<Version> = outcome.different.iter().filter_map(|d| d.of_nowhere).collect();
        assert_eq!(of_nowhere, [Version::of_read(1, END + 1)]);
        let others = [(key(1), live(1, (0, 5), 10))].into();
        assert_eq!(examine(&source, &others, END), Outcome::default(), "keys that were not asked for");
    }

    #[test]
    fn a_row_of_a_later_epoch_is_from_nowhere_and_one_of_an_earlier_is_old() {
        let of = |epoch, lsn| Version::of_read(epoch, lsn);
        assert!(is_impossible(of(3, 1), 2, END) && is_impossible(of(2, END + 1), 2, END));
        assert!(!is_impossible(of(1, END + 1), 2, END) && !is_impossible(of(2, END), 2, END));
    }

    /// What happened to a key: the row before the barrier, what the target made of it, what came later.
    #[derive(Debug, Clone)]
    #[allow(clippy::option_option, reason = "nothing came later, or a deletion, or a row")]
    struct History {
        at_barrier: Option<(u8, i64)>,
        stored: Option<(u8, i64)>,
        later: Option<Option<(u8, i64)>>,
        read_saw_later: bool,
    }

    fn history() -> impl Strategy<Value = History> {
        let row = || proptest::option::of((0_u8..3, 0_i64..3));
        (row(), row(), any::<bool>(), proptest::option::of(row()), any::<bool>()).prop_map(
            |(at_barrier, other, is_right, later, read_saw_later)| History {
                at_barrier,
                stored: if is_right { at_barrier } else { other },
                later,
                read_saw_later,
            },
        )
    }

    proptest! {
        /// Against a model that knows what is wrong: an examination finds exactly the rows that are, apart from those
        /// that changed behind the barrier, whatever the read saw of these.
        #[test]
        fn an_examination_finds_what_is_wrong_and_nothing_else(
            all in proptest::collection::vec(history(), 0..30),
        ) {
            let (mut read, mut target, mut wrong) = (BTreeMap::new(), HashMap::new(), Vec::new());
            for (id, history) in (0..).zip(&all) {
                let seen = match &history.later {
                    Some(later) if history.read_saw_later => *later,
                    _ => history.at_barrier,
                };
                read.insert(id, seen);
                // All that the read saw is applied, so what came later is there too.
                let found = match &history.later {
                    Some(Some(row)) => Some(live(id, *row, BARRIER + 5)),
                    Some(None) => Some(Found { live: None, newest: Some(Version::of_read(1, BARRIER + 5)) }),
                    None => history.stored.map(|row| live(id, row, 7)),
                };
                target.insert(key(id), found.unwrap_or_default());
                if history.later.is_none() && history.stored != history.at_barrier {
                    wrong.push(id);
                }
            }
            let outcome = examine(&batch(&read), &target, END);
            let found: Vec<i64> = kinds(&outcome).into_iter().map(|(id, ..)| id).collect();
            prop_assert_eq!(found, wrong);
            prop_assert_eq!(outcome.moved, all.iter().filter(|history| history.later.is_some()).count());
        }

        /// The cheap look suspects each row that differs, and none that is equal.
        #[test]
        fn what_differs_at_a_look_is_suspected(
            all in proptest::collection::vec((proptest::option::of((0_u8..3, 0_i64..3)), (0_u8..3, 0_i64..3)), 0..30),
        ) {
            let (mut rows, mut target, mut absent, mut expected) = (BTreeMap::new(), HashMap::new(), vec![], vec![]);
            for (id, (source, stored)) in (0..).zip(&all) {
                let found = live(id, *stored, 7).live.unwrap();
                target.insert(key(id), found);
                match source {
                    Some(row) => drop(rows.insert(id, Some(*row))),
                    None => absent.push(key(id)),
                }
                if source.as_ref() != Some(stored) {
                    expected.push(key(id));
                }
            }
            let mut found = suspects(&target, &batch(&rows), absent);
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
            let keys: Vec<Vec<u8>> = (0..40).map(key).collect();
            prop_assert_eq!(missing(&target, keys).len(), 40 - all.len());
        }
    }
}
