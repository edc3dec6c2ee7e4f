//! Tests of the publication. Pure.

use super::*;
use crate::core::effect::Effect;
use crate::core::facts::{PublicationFacts, SourceTableFacts};

fn facts(owned: bool, publication: Option<PublicationFacts>) -> PostgresFacts {
    let table = SourceTableFacts { may_select: true, owned, ..SourceTableFacts::default() };
    PostgresFacts {
        server_version: 150_018,
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

fn complete(ours: bool) -> PublicationFacts {
    PublicationFacts {
        tables: tables().into_iter().collect(),
        all_operations: true,
        via_root: true,
        ours,
        ..PublicationFacts::default()
    }
}

fn plan_of(tables: &[SourceTable], harmed: &[&str], facts: &PostgresFacts) -> Part {
    let harmed = harmed.iter().map(|name| name.parse().unwrap()).collect();
    let wanted = Wanted { tables, named: &self::tables(), harmed: &harmed };
    steps(&PipelineName::new("ns", "shop"), "tidemark u/ns/shop", &wanted, facts)
}

fn plan(facts: &PostgresFacts) -> Part {
    plan_of(&tables(), &[], facts)
}

fn sql(part: &Part) -> String {
    let [step] = part.steps.as_slice() else { panic!("one step: {part:?}") };
    let Effect::Postgres(effect) = &step.effect else { panic!("{step:?}") };
    statement::postgres(effect)
}

#[test]
fn a_role_that_owns_the_tables_makes_the_publication() {
    insta::assert_debug_snapshot!(plan(&facts(true, None)));
}

#[test]
fn a_server_that_can_publishes_generated_columns() {
    let mut newer = facts(true, None);
    newer.server_version = 180_004;
    assert!(sql(&plan(&newer)).contains("publish_generated_columns = stored"));
    newer.publication = Some(complete(true));
    assert!(sql(&plan(&newer)).contains("publish_generated_columns = stored"));
    newer.publication = Some(PublicationFacts { generated: true, ..complete(true) });
    assert_eq!(plan(&newer), Part::default());
    // Of another owner's the columns are left out.
    newer.publication = Some(complete(false));
    assert_eq!(plan(&newer), Part::default());
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
        assert_eq!(plan(&facts(false, Some(complete(ours)))), Part::default());
    }
}

#[test]
fn ours_publishes_partitions_under_their_root() {
    let part = plan(&facts(true, Some(PublicationFacts { via_root: false, ..complete(true) })));
    assert!(
        sql(&part).contains(
            "SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        )
    );
    let foreign = facts(true, Some(PublicationFacts { via_root: false, ..complete(false) }));
    assert_eq!(plan(&foreign), Part::default());
}

#[test]
fn a_publication_of_somebody_else_is_never_altered() {
    let live = PublicationFacts { all_operations: true, ..PublicationFacts::default() };
    let part = plan(&facts(true, Some(live)));
    assert!(part.steps.is_empty());
    assert_eq!(part.problems.len(), 1);
}

#[test]
fn a_table_that_being_published_harms_is_taken_out_and_one_that_is_not_followed_stays() {
    let live = facts(true, Some(complete(true)));
    let one = &tables()[..1];
    assert_eq!(plan_of(one, &[], &live), Part::default());
    let part = plan_of(one, &["public.Odd Name"], &live);
    assert!(sql(&part).ends_with(r#"DROP TABLE "public"."Odd Name""#), "{part:?}");
    let none = plan_of(&[], &["public.Odd Name", "public.orders"], &live);
    assert!(sql(&none).contains("DROP TABLE"), "{none:?}");
    let part = plan_of(one, &["public.Odd Name"], &facts(true, Some(complete(false))));
    assert!(part.problems[0].message.contains("DROP TABLE"), "{part:?}");
}

#[test]
fn a_table_that_the_spec_names_no_more_leaves_ours() {
    let mut live = complete(true);
    live.tables.insert("public.gone".parse().unwrap());
    let part = plan(&facts(true, Some(live)));
    assert!(sql(&part).ends_with(r#"DROP TABLE "public"."gone""#), "{part:?}");
}
