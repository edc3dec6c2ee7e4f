//! Epochs, snapshots and fences: from what was observed to the next write of each. Pure.
//!
//! An epoch is raised only while the connector is stopped, in steps that each find where the last left off:
//! intent → connector stopped → offsets deleted, slot dropped → epoch and records in the ledger → header in the
//! connector's configuration → intent closed → connector resumed. So a new connector, a repeated snapshot and
//! a lost slot are one procedure, and no epoch is ever used twice.
//!
//! The end of an initial snapshot raises each table's fence to the first version of that snapshot, once every
//! partition has applied what the snapshot wrote: rows of an older epoch, and of an interrupted first try, are
//! hidden from then on. A table that is added later is read by an incremental snapshot, asked for by a signal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{Kind, SnapshotRecord, SnapshotState};
use tidemark_crds::names::{PipelineName, Topics, short_hash};
use tidemark_crds::pg_quote;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, OnSlotLost};
use tidemark_crds::version::{MAX_EPOCH, Phase, Version};

use super::connector::{EPOCH_INTENT, MARK_KEY};
use super::part::{Part, Problem};
use crate::effect::{ConnectEffect, Effect, KafkaEffect};
use crate::facts::{ClickHouseFacts, ConnectFacts, ConnectorFacts, KafkaFacts, LedgerFacts, PostgresFacts};
use crate::step::{Fact, Stage, StepKind};

/// Milliseconds after which a signal that was not answered is sent again: a connector that starts meanwhile
/// does not read what was sent before.
const SIGNAL_PATIENCE_MS: i64 = 10_000;
/// Milliseconds after which a snapshot that began and is not under way any more is asked for again: longer
/// than Connect's pause between two writes of its offsets.
const SNAPSHOT_PATIENCE_MS: i64 = 120_000;
/// Action whose annotation asks for a snapshot.
const RESNAPSHOT: &str = "resnapshot";

/// What the snapshots are judged from.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotInput<'a> {
    /// The pipeline.
    pub name: &'a PipelineName,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// The spec.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Layouts of the tables that are captured.
    pub layouts: &'a [TableLayout],
    /// Kafka Connect.
    pub connect: &'a ConnectFacts,
    /// PostgreSQL, where it is known.
    pub postgres: Option<&'a PostgresFacts>,
    /// Kafka, where it is known.
    pub kafka: Option<&'a KafkaFacts>,
    /// ClickHouse.
    pub clickhouse: &'a ClickHouseFacts,
    /// Text of the annotation that asks for a new snapshot.
    pub request: Option<&'a str>,
}

/// An epoch that is being raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochIntent {
    /// The epoch that comes.
    pub epoch: u16,
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The epoch that is being raised, if one is.
pub fn raising(ledger: &LedgerFacts) -> Option<EpochIntent> {
    ledger.intents.get(EPOCH_INTENT).and_then(|text| serde_json::from_str(text).ok())
}

/// The next writes for epochs, snapshots and fences.
pub fn steps(input: &SnapshotInput<'_>) -> Part {
    let Some(live) = &input.connect.connector else {
        return Part::default();
    };
    if live.config.get(MARK_KEY).map(String::as_str) != Some(input.mark) {
        return Part::default();
    }
    let ledger = &input.clickhouse.ledger;
    let mut part = Part::default();
    if let Some(intent) = raising(ledger) {
        raise(input, live, &intent, &mut part);
        return part;
    }
    match wish(input, live) {
        Wish::Nothing => {}
        Wish::Stop(problem) => {
            part.problems.push(problem);
            return part;
        }
        Wish::Epoch(token) => {
            start(input, live, token, &mut part);
            return part;
        }
    }
    for layout in input.layouts {
        table(input, live, layout, &mut part);
    }
    fences(input, &mut part);
    forgotten(input, &mut part);
    part
}

enum Wish {
    Nothing,
    Stop(Problem),
    Epoch(Option<String>),
}

