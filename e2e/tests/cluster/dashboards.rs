//! Dashboards in a Grafana beside the cluster. It is the stand-in; the operator, its rights and its network are real.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::cluster::{Cluster, OPERATOR, Pipeline, SHOP, example};
use tidemark_e2e::grafana::{Grafana, TOKEN, Version};
use tidemark_e2e::stack::{ANALYTICS_DATABASE, PATIENCE, Role, User, wait_until};
use tokio::time::Instant;

use crate::cluster::read;

/// Within what time changes by hand are undone, and a deletion ends while Grafana is down: a claim, not a patience.
const IN_TIME: Duration = Duration::from_mins(2);
/// The token that comes after [`TOKEN`].
const SECOND_TOKEN: &str = "glsa_second-token";
/// Calls by which an operator must have looked at everything twice.
const TWO_LOOKS: u64 = 40;

pub(super) async fn come_back(cluster: &Cluster) -> anyhow::Result<()> {
    let address = cluster.gateway().await?;
    let grafana =
        Grafana::start_beside(Version::Modern, address, cluster.addresses().clickhouse_http()).await?;
    let pipeline = Pipeline::new(cluster, SHOP, "shop");
    cluster.kubectl().apply(&secrets(TOKEN).to_string()).await?;
    let mut manifest = example()?;
    manifest["spec"]["grafana"] = json!({
        "url": grafana.url(), "credentials": {"secretName": "grafana", "tokenKey": "token"},
        "reader": {"secretName": "shop-clickhouse-dashboards"}, "alerts": "Enabled",
    });
    let start = Instant::now();
    pipeline.apply(&manifest).await?;
    in_sync(&pipeline).await?;
    pipeline.wait_ready(PATIENCE).await?;
    let all = grafana.with(|state| state.dashboards());
    ensure!(all.len() >= 4, "{:?}", all.keys());
    println!("{} dashboards, each panel answered, after {:.1} s", all.len(), start.elapsed().as_secs_f64());

    silent(cluster, &grafana).await?;
    changed_by_hand(&pipeline, &grafana).await?;
    away(cluster, &pipeline, &grafana).await?;
    another_token(cluster, &pipeline, &grafana).await?;
    no_secret_is_told(cluster, &grafana).await?;
    gone_while_away(cluster, &pipeline, &grafana, manifest).await
}

/// The pipeline is deleted while Grafana is down: it ends when its time is up and says what it leaves. Applied again
/// without dashboards, it names what is still there, and sends no login on the word of the ledger alone. Once a spec has
/// named the place again, it is cleaned up.
async fn gone_while_away(
    cluster: &Cluster,
    pipeline: &Pipeline<'_>,
    grafana: &Grafana,
    mut manifest: Value,
) -> anyhow::Result<()> {
    manifest["spec"]["deletionPolicy"] = json!({"timeout": "5s"});
    pipeline.apply(&manifest).await?;
    pipeline.wait_ready(PATIENCE).await?;
    grafana.stop().await;
    let time = pipeline.delete().await?;
    ensure!(time < IN_TIME, "the deletion took {} s", time.as_secs());
    let events = cluster
        .kubectl()
        .run(&["get", "events", "--namespace", SHOP, "--field-selector=reason=LeftBehind", "--output=yaml"])
        .await?;
    ensure!(
        events.contains(&format!("{}/api/folders/", grafana.url())),
        "what is left is not told: {events}"
    );
    println!("with Grafana down the deletion ended after {:.1} s and said what it left", time.as_secs_f64());

    grafana.restart().await?;
    let calls = grafana.with(|state| state.calls());
    pipeline.apply(&example()?).await?;
    pipeline.wait_status("DashboardsInSync", "False", "LeftBehind", PATIENCE).await?;
    ensure!(grafana.with(|state| state.calls()) == calls, "a login was sent that no spec named");
    pipeline.apply(&manifest).await?;
    pipeline.wait_ready(PATIENCE).await?;
    pipeline.apply(&example()?).await?;
    wait_until(PATIENCE, "the place that was named again to be left", || async {
        Ok(grafana.with(|state| state.dashboards().is_empty()).then_some(()))
    })
    .await?;
    pipeline.wait_ready(PATIENCE).await?;
    let left = grafana.with(|state| {
        (state.dashboards().len(), state.sources().len(), state.folders().len(), state.rules().len())
    });
    ensure!(left == (0, 0, 0, 0), "dashboards, data sources, folders, rules are left: {left:?}");
    Ok(())
}

async fn in_sync(pipeline: &Pipeline<'_>) -> anyhow::Result<()> {
    pipeline.wait_condition("DashboardsInSync", PATIENCE).await
}

fn secret(name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SHOP}, "stringData": data,
    })
}

/// The account that panels query with.
pub(super) fn reader() -> Value {
    let (username, password) = (User::Dashboards.name(), User::Dashboards.password());
    secret("shop-clickhouse-dashboards", &json!({"username": username, "password": password}))
}

fn secrets(token: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [secret("grafana", &json!({"token": token})), reader()]})
}

/// An operator that starts again looks at all of it and writes nothing.
async fn silent(cluster: &Cluster, grafana: &Grafana) -> anyhow::Result<()> {
    let before = grafana.with(|state| (state.writes(), state.versions()));
    cluster.kill_operator().await?;
    cluster.kubectl().rolled_out(OPERATOR, "deployment/tidemark", PATIENCE).await?;
    let calls = grafana.with(|state| state.calls()) + TWO_LOOKS;
    wait_until(PATIENCE, "the new operator to look twice", || async {
        let now = grafana.with(|state| state.calls());
        ensure!(now >= calls, "{now} calls of {calls}");
        Ok(Some(()))
    })
    .await?;
    let after = grafana.with(|state| (state.writes(), state.versions()));
    ensure!(before == after, "before {before:?}, after {after:?}");
    Ok(())
}

