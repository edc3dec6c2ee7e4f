//! What `tidemark plan` says: the steps that are foreseen, what they wait for and cost, what stands in the way, and what
//! could not be seen. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::bundle::{Fault, Faults};
use crate::core::assume::coming::Coming;
use crate::core::blind::Blind;
use crate::core::cost::Cost;
use crate::core::foresee::{End, Foreseen};
use crate::core::plan::details;
use crate::core::problem::Problem;
use crate::core::step::Step;
use crate::shell::engine::Report;

/// Nothing is left to do.
pub const NOTHING_TO_DO: u8 = 0;
/// Something would be done, or a problem stands in its way.
pub const CHANGES: u8 = 1;
/// A system could not be seen: it is no whole plan.
pub const UNSEEN: u8 = 2;
/// The spec is invalid, or cannot be read.
pub const INVALID: u8 = 3;

/// A plan as it is printed; the names of its fields are stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Namespace and name.
    pub pipeline: String,
    /// Whether every system was seen.
    pub complete: bool,
    /// Whether the spec says that nothing of it is carried out now.
    pub suspended: bool,
    /// The steps in their order: those that are foreseen, then those that are left.
    pub steps: Vec<StepView>,
    /// What is assumed to come by itself between them.
    pub waits: Vec<WaitView>,
    /// What all reads of tables together have read at the source.
    pub reads: Option<Cost>,
    /// Whether steps would follow that are not foreseen.
    pub goes_on: bool,
    /// What stands in the way.
    pub problems: Vec<ProblemView>,
    /// Systems that could not be seen.
    pub blind: Vec<Blind>,
    /// What is wrong with the file.
    pub invalid: Vec<Fault>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// Wave in which it is taken, from 1; absent: it is left.
    pub wave: Option<usize>,
    /// The system.
    pub lane: String,
    /// `create`, `change`, `revert`, `restart`, `replace` or `drop`.
    pub kind: String,
    /// What is done.
    pub what: String,
    /// What a step that is left waits for, and nobody is assumed to bring.
    pub waits_for: Option<String>,
    /// What is sent, without secrets.
    pub details: Vec<String>,
    /// What it has read at the source.
    pub cost: Option<Cost>,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitView {
    /// Wave behind which it is waited for; 0: before the first.
    pub after: usize,
    /// What it is.
    pub waits_for: String,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// Whether it is not there now, and would be at the end.
    pub foreseen: bool,
    /// Condition that it makes false.
    pub condition: String,
    /// Table or view; absent: the whole.
    pub object: Option<String>,
    /// Why, from the closed set of reasons.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl StepView {
    fn new(step: &Step) -> Self {
        Self {
            wave: None,
            lane: step.lane().as_str().to_owned(),
            kind: step.kind.as_str().to_owned(),
            what: step.what.clone(),
            waits_for: None,
            details: details(&step.effect),
            cost: None,
        }
    }

    /// One line for people, with what is sent below it.
    fn render(&self, colours: bool, text: &mut String) {
        let (sign, colour) = match self.kind.as_str() {
            "create" => ('+', "32"),
            "replace" => ('±', "35"),
            "drop" => ('-', "31"),
            _ => ('~', "33"),
        };
        let line = format!("{sign} {:<10} {}", self.lane, self.what);
        let _ = if colours { write!(text, "\x1b[{colour}m{line}\x1b[0m") } else { write!(text, "{line}") };
        if let Some(waits_for) = &self.waits_for {
            let _ = write!(text, "   (is left: waits for {waits_for})");
        }
        text.push('\n');
        for detail in &self.details {
            let _ = writeln!(text, "      {detail}");
        }
    }
}

/// What is assumed to come behind each wave; 0: before the first.
fn waits(foreseen: &Foreseen) -> Vec<WaitView> {
    let behind = foreseen.waves.iter().map(|wave| &wave.then);
    let all = std::iter::once(&foreseen.first).chain(behind).enumerate();
    let view = |after: usize, coming: &Coming| WaitView { after, waits_for: coming.to_string() };
    all.flat_map(|(after, then)| then.iter().map(move |coming| view(after, coming))).collect()
}

