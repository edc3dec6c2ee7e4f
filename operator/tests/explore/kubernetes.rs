//! The objects of a namespace, and the resource itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidemark_crds::sink_config::SinkConfig;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::desired::owned::{conflict, is_owned};
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::desired::sidecar;
use tidemark_operator::core::effect::KubernetesEffect;
use tidemark_operator::core::facts::{Failure, KubernetesFacts};
use tidemark_operator::core::rollout::Rollout;
use tidemark_runtime::credentials::Secret;

use super::estate::{Ids, remote};

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Namespace {
    /// Objects by `Kind/name`.
    pub(super) objects: BTreeMap<String, Value>,
    /// Data of the Secrets.
    pub(super) data: BTreeMap<String, BTreeMap<String, Secret>>,
    /// Deployments whose pods run.
    pub(super) running: BTreeSet<String>,
    pub(super) resource: Option<Resource>,
    /// The one whose deletion ended last, if nothing was left behind.
    pub(super) gone: Option<Resource>,
}

/// An AnalyticsPipeline as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resource {
    pub(super) uid: String,
    pub(super) generation: i64,
    /// The spec as JSON.
    pub(super) spec: Value,
    /// The last spec that was valid, as a revision keeps it.
    pub(super) last_valid: Option<Value>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) deleting: bool,
    pub(super) finalizer: bool,
    pub(super) status: AnalyticsPipelineStatus,
}

impl Namespace {
    pub(super) fn look(&self, subject: &Subject<'_>) -> KubernetesFacts {
        let name = subject.name.sink();
        let named = |key: &str| key.split_once('/').is_some_and(|(_, of)| of == name);
        let labels = sidecar::labels(subject.name);
        let labelled = |object: &Value| {
            labels.iter().all(|(key, value)| object["metadata"]["labels"][key] == value.as_str())
        };
        let seen = |key: &str, object: &Value| named(key) || labelled(object);
        let objects: BTreeMap<String, Value> = (self.objects.iter().filter(|(key, live)| seen(key, live)))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let deployment = objects.get(&format!("Deployment/{name}"));
        let replicas = deployment.map_or(0, replicas);
        let rollout = if self.running.contains(&name) {
            Rollout { replicas, available: replicas, updated: replicas, failure: None }
        } else {
            Rollout { replicas, ..Rollout::default() }
        };
        KubernetesFacts { objects, secrets: self.data.clone(), rollout }
    }

    pub(super) fn act(
        &mut self,
        subject: &Subject<'_>,
        effect: &KubernetesEffect,
        ids: &mut Ids,
    ) -> Result<(), Failure> {
        match effect {
            KubernetesEffect::Apply { object, data } => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
                let key = format!("{kind}/{name}");
                let live = self.objects.get(&key);
                if let Some(live) = live.filter(|live| !is_owned(subject.name, subject.uid, live)) {
                    return Err(remote(conflict(&kind, &name, live).message));
                }
                let uid =
                    live.map_or_else(|| json!(ids.name("object")), |live| live["metadata"]["uid"].clone());
                let mut object = object.clone();
                object["metadata"]["uid"] = uid;
                if kind == "Secret" {
                    self.data.insert(key.clone(), data.clone());
                }
                self.objects.insert(key, object);
            }
            KubernetesEffect::Delete(own) => {
                let key = format!("{}/{}", own.kind, own.name);
                let live = self.objects.get(&key).and_then(|live| live["metadata"]["uid"].as_str());
                if own.uid.is_some() && live.is_some() && live != own.uid.as_deref() {
                    return Err(remote("the UID in the precondition does not match".into()));
                }
                self.objects.remove(&key);
                self.data.remove(&key);
            }
        }
        Ok(())
    }

    /// What its controllers do: what belongs to a life that is over goes, pods are made, and end.
    pub(super) fn tick(&mut self) {
        let live = self.resource.as_ref().map(|resource| resource.uid.clone());
        self.objects.retain(|_, object| {
            let owner = object["metadata"]["ownerReferences"][0]["uid"].as_str();
            owner == live.as_deref() || owner.is_none_or(|owner| !owner.starts_with("resource-"))
        });
        let is_deployment = |key: &&String| key.starts_with("Deployment/");
        let wanted = |key: &String| key.trim_start_matches("Deployment/").to_owned();
        self.running = (self.objects.iter())
            .filter(|(key, object)| is_deployment(key) && replicas(object) > 0)
            .map(|(key, _)| wanted(key))
            .collect();
    }

    /// Configurations of the sinks whose pods run.
    pub(super) fn sinks(&self) -> Vec<SinkConfig> {
        let config = |name: &String| {
            let data = self.objects.get(&format!("ConfigMap/{name}"))?["data"].as_object()?.clone();
            data.values().find_map(|text| serde_json::from_str(text.as_str()?).ok())
        };
        self.running.iter().filter_map(config).collect()
    }
}

fn replicas(deployment: &Value) -> i32 {
    deployment["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(1)
}
