//! Commands that talk to a cluster: `status` and `plan`. I/O, read only.

use anyhow::Context;
use kube::Api;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::{FileArgs, bundle, print};
use crate::config::DEFAULT_SINK_IMAGE;
use crate::desired::sink_config::Paths;
use crate::engine::{Engine, Input};
use crate::objects::ObjectStore;
use crate::reconcile::Mode;
use crate::validate::validate;
use crate::{credentials, references};

async fn client() -> anyhow::Result<kube::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_default()
        .await
        .context("no cluster: set KUBECONFIG, or use --out DIR to plan without one")
}

/// `tidemark status NAME`: conditions, tables and freshness.
pub async fn status(name: &str, namespace: Option<&str>) -> anyhow::Result<()> {
    let client = client().await?;
    let api: Api<AnalyticsPipeline> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::default_namespaced(client),
    };
    let pipeline = api.get(name).await.with_context(|| format!("AnalyticsPipeline {name}"))?;
    print::pipeline(&pipeline);
    Ok(())
}

/// `tidemark plan -f FILE` against the cluster: what the operator would do.
pub async fn plan(args: &FileArgs) -> anyhow::Result<()> {
    let mut bundle = bundle::read(args)?;
    validate(&bundle.pipeline.spec)?;
    let client = client().await?;
    let namespace = match &bundle.pipeline.metadata.namespace {
        Some(namespace) => namespace.clone(),
        None => client.default_namespace().to_owned(),
    };
    let name = PipelineName::new(namespace, bundle.name.name.clone());
    let api: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &name.namespace);
    let live = api.get_opt(&name.name).await.context("the AnalyticsPipeline cannot be read")?;
    let wanted = credentials::wanted(&bundle.pipeline.spec);
    let live_references = references::read(&client, &name.namespace, wanted).await;
    if let Ok(live_references) = live_references {
        bundle.references.fill_from(&live_references);
    }
    let before = live.as_ref().and_then(|live| live.status.clone()).unwrap_or_default();
    let cluster = references::cluster_uid(&client).await.context("the uid of namespace kube-system")?;
    let annotations = bundle.pipeline.metadata.annotations.clone().unwrap_or_default();
    let input = Input {
        name: &name,
        uid: live.as_ref().and_then(|live| live.metadata.uid.as_deref()),
        generation: 1,
        spec: &bundle.pipeline.spec,
        invalid: None,
        annotations: &annotations,
        references: &bundle.references,
        objects: ObjectStore::Cluster(client),
        cluster: &cluster,
        paths: &Paths::in_container(),
        image: DEFAULT_SINK_IMAGE,
        before: &before,
        mode: Mode::PlanOnly,
    };
    let report = Box::pin(Engine::default().run(&input, &|_, _| {})).await;
    print::plan(&report);
    Ok(())
}
