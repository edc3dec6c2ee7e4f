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
