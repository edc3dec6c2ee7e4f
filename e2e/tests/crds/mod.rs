//! The resource definition and the charts before a real kube-apiserver: what it accepts, enforces and shows.

mod charts;
mod definition;
mod lives;

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use tidemark_e2e::stack::{Part, Stack, cache, wait_until};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(30);

/// An API server of one's own, and the tools to talk to it.
struct Server {
    stack: Stack,
    client: kube::Client,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let stack = Stack::start(&[Part::Kubernetes]).await?;
        let client = stack.api_server().client().await?;
        Ok(Self { stack, client })
    }

    /// Interface of a kind: of one namespace, or of the whole cluster.
    fn api(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn pipelines(&self) -> Api<DynamicObject> {
        self.api("tidemark.dev/v1alpha1", "AnalyticsPipeline", Some("shop"))
    }

    async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace =
            serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let api = self.api("v1", "Namespace", None);
        api.patch(name, &PatchParams::apply("test"), &Patch::Apply(namespace)).await?;
        Ok(())
    }

    /// Installs the generated definition and waits until it is served.
    async fn install_definition(&self) -> anyhow::Result<()> {
        let definition: Value = serde_yaml_ng::from_str(&read("crds/generated/analyticspipelines.yaml")?)?;
        let api = self.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let params = PatchParams::apply("test");
        api.patch("analyticspipelines.tidemark.dev", &params, &Patch::Apply(definition)).await?;
        self.definition_is_served().await?;
        self.create_namespace("shop").await
    }

    async fn definition_is_served(&self) -> anyhow::Result<()> {
        let pipelines = self.pipelines();
        wait_until(SOON, "the definition to be served", || async {
            Ok(pipelines.list(&kube::api::ListParams::default()).await.is_ok().then_some(()))
        })
        .await
    }

    /// Runs kubectl; a failure is an answer too.
    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.tool("kubectl", arguments, None).await
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    async fn kubectl_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        printed(&self.kubectl(arguments).await?).with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs a tool of the cache against this server.
    async fn tool(&self, name: &str, arguments: &[&str], input: Option<&str>) -> anyhow::Result<Output> {
        tool(&self.stack, name, arguments, input).await
    }
}

/// Runs a tool of the cache against the API server of a stack.
pub(crate) async fn tool(
    stack: &Stack,
    name: &str,
    arguments: &[&str],
    input: Option<&str>,
) -> anyhow::Result<Output> {
    let mut command = Command::new(cache::part("tools")?.join("bin").join(name));
    let home = stack.folder();
    command
        .args(arguments)
        .env("KUBECONFIG", stack.api_server().kubeconfig())
        .envs(["HOME", "HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"].map(|key| (key, home)))
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).await?;
    }
    let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output());
    Ok(output.await.with_context(|| format!("{name} did not end"))??)
}

/// What a tool printed, if it succeeded.
pub(crate) fn printed(output: &Output) -> anyhow::Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Ok(stdout)
}

/// A file of the repository.
pub(crate) fn path(file: &str) -> PathBuf {
    cache::e2e_folder().join("..").join(file)
}

fn read(file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path(file)).with_context(|| format!("reading {file}"))
}
