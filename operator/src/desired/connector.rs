//! The Debezium connector: its whole configuration, and what brings the live one there. Pure.

use std::collections::BTreeMap;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::{
    AnalyticsPipelineSpec, ConnectorState, DatabaseCredentialsType, SaslMechanism, TlsMode,
};
use tidemark_runtime::credentials::Credentials;

use super::part::{Part, Problem};
use super::snapshots::raising;
use crate::effect::{ConnectEffect, Effect};
use crate::facts::{ConnectFacts, LedgerFacts};
use crate::step::{Fact, Stage, StepKind};

/// The connector's class.
pub const CONNECTOR_CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";
/// Key of our mark in the connector's configuration.
pub const MARK_KEY: &str = "tidemark.mark";
/// Name of the intent under which the epoch is raised.
pub const EPOCH_INTENT: &str = "epoch";
/// Prefix of the logical messages that are ours.
const MESSAGE_PREFIX: &str = "tidemark";
/// Bytes of the connector's send buffer at least: Kafka's own default.
const PRODUCER_BUFFER: u64 = 32 << 20;
/// Key of the epoch header's value.
const EPOCH_KEY: &str = "transforms.epoch.value.literal";
/// Users' keys that would undo what the rows' correctness rests on, by their beginnings.
const REFUSED_PREFIXES: [&str; 7] =
    ["transforms", "tidemark.", "key.converter", "value.converter", "signal.", "notification.", "message."];

/// What the connector is built from.
#[derive(Debug, Clone, Copy)]
pub struct ConnectorInput<'a> {
    /// The pipeline.
    pub name: &'a PipelineName,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// The spec.
    pub spec: &'a AnalyticsPipelineSpec,
    /// The database account, where it is known; needed for `Inline`.
    pub postgres: Option<&'a Credentials>,
    /// Tables to capture.
    pub tables: &'a [SourceTable],
    /// Epoch of the ledger; 0: none yet.
    pub epoch: u16,
}

