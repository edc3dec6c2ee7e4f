//! An API server that merges what is applied, and others that write into it. Pure.

use proptest::prelude::*;

use super::*;

fn wanted() -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop-sink", "annotations": {}},
        "spec": {"replicas": 2, "template": {"spec": {
            "containers": [{"name": "sink", "image": "ghcr.io/sink:1", "env": [{"name": "A", "value": "1"}]}],
            "tolerations": [{"key": "a"}],
        }}},
    });
    object["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(short_hash(&object.to_string()));
    object
}

/// What the API server has after an apply, with `admit` as what its webhooks make of it.
fn stored(applied: &Value, admit: &dyn Fn(&mut Value)) -> Value {
    let mut live = applied.clone();
    live["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] =
        json!("/dev/termination-log");
    admit(&mut live);
    live["metadata"]["managedFields"] = json!([{
        "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {
                "f:containers": {
                    "k:{\"name\":\"sink\"}": {
                        ".": {}, "f:name": {}, "f:image": {},
                        "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    },
                },
                "f:tolerations": {},
            }}},
        },
    }]);
    live
}

fn pod(live: &mut Value) -> &mut Value {
    &mut live["spec"]["template"]["spec"]
}

fn mirror(live: &mut Value) {
    pod(live)["containers"][0]["image"] = json!("mirror/sink:1");
}

/// Looks and applies until it is quiet; how often it applied, and what it came to.
fn settle(live: &mut Value, admit: &dyn Fn(&mut Value)) -> (usize, Verdict) {
    for applies in 0..50 {
        match compare(live, &wanted()) {
            Verdict::Apply(object) => *live = stored(&object, admit),
            quiet => return (applies, quiet),
        }
    }
    panic!("it never ends: {live}")
}

#[test]
fn what_others_add_is_none_of_ours() {
    let sidecar = |live: &mut Value| {
        let containers = pod(live)["containers"].as_array_mut().unwrap();
        containers.insert(0, json!({"name": "proxy", "image": "proxy:9"}));
        containers[1]["env"].as_array_mut().unwrap().push(json!({"name": "PROXY", "value": "on"}));
        live["metadata"]["annotations"]["theirs"] = json!("x");
    };
    assert_eq!(compare(&stored(&wanted(), &sidecar), &wanted()), Verdict::Same);
}

#[test]
fn a_webhook_that_rewrites_each_time_costs_one_more_write_and_is_named() {
    let tolerate =
        |live: &mut Value| pod(live)["tolerations"].as_array_mut().unwrap().push(json!({"key": "b"}));
    let path = "spec.template.spec";
    for (admit, field) in [
        (&mirror as &dyn Fn(&mut Value), format!("{path}.containers[sink].image")),
        (&tolerate, format!("{path}.tolerations")),
    ] {
        let mut live = stored(&wanted(), admit);
        assert_eq!(settle(&mut live, admit), (1, Verdict::Left(vec![field])));
    }
}

#[test]
fn drift_beside_a_rewritten_field_is_put_right_once_and_a_change_of_the_spec_begins_anew() {
    let mut live = stored(&wanted(), &mirror);
    settle(&mut live, &mirror);
    live["spec"]["replicas"] = json!(0);
    let left = Verdict::Left(vec!["spec.template.spec.containers[sink].image".into()]);
    assert_eq!(settle(&mut live, &mirror), (1, left), "the drift alone costs a write");
    assert_eq!(live["spec"]["replicas"], 2);
    live["spec"]["replicas"] = json!(0);
    let Verdict::Left(fields) = compare(&live, &wanted()) else { panic!("again and again") };
    assert!(fields.contains(&"spec.replicas".to_owned()), "{fields:?}");
    let mut newer = wanted();
    newer["spec"]["replicas"] = json!(3);
    newer["metadata"]["annotations"][APPLIED_ANNOTATION] = json!("newer");
    assert_eq!(compare(&live, &newer), Verdict::Apply(newer), "nothing is remembered of another spec");
}

#[test]
fn what_is_lacking_differs_and_a_list_without_a_key_is_compared_whole() {
    let mut live = stored(&wanted(), &|_| {});
    pod(&mut live)["containers"][0]["env"] = json!([]);
    assert!(matches!(compare(&live, &wanted()), Verdict::Apply(_)));
    let mut folder = wanted();
    pod(&mut folder)["containers"].as_array_mut().unwrap().push(json!({"name": "proxy"}));
    assert!(matches!(compare(&folder, &wanted()), Verdict::Apply(_)), "without a cluster nothing is merged");
    let mut stripped = stored(&wanted(), &|_| {});
    stripped["metadata"]["annotations"] = json!({});
    assert!(matches!(compare(&stripped, &wanted()), Verdict::Apply(_)));
}

proptest! {
    #[test]
    fn whoever_writes_whatever_after_each_apply_the_writes_end(values in prop::collection::vec(0..40_i64, 1..40)) {
        let mut live = stored(&wanted(), &|_| {});
        let mut applies = 0;
        for value in values {
            live["spec"]["replicas"] = json!(value);
            if let Verdict::Apply(object) = compare(&live, &wanted()) {
                applies += 1;
                live = stored(&object, &|_| {});
            }
        }
        prop_assert!(applies <= MOST_PUT_RIGHT);
    }
}
