//! How a column is read on both sides so that equal values have equal texts. Pure.

use serde_json::Value;

/// A column of one object on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name on PostgreSQL.
    pub source: String,
    /// Name on ClickHouse.
    pub target: String,
    /// Type on PostgreSQL, by its name in `pg_type`.
    pub source_type: String,
    /// Type on ClickHouse.
    pub target_type: String,
}

/// What is done to a text after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    Text,
    /// The float that it names: the two servers print floats differently.
    Float32,
    /// The same in double precision.
    Float64,
    /// The JSON value, without spaces and order of keys.
    Json,
    /// A JSON array whose scalars are texts.
    Array,
}

impl Column {
    /// Returns the expression that PostgreSQL evaluates.
    pub fn postgres(&self) -> String {
        let name = format!("\"{}\"", self.source.replace('"', "\"\""));
        match self.source_type.as_str() {
            "bool" => format!("{name}::text"),
            "timestamptz" | "timestamp" => format!(
                "CASE WHEN isfinite({name}) THEN (extract(epoch FROM {name}) * 1000000)::bigint::text ELSE {name}::text END"
            ),
            "date" => format!(
                "CASE WHEN isfinite({name}) THEN ({name} - date '1970-01-01')::text ELSE {name}::text END"
            ),
            "time" => format!("(extract(epoch FROM {name}) * 1000000)::bigint"),
            "bytea" => format!("encode({name}, 'hex')"),
            array if array.starts_with('_') && plain(&self.target_type).starts_with("Array(") => {
                format!("coalesce(to_json({name})::text, '[]')")
            }
            _ => name,
        }
    }

    /// Returns the expression that ClickHouse evaluates: a String or NULL.
    pub fn clickhouse(&self) -> String {
        let name = format!("`{}`", self.target.replace('`', "``"));
        let kind = plain(&self.target_type);
        if let Some(scale) = decimal_scale(kind) {
            return format!("toDecimalString({name}, {scale})");
        }
        match kind.split('(').next().unwrap_or(kind) {
            "DateTime" | "DateTime64" => {
                format!("toString(toUnixTimestamp64Micro(toDateTime64({name}, 6, 'UTC')))")
            }
            "Date" | "Date32" => format!("toString(toInt32(toDate32({name})))"),
            "String" if self.source_type == "bytea" => format!("lower(hex({name}))"),
            "Array" => format!("toJSONString({name})"),
            _ => format!("toString({name})"),
        }
    }

    /// Returns what is done to the texts of both sides.
    pub fn reading(&self) -> Reading {
        match (plain(&self.target_type), self.source_type.as_str()) {
            ("Float32", _) => Reading::Float32,
            ("Float64", _) => Reading::Float64,
            (kind, _) if kind.starts_with("Array(") => Reading::Array,
            (_, "json" | "jsonb") => Reading::Json,
            _ => Reading::Text,
        }
    }
}

impl Reading {
    /// Returns the canonical text; one that cannot be read as it should stays what it is.
    pub fn canonical(self, text: String) -> String {
        match self {
            Self::Text => text,
            Self::Float32 => text.to_lowercase().parse::<f32>().map_or(text, |number| format!("{number:?}")),
            Self::Float64 => text.to_lowercase().parse::<f64>().map_or(text, |number| format!("{number:?}")),
            Self::Json => serde_json::from_str::<Value>(&text).map_or(text, |value| value.to_string()),
            Self::Array => {
                serde_json::from_str::<Value>(&text).map_or(text, |value| scalars_as_text(value).to_string())
            }
        }
    }
}

fn scalars_as_text(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(scalars_as_text).collect()),
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(flag) => Value::String(flag.to_string()),
        other => other,
    }
}

/// Returns a type without Nullable and LowCardinality.
pub fn plain(kind: &str) -> &str {
    for wrapper in ["Nullable(", "LowCardinality("] {
        if let Some(inner) = kind.strip_prefix(wrapper).and_then(|rest| rest.strip_suffix(')')) {
            return plain(inner);
        }
    }
    kind
}

fn decimal_scale(kind: &str) -> Option<&str> {
    Some(kind.strip_prefix("Decimal(")?.strip_suffix(')')?.split_once(',')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(source_type: &str, target_type: &str) -> Column {
        Column {
            source: "c".into(),
            target: "d".into(),
            source_type: source_type.into(),
            target_type: target_type.into(),
        }
    }

    #[test]
    fn wrappers_of_a_type_do_not_matter() {
        assert_eq!(plain("LowCardinality(Nullable(String))"), "String");
        assert_eq!(column("numeric", "Nullable(Decimal(38, 2))").clickhouse(), "toDecimalString(`d`, 2)");
        assert_eq!(
            column("timestamptz", "Nullable(DateTime64(6, 'UTC'))").clickhouse(),
            "toString(toUnixTimestamp64Micro(toDateTime64(`d`, 6, 'UTC')))"
        );
    }

    #[test]
    fn floats_are_compared_as_numbers_and_keep_their_precision() {
        assert_eq!(
            Reading::Float64.canonical("1e+20".into()),
            Reading::Float64.canonical("100000000000000000000".into())
        );
        assert_eq!(Reading::Float64.canonical("Infinity".into()), Reading::Float64.canonical("inf".into()));
        assert_ne!(
            Reading::Float64.canonical("0.1".into()),
            Reading::Float64.canonical("0.10000000000000002".into())
        );
        assert_eq!(
            Reading::Float32.canonical("0.1".into()),
            Reading::Float32.canonical("0.10000000149".into())
        );
    }

    #[test]
    fn json_is_compared_by_value_and_arrays_by_their_texts() {
        assert_eq!(
            Reading::Json.canonical(r#"{"b": 1, "a": [null]}"#.into()),
            Reading::Json.canonical(r#"{"a":[null],"b":1}"#.into())
        );
        assert_eq!(
            Reading::Array.canonical("[1,null]".into()),
            Reading::Array.canonical(r#"["1", null]"#.into())
        );
        assert_ne!(
            Reading::Array.canonical("[1,null]".into()),
            Reading::Array.canonical(r#"["1","null"]"#.into())
        );
    }

    #[test]
    fn names_are_quoted_on_both_sides() {
        let odd = Column { source: "a\"b".into(), target: "a`b".into(), ..column("text", "String") };
        assert_eq!((odd.postgres().as_str(), odd.clickhouse().as_str()), ("\"a\"\"b\"", "toString(`a``b`)"));
    }
}
