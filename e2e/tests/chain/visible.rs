//! Read your writes: what the sinks say to be visible is there, and what is not there is never said to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_e2e::bench::report;
use tidemark_e2e::chain::{Chain, http_of, pipeline};
use tidemark_e2e::stack::{PATIENCE, Process, Role, Stack, shared, wait_until};
use tokio::task::JoinSet;

use super::objects;

const NAME: &str = "visible_reads";
const TABLES: [&str; 3] = ["alpha", "beta", "gamma"];
const WRITERS: u32 = 12;
const COMMITS: u32 = 9;
/// The row of a large transaction: thousands of them fill many batches of Kafka's producer, which others overtake.
const WIDE: usize = 900;

/// Asks one sink once; its status and what it says.
async fn ask(sink: &Process, query: &str) -> anyhow::Result<(u16, Value)> {
    let answer = reqwest::get(format!("http://{}/visible?{query}", http_of(sink)?)).await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).with_context(|| text)?))
}

/// Asks the sinks in turn until one says that a position is visible. One may be gone for a moment.
async fn until_visible(sinks: &[&Process], turn: u32, query: &str) -> anyhow::Result<()> {
    let turns = AtomicUsize::new(usize::try_from(turn)?);
    wait_until(2 * PATIENCE, &format!("{query} to be visible"), || async {
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        let (status, said) = ask(sinks[turn % sinks.len()], query).await?;
        ensure!(status == 200 && said["visible"] == true, "{status} {said}");
        Ok(Some(()))
    })
    .await
}

/// Commits `rows` rows with a tag of their own, and returns the position that the writer sees then.
async fn commit(
    client: &tokio_postgres::Client,
    table: &str,
    tag: &str,
    rows: u32,
) -> anyhow::Result<String> {
    let wide = if rows > 1 { WIDE } else { 1 };
    let sql = format!(
        "INSERT INTO {table} (tag, n, wide) SELECT '{tag}', i, repeat('x', {wide}) FROM generate_series(1, {rows}) i"
    );
    client.batch_execute(&sql).await?;
    Ok(client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.try_get(0)?)
}

/// Rows of a tag that readers see.
async fn seen(stack: &Stack, table: &str, tag: &str) -> anyhow::Result<u32> {
    let sql = format!("SELECT count() FROM {NAME}.{table}_current WHERE tag = '{tag}'");
    Ok(stack.clickhouse().query(&sql).await?.trim().parse()?)
}

/// Up to which position all tables show everything, by the view.
async fn view(stack: &Stack) -> anyhow::Result<(u64, usize)> {
    let sql = format!(
        "SELECT min(lsn), count() FROM {NAME}._tidemark_visible WHERE pipeline = 'local/visible-reads'"
    );
    let text = stack.clickhouse().query(&sql).await?;
    let (lsn, tables) = text.trim().split_once('\t').with_context(|| text.clone())?;
    Ok((lsn.parse()?, tables.parse()?))
}

fn number(lsn: &str) -> anyhow::Result<u64> {
    let (high, low) = lsn.split_once('/').context("a position")?;
    Ok((u64::from_str_radix(high, 16)? << 32) + u64::from_str_radix(low, 16)?)
}

/// Commits, asks, and reads what was committed as soon as it is said to be visible; how long that took each time.
async fn write(
    stack: &'static Stack,
    sinks: Arc<[Process; 2]>,
    writer: u32,
) -> anyhow::Result<Vec<Duration>> {
    let client = stack.postgres().connect(Role::Shop, NAME).await?;
    let mut times = Vec::new();
    for turn in 0..COMMITS {
        let table = TABLES[((writer + turn) % 3) as usize];
        let tag = format!("{writer}-{turn}");
        let rows = if (writer + turn).is_multiple_of(6) { 4000 } else { 1 };
        let lsn = commit(&client, table, &tag, rows).await?;
        let begin = Instant::now();
        let all = (writer + turn).is_multiple_of(4);
        let of = if all { String::new() } else { format!("&table=public.{table}") };
        until_visible(&[&sinks[0], &sinks[1]], writer + turn, &format!("lsn={lsn}&timeout=20s{of}")).await?;
        times.push(begin.elapsed());
        let found = seen(stack, table, &tag).await?;
        ensure!(
            found == rows,
            "{lsn} was said to be visible, and {found} of {rows} rows are there: {table} {tag}"
        );
        if all {
            let (upto, tables) = view(stack).await?;
            ensure!(
                upto >= number(&lsn)? && tables == TABLES.len(),
                "the view says {upto} of {tables} tables: {lsn}"
            );
        }
    }
    Ok(times)
}

