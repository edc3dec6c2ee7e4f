//! The way of a row from PostgreSQL's log to a panel, hop by hop: fine, or where it stops, why, and what to do. Pure.
//!
//! What a condition says is taken from [`crate::core::judge`]; here it is put in the order of the way, beside the numbers.

use std::fmt::Write as _;

use serde::Serialize;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::core::blind::Blind;
use crate::core::facts::{Observation, Observed};
use crate::core::problem::Problem;

mod delivery;
mod panels;
mod source;
mod target;

pub use panels::SlowQuery;

/// What is known of a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Checkup<'a> {
    /// Namespace and name.
    pub name: &'a PipelineName,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// What was seen from here.
    pub observed: &'a Observed,
    /// Source tables and their state tables.
    pub tables: &'a [(SourceTable, String)],
    /// Views that should be there.
    pub views: &'a [String],
    /// What stands in the way.
    pub problems: &'a [Problem],
    /// The conditions, by what was seen from here.
    pub judged: &'a AnalyticsPipelineStatus,
    /// The conditions as whoever runs the pipeline wrote them last.
    pub said: Option<&'a AnalyticsPipelineStatus>,
    /// What was not seen from here.
    pub blind: &'a [Blind],
    /// The slowest queries of panels.
    pub slow: &'a Observation<Vec<SlowQuery>>,
    /// Whether the sink runs in a cluster.
    pub in_cluster: bool,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// How a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// The spec does not ask for it, or holds it.
    Off,
    /// It is under way.
    Waiting,
    /// It is not as it should be.
    Wrong,
    /// It could not be seen.
    Unseen,
}

impl Verdict {
    /// The word at the beginning of a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Off => "-",
            Self::Waiting => "wait",
            Self::Wrong => "WRONG",
            Self::Unseen => "?",
        }
    }

    fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::Off)
    }
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Its name.
    pub hop: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and why.
    pub message: String,
    /// The next command to run; empty where nothing is to be done.
    pub next: String,
}

/// The answer to a question that people have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The question.
    pub question: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// The answer.
    pub answer: String,
}

/// What came of a checkup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Namespace and name.
    pub pipeline: String,
    /// The hops, in the order in which a row passes them.
    pub hops: Vec<Hop>,
    /// No data, stale data, slow queries.
    pub answers: Vec<Answer>,
}

/// All is well.
pub const WELL: u8 = 0;
/// Something is wrong, or not done yet.
pub const WRONG: u8 = 1;
/// Something could not be seen, and nothing else is wrong.
pub const UNSEEN: u8 = 2;

/// Walks all hops.
pub fn examine(checkup: &Checkup<'_>) -> Diagnosis {
    let mut hops = source::hops(checkup);
    hops.extend(delivery::hops(checkup));
    hops.extend(target::hops(checkup));
    let data = hops.len();
    hops.push(checkup.of_condition("freshness", ConditionType::Fresh, "clickhouse", || {
        let age = checkup.judged.freshness.as_deref().unwrap_or("Unknown");
        format!("the oldest data is {age} old")
    }));
    hops.extend(panels::hops(checkup));
    let slow = panels::slow(checkup);
    let answers = vec![no_data(&hops[..data]), stale(&hops, data), panels::answer(&slow)];
    hops.push(slow);
    Diagnosis { pipeline: checkup.name.to_string(), hops, answers }
}

/// Where rows stop on their way to ClickHouse.
fn no_data(hops: &[Hop]) -> Answer {
    let stops = first_of(hops, &[Verdict::Wrong, Verdict::Waiting, Verdict::Unseen]);
    let (verdict, answer) = match stops {
        None => (Verdict::Ok, "rows come through: every hop up to the views is well".to_owned()),
        Some(hop) if hop.verdict == Verdict::Unseen => {
            (hop.verdict, format!("nobody knows: {} could not be seen", hop.hop))
        }
        Some(hop) => (hop.verdict, format!("look at {}: {}", hop.hop, hop.message)),
    };
    Answer { question: "no data?", verdict, answer }
}

/// What makes rows late: what `Fresh` says, and where the first hop in front of it is not well.
fn stale(hops: &[Hop], data: usize) -> Answer {
    let fresh = &hops[data];
    let cause = first_of(&hops[..data], &[Verdict::Wrong, Verdict::Waiting]);
    let answer = match cause.filter(|_| !fresh.verdict.is_well()) {
        Some(hop) => format!("{}; look at {} first", fresh.message, hop.hop),
        None => fresh.message.clone(),
    };
    Answer { question: "stale data?", verdict: fresh.verdict, answer }
}

/// The first hop of the worst verdict among `wanted`, which begins with the worst.
fn first_of<'a>(hops: &'a [Hop], wanted: &[Verdict]) -> Option<&'a Hop> {
    wanted.iter().find_map(|verdict| hops.iter().find(|hop| hop.verdict == *verdict))
}

