//! The sink's configuration file, from the spec and the ledger's incarnation. Pure.

use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Cleanup, Postgres, Verification};
use tidemark_crds::sink_config::{
    BatchConfig, CleanupConfig, ClickHouseConfig, ConnectConfig, DeadLetterConfig, KafkaConfig, LoginFiles,
    PostgresConfig, ReadsConfig, SINK_CONFIG_VERSION, SaslFiles, SinkConfig, StandbyConfig, TableRoute,
    TlsFiles, VerificationConfig,
};

use crate::core::credentials::mechanism;

/// File of the configuration, below [`Paths::config`].
pub const CONFIG_FILE: &str = "sink.json";
/// File of a SASL user name that stands in the spec, below [`Paths::config`].
pub const SASL_USERNAME_FILE: &str = "kafka-username";

/// Folders that the sink finds its files in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What the ConfigMap holds.
    pub config: String,
    /// Secrets, one folder a part.
    pub secrets: String,
}

impl Paths {
    /// Folders in the sink's container.
    pub fn in_container() -> Self {
        Self { config: "/etc/tidemark".into(), secrets: "/var/run/secrets/tidemark".into() }
    }
}

/// Builds the sink's configuration; `routes` pairs each source table with its state table.
pub fn sink_config(
    spec: &AnalyticsPipelineSpec,
    name: &PipelineName,
    incarnation: &str,
    routes: &[(SourceTable, String)],
    paths: &Paths,
) -> Result<SinkConfig, duration::ParseError> {
    let topics = Topics { prefix: &spec.kafka.topic_prefix };
    let secret = |file: &str| format!("{}/{file}", paths.secrets);
    let tls = spec.kafka.tls.as_ref().map(|tls| {
        let client = tls.client_certificate.is_some();
        TlsFiles {
            ca: tls.ca.is_some().then(|| secret("kafka-ca/ca.crt")),
            certificate: client.then(|| secret("kafka-client/tls.crt")),
            key: client.then(|| secret("kafka-client/tls.key")),
        }
    });
    let sasl = spec.kafka.sasl.as_ref().map(|sasl| SaslFiles {
        mechanism: mechanism(sasl.mechanism).to_owned(),
        username_file: match sasl.credentials.username {
            Some(_) => format!("{}/{SASL_USERNAME_FILE}", paths.config),
            None => secret("kafka/username"),
        },
        password_file: secret("kafka/password"),
    });
    let clickhouse = &spec.clickhouse;
    let batch = &spec.sink.batch;
    let dead_letter = &spec.sink.dead_letter;
    Ok(SinkConfig {
        version: SINK_CONFIG_VERSION,
        pipeline: name.to_string(),
        kafka: KafkaConfig {
            bootstrap_servers: spec.kafka.bootstrap_servers.clone(),
            group_id: name.consumer_group(incarnation),
            topic_prefix: spec.kafka.topic_prefix.clone(),
            heartbeat_topic: topics.heartbeat(),
            max_message_bytes: spec.kafka.most_message_bytes(),
            tls,
            sasl,
            properties: spec.kafka.consumer_properties.clone(),
        },
        clickhouse: ClickHouseConfig {
            url: clickhouse.url.clone(),
            database: clickhouse.database.clone(),
            username_file: secret("clickhouse/username"),
            password_file: secret("clickhouse/password"),
            ca_file: clickhouse
                .tls
                .as_ref()
                .and_then(|tls| tls.ca.as_ref())
                .map(|_| secret("clickhouse-ca/ca.crt")),
        },
        postgres: PostgresConfig {
            host: spec.source.postgres.host.clone(),
            port: spec.source.postgres.port,
            database: spec.source.postgres.database.clone(),
            username_file: secret("postgres/username"),
            password_file: secret("postgres/password"),
            tls: spec.source.postgres.tls.mode,
            ca_file: spec.source.postgres.tls.ca.as_ref().map(|_| secret("postgres-ca/ca.crt")),
            reads: reads(&spec.source.postgres),
        },
        connect: Some(connect(spec, name, paths)),
        tables: routes
            .iter()
            .map(|(source, target)| TableRoute {
                source: source.clone(),
                topic: topics.table(source),
                target: target.clone(),
            })
            .collect(),
        batch: BatchConfig {
            max_rows: u64::try_from(batch.max_rows).unwrap_or(1),
            max_bytes: duration::bytes(&batch.max_bytes)?,
            max_age_ms: duration::milliseconds(&batch.max_age)?,
            inserts_per_second: u32::try_from(batch.inserts_per_second).unwrap_or(1),
            // A sink scaled to zero has no replica that could divide by it.
            replicas: u32::try_from(spec.sink.replicas).unwrap_or(1).max(1),
        },
        dead_letter: DeadLetterConfig {
            topic: dead_letter.topic.clone().unwrap_or_else(|| topics.dead_letter()),
            max_share_per_mille: duration::per_mille(&dead_letter.max_share)?,
        },
        verification: verification(&spec.verification)?,
        cleanup: cleanup(&clickhouse.cleanup)?,
    })
}

fn connect(spec: &AnalyticsPipelineSpec, name: &PipelineName, paths: &Paths) -> ConnectConfig {
    let connect = &spec.source.connect;
    let secret = |file: &str| format!("{}/{file}", paths.secrets);
    let authority = connect.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    ConnectConfig {
        url: connect.url.clone(),
        connector: name.connector(),
        check: connect.tls.as_ref().map(|tls| tls.mode).unwrap_or_default(),
        ca_file: authority.map(|_| secret("connect-ca/ca.crt")),
        login: connect.credentials.as_ref().map(|_| LoginFiles {
            username_file: secret("connect/username"),
            password_file: secret("connect/password"),
        }),
    }
}

fn verification(wanted: &Verification) -> Result<VerificationConfig, duration::ParseError> {
    Ok(VerificationConfig {
        enabled: wanted.enabled,
        rows_per_second: u32::try_from(wanted.rows_per_second).unwrap_or(1),
        interval_ms: duration::milliseconds(&wanted.interval)?,
    })
}

fn cleanup(wanted: &Cleanup) -> Result<CleanupConfig, duration::ParseError> {
    Ok(CleanupConfig { enabled: wanted.enabled, after_ms: duration::milliseconds(&wanted.after)? })
}

fn reads(source: &Postgres) -> ReadsConfig {
    let reads = &source.reads;
    ReadsConfig {
        max_connections: u8::try_from(reads.max_connections).unwrap_or(1),
        rows_per_second: reads.rows_per_second.map(|rows| u32::try_from(rows).unwrap_or(u32::MAX)),
        standby: reads
            .host
            .clone()
            .map(|host| StandbyConfig { host, port: reads.port.unwrap_or(source.port) }),
    }
}

/// Text whose change needs new pods: the configuration without the number of replicas.
///
/// A scaled Deployment starts and ends pods by itself; rolling the others on top would stop the data.
pub fn roll_text(config: &SinkConfig) -> String {
    let mut config = config.clone();
    config.batch.replicas = 0;
    serde_json::to_string(&config).expect("a sink configuration is plain data")
}
