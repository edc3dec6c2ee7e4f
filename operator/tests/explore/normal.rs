//! What has to be equal of two estates that went different ways: everything but ids, times and positions of the log.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use tidemark_crds::ledger::Kind;

use super::estate::Estate;

/// Where the connector has the epoch.
const EPOCH_KEY: &str = "transforms.epoch.value.literal";
/// Names that were given once.
static IDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"id\d{5}").unwrap());
/// Hashes, which have ids in them.
static HASHES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""tidemark.dev/[a-z-]+":"[0-9a-f]{8}""#).unwrap());

/// The estate for comparison, one line a thing.
pub(super) fn normal(estate: &Estate) -> Vec<String> {
    let mut lines = Vec::new();
    let incarnations = incarnations(estate);
    // Epochs tell one life of the log from another: which number it has hangs on what was seen of lives before.
    let current = epoch(estate);
    let rank = |epoch: u16| if Some(epoch) == current { "current" } else { "former" };
    let mut line = |system: &str, address: &str, what: Value| {
        let mut text = format!("{system} {address}: {what}");
        for incarnation in &incarnations {
            text = text.replace(incarnation.as_str(), "incarnation");
        }
        let text = IDS.replace_all(&text, "id");
        lines.push(HASHES.replace_all(&text, "").into_owned());
    };
    for (host, source) in &estate.postgres {
        for (name, live) in &source.publications {
            let tables: Vec<String> = live.tables.keys().map(ToString::to_string).collect();
            line("postgres", host, json!([name, tables, format!("{:?}", live.publishes), live.comment]));
        }
        for (name, slot) in &source.slots {
            line("postgres", host, json!([name, slot.plugin, slot.database, slot.reader, slot.lost]));
        }
    }
    for (address, brokers) in &estate.kafka {
        for (name, topic) in &brokers.topics {
            line("kafka", address, json!([name, topic.partitions, topic.config]));
        }
        for (name, members) in &brokers.groups {
            line("kafka", address, json!([name, members]));
        }
    }
    for (address, workers) in &estate.connect {
        for (name, live) in &workers.connectors {
            let mut config = live.config.clone();
            if let Some(literal) = config.get_mut(EPOCH_KEY) {
                let now = if is_raising(estate) { "open" } else { rank(literal.parse().unwrap_or(0)) };
                now.clone_into(literal);
            }
            line("connect", address, json!([name, config, live.target, live.state, live.error]));
        }
        for name in workers.offsets.keys() {
            line("connect", address, json!(["offsets of", name]));
        }
    }
    for (address, server) in &estate.clickhouse {
        for (name, database) in &server.databases {
            let address = format!("{address} {name}");
            for (name, live) in &database.objects {
                line("clickhouse", &address, json!([name, live.engine, live.comment, live.columns]));
            }
            for (pipeline, kind, key) in database.ledger.keys() {
                let (_, value) = &database.ledger[&(pipeline.clone(), kind.clone(), key.clone())];
                if !value.is_null() && is_compared(kind) {
                    line("ledger", &address, json!([pipeline, kind, key, without_positions(value)]));
                }
            }
            for pipeline in database.ledger.keys().map(|(pipeline, ..)| pipeline).collect::<BTreeSet<_>>() {
                let ledger = database.ledger_of(pipeline);
                for (target, history) in &ledger.layouts {
                    let columns = history.last().map(|layout| &layout.columns);
                    line(
                        "layout",
                        &address,
                        json!([pipeline, target, columns, ledger.reads.contains_key(target)]),
                    );
                }
            }
            for (target, fence) in &database.fences {
                let shown = database.objects.get(target).and_then(|live| database.rows.get(&live.uuid));
                let shown = shown.map(|rows| rows.shown(*fence).len());
                line("rows", &address, json!([target, rank(fence.epoch()), shown]));
            }
            for (key, read) in &database.reads {
                line("read", &address, json!([key, rank(read.epoch), read.state]));
            }
        }
    }
    for (key, object) in &estate.namespace.objects {
        line("kubernetes", key, object.clone());
    }
    if let Some(resource) = &estate.namespace.resource {
        let status = &resource.status;
        let is_ready = status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
        // How late what waits is grows with the time that it waits.
        for it in status.conditions.iter().filter(|it| is_ready || it.type_ != "Fresh") {
            line("condition", &it.type_, json!([it.status, it.reason, it.message]));
        }
        let rest = json!([status.tables, status.handled_requests, status.applied_generation]);
        line("resource", "", json!([resource.spec, resource.annotations, resource.finalizer, rest]));
    }
    lines.sort();
    lines
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
