//! Prints an object as YAML by its schema: without defaults, or with each field's description above it. Pure.

use std::cmp::Ordering;

use serde_json::Value;
use serde_yaml_ng::Value as Yaml;

/// How an object is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without fields that have the schema's default.
    WithoutDefaults,
    /// Every field, under its description.
    Described,
}

/// Prints the fields of a mapping, indented by `indent` spaces.
pub(crate) fn print_fields(text: &mut String, value: &Yaml, schema: &Value, style: Style, indent: usize) {
    let margin = " ".repeat(indent);
    for (key, field) in value.as_mapping().into_iter().flatten() {
        let name = key.as_str().unwrap_or_default();
        let field_schema = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
        if style == Style::WithoutDefaults && is_default(field, field_schema) {
            continue;
        }
        if style == Style::Described
            && let Some(description) = field_schema["description"].as_str()
        {
            for line in description.lines() {
                push_line(text, &[&margin, "# ", line]);
            }
        }
        text.push_str(&margin);
        text.push_str(name);
        text.push(':');
        match field {
            Yaml::Mapping(_) => {
                text.push('\n');
                print_fields(text, field, field_schema, style, indent + 2);
            }
            Yaml::Sequence(items) => {
                text.push('\n');
                for item in items {
                    print_item(text, item, &field_schema["items"], style, indent + 2);
                }
            }
            scalar => {
                text.push(' ');
                text.push_str(&print_scalar(scalar));
                text.push('\n');
            }
        }
    }
}

fn print_item(text: &mut String, item: &Yaml, schema: &Value, style: Style, indent: usize) {
    let margin = " ".repeat(indent);
    if !item.is_mapping() {
        push_line(text, &[&margin, "- ", &print_scalar(item)]);
        return;
    }
    let mut fields = String::new();
    print_fields(&mut fields, item, schema, style, indent + 2);
    // The dash takes the place of the first field's indentation, below its description.
    let first = fields.lines().position(|line| !line.trim_start().starts_with('#')).unwrap_or_default();
    for (number, line) in fields.lines().enumerate() {
        let (dash, rest) = match number.cmp(&first) {
            Ordering::Less => ("", line.trim_start()),
            Ordering::Equal => ("- ", line.trim_start()),
            Ordering::Greater => ("", line.strip_prefix(&margin).unwrap_or(line)),
        };
        push_line(text, &[&margin, dash, rest]);
    }
}

fn push_line(text: &mut String, parts: &[&str]) {
    text.push_str(parts.concat().trim_end());
    text.push('\n');
}

fn is_default(field: &Yaml, schema: &Value) -> bool {
    serde_json::to_value(field).is_ok_and(|field| schema.get("default") == Some(&field))
}

fn print_scalar(scalar: &Yaml) -> String {
    serde_yaml_ng::to_string(scalar).expect("a scalar can be printed").trim_end().to_owned()
}
