//! The whole chain on processes: PostgreSQL, Debezium, Kafka, sink, ClickHouse, and the operator without a cluster.

mod cleanup;
mod killed;
mod visible;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidemark_e2e::cases::Comparer;
use tidemark_e2e::cases::canary::{self, Canary};
use tidemark_e2e::chain::{Chain, secrets, shop};
use tidemark_e2e::oracle;
use tidemark_e2e::shop::{Database, Generator, SCHEMA, SEED};
use tidemark_e2e::stack::{Component, PATIENCE, Part, Role, Stack, shared, wait_until};

/// A manifest with its Secrets.
pub(crate) fn objects(manifest: Value) -> Vec<Value> {
    std::iter::once(manifest).chain(secrets()).collect()
}

/// Orders of the last days, written as fast as the database takes them.
async fn orders(generator: &mut Generator, number: u32) -> anyhow::Result<()> {
    generator.history(number, 40, jiff::Timestamp::now().as_microsecond()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_views_equal_postgresql_through_kills_schema_changes_and_truncates() -> anyhow::Result<()>
{
    const NAME: &str = "whole_chain";
    let stack = Stack::start(Part::CHAIN).await?;
    stack.postgres().create_database(NAME).await?;
    let sql = |statements: &'static str| stack.postgres().execute(Role::Shop, NAME, statements);
    sql(SCHEMA).await?;
    sql(SEED).await?;
    let database = Database::new(stack.postgres().connect(Role::Shop, NAME).await?).await?;
    let mut generator = Generator::new(database, 7).await?;
    orders(&mut generator, 200).await?;

    sql(canary::DDL).await?;
    let mut manifest = shop(&stack, NAME);
    manifest["spec"]["tables"].as_array_mut().unwrap().push(json!({"name": "public.canary"}));
    let chain = Chain::prepare(&stack, NAME, &objects(manifest))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let oracle = chain.oracle().await?;
    oracle.wait_equal(PATIENCE).await?;
    // What the oracle finds equal at the end could have been wrong on the way: this table is looked at all the time.
    let canary = Arc::new(Canary::new(true));
    let watched = watched(&chain, Arc::clone(&canary)).await?;

    orders(&mut generator, 300).await?;
    // Keys that change, with a row under the new and none under the old one.
    sql("UPDATE customers SET id = id + 1000000 WHERE id % 7 = 0 AND id NOT IN (SELECT customer_id FROM orders)")
        .await?;
    sql("UPDATE order_items SET line_no = line_no + 100 WHERE order_id % 5 = 0").await?;
    chain.sink().kill().await?;
    orders(&mut generator, 100).await?;
    sql("ALTER TABLE orders ADD COLUMN coupon text, ADD COLUMN priority smallint NOT NULL DEFAULT 3").await?;
    sql("UPDATE orders SET coupon = 'SAVE10' WHERE id % 3 = 0").await?;
    chain.sink().spawn()?;
    sql("DELETE FROM orders WHERE id % 11 = 0").await?;
    chain.operator().kill().await?;
    stack.connect().kill().await?;
    orders(&mut generator, 100).await?;
    stack.connect().start().await?;
    chain.operator().spawn()?;
    sql("BEGIN; TRUNCATE order_items;
         INSERT INTO order_items (order_id, line_no, product_id, quantity, unit_price)
         SELECT id, 1, (SELECT min(id) FROM products), 2, 9.99 FROM orders; COMMIT")
    .await?;
    orders(&mut generator, 50).await?;

    oracle.wait_equal(PATIENCE).await?;
    let hostile = oracle.check_hostile().await?;
    assert!(hostile.is_empty(), "{}", oracle::report(&hostile));
    canary.end();
    let comparer = watched.await??;
    Canary::is_there(&comparer, PATIENCE).await?;
    let line = canary.line("canary", &comparer).await;
    assert!(line.unexpected.is_none(), "{}", line.seen);
    Ok(())
}

/// Writes and watches the canary beside the test, until it is over.
async fn watched(
    chain: &Chain<'_>,
    canary: Arc<Canary>,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<Comparer>>> {
    let comparer = chain.comparer().await?;
    Canary::is_there(&comparer, PATIENCE).await?;
    let shop = chain.stack.postgres().connect(Role::Shop, &chain.name).await?;
    let database = chain.name.clone();
    Ok(tokio::spawn(async move {
        let watch = canary.watch(comparer.clickhouse(), &database);
        let (written, ()) = futures::future::join(canary.write(&shop), watch).await;
        written.map(|()| comparer)
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_starts_again_writes_nothing() -> anyhow::Result<()> {
    const NAME: &str = "silence";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    for statements in [SCHEMA, SEED] {
        stack.postgres().execute(Role::Shop, NAME, statements).await?;
    }
    let chain = Chain::prepare(stack, NAME, &objects(shop(stack, NAME)))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;
    chain.operator().stop().await?;

    let again = chain.apply_once().await?;
    assert!(again.contains("nothing to do"), "a second apply did something:\n{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_leaves_what_the_policy_says_and_a_second_apply_goes_on_right() -> anyhow::Result<()> {
    const NAME: &str = "comes_back";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    let sql = |statements: &'static str| stack.postgres().execute(Role::Shop, NAME, statements);
    sql(SCHEMA).await?;
    sql(SEED).await?;
    let chain = Chain::prepare(stack, NAME, &objects(shop(stack, NAME)))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;

    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;
    let slots = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()";
    let slots = stack.postgres().query(Role::Superuser, NAME, slots).await?;
    let publications =
        stack.postgres().query(Role::Superuser, NAME, "SELECT pubname FROM pg_publication").await?;
    assert!(slots.is_empty() && publications.is_empty(), "left: {slots:?} {publications:?}");
    let connectors = stack.connect().request(reqwest::Method::GET, "/connectors", None).await?;
    let mut connectors: Vec<String> = serde_json::from_value(connectors)?;
    connectors.retain(|connector| connector.contains("comes-back"));
    assert!(connectors.is_empty(), "left: {connectors:?}");
    let kept = stack.clickhouse().query(&format!("SELECT count() FROM {NAME}.customers")).await?;
    assert_ne!(kept.trim(), "0", "the state tables are retained by default");

    // What happens while nobody looks: an update, a deletion, a new row.
    sql("UPDATE customers SET name = 'Renamed' WHERE id = (SELECT min(id) FROM customers)").await?;
    sql("DELETE FROM customers WHERE id = (SELECT max(id) FROM customers)").await?;
    sql("INSERT INTO customers (email, name) VALUES ('late@example.com', 'Late')").await?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_cut_short_leaves_no_ghost() -> anyhow::Result<()> {
    const NAME: &str = "cut_short";
    let stack = Stack::start(Part::CHAIN).await?;
    stack.postgres().create_database(NAME).await?;
    let sql = |statements: &'static str| stack.postgres().execute(Role::Shop, NAME, statements);
    sql(SCHEMA).await?;
    sql(SEED).await?;
    // Ten seconds' worth, so that the sink dies in the middle of it.
    sql("INSERT INTO customers (email, name) SELECT 'many' || i || '@example.com', repeat('x', 200)
         FROM generate_series(1, 150000) AS i")
    .await?;
    let mut manifest = shop(&stack, NAME);
    manifest["spec"]["source"]["postgres"]["reads"] = json!({"rowsPerSecond": 15_000});
    let chain = Chain::prepare(&stack, NAME, &objects(manifest))?;
    chain.start().await?;
    wait_until(PATIENCE, "the first rows of the read", || async {
        let answer = stack.clickhouse().query(&format!("SELECT count() FROM {NAME}.customers")).await?;
        Ok((answer.trim().parse::<u64>()? > 0).then_some(()))
    })
    .await?;
    chain.sink().kill().await?;
    let state = format!(
        "SELECT argMax(state, beat), argMax(request, beat) FROM {NAME}._tidemark_reads WHERE table = 'customers'"
    );
    let at_the_kill = stack.clickhouse().query(&state).await?;
    assert!(
        at_the_kill.starts_with("reading"),
        "the read was over before the sink was killed: {at_the_kill}"
    );
    sql("DELETE FROM customers WHERE id % 2 = 0 AND id NOT IN (SELECT customer_id FROM orders)").await?;
    chain.start_sink().await?;
    chain.wait_ready(Duration::from_secs(180)).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;
    let at_the_end = stack.clickhouse().query(&state).await?;
    assert_eq!(at_the_end.trim(), at_the_kill.trim().replace("reading", "read"), "it was asked for once");
    Ok(())
}
