//! Schemas of the strings, maps and lists that several parts of the spec share: every one has its bounds. Pure.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::duration::{DURATION_PATTERN, SHARE_PATTERN, SIZE_PATTERN};

/// Name of a Kubernetes object.
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    text(253, "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
}

/// Key in the data of a Secret or ConfigMap.
pub(super) fn data_key(_: &mut SchemaGenerator) -> Schema {
    text(253, "^[-._a-zA-Z0-9]+$")
}

/// Key of an annotation.
pub(super) fn annotation_key(_: &mut SchemaGenerator) -> Schema {
    text(253, "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
}

/// A duration such as `300ms`, `1h30m` or `168h`.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    text(27, DURATION_PATTERN)
}

/// A size such as `64Mi`.
pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    text(11, SIZE_PATTERN)
}

/// A share such as `1%`.
pub(super) fn share(_: &mut SchemaGenerator) -> Schema {
    text(5, SHARE_PATTERN)
}

/// An http or https address without user, query or fragment.
pub(super) fn url(_: &mut SchemaGenerator) -> Schema {
    text(512, "^https?://([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$")
}

/// A host name or an address.
pub(super) fn host(_: &mut SchemaGenerator) -> Schema {
    text(253, "^([A-Za-z0-9._-]+|[0-9A-Fa-f:.]+)$")
}

/// `schema.table` at the source. Other characters would be replaced in the topic's name.
pub(super) fn source_table(_: &mut SchemaGenerator) -> Schema {
    text(127, "^[A-Za-z_][A-Za-z0-9_-]{0,62}[.][A-Za-z_][A-Za-z0-9_-]{0,62}$")
}

/// A name that we give to a table or view in ClickHouse; the underscore in front is kept for our own.
pub(super) fn object_in_clickhouse(_: &mut SchemaGenerator) -> Schema {
    text(63, "^[A-Za-z][A-Za-z0-9_]*$")
}

/// A ClickHouse database.
pub(super) fn clickhouse_database(_: &mut SchemaGenerator) -> Schema {
    text(63, "^[A-Za-z_][A-Za-z0-9_]*$")
}

/// A column of PostgreSQL or ClickHouse.
pub(super) fn column_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63})
}

/// A name of PostgreSQL.
pub(super) fn postgres_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63})
}

/// Text without line breaks, at most 256 characters.
pub(super) fn line(_: &mut SchemaGenerator) -> Schema {
    text(256, "^[^\\r\\n]+$")
}

/// A Kafka topic prefix: short enough for the longest table.
pub(super) fn topic_prefix(_: &mut SchemaGenerator) -> Schema {
    text(100, "^[A-Za-z0-9][A-Za-z0-9._-]*$")
}

/// A Kafka topic.
pub(super) fn topic(_: &mut SchemaGenerator) -> Schema {
    text(249, "^[A-Za-z0-9_][A-Za-z0-9._-]*$")
}

/// Kafka brokers.
pub(super) fn bootstrap_servers(_: &mut SchemaGenerator) -> Schema {
    text(2048, "^[^\\s,:/]+:[0-9]{1,5}(,[^\\s,:/]+:[0-9]{1,5})*$")
}

/// An IANA time zone.
pub(super) fn time_zone(_: &mut SchemaGenerator) -> Schema {
    text(64, "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$")
}

/// A currency by ISO 4217.
pub(super) fn currency(_: &mut SchemaGenerator) -> Schema {
    text(3, "^[A-Z]{3}$")
}

/// A folder's title.
pub(super) fn title(_: &mut SchemaGenerator) -> Schema {
    text(128, "^[^\\s]([^\\r\\n]*[^\\s])?$")
}

/// Name of a dashboard: part of a uid.
pub(super) fn dashboard_name(_: &mut SchemaGenerator) -> Schema {
    text(24, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
}

/// SQL text of a view.
pub(super) fn sql(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 65536})
}

/// A set of order statuses.
pub(super) fn statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32, "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": 64},
    })
}

/// Properties of a connector or consumer.
pub(super) fn properties(_: &mut SchemaGenerator) -> Schema {
    strings(64, 4096)
}

/// Labels or a node selector.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    strings(64, 63)
}

/// Annotations.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    strings(64, 16384)
}

/// Requests and limits of a container.
pub(super) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json_schema!({
            "type": "object", "maxProperties": 8, "description": description,
            "additionalProperties": {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "x-kubernetes-int-or-string": true,
                "maxLength": 32,
                "pattern": "^[0-9]+([.][0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
            },
        })
    };
    json_schema!({
        "type": "object",
        "properties": {"requests": quantities("What a worker is promised."), "limits": quantities("What a worker may use.")},
    })
}

/// Tolerations of the worker pods, as in a pod.
pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string", "maxLength": 317, "description": "Key of the taint; empty: every key."},
                "operator": {"type": "string", "enum": ["Exists", "Equal"], "description": "How key and value are compared."},
                "value": {"type": "string", "maxLength": 63, "description": "Value of the taint."},
                "effect": {
                    "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                    "description": "Effect of the taint; absent: every effect.",
                },
                "tolerationSeconds": {
                    "type": "integer", "format": "int64",
                    "description": "How long a NoExecute taint is tolerated, in seconds.",
                },
            },
        },
    })
}

/// Secrets for image registries.
pub(super) fn image_pull_secrets(generate: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {"name": object_name(generate)}},
    })
}

fn text(most: u32, pattern: &str) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": most, "pattern": pattern})
}

fn strings(most: u32, longest: u32) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": most,
        "additionalProperties": {"type": "string", "maxLength": longest},
    })
}
