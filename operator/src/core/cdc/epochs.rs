//! Epochs: when positions of the log begin anew, and the steps that raise the epoch. Pure.
//!
//! An epoch is raised only while the connector is stopped, in steps that each find where the last left off:
//! intent → connector stopped → offsets deleted, slot dropped → epoch in the ledger → header in the connector's
//! configuration → intent closed → connector resumed. So a new connector and a lost slot are one procedure, and no
//! epoch is ever used twice. The tables are read again for it, as `reads` finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::ledger::{EPOCH, Kind};
use tidemark_crds::pipeline::OnSlotLost;
use tidemark_crds::version::MAX_EPOCH;

use super::reads::{RESNAPSHOT, ReadsInput};
use super::slot::{own_slot, slot_lost};
use crate::core::desired::connector::{EPOCH_INTENT, is_ours};
use crate::core::desired::part::{Part, Problem};
use crate::core::effect::{ConnectEffect, Effect, PostgresEffect};
use crate::core::facts::{ClickHouseFacts, ConnectorFacts, LedgerFacts, OffsetFacts, PostgresFacts};
use crate::core::gate::Proof;
use crate::core::step::{Fact, Stage, StepKind};

/// An epoch that is being raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochIntent {
    epoch: u16,
}

impl EpochIntent {
    /// From here on the place in the log is given up for a new one.
    pub fn new(_proof: Proof, epoch: u16) -> Self {
        Self { epoch }
    }

    /// The epoch that comes.
    pub fn epoch(&self) -> u16 {
        self.epoch
    }
}

/// The epoch that is being raised, if one is.
pub fn raising(ledger: &LedgerFacts) -> Option<EpochIntent> {
    ledger.intents.get(EPOCH_INTENT).and_then(|text| serde_json::from_str(text).ok())
}

/// Whether the connector must not be started: what it would send does not follow on what was read.
pub fn must_not_start(input: &ReadsInput<'_>) -> bool {
    let ours = input.connect.connector.as_ref().filter(|live| is_ours(live, input.mark));
    ours.is_some_and(|live| phase(input, live) != Phase::Following)
}

/// Where the following of the log is.
#[derive(Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connector is not ours, or the slot of our name, which is said here, is not.
    Foreign(Option<Problem>),
    /// An epoch has to be begun: nothing was followed so far, or what was is given up.
    Beginning,
    /// It is being raised.
    Raising(EpochIntent),
    /// Changes are lost, and nobody has said yet that all tables are to be read again.
    Lost(Problem),
    /// The connector goes on where it ended: tables can be read.
    Following,
}

/// Finds where the following of the log is.
pub fn phase(input: &ReadsInput<'_>, live: &ConnectorFacts) -> Phase {
    if !is_ours(live, input.mark) {
        return Phase::Foreign(None);
    }
    let slot_name = input.name.replication_slot();
    if let Some(postgres) = input.postgres
        && let Err(problem) = own_slot(&slot_name, postgres, Some(&input.clickhouse.ledger))
    {
        return Phase::Foreign(Some(problem));
    }
    if let Some(intent) = raising(&input.clickhouse.ledger) {
        return Phase::Raising(intent);
    }
    let done = input.clickhouse.ledger.requests.get(RESNAPSHOT);
    // One that names tables asks for these alone.
    let whole = |text: &&str| text.split_whitespace().count() == 1;
    let asked = input.request.filter(whole).is_some_and(|text| done.is_none_or(|done| done != text));
    let lost = match cause(input, live) {
        // A person's word alone: two that write into the same topics would outbid each other for ever.
        None if asked && refused(input.clickhouse) > input.clickhouse.ledger.epoch => {
            return Phase::Beginning;
        }
        None => return Phase::Following,
        Some(Cause::First) => return Phase::Beginning,
        Some(Cause::Lost(lost)) => lost,
    };
    let consented = asked || input.gate.is_consented();
    if consented || input.spec.source.on_slot_lost == OnSlotLost::Resnapshot {
        return Phase::Beginning;
    }
    let message = format!(
        "{lost}: annotate the pipeline with tidemark.dev/{RESNAPSHOT}=<any new text> to drop the slot and read all \
         tables again, or set spec.source.onSlotLost to Resnapshot"
    );
    Phase::Lost(Problem::new("source", Reason::SlotLost, message))
}

