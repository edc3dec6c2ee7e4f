//! What the commands print. I/O: standard output, colours only on a terminal.
#![allow(clippy::print_stdout, reason = "printing is what this module is for")]

use std::io::IsTerminal;
use std::time::Duration;

use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::engine::Report;
use crate::reconcile::Outcome;
use crate::step::Step;

/// Prints a line.
pub fn line(text: &str) {
    println!("{text}");
}

/// Prints the steps of a wave.
pub fn wave(number: u32, steps: &[&Step]) {
    for step in steps {
        println!("wave {number:<2} {:<10} {}", step.lane().as_str(), step.what);
    }
}

/// Prints steps that failed.
pub fn failures(outcome: &Outcome) {
    for (lane, what, failure) in &outcome.failures {
        println!("failed  {:<10} {what}: {}", lane.as_str(), failure.message);
    }
}

/// Prints the plan, and what stands in the way.
pub fn plan(report: &Report) {
    print!("{}", report.outcome.plan.render(std::io::stdout().is_terminal()));
    for problem in &report.outcome.desired.problems {
        println!("problem: {}: {}", problem.reason.as_str(), problem.message);
    }
    for condition in &report.status.conditions {
        if condition.status == "Unknown" && condition.type_ != "Fresh" && condition.type_ != "Ready" {
            println!("unknown: {}: {}", condition.type_, condition.message);
        }
    }
}

/// Status of a condition.
pub fn condition<'a>(status: &'a AnalyticsPipelineStatus, name: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == name).map_or("Unknown", |c| &c.status)
}

/// One line with what matters.
pub fn headline(status: &AnalyticsPipelineStatus) -> String {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let (reason, message) = ready.map_or(("", ""), |c| (c.reason.as_str(), c.message.as_str()));
    format!(
        "ready {} {reason} tables {} freshness {} {message}",
        condition(status, "Ready"),
        status.summary.as_deref().unwrap_or("-"),
        status.freshness.as_deref().unwrap_or("-")
    )
}

/// Prints how an apply ended.
pub fn result(status: &AnalyticsPipelineStatus, did_anything: bool, elapsed: Duration) {
    if !did_anything {
        println!("nothing to do");
    }
    conditions(status);
    println!("after {:.1} s", elapsed.as_secs_f64());
}

/// Prints conditions, and what is wrong with tables.
pub fn conditions(status: &AnalyticsPipelineStatus) {
    conditions_alone(status);
    for table in status.tables.iter().flat_map(|tables| &tables.degraded) {
        println!("  {:<28} {:<9} {:<18} {}", table.name, table.state, table.reason, table.message);
    }
}

fn conditions_alone(status: &AnalyticsPipelineStatus) {
    let colours = std::io::stdout().is_terminal();
    for condition in &status.conditions {
        let good = match condition.type_.as_str() {
            "Reconciling" | "Stalled" => condition.status == "False",
            _ => condition.status == "True",
        };
        let shown = if colours {
            format!("\x1b[{}m{:<7}\x1b[0m", if good { "32" } else { "31" }, condition.status)
        } else {
            format!("{:<7}", condition.status)
        };
        println!("{:<20} {shown} {:<20} {}", condition.type_, condition.reason, condition.message);
    }
    println!(
        "tables {}, freshness {}",
        status.summary.as_deref().unwrap_or("-"),
        status.freshness.as_deref().unwrap_or("Unknown")
    );
}

/// Prints a pipeline of the cluster, its tables apart.
pub fn pipeline(pipeline: &AnalyticsPipeline) {
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let namespace = pipeline.metadata.namespace.as_deref().unwrap_or_default();
    println!("{namespace}/{name}");
    match &pipeline.status {
        Some(status) => conditions_alone(status),
        None => println!("no status yet: is the operator running?"),
    }
}