impl PlanView {
    /// The plan of a report that foresees.
    pub fn new(pipeline: impl Into<String>, report: &Report, blind: Vec<Blind>) -> Self {
        let nothing = Foreseen::default();
        let foreseen = report.foreseen.as_ref().unwrap_or(&nothing);
        let waves = foreseen.waves.iter().zip(1..).flat_map(|(wave, number)| {
            let view = move |(step, cost): &(Step, Option<Cost>)| StepView {
                wave: Some(number),
                cost: cost.clone(),
                ..StepView::new(step)
            };
            wave.steps.iter().map(view)
        });
        let left = foreseen
            .left
            .iter()
            .map(|(step, waits_for)| StepView { waits_for: Some(waits_for.clone()), ..StepView::new(step) });
        let problem = |foreseen: bool, problem: &Problem| ProblemView {
            foreseen,
            condition: problem.condition.as_str().to_owned(),
            object: problem.object.clone(),
            reason: problem.reason.as_str(),
            message: problem.message.clone(),
        };
        let now = report.outcome.desired.problems.iter().map(|it| problem(false, it));
        Self {
            pipeline: pipeline.into(),
            complete: blind.is_empty(),
            suspended: false,
            steps: waves.chain(left).collect(),
            waits: waits(foreseen),
            reads: foreseen.reads(),
            goes_on: foreseen.end == End::Bound,
            problems: now.chain(foreseen.problems.iter().map(|it| problem(true, it))).collect(),
            blind,
            invalid: Vec::new(),
        }
    }

    /// No plan at all, since what it begins with could not be seen.
    pub fn unseen(pipeline: impl Into<String>, blind: Vec<Blind>) -> Self {
        Self { pipeline: pipeline.into(), blind, ..Self::default() }
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

    /// For people.
    pub fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        for fault in &self.invalid {
            let _ = writeln!(text, "invalid: {fault}");
        }
        if !self.invalid.is_empty() {
            let _ = writeln!(text, "there is no plan before the file is mended");
            return text;
        }
        self.render_steps(colours, &mut text);
        self.render_costs(&mut text);
        for problem in &self.problems {
            let when = if problem.foreseen { "problem then" } else { "problem" };
            let _ = writeln!(text, "{when}: {}: {}", problem.reason, problem.message);
        }
        for blind in &self.blind {
            let _ = writeln!(text, "not seen: {}", blind.line());
        }
        if self.goes_on {
            text.push_str("more would follow that is not foreseen\n");
        }
        if self.suspended && !self.steps.is_empty() {
            text.push_str("spec.suspend is true: nothing of it is carried out before it is false\n");
        }
        // A plan that the operator made has seen from where it runs.
        let elsewhere =
            |blind: &Blind| blind.only_from_here && !["kubernetes", "operator"].contains(&&*blind.system);
        if self.blind.iter().any(elsewhere) {
            text.push_str(
                "in a cluster, --in-cluster has the running operator look, from where it sees them\n",
            );
        }
        text.push_str(match self.exit() {
            UNSEEN => {
                "this is no plan: what is to be done in a system that was not seen, and after it, is not known\n"
            }
            NOTHING_TO_DO => "nothing to do\n",
            _ if self.steps.is_empty() => "nothing can be done before the problems are mended\n",
            _ => "",
        });
        text
    }

    /// The waves, what is waited for between them, and what is left.
    fn render_steps(&self, colours: bool, text: &mut String) {
        let last = self.steps.iter().filter_map(|step| step.wave).max().unwrap_or(0);
        for number in 0..=last {
            if number > 0 {
                let _ = writeln!(text, "wave {number}");
            }
            let steps = self.steps.iter().filter(|step| number > 0 && step.wave == Some(number));
            steps.for_each(|step| step.render(colours, text));
            for wait in self.waits.iter().filter(|wait| wait.after == number) {
                let then = if number == 0 { "" } else { "then " };
                let _ = writeln!(text, "{then}waits for {}", wait.waits_for);
            }
        }
        self.steps.iter().filter(|step| step.wave.is_none()).for_each(|step| step.render(colours, text));
        if self.steps.is_empty() {
            return;
        }
        let of =
            |kinds: &[&str]| self.steps.iter().filter(|step| kinds.contains(&step.kind.as_str())).count();
        let _ = writeln!(
            text,
            "{} to create, {} to change, {} to replace, {} to drop",
            of(&["create"]),
            of(&["change", "revert", "restart"]),
            of(&["replace"]),
            of(&["drop"])
        );
    }

