//! The publication, and whether PostgreSQL is fit for logical replication. Pure.
//!
//! Tidemark makes the publication itself where the role may. Where it may not, the owner of the tables gets
//! the statement, and Debezium only reads what is there.

use std::collections::BTreeSet;

use tidemark_crds::conditions::Reason;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pg_quote::{ident, literal, qualified};

use super::part::{Part, Problem};
use crate::effect::Effect;
use crate::facts::PostgresFacts;
use crate::step::{Fact, Stage, StepKind};

/// Oldest server that Debezium's read-only incremental snapshots work with.
const OLDEST_VERSION: i32 = 130_000;
/// Name under which problems of the whole source are filed.
const SOURCE: &str = "source";

/// What makes the source unfit, each with the statement that mends it.
pub fn preflight(tables: &[SourceTable], facts: &PostgresFacts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unfit =
        |object: &str, message: String| problems.push(Problem::new(object, Reason::SourceNotReady, message));
    let role = ident(&facts.role);
    if facts.server_version < OLDEST_VERSION {
        unfit(SOURCE, format!("postgresql {} is older than 13: upgrade it", facts.server_version / 10_000));
    }
    if facts.wal_level != "logical" {
        unfit(
            SOURCE,
            format!(
                "wal_level is {}: run ALTER SYSTEM SET wal_level = 'logical' and restart postgresql",
                facts.wal_level
            ),
        );
    }
    if !facts.may_replicate {
        unfit(SOURCE, format!("role {} may not replicate: run ALTER ROLE {role} REPLICATION", facts.role));
    }
    if facts.slot.is_none() && facts.free_replication_slots < 1 {
        unfit(
            SOURCE,
            "all replication slots are in use: drop one that nobody reads, or raise max_replication_slots and \
             restart postgresql"
                .to_owned(),
        );
    }
    for (source, table) in tables.iter().filter_map(|source| Some((source, facts.tables.get(source)?))) {
        if !table.may_select {
            let (schema, name) = (ident(&source.schema), qualified(&source.schema, &source.name));
            let message = format!(
                "role {} may not read {source}: run GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {name} \
                 TO {role}",
                facts.role
            );
            unfit(&source.to_string(), message);
        }
    }
    problems
}

