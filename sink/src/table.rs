//! One table on its way from records to batches: which layout a record has, batches under construction, the record
//! that waits. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tidemark_crds::history::Position;
use tidemark_crds::ledger::{DEAD_LETTERS, EPOCH, EPOCH_HEADER, SinkState, TableState, epoch_of};
use tidemark_crds::sink_config::TableRoute;
use tidemark_crds::version::Version;

use crate::batch::{Batch, Doubt, Place};
use crate::board::ReadState;
use crate::dead_letter::{DeadLetter, ShareLimit};
use crate::decode::envelope::{Change, Decoder, Op};
use crate::epochs::{Epochs, Whose};
use crate::history::{Chosen, History, Missing, position_of};
use crate::limits::FlushCause;
use crate::plan::Mapping;
use crate::row::{Facts, Image, RowError, RowWriter};

/// A record of Kafka, as the decoder sees it.
pub trait Record {
    /// Where it is.
    fn place(&self) -> Place;
    /// Kafka's time of it, milliseconds since 1970-01-01; 0: it has none.
    fn kafka_time(&self) -> i64;
    /// Its value; absent for a tombstone.
    fn payload(&self) -> Option<&[u8]>;
    /// Epoch from its header; absent where it has none that can be read.
    fn epoch(&self) -> Option<u16>;
    /// Key that its row had before a change moved it, from its header.
    fn old_key(&self) -> Option<&[u8]>;
    /// A copy of everything, for the dead letters or to be kept.
    fn to_letter(&self) -> DeadLetter;
}

/// Header with which Debezium names the key that a row had before.
pub const OLD_KEY_HEADER: &str = "__debezium.oldkey";

impl Record for DeadLetter {
    fn place(&self) -> Place {
        Place { partition: self.partition, offset: self.offset }
    }

    fn kafka_time(&self) -> i64 {
        self.kafka_time
    }

    fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    fn epoch(&self) -> Option<u16> {
        let epoch = self.headers.iter().find(|(name, _)| name == EPOCH_HEADER);
        epoch.and_then(|(_, value)| epoch_of(value.as_deref()?))
    }

    fn old_key(&self) -> Option<&[u8]> {
        self.headers.iter().find(|(name, _)| name == OLD_KEY_HEADER)?.1.as_deref()
    }

    fn to_letter(&self) -> DeadLetter {
        self.clone()
    }
}

/// Why a record waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// One word: `layout`, `shape`, `value`, `epoch`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Position at which the operator has to look at the catalogue; zeros where that helps nothing. Of an epoch that the
    /// ledger has not: that epoch and 0.
    pub wants: Position,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in a batch.
    Applied,
    /// It is kept until there is a layout for it: no more of the table can be taken.
    Held,
    /// It is not taken: read it again when the table goes on.
    Refused,
}

/// The plan in use, and for which events it is.
#[derive(Debug)]
struct Current {
    writer: RowWriter,
    lo: Position,
    hi: Position,
    after: Option<(u64, Mapping)>,
    before: Option<(u64, Mapping)>,
    /// Place of its batch.
    open: usize,
}

/// A table that is read.
#[derive(Debug)]
pub struct Table {
    /// Where it comes from and goes to.
    pub route: TableRoute,
    /// What a record without an epoch is taken for; absent: it cannot be applied.
    default_epoch: Option<u16>,
    epochs: Epochs,
    history: Arc<History>,
    decoder: Decoder,
    current: Option<Current>,
    /// Batches under construction, by layout, the oldest first.
    open: Vec<Batch>,
    /// An empty one, for its room.
    spare: Option<Batch>,
    /// When the first record of the batches under construction came.
    first: Option<Instant>,
    sealed: VecDeque<Batch>,
    held: Option<(DeadLetter, Hold)>,
    doubt: Option<Doubt>,
    /// Rows from before are not taken for the values that an event lacks: something behind them was not applied.
    floor: Position,
    /// Version of the rows that the last whole read brought.
    read: Version,
    /// Changes below it come again: all of them were applied, and tombstones of them may be gone.
    horizon: Version,
    /// Greatest position of the batches that were sent.
    sent: Position,
    /// Barrier of the last whole read, and the latest of any read.
    barrier: Position,
    begun: Position,
    share: ShareLimit,
    stopped: bool,
}

