//! Whether what Grafana has still says what we said, and where it does not. Pure.
//!
//! Grafana and its pages add keys of their own and rewrite none of ours as long as nobody edits: every key that we
//! set has to have our value, and more keys are no difference.

use std::fmt::Write as _;

use serde_json::Value;

/// Paths of ours whose value differs, such as `panels[3].title`; at most `limit`, in order.
pub fn differences(live: &Value, ours: &Value, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    compare(live, ours, &mut String::new(), limit, &mut found);
    found
}

fn compare(live: &Value, ours: &Value, path: &mut String, limit: usize, found: &mut Vec<String>) {
    if found.len() >= limit {
        return;
    }
    let length = path.len();
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => {
            for (key, value) in ours {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                compare(live.get(key).unwrap_or(&Value::Null), value, path, limit, found);
                path.truncate(length);
            }
        }
        (Value::Array(live), Value::Array(ours)) if live.len() == ours.len() => {
            for (index, (live, ours)) in live.iter().zip(ours).enumerate() {
                // A String takes every write.
                let _ = write!(path, "[{index}]");
                compare(live, ours, path, limit, found);
                path.truncate(length);
            }
        }
        _ if same(live, ours) => {}
        _ => found.push(path.clone()),
    }
}

/// Equal values; 1 and 1.0 are one number, and nothing is as good as an empty value.
fn same(live: &Value, ours: &Value) -> bool {
    if let (Some(live), Some(ours)) = (live.as_f64(), ours.as_f64()) {
        return live.to_bits() == ours.to_bits();
    }
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    live == ours || (live.is_null() && empty(ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn added_keys_are_no_difference_and_changed_ones_are_named() {
        let ours = json!({"title": "a", "panels": [{"id": 1, "w": 6.0}], "tags": []});
        let live = json!({"title": "a", "panels": [{"id": 1, "w": 6, "pluginVersion": "13"}], "version": 3});
        assert!(differences(&live, &ours, 9).is_empty());
        let live = json!({"title": "b", "panels": [{"id": 1, "w": 7}], "tags": ["x"]});
        assert_eq!(differences(&live, &ours, 9), ["panels[0].w", "tags", "title"]);
        let live = json!({"title": "a", "panels": []});
        assert_eq!(differences(&live, &ours, 9), ["panels"]);
    }
}
