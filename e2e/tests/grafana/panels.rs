//! Every panel of every dashboard on real rows: what ClickHouse answers through the macros is what PostgreSQL says.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::Value;
use tidemark_crds::pg_quote;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_e2e::chain::{Chain, shop};
use tidemark_e2e::grafana::{Grafana, Version};
use tidemark_e2e::oracle::{AsOf, Parameters, Preset};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, User, shared, wait_until};
use tidemark_operator::core::dashboards::board::{Board, boards, render};
use tidemark_operator::core::dashboards::expand::{TimeRange, Values, expand};
use tidemark_operator::core::dashboards::{Dashboard, Surroundings};
use tidemark_operator::core::desired::grafana::alerts;
use tidemark_operator::edge::clickhouse::probe;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};

use super::{in_motion, objects, with_dashboards};
use crate::outages::{open_shop, orders};

/// Relative difference of two sums of floats in another order.
const TOLERANCE: f64 = 1e-9;

fn surroundings(tags: &[String]) -> Surroundings<'_> {
    Surroundings {
        uid_prefix: "tm-test",
        source_uid: "tm-test",
        source_name: "ClickHouse",
        tags,
        time_zone: "UTC",
        currency: "EUR",
        refresh: "30s",
        rows_objective_s: 5.0,
        views_objective_s: 120.0,
        has_query_log: true,
    }
}