/// The next write that raises the epoch; nothing can be read before.
pub fn raise(input: &ReadsInput<'_>, live: &ConnectorFacts, phase: Phase) -> Part {
    let mut part = Part::default();
    match phase {
        Phase::Following | Phase::Foreign(None) => {}
        Phase::Foreign(Some(problem)) | Phase::Lost(problem) => part.problems.push(problem),
        Phase::Beginning => start(input, Some(live), &mut part),
        Phase::Raising(intent) => raise_to(input, live, &intent, &mut part),
    }
    part
}

/// Why the log has to be followed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Nothing was followed so far: nothing is lost by it.
    First,
    /// Changes are lost, and every table has to be read again to have them: the policy's or a person's to say.
    Lost(String),
}

/// Why what the connector stands for cannot be followed on; `None`: it can.
pub fn cause(input: &ReadsInput<'_>, live: &ConnectorFacts) -> Option<Cause> {
    let ledger = &input.clickhouse.ledger;
    if let Some(cause) = accepted(input) {
        return Some(cause);
    }
    let header = live.epoch().unwrap_or(0);
    let slot = input.postgres.and_then(|postgres| postgres.slot.as_ref());
    let slot_name = input.name.replication_slot();
    // One that was written and is empty is a deletion's doing: it says that nothing is followed any more.
    let left = ledger.epoch.is_none() && ledger.has_row(Kind::Epoch, "");
    match (header, ledger.epoch) {
        (_, None) if left => return Some(Cause::First),
        (0, None) if slot.is_none() && input.known_epoch == 0 => return Some(Cause::First),
        (0, None) => {
            return Some(Cause::Lost(format!(
                "the log was followed before, through slot {slot_name}, and the ledger in {} knows nothing of it: does \
                 spec.clickhouse name another server or database than before?",
                place(input)
            )));
        }
        (header, epoch) if epoch != Some(header) => {
            if let Some(epoch) = epoch.filter(|epoch| header < *epoch && header > 0) {
                return Some(Cause::Lost(format!(
                    "connector {} marks what it sends as epoch {header}, and epoch {epoch} was begun: its configuration was \
                     set back, and what it sent since is not seen",
                    input.name.connector()
                )));
            }
            let header = header.max(input.known_epoch);
            let known = epoch.map_or("no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            return Some(Cause::Lost(format!(
                "the log was followed as epoch {header}, and the ledger in {} has {known}: does \
                 spec.clickhouse name another server or database than before, or was that restored from a backup?",
                place(input)
            )));
        }
        _ => {}
    }
    if let Some((before, now)) = input.gate.timeline() {
        return Some(Cause::Lost(format!(
            "PostgreSQL goes on with timeline {now} of its log instead of {before}: it was promoted from a standby, or \
             restored to a moment, and what was committed last may be missing there (where nothing can be, annotate the \
             pipeline with tidemark.dev/accept: timeline={now})"
        )));
    }
    // Stopping writes the offsets: a stopped connector without them would begin anew, and what was read would lack
    // what changed meanwhile.
    let started = ledger.reads.values().any(|(_, request)| request.epoch == header);
    if live.state == "STOPPED" && live.offset.is_none() && started {
        return Some(Cause::Lost(format!(
            "kafka connect has no offsets of connector {}: were they deleted, or is spec.source.connect.url another \
             cluster than before?",
            input.name.connector()
        )));
    }
    let postgres = input.postgres?;
    let offset = live.offset.as_ref()?;
    let lost = match slot {
        None => Some("it does not exist".to_owned()),
        Some(slot) => slot_lost(slot, Some(offset)),
    };
    if let Some(lost) = lost {
        return Some(Cause::Lost(format!(
            "replication slot {slot_name} is lost, and changes with it: {lost}"
        )));
    }
    // It would end at the next change, too, where the table stays published.
    let is_ours = postgres.publication.as_ref().is_some_and(|publication| publication.ours);
    if let Some(task) = live.tasks.iter().find(|task| is_ours && task.state == "FAILED" && task.is_stuck) {
        let error = task.error.as_deref().unwrap_or_default();
        return Some(Cause::Lost(format!(
            "the connector cannot get past a change of a table whose columns differed in case alone then ({error}), and \
             what follows it is lost"
        )));
    }
    is_undecodable(ledger, postgres, live, offset).then(|| {
        Cause::Lost(format!(
            "publication {} was dropped and made anew, and PostgreSQL cannot decode what was changed before that \
             and not sent yet",
            input.name.publication()
        ))
    })
}

