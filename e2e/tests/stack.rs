//! The harness itself: the real chain starts, streams, survives the loss of each part, and leaves nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidemark_e2e::stack::{
    ANALYTICS_DATABASE, Component, Part, Role, Signal, Stack, User, shared, unique_name, wait_until,
};

const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_insert_reaches_kafka_and_goes_on_after_every_part_was_killed() -> anyhow::Result<()> {
    let stack = Stack::start(Part::CHAIN).await?;
    stack.postgres().create_database("stream").await?;
    let schema = "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(14,2) NOT NULL);
                  INSERT INTO orders VALUES (1, 10.50)";
    stack.postgres().execute(Role::Shop, "stream", schema).await?;
    // The least that Debezium needs: the owner publishes, the pipeline's role only reads and replicates.
    let publish = "CREATE PUBLICATION stream FOR TABLE orders";
    stack.postgres().execute(Role::Shop, "stream", publish).await?;
    stack.postgres().execute(Role::Superuser, "stream", "REVOKE shop FROM tidemark").await?;
    stack.kafka().create_topic("stream.public.orders", 1).await?;
    let config = connector(&stack, "stream");
    stack.connect().request(Method::PUT, "/connectors/stream/config", Some(&config)).await?;
    expect_ids(&stack, "stream.public.orders", &[1]).await?;

    insert(&stack, 2).await?;
    expect_ids(&stack, "stream.public.orders", &[1, 2]).await?;

    stack.connect().kill().await?;
    insert(&stack, 3).await?;
    stack.connect().start().await?;
    expect_ids(&stack, "stream.public.orders", &[1, 2, 3]).await.context("after Connect was killed")?;

    stack.kafka().kill().await?;
    insert(&stack, 4).await?;
    stack.kafka().start().await?;
    expect_ids(&stack, "stream.public.orders", &[1, 2, 3, 4]).await.context("after Kafka was killed")?;

    stack.postgres().kill().await?;
    stack.postgres().start().await?;
    insert(&stack, 5).await?;
    restart_failed_task(&stack, "stream").await?;
    expect_ids(&stack, "stream.public.orders", &[1, 2, 3, 4, 5]).await.context("after PostgreSQL was killed")
}

#[tokio::test]
async fn clickhouse_keeps_its_data_over_a_stop_and_a_kill() -> anyhow::Result<()> {
    let stack = Stack::start(&[Part::Clickhouse]).await?;
    let clickhouse = stack.clickhouse();
    clickhouse.query("CREATE DATABASE kept").await?;
    clickhouse.query("CREATE TABLE kept.t (id UInt64) ENGINE = MergeTree ORDER BY id").await?;
    clickhouse.query("INSERT INTO kept.t SELECT number FROM numbers(1000)").await?;
    let address = clickhouse.url();

    clickhouse.restart().await?;
    assert_eq!(clickhouse.query("SELECT count() FROM kept.t").await?, "1000\n");
    clickhouse.kill().await?;
    let refused = clickhouse.query("SELECT 1").await;
    assert!(refused.is_err(), "a killed server answered");
    clickhouse.start().await?;
    assert_eq!(clickhouse.query("SELECT sum(id) FROM kept.t").await?, "499500\n");
    assert_eq!(clickhouse.url(), address);
    Ok(())
}

#[tokio::test]
async fn the_reader_sees_views_and_neither_tables_nor_writes() -> anyhow::Result<()> {
    let clickhouse = shared().await?.clickhouse();
    clickhouse.query(&format!("CREATE DATABASE IF NOT EXISTS {ANALYTICS_DATABASE}")).await?;
    for statement in [
        "CREATE TABLE secret_orders (id UInt64) ENGINE = ReplacingMergeTree ORDER BY id",
        "INSERT INTO secret_orders VALUES (7)",
        "CREATE VIEW data_freshness SQL SECURITY DEFINER AS SELECT id FROM secret_orders FINAL",
    ] {
        clickhouse.query_as(User::Tidemark, statement, &[("database", ANALYTICS_DATABASE)]).await?;
    }
    let ask = async |statement: &str| {
        clickhouse.query_as(User::Reader, statement, &[("database", ANALYTICS_DATABASE)]).await
    };
    assert_eq!(ask("SELECT * FROM data_freshness").await?, "7\n");
    for refused in
        ["SELECT * FROM secret_orders", "INSERT INTO secret_orders VALUES (8)", "DROP VIEW data_freshness"]
    {
        let error = ask(refused).await.expect_err(refused).to_string();
        assert!(error.contains("ACCESS_DENIED") || error.contains("READONLY"), "{refused}: {error}");
    }
    clickhouse.query(&format!("DROP DATABASE {ANALYTICS_DATABASE}")).await?;
    Ok(())
}

