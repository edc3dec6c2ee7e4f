//! What of a live Kubernetes object is not as it was applied, and whether to put it right. Pure.
//!
//! An admission webhook or another controller may rewrite what is applied, each time. What was put right once and came
//! back is another's decision: it is left, and named. The object itself remembers, in an annotation, so that a restart of
//! the operator begins no new round.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tidemark_crds::names::{FIELD_MANAGER, short_hash};

use super::sink_objects::{APPLIED_ANNOTATION, covers, is_empty, key_of};
use crate::core::facts::KubernetesFacts;

/// Annotation with a hash of each field and of the value that it was put right from, since the object was last changed by
/// the spec.
pub const PUT_RIGHT_ANNOTATION: &str = "tidemark.dev/put-right";

/// Hashes in that annotation at most: who finds a new value for a field after each write is not followed for ever.
const MOST_PUT_RIGHT: usize = 16;

/// What is to be done about a live object.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It has everything that is wanted.
    Same,
    /// Apply this.
    Apply(Value),
    /// These fields were put right before and came back.
    Left(Vec<String>),
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    path: String,
    /// Hash of the path and the live value.
    sign: String,
}

/// Compares a live object with the wanted one. Fields that only others set are none of ours; an element that others add to
/// a list is none where the API server merges that list by a key.
pub fn compare(live: &Value, wanted: &Value) -> Verdict {
    let annotation =
        |object: &Value, name: &str| object["metadata"]["annotations"][name].as_str().map(str::to_owned);
    let owned = owned(live);
    let applied = annotation(live, APPLIED_ANNOTATION);
    // An annotation that was taken off says nothing of what was applied.
    if applied.is_some() && applied != annotation(wanted, APPLIED_ANNOTATION) {
        return Verdict::Apply(wanted.clone());
    }
    let mut found = Vec::new();
    differences("", Some(live), wanted, owned, &mut found);
    if found.is_empty() {
        return Verdict::Same;
    }
    let known = annotation(live, PUT_RIGHT_ANNOTATION).unwrap_or_default();
    let mut put_right: BTreeSet<&str> = known.split_whitespace().collect();
    let before = put_right.len();
    put_right.extend(found.iter().map(|difference| difference.sign.as_str()));
    if put_right.len() == before || put_right.len() > MOST_PUT_RIGHT {
        return Verdict::Left(found.into_iter().map(|difference| difference.path).collect());
    }
    let mut object = wanted.clone();
    let text = put_right.into_iter().collect::<Vec<_>>().join(" ");
    object["metadata"]["annotations"][PUT_RIGHT_ANNOTATION] = json!(text);
    Verdict::Apply(object)
}

/// The fields of wanted objects that are left as others wrote them, one line an object.
pub fn left(wanted: &[Value], live: &KubernetesFacts) -> Vec<String> {
    let of_object = |wanted: &Value| {
        let key = key_of(wanted);
        match compare(live.objects.get(&key)?, wanted) {
            Verdict::Left(fields) => Some(line(&key, &fields)),
            Verdict::Same | Verdict::Apply(_) => None,
        }
    };
    wanted.iter().filter_map(of_object).collect()
}

/// The fields of one object for people.
pub fn line(key: &str, fields: &[String]) -> String {
    format!(
        "{}: {} (written anew by another, such as an admission webhook, after it was put right)",
        key.replacen('/', " ", 1),
        fields.join(", ")
    )
}

/// What the API server says that our applies own.
fn owned(live: &Value) -> Option<&Value> {
    let managers = live["metadata"]["managedFields"].as_array()?;
    let ours = |entry: &&Value| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply";
    managers.iter().find(ours).map(|entry| &entry["fieldsV1"])
}

fn differences(
    path: &str,
    live: Option<&Value>,
    wanted: &Value,
    owned: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (live, wanted) {
        (None, wanted) if is_empty(wanted) => {}
        (Some(Value::Object(live)), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let owned = owned.and_then(|owned| owned.get(format!("f:{key}")));
                differences(&path, live.get(key), wanted, owned, found);
            }
        }
        (Some(Value::Array(live)), Value::Array(wanted)) if owned.is_some_and(is_keyed) => {
            for wanted in wanted {
                element(path, live, wanted, owned, found);
            }
        }
        (Some(live), wanted) if covers(live, wanted) => {}
        (live, _) => {
            let value = live.map_or_else(|| "absent".to_owned(), Value::to_string);
            let sign = short_hash(&format!("{path} {value}"));
            found.push(Difference { path: path.to_owned(), sign });
        }
    }
}

/// One element of a list that the API server merges by a key.
fn element(path: &str, live: &[Value], wanted: &Value, owned: Option<&Value>, found: &mut Vec<Difference>) {
    let keys: Vec<(Map<String, Value>, &Value)> = owned.into_iter().flat_map(keys).collect();
    // A field of the key that is not wanted by name is one that the API server fills in.
    let of = |key: &Map<String, Value>, element: &Value, all: bool| {
        key.iter().all(|(field, value)| element.get(field).map_or(!all, |there| there == value))
    };
    let Some((key, owned)) = keys.iter().find(|(key, _)| of(key, wanted, false)) else {
        // It is not ours yet.
        let sign = short_hash(&format!("{path} {wanted} absent"));
        return found.push(Difference { path: path.to_owned(), sign });
    };
    let names: Vec<String> =
        key.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    let path = format!("{path}[{}]", names.join(","));
    let live = live.iter().find(|element| of(key, element, true));
    differences(&path, live, wanted, Some(owned), found);
}

fn is_keyed(owned: &Value) -> bool {
    owned.as_object().is_some_and(|fields| fields.keys().any(|field| field.starts_with("k:")))
}

/// The keys of a list's elements that are ours, and what of each is.
fn keys(owned: &Value) -> Vec<(Map<String, Value>, &Value)> {
    let key = |(field, owned)| {
        let field: &String = field;
        Some((serde_json::from_str(field.strip_prefix("k:")?).ok()?, owned))
    };
    owned.as_object().into_iter().flatten().filter_map(key).collect()
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
