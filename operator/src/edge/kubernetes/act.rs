//! Carries out one Kubernetes effect: server-side apply or deletion, in a cluster or in a folder. I/O.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use k8s_openapi::ByteString;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tidemark_crds::names::{FIELD_MANAGER, PipelineName};

use tidemark_runtime::credentials::Secret;

use crate::core::desired::owned::{conflict, is_owned};
use crate::core::effect::KubernetesEffect;
use crate::core::facts::{Failure, FailureClass};
use crate::edge::kubernetes::look::{failure, shapeless, timed_out};
use crate::edge::kubernetes::objects::{ObjectStore, api, file};

/// Carries out `effect` for the pipeline `name`, whose resource has `uid`.
pub async fn apply(
    store: &ObjectStore,
    name: &PipelineName,
    uid: Option<&str>,
    effect: &KubernetesEffect,
) -> Result<(), Failure> {
    match store {
        ObjectStore::Cluster(client, deadline) => {
            tokio::time::timeout(*deadline, apply_cluster(client, name, uid, effect))
                .await
                .map_err(|_| timed_out(*deadline))?
        }
        ObjectStore::Folder(folder) => {
            let written = match effect {
                KubernetesEffect::Apply { object, data } => {
                    let text = serde_yaml_ng::to_string(&with_data(object, data)).unwrap_or_default();
                    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let path = file(folder, &part(&object["kind"]), &part(&object["metadata"]["name"]));
                    std::fs::create_dir_all(folder).and_then(|()| write(&path, &text, data.is_empty()))
                }
                KubernetesEffect::Delete(own) => std::fs::remove_file(file(folder, &own.kind, &own.name)),
            };
            written.map_err(|error| {
                let text = format!("the folder {} cannot be written: {error}", folder.display());
                Failure::new(FailureClass::Remote, text)
            })
        }
    }
}

async fn apply_cluster(
    client: &kube::Client,
    name: &PipelineName,
    uid: Option<&str>,
    effect: &KubernetesEffect,
) -> Result<(), Failure> {
    match effect {
        KubernetesEffect::Apply { object, data } => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, object_name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            let api = api(client, &name.namespace, &text(&object["apiVersion"]), &kind);
            let live = api.get_opt(&object_name).await.map_err(|error| failure(&error))?;
            let live = live.and_then(|live| serde_json::to_value(live).ok());
            // Made by another since it was planned.
            if let Some(live) = live.filter(|live| !is_owned(name, uid, live)) {
                let message = conflict(&kind, &object_name, &live).message;
                return Err(Failure::new(FailureClass::Remote, message));
            }
            // Forced: fields of these objects have one owner, and drift is put right.
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied = api.patch(&object_name, &params, &Patch::Apply(with_data(object, data))).await;
            let applied = applied.map_err(|error| explained(failure(&error), &kind))?;
            if applied.metadata.name.as_deref() != Some(object_name.as_str()) {
                return Err(shapeless());
            }
            Ok(())
        }
        KubernetesEffect::Delete(own) => {
            let api = api(client, &name.namespace, &own.api_version, &own.kind);
            let Some(live) = api.get_opt(&own.name).await.map_err(|error| failure(&error))? else {
                return Ok(());
            };
            let resource_version = live.metadata.resource_version.clone();
            let live = serde_json::to_value(live).map_err(|_| shapeless())?;
            if !is_owned(name, uid, &live) {
                let message = conflict(&own.kind, &own.name, &live).message;
                return Err(Failure::new(FailureClass::Remote, message));
            }
            // Only what was seen: never an object that another made under the same name, or made theirs, meanwhile.
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: own.uid.clone(), resource_version }),
                ..DeleteParams::background()
            };
            match api.delete(&own.name, &params).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(failure(&error)),
            }
        }
    }
}

/// The object with a Secret's data, in base64 as the API server wants it.
fn with_data(object: &Value, data: &BTreeMap<String, Secret>) -> Value {
    let mut object = object.clone();
    for (key, text) in data {
        object["data"][key] = json!(ByteString(text.expose().as_bytes().to_vec()));
    }
    object
}

/// The right to write Secrets is the one that the chart does not give by itself.
fn explained(mut failure: Failure, kind: &str) -> Failure {
    if failure.class == FailureClass::Permission && kind == "Secret" {
        failure.message += "; the chart gives the right with rbac.grafanaSidecar";
    }
    failure
}

fn write(path: &Path, text: &str, is_public: bool) -> std::io::Result<()> {
    let mode = if is_public { 0o644 } else { 0o600 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
