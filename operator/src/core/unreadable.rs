//! A resource that this version of the operator cannot read: what its status says, and how its deletion ends. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use tidemark_crds::conditions::{ConditionType, Judgement, Reason, Status, merge};
use tidemark_crds::duration::duration;
use tidemark_crds::names::PipelineName;

use crate::core::finalize::{DEFAULT_TIMEOUT, LeftBehind};
use crate::core::status::cut;
use crate::core::step::Lane;

/// Longest message of a condition, characters.
const LONGEST_MESSAGE: usize = 1024;

/// The status with what is known of the spec; everything else stays as it is, also what cannot be read.
pub fn status(raw: &Value, error: &str, now: &Time) -> Value {
    let generation = raw["metadata"]["generation"].as_i64().unwrap_or(0);
    let message = format!(
        "this version of the operator cannot read the resource, and leaves everything as it is: {error}: correct the \
         field, or run the version that knows it"
    );
    let message = cut(&message, LONGEST_MESSAGE);
    let judgement = |kind: ConditionType, status, message: String| Judgement {
        r#type: kind,
        status,
        reason: Reason::InvalidSpec,
        message,
    };
    let judgements = [
        judgement(ConditionType::Ready, Status::False, format!("SpecValid: {message}")),
        judgement(ConditionType::Stalled, Status::True, message.clone()),
        judgement(ConditionType::SpecValid, Status::False, message),
    ];
    let before: Vec<Condition> =
        serde_json::from_value(raw["status"]["conditions"].clone()).unwrap_or_default();
    let told = merge(&before, &judgements, generation, now);
    let place = |kind: &str| ConditionType::ALL.iter().position(|known| known.as_str() == kind);
    let others = before.iter().filter(|old| !told.iter().any(|new| new.type_ == old.type_));
    let mut all: Vec<Condition> = others.chain(&told).cloned().collect();
    all.sort_by_key(|condition| place(&condition.type_));
    let mut status = match &raw["status"] {
        Value::Object(fields) => Value::Object(fields.clone()),
        _ => json!({}),
    };
    status["observedGeneration"] = json!(generation);
    status["conditions"] = json!(all);
    status
}

/// How long a deletion of which no spec is known still waits for somebody to make the resource readable; `None`: its
/// time is up.
pub fn wait(raw: &Value, now: Timestamp) -> Option<Duration> {
    let text = raw["spec"]["deletionPolicy"]["timeout"].as_str();
    let timeout = text.and_then(|text| duration(text).ok()).unwrap_or(DEFAULT_TIMEOUT);
    let since = raw["metadata"]["deletionTimestamp"].as_str()?.parse::<Timestamp>().ok()?;
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    timeout.checked_sub(waited).filter(|left| !left.is_zero())
}

