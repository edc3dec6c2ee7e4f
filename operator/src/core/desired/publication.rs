//! The publication: what it has, and how it publishes. Pure.
//!
//! Tidemark makes the publication itself where the role may. Where it may not, the owner of the tables gets
//! the statement, and Debezium only reads what is there.

use std::collections::BTreeSet;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;

use super::part::{Part, Problem};
use super::source::SOURCE;
use crate::core::effect::{PostgresEffect, Publishes};
use crate::core::facts::{PUBLISHES_GENERATED, PostgresFacts, PublicationFacts};
use crate::core::statement;
use crate::core::step::{Fact, Stage, StepKind};

/// Tables as the publication should have them.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Tables to publish.
    pub tables: &'a [SourceTable],
    /// Tables of the spec, followed or not: what else ours has is dropped from it.
    pub named: &'a [SourceTable],
    /// Tables that ours must not have, named or not: being published harms them.
    pub harmed: &'a BTreeSet<SourceTable>,
}

/// Makes the publication, or brings its tables to those of the spec.
pub fn steps(name: &PipelineName, mark: &str, tables: &Wanted<'_>, facts: &PostgresFacts) -> Part {
    // Names in a set: one order, whatever that of the spec.
    let wanted: BTreeSet<&SourceTable> =
        tables.tables.iter().filter(|table| facts.tables.contains_key(*table)).collect();
    match &facts.publication {
        Some(live) => alter(&name.publication(), tables, &wanted, live, facts),
        None if wanted.is_empty() => Part::default(),
        None => create(&name.publication(), mark, &wanted, facts),
    }
}

fn owns_all(tables: &BTreeSet<&SourceTable>, facts: &PostgresFacts) -> bool {
    tables.iter().all(|table| facts.tables.get(*table).is_some_and(|facts| facts.owned))
}

/// The options of ours on this server.
fn options(facts: &PostgresFacts) -> Publishes {
    if facts.server_version >= PUBLISHES_GENERATED {
        Publishes::ByRootAndGenerated
    } else {
        Publishes::ByRoot
    }
}

fn create(publication: &str, mark: &str, wanted: &BTreeSet<&SourceTable>, facts: &PostgresFacts) -> Part {
    let mut part = Part::default();
    let effect = PostgresEffect::CreatePublication {
        name: publication.to_owned(),
        tables: wanted.iter().copied().cloned().collect(),
        options: options(facts),
        comment: mark.to_owned(),
    };
    if facts.may_create && owns_all(wanted, facts) {
        let gives = Some(Fact::Publication);
        let what = format!("create publication {publication} for {} tables", wanted.len());
        part.step((Stage::Publication, StepKind::Create), what, vec![], gives, effect);
    } else {
        let message = format!(
            "role {} may not publish the tables: let their owner run {}; or make the role a member of the \
             owner and GRANT CREATE ON DATABASE to it",
            facts.role,
            statement::postgres(&effect)
        );
        part.problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
    }
    part
}

fn alter(
    publication: &str,
    tables: &Wanted<'_>,
    wanted: &BTreeSet<&SourceTable>,
    live: &PublicationFacts,
    facts: &PostgresFacts,
) -> Part {
    let mut part = Part::default();
    let is_harmed = |table: &&SourceTable| tables.harmed.contains(*table);
    // A table that is named and not followed for now is none that was removed.
    let is_superfluous =
        |table: &&SourceTable| is_harmed(table) || (live.ours && !tables.named.contains(table));
    let missing: BTreeSet<&SourceTable> =
        wanted.iter().filter(|table| !live.tables.contains(**table)).copied().collect();
    let lacks_generated = facts.server_version >= PUBLISHES_GENERATED && !live.generated;
    let set = if live.ours && (!live.all_operations || !live.via_root || lacks_generated) {
        Some(options(facts))
    } else {
        (!live.all_operations).then_some(Publishes::Operations)
    };
    let drop: Vec<SourceTable> = live.tables.iter().filter(is_superfluous).cloned().collect();
    if drop.is_empty() && missing.is_empty() && set.is_none() {
        return part;
    }
    let add = missing.iter().copied().cloned().collect();
    let effect = PostgresEffect::AlterPublication { name: publication.to_owned(), drop, add, set };
    if live.ours && owns_all(&missing, facts) {
        let gives = Some(Fact::Publication);
        let what = format!("alter publication {publication}");
        part.step((Stage::Publication, StepKind::Change), what, vec![], gives, effect);
    } else {
        let message = format!(
            "publication {publication} is not as it should be and not ours to alter: let its owner run {}",
            statement::postgres(&effect)
        );
        part.problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
    }
    part
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
