//! Looks at the sink's objects. I/O, read only.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DeploymentStatus;
use kube::api::ListParams;
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_runtime::credentials::Secret;
use tidemark_runtime::in_words;

use crate::core::desired::sidecar;
use crate::core::desired::sink_objects::KINDS;
use crate::core::facts::{Failure, FailureClass, KubernetesFacts, Observation};
use crate::core::rollout::Rollout;
use crate::edge::failure;
use crate::edge::kubernetes::objects::{ObjectStore, api};

/// Reads every object of the sink; an answer of the API server that is not there yields no entry.
pub async fn observe(store: &ObjectStore, name: &PipelineName) -> Observation<KubernetesFacts> {
    let looked = match store {
        ObjectStore::Cluster(client, deadline) => observe_cluster(client, *deadline, name).await,
        ObjectStore::Folder(folder) => observe_folder(folder),
    };
    match looked {
        Ok(facts) => Observation::Known(facts),
        Err(failure) => Observation::Unreachable(failure),
    }
}

async fn observe_cluster(
    client: &kube::Client,
    deadline: Duration,
    name: &PipelineName,
) -> Result<KubernetesFacts, Failure> {
    let looks = KINDS.map(|(api_version, kind)| {
        let api = api(client, &name.namespace, api_version, kind);
        async move {
            let object = tokio::time::timeout(deadline, api.get_opt(&name.sink()))
                .await
                .map_err(|_| timed_out(deadline))?
                .map_err(|error| failure(&error))?;
            Ok::<_, Failure>((kind, object))
        }
    });
    let mut facts = KubernetesFacts::default();
    for (kind, object) in futures::future::try_join_all(looks).await? {
        let Some(object) = object else { continue };
        if object.metadata.name.as_deref() != Some(name.sink().as_str()) {
            return Err(shapeless());
        }
        let value = serde_json::to_value(&object).unwrap_or_default();
        if kind == "Deployment" {
            let status: DeploymentStatus =
                serde_json::from_value(value["status"].clone()).unwrap_or_default();
            facts.rollout = Rollout::of(&status, object.metadata.generation);
        }
        facts.objects.insert(format!("{kind}/{}", name.sink()), value);
    }
    let selector: Vec<String> =
        sidecar::labels(name).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    let looks = sidecar::KINDS.map(|kind| {
        let (api, params) = (api(client, &name.namespace, "v1", kind), params.clone());
        async move {
            let listed = tokio::time::timeout(deadline, api.list(&params)).await;
            let listed = listed.map_err(|_| timed_out(deadline))?;
            Ok::<_, Failure>((kind, listed.map_err(|error| failure(&error))?))
        }
    });
    for (kind, listed) in futures::future::try_join_all(looks).await? {
        for object in listed {
            let mut object = serde_json::to_value(&object).unwrap_or_default();
            object["apiVersion"] = json!("v1");
            insert(&mut facts, kind, object);
        }
    }
    Ok(facts)
}

/// Adds an object, a Secret's data apart from it. The items of a list come without their kind.
fn insert(facts: &mut KubernetesFacts, kind: &str, mut object: Value) {
    object["kind"] = json!(kind);
    let key = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    if kind == "Secret" {
        let data = object.as_object_mut().and_then(|object| object.remove("data")).unwrap_or_default();
        let data: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap_or_default();
        let text = |bytes: ByteString| Secret::new(String::from_utf8_lossy(&bytes.0));
        facts.secrets.insert(key.clone(), data.into_iter().map(|(key, bytes)| (key, text(bytes))).collect());
    }
    facts.objects.insert(key, object);
}

fn observe_folder(folder: &Path) -> Result<KubernetesFacts, Failure> {
    let mut facts = KubernetesFacts::default();
    let unread = |error: std::io::Error| remote(format!("{} cannot be read: {error}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(facts),
        Err(error) => return Err(unread(error)),
    };
    for entry in entries {
        let path = entry.map_err(unread)?.path();
        let text = std::fs::read_to_string(&path).map_err(unread)?;
        let value: Value = serde_yaml_ng::from_str(&text)
            .map_err(|error| remote(format!("{} is no manifest: {error}", path.display())))?;
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "Deployment" {
            // Whoever runs the sink without a cluster runs as many as the manifest says.
            let replicas = value["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok());
            let replicas = replicas.unwrap_or(1);
            facts.rollout = Rollout { replicas, available: replicas, updated: replicas, failure: None };
        }
        insert(&mut facts, &kind, value);
    }
    Ok(facts)
}

/// Class and short text of an error of the Kubernetes API.
pub fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let class = match status.code {
                401 => FailureClass::Authentication,
                403 => FailureClass::Permission,
                408 | 429 | 500..=599 => FailureClass::Unreachable,
                _ => FailureClass::Remote,
            };
            // What is no Status of Kubernetes is another server's page.
            let text = match status.reason.as_str() {
                UNPARSED => "and not as an API server does".to_owned(),
                _ => status.message.clone(),
            };
            failure::failure(class, format!("the API server answered {}: {text}", status.code))
        }
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => shapeless(),
        other => {
            // The innermost says what happened; those around it say in which layer.
            let mut cause = other.source();
            while let Some(inner) = cause.and_then(std::error::Error::source) {
                cause = Some(inner);
            }
            let text = cause.map_or_else(|| other.to_string(), ToString::to_string);
            failure::failure(FailureClass::Unreachable, format!("the API server gave no answer: {text}"))
        }
    }
}

/// An answer that cannot be read, or is of something else than what was asked for.
pub fn shapeless() -> Failure {
    let text =
        "the API server's answer is not of the expected shape: is it an API server that listens there?";
    failure::failure(FailureClass::Remote, text)
}

/// The reason that the client gives where an error is none of Kubernetes'.
const UNPARSED: &str = "Failed to parse error data";

/// The failure of a call that ran into its deadline.
pub fn timed_out(deadline: Duration) -> Failure {
    let text = format!("the API server gave no answer within {}", in_words(deadline));
    failure::failure(FailureClass::Unreachable, text)
}

fn remote(message: String) -> Failure {
    failure::failure(FailureClass::Remote, message)
}
