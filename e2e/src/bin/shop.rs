//! The demo shop: makes it, lives in it, and shows both ends of the chain.
#![allow(clippy::print_stdout, reason = "progress and the summary are this program's output")]

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tidemark_e2e::oracle::Endpoint;
use tidemark_e2e::shop::watch::{Watch, watch};
use tidemark_e2e::shop::{Database, Generator, Load, SCHEMA, SEED, connect};

/// A shop in PostgreSQL that customers, orders and changes come to.
#[derive(Parser)]
#[command(name = "tidemark-shop", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Postgres {
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE of the shop.
    #[arg(long = "postgres", env = "SHOP_POSTGRES_URL", hide_env_values = true)]
    url: String,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the tables, products and customers, and orders of the past.
    Init {
        #[command(flatten)]
        postgres: Postgres,
        /// Orders of the past.
        #[arg(long, default_value_t = 500)]
        orders: u32,
        /// The days that they are spread over.
        #[arg(long, default_value_t = 60)]
        days: u16,
        /// Decides what is ordered.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Lives: orders in bursts, status changes, edits, prices, new customers.
    Run {
        #[command(flatten)]
        postgres: Postgres,
        /// Orders a second on average, at most 2000; two other changes or so come with each.
        #[arg(long, default_value_t = 2.0)]
        rate: f64,
        /// How long, such as 30s or 5m; for ever if left out.
        #[arg(long, value_parser = duration)]
        duration: Option<Duration>,
        /// Decides what happens: the same things for the same seed and shop.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Deletes customers with everything that they ordered, as when they ask to be forgotten.
    Delete {
        #[command(flatten)]
        postgres: Postgres,
        /// How many.
        #[arg(long)]
        customers: u32,
        /// Decides whom.
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// Shows orders in PostgreSQL and in ClickHouse, freshness and top products.
    Watch {
        #[command(flatten)]
        postgres: Postgres,
        /// http://HOST:PORT of ClickHouse.
        #[arg(long, env = "SHOP_CLICKHOUSE_URL")]
        clickhouse: String,
        /// User of ClickHouse: one that may read the views.
        #[arg(long, env = "SHOP_CLICKHOUSE_USER", default_value = "default")]
        user: String,
        /// The user's password.
        #[arg(long, env = "SHOP_CLICKHOUSE_PASSWORD", default_value = "", hide_env_values = true)]
        password: String,
        /// Target database in ClickHouse.
        #[arg(long, default_value = "ecommerce_analytics")]
        database: String,
        /// How long, such as 30s; until Ctrl-C if left out.
        #[arg(long = "for", value_parser = duration)]
        duration: Option<Duration>,
        /// Time between two summaries.
        #[arg(long, value_parser = duration, default_value = "1s")]
        interval: Duration,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::select! {
        ended = command(Arguments::parse().command) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C"),
    }
}

async fn command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { postgres, orders, days, seed } => init(&postgres.url, orders, days, seed).await,
        Command::Run { postgres, rate, duration, seed } => {
            let database = Database::new(connect(&postgres.url).await?).await?;
            let mut generator = Generator::new(database, seed).await?;
            let mut seconds = 0_u64;
            generator
                .run(Load { rate, duration }, |written| {
                    seconds += 1;
                    if seconds.is_multiple_of(5) {
                        println!("{} orders, {} other changes", written.orders, written.changes);
                    }
                })
                .await?;
            let written = generator.written();
            println!("done: {} orders, {} other changes", written.orders, written.changes);
            Ok(())
        }
        Command::Delete { postgres, customers, seed } => {
            let database = Database::new(connect(&postgres.url).await?).await?;
            let deleted = database.delete_customers(i64::from(customers), i64::from(seed)).await?;
            println!("deleted {deleted} customers and what they ordered");
            Ok(())
        }
        Command::Watch { postgres, clickhouse, user, password, database, duration, interval } => {
            let endpoint = Endpoint::new(&clickhouse, &user, &password)?;
            let client = connect(&postgres.url).await?;
            watch(&client, &endpoint, Watch { database: &database, duration, interval }).await
        }
    }
}

async fn init(url: &str, orders: u32, days: u16, seed: u64) -> anyhow::Result<()> {
    let client = connect(url).await?;
    let there: bool = client.query_one("SELECT to_regclass('public.orders') IS NOT NULL", &[]).await?.get(0);
    if there {
        println!("the shop is there already: nothing done");
        return Ok(());
    }
    client.batch_execute(&format!("BEGIN; {SCHEMA} {SEED} COMMIT;")).await.context("making the shop")?;
    let now: i64 =
        client.query_one("SELECT (extract(epoch FROM now()) * 1000000)::bigint", &[]).await?.get(0);
    let mut generator = Generator::new(Database::new(client).await?, seed).await?;
    generator.history(orders, days, now).await?;
    println!("made the shop, with {} orders over {days} days", generator.written().orders);
    Ok(())
}

/// Reads `300ms`, `30s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no duration such as 30s or 5m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_mins(number)),
        "h" => Ok(Duration::from_hours(number)),
        _ => Err(format!("{text:?} needs a unit: ms, s, m or h")),
    }
}
