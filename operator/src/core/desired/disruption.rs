//! The sink's PodDisruptionBudget: a node drain takes one replica at a time. Pure.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{SinkInput, meta, selector_labels};

/// Builds the PodDisruptionBudget.
pub fn disruption_budget(input: &SinkInput<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(input, &input.name.sink()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector_labels(input.name)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