/// Everything that a pipeline of that name may have left, since without a spec nothing is removed.
pub fn left_behind(name: &PipelineName, mark: &str, raw: &Value) -> Vec<LeftBehind> {
    let spec = &raw["spec"];
    let text = |value: &Value, otherwise: &str| value.as_str().unwrap_or(otherwise).to_owned();
    let connect = text(&spec["source"]["connect"]["url"], "CONNECT");
    let servers = text(&spec["kafka"]["bootstrapServers"], "KAFKA");
    let (slot, publication) = (name.replication_slot(), name.publication());
    let connector = format!("{}/connectors/{}", connect.trim_end_matches('/'), name.connector());
    let group = format!("{}*", name.consumer_group_prefix());
    let left = |lane, what: String, command: String| LeftBehind { lane, what, command };
    vec![
        left(
            Lane::Postgres,
            format!("replication slot {slot} and publication {publication}"),
            format!(
                "SELECT pg_drop_replication_slot('{slot}'); DROP PUBLICATION IF EXISTS \"{publication}\""
            ),
        ),
        left(
            Lane::Connect,
            format!("connector {} and its offsets", name.connector()),
            format!(
                "curl -X PUT {connector}/stop && curl -X DELETE {connector}/offsets && curl -X DELETE {connector}"
            ),
        ),
        left(
            Lane::Kafka,
            format!("consumer groups {group}"),
            format!("kafka-consumer-groups.sh --bootstrap-server {servers} --delete --group '{group}'"),
        ),
        left(
            Lane::ClickHouse,
            "tables and views in ClickHouse".to_owned(),
            format!("SELECT database, name FROM system.tables WHERE comment LIKE '{mark}%'"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Value {
        json!({
            "metadata": {"name": "shop", "generation": 7},
            "spec": {"surprise": true},
            "status": {
                "epoch": 3,
                "of a newer version": {"kept": 1},
                "conditions": [
                    {
                        "type": "Ready", "status": "True", "reason": "AsDesired", "message": "",
                        "lastTransitionTime": "2026-11-01T00:00:00Z",
                    },
                    {
                        "type": "SourceReady", "status": "True", "reason": "AsDesired", "message": "",
                        "lastTransitionTime": "2026-11-01T00:00:00Z",
                    },
                ],
            },
        })
    }

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn the_living_is_told_what_is_wrong_and_loses_nothing_of_its_status() {
        let told = status(&raw(), "unknown variant `Sometimes` in spec.suspend", &at("2026-11-02T00:00:00Z"));
        let conditions = told["conditions"].as_array().unwrap();
        let short: Vec<String> = conditions
            .iter()
            .map(|one| format!("{} {}", one["type"].as_str().unwrap(), one["status"].as_str().unwrap()))
            .collect();
        assert_eq!(short, ["Ready False", "Stalled True", "SpecValid False", "SourceReady True"]);
        assert!(conditions[2]["message"].as_str().unwrap().contains("`Sometimes` in spec.suspend"));
        assert_eq!((&told["observedGeneration"], &told["epoch"]), (&json!(7), &json!(3)));
        assert_eq!(told["of a newer version"], json!({"kept": 1}));
        let mut later = raw();
        later["status"] = told.clone();
        let again =
            status(&later, "unknown variant `Sometimes` in spec.suspend", &at("2026-11-03T00:00:00Z"));
        assert_eq!(again, told, "nothing flipped, so nothing is written");
        let empty = status(&json!({"metadata": {}}), "no spec", &at("2026-11-02T00:00:00Z"));
        assert_eq!(empty["conditions"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn a_deletion_waits_as_long_as_the_policy_says_as_far_as_it_can_be_read() {
        let deleted = |timeout: Value| {
            json!({
                "metadata": {"deletionTimestamp": "2026-11-02T00:00:00Z"},
                "spec": {"deletionPolicy": {"timeout": timeout}},
            })
        };
        let wait = |timeout: Value, now: &str| wait(&deleted(timeout), now.parse().unwrap());
        assert_eq!(wait(json!("2m"), "2026-11-02T00:01:30Z"), Some(Duration::from_secs(30)));
        assert_eq!(wait(json!("2m"), "2026-11-02T00:02:00Z"), None);
        assert_eq!(wait(json!(["2m"]), "2026-11-02T00:02:00Z"), Some(Duration::from_mins(8)));
        assert_eq!(
            wait(json!("2m"), "2026-11-01T23:00:00Z"),
            Some(Duration::from_mins(2)),
            "a clock set back"
        );
    }

    #[test]
    fn what_may_be_left_is_named_with_the_addresses_that_can_be_read() {
        let name = PipelineName::new("ns", "shop");
        let raw = json!({"spec": {"source": {"connect": {"url": "http://connect:8083/"}}, "kafka": 1}});
        let left = left_behind(&name, "tidemark u/ns/shop", &raw);
        let all =
            left.iter().map(|left| format!("{}: {}", left.what, left.command)).collect::<Vec<_>>().join("\n");
        for part in [
            name.replication_slot().as_str(),
            "http://connect:8083/connectors/",
            "--bootstrap-server KAFKA",
            "tidemark u/ns/shop%",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}
