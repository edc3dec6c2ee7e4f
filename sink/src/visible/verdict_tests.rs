use super::*;

const SERVER: &str = "1/00000001";

fn claim(lsn: u64, ends: &[(i32, i64)]) -> Claim {
    Claim { epoch: 2, server: SERVER.to_owned(), lsn, ends: ends.iter().copied().collect() }
}

/// A table that was read behind 50, has applied 10 and 5 records, and of which that is said to be all up to 100.
fn facts() -> TableFacts {
    TableFacts {
        claims: vec![claim(100, &[(0, 10), (1, 5), (2, 0)])],
        next: [(0, 10), (1, 5)].into(),
        request: Some((7, 2)),
        read: Some(Read { request: 7, barrier: (2, 50), done: true }),
        ..TableFacts::default()
    }
}

fn unknown(verdict: &Verdict, word: &str) -> bool {
    matches!(verdict, Verdict::Unknown(why) if why.contains(word))
}

#[test]
fn a_position_holds_once_every_partition_has_applied_what_it_had_then() {
    let upto = |next: &[(i32, i64)], claims: Vec<Claim>| {
        TableFacts { claims, next: next.iter().copied().collect(), ..facts() }.judge(2, SERVER)
    };
    let one = || claim(100, &[(0, 10), (1, 5)]);
    let later = || claim(200, &[(0, 30), (1, 5)]);
    for (next, claims, lsn) in [
        (&[(0, 10), (1, 5)][..], vec![one()], 100),
        (&[(0, 11), (1, 9)], vec![one()], 100),
        // A partition that is late, or of which nothing was heard.
        (&[(0, 9), (1, 5)], vec![one()], 0),
        (&[(0, 10), (1, 4)], vec![one()], 0),
        (&[(0, 10)], vec![one()], 0),
        (&[], vec![one()], 0),
        // The greatest that holds, in whichever order.
        (&[(0, 30), (1, 5)], vec![later(), one()], 200),
        (&[(0, 29), (1, 5)], vec![later(), one()], 100),
        (&[(0, 29), (1, 5)], vec![later()], 0),
        (&[(0, 99), (1, 99)], vec![], 0),
        // Nothing was ever sent.
        (&[], vec![claim(100, &[(0, 0), (1, 0)])], 100),
    ] {
        assert_eq!(upto(next, claims.clone()), Verdict::Upto(lsn), "{next:?} {claims:?}");
    }
}

#[test]
fn what_is_of_another_life_is_not_believed() {
    let other = |change: fn(&mut Claim)| {
        let mut facts = facts();
        facts.claims.iter_mut().for_each(change);
        facts.judge(2, SERVER)
    };
    assert_eq!(other(|_| {}), Verdict::Upto(100));
    assert_eq!(other(|claim| claim.epoch = 1), Verdict::Upto(0));
    assert_eq!(other(|claim| claim.server = "1/00000002".to_owned()), Verdict::Upto(0));
    assert_eq!(facts().judge(2, "2/00000001"), Verdict::Upto(0));
    // An epoch of the ledger that the table has not been read in.
    assert!(
        unknown(&facts().judge(3, SERVER), "first load") && unknown(&facts().judge(0, SERVER), "first load")
    );
}

#[test]
fn a_table_that_shows_less_than_it_has_applied_is_never_complete() {
    let with = |change: fn(&mut TableFacts)| {
        let mut facts = facts();
        change(&mut facts);
        facts.judge(2, SERVER)
    };
    for (verdict, word) in [
        (with(|facts| facts.request = None), "first load"),
        (with(|facts| facts.read = None), "being read"),
        // Asked for again, and not begun.
        (with(|facts| facts.request = Some((8, 2))), "being read"),
        (with(|facts| facts.read = Some(Read { request: 7, barrier: (2, 50), done: false })), "being read"),
        (with(|facts| facts.read = Some(Read { request: 7, barrier: (1, 50), done: true })), "being read"),
        (with(|facts| facts.doubt = Some(("records are gone".to_owned(), (2, 50)))), "records are gone"),
        (with(|facts| facts.doubt = Some(("another topic".to_owned(), (3, 1)))), "another topic"),
        (with(|facts| facts.dead = 3), "3 of its records"),
    ] {
        assert!(unknown(&verdict, word), "{verdict:?} {word}");
    }
    // A doubt that the read has ended.
    let ended = with(|facts| facts.doubt = Some(("records are gone".to_owned(), (2, 49))));
    assert_eq!(ended, Verdict::Upto(100));
    // What was applied before a table was held is there all the same.
    let held = with(|facts| facts.trouble = Some("held".to_owned()));
    assert_eq!(held, Verdict::Stuck(100, "held".to_owned()));
}
