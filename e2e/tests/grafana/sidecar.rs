//! Dashboards as files for the sidecars beside Grafana, without a cluster: a folder takes the objects.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use serde_json::{Value, json};
use tidemark_e2e::chain::{Chain, shop};
use tidemark_e2e::stack::{PATIENCE, User, shared, wait_until};

use super::{CANARY, objects};
use crate::outages::open_shop;

/// The objects for Grafana in the folder, by kind and name.
fn made(folder: &Path) -> anyhow::Result<BTreeMap<String, (Value, SystemTime)>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let object: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&path)?)?;
        if object["metadata"]["labels"]["app.kubernetes.io/component"] == "grafana" {
            let key = format!("{}/{}", object["kind"], object["metadata"]["name"]).replace('"', "");
            all.insert(key, (object, path.metadata()?.modified()?));
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_find_dashboards_and_data_source_and_lose_them_again() -> anyhow::Result<()> {
    const NAME: &str = "boards_sidecar";
    let stack = shared().await?;
    open_shop(stack, NAME).await?;
    let mut manifest = shop(stack, NAME);
    manifest["spec"]["grafana"] = json!({
        "mode": "Sidecar", "folder": "The shop", "reader": {"secretName": "reader"},
        "sidecar": {"dashboardLabels": {"dashboards": "ours"}},
    });
    let chain = Chain::prepare(stack, NAME, &objects(manifest.clone()))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.operator().stop().await?;
    let folder = chain.manifests();
    let before = made(&folder)?;
    assert_eq!(before.len(), 7, "six dashboards and a data source: {:?}", before.keys());

    let pipeline = manifest["metadata"]["name"].as_str().unwrap_or_default();
    let (executive, _) = &before[&format!("ConfigMap/{pipeline}-dashboard-executive")];
    assert_eq!(executive["metadata"]["labels"]["dashboards"], "ours");
    assert_eq!(executive["metadata"]["annotations"]["grafana_folder"], "The shop");
    let (file, text) =
        executive["data"].as_object().and_then(|data| data.iter().next()).context("no file")?;
    let model: Value = serde_json::from_str(text.as_str().unwrap_or_default())?;
    assert_eq!((&model["title"], &model["id"]), (&json!("Executive"), &Value::Null));
    assert_eq!(*file, format!("{}.json", model["uid"].as_str().unwrap_or_default()));

    // The data source, with the password in base64 and in a file that nobody else reads.
    let key = format!("Secret/{pipeline}-grafana-datasource");
    let (source, _) = &before[&key];
    assert_eq!(source["metadata"]["labels"]["grafana_datasource"], "1");
    let path = folder.join(format!("secret-{pipeline}-grafana-datasource.yaml"));
    assert_eq!(path.metadata()?.mode() & 0o077, 0, "{} can be read by others", path.display());
    assert!(!std::fs::read_to_string(&path)?.contains(CANARY));
    let bytes = source["data"].as_object().and_then(|data| data.values().next()).context("no file")?;
    let bytes: k8s_openapi::ByteString = serde_json::from_value(bytes.clone())?;
    let file: Value = serde_yaml_ng::from_slice(&bytes.0)?;
    let source = &file["datasources"][0];
    assert_eq!(source["uid"], model["templating"]["list"][0]["current"]["value"]);
    assert_eq!(source["jsonData"]["username"], User::Dashboards.name());
    assert_eq!(source["secureJsonData"]["password"], CANARY);

    // Nothing changes: nothing is written.
    chain.apply_once().await?;
    assert_eq!(before, made(&folder)?);

    // A change by hand goes, another password comes.
    let text = std::fs::read_to_string(&path)?.replace("grafana_datasource", "other");
    std::fs::write(&path, text)?;
    chain.apply_once().await?;
    let mut after = made(&folder)?[&key].0.clone();
    // The object remembers what it was put right from: the same value again is another's decision.
    let remembered =
        after["metadata"]["annotations"].as_object_mut().and_then(|all| all.remove("tidemark.dev/put-right"));
    assert!(remembered.is_some());
    assert_eq!(after, before[&key].0);

    // Without the part, nothing of it stays.
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.remove("grafana");
    }
    chain.write(&objects(manifest))?;
    chain.operator().spawn()?;
    wait_until(PATIENCE, "the objects to go", || async { Ok(made(&folder)?.is_empty().then_some(())) })
        .await?;
    chain.wait_condition("DashboardsInSync", "True", "NotConfigured", PATIENCE).await?;
    Ok(())
}
