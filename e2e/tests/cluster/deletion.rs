//! What goes and what stays when a resource, or its whole namespace, is deleted.

use std::sync::Arc;

use anyhow::{Context, ensure};
use tidemark_e2e::cluster::{Cluster, Pipeline, SHOP, example};
use tidemark_e2e::oracle::Views;
use tidemark_e2e::stack::{ANALYTICS_DATABASE, PATIENCE, Role, User};
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::cluster::read::{WAREHOUSE, manifest, oracle};

const STATE_TABLES: [&str; 4] = ["customers", "order_items", "orders", "products"];

pub(super) async fn and_return(cluster: &Cluster) -> anyhow::Result<()> {
    let postgres = cluster.addresses().postgres(Role::Shop).await?;
    let pipeline = Pipeline::new(cluster, SHOP, "shop");
    let neighbour = Pipeline::new(cluster, WAREHOUSE, WAREHOUSE);
    let there = pipeline.remains().await?;
    ensure!(there.len() > 5, "before the deletion: {there:?}");
    let neighbours = neighbour.remains().await?;

    let time = pipeline.delete().await?;
    let left = pipeline.remains().await?;
    ensure!(left.is_empty(), "deleted in {time:?}, and left: {left:?}");
    for table in STATE_TABLES {
        let rows = rows(cluster, ANALYTICS_DATABASE, table).await?;
        ensure!(rows > 0, "the policy keeps the tables, and {table} is empty");
    }
    let topics = cluster.addresses().kafka().records("shop.public.orders").await?;
    ensure!(topics > 0, "the policy keeps the topics, and the orders' one is gone");
    let now = neighbour.remains().await?;
    let lost: Vec<_> = neighbours.iter().filter(|what| !now.contains(what)).collect();
    ensure!(lost.is_empty(), "the other pipeline lost {lost:?} of {neighbours:?}");

    // What happens while nobody looks.
    postgres
        .batch_execute(
            "UPDATE customers SET name = 'Renamed' WHERE id % 3 = 0;
             DELETE FROM orders WHERE id % 8 = 0;
             INSERT INTO customers (email, name) VALUES ('late@shop.example', 'Late')",
        )
        .await?;
    pipeline.apply(&example()?).await?;
    pipeline.wait_ready(PATIENCE).await?;
    // As those who look at dashboards: they may read the views and nothing below them.
    let oracle = pipeline.oracle(ANALYTICS_DATABASE, User::Reader).await?.with_views(Views::Deployed);
    oracle.wait_equal(PATIENCE).await.context("after the second apply")?;
    println!(
        "deleted in {:.1} s, {} objects gone, tables kept; equal again after a second apply",
        time.as_secs_f64(),
        there.len()
    );
    Ok(())
}

pub(super) async fn of_the_namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(cluster, WAREHOUSE, WAREHOUSE);
    pipeline.prepare_namespace().await?;
    // As it was, unless the part before failed.
    pipeline.apply(&manifest()?).await?;
    pipeline.wait_ready(PATIENCE).await?;
    oracle(&pipeline).await?.wait_equal(PATIENCE).await?;
    let there = pipeline.remains().await?;
    ensure!(there.len() > 5, "before the deletion: {there:?}");

    let stop = Arc::new(Notify::new());
    let writer = tokio::spawn(write(cluster.addresses().postgres(Role::Shop).await?, Arc::clone(&stop)));
    let deleted = pipeline.delete_namespace().await;
    stop.notify_one();
    writer.await?.context("writing while the namespace goes")?;
    let time = deleted?;
    let left = pipeline.remains().await?;
    ensure!(left.is_empty(), "deleted in {time:?}, and left: {left:?}");
    ensure!(
        rows(cluster, WAREHOUSE, "stock_movements").await? > 0,
        "the policy keeps the table, and it is empty"
    );
    println!("namespace deleted under load in {:.1} s, {} objects gone", time.as_secs_f64(), there.len());
    Ok(())
}

/// Changes rows until told to stop.
async fn write(postgres: Client, stop: Arc<Notify>) -> anyhow::Result<()> {
    let change = "UPDATE stock_movements SET quantity = quantity + 1 WHERE id % 1000 = 7";
    loop {
        tokio::select! {
            done = postgres.execute(change, &[]) => drop(done?),
            () = stop.notified() => return Ok(()),
        }
    }
}

async fn rows(cluster: &Cluster, database: &str, table: &str) -> anyhow::Result<u64> {
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    let rows: Vec<(String,)> =
        clickhouse.rows(&format!("SELECT toString(count()) FROM `{database}`.`{table}`"), &[]).await?;
    Ok(rows.first().context("a count")?.0.parse()?)
}
