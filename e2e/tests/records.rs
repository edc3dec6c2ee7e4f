//! Records that are not the pipeline's, or are gone before they were read: the table that they belong to is named, and
//! nothing is missing or foreign in it afterwards.

use std::time::Duration;

use anyhow::ensure;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, shared, wait_until};

use crate::chain::objects;

/// Topic of dead letters that the pipelines share.
const LETTERS: &str = "records-letters";
const TABLE: &str = "CREATE TABLE payments (id bigint PRIMARY KEY, amount bigint NOT NULL)";

/// A pipeline of one table whose topic has one partition, with the first rows in ClickHouse.
async fn prepare<'a>(stack: &'a Stack, name: &'static str) -> anyhow::Result<(Chain<'a>, Value)> {
    stack.postgres().create_database(name).await?;
    stack.postgres().execute(Role::Shop, name, TABLE).await?;
    stack
        .postgres()
        .execute(Role::Shop, name, "INSERT INTO payments SELECT g, 1 FROM generate_series(1, 50) g")
        .await?;
    let mut manifest = pipeline(stack, name, &["public.payments"]);
    manifest["spec"]["kafka"]["topics"]["partitions"] = json!(1);
    // One for all of these, outside of their prefixes.
    manifest["spec"]["sink"] = json!({"deadLetter": {"topic": LETTERS}});
    manifest["spec"]["deletionPolicy"] = json!({"topics": "Delete", "clickhouse": "Delete"});
    let chain = Chain::prepare(stack, name, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    Ok((chain, manifest))
}

/// Waits until ClickHouse has the rows that PostgreSQL has.
async fn equal(stack: &Stack, name: &str) -> anyhow::Result<()> {
    let of = "concat(count(*)::text, ' ', sum(id * amount)::text, ' ', max(id)::text)";
    let source = stack.postgres().query(Role::Shop, name, &format!("SELECT {of} FROM payments")).await?;
    let wanted = source[0][0].clone().unwrap_or_default();
    let shown = "concat(toString(count()), ' ', toString(sum(id * amount)), ' ', toString(max(id)))";
    let shown = format!("SELECT {shown} FROM {name}.payments_current");
    wait_until(PATIENCE, &format!("the rows {wanted}"), || async {
        let found = stack.clickhouse().query(&shown).await?;
        ensure!(found.trim() == wanted, "ClickHouse has {}", found.trim());
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_another_connector_stop_the_table_and_a_later_epoch_goes_on_without_them()
-> anyhow::Result<()> {
    const NAME: &str = "records_foreign";
    let stack = shared().await?;
    let (chain, mut manifest) = prepare(stack, NAME).await?;
    equal(stack, NAME).await?;
    let topic = format!("{NAME}.public.payments");
    let theirs = json!({"before": null, "op": "c", "after": {"id": 7, "amount": 999_999}, "source": {
        "ts_ms": 5, "snapshot": "false", "sequence": "[\"900000000000\",\"900000000001\"]", "lsn": 900_000_000_001_u64}});
    let header = || OwnedHeaders::new().insert(Header { key: EPOCH_HEADER, value: Some("9") });
    let payload = theirs.to_string();
    stack.kafka().produce_with(&topic, Some(b"{\"id\":7}"), Some(payload.as_bytes()), header()).await?;
    let message = chain.wait_condition("TablesInSync", "False", "TableStopped", PATIENCE).await?;
    ensure!(
        message.contains("public.payments") && message.contains("epoch 9") && message.contains("resnapshot"),
        "{message}"
    );
    stack.postgres().execute(Role::Shop, NAME, "INSERT INTO payments VALUES (100, 3)").await?;
    let foreign = format!("SELECT count() FROM {NAME}.payments WHERE amount = 999999");
    ensure!(stack.clickhouse().query(&foreign).await?.trim() == "0", "a row of somebody else's was applied");

    manifest["metadata"]["annotations"] = json!({"tidemark.dev/resnapshot": "theirs-is-gone"});
    chain.write(&objects(manifest))?;
    equal(stack, NAME).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(stack.clickhouse().query(&foreign).await?.trim() == "0", "a row of somebody else's was applied");
    let epoch = format!("SELECT max(epoch) FROM {NAME}._tidemark_reads FINAL");
    ensure!(stack.clickhouse().query(&epoch).await?.trim() == "10", "the epoch is above theirs");

    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;
    let topics = stack.kafka().topics().await?;
    ensure!(!topics.contains(&topic), "the pipeline's own topic is left");
    ensure!(topics.contains(&LETTERS.to_owned()), "the topic of all is gone");
    Ok(())
}

/// Writes rows that come through the log, and waits until ClickHouse has them.
async fn streamed(stack: &Stack, name: &str, from: u32, to: u32) -> anyhow::Result<()> {
    insert(stack, name, from, to).await?;
    equal(stack, name).await
}

async fn insert(stack: &Stack, name: &str, from: u32, to: u32) -> anyhow::Result<()> {
    let rows = format!("INSERT INTO payments SELECT g, 1 FROM generate_series({from}, {to}) g");
    stack.postgres().execute(Role::Shop, name, &rows).await
}

/// Waits until the topic of the table ends at or behind an offset; returns where it ends.
async fn ends_behind(stack: &Stack, name: &str, offset: i64) -> anyhow::Result<i64> {
    wait_until(PATIENCE, &format!("the topic to end at {offset}"), || async {
        let end = ends(stack, name).await?;
        ensure!(end >= offset, "it ends at {end}");
        Ok(Some(end))
    })
    .await
}

/// Starts the sink, and waits until the table was read again for a reason, and is whole.
async fn read_again(chain: &Chain<'_>, stack: &Stack, name: &str, reason: &str) -> anyhow::Result<()> {
    chain.sink().spawn()?;
    let asked = format!(
        "SELECT argMax(value, version) FROM {name}._tidemark_ledger WHERE kind = 'read' AND key = 'payments'"
    );
    wait_until(PATIENCE, &format!("a read because of: {reason}"), || async {
        let value = stack.clickhouse().query(&asked).await?;
        ensure!(value.contains(reason), "the last read was asked for by {value}");
        Ok(Some(()))
    })
    .await?;
    equal(stack, name).await?;
    chain.wait_ready(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_retention_took_before_they_were_read_are_made_up_for_by_a_read() -> anyhow::Result<()> {
    const NAME: &str = "records_retention";
    let stack = shared().await?;
    let (chain, _) = prepare(stack, NAME).await?;
    streamed(stack, NAME, 51, 60).await?;
    chain.sink().stop().await?;
    let before = ends_behind(stack, NAME, 10).await?;
    insert(stack, NAME, 61, 90).await?;
    let changes = "DELETE FROM payments WHERE id <= 5; UPDATE payments SET amount = 7 WHERE id = 55";
    stack.postgres().execute(Role::Shop, NAME, changes).await?;
    let end = ends_behind(stack, NAME, before + 36).await?;
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&format!("{NAME}.public.payments"), 0, Offset::Offset(end))?;
    stack.kafka().admin()?.delete_records(&gone, &AdminOptions::new()).await?;
    read_again(&chain, stack, NAME, "retention passed").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_and_grew_past_what_was_applied_is_made_up_for_by_a_read()
-> anyhow::Result<()> {
    const NAME: &str = "records_anew";
    let stack = shared().await?;
    let (chain, _) = prepare(stack, NAME).await?;
    streamed(stack, NAME, 51, 70).await?;
    chain.sink().stop().await?;
    let before = ends_behind(stack, NAME, 20).await?;
    // These are lost with the topic.
    stack.postgres().execute(Role::Shop, NAME, "UPDATE payments SET amount = 5 WHERE id <= 10").await?;
    ends_behind(stack, NAME, before + 10).await?;
    let topic = format!("{NAME}.public.payments");
    stack.kafka().admin()?.delete_topics(&[&topic], &AdminOptions::new()).await?;
    wait_until(PATIENCE, "the topic to be made anew", || async {
        let found = ends(stack, NAME).await?;
        ensure!(found < before, "it ends at {found}");
        Ok(Some(()))
    })
    .await?;
    insert(stack, NAME, 101, 200).await?;
    ends_behind(stack, NAME, before + 50).await?;
    read_again(&chain, stack, NAME, "made anew").await
}

/// Where the topic of the table ends now.
async fn ends(stack: &Stack, name: &str) -> anyhow::Result<i64> {
    let (config, topic) = (stack.kafka().client_config(), format!("{name}.public.payments"));
    let end = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        consumer.fetch_watermarks(&topic, 0, Duration::from_secs(5))
    });
    Ok(end.await??.1)
}
