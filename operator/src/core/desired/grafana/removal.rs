//! What goes when a Grafana is left: dashboards, rules, data source, and the folder once it is empty. Pure.

use super::Names;
use super::owned::{self, Own};
use crate::core::effect::{Effect, GrafanaCall, GrafanaEffect, Site};
use crate::core::facts::GrafanaFacts;
use crate::core::step::{Stage, Step, StepKind};

/// Removes all that is ours, and the folder when nothing of others is in it.
pub fn removal(names: &Names, mark: &str, facts: &GrafanaFacts, site: Site) -> Vec<Step> {
    let dashboards = owned::dashboards(names, facts).into_iter();
    let mut steps: Vec<Step> = dashboards.map(|(uid, own)| drop_dashboard(&uid, own, site)).collect();
    steps.extend(owned::rules(names, facts).into_iter().map(|(uid, own)| drop_rule(&uid, own, site)));
    if let Some(own) = owned::source(names, mark, facts) {
        steps.push(drop_step(&format!("delete data source {:?}", names.source_name), own, site));
    }
    if steps.is_empty()
        && let Some(own) = owned::folder(names, facts)
    {
        steps.push(drop_step("delete the folder", own, site));
    }
    steps
}

/// Removes one dashboard.
pub(super) fn drop_dashboard(uid: &str, own: Own, site: Site) -> Step {
    drop_step(&format!("delete dashboard {uid}"), own, site)
}

/// Removes one alert rule.
pub(super) fn drop_rule(uid: &str, own: Own, site: Site) -> Step {
    drop_step(&format!("delete alert rule {uid}"), own, site)
}

fn drop_step(what: &str, own: Own, site: Site) -> Step {
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
        effect: Effect::Grafana(GrafanaEffect { site, call: GrafanaCall::Delete(own) }),
    }
}
