//! The pipelines: one PostgreSQL database with a table each, a ClickHouse database, a topic prefix and a connector each.
//! The connectors are paused by the spec: one Connect worker would not bear as many that run, and PostgreSQL not as many
//! replication slots. I/O.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidemark_crds::pipeline::AnalyticsPipeline;

use crate::chain::pipeline;
use crate::resources::{prepare, put};
use crate::stack::{Component, Role, Stack, wait_until};

/// The source, and the namespace of all pipelines.
pub(super) const DATABASE: &str = "fleet";
/// The other namespace with objects of others.
const ELSEWHERE: &str = "elsewhere";
/// Requests to the API server at the same time.
const AT_ONCE: usize = 8;
/// Bytes of a Secret or ConfigMap of others.
const PAYLOAD: usize = 2_000;

/// The pipelines, as whoever applies and watches them has them.
#[derive(Clone)]
pub(super) struct Fleet {
    client: Client,
    pipelines: Api<AnalyticsPipeline>,
    size: u32,
    /// A manifest, for those that hang.
    pattern: Value,
}

impl Fleet {
    /// Makes the source and applies the pipelines.
    pub(super) async fn prepare(stack: &Stack, size: u32) -> anyhow::Result<Self> {
        let client = stack.api_server().client().await?;
        prepare(&client, DATABASE).await?;
        let postgres = stack.postgres();
        let preload = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'";
        postgres.execute(Role::Superuser, "postgres", preload).await?;
        postgres.restart().await?;
        postgres.create_database(DATABASE).await?;
        postgres.execute(Role::Superuser, DATABASE, "CREATE EXTENSION pg_stat_statements").await?;
        let table = |number| {
            format!("CREATE TABLE t{number:04} (id bigint PRIMARY KEY, note text, amount numeric(12, 2));\n")
        };
        postgres.execute(Role::Shop, DATABASE, &(0..size).map(table).collect::<String>()).await?;
        let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), DATABASE);
        let manifests = (0..size).map(|number| manifest(stack, number));
        let applied = stream::iter(manifests).map(|manifest| put(&pipelines, manifest));
        applied.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(Self { client, pipelines, size, pattern: manifest(stack, 0) })
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), DATABASE)
    }

    /// What is not carried out yet, a line each.
    pub(super) async fn unsettled(&self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        for live in self.pipelines.list(&ListParams::default()).await? {
            let name = live.metadata.name.clone().unwrap_or_default();
            let status = live.status.unwrap_or_default();
            let paused = status.conditions.iter().any(|it| it.reason == "ConnectorPaused");
            if !paused || status.observed_generation != live.metadata.generation {
                let conditions = status.conditions.iter().filter(|it| it.status != "True");
                let conditions: Vec<String> =
                    conditions.map(|it| format!("{} {}: {}", it.type_, it.reason, it.message)).collect();
                lines.push(format!("{name}: {conditions:?}"));
            }
        }
        Ok(lines)
    }

    /// Changes the spec of a pipeline so that its Deployment has to change; the generation of the change.
    pub(super) async fn edit(&self, number: u32) -> anyhow::Result<i64> {
        let name = name(number);
        let live = self.pipelines.get(&name).await?;
        let generation = live.metadata.generation.unwrap_or(0);
        let memory = format!("{}Mi", 256 + generation);
        let spec = json!({"spec": {"sink": {"resources": {"requests": {"memory": memory}}}}});
        let edited = self.pipelines.patch(&name, &PatchParams::default(), &Patch::Merge(spec)).await?;
        edited.metadata.generation.context("a resource has a generation")
    }

    /// Whether the Deployment and the status show a generation of [`edit`](Self::edit).
    pub(super) async fn shows(&self, number: u32, generation: i64) -> anyhow::Result<bool> {
        let name = name(number);
        let live = self.pipelines.get(&name).await?;
        let observed = live.status.and_then(|status| status.observed_generation);
        let deployment = self.deployments().get(&format!("{name}-sink")).await?;
        let deployment = serde_json::to_value(&deployment)?;
        let memory =
            &deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"];
        let wanted = format!("{}Mi", 255 + generation);
        Ok(observed == Some(generation) && memory.as_str() == Some(wanted.as_str()))
    }

    /// Makes Secrets that no pipeline names, half of them beside the pipelines, and a sixth as many ConfigMaps.
    pub(super) async fn make_foreign(&self, count: u32) -> anyhow::Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}});
        put(&Api::<Namespace>::all(self.client.clone()), namespace).await?;
        let payload = "x".repeat(PAYLOAD);
        let object = |kind: &str, number: u32| {
            let key = if kind == "Secret" { "stringData" } else { "data" };
            json!({
                "apiVersion": "v1", "kind": kind, "metadata": {"name": format!("foreign-{number}")},
                key: {"payload": payload},
            })
        };
        let params = PostParams::default();
        let place = |number: u32| if number.is_multiple_of(2) { DATABASE } else { ELSEWHERE };
        let secrets = stream::iter(0..count).map(|number| {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), place(number));
            let (object, params) = (object("Secret", number), &params);
            async move { anyhow::Ok(api.create(params, &serde_json::from_value(object)?).await?) }
        });
        secrets.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        let maps = stream::iter(0..count / 6).map(|number| {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), place(number));
            let (object, params) = (object("ConfigMap", number), &params);
            async move { anyhow::Ok(api.create(params, &serde_json::from_value(object)?).await?) }
        });
        maps.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }

    /// Applies pipelines all of whose systems are a port that takes connections and never answers; waits until each
    /// has a status.
    pub(super) async fn apply_hanging(&self, count: u32, port: u16) -> anyhow::Result<()> {
        for number in 0..count {
            let mut manifest = self.pattern.clone();
            let name = format!("hangs-{number:04}");
            manifest["metadata"]["name"] = json!(name);
            let spec = &mut manifest["spec"];
            spec["source"]["postgres"]["port"] = json!(port);
            spec["source"]["connect"]["url"] = json!(format!("http://127.0.0.1:{port}"));
            spec["kafka"]["bootstrapServers"] = json!(format!("127.0.0.1:{port}"));
            spec["kafka"]["topicPrefix"] = json!(name);
            spec["clickhouse"]["url"] = json!(format!("http://127.0.0.1:{port}"));
            put(&self.pipelines, manifest).await?;
        }
        wait_until(Duration::from_mins(10), "the pipelines that hang to have a status", || async {
            let all = self.pipelines.list(&ListParams::default()).await?;
            let silent = all.iter().filter(|live| live.status.is_none()).count();
            anyhow::ensure!(silent == 0, "{silent} have none");
            Ok(Some(()))
        })
        .await
    }
}

fn name(number: u32) -> String {
    format!("fleet-{number:04}")
}

fn manifest(stack: &Stack, number: u32) -> Value {
    let table = format!("public.t{number:04}");
    let mut manifest = pipeline(stack, DATABASE, &[&table]);
    let name = name(number);
    manifest["metadata"]["name"] = json!(name);
    manifest["metadata"]["namespace"] = json!(DATABASE);
    let spec = &mut manifest["spec"];
    spec["source"]["connect"]["state"] = json!("Paused");
    spec["kafka"]["topicPrefix"] = json!(name);
    spec["kafka"]["topics"]["partitions"] = json!(1);
    spec["clickhouse"]["database"] = json!(name.replace('-', "_"));
    manifest
}
