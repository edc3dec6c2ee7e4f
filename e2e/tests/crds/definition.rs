//! The definition: accepted, each rule enforced, no difference after either kind of apply, scale and columns.

use anyhow::{Context, bail, ensure};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_operator::shell::controller::write_status;

use super::{Server, path, read};

/// One rule of `crds/tests/data/rules.yaml`.
#[derive(Deserialize)]
struct Case {
    rule: String,
    before: Option<Value>,
    accepted: Value,
    refused: Value,
    message: String,
}

/// JSON merge patch: null removes.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(key));
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

#[tokio::test]
async fn the_api_server_enforces_every_rule() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    let minimal: Value = serde_yaml_ng::from_str(&read("crds/generated/examples/minimal.yaml")?)?;
    let cases: Vec<Case> = serde_yaml_ng::from_str(&read("crds/tests/data/rules.yaml")?)?;
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut base = minimal.clone();
        base["metadata"]["name"] = json!(format!("case-{number}"));
        if let Err(error) = judge(&server, case, base).await {
            wrong.push(format!("{}: {error:#}", case.rule));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} rules:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

async fn judge(server: &Server, case: &Case, base: Value) -> anyhow::Result<()> {
    let api = server.pipelines();
    let mut before = base.clone();
    if let Some(patch) = &case.before {
        merge(&mut before, patch);
        let object: DynamicObject = serde_json::from_value(before)?;
        let created = api.create(&PostParams::default(), &object).await.context("the object before")?;
        before = serde_json::to_value(created)?;
    }
    let answer = |patch: &Value| {
        let mut object = before.clone();
        merge(&mut object, patch);
        let api = api.clone();
        let replaces = case.before.is_some();
        async move {
            let object: DynamicObject = serde_json::from_value(object)?;
            let name = object.metadata.name.clone().unwrap_or_default();
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            anyhow::Ok(if replaces {
                api.replace(&name, &dry, &object).await
            } else {
                api.create(&dry, &object).await
            })
        }
    };
    answer(&case.accepted).await?.context("the object to accept was refused")?;
    match answer(&case.refused).await? {
        Ok(_) => bail!("the object to refuse was accepted"),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            ensure!(status.message.contains(&case.message), "refused for another reason: {}", status.message);
            Ok(())
        }
        Err(other) => Err(other).context("the object to refuse failed otherwise"),
    }
}

