//! The Debezium connector: its whole configuration, and what brings the live one there. Pure.

use std::collections::BTreeMap;

use tidemark_crds::conditions::Reason;
use tidemark_crds::connect_settings::is_free;
use tidemark_crds::layout::{LeftOutReason, SourceTable, TableLayout, Wire};
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::names::{PipelineName, Topics, short_hash};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, ConnectorState, DatabaseCredentialsType, TlsMode};
use tidemark_crds::secrets::{is_placeholder, is_secret};
use tidemark_runtime::credentials::Credentials;

use super::layouts::renamed_types;
use super::part::{Part, Problem};

use crate::core::cdc::epochs::raising;
use crate::core::effect::{ConnectEffect, Effect};
use crate::core::facts::{ConnectFacts, ConnectorFacts, LedgerFacts, PostgresFacts};
use crate::core::gate::{Gate, System};
use crate::core::step::{Fact, Stage, StepKind};

/// The connector's class.
pub const CONNECTOR_CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";
/// Key of our mark in the connector's configuration.
pub const MARK_KEY: &str = "tidemark.mark";
/// Key of the identity of the ClickHouse database that the connector's epoch was begun for.
pub const CLICKHOUSE_KEY: &str = "tidemark.clickhouse";
/// Key of the identity of the source that the connector's epoch was begun on.
pub const POSTGRES_KEY: &str = "tidemark.postgres";
/// Key of a hash over the names of types that became those of other kinds of types: it knows the types of its start, and
/// starts anew when this is another one.
pub const TYPES_KEY: &str = "tidemark.types";
/// What the connector bears witness of.
const IDENTITIES: [(&str, System); 2] =
    [(CLICKHOUSE_KEY, System::ClickHouse), (POSTGRES_KEY, System::Postgres)];
/// Key of the hash over the configuration as it was written: another one was written by hand.
pub const HASH_KEY: &str = "tidemark.hash";
/// Settings of ours that decide how fast changes come, and not which.
const PACE: [&str; 9] = [
    "heartbeat.interval.ms",
    "poll.interval.ms",
    "max.batch.size",
    "max.queue.size",
    "max.queue.size.in.bytes",
    "topic.heartbeat.prefix",
    "producer.override.compression.type",
    "errors.max.retries",
    "extended.headers.enabled",
];
/// Keys that are set beside the [fixed] ones.
const SET: [&str; 21] = [
    "name",
    "database.hostname",
    "database.port",
    "database.dbname",
    "database.user",
    "database.password",
    "database.sslmode",
    "topic.prefix",
    "slot.name",
    "publication.name",
    "table.include.list",
    "column.exclude.list",
    "producer.override.max.request.size",
    "producer.override.buffer.memory",
    KEY_COLUMNS,
    EPOCH_KEY,
    MARK_KEY,
    HASH_KEY,
    TYPES_KEY,
    CLICKHOUSE_KEY,
    POSTGRES_KEY,
];
/// Name of the intent under which the epoch is raised.
pub const EPOCH_INTENT: &str = "epoch";
/// Prefix of the logical messages that are ours.
const MESSAGE_PREFIX: &str = "tidemark";
/// Bytes of the connector's send buffer at least: Kafka's own default.
const PRODUCER_BUFFER: u64 = 32 << 20;
/// Key of the columns that make a record's key.
const KEY_COLUMNS: &str = "message.key.columns";
/// What the connector's sessions begin with, whatever the server, the database or the role has set: under
/// `bytea_output=escape` it fails at the first value, and other settings change what values look like.
const SESSION: &str = "-c bytea_output=hex -c IntervalStyle=postgres -c lc_monetary=C -c statement_timeout=0 \
                       -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";
/// Key of the epoch header's value.
const EPOCH_KEY: &str = "transforms.epoch.value.literal";
/// What the connector is built from.
#[derive(Debug, Clone)]
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
    /// Layouts of the tables, and of others.
    pub layouts: &'a [TableLayout],
    /// Keys of tables that are told apart by other columns than their primary key's; absent: not known, then those
    /// of the live connector stay.
    pub keys: Option<BTreeMap<SourceTable, Vec<String>>>,
    /// Value of [`TYPES_KEY`] by [`types`]; absent: there are none.
    pub types: Option<String>,
    /// Epoch of the ledger; 0: none yet.
    pub epoch: u16,
    /// Greatest epoch that is known to have been.
    pub known_epoch: u16,
    /// Whether it must not be started as it is: see [`must_not_start`](crate::core::cdc::epochs::must_not_start).
    pub held: bool,
    /// What may be done.
    pub gate: &'a Gate,
}

