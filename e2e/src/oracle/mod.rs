//! The oracle: says whether ClickHouse equals PostgreSQL, row by row, table by table and view by view.
//!
//! It knows nothing of the operator and the sink. A table is read through its
//! `_current` view, a view is compared with its twin on PostgreSQL, and both are
//! read again under session settings that change what a query means. I/O.

mod canonical;
mod diff;
mod endpoint;
pub mod hostile;
mod preset;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio_postgres::SimpleQueryMessage;

pub use self::canonical::{Column, plain};
pub use self::diff::{Difference, Mismatch, Row, compare};
pub use self::endpoint::Endpoint;
pub use self::preset::{AsOf, Materialization, Object, Parameters, Preset};
use crate::stack::pause_after;

/// A source table and the state table that should hold the same.
#[derive(Clone, Debug)]
pub struct Table {
    /// Table on PostgreSQL, with its schema: `public.orders`.
    pub source: String,
    /// State table on ClickHouse; it is read through `<target>_current`.
    pub target: String,
    renamed: BTreeMap<String, String>,
    excluded: BTreeSet<String>,
}

impl Table {
    /// Pairs a source table with its target, all columns by their own names.
    pub fn new(source: &str, target: &str) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            renamed: BTreeMap::new(),
            excluded: BTreeSet::new(),
        }
    }

    /// Says that a column has another name on ClickHouse.
    #[must_use]
    pub fn renamed(mut self, source: &str, target: &str) -> Self {
        self.renamed.insert(source.into(), target.into());
        self
    }

    /// Says that a column is not captured.
    #[must_use]
    pub fn excluded(mut self, source: &str) -> Self {
        self.excluded.insert(source.into());
        self
    }

    /// The four tables of the shop.
    pub fn shop() -> Vec<Self> {
        ["customers", "products", "orders", "order_items"]
            .map(|table| Self::new(&format!("public.{table}"), table))
            .to_vec()
    }
}

/// Compares one PostgreSQL database with one ClickHouse database.
#[derive(Debug)]
pub struct Oracle {
    postgres: tokio_postgres::Client,
    clickhouse: Endpoint,
    parameters: Parameters,
    preset: Preset,
    tables: Vec<Table>,
    views: Views,
}

/// Which forms of the preset's views are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// None: tables alone.
    None,
    /// The views' texts over `_current`, at the moment of PostgreSQL's clock.
    Texts,
    /// The views as they are deployed; these call now what they call now.
    Deployed,
    /// Both.
    TextsAndDeployed,
}

/// What PostgreSQL says of one object, and how ClickHouse is asked for the same.
struct Expectation {
    object: String,
    select: String,
    columns: Vec<Column>,
    key: usize,
    rows: Vec<Row>,
    form: Form,
    /// The view's name, where it is compared as it is deployed.
    deployed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Table,
    Text,
    Deployed,
}

impl Oracle {
    /// Makes an oracle for the shop's four tables and the views of the preset.
    ///
    /// The connection's session is changed: its time zone becomes UTC.
    pub async fn new(
        postgres: tokio_postgres::Client,
        clickhouse: Endpoint,
        parameters: Parameters,
    ) -> anyhow::Result<Self> {
        postgres
            .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET statement_timeout = '120s'")
            .await
            .context("preparing the oracle's PostgreSQL session")?;
        let preset = Preset::ecommerce()?;
        Ok(Self {
            postgres,
            clickhouse,
            parameters,
            preset,
            tables: Table::shop(),
            views: Views::TextsAndDeployed,
        })
    }

    /// Replaces the tables that are compared.
    #[must_use]
    pub fn with_tables(mut self, tables: Vec<Table>) -> Self {
        self.tables = tables;
        self
    }

    /// Chooses the forms of the views that are compared.
    #[must_use]
    pub fn with_views(mut self, views: Views) -> Self {
        self.views = views;
        self
    }

