//! Rows that nobody sees are removed under live writes; nothing that was deleted is seen again meanwhile, nor when a change of
//! before comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_e2e::bench::report;
use tidemark_e2e::chain::{Chain, http_of, pipeline};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, shared, wait_until};

use super::objects;

const NAME: &str = "cleaned";
/// Keys up to it are deleted for good; those up to twice as much are deleted and come back; the others are written.
const GONE: i64 = 1000;
const SCHEMA: &str = "
CREATE TABLE items (id bigint, part text, n bigint NOT NULL, PRIMARY KEY (id, part));
INSERT INTO items SELECT id, 'p', 0 FROM generate_series(1, 4000) AS id;
CREATE TABLE emptied (id bigint PRIMARY KEY);
INSERT INTO emptied SELECT generate_series(1, 500)";

/// Changes rows, deletes some and brings them back, until it is told to stop.
async fn write(stack: &'static Stack, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let client = stack.postgres().connect(Role::Shop, NAME).await?;
    let mut turn = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let id = 2 * GONE + 1 + turn % (2 * GONE);
        client.execute("UPDATE items SET n = n + 1 WHERE id = $1", &[&id]).await?;
        client.execute("DELETE FROM items WHERE id = $1", &[&(id + 1)]).await?;
        client.execute("INSERT INTO items VALUES ($1, 'p', $2)", &[&(id + 1), &turn]).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Looks again and again whether a row is seen that was deleted; how often it looked.
async fn watch(stack: &'static Stack, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let sql = format!("SELECT count() FROM {NAME}.items_current WHERE id <= {GONE}");
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let seen = stack.clickhouse().query(&sql).await?;
        ensure!(seen.trim() == "0", "{} deleted rows are seen again", seen.trim());
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(looks)
}

async fn number(stack: &Stack, sql: &str) -> anyhow::Result<u64> {
    Ok(stack.clickhouse().query(sql).await?.trim().parse()?)
}

/// Rows of deleted keys in the state table, and of the table that was truncated.
async fn hidden(stack: &Stack) -> anyhow::Result<(u64, u64)> {
    let of = |table: &str, condition: &str| format!("SELECT count() FROM {NAME}.{table} WHERE {condition}");
    let gone = number(stack, &of("items", &format!("id <= {GONE}"))).await?;
    Ok((gone, number(stack, &of("emptied", "1")).await?))
}

/// Sends a change of a deleted row once more, as a connector does that goes back, and waits until it was taken.
async fn again(chain: &Chain<'_>, lsn: u64) -> anyhow::Result<()> {
    let stack = chain.stack;
    let topic = format!("{NAME}.public.items");
    // As text: a record's fields are in the order of the table's columns.
    let payload = format!(
        r#"{{"before":null,"op":"u","after":{{"id":7,"part":"p","n":1}},"source":{{"ts_ms":5,"snapshot":"false","sequence":"[\"{lsn}\",\"{lsn}\"]","lsn":{lsn}}}}}"#
    );
    let header = OwnedHeaders::new().insert(Header { key: EPOCH_HEADER, value: Some("1") });
    stack
        .kafka()
        .produce_with(&topic, Some(b"{\"id\":7,\"part\":\"p\"}"), Some(payload.as_bytes()), header)
        .await?;
    // What is committed behind it is seen once it was taken, in whichever partition it is.
    let turn = jiff::Timestamp::now().as_millisecond();
    let mark = format!("INSERT INTO items SELECT id, '{turn}', 0 FROM generate_series(900001, 900040) AS id");
    stack.postgres().execute(Role::Shop, NAME, &mark).await?;
    wait_until(PATIENCE, "the record to be taken", || async {
        let seen =
            number(stack, &format!("SELECT count() FROM {NAME}.items_current WHERE part = '{turn}'")).await?;
        ensure!(seen == 40, "{seen} of 40 rows behind it are there");
        Ok(Some(()))
    })
    .await
    .with_context(|| chain.sink().log_tail(20))?;
    let letters = format!("SELECT sum(dead_letters) FROM {NAME}._tidemark_progress FINAL");
    ensure!(number(stack, &letters).await? == 0, "the record cannot be read: {}", chain.sink().log_tail(20));
    Ok(())
}

async fn start(stack: &'static Stack) -> anyhow::Result<Chain<'static>> {
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, SCHEMA).await?;
    let mut manifest = pipeline(stack, NAME, &["public.items", "public.emptied"]);
    manifest["spec"]["clickhouse"]["cleanup"] = json!({"after": "1m"});
    let chain = Chain::prepare(stack, NAME, &objects(manifest))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    Ok(chain)
}

async fn equal(chain: &Chain<'_>, table: &str) -> anyhow::Result<()> {
    let comparer = chain.comparer().await?;
    wait_until(PATIENCE, &format!("{table} to be equal"), || async {
        let mismatch = comparer.check(table, table, &[]).await?;
        ensure!(mismatch.is_none(), "{mismatch:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_sees_is_removed_and_nothing_deleted_is_ever_seen_again() -> anyhow::Result<()> {
    let stack = shared().await?;
    let chain = start(stack).await?;
    let reads = format!("SELECT sum(barrier) FROM {NAME}._tidemark_reads FINAL");
    let barriers = number(stack, &reads).await?;
    let sql = |sql: String| async move { stack.postgres().execute(Role::Shop, NAME, &sql).await };
    sql(format!("UPDATE items SET n = 5 WHERE id <= {}", 2 * GONE)).await?;
    let lsn = stack
        .postgres()
        .query(Role::Shop, NAME, "SELECT (pg_current_wal_insert_lsn() - '0/0')::text")
        .await?;
    let lsn: u64 = lsn[0][0].as_deref().context("a position")?.parse()?;
    sql(format!("DELETE FROM items WHERE id <= {}; TRUNCATE emptied", 2 * GONE)).await?;
    sql(format!(
        "INSERT INTO items SELECT id, 'p', 9 FROM generate_series({}, {}) AS id",
        GONE + 1,
        2 * GONE
    ))
    .await?;
    equal(&chain, "items").await?;
    equal(&chain, "emptied").await?;
    let before = hidden(stack).await?;
    ensure!(before.0 >= 1000 && before.1 >= 500, "there is nothing to remove: {before:?}");

    let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn(write(stack, Arc::clone(&stop)));
    let watcher = tokio::spawn(watch(stack, Arc::clone(&stop)));
    let cleaned = wait_until(2 * PATIENCE, "what nobody sees to be removed", || async {
        if watcher.is_finished() {
            return Ok(Some(()));
        }
        // Who is asked looks for what is visible each second, and not each minute.
        drop(reqwest::get(format!("http://{}/visible?lsn=0/1", http_of(chain.sink())?)).await?);
        let now = hidden(stack).await?;
        ensure!(now == (0, 0), "of {before:?} there is {now:?}");
        Ok(Some(()))
    })
    .await
    .with_context(|| chain.sink().log_tail(20));
    let seconds = begin.elapsed().as_secs_f64();
    if cleaned.is_ok() && !watcher.is_finished() {
        again(&chain, lsn).await?;
    }
    stop.store(true, Ordering::Relaxed);
    writer.await??;
    let looks = watcher.await??;
    cleaned?;
    ensure!(hidden(stack).await?.0 == 0, "a change that came again was applied");
    equal(&chain, "items").await?;

    // One that starts knows it, too, before it takes the first record.
    chain.sink().kill().await?;
    chain.sink().spawn()?;
    again(&chain, lsn).await?;
    ensure!(hidden(stack).await?.0 == 0, "a change that came again after a restart was applied");
    equal(&chain, "items").await?;
    ensure!(
        number(stack, &reads).await? == barriers,
        "a table was read again, which hides everything of before"
    );
    report::write(
        "cleanup.json",
        &json!({"rows": before.0 + before.1, "seconds": seconds, "looksMeanwhile": looks, "seenAgain": 0}),
    )?;
    Ok(())
}
