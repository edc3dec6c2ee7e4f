//! What a record's Connect schema says about its values: units of times, scales of decimals. Pure.
//!
//! Only records written with `schemas.enable=true` carry one.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Unit of an integer that stands for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// What the schema says about one field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hint {
    /// Unit of a time.
    pub unit: Option<TimeUnit>,
    /// Scale of a decimal that comes as base64 of its unscaled value.
    pub scale: Option<i32>,
}

/// Hints of a row's fields, by field name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectSchema {
    fields: BTreeMap<String, Hint>,
}

#[derive(Deserialize)]
struct Field<'a> {
    #[serde(default, rename = "field")]
    label: String,
    #[serde(default)]
    name: Option<&'a str>,
    #[serde(borrow, default)]
    fields: Vec<Field<'a>>,
    #[serde(borrow, default)]
    items: Option<Box<Field<'a>>>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

impl ConnectSchema {
    /// Reads the schema of an envelope; what it does not understand gives no hints.
    pub fn parse(schema: &[u8]) -> Self {
        let Ok(envelope) = serde_json::from_slice::<Field<'_>>(schema) else {
            return Self::default();
        };
        let row = envelope.fields.into_iter().find(|field| field.label == "after");
        let fields = row.map(|row| row.fields).unwrap_or_default();
        Self { fields: fields.into_iter().map(|field| (field.label.clone(), field.hint())).collect() }
    }

    /// Returns what is known about a field.
    pub fn hint(&self, field: &str) -> Hint {
        self.fields.get(field).copied().unwrap_or_default()
    }
}

impl Field<'_> {
    fn hint(&self) -> Hint {
        if let Some(items) = &self.items {
            return items.hint();
        }
        let Some(name) = self.name else {
            return Hint::default();
        };
        let kind = name.rsplit('.').next().unwrap_or(name);
        let unit = match kind {
            "Timestamp" | "Time" => Some(TimeUnit::Millis),
            "MicroTimestamp" | "MicroTime" | "MicroDuration" => Some(TimeUnit::Micros),
            "NanoTimestamp" | "NanoTime" | "NanoDuration" => Some(TimeUnit::Nanos),
            _ => None,
        };
        let scale = if kind == "Decimal" {
            self.parameters.get("scale").and_then(|scale| scale.parse().ok())
        } else {
            None
        };
        Hint { unit, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_scales_are_found() {
        let schema = ConnectSchema::parse(
            br#"{"type":"struct","fields":[{"field":"after","fields":[
                {"type":"int64","name":"io.debezium.time.Timestamp","field":"a"},
                {"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"b"},
                {"type":"array","items":{"type":"int64","name":"io.debezium.time.MicroTimestamp"},"field":"c"}]}]}"#,
        );
        assert_eq!(schema.hint("a"), Hint { unit: Some(TimeUnit::Millis), scale: None });
        assert_eq!(schema.hint("b"), Hint { unit: None, scale: Some(2) });
        assert_eq!(schema.hint("c").unit, Some(TimeUnit::Micros));
        assert_eq!(schema.hint("d"), Hint::default());
    }
}
