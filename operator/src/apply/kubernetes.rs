//! Carries out one Kubernetes effect: server-side apply or deletion, in a cluster or in a folder. I/O.

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use tidemark_crds::names::{FIELD_MANAGER, PipelineName};

use crate::effect::KubernetesEffect;
use crate::facts::{Failure, FailureClass};
use crate::objects::{DEADLINE, ObjectStore, api, file};
use crate::observe::kubernetes::{failure, timed_out};

/// Carries out `effect` for the pipeline `name`.
pub async fn apply(
    store: &ObjectStore,
    name: &PipelineName,
    effect: &KubernetesEffect,
) -> Result<(), Failure> {
    match store {
        ObjectStore::Cluster(client) => tokio::time::timeout(DEADLINE, apply_cluster(client, name, effect))
            .await
            .map_err(|_| timed_out())?,
        ObjectStore::Folder(folder) => {
            let written = match effect {
                KubernetesEffect::Apply { object } => {
                    let text = serde_yaml_ng::to_string(object).unwrap_or_default();
                    let kind = object["kind"].as_str().unwrap_or_default();
                    std::fs::create_dir_all(folder)
                        .and_then(|()| std::fs::write(file(folder, kind, &name.sink()), text))
                }
                KubernetesEffect::Delete { kind, name, .. } => std::fs::remove_file(file(folder, kind, name)),
            };
            written.map_err(|error| Failure {
                class: FailureClass::Remote,
                message: format!("the folder {} cannot be written: {error}", folder.display()),
            })
        }
    }
}

async fn apply_cluster(
    client: &kube::Client,
    name: &PipelineName,
    effect: &KubernetesEffect,
) -> Result<(), Failure> {
    match effect {
        KubernetesEffect::Apply { object } => {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let api = api(client, &name.namespace, &text(&object["apiVersion"]), &text(&object["kind"]));
            let object_name = text(&object["metadata"]["name"]);
            // Forced: fields of the sink's objects have one owner, and drift is put right.
            let params = PatchParams::apply(FIELD_MANAGER).force();
            api.patch(&object_name, &params, &Patch::Apply(object)).await.map_err(|error| failure(&error))?;
            Ok(())
        }
        KubernetesEffect::Delete { api_version, kind, name: object_name } => {
            let api = api(client, &name.namespace, api_version, kind);
            let Some(live) = api.get_opt(object_name).await.map_err(|error| failure(&error))? else {
                return Ok(());
            };
            // Only what was just seen: never an object that another made under the same name meanwhile.
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: live.metadata.uid, resource_version: None }),
                ..DeleteParams::background()
            };
            match api.delete(object_name, &params).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(failure(&error)),
            }
        }
    }
}