/// Someone edits a dashboard, changes the password of the data source, then deletes it.
async fn changed_by_hand(pipeline: &Pipeline<'_>, grafana: &Grafana) -> anyhow::Result<()> {
    let made = grafana.with(|state| state.dashboards());
    let executive = made.keys().find(|uid| uid.ends_with("-executive")).context("no dashboard executive")?;
    let source = executive.trim_end_matches("-executive");
    let title = made[executive]["panels"][0]["title"].clone();
    grafana.with(|state| {
        state.save_in_browser(executive, |model| model["panels"][0]["title"] = json!("Mine"));
        state.edit_source(source, |source| source["secureJsonData"]["password"] = json!("another"));
    });
    let start = Instant::now();
    wait_until(IN_TIME, "dashboard and password to come back", || async {
        let now = grafana.with(|state| state.dashboards()[executive]["panels"][0]["title"].clone());
        let password = grafana.with(|state| state.sources()[0]["secureJsonData"]["password"].clone());
        Ok((now == title && password == User::Dashboards.password()).then_some(()))
    })
    .await?;
    println!("changes by hand were reverted after {:.1} s", start.elapsed().as_secs_f64());
    grafana.with(|state| state.remove_source(source));
    wait_until(IN_TIME, "the data source to come back", || async {
        Ok((grafana.with(|state| state.sources().len()) == 1).then_some(()))
    })
    .await?;
    in_sync(pipeline).await
}

/// Grafana goes, for as long as another pipeline's first read and its sink's death take: it is said, orders go on, the
/// other pipeline comes and gets ready, and Grafana finds everything as it was.
async fn away(cluster: &Cluster, pipeline: &Pipeline<'_>, grafana: &Grafana) -> anyhow::Result<()> {
    let before = grafana.with(|state| (state.writes(), state.versions()));
    grafana.stop().await;
    pipeline.wait_status("DashboardsInSync", "Unknown", "Unreachable", PATIENCE).await?;
    let postgres = cluster.addresses().postgres(Role::Shop).await?;
    postgres.batch_execute("UPDATE orders SET note = 'nobody looks' WHERE id % 10 = 0").await?;
    pipeline.oracle(ANALYTICS_DATABASE, User::Tidemark).await?.wait_equal(PATIENCE).await?;
    read::cut_short(cluster).await.context("a read that is cut short leaves no ghost")?;
    grafana.restart().await?;
    in_sync(pipeline).await?;
    let after = grafana.with(|state| (state.writes(), state.versions()));
    ensure!(before == after, "before the outage {before:?}, after it {after:?}");
    Ok(())
}

/// Grafana's token changes: one refusal, and the new Secret heals without a restart.
async fn another_token(cluster: &Cluster, pipeline: &Pipeline<'_>, grafana: &Grafana) -> anyhow::Result<()> {
    grafana.with(|state| state.set_token(SECOND_TOKEN));
    pipeline.wait_status("DashboardsInSync", "False", "AuthenticationFailed", PATIENCE).await?;
    cluster.kubectl().apply(&secrets(SECOND_TOKEN).to_string()).await?;
    in_sync(pipeline).await?;
    // Grafana locks a user out after five, and others may fail too.
    let refused = grafana.with(|state| state.logins_refused());
    ensure!(refused == 1, "{refused} logins were refused");
    Ok(())
}

/// Passwords and tokens are in no log, event, status or object but their Secrets, and in no statement.
async fn no_secret_is_told(cluster: &Cluster, grafana: &Grafana) -> anyhow::Result<()> {
    let secrets = [User::Dashboards.password(), User::Tidemark.password(), TOKEN, SECOND_TOKEN];
    let kubectl = cluster.kubectl();
    let kinds = "analyticspipelines,configmaps,deployments,replicasets,pods,services,events,leases";
    let ours = "app.kubernetes.io/managed-by=tidemark";
    let log = |namespace, selector| {
        ["logs", "--namespace", namespace, "--selector", selector, "--tail=-1", "--prefix"]
    };
    let texts = [
        (
            "objects of the operator",
            kubectl.run(&["get", kinds, "--namespace", OPERATOR, "--output=yaml"]).await?,
        ),
        (
            "objects that it made",
            kubectl.run(&["get", kinds, "--namespace", SHOP, "--selector", ours, "--output=yaml"]).await?,
        ),
        (
            "pipelines and events",
            kubectl.run(&["get", "analyticspipelines,events", "--namespace", SHOP, "--output=yaml"]).await?,
        ),
        ("log of the operator", kubectl.run(&log(OPERATOR, "app.kubernetes.io/name=tidemark")).await?),
        ("log of the sinks", kubectl.run(&log(SHOP, "app.kubernetes.io/component=sink")).await?),
        ("what Grafana shows", grafana.with(|state| state.visible())),
    ];
    for (name, text) in &texts {
        ensure!(text.len() > 200, "{name} says too little to have been looked at: {text:?}");
        for secret in secrets {
            ensure!(!text.contains(secret), "{secret} is in the {name}");
        }
    }
    let clickhouse = cluster.addresses().clickhouse(User::Tidemark)?;
    for secret in secrets {
        // The halves apart, since this statement is in the log too.
        let (head, tail) = secret.split_at(secret.len() / 2);
        let found: Vec<(String,)> = clickhouse
            .rows(
                &format!(
                    "SELECT query FROM system.query_log WHERE position(query, concat('{head}', '{tail}')) > 0 LIMIT 1"
                ),
                &[],
            )
            .await?;
        ensure!(found.is_empty(), "a statement at ClickHouse has {secret}: {found:?}");
    }
    Ok(())
}
