//! Continuous verification on the real chain: what was planted in ClickHouse is found and repaired while the shop goes on
//! writing, and nothing else is ever found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tidemark_e2e::bench::report;
use tidemark_e2e::chain::{Chain, http_of, pipeline};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, shared, wait_until};
use tokio::task::JoinSet;

use crate::chain::objects;

const NAME: &str = "verified";
const TABLES: [&str; 3] = ["items", "pairs", "events"];

/// Keys of every kind that matters: a number with values out of line, text and uuid, a partitioned table. What is planted
/// lies among the rows that the writers change, on the same pages and in the same ranges.
const SCHEMA: &str = "
CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, note text, big text);
ALTER TABLE items ALTER COLUMN big SET STORAGE EXTERNAL;
INSERT INTO items SELECT id, 0, 'note ' || id, CASE WHEN id % 10 = 0 THEN repeat('x', 3000) END
FROM generate_series(1, 12000) AS id;
CREATE TABLE pairs (a text, b uuid, v jsonb, at timestamptz, price numeric(12,2), PRIMARY KEY (a, b));
INSERT INTO pairs SELECT 'k' || id % 50, md5(id::text)::uuid, jsonb_build_object('id', id), '2024-01-01'::timestamptz + id * '1 minute'::interval, id / 7.0
FROM generate_series(1, 4000) AS id;
CREATE TABLE events (id bigint, day date, tags text[], PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
INSERT INTO events SELECT id, '2024-01-01'::date + (id % 60)::int, ARRAY['a', id::text] FROM generate_series(1, 3000) AS id;
ANALYZE";

/// Changes rows whose number is no multiple of 3 until it is told to stop: updates, also of values out of line and of keys,
/// deletes and re-inserts, short transactions and long ones, each commit held up in the log.
async fn write(stack: &'static Stack, seed: u64, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let client = stack.postgres().connect(Role::Superuser, NAME).await?;
    client.batch_execute("SET commit_delay = 20000; SET commit_siblings = 0").await?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut transactions = 0;
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute("BEGIN").await?;
        let mut failed = false;
        for _ in 0..random.random_range(1..5) {
            let id = 3 * random.random_range(1..4000_i64) + 1;
            let statement = match random.random_range(0..9) {
                0 => format!("DELETE FROM items WHERE id = {id}"),
                1 => format!(
                    "INSERT INTO items VALUES ({id}, 1, 'new') ON CONFLICT (id) DO UPDATE SET n = items.n + 7"
                ),
                2 => format!(
                    "UPDATE items SET big = repeat('y', {}) WHERE id = {id}",
                    random.random_range(1..6000)
                ),
                3 => format!(
                    "UPDATE items SET id = id + 500000 WHERE id = {id} AND NOT EXISTS (SELECT FROM items WHERE id = {id} + 500000)"
                ),
                4 => format!("DELETE FROM items WHERE id = {id} + 500000"),
                5 => format!(
                    "UPDATE pairs SET v = v || '{{\"n\": {id}}}', price = price + 1 WHERE b = md5('{id}')::uuid"
                ),
                6 => format!(
                    "UPDATE events SET tags = tags || 'b', day = '2024-01-01'::date + {} WHERE id = {id}",
                    id % 59
                ),
                _ => format!("UPDATE items SET n = n + 1 WHERE id = {id}"),
            };
            // Two that want the same rows in another order, or the same key: one of them begins anew.
            failed |= client.batch_execute(&statement).await.is_err();
            if random.random_range(0..6) == 0 {
                tokio::time::sleep(Duration::from_millis(random.random_range(1..40))).await;
            }
        }
        let rolls_back = failed || random.random_range(0..10) == 0;
        client.batch_execute(if rolls_back { "ROLLBACK" } else { "COMMIT" }).await?;
        transactions += 1;
        // A shop, and no benchmark: more would be the chain's work and not the comparison's.
        tokio::time::sleep(Duration::from_millis(random.random_range(30..200))).await;
    }
    Ok(transactions)
}

/// What the verification table has of all tables together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    differences: u64,
    repaired: u64,
    open: u64,
    /// Tables that have a full round that began after a moment.
    full: usize,
}

