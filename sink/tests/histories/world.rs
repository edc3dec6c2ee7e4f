//! A history is carried out, then everything comes to rest, and `_current` has to be the table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tidemark_crds::layout::ColumnLayout;

use super::clickhouse::ClickHouse;
use super::mutant::Mutant;
use super::op::{Fault, Op, REPLICAS};
use super::operator::Operator;
use super::replica::{Around, Replica};
use super::source::{Row, Source, value_of};
use super::stream::Stream;

/// Rounds after which everything has to be at rest.
const ROUNDS: usize = 60;

/// What a history did.
#[derive(Debug, Default, Clone)]
pub(super) struct Figures {
    pub(super) operations: u64,
    pub(super) rows: u64,
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(super) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.rows += other.rows;
        for (fault, count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    fn count(&mut self, op: Op) {
        self.operations += 1;
        let name = match op {
            Op::GoOn { fault, .. } | Op::Report { fault, .. } | Op::Read { fault, .. } => match fault {
                Fault::None => return,
                Fault::Refused => "refused",
                Fault::Lost => "answer lost",
                Fault::Late => "late",
            },
            Op::Resend(_) => "debezium started again",
            Op::SlotLost => "slot lost",
            Op::Retain { .. } => "records deleted",
            Op::AddPartition => "partition added",
            Op::Crash { .. } => "sink killed",
            Op::Assign { .. } | Op::Revoke { .. } => "partition moved",
            Op::Alter { .. } => "table altered",
            Op::Vacuum => "rows moved",
            Op::Truncate { .. } => "table truncated",
            Op::Commit { how: super::op::How::Flush | super::op::How::Standby, .. } => "commit seen late",
            _ => return,
        };
        *self.faults.entry(name).or_default() += 1;
    }
}

pub(super) struct World {
    around: Around,
    operator: Operator,
    replicas: Vec<Replica>,
}

/// Carries a history out; an error says what is wrong, and after which operation.
pub(super) fn run(history: &[Op], mutant: Option<Mutant>, figures: &mut Figures) -> Result<(), String> {
    let mut world = World::new(mutant);
    for (at, op) in history.iter().enumerate() {
        figures.count(*op);
        world.apply(*op);
        world.check_shown().map_err(|wrong| format!("after {at}: {wrong}"))?;
    }
    world.rest()?;
    figures.rows += world.around.source.rows().count() as u64;
    Ok(())
}

impl World {
    fn new(mutant: Option<Mutant>) -> Self {
        let mut around = Around {
            source: Source::new(),
            stream: Stream::new(mutant),
            clickhouse: ClickHouse::new(mutant),
            now_ms: 0,
            start: Instant::now(),
            mutant,
            processes: 0,
        };
        let mut replicas: Vec<Replica> = (0..REPLICAS).map(|_| Replica::start(&mut around)).collect();
        let mut operator = Operator::default();
        operator.look(&mut around);
        for partition in 0..2 {
            replicas[0].assign(partition);
        }
        for replica in &mut replicas {
            replica.hear(&around);
        }
        Self { around, operator, replicas }
    }

    fn apply(&mut self, op: Op) {
        let around = &mut self.around;
        around.now_ms += 1;
        let place = usize::from;
        match op {
            Op::Load => {
                self.operator.look(around);
                self.load();
            }
            Op::Ask => self.operator.ask_now(&mut around.clickhouse),
            Op::Write { session, key, what } => around.source.write(place(session), key.into(), what),
            Op::Commit { session, how } => around.source.commit(place(session), how),
            Op::Show { session } => around.source.show(place(session)),
            Op::RollBack { session } => around.source.roll_back(place(session)),
            Op::Truncate { session } => around.source.truncate(place(session)),
            Op::Alter { session, ddl } => around.source.alter(place(session), ddl),
            Op::Vacuum => around.source.vacuum(),
            Op::Stream(count) => around.stream.send(&around.source.log, count.into()),
            Op::Resend(count) => around.stream.resend(count.into()),
            Op::SlotLost => {
                // A slot is made once every transaction has ended that ran when it was asked for.
                if around.source.is_quiet() {
                    around.stream.begin_epoch(&around.source.log);
                    around.clickhouse.epoch = around.stream.epoch;
                    around.clickhouse.stamp += 1;
                }
            }
            Op::Retain { partition, records } => {
                // Retention takes longer than anything that is done once a second.
                self.wait(6_000);
                self.look();
                self.around.stream.retain(place(partition), records.into());
            }
            Op::AddPartition => around.stream.add_partition(),
            Op::Merge => around.clickhouse.merge(),
            Op::Land => around.clickhouse.land(),
            Op::Operator => self.operator.look(around),
            Op::Wait { seconds } => self.wait(i64::from(seconds) * 1000),
            _ => self.of_replica(op),
        }
    }