#[tokio::test]
async fn the_pipeline_role_publishes_the_shops_tables_without_being_superuser() -> anyhow::Result<()> {
    let postgres = shared().await?.postgres();
    let database = unique_name("rights");
    postgres.create_database(&database).await?;
    postgres.execute(Role::Shop, &database, "CREATE TABLE orders (id bigint PRIMARY KEY)").await?;
    let publish = "CREATE PUBLICATION shop FOR TABLE orders";
    postgres.execute(Role::Tidemark, &database, publish).await?;
    let slot = format!("SELECT pg_create_logical_replication_slot('{database}', 'pgoutput')");
    postgres.execute(Role::Tidemark, &database, &slot).await?;
    postgres
        .execute(Role::Tidemark, &database, &format!("SELECT pg_drop_replication_slot('{database}')"))
        .await?;

    let privileges = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'tidemark'";
    let rows = postgres.query(Role::Superuser, &database, privileges).await?;
    assert_eq!(rows, [[Some("f".to_owned()), Some("f".to_owned()), Some("f".to_owned())]]);
    // Without the owner's membership the role reads, and publishes nothing.
    postgres.execute(Role::Superuser, &database, "CREATE TABLE others (id bigint PRIMARY KEY)").await?;
    let foreign = "CREATE PUBLICATION foreign_table FOR TABLE others";
    let error = postgres.execute(Role::Tidemark, &database, foreign).await.expect_err("not the owner");
    assert!(format!("{error:#}").contains("must be owner of table others"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn kubernetes_stores_objects_and_keeps_them_over_a_restart() -> anyhow::Result<()> {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, PostParams};

    let stack = Stack::start(&[Part::Kubernetes]).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(stack.api_server().client().await?);
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "kept"}, "data": {"key": "value"}}))?;
    maps.create(&PostParams::default(), &map).await?;

    stack.api_server().kill().await?;
    stack.etcd().kill().await?;
    stack.etcd().start().await?;
    stack.api_server().start().await?;
    let again: Api<ConfigMap> = Api::default_namespaced(stack.api_server().client().await?);
    assert_eq!(again.get("kept").await?.data, map.data);
    Ok(())
}

#[tokio::test]
async fn a_halted_server_does_not_answer_until_it_goes_on() -> anyhow::Result<()> {
    let stack = Stack::start(&[Part::Clickhouse]).await?;
    let clickhouse = stack.clickhouse();
    clickhouse.process().signal(Signal::Stop)?;
    let halted = tokio::time::timeout(Duration::from_secs(2), clickhouse.query("SELECT 1")).await;
    assert!(halted.is_err(), "a halted server answered: {halted:?}");
    clickhouse.process().signal(Signal::Continue)?;
    let answer =
        wait_until(SOON, "an answer", || async { clickhouse.query("SELECT 1").await.map(Some) }).await?;
    assert_eq!(answer, "1\n");
    Ok(())
}

