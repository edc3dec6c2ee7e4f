//! A sink dies in the middle of a table's first read, and rows vanish before another one reads it.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::cluster::{ASSIGNED_USER, Cluster, Pipeline, example};
use tidemark_e2e::oracle::{Oracle, Table, Views};
use tidemark_e2e::stack::{PATIENCE, Role, User, wait_until};
use tokio_postgres::Client;

/// Namespace, resource, topic prefix and target database of the second pipeline.
pub(super) const WAREHOUSE: &str = "warehouse";
/// Rows of the table, and how many a second are read of it: enough for a kill in the middle.
const ROWS: i64 = 150_000;
const ROWS_PER_SECOND: i64 = 15_000;
/// Rows with the lowest keys, which a read begins with.
const DELETED: i64 = 100;
/// Pods of the pipeline's sink.
const SINK: &str = "app.kubernetes.io/name=tidemark-sink,app.kubernetes.io/instance=warehouse";

/// Returns the example's manifest for a table and a database of its own, without views.
pub(super) fn manifest() -> anyhow::Result<Value> {
    let mut manifest = example()?;
    manifest["metadata"] = json!({"name": WAREHOUSE, "namespace": WAREHOUSE});
    let spec = &mut manifest["spec"];
    spec["tables"] = json!([{"name": "public.stock_movements"}]);
    spec["views"] = json!({"preset": "None"});
    // Room for both pipelines on two processors.
    spec["sink"] = json!({
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "pod": {"securityContext": {"runAsUser": ASSIGNED_USER, "fsGroup": ASSIGNED_USER}},
    });
    spec["source"]["postgres"]["reads"] = json!({"rowsPerSecond": ROWS_PER_SECOND});
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

    let arrived = rows_of_the_read(cluster).await?;
    let sink = cluster.kubectl().kill_pod(WAREHOUSE, SINK).await?;
    let state = state(cluster).await?;
    ensure!(state == "reading", "the read was over before {sink} was killed: {state}");
    // Counted now: once their tombstones are there too, a merge may keep these alone.
    let ghosts = arrived_early(cluster).await?;
    ensure!(ghosts > 0, "no row that will be deleted had reached ClickHouse: there is nothing to hide");
    let deleted = postgres
        .execute("DELETE FROM stock_movements WHERE id <= $1", &[&DELETED])
        .await
        .context("deleting while no sink is there")?;
    ensure!(deleted > 0, "nothing was deleted");
    pipeline
        .wait_ready(PATIENCE)
        .await
        .with_context(|| format!("{arrived} rows had arrived before {sink} was killed"))?;
    oracle(&pipeline).await?.wait_equal(PATIENCE).await?;
    println!(
        "the sink was killed after {arrived} of {ROWS} rows; {ghosts} deleted rows had arrived and are hidden"
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

async fn rows_of_the_read(cluster: &Cluster) -> anyhow::Result<u64> {
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    let query = format!("SELECT toString(count()) FROM {WAREHOUSE}.stock_movements");
    wait_until(PATIENCE, "the first rows of the read", || async {
        let rows: Vec<(String,)> = clickhouse.rows(&query, &[]).await?;
        let rows: u64 = rows.first().context("a count")?.0.parse()?;
        Ok((rows > 0).then_some(rows))
    })
    .await
}

async fn state(cluster: &Cluster) -> anyhow::Result<String> {
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    let query = format!(
        "SELECT argMax(state, beat) FROM {WAREHOUSE}._tidemark_reads WHERE table = 'stock_movements'"
    );
    let rows: Vec<(String,)> = clickhouse.rows(&query, &[]).await?;
    Ok(rows.first().context("a state")?.0.clone())
}

/// Counts the keys that will be deleted whose rows of the first try are in the state table.
async fn arrived_early(cluster: &Cluster) -> anyhow::Result<u64> {
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    let query =
        format!("SELECT toString(uniqExact(id)) FROM {WAREHOUSE}.stock_movements WHERE id <= {DELETED}");
    let rows: Vec<(String,)> = clickhouse.rows(&query, &[]).await?;
    Ok(rows.first().context("a count")?.0.parse()?)
}
