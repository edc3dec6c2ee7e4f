//! `tidemark run`: wires watches, controller, leader election, probes and shutdown. I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, ListParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use prometheus_client::registry::Registry;
use tidemark_crds::names::{FIELD_MANAGER, PipelineName};
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_runtime::shell::{ProbeServer, Readiness, Shutdown};
use tokio::sync::watch;

use crate::core::credentials::Holder;
use crate::core::desired::sidecar::COMPONENT;
use crate::edge::kubernetes::references;
use crate::shell::config::OperatorConfig;
use crate::shell::context::Context;
use crate::shell::controller::{Guarded, error_policy, reconcile};
use crate::shell::engine::Engine;
use crate::shell::events::Events;
use crate::shell::leader;
use crate::shell::leader::{Leadership, Term};

/// Seconds after which a watch is opened anew: one that died silently is noticed.
const WATCH_TIMEOUT: u32 = 240;
const RETRY: Duration = Duration::from_secs(2);
/// Pause between two looks for what stays open and is not used.
const SWEEP: Duration = Duration::from_secs(10);

/// Runs the operator until it is told to end.
pub async fn run(config: &OperatorConfig) -> anyhow::Result<()> {
    let configured = kube::Config::infer().await;
    let configured = configured.context("no cluster: is this running in a pod, or is KUBECONFIG set?")?;
    let client = crate::edge::kubernetes::objects::client(configured)?;
    let shutdown = Shutdown::on_signals()?;
    run_with(config, client, shutdown).await
}

/// Runs the operator on a client until `shutdown`.
pub async fn run_with(config: &OperatorConfig, client: Client, shutdown: Shutdown) -> anyhow::Result<()> {
    let engine = Engine::default();
    let mut registry = Registry::default();
    engine.metrics.register(&mut registry);
    let readiness = Readiness::default();
    readiness.close("crd", "the AnalyticsPipeline definition is not installed: install chart tidemark-crds");
    let server =
        ProbeServer::start(config.listen, Arc::new(registry), readiness.clone(), shutdown.clone()).await?;
    tracing::info!(listen = %server.address(), "operator started");
    let identity = format!(
        "{}-{:08x}",
        std::env::var("HOSTNAME").unwrap_or_else(|_| "tidemark".to_owned()),
        rand::random::<u32>()
    );
    let (leads, is_leader) =
        watch::channel(if config.leader_election { Leadership::No } else { Leadership::Always });
    engine.metrics.set_leader(!config.leader_election);
    let ended = Shutdown::default();
    let election = if config.leader_election {
        let namespace = config.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let lease = (namespace, config.lease.clone());
        tokio::spawn(leader::run(client.clone(), lease, identity.clone(), leads, ended.clone()))
    } else {
        let ended = ended.clone();
        tokio::spawn(async move {
            ended.requested().await;
            drop(leads);
        })
    };
    if let Some(cluster) = wait_for_cluster(&client, config, &readiness, &shutdown).await {
        let events = Events::new(client.clone(), &identity);
        let term = Term::new(is_leader.clone(), shutdown.clone());
        let image = config.sink_image.clone();
        let limits = (term, config.concurrency);
        let context = Arc::new(Context::new(client.clone(), engine, events, image, cluster, limits));
        let namespaces = config.namespaces();
        let scopes: Vec<Option<&str>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let gauge = follow_leadership(context.clone(), is_leader, shutdown.clone());
        let controllers =
            scopes.iter().map(|scope| control(&client, *scope, Arc::clone(&context), shutdown.clone()));
        let idle = close_idle(Arc::clone(&context), shutdown.clone());
        tokio::join!(futures::future::join_all(controllers), gauge, idle);
    }
    // Not before the last reconcile has ended: they write under this Lease.
    ended.trigger();
    election.await?;
    server.join().await;
    Ok(())
}

/// Keeps the leader gauge right.
async fn follow_leadership(
    context: Arc<Context>,
    mut leads: watch::Receiver<Leadership>,
    shutdown: Shutdown,
) {
    loop {
        context.engine.metrics.set_leader(*leads.borrow_and_update() != Leadership::No);
        tokio::select! {
            changed = leads.changed() => if changed.is_err() { return },
            () = shutdown.requested() => return,
        }
    }
}

/// Closes what stays open from look to look and is not used.
async fn close_idle(context: Arc<Context>, shutdown: Shutdown) {
    while tokio::time::timeout(SWEEP, shutdown.requested()).await.is_err() {
        let context = Arc::clone(&context);
        let closed = tokio::task::spawn_blocking(move || context.engine.handles.close_idle(Instant::now()));
        if let Err(error) = closed.await {
            tracing::warn!(%error, "idle clients stay open");
        }
    }
}

