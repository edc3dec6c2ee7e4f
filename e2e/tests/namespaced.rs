//! The operator with the rights that the chart gives it in one namespace, and nothing of the cluster's.

use std::net::TcpListener;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::Value;
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::program;
use tidemark_e2e::resources::{metric, prepare, put};
use tidemark_e2e::stack::{PATIENCE, Process, Stack, shared, wait_until};

use crate::crds::{path, printed, tool};
use crate::operator::{of_payments, payments, read_is_asked_for, rest_at};

/// Namespace of the pipeline, and its name.
const NAME: &str = "narrow";
/// Namespace and release of the operator.
const RELEASE: &str = "narrow-tidemark";

/// Installs the chart for one namespace and a word for the cluster, and returns the environment of its operator.
async fn install(stack: &Stack, client: &Client) -> anyhow::Result<Vec<String>> {
    let chart = path("charts/tidemark").display().to_string();
    let values = path("charts/tests/values/alone.yaml").display().to_string();
    let namespace = format!("--namespace={RELEASE}");
    let narrowed = format!("--set=watchNamespaces={{{NAME}}}");
    let install =
        ["install", RELEASE, &chart, &namespace, "--create-namespace", "--values", &values, &narrowed];
    printed(&tool(stack, "helm", &install, None).await?)?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), RELEASE);
    let deployment = serde_json::to_value(deployments.get(RELEASE).await?)?;
    let environment = deployment.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let variable = |variable: &Value| {
        let name = variable["name"].as_str().unwrap_or_default();
        // The one that is no text is the pod's namespace.
        format!("{name}={}", variable["value"].as_str().unwrap_or(RELEASE))
    };
    Ok(environment.context("an environment")?.iter().map(variable).collect())
}

/// The kubeconfig of the operator's account, as its pod would have it.
async fn kubeconfig(stack: &Stack) -> anyhow::Result<String> {
    let namespace = format!("--namespace={RELEASE}");
    let token = printed(&tool(stack, "kubectl", &["create", "token", RELEASE, &namespace], None).await?)?;
    let admin: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(stack.api_server().kubeconfig())?)?;
    let mut own = admin;
    own["users"][0]["user"] = serde_json::json!({"token": token.trim()});
    let file = stack.folder().join("narrow.kubeconfig");
    std::fs::write(&file, own.to_string())?;
    Ok(format!("KUBECONFIG={}", file.display()))
}

/// Requests that the API server has refused for want of a right, of anybody.
async fn refused(stack: &Stack) -> anyhow::Result<(f64, Vec<String>)> {
    let text = printed(&tool(stack, "kubectl", &["get", "--raw", "/metrics"], None).await?)?;
    // Requests are counted by their code behind the authorizer alone.
    let is_refusal = |line: &&str| {
        line.starts_with("authorization_attempts_total{") && !line.contains(r#"result="allowed""#)
    };
    let lines: Vec<String> = text.lines().filter(is_refusal).map(str::to_owned).collect();
    let count = lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    Ok((count, lines))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_in_one_namespace_carry_a_pipeline_from_apply_to_deletion() -> anyhow::Result<()> {
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    let mut environment = install(stack, &client).await?;
    for wanted in ["TIDEMARK_WATCH_NAMESPACES=narrow", "TIDEMARK_CLUSTER_ID=prod"] {
        ensure!(environment.iter().any(|variable| variable == wanted), "no {wanted}: {environment:?}");
    }
    environment.push(kubeconfig(stack).await?);
    let (before, _) = refused(stack).await?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut words = vec!["env".to_owned(), "HOSTNAME=narrow".to_owned()];
    words.extend(environment);
    words.push(program("tidemark")?.display().to_string());
    words.extend(["run", "--log-format", "text", "--listen"].map(str::to_owned));
    words.push(listen.to_string());
    let operator = stack.program("narrow-operator", words.into_iter().map(Into::into).collect());
    operator.spawn()?;
    carries_out(stack, &client, &operator).await.with_context(|| operator.log_tail(20))?;
    // It rests, and its watches stand.
    rest_at(listen).await?;
    ensure!(metric(listen, "leader_election_master_status").await? > 0.5, "it does not lead");

    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    pipelines.delete(NAME, &DeleteParams::default()).await?;
    wait_until(PATIENCE, "the finalizer to go", || async {
        match pipelines.get_opt(NAME).await? {
            None => Ok(Some(())),
            Some(left) => anyhow::bail!("still there: {:?}", left.status.map(|status| status.deletion)),
        }
    })
    .await?;
    operator.stop().await?;
    let log = std::fs::read_to_string(operator.log())?;
    let (after, lines) = refused(stack).await?;
    ensure!(after - before < 0.5, "{} requests were refused: {lines:#?}\n{log}", after - before);
    ensure!(!log.to_lowercase().contains("forbidden"), "{log}");
    // What is counted is counted.
    let account = format!("--as=system:serviceaccount:{RELEASE}:{RELEASE}");
    let nodes = tool(stack, "kubectl", &["get", "nodes", &account], None).await?;
    ensure!(
        !nodes.status.success() && refused(stack).await?.0 > after,
        "a refusal is not counted: {nodes:?}"
    );
    Ok(())
}

/// Waits until all that the operator can do without pods is done.
async fn carries_out(stack: &Stack, client: &Client, operator: &Process) -> anyhow::Result<()> {
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    put(&pipelines, of_payments(stack, NAME)).await?;
    read_is_asked_for(stack, NAME).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAME);
    wait_until(PATIENCE, "the sink, and a status without a lack of rights", || async {
        ensure!(operator.ended()?.is_none(), "the operator ended");
        deployments.get("narrow-sink").await?;
        let status = pipelines.get(NAME).await?.status.context("no status yet")?;
        let denied = status.conditions.iter().find(|condition| condition.reason == "PermissionDenied");
        ensure!(denied.is_none(), "{denied:?}");
        let running = status.conditions.iter().find(|condition| condition.type_ == "ConnectorRunning");
        ensure!(running.is_some_and(|condition| condition.status == "True"), "{running:?}");
        Ok(Some(()))
    })
    .await
}
