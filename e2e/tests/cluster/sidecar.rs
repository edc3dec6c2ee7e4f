//! `grafana.mode: Sidecar`: ConfigMaps and a Secret in place of calls, on the real API server with the chart's rights.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::cluster::{Cluster, Pipeline, SHOP, example};
use tidemark_e2e::stack::{PATIENCE, User, wait_until};

use crate::cluster::{dashboards, silence};

const SOURCE: &str = "shop-grafana-datasource";
const EXECUTIVE: &str = "shop-dashboard-executive";

pub(super) async fn objects(cluster: &Cluster) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(cluster, SHOP, "shop");
    cluster.kubectl().apply(&dashboards::reader().to_string()).await?;
    let mut manifest = example()?;
    manifest["spec"]["grafana"] =
        json!({"mode": "Sidecar", "reader": {"secretName": "shop-clickhouse-dashboards"}});
    pipeline.apply(&manifest).await?;
    // The chart gives no right to write Secrets by itself; the condition says which value does.
    pipeline.wait_status("DashboardsInSync", "False", "PermissionDenied", PATIENCE).await?;
    let conditions = pipeline.get().await?.status.unwrap_or_default().conditions;
    let told = conditions.iter().any(|condition| condition.message.contains("rbac.grafanaSidecar"));
    ensure!(told, "{conditions:#?}");
    cluster.upgrade(&["--set=rbac.grafanaSidecar=true"]).await?;
    pipeline.wait_ready(PATIENCE).await?;

    ensure!(found(cluster, "configmaps", "grafana_dashboard=1").await? == 6, "not six dashboards");
    ensure!(found(cluster, "secrets", "grafana_datasource=1").await? == 1, "no data source");
    let (before, source) =
        (data(cluster, "configmap", EXECUTIVE).await?, data(cluster, "secret", SOURCE).await?);
    ensure!(!before.to_string().contains(User::Dashboards.password()), "the password is in a ConfigMap");
    silence::restart(cluster).await.context("with objects for sidecars")?;

    // Someone edits a dashboard and removes the data source.
    let file = before.as_object().and_then(|data| data.keys().next()).context("no file")?;
    let edit = json!({"data": {file: "{}"}}).to_string();
    cluster.kubectl().run(&["patch", "configmap", EXECUTIVE, "--namespace", SHOP, "--patch", &edit]).await?;
    cluster.kubectl().run(&["delete", "secret", SOURCE, "--namespace", SHOP]).await?;
    wait_until(PATIENCE, "dashboard and data source to come back", || async {
        let now = (data(cluster, "configmap", EXECUTIVE).await?, data(cluster, "secret", SOURCE).await?);
        ensure!(now.0[file] == before[file] && now.1 == source, "not yet");
        Ok(Some(()))
    })
    .await?;

    // Without the part, its objects go.
    pipeline.apply(&example()?).await?;
    wait_until(PATIENCE, "the objects to go", || async {
        let left = found(cluster, "configmaps,secrets", "app.kubernetes.io/component=grafana").await?;
        ensure!(left == 0, "{left} are there");
        Ok(Some(()))
    })
    .await?;
    cluster.upgrade(&[]).await?;
    pipeline.wait_ready(PATIENCE).await
}

async fn found(cluster: &Cluster, kinds: &str, selector: &str) -> anyhow::Result<usize> {
    let list = cluster.kubectl().get(&[kinds, "--namespace", SHOP, "--selector", selector]).await?;
    Ok(list["items"].as_array().context("a list")?.len())
}

async fn data(cluster: &Cluster, kind: &str, name: &str) -> anyhow::Result<Value> {
    Ok(cluster.kubectl().get(&[kind, name, "--namespace", SHOP]).await?["data"].clone())
}