/// Greatest epoch of records that sinks refuse: another connector writes into the same topics.
fn refused(clickhouse: &ClickHouseFacts) -> Option<u16> {
    let states = clickhouse.states.values().flat_map(BTreeMap::values);
    states.filter(|state| state.reason == EPOCH).map(|state| state.wants.0).max()
}

/// Another system was accepted, and the place in the log is not of it.
fn accepted(input: &ReadsInput<'_>) -> Option<Cause> {
    input.gate.accepted().map(|systems| Cause::Lost(format!("another {systems} was accepted")))
}

/// Notes what was accepted while there is no connector: the one that comes begins with the new epoch.
pub fn before_the_connector(input: &ReadsInput<'_>) -> Part {
    let mut part = Part::default();
    if raising(&input.clickhouse.ledger).is_none() && accepted(input).is_some() {
        start(input, None, &mut part);
    }
    part
}

/// Where the rows are, for people.
fn place(input: &ReadsInput<'_>) -> String {
    let clickhouse = &input.spec.clickhouse;
    format!("database {} of {}", clickhouse.database, clickhouse.url)
}

/// Whether a task fails at changes from before the publication of today: servers before 18 end the stream there, later
/// ones leave the changes out.
fn is_undecodable(
    ledger: &LedgerFacts,
    postgres: &PostgresFacts,
    live: &ConnectorFacts,
    offset: &OffsetFacts,
) -> bool {
    let failed = live.tasks.iter().any(|task| task.state == "FAILED");
    let made = ledger.publication.zip(postgres.publication.as_ref());
    failed && made.is_some_and(|(seen, live)| seen.anew && seen.oid == live.oid && offset.lsn < seen.by)
}

/// Writes the intent; from here on `raise_to` goes on, also after a crash.
fn start(input: &ReadsInput<'_>, live: Option<&ConnectorFacts>, part: &mut Part) {
    let Some(proof) = input.gate.proof_of_log() else {
        return;
    };
    let kept = match in_topics(input) {
        Kept::Unseen => return,
        Kept::Unread(problem) => {
            part.problems.push(problem);
            return;
        }
        Kept::Epoch(epoch) => epoch,
    };
    let ledger = &input.clickhouse.ledger;
    let seen = input.clickhouse.greatest_epochs.values().copied();
    // Fences outlive a ledger and its state tables: an epoch below them would be hidden whole.
    let fenced = input.clickhouse.fences.values().map(|version| version.epoch());
    let greatest = seen
        .chain(fenced)
        .chain(ledger.epoch)
        .chain(refused(input.clickhouse))
        .chain(live.and_then(ConnectorFacts::epoch))
        .chain([input.known_epoch, kept])
        .max()
        .unwrap_or(0);
    if greatest >= MAX_EPOCH {
        let message = "all epochs are used up: make a new pipeline beside this one and switch over";
        part.problems.push(Problem::new("source", Reason::NoProgress, message));
        return;
    }
    let intent = EpochIntent::new(proof, greatest + 1);
    let what = format!("note the intent to raise the epoch to {}", intent.epoch());
    ledger_step(ledger, (Kind::Intent, EPOCH_INTENT), json!(intent), what, part);
}

/// What topics have of an earlier life of the pipeline, whose deletion left them: what is read anew has to be newer than
/// their records, whatever server these came from.
enum Kept {
    /// Nobody knows yet.
    Unseen,
    /// There are records, and nobody can tell.
    Unread(Problem),
    /// The greatest epoch; 0: there is none.
    Epoch(u16),
}