impl Diagnosis {
    /// How the command ends.
    pub fn exit(&self) -> u8 {
        let any = |wanted: &[Verdict]| self.hops.iter().any(|hop| wanted.contains(&hop.verdict));
        if any(&[Verdict::Wrong, Verdict::Waiting]) {
            WRONG
        } else if any(&[Verdict::Unseen]) {
            UNSEEN
        } else {
            WELL
        }
    }

    /// For people: one line a hop, the next command below it, the three answers at the end.
    pub fn render(&self) -> String {
        let names = self.hops.iter().map(|hop| hop.hop.as_str());
        let names = names.chain(self.answers.iter().map(|answer| answer.question));
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.pipeline);
        for hop in &self.hops {
            let line = format!("{:<6}{:<width$}  {}", hop.verdict.as_str(), hop.hop, hop.message);
            let _ = writeln!(text, "{}", line.trim_end());
            if !hop.next.is_empty() {
                let _ = writeln!(text, "{:<6}{:<width$}  next: {}", "", "", hop.next);
            }
        }
        text.push('\n');
        for answer in &self.answers {
            let verdict = answer.verdict.as_str();
            let _ = writeln!(text, "{verdict:<6}{:<width$}  {}", answer.question, answer.answer);
        }
        text
    }
}

impl Checkup<'_> {
    /// What a system that was not seen makes of a hop; `None`: it was seen. Whoever runs the pipeline may see it all the
    /// same, and then its word is what counts.
    fn unseen(&self, name: &str, system: &str, condition: ConditionType) -> Option<Hop> {
        let blind = self.blind.iter().find(|blind| blind.system == system)?;
        let here = format!("{} at {}: {}", blind.system, blind.address, blind.why);
        if !blind.only_from_here {
            return Some(hop(name, Verdict::Wrong, here, blind.next.as_str()));
        }
        let said = self.said.and_then(|status| named(status, condition));
        Some(match said {
            Some(said) if said.status == "True" => {
                let message = format!("not seen from here ({here}); {} is True, says the status", said.type_);
                hop(name, Verdict::Unseen, message, blind.next.as_str())
            }
            Some(said) if said.status == "False" => {
                let message = format!(
                    "{}: {}, says the status; not seen from here ({here})",
                    said.reason, said.message
                );
                hop(name, Verdict::Wrong, message, blind.next.as_str())
            }
            _ => hop(name, Verdict::Unseen, format!("not seen ({here})"), blind.next.as_str()),
        })
    }

    /// The hop that a condition judges; `well` is what is said where it is true.
    fn of_condition(
        &self,
        name: &str,
        condition: ConditionType,
        system: &str,
        well: impl FnOnce() -> String,
    ) -> Hop {
        if let Some(found) = self.unseen(name, system, condition) {
            return found;
        }
        let Some(found) = named(self.judged, condition) else {
            return hop(name, Verdict::Unseen, "it was not judged", "");
        };
        let verdict = match (found.status.as_str(), Reason::parse(&found.reason)) {
            ("True", Some(Reason::NotConfigured | Reason::ConnectorPaused)) => Verdict::Off,
            ("True", _) => return hop(name, Verdict::Ok, well(), ""),
            (_, Some(Reason::InProgress | Reason::Reading | Reason::Waiting)) => Verdict::Waiting,
            ("Unknown", Some(Reason::Unreachable)) => Verdict::Unseen,
            _ => Verdict::Wrong,
        };
        let next = if verdict == Verdict::Off { String::new() } else { self.describe() };
        hop(name, verdict, format!("{}: {}", found.reason, found.message), next)
    }

    /// The command that shows what is said of the pipeline.
    fn describe(&self) -> String {
        if self.in_cluster {
            format!(
                "kubectl describe analyticspipeline {} --namespace {}",
                self.name.name, self.name.namespace
            )
        } else {
            "tidemark status --file FILE --out DIR".to_owned()
        }
    }

    /// The command that shows what the sink says.
    fn sink_log(&self) -> String {
        if self.in_cluster {
            format!(
                "kubectl logs deployment/{} --namespace {} --tail 50",
                self.name.sink(),
                self.name.namespace
            )
        } else {
            "look at the log of tidemark-sink".to_owned()
        }
    }

    /// The command that asks PostgreSQL.
    fn psql(&self, sql: &str) -> String {
        let source = &self.spec.source.postgres;
        format!("psql -h {} -p {} -d {} -c \"{sql}\"", source.host, source.port, source.database)
    }
}

fn hop(name: &str, verdict: Verdict, message: impl Into<String>, next: impl Into<String>) -> Hop {
    Hop { hop: name.to_owned(), verdict, message: message.into(), next: next.into() }
}

fn named(
    status: &AnalyticsPipelineStatus,
    condition: ConditionType,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status.conditions.iter().find(|found| found.type_ == condition.as_str())
}
