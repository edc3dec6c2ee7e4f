//! Which properties of the connector a user may set: those that decide how it connects and how patient it is, and none that
//! decides which rows come or what is in them. Pure.
//!
//! What is listed is known; what is not is refused, for a property of tomorrow's Debezium may drop rows in silence, as
//! `event.processing.failure.handling.mode=skip` and `errors.tolerance=all` do today.

use std::fmt::Write as _;

/// Properties by their names.
pub const FREE: [&str; 48] = [
    "config.action.reload",
    "connection.validation.timeout.ms",
    "custom.metric.tags",
    "database.query.timeout.ms",
    "database.sslcert",
    "database.sslfactory",
    "database.sslkey",
    "database.sslpassword",
    "database.sslrootcert",
    "database.tcpKeepAlive",
    "errors.log.enable",
    "errors.log.include.messages",
    "errors.retry.delay.max.ms",
    "errors.retry.timeout",
    "executor.shutdown.timeout.ms",
    "guardrail.collections.limit.action",
    "guardrail.collections.max",
    "producer.override.batch.size",
    "producer.override.client.dns.lookup",
    "producer.override.client.id",
    "producer.override.compression.gzip.level",
    "producer.override.compression.lz4.level",
    "producer.override.compression.zstd.level",
    "producer.override.connections.max.idle.ms",
    "producer.override.delivery.timeout.ms",
    "producer.override.linger.ms",
    "producer.override.max.block.ms",
    "producer.override.max.in.flight.requests.per.connection",
    "producer.override.metadata.max.age.ms",
    "producer.override.metadata.max.idle.ms",
    "producer.override.receive.buffer.bytes",
    "producer.override.reconnect.backoff.max.ms",
    "producer.override.reconnect.backoff.ms",
    "producer.override.request.timeout.ms",
    "producer.override.retries",
    "producer.override.retry.backoff.max.ms",
    "producer.override.retry.backoff.ms",
    "producer.override.security.protocol",
    "producer.override.send.buffer.bytes",
    "producer.override.socket.connection.setup.timeout.max.ms",
    "producer.override.socket.connection.setup.timeout.ms",
    "retriable.restart.connector.wait.ms",
    "slot.failover",
    "slot.max.retries",
    "slot.retry.delay.ms",
    "status.update.interval.ms",
    "admin.override.security.protocol",
    "xmin.fetch.interval.ms",
];

/// Properties by their beginnings.
pub const FREE_PREFIXES: [&str; 7] = [
    "admin.override.sasl.",
    "admin.override.ssl.",
    "openlineage.",
    "producer.override.metric",
    "producer.override.sasl.",
    "producer.override.ssl.",
    "topic.creation.",
];

/// Whether a user may set a property.
pub fn is_free(property: &str) -> bool {
    FREE.contains(&property) || FREE_PREFIXES.iter().any(|prefix| property.starts_with(prefix))
}

/// The same as a rule of the schema, in CEL.
pub fn rule() -> String {
    let quoted = |names: &[&str]| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let mut rule = format!("self.all(k, (k in [{}]", quoted(&FREE));
    for prefix in FREE_PREFIXES {
        let _ = write!(rule, " || k.startsWith('{prefix}')");
    }
    rule.push_str("))");
    rule
}

/// What the rule says where it is broken.
pub const MESSAGE: &str = "connect.config takes properties of connections, TLS, retries and pace alone: one that decides which \
                           rows come, or what is in them, is Tidemark's to set (docs/postgresql.md lists what may be set)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_what_may_be_set() {
        let text = include_str!("../../docs/postgresql.md");
        for property in FREE.iter().chain(&FREE_PREFIXES) {
            let short = property.strip_prefix("producer.override.").unwrap_or(property);
            assert!([property, &short].iter().any(|name| text.contains(&format!("`{name}`"))), "{property}");
        }
    }

    #[test]
    fn what_loses_or_changes_rows_is_not_free() {
        for property in [
            "errors.tolerance",
            "event.processing.failure.handling.mode",
            "unavailable.value.placeholder",
            "converters",
            "field.name.adjustment.mode",
            "slot.stream.params",
            "header.converter",
            "sourceinfo.struct.maker",
            "producer.override.acks",
            "producer.override.bootstrap.servers",
            "producer.override.interceptor.classes",
            "producer.override.value.serializer",
            "offsets.storage.topic",
            "database.initial.statements",
            "slot.name",
            "transforms",
            "a.property.of.tomorrow",
            "",
        ] {
            assert!(!is_free(property), "{property}");
        }
        for property in [
            "producer.override.linger.ms",
            "producer.override.sasl.mechanism",
            "database.sslrootcert",
            "slot.failover",
        ] {
            assert!(is_free(property), "{property}");
        }
    }
}
