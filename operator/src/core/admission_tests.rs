//! The check is held to the table that the real API server is held to.

use serde::Deserialize;
use serde_json::json;

use super::*;

/// One rule of `crds/tests/data/rules.yaml`.
#[derive(Deserialize)]
struct Case {
    rule: String,
    before: Option<Value>,
    accepted: Value,
    refused: Value,
    message: String,
}

/// JSON merge patch: null removes.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(key));
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

fn minimal() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../crds/generated/examples/minimal.yaml")).unwrap()
}

fn texts(found: &[Invalid]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn with(patch: &Value) -> Vec<String> {
    let mut object = minimal();
    merge(&mut object, patch);
    texts(&check(&object, None))
}

#[test]
fn every_rule_that_the_api_server_enforces_is_enforced_here() {
    let cases: Vec<Case> =
        serde_yaml_ng::from_str(include_str!("../../../crds/tests/data/rules.yaml")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut base = minimal();
        if let Some(before) = &case.before {
            merge(&mut base, before);
        }
        let judged = |patch: &Value| {
            let mut object = base.clone();
            merge(&mut object, patch);
            texts(&check(&object, case.before.is_some().then_some(&base)))
        };
        let accepted = judged(&case.accepted);
        let refused = judged(&case.refused);
        if !accepted.is_empty() || !refused.iter().any(|text| text.contains(&case.message)) {
            wrong.push(format!("{}: accepted {accepted:?}, refused {refused:?}", case.rule));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rules:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn no_rule_of_the_definition_is_left_unchecked() {
    let mut checked = 0;
    for example in tidemark_crds::examples::all() {
        for document in serde_yaml_ng::Deserializer::from_str(&example.text) {
            let object = Value::deserialize(document).unwrap();
            if object["kind"] == "AnalyticsPipeline" {
                checked += 1;
                assert_eq!(texts(&check(&object, Some(&object))), Vec::<String>::new(), "{}", example.file);
            }
        }
    }
    assert!(checked >= 3);
}

#[test]
fn every_problem_is_named_at_once_with_its_way_out() {
    let found = with(&json!({
        "apiVersion": "tidemark.dev/v1",
        "spec": {
            "tabels": [],
            "sink": {"replicas": "two"},
            "source": {"connect": {"url": null}},
            "kafka": {"topicPrefix": "-shop"},
            "freshness": {"rows": "soon"},
        },
    }));
    insta::assert_snapshot!(found.join("\n"), @r#"
    apiVersion: Unsupported value: "tidemark.dev/v1": supported values: "tidemark.dev/v1alpha1"
    spec.freshness.rows: Invalid value: "soon": spec.freshness.rows in body should match '^([0-9]{1,8}(ms|s|m|h)){1,3}$' (Commit at the source to row in ClickHouse)
    spec.kafka.topicPrefix: Invalid value: "-shop": spec.kafka.topicPrefix in body should match '^[A-Za-z0-9][A-Za-z0-9._-]*$' (Prefix of all topics of this pipeline; immutable)
    spec.sink.replicas: Invalid value: "two": spec.sink.replicas in body must be of type integer (Worker pods; leave it out of Git under an autoscaler)
    spec.source.connect.url: Required value: add it (Address of its REST interface)
    spec.tabels: unknown field: did you mean "tables"?
    "#);
}

#[test]
fn a_value_that_may_be_a_secret_is_not_repeated() {
    let credentials = json!({"type": "ConfigProvider", "username": "${env:USER}", "password": "hunter2"});
    let found = with(&json!({"spec": {"source": {"connect": {"databaseCredentials": credentials}}}}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("databaseCredentials.password") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn a_table_that_moved_in_its_list_is_compared_with_itself() {
    let tables = |tables: Value| {
        let mut object = minimal();
        merge(&mut object, &json!({"spec": {"tables": tables}}));
        object
    };
    let before = tables(json!([{"name": "a.gone"}, {"name": "a.x", "target": "x1"}, {"name": "a.y"}]));
    let moved =
        tables(json!([{"name": "a.y"}, {"name": "a.new", "target": "n"}, {"name": "a.x", "target": "x1"}]));
    assert_eq!(texts(&check(&moved, Some(&before))), Vec::<String>::new());
    let other = tables(json!([{"name": "a.y"}, {"name": "a.x", "target": "x2"}]));
    let found = texts(&check(&other, Some(&before)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("spec.tables[a.x]: a table's target is immutable"), "{found:?}");
}
