//! One pipeline of the cluster: applied, awaited, deleted, and what it left behind. I/O.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::Api;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::Cluster;
use crate::oracle::{Oracle, Parameters};
use crate::stack::{Role, User, cache, wait_until};

/// The example that the README shows.
const EXAMPLE: &str = "../crds/generated/examples/shop.yaml";
/// How long a deletion may take: half of what the resource allows by default.
const DELETED: Duration = Duration::from_mins(3);

/// A pipeline of a cluster, by its name; it need not exist.
#[derive(Debug)]
pub struct Pipeline<'a> {
    cluster: &'a Cluster,
    name: PipelineName,
}

/// Returns the shipped example, the one that README shows.
pub fn example() -> anyhow::Result<Value> {
    let path = cache::e2e_folder().join(EXAMPLE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let object = Value::deserialize(document)?;
        if object["kind"] == "AnalyticsPipeline" {
            return Ok(object);
        }
    }
    anyhow::bail!("{} has no AnalyticsPipeline", path.display())
}

impl<'a> Pipeline<'a> {
    /// Names a pipeline of the cluster.
    pub fn new(cluster: &'a Cluster, namespace: &str, name: &str) -> Self {
        Self { cluster, name: PipelineName::new(namespace, name) }
    }

    /// Namespace and name, and the names of everything that comes from them.
    pub fn name(&self) -> &PipelineName {
        &self.name
    }

