//! Tables and what is wrong with them: what the sinks say of each, how far its read is, what was refused. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{DEAD_LETTERS, SinkState, TableState, source_place};
use tidemark_crds::pipeline::ConnectorState;
use tidemark_crds::status::{DegradedTable, TablesStatus};

use crate::core::cdc::TableState as CdcState;
use crate::core::desired::topics;
use crate::core::facts::{ClickHouseFacts, ProgressFacts};
use crate::core::pace::Next;
use crate::core::problem::Problem;
use crate::core::status::{Situation, cut};
use crate::core::verified;

/// Entries of `status.tables.degraded` at most.
pub const MOST_DEGRADED: usize = 20;

/// Longest message of an entry, characters.
const LONGEST_MESSAGE: usize = 512;

/// What is the matter with a table, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleState {
    /// The operator does not follow it.
    Refused,
    /// A sink applies nothing until a person mends the cause.
    Stopped,
    /// A sink's insert fails and is tried again.
    Retrying,
    /// A sink keeps its records back until their layout is known.
    Held,
    /// It streams, and something of it is missing.
    Degraded,
    /// It is being read at the source.
    Reading,
    /// Nothing was begun yet, or no sink speaks of it.
    Pending,
}

impl TroubleState {
    /// All, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Stopped,
        Self::Retrying,
        Self::Held,
        Self::Degraded,
        Self::Reading,
        Self::Pending,
    ];

    /// Text of `status.tables.degraded[].state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::Stopped => "Stopped",
            Self::Retrying => "Retrying",
            Self::Held => "Held",
            Self::Degraded => "Degraded",
            Self::Reading => "Reading",
            Self::Pending => "Pending",
        }
    }

    /// Whether its changes are applied all the same.
    fn streams(self) -> bool {
        self == Self::Degraded
    }
}

/// What is the matter with one table.
struct Trouble {
    state: TroubleState,
    reason: Reason,
    message: String,
}

fn trouble(state: TroubleState, reason: Reason, message: impl Into<String>) -> Trouble {
    Trouble { state, reason, message: message.into() }
}

/// Counts tables and names those that are not as they should be, the worst first.
pub fn tables(situation: &Situation<'_>) -> TablesStatus {
    let by_object: BTreeMap<&str, &Problem> = situation
        .problems
        .iter()
        .rev()
        .filter_map(|problem| Some((problem.object.as_deref()?, problem)))
        .collect();
    let mut degraded = Vec::new();
    let mut streaming = 0;
    for (source, target) in situation.tables {
        let name = source.to_string();
        let found = match by_object.get(name.as_str()) {
            Some(problem) => Some(trouble(TroubleState::Refused, problem.reason, &problem.message)),
            None => of_table(situation, &name, target),
        };
        streaming += i32::from(found.as_ref().is_none_or(|trouble| trouble.state.streams()));
        degraded.extend(found.map(|trouble| (name, trouble)));
    }
    let views = situation.views.iter().map(String::as_str);
    let extra = situation.spec.views.extra.iter().map(|view| view.name.as_str());
    for name in views.chain(extra).collect::<BTreeSet<_>>() {
        if let Some(problem) = by_object.get(name) {
            degraded
                .push((name.to_owned(), trouble(TroubleState::Degraded, problem.reason, &problem.message)));
        }
    }
    degraded.sort_by_key(|(_, trouble)| trouble.state);
    degraded.truncate(MOST_DEGRADED);
    let entry = |(name, trouble): (String, Trouble)| DegradedTable {
        name,
        state: trouble.state.as_str().to_owned(),
        reason: trouble.reason.as_str(),
        message: cut(&trouble.message, LONGEST_MESSAGE),
    };
    TablesStatus {
        total: i32::try_from(situation.tables.len()).unwrap_or(i32::MAX),
        streaming,
        verified: verified::tables(situation),
        degraded: degraded.into_iter().map(entry).collect(),
    }
}

fn of_table(situation: &Situation<'_>, name: &str, target: &str) -> Option<Trouble> {
    let Some(facts) = situation.observed.clickhouse.known() else {
        return Some(trouble(TroubleState::Pending, Reason::NotObserved, "clickhouse gives no answer"));
    };
    if situation.spec.sink.replicas == 0 {
        // Whatever the last sink has said: it is gone, or about to go.
        let message = format!("{name}: spec.sink.replicas is 0: nothing is applied");
        return Some(trouble(TroubleState::Pending, Reason::NotConfigured, message));
    }
    let states = facts.states.get(target);
    let loudest = states.into_iter().flatten().map(|(_, state)| state).max_by_key(|state| rank(state.state));
    if let Some(found) = loudest.and_then(|state| said(name, state)).filter(|found| {
        // Before there is a read, a sink that knows no layout yet has nothing to complain of.
        found.state != TroubleState::Held || facts.ledger.reads.contains_key(target)
    }) {
        return Some(found);
    }
    if let Some(found) = unread(situation, facts, name, target) {
        return Some(found);
    }
    if loudest.is_none() {
        let message =
            format!("{name}: no sink has said lately that it applies changes: look at the sink's pods");
        return Some(trouble(TroubleState::Pending, Reason::NotObserved, message));
    }
    (open_letters(facts, target) > 0).then(|| {
        let message = format!(
            "{name}: records could not be applied and went to the topic {topic}: `tidemark-sink dead-letters list` says \
             why; mend the cause, then replay or skip them, or have the table read again by a new token in the annotation \
             tidemark.dev/resnapshot",
            topic = topics::dead_letter(situation.spec)
        );
        trouble(TroubleState::Degraded, Reason::DeadLetters, message)
    })
}

