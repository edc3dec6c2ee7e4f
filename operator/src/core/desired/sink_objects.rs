//! All Kubernetes objects of the sink, and the steps that bring the live ones there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::Resource;
use serde::Serialize;
use serde_json::{Value, json};
use tidemark_crds::names::{PipelineName, short_hash};
use tidemark_crds::sink_config::SinkConfig;

use super::SinkInput;
use super::access::service_account;
use super::disruption::disruption_budget;
use super::drift::{self, Verdict};
use super::network::{network_policy, service};
use super::owned::{conflict, is_owned, own};
use super::part::Part;
use super::sink_deployment::{config_map, deployment};
use crate::core::effect::{Effect, KubernetesEffect};
use crate::core::facts::KubernetesFacts;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// Annotation with the hash of what was applied: tells a field that is no longer wanted from one that
/// the API server added.
pub const APPLIED_ANNOTATION: &str = "tidemark.dev/applied";

/// Kind and apiVersion of each object of the sink, in the order in which they are made.
pub const KINDS: [(&str, &str); 6] = [
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("apps/v1", "Deployment"),
];

/// Builds the objects in the order of [`KINDS`].
pub fn sink_objects(input: &SinkInput<'_>, config: &SinkConfig) -> Vec<Value> {
    vec![
        object(&service_account(input)),
        object(&config_map(input, config)),
        object(&service(input)),
        object(&disruption_budget(input)),
        object(&network_policy(input)),
        object(&deployment(input, config)),
    ]
}

fn object<K: Resource + Serialize>(typed: &K) -> Value {
    let mut value = serde_json::to_value(typed).expect("a Kubernetes object is plain data");
    value["apiVersion"] = json!(K::API_VERSION);
    value["kind"] = json!(K::KIND);
    let hash = short_hash(&value.to_string());
    value["metadata"]["annotations"] = json!({ APPLIED_ANNOTATION: hash });
    value
}

/// Plans what differs; an object that is as it should be gives no step, and one of somebody else a problem.
pub fn plan_sink_objects(
    input: &SinkInput<'_>,
    desired: &[Value],
    live: &KubernetesFacts,
    needs: &[Fact],
) -> Part {
    let mut part = Part::default();
    for object in desired {
        let key = key_of(object);
        let (kind, name) = key.split_once('/').unwrap_or_default();
        let (step, object) = match live.objects.get(&key) {
            None => ((StepKind::Create, "create"), object.clone()),
            Some(live) if !is_owned(input.name, input.uid, live) => {
                part.problems.push(conflict(kind, name, live));
                continue;
            }
            Some(live) => match drift::compare(live, object) {
                Verdict::Apply(object) => ((StepKind::Change, "change"), object),
                Verdict::Same | Verdict::Left(_) => continue,
            },
        };
        let gives = (kind == "Deployment").then_some(Fact::Sink);
        let effect = Effect::Kubernetes(KubernetesEffect::Apply { object, data: BTreeMap::new() });
        part.step((Stage::Sink, step.0), format!("{} {kind} {name}", step.1), needs.to_vec(), gives, effect);
    }
    part
}

/// `Kind/name` of an object.
pub fn key_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Plans the removal of every object of the sink that is there and the pipeline's, the Deployment first.
pub fn plan_removal(
    name: &PipelineName,
    uid: Option<&str>,
    live: &KubernetesFacts,
    needs: &[Fact],
) -> Vec<Step> {
    let removal = |(api_version, kind): &(&str, &str)| {
        let object = live.objects.get(&format!("{kind}/{}", name.sink()))?;
        let own = own(name, uid, (api_version, kind), object)?;
        Some(Step {
            stage: Stage::RemoveSink,
            kind: StepKind::Drop,
            what: format!("delete {kind} {}", name.sink()),
            needs: needs.to_vec(),
            gives: None,
            effect: Effect::Kubernetes(KubernetesEffect::Delete(own)),
        })
    };
    KINDS.iter().rev().filter_map(removal).collect()
}

/// Whether a live value has everything that the desired one says: objects may have more fields, lists must
/// have the same elements, quantities may be written differently.
pub fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| live.get(key).map_or_else(|| is_empty(value), |live| covers(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| covers(live, desired))
        }
        (Value::String(live), Value::String(desired)) => {
            live == desired || quantity(live).is_some_and(|live| quantity(desired) == Some(live))
        }
        _ => live == desired,
    }
}

/// Whether it is an empty map or list: the API server drops these.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// A Kubernetes quantity in thousandths, as far as it is one.
fn quantity(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let thousandths: i128 = match suffix {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(value.checked_mul(thousandths)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_adds_or_rewrites_is_no_difference() {
        let desired = json!({"spec": {"replicas": 2, "cpu": "1000m", "memory": "0.5Gi", "none": {}}});
        let live =
            json!({"spec": {"replicas": 2, "cpu": "1", "memory": "512Mi", "paused": false}, "status": {}});
        assert!(covers(&live, &desired));
    }

    #[test]
    fn another_value_a_missing_field_or_a_longer_list_is_a_difference() {
        for live in [json!({"a": 2, "l": [1]}), json!({"l": [1]}), json!({"a": 1, "l": [1, 2]})] {
            assert!(!covers(&live, &json!({"a": 1, "l": [1]})), "{live}");
        }
        assert!(!covers(&json!("v1.0"), &json!("v1.00")), "names are no quantities");
    }
}
