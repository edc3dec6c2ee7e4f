//! Freshness: from PostgreSQL's COMMIT to the row in the `_current` view, through the real Debezium, Kafka and
//! sink, on one machine with one clock. I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use rand::Rng;
use serde::{Deserialize, Serialize};
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::{ClickHouse, number};
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use super::statistics::percentile;
use super::target;
use crate::chain::{self, Chain};
use crate::stack::{Role, Stack, User, wait_until};

/// The table whose rows are followed.
const TABLE: &str = "marks";
const DDL: &str = "CREATE TABLE marks (id bigint PRIMARY KEY, payload text NOT NULL)";
/// Pipelines side by side that see one event in two seconds each, so that the samples of the slow rate take a
/// fraction of the time. Each has a connector, topics and a sink of its own.
const SLOW: [&str; 8] = [
    "fresh_slow_1",
    "fresh_slow_2",
    "fresh_slow_3",
    "fresh_slow_4",
    "fresh_slow_5",
    "fresh_slow_6",
    "fresh_slow_7",
    "fresh_slow_8",
];
/// How long a pipeline may take to be ready.
const READY: Duration = Duration::from_secs(120);
/// Pause between two looks at the view while a row is awaited.
const LOOK: Duration = Duration::from_millis(5);
/// A row that takes longer ends the measurement.
const LOST: Duration = Duration::from_secs(30);
/// A row that was visible in this time says that the chain keeps up, once so many in a row were.
const QUICK: Duration = Duration::from_millis(500);
const QUICK_ROWS: u32 = 10;
/// Rows of one transaction of the load.
const LOAD_ROWS: u32 = 10;
/// Keys of the load: it inserts each once and updates it from then on.
const LOAD_KEYS: u32 = 20_000;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Marked rows of each rate.
    pub samples: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { samples: 200 }
    }
}

/// The report of `target/reports/freshness.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One entry a rate.
    pub runs: Vec<Run>,
}

/// Freshness at one rate.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Events a second in each pipeline.
    pub events_per_s: f64,
    /// Half of the rows were visible within this many milliseconds of their commit.
    pub p50_ms: f64,
    /// 99 % of the rows were.
    pub p99_ms: f64,
    /// Rows that were followed.
    pub samples: usize,
    /// Longest time that the machine itself let a thread wait that wanted to run.
    pub stall_ms: f64,
    /// The slowest rows: seconds since the begin, and milliseconds.
    pub slowest: Vec<(f64, f64)>,
}

/// Measures at 1,000 events a second and at one event in two seconds; `tell` is told the figures.
pub async fn measure(stack: &Stack, plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let stalls = Stalls::watch();
    let busy = {
        let chain = start(stack, "fresh_busy").await?;
        let follower = Follower::new(&chain).await?;
        let marks = async {
            follower.settle().await?;
            follower.follow(plan.samples, Duration::from_millis(100), Duration::from_millis(20)).await
        };
        let latencies = under_load(&chain, marks).await;
        run(1000.0, &latencies.with_context(|| chain.sink().log_tail(20))?, stalls.longest())
    };
    tell(&line(&busy));
    let chains = try_join_all(SLOW.iter().map(|&name| start(stack, name))).await?;
    let each = plan.samples.div_ceil(SLOW.len());
    let latencies = try_join_all(chains.iter().map(|chain| async move {
        let follower = Follower::new(chain).await?;
        follower.settle().await?;
        let samples = follower.follow(each, Duration::from_secs(2), Duration::from_millis(100)).await;
        samples.with_context(|| chain.sink().log_tail(20))
    }))
    .await?;
    let slow = run(0.5, &latencies.concat(), stalls.longest());
    tell(&line(&slow));
    Ok(Report { runs: vec![busy, slow] })
}

/// Makes a database with the followed table and starts its pipeline, as a user would.
async fn start<'a>(stack: &'a Stack, name: &'static str) -> anyhow::Result<Chain<'a>> {
    stack.postgres().create_database(name).await?;
    stack.postgres().execute(Role::Shop, name, DDL).await?;
    let manifest = chain::pipeline(stack, name, &[&format!("public.{TABLE}")]);
    let objects: Vec<_> = std::iter::once(manifest).chain(chain::secrets()).collect();
    let chain = Chain::prepare(stack, name, &objects)?;
    chain.start().await?;
    chain.wait_ready(READY).await?;
    // Nothing more for the operator to do: what it would look at every few seconds is not what is measured.
    chain.operator().stop().await?;
    Ok(chain)
}

/// Notices when the machine lets nobody run: a thread that asks for 5 ms of sleep and gets more.
struct Stalls {
    longest: Arc<Mutex<Duration>>,
}

impl Stalls {
    #[allow(clippy::disallowed_methods, reason = "how long a sleep takes is what is measured")]
    fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let seen = Arc::downgrade(&longest);
        std::thread::spawn(move || {
            // Until nobody asks any more.
            loop {
                let begin = Instant::now();
                std::thread::sleep(NAP);
                let Some(longest) = seen.upgrade() else { return };
                let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = longest.max(begin.elapsed().saturating_sub(NAP));
            }
        });
        Self { longest }
    }

    /// The longest stall since the last call.
    fn longest(&self) -> Duration {
        std::mem::take(&mut self.longest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn run(events_per_s: f64, samples: &[Sample], stall: Duration) -> Run {
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3);
    let milliseconds: Vec<f64> = samples.iter().map(|sample| ms(sample.latency)).collect();
    let mut slowest: Vec<(f64, f64)> =
        samples.iter().map(|sample| (rounded(sample.at.as_secs_f64()), ms(sample.latency))).collect();
    slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
    slowest.truncate(5);
    Run {
        events_per_s,
        p50_ms: rounded(percentile(&milliseconds, 50)),
        p99_ms: rounded(percentile(&milliseconds, 99)),
        samples: milliseconds.len(),
        stall_ms: ms(stall),
        slowest,
    }
}

fn line(run: &Run) -> String {
    format!(
        "{:>7} events/s: commit to visible row p50 {:.0} ms, p99 {:.0} ms ({} samples; longest stall of the machine \
         {:.0} ms)",
        run.events_per_s, run.p50_ms, run.p99_ms, run.samples, run.stall_ms
    )
}

/// One row that was followed.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// When it was committed, since the follower's begin.
    at: Duration,
    /// How long it took to be visible.
    latency: Duration,
}

