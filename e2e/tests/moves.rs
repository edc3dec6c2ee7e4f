//! Moves that users make: another address, a wrong one, another server for good, another cluster. Nothing is lost or
//! removed unasked, and one word accepts.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{PATIENCE, Part, Role, Stack, shared, wait_until};

use crate::chain::objects;
use crate::operator::{Operator, prepare, put};

const TABLE: &str = "CREATE TABLE payments (id bigint PRIMARY KEY, amount bigint NOT NULL)";

async fn pay(stack: &Stack, database: &str, from: u32, to: u32) -> anyhow::Result<()> {
    let sql = format!("INSERT INTO payments SELECT i, {from} FROM generate_series({from}, {to}) i");
    stack.postgres().execute(Role::Shop, database, &sql).await
}

/// Waits until a state table in one ClickHouse shows the rows that a PostgreSQL has.
async fn equal(source: &Stack, from: &str, target: &Stack, to: &str) -> anyhow::Result<()> {
    let rows = "SELECT count(*) || ' ' || coalesce(sum(id * amount), 0) || ' ' || coalesce(max(id), 0) FROM payments";
    let shown = format!(
        "SELECT concat(toString(count()), ' ', toString(sum(id * amount)), ' ', toString(max(id))) FROM {to}.payments_current"
    );
    wait_until(PATIENCE, "the rows to be equal", || async {
        let wanted = source.postgres().query(Role::Shop, from, rows).await?[0][0].clone().unwrap_or_default();
        let found = target.clickhouse().query(&shown).await?.trim().to_owned();
        ensure!(found == wanted, "PostgreSQL has {wanted}, ClickHouse {found}");
        Ok(Some(()))
    })
    .await
}

/// The word that a condition's message gives.
fn word(message: &str) -> anyhow::Result<String> {
    let (_, rest) = message.split_once("tidemark.dev/accept: ").with_context(|| message.to_owned())?;
    Ok(rest.split([' ', ',', ';']).next().unwrap_or_default().trim_end_matches(':').to_owned())
}

fn accepting(manifest: &Value, words: &str) -> Vec<Value> {
    let mut manifest = manifest.clone();
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/accept": words});
    objects(manifest)
}

