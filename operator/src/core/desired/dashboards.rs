//! The dashboards of one pipeline: in Grafana or as files for its sidecars, and whether each panel answers. Pure.

use std::collections::BTreeMap;

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::names::short_hash;
use tidemark_crds::pipeline::{GrafanaMode, Policy, Preset};
use tidemark_runtime::credentials::Credentials;

use super::grafana::place::{self, Leaving};
use super::part::Problem;
use super::pipeline::{Asked, Desired, Question, Subject};
use super::views::Probe;
use super::{grafana, sidecar};
use crate::core::dashboards::Dashboard;
use crate::core::facts::{ClickHouseFacts, Observed, ReaderFacts};
use crate::core::problem::Left;
use crate::core::step::{Fact, Stage};

/// The dashboards that should be there, and what keeps others from it.
pub(super) fn wanted(
    subject: &Subject<'_>,
    clickhouse: &ClickHouseFacts,
) -> (Vec<(String, Dashboard)>, Vec<Problem>) {
    let Some(part) = &subject.spec.grafana else {
        return (Vec::new(), Vec::new());
    };
    let names = grafana::Names::new(subject.name, subject.mark);
    let extra: BTreeMap<String, String> = (subject.resolved.dashboards.iter())
        .filter_map(|(name, text)| Some((name.clone(), text.as_ref().ok()?.clone())))
        .collect();
    grafana::wanted(subject.spec, part, &names, &extra, clickhouse.has_query_log)
}

/// What differs, there and where the spec named another Grafana before, and what is to be asked of panels.
pub(super) fn desire(
    subject: &Subject<'_>,
    observed: &Observed,
    clickhouse: &ClickHouseFacts,
    answers: &BTreeMap<String, Probe>,
    desired: &mut Desired,
) {
    let by_sidecar = subject.spec.grafana.as_ref().is_some_and(|part| part.mode == GrafanaMode::Sidecar);
    if let Some(live) = observed.kubernetes.known()
        && !by_sidecar
    {
        desired.steps.extend(sidecar::removal(subject.name, subject.uid, live, &[]));
    }
    let condition = ConditionType::DashboardsInSync;
    let names = grafana::Names::new(subject.name, subject.mark);
    let ledger = &clickhouse.ledger;
    let former = place::former(subject.spec, ledger);
    if let Some(place) = &former {
        let leaving = Leaving { spec: subject.spec, names: &names, mark: subject.mark, ledger };
        desired.take(condition, leaving.former(place, &observed.former_grafana));
    }
    desired.steps.extend(place::remember(subject.spec, ledger, observed.grafana.known()));
    let (Some(part), Ok(Some(reader)), Ok(account)) =
        (&subject.spec.grafana, &subject.resolved.reader, &subject.resolved.clickhouse)
    else {
        return;
    };
    let (all, problems) = wanted(subject, clickhouse);
    for problem in problems {
        desired.problem(condition, problem);
    }
    if let Some(facts) = observed.grafana.known() {
        let input = grafana::GrafanaInput {
            spec: subject.spec,
            grafana: part,
            mark: subject.mark,
            names: &names,
            reader,
            key: account.credentials.password.expose(),
            record: place::current(subject.spec).and_then(|place| ledger.grafanas.get(&place.key)),
            facts,
            dashboards: &all,
            views: &desired.views,
        };
        let comparison = grafana::compare(&input);
        desired.kept = comparison.kept;
        desired.take(condition, comparison.part);
    }
    if let Some(live) = observed.kubernetes.known()
        && part.mode == GrafanaMode::Sidecar
    {
        let input = sidecar::SidecarInput {
            name: subject.name,
            owner: subject.uid,
            uid: subject.uid.filter(|_| subject.spec.deletion_policy.grafana == Policy::Delete),
            spec: subject.spec,
            grafana: part,
            names: &names,
            reader,
            dashboards: &all,
            views: &desired.views,
            live,
        };
        let (mut part, left) = sidecar::compare(&input);
        desired.left.extend(left.into_iter().map(|left| Left::settled(condition, left)));
        if former.is_some() {
            // Files with the uids of dashboards that were made over the API would meet them in the same Grafana.
            let left = Fact::Other("the former Grafana to be left".into());
            for step in &mut part.steps {
                step.needs.push(left.clone());
            }
        }
        desired.take(condition, part);
    }
    if let Some(facts) = observed.reader.known() {
        panels(subject, reader, facts, &all, clickhouse, answers, desired);
    }
}

/// Whether each panel answers to the account that it will be asked by.
fn panels(
    subject: &Subject<'_>,
    reader: &Credentials,
    facts: &ReaderFacts,
    all: &[(String, Dashboard)],
    clickhouse: &ClickHouseFacts,
    answers: &BTreeMap<String, Probe>,
    desired: &mut Desired,
) {
    let condition = ConditionType::DashboardsInSync;
    let database = &subject.spec.clickhouse.database;
    if let Some(problem) = grafana::reader_problem(&reader.username, database, facts) {
        desired.problem(condition, problem);
        return;
    }
    // Panels are asked of the views as they should be, once these are there.
    desired.panels_open = true;
    let wants_views = subject.spec.views.preset == Preset::Ecommerce || !subject.spec.views.extra.is_empty();
    let lacks_views = wants_views && desired.views.is_empty();
    if desired.steps.iter().any(|step| step.stage <= Stage::View) || lacks_views {
        return;
    }
    // A panel may read a table itself: when that has other columns, it is asked again.
    let tables = desired.tables.iter().map(|(_, target)| format!("{target}_current"));
    let views: String = (desired.views.iter().cloned().chain(tables))
        .filter_map(|view| clickhouse.objects.get(&view))
        .map(|object| object.comment.as_str())
        .collect();
    desired.panels_open = false;
    for (name, dashboard) in all {
        let hash = short_hash(&format!("{} {views} {} {database}", dashboard.model, reader.username));
        if let Some(Probe::Panels(faults)) = answers.get(&hash) {
            for fault in faults {
                let message = format!("dashboard {name}, {fault}");
                desired.problem(condition, Problem::new(name, Reason::PanelFailed, message));
            }
        } else {
            desired.panels_open = true;
            desired.questions.push(Question { hash, asked: Asked::Panels(name.clone(), dashboard.clone()) });
        }
    }
}
