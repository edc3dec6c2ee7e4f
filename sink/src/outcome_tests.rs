use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn error(code: i32) -> Error {
    Error { class: ErrorClass::of_code(code), code: Some(code), message: format!("error {code}") }
}

/// Runs to the end against a server that refuses some rows by themselves; returns what was written and refused, and
/// the number of attempts.
fn run(rows: usize, poison: &BTreeSet<usize>, code: i32) -> (BTreeSet<usize>, Vec<usize>, usize, bool) {
    let mut work = Work::new(rows, 10);
    let (mut written, mut attempts) = (BTreeSet::new(), 0);
    while let Some(piece) = work.piece() {
        attempts += 1;
        if piece.clone().any(|row| poison.contains(&row)) {
            if work.failed(&error(code)) == Verdict::Stopped {
                return (written, vec![], attempts, true);
            }
        } else {
            written.extend(piece);
            work.written();
        }
    }
    let refused = work.into_refused().into_iter().map(|refused| refused.row).collect();
    (written, refused, attempts, false)
}

proptest! {
    #[test]
    fn each_row_is_written_or_refused_by_itself(
        rows in 1_usize..3000, poison in prop::collection::btree_set(0_usize..3000, 0..8),
    ) {
        let poison: BTreeSet<usize> = poison.into_iter().filter(|row| *row < rows).collect();
        let (written, refused, attempts, stopped) = run(rows, &poison, 469);
        prop_assert!(!stopped);
        let refused: BTreeSet<usize> = refused.into_iter().collect();
        prop_assert_eq!(&refused, &poison);
        prop_assert_eq!(written.len() + refused.len(), rows);
        prop_assert!(written.is_disjoint(&poison));
        // Two attempts a halving, and the first three.
        let halvings = rows.ilog2() as usize + 2;
        prop_assert!(attempts <= 3 + 2 * halvings * poison.len().max(1), "{} attempts", attempts);
    }
}

#[test]
fn a_server_that_refuses_everything_stops_the_table_and_buries_nothing() {
    let all: BTreeSet<usize> = (0..5000).collect();
    let (written, refused, attempts, stopped) = run(5000, &all, 469);
    assert!(stopped && written.is_empty() && refused.is_empty());
    assert!(attempts < 60, "{attempts}");
}

#[test]
fn a_table_that_is_gone_stops_at_once_and_goes_on_where_it_was() {
    let mut work = Work::new(5000, 10);
    let verdicts: Vec<Verdict> = (0..3)
        .map(|_| {
            assert_eq!(work.piece(), Some(0..5000));
            work.failed(&error(60))
        })
        .collect();
    assert_eq!(verdicts, [Verdict::Again, Verdict::Again, Verdict::Stopped]);
    assert_eq!(work.piece(), Some(0..5000));
    work.written();
    assert_eq!(work.piece(), None);
}

#[test]
fn memory_makes_pieces_that_grow_again() {
    let mut work = Work::new(16_000, 10);
    for expected in [16_000, 8_000, 4_000] {
        assert_eq!(work.piece().unwrap().len(), expected);
        assert_eq!(work.failed(&error(241)), Verdict::Again);
    }
    let mut sizes = Vec::new();
    while let Some(piece) = work.piece() {
        sizes.push(piece.len());
        work.written();
    }
    assert_eq!(sizes.iter().sum::<usize>(), 16_000);
    assert_eq!(sizes, [2_000, 2_000, 4_000, 8_000], "as soon as there is room");
}

#[test]
fn a_full_disk_is_waited_for_in_one_piece() {
    let mut work = Work::new(16_000, 10);
    for _ in 0..100 {
        assert_eq!(work.piece(), Some(0..16_000));
        assert_eq!(work.failed(&error(243)), Verdict::Again);
    }
}

#[test]
fn too_many_partitions_are_not_too_many_parts() {
    let mut work = Work::new(16_000, 10);
    let partitions =
        Error { message: "Too many partitions for single INSERT block (more than 100)".into(), ..error(252) };
    assert_eq!(work.piece(), Some(0..16_000));
    work.failed(&partitions);
    assert_eq!(work.piece(), Some(0..8_000));
    work.failed(&error(252));
    assert_eq!(work.piece(), Some(0..8_000));
}