    fn render_costs(&self, text: &mut String) {
        let costs: Vec<(&String, &Cost)> =
            self.steps.iter().filter_map(|step| Some((&step.what, step.cost.as_ref()?))).collect();
        for (what, cost) in &costs {
            let _ = writeln!(text, "cost: {what}: {}", cost.text());
        }
        if let Some(reads) = self.reads.as_ref().filter(|_| costs.len() > 1) {
            let _ = writeln!(text, "cost of all reads: {}", reads.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_crds::conditions::{ConditionType, Reason};
    use tidemark_crds::status::AnalyticsPipelineStatus;

    use super::*;
    use crate::core::desired::pipeline::Desired;
    use crate::core::effect::{ConnectEffect, Effect};
    use crate::core::foresee::Wave;
    use crate::core::step::{Fact, Stage, StepKind};
    use crate::shell::reconcile::Outcome;

    fn report(steps: Vec<Step>, problems: Vec<Problem>) -> Report {
        let desired = Desired { problems, ..Desired::default() };
        let (mut waves, mut first) = (Vec::new(), Vec::new());
        if !steps.is_empty() {
            let read = Cost { tables: vec!["public.orders".into()], rows: Some(1_000), bytes: Some(8_192) };
            let steps = steps.into_iter().map(|step| (step, Some(read.clone()))).collect();
            waves.push(Wave { steps, then: vec![Coming::Streaming, Coming::Read("orders".into())] });
            first.push(Coming::Sinks);
        }
        let foreseen = Foreseen { first, waves, ..Foreseen::default() };
        Report {
            outcome: Outcome { desired, ..Outcome::default() },
            foreseen: Some(foreseen),
            status: AnalyticsPipelineStatus::default(),
            nexts: Vec::new(),
            same: 1,
            clean: false,
            time_is_up: false,
            left_behind: Vec::new(),
            slow: false,
        }
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
            system: "kafka".into(),
            address: "kafka:9092".into(),
            why: "no answer within 9 s".into(),
            next: "check that it is up".into(),
            only_from_here: true,
        }]
    }

    fn text(view: &PlanView) -> String {
        format!("{}exit {}", view.render(false), view.exit())
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
        insta::assert_snapshot!(text(&view), @r"
        waits for the sink's pods to be rolled out
        wave 1
        + connect    create the connector shop
              connector.class=C
        then waits for the connector to read from its slot
        then waits for orders to be read
        1 to create, 0 to change, 0 to replace, 0 to drop
        cost: create the connector shop: reads public.orders at the source: about 1,000 rows, 8.0 KiB, as PostgreSQL estimates
        exit 1
        ");
        let left = Foreseen {
            left: vec![(connector(), "the system to answer".into())],
            end: End::Bound,
            ..Foreseen::default()
        };
        let view = PlanView::new("shop/shop", &Report { foreseen: Some(left), ..whole }, blind());
        insta::assert_snapshot!(text(&PlanView { suspended: true, ..view }), @r"
        + connect    create the connector shop   (is left: waits for the system to answer)
              connector.class=C
        1 to create, 0 to change, 0 to replace, 0 to drop
        not seen: kafka kafka:9092: no answer within 9 s: check that it is up
        more would follow that is not foreseen
        spec.suspend is true: nothing of it is carried out before it is false
        in a cluster, --in-cluster has the running operator look, from where it sees them
        this is no plan: what is to be done in a system that was not seen, and after it, is not known
        exit 2
        ");
        let idle = report(vec![], vec![]);
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &idle, vec![])), @r"
        nothing to do
        exit 0
        ");
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &idle, blind())), @r"
        not seen: kafka kafka:9092: no answer within 9 s: check that it is up
        in a cluster, --in-cluster has the running operator look, from where it sees them
        this is no plan: what is to be done in a system that was not seen, and after it, is not known
        exit 2
        ");
        let refused = report(vec![], vec![problem]);
        insta::assert_snapshot!(text(&PlanView::new("shop/shop", &refused, vec![])), @r"
        problem: NoPrimaryKey: public.orders has no key: add one
        nothing can be done before the problems are mended
        exit 1
        ");
        let faults =
            Faults::one("AnalyticsPipeline shop", "spec.sink.replicas", "Invalid value: 65: at most 64");
        insta::assert_snapshot!(text(&PlanView::invalid("shop.yaml", faults)), @r"
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
          "suspended": false,
          "steps": [
            {
              "wave": 1,
              "lane": "connect",
              "kind": "create",
              "what": "create the connector shop",
              "waitsFor": null,
              "details": [
                "connector.class=C"
              ],
              "cost": {
                "tables": [
                  "public.orders"
                ],
                "rows": 1000,
                "bytes": 8192
              }
            }
          ],
          "waits": [
            {
              "after": 0,
              "waitsFor": "the sink's pods to be rolled out"
            },
            {
              "after": 1,
              "waitsFor": "the connector to read from its slot"
            },
            {
              "after": 1,
              "waitsFor": "orders to be read"
            }
          ],
          "reads": null,
          "goesOn": false,
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