    /// Compares everything now and returns what differs; nothing if all is equal.
    pub async fn check(&self) -> anyhow::Result<Vec<Mismatch>> {
        self.check_at(self.now().await?).await
    }

    /// Compares everything at the views' moment `as_of` (which deployed views do not know).
    pub async fn check_at(&self, as_of: AsOf) -> anyhow::Result<Vec<Mismatch>> {
        let mut mismatches = Vec::new();
        for (expectation, mismatch) in self.expectations(as_of).await? {
            mismatches.extend(mismatch);
            if let Some(expectation) = expectation {
                mismatches.extend(self.compare(expectation, &[], "").await?);
            }
        }
        Ok(mismatches)
    }

    /// Compares everything under [`hostile::together`], and the views' texts under [`hostile::LIMITS`].
    pub async fn check_hostile(&self) -> anyhow::Result<Vec<Mismatch>> {
        self.hostile(self.now().await?, true, &hostile::together()).await
    }

    /// Does the same at the views' moment `as_of`, under `sets` of [`hostile`].
    pub async fn check_hostile_at(&self, as_of: AsOf, sets: &[String]) -> anyhow::Result<Vec<Mismatch>> {
        self.hostile(as_of, false, sets).await
    }

    async fn hostile(&self, as_of: AsOf, goes_on: bool, sets: &[String]) -> anyhow::Result<Vec<Mismatch>> {
        let mut mismatches = Vec::new();
        for (expectation, mismatch) in self.expectations(as_of).await? {
            mismatches.extend(mismatch);
            let Some(mut expectation) = expectation else { continue };
            for set in sets {
                let mut mismatch = self.compare(expectation.again(), &hostile::pairs(set), set).await?;
                if mismatch.is_some()
                    && goes_on
                    && let Some(anew) = self.anew(&expectation).await?
                {
                    mismatch = self.compare(anew.again(), &hostile::pairs(set), set).await?;
                    expectation = anew;
                }
                mismatches.extend(mismatch);
            }
            if expectation.form != Form::Text {
                continue;
            }
            for set in hostile::LIMITS {
                match self.compare(expectation.again(), &hostile::pairs(set), set).await {
                    Ok(mismatch) => mismatches.extend(mismatch),
                    Err(error) if is_limit(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(mismatches)
    }

    /// Compares until everything is equal, and fails with a difference when `deadline` has passed.
    ///
    /// The source must be quiet meanwhile. An error of a server counts as "not yet".
    pub async fn wait_equal(&self, deadline: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let look = Instant::now();
            let last = match self.first_mismatch().await {
                Ok(None) => return Ok(()),
                Ok(Some(mismatch)) => report(&[mismatch]),
                Err(error) => format!("{error:#}"),
            };
            let pause = pause_after(look.elapsed());
            if start.elapsed() + pause >= deadline {
                bail!("not equal after {:.1} s:\n{last}", start.elapsed().as_secs_f64());
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn first_mismatch(&self) -> anyhow::Result<Option<Mismatch>> {
        for (expectation, mismatch) in self.expectations(self.now().await?).await? {
            if mismatch.is_some() {
                return Ok(mismatch);
            }
            if let Some(expectation) = expectation
                && let Some(mismatch) = self.compare(expectation, &[], "").await?
            {
                return Ok(Some(mismatch));
            }
        }
        Ok(None)
    }

    async fn now(&self) -> anyhow::Result<AsOf> {
        let row = self
            .postgres
            .query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", &[])
            .await
            .context("asking PostgreSQL for the time")?;
        Ok(AsOf::Instant(row.get(0)))
    }

    /// Asks PostgreSQL for everything. Columns that only one side has are a mismatch of their own.
    async fn expectations(
        &self,
        as_of: AsOf,
    ) -> anyhow::Result<Vec<(Option<Expectation>, Option<Mismatch>)>> {
        let mut all = Vec::new();
        for table in &self.tables {
            all.push(self.table(table).await.with_context(|| format!("table {}", table.source))?);
        }
        let (texts, deployed) = match self.views {
            Views::None => (false, false),
            Views::Texts => (true, false),
            Views::Deployed => (false, true),
            Views::TextsAndDeployed => (true, true),
        };
        for view in self.preset.views_with_twin() {
            let context = || format!("view {view}");
            if texts {
                let text = self.preset.standalone_select(&view, &self.parameters, as_of)?;
                let text = format!("(\n{text})");
                all.push(self.view(&view, text, Form::Text, as_of).await.with_context(context)?);
            }
            if deployed {
                let name = quoted(&self.parameters.database, &view);
                all.push(self.view(&view, name, Form::Deployed, as_of).await.with_context(context)?);
            }
        }
        Ok(all)
    }

    async fn table(&self, table: &Table) -> anyhow::Result<(Option<Expectation>, Option<Mismatch>)> {
        let select = quoted(&self.parameters.database, &format!("{}_current", table.target));
        let key = self.key_columns(&table.source).await?;
        let mut sources = self.postgres_columns(&format!("SELECT * FROM {}", table.source)).await?;
        sources.retain(|(name, _)| !table.excluded.contains(name));
        // Key columns first: the report pairs rows by them.
        sources.sort_by_key(|(name, _)| key.iter().position(|column| column == name).unwrap_or(usize::MAX));
        let mut targets: BTreeMap<String, String> =
            self.clickhouse_columns(&select).await?.into_iter().collect();
        let mut columns = Vec::new();
        let mut missing = Vec::new();
        for (source, source_type) in sources {
            let target = table.renamed.get(&source).unwrap_or(&source).clone();
            match targets.remove(&target) {
                Some(target_type) => columns.push(Column { source, target, source_type, target_type }),
                None => missing.push(format!("column {source} is not in ClickHouse")),
            }
        }
        missing.extend(targets.keys().map(|name| format!("column {name} is not in PostgreSQL")));
        let object = format!("table {}", table.source);
        let mismatch = (!missing.is_empty()).then(|| Mismatch::structural(&object, missing));
        let rows = self.postgres_rows(&table.source, &columns).await?;
        let expectation = Expectation {
            object,
            select,
            columns,
            key: key.len().max(1),
            rows,
            form: Form::Table,
            deployed: None,
        };
        Ok((Some(expectation), mismatch))
    }

    async fn view(
        &self,
        view: &str,
        select: String,
        form: Form,
        as_of: AsOf,
    ) -> anyhow::Result<(Option<Expectation>, Option<Mismatch>)> {
        let object = match form {
            Form::Deployed => format!("view {view} as deployed"),
            _ => format!("view {view}"),
        };
        let twin = self.preset.twin(view, &self.parameters, as_of)?;
        let sources = self.postgres_columns(&twin).await?;
        let targets = self.clickhouse_columns(&select).await?;
        let names =
            |columns: &[(String, String)]| columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if names(&sources) != names(&targets) {
            let text = format!(
                "its columns are {:?} in PostgreSQL, {:?} in ClickHouse",
                names(&sources),
                names(&targets)
            );
            return Ok((None, Some(Mismatch::structural(&object, vec![text]))));
        }
        let columns: Vec<Column> = sources
            .into_iter()
            .zip(targets)
            .map(|((source, source_type), (target, target_type))| Column {
                source,
                target,
                source_type,
                target_type,
            })
            .collect();
        let rows = self.postgres_rows(&format!("({twin})"), &columns).await?;
        let deployed = (form == Form::Deployed).then(|| view.to_owned());
        Ok((Some(Expectation { object, select, columns, key: 1, rows, form, deployed }), None))
    }

    /// Asks PostgreSQL anew for a deployed view. That one goes by its own clock: rows leave its last 24 hours
    /// between a look at PostgreSQL and the next look at ClickHouse.
    async fn anew(&self, old: &Expectation) -> anyhow::Result<Option<Expectation>> {
        let Some(view) = &old.deployed else { return Ok(None) };
        let (anew, _) = self.view(view, old.select.clone(), Form::Deployed, self.now().await?).await?;
        Ok(anew)
    }

    async fn compare(
        &self,
        expectation: Expectation,
        settings: &[(&str, &str)],
        label: &str,
    ) -> anyhow::Result<Option<Mismatch>> {
        let Expectation { object, select, columns, key, rows, .. } = expectation;
        let object = if label.is_empty() { object } else { format!("{object} under {label}") };
        let list: Vec<String> = columns.iter().map(Column::clickhouse).collect();
        let query = format!("SELECT {} FROM {select} AS t", list.join(", "));
        let actual: Vec<Row> =
            self.clickhouse.rows(&query, settings).await.with_context(|| format!("reading {object}"))?;
        let actual = actual.into_iter().map(|row| canonical(&columns, row)).collect();
        let names: Vec<String> = columns.into_iter().map(|column| column.source).collect();
        Ok(compare(&object, &names, key, rows, actual))
    }

    async fn postgres_rows(&self, from: &str, columns: &[Column]) -> anyhow::Result<Vec<Row>> {
        let list: Vec<String> = columns.iter().map(Column::postgres).collect();
        let query = format!("SELECT {} FROM {from} AS t", list.join(", "));
        let messages = self.postgres.simple_query(&query).await.context("reading from PostgreSQL")?;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let row = (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect();
                rows.push(canonical(columns, row));
            }
        }
        Ok(rows)
    }

    async fn postgres_columns(&self, query: &str) -> anyhow::Result<Vec<(String, String)>> {
        let statement = self.postgres.prepare(query).await.context("preparing the query on PostgreSQL")?;
        Ok(statement
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.type_().name().to_owned()))
            .collect())
    }

    /// Returns names and types of what follows `FROM` in a query.
    async fn clickhouse_columns(&self, select: &str) -> anyhow::Result<Vec<(String, String)>> {
        let rows: Vec<Vec<serde_json::Value>> =
            self.clickhouse.rows(&format!("DESCRIBE TABLE {select}"), &[]).await?;
        rows.into_iter()
            .map(|row| match (row.first(), row.get(1)) {
                (Some(name), Some(kind)) => Ok((
                    name.as_str().context("a column's name")?.to_owned(),
                    kind.as_str().context("a column's type")?.to_owned(),
                )),
                _ => bail!("DESCRIBE answered a row without name and type"),
            })
            .collect()
    }

    async fn key_columns(&self, table: &str) -> anyhow::Result<Vec<String>> {
        let rows = self
            .postgres
            .query(
                "SELECT a.attname::text FROM pg_index i
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                 WHERE i.indrelid = $1::text::regclass AND i.indisprimary
                 ORDER BY array_position(i.indkey, a.attnum)",
                &[&table],
            )
            .await
            .context("reading the primary key")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

impl Expectation {
    fn again(&self) -> Self {
        Self {
            object: self.object.clone(),
            select: self.select.clone(),
            columns: self.columns.clone(),
            key: self.key,
            rows: self.rows.clone(),
            form: self.form,
            deployed: self.deployed.clone(),
        }
    }
}

/// Returns mismatches as one text, for a test's failure.
pub fn report(mismatches: &[Mismatch]) -> String {
    let mut text = String::new();
    for mismatch in mismatches {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{mismatch}");
    }
    text
}

fn canonical(columns: &[Column], row: Row) -> Row {
    row.into_iter()
        .zip(columns)
        .map(|(value, column)| value.map(|text| column.reading().canonical(text)))
        .collect()
}

fn quoted(database: &str, name: &str) -> String {
    format!("`{}`.`{}`", database.replace('`', "``"), name.replace('`', "``"))
}

/// Whether ClickHouse refused to go on at a limit of the session.
fn is_limit(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["TOO_MANY_ROWS", "SET_SIZE_LIMIT_EXCEEDED"].iter().any(|code| text.contains(code))
}
