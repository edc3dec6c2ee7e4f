//! The first load of one table, in one run on one source: by the sink's reads with one, two and four connections, by
//! Debezium's snapshot into Kafka alone, and by a `COPY` to nowhere; each beside a shop whose own transactions are timed. I/O.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, pin_mut};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Serialize;
use serde_json::json;

use super::statistics::{median, percentile};
use super::usage::{cpu_time, peak_memory};
use crate::chain::{self, Chain};
use crate::stack::{Component, Part, Role, Stack, wait_until};

/// The source database, and the prefix of what is made for each contender.
const DATABASE: &str = "load";
/// Rows that are inserted into the table at once.
const PIECE: u64 = 1_000_000;
/// Pause between two of the shop's own transactions.
const PACE: Duration = Duration::from_millis(10);
/// How long the shop is timed alone.
const ALONE: Duration = Duration::from_secs(20);
/// How long a load may take.
const PATIENCE: Duration = Duration::from_mins(60);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rows of the table.
    pub rows: u64,
    /// Rows of the table that Debezium reads: a part of it, where all of them would take too long.
    pub debezium_rows: u64,
    /// Connections of the sink, one load each.
    pub connections: Vec<u8>,
}

/// One load.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Who reads.
    pub reader: String,
    /// Rows that were read.
    pub rows: u64,
    /// Seconds from the beginning of the read until its last row was there.
    pub seconds: f64,
    /// Rows a second.
    pub rows_per_s: f64,
    /// CPU seconds of the reading process a million rows; absent where it is this one.
    pub cpu_s_per_million: Option<f64>,
    /// Its highest resident memory, MiB.
    pub peak_rss_mib: Option<f64>,
    /// Median of the shop's own transactions meanwhile, milliseconds.
    pub shop_p50_ms: f64,
    /// Their 99th percentile.
    pub shop_p99_ms: f64,
}

/// The report of `target/reports/load.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Median of the shop's own transactions while nobody reads, milliseconds.
    pub shop_alone_p50_ms: f64,
    /// Their 99th percentile.
    pub shop_alone_p99_ms: f64,
    /// All loads, in the order in which they ran.
    pub loads: Vec<Load>,
    /// Rows a second of two connections as a multiple of Debezium's, which are in Kafka only.
    pub ratio: Option<f64>,
}

/// Fills the source and lets all read it, one after another.
pub async fn measure(plan: &Plan, say: impl Fn(String)) -> anyhow::Result<Report> {
    let stack = Stack::start(Part::CHAIN).await?;
    let begin = Instant::now();
    fill(&stack, plan).await?;
    say(format!("{} rows are there after {:.0} s", plan.rows, begin.elapsed().as_secs_f64()));
    let shop = Shop::open(&stack).await?;
    tokio::time::sleep(ALONE).await;
    let alone = shop.close().await?;
    let mut report = Report {
        shop_alone_p50_ms: median(&alone),
        shop_alone_p99_ms: percentile(&alone, 99),
        loads: Vec::new(),
        ratio: None,
    };
    say(headings());
    let mut add = |load: Load| {
        say(line(&load));
        report.loads.push(load);
    };
    add(copied(&stack, plan.rows).await?);
    for connections in &plan.connections {
        add(read(&stack, plan.rows, *connections).await?);
    }
    add(snapshot(&stack, plan.debezium_rows).await?);
    let rate =
        |part: &str| report.loads.iter().find(|load| load.reader.contains(part)).map(|load| load.rows_per_s);
    report.ratio = rate(" 2 ").zip(rate("Debezium")).map(|(sink, debezium)| sink / debezium);
    Ok(report)
}