/// Whether a new epoch is needed, and at whose request.
fn wish(input: &SnapshotInput<'_>, live: &ConnectorFacts) -> Wish {
    let ledger = &input.clickhouse.ledger;
    let header = live.epoch().unwrap_or(0);
    // A new connector, or a ledger that is not the one that the connector was started with.
    if header == 0 || Some(header) != ledger.epoch {
        return Wish::Epoch(None);
    }
    let of_epoch = |target: &String| ledger.snapshots.get(target).filter(|record| record.epoch == header);
    let started = input
        .layouts
        .iter()
        .filter_map(|layout| of_epoch(&layout.target))
        .any(|record| record.signal.is_none() && record.state != SnapshotState::Requested);
    // Stopping writes the offsets: a stopped connector without them would begin anew.
    if live.state == "STOPPED" && live.offset.is_none() && started {
        return Wish::Epoch(None);
    }
    if let Some(token) = input.request
        && ledger.requests.get(RESNAPSHOT).map(String::as_str) != Some(token)
    {
        return Wish::Epoch(Some(token.to_owned()));
    }
    // A table that comes back with the rows of an earlier time: an incremental snapshot would not hide those
    // that were deleted since.
    let returns = |layout: &TableLayout| {
        of_epoch(&layout.target).is_none() && input.clickhouse.greatest_versions.contains_key(&layout.target)
    };
    if input.layouts.iter().any(returns) {
        return Wish::Epoch(None);
    }
    let Some(postgres) = input.postgres else {
        return Wish::Nothing;
    };
    let lost = postgres.slot.as_ref().is_none_or(|slot| slot.wal_status == "lost");
    if live.offset.is_some() && lost {
        return match input.spec.source.on_slot_lost {
            OnSlotLost::Resnapshot => Wish::Epoch(None),
            OnSlotLost::Stop => Wish::Stop(Problem::new(
                "source",
                Reason::SlotLost,
                format!(
                    "replication slot {} is gone or was invalidated, and changes since are lost: annotate the \
                     pipeline with tidemark.dev/resnapshot=<any new text> to read all tables again, or set \
                     spec.source.onSlotLost to Resnapshot",
                    input.name.replication_slot()
                ),
            )),
        };
    }
    Wish::Nothing
}

/// Writes the intent; from here on `raise` goes on, also after a crash.
fn start(input: &SnapshotInput<'_>, live: &ConnectorFacts, token: Option<String>, part: &mut Part) {
    let ledger = &input.clickhouse.ledger;
    let seen = input.clickhouse.greatest_versions.values().map(|version| version.epoch());
    // Fences outlive a ledger and its state tables: an epoch below them would be hidden whole.
    let fenced = input.clickhouse.fences.values().map(|version| version.epoch());
    let greatest = seen.chain(fenced).chain(ledger.epoch).chain(live.epoch()).max().unwrap_or(0);
    if greatest >= MAX_EPOCH {
        let message = "all epochs are used up: make a new pipeline beside this one and switch over";
        part.problems.push(Problem::new("source", Reason::NoProgress, message));
        return;
    }
    let intent = EpochIntent { epoch: greatest + 1, token };
    let what = format!("note the intent to raise the epoch to {}", intent.epoch);
    ledger_step(ledger, (Kind::Intent, EPOCH_INTENT), json!(intent), what, part);
}

