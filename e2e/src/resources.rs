//! Objects of a cluster for tests and benchmarks, and what an operator says of itself. I/O.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tidemark_crds::pipeline::AnalyticsPipeline;

use crate::chain::secrets;
use crate::stack::{PATIENCE, wait_until};

/// Applies an object, whatever it was before.
pub async fn put<K>(api: &Api<K>, object: serde_json::Value) -> anyhow::Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().context("an object has a name")?.to_owned();
    Ok(api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await?)
}

/// Installs our definition, and makes a namespace with the Secrets of a pipeline.
pub async fn prepare(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let mut definition = tidemark_crds::manifest::definition();
    definition["apiVersion"] = json!("apiextensions.k8s.io/v1");
    definition["kind"] = json!("CustomResourceDefinition");
    put(&Api::<CustomResourceDefinition>::all(client.clone()), definition).await?;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    put(&Api::<Namespace>::all(client.clone()), object).await?;
    let secret_api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for mut secret in secrets() {
        secret["metadata"]["namespace"] = json!(namespace);
        put(&secret_api, secret).await?;
    }
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), namespace);
    wait_until(PATIENCE, "the definition to be served", || async {
        pipelines.list(&ListParams::default()).await?;
        Ok(Some(()))
    })
    .await
}

/// The lines of a metric of whoever listens: name, labels and value.
pub async fn metric_lines(listen: SocketAddr, name: &str) -> anyhow::Result<Vec<String>> {
    let client = tidemark_runtime::http::builder().timeout(Duration::from_secs(5)).build()?;
    let text = client.get(format!("http://{listen}/metrics")).send().await?.text().await?;
    Ok(text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect())
}

/// Sum of a metric over its labels.
pub async fn metric(listen: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let lines = metric_lines(listen, name).await?;
    Ok(lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
