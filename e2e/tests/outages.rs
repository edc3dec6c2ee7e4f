//! What fails, drifts or is asked for while data flows: everything comes back by itself, and no row is lost.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use tidemark_e2e::chain::{Chain, secret, secrets, shop};
use tidemark_e2e::shop::{Database, Generator, SCHEMA, SEED};
use tidemark_e2e::stack::{Component, PATIENCE, Part, Role, Stack, shared, wait_until};

use crate::chain::objects;

/// Makes the shop in a database of its own, and a generator of orders.
pub(crate) async fn open_shop(stack: &Stack, name: &str) -> anyhow::Result<Generator> {
    stack.postgres().create_database(name).await?;
    for statements in [SCHEMA, SEED] {
        stack.postgres().execute(Role::Shop, name, statements).await?;
    }
    let database = Database::new(stack.postgres().connect(Role::Shop, name).await?).await?;
    Generator::new(database, 11).await
}

pub(crate) async fn orders(generator: &mut Generator, number: u32) -> anyhow::Result<()> {
    generator.history(number, 40, jiff::Timestamp::now().as_microsecond()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clickhouse_kafka_and_postgresql_go_down_and_come_back_without_a_lost_row() -> anyhow::Result<()> {
    const NAME: &str = "outages";
    let stack = Stack::start(Part::CHAIN).await?;
    let mut generator = open_shop(&stack, NAME).await?;
    let chain = Chain::prepare(&stack, NAME, &objects(shop(&stack, NAME)))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let (operator, sink) = (chain.operator().id(), chain.sink().id());
    for command in ["plan", "doctor", "status"] {
        wait_until(PATIENCE, &format!("tidemark {command} to say that all is well"), || async {
            let (code, text) = chain.asks(command).await?;
            ensure!(code == 0, "{command}: exit {code}\n{text}");
            Ok(Some(()))
        })
        .await?;
    }

    stack.clickhouse().kill().await?;
    orders(&mut generator, 60).await?;
    let message = chain.wait_condition("TablesInSync", "Unknown", "Unreachable", PATIENCE).await?;
    assert!(message.contains(&stack.clickhouse().url()), "{message}");
    stack.clickhouse().start().await?;
    chain.wait_ready(PATIENCE).await?;

    stack.kafka().kill().await?;
    orders(&mut generator, 60).await?;
    let (code, text) = chain.asks("plan").await?;
    ensure!(
        code == 2 && text.contains(&stack.kafka().bootstrap_servers()),
        "plan without Kafka: exit {code}\n{text}"
    );
    let (code, text) = chain.asks("doctor").await?;
    ensure!(code > 0 && text.contains("no data?"), "doctor without Kafka: exit {code}\n{text}");
    stack.kafka().start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;

    stack.postgres().restart().await?;
    let database = Database::new(stack.postgres().connect(Role::Shop, NAME).await?).await?;
    orders(&mut Generator::new(database, 12).await?, 60).await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;
    assert_eq!(
        (operator, sink),
        (chain.operator().id(), chain.sink().id()),
        "operator and sink lived through it"
    );
    ensure!(chain.operator().ended()?.is_none() && chain.sink().ended()?.is_none(), "operator or sink ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sinks_share_the_partitions_and_the_loss_of_either_loses_no_row() -> anyhow::Result<()> {
    const NAME: &str = "two_sinks";
    let stack = shared().await?;
    let mut generator = open_shop(stack, NAME).await?;
    let chain = Chain::prepare(stack, NAME, &objects(shop(stack, NAME)))?;
    chain.start().await?;
    let second = chain.another_sink("second")?;
    second.spawn()?;
    chain.wait_ready(PATIENCE).await?;
    let replicas = format!("SELECT uniqExact(replica) FROM {NAME}._tidemark_progress FINAL");
    wait_until(PATIENCE, "both sinks to report progress", || async {
        orders(&mut generator_of(stack, NAME).await?, 10).await?;
        Ok((stack.clickhouse().query(&replicas).await?.trim() == "2").then_some(()))
    })
    .await?;

    chain.sink().kill().await?;
    orders(&mut generator, 60).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;
    chain.sink().spawn()?;
    orders(&mut generator, 60).await?;
    second.stop().await?;
    orders(&mut generator, 60).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await
}

/// Another writer to the same shop.
async fn generator_of(stack: &Stack, name: &str) -> anyhow::Result<Generator> {
    Generator::new(Database::new(stack.postgres().connect(Role::Shop, name).await?).await?, 13).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_is_named_and_the_new_secret_heals_operator_and_connector() -> anyhow::Result<()> {
    const NAME: &str = "rotation";
    let stack = Stack::start(Part::CHAIN).await?;
    let mut generator = open_shop(&stack, NAME).await?;
    let chain = Chain::prepare(&stack, NAME, &objects(shop(&stack, NAME)))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;

    let rotate = "ALTER ROLE tidemark PASSWORD 'rotated-pw';
                  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tidemark'";
    stack.postgres().execute(Role::Superuser, NAME, rotate).await?;
    let message = chain.wait_condition("SourceReady", "False", "AuthenticationFailed", PATIENCE).await?;
    assert!(message.contains("postgres") && !message.contains("-pw"), "{message}");
    orders(&mut generator, 60).await?;

    let new = secret("postgres", Role::Tidemark.name(), "rotated-pw");
    chain.write(&[shop(&stack, NAME), new, secrets().remove(1)])?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_by_hand_comes_back_and_a_suspended_pipeline_is_left_alone() -> anyhow::Result<()> {
    const NAME: &str = "drift";
    let stack = shared().await?;
    let mut generator = open_shop(stack, NAME).await?;
    let manifest = shop(stack, NAME);
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;

    // Gone: a view, a table's `_current` view, the connector. What Connect keeps of it is where it goes on.
    let followed = format!(
        "SELECT arraySort(groupArray((kind, key, value))) FROM {NAME}._tidemark_ledger FINAL WHERE kind IN ('epoch', 'read')"
    );
    let before = stack.clickhouse().query(&followed).await?;
    for view in ["daily_sales_summary", "orders_current"] {
        stack.clickhouse().query(&format!("DROP VIEW {NAME}.{view}")).await?;
    }
    stack
        .connect()
        .request(reqwest::Method::DELETE, &format!("/connectors/{}", connector(stack, NAME).await?), None)
        .await?;
    orders(&mut generator, 40).await?;
    wait_until(PATIENCE, "the connector and the view to come back", || async {
        connector(stack, NAME).await?;
        stack.clickhouse().query(&format!("SELECT count() FROM {NAME}.daily_sales_summary")).await?;
        Ok(Some(()))
    })
    .await?;
    chain.wait_ready(PATIENCE).await?;
    chain.oracle().await?.wait_equal(PATIENCE).await?;
    let after = stack.clickhouse().query(&followed).await?;
    assert_eq!(before, after, "nothing was lost, and something was read again");
    wait_until(PATIENCE, "the connector's history to end well", || async {
        let states = "SELECT arrayStringConcat(groupArray(state), ' ') FROM (SELECT state FROM ";
        let all = format!("{states}{NAME}.connector_history ORDER BY seen_at)");
        let all = stack.clickhouse().query(&all).await?;
        anyhow::ensure!(all.contains("RUNNING MISSING") && all.trim().ends_with("RUNNING"), "{all}");
        Ok(Some(()))
    })
    .await?;

    // While it is suspended the operator only looks; data goes on.
    let mut suspended = manifest.clone();
    suspended["spec"]["suspend"] = json!(true);
    chain.write(&objects(suspended))?;
    chain.wait_condition("Reconciling", "False", "Suspended", PATIENCE).await?;
    stack.clickhouse().query(&format!("DROP VIEW {NAME}.recent_activity")).await?;
    orders(&mut generator, 20).await?;
    let newest = stack.postgres().query(Role::Superuser, NAME, "SELECT max(id)::text FROM orders").await?;
    let newest = newest[0][0].clone().unwrap_or_default();
    wait_until(PATIENCE, "the newest order", || async {
        let now = stack.clickhouse().query(&format!("SELECT max(id) FROM {NAME}.orders_current")).await?;
        Ok((now.trim() == newest).then_some(()))
    })
    .await?;
    let there =
        format!("SELECT count() FROM system.tables WHERE database = '{NAME}' AND name = 'recent_activity'");
    assert_eq!(stack.clickhouse().query(&there).await?.trim(), "0", "a suspended pipeline was changed");
    chain.write(&objects(manifest))?;
    wait_until(PATIENCE, "the view to come back", || async {
        Ok((stack.clickhouse().query(&there).await?.trim() == "1").then_some(()))
    })
    .await?;
    chain.wait_ready(PATIENCE).await
}

/// Alters the pipeline's publication as a person does; `{p}` is its name.
async fn by_hand(stack: &Stack, name: &str, statements: &str) -> anyhow::Result<()> {
    let found = stack.postgres().query(Role::Superuser, name, "SELECT pubname FROM pg_publication").await?;
    let publication = found.into_iter().flatten().flatten().next().unwrap_or_default();
    stack.postgres().execute(Role::Superuser, name, &statements.replace("{p}", &publication)).await
}

/// Changes rows while their table is not published, in a transaction that goes on for longer than a read waits for commits
/// that hang: what it wrote is in no event, whenever it commits, so that the table must not be read before its end.
async fn unpublished_in_an_open_transaction(stack: &Stack, name: &str) -> anyhow::Result<()> {
    const LONGER_THAN_A_BARRIER_WAITS: Duration = Duration::from_secs(9);
    let client = stack.postgres().connect(Role::Shop, name).await?;
    let reads = format!(
        "SELECT max(version), argMax(value, version) FROM {name}._tidemark_ledger WHERE kind = 'read' AND key = 'orders'"
    );
    let before = stack.clickhouse().query(&reads).await?;
    let again = format!(
        "SELECT count() FROM {name}._tidemark_ledger WHERE kind = 'layout' AND startsWith(key, 'orders@') \
         AND JSONExtractString(value, 'readAgain') LIKE '%publication%'"
    );
    let known: u64 = stack.clickhouse().query(&again).await?.trim().parse()?;
    // It is there before anybody, the operator too, publishes the table again.
    let change = "UPDATE orders SET total_amount = total_amount + 1 WHERE id % 5 = 2";
    client.batch_execute(&format!("BEGIN; {change}")).await?;
    by_hand(stack, name, "ALTER PUBLICATION {p} DROP TABLE orders").await?;
    client.batch_execute(change).await?;
    let _ = by_hand(stack, name, "ALTER PUBLICATION {p} ADD TABLE orders").await;
    wait_until(PATIENCE, "the operator to see it", || async {
        Ok((stack.clickhouse().query(&again).await?.trim().parse::<u64>()? > known).then_some(()))
    })
    .await?;
    let begin = Instant::now();
    while begin.elapsed() < LONGER_THAN_A_BARRIER_WAITS {
        let now = stack.clickhouse().query(&reads).await?;
        ensure!(now == before, "a read was asked for amid the transaction: {now} after {before}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(client.batch_execute("COMMIT").await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_published_for_a_while_is_read_again_and_what_cannot_be_decoded_is_named()
-> anyhow::Result<()> {
    const NAME: &str = "unpublished";
    let stack = Stack::start(Part::CHAIN).await?;
    let mut generator = open_shop(&stack, NAME).await?;
    orders(&mut generator, 80).await?;
    let mut manifest = shop(&stack, NAME);
    let chain = Chain::prepare(&stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let oracle = chain.oracle().await?;
    // Changes that are in no event, and a publication that is what it was when the operator looks next.
    for away_and_back in [
        (
            "ALTER PUBLICATION {p} DROP TABLE orders, customers",
            "ALTER PUBLICATION {p} ADD TABLE orders, customers",
        ),
        (
            "ALTER PUBLICATION {p} SET (publish = 'truncate')",
            "ALTER PUBLICATION {p} SET (publish = 'insert, update, delete, truncate')",
        ),
        (
            "ALTER PUBLICATION {p} DROP TABLE orders; ALTER PUBLICATION {p} ADD TABLE orders WHERE (id < 0)",
            "ALTER PUBLICATION {p} DROP TABLE orders; ALTER PUBLICATION {p} ADD TABLE orders",
        ),
    ] {
        let (away, back) = away_and_back;
        let change = "UPDATE orders SET total_amount = total_amount + 1 WHERE id % 7 = 3";
        // The operator may be quicker than the hand, and put it right first.
        by_hand(&stack, NAME, &format!("{away}; {change}")).await?;
        let _ = by_hand(&stack, NAME, back).await;
        wait_until(PATIENCE, "every row to be there again", || async {
            let differences = oracle.check().await?;
            ensure!(differences.is_empty(), "{away}: {differences:?}");
            Ok(Some(()))
        })
        .await?;
        chain.wait_ready(PATIENCE).await?;
    }

    unpublished_in_an_open_transaction(&stack, NAME).await?;
    wait_until(PATIENCE, "every row to be there again", || async {
        let differences = oracle.check().await?;
        ensure!(differences.is_empty(), "after an open transaction: {differences:?}");
        Ok(Some(()))
    })
    .await?;
    chain.wait_ready(PATIENCE).await?;

    // PostgreSQL cannot decode what was changed while there was no publication.
    by_hand(&stack, NAME, "DROP PUBLICATION {p}").await?;
    orders(&mut generator, 40).await?;
    let message = chain.wait_condition("SourceReady", "False", "SlotLost", PATIENCE * 2).await?;
    ensure!(message.contains("made anew") && message.contains("tidemark.dev/resnapshot"), "{message}");
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/resnapshot": "publication"});
    chain.write(&objects(manifest.clone()))?;
    orders(&mut generator, 20).await?;
    chain.wait_ready(PATIENCE).await?;
    oracle.wait_equal(PATIENCE).await?;

    // Nor does Debezium ever get past a change of a table that had two columns which differ in case alone.
    let twin = "ALTER TABLE customers ADD COLUMN \"Email\" text; UPDATE customers SET email = email || 'x' WHERE id < 4; \
                ALTER TABLE customers DROP COLUMN \"Email\"";
    for statement in twin.split("; ") {
        stack.postgres().execute(Role::Superuser, NAME, statement).await?;
    }
    orders(&mut generator, 20).await?;
    let message = chain.wait_condition("SourceReady", "False", "SlotLost", PATIENCE * 2).await?;
    ensure!(message.contains("differed in case alone"), "{message}");
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/resnapshot": "twins"});
    chain.write(&objects(manifest))?;
    orders(&mut generator, 20).await?;
    chain.wait_ready(PATIENCE).await?;
    oracle.wait_equal(PATIENCE).await
}

/// Name of the pipeline's connector, which ends in a hash.
async fn connector(stack: &Stack, name: &str) -> anyhow::Result<String> {
    let all = stack.connect().request(reqwest::Method::GET, "/connectors", None).await?;
    let names = all.as_array().into_iter().flatten().filter_map(|name| name.as_str());
    let found = names.into_iter().find(|found| found.starts_with(&format!("local.{name}-")));
    found.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("{name} has no connector among {all}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_lost_in_clickhouse_come_back_with_a_read_that_is_asked_for() -> anyhow::Result<()> {
    const NAME: &str = "resnapshot";
    let stack = shared().await?;
    let mut generator = open_shop(stack, NAME).await?;
    orders(&mut generator, 60).await?;
    let mut manifest = shop(stack, NAME);
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let oracle = chain.oracle().await?;
    oracle.wait_equal(PATIENCE).await?;

    stack.clickhouse().query(&format!("TRUNCATE TABLE {NAME}.orders")).await?;
    ensure!(!oracle.check().await?.is_empty(), "the oracle does not see that the orders are gone");
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/resnapshot": "lost-orders"});
    chain.write(&objects(manifest))?;
    wait_until(PATIENCE, "the request to be answered", || async {
        let status = chain.status()?;
        Ok(status.to_string().contains("lost-orders").then_some(()))
    })
    .await?;
    orders(&mut generator, 20).await?;
    chain.wait_ready(PATIENCE).await?;
    oracle.wait_equal(PATIENCE).await
}
