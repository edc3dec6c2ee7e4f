//! Offsets received, applied and committable. Pure.

use std::collections::{BTreeMap, HashMap};

/// Offsets of one partition that a batch covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OffsetRange {
    /// Offset behind the last record.
    pub next: i64,
    /// Records.
    pub records: u64,
    /// Rows that came of them.
    pub rows: u64,
    /// Records that went to the dead letters.
    pub dead: u64,
    /// Greatest log position.
    pub lsn: u64,
    /// Newest commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: Option<i64>,
}

/// A partition of a table's topic.
pub type Partition = (usize, i32);

/// How far one partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Offset up to which everything is applied, exclusive; unknown until the first batch or the assignment
    /// says it.
    pub next: Option<i64>,
    /// Rows applied.
    pub rows: u64,
    /// Dead letters.
    pub dead: u64,
    /// Greatest log position applied.
    pub lsn: u64,
    /// Newest commit time applied.
    pub last_change_at: Option<i64>,
    /// Instant up to which everything that was committed at the source is applied.
    pub fresh_to: i64,
}

/// Progress of all assigned partitions.
#[derive(Debug, Default)]
pub struct Offsets {
    partitions: BTreeMap<Partition, Applied>,
    /// Heartbeats that are not reached yet: instant and end offset, oldest first.
    heartbeats: HashMap<Partition, Vec<(i64, i64)>>,
    changed: BTreeMap<Partition, i64>,
}

impl Offsets {
    /// Takes over a partition that is read from `next` on; counters go on from what was recorded.
    pub fn assign(&mut self, partition: Partition, next: Option<i64>) {
        self.partitions.insert(partition, Applied { next, ..Applied::default() });
    }

    /// Gives up a partition.
    pub fn revoke(&mut self, partition: Partition) {
        self.partitions.remove(&partition);
        self.heartbeats.remove(&partition);
        self.changed.remove(&partition);
    }

    /// Whether the partition is ours.
    pub fn has(&self, partition: Partition) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Sets where reading starts, once it is known and unless a batch has said more.
    pub fn start(&mut self, partition: Partition, next: i64) {
        if let Some(applied) = self.partitions.get_mut(&partition)
            && applied.next.is_none()
        {
            applied.next = Some(next);
            self.freshen(partition);
        }
    }

    /// Offset up to which a partition is applied, exclusive, as far as it is known.
    pub fn next(&self, partition: Partition) -> Option<i64> {
        self.partitions.get(&partition)?.next
    }

    /// Partitions and how far they have come.
    pub fn all(&self) -> impl Iterator<Item = (Partition, &Applied)> {
        self.partitions.iter().map(|(partition, applied)| (*partition, applied))
    }

    /// Adds counters that an earlier owner of the partition recorded.
    pub fn resume(&mut self, partition: Partition, rows: u64, dead: u64, fresh_to: i64) {
        if let Some(applied) = self.partitions.get_mut(&partition) {
            applied.rows += rows;
            applied.dead += dead;
            applied.fresh_to = applied.fresh_to.max(fresh_to);
        }
    }

    /// Notes that everything in the range is applied; ranges of one partition come in order.
    pub fn apply(&mut self, partition: Partition, range: &OffsetRange) {
        let Some(applied) = self.partitions.get_mut(&partition) else {
            return;
        };
        if applied.next.is_some_and(|next| next > range.next) {
            // From before the partition was given up and taken back.
            return;
        }
        applied.next = Some(range.next);
        applied.rows += range.rows;
        applied.dead += range.dead;
        applied.lsn = applied.lsn.max(range.lsn);
        applied.last_change_at = applied.last_change_at.max(range.committed_at);
        self.changed.insert(partition, range.next);
        self.freshen(partition);
    }

    /// Notes a heartbeat from instant `at`, with the partition's end offset when it was seen.
    pub fn heartbeat(&mut self, partition: Partition, at: i64, end: i64) {
        if !self.has(partition) {
            return;
        }
        let waiting = self.heartbeats.entry(partition).or_default();
        // Those that a later one with the same end overtakes say nothing more.
        waiting.retain(|(_, waiting_end)| *waiting_end < end);
        waiting.push((at, end));
        if waiting.len() > 1024 {
            // Far behind: every second one is precise enough.
            let mut keep = false;
            waiting.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.freshen(partition);
    }

    /// Takes the offsets to commit since the last call.
    pub fn take_committable(&mut self) -> BTreeMap<Partition, i64> {
        std::mem::take(&mut self.changed)
    }

    /// Puts offsets back whose commit failed, unless newer ones are there.
    pub fn put_back(&mut self, offsets: BTreeMap<Partition, i64>) {
        for (partition, next) in offsets {
            if self.has(partition) {
                self.changed.entry(partition).or_insert(next);
            }
        }
    }

    fn freshen(&mut self, partition: Partition) {
        let (Some(applied), Some(waiting)) =
            (self.partitions.get_mut(&partition), self.heartbeats.get_mut(&partition))
        else {
            return;
        };
        let Some(next) = applied.next else { return };
        let reached = waiting.iter().take_while(|(_, end)| *end <= next).count();
        if let Some((at, _)) = waiting[..reached].last() {
            applied.fresh_to = applied.fresh_to.max(*at);
        }
        waiting.drain(..reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = (0, 3);

    fn range(next: i64) -> OffsetRange {
        OffsetRange { next, records: 1, rows: 1, ..OffsetRange::default() }
    }

    fn state(offsets: &Offsets) -> Applied {
        *offsets.all().next().unwrap().1
    }

    #[test]
    fn only_what_is_applied_is_committed() {
        let mut offsets = Offsets::default();
        offsets.assign(P, Some(0));
        assert!(offsets.take_committable().is_empty());
        offsets.apply(P, &range(5));
        assert_eq!(offsets.take_committable(), [(P, 5)].into());
        assert!(offsets.take_committable().is_empty());
        offsets.put_back([(P, 5)].into());
        assert_eq!(offsets.take_committable(), [(P, 5)].into());
    }

    #[test]
    fn a_late_acknowledgement_neither_moves_back_nor_revives_a_partition() {
        let mut offsets = Offsets::default();
        offsets.apply(P, &range(5));
        assert!(offsets.take_committable().is_empty());
        offsets.assign(P, Some(9));
        offsets.apply(P, &range(5));
        assert!(offsets.take_committable().is_empty());
        assert_eq!(state(&offsets).next, Some(9));
    }

    #[test]
    fn an_idle_partition_is_fresh_and_one_with_a_backlog_is_not() {
        let mut offsets = Offsets::default();
        offsets.assign(P, Some(7));
        offsets.heartbeat(P, 1000, 7);
        assert_eq!(state(&offsets).fresh_to, 1000);
        offsets.heartbeat(P, 2000, 9);
        offsets.heartbeat(P, 3000, 12);
        assert_eq!(state(&offsets).fresh_to, 1000);
        offsets.apply(P, &range(9));
        assert_eq!(state(&offsets).fresh_to, 2000);
        offsets.apply(P, &range(12));
        assert_eq!(state(&offsets).fresh_to, 3000);
    }
}
