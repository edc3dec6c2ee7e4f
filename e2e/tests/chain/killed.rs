//! A first load whose sinks are killed all the time: it comes to its end, and next to nothing of it is read twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{PATIENCE, Process, Role, Stack, shared, wait_until};

use super::objects;

const NAME: &str = "killed_load";
/// Rows of the table, and how many each replica reads a second.
const ROWS: u32 = 150_000;
const PACE: u32 = 20_000;
/// Pause between two kills.
const BETWEEN: Duration = Duration::from_secs(2);
/// Connections of a replica: as many ranges can end between its last row in the reads table and its end.
const CONNECTIONS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_load_ends_equal_while_a_sink_is_killed_every_two_seconds() -> anyhow::Result<()> {
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    let schema = format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, note text);
         INSERT INTO items SELECT id, 0, repeat('x', 150) FROM generate_series(1, {ROWS}) AS id; ANALYZE items"
    );
    stack.postgres().execute(Role::Shop, NAME, &schema).await?;
    let mut manifest = pipeline(stack, NAME, &["public.items"]);
    manifest["spec"]["source"]["postgres"]["reads"] =
        json!({"rowsPerSecond": PACE, "maxConnections": CONNECTIONS});
    let environment = ["RUST_LOG=info,tidemark_sink::read=debug"];
    let chain = Chain::prepare_in(stack, NAME, &objects(manifest), &environment)?;
    chain.start().await?;
    let second = chain.another_sink("second")?;
    second.spawn()?;
    let over = AtomicBool::new(false);
    let load = async {
        let kills = killed(stack, [chain.sink(), &second]).await;
        over.store(true, Ordering::Relaxed);
        kills
    };
    let (kills, written) = tokio::join!(load, write(stack, &over));
    let (kills, written) = (kills?, written?);
    ensure!(kills >= 3 && written > 50, "{kills} kills and {written} transactions amid the load are too few");

    chain.wait_ready(PATIENCE).await?;
    let comparer = chain.comparer().await?;
    wait_until(PATIENCE, "the table to be equal", || async {
        let mismatch = comparer.check("public.items", "items", &[]).await?;
        ensure!(mismatch.is_none(), "{mismatch:?}");
        Ok(Some(()))
    })
    .await?;
    let logs = [chain.sink(), &second].map(|sink| std::fs::read_to_string(sink.log()));
    let logs: Result<Vec<String>, _> = logs.into_iter().collect();
    let log = logs?.concat();
    let barriers = log.matches("reading a table at the source").count();
    let taken_on = log.matches("going on with the read of a table").count();
    // In the beginning both may take it, and neither has a place yet.
    ensure!(barriers <= 2 && taken_on > 0, "{barriers} barriers were set, and {taken_on} times it went on");
    let mut ranges: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("a range is done")) {
        let range = line.split("range=").nth(1).context("it names the range")?;
        *ranges.entry(range.split(" rows=").next().unwrap_or(range)).or_default() += 1;
    }
    let again: usize = ranges.values().map(|count| count - 1).sum();
    ensure!(
        again <= CONNECTIONS * (kills + barriers - 1),
        "{again} ranges were read again after {kills} kills: {ranges:?}"
    );
    second.stop().await
}

/// Kills a sink every two seconds, one after the other, until the table is read; how often.
async fn killed(stack: &Stack, sinks: [&Process; 2]) -> anyhow::Result<usize> {
    let state = |sql: &str| {
        let sql = format!("SELECT argMax({sql}, beat) FROM {NAME}._tidemark_reads");
        async move { stack.clickhouse().query(&sql).await }
    };
    wait_until(PATIENCE, "the read to begin", || async {
        Ok((state("rows").await?.trim().parse::<u64>()? > 0).then_some(()))
    })
    .await?;
    let mut kills = 0;
    for sink in sinks.iter().cycle().take(200) {
        if state("state").await?.trim() == "read" {
            return Ok(kills);
        }
        sink.kill().await?;
        sink.spawn()?;
        kills += 1;
        tokio::time::sleep(BETWEEN).await;
    }
    anyhow::bail!("it is not read after {kills} kills: {}", state("rows").await?)
}

/// Changes rows until the load is over; how many transactions.
async fn write(stack: &Stack, over: &AtomicBool) -> anyhow::Result<u32> {
    let client = stack.postgres().connect(Role::Shop, NAME).await?;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let id = number * 7919 % ROWS + 1;
        let statement = match number % 4 {
            0 => format!("DELETE FROM items WHERE id = {id}"),
            1 => format!("INSERT INTO items VALUES ({ROWS} + {number}, 1, 'new')"),
            2 => format!("UPDATE items SET id = -id WHERE id = {id}"),
            _ => format!("UPDATE items SET n = n + 1, note = 'changed' WHERE id BETWEEN {id} AND {id} + 20"),
        };
        client.batch_execute(&statement).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(number)
}
