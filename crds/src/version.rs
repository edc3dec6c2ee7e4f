//! The version of a row: what decides which of two images of one key is the newer one. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits of the position fields: an LSN of PostgreSQL fits 56 bits for 64 PiB of write-ahead log.
const LSN_BITS: u32 = 56;
const LSN_MASK: u128 = (1 << LSN_BITS) - 1;
/// Highest epoch that fits its 15 bits.
pub const MAX_EPOCH: u16 = (1 << 15) - 1;

/// Whether a row comes from the initial snapshot or from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A row of an initial snapshot: older than everything streamed in its epoch.
    Snapshot,
    /// A streamed change, or a row of an incremental snapshot.
    Stream,
}

/// Total order of all images of a key: `epoch:15 | phase:1 | last_commit_lsn:56 | lsn:56`.
///
/// `epoch` is raised by the operator for each new slot or repeated snapshot, because positions may go back
/// there. `last_commit_lsn` and `lsn` are Debezium's `source.sequence`; transactions are streamed in commit
/// order, so the pair follows the stream. Stored as ClickHouse `UInt128`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u128);

impl Version {
    /// Builds a version; positions beyond 56 bits and epochs beyond 15 bits are cut to their fields.
    pub fn new(epoch: u16, phase: Phase, last_commit_lsn: u64, lsn: u64) -> Self {
        let epoch = u128::from(epoch & MAX_EPOCH) << (2 * LSN_BITS + 1);
        let phase = u128::from(phase == Phase::Stream) << (2 * LSN_BITS);
        let commit = (u128::from(last_commit_lsn) & LSN_MASK) << LSN_BITS;
        Self(epoch | phase | commit | (u128::from(lsn) & LSN_MASK))
    }

    /// Version of the rows of a table that was read behind a barrier at this position: above every change of before it,
    /// below every later one.
    pub fn of_read(epoch: u16, barrier: u64) -> Self {
        Self::new(epoch, Phase::Stream, barrier, 0)
    }

    /// Epoch in which the row was read.
    pub fn epoch(self) -> u16 {
        u16::try_from(self.0 >> (2 * LSN_BITS + 1)).unwrap_or(MAX_EPOCH)
    }

    /// Whether a snapshot or the log gave the row.
    pub fn phase(self) -> Phase {
        if (self.0 >> (2 * LSN_BITS)) & 1 == 1 { Phase::Stream } else { Phase::Snapshot }
    }

    /// Position of the last commit before the row's transaction, in bytes of write-ahead log.
    pub fn last_commit_lsn(self) -> u64 {
        u64::try_from((self.0 >> LSN_BITS) & LSN_MASK).unwrap_or(u64::MAX)
    }

    /// Position of the row itself, in bytes of write-ahead log.
    pub fn lsn(self) -> u64 {
        u64::try_from(self.0 & LSN_MASK).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.phase();
        write!(f, "{}/{phase:?}/{:X}/{:X}", self.epoch(), self.last_commit_lsn(), self.lsn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        let v = Version::new(7, Phase::Stream, 0x0012_3456_789A, 42);
        assert_eq!(
            (v.epoch(), v.phase(), v.last_commit_lsn(), v.lsn()),
            (7, Phase::Stream, 0x0012_3456_789A, 42)
        );
    }

    #[test]
    fn a_later_epoch_beats_any_position_and_the_stream_beats_the_snapshot() {
        let stream = Version::new(1, Phase::Stream, 1, 0);
        let snapshot = Version::new(1, Phase::Snapshot, 0, u64::MAX);
        let next_epoch = Version::new(2, Phase::Snapshot, 0, 0);
        assert!(snapshot < stream && stream < next_epoch);
    }

    #[test]
    fn a_change_in_an_open_transaction_beats_the_incremental_row_read_meanwhile() {
        let read = Version::new(1, Phase::Stream, 170, 0);
        let committed_later = Version::new(1, Phase::Stream, 170, 100);
        assert!(read < committed_later);
    }
}
