//! `tidemark plan --in-cluster`: the operator is asked, which sees the systems from where it runs. I/O.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;
use tokio::time::Instant;

use super::PlanArgs;
use super::bundle::{self, Faults};
use super::plan::PlanView;
use super::target::{Missed, client, unanswered};
use crate::core::blind::Blind;
use crate::shell::planned::{ANSWER, Request, TOKEN, annotation};

/// Pause between two looks for the answer.
const PAUSE: Duration = Duration::from_millis(300);

/// Asks the operator for the plan of a file.
pub async fn plan(args: &PlanArgs) -> Result<PlanView, Missed> {
    let bundle = bundle::read_as_applied(&args.file)?;
    let client = client(args.context.as_deref()).await?;
    let namespace = bundle.pipeline.metadata.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let name = PipelineName::new(namespace, bundle.name.name.clone());
    let home: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &name.namespace);
    let live = home.get_opt(&name.name).await.map_err(|error| unanswered("the resource", &error))?;
    let live = live.ok_or_else(|| Missed::NotYet(name.to_string()))?;
    let before = serde_json::to_value(&live).unwrap_or(Value::Null);
    Faults::of_pipeline(&name.name, crate::core::admission::check(&bundle.manifest, Some(&before)))?;
    let request = Request {
        id: format!("{:016x}", rand::random::<u64>()),
        deletion: args.deletion,
        spec: Some(bundle.manifest["spec"].clone()),
        annotations: bundle.pipeline.metadata.annotations.unwrap_or_default(),
    };
    let text = serde_json::to_string(&request).unwrap_or_default();
    annotate(&home, &name, Some(&text)).await?;
    let answer = wait(&client, &name, &Request::token_of(&text), args.timeout).await;
    // Nothing hangs on it any more, and the next request takes its place.
    if let Err(missed) = annotate(&home, &name, None).await {
        tracing::debug!(%missed, "the annotation stays");
    }
    answer
}

async fn annotate(
    home: &Api<AnalyticsPipeline>,
    name: &PipelineName,
    text: Option<&str>,
) -> Result<(), Missed> {
    let patch = json!({"metadata": {"annotations": {annotation(): text}}});
    let done = home.patch_metadata(&name.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    done.map(drop).map_err(|error| unanswered("the annotation that asks the operator", &error))
}

async fn wait(
    client: &kube::Client,
    name: &PipelineName,
    token: &str,
    timeout: Duration,
) -> Result<PlanView, Missed> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &name.namespace);
    let end = Instant::now() + timeout;
    loop {
        let map = maps.get_opt(&name.plan()).await;
        let map = map.map_err(|error| unanswered("the ConfigMap with the operator's answer", &error))?;
        let data = map.and_then(|map| map.data).unwrap_or_default();
        if data.get(TOKEN).is_some_and(|answered| answered == token) {
            let text = data.get(ANSWER).map(String::as_str).unwrap_or_default();
            return serde_json::from_str(text).map_err(|error| {
                silent(
                    name,
                    &format!(
                        "its answer cannot be read ({error}): take the command line of the operator's version"
                    ),
                )
            });
        }
        if Instant::now() >= end {
            return Err(silent(name, &format!("no answer within {} s", timeout.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn silent(name: &PipelineName, why: &str) -> Missed {
    Missed::Unseen(Blind {
        system: "operator".into(),
        address: format!("of {name}"),
        why: why.to_owned(),
        next: "check that it runs, watches the namespace and says so in its log: kubectl get pods -A -l \
               app.kubernetes.io/name=tidemark"
            .to_owned(),
        only_from_here: true,
    })
}
