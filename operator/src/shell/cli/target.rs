//! A pipeline that is looked at, in a cluster or in a folder. I/O, read only.

use std::collections::BTreeMap;
use std::path::Path;

use kube::Api;
use kube::api::DynamicObject;
use kube::config::KubeConfigOptions;
use serde_json::Value;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};
use tidemark_crds::status::AnalyticsPipelineStatus;

use super::bundle::{self, Bundle, Faults};
use super::local::owner_in;
use super::{CLUSTER, FileArgs, TargetArgs};
use crate::core::blind::{Blind, blind};
use crate::core::credentials;
use crate::core::credentials::{References, Resolved};
use crate::core::desired::sink_config::Paths;
use crate::core::facts::{Failure, FailureClass};
use crate::edge::kubernetes::look::failure;
use crate::edge::kubernetes::objects::{ObjectStore, api};
use crate::edge::kubernetes::references;
use crate::edge::systems::Systems;
use crate::shell::config::DEFAULT_SINK_IMAGE;
use crate::shell::engine::{Engine, Input, Report};
use crate::shell::leader::Term;
use crate::shell::reconcile::Mode;

/// Why there is nothing to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// The file is wrong.
    #[error("{0}")]
    Invalid(#[from] Faults),
    /// The cluster could not be seen.
    #[error("{}", .0.line())]
    Unseen(Blind),
    /// There is no such pipeline.
    #[error("there is no AnalyticsPipeline {0}: kubectl get analyticspipelines --all-namespaces lists them")]
    Absent(String),
    /// There is no such pipeline that the operator could be asked for.
    #[error(
        "there is no AnalyticsPipeline {0} yet that the operator could be asked for: apply it with spec.suspend: true, \
         which carries nothing out, and ask again with spec.suspend: false in the file"
    )]
    NotYet(String),
}

/// Where its status is written.
enum Home {
    Cluster(Box<Api<AnalyticsPipeline>>),
    Folder(std::path::PathBuf),
}

/// A pipeline and all that a look at it needs.
pub struct Target {
    /// Namespace and name.
    pub name: PipelineName,
    /// The spec that runs, or would.
    pub spec: AnalyticsPipelineSpec,
    /// The status as whoever runs the pipeline wrote it last.
    pub said: Option<AnalyticsPipelineStatus>,
    /// Whether the sink runs in a cluster.
    pub in_cluster: bool,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    home: Home,
    uid: Option<String>,
    addresses: AnalyticsPipelineSpec,
    annotations: BTreeMap<String, String>,
    references: References,
    objects: ObjectStore,
    cluster: String,
    paths: Paths,
    image: String,
    engine: Engine,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A client for the cluster of the kubeconfig.
pub(super) async fn client(context: Option<&str>) -> Result<kube::Client, Missed> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unseen = |message: String| {
        let failure = Failure::new(FailureClass::Unreachable, message);
        Missed::Unseen(Blind::failed("kubernetes", "of the kubeconfig", &failure))
    };
    let config = match context {
        None => kube::Config::infer().await.map_err(|error| unseen(error.to_string()))?,
        Some(context) => {
            let options =
                KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            kube::Config::from_kubeconfig(&options).await.map_err(|error| unseen(error.to_string()))?
        }
    };
    crate::edge::kubernetes::objects::client(config).map_err(|error| unseen(error.to_string()))
}

pub(super) fn unanswered(what: &str, error: &kube::Error) -> Missed {
    Missed::Unseen(Blind::failed("kubernetes", what, &failure(error)))
}

