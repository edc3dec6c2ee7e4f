//! Tests of the history: what holds when, and what a shape is.

use super::*;
use crate::layout::LeftOutReason;

fn layout(version: u64, from: (u16, u64, u64), columns: &[&str]) -> TableLayout {
    let columns: Vec<_> = columns
        .iter()
        .zip(1..)
        .map(|(name, attnum)| {
            serde_json::json!({"source": name, "target": name, "stored": name, "attnum": attnum,
                "pgType": "bigint", "wire": "Int", "type": "Int64", "outOfRange": "DeadLetter"})
        })
        .collect();
    let (epoch, after, by) = from;
    serde_json::from_value(
        serde_json::json!({"version": version, "source": "public.t", "oid": 1, "target": "t",
        "from": {"epoch": epoch, "after": after, "by": by}, "columns": columns}),
    )
    .unwrap()
}

fn versions(layouts: &[TableLayout], at: Position) -> Vec<u64> {
    candidates(layouts, at).map(|layout| layout.version).collect()
}

#[test]
fn an_event_has_the_layout_of_its_position_and_between_two_looks_either() {
    let layouts = [
        layout(1, (0, 0, 0), &["a"]),
        layout(2, (1, 100, 110), &["b"]),
        layout(3, (1, 110, 130), &["c"]),
        layout(4, (2, 0, 20), &["d"]),
    ];
    for (at, expected) in [
        ((1, 0), vec![1]),
        ((1, 100), vec![1]),
        ((1, 101), vec![2, 1]),
        ((1, 110), vec![2, 1]),
        ((1, 111), vec![3, 2]),
        ((1, 130), vec![3, 2]),
        ((1, 131), vec![3]),
        ((1, u64::MAX), vec![3]),
        ((2, 0), vec![3]),
        ((2, 1), vec![4, 3]),
        ((2, 21), vec![4]),
        ((9, 0), vec![4]),
    ] {
        assert_eq!(versions(&layouts, at), expected, "{at:?}");
    }
    assert!(versions(&[], (1, 1)).is_empty());
    assert_eq!(versions(&layouts[..1], (0, 0)), [1]);
}

#[test]
fn a_shape_is_the_ordered_names_and_what_is_computed_may_be_missing() {
    let mut table = layout(1, (0, 0, 0), &["id", "a", "b"]);
    assert!(has_shape(&table, ["id", "a", "b"]));
    for other in [vec!["id", "b", "a"], vec!["id", "a"], vec!["id", "a", "b", "c"], vec![]] {
        assert!(!has_shape(&table, other.iter().copied()), "{other:?}");
    }
    let why = LeftOutReason::Generated;
    table.left_out.push(crate::layout::LeftOut { source: "sum".into(), attnum: 9, why });
    assert!(has_shape(&table, ["id", "a", "b"]));
    assert!(has_shape(&table, ["id", "a", "b", "sum"]));
    table.left_out[0].why = LeftOutReason::Excluded;
    assert!(!has_shape(&table, ["id", "a", "b"]));
}

#[test]
fn what_is_confirmed_is_so_for_the_newest_layout_alone() {
    let layouts = [layout(1, (0, 0, 0), &["a"]), layout(2, (1, 5, 7), &["b"])];
    let row = |layout, lsn| Confirmed { layout, epoch: 1, lsn };
    assert_eq!(confirmed_to(&layouts, None), Some((1, 5)));
    assert_eq!(confirmed_to(&layouts, Some(&row(1, 90))), Some((1, 5)));
    assert_eq!(confirmed_to(&layouts, Some(&row(2, 90))), Some((1, 90)));
    assert_eq!(confirmed_to(&layouts, Some(&row(2, 3))), Some((1, 5)));
    assert_eq!(confirmed_to(&[], None), None);
}
