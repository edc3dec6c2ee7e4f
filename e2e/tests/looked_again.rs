//! The look right before something is taken away: what has come under the name of a thing of ours since it was planned is
//! left alone, in each system.

use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{CertificateCheck, TlsMode};
use tidemark_e2e::grafana::{Grafana, TOKEN, Version};
use tidemark_e2e::stack::{Role, User, shared, unique_name};
use tidemark_operator::core::credentials::{ConnectLogin, Login};
use tidemark_operator::core::desired::grafana::{Names, leaving, removal};
use tidemark_operator::core::desired::owned::own;
use tidemark_operator::core::effect::{
    ClickHouseEffect, ClickHouseName, ConnectEffect, Effect, KubernetesEffect, PostgresEffect, Site,
};
use tidemark_operator::core::facts::Failure;
use tidemark_operator::core::gate::{Proof, System};
use tidemark_operator::core::step::Step;
use tidemark_operator::edge::connect::client::{Connect, Options as ConnectOptions};
use tidemark_operator::edge::grafana::client::Grafana as GrafanaClient;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_operator::edge::postgres::client::PostgresTarget;
use tidemark_operator::edge::{clickhouse, connect, grafana, kubernetes, postgres};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials, Secret};
use tidemark_runtime::foreign::Hidden;

use crate::fixture::fixture;

const MARK: &str = "tidemark here/local/looked-again";
const THEIRS: &str = "tidemark elsewhere/local/looked-again";

/// A proof, as a gate gives it that knows of no other system than these.
fn proof() -> anyhow::Result<Proof> {
    let fixture = fixture();
    fixture.subject().gate(&fixture.running()).proof(System::ClickHouse).context("the gate is open")
}