/// The connector's whole configuration.
pub fn config(input: &ConnectorInput<'_>) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let mut config: BTreeMap<String, String> = fixed();
    let mut set = |key: &str, value: String| {
        config.insert(key.to_owned(), value);
    };
    let spec = input.spec;
    let postgres = &spec.source.postgres;
    set("database.hostname", postgres.host.clone());
    set("database.port", postgres.port.to_string());
    set("database.dbname", postgres.database.clone());
    set("database.sslmode", ssl_mode(postgres.tls.mode).to_owned());
    set("topic.prefix", spec.kafka.topic_prefix.clone());
    set("slot.name", input.name.replication_slot());
    set("publication.name", input.name.publication());
    set("table.include.list", include_list(input.tables));
    let topics = Topics { prefix: &spec.kafka.topic_prefix };
    set("signal.kafka.topic", topics.signal());
    set("signal.kafka.groupId", format!("{}signal", input.name.consumer_group_prefix()));
    set("signal.kafka.bootstrap.servers", spec.kafka.bootstrap_servers.clone());
    set("notification.sink.topic.name", topics.notification());
    let most = spec.kafka.most_message_bytes();
    set("producer.override.max.request.size", most.to_string());
    // Room for the largest record beside those that wait.
    set("producer.override.buffer.memory", most.saturating_mul(2).max(PRODUCER_BUFFER).to_string());
    set(EPOCH_KEY, input.epoch.to_string());
    set(MARK_KEY, input.mark.to_owned());
    let mut problems = Vec::new();
    match credentials(input) {
        Ok((username, password)) => {
            set("database.user", username);
            set("database.password", password);
        }
        Err(problem) => problems.push(problem),
    }
    signal_security(spec, &mut config);
    for (key, value) in &spec.source.connect.config {
        if config.contains_key(key) || is_refused(key) {
            let message = format!(
                "spec.source.connect.config: {key} is set by tidemark or would leak a secret: remove it"
            );
            problems.push(Problem::new("connector", Reason::InvalidSpec, message));
        } else {
            config.insert(key.clone(), value.clone());
        }
    }
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// What is the same for every pipeline.
fn fixed() -> BTreeMap<String, String> {
    const FIXED: [(&str, &str); 39] = [
        ("connector.class", CONNECTOR_CLASS),
        ("tasks.max", "1"),
        ("plugin.name", "pgoutput"),
        // The operator makes the publication, so that its tables are known and its right is asked for once.
        ("publication.autocreate.mode", "disabled"),
        // A slot that was lost must not be papered over by a snapshot of the same epoch, as `when_needed` would.
        ("snapshot.mode", "initial"),
        ("snapshot.locking.mode", "none"),
        ("slot.drop.on.stop", "false"),
        ("decimal.handling.mode", "string"),
        ("time.precision.mode", "microseconds"),
        // Each part with its own sign: a number of microseconds has months of an average length.
        ("interval.handling.mode", "string"),
        // As base64 all the same, once the converter has written it; under `base64` an unchanged out-of-line value
        // has no placeholder and comes as NULL.
        ("binary.handling.mode", "bytes"),
        ("hstore.handling.mode", "json"),
        ("include.unknown.datatypes", "true"),
        // The default leaves truncates out.
        ("skipped.operations", "none"),
        ("tombstones.on.delete", "false"),
        ("provide.transaction.metadata", "false"),
        // Keeps the slot moving and freshness known while nothing changes.
        ("heartbeat.interval.ms", "1000"),
        // Half the default's tail for the first row after a quiet moment.
        ("poll.interval.ms", "50"),
        ("max.batch.size", "8192"),
        ("max.queue.size", "32768"),
        ("max.queue.size.in.bytes", "67108864"),
        ("topic.heartbeat.prefix", "__debezium-heartbeat"),
        // Incremental snapshots are asked for through Kafka and write nothing to the source.
        ("read.only", "true"),
        ("signal.enabled.channels", "kafka"),
        ("notification.enabled.channels", "sink"),
        ("incremental.snapshot.chunk.size", "4096"),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("key.converter.schemas.enable", "false"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "false"),
        // NULL in a column with a default is NULL.
        ("key.converter.replace.null.with.default", "false"),
        ("value.converter.replace.null.with.default", "false"),
        // Four headers a record that nobody reads.
        ("extended.headers.enabled", "false"),
        // Any program may emit a message into the log; only ours go on to a topic.
        ("message.prefix.include.list", MESSAGE_PREFIX),
        // A record is counted before it is compressed.
        ("producer.override.compression.type", "lz4"),
        ("transforms", "epoch"),
        ("transforms.epoch.type", "org.apache.kafka.connect.transforms.InsertHeader"),
        ("transforms.epoch.header", EPOCH_HEADER),
        // Growing pauses within the task, then it fails and the operator restarts it.
        ("errors.max.retries", "10"),
    ];
    FIXED.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn ssl_mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

/// Debezium reads regular expressions, anchored, with commas between them.
pub(super) fn include_list(tables: &[SourceTable]) -> String {
    let mut names: Vec<String> =
        tables.iter().map(|table| format!("{}\\.{}", escaped(&table.schema), escaped(&table.name))).collect();
    names.sort();
    names.join(",")
}

fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if !character.is_alphanumeric() && character != '_' {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn credentials(input: &ConnectorInput<'_>) -> Result<(String, String), Problem> {
    let given = &input.spec.source.connect.database_credentials;
    match given.r#type {
        DatabaseCredentialsType::ConfigProvider => match (&given.username, &given.password) {
            (Some(username), Some(password)) => Ok((username.clone(), password.clone())),
            _ => Err(Problem::new(
                "connector",
                Reason::InvalidSpec,
                "spec.source.connect.databaseCredentials: ConfigProvider needs username and password, the \
                 placeholders that connect resolves",
            )),
        },
        DatabaseCredentialsType::Inline => input
            .postgres
            .map(|account| (account.username.clone(), account.password.expose().to_owned()))
            .ok_or_else(|| {
                Problem::new(
                    "connector",
                    Reason::CredentialsMissing,
                    "the connector needs the account of spec.source.postgres.credentials, which cannot be read",
                )
            }),
    }
}

/// The signal channel has a consumer of its own, which does not inherit the worker's security.
fn signal_security(spec: &AnalyticsPipelineSpec, config: &mut BTreeMap<String, String>) {
    let protocol = match (&spec.kafka.tls, &spec.kafka.sasl) {
        (None, None) => return,
        (Some(_), None) => "SSL",
        (None, Some(_)) => "SASL_PLAINTEXT",
        (Some(_), Some(_)) => "SASL_SSL",
    };
    config.insert("signal.consumer.security.protocol".to_owned(), protocol.to_owned());
    if let Some(sasl) = &spec.kafka.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.insert("signal.consumer.sasl.mechanism".to_owned(), mechanism.to_owned());
    }
}

fn is_refused(key: &str) -> bool {
    // What the signal channel's consumer needs to log in is the user's to give, as a placeholder.
    if key.starts_with("signal.consumer.") || key.starts_with("signal.kafka.") {
        return key == "signal.consumer.group.id";
    }
    REFUSED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || ["name", "predicates", "initial_state", "table.exclude.list", "message.key.columns"].contains(&key)
        || key.starts_with("column.")
        || key.ends_with("password")
}

/// Brings the connector to its configuration and state. While the epoch is being raised it stays stopped:
/// `snapshots` goes on from there.
pub fn steps(input: &ConnectorInput<'_>, facts: &ConnectFacts, ledger: &LedgerFacts) -> Part {
    let mut part = Part::default();
    let name = input.name.connector();
    let Some(live) = &facts.connector else {
        if !facts.plugin_installed {
            let message =
                format!("connect has no plugin {CONNECTOR_CLASS}: install Debezium's PostgreSQL connector");
            part.problems.push(Problem::new("connector", Reason::ConnectorFailed, message));
            return part;
        }
        // No epoch yet: the one of the last connector must not be used again.
        match config(&ConnectorInput { epoch: 0, ..*input }) {
            Err(problems) => part.problems.extend(problems),
            Ok(config) => {
                let effect = Effect::Connect(ConnectEffect::Create { name: name.clone(), config });
                let what = format!("create connector {name}, stopped");
                part.step(
                    (Stage::Connector, StepKind::Create),
                    what,
                    create_needs(input),
                    Some(Fact::Connector),
                    effect,
                );
            }
        }
        return part;
    };
    if live.config.get(MARK_KEY).map(String::as_str) != Some(input.mark) {
        let message = format!(
            "connector {name} exists in connect and was not made by this pipeline: remove or rename it"
        );
        part.problems.push(Problem::new("connector", Reason::Conflict, message));
        return part;
    }
    let raising = raising(ledger);
    // The header follows the ledger when the new epoch is written there, and not before.
    let epoch = match &raising {
        Some(intent) if ledger.epoch == Some(intent.epoch) => intent.epoch,
        _ => live.epoch().unwrap_or(0),
    };
    let wanted = match config(&ConnectorInput { epoch, ..*input }) {
        Ok(wanted) => wanted,
        Err(problems) => {
            part.problems.extend(problems);
            return part;
        }
    };
    let stopped = live.state == "STOPPED";
    // Another epoch in the header of a running connector would be given to events of the old one.
    let may_write = stopped || live.epoch() == Some(epoch);
    if may_write && !is_as_wanted(&wanted, &live.config) {
        let changed: Vec<&str> = wanted
            .iter()
            .filter(|(key, value)| live.config.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect();
        let what = format!("change connector {name}: {}", changed.join(", "));
        let effect = Effect::Connect(ConnectEffect::PutConfig { name, config: wanted });
        part.step(
            (Stage::Connector, StepKind::Change),
            what,
            vec![Fact::Connector, Fact::Publication],
            None,
            effect,
        );
        return part;
    }
    let settled =
        raising.is_none() && live.epoch().is_some_and(|epoch| epoch > 0 && Some(epoch) == ledger.epoch);
    if settled || !stopped {
        state_step(input, &live.state, settled, &mut part);
    }
    part
}

fn create_needs(input: &ConnectorInput<'_>) -> Vec<Fact> {
    let topics = Topics { prefix: &input.spec.kafka.topic_prefix };
    let mut needs = vec![Fact::Source, Fact::Publication, Fact::Incarnation];
    needs.extend(input.tables.iter().map(|table| Fact::Topic(topics.table(table))));
    needs.extend(
        [topics.heartbeat(), topics.signal(), topics.notification(), topics.message()].map(Fact::Topic),
    );
    needs
}

/// Whether all that is wanted is there, and nothing of ours is there that is not wanted any more.
fn is_as_wanted(wanted: &BTreeMap<String, String>, live: &BTreeMap<String, String>) -> bool {
    // Connect adds the name; the rest is what was written last.
    wanted.iter().all(|(key, value)| live.get(key) == Some(value))
        && live.keys().all(|key| key == "name" || wanted.contains_key(key))
}

fn state_step(input: &ConnectorInput<'_>, live: &str, settled: bool, part: &mut Part) {
    let name = input.name.connector();
    let wanted = match input.spec.source.connect.state {
        // A running connector whose epoch is not settled is stopped by `snapshots`.
        _ if !settled => return,
        ConnectorState::Running => "RUNNING",
        ConnectorState::Paused => "PAUSED",
        ConnectorState::Stopped => "STOPPED",
    };
    let (verb, effect) = match (wanted, live) {
        ("RUNNING", "PAUSED" | "STOPPED") => ("resume", ConnectEffect::Resume(name.clone())),
        ("PAUSED", "RUNNING" | "STOPPED" | "FAILED") => ("pause", ConnectEffect::Pause(name.clone())),
        ("STOPPED", "RUNNING" | "PAUSED" | "FAILED") => ("stop", ConnectEffect::Stop(name.clone())),
        _ => return,
    };
    let what = format!("{verb} connector {name}");
    part.step(
        (Stage::Connector, StepKind::Change),
        what,
        vec![Fact::Connector],
        None,
        Effect::Connect(effect),
    );
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
