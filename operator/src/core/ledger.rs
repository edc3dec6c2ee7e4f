//! What the ledger's rows say. Pure.

use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{Kind, layout_key};
use tidemark_runtime::clickhouse::number;

use crate::core::facts::LedgerFacts;

/// One row, the newest of its kind and key.
#[derive(Deserialize)]
pub struct LedgerRow {
    /// [`Kind`], as its text.
    pub kind: String,
    /// Key within the kind.
    pub key: String,
    /// Version of the row.
    #[serde(deserialize_with = "number::deserialize")]
    pub version: u64,
    /// JSON.
    pub value: String,
}

/// Reads the ledger's rows; a value of JSON null means that the row is gone. What cannot be read is noted.
pub fn facts_of(rows: Vec<LedgerRow>) -> LedgerFacts {
    let mut facts = LedgerFacts::default();
    for row in rows {
        note(row, &mut facts);
    }
    facts
}

/// Reads one row, in the place of the one of its kind and key that was read before.
pub fn note(row: LedgerRow, facts: &mut LedgerFacts) {
    if facts.versions.insert((row.kind.clone(), row.key.clone()), row.version).is_some() {
        forget(&row, facts);
    }
    let read = serde_json::from_str::<Value>(&row.value);
    if read.as_ref().is_ok_and(Value::is_null) {
        return;
    }
    if read.and_then(|value| ledger_row(&row, value, facts)).is_err() {
        facts.unreadable.insert((row.kind, row.key));
    }
}

/// Takes out what the row of this kind and key said.
fn forget(row: &LedgerRow, facts: &mut LedgerFacts) {
    facts.unreadable.remove(&(row.kind.clone(), row.key.clone()));
    match Kind::ALL.into_iter().find(|kind| kind.as_str() == row.kind) {
        Some(Kind::Incarnation) => facts.incarnation = None,
        Some(Kind::Epoch) => facts.epoch = None,
        Some(Kind::Layout) => {
            for (target, history) in &mut facts.layouts {
                history.retain(|layout| layout_key(target, layout.version) != row.key);
            }
            facts.layouts.retain(|_, history| !history.is_empty());
        }
        Some(Kind::Storage) => drop(facts.storages.remove(&row.key)),
        Some(Kind::Confirmed) => drop(facts.confirmed.remove(&row.key)),
        Some(Kind::Read) => drop(facts.reads.remove(&row.key)),
        // The sinks alone read them.
        Some(Kind::Verify | Kind::Horizon) | None => {}
        Some(Kind::Identity) => drop(facts.identities.remove(&row.key)),
        Some(Kind::Intent) => drop(facts.intents.remove(&row.key)),
        Some(Kind::Publication) => facts.publication = None,
        Some(Kind::Topic) if row.key.is_empty() => facts.made_topics.clear(),
        Some(Kind::Topic) => drop(facts.topics.remove(&row.key)),
        Some(Kind::Request) => drop(facts.requests.remove(&row.key)),
        Some(Kind::Grafana) => drop(facts.grafanas.remove(&row.key)),
    }
}

fn ledger_row(row: &LedgerRow, value: Value, facts: &mut LedgerFacts) -> serde_json::Result<()> {
    let key = row.key.clone();
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is = |kind: Kind| row.kind == kind.as_str();
    if is(Kind::Incarnation) {
        facts.incarnation = Some(text());
    } else if is(Kind::Epoch) {
        facts.epoch = Some(serde_json::from_value(value)?);
    } else if is(Kind::Layout) {
        let layout: TableLayout = serde_json::from_value(value)?;
        let history = facts.layouts.entry(layout.target.clone()).or_default();
        history.push(layout);
        history.sort_by_key(|layout| layout.version);
    } else if is(Kind::Storage) {
        facts.storages.insert(key, serde_json::from_value(value)?);
    } else if is(Kind::Confirmed) {
        facts.confirmed.insert(key, serde_json::from_value(value)?);
    } else if is(Kind::Read) {
        facts.reads.insert(key, (row.version, serde_json::from_value(value)?));
    } else if is(Kind::Identity) {
        facts.identities.insert(key, text());
    } else if is(Kind::Intent) {
        facts.intents.insert(key, text());
    } else if is(Kind::Publication) {
        facts.publication = Some(serde_json::from_value(value)?);
    } else if is(Kind::Topic) && key.is_empty() {
        facts.made_topics = serde_json::from_value(value)?;
    } else if is(Kind::Topic) {
        facts.topics.insert(key);
    } else if is(Kind::Request) {
        facts.requests.insert(key, text());
    } else if is(Kind::Grafana) {
        facts.grafanas.insert(key, serde_json::from_value(value)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_that_was_closed_with_null_is_gone_and_its_version_stays() {
        let row = |key: &str, version, value: &str| LedgerRow {
            kind: "intent".into(),
            key: key.into(),
            version,
            value: value.into(),
        };
        let facts = facts_of(vec![row("epoch", 4, "null"), row("other", 1, "\"x\"")]);
        assert_eq!(facts.intents, [("other".to_owned(), "x".to_owned())].into());
        assert_eq!(facts.next_version(Kind::Intent, "epoch"), 5);
    }
    fn row(kind: Kind, key: &str, version: u64, value: &str) -> LedgerRow {
        LedgerRow { kind: kind.as_str().into(), key: key.into(), version, value: value.into() }
    }

    #[test]
    fn a_history_is_in_the_order_of_its_versions() {
        let layout = |version: u64| {
            let value = serde_json::json!({"version": version, "source": "public.a@b", "oid": 1, "target": "a@b",
                "from": {"epoch": 0, "after": 0, "by": 0}, "columns": []});
            row(Kind::Layout, &tidemark_crds::ledger::layout_key("a@b", version), 1, &value.to_string())
        };
        let facts = facts_of(vec![layout(10), layout(2), layout(1)]);
        let versions: Vec<u64> = facts.history("a@b").iter().map(|layout| layout.version).collect();
        assert_eq!(versions, [1, 2, 10]);
        assert_eq!(facts.newest("a@b").unwrap().version, 10);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_there_and_is_named_for_its_table_alone() {
        let facts = facts_of(vec![
            row(Kind::Layout, "a@0000000003", 1, r#"{"version": 3, "wire": "Telepathy"}"#),
            row(Kind::Read, "b", 7, "no JSON"),
            row(Kind::Read, "c", 2, r#"{"epoch": 1, "layout": 1, "reason": "first load"}"#),
        ]);
        assert_eq!(facts.unreadable_of("a").as_deref(), Some("layout a@0000000003"));
        assert_eq!(facts.unreadable_of("b").as_deref(), Some("read b"));
        assert_eq!((facts.unreadable_of("c"), facts.unreadable_of_all()), (None, None));
        assert_eq!(facts.reads["c"].0, 2);
        let facts = facts_of(vec![row(Kind::Epoch, "", 1, "\"three\"")]);
        assert_eq!((facts.epoch, facts.unreadable_of_all().as_deref()), (None, Some("epoch")));
    }
}
