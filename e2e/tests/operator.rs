//! The operator against a real API server and real systems: apply, silence over a restart, deletion, leadership.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::{pipeline, program};
use tidemark_e2e::resources::{metric, metric_lines};
pub(crate) use tidemark_e2e::resources::{prepare, put};
use tidemark_e2e::stack::{PATIENCE, Process, Role, Signal, Stack, shared, wait_until};
use tidemark_operator::shell::config::OperatorConfig;
use tidemark_operator::shell::leader::Leadership;
use tidemark_operator::shell::{leader, run};
use tidemark_runtime::shell::{LogFormat, Shutdown};
use tokio::sync::watch;

/// Counter of reconciles.
const RECONCILES: &str = "controller_runtime_reconcile_total";
/// Counter of writes to the API server and to every other system.
const WRITES: &str = "tidemark_remote_writes_total";

/// An operator in this process.
pub(crate) struct Operator {
    listen: SocketAddr,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    pub(crate) fn start(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        Self::start_as(client, namespace, false)
    }

    fn start_as(client: &Client, namespace: &str, leader_election: bool) -> anyhow::Result<Self> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = OperatorConfig {
            watch_namespaces: vec![namespace.to_owned()],
            sink_image: "tidemark-sink:test".into(),
            log_format: LogFormat::Text,
            leader_election,
            namespace: Some(namespace.to_owned()),
            lease: leader::LEASE_NAME.to_owned(),
            cluster_id: None,
            denied_ranges: vec![],
            listen,
            concurrency: 4,
        };
        let (client, shutdown) = (client.clone(), Shutdown::default());
        let token = shutdown.clone();
        let task = tokio::spawn(async move { run::run_with(&config, client, token).await });
        Ok(Self { listen, shutdown, task })
    }

    /// Sum of a metric over its labels.
    async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        metric(self.listen, name).await
    }

    /// A metric's lines: labels and value.
    async fn metric_lines(&self, name: &str) -> anyhow::Result<Vec<String>> {
        metric_lines(self.listen, name).await
    }

    /// Waits until three reconciles in a row wrote nothing.
    async fn rest(&self) -> anyhow::Result<()> {
        rest_at(self.listen).await
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.trigger();
        tokio::time::timeout(Duration::from_secs(30), self.task)
            .await
            .context("the operator did not end")??
    }
}

/// A pipeline of the table of [`payments`], in the namespace of its name.
pub(crate) fn of_payments(stack: &Stack, name: &str) -> serde_json::Value {
    let mut manifest = pipeline(stack, name, &["public.payments"]);
    manifest["metadata"]["namespace"] = json!(name);
    manifest
}

pub(crate) async fn payments(stack: &Stack, name: &str) -> anyhow::Result<()> {
    stack.postgres().create_database(name).await?;
    let make = "CREATE TABLE payments (id bigint PRIMARY KEY, amount numeric(12, 2) NOT NULL); \
                INSERT INTO payments VALUES (1, 10.50), (2, 0.01)";
    stack.postgres().execute(Role::Shop, name, make).await
}