    /// Applies a manifest and returns when the API server has it.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<()> {
        self.cluster.kubectl().apply(&manifest.to_string()).await
    }

    /// Makes the pipeline's namespace with the Secrets that the components have in theirs.
    pub async fn prepare_namespace(&self) -> anyhow::Result<()> {
        let namespace = &self.name.namespace;
        let mut objects = vec![super::restricted(namespace)];
        let accounts = [
            ("shop-postgres", Role::Tidemark.name(), Role::Tidemark.password()),
            ("shop-clickhouse", User::Tidemark.name(), User::Tidemark.password()),
        ];
        objects.extend(accounts.map(|(secret, username, password)| {
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": secret, "namespace": namespace},
                "stringData": {"username": username, "password": password},
            })
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cluster.kubectl().apply(&list.to_string()).await
    }

    /// Reads the resource.
    pub async fn get(&self) -> anyhow::Result<AnalyticsPipeline> {
        Ok(self.api().get(&self.name.name).await?)
    }

    /// Waits until a condition is `True` for the spec as it is now.
    pub async fn wait_condition(&self, kind: &str, deadline: Duration) -> anyhow::Result<()> {
        self.wait_status(kind, "True", "", deadline).await
    }

    /// Waits until a condition has a status and, unless empty, a reason, for the spec as it is now.
    pub async fn wait_status(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        wait_until(deadline, &format!("{} to be {kind}={status} {reason}", self.name), || async {
            let resource = self.get().await?;
            let now = resource.status.clone().unwrap_or_default();
            let current = now.observed_generation == resource.metadata.generation;
            let holds = now.conditions.iter().any(|condition| {
                condition.type_ == kind
                    && condition.status == status
                    && (reason.is_empty() || condition.reason == reason)
            });
            ensure!(current && holds, "{}", explain(&resource));
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the pipeline is ready.
    pub async fn wait_ready(&self, deadline: Duration) -> anyhow::Result<()> {
        self.wait_condition("Ready", deadline).await
    }

    /// Returns the selector of the sink's pods, as the status has it for `kubectl scale` and autoscalers.
    pub async fn sink_selector(&self) -> anyhow::Result<String> {
        let selector = self.get().await?.status.and_then(|status| status.selector);
        selector.with_context(|| format!("the status of {} has no selector", self.name))
    }

    /// Deletes the resource and returns the time until it is gone.
    pub async fn delete(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let limit = format!("--timeout={}s", DELETED.as_secs());
        let PipelineName { namespace, name } = &self.name;
        let arguments = ["delete", "analyticspipeline", name, "--namespace", namespace, &limit];
        self.cluster.kubectl().run_for(&arguments, DELETED + Duration::from_secs(10)).await?;
        Ok(start.elapsed())
    }

    /// Deletes the whole namespace and returns the time until it is gone.
    pub async fn delete_namespace(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let limit = format!("--timeout={}s", DELETED.as_secs());
        let arguments = ["delete", "namespace", &self.name.namespace, &limit];
        self.cluster.kubectl().run_for(&arguments, DELETED + Duration::from_secs(10)).await?;
        Ok(start.elapsed())
    }

    /// Returns an oracle that compares the shop with a database of ClickHouse, as one of its users sees it.
    pub async fn oracle(&self, database: &str, user: User) -> anyhow::Result<Oracle> {
        let addresses = self.cluster.addresses();
        let mut parameters = Parameters::new(database);
        parameters.pipeline = self.name.to_string();
        Oracle::new(addresses.postgres(Role::Superuser).await?, addresses.clickhouse(user)?, parameters).await
    }

    /// Returns what of the pipeline is there outside ClickHouse and the table topics, each in words: what must
    /// be empty after a deletion under the default policy, and not before.
    pub async fn remains(&self) -> anyhow::Result<Vec<String>> {
        let mut all = self.remains_in_postgres().await?;
        let addresses = self.cluster.addresses();
        let connector = self.name.connector();
        let (status, _) = addresses.connect(&format!("/connectors/{connector}")).await?;
        if status != 404 {
            all.push(format!("connector {connector} (status {status})"));
        }
        if addresses.kafka().keeps_connector_offsets(&connector).await? {
            all.push(format!("offsets of connector {connector}"));
        }
        let groups = addresses.kafka().groups(&self.name.consumer_group_prefix()).await?;
        all.extend(groups.into_iter().map(|group| format!("consumer group {group}")));
        all.extend(self.remains_in_kubernetes().await?);
        Ok(all)
    }

    async fn remains_in_postgres(&self) -> anyhow::Result<Vec<String>> {
        let postgres = self.cluster.addresses().postgres(Role::Superuser).await?;
        let slot = self.name.replication_slot();
        let publication = self.name.publication();
        let found = postgres
            .query(
                "SELECT 'replication slot ' || slot_name FROM pg_replication_slots WHERE slot_name = $1::text
                 UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname = $2::text",
                &[&slot, &publication],
            )
            .await
            .context("asking PostgreSQL for slot and publication")?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }

    async fn remains_in_kubernetes(&self) -> anyhow::Result<Vec<String>> {
        let kinds = "analyticspipelines,deployments,replicasets,pods,configmaps,services,serviceaccounts,\
                     poddisruptionbudgets,networkpolicies,controllerrevisions";
        let PipelineName { namespace, name } = &self.name;
        let selector = format!("app.kubernetes.io/managed-by=tidemark,app.kubernetes.io/instance={name}");
        let arguments = ["get", kinds, "--namespace", namespace, "--selector", &selector, "--output=name"];
        let mut all: Vec<String> =
            self.cluster.kubectl().run(&arguments).await?.lines().map(str::to_owned).collect();
        if self.api().get_opt(name).await?.is_some() {
            all.push(format!("resource {}", self.name));
        }
        Ok(all)
    }

    fn api(&self) -> Api<AnalyticsPipeline> {
        Api::namespaced(self.cluster.kube(), &self.name.namespace)
    }
}

/// Returns what a resource says of itself, for an error.
fn explain(resource: &AnalyticsPipeline) -> String {
    let status = resource.status.clone().unwrap_or_default();
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .map(|condition| {
            format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message)
        })
        .collect();
    format!(
        "generation {:?}, observed {:?}\n  {}",
        resource.metadata.generation,
        status.observed_generation,
        conditions.join("\n  ")
    )
}