/// Whether a connector carries our mark.
pub fn is_ours(live: &ConnectorFacts, mark: &str) -> bool {
    live.config.get(MARK_KEY).is_some_and(|found| found == mark)
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
    let keys = input.keys.as_ref().map(key_columns).unwrap_or_default();
    let left_out = exclude_list(input.layouts);
    for (key, list) in [(KEY_COLUMNS, keys), ("column.exclude.list", left_out)] {
        if !list.is_empty() {
            set(key, list);
        }
    }
    let most = spec.kafka.most_message_bytes();
    set("producer.override.max.request.size", most.to_string());
    // Room for the largest record beside those that wait.
    set("producer.override.buffer.memory", most.saturating_mul(2).max(PRODUCER_BUFFER).to_string());
    set(EPOCH_KEY, input.epoch.to_string());
    if let Some(types) = &input.types {
        set(TYPES_KEY, types.clone());
    }
    set(MARK_KEY, input.mark.to_owned());
    for (key, system) in IDENTITIES {
        if let Some(identity) = input.gate.identity(system).filter(|identity| !identity.is_empty()) {
            set(key, identity.to_owned());
        }
    }
    let mut problems = Vec::new();
    match credentials(input) {
        Ok((username, password)) => {
            set("database.user", username);
            set("database.password", password);
        }
        Err(problem) => problems.push(problem),
    }
    for (key, value) in &spec.source.connect.config {
        let refused = if config.contains_key(key) {
            Some("is set by tidemark")
        } else if !is_free(key) {
            Some("may decide which rows come, or what is in them (docs/postgresql.md lists what may be set)")
        } else if is_secret(key) && !is_placeholder(value) {
            Some("would leak a secret, which a placeholder such as ${secrets:NAMESPACE/NAME:KEY} keeps")
        } else {
            None
        };
        if let Some(why) = refused {
            let message = format!("spec.source.connect.config: {key} {why}: remove it, or correct it");
            problems.push(Problem::new("connector", Reason::InvalidSpec, message));
        } else {
            config.insert(key.clone(), value.clone());
        }
    }
    // How far it has received the log is known to the server, and by it to the operator, as often.
    config.entry("status.update.interval.ms".to_owned()).or_insert_with(|| "1000".to_owned());
    config.insert(HASH_KEY.to_owned(), hash(&config));
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// What the connector's configuration says of the names of types.
pub fn types(ledger: &LedgerFacts) -> Option<String> {
    let names = renamed_types(&ledger.layouts);
    (!names.is_empty()).then(|| short_hash(&names.join(",")))
}

/// A hash over a configuration, without its secrets and what Connect adds.
fn hash(config: &BTreeMap<String, String>) -> String {
    let own = config.iter().filter(|(key, _)| *key != HASH_KEY && *key != "name" && !is_secret(key));
    let lines: Vec<String> = own.map(|(key, value)| format!("{key}={value}")).collect();
    short_hash(&lines.join("\n"))
}

/// Whether somebody changed by hand what the connector sends, or how. What it has sent since, or has not, says nothing of
/// the tables.
pub(crate) fn sends_otherwise(live: &ConnectorFacts) -> bool {
    let by_hand = live.config.get(HASH_KEY).is_some_and(|written| *written != hash(&live.config));
    let is_other = |(key, value): (&String, &String)| {
        !PACE.contains(&key.as_str()) && live.config.get(key) != Some(value)
    };
    let fixed = fixed();
    let is_foreign = |key: &String| !fixed.contains_key(key) && !SET.contains(&key.as_str()) && !is_free(key);
    by_hand && (fixed.iter().any(is_other) || live.config.keys().any(is_foreign))
}

/// What is the same for every pipeline.
fn fixed() -> BTreeMap<String, String> {
    const FIXED: [(&str, &str); 37] = [
        ("connector.class", CONNECTOR_CLASS),
        ("tasks.max", "1"),
        ("plugin.name", "pgoutput"),
        ("driver.options", SESSION),
        // The operator makes the publication, so that its tables are known and its right is asked for once.
        ("publication.autocreate.mode", "disabled"),
        // The sink reads the tables. A slot that was lost must not be papered over by a new one of the same epoch.
        ("snapshot.mode", "no_data"),
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
        // Whatever the worker has: what one broker alone has may be lost, and Connect takes it for written.
        ("producer.override.acks", "all"),
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

/// Debezium reads regular expressions, anchored, with commas between them, and ignores case unless it is told not to.
pub(crate) fn include_list(tables: &[SourceTable]) -> String {
    let mut names: Vec<String> = tables.iter().map(exact).collect();
    names.sort();
    names.join(",")
}

/// Columns that no event should have: they could not be read from it.
fn exclude_list(layouts: &[TableLayout]) -> String {
    let columns = |layout: &TableLayout| -> Vec<String> {
        let left_out = (layout.left_out.iter())
            .filter(|column| column.why != LeftOutReason::Excluded)
            .map(|column| column.source.as_str());
        let unstreamed = (layout.columns.iter())
            .filter(|column| column.wire == Wire::Unstreamed && column.key.is_none())
            .map(|column| column.source.as_str());
        let table = exact(&layout.source);
        left_out.chain(unstreamed).map(|column| format!("{table}\\.{}", escaped(column))).collect()
    };
    let mut names: Vec<String> = layouts.iter().flat_map(columns).collect();
    names.sort();
    names.join(",")
}

/// `TABLE:COLUMN,COLUMN` with `;` between tables.
fn key_columns(keys: &BTreeMap<SourceTable, Vec<String>>) -> String {
    let one = |(table, columns): (&SourceTable, &Vec<String>)| {
        let columns: Vec<String> = columns.iter().map(|column| escaped(column)).collect();
        format!("{}:{}", exact(table), columns.join(","))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(";")
}

/// Where a system cannot be seen, what is known of it alone stays: whose key is not the primary key, and who it is.
fn with_what_stays(
    input: &ConnectorInput<'_>,
    mut wanted: BTreeMap<String, String>,
    live: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if input.keys.is_none()
        && let Some(keys) = live.get(KEY_COLUMNS)
    {
        wanted.insert(KEY_COLUMNS.to_owned(), keys.clone());
    }
    for (key, _) in IDENTITIES {
        if let Some(identity) = live.get(key) {
            wanted.entry(key.to_owned()).or_insert_with(|| identity.clone());
        }
    }
    wanted.insert(HASH_KEY.to_owned(), hash(&wanted));
    wanted
}

/// A regular expression that this table's name alone matches.
fn exact(table: &SourceTable) -> String {
    format!("(?-i){}\\.{}", escaped(&table.schema), escaped(&table.name))
}

/// Other characters than letters and digits by their numbers: Debezium splits its lists at some of them before it reads
/// the expressions, and trims others away.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_alphanumeric() || character == '_' {
            text.push(character);
        } else {
            text = format!("{text}\\x{{{:x}}}", u32::from(character));
        }
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

/// Brings the connector to its configuration and state. While the epoch is being raised it stays stopped:
/// `epochs` goes on from there.
///
/// A configuration is written while no task runs: one that goes on by the former one would drop events of a table
/// that is being read already.
pub fn steps(
    input: &ConnectorInput<'_>,
    facts: &ConnectFacts,
    postgres: Option<&PostgresFacts>,
    ledger: &LedgerFacts,
) -> Part {
    let mut part = Part::default();
    let name = input.name.connector();
    let Some(live) = &facts.connector else {
        create(input, facts, ledger, &mut part);
        return part;
    };
    if !is_ours(live, input.mark) {
        let message = format!(
            "connector {name} exists in connect and was not made by this pipeline: remove or rename it"
        );
        part.problems.push(Problem::new("connector", Reason::Conflict, message));
        return part;
    }
    let raising = raising(ledger);
    // The header follows the ledger when the new epoch is written there, and not before.
    let epoch = match &raising {
        Some(intent) if ledger.epoch == Some(intent.epoch()) => intent.epoch(),
        _ => live.epoch().unwrap_or(0),
    };
    let settled =
        raising.is_none() && live.epoch().is_some_and(|epoch| epoch > 0 && Some(epoch) == ledger.epoch);
    let wanted = config(&ConnectorInput { epoch, ..input.clone() });
    match wanted.map(|wanted| with_what_stays(input, wanted, &live.config)) {
        Ok(wanted) if !is_as_wanted(&wanted, &live.config) => {
            // One whose epoch is being raised is stopped by that.
            if live.state == "STOPPED" || settled {
                change(input, live, wanted, postgres, &mut part);
            }
            return part;
        }
        Ok(_) => {}
        // What runs goes on as it is.
        Err(problems) => part.problems.extend(problems),
    }
    if settled {
        state_step(input, &live.state, &mut part);
    }
    part
}

/// Makes the connector, stopped. One that was removed goes on where it ended, if Connect kept its offsets: what stands
/// against that is found when it is there.
fn create(input: &ConnectorInput<'_>, facts: &ConnectFacts, ledger: &LedgerFacts, part: &mut Part) {
    // None is made beside a system that is another one than before.
    if !input.gate.is_open() {
        return;
    }
    // What was accepted is noted first: where a connector of ours is, there is the Connect of before.
    if input.gate.accepted().is_some() && raising(ledger).is_none() {
        return;
    }
    let name = input.name.connector();
    if !facts.plugin_installed {
        let message =
            format!("connect has no plugin {CONNECTOR_CLASS}: install Debezium's PostgreSQL connector");
        part.problems.push(Problem::new("connector", Reason::ConnectorFailed, message));
        return;
    }
    let goes_on = raising(ledger).is_none() && input.epoch >= input.known_epoch;
    let epoch = if goes_on { input.epoch } else { 0 };
    match config(&ConnectorInput { epoch, ..input.clone() }) {
        Err(problems) => part.problems.extend(problems),
        Ok(config) => {
            let effect = Effect::Connect(ConnectEffect::Create { name: name.clone(), config });
            let what = format!("create connector {name}, stopped");
            let mut needs = vec![Fact::Source, Fact::Incarnation];
            needs.extend(needs_to_run(input));
            part.step((Stage::Connector, StepKind::Create), what, needs, Some(Fact::Connector), effect);
        }
    }
}

/// Stops the tasks, or writes the configuration once the last one has left the slot.
fn change(
    input: &ConnectorInput<'_>,
    live: &ConnectorFacts,
    wanted: BTreeMap<String, String>,
    postgres: Option<&PostgresFacts>,
    part: &mut Part,
) {
    // It is not stopped for a configuration that may not be written.
    let Some(proof) = input.gate.proof(System::Connect) else {
        return;
    };
    let name = input.name.connector();
    let changed: Vec<&str> = wanted
        .iter()
        .filter(|(key, value)| live.config.get(*key) != Some(value))
        .map(|(key, _)| key.as_str())
        .chain(
            live.config.keys().map(String::as_str).filter(|key| *key != "name" && !wanted.contains_key(*key)),
        )
        .collect();
    let told = changed.iter().copied().filter(|key| *key != HASH_KEY).collect::<Vec<_>>();
    let changed = if told.is_empty() { HASH_KEY.to_owned() } else { told.join(", ") };
    // Whatever the new configuration needs, so that it is not stopped for one that cannot be written.
    let mut needs = vec![Fact::Connector];
    needs.extend(needs_to_run(input));
    if live.state != "STOPPED" {
        let what = format!("stop connector {name} to change {changed}");
        let effect = Effect::Connect(ConnectEffect::Stop(name));
        part.step((Stage::Connector, StepKind::Change), what, needs, None, effect);
        return;
    }
    if postgres.and_then(|postgres| postgres.slot.as_ref()).is_some_and(|slot| slot.active) {
        needs.push(Fact::Other("the slot to be left by its reader".into()));
    }
    let what = format!("change connector {name}: {changed}");
    let effect = Effect::Connect(ConnectEffect::PutConfig { name, config: proof.allow(wanted) });
    part.step((Stage::Connector, StepKind::Change), what, needs, None, effect);
}

/// What has to be there before tables are captured.
fn needs_to_run(input: &ConnectorInput<'_>) -> Vec<Fact> {
    let topics = Topics { prefix: &input.spec.kafka.topic_prefix };
    let mut needs = vec![Fact::Publication];
    needs.extend(input.tables.iter().map(|table| Fact::Topic(topics.table(table))));
    needs.extend([topics.heartbeat(), topics.message(), topics.owner(input.mark)].map(Fact::Topic));
    needs
}

/// Whether all that is wanted is there, and nothing of ours is there that is not wanted any more.
fn is_as_wanted(wanted: &BTreeMap<String, String>, live: &BTreeMap<String, String>) -> bool {
    // Connect adds the name; the rest is what was written last.
    wanted.iter().all(|(key, value)| live.get(key) == Some(value))
        && live.keys().all(|key| key == "name" || wanted.contains_key(key))
}

fn state_step(input: &ConnectorInput<'_>, live: &str, part: &mut Part) {
    let name = input.name.connector();
    let wanted = match input.spec.source.connect.state {
        ConnectorState::Running => "RUNNING",
        ConnectorState::Paused => "PAUSED",
        ConnectorState::Stopped => "STOPPED",
    };
    let (verb, effect) = match (wanted, live) {
        ("RUNNING", "PAUSED" | "STOPPED") if !input.held => ("resume", ConnectEffect::Resume(name.clone())),
        ("PAUSED", "RUNNING" | "STOPPED" | "FAILED") => ("pause", ConnectEffect::Pause(name.clone())),
        ("STOPPED", "RUNNING" | "PAUSED" | "FAILED") => ("stop", ConnectEffect::Stop(name.clone())),
        _ => return,
    };
    let what = format!("{verb} connector {name}");
    let mut needs = vec![Fact::Connector];
    if verb == "resume" {
        // Only where PostgreSQL was seen: a slot that is gone would be made anew, from then on, and what came before
        // would be missing without a word.
        needs.push(Fact::Publication);
    }
    part.step((Stage::Connector, StepKind::Change), what, needs, None, Effect::Connect(effect));
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
