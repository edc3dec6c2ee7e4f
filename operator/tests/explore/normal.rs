//! What has to be equal of two estates that went different ways: everything but ids, times and positions of the log.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use tidemark_crds::ledger::Kind;

use super::clickhouse::Database;
use super::estate::Estate;

/// What the connector is told its epoch by.
pub(super) const EPOCH_KEY: &str = "transforms.epoch.value.literal";
/// Where it has the hash of all that, which has ids in it.
const HASH_KEY: &str = "tidemark.hash";
/// Names that were given once.
static IDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"id\d{5}").unwrap());
/// Hashes, which have ids in them.
static HASHES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""tidemark.dev/[a-z-]+":"[0-9a-f]{8}""#).unwrap());

/// The estate for comparison, one line a thing.
pub(super) fn normal(estate: &Estate) -> Vec<String> {
    let mut lines = Lines { all: Vec::new(), incarnations: incarnations(estate), epoch: epoch(estate) };
    lines.of_source_and_brokers(estate);
    lines.of_connect(estate);
    for (address, server) in &estate.clickhouse {
        for (name, database) in &server.databases {
            lines.of_database(&format!("{address} {name}"), database);
        }
    }
    lines.of_dashboards(estate);
    lines.of_namespace(estate);
    lines.all.sort();
    lines.all
}

struct Lines {
    all: Vec<String>,
    incarnations: Vec<String>,
    /// Epochs tell one life of the log from another: which number it has hangs on what was seen of lives before.
    epoch: Option<u16>,
}

impl Lines {
    fn line(&mut self, system: &str, address: &str, what: &Value) {
        let mut text = format!("{system} {address}: {what}");
        for incarnation in &self.incarnations {
            text = text.replace(incarnation.as_str(), "incarnation");
        }
        let text = IDS.replace_all(&text, "id");
        self.all.push(HASHES.replace_all(&text, "").into_owned());
    }

