//! Which requests a replica takes, goes on with and leaves.

use super::*;

const LEASE: Duration = Duration::from_secs(15);
const PLACE: &str = "pg:5432/shop";

fn open(seen: Option<(u64, ReadState, &str, i64)>) -> Open {
    Open {
        table: "orders".into(),
        id: 7,
        request: ReadRequest { epoch: 2, layout: 3, reason: "first load".into(), ..ReadRequest::default() },
        epoch: 2,
        layout: 3,
        now_ms: 0,
        seen: seen.map(|(id, state, owner, age_ms)| Seen {
            id,
            state,
            barrier: (0, 0),
            owner: owner.into(),
            beat: 1,
            age_ms,
            place: String::new(),
        }),
    }
}

fn decision(open: &Open) -> Decision {
    decide(open, ("me", PLACE), LEASE, Own::default())
}

#[test]
fn a_request_is_taken_that_nobody_reads() {
    assert_eq!(decision(&open(None)), Decision::Read);
    for (seen, taken) in [
        ((7, ReadState::Read, "other", 1_000_000), false),
        ((6, ReadState::Read, "other", 0), true),
        ((6, ReadState::Reading, "other", 0), true),
        ((7, ReadState::Reading, "other", 14_000), false),
        ((7, ReadState::Reading, "other", 15_001), true),
        ((7, ReadState::Reading, "me", 0), true),
        ((7, ReadState::Failed, "other", 130_000), false),
        ((7, ReadState::Failed, "other", 136_000), true),
        ((7, ReadState::Failed, "me", 0), true),
    ] {
        let expected = if taken { Decision::Read } else { Decision::Leave };
        assert_eq!(decision(&open(Some(seen))), expected, "{seen:?}");
    }
}

#[test]
fn a_request_for_rows_of_another_server_is_left_alone() {
    let mut open = open(None);
    for (source, expected) in [
        (None, Decision::Read),
        (Some(PLACE), Decision::Read),
        (Some("pg-2:5432/shop"), Decision::Leave),
        (Some("pg:5432/bank"), Decision::Leave),
    ] {
        open.request.source = source.map(str::to_owned);
        assert_eq!(decision(&open), expected, "{source:?}");
        let active = Own { active: true, ..Own::default() };
        assert_eq!(decide(&open, ("me", PLACE), LEASE, active), expected, "{source:?}, while it is read");
    }
}

#[test]
fn another_epochs_request_is_void_and_one_of_a_newer_layout_waits() {
    assert_eq!(decision(&Open { epoch: 3, ..open(None) }), Decision::Leave);
    assert_eq!(decision(&Open { layout: 2, ..open(None) }), Decision::Leave);
    let mut none = open(None);
    none.request.layout = 0;
    assert_eq!(decision(&Open { layout: 0, ..none }), Decision::Leave, "without a layout there is no plan");
}

#[test]
fn a_failed_read_pauses_and_a_read_that_another_took_over_ends() {
    let pausing = Own { active: false, pausing: true };
    assert_eq!(
        decide(&open(Some((7, ReadState::Failed, "me", 0))), ("me", PLACE), LEASE, pausing),
        Decision::Leave
    );
    let active = Own { active: true, pausing: false };
    assert_eq!(
        decide(&open(Some((7, ReadState::Reading, "other", 500))), ("me", PLACE), LEASE, active),
        Decision::Leave
    );
    assert_eq!(
        decide(&open(Some((7, ReadState::Reading, "me", 500))), ("me", PLACE), LEASE, active),
        Decision::Read
    );
}
