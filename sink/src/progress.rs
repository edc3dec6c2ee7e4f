//! Rows of the progress table: how far each partition has come. I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidemark_crds::ledger::PROGRESS_TABLE;
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, Error, number};

use crate::offsets::Applied;

/// Deadline of one write: the next one says the same and more.
const DEADLINE: Duration = Duration::from_secs(5);

/// What an earlier owner of a partition recorded.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Recorded {
    /// State table.
    pub table: String,
    /// Partition of its topic.
    pub partition: i32,
    /// Offset up to which everything is applied, exclusive.
    #[serde(deserialize_with = "number::deserialize")]
    pub next_offset: i64,
    /// Rows applied.
    #[serde(deserialize_with = "number::deserialize")]
    pub rows: u64,
    /// Dead letters.
    #[serde(deserialize_with = "number::deserialize")]
    pub dead_letters: u64,
    /// Epoch of the last dead letter.
    pub dead_epoch: u16,
    /// Log position at or behind it.
    #[serde(deserialize_with = "number::deserialize")]
    pub dead_lsn: u64,
    /// Greatest log position applied.
    #[serde(deserialize_with = "number::deserialize")]
    pub applied_lsn: u64,
    /// Epoch of that position: another epoch's may be of another server's log.
    pub applied_epoch: u16,
    /// Newest commit time applied, milliseconds since 1970-01-01; 0: none.
    #[serde(deserialize_with = "number::deserialize")]
    pub last_change_ms: i64,
    /// Instant up to which everything was applied, milliseconds since 1970-01-01.
    #[serde(deserialize_with = "number::deserialize")]
    pub fresh_to_ms: i64,
    /// Greatest of Kafka's times of the records that were applied, milliseconds since 1970-01-01; 0: it is not known.
    #[serde(deserialize_with = "number::deserialize")]
    pub kafka_time_ms: i64,
}

impl Recorded {
    /// The counters, for a new owner to go on from; where it reads is decided elsewhere.
    pub fn applied(&self) -> Applied {
        Applied {
            next: None,
            rows: self.rows,
            dead: self.dead_letters,
            dead_at: (self.dead_epoch, self.dead_lsn),
            at: (self.applied_epoch, self.applied_lsn),
            last_change_at: Some(self.last_change_ms).filter(|ms| *ms != 0),
            fresh_to: self.fresh_to_ms,
            kafka_time: self.kafka_time_ms,
        }
    }
}

/// The versions of progress rows: they count up whatever the server's clock does.
///
/// A beat is milliseconds since 1970 at the server, or one more than the last where that is greater.
#[derive(Debug, Clone, Copy)]
struct Beats {
    /// Greatest beat that is known to be there.
    last: u64,
    /// The server's clock, milliseconds, and when it was read.
    clock: Option<(u64, Instant)>,
}

impl Beats {
    /// Takes in what the server says: its clock, and the greatest beat that it has.
    fn hear(&mut self, clock_ms: u64, greatest: u64, now: Instant) {
        self.last = self.last.max(greatest);
        self.clock = Some((clock_ms, now));
    }

    /// The next one.
    fn next(&mut self, now: Instant) -> u64 {
        let clock = self.clock.map_or(0, |(ms, read)| {
            ms + u64::try_from(now.saturating_duration_since(read).as_millis()).unwrap_or(0)
        });
        self.last = clock.max(self.last + 1);
        self.last
    }
}

/// Looks in a row that find less than was written, until it counts: a server's replica may be late.
const LOOKS: u32 = 5;

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// It is there.
    Done,
    /// Less is there than was written before: nothing was written over it, and the next write looks again.
    Behind,
    /// So it stays: the tables were set back, as by a backup, and what this process takes for applied is not. Says where.
    SetBack(String),
    /// The server was started anew since it was asked last, and may have come back with less: what was applied since the last
    /// write is not known to be there, and nothing was written.
    Anew,
}

/// Seconds by which clocks and answers may differ.
const SLACK: u64 = 2;

/// How long the servers that answer have run, each by its name.
#[derive(Debug, Default)]
struct Servers(BTreeMap<String, (u64, Instant)>);

impl Servers {
    /// Takes in how long one has run, seconds; whether it was started anew since it was heard last.
    fn hear(&mut self, name: &str, uptime: u64, now: Instant) -> bool {
        let before = self.0.insert(name.to_owned(), (uptime, now));
        before.is_some_and(|(before, heard)| {
            uptime + SLACK < before + now.saturating_duration_since(heard).as_secs()
        })
    }
}

/// What was written last, to be found again before it is written over.
#[derive(Debug, Default)]
struct Written {
    /// Table and partition → offset up to which everything is applied, exclusive.
    next: BTreeMap<(String, i32), i64>,
    /// Looks in a row that found less.
    looks: u32,
    servers: Servers,
}

