//! What the commands print. I/O: standard output, colours only on a terminal.
#![allow(clippy::print_stdout, reason = "printing is what this module is for")]

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use serde::Serialize;
use tidemark_crds::status::AnalyticsPipelineStatus;

use super::status::StatusView;
use crate::core::step::{Step, StepId};
use crate::shell::reconcile::Outcome;

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
    for (StepId { lane, what, .. }, failure) in &outcome.failures {
        println!("failed  {:<10} {what}: {}", lane.as_str(), failure.message);
    }
}

/// Prints text as it is. Who reads it may have gone, such as `head`: then there is nobody to tell.
pub fn text(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// Prints a document: as JSON on one line where it is one of many, else over many lines.
pub fn json(document: &impl Serialize, one_of_many: bool) -> anyhow::Result<()> {
    let json =
        if one_of_many { serde_json::to_string(document)? } else { serde_json::to_string_pretty(document)? };
    text(&(json + "\n"));
    Ok(())
}

/// Prints text in the place of what was printed before; where that cannot be done, behind it.
pub fn redraw(now: &str) {
    if std::io::stdout().is_terminal() {
        text(&format!("\x1b[H\x1b[2J{now}"));
    } else {
        text(&format!("{now}\n"));
    }
}

/// Prints why a command ends: the causes in one line, and no backtrace.
pub fn error(error: &impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// Whether colours are wanted.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
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
    print!("{}", StatusView::new("", Some(status)).conditions(colours()));
    for table in status.tables.iter().flat_map(|tables| &tables.degraded) {
        println!("  {:<28} {:<9} {:<18} {}", table.name, table.state, table.reason, table.message);
    }
}
