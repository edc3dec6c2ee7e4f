//! The sink's Service and NetworkPolicy. Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::sink_deployment::PROBE_PORT;
use super::{SinkInput, meta, selector_labels};

/// Builds the headless Service that metrics are scraped through.
pub fn service(input: &SinkInput<'_>) -> Service {
    Service {
        metadata: meta(input, &input.name.sink()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(selector_labels(input.name)),
            ports: Some(vec![ServicePort {
                name: Some("metrics".into()),
                port: PROBE_PORT,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String("metrics".into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Builds the NetworkPolicy: probes and metrics come in, nothing else.
///
/// What goes out is not limited: brokers advertise addresses of their own, which the spec does not know.
pub fn network_policy(input: &SinkInput<'_>) -> NetworkPolicy {
    NetworkPolicy {
        metadata: meta(input, &input.name.sink()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(selector_labels(input.name)),
                ..Default::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(PROBE_PORT)),
                    protocol: Some("TCP".into()),
                    ..Default::default()
                }]),
                ..Default::default()
            }]),
            ..Default::default()
        }),
    }
}