impl Written {
    /// Takes a look in: whether it keeps from writing.
    fn looked(&mut self, there: &[There], now: Instant) -> Option<Wrote> {
        let server = there.first().map(|row| (row.host.as_str(), u64::from(row.uptime)));
        if server.is_some_and(|(host, uptime)| self.servers.hear(host, uptime, now)) {
            return Some(Wrote::Anew);
        }
        self.missed(there)
    }

    /// Compares with what is there: where it is less, and whether that counts.
    fn missed(&mut self, there: &[There]) -> Option<Wrote> {
        let found = |place: &(String, i32)| {
            let row = there.iter().find(|row| (&row.table, row.partition) == (&place.0, place.1));
            row.map_or(0, |row| row.next_offset)
        };
        let Some((place, next)) = self.next.iter().find(|&(place, next)| found(place) < *next) else {
            self.looks = 0;
            return None;
        };
        self.looks += 1;
        if self.looks < LOOKS {
            return Some(Wrote::Behind);
        }
        Some(Wrote::SetBack(format!(
            "{} partition {}: everything before offset {next} was applied, and its table is at {}",
            place.0,
            place.1,
            found(place)
        )))
    }
}

/// How far a partition is by its row.
#[derive(Debug, Deserialize)]
struct There {
    host: String,
    uptime: u32,
    table: String,
    partition: i32,
    #[serde(deserialize_with = "number::deserialize")]
    next_offset: i64,
}

/// The progress table of one pipeline, as one session writes it.
#[derive(Debug, Clone)]
pub struct Progress {
    clickhouse: ClickHouse,
    pipeline: String,
    replica: String,
    beats: Arc<Mutex<Beats>>,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Deserialize)]
struct ServerClock {
    host: String,
    uptime: u32,
    #[serde(deserialize_with = "number::deserialize")]
    now_ms: u64,
    #[serde(deserialize_with = "number::deserialize")]
    greatest: u64,
}

impl Progress {
    /// Writes through a client whose default database is the target, in the name of a replica.
    pub fn new(clickhouse: &ClickHouse, pipeline: impl Into<String>, replica: impl Into<String>) -> Self {
        Self {
            clickhouse: clickhouse.with_deadline(DEADLINE),
            pipeline: pipeline.into(),
            replica: replica.into(),
            beats: Arc::new(Mutex::new(Beats { last: 0, clock: None })),
            written: Arc::default(),
        }
    }

    /// Returns what is recorded of all partitions; to be asked before the first write.
    pub async fn recorded(&self) -> Result<Vec<Recorded>, Error> {
        let (table, pipeline) = (quote::ident(PROGRESS_TABLE), quote::literal(&self.pipeline));
        let clock = format!(
            "SELECT hostName() AS host, uptime() AS uptime, toUnixTimestamp64Milli(now64(3)) AS now_ms, \
             max(beat) AS greatest FROM {table} \
             WHERE pipeline = {pipeline}"
        );
        if let Some(found) = self.clickhouse.query::<ServerClock>(&clock).await?.into_iter().next() {
            let now = Instant::now();
            self.beats().hear(found.now_ms, found.greatest, now);
            // What is read below is of this start of the server, or of a later one: then the first write begins anew.
            self.written().servers.hear(&found.host, u64::from(found.uptime), now);
        }
        let sql = format!(
            "SELECT table, partition, next_offset, rows, dead_letters, dead_epoch, dead_lsn, applied_lsn, applied_epoch, \
             ifNull(toUnixTimestamp64Milli(last_change_at), 0) AS last_change_ms, toUnixTimestamp64Milli(fresh_to) AS fresh_to_ms, \
             toUnixTimestamp64Milli(kafka_time) AS kafka_time_ms \
             FROM {table} FINAL WHERE pipeline = {pipeline}"
        );
        self.clickhouse.query(&sql).await
    }

