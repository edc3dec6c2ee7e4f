//! What one part of a pipeline asks for: steps, and what stands in the way. Pure.

use tidemark_crds::conditions::Reason;

use crate::core::effect::{ClickHouseEffect, Effect, ViewDefinition};
use crate::core::gate::Proof;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// Steps of one part, in its own order, and its problems; empty: all is as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// What to do.
    pub steps: Vec<Step>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
}

/// Something that keeps one object from being as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object: a table of the spec, a view, a topic, the connector.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// Builds a problem.
    pub fn new(object: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self { object: object.into(), reason, message: message.into() }
    }
}

impl Part {
    /// A part that is nothing but one problem.
    pub fn problem(problem: Problem) -> Self {
        Self { steps: Vec::new(), problems: vec![problem] }
    }

    /// Takes over the steps and problems of `other`.
    pub fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.problems.extend(other.problems);
    }

    /// Adds a step.
    pub fn step(
        &mut self,
        (stage, kind): (Stage, StepKind),
        what: impl Into<String>,
        needs: Vec<Fact>,
        gives: Option<Fact>,
        effect: impl Into<Effect>,
    ) {
        self.steps.push(Step { stage, kind, what: what.into(), needs, gives, effect: effect.into() });
    }
}

impl Part {
    /// Makes a view; in the place of the one that was seen there, with the proof that it may.
    pub fn view(
        &mut self,
        stage: Stage,
        needs: Vec<Fact>,
        gives: Option<Fact>,
        view: ViewDefinition,
        replaces: Option<Proof>,
    ) {
        let name = view.name.clone();
        let (kind, what, effect) = if let Some(proof) = replaces {
            let effect = ClickHouseEffect::ReplaceView(proof.allow(view));
            (StepKind::Replace, format!("replace view {name}"), effect)
        } else {
            (StepKind::Create, format!("create view {name}"), ClickHouseEffect::CreateView(view))
        };
        self.step((stage, kind), what, needs, gives, effect);
    }
}

/// How the mark of any pipeline begins.
pub const OF_A_PIPELINE: &str = "tidemark ";

/// Whether a COMMENT is `mark`, alone or followed by a space and a hash: the object is of this pipeline.
pub fn is_ours(comment: &str, mark: &str) -> bool {
    comment.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The hash behind the mark of a COMMENT; empty where there is none.
pub fn hash_in<'a>(comment: &'a str, mark: &str) -> &'a str {
    comment.strip_prefix(mark).and_then(|rest| rest.strip_prefix(' ')).unwrap_or_default()
}

/// The problem of an object that exists and is not ours.
pub fn conflict(object: &str, what: &str, comment: &str) -> Problem {
    let owner = if comment.starts_with(OF_A_PIPELINE) {
        format!("belongs to another pipeline ({comment})")
    } else {
        "was not made by this pipeline".to_owned()
    };
    let message =
        format!("{what} exists and {owner}: it is left alone; rename or remove it, or choose another name");
    Problem::new(object, Reason::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_begins_with_ours_is_not_ours() {
        assert!(is_ours("tidemark u/ns/shop", "tidemark u/ns/shop"));
        assert!(is_ours("tidemark u/ns/shop 0a1b", "tidemark u/ns/shop"));
        assert!(!is_ours("tidemark u/ns/shop2", "tidemark u/ns/shop"));
        assert!(!is_ours("", "tidemark u/ns/shop"));
        assert_eq!(hash_in("tidemark u/ns/shop 0a1b", "tidemark u/ns/shop"), "0a1b");
    }
}
