//! Plans that the running operator makes for somebody who does not see the systems.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::program;
use tidemark_e2e::stack::{PATIENCE, Role, Stack, User, shared, wait_until};

use crate::operator::{Operator, of_payments, payments, prepare, put};

const NAME: &str = "asked";

/// The command's exit code and the document that it prints.
async fn plan(stack: &Stack, file: &Path, words: &[&str]) -> anyhow::Result<(i32, Value)> {
    let output = tokio::process::Command::new(program("tidemark")?)
        .env("KUBECONFIG", stack.api_server().kubeconfig())
        .args(["plan", "-o", "json", "-f"])
        .arg(file)
        .args(words)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.context("the plan takes too long")??;
    let document = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no document: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code().context("it was killed")?, document))
}

fn steps(document: &Value) -> Vec<String> {
    let all = document["steps"].as_array().into_iter().flatten();
    all.map(|step| format!("{} {}", step["wave"], step["what"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_running_operator_plans_what_a_look_from_outside_plans_and_does_none_of_it() -> anyhow::Result<()>
{
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    let folder = tempfile::tempdir()?;
    let write = |name: &str, manifest: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, serde_json::to_string(manifest)?)?;
        anyhow::Ok(path)
    };
    let mut manifest = of_payments(stack, NAME);
    let wanted = write("wanted.yaml", &manifest)?;
    // Nothing is there yet that could be asked about.
    let output = std::process::Command::new(program("tidemark")?)
        .env("KUBECONFIG", stack.api_server().kubeconfig())
        .args(["plan", "--in-cluster", "-f"])
        .arg(&wanted)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(!output.status.success() && said.contains("spec.suspend: true"), "{said}");

    manifest["spec"]["suspend"] = json!(true);
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    put(&pipelines, manifest.clone()).await?;
    let (code, unanswered) = plan(stack, &wanted, &["--in-cluster", "--timeout", "1s"]).await?;
    anyhow::ensure!(code == 2 && unanswered["blind"][0]["system"] == "operator", "{unanswered:#}");

    let operator = Operator::start(&client, NAME)?;
    let (code, inside) = plan(stack, &wanted, &["--in-cluster"]).await?;
    anyhow::ensure!(code == 1, "{inside:#}");
    let (_, outside) = plan(stack, &wanted, &[]).await?;
    assert_eq!(steps(&inside), steps(&outside));
    assert!(steps(&inside).len() > 10, "{inside:#}");
    assert_eq!(inside["suspended"], json!(false), "the file is asked about");
    let shown = serde_json::to_string(&inside)?;
    for secret in [Role::Tidemark.password(), User::Tidemark.password()] {
        assert!(!shown.contains(secret), "a password is shown");
    }
    // It was only asked about.
    let live = pipelines.get(NAME).await?;
    assert!(live.annotations().is_empty(), "{:?}", live.annotations());
    assert_eq!(live.metadata.generation, Some(1));
    let databases =
        stack.clickhouse().query("SELECT count() FROM system.databases WHERE name = 'asked'").await?;
    assert_eq!(databases.trim(), "0", "something was carried out");

    // A deletion of what was never carried out has nothing to remove.
    let (code, gone) = plan(stack, &wanted, &["--in-cluster", "--deletion"]).await?;
    anyhow::ensure!(code == 0 && steps(&gone).is_empty(), "{gone:#}");

    // Any word asks about what is there; the answer is the pipeline's own.
    let patch = json!({"metadata": {"annotations": {"tidemark.dev/plan": "1"}}});
    pipelines.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAME);
    wait_until(PATIENCE, "the plan of what is there", || async {
        let map = maps.get("asked-plan").await?;
        let text = map.data.as_ref().and_then(|data| data.get("plan.json")).context("no plan")?;
        let view: Value = serde_json::from_str(text)?;
        anyhow::ensure!(view["suspended"] == json!(true), "an older answer: {view:#}");
        anyhow::ensure!(
            map.owner_references().iter().any(|owner| Some(&owner.uid) == live.metadata.uid.as_ref())
        );
        Ok(Some(()))
    })
    .await?;
    operator.stop().await
}
