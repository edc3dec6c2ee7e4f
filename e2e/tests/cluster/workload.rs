//! The shop under load: every kind of change, while pods are killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tidemark_e2e::cluster::{Cluster, Pipeline, SHOP, example};
use tidemark_e2e::oracle::{Oracle, report};
use tidemark_e2e::shop::{Database, Generator, Load, SCHEMA, SEED};
use tidemark_e2e::stack::{ANALYTICS_DATABASE, PATIENCE, Role, User, cache, wait_until};
use tokio::sync::Notify;
use tokio_postgres::Client;

/// From `kubectl apply` to the first row that a user sees, on a warm cluster.
const FIRST_ROW: Duration = Duration::from_mins(1);
/// Orders a second while pods are killed.
const RATE: f64 = 20.0;

pub(super) async fn equality(cluster: &Cluster) -> anyhow::Result<()> {
    let postgres = cluster.addresses().postgres(Role::Shop).await?;
    open_shop(cluster, &postgres).await?;
    let pipeline = Pipeline::new(cluster, SHOP, "shop");
    apply_and_measure(cluster, &pipeline).await?;
    let oracle = pipeline.oracle(ANALYTICS_DATABASE, User::Tidemark).await?;
    oracle.wait_equal(PATIENCE).await.context("after the snapshot")?;

    let stop = Arc::new(Notify::new());
    let life = tokio::spawn(live(cluster.addresses().postgres(Role::Shop).await?, Arc::clone(&stop)));
    let disturbed = disturb(cluster, &pipeline, &postgres).await;
    stop.notify_one();
    let orders = life.await?.context("the shop's life")?;
    disturbed?;
    quiet(&postgres).await?;
    ensure!(orders > 100, "only {orders} orders were placed under the disturbances");

    oracle.wait_equal(PATIENCE).await.context("after the workload")?;
    equal_under_hostile_settings(&oracle).await?;
    pipeline.wait_ready(PATIENCE).await
}

async fn open_shop(cluster: &Cluster, postgres: &Client) -> anyhow::Result<()> {
    postgres.batch_execute(&format!("BEGIN; {SCHEMA} {SEED} COMMIT;")).await.context("making the shop")?;
    let database = Database::new(cluster.addresses().postgres(Role::Shop).await?).await?;
    let mut generator = Generator::new(database, 1).await?;
    generator.history(300, 60, jiff::Timestamp::now().as_microsecond()).await
}

