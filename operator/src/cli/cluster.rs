//! Commands that talk to a cluster: `status` and `plan`. I/O, read only.

use std::time::{Duration, Instant};

use anyhow::Context;
use kube::Api;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::tables::{self, Looks};
use super::{FileArgs, bundle, print};
use crate::config::DEFAULT_SINK_IMAGE;
use crate::desired::sink_config::Paths;
use crate::engine::{Engine, Input};
use crate::facts::{ClickHouseFacts, Failure, FailureClass, Observation};
use crate::leader::Term;
use crate::objects::ObjectStore;
use crate::reconcile::Mode;
use crate::systems::Handles;
use crate::validate::validate;
use crate::{credentials, observe, references};

/// Pause between two looks that a rate is taken from.
const RATE: Duration = Duration::from_secs(2);

async fn client() -> anyhow::Result<kube::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_default()
        .await
        .context("no cluster: set KUBECONFIG, or use --out DIR to plan without one")
}

/// `tidemark status NAME`: conditions, freshness, and each table with its numbers, where ClickHouse can be asked.
pub async fn status(name: &str, namespace: Option<&str>, clickhouse: Option<String>) -> anyhow::Result<()> {
    let client = client().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
    let api: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &namespace);
    let mut pipeline = api.get(name).await.with_context(|| format!("AnalyticsPipeline {name}"))?;
    print::pipeline(&pipeline);
    let Some(status) = pipeline.status.clone() else {
        return Ok(());
    };
    if let Some(url) = clickhouse {
        pipeline.spec.clickhouse.url = url;
    }
    let begin = Instant::now();
    let looked = Box::pin(look(&client, &namespace, &pipeline)).await;
    let first = match looked {
        Ok(facts) => facts,
        Err(failure) => {
            print::line(&tables::render(&pipeline.spec, &status, None));
            print::line(&format!(
                "numbers are left out: clickhouse {}: {}: --clickhouse URL gives another address",
                pipeline.spec.clickhouse.url, failure.message
            ));
            return Ok(());
        }
    };
    let reading = first.reads.values().any(|read| read.state == "reading");
    let second = if reading {
        // A rate takes two looks.
        tokio::time::sleep(RATE).await;
        Box::pin(look(&client, &namespace, &pipeline)).await.ok()
    } else {
        None
    };
    let elapsed_ms = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX);
    let looks = Looks {
        now: second.as_ref().unwrap_or(&first),
        now_ms: jiff::Timestamp::now().as_millisecond(),
        before: second.is_some().then_some((&first, elapsed_ms)),
    };
    print::line(&tables::render(&pipeline.spec, &status, Some(&looks)));
    Ok(())
}

/// What ClickHouse says of a pipeline, by the account that its spec names.
async fn look(
    client: &kube::Client,
    namespace: &str,
    pipeline: &AnalyticsPipeline,
) -> Result<ClickHouseFacts, Failure> {
    let spec = &pipeline.spec;
    let name = PipelineName::new(namespace, pipeline.metadata.name.clone().unwrap_or_default());
    let references = references::read(client, namespace, credentials::wanted(spec)).await;
    let resolved = credentials::resolve(spec, &references);
    let handles = Handles::default();
    let systems = handles.systems(&name.to_string(), spec, &resolved, ObjectStore::Cluster(client.clone()));
    let server = systems.clickhouse.open()?;
    let database = &spec.clickhouse.database;
    match observe::clickhouse::observe(server, database, &name.to_string(), &[]).await {
        Observation::Known(facts) => Ok(facts),
        Observation::Unreachable(failure) => Err(failure),
        Observation::Absent | Observation::NotAsked => {
            Err(Failure { class: FailureClass::Remote, message: "it has nothing of this pipeline".into() })
        }
    }
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
    bundle.references.fill_from(&references::read(&client, &name.namespace, wanted).await);
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
        created: None,
        neighbours: &[],
        before: &before,
        term: &Term::without_end(),
        mode: Mode::PlanOnly,
    };
    let report = Box::pin(Engine::default().run(&input, &|_, _| {})).await;
    print::plan(&report);
    Ok(())
}
