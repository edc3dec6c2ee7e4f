//! Offsets received, applied and committable, and up to which instant of the source that is everything. Pure.
//!
//! Two things bound the instant. A heartbeat carries the time at which Debezium sent it, behind everything that it had
//! sent before: whoever reached the end that a partition had then has all of that. But Debezium itself may read the log
//! minutes late, so the time says how late it was only together with what it sent next: the first record behind a
//! heartbeat, in whichever partition, was committed at an instant that Debezium had not reached when it sent it.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Heartbeats of a partition that are kept: beyond them every second one is precise enough.
const MOST_BEATS: usize = 1024;

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
    /// Dead letters of earlier that a record says are dealt with.
    pub resolved: u64,
    /// Greatest epoch of its records.
    pub epoch: u16,
    /// Greatest log position of that epoch.
    pub lsn: u64,
    /// Oldest commit time at the source, milliseconds since 1970-01-01.
    pub oldest: Option<i64>,
    /// Newest commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: Option<i64>,
}

impl OffsetRange {
    /// Takes in a record; `lsn` and `committed_at` of one that is no change are 0 and absent.
    #[inline]
    pub fn cover(&mut self, offset: i64, epoch: u16, lsn: u64, committed_at: Option<i64>) {
        self.next = offset + 1;
        self.records += 1;
        // Positions of different epochs may be those of different servers' logs.
        (self.epoch, self.lsn) = (self.epoch, self.lsn).max((epoch, lsn));
        self.committed_at = self.committed_at.max(committed_at);
        self.oldest = match (self.oldest, committed_at) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
    }
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
    /// Dead letters of the epoch in `dead_at` that are not dealt with.
    pub dead: u64,
    /// Epoch and log position at or behind the last dead letter: a read of the table behind it makes up for them.
    pub dead_at: (u16, u64),
    /// Epoch and greatest log position of it that was applied.
    pub at: (u16, u64),
    /// Newest commit time applied.
    pub last_change_at: Option<i64>,
    /// Instant up to which everything that was committed at the source is applied.
    pub fresh_to: i64,
}

/// Progress of all assigned partitions.
#[derive(Debug, Default)]
pub struct Offsets {
    partitions: BTreeMap<Partition, Applied>,
    /// The newest heartbeat that is reached, and those that are not: instant and end offset, oldest first.
    beats: HashMap<Partition, VecDeque<(i64, i64)>>,
    /// Commit time of the first record behind each heartbeat, as far as one is known, by the heartbeat's instant.
    limits: BTreeMap<i64, i64>,
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
        self.beats.remove(&partition);
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
            self.drop_passed(partition);
        }
    }

    /// Offset up to which a partition is applied, exclusive, as far as it is known.
    pub fn next(&self, partition: Partition) -> Option<i64> {
        self.partitions.get(&partition)?.next
    }

    /// Partitions and how far they have come.
    pub fn all(&self) -> impl Iterator<Item = (Partition, Applied)> {
        self.partitions.iter().map(|(partition, applied)| {
            let fresh_to = self.fresh_to(*partition).unwrap_or(applied.fresh_to);
            (*partition, Applied { fresh_to, ..*applied })
        })
    }

    /// Reads a partition from `start` on. Counters go on from its own where it is ours `again`, else from what an earlier
    /// owner recorded.
    pub fn begin(&mut self, partition: Partition, start: i64, again: bool, recorded: Option<Applied>) {
        let known = self.all().find(|(known, _)| *known == partition).map(|(_, applied)| applied);
        let earlier = known.filter(|_| again).or(recorded);
        self.assign(partition, Some(start));
        if let Some(earlier) = earlier {
            self.resume(partition, &earlier);
        }
    }

    /// Goes on from the counters that an earlier owner of the partition recorded.
    pub fn resume(&mut self, partition: Partition, earlier: &Applied) {
        let Some(applied) = self.partitions.get_mut(&partition) else {
            return;
        };
        applied.rows += earlier.rows;
        applied.fresh_to = applied.fresh_to.max(earlier.fresh_to);
        applied.at = applied.at.max(earlier.at);
        applied.last_change_at = applied.last_change_at.max(earlier.last_change_at);
        if applied.dead == 0 || earlier.dead_at.0 > applied.dead_at.0 {
            (applied.dead, applied.dead_at) = (earlier.dead, earlier.dead_at);
        } else if earlier.dead_at.0 == applied.dead_at.0 {
            applied.dead += earlier.dead;
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
        applied.at = applied.at.max((range.epoch, range.lsn));
        applied.last_change_at = applied.last_change_at.max(range.committed_at);
        if range.dead > 0 {
            if range.epoch > applied.dead_at.0 {
                // A new epoch reads every row again.
                applied.dead = 0;
            }
            applied.dead += range.dead;
            // A letter may have no position of its own.
            let behind = if applied.at.0 == range.epoch { applied.at.1 } else { range.lsn };
            applied.dead_at = applied.dead_at.max((range.epoch, behind));
        }
        applied.dead = applied.dead.saturating_sub(range.resolved);
        self.changed.insert(partition, range.next);
        if let Some(oldest) = range.oldest {
            // Some record of the range is behind each of these; the oldest of all is no later than the first of them.
            let passed = self.beats.get(&partition).into_iter().flatten();
            for (at, _) in passed.take_while(|(_, end)| *end < range.next) {
                let limit = self.limits.entry(*at).or_insert(oldest);
                *limit = oldest.min(*limit);
            }
        }
        self.drop_passed(partition);
    }

    /// Notes that reading has come to `position`, and that every record before it is applied: what lies between the
    /// last record and it are marks of Kafka's own, such as the ends of transactions.
    pub fn reached(&mut self, partition: Partition, position: i64) {
        let Some(applied) = self.partitions.get_mut(&partition) else {
            return;
        };
        if applied.next.is_some_and(|next| next < position) {
            applied.next = Some(position);
            self.changed.insert(partition, position);
            self.drop_passed(partition);
        }
    }

    /// Notes a heartbeat from instant `at`, with the partition's end offset when it was seen.
    pub fn heartbeat(&mut self, partition: Partition, at: i64, end: i64) {
        if !self.has(partition) {
            return;
        }
        let next = self.next(partition);
        let beats = self.beats.entry(partition).or_default();
        // Those that a later one with the same end overtakes say nothing more.
        while beats
            .back()
            .is_some_and(|(_, waiting)| *waiting >= end && next.is_none_or(|next| *waiting > next))
        {
            beats.pop_back();
        }
        beats.push_back((at, end));
        if beats.len() > MOST_BEATS {
            let mut keep = false;
            beats.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.drop_passed(partition);
        if self.limits.len() > 2 * MOST_BEATS {
            let oldest = self.beats.values().filter_map(|beats| Some(beats.front()?.0)).min();
            self.limits.retain(|at, _| oldest.is_some_and(|oldest| *at >= oldest));
        }
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

    /// Instant up to which a partition is complete, by the newest heartbeat that it reached.
    fn fresh_to(&self, partition: Partition) -> Option<i64> {
        let next = self.next(partition)?;
        let (at, _) = self.beats.get(&partition)?.front().filter(|(_, end)| *end <= next)?;
        Some(self.limits.get(at).map_or(*at, |limit| *at.min(limit)))
    }

    /// Drops the heartbeats before the newest one that is reached.
    fn drop_passed(&mut self, partition: Partition) {
        let (Some(next), Some(beats)) = (self.next(partition), self.beats.get_mut(&partition)) else {
            return;
        };
        let reached = beats.iter().take_while(|(_, end)| *end <= next).count();
        beats.drain(..reached.saturating_sub(1));
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
