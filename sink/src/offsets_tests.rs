use proptest::prelude::*;

use super::*;

const P: Partition = (0, 3);
const Q: Partition = (1, 0);

fn range(next: i64) -> OffsetRange {
    OffsetRange { next, records: 1, rows: 1, ..OffsetRange::default() }
}

fn committed(next: i64, at: i64) -> OffsetRange {
    OffsetRange { oldest: Some(at), committed_at: Some(at), ..range(next) }
}

fn state(offsets: &Offsets, partition: Partition) -> Applied {
    offsets.all().find(|(found, _)| *found == partition).unwrap().1
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
    assert_eq!(state(&offsets, P).next, Some(9));
}

#[test]
fn an_idle_partition_is_fresh_and_one_with_a_backlog_is_not() {
    let mut offsets = Offsets::default();
    offsets.assign(P, Some(7));
    offsets.heartbeat(P, 1000, 7);
    assert_eq!(state(&offsets, P).fresh_to, 1000);
    offsets.heartbeat(P, 2000, 9);
    offsets.heartbeat(P, 3000, 12);
    assert_eq!(state(&offsets, P).fresh_to, 1000);
    offsets.apply(P, &range(9));
    assert_eq!(state(&offsets, P).fresh_to, 2000);
    offsets.apply(P, &range(12));
    assert_eq!(state(&offsets, P).fresh_to, 3000);
}

#[test]
fn a_partition_that_stands_still_does_not_hold_up_another_one() {
    let mut offsets = Offsets::default();
    for partition in [P, Q] {
        offsets.assign(partition, Some(0));
        offsets.heartbeat(partition, 1000, 4);
    }
    offsets.apply(Q, &range(4));
    assert_eq!((state(&offsets, P).fresh_to, state(&offsets, Q).fresh_to), (0, 1000));
}

#[test]
fn while_old_changes_come_no_partition_is_fresh_up_to_the_heartbeats_clock() {
    let mut offsets = Offsets::default();
    offsets.assign(P, Some(0));
    offsets.assign(Q, Some(0));
    for partition in [P, Q] {
        offsets.heartbeat(partition, 600_000, 0);
    }
    // Debezium is ten minutes late: what it sends behind its heartbeat was committed long before it.
    offsets.apply(P, &committed(1, 5_000));
    assert_eq!(state(&offsets, P).fresh_to, 5_000);
    assert_eq!(state(&offsets, Q).fresh_to, 5_000, "the idle table's changes may be still to come, too");
    for partition in [P, Q] {
        offsets.heartbeat(partition, 601_000, i64::from(partition == P));
    }
    offsets.apply(P, &committed(2, 600_900));
    assert_eq!(state(&offsets, Q).fresh_to, 600_900, "caught up");
}

#[test]
fn marks_of_kafka_behind_the_last_record_are_no_backlog() {
    let mut offsets = Offsets::default();
    offsets.assign(P, Some(0));
    offsets.assign(Q, Some(0));
    // Two records and the end of their transaction each.
    for partition in [P, Q] {
        offsets.heartbeat(partition, 1000, 3);
        offsets.apply(partition, &range(2));
        assert_eq!(state(&offsets, partition).fresh_to, 0);
    }
    offsets.reached(P, 3);
    assert_eq!((state(&offsets, P).next, state(&offsets, P).fresh_to), (Some(3), 1000));
    assert_eq!(state(&offsets, Q).fresh_to, 0, "the other one has not come so far");
    assert_eq!(offsets.take_committable(), [(P, 3), (Q, 2)].into());
    offsets.reached(P, 1);
    assert_eq!(state(&offsets, P).next, Some(3), "never back");
}

#[test]
fn dead_letters_count_until_they_are_dealt_with_or_another_epoch_reads_all_rows_again() {
    let dead = |next: i64, epoch, dead, resolved| OffsetRange {
        epoch,
        dead,
        resolved,
        lsn: 10 * next.unsigned_abs(),
        ..range(next)
    };
    let mut offsets = Offsets::default();
    offsets.assign(P, Some(0));
    offsets.apply(P, &dead(1, 1, 2, 0));
    assert_eq!((state(&offsets, P).dead, state(&offsets, P).dead_at), (2, (1, 10)));
    offsets.apply(P, &dead(2, 1, 0, 1));
    assert_eq!((state(&offsets, P).dead, state(&offsets, P).dead_at), (1, (1, 10)));
    offsets.apply(P, &dead(3, 2, 1, 0));
    assert_eq!((state(&offsets, P).dead, state(&offsets, P).dead_at), (1, (2, 30)));

    let earlier = Applied { dead: 4, dead_at: (1, 99), rows: 7, ..Applied::default() };
    offsets.resume(P, &earlier);
    assert_eq!(
        (state(&offsets, P).dead, state(&offsets, P).rows),
        (1, 10),
        "letters of an older epoch are past"
    );
    let mut other = Offsets::default();
    other.assign(P, None);
    other.resume(P, &earlier);
    assert_eq!((state(&other, P).dead, state(&other, P).dead_at), (4, (1, 99)));
}