async fn sum(stack: &Stack, since_ms: i64) -> anyhow::Result<Sum> {
    let text = stack
        .clickhouse()
        .query(&format!(
            "SELECT sum(differences), sum(repaired), sum(open), countIf(verified_from > fromUnixTimestamp64Milli(toInt64({since_ms}))) \
             FROM {NAME}._tidemark_verification FINAL"
        ))
        .await?;
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let numbers = numbers.with_context(|| text.clone())?;
    let [differences, repaired, open, full] = numbers[..] else { anyhow::bail!("{text}") };
    Ok(Sum { differences, repaired, open, full: usize::try_from(full)? })
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Waits for a full round of every table that began from now on.
async fn full_round(chain: &Chain<'_>) -> anyhow::Result<Sum> {
    let (stack, since) = (chain.stack, now_ms());
    wait_until(2 * PATIENCE, "a full round of every table", || async {
        let sum = sum(stack, since).await?;
        if sum.full == TABLES.len() {
            return Ok(Some(sum));
        }
        let sql = format!(
            "SELECT table, compared, coverage, error, place FROM {NAME}._tidemark_verification FINAL"
        );
        anyhow::bail!("{sum:?}\n{}", stack.clickhouse().query(&sql).await?)
    })
    .await
    .with_context(|| chain.sink().log_tail(20))
}

/// Plants `count` rows of each kind in a table from its `from`th quiet row on; returns how many.
///
/// Wrong ones of the same version, which wins since it came later, of a greater one, and of one from nowhere; missing ones whose rows are
/// deleted, and that have a tombstone; surplus ones.
async fn plant(stack: &Stack, table: &str, from: usize, count: usize) -> anyhow::Result<u64> {
    let (key, wrong, other) = match table {
        "items" => ("id", "'wrong' AS note", "id + 9000000 AS id"),
        "pairs" => ("(a, b)", "price - 1 AS price", "concat(a, '-surplus') AS a"),
        _ => ("(id, day)", "['wrong'] AS tags", "id + 9000000 AS id"),
    };
    // Rows that no writer touches.
    let quiet = match table {
        // Nor one that is planted as surplus, which has the values of another.
        "pairs" => "toInt64(JSONExtractInt(v, 'id')) % 3 = 0 AND NOT endsWith(a, '-surplus')",
        _ => "id % 3 = 0 AND id < 20000",
    };
    let keys = |at: usize| {
        format!(
            "{key} IN (SELECT {key} FROM {NAME}.{table}_current WHERE {quiet} ORDER BY {key} LIMIT {count} OFFSET {})",
            from + at * count
        )
    };
    let copy = |columns: &str, at: usize| {
        let keys = keys(at);
        // WHERE would mean the columns as they are replaced.
        format!(
            "INSERT INTO {NAME}.{table} SELECT * REPLACE ({columns}) FROM (SELECT * FROM {NAME}.{table} FINAL WHERE {keys})"
        )
    };
    // The last first: what is deleted is not counted by the next OFFSET.
    for statement in [
        copy(other, 0),
        copy(wrong, 1),
        copy(&format!("{wrong}, _version + 1 AS _version"), 2),
        copy("1 AS _is_deleted, _version + 1 AS _version", 4),
        // Of an epoch that never was.
        copy(&format!("{wrong}, _version + bitShiftLeft(toUInt128(1), 120) AS _version"), 5),
        format!("DELETE FROM {NAME}.{table} WHERE {}", keys(3)),
    ] {
        stack.clickhouse().query(&statement).await.with_context(|| table.to_owned())?;
    }
    Ok(6 * count as u64)
}

/// Waits until all that was planted is found and repaired; nothing else may be found.
async fn found(stack: &Stack, planted: u64) -> anyhow::Result<()> {
    wait_until(2 * PATIENCE, &format!("{planted} differences to be found and repaired"), || async {
        let sum = sum(stack, 0).await?;
        ensure!(sum.repaired == planted && sum.open == 0, "{sum:?}");
        Ok(Some(()))
    })
    .await
}

/// Differences that were found, by kind.
async fn kinds(stack: &Stack) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT table, kind, columns, count(), countIf(repaired_at IS NULL), any(key) FROM {NAME}._tidemark_differences FINAL \
         GROUP BY ALL ORDER BY ALL"
    );
    stack.clickhouse().query(&sql).await
}

async fn verify(chain: &Chain<'_>, code: i32) -> anyhow::Result<Value> {
    let (is, text) = chain.asks_with("verify", &["--timeout", "100s", "-o", "json"]).await?;
    ensure!(is == code, "tidemark verify: exit {is} instead of {code}\n{text}");
    serde_json::from_str(&text).with_context(|| text)
}

/// Starts the pipeline, with rounds one after the other.
async fn start(stack: &'static Stack) -> anyhow::Result<Chain<'static>> {
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, SCHEMA).await?;
    let names = TABLES.map(|table| format!("public.{table}"));
    let mut manifest = pipeline(stack, NAME, &names.each_ref().map(String::as_str));
    manifest["spec"]["verification"] = json!({"interval": "1s", "rowsPerSecond": 100_000});
    // A test that fails shows what was examined.
    let environment = ["RUST_LOG=info,tidemark_sink::verify=debug"];
    let chain = Chain::prepare_in(stack, NAME, &objects(manifest), &environment)?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    Ok(chain)
}

