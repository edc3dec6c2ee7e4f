//! Alert rules in Grafana over the pipeline's views, and what differs. Pure.

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::names::short_hash;
use tidemark_crds::pipeline::{Alerts, AnalyticsPipelineSpec, DriftPolicy};

use super::owned;
use super::removal::drop_rule;
use super::{
    Comparison, GrafanaInput, MOST_FIELDS, Names, Problem, changed, folder_fact, request, seconds,
    source_fact,
};
use crate::core::dashboards::subset;
use crate::core::effect::{Site, Verb};
use crate::core::step::{Stage, StepKind};

/// A rule: what is asked, and above which value it fires.
struct Rule {
    name: &'static str,
    title: &'static str,
    summary: String,
    sql: String,
    above: f64,
    wait: &'static str,
    severity: &'static str,
}

#[allow(clippy::too_many_lines, reason = "a list: one entry a rule")]
fn rules(spec: &AnalyticsPipelineSpec, views: &[String]) -> Vec<Rule> {
    let freshness = &spec.freshness;
    let has = |view: &str| views.iter().any(|known| known == view);
    let mut all = Vec::new();
    if has("data_freshness") {
        all.push(Rule {
            name: "stale",
            title: "Data is older than its objective",
            summary: format!(
                "Rows are behind the shop by more than {}: the column status of data_freshness, and the condition Fresh \
                 of the pipeline, say whether it is the connector, a sink or one table.",
                freshness.rows
            ),
            sql: "SELECT toFloat64(ifNull(max(lag_seconds), 1e9)) AS value FROM data_freshness".into(),
            above: seconds(&freshness.rows),
            wait: "5m",
            severity: "critical",
        });
    }
    if has("connector_history") {
        all.push(Rule {
            name: "connector",
            title: "The connector failed",
            summary: "No changes leave the shop: the connector or its task failed, is gone, or Kafka Connect gives no \
                      answer. The condition ConnectorRunning of the pipeline says why."
                .into(),
            sql: "SELECT toFloat64(argMax(state, seen_at) IN ('FAILED', 'MISSING', 'UNREACHABLE')) AS value \
                  FROM connector_history"
                .into(),
            above: 0.0,
            wait: "2m",
            severity: "critical",
        });
    }
    if has("connector_history") {
        all.push(Rule {
            name: "wal",
            title: "The shop's disk fills with write-ahead log",
            summary: "The replication slot holds back more write-ahead log than it should, for the connector does not read \
                      it. The condition SourceReady of the pipeline says how much, and what to do before the disk of the \
                      shop's database is full or the slot is lost."
                .into(),
            sql: "SELECT toFloat64(argMax(wal, seen_at) != '') AS value FROM connector_history".into(),
            above: 0.0,
            wait: "2m",
            severity: "critical",
        });
    }
    if has("data_freshness") {
        all.push(Rule {
            name: "tables",
            title: "A table is not applied",
            summary: "A sink holds a table back, cannot write it, or stopped it: data_freshness says which and why.".into(),
            sql: "SELECT toFloat64(countIf(status IN ('Stopped', 'Retrying', 'Held'))) AS value FROM data_freshness".into(),
            above: 0.0,
            wait: "2m",
            severity: "critical",
        });
    }
    if has("pipeline_progress") {
        all.push(Rule {
            name: "dead-letters",
            title: "Records went to the dead letters",
            summary: "Records could not be applied: read their headers in the dead-letter topic.".into(),
            sql: "SELECT toFloat64(sum(dead_letters)) AS value FROM pipeline_progress".into(),
            above: 0.0,
            wait: "1m",
            severity: "warning",
        });
    }
    if has("verification") {
        all.push(Rule {
            name: "differences",
            title: "Rows differ from the shop's",
            summary: "Rows that differ from their source were found and could not be repaired: _tidemark_differences has their \
                      keys, and the condition Verified of the pipeline says what to do."
                .into(),
            sql: "SELECT toFloat64(sum(open)) AS value FROM verification".into(),
            above: 0.0,
            wait: "1m",
            severity: "critical",
        });
    }
    if has("verification") && spec.verification.enabled {
        all.push(Rule {
            name: "unverified",
            title: "A table was not compared with the shop for too long",
            summary: format!(
                "No full comparison of a table within {}: the condition Verified of the pipeline says which and why.",
                spec.verification.max_age
            ),
            sql: "SELECT max(toFloat64(dateDiff('second', ifNull(verified_from, began_at), now()))) AS value FROM verification"
                .into(),
            above: seconds(&spec.verification.max_age),
            wait: "5m",
            severity: "warning",
        });
    }
    if has("view_refreshes") {
        all.push(Rule {
            name: "refresh",
            title: "A view is no longer refreshed",
            summary: format!(
                "A refresh fails, or the last one is longer ago than {}: dashboards show old figures.",
                freshness.views
            ),
            sql: "SELECT max(if(exception != '', 1e9, toFloat64(dateDiff('second', last_success_at, now())))) AS value \
                  FROM view_refreshes"
                .into(),
            above: seconds(&freshness.views),
            wait: "5m",
            severity: "warning",
        });
    }
    if has("hourly_orders_trend") {
        all.push(Rule {
            name: "no-orders",
            title: "No orders for an unusual time",
            summary: "The last three whole hours had no order, though the day before had some in every hour.".into(),
            sql: "SELECT toFloat64(countIf(orders = 0 AND hour >= subtractHours(now(), 4) AND hour < subtractHours(now(), 1)) \
                  = 3 AND countIf(orders = 0 AND hour < subtractHours(now(), 4)) = 0) AS value FROM hourly_orders_trend"
                .into(),
            above: 0.0,
            wait: "10m",
            severity: "warning",
        });
    }
    all
}