    /// Writes one row a partition, for all that are this replica's. What it wrote last has to be there still: else it
    /// would say of tables that came back from a backup that they have what was applied since.
    pub async fn write(&self, rows: &[(String, i32, Applied)]) -> Result<Wrote, Error> {
        let is_ours = |(table, partition): &(String, i32)| {
            rows.iter().any(|(ours, number, _)| (ours, number) == (table, partition))
        };
        self.written().next.retain(|place, _| is_ours(place));
        if rows.is_empty() {
            return Ok(Wrote::Done);
        }
        let sql = format!(
            "SELECT hostName() AS host, uptime() AS uptime, table, partition, next_offset FROM {} FINAL WHERE pipeline = {}",
            quote::ident(PROGRESS_TABLE),
            quote::literal(&self.pipeline)
        );
        let settings = [("select_sequential_consistency", "1")];
        let there: Vec<There> = self.clickhouse.query_with_settings(&sql, &settings).await?;
        if let Some(missed) = self.written().looked(&there, Instant::now()) {
            return Ok(missed);
        }
        let beat = self.beats().next(Instant::now());
        let sql = insert(&self.pipeline, &self.replica, beat, rows);
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await?;
        let next = |(table, partition, applied): &(String, i32, Applied)| {
            ((table.clone(), *partition), applied.next.unwrap_or(0))
        };
        self.written().next.extend(rows.iter().map(next));
        Ok(Wrote::Done)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beats(&self) -> std::sync::MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(pipeline: &str, replica: &str, beat: u64, rows: &[(String, i32, Applied)]) -> String {
    let mut sql = format!(
        "INSERT INTO {} (pipeline, table, partition, replica, rows, dead_letters, dead_epoch, dead_lsn, next_offset, \
         applied_lsn, applied_epoch, last_change_at, fresh_to, kafka_time, applied_at, beat) VALUES ",
        quote::ident(PROGRESS_TABLE)
    );
    let (pipeline, replica) = (quote::literal(pipeline), quote::literal(replica));
    for (place, (table, partition, applied)) in rows.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        let last_change_at = applied
            .last_change_at
            .map_or_else(|| "NULL".to_owned(), |ms| format!("fromUnixTimestamp64Milli(toInt64({ms}))"));
        let _ = write!(
            sql,
            "{separator}({pipeline}, {}, {partition}, {replica}, {}, {}, {}, {}, {}, {}, {}, {last_change_at}, \
             fromUnixTimestamp64Milli(toInt64({})), fromUnixTimestamp64Milli(toInt64({})), now64(3), {beat})",
            quote::literal(table),
            applied.rows,
            applied.dead,
            applied.dead_at.0,
            applied.dead_at.1,
            applied.next.unwrap_or(0),
            applied.at.1,
            applied.at.0,
            applied.fresh_to,
            applied.kafka_time,
        );
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_count_up_while_the_servers_clock_goes_on_or_back() {
        let start = Instant::now();
        let mut beats = Beats { last: 0, clock: None };
        beats.hear(1_000_000, 0, start);
        assert_eq!(beats.next(start), 1_000_000);
        assert_eq!(beats.next(start), 1_000_001, "twice within a millisecond");
        assert_eq!(beats.next(start + Duration::from_secs(2)), 1_002_000);
        // Another replica starts after the clock was set back by an hour: what is there wins over the clock.
        let mut other = Beats { last: 0, clock: None };
        other.hear(400_000, 1_002_000, start);
        assert_eq!(other.next(start), 1_002_001);
        assert_eq!(other.next(start + Duration::from_secs(1)), 1_002_002);
        // And on until it has caught up.
        assert_eq!(other.next(start + Duration::from_secs(900)), 1_300_000);
    }

    #[test]
    fn a_table_that_was_set_back_is_told_from_a_replica_that_is_late() {
        let there = |next_offset| {
            vec![There { host: "ch".into(), uptime: 9, table: "orders".into(), partition: 1, next_offset }]
        };
        let place = ("orders".to_owned(), 1);
        let mut written = Written { next: [(place.clone(), 70)].into(), ..Written::default() };
        assert_eq!(written.missed(&there(70)), None);
        // Late, and then there.
        for _ in 1..LOOKS {
            assert_eq!(written.missed(&there(40)), Some(Wrote::Behind));
        }
        assert_eq!(written.missed(&there(71)), None);
        // Not there, and so it stays; a row that is gone is at 0.
        for _ in 1..LOOKS {
            assert_eq!(written.missed(&[]), Some(Wrote::Behind));
        }
        let said = "orders partition 1: everything before offset 70 was applied, and its table is at 40";
        assert_eq!(written.missed(&there(40)), Some(Wrote::SetBack(said.to_owned())));
    }

    #[test]
    fn a_server_that_was_started_anew_is_told_by_how_long_it_has_run() {
        let begin = Instant::now();
        let later = |seconds| begin + Duration::from_secs(seconds);
        let mut servers = Servers::default();
        assert!(!servers.hear("a", 0, later(0)) && !servers.hear("b", 500, later(1)));
        assert!(!servers.hear("a", 99, later(100)) && !servers.hear("b", 599, later(100)));
        // Anew, though it has run for longer than when it was first heard.
        assert!(servers.hear("a", 90, later(200)) && !servers.hear("a", 92, later(202)));
        assert!(!servers.hear("b", 701, later(202)), "another server of the same address");
        assert!(servers.hear("b", 3, later(300)));
    }

    #[test]
    fn names_are_quoted_and_a_change_that_never_was_is_null() {
        let applied = Applied {
            next: Some(5),
            dead: 2,
            dead_at: (3, 70),
            at: (4, 90),
            fresh_to: 9,
            kafka_time: 8,
            ..Applied::default()
        };
        let sql = insert("a/b", "it's", 11, &[("orders".to_owned(), 0, applied)]);
        assert!(
            sql.ends_with(
                r"('a/b', 'orders', 0, 'it\'s', 0, 2, 3, 70, 5, 90, 4, NULL, fromUnixTimestamp64Milli(toInt64(9)), fromUnixTimestamp64Milli(toInt64(8)), now64(3), 11)"
            ),
            "{sql}"
        );
    }
}