/// Waits until the API server answers and knows our resource; returns the cluster's uid.
async fn wait_for_cluster(
    client: &Client,
    config: &OperatorConfig,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> Option<String> {
    while !shutdown.is_requested() {
        let api: Api<AnalyticsPipeline> = scoped(client, config.namespaces().first().copied());
        let looked = async {
            api.list_metadata(&ListParams::default().limit(1)).await?;
            match &config.cluster_id {
                Some(given) => Ok(given.clone()),
                None => references::cluster_uid(client).await,
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), looked).await {
            Ok(Ok(cluster)) => {
                readiness.open("crd");
                return Some(cluster);
            }
            // Without the right to read kube-system, TIDEMARK_CLUSTER_ID stands for its uid.
            Ok(Err(error)) => tracing::warn!(%error, "waiting for the cluster"),
            Err(_) => tracing::warn!("waiting for the cluster: no answer"),
        }
        let _ = tokio::time::timeout(RETRY, shutdown.requested()).await;
    }
    None
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Runs the controller of one namespace, or of all.
async fn control(client: &Client, namespace: Option<&str>, context: Arc<Context>, shutdown: Shutdown) {
    let all = watcher::Config::default().timeout(WATCH_TIMEOUT);
    let ours = all.clone().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER}"));
    let pipelines: Api<Guarded> = scoped(client, namespace);
    let (all_read, writer) = reflector::store();
    // Who set which field of a resource is the greater part of it, and nobody reads that here.
    let resources = watcher(pipelines, all.clone()).modify(|object| object.managed_fields_mut().clear());
    let resources = resources.reflect(writer).applied_objects();
    let controller = Controller::for_stream(resources, all_read.clone());
    context.watch(all_read.clone());
    let metrics = context.engine.metrics.clone();
    let scope = namespace.unwrap_or_default().to_owned();
    let concerned = |holder: Holder| {
        let context = Arc::clone(&context);
        move |meta: &ObjectMeta| wake(&context, concerned(&context, holder, meta))
    };
    let (secret, map) = (concerned(Holder::Secret), concerned(Holder::ConfigMap));
    let owners = || {
        let context = Arc::clone(&context);
        move |meta: &ObjectMeta| wake(&context, owners(meta))
    };
    // What has a kind of its own here is each kind of the sink's objects but ConfigMap, all of which are watched.
    let (deployment, service, account, budget, policy) = (owners(), owners(), owners(), owners(), owners());
    controller
        .watches(scoped::<PartialObjectMeta<Deployment>>(client, namespace), ours.clone(), move |live| {
            deployment(&live.metadata)
        })
        .watches(scoped::<PartialObjectMeta<Service>>(client, namespace), ours.clone(), move |live| {
            service(&live.metadata)
        })
        .watches(scoped::<PartialObjectMeta<ServiceAccount>>(client, namespace), ours.clone(), move |live| {
            account(&live.metadata)
        })
        .watches(
            scoped::<PartialObjectMeta<PodDisruptionBudget>>(client, namespace),
            ours.clone(),
            move |live| budget(&live.metadata),
        )
        .watches(scoped::<PartialObjectMeta<NetworkPolicy>>(client, namespace), ours, move |live| {
            policy(&live.metadata)
        })
        .watches(scoped::<PartialObjectMeta<Secret>>(client, namespace), all.clone(), move |live| {
            secret(&live.metadata)
        })
        .watches(scoped::<PartialObjectMeta<ConfigMap>>(client, namespace), all, move |live| {
            map(&live.metadata)
        })
        // Who works when is for the pools to say: what waits for a slow worker must not keep the others from theirs.
        .with_config(kube::runtime::controller::Config::default().concurrency(0))
        .graceful_shutdown_on(async move { shutdown.requested().await })
        .run(reconcile, error_policy, context)
        .for_each(|result| {
            // Also when one is gone: the controller looks for it once more.
            let unread = all_read.state().iter().filter(|object| object.0.is_err()).count();
            metrics.set_invalid(&scope, unread);
            async move {
                if let Err(error) = result {
                    tracing::debug!(%error, "controller");
                }
            }
        })
        .await;
}

/// Sees to it that pipelines are looked at, and not only glanced at.
fn wake(context: &Context, pipelines: Vec<ObjectRef<Guarded>>) -> Vec<ObjectRef<Guarded>> {
    for pipeline in &pipelines {
        let namespace = pipeline.namespace.clone().unwrap_or_default();
        context.engine.rests.wake(&PipelineName::new(namespace, pipeline.name.clone()).to_string());
    }
    pipelines
}

/// The pipelines that own an object.
fn owners(meta: &ObjectMeta) -> Vec<ObjectRef<Guarded>> {
    let owners = meta.owner_references.iter().flatten();
    let pipelines = owners.filter(|owner| owner.kind == AnalyticsPipeline::kind(&()));
    let of = |owner: &OwnerReference| {
        ObjectRef::new(&owner.name).within(meta.namespace.as_deref().unwrap_or_default())
    };
    pipelines.map(of).collect()
}

/// The pipelines that name a Secret or ConfigMap or own it, and the one whose dashboards it is for.
fn concerned(context: &Context, holder: Holder, meta: &ObjectMeta) -> Vec<ObjectRef<Guarded>> {
    let (namespace, name) =
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
    let made_for = label("app.kubernetes.io/instance")
        .filter(|_| label("app.kubernetes.io/component").is_some_and(|component| component == COMPONENT));
    let names = context.concerns.of(namespace, holder, name).into_iter().chain(made_for.cloned());
    names.map(|name| ObjectRef::new(&name).within(namespace)).chain(owners(meta)).collect()
}
