//! Tests of the judgement of sources. Pure.

use std::collections::BTreeSet;

use super::*;
use crate::core::facts::{PartitionFacts, PublicationFacts, SlotFacts};

/// What a table is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    Primary,
    Deferrable,
    /// A unique index of NOT NULL columns, the replica identity's where that is an index.
    Unique,
    /// A primary key and a unique index whose columns are not those of the primary key.
    Both,
    /// A primary key and a unique index that has its columns among others.
    Covering,
    /// A deferrable primary key and a unique index.
    DeferrableAndUnique,
    /// A unique index of a column that may be NULL.
    Nullable,
}

const KEYS: [Keys; 8] = [
    Keys::None,
    Keys::Primary,
    Keys::Deferrable,
    Keys::Unique,
    Keys::Both,
    Keys::Covering,
    Keys::DeferrableAndUnique,
    Keys::Nullable,
];

fn index(name: &str, columns: &[&str]) -> IndexFacts {
    IndexFacts {
        name: name.into(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        immediate: true,
        valid: true,
        not_null: true,
        ..IndexFacts::default()
    }
}

fn indexes(keys: Keys, replica_identity: char) -> Vec<IndexFacts> {
    let primary = || IndexFacts { primary: true, ..index("t_pkey", &["id"]) };
    let deferrable = || IndexFacts { immediate: false, ..primary() };
    let unique =
        |columns: &[&str]| IndexFacts { identity: replica_identity == 'i', ..index("t_code_key", columns) };
    match keys {
        Keys::None => vec![],
        Keys::Primary => vec![primary()],
        Keys::Deferrable => vec![deferrable()],
        Keys::Unique => vec![unique(&["code"])],
        Keys::Both => vec![unique(&["code"]), primary()],
        Keys::Covering => vec![unique(&["code", "id"]), primary()],
        Keys::DeferrableAndUnique => vec![unique(&["code"]), deferrable()],
        Keys::Nullable => vec![IndexFacts { not_null: false, identity: false, ..unique(&["code"]) }],
    }
}

fn table(keys: Keys, replica_identity: char) -> SourceTableFacts {
    SourceTableFacts {
        oid: 1,
        kind: 'r',
        persistence: 'p',
        replica_identity,
        indexes: indexes(keys, replica_identity),
        access_method: "heap".into(),
        may_select: true,
        owned: true,
        owner: "shop".into(),
        ..SourceTableFacts::default()
    }
}

fn server() -> PostgresFacts {
    PostgresFacts {
        server_version: 150_018,
        wal_level: "logical".into(),
        server_encoding: "UTF8".into(),
        free_replication_slots: 5,
        free_wal_senders: 5,
        may_replicate: true,
        may_create: true,
        role: "tidemark".into(),
        database: "shop".into(),
        ..PostgresFacts::default()
    }
}

fn name() -> SourceTable {
    "public.t".parse().unwrap()
}

fn judged(table: &SourceTableFacts) -> Result<Vec<String>, Unfit> {
    judge(&name(), table, &server(), "tidemark_shop").map(|key| key.columns.clone())
}

fn message(table: &SourceTableFacts) -> String {
    judged(table).unwrap_err().message
}

/// Every combination of key and replica identity: the key, or the statement that mends it.
#[test]
fn each_key_under_each_replica_identity() {
    let mut lines = Vec::new();
    for replica_identity in ['d', 'f', 'i', 'n'] {
        for keys in KEYS {
            let verdict = match judged(&table(keys, replica_identity)) {
                Ok(key) => format!("key {}", key.join(", ")),
                Err(unfit) => {
                    let statement = unfit.message.rsplit(": run ").next().unwrap_or_default().to_owned();
                    format!("{}: {statement}", if unfit.hurts { "hurts" } else { "unfit" })
                }
            };
            lines.push(format!("{replica_identity} {keys:?}: {verdict}"));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// What PostgreSQL does with UPDATE and DELETE of a published table (`CheckCmdReplicaIdentity`) decides what hurts.
#[test]
fn what_hurts_is_what_has_no_replica_identity() {
    for replica_identity in ['d', 'f', 'i', 'n'] {
        for keys in KEYS {
            let table = table(keys, replica_identity);
            let identified = match replica_identity {
                'f' => true,
                'd' => table.indexes.iter().any(|index| index.primary && index.immediate),
                'i' => table.indexes.iter().any(|index| index.identity),
                _ => false,
            };
            let hurts = judged(&table).is_err_and(|unfit| unfit.hurts);
            assert_eq!(hurts, !identified, "{replica_identity} {keys:?}");
        }
    }
}

#[test]
fn persistence_and_kind_refuse_whatever_the_key_is() {
    for keys in KEYS {
        for (persistence, says) in [('u', "SET LOGGED"), ('t', "temporary table")] {
            let refused = SourceTableFacts { persistence, ..table(keys, 'f') };
            assert!(message(&refused).contains(says), "{keys:?}");
        }
        for (kind, says) in [('v', "is a view"), ('m', "materialized view"), ('f', "foreign table")] {
            let refused = SourceTableFacts { kind, ..table(keys, 'd') };
            let unfit = judged(&refused).unwrap_err();
            assert!(unfit.message.contains(says) && !unfit.hurts, "{keys:?} {unfit:?}");
        }
    }
}

#[test]
fn everything_that_is_to_be_mended_is_named_at_once() {
    let refused = SourceTableFacts {
        persistence: 'u',
        row_security: true,
        may_select: false,
        access_method: "columnar".into(),
        ..table(Keys::None, 'd')
    };
    insta::assert_snapshot!(message(&refused));
}

#[test]
fn hierarchies_are_followed_by_their_root_or_refused() {
    let of = |lineage: Lineage| message(&SourceTableFacts { lineage, ..table(Keys::Primary, 'd') });
    assert!(
        of(Lineage::Partition("public.visit".parse().unwrap())).contains("name public.visit in spec.tables")
    );
    assert!(of(Lineage::Parent("public.t_1".parse().unwrap())).contains("public.t_1 is one"));
    assert!(of(Lineage::Hypertable).contains("hypertable of TimescaleDB"));
}

fn leaf(name: &str, keys: Keys, replica_identity: char) -> PartitionFacts {
    PartitionFacts {
        name: name.parse().unwrap(),
        oid: 2,
        kind: 'r',
        persistence: 'p',
        replica_identity,
        indexes: indexes(keys, replica_identity),
        access_method: "heap".into(),
        row_security: false,
        may_select: true,
    }
}

fn partitioned(keys: Keys, leaves: Vec<PartitionFacts>) -> SourceTableFacts {
    SourceTableFacts { kind: 'p', partitions: leaves, ..table(keys, 'd') }
}

#[test]
fn the_leaves_of_a_partitioned_table_decide_what_its_changes_carry() {
    let two =
        |second: PartitionFacts| partitioned(Keys::Both, vec![leaf("public.t_1", Keys::Both, 'd'), second]);
    assert_eq!(judged(&two(leaf("public.t_2", Keys::Both, 'd'))).unwrap(), ["id"]);
    assert_eq!(judged(&two(leaf("public.t_2", Keys::Both, 'f'))).unwrap(), ["id"]);
    assert!(!two(leaf("public.t_2", Keys::Both, 'f')).has_full_before());
    let other = judged(&two(leaf("public.t_2", Keys::Both, 'i'))).unwrap_err();
    assert!(other.message.contains(r#"ALTER TABLE "public"."t_2" REPLICA IDENTITY FULL"#), "{other:?}");
    assert!(!other.hurts);
    let nothing = judged(&two(leaf("public.t_2", Keys::Both, 'n'))).unwrap_err();
    assert!(
        nothing.message.contains(r#"ALTER TABLE "public"."t_2" REPLICA IDENTITY DEFAULT"#),
        "{nothing:?}"
    );
    assert!(nothing.hurts);
    let unlogged = PartitionFacts { persistence: 'u', ..leaf("public.t_2", Keys::Both, 'd') };
    assert!(message(&two(unlogged)).contains(r#"ALTER TABLE "public"."t_2" SET LOGGED"#));
    let foreign = PartitionFacts { kind: 'f', ..leaf("public.t_2", Keys::Both, 'd') };
    assert!(message(&two(foreign)).contains(r#"ALTER TABLE "public"."t" DETACH PARTITION "public"."t_2""#));
    assert_eq!(judged(&partitioned(Keys::Primary, vec![])).unwrap(), ["id"]);
}

#[test]
fn a_key_of_columns_that_no_event_has_is_none() {
    let mut computed = table(Keys::Both, 'd');
    computed.columns = vec![crate::core::facts::SourceColumn {
        name: "id".into(),
        unpublished: true,
        ..crate::core::facts::SourceColumn::default()
    }];
    assert!(judged(&computed).is_err());
    computed.replica_identity = 'f';
    assert_eq!(judged(&computed).unwrap(), ["code"]);
}

#[test]
fn a_publication_of_somebody_else_is_judged_by_table() {
    let mut facts = server();
    let mut live =
        PublicationFacts { tables: [name()].into(), via_root: true, ..PublicationFacts::default() };
    let judged = |facts: &PostgresFacts, table: &SourceTableFacts| {
        judge(&name(), table, facts, "tidemark_shop").map(|_| ()).map_err(|unfit| unfit.message)
    };
    let plain = SourceTableFacts { owned: false, ..table(Keys::Primary, 'd') };
    facts.publication = Some(live.clone());
    assert_eq!(judged(&facts, &plain), Ok(()));
    live.column_lists = [name()].into();
    facts.publication = Some(live.clone());
    assert!(judged(&facts, &plain).unwrap_err().contains("some columns of it alone"));
    live.column_lists.clear();
    live.row_filters = [name()].into();
    facts.publication = Some(live.clone());
    assert!(judged(&facts, &plain).unwrap_err().contains("some rows of it alone"));
    live.row_filters.clear();
    live.via_root = false;
    facts.publication = Some(live.clone());
    assert_eq!(judged(&facts, &plain), Ok(()));
    let root = SourceTableFacts { owned: false, ..partitioned(Keys::Primary, vec![]) };
    assert!(judged(&facts, &root).unwrap_err().contains("publish_via_partition_root = true"));
    live.tables.clear();
    facts.publication = Some(live.clone());
    assert!(judged(&facts, &plain).unwrap_err().contains(r#"ADD TABLE "public"."t""#));
    live.ours = true;
    facts.publication = Some(live);
    assert!(judged(&facts, &plain).unwrap_err().contains(r#"GRANT "shop" TO "tidemark""#));
    assert_eq!(judged(&facts, &SourceTableFacts { owned: true, ..plain }), Ok(()));
}

#[test]
fn a_table_of_another_owner_keeps_none_of_ours_from_being_published() {
    let mut facts = server();
    let foreign = SourceTableFacts { owned: false, ..table(Keys::Primary, 'd') };
    facts.tables = [(name(), foreign.clone())].into();
    // The owner makes the whole publication.
    assert!(judge(&name(), &foreign, &facts, "p").is_ok());
    facts.tables.insert("public.o".parse().unwrap(), table(Keys::Primary, 'd'));
    assert!(judge(&name(), &foreign, &facts, "p").is_err());
}

#[test]
fn a_fit_server_passes_and_each_lack_is_named_with_its_statement() {
    assert_eq!(preflight(&server()), []);
    let unfit = PostgresFacts {
        server_version: 130_010,
        in_recovery: true,
        wal_level: "replica".into(),
        server_encoding: "SQL_ASCII".into(),
        enums_without_labels: vec!["public.mood_d".into()],
        free_replication_slots: 0,
        free_wal_senders: 0,
        may_replicate: false,
        provider_roles: ["rds_replication".to_owned()].into(),
        ..server()
    };
    insta::assert_debug_snapshot!(preflight(&unfit));
    let elsewhere = PostgresFacts { provider_roles: BTreeSet::new(), ..unfit };
    let texts: String = preflight(&elsewhere).into_iter().map(|problem| problem.message).collect();
    assert!(texts.contains(r#"ALTER ROLE "tidemark" REPLICATION"#), "{texts}");
    // What works needs no further sender.
    let slot = Some(SlotFacts { active: true, ..SlotFacts::default() });
    let running = PostgresFacts { free_wal_senders: 0, free_replication_slots: 0, slot, ..server() };
    assert_eq!(preflight(&running), []);
}

#[test]
fn a_slot_that_is_being_made_names_what_it_waits_for() {
    assert!(SlotFacts { active: true, ..SlotFacts::default() }.is_being_made());
    assert!(!SlotFacts { active: true, confirmed_lsn: 7, ..SlotFacts::default() }.is_being_made());
    let open = OpenTransaction {
        pid: Some(42),
        user: "report".into(),
        database: "other".into(),
        since_ms: Some(1_700_000_000_000),
        ..OpenTransaction::default()
    };
    let prepared = OpenTransaction { pid: None, gid: "x-1".into(), since_ms: None, ..open.clone() };
    assert_eq!(open_transaction(&[]), None);
    insta::assert_snapshot!(open_transaction(&[open.clone(), prepared.clone()]).unwrap());
    assert!(open_transaction(&[prepared, open]).unwrap().ends_with("or run ROLLBACK PREPARED 'x-1'"));
}

#[test]
fn a_double_quote_in_a_key_that_is_no_primary_one_is_refused_with_the_statement_that_takes_it_away() {
    let mut quoted = table(Keys::Primary, 'd');
    quoted.indexes[0].columns = vec![r#"i"d"#.to_owned()];
    assert!(judge(&name(), &quoted, &server(), "p").is_ok());
    quoted.indexes[0] = IndexFacts { primary: false, identity: true, ..quoted.indexes[0].clone() };
    quoted.replica_identity = 'i';
    let text = judge(&name(), &quoted, &server(), "p").unwrap_err().message;
    assert!(text.contains(r#"RENAME COLUMN "i""d" TO"#), "{text}");
}

#[test]
fn a_type_whose_name_is_anothers_refuses_the_table_and_names_both() {
    let mut plain = table(Keys::Primary, 'd');
    assert!(judged(&plain).is_ok());
    plain.columns.push(crate::core::facts::SourceColumn {
        name: "a".into(),
        namesake: Some("domain s2.raw and domain s1.raw".into()),
        ..crate::core::facts::SourceColumn::default()
    });
    let unfit = judged(&plain).unwrap_err();
    let message = &unfit.message;
    assert!(
        message.contains("domain s2.raw and domain s1.raw") && message.contains("RENAME TO"),
        "{message}"
    );
    assert!(unfit.hurts, "the connector may end at it with all tables");
}