/// A table of orders, a part of it for Debezium, and what the shop itself changes.
async fn fill(stack: &Stack, plan: &Plan) -> anyhow::Result<()> {
    const COLUMNS: &str = "(id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL, \
         total numeric(12, 2) NOT NULL, currency char(3) NOT NULL, note text, placed_at timestamptz NOT NULL)";
    stack.postgres().create_database(DATABASE).await?;
    let run = |sql: String| async move { stack.postgres().execute(Role::Shop, DATABASE, &sql).await };
    run(format!(
        "CREATE TABLE items {COLUMNS}; CREATE TABLE some_items {COLUMNS};
         CREATE TABLE carts (id bigint PRIMARY KEY, lines integer NOT NULL);
         INSERT INTO carts SELECT n, 0 FROM generate_series(1, 10000) AS n"
    ))
    .await?;
    for (table, rows) in [("items", plan.rows), ("some_items", plan.debezium_rows)] {
        let mut from = 0;
        while from < rows {
            let to = rows.min(from + PIECE);
            run(format!(
                "INSERT INTO {table} SELECT n, n % 250000 + 1, (ARRAY['paid', 'shipped', 'delivered'])[n % 3 + 1], \
                 (n % 90000) / 100.0, 'EUR', CASE WHEN n % 5 = 0 THEN 'leave it at the door of number ' || n % 100 END, \
                 timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series({}, {to}) AS n",
                from + 1
            ))
            .await?;
            from = to;
        }
        run(format!("VACUUM ANALYZE {table}")).await?;
    }
    stack.postgres().execute(Role::Superuser, DATABASE, "CHECKPOINT").await
}

/// A shop that goes on: small transactions one after another, each timed.
struct Shop {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<anyhow::Result<Vec<f64>>>,
}

impl Shop {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let client = stack.postgres().connect(Role::Shop, DATABASE).await?;
        let change = client.prepare("UPDATE carts SET lines = lines + 1 WHERE id = $1").await?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut times, mut id) = (Vec::new(), 0_i64);
            while !stopped.load(Ordering::Relaxed) {
                id = id % 10_000 + 1;
                let begin = Instant::now();
                client.execute(&change, &[&id]).await?;
                times.push(begin.elapsed().as_secs_f64() * 1000.0);
                tokio::time::sleep(PACE).await;
            }
            Ok(times)
        });
        Ok(Self { stop, task })
    }

    /// Milliseconds of each transaction.
    async fn close(self) -> anyhow::Result<Vec<f64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// CPU seconds and highest memory of a process.
struct Usage {
    process: u32,
    before: Duration,
}

impl Usage {
    fn begin(process: Option<u32>) -> anyhow::Result<Self> {
        let process = process.context("it runs")?;
        Ok(Self { process, before: cpu_time(process)? })
    }

