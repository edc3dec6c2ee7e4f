//! The resource as the API server has it now, not as a cache had it. I/O, read only.

use kube::api::Api;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::look::{failure, timed_out};
use crate::core::desired::pipeline::Subject;
use crate::core::facts::Failure;
use crate::edge::kubernetes::objects::ObjectStore;

/// Whether the resource is still the one that the subject was made of: the same life, the same spec, and being deleted
/// or not as it was then. Without a cluster there is nothing that could have changed.
pub async fn is_still(store: &ObjectStore, subject: &Subject<'_>) -> Result<bool, Failure> {
    let ObjectStore::Cluster(client, deadline) = store else {
        return Ok(true);
    };
    let name = subject.name;
    let api: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), &name.namespace);
    // Without a resourceVersion: read from the store itself.
    let read = tokio::time::timeout(*deadline, api.get_metadata_opt(&name.name))
        .await
        .map_err(|_| timed_out(*deadline))?;
    let live = read.map_err(|error| failure(&error))?;
    Ok(live.is_some_and(|live| {
        let metadata = live.metadata;
        metadata.uid.as_deref() == subject.uid
            && metadata.deletion_timestamp.is_some() == subject.deleting
            && metadata.generation == Some(subject.generation)
    }))
}
