//! Bad input: each case ends in a named reason with the next step, the rest goes on, and mending it heals.

use std::time::Duration;

use rdkafka::Message;
use serde_json::{Value, json};
use tidemark_e2e::chain::{Chain, pipeline, secret, secrets, shop};
use tidemark_e2e::shop::{SCHEMA, SEED};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, User, shared, wait_until};

use crate::chain::objects;

const NOTICED: Duration = Duration::from_secs(60);

/// Makes a database with one small table of payments.
async fn payments(stack: &Stack, name: &str) -> anyhow::Result<()> {
    stack.postgres().create_database(name).await?;
    stack
        .postgres()
        .execute(
            Role::Shop,
            name,
            "CREATE TABLE payments (id bigint PRIMARY KEY, amount numeric(12, 2) NOT NULL, paid_at timestamptz);
             INSERT INTO payments VALUES (1, 10.50, now()), (2, 0.01, NULL)",
        )
        .await
}

/// Waits until the target holds `rows` rows, as its `_current` view says.
async fn rows(stack: &Stack, table: &str, rows: u64) -> anyhow::Result<()> {
    wait_until(PATIENCE, &format!("{rows} rows in {table}"), || async {
        let answer = stack.clickhouse().query(&format!("SELECT count() FROM {table}")).await?;
        anyhow::ensure!(answer.trim() == rows.to_string(), "it has {}", answer.trim());
        Ok(Some(()))
    })
    .await
}

fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    *manifest.pointer_mut(pointer).expect("the pointer names a field of the manifest") = value;
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_mending_the_secret_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_password";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let manifest = pipeline(stack, NAME, &["public.payments"]);
    let wrong = vec![manifest.clone(), secret("postgres", "tidemark", "guessed"), secrets().remove(1)];
    let chain = Chain::prepare(stack, NAME, &wrong)?;
    chain.start_operator()?;
    let message = chain.wait_condition("SourceReady", "False", "AuthenticationFailed", NOTICED).await?;
    assert!(message.contains("postgres") && !message.contains("guessed"), "{message}");

    chain.write(&objects(manifest))?;
    chain.start_sink().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_password.payments_current", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_is_named_the_others_stream_and_making_it_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_table";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let chain =
        Chain::prepare(stack, NAME, &objects(pipeline(stack, NAME, &["public.payments", "public.refunds"])))?;
    chain.start().await?;
    let message = chain.wait_condition("SourceReady", "False", "TableNotFound", NOTICED).await?;
    assert!(message.contains("public.refunds"), "{message}");
    rows(stack, "bad_table.payments_current", 2).await?;

    let make =
        "CREATE TABLE refunds (id bigint PRIMARY KEY, payment bigint); INSERT INTO refunds VALUES (1, 2)";
    stack.postgres().execute(Role::Shop, NAME, make).await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_table.refunds_current", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_broker_is_named_and_mending_the_address_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_broker";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let right = pipeline(stack, NAME, &["public.payments"]);
    let wrong = with(right.clone(), "/spec/kafka/bootstrapServers", json!("127.0.0.1:9"));
    let chain = Chain::prepare(stack, NAME, &objects(wrong))?;
    chain.start_operator()?;
    let message = chain.wait_condition("ConnectorRunning", "Unknown", "Unreachable", NOTICED).await?;
    assert!(message.contains("127.0.0.1:9"), "{message}");

    chain.write(&objects(right))?;
    chain.start_sink().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_broker.payments_current", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_clickhouse_is_named_and_mending_the_address_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_clickhouse";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let right = pipeline(stack, NAME, &["public.payments"]);
    let wrong = with(right.clone(), "/spec/clickhouse/url", json!("http://127.0.0.1:9"));
    let chain = Chain::prepare(stack, NAME, &objects(wrong))?;
    chain.start_operator()?;
    let message = chain.wait_condition("TablesInSync", "Unknown", "Unreachable", NOTICED).await?;
    assert!(message.contains("127.0.0.1:9"), "{message}");

    chain.write(&objects(right))?;
    chain.start_sink().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_clickhouse.payments_current", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_where_clouds_hand_out_credentials_are_named_and_never_called() -> anyhow::Result<()> {
    const NAME: &str = "bad_address";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let right = pipeline(stack, NAME, &["public.payments"]);
    let wrong = with(right.clone(), "/spec/clickhouse/url", json!("http://169.254.169.254"));
    let wrong = with(wrong, "/spec/source/connect/url", json!("http://[fe80::1]:8083"));
    let chain = Chain::prepare(stack, NAME, &objects(wrong))?;
    chain.start_operator()?;
    for (kind, field, range) in [
        ("TablesInSync", "spec.clickhouse.url", "169.254.0.0/16"),
        ("ConnectorRunning", "spec.source.connect.url", "fe80::/10"),
    ] {
        wait_until(NOTICED, "the address to be refused", || async {
            let (status, reason, message) = chain.condition(kind)?;
            let is_named =
                message.contains(field) && message.contains(&format!("nothing in {range} is called"));
            anyhow::ensure!(status != "True" && is_named, "{kind}={status} {reason}: {message}");
            Ok(Some(()))
        })
        .await?;
    }
    chain.write(&objects(right))?;
    chain.wait_condition("ConnectorRunning", "True", "", PATIENCE).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsafe_partition_expression_is_refused_with_what_would_be_safe() -> anyhow::Result<()> {
    const NAME: &str = "bad_partition";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let right = pipeline(stack, NAME, &["public.payments"]);
    let unsafe_table = json!([{"name": "public.payments", "partitionBy": "toYYYYMM(paid_at)"}]);
    let wrong = with(right.clone(), "/spec/tables", unsafe_table);
    let chain = Chain::prepare(stack, NAME, &objects(wrong))?;
    chain.start_operator()?;
    let message = chain.wait_condition("TablesInSync", "False", "UnsafePartitionBy", NOTICED).await?;
    assert!(message.contains("paid_at") && message.contains("public.payments"), "{message}");

    chain.write(&objects(right))?;
    chain.start_sink().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_partition.payments_current", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_view_is_named_the_others_answer_and_mending_its_sql_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_view";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let view = |sql: &str| {
        let mut manifest = pipeline(stack, NAME, &["public.payments"]);
        manifest["spec"]["views"] = json!({"preset": "None", "extra": [
            {"name": "totals", "sql": {"inline": "SELECT sum(amount) AS total FROM payments_current"}},
            {"name": "broken", "sql": {"inline": sql}},
        ]});
        objects(manifest)
    };
    let chain = Chain::prepare(stack, NAME, &view("SELECT no_such_column FROM payments_current"))?;
    chain.start().await?;
    let message = chain.wait_condition("ViewsInSync", "False", "InvalidView", PATIENCE).await?;
    assert!(message.contains("broken") && message.contains("no_such_column"), "{message}");
    rows(stack, "bad_view.totals", 1).await?;

    chain.write(&view("SELECT id FROM payments_current"))?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_view.broken", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_of_users_run_as_the_viewer_and_a_right_that_it_lacks_is_named() -> anyhow::Result<()> {
    const NAME: &str = "boards_viewed";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let run_as = |user: User, further: Option<&str>| {
        let mut manifest = pipeline(stack, NAME, &["public.payments"]);
        manifest["spec"]["views"] = json!({"preset": "None", "refreshInterval": "1s", "extra": [
            {"name": "totals", "sql": {"inline": "SELECT sum(amount) AS total FROM payments_current"}},
            {"name": "kept", "sql": {"inline": "SELECT max(id) AS most FROM payments_current"}, "materialization": {"type": "Refresh"}},
        ]});
        if let Some(sql) = further {
            let views = manifest["spec"]["views"]["extra"].as_array_mut().unwrap();
            views.push(json!({"name": "raw", "sql": {"inline": sql}}));
        }
        manifest["spec"]["clickhouse"]["viewer"] = json!({"secretName": "viewer"});
        let mut all = objects(manifest);
        all.push(secret("viewer", user.name(), user.password()));
        all
    };
    // It may read nothing here, or may be nobody's definer.
    let chain = Chain::prepare(stack, NAME, &run_as(User::Reader, None))?;
    chain.start().await?;
    let message = chain.wait_condition("ViewsInSync", "False", "PermissionDenied", PATIENCE).await?;
    assert!(
        message.contains("GRANT SELECT ON `boards_viewed`.`payments_current` TO `reader`; GRANT SET DEFINER"),
        "{message}"
    );
    chain.write(&run_as(User::Dashboards, None))?;
    wait_until(PATIENCE, "a message about the definer", || async {
        let (status, reason, message) = chain.condition("ViewsInSync")?;
        anyhow::ensure!(
            reason == "PermissionDenied"
                && message.contains("GRANT SET DEFINER ON `dashboards` TO `tidemark`")
                && message.contains("clickhouse: "),
            "it is {status} {reason}: {message}"
        );
        Ok(Some(()))
    })
    .await?;
    // What no view can be made for goes on.
    chain.wait_condition("TablesInSync", "True", "", PATIENCE).await?;

    // It may read the view of the table, and nothing else: neither the table nor what the operator keeps beside it.
    chain.write(&run_as(User::Viewer, None))?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "boards_viewed.totals", 1).await?;
    rows(stack, "boards_viewed.kept", 1).await?;
    // Empty where there is no such view.
    let definer = async |view: &str| {
        let sql = format!(
            "SELECT extract(create_table_query, 'DEFINER = (\\\\w+)') FROM system.tables \
             WHERE database = '{NAME}' AND name = '{view}'"
        );
        anyhow::Ok(stack.clickhouse().query(&sql).await?.trim().to_owned())
    };
    for (view, account) in [
        ("totals", "viewer"),
        ("kept__source", "viewer"),
        ("kept__refresh", "tidemark"),
        ("kept", "tidemark"),
    ] {
        assert_eq!(definer(view).await?, account, "{view}");
    }
    for table in ["payments", "_tidemark_ledger", "kept"] {
        let sql = format!("SELECT count() FROM boards_viewed.{table}");
        let refused = stack.clickhouse().query_as(User::Viewer, &sql, &[]).await.unwrap_err().to_string();
        assert!(refused.contains("ACCESS_DENIED"), "{table}: {refused}");
    }
    chain.write(&run_as(User::Viewer, Some("SELECT id FROM payments")))?;
    let message = chain.wait_condition("ViewsInSync", "False", "PermissionDenied", PATIENCE).await?;
    assert!(message.contains("GRANT SELECT ON `boards_viewed`.`payments` TO `viewer`"), "{message}");

    // Without the account what runs as it goes.
    let mut plain = run_as(User::Viewer, None);
    plain[0]["spec"]["clickhouse"]["viewer"] = Value::Null;
    chain.apply(&plain, PATIENCE).await?;
    wait_until(PATIENCE, "the source of the refresh to go", || async {
        let left = [definer("kept__source").await?, definer("totals").await?];
        anyhow::ensure!(left[0].is_empty() && left[1] == "tidemark", "{left:?}");
        Ok(Some(()))
    })
    .await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "boards_viewed.kept", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_event_goes_to_the_dead_letters_and_its_table_says_so() -> anyhow::Result<()> {
    const NAME: &str = "bad_event";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let chain = Chain::prepare(stack, NAME, &objects(pipeline(stack, NAME, &["public.payments"])))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_event.payments_current", 2).await?;

    let garbage: &[u8] = br#"{"before":null,"after":{"id":"#;
    stack.kafka().produce("bad_event.public.payments", Some(br#"{"id":3}"#), Some(garbage)).await?;
    stack.postgres().execute(Role::Shop, NAME, "INSERT INTO payments VALUES (4, 7, now())").await?;
    rows(stack, "bad_event.payments_current", 3).await?;
    let letters =
        stack.kafka().consume_until("bad_event.dead-letter", NOTICED, |records| !records.is_empty()).await?;
    assert_eq!(letters[0].payload(), Some(garbage), "the dead letter is the record as it came");
    let message = chain.wait_condition("TablesInSync", "False", "DeadLetters", NOTICED).await?;
    assert!(message.contains("payments") && message.contains("bad_event.dead-letter"), "{message}");

    let listed = chain.dead_letters(&["list"]).await?;
    assert!(listed.contains("payments"), "{listed}");
    // Nothing can make a record of it: it is left, and the table is whole without it.
    chain.dead_letters(&["skip", "--table", "payments"]).await?;
    chain.wait_condition("TablesInSync", "True", "", PATIENCE).await?;
    rows(stack, "bad_event.payments_current", 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_clickhouse_refuses_is_named_the_others_go_on_and_a_replay_heals() -> anyhow::Result<()> {
    const NAME: &str = "bad_row";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let chain = Chain::prepare(stack, NAME, &objects(pipeline(stack, NAME, &["public.payments"])))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    rows(stack, "bad_row.payments_current", 2).await?;

    let clickhouse = stack.clickhouse();
    clickhouse.query("ALTER TABLE bad_row.payments ADD CONSTRAINT small CHECK amount < 100").await?;
    let orders =
        "INSERT INTO payments SELECT g, CASE g WHEN 57 THEN 5000 ELSE 1 END FROM generate_series(10, 109) g";
    stack.postgres().execute(Role::Shop, NAME, orders).await?;
    rows(stack, "bad_row.payments_current", 101).await?;
    let message = chain.wait_condition("TablesInSync", "False", "DeadLetters", PATIENCE).await?;
    assert!(message.contains("payments"), "{message}");
    let shown = chain.dead_letters(&["show", "--table", "payments"]).await?;
    assert!(
        shown.contains("469") && shown.contains("57"),
        "the letter has the server's code and its key: {shown}"
    );
    stack.postgres().execute(Role::Shop, NAME, "INSERT INTO payments VALUES (200, 2)").await?;
    rows(stack, "bad_row.payments_current", 102).await?;

    clickhouse.query("ALTER TABLE bad_row.payments DROP CONSTRAINT small").await?;
    chain.dead_letters(&["replay", "--table", "payments"]).await?;
    rows(stack, "bad_row.payments_current", 103).await?;
    chain.wait_condition("TablesInSync", "True", "", PATIENCE).await?;
    assert_eq!(chain.dead_letters(&["list"]).await?.trim(), "no open dead letters");
    chain.wait_ready(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_without_a_column_loses_the_views_that_need_it_and_no_other() -> anyhow::Result<()> {
    const NAME: &str = "bad_shop";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    for statements in [SCHEMA, SEED, "ALTER TABLE products DROP COLUMN category"] {
        stack.postgres().execute(Role::Shop, NAME, statements).await?;
    }
    let chain = Chain::prepare(stack, NAME, &objects(shop(stack, NAME)))?;
    chain.start().await?;
    let message = chain.wait_condition("ViewsInSync", "False", "MissingColumns", PATIENCE).await?;
    assert!(message.contains("category"), "{message}");
    wait_until(PATIENCE, "the views that need no category", || async {
        stack.clickhouse().query(&format!("SELECT count() FROM {NAME}.daily_sales_summary")).await?;
        Ok(Some(()))
    })
    .await
}
