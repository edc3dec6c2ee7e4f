//! A silent fault of the sink or the connector is found by the continuous verification, and what it did is repaired.
//!
//! `make faults` puts one after the other into the source and runs this test with each.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::stack::{PATIENCE, Part, Role, Stack, wait_until};

use crate::chain::objects;

const NAME: &str = "faulty";
const TABLES: [&str; 2] = ["items", "emptied"];

const SCHEMA: &str = "
CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL DEFAULT 0, note text DEFAULT 'none', big text, at timestamptz);
ALTER TABLE items ALTER COLUMN big SET STORAGE EXTERNAL;
INSERT INTO items SELECT id, 0, 'note ' || id, CASE WHEN id % 10 = 0 THEN repeat('x', 3000) END, '2024-01-01'::timestamptz
FROM generate_series(1, 2000) AS id;
CREATE TABLE emptied (id int PRIMARY KEY, v text);
INSERT INTO emptied SELECT id, 'v' || id FROM generate_series(1, 500) AS id";

/// Each statement is a transaction of its own, unless it says otherwise.
fn changes() -> Vec<String> {
    let mut all = vec![
        "INSERT INTO items (id, note) SELECT id, NULL FROM generate_series(10001, 10100) AS id".to_owned(),
        "UPDATE items SET n = 5 WHERE id % 10 = 0".to_owned(),
        "UPDATE items SET note = repeat('n', 300) WHERE id % 50 = 1".to_owned(),
        "UPDATE items SET at = '2025-06-01 12:00:00.000001+00' WHERE id % 50 = 2".to_owned(),
        "DELETE FROM items WHERE id % 50 = 3".to_owned(),
        "TRUNCATE emptied".to_owned(),
        "INSERT INTO emptied SELECT id, 'new' FROM generate_series(1, 10) AS id".to_owned(),
    ];
    for id in 101..=200 {
        all.push(format!(
            "BEGIN; UPDATE items SET n = 1 WHERE id = {id}; UPDATE items SET n = 2 WHERE id = {id}; COMMIT"
        ));
    }
    all
}

/// What the verification has of both tables: differences, those that are open, and dead letters.
async fn seen(stack: &Stack) -> anyhow::Result<(u64, u64, u64)> {
    let sum = |columns: &str, table: &str| format!("SELECT {columns} FROM {NAME}.{table} FINAL");
    let text = stack
        .clickhouse()
        .query(&format!(
            "SELECT * FROM ({}) AS v, ({}) AS p",
            sum("sum(differences), sum(open)", "_tidemark_verification"),
            sum("sum(dead_letters)", "_tidemark_progress"),
        ))
        .await?;
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    match numbers?[..] {
        [differences, open, dead] => Ok((differences, open, dead)),
        _ => anyhow::bail!("{text}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make faults"]
async fn a_silent_fault_is_found_and_repaired() -> anyhow::Result<()> {
    let stack = Stack::start(Part::CHAIN).await?;
    stack.postgres().create_database(NAME).await?;
    stack.postgres().execute(Role::Shop, NAME, SCHEMA).await?;
    let names = TABLES.map(|table| format!("public.{table}"));
    let mut manifest = pipeline(&stack, NAME, &names.each_ref().map(String::as_str));
    manifest["spec"]["verification"] = json!({"interval": "1s", "rowsPerSecond": 100_000});
    let chain = Chain::prepare(&stack, NAME, &objects(manifest))?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let client = stack.postgres().connect(Role::Shop, NAME).await?;
    for statement in changes() {
        client.batch_execute(&statement).await?;
    }

    let begin = Instant::now();
    let comparer = chain.comparer().await?;
    let found = wait_until(2 * PATIENCE, "the fault to be found", || async {
        let (differences, _, dead) = seen(&stack).await?;
        ensure!(dead == 0, "{dead} dead letters: this fault is not silent");
        Ok((differences > 0).then_some(differences))
    })
    .await?;
    let found_after = begin.elapsed();
    wait_until(2 * PATIENCE, "all rows to be equal", || async {
        let (_, open, _) = seen(&stack).await?;
        ensure!(open == 0, "{open} differences are open");
        for table in TABLES {
            let mismatch = comparer.check(table, table, &[]).await?;
            ensure!(mismatch.is_none(), "{mismatch:?}");
        }
        Ok(Some(()))
    })
    .await?;
    let (all, ..) = seen(&stack).await?;
    println!(
        "found {found} rows after {:.1} s; {all} repaired, and all equal, after {:.1} s",
        found_after.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
