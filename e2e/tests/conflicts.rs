//! Things of somebody else in ClickHouse with the names of ours: each is named, stays as it is, and keeps nothing else from
//! going on.

use anyhow::ensure;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{PATIENCE, Role, shared, wait_until};

use crate::chain::objects;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_bookkeeping_table_and_a_target_that_cannot_be_read_are_named_and_the_rest_goes_on()
-> anyhow::Result<()> {
    const NAME: &str = "conflicts";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    let tables = "CREATE TABLE payments (id bigint PRIMARY KEY); INSERT INTO payments VALUES (1), (2);
        CREATE TABLE refunds (id bigint PRIMARY KEY); INSERT INTO refunds VALUES (1)";
    stack.postgres().execute(Role::Shop, NAME, tables).await?;
    let clickhouse = stack.clickhouse();
    for statement in [
        "CREATE DATABASE conflicts",
        "CREATE TABLE conflicts._tidemark_reads (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT 'theirs'",
        // Whoever reads it fails.
        "CREATE VIEW conflicts.refunds AS SELECT toUInt128(throwIf(1)) AS _version COMMENT 'theirs'",
    ] {
        clickhouse.query(statement).await?;
    }
    let chain =
        Chain::prepare(stack, NAME, &objects(pipeline(stack, NAME, &["public.payments", "public.refunds"])))?;
    chain.start_operator()?;
    wait_until(PATIENCE, "the bookkeeping table to be named", || async {
        let (status, reason, message) = chain.condition("TablesInSync")?;
        ensure!(status == "False" && message.contains("_tidemark_reads"), "{status} {reason}: {message}");
        Ok(Some(()))
    })
    .await?;

    clickhouse.query("DROP TABLE conflicts._tidemark_reads").await?;
    chain.start_sink().await?;
    wait_until(PATIENCE, "the other table's rows", || async {
        let rows = clickhouse.query("SELECT count() FROM conflicts.payments_current").await?;
        ensure!(rows.trim() == "2", "it has {}", rows.trim());
        Ok(Some(()))
    })
    .await?;
    let message = chain.wait_condition("TablesInSync", "False", "Conflict", PATIENCE).await?;
    ensure!(message.contains("refunds"), "{message}");
    let made = clickhouse.query("SHOW CREATE TABLE conflicts.refunds").await?;
    ensure!(made.contains("throwIf"), "{made}");

    clickhouse.query("DROP VIEW conflicts.refunds").await?;
    chain.wait_ready(PATIENCE).await
}