impl Table {
    /// Starts without a layout: everything is held until there is one.
    pub fn new(route: TableRoute, max_share_per_mille: u32, default_epoch: Option<u16>) -> Self {
        Self {
            route,
            default_epoch,
            epochs: Epochs::default(),
            history: Arc::default(),
            decoder: Decoder::default(),
            current: None,
            open: Vec::new(),
            spare: None,
            first: None,
            sealed: VecDeque::new(),
            held: None,
            doubt: None,
            floor: (0, 0),
            read: Version(0),
            horizon: Version(0),
            sent: (0, 0),
            barrier: (0, 0),
            begun: (0, 0),
            share: ShareLimit::new(max_share_per_mille),
            stopped: false,
        }
    }

    /// The layouts in use.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Whether nothing can be taken at present.
    #[inline]
    pub fn waits(&self) -> bool {
        self.held.is_some() || self.stopped
    }

    /// Whether so many records die that it is better to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops the table, as it was stopped before a restart.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Goes on after the cause of a stop was mended.
    pub fn restart(&mut self) {
        self.stopped = false;
        self.share = self.share.restarted();
    }

    /// Counts dead letters that came up when rows were written.
    pub fn count_late(&mut self, dead: u64, position: Position) {
        self.share.count_late(dead);
        self.stopped |= self.share.exceeded();
        self.floor = self.floor.max(position);
    }

    /// Notes which epoch the ledger has; 0: none. Records of later ones wait.
    pub fn use_epoch(&mut self, epoch: u16) {
        self.epochs.learn(epoch);
    }

    /// Notes that a look at the ledger ended. Whether the table stops by it: its record is of no epoch of the ledger's.
    pub fn looked(&mut self) -> bool {
        self.epochs.looked()
    }

    /// Why the table has to be read again.
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// Adds a reason to read the table again.
    pub fn add_doubt(&mut self, doubt: Doubt) {
        self.floor = self.floor.max(doubt.at);
        Doubt::join(&mut self.doubt, doubt);
    }

    /// Adds the doubt that an earlier process had, unless the read that ends it is over already.
    pub fn remember(&mut self, doubt: Doubt) {
        self.add_doubt(doubt);
        self.was_read(self.barrier);
    }

    /// Notes that records are gone, when everything up to `applied` was applied. Nothing says where in the log they were;
    /// but each was written before this moment, and a read that is asked for now has a later barrier than every read so
    /// far, and than every record that was taken: until then no row of those lends its values.
    pub fn lost(&mut self, why: String, applied: Position) {
        let taken = self.open.iter().chain(&self.sealed).map(Batch::reach).max();
        let at = self.begun.max(applied).max(self.sent).max(taken.unwrap_or_default());
        self.add_doubt(Doubt { why, at });
    }

    /// Hears how far the last read is. Returns whether the table was stopped and goes on, since it was read again.
    pub fn hear(&mut self, read: &ReadState, now: Instant) -> bool {
        self.begun = self.begun.max(read.barrier);
        if !read.done || read.barrier <= self.barrier {
            return false;
        }
        self.barrier = read.barrier;
        self.was_read(read.barrier);
        let goes_on = self.stopped;
        if goes_on {
            self.restart();
        }
        self.resume(now);
        goes_on
    }

    /// Notes that every change below a version was applied. It never falls.
    pub fn pass_below(&mut self, horizon: Version) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Barrier of the last whole read; zeros before one.
    pub fn barrier(&self) -> Position {
        self.barrier
    }

    /// Notes that the table was read behind a barrier: what was in doubt before it is not any more, and a change of
    /// before it, which comes again after a restart from further back, is not looked into.
    pub fn was_read(&mut self, barrier: Position) {
        self.read = self.read.max(Version::of_read(barrier.0, barrier.1));
        if self.doubt.as_ref().is_some_and(|doubt| doubt.at < barrier) {
            self.doubt = None;
        }
    }

