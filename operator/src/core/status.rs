//! Outcomes to status: conditions and printer fields. Pure.
//!
//! Messages hold no number that moves: a status is written only when something flips.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::{self, ConditionType, Judgement, Reason, Status};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::{AnalyticsPipelineStatus, DeletionWait};

use crate::core::credentials::Missing;
use crate::core::desired::grafana::place;
use crate::core::desired::selector_text;
use crate::core::facts::{Failure, Observed};
use crate::core::freshness::freshness;
use crate::core::judge::{Verdict, judge};
use crate::core::pace::Next;
use crate::core::plan::Plan;
use crate::core::problem::{Left, Problem};
use crate::core::restart::Steadiness;
use crate::core::retention;
use crate::core::step::StepId;
use crate::core::table_status;

/// Everything that the status is judged from.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Namespace and name.
    pub name: &'a PipelineName,
    /// Generation of the spec that was read.
    pub generation: i64,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Why the spec that was read does not run; the last valid one goes on.
    pub invalid: Option<&'a str>,
    /// References that lead nowhere.
    pub missing: &'a [Missing],
    /// The last observation, as far as it is believed.
    pub observed: &'a Observed,
    /// What stands in the way.
    pub problems: &'a [Problem],
    /// What is left to do.
    pub plan: &'a Plan,
    /// Steps that failed in this reconcile, and why.
    pub failures: &'a [(StepId, Failure)],
    /// Whether waves left the same plan twice.
    pub no_progress: bool,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// Source tables and their state tables.
    pub tables: &'a [(SourceTable, String)],
    /// Names of the views that should be there.
    pub views: &'a [String],
    /// Views that are not as they should be, and of which nothing else is said.
    pub views_open: &'a [String],
    /// Changes by hand in Grafana that the policy keeps.
    pub kept: &'a [String],
    /// Differences that are known and left.
    pub left: &'a [Left],
    /// Whether panels were not asked yet.
    pub panels_open: bool,
    /// Whether that the connector runs is proof yet.
    pub steadiness: Steadiness,
    /// What the deletion waits for.
    pub waiting: &'a [DeletionWait],
    /// What the systems are told by.
    pub identities: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

impl Situation<'_> {
    /// The first steps that are left to do, for people; absent: none.
    pub fn todo(&self) -> Option<String> {
        let steps = self.plan.steps();
        let first: Vec<&str> = steps.iter().take(3).map(|step| step.what.as_str()).collect();
        let more = steps.len() - first.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!first.is_empty()).then(|| format!("{}{more}", first.join(", ")))
    }
}

/// Builds the status; what did not change is taken from `before`, with its times.
pub fn status(
    situation: &Situation<'_>,
    before: &AnalyticsPipelineStatus,
    now: &Time,
) -> AnalyticsPipelineStatus {
    status_and_nexts(situation, before, now).0
}

/// The status, and when each of its verdicts asks for another look.
pub fn status_and_nexts(
    situation: &Situation<'_>,
    before: &AnalyticsPipelineStatus,
    now: &Time,
) -> (AnalyticsPipelineStatus, Vec<Next>) {
    let tables = table_status::tables(situation);
    let fresh = before.conditions.iter().find(|known| known.type_ == ConditionType::Fresh.as_str());
    let reason = fresh.and_then(|known| Reason::parse(&known.reason));
    let freshness = freshness(situation, (before.freshness.as_deref(), reason));
    let held_back = held_back(situation, before.held_back.as_deref());
    let verdicts = judge(situation, &tables, freshness.as_ref(), held_back.as_deref());
    let of_tables = table_status::nexts(situation);
    let nexts = verdicts.iter().map(|verdict| verdict.next).chain(of_tables).collect();
    let judgements: Vec<Judgement> =
        verdicts.into_iter().map(|Verdict { judgement, .. }| judgement).collect();
    let ledger = situation.observed.clickhouse.known().map(|facts| &facts.ledger);
    let status = AnalyticsPipelineStatus {
        observed_generation: Some(situation.generation),
        applied_generation: if is_applied(situation, &judgements) {
            Some(situation.generation)
        } else {
            before.applied_generation
        },
        conditions: conditions::merge(&before.conditions, &judgements, situation.generation, now),
        // It never falls: a ledger with less is another one.
        epoch: ledger.and_then(|ledger| ledger.epoch).map(i32::from).max(before.epoch),
        summary: Some(format!("{}/{}", tables.streaming, tables.total)),
        freshness: Some(freshness.as_ref().map_or("Unknown", |freshness| freshness.bucket).to_owned()),
        tables: Some(tables),
        held_back,
        // A request that was answered once is not open again because another ledger knows nothing of it.
        handled_requests: {
            let mut handled = before.handled_requests.clone();
            handled.extend(ledger.map(|ledger| ledger.requests.clone()).unwrap_or_default());
            handled
        },
        identities: situation.identities.clone(),
        deletion: situation.waiting.to_vec(),
        grafanas: place::places(&before.grafanas, situation.spec, ledger),
        replicas: match situation.observed.kubernetes.known() {
            Some(facts) => Some(facts.rollout.replicas),
            None => before.replicas,
        },
        selector: Some(selector_text(situation.name)),
    };
    (status, nexts)
}

/// Whether everything that this generation asks for was seen to be as asked. What nobody answered for is not, nor is what
/// was refused or left; what becomes of the data meanwhile is another matter.
fn is_applied(situation: &Situation<'_>, judgements: &[Judgement]) -> bool {
    let settled = |judgement: &Judgement| {
        !ConditionType::REQUIRED.contains(&judgement.r#type)
            || judgement.status == Status::True
            || judgement.reason.is_of_data()
            // Without a sink nothing is applied, as the spec asks.
            || judgement.reason == Reason::NotConfigured
    };
    situation.plan.is_empty()
        && situation.invalid.is_none()
        && !situation.deleting
        && situation.failures.is_empty()
        && !situation.left.iter().any(|left| left.is_open)
        && judgements.iter().all(settled)
}

/// How much of the source's log the slot holds back, where it is too much; while nobody knows, it is as it was.
fn held_back(situation: &Situation<'_>, before: Option<&str>) -> Option<String> {
    let Some(facts) = situation.observed.postgres.known() else {
        return before.map(str::to_owned);
    };
    let wanted = situation.spec.source.connect.state;
    let passed = retention::held_back(facts, wanted, before.unwrap_or_default());
    (!passed.is_empty()).then(|| passed.to_owned())
}

/// Shortens a text in its middle: what it is about stands at its beginning, and the cause at its end.
pub fn cut(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let head = limit / 2;
    let tail = length - (limit - head - 3);
    let (first, last) = (text.chars().take(head), text.chars().skip(tail));
    first.chain(" … ".chars()).chain(last).collect()
}

/// Whether two statuses say the same, times apart.
pub fn same(a: &AnalyticsPipelineStatus, b: &AnalyticsPipelineStatus) -> bool {
    let timeless = |status: &AnalyticsPipelineStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(jiff::Timestamp::UNIX_EPOCH);
        }
        status
    };
    timeless(a) == timeless(b)
}
