use proptest::prelude::*;
use tidemark_crds::layout::Begin;

use super::*;
use crate::testing::{column, layout};

fn of(version: u64, after: u64, by: u64, columns: &[&str]) -> TableLayout {
    let columns = (1..)
        .zip(columns)
        .map(|(attnum, name)| column(name, attnum, "text", "String", (*name == "id").then_some(0)));
    let from = Begin { epoch: u16::from(version > 1), after, by };
    TableLayout { version, from, ..layout("t", columns.collect()) }
}

fn names(text: &[&str]) -> Vec<String> {
    text.iter().map(|name| (*name).to_owned()).collect()
}

fn chosen(history: &History, lsn: u64, fields: &[&str]) -> Result<u64, Missing> {
    history.choose((1, lsn), &names(fields)).map(|chosen| chosen.plan.layout.version)
}

#[test]
fn position_decides_and_between_the_bounds_the_shape() {
    let history = History::new(
        vec![of(1, 0, 0, &["id", "a"]), of(2, 100, 120, &["id", "b"]), of(3, 200, 220, &["id", "a"])],
        None,
        Encoding::Contract,
        None,
    );
    assert_eq!(chosen(&history, 50, &["id", "a"]), Ok(1));
    assert_eq!(chosen(&history, 50, &["id", "b"]), Err(Missing::Shape), "not there yet for certain");
    assert_eq!(chosen(&history, 110, &["id", "a"]), Ok(1));
    assert_eq!(chosen(&history, 110, &["id", "b"]), Ok(2));
    assert_eq!(chosen(&history, 150, &["id", "a"]), Err(Missing::Shape));
    assert_eq!(chosen(&history, 210, &["id", "a"]), Ok(3));
    assert!(history.is_confirmed((1, 200)) && !history.is_confirmed((1, 201)));
}

#[test]
fn a_layout_of_another_program_holds_what_it_may_concern_and_nothing_before_it() {
    let unknown = TableLayout { columns: vec![], ..of(2, 100, 120, &[]) };
    let history = History::new(vec![of(1, 0, 0, &["id", "a"]), unknown], None, Encoding::Contract, None);
    assert_eq!(chosen(&history, 100, &["id", "a"]), Ok(1));
    assert!(
        matches!(chosen(&history, 130, &["id", "a"]), Err(Missing::Unusable(why)) if why.contains("layout 2"))
    );
    assert!(!history.is_confirmed((1, 110)), "nothing is passed over");
    assert_eq!(history.usable(), 1);
}

#[test]
fn rows_from_before_a_repeated_read_lack_columns() {
    let mut again = of(2, 100, 120, &["id", "b"]);
    again.read_again = Some("the table was rewritten".to_owned());
    let layouts = vec![of(1, 0, 0, &["id", "a"]), again, of(3, 200, 220, &["id", "b", "c"])];
    let history = History::new(layouts, None, Encoding::Contract, None);
    let from = |place: usize| history.complete_from(history.plans[place].as_ref().unwrap());
    assert_eq!([from(0), from(1), from(2)], [(0, 0), (1, 120), (1, 120)]);
}

proptest! {
    /// What was answered for one event holds for every event of its shape between the bounds.
    #[test]
    fn an_answer_holds_as_far_as_it_says(
        steps in prop::collection::vec((1_u64..50, 0_u64..50, 0_usize..4), 1..8), at in 0_u64..400, other in 0_u64..400,
    ) {
        let shapes: [&[&str]; 4] = [&["id", "a"], &["id", "b"], &["id"], &["id", "a", "b"]];
        let mut position = 0;
        let mut layouts = vec![of(1, 0, 0, shapes[0])];
        for (version, (pause, width, shape)) in (2..).zip(steps) {
            position += pause;
            layouts.push(of(version, position, position + width, shapes[shape]));
            position += width;
        }
        let history = History::new(layouts, None, Encoding::Contract, None);
        for shape in shapes {
            let fields = names(shape);
            if let Ok(Chosen { plan, lo, hi, .. }) = history.choose((1, at), &fields) {
                prop_assert!(lo < (1, at) && (1, at) <= hi);
                if lo < (1, other) && (1, other) <= hi {
                    let again = history.choose((1, other), &fields).map(|chosen| chosen.plan.layout.version);
                    prop_assert_eq!(again, Ok(plan.layout.version));
                }
            }
        }
    }
}