#[derive(Debug, Clone)]
enum Happens {
    /// A transaction with a record in each of these partitions is committed.
    Commit(Vec<usize>),
    /// Debezium sends what it has not sent of so many transactions.
    Send(usize),
    /// Debezium sends a heartbeat, which the sink sees at once.
    Beat,
    /// The sink applies so many records of a partition, and reaches the marks behind them.
    Apply(usize, usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        prop::collection::vec(0..3usize, 0..3).prop_map(Happens::Commit),
        (1..4usize).prop_map(Happens::Send),
        Just(Happens::Beat),
        (0..3usize, 1..4usize).prop_map(|(partition, count)| Happens::Apply(partition, count)),
    ]
}

/// A source, a Debezium that reads it late, and Kafka: in each partition commit times, absent for a mark.
#[derive(Default)]
struct World {
    now: i64,
    committed: Vec<(i64, Vec<usize>)>,
    sent: usize,
    partitions: [Vec<Option<i64>>; 3],
    applied: [usize; 3],
    beats: Vec<(i64, [usize; 3])>,
}

impl World {
    fn ends(&self) -> [usize; 3] {
        [0, 1, 2].map(|partition| self.partitions[partition].len())
    }

    fn happen(&mut self, event: Happens, offsets: &mut Offsets) {
        self.now += 10;
        match event {
            Happens::Commit(partitions) => self.committed.push((self.now, partitions)),
            Happens::Send(count) => {
                for (at, partitions) in self.committed.iter().skip(self.sent).take(count) {
                    for partition in partitions {
                        self.partitions[*partition].extend([Some(*at), None]);
                    }
                }
                self.sent = (self.sent + count).min(self.committed.len());
            }
            Happens::Beat => {
                self.beats.push((self.now, self.ends()));
                for (partition, end) in self.ends().into_iter().enumerate() {
                    offsets.heartbeat((partition, 0), self.now, i64::try_from(end).unwrap());
                }
            }
            Happens::Apply(partition, count) => {
                for _ in 0..count {
                    let next = self.applied[partition];
                    let Some(record) = self.partitions[partition].get(next) else { break };
                    self.applied[partition] = next + 1;
                    let position = i64::try_from(next + 1).unwrap();
                    match record {
                        Some(at) => offsets.apply((partition, 0), &committed(position, *at)),
                        None => offsets.reached((partition, 0), position),
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_claimed_that_is_known_to_be_missing(events in prop::collection::vec(happens(), 1..80)) {
        let mut world = World::default();
        let mut offsets = Offsets::default();
        for partition in 0..3 {
            offsets.assign((partition, 0), Some(0));
        }
        for event in events {
            world.happen(event, &mut offsets);
            let all_applied = world.applied == world.ends();
            let sent_since = world.beats.last().is_some_and(|(_, ends)| *ends != world.ends());
            let unsent = world.committed[world.sent..].iter().map(|(at, _)| *at).next();
            for partition in 0..3 {
                let fresh_to = state(&offsets, (partition, 0)).fresh_to;
                let reached = world.beats.iter().rev().find(|(_, ends)| ends[partition] <= world.applied[partition]);
                prop_assert!(fresh_to <= reached.map_or(0, |(at, _)| *at), "beyond the heartbeats that are reached");
                if let (true, true, Some(unsent)) = (all_applied, sent_since, unsent) {
                    prop_assert!(fresh_to < unsent, "a record behind the heartbeat says that {unsent} was still to come");
                }
                if all_applied && unsent.is_none() && !sent_since {
                    prop_assert_eq!(fresh_to, world.beats.last().map_or(0, |(at, _)| *at), "all is there");
                }
            }
        }
    }
}
