//! The live summary of the demo: both ends side by side, freshness, top products. Reads both servers.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::freshness::Freshness;
use super::screen::{Product, Summary};
use crate::oracle::Endpoint;

/// The pause between two looks at ClickHouse's newest orders: what is seen is late by up to this.
const LOOK: Duration = Duration::from_millis(50);
/// How old a row that is looked for may be, in microseconds.
const HORIZON: i64 = 15_000_000;
/// Most rows that one look should bring; above that only a part of the keys is followed.
const ENOUGH: usize = 500;

/// What is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// Target database in ClickHouse.
    pub database: &'a str,
    /// How long, or until it is dropped.
    pub duration: Option<Duration>,
    /// Time between two summaries.
    pub interval: Duration,
}

/// Follows the orders of a shop on both sides and writes a summary each interval, the last one in full.
///
/// On a terminal the summary is drawn in place, else each one is a line.
pub async fn watch(postgres: &Client, clickhouse: &Endpoint, watch: Watch<'_>) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let start = Instant::now();
    let end = watch.duration.map(|duration| start + duration);
    let clock = Clock::of(postgres).await?;
    let since = clock.now();
    let mut follower =
        Follower { database: watch.database, since, every: 1, freshness: Freshness::default() };
    let mut next = start;
    let mut drawn = 0;
    loop {
        follower.look(clickhouse, &clock).await;
        let over = end.is_some_and(|end| Instant::now() >= end);
        if over || Instant::now() >= next {
            next = Instant::now() + watch.interval;
            let summary = summary(postgres, clickhouse, watch.database, &follower.freshness).await;
            let mut out = std::io::stdout().lock();
            if over || terminal {
                if drawn > 0 {
                    // Back to where it began, so that what was said before stays.
                    write!(out, "\x1b[{drawn}F\x1b[J")?;
                }
                let table = summary.table(start.elapsed());
                writeln!(out, "{table}")?;
                drawn = if terminal { table.lines().count() + 1 } else { 0 };
            } else {
                writeln!(out, "{}", summary.line(start.elapsed()))?;
            }
            out.flush()?;
        }
        if over {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// PostgreSQL's clock, as this process can read it without asking.
struct Clock {
    start: Instant,
    micros: i64,
}

impl Clock {
    async fn of(postgres: &Client) -> anyhow::Result<Self> {
        let before = Instant::now();
        let row = postgres
            .query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", &[])
            .await
            .context("asking PostgreSQL for the time")?;
        // The server read its clock half-way between question and answer.
        Ok(Self { start: before + before.elapsed() / 2, micros: row.get(0) })
    }

    fn now(&self) -> i64 {
        self.micros + i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

/// Looks for orders that ClickHouse did not show before.
struct Follower<'a> {
    database: &'a str,
    since: i64,
    /// Of the primary keys, one in so many is followed.
    every: usize,
    freshness: Freshness,
}

impl Follower<'_> {
    /// Looks once. A server that does not answer shows in the summary, not here.
    async fn look(&mut self, clickhouse: &Endpoint, clock: &Clock) {
        let before = clock.now() - HORIZON;
        let query = format!(
            "SELECT toInt64(id), toUnixTimestamp64Micro(created_at) FROM `{}`.orders_current
             WHERE created_at >= fromUnixTimestamp64Micro({}, 'UTC') AND id % {} = 0",
            self.database,
            before.max(self.since),
            self.every
        );
        let settings = [("output_format_json_quote_64bit_integers", "0")];
        if let Ok(rows) = clickhouse.rows::<(i64, i64)>(&query, &settings).await {
            // The row was there when the answer came, at the latest.
            self.freshness.look(&rows, self.since, clock.now());
            if rows.len() > ENOUGH {
                self.every *= 2;
            }
        }
        self.freshness.forget(before);
    }
}

async fn summary(postgres: &Client, clickhouse: &Endpoint, database: &str, freshness: &Freshness) -> Summary {
    let source = postgres
        .query_one("SELECT count(*), coalesce(sum(total_amount), 0)::text FROM orders", &[])
        .await
        .map(|row| (row.get(0), row.get(1)))
        .map_err(|error| error.to_string());
    let target = clickhouse
        .rows::<(i64, String)>(
            &format!(
                "SELECT toInt64(count()), toDecimalString(sum(toDecimal128(total_amount, 2)), 2) \
                 FROM `{database}`.orders_current"
            ),
            &[("output_format_json_quote_64bit_integers", "0")],
        )
        .await
        .map_err(|error| error.to_string())
        .and_then(|rows| rows.into_iter().next().ok_or_else(|| "no answer".into()));
    let products = clickhouse
        .rows::<(String, String, String)>(
            &format!(
                "SELECT name, toString(units_sold), toDecimalString(revenue, 2) \
                 FROM `{database}`.top_selling_products ORDER BY rank LIMIT 5"
            ),
            &[],
        )
        .await
        .unwrap_or_default();
    let today = clickhouse
        .rows::<(String, String, String)>(
            &format!(
                "SELECT toString(day), toString(orders), toDecimalString(revenue, 2) \
                 FROM `{database}`.daily_sales_summary ORDER BY day DESC LIMIT 1"
            ),
            &[],
        )
        .await
        .unwrap_or_default();
    Summary {
        source,
        target,
        samples: freshness.samples(),
        p50: freshness.percentile(50),
        p99: freshness.percentile(99),
        today: today.into_iter().next(),
        products: products
            .into_iter()
            .map(|(name, units, revenue)| Product { name, units, revenue })
            .collect(),
    }
}