/// Applies the example, times the first row that the dashboards' user sees, and waits until all is ready.
async fn apply_and_measure(cluster: &Cluster, pipeline: &Pipeline<'_>) -> anyhow::Result<()> {
    let reader = cluster.addresses().clickhouse(User::Reader)?;
    let count = format!("SELECT toString(count()) FROM `{ANALYTICS_DATABASE}`.orders_current");
    let start = Instant::now();
    pipeline.apply(&example()?).await?;
    wait_until(FIRST_ROW * 2, "the first row in orders_current", || async {
        let rows: Vec<(String,)> = reader.rows(&count, &[]).await?;
        Ok(rows.first().is_some_and(|row| row.0 != "0").then_some(()))
    })
    .await?;
    let first_row = start.elapsed();
    pipeline.wait_ready(PATIENCE).await?;
    let measured = json!({
        "first_row_s": seconds(first_row),
        "ready_s": seconds(start.elapsed()),
        "limit_s": FIRST_ROW.as_secs(),
    });
    println!("apply to first row: {measured}");
    let reports = cache::e2e_folder().join("../target/reports");
    std::fs::create_dir_all(&reports)?;
    std::fs::write(reports.join("apply-to-first-row.json"), format!("{measured:#}\n"))?;
    ensure!(first_row < FIRST_ROW, "the first row was visible after {first_row:?}, not within {FIRST_ROW:?}");
    Ok(())
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Places and changes orders until told to stop; returns how many.
async fn live(postgres: Client, stop: Arc<Notify>) -> anyhow::Result<u64> {
    let mut generator = Generator::new(Database::new(postgres).await?, 2).await?;
    let load = Load { rate: RATE, duration: None };
    tokio::select! {
        lived = generator.run(load, |_| {}) => lived?,
        () = stop.notified() => {}
    }
    Ok(generator.written().orders)
}

/// Everything that can happen to a shop and its pipeline, with orders flowing between one thing and the next.
async fn disturb(cluster: &Cluster, pipeline: &Pipeline<'_>, postgres: &Client) -> anyhow::Result<()> {
    let sql = async |statements: &str| {
        postgres.batch_execute(statements).await.with_context(|| format!("running {statements}"))
    };
    orders_go_on(postgres, 40).await?;
    sql("UPDATE orders SET note = 'gift wrap, please' WHERE id % 4 = 0").await?;
    sql("DELETE FROM customers WHERE id % 13 = 0").await?;
    // Rows under new keys and none under the old ones, in a simple and in a composed key.
    sql("UPDATE order_items SET line_no = line_no + 100 WHERE order_id % 5 = 0").await?;
    // No order of such a customer may come in between.
    sql("BEGIN; LOCK TABLE orders IN SHARE MODE; UPDATE customers SET id = id + 1000000 WHERE id % 7 = 0 \
         AND id NOT IN (SELECT customer_id FROM orders); COMMIT")
    .await?;

    let sink = cluster.kubectl().kill_pod(SHOP, &pipeline.sink_selector().await?).await?;
    orders_go_on(postgres, 40).await.with_context(|| format!("after the kill of {sink}"))?;
    sql("TRUNCATE order_items").await?;
    orders_go_on(postgres, 20).await?;
    sql("ALTER TABLE orders ADD COLUMN coupon text, ADD COLUMN priority smallint NOT NULL DEFAULT 3").await?;
    sql("UPDATE orders SET coupon = 'SAVE10', priority = 1 WHERE id % 3 = 0").await?;

    let operator = cluster.kill_operator().await?;
    sql("ALTER TABLE products ADD COLUMN weight_grams integer").await?;
    sql("UPDATE products SET weight_grams = 100 * id WHERE id % 2 = 0").await?;
    orders_go_on(postgres, 40).await.with_context(|| format!("after the kill of {operator}"))?;
    sql("BEGIN; UPDATE orders SET priority = 5 WHERE id % 6 = 0; DELETE FROM orders WHERE id % 11 = 0; COMMIT").await?;
    sql("BEGIN; DELETE FROM orders WHERE id % 9 = 0; ROLLBACK").await?;
    orders_go_on(postgres, 20).await
}

/// Waits until so many more orders were placed.
async fn orders_go_on(postgres: &Client, number: i64) -> anyhow::Result<()> {
    let newest = async || -> anyhow::Result<i64> {
        let row = postgres.query_one("SELECT coalesce(max(id), 0) FROM orders", &[]).await?;
        Ok(row.get(0))
    };
    let end = newest().await? + number;
    wait_until(Duration::from_mins(1), "more orders", || async {
        let now = newest().await?;
        ensure!(now >= end, "order {now} of {end}");
        Ok(Some(()))
    })
    .await
}

/// Waits until nobody writes to the shop any more.
async fn quiet(postgres: &Client) -> anyhow::Result<()> {
    wait_until(Duration::from_secs(30), "the shop to be quiet", || async {
        let row = postgres
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop' AND pid != pg_backend_pid()",
                &[],
            )
            .await?;
        Ok((row.get::<_, i64>(0) == 0).then_some(()))
    })
    .await
}

/// Compares everything under each hostile setting. What depends on the clock may differ as an hour passes, so
/// a difference must be there twice.
async fn equal_under_hostile_settings(oracle: &Oracle) -> anyhow::Result<()> {
    let first = oracle.check_hostile().await?;
    if first.is_empty() {
        return Ok(());
    }
    let second = oracle.check_hostile().await?;
    ensure!(second.is_empty(), "under hostile settings:\n{}", report(&second));
    Ok(())
}
