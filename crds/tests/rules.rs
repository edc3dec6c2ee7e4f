//! The table of accepted and refused objects is complete; the real API server judges it in `e2e`.

use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::manifest;
use tidemark_crds::pipeline::AnalyticsPipeline;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    rule: String,
    before: Option<Value>,
    accepted: Value,
    #[allow(dead_code, reason = "judged by the real API server")]
    refused: Value,
    message: String,
}

fn cases() -> Vec<Case> {
    serde_yaml_ng::from_str(include_str!("data/rules.yaml")).unwrap()
}

fn minimal() -> Value {
    serde_yaml_ng::from_str(include_str!("../generated/examples/minimal.yaml")).unwrap()
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[test]
fn every_rule_of_the_schema_has_a_refused_object() {
    fn messages(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let (Some(_), Some(message)) = (fields.get("rule"), fields.get("message")) {
                    found.push(message.as_str().unwrap().to_owned());
                }
                fields.values().for_each(|field| messages(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
            _ => {}
        }
    }
    let mut rules = Vec::new();
    messages(&manifest::definition(), &mut rules);
    assert!(rules.len() > 20, "only {} rules were found in the schema", rules.len());
    let cases = cases();
    let untested: Vec<_> =
        rules.iter().filter(|rule| !cases.iter().any(|case| rule.contains(&case.message))).collect();
    assert!(untested.is_empty(), "rules without a refused object in rules.yaml: {untested:#?}");
}

#[test]
fn every_accepted_object_is_read_and_written_back_the_same() {
    for case in cases() {
        let mut object = minimal();
        for patch in case.before.iter().chain([&case.accepted]) {
            merge(&mut object, patch);
        }
        let read: AnalyticsPipeline =
            serde_json::from_value(object).unwrap_or_else(|e| panic!("{}: {e}", case.rule));
        let written = serde_json::to_value(&read).unwrap();
        let again: AnalyticsPipeline = serde_json::from_value(written).unwrap();
        assert_eq!(read, again, "{}", case.rule);
    }
}

#[test]
fn examples_are_read_by_the_types() {
    for example in tidemark_crds::examples::all() {
        for document in serde_yaml_ng::Deserializer::from_str(&example.text) {
            let object = Value::deserialize(document).unwrap();
            if object["kind"] == "AnalyticsPipeline" {
                let pipeline: AnalyticsPipeline = serde_json::from_value(object).unwrap();
                assert!(!pipeline.spec.all_tables().is_empty());
            }
        }
    }
}

#[test]
fn a_preset_brings_the_tables_that_the_spec_does_not_name() {
    let mut object = minimal();
    merge(
        &mut object,
        &serde_json::json!({"spec": {"views": {"preset": "Ecommerce"}, "tables": [{"name": "sales.purchase", "target": "orders"}]}}),
    );
    let pipeline: AnalyticsPipeline = serde_json::from_value(object).unwrap();
    let names: Vec<_> = pipeline.spec.all_tables().into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["sales.purchase", "public.customers", "public.products", "public.order_items"]);
}
