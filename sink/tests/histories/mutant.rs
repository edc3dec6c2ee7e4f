//! What the model does wrong on purpose: each has to be found.

/// A fault in the model's own parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A read begins without waiting for the commits that are on their way.
    NoWait,
    /// Rows that are read have the position of their snapshot, not the barrier's.
    SnapshotVersion,
    /// No fence is raised behind a read.
    GhostsStay,
    /// A partition counts as applied as far as it was received.
    ProgressFirst,
    /// An insert without an answer passes for one that is done.
    TimeoutIsDone,
    /// A tombstone has no version.
    TombstoneWithoutVersion,
    /// The last insert of a key wins, whatever its version.
    LastInsertWins,
    /// Events say their own position alone, not the commit before it.
    OwnPositionAlone,
    /// Events of a new slot have the old epoch.
    EpochStays,
    /// Debezium sends NULL for a value that did not change.
    UnchangedIsNull,
    /// Records that retention deleted are not missed.
    GapUnseen,
    /// A doubt is told to nobody.
    DoubtUnsaid,
    /// A truncate raises no fence.
    TruncateIgnored,
    /// Rows that move to other pages between two ranges are not missed.
    MovedUnseen,
    /// Partitions begin before the operator was heard.
    ReadsUnknown,
    /// A read knows nothing of columns that its layout lacks.
    ColumnUnseen,
    /// A range counts as done before its rows are acknowledged.
    RangeFirst,
}

impl Mutant {
    pub(super) const ALL: [Self; 17] = [
        Self::NoWait,
        Self::SnapshotVersion,
        Self::GhostsStay,
        Self::ProgressFirst,
        Self::TimeoutIsDone,
        Self::TombstoneWithoutVersion,
        Self::LastInsertWins,
        Self::OwnPositionAlone,
        Self::EpochStays,
        Self::UnchangedIsNull,
        Self::GapUnseen,
        Self::DoubtUnsaid,
        Self::TruncateIgnored,
        Self::MovedUnseen,
        Self::ColumnUnseen,
        Self::ReadsUnknown,
        Self::RangeFirst,
    ];
}
