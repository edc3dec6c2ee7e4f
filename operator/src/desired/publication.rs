//! The publication: what it has, and how it publishes. Pure.
//!
//! Tidemark makes the publication itself where the role may. Where it may not, the owner of the tables gets
//! the statement, and Debezium only reads what is there.

use std::collections::BTreeSet;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pg_quote::{ident, literal, qualified};

use super::part::{Part, Problem};
use super::source::SOURCE;
use crate::effect::{Effect, PostgresEffect};
use crate::facts::{PUBLISHES_GENERATED, PostgresFacts, PublicationFacts};
use crate::step::{Fact, Stage, StepKind};

/// How ours publishes: all there is, and partitions under the name of their root.
const PUBLISH: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";
/// Newer servers publish stored generated columns too.
const GENERATED: &str = "publish_generated_columns = stored";

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

fn list(tables: &BTreeSet<&SourceTable>) -> String {
    let names: Vec<String> = tables.iter().map(|table| qualified(&table.schema, &table.name)).collect();
    names.join(", ")
}

fn owns_all(tables: &BTreeSet<&SourceTable>, facts: &PostgresFacts) -> bool {
    tables.iter().all(|table| facts.tables.get(*table).is_some_and(|facts| facts.owned))
}

/// The options of ours on this server.
fn options(facts: &PostgresFacts) -> String {
    if facts.server_version >= PUBLISHES_GENERATED {
        format!("{PUBLISH}, {GENERATED}")
    } else {
        PUBLISH.to_owned()
    }
}

fn create(publication: &str, mark: &str, wanted: &BTreeSet<&SourceTable>, facts: &PostgresFacts) -> Part {
    let mut part = Part::default();
    let quoted = ident(publication);
    let sql = format!(
        "CREATE PUBLICATION {quoted} FOR TABLE {} WITH ({}); COMMENT ON PUBLICATION {quoted} IS {}",
        list(wanted),
        options(facts),
        literal(mark)
    );
    if facts.may_create && owns_all(wanted, facts) {
        let gives = Some(Fact::Publication);
        let what = format!("create publication {publication} for {} tables", wanted.len());
        part.step(
            (Stage::Publication, StepKind::Create),
            what,
            vec![],
            gives,
            Effect::Postgres(PostgresEffect::Make { sql }),
        );
    } else {
        let message = format!(
            "role {} may not publish the tables: let their owner run {sql}; or make the role a member of the \
             owner and GRANT CREATE ON DATABASE to it",
            facts.role
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
    let quoted = ident(publication);
    let harmed: BTreeSet<&SourceTable> = live.tables.intersection(tables.harmed).collect();
    let mut statements = Vec::new();
    if live.ours {
        // A table that is named and not followed for now is none that was removed.
        let superfluous: BTreeSet<&SourceTable> = (live.tables.iter())
            .filter(|table| harmed.contains(table) || !tables.named.contains(table))
            .collect();
        if !superfluous.is_empty() {
            statements.push(format!("ALTER PUBLICATION {quoted} DROP TABLE {}", list(&superfluous)));
        }
    } else if !harmed.is_empty() {
        statements.push(format!("ALTER PUBLICATION {quoted} DROP TABLE {}", list(&harmed)));
    }
    let missing: BTreeSet<&SourceTable> =
        wanted.iter().filter(|table| !live.tables.contains(**table)).copied().collect();
    if !missing.is_empty() {
        statements.push(format!("ALTER PUBLICATION {quoted} ADD TABLE {}", list(&missing)));
    }
    let lacks_generated = facts.server_version >= PUBLISHES_GENERATED && !live.generated;
    if live.ours && (!live.all_operations || !live.via_root || lacks_generated) {
        statements.push(format!("ALTER PUBLICATION {quoted} SET ({})", options(facts)));
    } else if !live.all_operations {
        statements
            .push(format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"));
    }
    if statements.is_empty() {
        return part;
    }
    let sql = statements.join("; ");
    if live.ours && owns_all(&missing, facts) {
        let gives = Some(Fact::Publication);
        let what = format!("alter publication {publication}");
        part.step(
            (Stage::Publication, StepKind::Change),
            what,
            vec![],
            gives,
            Effect::Postgres(PostgresEffect::Make { sql }),
        );
    } else {
        let message = format!(
            "publication {publication} is not as it should be and not ours to alter: let its owner run {sql}"
        );
        part.problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
    }
    part
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
