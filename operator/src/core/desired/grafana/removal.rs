//! What goes when a Grafana is left: dashboards, rules, data source, and the folder once it is empty. Pure.

use serde_json::Value;

use super::board::drop_dashboard;
use super::{Names, request};
use crate::core::effect::{Site, Verb};
use crate::core::facts::GrafanaFacts;
use crate::core::step::{Stage, Step, StepKind};

/// Removes all that is ours, and the folder when nothing of others is in it.
pub fn removal(names: &Names, mark: &str, facts: &GrafanaFacts, site: Site) -> Vec<Step> {
    let mut steps: Vec<Step> = facts.ours.iter().map(|uid| drop_dashboard(uid, site)).collect();
    for uid in facts.rules.iter().flat_map(|rules| rules.keys()) {
        steps.push(drop_rule(uid, site));
    }
    let ours = |source: &Value| source["jsonData"]["tidemark"]["mark"] == *mark && source["readOnly"] != true;
    if facts.source.as_ref().is_some_and(ours) {
        let path = ["api", "datasources", "uid", names.prefix.as_str()];
        steps.push(drop_step(&format!("delete data source {:?}", names.source_name), &path, site));
    }
    // Grafana deletes a folder with all that is in it: what others put there keeps it.
    let empty = steps.is_empty() && facts.titles.is_empty() && !facts.has_subfolders;
    if facts.folder.is_some() && empty {
        steps.push(drop_step("delete the folder", &["api", "folders", names.folder.as_str()], site));
    }
    steps
}

/// Removes one alert rule.
pub(super) fn drop_rule(uid: &str, site: Site) -> Step {
    let path = ["api", "v1", "provisioning", "alert-rules", uid];
    drop_step(&format!("delete alert rule {uid}"), &path, site)
}

/// Removes one object.
pub(super) fn drop_step(what: &str, path: &[&str], site: Site) -> Step {
    let place = match site {
        Site::Current => "in Grafana",
        Site::Former => "in the former Grafana",
    };
    Step {
        stage: Stage::DropDashboard,
        kind: StepKind::Drop,
        what: format!("{what} {place}"),
        needs: vec![],
        gives: None,
        effect: request(site, Verb::Delete, path, None),
    }
}