/// The next step of raising the epoch.
fn raise(input: &SnapshotInput<'_>, live: &ConnectorFacts, intent: &EpochIntent, part: &mut Part) {
    let name = input.name.connector();
    let epoch = intent.epoch;
    let connect = |effect, what: &str, kind, part: &mut Part| {
        let what = format!("{what} of connector {name} for epoch {epoch}");
        part.step((Stage::Connector, kind), what, vec![Fact::Connector], None, Effect::Connect(effect));
    };
    if live.state != "STOPPED" {
        connect(ConnectEffect::Stop(name.clone()), "stop the tasks", StepKind::Change, part);
        return;
    }
    if live.offset.is_some() {
        connect(ConnectEffect::DeleteOffsets(name.clone()), "delete the offsets", StepKind::Drop, part);
        return;
    }
    let Some(postgres) = input.postgres else { return };
    if let Some(slot) = &postgres.slot {
        // One that is still in use is left by its connection within moments of the stop.
        if !slot.active {
            let slot = input.name.replication_slot();
            let sql = format!("SELECT pg_drop_replication_slot({})", pg_quote::literal(&slot));
            let what = format!("drop replication slot {slot} for epoch {epoch}");
            part.step((Stage::Snapshot, StepKind::Drop), what, vec![], None, Effect::Postgres { sql });
        }
        return;
    }
    let ledger = &input.clickhouse.ledger;
    if ledger.epoch != Some(epoch) {
        ledger_step(
            ledger,
            (Kind::Epoch, ""),
            json!(epoch),
            format!("write epoch {epoch} into the ledger"),
            part,
        );
    }
    let requested = SnapshotRecord {
        epoch,
        state: SnapshotState::Requested,
        end_offsets: BTreeMap::new(),
        fence: None,
        signal: None,
    };
    for layout in input.layouts {
        record_step(ledger, &layout.target, &requested, part);
    }
    if !part.steps.is_empty() || live.epoch() != Some(epoch) {
        // `connector` writes the header next.
        return;
    }
    if let Some(token) = &intent.token {
        let what = "answer the request for a new snapshot".to_owned();
        ledger_step(ledger, (Kind::Request, RESNAPSHOT), json!(token), what, part);
    }
    let what = format!("close the intent to raise the epoch to {epoch}");
    ledger_step(ledger, (Kind::Intent, EPOCH_INTENT), Value::Null, what, part);
}

/// The next step of one table's snapshot, fences apart.
#[allow(clippy::match_same_arms, reason = "two states that wait for different things")]
fn table(input: &SnapshotInput<'_>, live: &ConnectorFacts, layout: &TableLayout, part: &mut Part) {
    let (ledger, target) = (&input.clickhouse.ledger, &layout.target);
    let epoch = live.epoch().unwrap_or(0);
    let Some(record) = ledger.snapshots.get(target).filter(|record| record.epoch == epoch) else {
        // Written before the connector hears of the table, so before any of its events.
        let unique = ledger.next_version(Kind::Snapshot, target);
        let signal = format!("{target}-{epoch}-{unique}-{}", short_hash(&input.name.to_string()));
        let record = SnapshotRecord {
            epoch,
            state: SnapshotState::Requested,
            end_offsets: BTreeMap::new(),
            fence: None,
            signal: Some(signal),
        };
        record_step(ledger, target, &record, part);
        return;
    };
    match (record.state, &record.signal) {
        (SnapshotState::Done, _) => {}
        (SnapshotState::Requested, None) => {
            if live.offset.as_ref().is_some_and(|offset| offset.snapshot_completed) {
                record_step(
                    ledger,
                    target,
                    &SnapshotRecord { state: SnapshotState::Applying, ..record.clone() },
                    part,
                );
            }
        }
        (SnapshotState::Requested, Some(signal)) => {
            let Some(kafka) = input.kafka else { return };
            let said =
                |kind: &str| kafka.notifications.iter().any(|said| said.id == *signal && said.kind == kind);
            if said("COMPLETED") {
                record_step(
                    ledger,
                    target,
                    &SnapshotRecord { state: SnapshotState::Applying, ..record.clone() },
                    part,
                );
            } else if is_captured(input, live, layout) && is_signal_due(kafka, live, layout, signal) {
                signal_step(input, layout, signal, part);
            }
        }
        (SnapshotState::Applying, _) if record.end_offsets.is_empty() => {
            // Looked up a wave later than the end was seen, so that they cover all of the snapshot.
            let topic = Topics { prefix: &input.spec.kafka.topic_prefix }.table(&layout.source);
            let ends = input.kafka.and_then(|kafka| kafka.end_offsets.get(&topic));
            if let Some(ends) = ends.filter(|ends| !ends.is_empty()) {
                record_step(
                    ledger,
                    target,
                    &SnapshotRecord { end_offsets: ends.clone(), ..record.clone() },
                    part,
                );
            }
        }
        (SnapshotState::Applying, Some(_)) => {
            if is_applied(input, layout, record) {
                record_step(
                    ledger,
                    target,
                    &SnapshotRecord { state: SnapshotState::Done, ..record.clone() },
                    part,
                );
            }
        }
        // An initial snapshot ends for all tables at once, in `fences`.
        (SnapshotState::Applying, None) => {}
    }
}

