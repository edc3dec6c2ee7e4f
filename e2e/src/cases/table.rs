//! A table read from both servers and compared, column by column. I/O.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::canonical::{Kind, canonical};
use crate::oracle::{Endpoint, Mismatch, Row, compare};

/// A table of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// `pg_class.oid`, by which the order is that of their making.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl Relation {
    /// `schema.name`, as the spec has it.
    pub fn source(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The name as SQL has it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// The tables of a database that stand for themselves: no partitions, no children, none of a system's.
pub async fn relations(client: &Client) -> anyhow::Result<Vec<Relation>> {
    let query = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
        ORDER BY c.oid";
    let rows = client.query(query, &[]).await.context("listing tables")?;
    Ok(rows.iter().map(|row| Relation { oid: row.get(0), schema: row.get(1), name: row.get(2) }).collect())
}

/// Compares tables of one PostgreSQL database with those of one ClickHouse database.
#[derive(Debug)]
pub struct Comparer {
    postgres: Client,
    clickhouse: Endpoint,
    database: String,
}

/// A column that both sides have.
struct Column {
    name: String,
    kind: Kind,
    nullable: bool,
}

/// A column of PostgreSQL.
struct Source {
    name: String,
    /// Its type, domains resolved.
    kind: String,
    generated: bool,
    key: bool,
}

impl Comparer {
    /// Makes a comparer; the connection's session is changed: its texts become those of the canonical form.
    pub async fn new(postgres: Client, clickhouse: Endpoint, database: &str) -> anyhow::Result<Self> {
        postgres
            .batch_execute(
                "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
                 SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET statement_timeout = '60s'",
            )
            .await
            .context("preparing the comparing session")?;
        Ok(Self { postgres, clickhouse, database: database.to_owned() })
    }

    /// The session on PostgreSQL.
    pub fn postgres(&self) -> &Client {
        &self.postgres
    }

    /// The session on ClickHouse.
    pub fn clickhouse(&self) -> &Endpoint {
        &self.clickhouse
    }

    /// Compares a table with `TARGET_current`; `None` when they are equal.
    ///
    /// `without` are columns that the target may lack, and so is one that PostgreSQL generates.
    pub async fn check(
        &self,
        table: &str,
        target: &str,
        without: &[String],
    ) -> anyhow::Result<Option<Mismatch>> {
        let view = format!(
            "`{}`.`{}`",
            self.database.replace('`', "``"),
            format!("{target}_current").replace('`', "``")
        );
        let sources = self.sources(table).await?;
        let targets = self.targets(&view).await?;
        let mut problems = Vec::new();
        let mut columns = Vec::new();
        for Source { name, kind, generated, key } in &sources {
            match targets.get(name) {
                Some(target) => columns.push(Column {
                    name: name.clone(),
                    kind: Kind::of(kind, target, *key),
                    nullable: target.contains("Nullable(") && !target.starts_with("Array("),
                }),
                None if *generated || without.contains(name) => {}
                None => problems.push(format!("column {name} is not in ClickHouse")),
            }
        }
        let known: BTreeSet<&String> = sources.iter().map(|source| &source.name).collect();
        problems.extend(
            targets
                .keys()
                .filter(|name| !known.contains(name))
                .map(|name| format!("column {name} is not in PostgreSQL")),
        );
        if !problems.is_empty() {
            return Ok(Some(Mismatch::structural(table, problems)));
        }
        let expected = self.expected(table, &columns).await?;
        let actual = self.actual(&view, &columns).await?;
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        Ok(compare(table, &names, 1, expected, actual))
    }

    /// Live columns, key columns first.
    async fn sources(&self, table: &str) -> anyhow::Result<Vec<Source>> {
        let query = "WITH RECURSIVE base(attnum, typ, typmod) AS (
                SELECT attnum, atttypid, atttypmod FROM pg_attribute
                WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
              UNION ALL
                SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.typ
                WHERE t.typtype = 'd')
            SELECT a.attname::text, format_type(b.typ, b.typmod), a.attgenerated <> '', coalesce(a.attnum = ANY (i.indkey), false)
            FROM base b JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
            JOIN pg_attribute a ON a.attrelid = $1::text::regclass AND a.attnum = b.attnum
            LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
            ORDER BY array_position(i.indkey::int2[], a.attnum) NULLS LAST, a.attnum";
        let rows =
            self.postgres.query(query, &[&table]).await.with_context(|| format!("columns of {table}"))?;
        let source = |row: &tokio_postgres::Row| Source {
            name: row.get(0),
            kind: row.get(1),
            generated: row.get(2),
            key: row.get(3),
        };
        Ok(rows.iter().map(source).collect())
    }

    async fn targets(&self, view: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let rows: Vec<Vec<Value>> = self.clickhouse.rows(&format!("DESCRIBE TABLE {view}"), &[]).await?;
        let text = |row: &[Value], index: usize| {
            row.get(index)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .context("DESCRIBE answers names and types")
        };
        rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect()
    }

    async fn expected(&self, table: &str, columns: &[Column]) -> anyhow::Result<Vec<Row>> {
        let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let query = format!("SELECT {} FROM {table}", list.join(", "));
        let messages =
            self.postgres.simple_query(&query).await.with_context(|| format!("reading {table}"))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                columns
                    .iter()
                    .enumerate()
                    .map(|(index, column)| canonical(&column.kind, row.get(index), column.nullable))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    async fn actual(&self, view: &str, columns: &[Column]) -> anyhow::Result<Vec<Row>> {
        let expression = |column: &Column| column.kind.clickhouse(&format!("t.`{}`", escaped(&column.name)));
        let list: Vec<String> = columns.iter().map(expression).collect();
        let query = format!("SELECT {} FROM {view} AS t", list.join(", "));
        let settings = [("output_format_json_quote_64bit_integers", "1")];
        let rows: Vec<Vec<Value>> =
            self.clickhouse.rows(&query, &settings).await.with_context(|| format!("reading {view}"))?;
        let canonical = |row: Vec<Value>| {
            columns.iter().zip(&row).map(|(column, value)| column.kind.answered(value)).collect()
        };
        Ok(rows.into_iter().map(canonical).collect())
    }
}

/// A name in PostgreSQL's quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('`', "\\`")
}