#[tokio::test]
async fn a_dropped_stack_leaves_no_process_and_no_folder() -> anyhow::Result<()> {
    let stack = Stack::start(&[Part::Postgres, Part::Clickhouse]).await?;
    let folder = stack.folder().to_owned();
    assert!(processes_below(&folder)? >= 3, "PostgreSQL, ClickHouse and the janitor run");
    drop(stack);
    assert_eq!(processes_below(&folder)?, 0);
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test]
async fn a_killed_owner_leaves_no_process_and_no_folder() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let json = scratch.path().join("stack.json");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_tidemark-stack"))
        .args(["up", "--parts", "postgres,clickhouse", "--json-file"])
        .arg(&json)
        .stdout(Stdio::null())
        .spawn()?;
    let settings = wait_until(SOON, "the stack to be up", || async {
        ensure!(json.exists(), "no {} yet", json.display());
        Ok(Some(serde_json::from_str::<Value>(&std::fs::read_to_string(&json)?)?))
    })
    .await?;
    let folder = Path::new(settings["STACK_FOLDER"].as_str().context("the folder's name")?).to_owned();
    assert!(processes_below(&folder)? >= 3, "PostgreSQL, ClickHouse and the janitor run");
    owner.kill()?;
    owner.wait()?;
    wait_until(SOON, "everything to be gone", || async {
        Ok((processes_below(&folder)? == 0 && !folder.exists()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_part_that_cannot_start_is_named_with_its_log_and_advice() -> anyhow::Result<()> {
    let stack = Stack::start(&[Part::Clickhouse]).await?;
    stack.clickhouse().stop().await?;
    std::fs::write(stack.folder().join("users.xml"), "<clickhouse><broken")?;
    let error = stack.clickhouse().start().await.expect_err("the users file is broken");
    let text = format!("{error:#}");
    for expected in ["clickhouse did not start", "the last lines of", "users.xml", "ended by itself"] {
        assert!(text.contains(expected), "{expected:?} is missing in: {text}");
    }
    Ok(())
}

/// Counts the processes whose command line names the folder.
fn processes_below(folder: &Path) -> anyhow::Result<usize> {
    let name = folder.to_str().context("the folder's name is text")?;
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        // A process may end between the listing and the look.
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&line).contains(name));
    }
    Ok(count)
}

async fn insert(stack: &Stack, id: i64) -> anyhow::Result<()> {
    stack.postgres().execute(Role::Shop, "stream", &format!("INSERT INTO orders VALUES ({id}, 1)")).await
}

/// Waits until the topic holds a row for each of these keys; a replay may bring one twice.
async fn expect_ids(stack: &Stack, topic: &str, ids: &[i64]) -> anyhow::Result<()> {
    use rdkafka::Message;
    let id = |record: &rdkafka::message::OwnedMessage| -> Option<i64> {
        serde_json::from_slice::<Value>(record.payload()?).ok()?["after"]["id"].as_i64()
    };
    let complete = |records: &[rdkafka::message::OwnedMessage]| {
        ids.iter().all(|wanted| records.iter().any(|record| id(record) == Some(*wanted)))
    };
    stack.kafka().consume_until(topic, SOON, complete).await.map(drop)
}

/// Debezium retries a lost connection; a task that gave up first is restarted, as an operator would.
async fn restart_failed_task(stack: &Stack, name: &str) -> anyhow::Result<()> {
    wait_until(SOON, "the connector's task to run", || async {
        let status =
            stack.connect().request(Method::GET, &format!("/connectors/{name}/status"), None).await?;
        if status["tasks"][0]["state"] == "FAILED" {
            stack
                .connect()
                .request(Method::POST, &format!("/connectors/{name}/tasks/0/restart"), None)
                .await?;
        }
        let slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'stream'";
        let rows = stack.postgres().query(Role::Superuser, "postgres", slot).await?;
        Ok((rows == [[Some("t".to_owned())]]).then_some(()))
    })
    .await
}

fn connector(stack: &Stack, name: &str) -> Value {
    json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": "127.0.0.1",
        "database.port": stack.postgres().port().to_string(),
        "database.user": Role::Tidemark.name(),
        "database.password": Role::Tidemark.password(),
        "database.dbname": name,
        "topic.prefix": name,
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "disabled",
        "table.include.list": "public.orders",
        "decimal.handling.mode": "string",
        // A lost PostgreSQL is noticed with the next status message (default 10 s) and tried again after a pause (10 s).
        "status.update.interval.ms": "1000",
        "retriable.restart.connector.wait.ms": "1000",
    })
}
