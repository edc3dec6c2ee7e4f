//! Whether the replication slot still has what follows the connector's position. Pure.

use crate::facts::{OffsetFacts, SlotFacts};

/// Says why the slot no longer gives what follows the connector's stored position; `None`: it does.
///
/// A slot that was dropped and made anew, as managers of clusters do after a failover, begins at a later position than
/// the connector ended at: what was changed in between is in neither. Only an unused slot is judged: one in use moves
/// between two looks, and whoever uses it has compared the positions itself.
pub fn slot_lost(slot: &SlotFacts, offset: Option<&OffsetFacts>) -> Option<String> {
    if slot.wal_status == "lost" {
        return Some(
            "the server gave up its write-ahead log: it held back more than max_slot_wal_keep_size".into(),
        );
    }
    let offset = offset.filter(|offset| offset.lsn > 0 && !slot.active)?;
    (slot.confirmed_lsn > offset.lsn).then(|| {
        format!(
            "it stands at {}, behind the connector's position {}: it was dropped and made anew, and the changes in between \
             are lost",
            position(slot.confirmed_lsn),
            position(offset.lsn)
        )
    })
}

/// A position of the log as PostgreSQL writes it.
fn position(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(active: bool, confirmed_lsn: u64) -> SlotFacts {
        SlotFacts { active, confirmed_lsn, wal_status: "reserved".into(), ..SlotFacts::default() }
    }

    fn offset(lsn: u64) -> OffsetFacts {
        OffsetFacts { lsn }
    }

    #[test]
    fn a_slot_beyond_the_connectors_position_is_lost_and_every_other_is_not() {
        let lost = slot_lost(&slot(false, 0x1_0000_0100), Some(&offset(0x1_0000_00FF))).unwrap();
        assert!(lost.contains("1/100") && lost.contains("1/FF"), "{lost}");
        for (slot, offset) in [
            (slot(false, 100), Some(offset(100))),
            (slot(false, 100), Some(offset(101))),
            // Flushed between the looks at Connect and at PostgreSQL.
            (slot(true, 101), Some(offset(100))),
            // Nothing is stored yet: the connector begins where the slot does.
            (slot(false, 100), Some(offset(0))),
            (slot(false, 100), None),
        ] {
            assert_eq!(slot_lost(&slot, offset.as_ref()), None, "{slot:?} {offset:?}");
        }
        let gone = SlotFacts { wal_status: "lost".into(), ..slot(true, 1) };
        assert!(slot_lost(&gone, None).is_some());
    }
}
