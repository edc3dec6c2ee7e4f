//! Time of each panel's query at ten million orders, as the user that Grafana has. I/O.
//!
//! The operator makes tables and views; the rows are then written into the state tables at once, since what is
//! measured is reading them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tidemark_operator::core::dashboards::expand::{TimeRange, expand};
use tidemark_operator::core::dashboards::{PanelQuery, Surroundings, preset};
use tidemark_operator::edge::clickhouse::probe;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};

use super::statistics::{median, percentile};
use crate::chain::{self, Chain};
use crate::shop::SCHEMA;
use crate::stack::{Role, Stack, User, wait_until};

const NAME: &str = "boards_bench";
const READY: Duration = Duration::from_mins(2);
/// All refreshes one after another, on two processors.
const REFRESHED: Duration = Duration::from_mins(20);
const FILL: Duration = Duration::from_mins(10);
/// Days over which orders are spread.
const DAYS: u32 = 730;

/// How much is written and how often each panel is asked.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Orders; two lines each, a customer for each ten, a thousand products.
    pub orders: u64,
    /// Times that each panel is asked.
    pub runs: u32,
}

/// One panel.
#[derive(Debug, Clone, Serialize)]
pub struct PanelTime {
    /// Dashboard.
    pub dashboard: String,
    /// Panel.
    pub panel: String,
    /// Median, milliseconds, while no view is refreshed.
    pub p50_ms: f64,
    /// 95th percentile, milliseconds, while no view is refreshed.
    pub p95_ms: f64,
    /// 95th percentile, milliseconds, while views are refreshed one after another without a pause.
    pub refreshing_p95_ms: f64,
}

/// The refresh of one view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefreshTime {
    /// The view.
    pub view: String,
    /// Seconds.
    pub seconds: f64,
}

/// All panels.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Orders in the state table.
    pub orders: u64,
    /// Times that each panel was asked.
    pub runs: u32,
    /// Seconds until every view was refreshed once over all rows.
    pub refreshed_s: f64,
    /// How long the last refresh of each view took, the others beside it.
    pub refreshes: Vec<RefreshTime>,
    /// The panels.
    pub panels: Vec<PanelTime>,
}

/// Fills a shop and times the panels of its dashboards.
pub async fn measure(stack: &Stack, plan: Plan, progress: impl Fn(&str)) -> anyhow::Result<Report> {
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, SCHEMA).await?;
    let objects: Vec<_> = std::iter::once(chain::shop(stack, NAME)).chain(chain::secrets()).collect();
    let chain = Chain::prepare(stack, NAME, &objects)?;
    chain.start().await?;
    chain.wait_ready(READY).await?;
    // From here on nothing changes but the refreshes.
    chain.operator().stop().await?;
    chain.sink().stop().await?;
    let client = |user: User, deadline| {
        anyhow::Ok(
            ClickHouse::new(Options {
                url: stack.clickhouse().url(),
                database: Some(NAME.to_owned()),
                credentials: Arc::new(CredentialSource::memory(Credentials::new(
                    user.name(),
                    user.password(),
                ))),
                authority: Authority::System,
            })?
            .with_deadline(deadline),
        )
    };
    let writer = client(User::Tidemark, FILL)?;
    for (table, sql) in fills(plan.orders) {
        let begin = Instant::now();
        writer.execute(&sql).await.with_context(|| table)?;
        progress(&format!("{table}: written in {:.1} s", begin.elapsed().as_secs_f64()));
    }
    let begin = Instant::now();
    let all = format!(
        "SELECT sum(orders) = {} AND (SELECT count() FROM view_refreshes WHERE exception != '' OR last_success_at < \
         toDateTime({})) = 0 FROM daily_sales_by_country",
        plan.orders,
        jiff::Timestamp::now().as_second() + 1
    );
    wait_until(REFRESHED, "every view to be refreshed", || async {
        Ok((writer.query_bytes(&all, "TSV").await?.as_ref() == b"1\n").then_some(()))
    })
    .await?;
    let refreshed_s = begin.elapsed().as_secs_f64();
    progress(&format!("every view is refreshed after {refreshed_s:.1} s"));

    let refreshes = "SELECT view, duration_ms / 1000 AS seconds FROM view_refreshes ORDER BY seconds DESC";
    let refreshes: Vec<RefreshTime> = writer.query(refreshes).await?;

    let reader = client(User::Dashboards, Duration::from_secs(30))?;
    let mut queries = Vec::new();
    for (name, dashboard) in preset(&surroundings()) {
        let range = TimeRange::last_days(dashboard.days(), jiff::Timestamp::now().as_millisecond());
        let values = probe::chosen_values(&reader, &dashboard, range).await?;
        let expanded = |query: PanelQuery| (name.clone(), query.panel, expand(&query.sql, range, &values));
        queries.extend(dashboard.queries().into_iter().map(expanded));
    }
    let refreshing = times(&reader, &queries, plan.runs).await?;
    progress("the panels were timed beside refreshes; now at rest");
    stack.clickhouse().query("SYSTEM STOP VIEWS").await?;
    wait_until(READY, "the refreshes to end", || async {
        let running = "SELECT count() FROM system.view_refreshes WHERE status = 'Running'";
        Ok((stack.clickhouse().query(running).await?.trim() == "0").then_some(()))
    })
    .await?;
    let at_rest = times(&reader, &queries, plan.runs).await?;
    let panels = queries.into_iter().zip(refreshing.iter().zip(&at_rest));
    let panels = panels
        .map(|((dashboard, panel, _), (refreshing, at_rest))| PanelTime {
            dashboard,
            panel,
            p50_ms: median(at_rest),
            p95_ms: percentile(at_rest, 95),
            refreshing_p95_ms: percentile(refreshing, 95),
        })
        .collect();
    Ok(Report { orders: plan.orders, runs: plan.runs, refreshed_s, refreshes, panels })
}

