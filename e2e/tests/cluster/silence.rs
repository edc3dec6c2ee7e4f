//! An operator that starts again with nothing changed.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tidemark_e2e::cluster::{Cluster, OPERATOR, Pipeline, SHOP};
use tidemark_e2e::stack::{PATIENCE, wait_until};

/// Time for the new pod to lead and to look at everything.
const LOOKED: Duration = Duration::from_secs(90);
/// More than the operator's pause between two looks, 10 s, and one look.
const QUIET: Duration = Duration::from_secs(15);
/// Statements at ClickHouse by which the new pod must have been seen to look.
const ENOUGH_READS: usize = 10;

pub(super) async fn restart(cluster: &Cluster) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(cluster, SHOP, "shop");
    pipeline.wait_ready(PATIENCE).await?;
    let before = settled(cluster, &pipeline).await?;
    let status = pipeline.get().await?.status;
    let old = cluster.operator_addresses().await?;
    let moment = jiff::Timestamp::now().as_microsecond();
    let killed = cluster.kill_operator().await?;
    // A deployment says that it is rolled out until it has noticed that its pod is gone.
    let addresses = wait_until(LOOKED, "another pod of the operator", || async {
        let now = cluster.operator_addresses().await?;
        ensure!(!now.is_empty() && now != old, "{killed} was not replaced: {old:?}, {now:?}");
        Ok(Some(now))
    })
    .await?;
    cluster.kubectl().rolled_out(OPERATOR, "deployment/tidemark", LOOKED).await?;

    let writes = wait_until(LOOKED, "the new operator to lead and to look at everything", || async {
        let writes = cluster.operator_writes(moment, &addresses).await?;
        let looked = writes.leases > 0 && writes.clickhouse_reads >= ENOUGH_READS;
        ensure!(looked, "seen so far: {writes:?}");
        Ok(Some(writes))
    })
    .await?;
    if !writes.kubernetes.is_empty() || !writes.clickhouse.is_empty() {
        let now = pipeline.get().await?.status;
        bail!("the new operator wrote: {writes:?}; status before {status:#?}, after {now:#?}");
    }
    let after = cluster.footprint(&pipeline).await.context("after the restart")?;
    ensure!(before == after, "before the restart {before:#?}, after it {after:#?}");
    println!(
        "an operator restart: 0 writes among {} statements at ClickHouse; {} objects, {} records of connectors unchanged",
        writes.clickhouse_reads,
        after.objects.len(),
        after.connector_changes
    );
    Ok(())
}

/// Takes the picture once the operator has looked again and found nothing to write: pods that were killed before may
/// still be coming back, and a status may be one look behind what it tells.
async fn settled(
    cluster: &Cluster,
    pipeline: &Pipeline<'_>,
) -> anyhow::Result<tidemark_e2e::cluster::Footprint> {
    let since = Cell::new(jiff::Timestamp::now());
    wait_until(LOOKED, "the operator to look again and to write nothing", || async {
        let now = jiff::Timestamp::now();
        let addresses = cluster.operator_addresses().await?;
        let writes = cluster.operator_writes(since.get().as_microsecond(), &addresses).await?;
        if !writes.kubernetes.is_empty() || !writes.clickhouse.is_empty() {
            since.set(now);
        }
        let quiet = now.duration_since(since.get());
        let looked = writes.clickhouse_reads >= ENOUGH_READS;
        ensure!(looked && quiet.unsigned_abs() >= QUIET, "in {quiet} since the last write: {writes:?}");
        Ok(Some(cluster.footprint(pipeline).await?))
    })
    .await
}
