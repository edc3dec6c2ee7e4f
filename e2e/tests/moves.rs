//! Moves that users make: another address, a wrong one, another server for good, another cluster. Nothing is lost or
//! removed unasked, and one word accepts.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{Component as _, PATIENCE, Part, Postgres, Role, Stack, shared, wait_until};

use crate::chain::objects;
use crate::operator::{Operator, of_payments, payments, prepare, put};

const TABLE: &str = "CREATE TABLE payments (id bigint PRIMARY KEY, amount bigint NOT NULL)";

async fn pay(postgres: &Postgres, database: &str, from: u32, to: u32) -> anyhow::Result<()> {
    let sql = format!("INSERT INTO payments SELECT i, {from} FROM generate_series({from}, {to}) i");
    postgres.execute(Role::Shop, database, &sql).await
}

/// What a database says of its payments: number, sum and greatest.
async fn paid(postgres: &Postgres, database: &str) -> anyhow::Result<String> {
    let rows = "SELECT count(*) || ' ' || coalesce(sum(id * amount), 0) || ' ' || coalesce(max(id), 0) FROM payments";
    Ok(postgres.query(Role::Shop, database, rows).await?[0][0].clone().unwrap_or_default())
}

/// The same of the state table in ClickHouse.
async fn shown(stack: &Stack, database: &str) -> anyhow::Result<String> {
    let shown = format!(
        "SELECT concat(toString(count()), ' ', toString(sum(id * amount)), ' ', toString(max(id))) FROM {database}.payments_current"
    );
    Ok(stack.clickhouse().query(&shown).await?.trim().to_owned())
}

