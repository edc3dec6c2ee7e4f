//! The last valid specs as owned `ControllerRevision`s: an invalid spec leaves the last good one running. I/O.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use tidemark_crds::names::FIELD_MANAGER;
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};

/// Revisions that are kept.
const KEPT: usize = 5;
const LABEL: &str = "tidemark.dev/pipeline";

fn params(name: &str) -> ListParams {
    ListParams::default().labels(&format!("{LABEL}={name}"))
}

/// The revisions of this resource, the newest first.
async fn list(
    api: &Api<ControllerRevision>,
    resource: &ObjectMeta,
) -> Result<Vec<ControllerRevision>, kube::Error> {
    let all = api.list(&params(resource.name.as_deref().unwrap_or_default())).await?.items;
    Ok(of_resource(all, resource.uid.as_deref()))
}

/// Those that the resource with `uid` owns, the newest first: a former one of its name may have left some, with greater
/// numbers.
fn of_resource(all: Vec<ControllerRevision>, uid: Option<&str>) -> Vec<ControllerRevision> {
    let owned = |revision: &ControllerRevision| {
        revision.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid)
    };
    let mut all: Vec<ControllerRevision> = all.into_iter().filter(owned).collect();
    all.sort_by_key(|revision| std::cmp::Reverse(revision.revision));
    all
}

fn spec_of(revision: &ControllerRevision) -> Option<AnalyticsPipelineSpec> {
    serde_json::from_value(revision.data.as_ref()?.0.clone()).ok()
}

/// Keeps the spec of `pipeline`, unless the newest revision has it; the oldest beyond five go.
pub async fn keep(client: &kube::Client, pipeline: &AnalyticsPipeline) -> Result<(), kube::Error> {
    let api: Api<ControllerRevision> =
        Api::namespaced(client.clone(), &pipeline.namespace().unwrap_or_default());
    let name = pipeline.name_any();
    let all = list(&api, &pipeline.metadata).await?;
    if all.first().and_then(spec_of).as_ref() == Some(&pipeline.spec) {
        return Ok(());
    }
    let generation = pipeline.metadata.generation.unwrap_or(0);
    let mut revision = ControllerRevision {
        revision: generation,
        data: serde_json::to_value(&pipeline.spec).ok().map(RawExtension),
        ..ControllerRevision::default()
    };
    revision.metadata.name = Some(format!("{name}-{generation}-{}", uid_start(pipeline)));
    revision.metadata.labels = Some([(LABEL.to_owned(), name.clone())].into());
    revision.metadata.owner_references = Some(pipeline.controller_owner_ref(&()).into_iter().collect());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &revision).await {
        Ok(_) => {}
        // Another replica that led a moment ago has written it.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    for old in all.iter().skip(KEPT - 1) {
        api.delete(&old.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

/// A re-made pipeline starts at generation 1 again: its revisions must not meet those of the old one.
fn uid_start(pipeline: &AnalyticsPipeline) -> String {
    pipeline.uid().unwrap_or_default().chars().take(8).collect()
}

/// The newest spec of a resource that was kept and can be read.
pub async fn last_valid(
    client: &kube::Client,
    resource: &ObjectMeta,
) -> Result<Option<AnalyticsPipelineSpec>, kube::Error> {
    let api: Api<ControllerRevision> =
        Api::namespaced(client.clone(), resource.namespace.as_deref().unwrap_or_default());
    Ok(list(&api, resource).await?.iter().find_map(spec_of))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    #[test]
    fn a_revision_of_a_former_life_is_none_of_this_one() {
        let revision = |number: i64, uid: Option<&str>| {
            let mut revision = ControllerRevision { revision: number, ..ControllerRevision::default() };
            let owner = |uid: &str| OwnerReference { uid: uid.into(), ..OwnerReference::default() };
            revision.metadata.owner_references = uid.map(|uid| vec![owner(uid)]);
            revision
        };
        let all = vec![
            revision(1, Some("new")),
            revision(7, Some("old")),
            revision(9, None),
            revision(2, Some("new")),
        ];
        let found: Vec<i64> = of_resource(all, Some("new")).iter().map(|found| found.revision).collect();
        assert_eq!(found, [2, 1]);
    }
}
