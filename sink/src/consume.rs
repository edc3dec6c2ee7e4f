//! What threads and tasks tell the session that reads. Pure, but for the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidemark_crds::history::Position;
use tidemark_crds::ledger::TableState;

use crate::assignment::Located;
use crate::batch::Batch;
use crate::board::Board;
use crate::letters::Notice;
use crate::offsets::Partition;
use crate::state::Earlier;

/// What the other threads and tasks tell the consumer.
#[derive(Debug)]
pub enum Event {
    /// A batch is acknowledged.
    Written(Box<Written>),
    /// An attempt to write one failed; it goes on.
    Failed(usize, Box<Failure>),
    /// The operator says something else than before.
    Board(Arc<Board>),
    /// Where partitions start.
    Located(Vec<Located>),
    /// What replicas said before this session.
    Earlier(Vec<Earlier>),
    /// A dead letter was written or dealt with.
    Letter(Notice),
    /// Where a partition was committed, for those that nothing else is known of.
    Start(Partition, i64),
    /// The tables have less than was applied, or may have.
    SetBack,
    /// First offsets that partitions have.
    Firsts(Vec<(Partition, i64)>),
    /// A heartbeat was seen: its instant and the end offsets of partitions at that time.
    Heartbeat(i64, Vec<(Partition, i64)>),
}

/// A batch that is acknowledged.
#[derive(Debug)]
pub struct Written {
    /// Place of its table.
    pub table: usize,
    /// The batch, for its offsets and its room.
    pub batch: Batch,
    /// Dead letters that came up while it was written, by partition.
    pub late: BTreeMap<i32, u64>,
    /// Greatest position of those.
    pub position: Position,
}

/// Why a batch is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Retrying or stopped.
    pub state: TableState,
    /// One word.
    pub reason: String,
    /// Class of the error.
    pub class: String,
    /// For people.
    pub message: String,
    /// Whether the server's merges do not keep up.
    pub backpressure: bool,
}

/// Milliseconds since 1970-01-01 by this machine's clock.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