/// The database of the shop.
const NAME: &str = "boards_panels";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_says_what_postgresql_says() -> anyhow::Result<()> {
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    let mut generator = open_shop(stack, NAME).await?;
    generator.history(600, 200, jiff::Timestamp::now().as_microsecond()).await?;
    orders(&mut generator, 120).await?;
    let manifest = in_motion(with_dashboards(stack, NAME, &grafana, |_| {}));
    let chain = Chain::prepare(stack, NAME, &objects(manifest))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;

    let reader = ClickHouse::new(Options {
        url: stack.clickhouse().url(),
        database: Some(NAME.to_owned()),
        credentials: Arc::new(CredentialSource::memory(Credentials::new(
            User::Dashboards.name(),
            User::Dashboards.password(),
        ))),
        authority: Authority::System,
    })?;
    // The twins of the views, as views of PostgreSQL.
    let preset = Preset::ecommerce()?;
    let parameters = Parameters { pipeline: format!("local/{NAME}"), ..Parameters::new(NAME) };
    for view in preset.views_with_twin() {
        let twin = preset.twin(&view, &parameters, AsOf::Now)?;
        stack.postgres().execute(Role::Superuser, NAME, &format!("CREATE VIEW {view} AS {twin}")).await?;
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut counted = (0, 0);
    for (name, board) in boards() {
        let dashboard = render(name, board, &surroundings(&[]));
        for days in [dashboard.days(), 1] {
            let (answered, compared) = compare(stack, &reader, name, board, &dashboard, days, now_ms).await?;
            counted = (counted.0 + answered, counted.1 + compared);
        }
    }
    no_rule_fires(stack, &reader, &preset).await?;
    the_copy_of_the_log_is_whole(stack).await?;
    println!("{} times a panel answered, {} times equal to PostgreSQL", counted.0, counted.1);
    ensure!(counted.0 >= 80 && counted.1 >= 50, "{counted:?} panels answered and compared");
    faults(&reader, boards(), now_ms).await
}

/// Asks every panel of a board over the last days; returns how many answered, and how many of these were compared.
async fn compare(
    stack: &Stack,
    reader: &ClickHouse,
    name: &str,
    board: &Board,
    dashboard: &Dashboard,
    days: u32,
    now_ms: i64,
) -> anyhow::Result<(u32, u32)> {
    let range = TimeRange::last_days(days, now_ms);
    let values = probe::chosen_values(reader, dashboard, range).await?;
    for (variable, query) in board.variables.iter().zip(dashboard.variable_queries()) {
        let rows = clickhouse_rows(reader, &expand(&query.sql, range, &values)).await?;
        let mut got: Vec<String> = rows.concat().into_iter().flatten().collect();
        ensure!(
            !got.is_empty() && got.iter().all(|value| !value.is_empty()),
            "{name}: {} is empty",
            variable.name
        );
        if let Some(twin) = &variable.postgres {
            let rows = stack.postgres().query(Role::Superuser, NAME, twin).await?;
            let mut expected: Vec<String> = rows.into_iter().flatten().flatten().collect();
            expected.sort();
            got.sort();
            assert_eq!(got, expected, "{name}: values of {}", variable.name);
        }
    }
    let queries = dashboard.queries();
    let panels: Vec<_> = board.panels.iter().filter(|panel| panel.r#type != "row").collect();
    ensure!(queries.len() == panels.len(), "{name}: a panel has more than one query or none");
    let (mut answered, mut compared) = (0, 0);
    for (panel, query) in panels.into_iter().zip(&queries) {
        let what = format!("{name}, {days} days: {}", panel.title);
        let sql = expand(&query.sql, range, &values);
        let rows = clickhouse_rows(reader, &sql).await.with_context(|| format!("{what}\n{sql}"))?;
        answered += 1;
        let Some(twin) = &panel.postgres else { continue };
        let twin = fill(twin, range, now_ms, &values);
        let expected = stack
            .postgres()
            .query(Role::Superuser, NAME, &twin)
            .await
            .with_context(|| format!("{what}\n{twin}"))?;
        let may_be_empty = ["Never sold", "Customers at risk"].contains(&panel.title.as_str()) || days == 1;
        ensure!(!expected.is_empty() || may_be_empty, "{what}: no rows to compare");
        same(&rows, &expected).with_context(|| format!("{what}\n{sql}\n{twin}"))?;
        compared += 1;
    }
    Ok((answered, compared))
}

/// What dashboards about queries read: each finished query of the server's log once, whenever it was written there.
async fn the_copy_of_the_log_is_whole(stack: &Stack) -> anyhow::Result<()> {
    let moment = jiff::Timestamp::now().as_microsecond();
    let before = |column: &str| format!("{column} < fromUnixTimestamp64Micro(toInt64({moment}))");
    let sql = format!(
        "SELECT (SELECT (count(), uniqExact(at, query_id)) FROM {NAME}.query_events WHERE {}) AS copied, \
         (SELECT (count(), uniqExact(event_time_microseconds, query_id)) FROM system.query_log WHERE {} AND \
         type != 'QueryStart' AND is_initial_query = 1 AND (has(databases, '{NAME}') OR current_database = '{NAME}')) \
         AS logged, copied = logged AND copied.1 > 50",
        before("at"),
        before("event_time_microseconds"),
    );
    wait_until(PATIENCE, "the copy of the query log", || async {
        let answer = stack.clickhouse().query(&sql).await?;
        ensure!(answer.trim().ends_with('1'), "copied, logged: {answer}");
        Ok(Some(()))
    })
    .await
}

/// Asks what the alert rules ask: nothing is wrong here.
async fn no_rule_fires(stack: &Stack, reader: &ClickHouse, preset: &Preset) -> anyhow::Result<()> {
    let spec: AnalyticsPipelineSpec = serde_json::from_value(shop(stack, NAME)["spec"].clone())?;
    let views: Vec<String> = preset.views().map(str::to_owned).collect();
    let rules = alerts::queries(&spec, &views);
    ensure!(rules.len() == super::RULES, "{} rules", rules.len());
    for (rule, sql) in rules {
        let rows = clickhouse_rows(reader, &sql).await.with_context(|| rule.clone())?;
        let value: f64 = rows.concat().into_iter().flatten().next().context("no value")?.parse()?;
        ensure!((0.0..60.0).contains(&value), "the rule {rule:?} says {value}");
    }
    Ok(())
}

/// The operator's own check, on tables that have rows, finds no fault but in a board whose panel is broken.
async fn faults(reader: &ClickHouse, boards: &[(&str, Board)], now_ms: i64) -> anyhow::Result<()> {
    for (name, board) in boards {
        let found = probe::panels(reader, &render(name, board, &surroundings(&[])), now_ms).await?;
        ensure!(found.is_empty(), "{name}: {found:?}");
    }
    let (name, board) = boards.first().context("no boards")?;
    let mut broken: Dashboard = render(name, board, &surroundings(&[]));
    broken.model["panels"][0]["targets"][0]["rawSql"] = "SELECT nothing FROM nowhere".into();
    let faults = probe::panels(reader, &broken, now_ms).await?;
    ensure!(
        faults.len() == 1 && faults[0].contains("Revenue") && faults[0].contains("nowhere"),
        "{faults:?}"
    );
    Ok(())
}

/// Rows as texts; `None` is NULL. Times are microseconds since 1970.
async fn clickhouse_rows(reader: &ClickHouse, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    let answer = reader.query_bytes(sql, "JSONCompact").await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let types: Vec<String> = answer["meta"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| column["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    let rows = answer["data"].as_array().context("no data")?;
    Ok(rows
        .iter()
        .map(|row| {
            row.as_array().into_iter().flatten().zip(&types).map(|(value, kind)| text(value, kind)).collect()
        })
        .collect())
}

fn text(value: &Value, kind: &str) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if kind.contains("DateTime") {
        // Both servers keep UTC here.
        let instant: jiff::Timestamp = format!("{}Z", text.replace(' ', "T")).parse().ok()?;
        let precise = kind.contains("DateTime64");
        return Some(if precise {
            instant.as_microsecond().to_string()
        } else {
            instant.as_second().to_string()
        });
    }
    Some(text)
}

/// A panel's twin with its placeholders filled.
fn fill(twin: &str, range: TimeRange, now_ms: i64, values: &Values) -> String {
    let instant = |ms: i64| jiff::Timestamp::from_second(ms.div_euclid(1000)).unwrap_or_default();
    let day = |ms: i64| instant(ms).to_zoned(jiff::tz::TimeZone::UTC).date();
    // A day that begins in the time shown; the last one that is over; as `board.rs` says it to ClickHouse.
    let last_day = day(range.to_ms).min(day(now_ms - 86_400_000));
    let from_day = day(range.from_ms - 1000 + 86_400_000).min(last_day);
    let date = |day: jiff::civil::Date| format!("date '{day}'");
    let mut text = twin
        .replace("{{timezone}}", "'UTC'")
        .replace("{{from_day}}", &date(from_day))
        .replace("{{last_day}}", &date(last_day))
        .replace("{{to_day}}", &date(day(range.to_ms)))
        .replace("{{from}}", &format!("timestamptz '{}'", instant(range.from_ms)))
        .replace("{{to}}", &format!("timestamptz '{}'", instant(range.to_ms)));
    for (name, chosen) in values {
        let mut list = String::new();
        for value in chosen {
            let _ = write!(list, "{}{}", if list.is_empty() { "" } else { ", " }, pg_quote::literal(value));
        }
        text = text.replace(&format!("{{{{{name}}}}}"), &format!("ARRAY[{list}]::text[]"));
    }
    text
}

fn same(rows: &[Vec<Option<String>>], expected: &[Vec<Option<String>>]) -> anyhow::Result<()> {
    ensure!(rows.len() == expected.len(), "{} rows, PostgreSQL has {}", rows.len(), expected.len());
    for (number, (row, wanted)) in rows.iter().zip(expected).enumerate() {
        ensure!(row.len() == wanted.len(), "row {number}: {row:?}, PostgreSQL has {wanted:?}");
        for (got, want) in row.iter().zip(wanted) {
            let equal = match (got, want) {
                (Some(got), Some(want)) => got == want || close(got, want),
                (got, want) => got == want,
            };
            ensure!(equal, "row {number}: {row:?}, PostgreSQL has {wanted:?}");
        }
    }
    Ok(())
}

fn close(a: &str, b: &str) -> bool {
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}