    fn rank(&self, epoch: u16) -> &'static str {
        if Some(epoch) == self.epoch { "current" } else { "former" }
    }

    fn of_source_and_brokers(&mut self, estate: &Estate) {
        for (host, source) in &estate.postgres {
            for (name, live) in &source.publications {
                let tables: Vec<String> = live.tables.keys().map(ToString::to_string).collect();
                let publishes = format!("{:?}", live.publishes);
                self.line("postgres", host, &json!([name, tables, publishes, live.comment]));
            }
            for (name, slot) in &source.slots {
                let what = json!([name, slot.plugin, slot.database, slot.reader, slot.lost]);
                self.line("postgres", host, &what);
            }
        }
        for (address, brokers) in &estate.kafka {
            for (name, topic) in &brokers.topics {
                self.line("kafka", address, &json!([name, topic.partitions, topic.config]));
            }
            for (name, members) in &brokers.groups {
                self.line("kafka", address, &json!([name, members]));
            }
        }
    }

    fn of_connect(&mut self, estate: &Estate) {
        for (address, workers) in &estate.connect {
            for (name, live) in &workers.connectors {
                let mut config = live.config.clone();
                config.remove(HASH_KEY);
                if let Some(literal) = config.get_mut(EPOCH_KEY) {
                    let raising = is_raising(estate);
                    let now = if raising { "open" } else { self.rank(literal.parse().unwrap_or(0)) };
                    now.clone_into(literal);
                }
                self.line("connect", address, &json!([name, config, live.target, live.state, live.error]));
            }
            for name in workers.offsets.keys() {
                self.line("connect", address, &json!(["offsets of", name]));
            }
        }
    }

    fn of_database(&mut self, address: &str, database: &Database) {
        for (name, live) in &database.objects {
            self.line("clickhouse", address, &json!([name, live.engine, live.comment, live.columns]));
        }
        for ((pipeline, kind, key), (_, value)) in &database.ledger {
            if !value.is_null() && is_compared(kind) {
                self.line("ledger", address, &json!([pipeline, kind, key, without_positions(value)]));
            }
        }
        for pipeline in database.ledger.keys().map(|(pipeline, ..)| pipeline).collect::<BTreeSet<_>>() {
            let ledger = database.ledger_of(pipeline);
            for (target, history) in &ledger.layouts {
                let columns = history.last().map(|layout| &layout.columns);
                let is_read = ledger.reads.contains_key(target);
                self.line("layout", address, &json!([pipeline, target, columns, is_read]));
            }
        }
        for (target, fence) in &database.fences {
            let shown = database.objects.get(target).and_then(|live| database.rows.get(&live.uuid));
            let shown = shown.map(|rows| rows.shown(*fence).len());
            self.line("rows", address, &json!([target, self.rank(fence.epoch()), shown]));
        }
        for (key, read) in &database.reads {
            self.line("read", address, &json!([key, self.rank(read.epoch), read.state]));
        }
    }

    /// Versions count the writes, which are more where one had to be done again.
    fn of_dashboards(&mut self, estate: &Estate) {
        for (url, server) in &estate.grafana {
            for (uid, (title, _)) in &server.folders {
                self.line("folder", url, &json!([uid, title]));
            }
            for (uid, (source, _)) in &server.sources {
                let mut source = source.clone();
                source["version"] = Value::Null;
                source["jsonData"]["tidemark"]["basedOn"] = Value::Null;
                self.line("data source", url, &json!([uid, source]));
            }
            for (uid, (model, folder, _)) in &server.dashboards {
                let mut model = model.clone();
                model["version"] = Value::Null;
                model["tidemark"]["basedOn"] = Value::Null;
                self.line("dashboard", url, &json!([uid, folder, model]));
            }
            for (uid, rule) in &server.rules {
                self.line("rule", url, &json!([uid, rule]));
            }
        }
    }

    fn of_namespace(&mut self, estate: &Estate) {
        for (key, object) in &estate.namespace.objects {
            self.line("kubernetes", key, object);
        }
        let Some(resource) = &estate.namespace.resource else { return };
        let status = &resource.status;
        let is_ready = status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
        // How late what waits is grows with the time that it waits.
        let hangs_on_time = |kind: &str| matches!(kind, "Fresh" | "Verified");
        for it in status.conditions.iter().filter(|it| is_ready || !hangs_on_time(&it.type_)) {
            self.line("condition", &it.type_, &json!([it.status, it.reason, it.message]));
        }
        // Whether all was as it should be at one look, before something else was not, hangs on the looks.
        let applied = status.applied_generation.filter(|_| is_ready);
        let rest = json!([status.tables, status.handled_requests, applied]);
        let what = json!([resource.spec, resource.annotations, resource.finalizer, rest]);
        self.line("resource", "", &what);
    }
}

fn rows_of(estate: &Estate, wanted: Kind) -> impl Iterator<Item = &Value> {
    let databases = estate.clickhouse.values().flat_map(|server| server.databases.values());
    let rows = databases.flat_map(|database| &database.ledger);
    let of_kind = rows.filter(move |((_, kind, _), _)| kind == wanted.as_str());
    of_kind.map(|(_, (_, value))| value).filter(|value| !value.is_null())
}

/// The greatest epoch of a ledger.
fn epoch(estate: &Estate) -> Option<u16> {
    rows_of(estate, Kind::Epoch).filter_map(|value| u16::try_from(value.as_u64()?).ok()).max()
}

/// Whether an epoch is being raised.
fn is_raising(estate: &Estate) -> bool {
    rows_of(estate, Kind::Intent).next().is_some()
}

/// What consumer groups are named by.
fn incarnations(estate: &Estate) -> Vec<String> {
    rows_of(estate, Kind::Incarnation).filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Whether what a row says is the same whichever way led there: epochs are told by their rank, and when a table's layout
/// was noted, and what its files looked like then, hangs on what was seen first.
fn is_compared(kind: &str) -> bool {
    let others = [Kind::Epoch, Kind::Intent, Kind::Layout, Kind::Storage, Kind::Confirmed, Kind::Read];
    !others.iter().any(|other| other.as_str() == kind)
}

/// A value of the ledger without what hangs on when it was written.
fn without_positions(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !["by", "oid"].contains(&key.as_str()));
            kept.map(|(key, value)| (key.clone(), without_positions(value))).collect()
        }
        Value::Array(list) => list.iter().map(without_positions).collect(),
        other => other.clone(),
    }
}

/// Lines that one has and the other has not.
pub(super) fn difference(expected: &[String], found: &[String]) -> Vec<String> {
    let lacks = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}"));
    let has = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
    lacks.chain(has).collect()
}
