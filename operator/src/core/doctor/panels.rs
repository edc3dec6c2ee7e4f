//! Grafana's data source and dashboards, and how fast panels are. Pure.

use tidemark_crds::conditions::ConditionType;
use tidemark_crds::pipeline::GrafanaMode;

use super::{Answer, Checkup, Hop, Verdict, hop};
use crate::core::facts::{Observation, SourceHealth};

/// From here on a panel is slow: whoever opens a dashboard waits for it, milliseconds.
pub(super) const SLOW_MS: u64 = 1_000;

/// One kind of query by which panels ask, over the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlowQuery {
    /// Dashboard and panel as Grafana names them in its request; empty: it does not.
    pub panel: String,
    /// Its text without literals.
    pub query: String,
    /// How often it was asked.
    pub queries: u64,
    /// How often it failed.
    pub failures: u64,
    /// 95th percentile of its duration, milliseconds.
    pub p95_ms: u64,
    /// Rows that one of them read at most.
    pub read_rows: u64,
    /// Its last error; empty: none.
    pub error: String,
}

/// Data source, dashboards and panels.
pub(super) fn hops(checkup: &Checkup<'_>) -> Vec<Hop> {
    let Some(grafana) = &checkup.spec.grafana else {
        return vec![hop("grafana", Verdict::Off, "spec.grafana is not set", "")];
    };
    let mut hops = Vec::new();
    if grafana.mode == GrafanaMode::Api {
        hops.push(data_source(checkup, grafana.url.as_deref().unwrap_or_default()));
    }
    hops.push(dashboards(checkup, grafana.mode));
    hops
}

fn data_source(checkup: &Checkup<'_>, url: &str) -> Hop {
    const HOP: &str = "data source";
    if let Some(unseen) = checkup.unseen(HOP, "grafana", ConditionType::DashboardsInSync) {
        return unseen;
    }
    let Some(facts) = checkup.observed.grafana.known() else {
        return hop(HOP, Verdict::Unseen, "grafana was not asked", "");
    };
    let next = format!("open {url}/connections/datasources");
    match (&facts.source, &facts.source_health) {
        (None, _) => hop(HOP, Verdict::Wrong, "it is not there", checkup.describe()),
        (Some(_), SourceHealth::Bad(why)) => {
            let message = format!("Grafana's own check of it fails: {why}");
            hop(HOP, Verdict::Wrong, message, next)
        }
        (Some(source), health) => {
            let name = source["name"].as_str().unwrap_or_default();
            let checked = if *health == SourceHealth::Good { "answers" } else { "has no check of its own" };
            let message = format!("{name} {checked}, Grafana {}", facts.version);
            hop(HOP, Verdict::Ok, message, "")
        }
    }
}

fn dashboards(checkup: &Checkup<'_>, mode: GrafanaMode) -> Hop {
    const HOP: &str = "panels";
    let system = if mode == GrafanaMode::Api { "grafana" } else { "kubernetes" };
    if let Some(unseen) = checkup.unseen(HOP, "reader", ConditionType::DashboardsInSync) {
        return unseen;
    }
    checkup.of_condition(HOP, ConditionType::DashboardsInSync, system, || {
        let there = checkup.observed.grafana.known().map(|facts| facts.dashboards.len());
        let count = there.map_or(String::new(), |count| format!(" of {count} dashboards"));
        format!("every panel{count} answers to the reader")
    })
}

/// How slow panels were lately.
pub(super) fn slow(checkup: &Checkup<'_>) -> Hop {
    const HOP: &str = "queries";
    let database = &checkup.spec.clickhouse.database;
    let all = match checkup.slow {
        Observation::Known(all) => all,
        Observation::Absent => {
            return hop(HOP, Verdict::Off, "the server keeps no system.query_log", "");
        }
        Observation::NotAsked => {
            return hop(HOP, Verdict::Off, "no account asks for panels: spec.grafana is not set", "");
        }
        Observation::Unreachable(failure) => {
            let message = format!("system.query_log cannot be read: {}", failure.message);
            let next =
                "GRANT SELECT ON system.query_log to the account of spec.clickhouse, or see why it fails";
            return hop(HOP, Verdict::Unseen, message, next);
        }
    };
    let Some(slowest) = all.iter().max_by_key(|query| query.p95_ms) else {
        return hop(HOP, Verdict::Ok, "no panel has asked in the last hour", "");
    };
    let next = format!(
        "clickhouse-client --query \"SELECT query, p95_ms, read_rows FROM {database}.query_performance ORDER BY p95_ms DESC \
         LIMIT 10\""
    );
    let failing = all.iter().find(|query| query.failures > 0);
    if let Some(query) = failing {
        let message = format!(
            "{} failed {} of {} times in the last hour: {}",
            query.name(),
            query.failures,
            query.queries,
            query.error
        );
        return hop(HOP, Verdict::Wrong, message, next);
    }
    let message = format!(
        "slowest in the last hour: {}",
        all.iter().map(SlowQuery::text).collect::<Vec<_>>().join("; ")
    );
    if slowest.p95_ms < SLOW_MS {
        return hop(HOP, Verdict::Ok, message, "");
    }
    hop(HOP, Verdict::Wrong, message, next)
}

impl SlowQuery {
    fn name(&self) -> &str {
        if self.panel.is_empty() { &self.query } else { &self.panel }
    }

    fn text(&self) -> String {
        let rows = crate::core::cost::grouped(self.read_rows);
        format!("{} p95 {} ms over {} queries, {rows} rows read", self.name(), self.p95_ms, self.queries)
    }
}

/// The answer to whether queries are slow.
pub(super) fn answer(slow: &Hop) -> Answer {
    let answer = match slow.verdict {
        Verdict::Ok => format!("no: {}", slow.message),
        _ => slow.message.clone(),
    };
    Answer { question: "slow queries?", verdict: slow.verdict, answer }
}