/// Wants that nobody says so of a position for a while, and that bad questions are told so.
async fn is_not_visible(stack: &Stack, sink: &Process, lsn: &str) -> anyhow::Result<()> {
    let (status, said) = ask(sink, &format!("lsn={lsn}&timeout=4s")).await?;
    ensure!(said["visible"] == false && [200, 503].contains(&status), "{status} {said}");
    let (upto, _) = view(stack).await?;
    ensure!(upto < number(lsn)?, "the view says {upto}: {lsn}");
    for (query, wanted, word) in [
        ("lsn=0/1&table=public.none", 404, "public.none"),
        ("lsn=12", 400, "lsn: "),
        ("lsn=0/1&timeout=1h", 400, "timeout: "),
        ("lsn=0/1&server=1/00000001", 503, "server: "),
    ] {
        let (status, said) = ask(sink, query).await?;
        ensure!(status == wanted && said.to_string().contains(word), "{query}: {status} {said}");
    }
    Ok(())
}

async fn start(stack: &'static Stack) -> anyhow::Result<(Chain<'static>, Arc<[Process; 2]>)> {
    stack.postgres().create_database(NAME).await?;
    for table in TABLES {
        let sql = format!(
            "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tag text, n int, wide text)"
        );
        stack.postgres().execute(Role::Shop, NAME, &sql).await?;
    }
    let names = TABLES.map(|table| format!("public.{table}"));
    let mut manifest = pipeline(stack, NAME, &names.each_ref().map(String::as_str));
    manifest["spec"]["sink"] = json!({"replicas": 2});
    manifest["spec"]["verification"] = json!({"enabled": false});
    let chain = Chain::prepare(stack, NAME, &objects(manifest))?;
    let sinks = Arc::new([chain.another_sink("one")?, chain.another_sink("two")?]);
    chain.start_operator()?;
    let config = chain.manifests().with_file_name("sink.json");
    wait_until(2 * PATIENCE, "the sink's configuration", || async { Ok(config.is_file().then_some(())) })
        .await?;
    for sink in sinks.iter() {
        sink.spawn()?;
    }
    chain.wait_ready(2 * PATIENCE).await?;
    Ok((chain, sinks))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_be_visible_is_there_and_nothing_else_is_said() -> anyhow::Result<()> {
    let stack = shared().await?;
    let (chain, sinks) = start(stack).await?;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(stack, Arc::clone(&sinks), writer));
    }
    // One that finds the positions, or one that applies what lies below them: both die on the way.
    let mut times = Vec::new();
    let mut killed = 0;
    let client = stack.postgres().connect(Role::Shop, NAME).await?;
    while !writers.is_empty() {
        if killed < 3 {
            let tag = format!("between-{killed}");
            let lsn = commit(&client, "beta", &tag, 1).await?;
            until_visible(&[&sinks[0], &sinks[1]], killed, &format!("lsn={lsn}&timeout=20s")).await?;
            ensure!(seen(stack, "beta", &tag).await? == 1, "{lsn}");
            let sink = &sinks[(killed % 2) as usize];
            sink.kill().await?;
            sink.spawn()?;
            killed += 1;
        } else if let Some(ended) = writers.join_next().await {
            times.extend(ended??);
        }
    }

    // The connector stands: what is committed now is nowhere.
    chain.operator().stop().await?;
    let path = format!("/connectors/{}", PipelineName::new("local", NAME.replace('_', "-")).connector());
    stack.connect().request(reqwest::Method::PUT, &format!("{path}/pause"), None).await?;
    wait_until(PATIENCE, "the connector to pause", || async {
        let status = stack.connect().request(reqwest::Method::GET, &format!("{path}/status"), None).await?;
        Ok((status["tasks"][0]["state"] == "PAUSED").then_some(()))
    })
    .await?;
    let lsn = commit(&client, "alpha", "paused", 1).await?;
    is_not_visible(stack, &sinks[0], &lsn).await?;
    stack.connect().request(reqwest::Method::PUT, &format!("{path}/resume"), None).await?;
    until_visible(&[&sinks[1]], 0, &format!("lsn={lsn}&timeout=20s")).await?;
    ensure!(seen(stack, "alpha", "paused").await? == 1, "{lsn}");

    // No sink is there: the view says no more than they have applied.
    for sink in sinks.iter() {
        sink.kill().await?;
    }
    let lsn = commit(&client, "gamma", "stopped", 1).await?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let (upto, _) = view(stack).await?;
        ensure!(upto < number(&lsn)?, "the view says {upto}: {lsn}");
    }
    sinks[1].spawn()?;
    until_visible(&[&sinks[1]], 0, &format!("lsn={lsn}&timeout=20s")).await?;
    ensure!(seen(stack, "gamma", "stopped").await? == 1, "{lsn}");

    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64();
    report::write(
        "visible.json",
        &json!({
            "commits": times.len(), "wrong": 0, "sinksKilled": killed,
            "secondsUntilVisible": {"p50": at(50), "p99": at(99)}, "connectFlushSeconds": 5,
        }),
    )?;
    Ok(())
}
