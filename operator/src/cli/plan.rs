//! What `tidemark plan` says: the steps, what they cost, what stands in the way, and what could not be seen. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::bundle::{Fault, Faults};
use crate::blind::Blind;
use crate::cost::{Cost, cost};
use crate::engine::Report;
use crate::plan::{Blocker, details};
use crate::problem::Problem;
use crate::step::Step;

/// Nothing is left to do.
pub const NOTHING_TO_DO: u8 = 0;
/// Something would be done, or a problem stands in its way.
pub const CHANGES: u8 = 1;
/// A system could not be seen: it is no whole plan.
pub const UNSEEN: u8 = 2;
/// The spec is invalid, or cannot be read.
pub const INVALID: u8 = 3;

/// A plan as it is printed; the names of its fields are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Namespace and name.
    pub pipeline: String,
    /// Whether every system was seen.
    pub complete: bool,
    /// The steps in their order.
    pub steps: Vec<StepView>,
    /// What stands in the way.
    pub problems: Vec<ProblemView>,
    /// Systems that could not be seen.
    pub blind: Vec<Blind>,
    /// What is wrong with the file.
    pub invalid: Vec<Fault>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The system.
    pub lane: &'static str,
    /// `create`, `change`, `replace` or `drop`.
    pub kind: &'static str,
    /// What is done.
    pub what: String,
    /// What it waits for; absent: it is done at once.
    pub waits_for: Option<String>,
    /// What is sent, without secrets.
    pub details: Vec<String>,
    /// What it has read at the source.
    pub cost: Option<Cost>,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// Condition that it makes false.
    pub condition: &'static str,
    /// Table or view; absent: the whole.
    pub object: Option<String>,
    /// Why, from the closed set of reasons.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl PlanView {
    /// The plan of a report.
    pub fn new(pipeline: impl Into<String>, report: &Report, blind: Vec<Blind>) -> Self {
        let (plan, desired) = (&report.outcome.plan, &report.outcome.desired);
        let step = |step: &Step| StepView {
            lane: step.lane().as_str(),
            kind: step.kind.as_str(),
            what: step.what.clone(),
            waits_for: plan.blocker(step).map(Blocker::text),
            details: details(&step.effect),
            cost: cost(step, &report.outcome.observed, &desired.tables),
        };
        let problem = |problem: &Problem| ProblemView {
            condition: problem.condition.as_str(),
            object: problem.object.clone(),
            reason: problem.reason.as_str(),
            message: problem.message.clone(),
        };
        Self {
            pipeline: pipeline.into(),
            complete: blind.is_empty(),
            steps: plan.steps().iter().map(step).collect(),
            problems: desired.problems.iter().map(problem).collect(),
            blind,
            invalid: Vec::new(),
        }
    }

    /// No plan at all, since what it begins with could not be seen.
    pub fn unseen(pipeline: impl Into<String>, blind: Vec<Blind>) -> Self {
        Self {
            pipeline: pipeline.into(),
            complete: false,
            steps: Vec::new(),
            problems: Vec::new(),
            blind,
            invalid: Vec::new(),
        }
    }

    /// No plan at all, since the file is wrong.
    pub fn invalid(pipeline: impl Into<String>, faults: Faults) -> Self {
        Self { invalid: faults.0, ..Self::unseen(pipeline, Vec::new()) }
    }

    /// How the command ends.
    pub fn exit(&self) -> u8 {
        if !self.invalid.is_empty() {
            INVALID
        } else if !self.complete {
            UNSEEN
        } else if self.steps.is_empty() && self.problems.is_empty() {
            NOTHING_TO_DO
        } else {
            CHANGES
        }
    }

    /// For people; `steps` is the text of the steps.
    pub fn render(&self, steps: &str) -> String {
        let mut text = String::new();
        for fault in &self.invalid {
            let _ = writeln!(text, "invalid: {fault}");
        }
        if !self.invalid.is_empty() {
            let _ = writeln!(text, "there is no plan before the file is mended");
            return text;
        }
        if !self.steps.is_empty() {
            text.push_str(steps);
        }
        for (what, cost) in self.steps.iter().filter_map(|step| Some((&step.what, step.cost.as_ref()?))) {
            let _ = writeln!(text, "cost: {what}: {}", cost.text());
        }
        for problem in &self.problems {
            let _ = writeln!(text, "problem: {}: {}", problem.reason, problem.message);
        }
        for blind in &self.blind {
            let _ = writeln!(text, "not seen: {}", blind.line());
        }
        text.push_str(match self.exit() {
            UNSEEN => {
                "this is no whole plan: what is to be done in a system that was not seen is not known\n"
            }
            NOTHING_TO_DO => "nothing to do\n",
            _ if self.steps.is_empty() => "nothing can be done before the problems are mended\n",
            _ => "",
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidemark_crds::conditions::{ConditionType, Reason};
    use tidemark_crds::status::AnalyticsPipelineStatus;

    use super::*;
    use crate::desired::pipeline::Desired;
    use crate::effect::{ConnectEffect, Effect};
    use crate::plan::Plan;
    use crate::reconcile::Outcome;
    use crate::step::{Fact, Stage, StepKind};

    fn report(steps: Vec<Step>, problems: Vec<Problem>) -> Report {
        let outcome = Outcome {
            plan: Plan::new(steps, BTreeSet::from([Fact::Database]), BTreeSet::new()),
            desired: Desired { problems, ..Desired::default() },
            ..Outcome::default()
        };
        let status = AnalyticsPipelineStatus::default();
        Report { outcome, status, clean: false, time_is_up: false, left_behind: Vec::new(), slow: false }
    }

    fn connector() -> Step {
        let config = [("connector.class", "C"), ("database.password", "hunter2")];
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Step {
            stage: Stage::Connector,
            kind: StepKind::Create,
            what: "create the connector shop".into(),
            needs: vec![Fact::Topic("shop.public.orders".into())],
            gives: None,
            effect: Effect::Connect(ConnectEffect::Create { name: "shop".into(), config }),
        }
    }

    fn blind() -> Vec<Blind> {
        vec![Blind {
            system: "kafka",
            address: "kafka:9092".into(),
            why: "no answer within 9 s".into(),
            next: "check that it is up".into(),
            only_from_here: true,
        }]
    }

    fn text(view: &PlanView, report: &Report) -> String {
        format!("{}exit {}", view.render(&report.outcome.plan.render(false)), view.exit())
    }

    #[test]
    fn the_exit_code_and_the_last_line_say_the_same() {
        let problem = Problem::of(
            ConditionType::SourceReady,
            "public.orders",
            Reason::NoPrimaryKey,
            "public.orders has no key: add one",
        );
        let whole = report(vec![connector()], vec![]);
        let view = PlanView::new("shop/shop", &whole, vec![]);
        insta::assert_snapshot!(text(&view, &whole), @r"
        + connect    create the connector shop   (known after apply: waits for topic shop.public.orders)
              connector.class=C
        1 to create, 0 to change, 0 to replace, 0 to drop
        exit 1
        ");
        let idle = report(vec![], vec![]);
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &idle, vec![]), &idle), @r"
        nothing to do
        exit 0
        ");
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &idle, blind()), &idle), @r"
        not seen: kafka kafka:9092: no answer within 9 s: check that it is up
        this is no whole plan: what is to be done in a system that was not seen is not known
        exit 2
        ");
        let refused = report(vec![], vec![problem]);
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &refused, vec![]), &refused), @r"
        problem: NoPrimaryKey: public.orders has no key: add one
        nothing can be done before the problems are mended
        exit 1
        ");
        let faults =
            Faults::one("AnalyticsPipeline shop", "spec.sink.replicas", "Invalid value: 65: at most 64");
        insta::assert_snapshot!(text(&PlanView::invalid("shop.yaml", faults), &idle), @r"
        invalid: AnalyticsPipeline shop: spec.sink.replicas: Invalid value: 65: at most 64
        there is no plan before the file is mended
        exit 3
        ");
    }

    #[test]
    fn the_json_has_stable_names_and_no_secret() {
        let report = report(vec![connector()], vec![]);
        let json = serde_json::to_string_pretty(&PlanView::new("shop/shop", &report, blind())).unwrap();
        assert!(!json.contains("hunter2"), "{json}");
        insta::assert_snapshot!(json, @r#"
        {
          "pipeline": "shop/shop",
          "complete": false,
          "steps": [
            {
              "lane": "connect",
              "kind": "create",
              "what": "create the connector shop",
              "waitsFor": "topic shop.public.orders",
              "details": [
                "connector.class=C"
              ],
              "cost": null
            }
          ],
          "problems": [],
          "blind": [
            {
              "system": "kafka",
              "address": "kafka:9092",
              "why": "no answer within 9 s",
              "next": "check that it is up"
            }
          ],
          "invalid": []
        }
        "#);
    }
}
