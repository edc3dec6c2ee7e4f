//! Views against their twins, on real servers; and whether the oracle that says so would notice.

mod deployment;
mod freshness;
mod generator;
mod history;
mod oracle;

use std::time::Duration;

use anyhow::ensure;
use tidemark_e2e::oracle::{Mismatch, Views, hostile};

use self::deployment::{Deployment, instant};

const NOON: &str = "2026-11-23T12:00:00Z";

fn expect_equal(mismatches: &[Mismatch]) -> anyhow::Result<()> {
    ensure!(mismatches.is_empty(), "{}", tidemark_e2e::oracle::report(mismatches));
    Ok(())
}

/// Reads columns of a view with `read`, as tab-separated lines.
async fn read(shop: &Deployment, columns: &str, from: &str) -> anyhow::Result<Vec<String>> {
    let text = shop.clickhouse(&format!("SELECT {columns} FROM {}.{from}", shop.database())).await?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Makes customers 1 to 3, and orders of customer 1 given as (instant, amount, status).
async fn orders(shop: &Deployment, orders: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    shop.postgres(
        "INSERT INTO customers (id, email, name, created_at, updated_at)
         SELECT n, n || '@shop.example', 'Customer ' || n, '2025-01-01', '2025-01-01' FROM generate_series(1, 3) n",
    )
    .await?;
    for (at, amount, status) in orders {
        shop.postgres(&format!(
            "INSERT INTO orders (customer_id, total_amount, status, created_at, updated_at)
             VALUES (1, {amount}, '{status}', '{at}', '{at}')"
        ))
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_view_equals_its_twin_in_every_time_zone() -> anyhow::Result<()> {
    let mut shop = Deployment::new("zones").await?;
    shop.live(1, 1500, instant(NOON)).await?;
    shop.load().await?;
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"] {
        shop.parameters.time_zone = zone.into();
        shop.deploy_plain(instant(NOON)).await?;
        expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    }
    let busy =
        read(&shop, "count() >= 59, min(orders) > 0, max(cancelled_orders) > 0", "daily_sales_summary")
            .await?;
    ensure!(busy == ["1\t1\t1"], "the generated shop is too quiet to show anything: {busy:?}");
    Ok(())
}

#[tokio::test]
async fn no_session_setting_changes_what_a_view_says() -> anyhow::Result<()> {
    let mut shop = Deployment::new("hostile").await?;
    shop.live(2, 300, instant(NOON)).await?;
    shop.load().await?;
    shop.parameters.time_zone = "Europe/Berlin".into();
    shop.deploy_plain(instant(NOON)).await?;
    let oracle = shop.oracle().await?.with_views(Views::Texts);
    expect_equal(&oracle.check_hostile_at(instant(NOON), &hostile::crossed()).await?)
}

#[tokio::test]
async fn an_empty_shop_has_empty_views_and_24_hours_whatever_the_session_sets() -> anyhow::Result<()> {
    let shop = Deployment::new("empty").await?;
    shop.deploy_plain(instant(NOON)).await?;
    let oracle = shop.oracle().await?.with_views(Views::Deployed);
    expect_equal(&oracle.check_hostile_at(instant(NOON), &hostile::together()).await?)?;
    let hours = read(&shop, "count(), sum(orders), min(hour), max(hour)", "hourly_orders_trend").await?;
    ensure!(hours == ["24\t0\t2026-11-22 13:00:00\t2026-11-23 12:00:00"], "{hours:?}");
    for view in ["daily_sales_summary", "monthly_sales_summary", "top_selling_products", "recent_activity"] {
        ensure!(read(&shop, "count()", view).await? == ["0"], "{view} is not empty");
    }
    Ok(())
}

#[tokio::test]
async fn days_of_23_and_25_hours_are_counted_from_midnight_to_midnight() -> anyhow::Result<()> {
    let mut shop = Deployment::new("dst").await?;
    // An order each half hour of two days around each change of the clock in Berlin.
    orders(&shop, &[]).await?;
    shop.postgres(
        "INSERT INTO orders (customer_id, total_amount, status, created_at, updated_at)
         SELECT 1, 1, 'paid', at, at FROM (
             SELECT generate_series(timestamptz '2026-03-28 00:15Z', '2026-03-30 23:45Z', '30 minutes') AS at
             UNION ALL
             SELECT generate_series(timestamptz '2026-10-24 00:15Z', '2026-10-26 23:45Z', '30 minutes')
         ) instants",
    )
    .await?;
    shop.load().await?;
    shop.parameters.time_zone = "Europe/Berlin".into();
    for noon in ["2026-03-29T10:00:00Z", "2026-10-25T11:30:00Z"] {
        shop.deploy_plain(instant(noon)).await?;
        expect_equal(&shop.oracle().await?.check_at(instant(noon)).await?)?;
        let hours =
            read(&shop, "count(), sum(orders), uniqExact(toUnixTimestamp(hour))", "hourly_orders_trend")
                .await?;
        ensure!(hours == ["24\t48\t24"], "{hours:?}");
    }
    let days =
        read(&shop, "day, orders", "daily_sales_summary WHERE day IN ('2026-03-29', '2026-10-25')").await?;
    ensure!(days == ["2026-03-29\t46", "2026-10-25\t50"], "{days:?}");
    Ok(())
}

#[tokio::test]
async fn a_month_is_set_against_the_same_part_of_the_last_one() -> anyhow::Result<()> {
    let mut shop = Deployment::new("to_date").await?;
    let all = [
        ("2026-02-15 09:59:59Z", "1", "paid"),
        ("2026-02-15 10:00:01Z", "2", "paid"),
        ("2026-02-28 22:59:59Z", "4", "cancelled"),
        // In Berlin it is March.
        ("2026-02-28 23:00:00Z", "8", "paid"),
        ("2026-03-10 12:00:00Z", "16", "paid"),
        ("2026-03-31 09:00:00Z", "32", "paid"),
    ];
    orders(&shop, &all).await?;
    shop.postgres("UPDATE orders SET customer_id = 2 WHERE id IN (1, 5)").await?;
    shop.load().await?;
    shop.parameters.time_zone = "Europe/Berlin".into();
    let columns = "period, month, orders, customers, toDecimalString(revenue, 2)";
    for (now, expected) in [
        // Eleven in the morning of the 15th, there as here.
        (
            "2026-03-15T10:00:00Z",
            ["2026-02-01\t3\t2\t3.00", "2026-02-01\t1\t1\t1.00", "2026-03-01\t2\t2\t24.00"],
        ),
        // February has no 31st: all of it is before that.
        (
            "2026-03-31T08:00:00Z",
            ["2026-02-01\t3\t2\t3.00", "2026-02-01\t3\t2\t3.00", "2026-03-01\t2\t2\t24.00"],
        ),
        (
            "2026-04-01T08:00:00Z",
            ["2026-03-01\t3\t2\t56.00", "2026-03-01\t1\t1\t8.00", "2026-04-01\t0\t0\t0.00"],
        ),
    ] {
        shop.deploy_plain(instant(now)).await?;
        expect_equal(&shop.oracle().await?.check_at(instant(now)).await?)?;
        let rows = read(&shop, columns, "month_to_date ORDER BY period").await?;
        let periods = ["last_month", "last_month_by_then", "this_month"];
        let expected: Vec<String> =
            periods.iter().zip(expected).map(|(period, row)| format!("{period}\t{row}")).collect();
        ensure!(rows == expected, "at {now}: {rows:?} is not {expected:?}");
    }
    Ok(())
}

#[tokio::test]
async fn five_minutes_begin_where_they_should() -> anyhow::Result<()> {
    let mut shop = Deployment::new("five_minutes").await?;
    let all = [
        ("2026-03-28 23:58:30Z", "1.01", "paid"),
        ("2026-03-29 01:04:59.999999Z", "2", "paid"),
        ("2026-03-29 01:05:00Z", "4", "cancelled"),
        ("2026-03-29 01:09:00Z", "8", "paid"),
    ];
    orders(&shop, &all).await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    let rows = read(
        &shop,
        "start, orders, sold_orders, toDecimalString(revenue, 3), cancelled_orders",
        "five_minute_sales_by_country",
    )
    .await?;
    ensure!(
        rows == [
            "2026-03-28 23:55:00\t1\t1\t1.010\t0",
            "2026-03-29 01:00:00\t1\t1\t2.000\t0",
            "2026-03-29 01:05:00\t2\t1\t8.000\t1",
        ],
        "{rows:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_month_without_a_month_before_has_no_change() -> anyhow::Result<()> {
    let mut shop = Deployment::new("months").await?;
    let all = [
        ("2026-01-31 23:30:00Z", "10", "paid"),
        ("2026-03-05 12:00:00Z", "20", "paid"),
        ("2026-03-31 22:30:00Z", "1.50", "paid"),
        ("2026-04-10 12:00:00Z", "5.25", "cancelled"),
    ];
    orders(&shop, &all).await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    let columns = "month, orders, toDecimalString(revenue, 2), \
        ifNull(toDecimalString(average_order_value, 2), '-'), ifNull(toDecimalString(revenue_change, 2), '-')";
    let months = read(&shop, columns, "monthly_sales_summary").await?;
    ensure!(
        months
            == [
                "2026-01-01\t1\t10.00\t10.00\t-",
                "2026-03-01\t2\t21.50\t10.75\t-",
                "2026-04-01\t1\t0.00\t-\t-21.50"
            ],
        "{months:?}"
    );
    // In Berlin January's last order is one of February, and March's one of April.
    shop.parameters.time_zone = "Europe/Berlin".into();
    shop.deploy_plain(instant(NOON)).await?;
    expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    let months = read(&shop, columns, "monthly_sales_summary").await?;
    ensure!(
        months
            == [
                "2026-02-01\t1\t10.00\t10.00\t-",
                "2026-03-01\t1\t20.00\t20.00\t10.00",
                "2026-04-01\t2\t1.50\t1.50\t-18.50"
            ],
        "{months:?}"
    );
    Ok(())
}

#[tokio::test]
async fn half_a_cent_is_rounded_away_from_zero() -> anyhow::Result<()> {
    let mut shop = Deployment::new("cents").await?;
    let all = [
        // Averages of 10.005, 10.015, -10.005, 33.333..., 66.666..., 0.005 and just below a half cent.
        ("2026-01-01 12:00:00Z", "10.00", "paid"),
        ("2026-01-01 12:00:00Z", "10.01", "paid"),
        ("2026-01-02 12:00:00Z", "10.01", "paid"),
        ("2026-01-02 12:00:00Z", "10.02", "paid"),
        ("2026-01-03 12:00:00Z", "-10.00", "paid"),
        ("2026-01-03 12:00:00Z", "-10.01", "paid"),
        ("2026-01-04 12:00:00Z", "100.00", "paid"),
        ("2026-01-04 12:00:00Z", "0.00", "paid"),
        ("2026-01-04 12:00:00Z", "0.00", "paid"),
        ("2026-01-05 12:00:00Z", "200.00", "paid"),
        ("2026-01-05 12:00:00Z", "0.00", "paid"),
        ("2026-01-05 12:00:00Z", "0.00", "paid"),
        ("2026-01-06 12:00:00Z", "0.01", "paid"),
        ("2026-01-06 12:00:00Z", "0.00", "paid"),
        ("2026-01-07 12:00:00Z", "999999999999.99", "paid"),
        ("2026-01-07 12:00:00Z", "999999999999.98", "paid"),
    ];
    orders(&shop, &all).await?;
    // Two products whose revenues are as 1 to 2, and average unit prices of 1.005 and 0.995.
    shop.postgres(
        "INSERT INTO products (id, sku, name, price) VALUES (1, 'A', 'A', 1), (2, 'B', 'B', 1), (3, 'C', 'C', 1);
         INSERT INTO order_items SELECT min(id), 1, 1, 1, 1.00 FROM orders;
         INSERT INTO order_items SELECT min(id), 2, 1, 1, 1.01 FROM orders;
         INSERT INTO order_items SELECT min(id), 3, 2, 4, 1.00 FROM orders;
         INSERT INTO order_items SELECT min(id) + 1, 1, 2, 2, 0.01 FROM orders",
    )
    .await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    let averages = read(&shop, "toDecimalString(average_order_value, 2)", "daily_sales_summary").await?;
    ensure!(
        averages == ["10.01", "10.02", "-10.01", "33.33", "66.67", "0.01", "999999999999.99"],
        "{averages:?}"
    );
    let products = read(
        &shop,
        "product_id, toDecimalString(revenue, 2), toDecimalString(revenue_share, 6), \
         ifNull(toDecimalString(average_unit_price, 2), '-')",
        "product_performance",
    )
    .await?;
    ensure!(
        products == ["1\t2.01\t0.333333\t1.01", "2\t4.02\t0.666667\t0.67", "3\t0.00\t0.000000\t-"],
        "{products:?}"
    );
    Ok(())
}

#[tokio::test]
async fn revenue_leaves_out_the_statuses_that_the_resource_names() -> anyhow::Result<()> {
    let mut shop = Deployment::new("statuses").await?;
    let day = "2026-11-23 09:00:00Z";
    let all = [
        (day, "1", "paid"),
        (day, "2", "cancelled"),
        (day, "4", "refunded"),
        (day, "8", "pending"),
        (day, "16", "delivered"),
    ];
    orders(&shop, &all).await?;
    shop.load().await?;
    let columns = "orders, toDecimalString(revenue, 2), cancelled_orders";
    for (cancelled, refunded, expected) in [
        (vec!["cancelled"], vec!["refunded"], "5\t25.00\t1"),
        (vec![], vec![], "5\t31.00\t0"),
        (vec!["cancelled", "pending", "it's \\ odd"], vec![], "5\t21.00\t2"),
    ] {
        shop.parameters.cancelled_statuses = cancelled.into_iter().map(str::to_owned).collect();
        shop.parameters.refunded_statuses = refunded.into_iter().map(str::to_owned).collect();
        shop.deploy_plain(instant(NOON)).await?;
        expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
        let days = read(&shop, columns, "daily_sales_summary").await?;
        ensure!(days == [expected], "{days:?} is not {expected}");
    }
    Ok(())
}

#[tokio::test]
async fn customers_fall_into_the_first_segment_that_fits() -> anyhow::Result<()> {
    let mut shop = Deployment::new("segments").await?;
    shop.postgres(
        "INSERT INTO customers (id, email, name, created_at) SELECT n, n::text, 'C', '2020-01-01'
         FROM generate_series(1, 8) n;
         INSERT INTO orders (customer_id, total_amount, status, created_at)
         SELECT * FROM (VALUES
             (2, 5000, 'paid'::order_status, timestamptz '2026-05-27 12:00Z'),
             (3, 5000, 'paid', '2026-08-25 12:00Z'),
             (4, 1000, 'paid', '2026-11-20 12:00Z'),
             (5, 999.99, 'paid', '2026-08-26 12:00Z'),
             (6, 10, 'paid', '2026-10-25 12:00Z'),
             (7, 10, 'paid', '2026-10-24 12:00Z')
         ) AS o UNION ALL
         SELECT 8, 10, 'cancelled', timestamptz '2026-11-01 12:00Z' FROM generate_series(1, 5)",
    )
    .await?;
    shop.load().await?;
    shop.deploy_plain(instant(NOON)).await?;
    expect_equal(&shop.oracle().await?.check_at(instant(NOON)).await?)?;
    let segments =
        read(&shop, "customer_id, days_since_last_order, segment", "customer_metrics ORDER BY customer_id")
            .await?;
    ensure!(
        segments
            == [
                "1\t\\N\tNew",
                "2\t180\tLapsed",
                "3\t90\tAtRisk",
                "4\t3\tVip",
                "5\t89\tActive",
                "6\t29\tNew",
                "7\t30\tActive",
                "8\t22\tLoyal"
            ],
        "{segments:?}"
    );
    Ok(())
}

#[tokio::test]
async fn refreshed_views_follow_the_shop_as_declared() -> anyhow::Result<()> {
    let mut shop = Deployment::new("refreshed").await?;
    shop.parameters.time_zone = "Europe/Berlin".into();
    let now = shop.postgres_rows("SELECT (extract(epoch FROM now()) * 1000000)::bigint").await?;
    let now: i64 = now[0][0].as_deref().unwrap_or_default().parse()?;
    shop.live(3, 400, tidemark_e2e::oracle::AsOf::Instant(now)).await?;
    shop.load().await?;
    shop.deploy_as_declared().await?;
    let oracle = shop.oracle().await?.with_views(Views::TextsAndDeployed);
    oracle.wait_equal(Duration::from_secs(30)).await?;
    shop.postgres(
        "UPDATE orders SET status = 'refunded' WHERE id % 3 = 0; DELETE FROM customers WHERE id % 7 = 0",
    )
    .await?;
    shop.load().await?;
    oracle.wait_equal(Duration::from_secs(30)).await?;
    expect_equal(&oracle.with_views(Views::Deployed).check_hostile().await?)
}
