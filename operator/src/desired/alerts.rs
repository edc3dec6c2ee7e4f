//! Alert rules in Grafana over the pipeline's views, and what differs. Pure.

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use super::grafana::{Comparison, GrafanaInput, folder_fact, source_fact};
use super::part::Problem;
use crate::dashboards::subset;
use crate::effect::{Effect, GrafanaEffect, Verb};
use crate::step::{Stage, StepKind};

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

fn seconds(text: &str) -> f64 {
    let ms = duration::milliseconds(text).unwrap_or(0);
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

fn rules(spec: &AnalyticsPipelineSpec, views: &[String]) -> Vec<Rule> {
    let freshness = &spec.freshness;
    let has = |view: &str| views.iter().any(|known| known == view);
    let mut all = Vec::new();
    if has("data_freshness") {
        all.push(Rule {
            name: "stale",
            title: "Data is older than its objective",
            summary: format!("Rows are behind the shop by more than {}.", freshness.rows),
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
                    "datasource": {"type": crate::dashboards::PLUGIN, "uid": input.names.prefix},
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

/// Compares the rules with what they should be.
pub fn compare(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let Some(live) = &input.facts.rules else {
        let message = format!(
            "spec.grafana.alerts: grafana {} has no interface for alert rules: use 9.4 or newer, or set alerts to \
             Disabled",
            input.facts.version
        );
        out.part.problems.push(Problem::new("alerts", Reason::RemoteError, message));
        return;
    };
    for rule in rules(input.spec, input.views) {
        let wanted = body(input, &rule);
        let uid = wanted["uid"].as_str().unwrap_or_default().to_owned();
        let (verb, path, kind, what) = match live.get(&uid) {
            None => (Verb::Post, vec![], StepKind::Create, format!("create alert rule {}", rule.name)),
            Some(live) => {
                let fields = subset::differences(live, &wanted, 5);
                if fields.is_empty() {
                    continue;
                }
                let what = format!("revert alert rule {} in Grafana: {}", rule.name, fields.join(", "));
                (Verb::Put, vec![uid.clone()], StepKind::Change, what)
            }
        };
        let mut full = ["api", "v1", "provisioning", "alert-rules"].map(str::to_owned).to_vec();
        full.extend(path);
        let effect = Effect::Grafana(GrafanaEffect {
            verb,
            path: full,
            body: Some(wanted),
            password: None,
            uid: None,
        });
        out.part.step((Stage::AlertRule, kind), what, vec![folder_fact(), source_fact()], None, effect);
    }
}