/// Plants while writers go on, also right before the sink dies in the middle of a round; returns how many rows, and how long
/// the first of them took to be found and repaired.
async fn planted_under_writes(chain: &Chain<'static>) -> anyhow::Result<(u64, Duration)> {
    let stack = chain.stack;
    let mut planted = 0;
    for table in TABLES {
        planted += plant(stack, table, 0, 10).await?;
    }
    let planting = Instant::now();
    found(stack, planted).await.with_context(|| chain.sink().log_tail(20))?;
    let found_after = planting.elapsed();
    for table in TABLES {
        planted += plant(stack, table, 100, 4).await?;
    }
    chain.sink().kill().await?;
    chain.sink().spawn()?;
    found(stack, planted).await.with_context(|| chain.sink().log_tail(20))?;
    let sum = full_round(chain).await?;
    ensure!(sum.differences == planted, "{planted} planted, {sum:?}\n{}", kinds(stack).await?);
    Ok((planted, found_after))
}

/// Holds condition, status and the sink's metrics against what was found.
async fn is_told(chain: &Chain<'_>) -> anyhow::Result<()> {
    chain.wait_condition("Verified", "True", "AsDesired", PATIENCE).await?;
    let status = chain.status()?;
    let verified =
        status["tables"]["verified"].as_array().or(status["status"]["tables"]["verified"].as_array());
    ensure!(verified.is_some_and(|all| all.len() == TABLES.len()), "{status}");
    let mut figures = [0; 3];
    for (figure, name) in figures.iter_mut().zip(["rows", "differences", "repaired"]) {
        *figure = counted(chain, &format!("tidemark_sink_verify_{name}_total")).await?;
    }
    // Of the process that runs since the other one was killed.
    let [rows, differences, repaired] = figures;
    ensure!(rows > 38_000 && differences > 0 && differences == repaired, "metrics: {figures:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_is_found_and_repaired_under_live_writes_and_nothing_else() -> anyhow::Result<()> {
    let stack = shared().await?;
    let chain = start(stack).await?;
    let begin = Instant::now();

    // Live writes alone: rounds go on, and find nothing.
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for seed in 0..3 {
        writers.spawn(write(stack, seed, Arc::clone(&stop)));
    }
    for _ in 0..2 {
        let sum = full_round(&chain).await?;
        ensure!(sum.differences == 0, "a false difference: {sum:?}\n{}", kinds(stack).await?);
    }
    let (mut planted, found_after) = planted_under_writes(&chain).await?;
    stop.store(true, Ordering::Relaxed);
    let mut transactions = 0;
    while let Some(written) = writers.join_next().await {
        transactions += written??;
    }

    // Asked for, it answers with what it found; asked again, that all is equal.
    verify(&chain, 0).await?;
    planted += plant(stack, "pairs", 200, 2).await?;
    let by_question = sum_of(&verify(&chain, 1).await.or_else(|error| {
        // A round of its own accord came between the planting and the question.
        if error.to_string().contains("exit 0 instead of 1") { Ok(Value::Null) } else { Err(error) }
    })?);
    let answer = verify(&chain, 0).await?;
    let comparer = chain.comparer().await?;
    for table in TABLES {
        wait_until(PATIENCE, &format!("{table} to be equal"), || async {
            let mismatch = comparer.check(table, table, &[]).await?;
            ensure!(mismatch.is_none(), "{mismatch:?}");
            Ok(Some(()))
        })
        .await?;
    }
    let sum = full_round(&chain).await?;
    let expected = Sum { differences: planted, repaired: planted, open: 0, full: TABLES.len() };
    ensure!(sum == expected, "{planted} planted, {sum:?}");
    is_told(&chain).await?;
    let tables = answer["tables"].as_array().into_iter().flatten();
    let comparisons: u64 = tables.filter_map(|table| table["compared"].as_u64()).sum();
    ensure!(comparisons > 30_000, "{answer}");
    report::write(
        "verify.json",
        &json!({
            "rows": 19_000, "comparisonsOfARound": comparisons, "transactionsMeanwhile": transactions,
            "planted": planted, "found": sum.differences, "repaired": sum.repaired, "false": 0,
            "foundByQuestion": by_question, "secondsUntilFound": found_after.as_secs_f64(),
            "seconds": begin.elapsed().as_secs_f64(),
        }),
    )?;
    Ok(())
}

/// Sums a counter of the sink over its labels, as its metrics have it now.
async fn counted(chain: &Chain<'_>, counter: &str) -> anyhow::Result<u64> {
    let address = http_of(chain.sink())?;
    let text = reqwest::get(format!("http://{address}/metrics")).await?.text().await?;
    let values = text.lines().filter(|line| line.starts_with(&format!("{counter}{{")));
    values.filter_map(|line| line.rsplit_once(' ')).map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}

fn sum_of(answer: &Value) -> u64 {
    let tables = answer["tables"].as_array().into_iter().flatten();
    tables.filter_map(|table| table["differences"].as_u64()).sum()
}