impl Target {
    /// The pipeline that is named, in the cluster or without one.
    pub async fn open(args: &TargetArgs) -> Result<Self, Missed> {
        if let (Some(file), Some(out)) = (&args.file, &args.out) {
            let file = FileArgs { file: file.clone(), endpoints: args.endpoints.clone() };
            return Self::in_folder(bundle::read(&file)?, out);
        }
        let client = client(args.context.as_deref()).await?;
        let namespace = args.namespace.as_deref().unwrap_or_else(|| client.default_namespace());
        let name = PipelineName::new(namespace, args.name.clone().unwrap_or_default());
        let home: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &name.namespace);
        let live = home.get_opt(&name.name).await.map_err(|error| unanswered("the resource", &error))?;
        let live = live.ok_or_else(|| Missed::Absent(name.to_string()))?;
        let mut addressed = live.clone();
        bundle::override_endpoints(&mut addressed, &args.endpoints)?;
        let resource = Resource {
            spec: live.spec.clone(),
            addresses: addressed.spec,
            live: Some(live),
            annotations: None,
        };
        Box::pin(Self::in_cluster(client, name, resource, References::default())).await
    }

    /// A file as it would be carried out in the cluster; checked against the resource that is there.
    pub async fn of_file(bundle: Bundle, context: Option<&str>) -> Result<Self, Missed> {
        let client = client(context).await?;
        let namespace = match &bundle.pipeline.metadata.namespace {
            Some(namespace) => namespace.clone(),
            None => client.default_namespace().to_owned(),
        };
        let name = PipelineName::new(namespace, bundle.name.name.clone());
        let home: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &name.namespace);
        let live = home.get_opt(&name.name).await.map_err(|error| unanswered("the resource", &error))?;
        if let Some(live) = &live {
            let before = serde_json::to_value(live).unwrap_or(Value::Null);
            let found = crate::core::admission::check(&bundle.manifest, Some(&before));
            Faults::of_pipeline(&name.name, found)?;
        }
        let Bundle { pipeline, written, references, .. } = bundle;
        let annotations = pipeline.metadata.annotations.unwrap_or_default();
        let resource =
            Resource { spec: written, addresses: pipeline.spec, live, annotations: Some(annotations) };
        Box::pin(Self::in_cluster(client, name, resource, references)).await
    }

    async fn in_cluster(
        client: kube::Client,
        name: PipelineName,
        resource: Resource,
        mut references: References,
    ) -> Result<Self, Missed> {
        let Resource { spec, addresses, live, annotations } = resource;
        references.fill_from(&references::read(&client, &name.namespace, credentials::wanted(&spec)).await);
        let cluster = references::cluster_uid(&client).await.map_err(|error| {
            unanswered("the uid of namespace kube-system, which is in every mark", &error)
        })?;
        let image = sink_image(&client, &name).await.unwrap_or_else(|| DEFAULT_SINK_IMAGE.to_owned());
        let metadata = live.as_ref().map(|live| live.metadata.clone()).unwrap_or_default();
        Ok(Self {
            home: Home::Cluster(Box::new(Api::namespaced(client.clone(), &name.namespace))),
            name,
            spec,
            said: live.and_then(|live| live.status),
            in_cluster: true,
            deleting: metadata.deletion_timestamp.is_some(),
            uid: metadata.uid,
            addresses,
            annotations: annotations.or(metadata.annotations).unwrap_or_default(),
            references,
            objects: ObjectStore::cluster(client),
            cluster,
            paths: Paths::in_container(),
            image,
            engine: Engine::default(),
        })
    }

    /// A pipeline without a cluster; the folder need not be there.
    pub fn in_folder(bundle: Bundle, out: &Path) -> Result<Self, Missed> {
        let unread = |error| Faults::one(out.display().to_string(), "", format!("no folder: {error}"));
        let out = out.canonicalize().or_else(|_| std::path::absolute(out)).map_err(unread)?;
        let owner = owner_in(&out)
            .map_err(|error| Faults::one(out.display().to_string(), "", format!("{error:#}")))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let paths = Paths { config: text(&out), secrets: text(&out.join("secrets")) };
        let spec = bundle.pipeline.spec;
        Ok(Self {
            name: bundle.name,
            addresses: spec.clone(),
            spec,
            said: status_in(&out),
            in_cluster: false,
            deleting: false,
            uid: None,
            annotations: bundle.pipeline.metadata.annotations.unwrap_or_default(),
            references: bundle.references,
            objects: ObjectStore::Folder(out.join("manifests")),
            cluster: owner.unwrap_or_else(|| CLUSTER.to_owned()),
            paths,
            image: DEFAULT_SINK_IMAGE.to_owned(),
            engine: Engine::default(),
            home: Home::Folder(out),
        })
    }

    /// Reads the status again; what was said before stays where it cannot be read.
    pub async fn refresh(&mut self) {
        match &self.home {
            Home::Cluster(api) => {
                if let Ok(live) = api.get(&self.name.name).await {
                    self.said = live.status;
                }
            }
            Home::Folder(out) => self.said = status_in(out).or_else(|| self.said.take()),
        }
    }

    /// Looks at every system, and writes nothing: the mode is one that does not.
    pub async fn report(&self, mode: Mode) -> Report {
        let before = self.said.clone().unwrap_or_default();
        let input = Input {
            name: &self.name,
            uid: self.uid.as_deref(),
            generation: before.observed_generation.unwrap_or(1),
            spec: &self.spec,
            addresses: &self.addresses,
            invalid: None,
            annotations: &self.annotations,
            references: &self.references,
            objects: self.objects.clone(),
            cluster: &self.cluster,
            paths: &self.paths,
            image: &self.image,
            created: None,
            neighbours: &[],
            before: &before,
            term: &Term::without_end(),
            mode,
        };
        Box::pin(self.engine.run(&input, &|_, _| {})).await
    }

    /// What a report could not see.
    pub fn blind(&self, report: &Report) -> Vec<Blind> {
        blind(&self.addresses, &report.outcome.observed, &self.resolved())
    }

    /// What could not be seen of ClickHouse.
    pub fn blind_for(&self, failure: &Failure) -> Blind {
        let resolved = self.resolved();
        let mut all = blind(&self.addresses, &crate::core::facts::Observed::default(), &resolved);
        match all.iter().position(|blind| blind.system == "clickhouse") {
            Some(place) => all.remove(place),
            None => Blind::failed("clickhouse", self.addresses.clickhouse.url.as_str(), failure),
        }
    }

    /// What the references of the spec lead to.
    pub fn resolved(&self) -> Resolved {
        credentials::resolve(&self.spec, &self.references)
    }

    /// Handles of the systems.
    pub fn systems(&self) -> Systems {
        let key = self.name.to_string();
        self.engine.handles.systems(&key, &self.addresses, &self.resolved(), self.objects.clone())
    }
}

/// A resource as it is and as it would be.
struct Resource {
    spec: AnalyticsPipelineSpec,
    addresses: AnalyticsPipelineSpec,
    live: Option<AnalyticsPipeline>,
    /// In place of those of the live one.
    annotations: Option<BTreeMap<String, String>>,
}

fn status_in(out: &Path) -> Option<AnalyticsPipelineStatus> {
    let text = std::fs::read_to_string(out.join("status.yaml")).ok()?;
    serde_yaml_ng::from_str(&text).ok()
}

/// The image that the sink runs: the operator may have been told another one than this program's own.
async fn sink_image(client: &kube::Client, name: &PipelineName) -> Option<String> {
    let deployments: Api<DynamicObject> = api(client, &name.namespace, "apps/v1", "Deployment");
    let deployment = deployments.get_opt(&name.sink()).await.ok()??;
    let image = deployment.data["spec"]["template"]["spec"]["containers"][0]["image"].as_str()?;
    Some(image.to_owned())
}
