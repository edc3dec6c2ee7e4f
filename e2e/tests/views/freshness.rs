//! `data_freshness` from what sinks report.

use anyhow::ensure;

use super::deployment::{Deployment, instant};
use super::{NOON, read};

const COLUMNS: &str =
    "table, ifNull(toDecimalString(lag_seconds, 3), '-'), ifNull(toString(applied_lsn), '-'), status";

async fn report(shop: &Deployment, rows: &[&str]) -> anyhow::Result<()> {
    let values = rows.join(", ");
    shop.clickhouse(&format!("INSERT INTO {}._tidemark_progress (pipeline, table, partition, replica, rows, applied_lsn, last_change_at, \
         fresh_to, applied_at) VALUES {values}",
        shop.database()))
        .await
        .map(drop)
}

#[tokio::test]
async fn data_freshness_tells_an_idle_table_from_one_that_is_late() -> anyhow::Result<()> {
    let mut shop = Deployment::new("freshness").await?;
    shop.live(5, 20, instant(NOON)).await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    report(
        &shop,
        &[
            // orders: live; the older report of partition 0 does not count, another pipeline's neither.
            "('shop', 'orders', 0, 'a', 1, 50, '2026-11-23 11:00:00', '2026-11-23 11:00:00', '2026-11-23 11:00:00')",
            "('shop', 'orders', 0, 'b', 1, 90, '2026-11-23 11:59:58', '2026-11-23 11:59:59.250', '2026-11-23 11:59:59.500')",
            "('shop', 'orders', 1, 'b', 1, 80, NULL, '2026-11-23 11:59:59.100', '2026-11-23 11:59:59.500')",
            "('other', 'orders', 2, 'b', 1, 99, NULL, '2026-11-23 10:00:00', '2026-11-23 11:59:59.500')",
            // products: nothing changed for an hour, but complete.
            "('shop', 'products', 0, 'a', 1, 70, '2026-11-23 11:00:00', '2026-11-23 11:59:58', '2026-11-23 11:59:59')",
            // order_items: one partition of two is late.
            "('shop', 'order_items', 0, 'a', 1, 90, '2026-11-23 11:59:59', '2026-11-23 11:59:59', '2026-11-23 11:59:59')",
            "('shop', 'order_items', 1, 'a', 1, 60, '2026-11-23 11:58:00', '2026-11-23 11:58:00', '2026-11-23 11:59:59')",
        ],
    )
    .await?;
    let expected = [
        "customers\t-\t-\tUnknown",
        "order_items\t120.000\t90\tDelayed",
        "orders\t0.900\t90\tLive",
        "products\t2.000\t70\tIdle",
    ];
    let rows = read(&shop, COLUMNS, "data_freshness").await?;
    ensure!(rows == expected, "{rows:#?}");
    for settings in tidemark_e2e::oracle::hostile::SETTINGS {
        let set = settings.split(' ').filter(|pair| !pair.ends_with('='));
        let set: Vec<String> = set.map(|pair| pair.replace('=', " = '") + "'").collect();
        if set.is_empty() {
            continue;
        }
        let query = format!("data_freshness SETTINGS {}", set.join(", "));
        let rows = read(&shop, COLUMNS, &query).await?;
        ensure!(rows == expected, "under {settings}: {rows:#?}");
    }
    let counts =
        read(&shop, "rows", "data_freshness WHERE table IN ('orders', 'products') ORDER BY table").await?;
    ensure!(counts == ["20", "40"], "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn a_refresh_that_fails_makes_every_table_late() -> anyhow::Result<()> {
    let shop = Deployment::new("failing").await?;
    shop.deploy_plain(instant(NOON)).await?;
    let name = shop.database();
    report(&shop, &["('shop', 'orders', 0, 'a', 1, 1, '2026-11-23 11:59:59', '2026-11-23 11:59:59', '2026-11-23 11:59:59')"])
        .await?;
    let status = "data_freshness WHERE table = 'orders'";
    ensure!(read(&shop, "status", status).await? == ["Live"], "before the refresh failed");
    shop.clickhouse(&format!(
        "CREATE MATERIALIZED VIEW {name}.broken REFRESH EVERY 1 HOUR (x UInt8) ENGINE = MergeTree ORDER BY x \
         AS SELECT throwIf(number = 0)::UInt8 AS x FROM numbers(1)"
    ))
    .await?;
    tidemark_e2e::stack::wait_until(std::time::Duration::from_secs(20), "the table to be late", || async {
        Ok((read(&shop, "status", status).await? == ["Delayed"]).then_some(()))
    })
    .await
}

/// Lag and status of `orders`.
async fn orders(shop: &Deployment) -> anyhow::Result<String> {
    let columns = "ifNull(toString(toInt64(lag_seconds)), '-'), status, message";
    Ok(read(shop, columns, "data_freshness WHERE table = 'orders'").await?.concat())
}

async fn connector(shop: &Deployment, row: &str) -> anyhow::Result<()> {
    let table = format!("{}._tidemark_connector", shop.database());
    shop.clickhouse(&format!("INSERT INTO {table} (pipeline, state, lag, fresh_to, seen_at) VALUES ({row})"))
        .await
        .map(drop)
}

#[tokio::test]
async fn each_cause_of_old_rows_has_a_status_of_its_own() -> anyhow::Result<()> {
    let shop = Deployment::new("causes").await?;
    shop.deploy_plain(instant(NOON)).await?;
    let name = shop.database().to_owned();
    let says = async |state: &str, message: &str, beat: u32, written_at: &str| {
        let row =
            format!("('shop', 'orders', 'a', {beat}, '{state}', '{message}', '2026-11-23 {written_at}')");
        shop.clickhouse(&format!(
            "INSERT INTO {name}._tidemark_states (pipeline, table, replica, beat, state, message, written_at) VALUES {row}"
        ))
        .await
    };
    report(&shop, &["('shop', 'orders', 0, 'a', 1, 1, '2026-11-23 11:59:59', '2026-11-23 11:59:59', '2026-11-23 11:59:59')"])
        .await?;
    ensure!(orders(&shop).await? == "1\tLive\t", "as it should be");

    // A heartbeat of a connector that reads the log late says nothing of how late it is.
    connector(&shop, "'shop', 'RUNNING', '>1m', '2026-11-23 11:58:30', '2026-11-23 11:59:45'").await?;
    ensure!(orders(&shop).await? == "90\tSource behind\t", "{}", orders(&shop).await?);
    connector(&shop, "'other', 'FAILED', '>10m', '2026-11-23 11:00:00', '2026-11-23 11:59:59'").await?;
    ensure!(orders(&shop).await? == "90\tSource behind\t", "another pipeline's connector is not ours");
    connector(&shop, "'shop', 'STOPPED', '>1m', '2026-11-23 11:58:30', '2026-11-23 11:59:46'").await?;
    ensure!(orders(&shop).await? == "90\tSource stopped\t", "{}", orders(&shop).await?);
    connector(&shop, "'shop', 'RUNNING', '', NULL, '2026-11-23 11:59:50'").await?;
    ensure!(orders(&shop).await? == "1\tLive\t", "caught up");

    says("held", "a value is too wide", 1, "11:59:50").await?;
    ensure!(orders(&shop).await? == "1\tHeld\ta value is too wide", "{}", orders(&shop).await?);
    shop.clickhouse(&format!(
        "INSERT INTO {name}._tidemark_states (pipeline, table, replica, beat, state, message, written_at) VALUES \
         ('shop', 'orders', 'b', 9, 'stopped', 'a view throws', '2026-11-23 11:59:44')"
    ))
    .await?;
    ensure!(orders(&shop).await?.contains("Held"), "a replica that is gone does not count");
    says("stopped", "a view throws", 2, "11:59:51").await?;
    ensure!(orders(&shop).await? == "1\tStopped\ta view throws", "{}", orders(&shop).await?);
    says("streaming", "", 3, "11:59:52").await?;
    ensure!(orders(&shop).await? == "1\tLive\t", "mended");

    let reads = async |state: &str, beat: u32| {
        let row = format!("('shop', 'orders', '{state}', {beat})");
        shop.clickhouse(&format!(
            "INSERT INTO {name}._tidemark_reads (pipeline, table, state, beat) VALUES {row}"
        ))
        .await
    };
    reads("reading", 1).await?;
    ensure!(orders(&shop).await? == "1\tReading\t", "{}", orders(&shop).await?);
    reads("read", 2).await?;
    ensure!(orders(&shop).await? == "1\tLive\t", "read");
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_written_after_the_clock_went_back_is_the_newest() -> anyhow::Result<()> {
    let shop = Deployment::new("clock").await?;
    shop.deploy_plain(instant(NOON)).await?;
    let name = shop.database();
    shop.clickhouse(&format!(
        "INSERT INTO {name}._tidemark_progress (pipeline, table, partition, replica, applied_lsn, fresh_to, applied_at, beat) \
         VALUES ('shop', 'orders', 0, 'a', 1, '2026-11-23 11:50:00', '2026-11-23 13:00:00', 1000), \
                ('shop', 'orders', 0, 'a', 2, '2026-11-23 11:59:58', '2026-11-23 11:59:58', 1001)"
    ))
    .await?;
    ensure!(orders(&shop).await?.starts_with("2\t"), "{}", orders(&shop).await?);
    let progress = read(&shop, "toString(applied_at)", "pipeline_progress").await?;
    ensure!(progress == ["2026-11-23 11:59:58.000"], "{progress:?}");
    Ok(())
}

#[tokio::test]
async fn dead_letters_count_while_they_are_open_and_their_table_is_the_pipelines() -> anyhow::Result<()> {
    let shop = Deployment::new("letters").await?;
    shop.deploy_plain(instant(NOON)).await?;
    let name = shop.database();
    let say = async |table: &str, letters: u8, beat: u8| {
        let columns = "(pipeline, table, partition, replica, dead_letters, beat)";
        let row = format!("('shop', '{table}', 0, 'a', {letters}, {beat})");
        shop.clickhouse(&format!("INSERT INTO {name}._tidemark_progress {columns} VALUES {row}")).await
    };
    let counted = async || read(&shop, "toString(sum(dead_letters))", "pipeline_progress").await;
    say("orders", 3, 1).await?;
    say("a_table_of_before", 5, 1).await?;
    ensure!(counted().await? == ["3"], "{:?}", counted().await?);
    // They were dealt with, or the table was read again.
    say("orders", 0, 2).await?;
    ensure!(counted().await? == ["0"], "{:?}", counted().await?);
    Ok(())
}
