//! What the controller's reconciles share: clients, memory, what was seen last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::core::concerns::Concerns;
use crate::core::credentials::References;
use crate::core::desired::neighbours::Neighbour;
use crate::core::desired::sink_config::Paths;
use crate::edge::kubernetes::objects::ObjectStore;
use crate::shell::backoff::Backoff;
use crate::shell::controller::Guarded;
use crate::shell::engine::{Engine, Input};
use crate::shell::events::Events;
use crate::shell::leader::Term;
use crate::shell::pools::Pools;
use crate::shell::reconcile::Mode;

/// Shared by all reconciles of a process.
#[derive(Debug)]
pub struct Context {
    /// Client of the cluster.
    pub client: ClientHandle,
    /// The part that needs no cluster.
    pub engine: Engine,
    /// Failures in a row of each object.
    pub backoff: Backoff,
    /// Writer of events.
    pub events: Events,
    /// Image of the sink.
    pub sink_image: String,
    /// Folders in which the sink finds its files.
    pub paths: Paths,
    /// Uid of the cluster.
    pub cluster: String,
    /// Whether this replica may write.
    pub term: Term,
    /// Who may reconcile now.
    pub pools: Pools,
    /// Which pipelines name which Secrets and ConfigMaps.
    pub concerns: Concerns,
    stores: Mutex<Vec<Store<Guarded>>>,
    seen: Mutex<BTreeMap<String, References>>,
    revisions: Mutex<BTreeMap<String, i64>>,
    answered: Mutex<BTreeMap<String, String>>,
}

/// A Kubernetes client; prints nothing of itself.
#[derive(Clone)]
pub struct ClientHandle(pub kube::Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What is done with a resource of the cluster, and by which spec.
#[derive(Debug)]
pub struct Task<'a> {
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Why the spec that was read does not run.
    pub invalid: Option<&'a str>,
    /// Annotations of the resource.
    pub annotations: &'a BTreeMap<String, String>,
    /// Secrets and ConfigMaps that the spec names.
    pub references: &'a References,
    /// All pipelines that are known, this one among them or not.
    pub neighbours: &'a [Neighbour<'a>],
    /// The status that the resource has.
    pub before: &'a AnalyticsPipelineStatus,
    /// Until when may be written.
    pub term: &'a Term,
    /// What may be done.
    pub mode: Mode,
}

impl Context {
    /// A resource of this cluster as the engine takes it.
    pub fn input<'a>(
        &'a self,
        pipeline: &'a AnalyticsPipeline,
        name: &'a PipelineName,
        task: &Task<'a>,
    ) -> Input<'a> {
        Input {
            name,
            uid: pipeline.metadata.uid.as_deref(),
            generation: pipeline.metadata.generation.unwrap_or(0),
            spec: task.spec,
            addresses: task.spec,
            invalid: task.invalid,
            annotations: task.annotations,
            references: task.references,
            objects: ObjectStore::cluster(self.client.0.clone()),
            cluster: &self.cluster,
            paths: &self.paths,
            image: &self.sink_image,
            created: pipeline.metadata.creation_timestamp.as_ref().map(|time| time.0),
            neighbours: task.neighbours,
            before: task.before,
            term: task.term,
            mode: task.mode,
        }
    }

    /// Builds the context.
    pub fn new(
        client: kube::Client,
        engine: Engine,
        events: Events,
        sink_image: String,
        cluster: String,
        (term, workers): (Term, u16),
    ) -> Self {
        Self {
            client: ClientHandle(client),
            engine,
            backoff: Backoff::default(),
            events,
            sink_image,
            paths: Paths::in_container(),
            cluster,
            term,
            pools: Pools::new(workers),
            concerns: Concerns::default(),
            stores: Mutex::default(),
            seen: Mutex::default(),
            revisions: Mutex::default(),
            answered: Mutex::default(),
        }
    }

    /// Remembers where the pipelines that are watched can be found.
    pub fn watch(&self, store: Store<Guarded>) {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).push(store);
    }

    /// All pipelines that are watched.
    pub fn pipelines(&self) -> Vec<Arc<Guarded>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(Store::state).collect()
    }

    /// What the cache has of a pipeline's metadata.
    pub fn metadata(&self, name: &PipelineName) -> Option<ObjectMeta> {
        let key = ObjectRef::new(&name.name).within(&name.namespace);
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().find_map(|store| store.get(&key)).map(|object| object.meta().clone())
    }

    /// Remembers the references of a pipeline, and returns them with what was seen earlier and is gone since.
    pub fn remember(&self, pipeline: &str, mut now: References) -> References {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = seen.get(pipeline) {
            now.fill_from(before);
        }
        seen.insert(pipeline.to_owned(), now.clone());
        now
    }

    /// The references of a pipeline as they were seen last.
    pub fn seen(&self, pipeline: &str) -> References {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(pipeline).cloned().unwrap_or_default()
    }

    /// Generation whose spec was last kept as a revision by this process.
    pub fn kept_revision(&self, pipeline: &str) -> Option<i64> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).get(pipeline).copied()
    }

    /// Remembers that the spec of a generation is kept.
    pub fn keep_revision(&self, pipeline: &str, generation: i64) {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).insert(pipeline.to_owned(), generation);
    }

    /// Which request for a plan was answered last.
    pub fn answered(&self, pipeline: &str) -> Option<String> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(pipeline).cloned()
    }

    /// Remembers that a request for a plan was answered.
    pub fn answer(&self, pipeline: &str, token: String) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(pipeline.to_owned(), token);
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, name: &PipelineName) {
        self.concerns.forget(name);
        let pipeline = &name.to_string();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
        self.backoff.succeeded(pipeline);
        self.pools.note(pipeline, false);
        self.engine.forget(pipeline);
    }
}