    /// When the oldest record that is not sent yet came.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.first
    }

    /// Rows and bytes of the batches under construction.
    pub fn filling(&self) -> (usize, usize) {
        self.open.iter().fold((0, 0), |(rows, bytes), batch| {
            (rows + batch.rows() + batch.deferred().len(), bytes + batch.bytes())
        })
    }

    /// Bytes of everything that is not sent yet. Room that columns reserve counts once it is touched: it grows by
    /// moving pages, and the room of a batch that is written serves the next one.
    pub fn memory(&self) -> usize {
        let batches = self.open.iter().chain(&self.sealed).map(Batch::bytes).sum::<usize>();
        batches + self.held.as_ref().map_or(0, |(record, _)| record.bytes())
    }

    /// What the table does, for the operator.
    pub fn state(&self) -> SinkState {
        let mut state = SinkState { layout: self.history.usable(), ..SinkState::default() };
        if let Some(doubt) = &self.doubt {
            state.doubt.clone_from(&doubt.why);
            state.doubt_at = doubt.at;
        }
        if self.stopped {
            state.state = TableState::Stopped;
            DEAD_LETTERS.clone_into(&mut state.reason);
            "too many records cannot be applied; look at them with `tidemark-sink dead-letters list`, mend the cause, \
             then replay or skip them"
                .clone_into(&mut state.message);
        } else if let Some((record, hold)) = &self.held {
            let refused = hold.reason == EPOCH && self.epochs.is_refused();
            state.state = if refused { TableState::Stopped } else { TableState::Held };
            hold.reason.clone_into(&mut state.reason);
            state.message =
                format!("partition {}, offset {}: {}", record.partition, record.offset, hold.message);
            state.wants = hold.wants;
        } else if self.history.is_empty() {
            state.state = TableState::Held;
            "layout".clone_into(&mut state.reason);
            "the ledger has no layout of it yet".clone_into(&mut state.message);
        } else if let Some(trouble) = self.history.trouble() {
            // Events of the layouts before are applied meanwhile.
            state.state = TableState::Held;
            "layout".clone_into(&mut state.reason);
            state.message = trouble;
        }
        state
    }

    /// Takes one record.
    #[inline]
    pub fn take(&mut self, record: &impl Record, now: Instant) -> Taken {
        if self.waits() {
            return Taken::Refused;
        }
        self.first.get_or_insert(now);
        match self.apply(record) {
            Ok(()) => Taken::Applied,
            Err(hold) => {
                self.held = Some((record.to_letter(), hold));
                Taken::Held
            }
        }
    }

    /// Uses another history of layouts. Returns whether the table goes on.
    pub fn use_history(&mut self, history: Arc<History>, now: Instant) -> bool {
        self.history = history;
        self.current = None;
        self.resume(now)
    }

    /// Takes the record that waited. Returns whether the table goes on.
    pub fn resume(&mut self, now: Instant) -> bool {
        let Some((record, _)) = self.held.take() else {
            return !self.stopped;
        };
        self.first.get_or_insert(now);
        if let Err(hold) = self.apply(&record) {
            self.held = Some((record, hold));
            return false;
        }
        !self.stopped
    }

    /// Forgets what was read of a partition and not sent; its new owner reads it again.
    pub fn forget(&mut self, partition: i32) {
        if self.held.as_ref().is_some_and(|(record, _)| record.partition == partition) {
            self.held = None;
        }
    }

    /// Returns the next batch to send: a sealed one, or the oldest under construction if they are `due`.
    pub fn next_batch(
        &mut self,
        due: impl FnOnce(usize, usize, Instant) -> Option<FlushCause>,
    ) -> Option<(Batch, FlushCause)> {
        let mut cause = FlushCause::Drain;
        if self.sealed.is_empty() {
            let (rows, bytes) = self.filling();
            cause = due(rows, bytes, self.first?)?;
            self.seal();
        }
        let mut batch = self.sealed.pop_front()?;
        self.sent = self.sent.max(batch.reach());
        batch.floor = self.floor.max(self.history.complete_from(batch.plan()));
        batch.read = self.read;
        Some((batch, cause))
    }

    /// Whether [`next_batch`](Self::next_batch) would return one.
    pub fn is_due(&self, due: impl FnOnce(usize, usize, Instant) -> Option<FlushCause>) -> bool {
        let (rows, bytes) = self.filling();
        !self.sealed.is_empty() || self.first.is_some_and(|first| due(rows, bytes, first).is_some())
    }

    /// Whether a batch could be sent at all.
    pub fn has_batch(&self) -> bool {
        !self.sealed.is_empty() || self.open.iter().any(|batch| !batch.is_empty())
    }

    /// Takes back a batch that is written, for its room.
    pub fn give_back(&mut self, mut batch: Batch) {
        let newest = self.history.newest().is_some_and(|plan| Arc::ptr_eq(plan, batch.plan()));
        if newest && self.spare.is_none() {
            batch.clear();
            self.spare = Some(batch);
        }
    }

    /// Gives the room away that is not needed at present.
    pub fn shrink(&mut self) {
        self.spare = None;
    }

    fn seal(&mut self) {
        if let Some(current) = &mut self.current {
            current.open = usize::MAX;
        }
        self.sealed.extend(self.open.drain(..).filter(|batch| !batch.is_empty()));
        self.first = None;
    }

    fn apply(&mut self, record: &impl Record) -> Result<(), Hold> {
        let Some(payload) = record.payload() else {
            return self.note(record, None, 0);
        };
        let Some(epoch) = record.epoch().or(self.default_epoch) else {
            let why = "the record has no header tidemark.epoch with a number: the connector adds it by the transform \
                       `epoch`; put the connector's configuration right";
            return self.bury(record, None, why.to_owned());
        };
        match self.epochs.judge(epoch) {
            Whose::Own => {}
            Whose::Foreign => return self.note(record, None, 0),
            Whose::Unknown => return Err(self.unknown(epoch)),
        }
        let change = match self.decoder.read(payload, epoch) {
            Ok(Some(change)) => change,
            Ok(None) => return self.note(record, None, 0),
            Err(error) => return self.bury(record, None, error.to_string()),
        };
        // Its row has a newer version, or the read's fence hides it, or it was applied. Its layout may be gone long since.
        if change.version < self.read.max(self.horizon) {
            return self.note(record, Some((epoch, &change)), 0);
        }
        match change.op {
            Op::Message => self.note(record, Some((epoch, &change)), 0),
            Op::Truncate => {
                let place = record.place();
                self.batch_for(place.partition)?.raise_fence(change.version);
                self.note(record, Some((epoch, &change)), 0)
            }
            Op::Insert | Op::Update | Op::Delete => self.apply_row(record, payload, epoch, &change),
        }
    }

    #[cold]
    fn unknown(&self, epoch: u16) -> Hold {
        let message = format!(
            "it is of epoch {epoch}, and the ledger has epoch {}: unless the operator begins that epoch, another connector \
             writes to topic {}, such as that of a pipeline elsewhere with the same spec.kafka.topicPrefix, and nothing of \
             it is applied: stop that one, then annotate this pipeline with tidemark.dev/resnapshot=<any new text>, which \
             begins an epoch above both and reads all tables again",
            self.epochs.known(),
            self.route.topic
        );
        Hold { reason: EPOCH, message, wants: (epoch, 0) }
    }

    fn apply_row(
        &mut self,
        record: &impl Record,
        payload: &[u8],
        epoch: u16,
        change: &Change,
    ) -> Result<(), Hold> {
        let at = (epoch, change.position);
        let delete = change.op == Op::Delete;
        if delete
            && let Some(before) = &change.before
            && let Err(error) = self.decoder.read_before(payload, before)
        {
            return self.bury(record, Some((epoch, change)), error.to_string());
        }
        match self.choose(at, delete) {
            Ok(()) => {}
            Err(Choice::Hold(hold)) => return Err(hold),
            Err(Choice::Dead(error)) => return self.bury(record, Some((epoch, change)), error),
            Err(Choice::Doubt(why)) => {
                // Not its own position: its transaction may have been open while a later barrier was set.
                let doubt = Doubt { why, at: position_of(change.version) };
                self.add_doubt(doubt.clone());
                let batch = self.batch_for(record.place().partition)?;
                Doubt::join(&mut batch.doubt, doubt);
                return self.note(record, Some((epoch, change)), 0);
            }
        }
        let confirmed = self.history.is_confirmed(at);
        let place = record.place();
        self.batch_for(place.partition)?;
        let (Some(current), decoder) = (&mut self.current, &mut self.decoder) else {
            return Ok(());
        };
        let Current { writer, before, after, open, .. } = current;
        let batch = &mut self.open[*open];
        let rows = batch.rows() + batch.deferred().len();
        writer.take_hints(change.schema.as_ref());
        let old_key = if change.op == Op::Insert { record.old_key() } else { None };
        let facts = Facts { change, place, confirmed, old_key };
        // Under other identities than FULL an update has it only where it changed the key, and of it the key alone.
        let has_before = change.op == Op::Update
            && change.before.as_ref().is_some_and(|before| decoder.read_before(payload, before).is_ok());
        if has_before && before.as_ref().is_none_or(|(stamp, _)| *stamp != decoder.before.stamp()) {
            let names = decoder.before.names().unwrap_or_default();
            *before = writer.plan().map(&names).map(|mapping| (decoder.before.stamp(), mapping));
        }
        let decoder = &*decoder;
        let image_before = before.as_ref().filter(|_| has_before || delete).map(|(_, mapping)| Image {
            record: payload,
            values: decoder.before.values(),
            mapping,
            complete: writer.plan().layout.full_before,
        });
        let image_after = after.as_ref().filter(|_| !delete).map(|(_, mapping)| Image {
            record: payload,
            values: decoder.after.values(),
            mapping,
            complete: true,
        });
        let written = match (image_before, image_after) {
            (before, Some(after)) => writer.write_image(batch, &facts, before.as_ref(), &after),
            (Some(before), None) => writer.write_tombstone(batch, &facts, &before),
            (None, None) => Ok(()),
        };
        match written {
            Ok(()) => {
                let rows = batch.rows() + batch.deferred().len() - rows;
                self.note(record, Some((epoch, change)), rows)
            }
            Err(RowError::Unfit { field, error }) => Err(Hold {
                reason: "value",
                message: format!("field {field}: {error}; waiting for the table's columns as they were then"),
                wants: at,
            }),
            Err(RowError::Dead(error)) => self.bury(record, Some((epoch, change)), error),
        }
    }

    /// Makes the plan of an event the current one.
    #[inline]
    fn choose(&mut self, at: Position, delete: bool) -> Result<(), Choice> {
        let fields = if delete { &self.decoder.before } else { &self.decoder.after };
        if let Some(current) = &self.current
            && current.lo < at
            && at <= current.hi
            && let Some((stamp, _)) = if delete { &current.before } else { &current.after }
            && *stamp == fields.stamp()
        {
            return Ok(());
        }
        self.choose_anew(at, delete)
    }

    #[cold]
    fn choose_anew(&mut self, at: Position, delete: bool) -> Result<(), Choice> {
        let fields = if delete { &self.decoder.before } else { &self.decoder.after };
        let stamp = fields.stamp();
        let names = fields.names().map_err(|error| Choice::Dead(error.to_string()))?;
        let hold = |reason, message, wants| Err(Choice::Hold(Hold { reason, message, wants }));
        let Chosen { plan, mapping, lo, hi } = match self.history.choose(at, &names) {
            Ok(chosen) => chosen,
            Err(Missing::Unusable(why)) => return hold("layout", why, (0, 0)),
            Err(Missing::Shape) if self.history.is_empty() => {
                return hold("layout", "the ledger has no layout of it yet".to_owned(), at);
            }
            Err(Missing::Shape) if self.history.is_confirmed(at) => {
                return Err(Choice::Doubt(format!(
                    "a change at {} has the fields {}, which no layout has: it was passed over",
                    place_in_log(at),
                    names.join(", ")
                )));
            }
            Err(Missing::Shape) => {
                let message = format!("no layout has the fields {}; waiting for one", names.join(", "));
                return hold("shape", message, at);
            }
        };
        let kept = self.current.take().filter(|current| {
            Arc::ptr_eq(current.writer.plan(), &plan) && (current.lo, current.hi) == (lo, hi)
        });
        let mut current = kept.unwrap_or_else(|| Current {
            writer: RowWriter::new(Arc::clone(&plan)),
            lo,
            hi,
            after: None,
            before: None,
            open: usize::MAX,
        });
        *(if delete { &mut current.before } else { &mut current.after }) = Some((stamp, mapping));
        self.current = Some(current);
        Ok(())
    }

    /// The batch that a record of a partition goes into.
    #[inline]
    fn batch_for(&mut self, partition: i32) -> Result<&mut Batch, Hold> {
        let open = self.current.as_ref().map_or(usize::MAX, |current| current.open);
        if open < self.open.len() && self.open.len() == 1 {
            return Ok(&mut self.open[open]);
        }
        self.open_batch(partition)
    }

    #[cold]
    fn open_batch(&mut self, partition: i32) -> Result<&mut Batch, Hold> {
        let no_layout = || Hold {
            reason: "layout",
            message: "the ledger has no layout of it yet".to_owned(),
            wants: (0, 0),
        };
        let plan = match &self.current {
            Some(current) => Arc::clone(current.writer.plan()),
            None => Arc::clone(self.history.newest().ok_or_else(no_layout)?),
        };
        let version = plan.layout.version;
        // What a partition has in a later batch must not be overtaken by what comes behind it.
        let overtakes = |batch: &Batch| {
            batch.plan().layout.version > version
                && batch.offsets().iter().any(|(known, _)| *known == partition)
        };
        if self.open.iter().any(overtakes) {
            let first = self.first;
            self.seal();
            self.first = first;
        }
        let place = self.open.iter().position(|batch| Arc::ptr_eq(batch.plan(), &plan));
        let place = if let Some(place) = place {
            place
        } else {
            let spare = self.spare.take_if(|spare| Arc::ptr_eq(spare.plan(), &plan));
            let batch = match spare {
                Some(batch) => batch,
                // The plan was compiled from the same types.
                None => Batch::new(plan).map_err(|_| no_layout())?,
            };
            let place = self.open.partition_point(|other| other.plan().layout.version <= version);
            self.open.insert(place, batch);
            place
        };
        if let Some(current) = &mut self.current {
            current.open = place;
        }
        Ok(&mut self.open[place])
    }

    /// Notes that a record is in the batch.
    #[inline]
    fn note(
        &mut self,
        record: &impl Record,
        change: Option<(u16, &Change)>,
        rows: usize,
    ) -> Result<(), Hold> {
        let place = record.place();
        let batch = self.batch_for(place.partition)?;
        if let Some((epoch, _)) = change {
            // Partitions come in any order, and what is read at the source for one key has to beat all of its rows.
            batch.epoch = batch.epoch.max(epoch);
        }
        let (epoch, lsn, committed_at) = change.map_or((batch.epoch, 0, None), |(epoch, change)| {
            (epoch, change.position, Some(change.committed_at))
        });
        let range = batch.range(place.partition);
        range.cover(place.offset, epoch, lsn, committed_at);
        range.kafka_time = range.kafka_time.max(record.kafka_time());
        range.rows += rows as u64;
        self.share.count(false);
        Ok(())
    }

    /// Puts a record to the dead letters.
    fn bury(
        &mut self,
        record: &impl Record,
        change: Option<(u16, &Change)>,
        error: String,
    ) -> Result<(), Hold> {
        self.note(record, change, 0)?;
        let place = record.place();
        let position = change.map_or((0, 0), |(_, change)| position_of(change.version));
        self.floor = self.floor.max(position);
        let batch = self.batch_for(place.partition)?;
        batch.range(place.partition).dead += 1;
        batch.bury(DeadLetter { error, position: position.1, ..record.to_letter() });
        self.share.count_late(1);
        self.stopped |= self.share.exceeded();
        Ok(())
    }
}

/// Why a change has no plan.
enum Choice {
    Hold(Hold),
    Doubt(String),
    Dead(String),
}

/// A position as PostgreSQL writes it, with its epoch.
pub fn place_in_log((epoch, lsn): Position) -> String {
    format!("{:X}/{:X} of epoch {epoch}", lsn >> 32, lsn & 0xffff_ffff)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
