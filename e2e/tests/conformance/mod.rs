//! The model of `operator/tests/explore` beside the real systems: one operator looks at these, each write of it is carried
//! out on both, and both have to take it alike and then look alike.

#[path = "../../../operator/tests/explore/clickhouse.rs"]
mod clickhouse;
#[path = "../../../operator/tests/explore/connect.rs"]
mod connect;
#[path = "../../../operator/tests/explore/estate.rs"]
mod estate;
#[path = "../../../operator/tests/explore/grafana.rs"]
mod grafana;
#[path = "../../../operator/tests/explore/kafka.rs"]
mod kafka;
#[path = "../../../operator/tests/explore/kubernetes.rs"]
mod kubernetes;
mod lockstep;
#[path = "../../../operator/tests/explore/normal.rs"]
mod normal;
#[path = "../../../operator/tests/explore/postgres.rs"]
mod postgres;
mod seen;
#[path = "../../../operator/tests/explore/shell.rs"]
mod shell;
#[path = "../../../operator/tests/explore/world.rs"]
mod world;

use anyhow::ensure;
use serde_json::{Value, json};
use tidemark_e2e::chain::pipeline;
use tidemark_e2e::stack::{PATIENCE, Role, shared, wait_until};

use self::lockstep::Operator;

const NAME: &str = "model";

/// Writes without which this would prove little: each has to be among those that were made.
const MADE: [&str; 20] = [
    "create database",
    "create bookkeeping table _tidemark_ledger",
    "create state table orders",
    "add column",
    "widen column",
    "create view totals",
    "replace view totals",
    "create table kept__",
    "create the refresh of view kept",
    "drop the refresh of view kept",
    "create publication",
    "alter publication",
    "create topic",
    "set retention.ms",
    "create connector",
    "change connector",
    "pause connector",
    "delete connector",
    "drop publication",
    "delete 6 topics",
];

/// The spec after each change, and what changes at the source before it.
fn stretches() -> Vec<(&'static str, &'static str, Value)> {
    let view = |sql: &str| json!({"name": "totals", "sql": {"inline": sql}});
    let kept =
        |sql: &str| json!({"name": "kept", "sql": {"inline": sql}, "materialization": {"type": "Refresh"}});
    let views = |all: Vec<Value>| json!({"preset": "None", "extra": all});
    let simple = "SELECT count() AS n FROM orders_current";
    let history = "SELECT now('UTC') AS at, count() AS n FROM orders_current";
    vec![
        ("apply", "", json!({"views": views(vec![view(simple), kept(history)])})),
        (
            "columns, a table and another SQL",
            "ALTER TABLE orders ADD COLUMN note text; ALTER TABLE orders ALTER COLUMN number TYPE bigint",
            json!({
                "tables": [{"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.items"}],
                "views": views(vec![
                    view("SELECT count() AS n, max(number) AS most FROM orders_current"),
                    kept("SELECT now('UTC') AS at, count() AS n, max(number) AS most FROM orders_current"),
                ]),
            }),
        ),
        (
            "other settings",
            "",
            json!({"kafka": {"topics": {"retention": "48h"}}, "source": {"connect": {"state": "Paused"}}}),
        ),
        (
            "a table and a view less",
            "",
            json!({
                "tables": [{"name": "public.orders"}, {"name": "public.customers"}],
                "views": views(vec![view("SELECT count() AS n, max(number) AS most FROM orders_current")]),
                "source": {"connect": {"state": "Running"}},
            }),
        ),
    ]
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_takes_every_write_as_the_real_systems_do() -> anyhow::Result<()> {
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    let tables = "CREATE TABLE orders (id bigint PRIMARY KEY, number integer NOT NULL); \
                  CREATE TABLE customers (id bigint PRIMARY KEY, name text); \
                  CREATE TABLE items (id bigint PRIMARY KEY, name text)";
    stack.postgres().execute(Role::Shop, NAME, tables).await?;
    let folder = tempfile::tempdir()?;
    let mut spec = pipeline(stack, NAME, &["public.orders", "public.customers"])["spec"].take();
    let mut operator = Operator::new(NAME, folder.path());
    for (what, source, change) in stretches() {
        if !source.is_empty() {
            stack.postgres().execute(Role::Shop, NAME, source).await?;
        }
        merge(&mut spec, &change);
        operator.rest(&spec, false).await.map_err(|error| error.context(what))?;
        ensure!(operator.differences().is_empty(), "{what}:\n{}", operator.differences().join("\n"));
    }
    let gone = json!({"deletionPolicy": {
        "connector": "Delete", "topics": "Delete", "clickhouse": "Delete", "grafana": "Delete",
    }});
    merge(&mut spec, &gone);
    operator.rest(&spec, false).await?;
    wait_until(PATIENCE, "the deletion to end", || {
        let operator = &operator;
        let spec = &spec;
        async move { Ok(operator.round(spec, true).await?.clean.then_some(())) }
    })
    .await?;
    ensure!(operator.differences().is_empty(), "deletion:\n{}", operator.differences().join("\n"));
    let made = operator.made();
    let missing: Vec<&&str> = MADE.iter().filter(|what| !made.iter().any(|it| it.contains(**what))).collect();
    ensure!(missing.is_empty(), "never made: {missing:?}, of {made:#?}");
    Ok(())
}
