//! Which requests to read tables a replica takes, goes on with and leaves. Pure.

use std::time::Duration;

use tidemark_crds::ledger::ReadRequest;

use super::ranges::Place;

/// First and longest pause before a read that failed is tried again.
pub const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(2));

/// State of a read in the reads table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadState {
    /// A replica reads it.
    Reading,
    /// Every row is there and the fence is raised.
    Read,
    /// The last attempt failed; its owner tries again.
    Failed,
}

impl ReadState {
    /// Text of the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    /// The state of a text; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reading, Self::Read, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// A request and what the reads table says of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// State table.
    pub table: String,
    /// Id of the request: its row's version.
    pub id: u64,
    /// The request.
    pub request: ReadRequest,
    /// Epoch of the ledger.
    pub epoch: u16,
    /// Newest layout of the table, 0 without one.
    pub layout: u64,
    /// ClickHouse's time, milliseconds since 1970-01-01.
    pub now_ms: i64,
    /// The row of the reads table, whatever request it is of.
    pub seen: Option<Seen>,
}

/// A row of the reads table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Request that it is of.
    pub id: u64,
    /// How far that is.
    pub state: ReadState,
    /// Epoch and position of the last barrier that the row knows of; zeros before there was one.
    pub barrier: (u16, u64),
    /// Replica that wrote it.
    pub owner: String,
    /// Its place among the rows of the table.
    pub beat: u64,
    /// Milliseconds since it was written, by ClickHouse's clock.
    pub age_ms: i64,
    /// Where the read is, as a [`Place`] has it; empty where nobody can go on with it.
    pub place: String,
}

impl Open {
    /// The barrier that a row about the request names as long as its own is not set: that of the read before. A sink that
    /// starts meanwhile learns of it by this row alone, and needs it to tell which rows of the table are from before it.
    pub fn barrier_before(&self) -> u64 {
        let before = self.seen.as_ref().filter(|seen| seen.barrier.0 == self.request.epoch);
        before.map_or(0, |seen| seen.barrier.1)
    }

    /// Where a read that its owner left in the middle goes on, behind the barrier of its row: each range that is done is in
    /// ClickHouse, whoever read it.
    pub fn left_at(&self) -> Option<Place> {
        let seen = self.seen.as_ref()?;
        let goes_on = seen.id == self.id && seen.state != ReadState::Read && seen.barrier.0 == self.epoch;
        let place = Place::parse(&seen.place).filter(|_| goes_on && seen.barrier.1 > 0)?;
        (place.layout == self.layout).then_some(place)
    }

    /// Whether every row of the table was read by the last request, in this epoch and from this source, so that the
    /// stream alone changes it.
    pub fn is_settled(&self, source: &str) -> bool {
        let here = self.request.source.as_deref().is_none_or(|wanted| wanted == source);
        let read = self.seen.as_ref().is_some_and(|seen| seen.id == self.id && seen.state == ReadState::Read);
        here && read && self.request.epoch == self.epoch && self.layout > 0
    }
}

/// What is to be done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, and a read of it that runs here is ended.
    Leave,
    /// It is read here: begun, or gone on with.
    Read,
}

/// What this replica knows about a request beside the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// Whether it is read here.
    pub active: bool,
    /// Whether its last attempt here failed and the pause is not over.
    pub pausing: bool,
}

/// What is to be done about a request by the replica `me`, which reads from `source`.
pub fn decide(open: &Open, (me, source): (&str, &str), lease: Duration, own: Own) -> Decision {
    // The configuration of a pod that is being replaced may name another server.
    if open.request.source.as_deref().is_some_and(|wanted| wanted != source) {
        return Decision::Leave;
    }
    // Behind another epoch's barrier nothing is newer; an older layout would read other columns.
    if open.request.epoch != open.epoch || open.layout < open.request.layout.max(1) {
        return Decision::Leave;
    }
    let of_this = open.seen.as_ref().filter(|seen| seen.id == open.id);
    let free = of_this.is_none_or(|seen| {
        let age = Duration::from_millis(u64::try_from(seen.age_ms).unwrap_or(0));
        match seen.state {
            ReadState::Read => false,
            ReadState::Reading => seen.owner == me || age > lease,
            // Its owner tries again after a pause.
            ReadState::Failed => seen.owner == me || age > PAUSES.1 + lease,
        }
    });
    if free && (own.active || !own.pausing) { Decision::Read } else { Decision::Leave }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
