//! What can happen, one line each.

use std::fmt;

use proptest::prelude::*;

/// Replicas of the sink.
pub(super) const REPLICAS: usize = 2;

/// The long value of a row: PostgreSQL keeps a large one out of line, and sends it only where it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Keep,
    Null,
    Small,
    Large,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// Inserts the row, or updates all its values; the long one as said.
    Put(Value),
    /// Updates the key.
    Move(u8),
    Delete,
}

/// When a commit is seen, whose record is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    AtOnce,
    /// `commit_delay`: it is flushed with others.
    Flush,
    /// A synchronous standby does not answer.
    Standby,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ddl {
    /// With a constant default, or without one.
    Add(bool),
    Drop(u8),
    Rename(u8),
    Swap,
    /// `ALTER TYPE text USING`: rows are written anew without an event.
    Retype,
}

/// What becomes of a write to ClickHouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    None,
    /// It is not carried out.
    Refused,
    /// It is carried out, and no answer comes.
    Lost,
    /// No answer comes, and it is carried out later.
    Late,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// Replica 0 reads the table without a fault.
    Load,
    Write {
        session: u8,
        key: u8,
        what: What,
    },
    Commit {
        session: u8,
        how: How,
    },
    Show {
        session: u8,
    },
    RollBack {
        session: u8,
    },
    Truncate {
        session: u8,
    },
    Alter {
        session: u8,
        ddl: Ddl,
    },
    /// `VACUUM FULL`: the same rows on other pages.
    Vacuum,
    /// Debezium sends so many events.
    Stream(u8),
    /// Debezium starts again so many events before, and sends them twice.
    Resend(u8),
    /// The slot is lost: what was not sent is gone, and a new epoch begins.
    SlotLost,
    /// Kafka deletes the oldest records of a partition.
    Retain {
        partition: u8,
        records: u8,
    },
    AddPartition,
    /// ClickHouse merges.
    Merge,
    /// Late inserts are carried out.
    Land,
    /// A replica is given a partition, whoever else still believes to have it.
    Assign {
        replica: u8,
        partition: u8,
    },
    Revoke {
        replica: u8,
        partition: u8,
    },
    Poll {
        replica: u8,
        records: u8,
    },
    /// A replica begins to write what it has.
    Send {
        replica: u8,
    },
    /// It goes on with that.
    GoOn {
        replica: u8,
        fault: Fault,
    },
    /// Progress and states are written; a fault keeps one of the two away.
    Report {
        replica: u8,
        fault: Fault,
    },
    /// It hears what the operator says.
    Hear {
        replica: u8,
    },
    Crash {
        replica: u8,
    },
    /// It looks for tables to read, and says how far it is.
    Claim {
        replica: u8,
    },
    /// It goes on with its read.
    Read {
        replica: u8,
        pick: u8,
        fault: Fault,
    },
    /// The operator looks at everything.
    Operator,
    /// Somebody asks for a read.
    Ask,
    Wait {
        seconds: u8,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => write!(f, "replica 0 reads the table"),
            Self::Write { session, key, what: What::Put(value) } => {
                write!(f, "session {session} puts key {key}, its long value {value:?}")
            }
            Self::Write { session, key, what: What::Move(to) } => {
                write!(f, "session {session} moves key {key} to {to}")
            }
            Self::Write { session, key, what: What::Delete } => {
                write!(f, "session {session} deletes key {key}")
            }
            Self::Commit { session, how } => write!(f, "session {session} commits, seen: {how:?}"),
            Self::Show { session } => write!(f, "the commit of session {session} is seen"),
            Self::RollBack { session } => write!(f, "session {session} rolls back"),
            Self::Truncate { session } => write!(f, "session {session} truncates"),
            Self::Alter { session, ddl } => write!(f, "session {session} alters the table: {ddl:?}"),
            Self::Vacuum => write!(f, "the table is vacuumed, and its rows are moved"),
            Self::Stream(events) => write!(f, "debezium sends {events} events"),
            Self::Resend(events) => write!(f, "debezium starts again, {events} events before"),
            Self::SlotLost => write!(f, "the slot is lost: another epoch"),
            Self::Retain { partition, records } => {
                write!(f, "kafka deletes {records} records of partition {partition}")
            }
            Self::AddPartition => write!(f, "kafka has one partition more"),
            Self::Merge => write!(f, "clickhouse merges"),
            Self::Land => write!(f, "late inserts arrive"),
            Self::Assign { replica, partition } => {
                write!(f, "replica {replica} is given partition {partition}")
            }
            Self::Revoke { replica, partition } => {
                write!(f, "replica {replica} gives partition {partition} up")
            }
            Self::Poll { replica, records } => write!(f, "replica {replica} takes up to {records} records"),
            Self::Send { replica } => write!(f, "replica {replica} begins a write"),
            Self::GoOn { replica, fault } => write!(f, "replica {replica} goes on writing, fault: {fault:?}"),
            Self::Report { replica, fault } => {
                write!(f, "replica {replica} writes progress and states, fault: {fault:?}")
            }
            Self::Hear { replica } => write!(f, "replica {replica} looks at the ledger"),
            Self::Crash { replica } => write!(f, "replica {replica} is killed and starts again"),
            Self::Claim { replica } => write!(f, "replica {replica} looks for reads"),
            Self::Read { replica, pick, fault } => {
                write!(f, "replica {replica} goes on reading ({pick}), fault: {fault:?}")
            }
            Self::Ask => write!(f, "a read is asked for"),
            Self::Operator => write!(f, "the operator looks"),
            Self::Wait { seconds } => write!(f, "{seconds} s pass"),
        }
    }
}

