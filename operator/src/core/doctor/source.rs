//! From PostgreSQL's log to the connector. Pure.

use tidemark_crds::conditions::ConditionType;

use super::{Checkup, Hop, Verdict, hop};
use crate::core::cdc::slot::{position, slot_lost};
use crate::core::cost::size;
use crate::core::facts::{ConnectorFacts, PostgresFacts, SlotFacts};

const SYSTEM: &str = "postgres";

/// Source, publication, slot, connector.
pub(super) fn hops(checkup: &Checkup<'_>) -> Vec<Hop> {
    vec![source(checkup), publication(checkup), slot(checkup), connector(checkup)]
}

fn source(checkup: &Checkup<'_>) -> Hop {
    checkup.of_condition("source", ConditionType::SourceReady, SYSTEM, || {
        checkup.observed.postgres.known().map_or(String::new(), |facts| {
            format!(
                "PostgreSQL {}, database {}, as {}; its log is at {}",
                facts.server_version / 10_000,
                facts.database,
                facts.role,
                position(facts.current_lsn)
            )
        })
    })
}

/// A hop that PostgreSQL answers.
fn seen<'a>(checkup: &Checkup<'a>, name: &str) -> Result<&'a PostgresFacts, Hop> {
    if let Some(found) = checkup.unseen(name, SYSTEM, ConditionType::SourceReady) {
        return Err(found);
    }
    let unknown = || hop(name, Verdict::Unseen, "postgres was not asked", "");
    checkup.observed.postgres.known().ok_or_else(unknown)
}

fn publication(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "publication") {
        Ok(facts) => facts,
        Err(unseen) => return unseen,
    };
    let name = checkup.name.publication();
    let next = checkup.psql("SELECT * FROM pg_publication_tables");
    let Some(found) = &facts.publication else {
        let message = format!("{name} does not exist: it is made once the source is fit");
        return hop("publication", Verdict::Wrong, message, checkup.describe());
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
        return hop("publication", Verdict::Ok, message, "");
    }
    let message = format!("{name} lacks {}: their changes are in no event", missing.join(", "));
    hop("publication", Verdict::Wrong, message, next)
}

fn slot(checkup: &Checkup<'_>) -> Hop {
    let facts = match seen(checkup, "slot") {
        Ok(facts) => facts,
        Err(unseen) => return unseen,
    };
    let name = checkup.name.replication_slot();
    let next = checkup.psql(&format!("SELECT * FROM pg_replication_slots WHERE slot_name = '{name}'"));
    let Some(slot) = &facts.slot else {
        let message = format!("{name} does not exist: the connector makes it when it starts");
        return hop("slot", Verdict::Wrong, message, checkup.describe());
    };
    let held =
        format!("{} behind, holds back {} of log", size(behind(facts, slot)), size(slot.retained_bytes));
    let live = checkup.observed.connect.known().and_then(|facts| facts.connector.as_ref());
    let (verdict, message) = if let Some(why) = slot_lost(slot, live.and_then(|live| live.offset.as_ref())) {
        (Verdict::Wrong, format!("{name} is lost: {why}"))
    } else if let Some(blocking) = facts.slot_waits_for() {
        (Verdict::Waiting, format!("{name} is being made: it waits for {blocking}"))
    } else if !slot.active {
        (Verdict::Wrong, format!("{name} is not active, nobody reads it: {held}"))
    } else if slot.wal_status == "unreserved" {
        (Verdict::Wrong, format!("{name} is about to be lost: {held}, more than the server wants to keep"))
    } else {
        (Verdict::Ok, format!("{name} is active, {held}"))
    };
    hop("slot", verdict, message, if verdict == Verdict::Ok { String::new() } else { next })
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
    let system = "connect";
    let found = checkup.of_condition("connector", ConditionType::ConnectorRunning, system, || {
        live.map(states).unwrap_or_default()
    });
    match (found.verdict, live) {
        // That Kafka was not seen is told by the hop of the topics.
        (Verdict::Unseen, Some(live)) if runs(live) => hop("connector", Verdict::Ok, states(live), ""),
        (Verdict::Unseen, Some(live)) => hop("connector", Verdict::Wrong, states(live), next),
        (Verdict::Wrong | Verdict::Waiting, Some(_)) => Hop { next, ..found },
        _ => found,
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
