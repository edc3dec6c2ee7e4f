//! The finished CustomResourceDefinition: what the derive gives, brought in line with the rules of the API. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::pipeline::AnalyticsPipeline;

/// The CustomResourceDefinition as it is installed, in JSON.
///
/// Differs from what the derive gives in three points: nothing is `nullable`, since server-side apply refuses a
/// null that client-side apply drops; no `format` that the API server does not know; no empty list, which Argo
/// CD would show as a difference for ever.
pub fn definition() -> Value {
    let mut value = serde_json::to_value(AnalyticsPipeline::crd())
        .expect("a CustomResourceDefinition has string keys and finite numbers only");
    tidy(&mut value);
    value
}

/// The CustomResourceDefinition as it is installed.
pub fn custom_resource_definition() -> CustomResourceDefinition {
    serde_json::from_value(definition()).expect("tidying removes optional fields only")
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_schema = fields.get("type").is_some_and(Value::is_string);
            fields.retain(|key, field| match key.as_str() {
                "nullable" => !field.is_boolean(),
                // The derive names Rust's type at the root.
                "title" if is_schema => false,
                "format" if is_schema => {
                    matches!(field.as_str(), Some("int32" | "int64" | "double" | "date-time"))
                }
                "categories" | "shortNames" | "selectableFields" | "additionalPrinterColumns" => {
                    field != &Value::Array(Vec::new())
                }
                _ => true,
            });
            fields.values_mut().for_each(tidy);
        }
        Value::Array(values) => {
            values.retain(|item| !item.is_null());
            values.iter_mut().for_each(tidy);
        }
        // Bounds come as floating-point numbers and are stored as integers: write what is stored.
        Value::Number(number) => {
            if let Some(whole) = whole(number) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    number
        .as_f64()
        .filter(|n| number.is_f64() && n.fract() == 0.0)
        .and_then(|n| format!("{n:.0}").parse().ok())
}