/// Whether the running connector already has the table, and what it needs of Kafka and PostgreSQL.
fn is_captured(input: &SnapshotInput<'_>, live: &ConnectorFacts, layout: &TableLayout) -> bool {
    let topics = Topics { prefix: &input.spec.kafka.topic_prefix };
    let has_topic = |topic: &String| input.kafka.is_some_and(|kafka| kafka.topics.contains_key(topic));
    let published = input
        .postgres
        .and_then(|postgres| postgres.publication.as_ref())
        .is_some_and(|publication| publication.tables.contains(&layout.source));
    let running = live.state == "RUNNING" && live.tasks.iter().any(|task| task.state == "RUNNING");
    let included = live.config.get("table.include.list").is_some_and(|list| {
        let name = super::connector::include_list(std::slice::from_ref(&layout.source));
        list.split(',').any(|entry| entry == name)
    });
    // Signals are read by a task that has streamed: one without an offset is still in its first snapshot.
    let streams = live.offset.as_ref().is_some_and(|offset| offset.snapshot_completed);
    published
        && running
        && included
        && streams
        && has_topic(&topics.table(&layout.source))
        && has_topic(&topics.signal())
}

fn is_signal_due(kafka: &KafkaFacts, live: &ConnectorFacts, layout: &TableLayout, signal: &str) -> bool {
    let reading = live
        .offset
        .as_ref()
        .is_some_and(|offset| offset.incremental_pending.contains(&layout.source.to_string()));
    let begun = kafka.notifications.iter().any(|said| said.id == signal);
    let patience = if begun { SNAPSHOT_PATIENCE_MS } else { SIGNAL_PATIENCE_MS };
    kafka.signals.get(signal).is_none_or(|age| *age > patience && !reading)
}

fn signal_step(input: &SnapshotInput<'_>, layout: &TableLayout, signal: &str, part: &mut Part) {
    let prefix = &input.spec.kafka.topic_prefix;
    let effect = Effect::Kafka(KafkaEffect::Signal {
        topic: Topics { prefix }.signal(),
        key: prefix.clone(),
        value: json!({
            "id": signal,
            "type": "execute-snapshot",
            "data": {"type": "INCREMENTAL", "data-collections": [regex_name(layout)]},
        }),
    });
    let what = format!("ask for an incremental snapshot of {}", layout.source);
    part.step((Stage::Snapshot, StepKind::Create), what, vec![Fact::Connector], None, effect);
}

/// Debezium reads the names of a signal as regular expressions.
fn regex_name(layout: &TableLayout) -> String {
    super::connector::include_list(std::slice::from_ref(&layout.source))
}

/// Whether every partition has applied what was there when the snapshot had ended.
fn is_applied(input: &SnapshotInput<'_>, layout: &TableLayout, record: &SnapshotRecord) -> bool {
    let topic = Topics { prefix: &input.spec.kafka.topic_prefix }.table(&layout.source);
    let progress = input.clickhouse.progress.get(&layout.target);
    let of = |offsets: Option<&BTreeMap<String, BTreeMap<i32, i64>>>, partition: &i32| {
        offsets.and_then(|offsets| offsets.get(&topic)).and_then(|topic| topic.get(partition)).copied()
    };
    record.end_offsets.iter().all(|(partition, end)| {
        let applied = progress
            .and_then(|progress| progress.partitions.get(partition))
            .map(|progress| progress.next_offset);
        let committed = of(input.kafka.map(|kafka| &kafka.committed), partition);
        // Nothing is left of what was there: an empty partition, or one past its retention.
        let first = of(input.kafka.map(|kafka| &kafka.begin_offsets), partition);
        [applied, committed, first].into_iter().flatten().any(|offset| offset >= *end)
    })
}