/// Writes marked rows to PostgreSQL and looks for them in ClickHouse.
struct Follower {
    postgres: Client,
    clickhouse: ClickHouse,
    view: String,
    begin: Instant,
    /// Rows that are committed and not yet seen, with the moment before their COMMIT was sent.
    awaited: Mutex<BTreeMap<u64, Instant>>,
}

impl Follower {
    async fn new(chain: &Chain<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            postgres: chain.stack.postgres().connect(Role::Shop, &chain.name).await?,
            clickhouse: target::client(chain.stack.clickhouse(), User::Tidemark)?,
            view: quote::qualified(&chain.name, &format!("{TABLE}_current")),
            begin: Instant::now(),
            awaited: Mutex::new(BTreeMap::new()),
        })
    }

    /// Sends rows that do not count, one after the other, until a few in a row were quick: a JVM that has just started
    /// compiles what it runs, and falls behind for some seconds.
    async fn settle(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut quick = 0;
        for id in 1_000_000.. {
            self.mark(id).await?;
            let sample = wait_until(LOST, "a first row to come through the chain", || async {
                Ok(self.look().await?.pop())
            })
            .await?;
            quick = if sample.latency < QUICK { quick + 1 } else { 0 };
            if quick >= QUICK_ROWS {
                break;
            }
            ensure!(
                begin.elapsed() < READY,
                "the chain did not keep up: {:?} for the last row",
                sample.latency
            );
        }
        Ok(())
    }

    /// Marks a row each `period`, give or take `jitter`, and returns how long each took to be visible.
    async fn follow(&self, rows: usize, period: Duration, jitter: Duration) -> anyhow::Result<Vec<Sample>> {
        let marking = async {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for id in (1..).take(rows) {
                ticks.tick().await;
                // Without it the rows could keep step with a poll interval on their way.
                let pause = rand::rng().random_range(Duration::ZERO..jitter);
                tokio::time::sleep(pause).await;
                self.mark(id).await?;
            }
            anyhow::Ok(())
        };
        let looking = async {
            let mut latencies = Vec::with_capacity(rows);
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while latencies.len() < rows {
                ticks.tick().await;
                latencies.extend(self.look().await?);
            }
            anyhow::Ok(latencies)
        };
        tokio::try_join!(marking, looking).map(|((), latencies)| latencies)
    }

    async fn mark(&self, id: u64) -> anyhow::Result<()> {
        let insert = format!("BEGIN; INSERT INTO {TABLE} VALUES ({id}, repeat('m', 200))");
        self.postgres.batch_execute(&insert).await?;
        let before_commit = Instant::now();
        self.postgres.batch_execute("COMMIT").await?;
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(id, before_commit);
        Ok(())
    }

    /// Looks once, and returns the awaited rows that are visible now.
    async fn look(&self) -> anyhow::Result<Vec<Sample>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "number::deserialize")]
            id: u64,
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if awaited.is_empty() {
            return Ok(Vec::new());
        }
        let lost = awaited.values().any(|since| since.elapsed() > LOST);
        ensure!(!lost, "a row was not visible {} s after its commit", LOST.as_secs());
        let ids: Vec<String> = awaited.keys().map(u64::to_string).collect();
        let sql = format!("SELECT id FROM {} WHERE id IN ({})", self.view, ids.join(", "));
        let rows: Vec<Row> = self.clickhouse.query(&sql).await?;
        let seen = Instant::now();
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let since = rows.iter().filter_map(|row| awaited.remove(&row.id));
        Ok(since.map(|since| Sample { at: since - self.begin, latency: seen - since }).collect())
    }
}

/// Runs `measured` while 1,000 rows a second are written, 100 transactions of ten rows each.
///
/// Fails if the rate was not held.
async fn under_load<T>(
    chain: &Chain<'_>,
    measured: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let client = chain.stack.postgres().connect(Role::Shop, &chain.name).await?;
    let write = client
        .prepare(&format!(
            "INSERT INTO {TABLE} SELECT -1 - (($1::bigint + n) % {LOAD_KEYS}), repeat('x', 200)
             FROM generate_series(1, {LOAD_ROWS}) AS n
             ON CONFLICT (id) DO UPDATE SET payload = excluded.payload || $1::bigint"
        ))
        .await?;
    let begin = Instant::now();
    let written = Mutex::new(0_u32);
    let load = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        // What a slow moment held up is made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            let first = i64::from(*written.lock().unwrap_or_else(PoisonError::into_inner));
            client.execute(&write, &[&first]).await?;
            *written.lock().unwrap_or_else(PoisonError::into_inner) += LOAD_ROWS;
        }
    };
    let result = tokio::select! {
        result = measured => result?,
        error = load => return error,
    };
    let rate =
        f64::from(*written.lock().unwrap_or_else(PoisonError::into_inner)) / begin.elapsed().as_secs_f64();
    ensure!(rate > 950.0, "only {rate:.0} rows a second were written instead of 1,000");
    Ok(result)
}
