//! What stands in for the nodes, which this cluster has not: Deployments that are said to be available. I/O.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(2);

/// Does so until it is aborted.
pub(super) async fn run(deployments: Api<Deployment>) {
    loop {
        if let Err(error) = round(&deployments).await {
            tracing::debug!(%error, "the stand-in is late");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(deployments: &Api<Deployment>) -> anyhow::Result<()> {
    for live in deployments.list(&ListParams::default()).await? {
        let wanted = live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = live.status.clone().unwrap_or_default();
        let is_told = status.observed_generation == live.metadata.generation
            && status.available_replicas.unwrap_or(0) == wanted;
        if !is_told {
            let status = json!({"status": {
                "observedGeneration": live.metadata.generation, "replicas": wanted, "updatedReplicas": wanted,
                "readyReplicas": wanted, "availableReplicas": wanted,
            }});
            let (params, patch) = (PatchParams::default(), Patch::Merge(status));
            deployments.patch_status(&live.name_any(), &params, &patch).await?;
        }
    }
    Ok(())
}