/// Waits for the last that can happen without a sink: the table's read is asked for.
pub(crate) async fn read_is_asked_for(stack: &Stack, database: &str) -> anyhow::Result<()> {
    let asked = format!(
        "SELECT count() FROM {database}._tidemark_ledger FINAL WHERE kind = 'read' AND value LIKE '%first load%'"
    );
    wait_until(PATIENCE, "the table's read to be asked for", || async {
        Ok((stack.clickhouse().query(&asked).await?.trim() == "1").then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_is_carried_out_a_restart_writes_nothing_and_its_deletion_leaves_nothing()
-> anyhow::Result<()> {
    const NAME: &str = "controlled";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    put(&pipelines, of_payments(stack, NAME)).await?;

    let operator = Operator::start(&client, NAME)?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAME);
    let condition = |kind: &'static str| {
        let pipelines = pipelines.clone();
        async move {
            let status = pipelines.get(NAME).await?.status.context("no status yet")?;
            let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
            let found = found.with_context(|| format!("no condition {kind}"))?;
            anyhow::Ok((found.status, found.reason, found.message))
        }
    };
    wait_until(PATIENCE, "the connector to run and the sink to be made", || async {
        let (status, reason, message) = condition("ConnectorRunning").await?;
        anyhow::ensure!(status == "True", "ConnectorRunning={status} {reason} {message}");
        deployments.get("controlled-sink").await?;
        let (_, reason, message) = condition("SinkAvailable").await?;
        // Nodes run no pods here: the Deployment is all that the operator can do.
        anyhow::ensure!(reason == "ReplicasUnavailable", "SinkAvailable {reason} {message}");
        let status = pipelines.get(NAME).await?.status.context("no status")?;
        anyhow::ensure!(status.observed_generation == Some(1), "the generation advances");
        Ok(Some(()))
    })
    .await?;
    read_is_asked_for(stack, NAME).await?;
    operator.rest().await?;
    operator.stop().await?;

    // What stands still: versions of all objects, over several reconciles of a new operator.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAME);
    let versions = || async {
        let found = pipelines.get(NAME).await?;
        anyhow::Ok((
            serde_json::to_string_pretty(&found.status)?,
            found.resource_version(),
            deployments.get("controlled-sink").await?.resource_version(),
            maps.get("controlled-sink").await?.resource_version(),
        ))
    };
    let before = versions().await?;
    let operator = Operator::start(&client, NAME)?;
    wait_until(PATIENCE, "three reconciles of the second operator", || async {
        Ok((operator.metric(RECONCILES).await? >= 3.0).then_some(()))
    })
    .await?;
    let writes = operator.metric_lines(WRITES).await?;
    assert_eq!(before, versions().await?, "a restart changed an object: {writes:#?}");
    assert!(operator.metric(WRITES).await?.abs() < f64::EPSILON, "a restart wrote something: {writes:#?}");

    pipelines.delete(NAME, &DeleteParams::default()).await?;
    wait_until(PATIENCE, "the finalizer to go", || async {
        match pipelines.get_opt(NAME).await? {
            None => Ok(Some(())),
            Some(left) => anyhow::bail!("still there: {:?}", left.status.map(|status| status.conditions)),
        }
    })
    .await?;
    let slots = stack
        .postgres()
        .query(
            Role::Superuser,
            NAME,
            "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE '%controlled%'",
        )
        .await?;
    assert!(slots.is_empty(), "slots were left: {slots:?}");
    assert!(deployments.get_opt("controlled-sink").await?.is_none(), "the sink was left");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_leaves_what_others_made_under_the_pipelines_names() -> anyhow::Result<()> {
    const NAME: &str = "neighbours";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    // A team's own Deployment, its topic, and the topic of another pipeline.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAME);
    let theirs = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "neighbours-sink"},
        "spec": {"selector": {"matchLabels": {"app": "theirs"}}, "template": {
            "metadata": {"labels": {"app": "theirs"}},
            "spec": {"containers": [{"name": "theirs", "image": "theirs"}]},
        }},
    });
    put(&deployments, theirs).await?;
    let topics = ["neighbours.audit", "neighbours.eu.public.payments"];
    for topic in topics {
        stack.kafka().create_topic(topic, 1).await?;
    }
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    let mut manifest = of_payments(stack, NAME);
    manifest["spec"]["deletionPolicy"] = json!({"topics": "Delete", "clickhouse": "Delete"});
    put(&pipelines, manifest).await?;
    let operator = Operator::start(&client, NAME)?;
    read_is_asked_for(stack, NAME).await?;
    wait_until(PATIENCE, "the Deployment of the others to be named", || async {
        let status = pipelines.get(NAME).await?.status.context("no status yet")?;
        let sink = status.conditions.into_iter().find(|condition| condition.type_ == "SinkAvailable");
        let sink = sink.context("no condition yet")?;
        anyhow::ensure!(sink.reason == "Conflict" && sink.message.contains("neighbours-sink"), "{sink:?}");
        Ok(Some(()))
    })
    .await?;
    let before = deployments.get("neighbours-sink").await?;

    pipelines.delete(NAME, &DeleteParams::default()).await?;
    wait_until(PATIENCE, "the finalizer to go", || async {
        match pipelines.get_opt(NAME).await? {
            None => Ok(Some(())),
            Some(left) => anyhow::bail!("still there: {:?}", left.status.map(|status| status.deletion)),
        }
    })
    .await?;
    operator.stop().await?;
    let after = deployments.get("neighbours-sink").await?;
    assert_eq!((before.uid(), before.resource_version()), (after.uid(), after.resource_version()));
    let mut left: Vec<String> = stack.kafka().topics().await?;
    left.retain(|topic| topic.contains("neighbours"));
    left.sort();
    assert_eq!(left, topics);
    Ok(())
}

