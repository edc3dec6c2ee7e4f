//! How far a table is in the log that is followed. Pure.

use std::collections::BTreeMap;

use tidemark_crds::history::Position;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{Kind, ReadRequest, SinkState};

use crate::core::facts::{ClickHouseFacts, ReadFacts};

/// How far a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableState {
    /// Nothing of it in this epoch of the log is there, for this reason: it has to be read.
    Unread(String),
    /// A sink was asked to read it.
    Reading,
    /// It was read, and its changes follow.
    Streaming,
    /// It was read, and this says that rows may be wrong since: it has to be read again.
    Doubt(String),
}

impl TableState {
    /// Why it has to be read, where that was not asked for yet.
    pub fn to_be_read(&self) -> Option<&str> {
        match self {
            Self::Unread(why) | Self::Doubt(why) => Some(why),
            Self::Reading | Self::Streaming => None,
        }
    }

    /// The state of a table whose source is at `place`; `token` is a wish for a read that was not answered yet.
    pub fn of(facts: &ClickHouseFacts, target: &str, place: &str, token: Option<&str>) -> Self {
        let ledger = &facts.ledger;
        let Some(epoch) = ledger.epoch else {
            return Self::Unread("first load".to_owned());
        };
        Self::by(&Known {
            history: ledger.history(target),
            request: ledger.reads.get(target),
            was_read: ledger.has_row(Kind::Read, target),
            read: facts.reads.get(target),
            states: facts.states.get(target),
            epoch,
            state_table: facts.objects.get(target).map_or("", |table| &table.uuid),
            place,
            token,
        })
    }

    fn by(known: &Known<'_>) -> Self {
        let Some((id, request)) = known.request else {
            let again = "the connector or the spec left it out for a while";
            return Self::Unread(if known.was_read { again } else { "first load" }.to_owned());
        };
        if request.epoch != known.epoch {
            return Self::Unread(format!("the log is followed anew, as epoch {}", known.epoch));
        }
        let Some(done) = known.read.filter(|read| answers(read, *id, request)) else {
            // The sink tries again by itself what fails. One that waits for rows of another address is answered by nobody.
            let moved = request.source.as_deref().is_some_and(|before| before != known.place);
            return if moved { Self::Unread(request.reason.clone()) } else { Self::Reading };
        };
        let filled = request.state_table.as_deref();
        if filled.is_some_and(|filled| !known.state_table.is_empty() && filled != known.state_table) {
            return Self::Unread("the state table is another one than the one that was filled".to_owned());
        }
        let doubt =
            || known.changed(request).or_else(|| known.doubted(done)).or_else(|| known.wished(request));
        doubt().map_or(Self::Streaming, Self::Doubt)
    }
}

/// Whether the read that was asked for last is done, in this epoch: rows are there, whatever is said of them since.
pub fn is_read(facts: &ClickHouseFacts, target: &str) -> bool {
    let (Some((id, request)), Some(read)) = (facts.ledger.reads.get(target), facts.reads.get(target)) else {
        return false;
    };
    facts.ledger.epoch == Some(request.epoch) && answers(read, *id, request)
}

fn answers(read: &ReadFacts, id: u64, request: &ReadRequest) -> bool {
    read.request == id && read.epoch == request.epoch && read.state == "read"
}

/// What decides it.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    /// Its layouts, in order.
    history: &'a [TableLayout],
    /// The request that was made last: its id and what it says.
    request: Option<&'a (u64, ReadRequest)>,
    /// Whether there was one before that was forgotten.
    was_read: bool,
    /// What the sinks say of it.
    read: Option<&'a ReadFacts>,
    /// What each living sink says of the table.
    states: Option<&'a BTreeMap<String, SinkState>>,
    /// Epoch of the log.
    epoch: u16,
    /// Identity of the state table; empty where it is not known.
    state_table: &'a str,
    /// Where the source is by the spec.
    place: &'a str,
    /// A wish for a read that was not answered yet.
    token: Option<&'a str>,
}

impl Known<'_> {
    /// A layout since the read under which rows from before are wrong.
    fn changed(&self, request: &ReadRequest) -> Option<String> {
        let changed: Vec<&TableLayout> = (self.history.iter())
            .filter(|layout| layout.version > request.layout && layout.read_again.is_some())
            .collect();
        // Behind the barrier nothing may be decoded by an earlier one.
        changed.last().filter(|newest| self.all_use(newest.version))?;
        let reasons: Vec<&str> = changed.iter().filter_map(|layout| layout.read_again.as_deref()).collect();
        Some(reasons.join("; "))
    }

    fn all_use(&self, version: u64) -> bool {
        self.states
            .is_some_and(|states| !states.is_empty() && states.values().all(|state| state.layout >= version))
    }

    /// A sink that met what the read does not make up for.
    fn doubted(&self, done: &ReadFacts) -> Option<String> {
        let barrier: Position = (done.epoch, done.barrier);
        let states = self.states.into_iter().flatten().map(|(_, state)| state);
        let mut in_doubt = states.filter(|state| !state.doubt.is_empty() && state.doubt_at >= barrier);
        in_doubt.next().map(|state| state.doubt.clone())
    }

    fn wished(&self, request: &ReadRequest) -> Option<String> {
        let token = self.token.filter(|token| request.token.as_deref() != Some(*token))?;
        Some(format!("asked for by annotation ({token})"))
    }
}
