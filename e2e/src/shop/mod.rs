//! The demo shop: its tables, a generator that behaves like a shop, and a live summary of both ends. I/O.

mod database;
mod freshness;
mod model;
mod pace;
mod screen;
pub mod watch;

use std::time::Duration;

use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

pub use self::database::{Database, SCHEMA, SEED};
use self::model::{Action, Outcome, Shop};
use self::pace::Pace;

/// The highest rate that the generator takes, in orders a second.
pub const MAX_RATE: f64 = 2000.0;
/// How far behind its times the generator tries to catch up; beyond that it lets them go.
const MAX_DELAY: Duration = Duration::from_secs(1);
const DAY_MICROS: i64 = 86_400_000_000;

/// Orders to be placed by [`Generator::run`].
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Orders a second, on average; two other changes or so come with each.
    pub rate: f64,
    /// How long, or until it is dropped.
    pub duration: Option<Duration>,
}

/// What a run has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Orders placed.
    pub orders: u64,
    /// Everything else that changed a row.
    pub changes: u64,
}

/// Places orders and changes what was placed; the same seed over the same database does the same things.
#[derive(Debug)]
pub struct Generator {
    database: Database,
    shop: Shop,
    random: StdRng,
    written: Written,
}

impl Generator {
    /// Reads the shop; its schema must be there.
    pub async fn new(database: Database, seed: u64) -> anyhow::Result<Self> {
        let shop = database.read().await.context("reading the shop")?;
        ensure!(!shop.products.is_empty(), "the shop has no products: run `init` first");
        Ok(Self { database, shop, random: StdRng::seed_from_u64(seed), written: Written::default() })
    }

    /// Returns what was written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Places orders evenly over the `days` before `end` (microseconds since 1970), with what became of them.
    pub async fn history(&mut self, orders: u32, days: u16, end: i64) -> anyhow::Result<()> {
        let span = i64::from(days) * DAY_MICROS;
        for number in 0..orders {
            let at = end - span + span * i64::from(number) / i64::from(orders);
            self.step(Some(at)).await?;
        }
        Ok(())
    }

    /// Lives at a rate until the time is over, telling `progress` once a second.
    pub async fn run(&mut self, load: Load, mut progress: impl FnMut(Written)) -> anyhow::Result<()> {
        ensure!(
            load.rate > 0.0 && load.rate <= MAX_RATE,
            "a rate of {} orders a second is not between 0 and {MAX_RATE}",
            load.rate
        );
        let mut pace = Pace::new(load.rate);
        let start = Instant::now();
        let end = load.duration.map(|duration| start + duration);
        let mut next = start;
        let mut told = start;
        loop {
            // A database that is too slow must not be met by ever more orders at once.
            next = next.max(Instant::now().checked_sub(MAX_DELAY).unwrap_or(start));
            next += pace.pause(&mut self.random);
            let wake = end.map_or(next, |end| next.min(end));
            tokio::time::sleep_until(wake).await;
            if end.is_some_and(|end| next >= end) {
                return Ok(());
            }
            self.step(None).await?;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(self.written);
            }
        }
    }

    /// Places one order, and lets two other things happen.
    async fn step(&mut self, at: Option<i64>) -> anyhow::Result<()> {
        if let Some(order) = self.shop.order(&mut self.random)
            && self.perform(&order, at).await?
        {
            self.written.orders += 1;
        }
        for _ in 0..2 {
            if let Some(event) = self.shop.event(&mut self.random)
                && self.perform(&event, at).await?
            {
                self.written.changes += 1;
            }
        }
        Ok(())
    }

    async fn perform(&mut self, action: &Action, at: Option<i64>) -> anyhow::Result<bool> {
        let outcome = self.database.perform(action, at).await?;
        self.shop.apply(action, outcome);
        Ok(outcome != Outcome::Gone)
    }
}

/// Connects to `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; the connection lives on the caller's runtime.
pub async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let mut config: tokio_postgres::Config = url.parse().context("the PostgreSQL URL")?;
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) =
        config.connect(tokio_postgres::NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "postgres connection ended");
        }
    });
    Ok(client)
}