/// Raises the fences of an initial snapshot, once all of it is applied.
///
/// All rows of one snapshot have one version, so the greatest of all tables is that of the last snapshot: a
/// table that had no row in it, and rows in an interrupted one before, is fenced by it as well.
fn fences(input: &SnapshotInput<'_>, part: &mut Part) {
    let ledger = &input.clickhouse.ledger;
    let Some(epoch) = ledger.epoch else { return };
    let initial: Vec<(&TableLayout, &SnapshotRecord)> = input
        .layouts
        .iter()
        .filter_map(|layout| Some((layout, ledger.snapshots.get(&layout.target)?)))
        .filter(|(_, record)| record.epoch == epoch && record.signal.is_none())
        .collect();
    let complete = initial.iter().all(|(layout, record)| match record.state {
        SnapshotState::Requested => false,
        SnapshotState::Applying => !record.end_offsets.is_empty() && is_applied(input, layout, record),
        SnapshotState::Done => true,
    });
    if !complete {
        return;
    }
    let earlier = initial.iter().filter_map(|(_, record)| record.fence.as_ref()?.parse().ok().map(Version));
    let seen = initial
        .iter()
        .filter_map(|(layout, _)| input.clickhouse.snapshot_versions.get(&layout.target))
        .copied();
    // No row at all: the first version of the stream hides nothing that is there.
    let fence = seen.chain(earlier).max().unwrap_or(Version::new(epoch, Phase::Stream, 0, 0));
    for (layout, record) in initial.into_iter().filter(|(_, record)| record.state == SnapshotState::Applying)
    {
        let target = &layout.target;
        if input.clickhouse.fences.get(target).is_none_or(|live| *live < fence) {
            let effect = Effect::Fence { table: target.clone(), version: fence, reason: "snapshot" };
            let what = format!("raise the fence of {target} to its snapshot of epoch {epoch}");
            part.step((Stage::Snapshot, StepKind::Change), what, vec![Fact::Bookkeeping], None, effect);
        }
        let done =
            SnapshotRecord { state: SnapshotState::Done, fence: Some(fence.to_string()), ..record.clone() };
        record_step(ledger, target, &done, part);
    }
}

/// Forgets the snapshots of tables that the spec no longer names: one that comes back is read again.
fn forgotten(input: &SnapshotInput<'_>, part: &mut Part) {
    let named: BTreeSet<String> =
        input.spec.all_tables().iter().map(|table| table.target_name().to_owned()).collect();
    let ledger = &input.clickhouse.ledger;
    for target in ledger.snapshots.keys().filter(|target| !named.contains(*target)) {
        let what = format!("forget the snapshot of {target}, which the spec no longer names");
        ledger_step(ledger, (Kind::Snapshot, target), Value::Null, what, part);
    }
}

fn record_step(ledger: &LedgerFacts, target: &str, record: &SnapshotRecord, part: &mut Part) {
    if ledger.snapshots.get(target) == Some(record) {
        return;
    }
    let what = format!("write that the snapshot of {target} is {:?}", record.state);
    ledger_step(ledger, (Kind::Snapshot, target), json!(record), what, part);
}

fn ledger_step(ledger: &LedgerFacts, (kind, key): (Kind, &str), value: Value, what: String, part: &mut Part) {
    let effect = Effect::Ledger { kind, key: key.to_owned(), version: ledger.next_version(kind, key), value };
    part.step((Stage::Snapshot, StepKind::Change), what, vec![Fact::Bookkeeping], None, effect);
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