    fn wait(&mut self, ms: i64) {
        self.around.now_ms += ms;
        self.around.source.seconds_pass();
    }

    /// What each replica does once a second.
    fn look(&mut self) {
        for replica in &mut self.replicas {
            replica.reader.end_barrier(&mut self.around);
            replica.reader.look(replica.id, &mut self.around);
        }
        for replica in &mut self.replicas {
            replica.hear(&self.around);
        }
    }

    fn of_replica(&mut self, op: Op) {
        let Self { around, replicas, .. } = self;
        let there = |partition: u8| usize::from(partition) < around.stream.partitions.len();
        match op {
            Op::Assign { replica, partition } if there(partition) => {
                replicas[usize::from(replica)].assign(partition.into());
            }
            Op::Revoke { replica, partition } => replicas[usize::from(replica)].revoke(partition.into()),
            Op::Poll { replica, records } => replicas[usize::from(replica)].poll(records.into(), around),
            Op::Send { replica } => replicas[usize::from(replica)].send(),
            Op::GoOn { replica, fault } => replicas[usize::from(replica)].go_on(fault, around),
            Op::Report { replica, fault } => replicas[usize::from(replica)].report(fault, around),
            Op::Hear { replica } => replicas[usize::from(replica)].hear(around),
            Op::Crash { replica } => self.crash(usize::from(replica)),
            Op::Claim { replica } => {
                let replica = &mut replicas[usize::from(replica)];
                replica.reader.look(replica.id, around);
            }
            Op::Read { replica, pick, fault } => {
                replicas[usize::from(replica)].reader.go_on(pick, fault, around);
            }
            _ => {}
        }
    }

    /// Another process takes the place of one, and its partitions.
    fn crash(&mut self, place: usize) {
        let partitions = self.replicas[place].partitions();
        let mut fresh = Replica::start(&mut self.around);
        for partition in partitions {
            fresh.assign(partition);
        }
        self.replicas[place] = fresh;
    }

    /// No row is shown that never was.
    fn check_shown(&mut self) -> Result<(), String> {
        let Around { source, clickhouse, .. } = &mut self.around;
        if !std::mem::take(&mut clickhouse.changed) {
            return Ok(());
        }
        let Some(layout) = clickhouse.layouts.last() else { return Ok(()) };
        // Until the operator has seen other columns an event may look like one of before, and the table is read again
        // then; and while it is, readers see columns that are not filled yet.
        let known = |attnum: i16| layout.columns.iter().any(|column| column.attnum == attnum);
        let whole = Operator::is_read_again(clickhouse)
            && !source.is_altered()
            && source.catalogue().iter().all(|column| known(column.attnum));
        for (key, row) in clickhouse.current() {
            let same = |image: &Row, column: &ColumnLayout| {
                row.get(&column.attnum) == Some(image.get(&column.attnum).unwrap_or(&column.missing))
            };
            let (images, unread) = (source.images(key), clickhouse.unread(key));
            // Where an event lacks the long value it is that of a read, which may have seen more than the event.
            let (long, others): (Vec<_>, Vec<_>) = layout
                .columns
                .iter()
                .filter(|column| !unread.contains(&column.attnum))
                .partition(|column| column.attnum == 3);
            let was = |columns: &[&ColumnLayout]| {
                images.iter().any(|image| columns.iter().all(|column| !whole || same(image, column)))
            };
            if !was(&others) || !was(&long) {
                return Err(format!("a row is shown that never was: {}", shown(key, &row)));
            }
        }
        Ok(())
    }

