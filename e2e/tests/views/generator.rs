//! The shop's generator on a real database, and its program.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use tidemark_e2e::oracle::AsOf;
use tidemark_e2e::shop::{Load, Written};

use super::deployment::{Deployment, instant};
use super::{NOON, expect_equal};

/// Everything that the generator decided: all columns but the moments.
const CONTENT: &str = "
    SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
        SELECT concat_ws(',', 'o', id, customer_id, status, total_amount, note) AS line FROM orders
        UNION ALL SELECT concat_ws(',', 'i', order_id, line_no, product_id, quantity, unit_price) FROM order_items
        UNION ALL SELECT concat_ws(',', 'c', id, email, name, country, city, address) FROM customers
        UNION ALL SELECT concat_ws(',', 'p', id, price) FROM products
    ) lines";

async fn number(shop: &Deployment, query: &str) -> anyhow::Result<i64> {
    let rows = shop.postgres_rows(query).await?;
    Ok(rows[0][0].as_deref().unwrap_or_default().parse()?)
}

#[tokio::test]
async fn the_same_seed_makes_the_same_shop() -> anyhow::Result<()> {
    let mut contents = Vec::new();
    for seed in [11, 11, 12] {
        let shop = Deployment::new("seed").await?;
        shop.live(seed, 300, instant(NOON)).await?;
        contents.push(shop.postgres_rows(CONTENT).await?);
    }
    ensure!(contents[0] == contents[1], "the same seed made two shops");
    ensure!(contents[0] != contents[2], "two seeds made the same shop");
    Ok(())
}

#[tokio::test]
async fn an_orders_total_is_what_its_lines_come_to() -> anyhow::Result<()> {
    let shop = Deployment::new("totals").await?;
    shop.live(6, 600, instant(NOON)).await?;
    let wrong = number(
        &shop,
        "SELECT count(*) FROM orders o WHERE total_amount IS DISTINCT FROM
             (SELECT sum(quantity * unit_price) FROM order_items i WHERE i.order_id = o.id)",
    )
    .await?;
    let statuses = number(&shop, "SELECT count(DISTINCT status) FROM orders").await?;
    let carts =
        number(&shop, "SELECT max(n) FROM (SELECT count(*) AS n FROM order_items GROUP BY order_id) carts")
            .await?;
    ensure!((wrong, statuses) == (0, 6), "{wrong} wrong totals, {statuses} statuses");
    ensure!((5..=8).contains(&carts), "the biggest cart has {carts} lines");
    Ok(())
}

#[tokio::test]
async fn the_generator_keeps_to_its_rate_and_goes_on_after_deletions() -> anyhow::Result<()> {
    let shop = Deployment::new("rate").await?;
    shop.live(7, 50, instant(NOON)).await?;
    let mut generator = shop.generator(8).await?;
    // It knows nothing of these deletions, and runs into them.
    shop.postgres("DELETE FROM customers WHERE id % 2 = 0").await?;
    let mut told: Vec<Written> = Vec::new();
    let load = Load { rate: 60.0, duration: Some(Duration::from_secs(4)) };
    generator.run(load, |written| told.push(written)).await?;
    let written = generator.written();
    let placed =
        number(&shop, "SELECT count(*) FROM orders WHERE created_at > now() - interval '1 minute'").await?;
    ensure!(i64::try_from(written.orders)? == placed, "{written:?} but {placed} orders in the table");
    // Bursts and lost customers make it uneven: 240 on average.
    ensure!((60..=480).contains(&written.orders), "{written:?}");
    ensure!(written.changes > 0 && !told.is_empty(), "{written:?}, told {} times", told.len());
    let error = generator.run(Load { rate: 5000.0, duration: None }, |_| {}).await.unwrap_err();
    ensure!(error.to_string().contains("not between 0 and 2000"), "{error}");
    Ok(())
}

fn program(arguments: &[&str], url: &str) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemark-shop"))
        .args(arguments)
        .env("SHOP_POSTGRES_URL", url)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

#[tokio::test]
async fn the_program_makes_lives_in_watches_and_deletes_from_a_shop() -> anyhow::Result<()> {
    let mut shop = Deployment::new("program").await?;
    shop.postgres("DROP TABLE order_items, orders, products, customers; DROP TYPE order_status").await?;
    let url = shop.postgres_url();
    let made = program(&["init", "--orders", "80", "--days", "10"], &url)?;
    ensure!(made.contains("80 orders over 10 days"), "{made}");
    ensure!(program(&["init"], &url)?.contains("nothing done"), "a second init changed something");
    let ran = program(&["run", "--rate", "50", "--duration", "1s"], &url)?;
    ensure!(ran.starts_with("done: "), "{ran}");
    ensure!(number(&shop, "SELECT count(*) FROM orders").await? > 80, "nothing was ordered");
    let deleted = program(&["delete", "--customers", "3"], &url)?;
    ensure!(deleted.contains("deleted 3 customers"), "{deleted}");

    shop.load().await?;
    shop.deploy_plain(AsOf::Now).await?;
    expect_equal(&shop.oracle().await?.check().await?)?;
    let orders = number(&shop, "SELECT count(*) FROM orders").await?;
    let (server, database) = (shop.clickhouse_url(), shop.database().to_owned());
    let arguments =
        ["watch", "--clickhouse", &server, "--database", &database, "--for", "1500ms", "--interval", "500ms"];
    let seen = program(&arguments, &url)?;
    ensure!(seen.contains(&format!("orders: PostgreSQL {orders}, ClickHouse {orders};")), "{seen}");
    ensure!(seen.contains("Tidemark demo shop") && seen.contains("top products"), "{seen}");
    Ok(())
}
