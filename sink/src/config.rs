//! The sink's configuration file, read and checked. I/O: reads the file.

use std::collections::BTreeSet;
use std::path::Path;

use tidemark_crds::sink_config::{SINK_CONFIG_VERSION, SinkConfig};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path:?} cannot be read: {source}")]
    Read {
        /// Path of the file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not of the expected form.
    #[error("configuration file is not valid: {0}")]
    Parse(#[from] serde_json::Error),
    /// The file is of another version.
    #[error(
        "configuration version {found} is not {SINK_CONFIG_VERSION}; use the sink image that belongs to the operator"
    )]
    Version {
        /// Version of the file.
        found: u64,
    },
    /// Two tables share a name that must be their own, or a number makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// Reads and checks a configuration file (JSON).
pub fn load(path: &Path) -> Result<SinkConfig, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
    parse(&text)
}

/// Checks the text of a configuration file.
pub fn parse(text: &str) -> Result<SinkConfig, ConfigError> {
    // The version first: a file of another version may have any fields.
    let value: serde_json::Value = serde_json::from_str(text)?;
    let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if found != u64::from(SINK_CONFIG_VERSION) {
        return Err(ConfigError::Version { found });
    }
    let config: SinkConfig = serde_json::from_value(value)?;
    let invalid = |text: String| Err(ConfigError::Invalid(text));
    if config.tables.is_empty() {
        return invalid("tables: there is none to apply".to_owned());
    }
    let (mut topics, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for table in &config.tables {
        if !topics.insert(&table.topic) {
            return invalid(format!("tables: topic {} is listed twice", table.topic));
        }
        if !targets.insert(&table.target) {
            return invalid(format!("tables: target {} is listed twice", table.target));
        }
    }
    if config.batch.max_rows == 0 || config.batch.max_bytes == 0 {
        return invalid("batch: maxRows and maxBytes must be above 0".to_owned());
    }
    if config.verification.rows_per_second == 0 {
        return invalid("verification: rowsPerSecond must be above 0".to_owned());
    }
    Ok(config)
}

/// A configuration for tests of other modules.
#[cfg(test)]
pub(crate) fn example() -> SinkConfig {
    parse(tests::TEXT).expect("a good file")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TEXT: &str = r#"{
        "version": 6, "pipeline": "shop/shop",
        "kafka": {"bootstrapServers": "kafka:9092", "groupId": "g", "topicPrefix": "shop",
                  "heartbeatTopic": "__debezium-heartbeat.shop", "maxMessageBytes": 67108864},
        "clickhouse": {"url": "http://ch:8123", "database": "d", "usernameFile": "/u", "passwordFile": "/p"},
        "postgres": {"host": "pg", "port": 5432, "database": "shop", "usernameFile": "/u", "passwordFile": "/p",
                     "tls": "Disable", "reads": {"maxConnections": 2}},
        "tables": [{"source": "public.orders", "topic": "shop.public.orders", "target": "orders"}],
        "batch": {"maxRows": 1000000, "maxBytes": 67108864, "maxAgeMs": 300, "insertsPerSecond": 25, "replicas": 2},
        "deadLetter": {"topic": "shop.dead-letter", "maxSharePerMille": 10},
        "verification": {"enabled": true, "rowsPerSecond": 1000, "intervalMs": 3600000},
        "cleanup": {"enabled": true, "afterMs": 3600000}}"#;

    #[test]
    fn a_good_file_is_taken() {
        assert_eq!(parse(TEXT).unwrap().tables[0].target, "orders");
    }

    #[test]
    fn another_version_is_refused_before_its_fields_are_looked_at() {
        let text = r#"{"version": 5, "somethingNew": true}"#;
        assert!(matches!(parse(text), Err(ConfigError::Version { found: 5 })));
    }

    #[test]
    fn a_table_listed_twice_is_named() {
        let table = r#"{"source": "public.orders", "topic": "shop.public.orders", "target": "orders"}"#;
        let text = TEXT.replace(table, &format!("{table},{table}"));
        assert!(parse(&text).unwrap_err().to_string().contains("shop.public.orders"));
    }
}