/// A ClickHouse that takes connections and says nothing, for as long as it is held.
fn mute() -> anyhow::Result<(String, tokio::sync::mpsc::Receiver<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let url = format!("http://{}", listener.local_addr()?);
    let (sender, called) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            let _ = sender.try_send(());
        }
    });
    Ok((url, called))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_is_kept_until_the_last_reconcile_has_ended() -> anyhow::Result<()> {
    const NAME: &str = "leaving";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    let (url, mut called) = mute()?;
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    let mut manifest = of_payments(stack, NAME);
    manifest["spec"]["clickhouse"]["url"] = json!(url);
    put(&pipelines, manifest).await?;
    let operator = Operator::start_as(&client, NAME, true)?;
    // A reconcile is under way now, and is for seconds.
    tokio::time::timeout(PATIENCE, called.recv()).await?.context("nobody calls")?;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(client.clone(), NAME);
    let holder = || async {
        let spec = leases.get(leader::LEASE_NAME).await?.spec.context("a spec")?;
        anyhow::Ok(spec.holder_identity.unwrap_or_default())
    };
    assert_ne!(holder().await?, "");
    operator.shutdown.trigger();
    let asked = Instant::now();
    let mut given_back = None;
    while !operator.task.is_finished() {
        if holder().await?.is_empty() {
            given_back.get_or_insert_with(Instant::now);
        }
        tokio::task::yield_now().await;
    }
    operator.task.await??;
    assert_eq!(holder().await?, "", "kept by one that has ended");
    // The mute system is waited for until its deadline; the Lease goes with the process's last moments.
    let (whole, early) = (asked.elapsed(), given_back.map_or(Duration::ZERO, |at| at.elapsed()));
    assert!(whole > Duration::from_secs(3), "no reconcile was under way: {whole:?}");
    assert!(early < Duration::from_secs(2), "given back {early:?} before the last reconcile ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_leads_and_the_other_takes_over_when_it_ends() -> anyhow::Result<()> {
    const NAME: &str = "led";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    let leads = |of: &watch::Receiver<Leadership>| *of.borrow() != Leadership::No;
    let replica = |identity: &str| {
        let (sender, leads) = watch::channel(Leadership::No);
        let shutdown = Shutdown::default();
        let lease = (NAME.to_owned(), leader::LEASE_NAME.to_owned());
        let run = leader::run(client.clone(), lease, identity.into(), sender, shutdown.clone());
        (leads, shutdown, tokio::spawn(run))
    };
    let (first, first_shutdown, first_task) = replica("first");
    wait_until(PATIENCE, "the first to lead", || async { Ok(leads(&first).then_some(())) }).await?;
    let (second, second_shutdown, second_task) = replica("second");
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(client.clone(), NAME);
    let renewed =
        || async { anyhow::Ok(leases.get(leader::LEASE_NAME).await?.spec.and_then(|spec| spec.renew_time)) };
    let before = renewed().await?;
    wait_until(PATIENCE, "the Lease to be renewed", || async {
        Ok((renewed().await? != before).then_some(()))
    })
    .await?;
    assert!(leads(&first) && !leads(&second), "two lead, or none");
    first_shutdown.trigger();
    first_task.await?;
    wait_until(Duration::from_secs(20), "the second to lead", || async { Ok(leads(&second).then_some(())) })
        .await?;
    second_shutdown.trigger();
    second_task.await?;
    Ok(())
}

/// An operator as a process of its own, with its metrics at an address; `level` is that of its log.
pub(crate) fn operator_process(
    stack: &Stack,
    namespace: &str,
    name: &'static str,
    level: &str,
) -> anyhow::Result<(Process, SocketAddr)> {
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let kubeconfig = format!("KUBECONFIG={}", stack.api_server().kubeconfig().display());
    let (address, hostname, level) =
        (listen.to_string(), format!("HOSTNAME={name}"), format!("RUST_LOG={level}"));
    let program = program("tidemark")?.display().to_string();
    let words = [
        "env",
        &kubeconfig,
        &hostname,
        &level,
        &program,
        "run",
        "--namespace",
        namespace,
        "--listen",
        &address,
    ];
    let words = words.into_iter().chain(["--watch-namespaces", namespace, "--log-format", "text"]);
    Ok((stack.program(name, words.map(Into::into).collect()), listen))
}

/// Waits until three reconciles in a row wrote nothing.
pub(crate) async fn rest_at(listen: SocketAddr) -> anyhow::Result<()> {
    wait_until(PATIENCE, "three reconciles in a row without a write", || async {
        let writes = metric(listen, WRITES).await?;
        let reconciles = metric(listen, RECONCILES).await?;
        wait_until(PATIENCE, "three more reconciles", || async {
            Ok((metric(listen, RECONCILES).await? >= reconciles + 3.0).then_some(()))
        })
        .await?;
        let now = metric(listen, WRITES).await?;
        anyhow::ensure!(now - writes < 1.0, "{} writes in three reconciles", now - writes);
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_finds_its_term_over_and_writes_nothing() -> anyhow::Result<()> {
    const NAME: &str = "frozen";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    put(&pipelines, of_payments(stack, NAME)).await?;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(client.clone(), NAME);
    let held_by = |name: &'static str| {
        let leases = leases.clone();
        move || {
            let leases = leases.clone();
            async move {
                let lease = leases.get_opt(leader::LEASE_NAME).await?.and_then(|lease| lease.spec);
                let holder = lease.and_then(|spec| spec.holder_identity).unwrap_or_default();
                Ok(holder.starts_with(name).then_some(()))
            }
        }
    };
    let (first, first_at) = operator_process(stack, NAME, "frozen-first", "info")?;
    let (second, second_at) = operator_process(stack, NAME, "frozen-second", "info")?;
    first.spawn()?;
    wait_until(PATIENCE, "the first to lead", held_by("frozen-first")).await?;
    read_is_asked_for(stack, NAME).await?;
    second.spawn()?;
    wait_until(PATIENCE, "the second to look", || async {
        metric(second_at, "leader_election_master_status").await.map(Some)
    })
    .await?;

    rest_at(first_at).await?;
    let written = metric(first_at, WRITES).await?;
    first.signal(Signal::Stop)?;
    wait_until(PATIENCE, "the second to lead", held_by("frozen-second")).await?;
    // What the frozen one would put right if it still led.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAME);
    deployments.delete("frozen-sink", &DeleteParams::default()).await?;
    first.signal(Signal::Continue)?;
    wait_until(PATIENCE, "the second to put the sink right", || async {
        Ok(deployments.get_opt("frozen-sink").await?.map(drop))
    })
    .await?;
    wait_until(PATIENCE, "the first to have looked at the Lease again", || async {
        Ok((metric(first_at, "leader_election_master_status").await? < 0.5).then_some(()))
    })
    .await?;
    anyhow::ensure!(
        metric(first_at, WRITES).await? - written < 0.5,
        "it wrote after its term: {}",
        first.log_tail(20)
    );
    anyhow::ensure!(first.ended()?.is_none() && second.ended()?.is_none(), "one of them ended");
    held_by("frozen-second")().await?.context("the Lease went back to the one that was frozen")?;
    for process in [&first, &second] {
        process.stop().await?;
    }
    Ok(())
}
