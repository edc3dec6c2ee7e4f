//! A healthy table beside the cases of a pipeline: written and read all the time, it must never go back, never show
//! half a change, and never be late. I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use super::outcome::{Line, Outcome};
use super::table::Comparer;
use crate::oracle::Endpoint;
use crate::stack::wait_until;

/// The table, also in ClickHouse.
pub const TABLE: &str = "canary";
/// Makes it.
pub const DDL: &str =
    "CREATE TABLE public.canary (id int PRIMARY KEY, n bigint NOT NULL, note text NOT NULL);
     INSERT INTO public.canary SELECT g, 0, 'n=0' FROM generate_series(0, 9) g";
/// Rows that are written in turn.
const ROWS: i64 = 10;
/// Each row is an insert of its own at ClickHouse, and a dozen pipelines have a canary each.
const WRITE: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(600);
/// How late a row may be while connectors are told of other tables and everything runs on one small machine.
const LATE: Duration = Duration::from_secs(60);

/// What was seen of the canary.
#[derive(Debug, Default)]
pub struct Canary {
    over: AtomicBool,
    /// Numbers that were committed and not seen yet, with their moments.
    unseen: Mutex<VecDeque<(i64, Instant)>>,
    latest: Mutex<Duration>,
    faults: Mutex<Vec<String>>,
    /// Lateness is no fault while a program is stopped on purpose.
    may_be_late: bool,
    /// Nor is a look that fails while ClickHouse is.
    may_fail: bool,
    looks: AtomicU64,
}

impl Canary {
    /// A canary that nobody has looked at.
    pub fn new(may_be_late: bool) -> Self {
        Self { may_be_late, ..Self::default() }
    }

    /// One beside which any server may be down.
    pub fn amid_outages() -> Self {
        Self { may_be_late: true, may_fail: true, ..Self::default() }
    }

    /// How many looks were answered.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Writes until it is over, on from the newest number that is there.
    pub async fn write(&self, client: &Client) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(WRITE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let newest = client.query_one("SELECT max(n) FROM public.canary", &[]).await;
        let mut number: i64 = newest.context("reading the canary")?.get(0);
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let row = number % ROWS;
            let update =
                format!("UPDATE public.canary SET n = {number}, note = 'n={number}' WHERE id = {row}");
            client.batch_execute(&update).await.context("writing the canary")?;
            self.unseen.lock().unwrap_or_else(PoisonError::into_inner).push_back((number, Instant::now()));
        }
        Ok(())
    }

    /// Looks until it is over. Every answer must be a state that PostgreSQL had, and later than the one before.
    pub async fn watch(&self, clickhouse: &Endpoint, database: &str) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: BTreeMap<i32, i64> = BTreeMap::new();
        let select = format!("SELECT id, toInt32(n), note FROM `{database}`.canary_current");
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            match clickhouse.rows::<(i32, i64, String)>(&select, &[]).await {
                Ok(rows) => {
                    self.looks.fetch_add(1, Ordering::Relaxed);
                    self.seen(&mut before, &rows);
                }
                Err(_) if self.may_fail => {}
                Err(error) => {
                    self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                }
            }
        }
    }

    /// What one look saw; what is wrong with it is noted.
    fn seen(&self, before: &mut BTreeMap<i32, i64>, rows: &[(i32, i64, String)]) {
        let faults = Self::faults(before, rows);
        if !faults.is_empty() {
            // When it was, for whoever looks it up in the servers' logs.
            let at = format!("at {}: {}", jiff::Timestamp::now(), faults.join(", "));
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        }
        let newest = rows.iter().map(|(_, number, _)| *number).max().unwrap_or(0);
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((number, at)) = unseen.front().copied() {
            *latest = (*latest).max(at.elapsed());
            if number > newest {
                break;
            }
            unseen.pop_front();
        }
    }

    fn faults(before: &mut BTreeMap<i32, i64>, rows: &[(i32, i64, String)]) -> Vec<String> {
        let mut faults = Vec::new();
        if i64::try_from(rows.len()) != Ok(ROWS) {
            faults.push(format!("{} rows instead of {ROWS}", rows.len()));
        }
        for (id, number, note) in rows {
            if *note != format!("n={number}") {
                faults.push(format!("row {id} has n={number} beside {note}"));
            }
            let last = before.insert(*id, *number).unwrap_or(0);
            if *number < last {
                faults.push(format!("row {id} went back from {last} to {number}"));
            }
        }
        faults
    }

    /// Waits until it is equal; nobody may write it meanwhile.
    pub async fn is_there(comparer: &Comparer, deadline: Duration) -> anyhow::Result<()> {
        wait_until(deadline, "the canary to be equal", || async {
            let mismatch = comparer.check("public.canary", TABLE, &[]).await?;
            ensure!(mismatch.is_none(), "{}", mismatch.map(|found| found.to_string()).unwrap_or_default());
            Ok(Some(()))
        })
        .await
    }

    /// Lets writer and watcher end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Its line of the report; its seconds are the longest time from a commit to the look that saw it.
    pub async fn line(&self, name: &str, comparer: &Comparer) -> Line {
        let mut faults = std::mem::take(&mut *self.faults.lock().unwrap_or_else(PoisonError::into_inner));
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest > LATE && !self.may_be_late {
            faults.push(format!("a row was {:.1} s late", latest.as_secs_f64()));
        }
        match comparer.check("public.canary", TABLE, &[]).await {
            Ok(None) => {}
            Ok(Some(mismatch)) => faults.push(mismatch.to_string()),
            Err(error) => faults.push(format!("{error:#}")),
        }
        let good = faults.is_empty();
        let count = faults.len();
        faults.truncate(8);
        Line {
            name: name.to_owned(),
            outcome: if good { Outcome::Equal } else { Outcome::Different },
            seconds: latest.as_secs_f64(),
            unexpected: (!good).then(|| "equal and fresh at every look".to_owned()),
            seen: format!("{count} faults, the first of them:\n{}", faults.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: impl Fn(i32) -> i64) -> Vec<(i32, i64, String)> {
        (0..10).map(|id| (id, numbers(id), format!("n={}", numbers(id)))).collect()
    }

    #[test]
    fn a_row_that_goes_back_is_torn_or_is_missing_is_a_fault() {
        let canary = Canary::default();
        let mut before = BTreeMap::new();
        canary.seen(&mut before, &rows(|_| 5));
        assert!(canary.faults.lock().unwrap().is_empty());
        canary.seen(&mut before, &rows(|id| if id == 3 { 4 } else { 6 }));
        let mut torn = rows(|_| 7);
        torn[0].2 = "n=6".into();
        canary.seen(&mut before, &torn);
        canary.seen(&mut before, &torn[1..]);
        let faults = canary.faults.lock().unwrap();
        for (fault, expected) in faults.iter().zip([
            "row 3 went back from 5 to 4",
            "row 0 has n=7 beside n=6",
            "9 rows instead of 10",
        ]) {
            assert!(fault.ends_with(expected), "{fault}");
        }
        assert_eq!(faults.len(), 3);
    }

    #[test]
    fn a_number_is_late_until_it_or_a_later_one_is_seen() {
        let canary = Canary::default();
        let begin = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        canary.unseen.lock().unwrap().extend([(1, begin), (2, begin)]);
        canary.seen(&mut BTreeMap::new(), &rows(|id| i64::from(id == 1)));
        assert_eq!(canary.unseen.lock().unwrap().len(), 1);
        assert!(*canary.latest.lock().unwrap() >= Duration::from_secs(5));
    }
}
