//! Whether the replication slot holds back too much of the source's write-ahead log, told long before its disk is full.
//! Pure.
//!
//! Said as the bound that was passed: the bytes themselves move with every look, and are a metric.

use tidemark_crds::pipeline::{AnalyticsPipelineSpec, ConnectorState};

use crate::core::facts::PostgresFacts;

const GIB: u64 = 1 << 30;

/// Bounds in bytes, the least first. The first is that of a slot that nobody reads: a connector at work passes it during
/// a large transaction.
const BOUNDS: [(&str, u64); 3] = [(">1Gi", GIB), (">10Gi", 10 * GIB), (">100Gi", 100 * GIB)];
/// More than half of what the server keeps for a slot at most.
const HALF: &str = ">50%";
/// Half of a limit below this is what an idle slot holds back between two checkpoints.
const LEAST_HALF: u64 = 64 << 20;
/// More than the server's limit: the next checkpoint may take it, and the slot is lost.
const UNRESERVED: &str = "Unreserved";

/// The greatest bound that the slot passes; empty: it holds back little. `before` is what was said last: its bound is
/// left at half of it, and what was raised while nobody read is not lowered because a connector tries again.
pub fn held_back(facts: &PostgresFacts, wanted: ConnectorState, before: &str) -> &'static str {
    let Some(slot) = &facts.slot else {
        return "";
    };
    match slot.wal_status.as_str() {
        "unreserved" => return UNRESERVED,
        // It holds back nothing any more: that it is lost has a verdict of its own.
        "lost" => return "",
        _ => {}
    }
    let half = facts.max_slot_wal_keep_bytes.map(|limit| (HALF, (limit / 2).max(LEAST_HALF)));
    let is_read = slot.active && wanted == ConnectorState::Running && before.is_empty();
    let passed = |(name, bound): &(&'static str, u64)| {
        let bound = if *name == before { bound / 2 } else { *bound };
        slot.retained_bytes > bound
    };
    let mut bounds = BOUNDS.into_iter().skip(usize::from(is_read)).chain(half);
    bounds.rfind(passed).map_or("", |(name, _)| name)
}

/// What is wrong and what to do, for a bound that was passed.
pub fn message(spec: &AnalyticsPipelineSpec, slot: &str, passed: &str, facts: &PostgresFacts) -> String {
    let amount = match passed {
        HALF => "more than half of max_slot_wal_keep_size".to_owned(),
        UNRESERVED => "more than max_slot_wal_keep_size".to_owned(),
        bound => format!("more than {}B", bound.trim_start_matches('>')),
    };
    let end = match facts.max_slot_wal_keep_bytes {
        Some(_) => "beyond max_slot_wal_keep_size the server gives the slot up, and its changes are lost",
        None => "the server sets no max_slot_wal_keep_size, so it grows until the disk is full",
    };
    let advice = match spec.source.connect.state {
        ConnectorState::Running => {
            "see ConnectorRunning, and the load of Kafka Connect and Kafka; a long transaction at the source holds it \
             back, too"
                .to_owned()
        }
        state => format!("spec.source.connect.state is {state:?}: set it to Running, or delete the pipeline"),
    };
    format!(
        "replication slot {slot} holds back {amount} of write-ahead log on the source's disk: {end}: {advice}"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemark_crds::pipeline::ConnectorState::{Paused, Running, Stopped};

    use super::*;
    use crate::core::facts::SlotFacts;

    fn facts(retained_bytes: u64, limit: Option<u64>, active: bool) -> PostgresFacts {
        let slot =
            SlotFacts { retained_bytes, active, wal_status: "reserved".into(), ..SlotFacts::default() };
        PostgresFacts { slot: Some(slot), max_slot_wal_keep_bytes: limit, ..PostgresFacts::default() }
    }

    #[test]
    fn what_is_too_much_depends_on_the_limit_and_on_whether_somebody_reads() {
        for (gib, limit, active, wanted, before, expected) in [
            (0, None, false, Running, "", ""),
            (2, None, true, Running, "", ""),
            (2, None, false, Running, "", ">1Gi"),
            (2, None, true, Paused, "", ">1Gi"),
            (2, None, true, Stopped, "", ">1Gi"),
            // The connector tries again.
            (2, None, true, Running, ">1Gi", ">1Gi"),
            (11, None, true, Running, "", ">10Gi"),
            (400, None, false, Paused, "", ">100Gi"),
            (11, Some(400), true, Running, "", ">10Gi"),
            (3, Some(4), true, Running, "", ">50%"),
            (300, Some(400), true, Running, "", ">50%"),
            // Down to half of the bound it stays.
            (6, None, true, Running, ">10Gi", ">10Gi"),
            (5, None, true, Running, ">10Gi", ">1Gi"),
            (6, None, true, Running, "", ""),
            (2, Some(4), true, Running, ">50%", ">50%"),
            (1, Some(4), true, Running, ">50%", ""),
        ] {
            let facts = facts(gib * GIB, limit.map(|limit| limit * GIB), active);
            let found = held_back(&facts, wanted, before);
            assert_eq!(found, expected, "{gib} of {limit:?}, {active} {wanted:?}, before {before:?}");
        }
    }

    #[test]
    fn the_servers_own_word_counts_and_a_slot_that_is_gone_holds_nothing() {
        let mut over = facts(1, Some(1), true);
        over.slot.as_mut().unwrap().wal_status = "unreserved".into();
        assert_eq!(held_back(&over, Running, ""), UNRESERVED);
        let mut lost = facts(900 * GIB, None, false);
        lost.slot.as_mut().unwrap().wal_status = "lost".into();
        assert_eq!(held_back(&lost, Running, ">100Gi"), "");
        assert_eq!(held_back(&PostgresFacts::default(), Paused, ">1Gi"), "");
        let tiny = facts(40 << 20, Some(64 << 20), true);
        assert_eq!(held_back(&tiny, Running, ""), "", "an idle slot of a server with a small limit");
    }

    proptest! {
        #[test]
        fn what_moves_within_a_factor_of_two_comes_to_one_word(
            low in 1..400 * GIB,
            factor in 1.0..1.99_f64,
            limit in prop::option::of(1..400 * GIB),
            active in any::<bool>(),
            begin in 0..5_usize,
        ) {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let high = (low as f64 * factor) as u64;
            let mut word = ["", ">1Gi", ">10Gi", ">100Gi", HALF][begin];
            let mut all = Vec::new();
            for look in 0..24 {
                let retained = if look % 2 == 0 { high } else { low };
                word = held_back(&facts(retained, limit, active), Running, word);
                all.push(word);
            }
            prop_assert!(all[12..].iter().all(|later| *later == word), "{all:?}");
        }
    }
}