fn in_topics(input: &ReadsInput<'_>) -> Kept {
    if input.known_epoch > 0 {
        return Kept::Epoch(0);
    }
    let Some(kafka) = input.kafka else { return Kept::Unseen };
    let begin = |topic: &str, partition: &i32| {
        kafka.begin_offsets.get(topic).and_then(|begins| begins.get(partition)).copied().unwrap_or(0)
    };
    let has_records =
        |(topic, ends): &(&String, &BTreeMap<i32, i64>)| ends.iter().any(|(at, end)| *end > begin(topic, at));
    let mut unread =
        kafka.end_offsets.iter().filter(has_records).filter(|(it, _)| !kafka.epochs.contains_key(*it));
    match unread.next() {
        None => Kept::Epoch(kafka.epochs.values().copied().max().unwrap_or(0)),
        Some((topic, _)) => {
            let message = format!(
                "topic {topic} has records from before, and which epoch they are of cannot be read: grant the account of \
                 spec.kafka READ on it, or remove the topic where nobody needs it"
            );
            Kept::Unread(Problem::new("source", Reason::NotObserved, message))
        }
    }
}

/// The next step of raising the epoch.
fn raise_to(input: &ReadsInput<'_>, live: &ConnectorFacts, intent: &EpochIntent, part: &mut Part) {
    let Some(proof) = input.gate.proof_of_log() else {
        return;
    };
    let name = input.name.connector();
    let epoch = intent.epoch();
    let connect = |effect, what: &str, kind, part: &mut Part| {
        let what = format!("{what} of connector {name} for epoch {epoch}");
        part.step((Stage::Connector, kind), what, vec![Fact::Connector], None, Effect::Connect(effect));
    };
    if live.state != "STOPPED" {
        connect(ConnectEffect::Stop(name.clone()), "stop the tasks", StepKind::Change, part);
        return;
    }
    if live.offset.is_some() {
        connect(
            ConnectEffect::DeleteOffsets(proof.allow(name.clone())),
            "delete the offsets",
            StepKind::Drop,
            part,
        );
        return;
    }
    let Some(postgres) = input.postgres else { return };
    let slot_name = input.name.replication_slot();
    if let Some(slot) = &postgres.slot {
        if slot.active {
            let process = slot.active_pid.map_or_else(String::new, |pid| format!(" by process {pid}"));
            let message = format!(
                "replication slot {slot_name} is still used{process} though the connector is stopped: where that lasts, \
                 another connector reads from it, and is to be stopped"
            );
            part.problems.push(Problem::new("source", Reason::Waiting, message));
            return;
        }
        let what = format!("drop replication slot {slot_name} for epoch {epoch}");
        let effect = Effect::Postgres(PostgresEffect::DropSlot(proof.allow(slot_name)));
        part.step((Stage::Read, StepKind::Drop), what, vec![], None, effect);
        return;
    }
    let ledger = &input.clickhouse.ledger;
    if ledger.epoch != Some(epoch) {
        let what = format!("write epoch {epoch} into the ledger");
        ledger_step(ledger, (Kind::Epoch, ""), json!(epoch), what, part);
        return;
    }
    if live.epoch() != Some(epoch) {
        // `connector` writes the header next.
        return;
    }
    if accepted(input).is_some() {
        // Until the ledger has what was accepted, the next look would follow the log anew for it once more.
        return;
    }
    let what = format!("close the intent to raise the epoch to {epoch}");
    ledger_step(ledger, (Kind::Intent, EPOCH_INTENT), Value::Null, what, part);
}

/// A row of the ledger, of the stage of reads.
pub(super) fn ledger_step(
    ledger: &LedgerFacts,
    (kind, key): (Kind, &str),
    value: Value,
    what: String,
    part: &mut Part,
) {
    let effect = Effect::Ledger { kind, key: key.to_owned(), version: ledger.next_version(kind, key), value };
    part.step((Stage::Read, StepKind::Change), what, vec![Fact::Bookkeeping], None, effect);
}