#[tokio::test]
async fn examples_leave_no_difference_after_server_side_and_client_side_apply() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    for example in ["minimal", "shop", "full"] {
        let file = path(&format!("crds/generated/examples/{example}.yaml"));
        let file = file.to_str().context("a path of the checkout is text")?;
        for flag in ["--server-side=true", "--server-side=false"] {
            server.kubectl_ok(&["apply", flag, "-f", file]).await?;
            let stored = server.pipelines().get(example).await?;
            let difference = server.kubectl(&["diff", flag, "-f", file]).await?;
            ensure!(
                difference.status.success(),
                "{example} differs after apply {flag}:\n{}",
                String::from_utf8_lossy(&difference.stdout)
            );
            server.kubectl_ok(&["apply", flag, "-f", file]).await?;
            let again = server.pipelines().get(example).await?;
            ensure!(
                stored.metadata.generation == again.metadata.generation && stored.data == again.data,
                "{example} changed by a second apply {flag}"
            );
            server.kubectl_ok(&["delete", "-f", file]).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_scale_subresource_works_with_and_without_replicas_in_the_manifest() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    let minimal = path("crds/generated/examples/minimal.yaml");
    let minimal = minimal.to_str().context("a path of the checkout is text")?;
    let replicas = async || {
        let pipeline = server.pipelines().get("minimal").await?;
        anyhow::Ok(pipeline.data["spec"]["sink"]["replicas"].clone())
    };
    for flag in ["--server-side=true", "--server-side=false"] {
        server.kubectl_ok(&["apply", flag, "-f", minimal]).await?;
        ensure!(replicas().await? == 1, "the default of replicas is not 1");
        let scale = ["scale", "analyticspipelines/minimal", "--namespace=shop"];
        server.kubectl_ok(&[&scale[..], &["--replicas=3"]].concat()).await?;
        ensure!(replicas().await? == 3, "kubectl scale did not reach the spec");
        // Left out of Git, it survives the next apply, and shows no difference.
        server.kubectl_ok(&["apply", flag, "-f", minimal]).await?;
        ensure!(replicas().await? == 3, "applying a manifest without replicas {flag} undid the scaling");
        let difference = server.kubectl(&["diff", flag, "-f", minimal]).await?;
        ensure!(difference.status.success(), "scaling shows as a difference: {difference:?}");
        server.kubectl_ok(&["delete", "-f", minimal]).await?;
    }

    let mut manifest: Value = serde_yaml_ng::from_str(&read("crds/generated/examples/minimal.yaml")?)?;
    merge(&mut manifest, &json!({"spec": {"sink": {"replicas": 2}}}));
    server.pipelines().create(&PostParams::default(), &serde_json::from_value(manifest)?).await?;
    let status = json!({"status": {"replicas": 2, "selector": "app.kubernetes.io/instance=minimal"}});
    let params = PatchParams::default();
    server.pipelines().patch_status("minimal", &params, &Patch::Merge(status)).await?;
    let scale = server.pipelines().get_scale("minimal").await?;
    let (spec, status) = (scale.spec.context("no spec")?, scale.status.context("no status")?);
    ensure!(spec.replicas == Some(2) && status.replicas == 2, "scale says {spec:?} and {status:?}");
    ensure!(
        status.selector.as_deref() == Some("app.kubernetes.io/instance=minimal"),
        "no selector for autoscalers"
    );
    Ok(())
}

#[tokio::test]
async fn a_status_is_written_to_its_own_life_and_spec_alone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    let minimal: Value = serde_yaml_ng::from_str(&read("crds/generated/examples/minimal.yaml")?)?;
    let pipelines = server.pipelines();
    let mut lives = Vec::new();
    for summary in ["first", "second"] {
        let made: DynamicObject = serde_json::from_value(minimal.clone())?;
        let made = pipelines.create(&PostParams::default(), &made).await?;
        write_status(&pipelines, &made.metadata, &json!({"summary": summary})).await?;
        lives.push(made.metadata);
        if summary == "first" {
            pipelines.delete("minimal", &DeleteParams::default()).await?;
        }
    }
    write_status(&pipelines, &lives[0], &json!({"summary": "late"})).await?;
    // What a reconcile of an older spec found is not said of the newer one.
    let other = json!({"spec": {"suspend": true}});
    pipelines.patch("minimal", &PatchParams::default(), &Patch::Merge(other)).await?;
    write_status(&pipelines, &lives[1], &json!({"summary": "of before"})).await?;
    let live = pipelines.get("minimal").await?;
    ensure!(live.data["status"]["summary"] == "second", "the status is {}", live.data["status"]);
    write_status(&pipelines, &live.metadata, &json!({"summary": "of now"})).await?;
    let live = pipelines.get("minimal").await?;
    ensure!(live.data["status"]["summary"] == "of now", "the status is {}", live.data["status"]);
    Ok(())
}

#[tokio::test]
async fn kubectl_shows_readiness_reason_tables_freshness_and_age() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    let minimal: Value = serde_yaml_ng::from_str(&read("crds/generated/examples/minimal.yaml")?)?;
    server.pipelines().create(&PostParams::default(), &serde_json::from_value(minimal)?).await?;
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Reading", "message": "orders: 10 %",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"status": {"conditions": [condition], "summary": "0/1", "freshness": "<1s"}});
    let params = PatchParams::default();
    server.pipelines().patch_status("minimal", &params, &Patch::Merge(status)).await?;
    for name in ["ap", "analytics", "analyticspipelines.tidemark.dev"] {
        let table = server.kubectl_ok(&["get", name, "--namespace=shop"]).await?;
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        ensure!(rows.len() == 2, "one heading and one row were expected:\n{table}");
        ensure!(
            rows[0] == ["NAME", "READY", "REASON", "TABLES", "FRESHNESS", "AGE"],
            "the headings are {:?}",
            rows[0]
        );
        ensure!(rows[1][..5] == ["minimal", "False", "Reading", "0/1", "<1s"], "the row is {:?}", rows[1]);
    }
    Ok(())
}
