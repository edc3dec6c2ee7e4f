//! What the API server would say of a resource: its schema, and the rules between fields. Pure.
//!
//! The definition that is installed is the only source; the words are the API server's, so that a problem looks the same
//! wherever it is found. `crds/tests/data/rules.yaml` is judged by both.

use std::sync::LazyLock;

use kube_cel::{CompiledSchema, ErrorKind, ValidationErrors, Validator, apply_defaults, compile_schema};
use regex::Regex;
use serde_json::{Map, Value};
use tidemark_crds::manifest;
use tidemark_crds::secrets::is_secret;

use crate::core::validate::Invalid;

/// Fields of a resource that its definition does not describe.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Longest value in a message, characters.
const LONGEST_VALUE: usize = 80;

/// The definition; made of the types and compiled it takes longer than to check a resource by it.
static DEFINITION: LazyLock<Definition> = LazyLock::new(|| {
    let definition = manifest::definition();
    let version = &definition["spec"]["versions"][0];
    let schema = version["schema"]["openAPIV3Schema"].clone();
    let api_version = format!("{}/{}", text(&definition["spec"]["group"]), text(&version["name"]));
    Definition { api_version, rules: compile_schema(&schema), schema }
});

struct Definition {
    api_version: String,
    schema: Value,
    /// The rules between fields.
    rules: CompiledSchema,
}

/// Checks a resource as the API server does when it is made; with `before`, as it does when that is replaced.
///
/// Like the API server it judges the rules between fields only where every field is right by itself.
pub fn check(object: &Value, before: Option<&Value>) -> Vec<Invalid> {
    let Definition { api_version: expected, schema, .. } = &*DEFINITION;
    let mut found = Vec::new();
    if object["apiVersion"] != *expected {
        let problem = format!("Unsupported value: {}: supported values: {expected:?}", object["apiVersion"]);
        found.push(Invalid { field: "apiVersion".into(), problem });
    }
    if object["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        found.push(Invalid {
            field: "metadata.name".into(),
            problem: "Required value: give it a name".into(),
        });
    }
    let object = apply_defaults(schema, object);
    Walk { found: &mut found }.value(schema, &object, "");
    if found.is_empty() {
        found = rules(&object, None);
    }
    if let (Some(before), true) = (before, found.is_empty()) {
        let (mut object, mut before) = (object, apply_defaults(schema, before));
        align(schema, &mut object, &mut before);
        found = rules(&object, Some(&before));
    }
    found
}

/// The rules between fields that are broken.
fn rules(object: &Value, before: Option<&Value>) -> Vec<Invalid> {
    let found = Validator::new().validate_compiled(&DEFINITION.rules, object, before);
    let mut errors = found.err().map(ValidationErrors::into_vec).unwrap_or_default();
    // A compiled schema has no order of its own.
    errors.sort_by(|one, other| one.field_path.cmp(&other.field_path));
    let invalid = |error: &kube_cel::ValidationError| Invalid {
        field: if before.is_some() { by_name(&error.field_path, object) } else { error.field_path.clone() },
        problem: match error.kind {
            ErrorKind::ValidationFailure => error.message.clone(),
            _ => format!("its rule {:?} was not checked here: {}", error.rule, error.message),
        },
    };
    errors.iter().map(invalid).collect()
}

/// Walks schema and value side by side.
struct Walk<'a> {
    found: &'a mut Vec<Invalid>,
}