/// What was refused is said so, and whatever it was not.
fn refused(done: Result<(), Failure>, what: &str) -> anyhow::Result<()> {
    let failure = done.err().with_context(|| format!("{what} was carried out"))?;
    ensure!(
        failure.message.contains("another one than a moment ago")
            || failure.message.contains("another object than")
            || failure.message.contains("was not made by this pipeline"),
        "{what}: {}",
        failure.message
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_somebody_else_in_the_place_of_ours_is_not_dropped() -> anyhow::Result<()> {
    let stack = shared().await?;
    let database = unique_name("looked_again");
    let credentials = Credentials::new(User::Tidemark.name(), User::Tidemark.password());
    let client = ClickHouse::new(Options {
        url: stack.clickhouse().url(),
        database: None,
        credentials: Arc::new(CredentialSource::memory(credentials)),
        authority: Authority::System,
    })?;
    client.execute(&format!("CREATE DATABASE {database}")).await?;
    let make = async |comment: &str| {
        let make = format!(
            "CREATE OR REPLACE TABLE {database}.orders (id UInt64) ENGINE = MergeTree ORDER BY id COMMENT '{comment}'"
        );
        client.execute(&make).await
    };
    let seen = ClickHouseName {
        database: database.clone(),
        name: "orders".into(),
        is_view: false,
        comment: MARK.into(),
    };
    let effect = ClickHouseEffect::Drop(proof()?.allow(seen));
    make(THEIRS).await?;
    refused(clickhouse::act::carry_out(&client, (MARK, "tidemark"), &effect).await, "the drop of a table")?;
    let there = format!("SELECT count() FROM system.tables WHERE database = '{database}'");
    ensure!(stack.clickhouse().query(&there).await?.trim() == "1");
    make(MARK).await?;
    clickhouse::act::carry_out(&client, (MARK, "tidemark"), &effect)
        .await
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    ensure!(stack.clickhouse().query(&there).await?.trim() == "0", "ours goes");
    client.execute(&format!("DROP DATABASE {database}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_and_a_slot_of_somebody_else_in_the_place_of_ours_are_not_dropped() -> anyhow::Result<()>
{
    let stack = shared().await?;
    let name = unique_name("looked_again");
    stack.postgres().create_database(&name).await?;
    let sql = async |sql: String| stack.postgres().execute(Role::Superuser, &name, &sql).await;
    let target = PostgresTarget {
        host: "127.0.0.1".into(),
        port: stack.postgres().port(),
        database: name.clone(),
        credentials: Credentials::new(Role::Superuser.name(), Role::Superuser.password()),
        tls: TlsMode::Disable,
        ca: None,
        deadline: tidemark_runtime::postgres::CONNECT_DEADLINE,
    };
    let count = async |sql: &str| -> anyhow::Result<String> {
        let rows = stack.postgres().query(Role::Superuser, &name, sql).await?;
        rows[0][0].clone().context("a number")
    };
    sql(format!("CREATE PUBLICATION {name}; COMMENT ON PUBLICATION {name} IS '{THEIRS}'")).await?;
    let effect = PostgresEffect::DropPublication(proof()?.allow(name.clone()));
    refused(postgres::act::carry_out(&target, MARK, &effect).await, "the drop of a publication")?;
    ensure!(count("SELECT count(*)::text FROM pg_publication").await? == "1");

    sql(format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await?;
    let effect = PostgresEffect::DropSlot(proof()?.allow(name.clone()));
    refused(postgres::act::carry_out(&target, MARK, &effect).await, "the drop of a slot")?;
    let slots = format!("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{name}'");
    ensure!(count(&slots).await? == "1");
    sql(format!("SELECT pg_drop_replication_slot('{name}')")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_of_somebody_else_in_the_place_of_ours_is_left_as_it_is() -> anyhow::Result<()> {
    let stack = shared().await?;
    let name = unique_name("looked_again");
    let client = Connect::new(&ConnectOptions {
        url: stack.connect().url(),
        login: ConnectLogin::default(),
        check: CertificateCheck::default(),
        hidden: Hidden::default(),
    })
    .map_err(|failure| anyhow::anyhow!(failure.message))?;
    stack.postgres().create_database(&name).await?;
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1", "database.port": stack.postgres().port().to_string(),
        "database.user": Role::Superuser.name(), "database.password": Role::Superuser.password(),
        "database.dbname": name, "topic.prefix": name, "plugin.name": "pgoutput", "tidemark.mark": THEIRS,
    });
    let body = json!({"name": name, "config": config, "initial_state": "STOPPED"});
    stack.connect().request(Method::POST, "/connectors", Some(&body)).await?;
    let ours = [("tidemark.mark".to_owned(), MARK.to_owned())].into();
    for effect in [
        ConnectEffect::PutConfig { name: name.clone(), config: proof()?.allow(ours) },
        ConnectEffect::DeleteOffsets(proof()?.allow(name.clone())),
        ConnectEffect::Delete(proof()?.allow(name.clone())),
    ] {
        refused(connect::act::execute(&client, MARK, &effect).await, &format!("{effect:?}"))?;
    }
    let path = format!("/connectors/{name}");
    let live: Value = serde_json::from_value(stack.connect().request(Method::GET, &path, None).await?)?;
    ensure!(live["config"]["tidemark.mark"] == THEIRS, "{live}");
    stack.connect().request(Method::DELETE, &path, None).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_kubernetes_that_somebody_made_theirs_is_not_deleted() -> anyhow::Result<()> {
    let client = shared().await?.api_server().client().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let name = PipelineName::new("default", "looked-again");
    let object = unique_name("looked-again").replace('_', "-");
    let labels = |manager: &str| {
        json!({"metadata": {"labels": {
            "app.kubernetes.io/managed-by": manager, "app.kubernetes.io/instance": "looked-again",
        }}})
    };
    let made = serde_json::from_value(json!({"metadata": {"name": object}}))?;
    maps.create(&PostParams::default(), &made).await?;
    let label = async |manager: &str| {
        maps.patch(&object, &PatchParams::default(), &Patch::Merge(labels(manager))).await
    };
    let seen = serde_json::to_value(label("tidemark").await?)?;
    let effect =
        KubernetesEffect::Delete(own(&name, None, ("v1", "ConfigMap"), &seen).context("it is ours")?);
    let store = ObjectStore::cluster(client);
    label("somebody").await?;
    refused(kubernetes::act::apply(&store, &name, None, &effect).await, "the deletion of an object")?;
    ensure!(maps.get(&object).await?.name_any() == object);
    label("tidemark").await?;
    kubernetes::act::apply(&store, &name, None, &effect)
        .await
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    ensure!(maps.get_opt(&object).await?.is_none(), "ours goes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_made_theirs_in_grafana_is_not_deleted() -> anyhow::Result<()> {
    let fake = Grafana::start(Version::Modern).await?;
    let client = GrafanaClient::new(&fake.url(), Login::Token(Secret::new(TOKEN)), None, Hidden::default())
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    let names = Names::new(&PipelineName::new("local", "looked-again"), MARK);
    let post = async |path: &[&str], body: Value| {
        let sent = client.send(Method::POST, path, Some(&body), &[]).await;
        sent.map_err(|failure| anyhow::anyhow!(failure.message))
    };
    let board = |uid: &str, tags: &[String]| json!({"folderUid": names.folder, "overwrite": true, "dashboard": {"uid": uid, "title": uid, "tags": tags}});
    let source = |mark: &str| {
        json!({
            "uid": names.prefix, "name": names.source_name, "type": "grafana-clickhouse-datasource", "access": "proxy",
            "jsonData": {"tidemark": {"mark": mark}},
        })
    };
    let own_uid = names.dashboard("sales");
    post(&["api", "folders"], json!({"uid": names.folder, "title": "Shop"})).await?;
    post(&["api", "dashboards", "db"], board(&own_uid, &names.tags)).await?;
    post(&["api", "datasources"], source(MARK)).await?;
    let planned = async || {
        let observed = grafana::look::observe(&client, &leaving("Shop", &names)).await;
        let facts = observed.known().with_context(|| format!("{observed:?}"))?;
        anyhow::Ok(removal(&names, MARK, facts, Site::Current))
    };
    let carry_out = async |step: &Step| {
        let Effect::Grafana(effect) = &step.effect else { anyhow::bail!("{step:?}") };
        Ok(grafana::act::execute(&client, effect).await)
    };
    let steps = planned().await?;
    ensure!(steps.len() == 2, "{steps:?}");
    fake.with(|state| {
        state.save_in_browser(&own_uid, |model| model["tags"] = json!(["theirs"]));
        state.edit_source(&names.prefix, |source| source["jsonData"] = json!({}));
    });
    for step in &steps {
        refused(carry_out(step).await?, &step.what)?;
    }
    ensure!(fake.with(|state| (state.dashboards().len(), state.sources().len())) == (1, 1));
    fake.with(|state| {
        state.save_in_browser(&own_uid, |model| model["tags"] = json!(names.tags));
        state.edit_source(&names.prefix, |found| found["jsonData"] = source(MARK)["jsonData"].clone());
    });
    for step in &steps {
        carry_out(step).await?.map_err(|failure| anyhow::anyhow!(failure.message))?;
    }
    // Nothing is left but the folder, and somebody puts a dashboard of theirs into it.
    let steps = planned().await?;
    let [folder] = steps.as_slice() else { anyhow::bail!("{steps:?}") };
    post(&["api", "dashboards", "db"], board("theirs", &[])).await?;
    refused(carry_out(folder).await?, "the deletion of a folder")?;
    ensure!(fake.with(|state| (state.folders().len(), state.dashboards().len())) == (1, 1));
    fake.with(|state| state.remove_dashboard("theirs"));
    carry_out(folder).await?.map_err(|failure| anyhow::anyhow!(failure.message))?;
    ensure!(fake.with(|state| state.folders().is_empty()), "the empty one goes");
    Ok(())
}
