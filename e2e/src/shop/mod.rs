//! The demo shop: its tables, a generator that behaves like a shop, and a live summary of both ends. I/O.

mod database;
mod freshness;
mod model;
mod pace;
mod screen;
mod season;
pub mod watch;

use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

pub use self::database::{Database, SCHEMA, SEED};
use self::model::{Action, Outcome, Shop, Status};
use self::pace::Pace;

/// The highest rate that the generator takes, in orders a second.
pub const MAX_RATE: f64 = 2000.0;
/// How far behind its times the generator tries to catch up; beyond that it lets them go.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Of a hundred orders so many are of customers who have just joined.
const NEWCOMERS: u32 = 30;

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

/// Places orders and changes what was placed; the same seed over the same database and time does the same things.
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

    /// Places orders over the `days` before `end` (microseconds since 1970), with what became of them by then.
    pub async fn history(&mut self, orders: u32, days: u16, end: i64) -> anyhow::Result<()> {
        for at in season::moments(orders, days, end, &mut self.random) {
            let Some(order) = self.place(Some(at)).await? else { continue };
            let (to, since) = season::standing(end - at, &mut self.random);
            if to == Status::Pending {
                self.event(Some(at)).await?;
            } else {
                self.change(&Action::Advance { order, to }, Some(at + since)).await?;
            }
            if to == Status::Delivered {
                self.shop.close(order);
            }
            self.event(Some(at)).await?;
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
            self.step().await?;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(self.written);
            }
        }
    }

    /// Places one order, and lets two other things happen.
    async fn step(&mut self) -> anyhow::Result<()> {
        self.place(None).await?;
        self.event(None).await?;
        self.event(None).await
    }

    /// Places an order, now and then of somebody who joins for it; its primary key.
    async fn place(&mut self, at: Option<i64>) -> anyhow::Result<Option<i64>> {
        let mut customer = None;
        if self.random.random_ratio(NEWCOMERS, 100) {
            let register = self.shop.register(&mut self.random);
            customer = self.change(&register, at).await?;
        }
        let now = at.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond());
        let day = i32::try_from(now.div_euclid(season::DAY)).unwrap_or(0);
        let order = match customer {
            Some(customer) => self.shop.order_of(customer, &mut self.random, day),
            None => self.shop.order(&mut self.random, day),
        };
        let Some(order) = order else { return Ok(None) };
        let placed = self.perform(&order, at).await?;
        self.written.orders += u64::from(placed.is_some());
        Ok(placed)
    }

    /// Lets something else happen.
    async fn event(&mut self, at: Option<i64>) -> anyhow::Result<()> {
        if let Some(event) = self.shop.event(&mut self.random) {
            self.change(&event, at).await?;
        }
        Ok(())
    }

    async fn change(&mut self, action: &Action, at: Option<i64>) -> anyhow::Result<Option<i64>> {
        let changed = self.perform(action, at).await?;
        self.written.changes += u64::from(changed.is_some());
        Ok(changed)
    }

    /// Carries an action out; the primary key of the row it is about, unless that is gone.
    async fn perform(&mut self, action: &Action, at: Option<i64>) -> anyhow::Result<Option<i64>> {
        let outcome = self.database.perform(action, at).await?;
        self.shop.apply(action, outcome);
        Ok(match outcome {
            Outcome::Done(id) => Some(id),
            Outcome::Gone => None,
        })
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