fn surroundings() -> Surroundings<'static> {
    Surroundings {
        uid_prefix: "tm-bench",
        source_uid: "tm-bench",
        source_name: "ClickHouse",
        tags: &[],
        time_zone: "UTC",
        currency: "EUR",
        refresh: "30s",
        rows_objective_s: 5.0,
        views_objective_s: 120.0,
        has_query_log: true,
    }
}

/// One INSERT a table. Versions are of the first epoch's stream, above the fence of its snapshot.
fn fills(orders: u64) -> Vec<(&'static str, String)> {
    let customers = (orders / 10).max(1);
    let version = |table: &str| {
        format!(
            "(SELECT max(version) FROM _tidemark_fences WHERE table = '{table}') + 1 + number AS _version"
        )
    };
    let placed = format!(
        "now64(6, 'UTC') - toIntervalSecond(intDiv(number * {}, {orders}))",
        u64::from(DAYS) * 86_400
    );
    vec![
        (
            "customers",
            format!(
                "INSERT INTO customers (id, email, name, country, created_at, updated_at, _version) \
                 SELECT number + 1, concat(toString(number), '@shop.example'), concat('Customer ', toString(number)), \
                 ['DE', 'FR', 'SE', 'JP', 'BR', 'NG', 'TR', 'US', 'IN', 'AU'][number % 10 + 1], \
                 now64(6, 'UTC') - toIntervalDay({DAYS}), now64(6, 'UTC') - toIntervalDay({DAYS}), {} \
                 FROM numbers({customers})",
                version("customers")
            ),
        ),
        (
            "products",
            format!(
                "INSERT INTO products (id, sku, name, category, price, active, created_at, updated_at, _version) \
                 SELECT number + 1, concat('SKU-', toString(number)), concat('Product ', toString(number)), \
                 ['Furniture', 'Kitchen', 'Lighting', 'Office', 'Textiles'][number % 5 + 1], number % 200 + 1, 1, \
                 now64(6, 'UTC') - toIntervalDay({DAYS}), now64(6, 'UTC') - toIntervalDay({DAYS}), {} FROM numbers(1000)",
                version("products")
            ),
        ),
        (
            "orders",
            format!(
                "INSERT INTO orders (id, customer_id, status, currency, total_amount, created_at, updated_at, _version) \
                 SELECT number + 1, cityHash64(number) % {customers} + 1, \
                 ['delivered', 'paid', 'shipped', 'cancelled', 'refunded', 'pending'][cityHash64(number, 1) % 6 + 1], \
                 'EUR', cityHash64(number, 2) % 60000 / 100, {placed}, {placed}, {} FROM numbers({orders})",
                version("orders")
            ),
        ),
        (
            "order_items",
            format!(
                "INSERT INTO order_items (order_id, line_no, product_id, quantity, unit_price, _version) \
                 SELECT intDiv(number, 2) + 1, number % 2 + 1, cityHash64(number) % 1000 + 1, number % 3 + 1, \
                 cityHash64(number, 3) % 20000 / 100, {} FROM numbers({})",
                version("order_items"),
                orders * 2
            ),
        ),
    ]
}

/// Times of `runs` answers to each query, milliseconds.
async fn times(
    reader: &ClickHouse,
    queries: &[(String, String, String)],
    runs: u32,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for (dashboard, panel, sql) in queries {
        let mut times = Vec::new();
        for _ in 0..runs {
            let begin = Instant::now();
            let answer = reader.query_bytes(sql, "JSONCompact").await;
            answer.with_context(|| format!("{dashboard}: {panel}"))?;
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        all.push(times);
    }
    Ok(all)
}

/// The table for people, the slowest panels first.
pub fn table(report: &Report) -> String {
    let mut panels: Vec<&PanelTime> = report.panels.iter().collect();
    panels.sort_by(|a, b| b.p95_ms.total_cmp(&a.p95_ms));
    let mut text = format!(
        "{} orders, each panel asked {} times; all views refreshed in {:.0} s\n{:>8} {:>8} {:>16}  panel\n",
        report.orders, report.runs, report.refreshed_s, "p50 ms", "p95 ms", "p95 refreshing"
    );
    for panel in panels {
        let _ = writeln!(
            text,
            "{:>8.1} {:>8.1} {:>16.1}  {}: {}",
            panel.p50_ms, panel.p95_ms, panel.refreshing_p95_ms, panel.dashboard, panel.panel
        );
    }
    let _ = writeln!(text, "\n{:>17}  refreshed view", "seconds");
    for refresh in &report.refreshes {
        let _ = writeln!(text, "{:>17.1}  {}", refresh.seconds, refresh.view);
    }
    text
}