/// Starts the sink anew once its configuration names a place, as a Deployment would.
async fn sink_follows(chain: &Chain<'_>, place: &str) -> anyhow::Result<()> {
    let file = chain.manifests().with_file_name("sink.json");
    wait_until(PATIENCE, "the sink's configuration to name the new place", || async {
        Ok(std::fs::read_to_string(&file)?.contains(place).then_some(()))
    })
    .await?;
    chain.sink().stop().await?;
    chain.sink().spawn()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_is_another_one_is_named_costs_nothing_and_is_followed_anew_when_it_is_accepted()
-> anyhow::Result<()> {
    const NAME: &str = "moves";
    let (stack, other) = tokio::try_join!(
        Stack::start(Part::CHAIN),
        Stack::start_with_postgres(&[Part::Postgres, Part::Connect], 18)
    )?;
    for stack in [&stack, &other] {
        stack.postgres().create_database(NAME).await?;
        stack.postgres().execute(Role::Shop, NAME, TABLE).await?;
    }
    pay(&stack, NAME, 1, 100).await?;
    pay(&other, NAME, 500, 900).await?;
    let mut manifest = pipeline(&stack, NAME, &["public.payments"]);
    let chain = Chain::prepare(&stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let status = chain.status()?;
    ensure!(status["epoch"] == 1, "{status}");

    // The same server under another name: nothing is read again.
    manifest["spec"]["source"]["postgres"]["host"] = json!("localhost");
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    chain.wait_ready(PATIENCE).await?;
    pay(&stack, NAME, 101, 120).await?;
    equal(&stack, NAME, &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 1, "a server at another address is the same");

    // A database that was mistyped: nothing is made there, and what runs goes on.
    let mut wrong = manifest.clone();
    wrong["spec"]["clickhouse"]["database"] = json!("moves_mistyped");
    chain.apply(&objects(wrong), PATIENCE).await?;
    chain.wait_condition("TablesInSync", "False", "IdentityChanged", PATIENCE).await?;
    pay(&stack, NAME, 121, 140).await?;
    equal(&stack, NAME, &stack, NAME).await?;
    let made = "SELECT count() FROM system.databases WHERE name = 'moves_mistyped'";
    ensure!(stack.clickhouse().query(made).await?.trim() == "0", "something was made in the wrong place");
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(chain.status()?["epoch"] == 1, "nothing was lost");

    // A new server of another version, with other rows: named, and followed anew once it is accepted.
    manifest["spec"]["source"]["postgres"]["port"] = json!(other.postgres().port());
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    let message = chain.wait_condition("SourceReady", "False", "IdentityChanged", PATIENCE).await?;
    pay(&stack, NAME, 141, 160).await?;
    equal(&stack, NAME, &stack, NAME).await?;
    chain.write(&accepting(&manifest, &word(&message)?))?;
    sink_follows(&chain, &other.postgres().port().to_string()).await?;
    chain.wait_ready(PATIENCE).await?;
    equal(&other, NAME, &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 2, "{}", chain.status()?);

    // Kafka and Kafka Connect moved.
    manifest["spec"]["kafka"]["bootstrapServers"] = json!(other.kafka().bootstrap_servers());
    manifest["spec"]["source"]["connect"]["url"] = json!(other.connect().url());
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    let words = wait_until(PATIENCE, "both to be named", || async {
        let (_, reason, message) = chain.condition("ConnectorRunning")?;
        let at = message.match_indices("tidemark.dev/accept");
        let words: Vec<String> = at.filter_map(|(at, _)| word(&message[at..]).ok()).collect();
        ensure!(reason == "IdentityChanged" && words.len() == 2, "{reason}: {message}");
        Ok(Some(words))
    })
    .await?;
    // As the message says: the one at the former place is stopped first.
    let path = format!("/connectors/{}/stop", PipelineName::new("local", NAME).connector());
    stack.connect().request(reqwest::Method::PUT, &path, None).await?;
    chain.write(&accepting(&manifest, &words.join(" ")))?;
    sink_follows(&chain, &other.kafka().bootstrap_servers()).await?;
    chain.wait_ready(PATIENCE).await?;
    pay(&other, NAME, 901, 920).await?;
    equal(&other, NAME, &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 3, "{}", chain.status()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_is_applied_from_a_second_cluster_by_mistake_does_nothing_and_is_deleted_without_harm()
-> anyhow::Result<()> {
    const NAME: &str = "twice_applied";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, TABLE).await?;
    pay(stack, NAME, 1, 50).await?;
    let manifest = pipeline(stack, NAME, &["public.payments"]);
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;

    let client = stack.api_server().client().await?;
    prepare(&client, "local").await?;
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), "local");
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    put(&pipelines, manifest).await?;
    let operator = Operator::start(&client, "local")?;
    let message = wait_until(PATIENCE, "the conflict to be named", || async {
        let conditions = pipelines.get(&name).await?.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|c| c.type_ == "TablesInSync" && c.reason == "Conflict");
        Ok(found.map(|condition| condition.message))
    })
    .await?;
    ensure!(
        message.contains("another cluster (local;") && word(&message)?.starts_with("cluster="),
        "{message}"
    );
    pay(stack, NAME, 51, 60).await?;
    equal(stack, NAME, stack, NAME).await?;

    let begin = Instant::now();
    pipelines.delete(&name, &DeleteParams::default()).await?;
    wait_until(PATIENCE, "the resource to be gone", || async {
        Ok(pipelines.get_opt(&name).await?.is_none().then_some(()))
    })
    .await?;
    ensure!(
        begin.elapsed() < Duration::from_secs(30),
        "it waited for what is not its own: {:?}",
        begin.elapsed()
    );
    operator.stop().await?;
    pay(stack, NAME, 61, 70).await?;
    equal(stack, NAME, stack, NAME).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(chain.status()?["epoch"] == 1, "{}", chain.status()?);
    Ok(())
}