/// When each table asks for another look. One that a person has to mend does not, nor does a read that the connector,
/// which the spec keeps from running, would have to bring on.
pub fn nexts(situation: &Situation<'_>) -> impl Iterator<Item = Next> {
    let refused =
        |name: &str| situation.problems.iter().any(|problem| problem.object.as_deref() == Some(name));
    let facts = situation.observed.clickhouse.known();
    situation.tables.iter().map(move |(source, target)| {
        let goes_on = facts
            .is_some_and(|facts| !refused(&source.to_string()) && is_under_way(situation, facts, target));
        if goes_on { Next::Soon } else { Next::OnChange }
    })
}

/// Whether a table is being read, or will be, or a sink waits for an answer.
fn is_under_way(situation: &Situation<'_>, facts: &ClickHouseFacts, target: &str) -> bool {
    let (ledger, history) = (&facts.ledger, facts.ledger.history(target));
    let request = ledger.reads.get(target).map(|(_, request)| request);
    let comes = situation.spec.source.connect.state == ConnectorState::Running
        || request.is_some_and(|request| ledger.epoch == Some(request.epoch));
    let asked_for = request.map_or(0, |request| request.layout);
    let changed = |layout: &TableLayout| layout.read_again.is_some() && layout.version > asked_for;
    let waits = |state: &SinkState| state.wants != (0, 0) || !state.doubt.is_empty();
    (!history.is_empty() && comes && state(situation, facts, target) != CdcState::Streaming)
        || history.iter().any(changed)
        || facts.states.get(target).is_some_and(|states| states.values().any(waits))
}

/// How much a sink's word counts against those of the others.
fn rank(state: TableState) -> u8 {
    match state {
        TableState::Streaming => 0,
        TableState::Held => 1,
        TableState::Retrying => 2,
        TableState::Stopped => 3,
    }
}

/// What a sink says of a table, where it is not well.
fn said(name: &str, sink: &SinkState) -> Option<Trouble> {
    let (state, reason, otherwise) = match sink.state {
        TableState::Streaming => return None,
        TableState::Held => (
            TroubleState::Held,
            Reason::TableHeld,
            "records wait until the operator has seen the source's catalogue behind them",
        ),
        TableState::Retrying => (
            TroubleState::Retrying,
            Reason::InsertFailing,
            "clickhouse refuses its rows, which are tried again",
        ),
        TableState::Stopped => (
            TroubleState::Stopped,
            if sink.reason == DEAD_LETTERS { Reason::TooManyDeadLetters } else { Reason::TableStopped },
            "nothing is applied until the cause is mended: look at the sink's log",
        ),
    };
    let message = if sink.message.is_empty() { otherwise } else { &sink.message };
    let class = if sink.error_class.is_empty() { String::new() } else { format!(" ({})", sink.error_class) };
    let text = if message.contains(name) {
        format!("{message}{class}")
    } else {
        format!("{name}: {message}{class}")
    };
    Some(trouble(state, reason, text))
}

fn unread(situation: &Situation<'_>, facts: &ClickHouseFacts, name: &str, target: &str) -> Option<Trouble> {
    let waits = |again: &str, why: &str| {
        let open =
            unsettled_by(situation, name).map(|open| format!("; it waits for {open}")).unwrap_or_default();
        let message = format!(
            "{name}: it is read{again} once the connector streams its changes for certain: {why}{open}"
        );
        Some(trouble(TroubleState::Pending, Reason::InProgress, message))
    };
    match state(situation, facts, target) {
        CdcState::Streaming => return None,
        CdcState::Unread(why) => return waits("", &why),
        CdcState::Doubt(why) => return waits(" again", &why),
        CdcState::Reading => {}
    }
    let (id, request) = facts.ledger.reads.get(target)?;
    let read = facts.reads.get(target).filter(|read| read.request == *id);
    Some(match read {
        Some(read) if read.state == "failed" || !read.error.is_empty() => {
            let message = format!("{name}: its read fails and is tried again: {}", read.error);
            trouble(TroubleState::Reading, Reason::ReadFailed, message)
        }
        Some(_) => trouble(
            TroubleState::Reading,
            Reason::Reading,
            format!("{name}: it is being read at the source: {}", request.reason),
        ),
        None => {
            let message = format!("{name}: a sink is going to read it at the source: {}", request.reason);
            trouble(TroubleState::Reading, Reason::Reading, message)
        }
    })
}

/// The transaction that was open when the table was published, and is: what it wrote before comes in no event.
fn unsettled_by<'a>(situation: &Situation<'a>, name: &str) -> Option<&'a str> {
    let postgres = situation.observed.postgres.known()?;
    let publication = postgres.publication.as_ref()?;
    let is_it = publication.unsettled.iter().any(|table| table.to_string() == name);
    postgres.blocking.as_deref().filter(|_| is_it)
}

/// How far the table is, but for what an annotation asks for.
fn state(situation: &Situation<'_>, facts: &ClickHouseFacts, target: &str) -> CdcState {
    let source = &situation.spec.source.postgres;
    CdcState::of(facts, target, &source_place(&source.host, source.port, &source.database), None)
}

/// Dead letters of a target that nothing has made up for: of this epoch, and of its last read or behind its barrier.
pub fn open_letters(facts: &ClickHouseFacts, target: &str) -> u64 {
    let Some(ProgressFacts { partitions }) = facts.progress.get(target) else {
        return 0;
    };
    let read = facts.reads.get(target).filter(|read| read.state == "read");
    let barrier = read.map_or((0, 0), |read| (read.epoch, read.barrier));
    let epoch = facts.ledger.epoch.unwrap_or(0);
    let open =
        partitions.values().filter(|partition| partition.dead_at.0 >= epoch && partition.dead_at >= barrier);
    open.map(|partition| partition.dead_letters).sum()
}
