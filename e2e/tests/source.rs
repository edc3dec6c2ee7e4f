//! What the operator reads from PostgreSQL's catalogue and makes of it, on every version that the tests have: what is
//! judged fit can be published without harm, and what is refused for its replica identity could not.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use tidemark_crds::layout::{SourceTable, Storage};
use tidemark_crds::names::PipelineName;
use tidemark_e2e::stack::{Part, Postgres, Role, Stack, shared, unique_name};
use tidemark_operator::core::desired::publication;
use tidemark_operator::core::desired::publication::Wanted;
use tidemark_operator::core::desired::source::judge;
use tidemark_operator::core::effect::Effect;
use tidemark_operator::core::facts::{Observation, PostgresFacts};
use tidemark_operator::core::statement;
use tidemark_operator::edge::postgres::client::PostgresTarget;
use tidemark_operator::edge::postgres::look::{SourceQuestion, key_ranges, observe};
use tidemark_runtime::credentials::Credentials;

const TABLES: &str = r#"
CREATE TABLE plain (id int PRIMARY KEY, v int);
CREATE TABLE "Odd, Name" (id int PRIMARY KEY, v int);
CREATE TABLE full_unique (code text NOT NULL UNIQUE, v int); ALTER TABLE full_unique REPLICA IDENTITY FULL;
CREATE TABLE full_bare (id int, v int); ALTER TABLE full_bare REPLICA IDENTITY FULL;
CREATE TABLE bare (id int, v int);
CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
CREATE TABLE covering (id int PRIMARY KEY, code text NOT NULL, v int, UNIQUE (code, id));
ALTER TABLE covering REPLICA IDENTITY USING INDEX covering_code_id_key;
CREATE TABLE included (id int, v int, PRIMARY KEY (id) INCLUDE (v));
CREATE TABLE nothing (id int PRIMARY KEY, v int); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE later (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY, v int);
CREATE TABLE secured (id int PRIMARY KEY, v int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY; ALTER TABLE secured FORCE ROW LEVEL SECURITY;
CREATE TABLE parent (id int PRIMARY KEY, v int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE VIEW seen AS SELECT * FROM plain;
CREATE TABLE computed (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
CREATE TABLE visit (id int, v int, PRIMARY KEY (id, v)) PARTITION BY RANGE (v);
CREATE TABLE visit_made PARTITION OF visit FOR VALUES FROM (0) TO (10);
CREATE TABLE visit_attached (id int, v int, PRIMARY KEY (id, v));
ALTER TABLE visit ATTACH PARTITION visit_attached FOR VALUES FROM (10) TO (20);
BEGIN;
CREATE TABLE visit_filled (id int NOT NULL, v int NOT NULL); INSERT INTO visit_filled VALUES (1, 25);
ALTER TABLE visit ATTACH PARTITION visit_filled FOR VALUES FROM (20) TO (30);
COMMIT;
CREATE TABLE visit_nested PARTITION OF visit FOR VALUES FROM (30) TO (40) PARTITION BY RANGE (id);
CREATE TABLE visit_nested_1 PARTITION OF visit_nested FOR VALUES FROM (0) TO (10);
CREATE TABLE broken (id int, v int, PRIMARY KEY (id, v)) PARTITION BY RANGE (v);
CREATE TABLE broken_1 PARTITION OF broken FOR VALUES FROM (0) TO (100);
ALTER TABLE broken_1 REPLICA IDENTITY NOTHING;
INSERT INTO plain VALUES (1, 1); INSERT INTO "Odd, Name" VALUES (1, 1); INSERT INTO full_unique VALUES ('a', 1);
INSERT INTO by_index VALUES (1, 'a', 1); INSERT INTO covering VALUES (1, 'a', 1); INSERT INTO included VALUES (1, 1);
INSERT INTO nothing VALUES (1, 1); INSERT INTO later VALUES (1, 1); INSERT INTO bare VALUES (1, 1);
INSERT INTO computed VALUES (1, 1); INSERT INTO visit VALUES (1, 1), (1, 11), (1, 31); INSERT INTO broken VALUES (1, 1);
"#;

/// Each table with its key, or a part of what is said of it.
const EXPECTED: [(&str, Result<&[&str], &str>); 20] = [
    ("plain", Ok(&["id"])),
    ("Odd, Name", Ok(&["id"])),
    ("full_unique", Ok(&["code"])),
    ("full_bare", Err("no primary key and no unique index")),
    ("bare", Err("it has no primary key, so PostgreSQL would refuse")),
    ("by_index", Ok(&["code"])),
    ("covering", Ok(&["id"])),
    ("included", Ok(&["id"])),
    ("nothing", Err(r#"run ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT"#)),
    (
        "later",
        Err(r#"run ALTER TABLE "public"."later" DROP CONSTRAINT "later_pkey", ADD PRIMARY KEY ("id")"#),
    ),
    ("scratch", Err(r#"run ALTER TABLE "public"."scratch" SET LOGGED"#)),
    ("secured", Err(r#"run ALTER ROLE "tidemark" BYPASSRLS"#)),
    ("parent", Err("public.child is one")),
    ("child", Ok(&["id"])),
    ("seen", Err("is a view")),
    ("computed", Ok(&["id"])),
    ("visit", Ok(&["id", "v"])),
    ("visit_made", Err("name public.visit in spec.tables")),
    ("visit_nested_1", Err("name public.visit in spec.tables")),
    ("broken", Err(r#"run ALTER TABLE "public"."broken_1" REPLICA IDENTITY DEFAULT"#)),
];

#[tokio::test]
async fn tables_are_judged_as_postgresql_15_has_them() -> anyhow::Result<()> {
    judged_on(shared().await?.postgres()).await
}

#[tokio::test]
async fn tables_are_judged_as_newer_versions_have_them() -> anyhow::Result<()> {
    for major in [16, 17, 18] {
        let stack = Stack::start_with_postgres(&[Part::Postgres], major).await?;
        judged_on(stack.postgres()).await.with_context(|| format!("PostgreSQL {major}"))?;
    }
    Ok(())
}

fn name(table: &str) -> SourceTable {
    SourceTable { schema: "public".into(), name: table.into() }
}

async fn judged_on(postgres: &Postgres) -> anyhow::Result<()> {
    let database = unique_name("judged");
    postgres.create_database(&database).await?;
    postgres.execute(Role::Shop, &database, TABLES).await?;
    let pipeline = PipelineName::new("e2e", &database);
    let facts = look(postgres, &database, &pipeline).await?;
    let mut fit = Vec::new();
    let mut harmed = BTreeSet::new();
    for (table, expected) in EXPECTED {
        let name = name(table);
        let found = facts.tables.get(&name).with_context(|| format!("{name} was not found"))?;
        match (judge(&name, found, &facts, &pipeline.publication()), expected) {
            (Ok(key), Ok(columns)) => {
                ensure!(key.columns == columns, "{name}: key {:?}", key.columns);
                fit.push(name);
            }
            (Err(unfit), Err(says)) => {
                ensure!(unfit.message.contains(says), "{name}: {}", unfit.message);
                if unfit.hurts {
                    harmed.insert(name);
                }
            }
            (verdict, _) => anyhow::bail!("{name}: {verdict:?}"),
        }
    }
    partitions_are_known(&facts)?;
    publish(postgres, &database, &pipeline, &fit, &facts).await?;
    for name in &fit {
        let update = format!(r#"UPDATE public."{}" SET v = v"#, name.name);
        postgres.execute(Role::Shop, &database, &update).await?;
    }
    let published = look(postgres, &database, &pipeline).await?;
    let live = published.publication.as_ref().context("it was made")?;
    ensure!(live.ours && live.via_root && live.all_operations, "{live:?}");
    ensure!(live.tables == fit.iter().cloned().collect::<BTreeSet<_>>(), "roots alone: {:?}", live.tables);
    ensure!(live.generated == (facts.server_version >= 180_000), "{live:?}");
    let twice = published.tables[&name("computed")].columns.iter().find(|column| column.name == "twice");
    ensure!(twice.is_some_and(|twice| twice.unpublished != live.generated), "{twice:?}");
    for (name, table) in &facts.tables {
        let now = &published.tables[name].storage;
        ensure!(
            Storage { published: String::new(), ..now.clone() } == table.storage,
            "{name} was not rewritten"
        );
        ensure!(now.published.is_empty() != fit.contains(name), "{name}: {now:?}");
    }
    // The claim of what hurts is PostgreSQL's own.
    for name in &harmed {
        let quoted = format!(r#"public."{}""#, name.name);
        let add = format!("CREATE PUBLICATION harm FOR TABLE {quoted}");
        postgres.execute(Role::Shop, &database, "DROP PUBLICATION IF EXISTS harm").await?;
        postgres.execute(Role::Superuser, &database, &add).await?;
        let refused = postgres.execute(Role::Shop, &database, &format!("UPDATE {quoted} SET v = v")).await;
        postgres.execute(Role::Superuser, &database, "DROP PUBLICATION harm").await?;
        let refused = refused.err().with_context(|| format!("an UPDATE of {name} went through"))?;
        ensure!(format!("{refused:#}").contains("replica identity"), "{refused:#}");
    }
    ensure!(harmed.len() == 4, "{harmed:?}");
    altering_is_seen(postgres, &database, &pipeline).await
}

/// Leaves with their files, and those that were there before they were attached.
fn partitions_are_known(facts: &PostgresFacts) -> anyhow::Result<()> {
    let visit = &facts.tables[&name("visit")];
    let of = |attached: bool| {
        let leaves = visit.partitions.iter().filter(|leaf| visit.attached.contains(&leaf.oid) == attached);
        leaves.map(|leaf| leaf.name.name.as_str()).collect::<Vec<_>>()
    };
    ensure!(of(true) == ["visit_attached", "visit_filled"], "attached: {:?}", of(true));
    ensure!(of(false) == ["visit_made", "visit_nested_1"], "made as partitions: {:?}", of(false));
    ensure!(visit.storage.files.len() == 4, "{:?}", visit.storage);
    Ok(())
}

/// A table whose change is not committed yet says so, and no other does.
async fn altering_is_seen(
    postgres: &Postgres,
    database: &str,
    pipeline: &PipelineName,
) -> anyhow::Result<()> {
    let mut client = postgres.connect(Role::Shop, database).await?;
    let change = client.transaction().await?;
    change.batch_execute("ALTER TABLE plain ADD COLUMN more int; INSERT INTO plain VALUES (2, 2, 2)").await?;
    let facts = look(postgres, database, pipeline).await?;
    let altering: Vec<&SourceTable> =
        facts.tables.iter().filter(|(_, table)| table.altering).map(|(name, _)| name).collect();
    ensure!(altering == [&name("plain")], "{altering:?}");
    ensure!(facts.lsn_before > 0 && facts.lsn_before <= facts.current_lsn, "{facts:?}");
    let before = facts.tables[&name("plain")].storage.clone();
    change.commit().await?;
    let facts = look(postgres, database, pipeline).await?;
    let plain = &facts.tables[&name("plain")];
    ensure!(!plain.altering && plain.storage.columns != before.columns, "{plain:?}");
    ensure!(plain.storage.files == before.files, "a column without a default rewrites nothing");
    Ok(())
}

async fn look(postgres: &Postgres, database: &str, pipeline: &PipelineName) -> anyhow::Result<PostgresFacts> {
    let target = PostgresTarget {
        host: "127.0.0.1".into(),
        port: postgres.port(),
        database: database.to_owned(),
        credentials: Credentials::new(Role::Tidemark.name(), Role::Tidemark.password()),
        tls: tidemark_crds::pipeline::TlsMode::Disable,
        ca: None,
        deadline: tidemark_runtime::postgres::CONNECT_DEADLINE,
    };
    let tables: Vec<SourceTable> = EXPECTED.iter().map(|(table, _)| name(table)).collect();
    let question =
        SourceQuestion { tables, publication: pipeline.publication(), slot: pipeline.replication_slot() };
    match observe(&target, &question, &pipeline.mark("e2e")).await {
        Observation::Known(mut facts) => {
            key_ranges(&target, &[name("plain")].into(), &mut facts).await;
            let asked = facts.tables.iter().filter(|(_, facts)| facts.key_range.is_some());
            ensure!(
                asked.map(|(table, _)| table).all(|table| *table == name("plain")),
                "a range that nobody reads"
            );
            Ok(facts)
        }
        other => anyhow::bail!("no facts: {other:?}"),
    }
}

/// Carries out what the operator plans for the publication.
async fn publish(
    postgres: &Postgres,
    database: &str,
    pipeline: &PipelineName,
    fit: &[SourceTable],
    facts: &PostgresFacts,
) -> anyhow::Result<()> {
    let wanted = Wanted { tables: fit, named: fit, harmed: &BTreeSet::new() };
    let part = publication::steps(pipeline, &pipeline.mark("e2e"), &wanted, facts);
    ensure!(part.problems.is_empty(), "{:?}", part.problems);
    for step in part.steps {
        let Effect::Postgres(effect) = &step.effect else { anyhow::bail!("{step:?}") };
        postgres.execute(Role::Tidemark, database, &statement::postgres(effect)).await?;
    }
    Ok(())
}
