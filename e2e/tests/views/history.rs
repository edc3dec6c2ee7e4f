//! A table of history that begins with the rows of an older one, as ClickHouse makes it.

use anyhow::ensure;
use tidemark_e2e::stack::{ClickHouse, shared};
use tidemark_operator::core::effect::{CarriedTable, ColumnDefinition, TableName};
use tidemark_operator::core::statement::carry_over;

const DATABASE: &str = "carried_history";

async fn told(clickhouse: &ClickHouse, sql: &str, expected: &str) -> anyhow::Result<()> {
    let answer = clickhouse.query(sql).await?;
    let answer = answer.trim_end_matches('\n');
    ensure!(answer == expected, "{sql}\nsays {answer:?} and not {expected:?}");
    Ok(())
}

#[tokio::test]
async fn rows_are_carried_over_once_however_often_it_is_broken_off() -> anyhow::Result<()> {
    let stack = shared().await?;
    let clickhouse = stack.clickhouse();
    clickhouse.query(&format!("CREATE DATABASE {DATABASE}")).await?;
    clickhouse
        .query(&format!(
            "CREATE TABLE {DATABASE}.v__0a (at DateTime64(6, 'UTC'), id String, viewer LowCardinality(String), n UInt8) \
             ENGINE = MergeTree ORDER BY (at, id) TTL toDateTime(at, 'UTC') + toIntervalDay(90) \
             SETTINGS allow_nullable_key = 1 COMMENT 'mark 00000000'"
        ))
        .await?;
    // In two parts, half of them older than what is kept.
    for older in [1, 200] {
        let rows = format!(
            "INSERT INTO {DATABASE}.v__0a SELECT now64(6, 'UTC') - toIntervalDay({older}), toString(number), 'me', 1 \
             FROM numbers(1000)"
        );
        clickhouse.query(&rows).await?;
    }
    let kept = clickhouse
        .query(&format!("SELECT count() FROM {DATABASE}.v__0a WHERE at > now('UTC') - toIntervalDay(90)"))
        .await?;
    ensure!(kept.trim() == "1000", "{kept}");
    let column = |name: &str, kind: &str, before: Option<&str>| {
        (ColumnDefinition::new(name, kind), before.map(str::to_owned))
    };
    let table = CarriedTable {
        name: TableName::new(DATABASE, "v__0b"),
        comment: "mark 1a2b3c4d".into(),
        from: "v__0a".into(),
        without: vec!["viewer".into(), "n".into()],
        with: vec![column("source", "String", None), column("viewer", "String", Some("id"))],
    };
    let statements = carry_over(&table);
    for broken_off in 1..statements.len() {
        for statement in &statements[..broken_off] {
            clickhouse.query(statement).await?;
        }
    }
    for statement in &statements {
        clickhouse.query(statement).await?;
    }
    let young = "at > now('UTC') - toIntervalDay(90)";
    let rows = format!(
        "SELECT count(), uniqExact(id), max(viewer), max(source) FROM {DATABASE}.v__0b WHERE {young}"
    );
    told(clickhouse, &rows, "1000\t1000\t\t").await?;
    let of_old = format!("SELECT count(), max(viewer) FROM {DATABASE}.v__0a WHERE {young}");
    told(clickhouse, &of_old, "1000\tme").await?;
    let shape = format!(
        "SELECT groupArray(name) FROM (SELECT name FROM system.columns WHERE database = '{DATABASE}' AND table = 'v__0b' \
         ORDER BY position)"
    );
    told(clickhouse, &shape, "['source','at','id','viewer']").await?;
    let comment =
        format!("SELECT name, comment FROM system.tables WHERE database = '{DATABASE}' ORDER BY name");
    told(clickhouse, &comment, "v__0a\tmark 00000000\nv__0b\tmark 1a2b3c4d").await?;
    let made = clickhouse.query(&format!("SHOW CREATE TABLE {DATABASE}.v__0b")).await?;
    ensure!(made.contains("toIntervalDay(90)") && made.contains("ORDER BY (at, id)"), "{made}");
    Ok(())
}
