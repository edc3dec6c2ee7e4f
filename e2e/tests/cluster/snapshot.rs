//! Connect dies in the middle of an initial snapshot, and rows vanish before it is back.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::cluster::{Cluster, Pipeline, SHOP, example};
use tidemark_e2e::oracle::{Oracle, Table, Views};
use tidemark_e2e::stack::{PATIENCE, Role, User, wait_until};
use tokio_postgres::Client;

/// Namespace, resource, topic prefix and target database of the second pipeline.
pub(super) const WAREHOUSE: &str = "warehouse";
const ROWS: i64 = 200_000;
/// Rows that were sent before Connect is killed: the deleted ones are among them.
const SENT: i64 = 20_000;
/// Rows with the lowest keys, which a snapshot reads first.
const DELETED: i64 = 100;

/// Returns the example's manifest for a table and a database of its own, without views.
pub(super) fn manifest() -> anyhow::Result<Value> {
    let mut manifest = example()?;
    manifest["metadata"] = json!({"name": WAREHOUSE, "namespace": WAREHOUSE});
    let spec = &mut manifest["spec"];
    spec["tables"] = json!([{"name": "public.stock_movements"}]);
    spec["views"] = json!({"preset": "None"});
    // Room for both pipelines on two processors.
    spec["sink"] = json!({"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}});
    spec["kafka"]["topicPrefix"] = WAREHOUSE.into();
    spec["clickhouse"]["database"] = WAREHOUSE.into();
    Ok(manifest)
}

pub(super) async fn oracle(pipeline: &Pipeline<'_>) -> anyhow::Result<Oracle> {
    let oracle = pipeline.oracle(WAREHOUSE, User::Tidemark).await?;
    let tables = vec![Table::new("public.stock_movements", "stock_movements")];
    Ok(oracle.with_tables(tables).with_views(Views::None))
}

pub(super) async fn cut_short(cluster: &Cluster) -> anyhow::Result<()> {
    let postgres = cluster.addresses().postgres(Role::Shop).await?;
    fill(&postgres).await?;
    let pipeline = Pipeline::new(cluster, WAREHOUSE, WAREHOUSE);
    pipeline.prepare_namespace().await?;
    pipeline.apply(&manifest()?).await?;

    let sent = records_until(cluster, SENT).await?;
    let connect = cluster.kubectl().kill_pod(SHOP, "app.kubernetes.io/name=shop-connect").await?;
    let deleted = postgres
        .execute("DELETE FROM stock_movements WHERE id <= $1", &[&DELETED])
        .await
        .context("deleting while Connect is gone")?;
    ensure!(deleted > 0, "nothing was deleted");
    let at_the_kill = cluster.addresses().kafka().records("warehouse.public.stock_movements").await?;
    ensure!(
        at_the_kill < ROWS,
        "the snapshot was over before {connect} was killed: {at_the_kill} of {ROWS} rows"
    );
    cluster.kubectl().rolled_out(SHOP, "deployment/shop-connect", PATIENCE).await?;

    pipeline
        .wait_ready(PATIENCE)
        .await
        .with_context(|| format!("{sent} rows were sent before {connect} was killed"))?;
    oracle(&pipeline).await?.wait_equal(PATIENCE).await?;
    let ghosts = hidden(cluster).await?;
    ensure!(ghosts > 0, "no deleted row had reached ClickHouse: the fence had nothing to hide");
    println!(
        "Connect was killed after {at_the_kill} of {ROWS} rows; {ghosts} deleted rows had arrived and are hidden"
    );
    Ok(())
}

async fn fill(postgres: &Client) -> anyhow::Result<()> {
    let statements = format!(
        "CREATE TABLE stock_movements (
             id bigint PRIMARY KEY, product_id bigint NOT NULL, quantity integer NOT NULL,
             reason text NOT NULL, moved_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO stock_movements
         SELECT n, n % 40 + 1, n % 90 - 30, repeat('counted by hand ', 12), now() - n * interval '1 second'
         FROM generate_series(1, {ROWS}) n"
    );
    postgres.batch_execute(&statements).await.context("filling the warehouse")
}

async fn records_until(cluster: &Cluster, least: i64) -> anyhow::Result<i64> {
    let kafka = cluster.addresses().kafka();
    wait_until(PATIENCE, "the snapshot to be under way", || async {
        let records = kafka.records("warehouse.public.stock_movements").await?;
        ensure!(records >= least, "{records} records");
        Ok(Some(records))
    })
    .await
}

/// Counts the deleted keys whose rows of the first snapshot are in the state table.
async fn hidden(cluster: &Cluster) -> anyhow::Result<u64> {
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    let query = format!(
        "SELECT toString(uniqExact(id)) FROM {WAREHOUSE}.stock_movements WHERE id <= {DELETED} AND NOT _is_deleted"
    );
    let rows: Vec<(String,)> = clickhouse.rows(&query, &[]).await?;
    Ok(rows.first().context("a count")?.0.parse()?)
}
