//! Epochs: when positions of the log begin anew, and the steps that raise the epoch. Pure.
//!
//! An epoch is raised only while the connector is stopped, in steps that each find where the last left off:
//! intent → connector stopped → offsets deleted, slot dropped → epoch in the ledger → header in the connector's
//! configuration → intent closed → connector resumed. So a new connector and a lost slot are one procedure, and no
//! epoch is ever used twice. The tables are read again for it, as `reads` finds.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::ledger::Kind;
use tidemark_crds::pg_quote;
use tidemark_crds::pipeline::OnSlotLost;
use tidemark_crds::version::MAX_EPOCH;

use super::connector::{EPOCH_INTENT, MARK_KEY};
use super::part::{Part, Problem};
use super::reads::{RESNAPSHOT, ReadsInput};
use super::slot::slot_lost;
use crate::effect::{ConnectEffect, Effect};
use crate::facts::{ConnectorFacts, LedgerFacts};
use crate::step::{Fact, Stage, StepKind};

/// An epoch that is being raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochIntent {
    /// The epoch that comes.
    pub epoch: u16,
}

/// The epoch that is being raised, if one is.
pub fn raising(ledger: &LedgerFacts) -> Option<EpochIntent> {
    ledger.intents.get(EPOCH_INTENT).and_then(|text| serde_json::from_str(text).ok())
}

/// What the epoch asks for.
#[derive(Debug)]
pub enum Epochs {
    /// It is settled: tables can be read.
    Settled,
    /// Nothing can be read before this is done.
    Unsettled(Part),
}

/// The next write that raises the epoch, if it has to be raised.
pub fn epochs(input: &ReadsInput<'_>, live: &ConnectorFacts) -> Epochs {
    let mut part = Part::default();
    if live.config.get(MARK_KEY).map(String::as_str) != Some(input.mark) {
        return Epochs::Unsettled(part);
    }
    if let Some(intent) = raising(&input.clickhouse.ledger) {
        raise(input, live, &intent, &mut part);
        return Epochs::Unsettled(part);
    }
    match wish(input, live) {
        Wish::Nothing => return Epochs::Settled,
        Wish::Stop(problem) => part.problems.push(problem),
        Wish::Epoch => start(input, live, &mut part),
    }
    Epochs::Unsettled(part)
}

enum Wish {
    Nothing,
    Stop(Problem),
    Epoch,
}

/// Whether a new epoch is needed.
fn wish(input: &ReadsInput<'_>, live: &ConnectorFacts) -> Wish {
    let ledger = &input.clickhouse.ledger;
    let header = live.epoch().unwrap_or(0);
    // A new connector, or a ledger that is not the one that the connector was started with.
    if header == 0 || Some(header) != ledger.epoch {
        return Wish::Epoch;
    }
    // Stopping writes the offsets: a stopped connector without them would begin anew, and what was read would lack
    // what changed meanwhile.
    let started = ledger.reads.values().any(|(_, request)| request.epoch == header);
    if live.state == "STOPPED" && live.offset.is_none() && started {
        return Wish::Epoch;
    }
    let Some(postgres) = input.postgres else {
        return Wish::Nothing;
    };
    let lost = match &postgres.slot {
        None => Some("it does not exist".to_owned()),
        Some(slot) => slot_lost(slot, live.offset.as_ref()),
    };
    let Some(lost) = lost.filter(|_| live.offset.is_some()) else {
        return Wish::Nothing;
    };
    let asked =
        input.request.is_some_and(|text| ledger.requests.get(RESNAPSHOT).is_none_or(|done| done != text));
    if asked || input.spec.source.on_slot_lost == OnSlotLost::Resnapshot {
        return Wish::Epoch;
    }
    Wish::Stop(Problem::new(
        "source",
        Reason::SlotLost,
        format!(
            "replication slot {} is lost, and changes with it: {lost}: annotate the pipeline with \
             tidemark.dev/resnapshot=<any new text> to read all tables again, or set spec.source.onSlotLost to \
             Resnapshot",
            input.name.replication_slot()
        ),
    ))
}

/// Writes the intent; from here on `raise` goes on, also after a crash.
fn start(input: &ReadsInput<'_>, live: &ConnectorFacts, part: &mut Part) {
    let ledger = &input.clickhouse.ledger;
    let seen = input.clickhouse.greatest_epochs.values().copied();
    // Fences outlive a ledger and its state tables: an epoch below them would be hidden whole.
    let fenced = input.clickhouse.fences.values().map(|version| version.epoch());
    let greatest = seen.chain(fenced).chain(ledger.epoch).chain(live.epoch()).max().unwrap_or(0);
    if greatest >= MAX_EPOCH {
        let message = "all epochs are used up: make a new pipeline beside this one and switch over";
        part.problems.push(Problem::new("source", Reason::NoProgress, message));
        return;
    }
    let intent = EpochIntent { epoch: greatest + 1 };
    let what = format!("note the intent to raise the epoch to {}", intent.epoch);
    ledger_step(ledger, (Kind::Intent, EPOCH_INTENT), json!(intent), what, part);
}

/// The next step of raising the epoch.
fn raise(input: &ReadsInput<'_>, live: &ConnectorFacts, intent: &EpochIntent, part: &mut Part) {
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
            part.step((Stage::Read, StepKind::Drop), what, vec![], None, Effect::Postgres { sql });
        }
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
