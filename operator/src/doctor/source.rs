//! From PostgreSQL's log to the connector. Pure.

use tidemark_crds::conditions::ConditionType;

use super::{Checkup, Hop, Verdict};
use crate::cost::size;
use crate::desired::slot::position;
use crate::facts::{ConnectorFacts, PostgresFacts, SlotFacts};

const SYSTEM: &str = "postgres";

/// Source, publication, slot, connector.
pub(super) fn hops(checkup: &Checkup<'_>) -> Vec<Hop> {
    vec![source(checkup), publication(checkup), slot(checkup), connector(checkup)]
}

fn source(checkup: &Checkup<'_>) -> Hop {
    let found = checkup.of_condition("source", ConditionType::SourceReady, SYSTEM);
    found.unwrap_or_else(|hop| {
        let facts = checkup.observed.postgres.known();
        let message = facts.map_or(String::new(), |facts| {
            format!(
                "PostgreSQL {}, database {}, as {}; its log is at {}",
                facts.server_version / 10_000,
                facts.database,
                facts.role,
                position(facts.current_lsn)
            )
        });
        Hop { message, ..hop }
    })
}

/// A hop that PostgreSQL answers.
fn seen<'a>(checkup: &Checkup<'a>, hop: &str) -> Result<&'a PostgresFacts, Hop> {
    if let Some(found) = checkup.unseen(hop, SYSTEM, ConditionType::SourceReady) {
        return Err(found);
    }
    let unknown = || checkup.hop(hop, Verdict::Unseen, "postgres was not asked", "");
    checkup.observed.postgres.known().ok_or_else(unknown)
}

fn publication(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "publication") {
        Ok(facts) => facts,
        Err(hop) => return hop,
    };
    let name = checkup.name.publication();
    let next = checkup.psql("SELECT * FROM pg_publication_tables");
    let Some(found) = &facts.publication else {
        let message = format!("{name} does not exist: it is made once the source is fit");
        return checkup.hop("publication", Verdict::Wrong, message, checkup.describe());
    };
    let refused =
        |table: &str| checkup.problems.iter().any(|problem| problem.object.as_deref() == Some(table));
    let missing: Vec<String> = (checkup.tables.iter())
        .filter(|(source, _)| !found.tables.contains(source))
        .map(|(source, _)| source.to_string())
        .filter(|name| !refused(name))
        .collect();
    if missing.is_empty() {
        let message = format!("{name} has {} tables", found.tables.len());
        return checkup.hop("publication", Verdict::Ok, message, "");
    }
    let message = format!("{name} lacks {}: their changes are in no event", missing.join(", "));
    checkup.hop("publication", Verdict::Wrong, message, next)
}

fn slot(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "slot") {
        Ok(facts) => facts,
        Err(hop) => return hop,
    };
    let name = checkup.name.replication_slot();
    let next = checkup.psql(&format!("SELECT * FROM pg_replication_slots WHERE slot_name = '{name}'"));
    let Some(slot) = &facts.slot else {
        let message = match &facts.blocking {
            Some(blocking) => format!("{name} is being made: it waits for {blocking}"),
            None => format!("{name} does not exist: the connector makes it when it starts"),
        };
        return checkup.hop("slot", Verdict::Wrong, message, checkup.describe());
    };
    let held =
        format!("{} behind, holds back {} of log", size(behind(facts, slot)), size(slot.retained_bytes));
    let (verdict, message) = if slot.wal_status == "lost" {
        let message = format!("{name} is lost: the server gave up the log that it needs");
        (Verdict::Wrong, message)
    } else if let Some(blocking) = &facts.blocking {
        (Verdict::Waiting, format!("{name} is being made: it waits for {blocking}"))
    } else if !slot.active {
        (Verdict::Wrong, format!("{name} is not active, nobody reads it: {held}"))
    } else if slot.wal_status == "unreserved" {
        (Verdict::Wrong, format!("{name} is about to be lost: {held}, more than the server wants to keep"))
    } else {
        (Verdict::Ok, format!("{name} is active, {held}"))
    };
    checkup.hop("slot", verdict, message, if verdict == Verdict::Ok { String::new() } else { next })
}

/// Bytes of log that the reader of the slot has not received.
fn behind(facts: &PostgresFacts, slot: &SlotFacts) -> u64 {
    let received = if slot.active { slot.received_lsn } else { 0 };
    let read = slot.confirmed_lsn.max(received);
    if read == 0 { 0 } else { facts.current_lsn.saturating_sub(read) }
}

fn connector(checkup: &Checkup<'_>) -> Hop {
    let url = checkup.spec.source.connect.url.trim_end_matches('/');
    let next = format!("curl -s {url}/connectors/{}/status", checkup.name.connector());
    let live = checkup.observed.connect.known().and_then(|facts| facts.connector.as_ref());
    match checkup.of_condition("connector", ConditionType::ConnectorRunning, "connect") {
        Err(hop) => Hop { message: live.map(states).unwrap_or_default(), ..hop },
        // That Kafka was not seen is told by the hop of the topics.
        Ok(hop) if hop.verdict == Verdict::Unseen && live.is_some() => {
            let verdict = if live.is_some_and(runs) { Verdict::Ok } else { Verdict::Wrong };
            let next = if verdict == Verdict::Ok { String::new() } else { next };
            checkup.hop("connector", verdict, live.map(states).unwrap_or_default(), next)
        }
        Ok(hop) if matches!(hop.verdict, Verdict::Wrong | Verdict::Waiting) && live.is_some() => {
            Hop { next, ..hop }
        }
        Ok(hop) => hop,
    }
}

fn runs(live: &ConnectorFacts) -> bool {
    live.state == "RUNNING" && !live.tasks.is_empty() && live.tasks.iter().all(|task| task.state == "RUNNING")
}

fn states(live: &ConnectorFacts) -> String {
    let tasks: Vec<String> =
        live.tasks.iter().map(|task| format!("task {} {}", task.id, task.state)).collect();
    let at = live
        .offset
        .as_ref()
        .map(|offset| format!("; it stored {}", position(offset.lsn)))
        .unwrap_or_default();
    format!("{}, {}{at}", live.state, if tasks.is_empty() { "no task".into() } else { tasks.join(", ") })
}