/// A history, one line an operation.
pub(super) struct Lines<'a>(pub(super) &'a [Op]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, op)| writeln!(f, "{at:>4}  {op}"))
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![4 => Just(Value::Keep), 1 => Just(Value::Null), 2 => Just(Value::Small), 3 => Just(Value::Large)]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => value().prop_map(What::Put),
        1 => (0_u8..4).prop_map(What::Move),
        2 => Just(What::Delete),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        9 => Just(Fault::None), 1 => Just(Fault::Refused), 1 => Just(Fault::Lost), 1 => Just(Fault::Late)
    ]
}

fn ddl() -> impl Strategy<Value = Ddl> {
    prop_oneof![
        3 => any::<bool>().prop_map(Ddl::Add),
        2 => (0_u8..4).prop_map(Ddl::Drop),
        1 => (0_u8..4).prop_map(Ddl::Rename),
        1 => Just(Ddl::Swap),
        1 => Just(Ddl::Retype),
    ]
}

fn source() -> impl Strategy<Value = Op> {
    let how = prop_oneof![3 => Just(How::AtOnce), 2 => Just(How::Flush), 1 => Just(How::Standby)];
    prop_oneof![
        15 => (0_u8..3, 0_u8..4, what()).prop_map(|(session, key, what)| Op::Write { session, key, what }),
        10 => (0_u8..3, how).prop_map(|(session, how)| Op::Commit { session, how }),
        5 => (0_u8..3).prop_map(|session| Op::Show { session }),
        1 => (0_u8..3).prop_map(|session| Op::RollBack { session }),
        1 => (0_u8..3).prop_map(|session| Op::Truncate { session }),
        3 => Just(Op::Vacuum),
        2 => (0_u8..3, ddl()).prop_map(|(session, ddl)| Op::Alter { session, ddl }),
    ]
}

fn between() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1_u8..6).prop_map(Op::Stream),
        2 => (1_u8..6).prop_map(Op::Resend),
        1 => Just(Op::SlotLost),
        2 => (0_u8..3, 1_u8..6).prop_map(|(partition, records)| Op::Retain { partition, records }),
        1 => Just(Op::AddPartition),
        1 => Just(Op::Merge),
        2 => Just(Op::Land),
        4 => Just(Op::Operator),
        2 => Just(Op::Ask),
        2 => (1_u8..20).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

fn sink() -> impl Strategy<Value = Op> {
    // One replica does most, so that it comes to an end with something.
    let replica = || prop_oneof![3 => Just(0_u8), 1 => Just(1_u8)];
    prop_oneof![
        2 => (replica(), 0_u8..3).prop_map(|(replica, partition)| Op::Assign { replica, partition }),
        1 => (replica(), 0_u8..3).prop_map(|(replica, partition)| Op::Revoke { replica, partition }),
        7 => (replica(), 1_u8..6).prop_map(|(replica, records)| Op::Poll { replica, records }),
        4 => replica().prop_map(|replica| Op::Send { replica }),
        9 => (replica(), fault()).prop_map(|(replica, fault)| Op::GoOn { replica, fault }),
        3 => (replica(), fault()).prop_map(|(replica, fault)| Op::Report { replica, fault }),
        4 => replica().prop_map(|replica| Op::Hear { replica }),
        2 => replica().prop_map(|replica| Op::Crash { replica }),
        1 => Just(Op::Load),
        4 => replica().prop_map(|replica| Op::Claim { replica }),
        12 => (replica(), any::<u8>(), fault()).prop_map(|(replica, pick, fault)| Op::Read { replica, pick, fault }),
    ]
}

/// Histories of up to `longest` operations.
pub(super) fn histories(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![2 => source(), 1 => between(), 3 => sink()];
    // Else the first read, at the end, would mend what was lost before.
    let load = prop_oneof![2 => Just(true), 1 => Just(false)];
    (load, prop::collection::vec(op, 4..longest))
        .prop_map(|(load, ops)| load.then_some(Op::Load).into_iter().chain(ops).collect())
}
