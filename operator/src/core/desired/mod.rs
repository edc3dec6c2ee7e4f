//! What should be there, built from the spec and from facts. Pure.

pub mod access;
pub mod chosen;
mod claims;
pub mod connector;
mod dashboards;
pub mod disruption;
pub mod drift;
pub mod followed;
pub mod grafana;
pub mod held;
pub mod history;
pub mod layouts;
pub mod neighbours;
pub mod network;
pub mod owned;
pub mod part;
pub mod pipeline;
mod preset;
pub mod publication;
pub mod sidecar;
pub mod sink_config;
pub mod sink_deployment;
pub mod sink_objects;
pub mod source;
pub mod sql_lint;
pub mod tables;
pub mod topics;
pub mod views;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tidemark_crds::names::{FIELD_MANAGER, PipelineName};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

/// What the sink's Kubernetes objects are built from.
#[derive(Debug, Clone, Copy)]
pub struct SinkInput<'a> {
    /// Namespace and name of the pipeline.
    pub name: &'a PipelineName,
    /// `metadata.uid` of the resource; absent without a cluster, then nothing owns the objects.
    pub uid: Option<&'a str>,
    /// Image of the sink.
    pub image: &'a str,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
}

/// Labels that select the sink's pods; never changed, since a Deployment's selector is immutable.
pub fn selector_labels(name: &PipelineName) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "tidemark-sink"), ("app.kubernetes.io/instance", name.name.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Labels of every object of the sink.
pub fn labels(name: &PipelineName) -> BTreeMap<String, String> {
    let mut labels = selector_labels(name);
    labels.insert("app.kubernetes.io/component".into(), "sink".into());
    labels.insert("app.kubernetes.io/part-of".into(), "tidemark".into());
    labels.insert("app.kubernetes.io/managed-by".into(), FIELD_MANAGER.into());
    labels
}

/// Selector of the sink's pods as text, for the scale subresource.
pub fn selector_text(name: &PipelineName) -> String {
    let parts: Vec<String> =
        selector_labels(name).iter().map(|(key, value)| format!("{key}={value}")).collect();
    parts.join(",")
}

fn meta(input: &SinkInput<'_>, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(input.name.namespace.clone()),
        labels: Some(labels(input.name)),
        owner_references: input.uid.map(|uid| vec![owner(input.name, uid)]),
        ..Default::default()
    }
}

/// The pipeline as the owner of an object.
fn owner(name: &PipelineName, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/v1alpha1", tidemark_crds::GROUP),
        kind: "AnalyticsPipeline".into(),
        name: name.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