    /// Ends what is open, lets everything go on without a fault, and compares.
    fn rest(&mut self) -> Result<(), String> {
        self.around.source.rest();
        self.around.clickhouse.land();
        // The others are gone for good.
        self.replicas.truncate(1);
        for partition in 0..self.around.stream.partitions.len() {
            let partition = i32::try_from(partition).unwrap();
            if !self.replicas[0].partitions().contains(&partition) {
                self.replicas[0].assign(partition);
            }
        }
        for _ in 0..ROUNDS {
            self.round();
            self.check_shown()?;
            if self.is_at_rest() {
                return self.compare();
            }
        }
        Err(format!("it does not come to rest: {}", self.why()))
    }

    /// Replica 0 reads the table, if it was asked for.
    fn load(&mut self) {
        let (around, replica) = (&mut self.around, &mut self.replicas[0]);
        replica.hear(around);
        replica.reader.look(replica.id, around);
        for _ in 0..40 {
            if !replica.reader.is_busy() {
                break;
            }
            replica.reader.go_on(0, Fault::None, around);
        }
        replica.reader.look(replica.id, around);
        replica.hear(around);
    }

    fn round(&mut self) {
        self.wait(6_000);
        let around = &mut self.around;
        around.stream.send(&around.source.log, usize::MAX / 2);
        self.operator.look(around);
        let replica = &mut self.replicas[0];
        replica.hear(around);
        replica.poll(usize::MAX, around);
        for _ in 0..20 {
            replica.send();
            if replica.flight.is_none() {
                break;
            }
            replica.go_on(Fault::None, around);
        }
        self.load();
        self.replicas[0].report(Fault::None, &mut self.around);
    }

    fn is_at_rest(&self) -> bool {
        let around = &self.around;
        around.stream.is_drained(&around.source.log)
            && self.replicas[0].is_at_rest(around)
            && Operator::is_read_again(&around.clickhouse)
            && !Operator::reason(around)
    }

    fn why(&self) -> String {
        let (around, replica) = (&self.around, &self.replicas[0]);
        format!(
            "sent {}, applied {}, read {:?} of {:?}, {:?}",
            around.stream.is_drained(&around.source.log),
            replica.is_at_rest(around),
            around.clickhouse.read,
            around.clickhouse.request,
            replica.table.state(),
        )
    }

    fn compare(&self) -> Result<(), String> {
        let catalogue = self.around.source.catalogue();
        let shown_rows = self.around.clickhouse.current();
        let rows: BTreeMap<i64, Row> = self.around.source.rows().map(|(key, _, row)| (key, row)).collect();
        if shown_rows == rows {
            return Ok(());
        }
        let keys: BTreeSet<&i64> = shown_rows.keys().chain(rows.keys()).collect();
        let lines = keys.into_iter().filter(|key| shown_rows.get(key) != rows.get(key)).map(|key| {
            let side =
                |rows: &BTreeMap<i64, Row>| rows.get(key).map_or("no row".to_owned(), |row| shown(*key, row));
            format!("the table has {}, and _current {}", side(&rows), side(&shown_rows))
        });
        let names: Vec<String> =
            catalogue.iter().map(|column| format!("{} {}", column.attnum, column.name)).collect();
        debug_assert!(
            catalogue
                .iter()
                .all(|column| rows.values().all(|row| value_of(row, column) == row[&column.attnum]))
        );
        Err(format!("columns {}: {}", names.join(", "), lines.collect::<Vec<_>>().join("; ")))
    }
}

fn shown(key: i64, row: &Row) -> String {
    let values =
        row.iter().map(|(attnum, value)| format!("{attnum}: {}", value.as_deref().unwrap_or("NULL")));
    format!("{key} ({})", values.collect::<Vec<_>>().join(", "))
}
