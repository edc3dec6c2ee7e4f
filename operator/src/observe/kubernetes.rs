//! Looks at the sink's objects. I/O, read only.

use std::path::Path;

use k8s_openapi::api::apps::v1::DeploymentStatus;
use tidemark_crds::names::PipelineName;

use crate::desired::sink_objects::KINDS;
use crate::facts::{Failure, FailureClass, KubernetesFacts, Observation};
use crate::objects::{DEADLINE, ObjectStore, api, file};

/// Reads every object of the sink; an answer of the API server that is not there yields no entry.
pub async fn observe(store: &ObjectStore, name: &PipelineName) -> Observation<KubernetesFacts> {
    let looked = match store {
        ObjectStore::Cluster(client) => observe_cluster(client, name).await,
        ObjectStore::Folder(folder) => observe_folder(folder, name),
    };
    match looked {
        Ok(facts) => Observation::Known(facts),
        Err(failure) => Observation::Unreachable(failure),
    }
}

async fn observe_cluster(client: &kube::Client, name: &PipelineName) -> Result<KubernetesFacts, Failure> {
    let looks = KINDS.map(|(api_version, kind)| {
        let api = api(client, &name.namespace, api_version, kind);
        async move {
            let object = tokio::time::timeout(DEADLINE, api.get_opt(&name.sink()))
                .await
                .map_err(|_| timed_out())?
                .map_err(|error| failure(&error))?;
            Ok::<_, Failure>((kind, object))
        }
    });
    let mut facts = KubernetesFacts::default();
    for (kind, object) in futures::future::try_join_all(looks).await? {
        let Some(object) = object else { continue };
        let value = serde_json::to_value(&object).unwrap_or_default();
        if kind == "Deployment" {
            let status: DeploymentStatus =
                serde_json::from_value(value["status"].clone()).unwrap_or_default();
            facts.sink_replicas = status.replicas.unwrap_or(0);
            // Replicas of an older template do not count as available ones of this spec.
            let current = status.observed_generation >= object.metadata.generation;
            facts.sink_available = if current { status.available_replicas.unwrap_or(0) } else { 0 };
        }
        facts.objects.insert(format!("{kind}/{}", name.sink()), value);
    }
    Ok(facts)
}

fn observe_folder(folder: &Path, name: &PipelineName) -> Result<KubernetesFacts, Failure> {
    let mut facts = KubernetesFacts::default();
    for (_, kind) in KINDS {
        let path = file(folder, kind, &name.sink());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(remote(format!("{} cannot be read: {error}", path.display()))),
        };
        let value: serde_json::Value = serde_yaml_ng::from_str(&text)
            .map_err(|error| remote(format!("{} is no manifest: {error}", path.display())))?;
        if kind == "Deployment" {
            // Whoever runs the sink without a cluster runs as many as the manifest says.
            let replicas = value["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok());
            facts.sink_replicas = replicas.unwrap_or(1);
            facts.sink_available = facts.sink_replicas;
        }
        facts.objects.insert(format!("{kind}/{}", name.sink()), value);
    }
    Ok(facts)
}

/// Class and short text of an error of the Kubernetes API.
pub fn failure(error: &kube::Error) -> Failure {
    let class = match error {
        kube::Error::Api(status) => match status.code {
            401 => FailureClass::Authentication,
            403 => FailureClass::Permission,
            429 | 500..=599 => FailureClass::Unreachable,
            _ => FailureClass::Remote,
        },
        _ => FailureClass::Unreachable,
    };
    let message = match error {
        kube::Error::Api(status) => format!("the API server answered {}: {}", status.code, status.message),
        other => format!("the API server gave no answer: {other}"),
    };
    Failure { class, message: message.chars().take(256).collect() }
}

/// The failure of a call that ran into its deadline.
pub fn timed_out() -> Failure {
    Failure {
        class: FailureClass::Unreachable,
        message: format!("the API server gave no answer within {} s", DEADLINE.as_secs()),
    }
}

fn remote(message: String) -> Failure {
    Failure { class: FailureClass::Remote, message }
}
