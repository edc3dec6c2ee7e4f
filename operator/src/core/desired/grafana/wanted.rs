//! The dashboards that should be there: those of the preset and the user's, linted and made the pipeline's own. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, DashboardPreset, Grafana, Preset};

use super::{MOST_FIELDS, Names, Problem, seconds};
use crate::core::dashboards;
use crate::core::dashboards::{Dashboard, Surroundings, lint};

/// The dashboards that should be there, and what keeps others from it. `extra` is the text of each of the user's.
pub fn wanted(
    spec: &AnalyticsPipelineSpec,
    grafana: &Grafana,
    names: &Names,
    extra: &BTreeMap<String, String>,
    has_query_log: bool,
) -> (Vec<(String, Dashboard)>, Vec<Problem>) {
    let surroundings = Surroundings {
        uid_prefix: &names.prefix,
        source_uid: &names.prefix,
        source_name: &names.source_name,
        tags: &names.tags,
        time_zone: &spec.views.time_zone,
        currency: &spec.views.ecommerce.currency,
        refresh: &grafana.dashboards.refresh,
        rows_objective_s: seconds(&spec.freshness.rows),
        views_objective_s: seconds(&spec.freshness.views),
        has_query_log,
    };
    let mut all = Vec::new();
    let mut problems = Vec::new();
    let views = spec.views.preset == Preset::Ecommerce;
    if grafana.dashboards.preset == DashboardPreset::Ecommerce && views {
        all.extend(dashboards::preset(&surroundings));
    }
    for dashboard in &grafana.dashboards.extra {
        // A source that could not be read is another part's problem.
        let Some(text) = extra.get(&dashboard.name) else {
            continue;
        };
        match user_dashboard(&dashboard.name, text, &surroundings) {
            Ok(model) => all.push((format!("x-{}", dashboard.name), model)),
            Err(problem) => problems.push(problem),
        }
    }
    (all, problems)
}

fn user_dashboard(name: &str, text: &str, surroundings: &Surroundings<'_>) -> Result<Dashboard, Problem> {
    let refuse =
        |text: String| Problem::new(name, Reason::InvalidDashboard, format!("dashboard {name}: {text}"));
    let mut dashboard = Dashboard::parse(text).map_err(refuse)?;
    let faults = lint::lint(&dashboard);
    if !faults.is_empty() {
        let more = faults.len().saturating_sub(MOST_FIELDS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(refuse(format!("{}{more}", faults[..faults.len().min(MOST_FIELDS)].join("; "))));
    }
    let model = &mut dashboard.model;
    if let Some(map) = model.as_object_mut() {
        for key in ["version", "iteration", "__inputs", "__requires", "__elements"] {
            map.remove(key);
        }
    }
    model["id"] = Value::Null;
    model["uid"] = json!(dashboards::board::uid(surroundings, &format!("x-{name}")));
    let mut tags: Vec<Value> = model["tags"].as_array().cloned().unwrap_or_default();
    for tag in surroundings.tags {
        if !tags.iter().any(|other| other == tag) {
            tags.push(json!(tag));
        }
    }
    model["tags"] = json!(tags);
    for variable in model["templating"]["list"].as_array_mut().into_iter().flatten() {
        if variable["type"] == "datasource" && variable["name"] == "datasource" {
            variable["current"] = json!({"text": surroundings.source_name, "value": surroundings.source_uid});
        }
    }
    Ok(dashboard)
}
