//! Whose the replication slot is, and whether it still has what follows the connector's position. Pure.

use tidemark_crds::conditions::Reason;
use tidemark_crds::ledger::Kind;

use crate::core::desired::part::{OF_A_PIPELINE, Problem};
use crate::core::facts::{LedgerFacts, OffsetFacts, PostgresFacts, SlotFacts};

/// The slot that has the pipeline's name, or why it is not the pipeline's to drop.
///
/// A slot carries no mark. The publication of the same name does where Tidemark made it; where the owner of the tables
/// did, the ledger says that the log was followed through the slot.
pub fn own_slot<'a>(
    name: &str,
    postgres: &'a PostgresFacts,
    ledger: Option<&LedgerFacts>,
) -> Result<Option<&'a SlotFacts>, Problem> {
    let Some(slot) = &postgres.slot else {
        return Ok(None);
    };
    let followed = ledger.is_some_and(|ledger| ledger.has_row(Kind::Epoch, ""));
    let why = if slot.plugin != "pgoutput" || slot.database != postgres.database {
        "it is of another database or plugin".to_owned()
    } else {
        match &postgres.publication {
            Some(publication) if publication.ours => return Ok(Some(slot)),
            Some(publication) if publication.comment.starts_with(OF_A_PIPELINE) => {
                format!("its publication belongs to another pipeline ({})", publication.comment)
            }
            _ if followed => return Ok(Some(slot)),
            _ => "no publication of this pipeline has its name, and no ledger knows it".to_owned(),
        }
    };
    let message = format!(
        "replication slot {name} exists and was not made by this pipeline: {why}: it is left alone; drop it with \
         SELECT pg_drop_replication_slot('{name}') if nobody needs it"
    );
    Err(Problem::new("source", Reason::Conflict, message))
}

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
pub fn position(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::facts::PublicationFacts;

    fn slot(active: bool, confirmed_lsn: u64) -> SlotFacts {
        SlotFacts { active, confirmed_lsn, wal_status: "reserved".into(), ..SlotFacts::default() }
    }

    fn offset(lsn: u64) -> OffsetFacts {
        OffsetFacts { lsn }
    }

    #[test]
    fn a_slot_is_the_pipelines_by_its_publication_or_by_the_ledger_and_never_by_its_name() {
        let of = |plugin: &str, database: &str| SlotFacts {
            plugin: plugin.into(),
            database: database.into(),
            ..SlotFacts::default()
        };
        let marked = |comment: &str, ours| PublicationFacts {
            comment: comment.into(),
            ours,
            ..PublicationFacts::default()
        };
        let mut known = LedgerFacts::default();
        known.versions.insert((Kind::Epoch.as_str().into(), String::new()), 1);
        let ours = || Some(marked("tidemark u/ns/shop", true));
        let others = || Some(marked("tidemark v/ns/shop", false));
        let owners = || Some(marked("made by the owner", false));
        for (slot, publication, ledger, expected) in [
            (of("pgoutput", "shop"), ours(), None, true),
            (of("pgoutput", "shop"), owners(), Some(&known), true),
            (of("pgoutput", "shop"), None, Some(&known), true),
            (of("pgoutput", "shop"), others(), Some(&known), false),
            (of("pgoutput", "shop"), owners(), Some(&LedgerFacts::default()), false),
            (of("pgoutput", "shop"), None, None, false),
            (of("wal2json", "shop"), ours(), Some(&known), false),
            (of("pgoutput", "bank"), ours(), Some(&known), false),
            (of("", ""), ours(), Some(&known), false),
        ] {
            let what = format!("{slot:?} {publication:?}");
            let slot = Some(slot);
            let facts = PostgresFacts { slot, publication, database: "shop".into(), ..Default::default() };
            let found = own_slot("s", &facts, ledger);
            assert_eq!(found.is_ok_and(|slot| slot.is_some()), expected, "{what}");
        }
        assert_eq!(own_slot("s", &PostgresFacts::default(), None), Ok(None));
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