/// Waits until a state table in a stack's ClickHouse shows the rows that a PostgreSQL has.
async fn equal(source: &Postgres, target: &Stack, database: &str) -> anyhow::Result<()> {
    wait_until(PATIENCE, "the rows to be equal", || async {
        let (wanted, found) = (paid(source, database).await?, shown(target, database).await?);
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

/// A manifest with a request beside what is accepted.
fn asking(manifest: &Value, words: &str, resnapshot: &str) -> Vec<Value> {
    let mut manifest = manifest.clone();
    manifest["metadata"]["annotations"] =
        json!({"tidemark.dev/accept": words, "tidemark.dev/resnapshot": resnapshot});
    objects(manifest)
}

fn path_of(name: &str, of: &str) -> String {
    format!("/connectors/{}/{of}", PipelineName::new("local", name.replace('_', "-")).connector())
}

/// Gives the connector other settings, as somebody would by Connect's interface.
async fn by_hand(stack: &Stack, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = path_of(name, "config");
    let mut config = stack.connect().request(reqwest::Method::GET, &path, None).await?;
    for (key, value) in settings {
        config[*key] = json!(value);
    }
    stack.connect().request(reqwest::Method::PUT, &path, Some(&config)).await?;
    Ok(())
}

/// Waits until the connector has so many tasks, all of them running.
async fn tasks(stack: &Stack, name: &str, number: usize) -> anyhow::Result<()> {
    wait_until(PATIENCE, "the connector's tasks", || async {
        let status = stack.connect().request(reqwest::Method::GET, &path_of(name, "status"), None).await?;
        let tasks = status["tasks"].as_array().context("a list of tasks")?;
        let all_run = tasks.iter().all(|task| task["state"] == "RUNNING");
        Ok((tasks.len() == number && all_run).then_some(()))
    })
    .await
}

/// Waits until a setting of the connector is something else than what somebody gave it.
async fn put_back(stack: &Stack, name: &str, (key, given): (&str, &str)) -> anyhow::Result<()> {
    wait_until(PATIENCE, "the connector to be put back", || async {
        let config = stack.connect().request(reqwest::Method::GET, &path_of(name, "config"), None).await?;
        Ok((config[key] != given).then_some(()))
    })
    .await
}

/// Waits until the connector has passed what is written in the log of a source by now.
async fn passed(postgres: &Postgres, name: &str) -> anyhow::Result<()> {
    let now = postgres.query(Role::Superuser, name, "SELECT pg_current_wal_lsn()").await?;
    let now = now[0][0].clone().unwrap_or_default();
    let slot = PipelineName::new("local", name.replace('_', "-")).replication_slot();
    let sql = format!(
        "SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND confirmed_flush_lsn >= '{now}'::pg_lsn"
    );
    wait_until(PATIENCE, "the connector to pass what is written", || async {
        Ok((!postgres.query(Role::Superuser, name, &sql).await?.is_empty()).then_some(()))
    })
    .await
}

/// Somebody changes the connector by hand: what it leaves out meanwhile comes all the same, whether the operator sees it
/// at once or later.
async fn a_connector_that_is_changed_by_hand(chain: &Chain<'_>, name: &str) -> anyhow::Result<()> {
    let (stack, postgres) = (chain.stack, chain.stack.postgres());
    chain.operator().stop().await?;
    // Stopped meanwhile: a task that still runs as it was told before would send what comes now.
    let asked = |verb: &'static str| async move {
        stack.connect().request(reqwest::Method::PUT, &path_of(name, verb), None).await
    };
    asked("stop").await?;
    tasks(stack, name, 0).await?;
    by_hand(stack, name, &[("table.include.list", "public.nothing")]).await?;
    asked("resume").await?;
    tasks(stack, name, 1).await?;
    pay(postgres, name, 200, 210).await?;
    passed(postgres, name).await?;
    let wanted = paid(postgres, name).await?;
    ensure!(shown(stack, name).await? != wanted, "the list leaves nothing out");
    chain.start_operator()?;
    put_back(stack, name, ("table.include.list", "public.nothing")).await?;
    equal(postgres, stack, name).await?;

    // Under load, and looked at all the while.
    let change = "UPDATE payments SET amount = amount + 1 WHERE id % 7 = 0";
    by_hand(stack, name, &[("skipped.operations", "u,d")]).await?;
    let writer = async {
        loop {
            if let Err(error) = postgres.execute(Role::Shop, name, change).await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        back = put_back(stack, name, ("skipped.operations", "u,d")) => back?,
        error = writer => return Err(error.context("changing rows")),
    }
    postgres.execute(Role::Shop, name, "DELETE FROM payments WHERE id = 200").await?;
    chain.wait_ready(PATIENCE).await?;
    equal(postgres, stack, name).await?;
    ensure!(chain.status()?["epoch"] == 1, "the log was followed all the time: {}", chain.status()?);
    Ok(())
}

/// ClickHouse comes back as it was a while ago, rows and ledger, while operator and sink go on.
async fn a_clickhouse_from_a_backup(chain: &Chain<'_>, name: &str) -> anyhow::Result<()> {
    let (stack, postgres) = (chain.stack, chain.stack.postgres());
    let clickhouse = stack.clickhouse();
    clickhouse.stop().await?;
    clickhouse.back_up()?;
    clickhouse.start().await?;
    pay(postgres, name, 220, 240).await?;
    postgres.execute(Role::Shop, name, "UPDATE payments SET amount = 7 WHERE id % 5 = 0").await?;
    postgres.execute(Role::Shop, name, "DELETE FROM payments WHERE id % 11 = 0").await?;
    equal(postgres, stack, name).await?;
    // All of it is committed in Kafka, and the sink knows it as applied.
    chain.wait_ready(PATIENCE).await?;
    clickhouse.stop().await?;
    clickhouse.restore()?;
    clickhouse.start().await?;
    ensure!(shown(stack, name).await? != paid(postgres, name).await?, "the backup has what came later");
    equal(postgres, stack, name).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(chain.status()?["epoch"] == 1, "the log still has it: {}", chain.status()?);
    Ok(())
}

/// The standby takes over: its timeline is named, then that it has no slot, and a word for each is enough.
async fn a_promoted_standby(
    chain: &Chain<'_>,
    standby: &Postgres,
    manifest: &mut Value,
) -> anyhow::Result<()> {
    let (stack, name) = (chain.stack, chain.name.as_str());
    let primary = stack.postgres();
    standby.start().await?;
    pay(primary, name, 250, 260).await?;
    let wanted = paid(primary, name).await?;
    wait_until(PATIENCE, "the standby to have the rows", || async {
        Ok((paid(standby, name).await? == wanted).then_some(()))
    })
    .await?;
    primary.stop().await?;
    standby.execute(Role::Superuser, "postgres", "SELECT pg_promote()").await?;
    pay(standby, name, 261, 270).await?;
    manifest["spec"]["source"]["postgres"]["port"] = json!(standby.port());
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    let message = chain.wait_condition("SourceReady", "False", "SlotLost", PATIENCE).await?;
    ensure!(message.contains("timeline 2 of its log instead of 1"), "{message}");
    ensure!(shown(stack, name).await? == wanted, "nothing is read before somebody says so");
    chain.write(&accepting(manifest, "timeline=2"))?;
    wait_until(PATIENCE, "the slot to be named", || async {
        let (_, reason, message) = chain.condition("SourceReady")?;
        let named = reason == "SlotLost"
            && message.contains("replication slot")
            && message.contains("does not exist");
        ensure!(named, "{reason}: {message}");
        Ok(Some(()))
    })
    .await?;
    chain.write(&asking(manifest, "timeline=2", "promoted"))?;
    sink_follows(chain, &standby.port().to_string()).await?;
    chain.wait_ready(PATIENCE).await?;
    equal(standby, stack, name).await?;
    ensure!(chain.status()?["epoch"] == 2, "{}", chain.status()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_is_another_one_is_named_costs_nothing_and_is_followed_anew_when_it_is_accepted()
-> anyhow::Result<()> {
    const NAME: &str = "moves";
    let (stack, other) = tokio::try_join!(
        Stack::start(Part::CHAIN),
        Stack::start_with_postgres(&[Part::Postgres, Part::Connect], 18)
    )?;
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, TABLE).await?;
    pay(stack.postgres(), NAME, 1, 100).await?;
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
    pay(stack.postgres(), NAME, 101, 120).await?;
    equal(stack.postgres(), &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 1, "a server at another address is the same");

    // A database that was mistyped: nothing is made there, and what runs goes on.
    let mut wrong = manifest.clone();
    wrong["spec"]["clickhouse"]["database"] = json!("moves_mistyped");
    chain.apply(&objects(wrong), PATIENCE).await?;
    chain.wait_condition("TablesInSync", "False", "IdentityChanged", PATIENCE).await?;
    pay(stack.postgres(), NAME, 121, 140).await?;
    equal(stack.postgres(), &stack, NAME).await?;
    let made = "SELECT count() FROM system.databases WHERE name = 'moves_mistyped'";
    ensure!(stack.clickhouse().query(made).await?.trim() == "0", "something was made in the wrong place");
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(chain.status()?["epoch"] == 1, "nothing was lost");

    a_connector_that_is_changed_by_hand(&chain, NAME).await?;
    a_clickhouse_from_a_backup(&chain, NAME).await?;
    let standby = stack.postgres().standby(&stack)?;
    a_promoted_standby(&chain, &standby, &mut manifest).await?;

    // A newer version, with what was restored from a dump, and what was written there since: named, and followed anew
    // once it is accepted.
    other.postgres().create_database(NAME).await?;
    standby.restore_into(other.postgres(), NAME)?;
    pay(other.postgres(), NAME, 500, 900).await?;
    manifest["spec"]["source"]["postgres"]["port"] = json!(other.postgres().port());
    chain.apply(&objects(manifest.clone()), PATIENCE).await?;
    let message = chain.wait_condition("SourceReady", "False", "IdentityChanged", PATIENCE).await?;
    pay(&standby, NAME, 271, 280).await?;
    equal(&standby, &stack, NAME).await?;
    chain.write(&accepting(&manifest, &word(&message)?))?;
    sink_follows(&chain, &other.postgres().port().to_string()).await?;
    chain.wait_ready(PATIENCE).await?;
    equal(other.postgres(), &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 3, "{}", chain.status()?);

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
    stack.connect().request(reqwest::Method::PUT, &path_of(NAME, "stop"), None).await?;
    chain.write(&accepting(&manifest, &words.join(" ")))?;
    sink_follows(&chain, &other.kafka().bootstrap_servers()).await?;
    chain.wait_ready(PATIENCE).await?;
    pay(other.postgres(), NAME, 901, 920).await?;
    equal(other.postgres(), &stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 4, "{}", chain.status()?);
    Ok(())
}

/// Waits until the API server has no such resource any more.
async fn gone(pipelines: &Api<AnalyticsPipeline>, name: &str) -> anyhow::Result<()> {
    wait_until(PATIENCE, "the resource to be gone", || async {
        Ok(pipelines.get_opt(name).await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cluster_does_nothing_by_mistake_and_takes_over_when_it_is_accepted() -> anyhow::Result<()> {
    const NAME: &str = "twice_applied";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, TABLE).await?;
    pay(stack.postgres(), NAME, 1, 50).await?;
    let mut manifest = pipeline(stack, NAME, &["public.payments"]);
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;

    let client = stack.api_server().client().await?;
    prepare(&client, "local").await?;
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), "local");
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    put(&pipelines, manifest.clone()).await?;
    let operator = Operator::start(&client, "local")?;
    let message = wait_until(PATIENCE, "the conflict to be named", || async {
        let conditions = pipelines.get(&name).await?.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|c| c.type_ == "TablesInSync" && c.reason == "Conflict");
        Ok(found.map(|condition| condition.message))
    })
    .await?;
    ensure!(
        message.contains(&format!("another cluster or folder ({};", chain.owner()?))
            && word(&message)?.starts_with("cluster="),
        "{message}"
    );
    pay(stack.postgres(), NAME, 51, 60).await?;
    equal(stack.postgres(), stack, NAME).await?;

    let begin = Instant::now();
    pipelines.delete(&name, &DeleteParams::default()).await?;
    gone(&pipelines, &name).await?;
    ensure!(
        begin.elapsed() < Duration::from_secs(30),
        "it waited for what is not its own: {:?}",
        begin.elapsed()
    );
    pay(stack.postgres(), NAME, 61, 70).await?;
    equal(stack.postgres(), stack, NAME).await?;
    chain.wait_ready(PATIENCE).await?;
    ensure!(chain.status()?["epoch"] == 1, "{}", chain.status()?);

    // For good: nothing is read again, and what the first cluster's resource says or does is of no account any more.
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/accept": word(&message)?});
    put(&pipelines, manifest).await?;
    let judged = |kind: &'static str| {
        let (pipelines, name) = (pipelines.clone(), name.clone());
        async move {
            let conditions = pipelines.get(&name).await?.status.unwrap_or_default().conditions;
            let found = conditions.into_iter().find(|condition| condition.type_ == kind);
            let found = found.with_context(|| format!("no condition {kind}"))?;
            ensure!(found.status == "True", "{kind}: {}: {}", found.reason, found.message);
            anyhow::Ok(Some(()))
        }
    };
    // Without a node there are no pods: the sink of the first cluster goes on, as one of the same group.
    for kind in ["SourceReady", "TablesInSync", "ConnectorRunning"] {
        wait_until(PATIENCE, kind, || judged(kind)).await?;
    }
    let lost = chain.wait_condition("TablesInSync", "False", "Conflict", PATIENCE).await?;
    ensure!(word(&lost)?.starts_with("cluster="), "{lost}");
    pay(stack.postgres(), NAME, 71, 80).await?;
    equal(stack.postgres(), stack, NAME).await?;
    chain.operator().stop().await?;
    chain.delete().await?;
    // Its sink went with it, and nobody applies what the connector goes on sending.
    pay(stack.postgres(), NAME, 81, 90).await?;
    passed(stack.postgres(), NAME).await?;
    for kind in ["SourceReady", "TablesInSync", "ConnectorRunning"] {
        wait_until(PATIENCE, kind, || judged(kind)).await?;
    }
    let status = pipelines.get(&name).await?.status.unwrap_or_default();
    ensure!(status.epoch == Some(1), "it was read again: {:?}", status.epoch);

    // And it is that cluster's to remove.
    chain.sink().stop().await?;
    pipelines.delete(&name, &DeleteParams::default()).await?;
    gone(&pipelines, &name).await?;
    let connectors = stack.connect().request(reqwest::Method::GET, "/connectors", None).await?;
    let own = PipelineName::new("local", &name).connector();
    ensure!(
        !connectors.as_array().context("a list")?.iter().any(|one| *one == own),
        "{own} is left: {connectors}"
    );
    operator.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_over_the_topics_of_an_older_one_shows_what_is_true_now() -> anyhow::Result<()> {
    const NAME: &str = "second_life";
    let stack = shared().await?;
    let postgres = stack.postgres();
    postgres.create_database(NAME).await?;
    postgres.execute(Role::Shop, NAME, TABLE).await?;
    pay(postgres, NAME, 1, 50).await?;
    let mut manifest = pipeline(stack, NAME, &["public.payments"]);
    manifest["spec"]["source"]["onSlotLost"] = json!("Resnapshot");
    // Nothing says of the older life afterwards but the records themselves.
    manifest["spec"]["deletionPolicy"] = json!({
        "clickhouse": "Delete", "connector": "Delete", "replicationSlot": "Delete", "topics": "Retain",
    });
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    // The slot is lost, which begins another epoch.
    chain.operator().stop().await?;
    stack.connect().request(reqwest::Method::PUT, &path_of(NAME, "stop"), None).await?;
    tasks(stack, NAME, 0).await?;
    let slot = PipelineName::new("local", NAME.replace('_', "-")).replication_slot();
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')::text");
    wait_until(PATIENCE, "the slot to be left", || async {
        postgres.query(Role::Superuser, NAME, &drop).await?;
        Ok(Some(()))
    })
    .await?;
    chain.start_operator()?;
    wait_until(PATIENCE, "a second epoch", || async {
        let status = chain.status()?;
        ensure!(status["epoch"] == 2, "{status}");
        Ok(Some(()))
    })
    .await?;
    chain.wait_ready(PATIENCE).await?;
    // They come as changes, marked with that epoch.
    postgres.execute(Role::Shop, NAME, "UPDATE payments SET amount = 7").await?;
    pay(postgres, NAME, 51, 60).await?;
    equal(postgres, stack, NAME).await?;
    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;

    postgres.execute(Role::Shop, NAME, "DELETE FROM payments WHERE id < 20").await?;
    postgres.execute(Role::Shop, NAME, "UPDATE payments SET amount = 9 WHERE id < 40").await?;
    chain.write(&objects(manifest))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    equal(postgres, stack, NAME).await?;
    // Once more behind changes of this life, when the older ones have been passed for certain.
    pay(postgres, NAME, 61, 70).await?;
    equal(postgres, stack, NAME).await?;
    ensure!(chain.status()?["epoch"] == 3, "{}", chain.status()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_prefix_of_another_clusters_pipeline_is_not_written_to_until_that_one_is_gone()
-> anyhow::Result<()> {
    const NAME: &str = "firstcomer";
    const LATE: &str = "latecomer";
    let stack = shared().await?;
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, TABLE).await?;
    pay(stack.postgres(), NAME, 1, 20).await?;
    let chain = Chain::prepare(stack, NAME, &objects(pipeline(stack, NAME, &["public.payments"])))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let of_prefix = || async {
        let mut topics = stack.kafka().topics().await?;
        topics.retain(|topic| topic.contains(NAME));
        topics.sort();
        anyhow::Ok(topics)
    };
    let before = of_prefix().await?;
    let owner = format!("{NAME}.owner.{}.local.{NAME}", chain.owner()?);
    ensure!(before.contains(&owner), "{before:?}");

    // Somebody else's folder with the same file: it is refused, and removes nothing but itself.
    let (code, said) = chain.elsewhere(&["apply", "--wait", "60s"]).await?;
    ensure!(code != 0 && said.contains("Conflict") && said.contains(&chain.owner()?), "{code}: {said}");
    let (code, said) = chain.elsewhere(&["delete"]).await?;
    ensure!(code == 0, "{code}: {said}");
    pay(stack.postgres(), NAME, 21, 30).await?;
    equal(stack.postgres(), stack, NAME).await?;
    ensure!(of_prefix().await? == before, "{:?}", of_prefix().await?);

    // Another cluster, another database at the source, another one in ClickHouse: nothing is shared but Kafka and Connect.
    let client = stack.api_server().client().await?;
    prepare(&client, LATE).await?;
    payments(stack, LATE).await?;
    let mut manifest = of_payments(stack, LATE);
    manifest["spec"]["kafka"]["topicPrefix"] = json!(NAME);
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), LATE);
    put(&pipelines, manifest).await?;
    let operator = Operator::start(&client, LATE)?;
    let connector = || async {
        let conditions = pipelines.get(LATE).await?.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == "ConnectorRunning");
        found.context("no condition ConnectorRunning")
    };
    let message = wait_until(PATIENCE, "the late one to be refused", || async {
        let found = connector().await?;
        ensure!(found.reason == "Conflict", "{}: {}", found.reason, found.message);
        Ok(Some(found.message))
    })
    .await?;
    for part in
        [&format!("topic prefix {NAME}"), &format!("local/{NAME} of cluster {}", chain.owner()?), &owner]
    {
        ensure!(message.contains(part.as_str()), "{message}");
    }
    // It has looked again and again by now, and nothing of it is there.
    pay(stack.postgres(), NAME, 31, 40).await?;
    equal(stack.postgres(), stack, NAME).await?;
    ensure!(of_prefix().await? == before, "{:?}", of_prefix().await?);
    let own = PipelineName::new(LATE, LATE);
    let connectors = stack.connect().request(reqwest::Method::GET, "/connectors", None).await?;
    let is_own = |one: &Value| *one == own.connector();
    ensure!(!connectors.as_array().context("a list")?.iter().any(is_own), "{connectors}");
    let slots = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name LIKE 'tidemark_latecomer%'";
    ensure!(stack.postgres().query(Role::Superuser, LATE, slots).await?[0][0].as_deref() == Some("0"));

    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;
    wait_until(PATIENCE, "the late one to go on", || async {
        let found = connector().await?;
        ensure!(found.status == "True", "{}: {}", found.reason, found.message);
        Ok(Some(()))
    })
    .await?;
    let topics = of_prefix().await?;
    let owners: Vec<&String> = topics.iter().filter(|topic| topic.contains(".owner.")).collect();
    ensure!(owners.len() == 1 && owners[0].ends_with(".latecomer.latecomer"), "{topics:?}");
    pipelines.delete(LATE, &DeleteParams::default()).await?;
    gone(&pipelines, LATE).await?;
    ensure!(of_prefix().await?.iter().all(|topic| !topic.contains(".owner.")), "{:?}", of_prefix().await?);
    operator.stop().await
}
