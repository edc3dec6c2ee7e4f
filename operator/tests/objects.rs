//! The sink's Kubernetes objects.

use serde_json::Value;
use tidemark_operator::core::desired::SinkInput;
use tidemark_operator::core::desired::drift::left;
use tidemark_operator::core::desired::part::Part;
use tidemark_operator::core::desired::sink_config::sink_config;
use tidemark_operator::core::desired::sink_objects::{key_of, plan_removal, plan_sink_objects, sink_objects};
use tidemark_operator::core::effect::{Effect, KubernetesEffect};
use tidemark_operator::core::facts::KubernetesFacts;

use crate::fixture::{Fixture, fixture};

fn input(fixture: &Fixture) -> SinkInput<'_> {
    SinkInput { name: &fixture.name, uid: Some("1234"), image: "tidemark-sink:test", spec: &fixture.spec }
}

fn built(fixture: &Fixture) -> Vec<Value> {
    let input = input(fixture);
    let routes = [("public.orders".parse().unwrap(), "orders".to_owned())];
    let config = sink_config(&fixture.spec, &fixture.name, "0badcafe", &routes, &fixture.paths).unwrap();
    sink_objects(&input, &config)
}

fn live(objects: &[Value]) -> KubernetesFacts {
    let objects = objects.iter().map(|object| (key_of(object), object.clone())).collect();
    KubernetesFacts { objects, ..KubernetesFacts::default() }
}

#[test]
fn the_objects_of_a_sink_are_as_reviewed() {
    insta::assert_yaml_snapshot!(built(&fixture()));
}

#[test]
fn objects_that_are_there_as_wanted_give_no_step_and_a_new_image_changes_the_deployment_alone() {
    let fixture = fixture();
    let (input, objects) = (input(&fixture), built(&fixture));
    assert_eq!(plan_sink_objects(&input, &objects, &live(&objects), &[]), Part::default());
    let mut old = objects.clone();
    old[5]["spec"]["template"]["spec"]["containers"][0]["image"] = "tidemark-sink:old".into();
    let part = plan_sink_objects(&input, &objects, &live(&old), &[]);
    assert_eq!(
        part.steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>(),
        ["change Deployment shop-sink"]
    );
}

#[test]
fn an_image_that_a_webhook_rewrites_is_put_right_once_and_then_left_and_named() {
    let fixture = fixture();
    let (input, objects) = (input(&fixture), built(&fixture));
    let mirrored = |objects: &[Value]| {
        let mut all = objects.to_vec();
        all[5]["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror/tidemark-sink:test".into();
        all
    };
    let first = live(&mirrored(&objects));
    assert_eq!(left(&objects, &first), Vec::<String>::new());
    let part = plan_sink_objects(&input, &objects, &first, &[]);
    let Effect::Kubernetes(KubernetesEffect::Apply { object, .. }) = &part.steps[0].effect else {
        panic!("{part:?}")
    };
    let mut applied = objects.clone();
    applied[5] = object.clone();
    let second = live(&mirrored(&applied));
    assert_eq!(plan_sink_objects(&input, &objects, &second, &[]), Part::default());
    let named = left(&objects, &second);
    assert!(named[0].starts_with("Deployment shop-sink: spec.template.spec.containers"), "{named:?}");
}

#[test]
fn an_object_of_somebody_else_is_named_and_neither_changed_nor_removed() {
    let fixture = fixture();
    let (input, objects) = (input(&fixture), built(&fixture));
    let mut others = objects.clone();
    others[5]["metadata"]["labels"] = serde_json::json!({"app": "theirs"});
    others[5]["metadata"]["ownerReferences"] = Value::Null;
    others[1]["metadata"]["ownerReferences"][0]["uid"] = "another life".into();
    let live = live(&others);
    let part = plan_sink_objects(&input, &objects, &live, &[]);
    let named: Vec<&str> = part.problems.iter().map(|problem| problem.object.as_str()).collect();
    assert_eq!((part.steps.len(), named), (0, vec!["ConfigMap shop-sink", "Deployment shop-sink"]));
    let removed = plan_removal(&fixture.name, Some("1234"), &live, &[]);
    assert!(!removed.iter().any(|step| named_in(&step.what, &["Deployment", "ConfigMap"])), "{removed:?}");
    assert_eq!(removed.len(), 4);
}

fn named_in(what: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| what.contains(kind))
}

#[test]
fn more_replicas_change_the_configuration_without_a_roll() {
    let before = built(&fixture());
    let mut scaled = fixture();
    scaled.spec.sink.replicas = 5;
    let after = built(&scaled);
    let template = |objects: &[Value]| objects[5]["spec"]["template"].clone();
    assert_eq!(template(&before), template(&after));
    assert_ne!(before[1]["data"], after[1]["data"]);
}

#[test]
fn no_object_holds_a_secret_value() {
    let text = serde_json::to_string(&built(&fixture())).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("PEM"));
}
