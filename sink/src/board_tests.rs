use super::*;
use crate::testing::{column, layout};

fn row(kind: &str, key: &str, version: u64, value: String) -> Row {
    Row { kind: kind.to_owned(), key: key.to_owned(), version, value }
}

fn rows() -> Vec<Row> {
    let first = layout("orders", vec![column("id", 1, "bigint", "Int64", Some(0))]);
    let mut second = first.clone();
    second.version = 2;
    second.from = Begin { epoch: 3, after: 70, by: 80 };
    let json = |value: &TableLayout| serde_json::to_string(value).unwrap();
    vec![
        row("layout", "orders@0000000002", 2, json(&second)),
        row("layout", "orders@0000000001", 1, json(&first)),
        row(
            "layout",
            "items@0000000001",
            1,
            r#"{"version":1,"from":{"epoch":1,"after":5,"by":9},"columns":7}"#.into(),
        ),
        row("confirmed", "orders", 9, r#"{"layout":2,"epoch":3,"lsn":95}"#.into()),
        row("read", "orders", 17, r#"{"epoch":3,"layout":1,"reason":"first load"}"#.into()),
        row("epoch", "", 4, "3".into()),
        row(READ_STATE, "orders", 17, "3 90 read".into()),
        row(READ_STATE, "items", 18, "3 91 reading".into()),
    ]
}

#[test]
fn the_rows_become_what_the_operator_says() {
    let board = Board::new(&rows(), Encoding::Contract, &Board::default());
    let orders = &board.histories["orders"];
    assert_eq!((board.epoch, orders.usable()), (3, 2));
    assert!(orders.is_confirmed((3, 95)) && !orders.is_confirmed((3, 96)));
    assert_eq!(board.requests["orders"].id, 17);
    assert_eq!(board.reads["orders"], ReadState { request: 17, barrier: (3, 90), done: true });
    assert!(!board.reads["items"].done);
}

#[test]
fn a_layout_that_cannot_be_read_troubles_its_own_table() {
    let board = Board::new(&rows(), Encoding::Contract, &Board::default());
    let items = &board.histories["items"];
    assert!(items.trouble().is_some() && items.usable() == 0);
    assert!(board.histories["orders"].trouble().is_none());
}

#[test]
fn plans_are_taken_over_from_board_to_board() {
    let before = Board::new(&rows(), Encoding::Contract, &Board::default());
    let after = Board::new(&rows(), Encoding::Contract, &before);
    let plan = |board: &Board| Arc::clone(board.histories["orders"].newest().unwrap());
    assert!(Arc::ptr_eq(&plan(&before), &plan(&after)));
}
