//! The generated files are those of the sources, and keep the rules of the API.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use tidemark_crds::manifest;

#[test]
fn generated_files_are_fresh() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in tidemark_crds::generated::files() {
        let present = std::fs::read_to_string(root.join(&file.path)).unwrap_or_default();
        assert!(present == file.text, "{} is stale: run cargo run -p tidemark-crds --bin crdgen", file.path);
    }
}

/// Calls `look` with each object below `value` and its path.
fn walk(value: &Value, path: &str, look: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            look(path, fields);
            for (key, field) in fields {
                walk(field, &format!("{path}/{key}"), look);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{number}"), look);
            }
        }
        _ => {}
    }
}

fn spec_schema() -> Value {
    let definition = manifest::definition();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

#[test]
fn every_list_map_and_text_of_the_spec_is_bounded() {
    let mut unbounded = Vec::new();
    walk(&spec_schema(), "spec", &mut |path, schema| {
        let bounded = match schema.get("type").and_then(Value::as_str) {
            Some("array") => schema.contains_key("maxItems") && schema.contains_key("x-kubernetes-list-type"),
            Some("object") => schema.contains_key("properties") || schema.contains_key("maxProperties"),
            Some("string") => schema.contains_key("maxLength") || schema.contains_key("enum"),
            Some("integer") => schema.contains_key("maximum") || path.ends_with("tolerationSeconds"),
            _ => true,
        };
        if !bounded && !path.contains("/anyOf/") {
            unbounded.push(path.to_owned());
        }
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn nothing_is_nullable_and_no_list_of_the_definition_is_empty() {
    walk(&manifest::definition(), "", &mut |path, fields| {
        assert!(!fields.get("nullable").is_some_and(Value::is_boolean), "{path} is nullable");
        for (key, field) in fields {
            assert_ne!(field, &Value::Array(Vec::new()), "{path}/{key} is an empty list");
            assert!(!field.is_null(), "{path}/{key} is null");
        }
    });
}

#[test]
fn every_field_of_the_spec_is_described() {
    let mut silent = Vec::new();
    walk(&spec_schema(), "spec", &mut |path, fields| {
        let Some(properties) = fields.get("properties").and_then(Value::as_object) else {
            return;
        };
        for (name, schema) in properties {
            if !schema["description"].is_string() && !path.ends_with("imagePullSecrets/items") {
                silent.push(format!("{path}.{name}"));
            }
        }
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn the_typed_definition_says_the_same() {
    let typed = manifest::custom_resource_definition();
    let read: CustomResourceDefinition = serde_json::from_value(manifest::definition()).unwrap();
    assert!(typed == read, "the typed definition differs from the JSON that it was read from");
    assert_eq!(typed.spec.names.kind, "AnalyticsPipeline");
    assert!(!serde_json::to_string(&typed).unwrap().contains("\"nullable\":true"));
}