fn body(input: &GrafanaInput<'_>, rule: &Rule) -> Value {
    json!({
        "uid": input.names.dashboard(&format!("alert-{}", rule.name)),
        "title": rule.title,
        "folderUID": input.names.folder,
        "ruleGroup": "tidemark",
        "condition": "B",
        "for": rule.wait,
        "noDataState": "Alerting",
        "execErrState": "Error",
        "annotations": {"summary": rule.summary},
        "labels": {"severity": rule.severity, "pipeline": input.names.tags[1], "managed_by": "tidemark"},
        "data": [
            {
                "refId": "A", "datasourceUid": input.names.prefix, "relativeTimeRange": {"from": 600, "to": 0},
                "model": {
                    "refId": "A", "editorType": "sql", "queryType": "table", "format": 1, "rawSql": rule.sql,
                    "datasource": {"type": crate::core::dashboards::PLUGIN, "uid": input.names.prefix},
                },
            },
            {
                "refId": "B", "datasourceUid": "__expr__", "relativeTimeRange": {"from": 0, "to": 0},
                "model": {
                    "refId": "B", "type": "threshold", "expression": "A",
                    "conditions": [{"evaluator": {"type": "gt", "params": [rule.above]}}],
                },
            },
        ],
    })
}

/// Title and query of each rule.
pub fn queries(spec: &AnalyticsPipelineSpec, views: &[String]) -> Vec<(String, String)> {
    rules(spec, views).into_iter().map(|rule| (rule.title.to_owned(), rule.sql)).collect()
}

/// Compares the rules with what they should be, and removes those that are no longer wanted.
pub(super) fn compare(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let enabled = input.grafana.alerts == Alerts::Enabled;
    let Some(live) = &input.facts.rules else {
        if enabled {
            let message = format!(
                "spec.grafana.alerts: grafana {} has no interface for alert rules: use 9.4 or newer, or set alerts to \
                 Disabled",
                input.facts.version
            );
            out.part.problems.push(Problem::new("alerts", Reason::RemoteError, message));
        }
        return;
    };
    let wanted: Vec<Value> = if enabled {
        rules(input.spec, input.views).iter().map(|rule| body(input, rule)).collect()
    } else {
        Vec::new()
    };
    for rule in &wanted {
        one_rule(input, rule, live.get(uid_of(rule)), out);
    }
    let ours = owned::rules(input.names, input.facts).into_iter();
    let gone = ours.filter(|(uid, _)| !wanted.iter().any(|rule| uid_of(rule) == uid));
    out.part.steps.extend(gone.map(|(uid, own)| drop_rule(&uid, own, Site::Current)));
}

fn uid_of(rule: &Value) -> &str {
    rule["uid"].as_str().unwrap_or_default()
}

fn one_rule(input: &GrafanaInput<'_>, wanted: &Value, live: Option<&Value>, out: &mut Comparison) {
    let title = &wanted["title"];
    let mut path = ["api", "v1", "provisioning", "alert-rules"].to_vec();
    let needs = vec![folder_fact(), source_fact()];
    let Some(live) = live else {
        let effect = request(Verb::Post, &path, signed(wanted));
        let what = format!("create alert rule {title} in Grafana");
        out.part.step((Stage::AlertRule, StepKind::Create), what, needs, None, effect);
        return;
    };
    let fields = subset::differences(live, wanted, MOST_FIELDS);
    if fields.is_empty() {
        return;
    }
    let fields = fields.join(", ");
    let by_hand = live["data"][1]["model"]["tidemark"].as_str().is_none_or(|hash| hash == hash_of(wanted));
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push(format!("alert rule {title}: {fields}"));
        return;
    }
    path.push(uid_of(wanted));
    let effect = request(Verb::Put, &path, signed(wanted));
    let (kind, verb) = changed(by_hand);
    let what = format!("{verb} alert rule {title} in Grafana: {fields}");
    out.part.step((Stage::AlertRule, kind), what, needs, None, effect);
}

/// Whether a rule was made by the pipeline: its label says so, or, where somebody took that away, the hash in it.
pub(super) fn is_signed(names: &Names, rule: &Value) -> bool {
    let labels = &rule["labels"];
    let is_labelled = labels["managed_by"] == "tidemark" && labels["pipeline"] == *names.tags[1];
    is_labelled || rule["data"][1]["model"]["tidemark"].is_string()
}

fn hash_of(rule: &Value) -> String {
    short_hash(&rule.to_string())
}

/// The rule with its hash in the one place of it that Grafana stores as it is and shows to nobody: the model of an
/// expression. A difference from a rule that has the hash of today's was made by hand.
fn signed(rule: &Value) -> Value {
    let mut signed = rule.clone();
    signed["data"][1]["model"]["tidemark"] = json!(hash_of(rule));
    signed
}
