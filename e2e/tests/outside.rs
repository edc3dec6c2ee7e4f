//! What may stand in a user's view, against the server that reads it: whatever passes reads no other database, though the
//! account may.

use std::sync::Arc;

use anyhow::ensure;
use tidemark_e2e::stack::{Part, Stack, User, unique_name};
use tidemark_operator::core::desired::sql_lint::lint;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};

/// Keywords that may be taken for the end of a list of tables, or are one's alias.
const KEYWORDS: [&str; 26] = [
    "where",
    "prewhere",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "settings",
    "window",
    "qualify",
    "offset",
    "format",
    "final",
    "sample",
    "array",
    "left",
    "on",
    "using",
    "join",
    "from",
    "select",
    "in",
    "as",
    "with",
];

/// Queries that read `bank.accounts` where the server takes them so; `bank` may be an alias in them too.
fn candidates(functions: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for word in KEYWORDS {
        for first in ["t", "t AS bank"] {
            all.push(format!("SELECT 1 FROM {first} CROSS JOIN t {word}, bank.accounts"));
            all.push(format!("SELECT 1 FROM {first}, t AS {word}, bank.accounts"));
            all.push(format!("SELECT 1 FROM {first}, t {word} FINAL, bank.accounts"));
            all.push(format!("SELECT 1 FROM {first}, t {word} SAMPLE 1, bank.accounts"));
            all.push(format!("SELECT 1 FROM {first}, t AS {word} FINAL, bank.accounts AS a"));
            all.push(format!("SELECT 1 AS {word} FROM bank.accounts, {first}"));
            all.push(format!("SELECT 1 {word} FROM bank.accounts, {first}"));
            all.push(format!("SELECT 1 FROM {first} {word} JOIN bank.accounts AS a ON 1"));
        }
    }
    let lists = [
        "bank.accounts",
        "(bank.accounts)",
        "((bank.accounts))",
        "`bank`.`accounts`",
        "(bank.accounts AS a)",
    ];
    for operator in ["IN", "NOT IN", "GLOBAL IN", "GLOBAL NOT IN", "= ANY", "= ALL", "<> ALL"] {
        for list in lists {
            for first in ["t AS o", "t AS o, t AS bank"] {
                all.push(format!("SELECT o.id {operator} {list} FROM {first}"));
                all.push(format!("SELECT 1 FROM {first} WHERE o.id {operator} {list} AND 1"));
                all.push(format!("SELECT arrayExists(x -> x {operator} {list}, [1]) FROM {first}"));
            }
        }
    }
    for function in functions {
        for arguments in
            ["o.id, bank.accounts", "o.id, (bank.accounts)", "bank.accounts", "SELECT id FROM bank.accounts"]
        {
            all.push(format!("SELECT {function}({arguments}) FROM t AS o, t AS bank"));
            all.push(format!("WITH 1 AS bank SELECT {function}({arguments}) FROM t AS o"));
        }
        all.push(format!("SELECT o.id IN ({function}(bank.accounts)) FROM t AS o, t AS bank"));
    }
    for table in [
        "bank.accounts",
        "(bank.accounts)",
        "(SELECT * FROM bank.accounts)",
        "(FROM bank.accounts SELECT 1)",
        "(TABLE bank.accounts)",
        "(WITH 1 AS x SELECT x FROM bank.accounts)",
        "view(SELECT * FROM bank.accounts)",
        "merge('bank', 'accounts')",
        "BANK.accounts",
        "Bank.accounts",
        "(VALUES (1)) v, bank.accounts",
    ] {
        all.push(format!("SELECT 1 FROM {table}"));
        all.push(format!("WITH 1 AS bank SELECT 1 FROM {table}"));
        all.push(format!("SELECT 1 FROM t AS bank, {table}"));
        all.push(format!("SELECT (SELECT count() FROM {table}) AS bank"));
        all.push(format!("SELECT EXISTS(SELECT 1 FROM {table})"));
        all.push(format!("SELECT extract(SELECT toString(1) FROM {table})"));
        all.push(format!("SELECT 1 FROM t UNION ALL SELECT 1 FROM {table}"));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_passes_reads_no_other_database_though_the_account_may() -> anyhow::Result<()> {
    let stack = Stack::start(&[Part::Clickhouse]).await?;
    let (shop, bank) = (unique_name("shop"), unique_name("bank"));
    let clickhouse = ClickHouse::new(Options {
        url: stack.clickhouse().url(),
        database: None,
        credentials: Arc::new(CredentialSource::memory(Credentials::new(
            User::Tidemark.name(),
            User::Tidemark.password(),
        ))),
        authority: Authority::System,
    })?;
    for (database, table) in [(&shop, "t"), (&bank, "accounts"), (&bank.to_uppercase(), "accounts")] {
        clickhouse.execute(&format!("CREATE DATABASE {database}")).await?;
        let make = format!(
            "CREATE TABLE {database}.{table} (id UInt64) ENGINE = MergeTree ORDER BY id SAMPLE BY id"
        );
        clickhouse.execute(&make).await?;
    }
    let clickhouse = clickhouse.with_database(Some(&shop));
    let functions =
        clickhouse.query_text("SELECT name FROM system.functions ORDER BY name", "TSV", &[]).await?;
    let functions: Vec<String> = functions.lines().map(|name| format!("`{name}`")).collect();
    ensure!(functions.len() > 1000, "the server has {} functions", functions.len());
    let (mut passed, mut read) = (0, Vec::new());
    for candidate in candidates(&functions) {
        let sql = candidate.replace("bank", &bank).replace("BANK", &bank.to_uppercase());
        let explain = format!("EXPLAIN QUERY TREE {sql}");
        let tree = clickhouse.query_text(&explain, "TSVRaw", &[]).await.unwrap_or_default();
        let reads = tree.to_lowercase().contains(&format!("table_name: {bank}.accounts"));
        if lint(&sql, &shop).is_none() {
            passed += 1;
            ensure!(!reads, "it passes, and reads another database: {sql}\n{tree}");
        } else if reads {
            read.push(candidate);
        }
    }
    // What is refused is not refused for nothing: of these the server reads the other database.
    for known in [
        "SELECT 1 FROM bank.accounts",
        "SELECT o.id IN (bank.accounts) FROM t AS o",
        "WITH 1 AS bank SELECT `in`(o.id, bank.accounts) FROM t AS o",
        "SELECT 1 FROM BANK.accounts",
    ] {
        ensure!(read.iter().any(|sql| sql == known), "the server does not read it: {known}");
    }
    ensure!(passed > 1000, "only {passed} passed");
    for database in [&shop, &bank, &bank.to_uppercase()] {
        stack.clickhouse().query(&format!("DROP DATABASE {database}")).await?;
    }
    Ok(())
}
