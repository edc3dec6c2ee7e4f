//! Whether the oracle notices: each test spoils one thing and reads the report.

use std::time::Duration;

use anyhow::ensure;
use tidemark_e2e::oracle::{Table, Views, report};

use super::deployment::{Deployment, instant};
use super::{NOON, expect_equal};

async fn spoiled(prefix: &str, statement: &str) -> anyhow::Result<String> {
    let mut shop = Deployment::new(prefix).await?;
    shop.live(4, 200, instant(NOON)).await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    let oracle = shop.oracle().await?;
    expect_equal(&oracle.check_at(instant(NOON)).await?)?;
    shop.clickhouse(&statement.replace("DB", shop.database())).await?;
    Ok(report(&oracle.check_at(instant(NOON)).await?))
}

#[tokio::test]
async fn one_cent_in_one_order_shows_in_the_table_and_in_each_view_with_revenue() -> anyhow::Result<()> {
    let report = spoiled(
        "cent",
        "INSERT INTO DB.orders SELECT * REPLACE (_version + 1 AS _version, \
         toDecimal64(total_amount + toDecimal64(0.01, 2), 2) AS total_amount) FROM DB.orders FINAL \
         WHERE status = 'delivered' ORDER BY created_at DESC LIMIT 1",
    )
    .await?;
    for object in [
        "table public.orders: 1 differences",
        "view daily_sales_summary: 1 differences",
        "view daily_sales_summary as deployed: 1 differences",
        "view monthly_sales_summary",
        "view customer_metrics: 1 differences",
    ] {
        ensure!(report.contains(object), "{object} is not in the report:\n{report}");
    }
    ensure!(report.contains("total_amount is \""), "the column is not named:\n{report}");
    ensure!(!report.contains("order_items"), "what is equal is in the report:\n{report}");
    Ok(())
}

#[tokio::test]
async fn a_ghost_row_is_shown_as_only_in_clickhouse() -> anyhow::Result<()> {
    let report = spoiled(
        "ghost",
        "INSERT INTO DB.order_items SELECT * REPLACE (100 AS line_no) FROM DB.order_items FINAL LIMIT 1",
    )
    .await?;
    ensure!(report.contains("table public.order_items: 1 differences"), "{report}");
    ensure!(report.contains("only in ClickHouse: order_id=\""), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_lost_row_is_shown_as_only_in_postgresql() -> anyhow::Result<()> {
    let report = spoiled(
        "lost",
        "INSERT INTO DB.customers SELECT * REPLACE (_version + 1 AS _version, 1 AS _is_deleted) \
         FROM DB.customers FINAL LIMIT 1",
    )
    .await?;
    ensure!(report.contains("only in PostgreSQL: id=\"1\""), "{report}");
    ensure!(report.contains("view customer_metrics: 1 differences"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_microsecond_and_a_null_are_differences() -> anyhow::Result<()> {
    let report = spoiled(
        "micro",
        "INSERT INTO DB.customers SELECT * REPLACE (_version + 1 AS _version, \
         addMicroseconds(created_at, 1) AS created_at, NULL AS city) FROM DB.customers FINAL WHERE id = 2",
    )
    .await?;
    ensure!(report.contains("id=\"2\": city is \"") && report.contains("NULL in ClickHouse"), "{report}");
    ensure!(report.contains("created_at is \""), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_deployed_view_that_differs_from_its_text_is_named() -> anyhow::Result<()> {
    let report = spoiled(
        "deployed",
        "CREATE OR REPLACE VIEW DB.top_selling_products AS SELECT * REPLACE (units_sold + 1 AS units_sold) \
         FROM DB.product_performance LIMIT 0",
    )
    .await;
    // The replaced view has no `rank`: that its columns differ is a difference too.
    let report = report?;
    ensure!(report.contains("view top_selling_products as deployed: 1 differences"), "{report}");
    ensure!(report.contains("its columns are [\"rank\""), "{report}");
    ensure!(!report.contains("view product_performance"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_column_that_one_side_lacks_is_named_unless_it_is_excluded() -> anyhow::Result<()> {
    let mut shop = Deployment::new("columns").await?;
    shop.postgres("ALTER TABLE customers ADD phone text; ALTER TABLE customers RENAME COLUMN city TO town")
        .await?;
    let tables = |table| vec![table];
    let oracle = shop.oracle().await?.with_views(Views::None);
    let oracle = oracle.with_tables(tables(Table::new("public.customers", "customers")));
    let text = report(&oracle.check().await?);
    for part in [
        "column phone is not in ClickHouse",
        "column town is not in ClickHouse",
        "column city is not in PostgreSQL",
    ] {
        ensure!(text.contains(part), "{part} is not in the report:\n{text}");
    }
    let oracle = oracle.with_tables(tables(
        Table::new("public.customers", "customers").excluded("phone").renamed("town", "city"),
    ));
    expect_equal(&oracle.check().await?)?;
    shop.postgres("INSERT INTO customers (id, email, name, town) VALUES (1, 'a', 'A', 'Lyon')").await?;
    let error = oracle.wait_equal(Duration::from_millis(500)).await.unwrap_err().to_string();
    ensure!(error.contains("not equal after") && error.contains("only in PostgreSQL: id=\"1\""), "{error}");
    shop.postgres("ALTER TABLE customers DROP phone").await?;
    shop.load().await?;
    oracle.wait_equal(Duration::from_secs(10)).await
}