    fn end(&self) -> anyhow::Result<(f64, f64)> {
        let cpu = cpu_time(self.process)?.saturating_sub(self.before).as_secs_f64();
        Ok((cpu, number(peak_memory(self.process)? >> 20)))
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn load(reader: String, rows: u64, seconds: f64, usage: Option<(f64, f64)>, shop: &[f64]) -> Load {
    Load {
        reader,
        rows,
        seconds,
        rows_per_s: number(rows) / seconds,
        cpu_s_per_million: usage.map(|(cpu, _)| cpu / (number(rows) / 1e6)),
        peak_rss_mib: usage.map(|(_, memory)| memory),
        shop_p50_ms: median(shop),
        shop_p99_ms: percentile(shop, 99),
    }
}

/// What PostgreSQL gives at most to one connection.
async fn copied(stack: &Stack, rows: u64) -> anyhow::Result<Load> {
    let client = stack.postgres().connect(Role::Tidemark, DATABASE).await?;
    let shop = Shop::open(stack).await?;
    let begin = Instant::now();
    let stream = client.copy_out("COPY (SELECT * FROM items) TO STDOUT").await?;
    pin_mut!(stream);
    while let Some(piece) = stream.next().await {
        piece?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(load("COPY to nowhere".to_owned(), rows, seconds, None, &shop.close().await?))
}

/// A new pipeline of the table: its time is that of the read, which the sink tells, so that what the operator sets up before
/// is no part of it.
async fn read(stack: &Stack, rows: u64, connections: u8) -> anyhow::Result<Load> {
    let name: &'static str = Box::leak(format!("{DATABASE}_{connections}").into_boxed_str());
    let mut manifest = chain::pipeline(stack, name, &["public.items"]);
    let source = &mut manifest["spec"]["source"]["postgres"];
    source["database"] = json!(DATABASE);
    source["reads"] = json!({"maxConnections": connections});
    let objects: Vec<_> = std::iter::once(manifest).chain(chain::secrets()).collect();
    let chain = Chain::prepare(stack, name, &objects)?;
    chain.start_operator()?;
    chain.start_sink().await?;
    let usage = Usage::begin(chain.sink().id())?;
    let shop = Shop::open(stack).await?;
    let sql = format!(
        "SELECT argMax(state, beat), argMax(rows, beat), \
         dateDiff('millisecond', argMax(started_at, beat), argMax(updated_at, beat)), argMax(error, beat) \
         FROM {name}._tidemark_reads WHERE table = 'items'"
    );
    let (read, milliseconds): (u64, u64) = wait_until(PATIENCE, "the table to be read", || async {
        let answer = stack.clickhouse().query(&sql).await.unwrap_or_default();
        let fields: Vec<&str> = answer.trim_end_matches('\n').split('\t').collect();
        let [state, rows, milliseconds, error] = fields.as_slice() else { return Ok(None) };
        ensure!(*state == "read", "{state}: {rows} rows {error}");
        Ok(Some((rows.parse()?, milliseconds.parse()?)))
    })
    .await?;
    let (times, usage) = (shop.close().await?, usage.end()?);
    let visible = stack.clickhouse().query(&format!("SELECT count() FROM {name}.items_current")).await?;
    ensure!(
        read == rows && visible.trim() == rows.to_string(),
        "{read} rows were read, {visible} are visible"
    );
    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;
    let seconds = number(milliseconds) / 1000.0;
    Ok(load(format!("sink, {connections} connections"), rows, seconds, Some(usage), &times))
}

/// Debezium's snapshot until its last record is in Kafka; nobody applies them.
async fn snapshot(stack: &Stack, rows: u64) -> anyhow::Result<Load> {
    const TOPIC: &str = "snapshot.public.some_items";
    stack.kafka().create_topic(TOPIC, 1).await?;
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput",
        "database.hostname": "127.0.0.1", "database.port": stack.postgres().port().to_string(),
        "database.user": Role::Superuser.name(), "database.password": Role::Superuser.password(),
        "database.dbname": DATABASE, "topic.prefix": "snapshot", "table.include.list": "public.some_items",
        "snapshot.mode": "initial_only", "slot.name": "snapshot", "publication.name": "snapshot",
        "publication.autocreate.mode": "filtered",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter", "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false",
    });
    let usage = Usage::begin(stack.connect().process().id())?;
    let consumer: Arc<BaseConsumer> = Arc::new(stack.kafka().client_config().create()?);
    let there = || {
        let consumer = Arc::clone(&consumer);
        async move {
            let end = tokio::task::spawn_blocking(move || {
                consumer.fetch_watermarks(TOPIC, 0, Duration::from_secs(5))
            });
            anyhow::Ok(u64::try_from(end.await??.1).unwrap_or(0))
        }
    };
    let shop = Shop::open(stack).await?;
    let connect = stack.connect();
    connect.request(reqwest::Method::PUT, "/connectors/snapshot/config", Some(&config)).await?;
    wait_until(PATIENCE, "Debezium's first record", || async { Ok((there().await? > 0).then_some(())) })
        .await?;
    let begin = Instant::now();
    wait_until(PATIENCE, "Debezium's last record", || async {
        let there = there().await?;
        ensure!(there >= rows, "{there} of {rows}");
        Ok(Some(()))
    })
    .await?;
    let seconds = begin.elapsed().as_secs_f64();
    let (times, usage) = (shop.close().await?, usage.end()?);
    connect.request(reqwest::Method::DELETE, "/connectors/snapshot", None).await?;
    Ok(load("Debezium's snapshot".to_owned(), rows, seconds, Some(usage), &times))
}

/// What the columns of [`line`] are.
fn headings() -> String {
    format!(
        "{:<22} {:>10} {:>8} {:>10} {:>12} {:>8} {:>8} {:>8}",
        "reader", "rows", "seconds", "rows/s", "CPU s/1M", "RSS MiB", "shop p50", "shop p99"
    )
}

fn line(load: &Load) -> String {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    format!(
        "{:<22} {:>10} {:>8.1} {:>10.0} {:>12} {:>8} {:>8.2} {:>8.2}",
        load.reader,
        load.rows,
        load.seconds,
        load.rows_per_s,
        figure(load.cpu_s_per_million),
        figure(load.peak_rss_mib),
        load.shop_p50_ms,
        load.shop_p99_ms
    )
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text = headings() + "\n";
    for load in &report.loads {
        let _ = writeln!(text, "{}", line(load));
    }
    let (p50, p99) = (report.shop_alone_p50_ms, report.shop_alone_p99_ms);
    let _ = writeln!(text, "the shop alone: p50 {p50:.2} ms, p99 {p99:.2} ms");
    if let Some(ratio) = report.ratio {
        let _ = writeln!(text, "two connections into ClickHouse are {ratio:.1} times Debezium into Kafka");
    }
    text
}