/// Makes the publication, or brings its tables to those of the spec.
pub fn steps(name: &PipelineName, mark: &str, tables: &[SourceTable], facts: &PostgresFacts) -> Part {
    let mut part = Part::default();
    // Names in a set: one order, whatever that of the spec.
    let wanted: BTreeSet<&SourceTable> =
        tables.iter().filter(|table| facts.tables.contains_key(*table)).collect();
    if wanted.is_empty() {
        return part;
    }
    let publication = name.publication();
    let list = |tables: &BTreeSet<&SourceTable>| {
        let names: Vec<String> = tables.iter().map(|table| qualified(&table.schema, &table.name)).collect();
        names.join(", ")
    };
    let owns_all = wanted.iter().all(|table| facts.tables.get(*table).is_some_and(|facts| facts.owned));
    let quoted = ident(&publication);
    let Some(live) = &facts.publication else {
        let sql = format!(
            "CREATE PUBLICATION {quoted} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate'); \
             COMMENT ON PUBLICATION {quoted} IS {}",
            list(&wanted),
            literal(mark)
        );
        if facts.may_create && owns_all {
            let gives = Some(Fact::Publication);
            let what = format!("create publication {publication} for {} tables", wanted.len());
            part.step((Stage::Publication, StepKind::Create), what, vec![], gives, Effect::Postgres { sql });
        } else {
            let message = format!(
                "role {} may not publish the tables: let their owner run {sql}; or make the role a member of the \
                 owner and GRANT CREATE ON DATABASE to it",
                facts.role
            );
            part.problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
        }
        return part;
    };
    let missing: BTreeSet<&SourceTable> =
        wanted.iter().filter(|table| !live.tables.contains(**table)).copied().collect();
    let mut statements = Vec::new();
    if !missing.is_empty() {
        statements.push(format!("ALTER PUBLICATION {quoted} ADD TABLE {}", list(&missing)));
    }
    if !live.all_operations {
        statements
            .push(format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"));
    }
    let mut superfluous: BTreeSet<&SourceTable> = BTreeSet::new();
    if live.ours {
        // A table that is named and not there now is none that was removed.
        superfluous = live.tables.iter().filter(|table| !tables.contains(table)).collect();
    }
    if !superfluous.is_empty() {
        statements.push(format!("ALTER PUBLICATION {quoted} DROP TABLE {}", list(&superfluous)));
    }
    if statements.is_empty() {
        return part;
    }
    let sql = statements.join("; ");
    if live.ours && (owns_all || missing.is_empty()) {
        let gives = Some(Fact::Publication);
        let what = format!("alter publication {publication}");
        part.step((Stage::Publication, StepKind::Change), what, vec![], gives, Effect::Postgres { sql });
    } else {
        let message = format!(
            "publication {publication} is not complete and not ours to alter: let its owner run {sql}"
        );
        part.problems.push(Problem::new(SOURCE, Reason::SourceNotReady, message));
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{PublicationFacts, SourceTableFacts};

    fn facts(owned: bool, publication: Option<PublicationFacts>) -> PostgresFacts {
        let table = SourceTableFacts {
            oid: 1,
            replica_identity: 'd',
            primary_key: vec!["id".into()],
            columns: vec![],
            may_select: true,
            owned,
            key_range: None,
        };
        PostgresFacts {
            server_version: 150_018,
            wal_level: "logical".into(),
            free_replication_slots: 5,
            may_replicate: true,
            may_create: true,
            role: "tidemark".into(),
            tables: tables().into_iter().map(|name| (name, table.clone())).collect(),
            publication,
            ..PostgresFacts::default()
        }
    }

    fn tables() -> Vec<SourceTable> {
        ["public.orders", "public.Odd Name"].map(|name| name.parse().unwrap()).into()
    }

    fn plan(facts: &PostgresFacts) -> Part {
        steps(&PipelineName::new("ns", "shop"), "tidemark u/ns/shop", &tables(), facts)
    }

    #[test]
    fn a_role_that_owns_the_tables_makes_the_publication() {
        insta::assert_debug_snapshot!(plan(&facts(true, None)));
    }

    #[test]
    fn the_owner_gets_the_statement_where_the_role_does_not_own_the_tables() {
        let part = plan(&facts(false, None));
        assert!(part.steps.is_empty());
        assert!(part.problems[0].message.contains("let their owner run CREATE PUBLICATION"), "{part:?}");
    }

    #[test]
    fn a_complete_publication_is_left_alone_whoever_made_it() {
        for ours in [true, false] {
            let live =
                PublicationFacts { tables: tables().into_iter().collect(), all_operations: true, ours };
            assert_eq!(plan(&facts(false, Some(live))), Part::default());
        }
    }

    #[test]
    fn a_publication_of_somebody_else_is_never_altered() {
        let live = PublicationFacts { all_operations: true, ..PublicationFacts::default() };
        let part = plan(&facts(true, Some(live)));
        assert!(part.steps.is_empty());
        assert_eq!(part.problems.len(), 1);
    }

    #[test]
    fn a_fit_source_passes_and_each_lack_is_named_with_its_statement() {
        assert!(preflight(&tables(), &facts(true, None)).is_empty());
        let mut unfit = facts(true, None);
        unfit.wal_level = "replica".into();
        unfit.may_replicate = false;
        unfit.free_replication_slots = 0;
        unfit.tables.values_mut().for_each(|table| table.may_select = false);
        insta::assert_debug_snapshot!(preflight(&tables(), &unfit));
    }
}