impl Walk<'_> {
    fn invalid(&mut self, path: &str, problem: String) {
        self.found.push(Invalid { field: path.to_owned(), problem });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(kind) = schema["type"].as_str()
            && !is_of(kind, value)
        {
            let problem = format!(
                "Invalid value: {}: {path} in body must be of type {kind}{}",
                shown(path, value),
                meaning(schema)
            );
            return self.invalid(path, problem);
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let problem = format!(
                "Unsupported value: {}: supported values: {}",
                shown(path, value),
                allowed.join(", ")
            );
            self.invalid(path, problem);
        }
        match value {
            Value::Object(fields) => self.fields(schema, fields, path),
            Value::Array(items) => self.items(schema, items, path),
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fields(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let known = schema["properties"].as_object();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let hint = known.and_then(|known| known.get(name)).map(meaning).unwrap_or_default();
                self.invalid(&join(path, name), format!("Required value: add it{hint}"));
            }
        }
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most) {
            self.invalid(path, format!("Too many: {}: must have at most {most} items", fields.len()));
        }
        let others = &schema["additionalProperties"];
        for (name, value) in fields {
            if path.is_empty() && OF_EVERY_OBJECT.contains(&name.as_str()) {
                continue;
            }
            match known.and_then(|known| known.get(name)) {
                Some(schema) => self.value(schema, value, &join(path, name)),
                None if others.is_object() => self.value(others, value, &format!("{path}[{name}]")),
                None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                None => self.invalid(&join(path, name), unknown(name, known)),
            }
        }
    }

    fn items(&mut self, schema: &Value, items: &[Value], path: &str) {
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
            self.invalid(path, format!("Too many: {}: must have at most {most} items", items.len()));
        }
        let keys = keys(schema);
        let is_set = schema["x-kubernetes-list-type"] == "set";
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.value(&schema["items"], item, &path);
            let same = |other: &Value| match &keys {
                Some(keys) => keys.iter().all(|key| other[*key] == item[*key]),
                None => is_set && other == item,
            };
            if items[..index].iter().any(same) {
                let shown = match &keys {
                    Some(keys) => keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect(),
                    None => item.clone(),
                };
                self.invalid(&path, format!("Duplicate value: {shown}: leave one of them out"));
            }
        }
    }

    fn text(&mut self, schema: &Value, value: &str, path: &str) {
        let length = value.chars().count() as u64;
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            self.invalid(path, format!("Too long: may not be more than {most} bytes"));
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            let problem = format!(
                "Invalid value: {value:?}: {path} in body should be at least {least} chars long{}",
                meaning(schema)
            );
            return self.invalid(path, problem);
        }
        let Some(pattern) = schema["pattern"].as_str() else { return };
        if !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(value)) {
            let problem = format!(
                "Invalid value: {}: {path} in body should match '{pattern}'{}",
                shown(path, &Value::from(value)),
                meaning(schema)
            );
            self.invalid(path, problem);
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &str) {
        let value = number.as_f64().unwrap_or(f64::NAN);
        if let Some(least) = schema["minimum"].as_f64().filter(|least| value < *least) {
            let problem = "in body should be greater than or equal to";
            self.invalid(path, format!("Invalid value: {number}: {path} {problem} {least}"));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| value > *most) {
            let problem = "in body should be less than or equal to";
            self.invalid(path, format!("Invalid value: {number}: {path} {problem} {most}"));
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

/// Fields that tell the items of a list apart.
fn keys(schema: &Value) -> Option<Vec<&str>> {
    let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
    Some(keys.iter().filter_map(Value::as_str).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value for a message; one that may be a secret is not shown.
fn shown(path: &str, value: &Value) -> String {
    let name = path.rsplit(['.', '[']).next().unwrap_or(path).trim_end_matches(']');
    if is_secret(name) {
        return "(not shown)".to_owned();
    }
    crate::core::status::cut(&value.to_string(), LONGEST_VALUE)
}

/// What a field is for, as the way out: the first sentence of its description.
fn meaning(schema: &Value) -> String {
    let text = text(&schema["description"]).replace('\n', " ");
    let sentence = text.split_once(". ").map_or(text.trim_end_matches('.'), |(first, _)| first);
    if sentence.is_empty() { String::new() } else { format!(" ({sentence})") }
}

/// What is said of a field that does not exist, with the one that was probably meant.
fn unknown(name: &str, known: Option<&Map<String, Value>>) -> String {
    let names = || known.into_iter().flat_map(|known| known.keys());
    let nearest = names().map(|known| (distance(name, known), known)).min();
    if let Some((_, meant)) = nearest.filter(|(distance, _)| *distance <= 1 + name.len() / 4) {
        return format!("unknown field: did you mean {meant:?}?");
    }
    let names: Vec<&str> = names().map(String::as_str).collect();
    format!("unknown field: there are {}", names.join(", "))
}

/// How many letters have to be put in, left out or changed to make one text of the other, whatever their case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, same) in other.iter().enumerate() {
            let changed = diagonal + usize::from(*same != letter);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Puts the items of lists that have keys in the same places of both objects, those that only the new one has behind
/// them: rules that compare with what was before are asked of the item of the same key.
fn align(schema: &Value, object: &mut Value, before: &mut Value) {
    if let (Value::Array(items), Value::Array(old)) = (&mut *object, &mut *before) {
        let Some(keys) = keys(schema) else { return };
        let same = |one: &Value, other: &Value| keys.iter().all(|key| one[*key] == other[*key]);
        old.retain(|was| items.iter().any(|item| same(item, was)));
        items.sort_by_key(|item| old.iter().position(|was| same(item, was)).unwrap_or(old.len()));
        for (item, was) in items.iter_mut().zip(old) {
            align(&schema["items"], item, was);
        }
        return;
    }
    let (Some(fields), Some(old)) = (object.as_object_mut(), before.as_object_mut()) else { return };
    for (name, value) in fields {
        if let Some(was) = old.get_mut(name) {
            align(&schema["properties"][name.as_str()], value, was);
        }
    }
}

/// A path with the names of items in the place of their numbers.
fn by_name(path: &str, object: &Value) -> String {
    let mut value = object;
    let mut named = String::new();
    for part in path.split('.') {
        let (field, indexes) = part.split_once('[').map_or((part, ""), |(field, rest)| (field, rest));
        named = join(&named, field);
        value = &value[field];
        for index in indexes.split('[').filter_map(|index| index.trim_end_matches(']').parse::<usize>().ok())
        {
            value = &value[index];
            let name = value["name"].as_str().map_or_else(|| index.to_string(), str::to_owned);
            named = format!("{named}[{name}]");
        }
    }
    named
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
