//! What `tidemark status` says: conditions, tables with their numbers, what could not be seen. Pure.

use std::fmt::Write as _;

use serde::Serialize;
use tidemark_crds::status::AnalyticsPipelineStatus;

use super::tables::{self, TableView};
use crate::core::blind::Blind;

/// A status as it is printed; the names of its fields are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// Namespace and name.
    pub pipeline: String,
    /// Whether a status was ever written.
    pub known: bool,
    /// The conditions.
    pub conditions: Vec<ConditionView>,
    /// Tables streaming of tables in all.
    pub summary: Option<String>,
    /// Age of the oldest table's data.
    pub freshness: Option<String>,
    /// Each table.
    pub tables: Vec<TableView>,
    /// What a deletion waits for.
    pub deletion: Vec<String>,
    /// What could not be seen, and so has no numbers.
    pub blind: Vec<Blind>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// Its type.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, from the closed set of reasons.
    pub reason: String,
    /// What is the matter and what to do.
    pub message: String,
    /// Since when.
    pub since: String,
}

impl StatusView {
    /// The conditions of a status, without tables.
    pub fn new(pipeline: impl Into<String>, status: Option<&AnalyticsPipelineStatus>) -> Self {
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        let view = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| ConditionView {
            r#type: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: condition.last_transition_time.0.to_string(),
        };
        let deletion = status.into_iter().flat_map(|status| &status.deletion);
        Self {
            pipeline: pipeline.into(),
            known: status.is_some(),
            conditions: conditions.map(view).collect(),
            summary: status.and_then(|status| status.summary.clone()),
            freshness: status.and_then(|status| status.freshness.clone()),
            tables: Vec::new(),
            deletion: deletion.map(|wait| format!("{}: {}", wait.system, wait.waits_for)).collect(),
            blind: Vec::new(),
        }
    }

    /// The conditions for people, one a line.
    pub fn conditions(&self, colours: bool) -> String {
        let mut text = String::new();
        let width = self.conditions.iter().map(|found| found.reason.chars().count()).max().unwrap_or(0);
        for found in &self.conditions {
            let good = match found.r#type.as_str() {
                "Reconciling" | "Stalled" => found.status == "False",
                _ => found.status == "True",
            };
            let status = format!("{:<7}", found.status);
            let shown = match (colours, good) {
                (false, _) => status,
                (true, true) => format!("\x1b[32m{status}\x1b[0m"),
                (true, false) => format!("\x1b[31m{status}\x1b[0m"),
            };
            let line = format!("{:<20} {shown} {:<width$} {}", found.r#type, found.reason, found.message);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
        let _ =
            writeln!(text, "tables {}, freshness {}", or(&self.summary, "-"), or(&self.freshness, "Unknown"));
        text
    }

    /// All of it for people.
    pub fn render(&self, colours: bool) -> String {
        let mut text = format!("{}\n", self.pipeline);
        if self.known {
            text.push_str(&self.conditions(colours));
        } else {
            text.push_str(
                "no status yet: is the operator, or `tidemark apply --without-cluster`, running?\n",
            );
        }
        for wait in &self.deletion {
            let _ = writeln!(text, "the deletion waits for {wait}");
        }
        if !self.tables.is_empty() {
            let _ = write!(text, "\n{}", tables::render(&self.tables));
        }
        for blind in &self.blind {
            let _ = writeln!(text, "numbers are left out: {}", blind.line());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use tidemark_crds::status::DeletionWait;

    use super::*;

    fn status() -> AnalyticsPipelineStatus {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        };
        AnalyticsPipelineStatus {
            conditions: vec![
                condition("Ready", "False", "AuthenticationFailed", "SourceReady: postgres: wrong password"),
                condition("Stalled", "False", "AsDesired", ""),
            ],
            summary: Some("1/2".into()),
            deletion: vec![DeletionWait {
                system: "kafka".into(),
                waits_for: "no answer".into(),
                since: Time(jiff::Timestamp::UNIX_EPOCH),
            }],
            ..AnalyticsPipelineStatus::default()
        }
    }

    fn view() -> StatusView {
        StatusView {
            tables: vec![TableView {
                name: "public.orders".into(),
                state: "Streaming".into(),
                reason: String::new(),
                message: String::new(),
                read: None,
                rows_per_second: Some(12),
                behind_ms: Some(340),
                dead_letters: None,
                verified: None,
            }],
            blind: vec![Blind {
                system: "clickhouse".into(),
                address: "http://ch:8123".into(),
                why: "connection refused".into(),
                next: "check that it is up".into(),
                only_from_here: true,
            }],
            ..StatusView::new("shop/shop", Some(&status()))
        }
    }

    #[test]
    fn conditions_and_tables_stand_under_each_other_and_what_was_not_seen_is_named() {
        insta::assert_snapshot!(view().render(false), @r"
        shop/shop
        Ready                False   AuthenticationFailed SourceReady: postgres: wrong password
        Stalled              False   AsDesired
        tables 1/2, freshness Unknown
        the deletion waits for kafka: no answer

        TABLE          STATE      READ  ROWS/S  BEHIND  LETTERS  VERIFIED  DIFFERED  MESSAGE
        public.orders  Streaming     -      12   0.3 s        -         -         -
        numbers are left out: clickhouse http://ch:8123: connection refused: check that it is up
        ");
        assert!(view().render(true).contains("\x1b[31mFalse"));
        insta::assert_snapshot!(StatusView::new("shop/shop", None).render(false), @r"
        shop/shop
        no status yet: is the operator, or `tidemark apply --without-cluster`, running?
        ");
    }

    #[test]
    fn the_json_has_stable_names() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&view()).unwrap(), @r#"
        {
          "pipeline": "shop/shop",
          "known": true,
          "conditions": [
            {
              "type": "Ready",
              "status": "False",
              "reason": "AuthenticationFailed",
              "message": "SourceReady: postgres: wrong password",
              "since": "1970-01-01T00:00:00Z"
            },
            {
              "type": "Stalled",
              "status": "False",
              "reason": "AsDesired",
              "message": "",
              "since": "1970-01-01T00:00:00Z"
            }
          ],
          "summary": "1/2",
          "freshness": null,
          "tables": [
            {
              "name": "public.orders",
              "state": "Streaming",
              "reason": "",
              "message": "",
              "read": null,
              "rowsPerSecond": 12,
              "behindMs": 340,
              "deadLetters": null,
              "verified": null
            }
          ],
          "deletion": [
            "kafka: no answer"
          ],
          "blind": [
            {
              "system": "clickhouse",
              "address": "http://ch:8123",
              "why": "connection refused",
              "next": "check that it is up"
            }
          ]
        }
        "#);
    }
}
