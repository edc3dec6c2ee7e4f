//! The preset as the tests read it: what it makes, and its texts with the placeholders filled in. Reads files only.
//!
//! The operator fills the same files by code of its own: that both are right is part of what a comparison shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::stack::cache::e2e_folder;

/// How an object of the preset is kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Materialization {
    /// A plain view.
    View,
    /// A table that a refreshable view fills, with a plain view over it.
    Refresh,
}

/// A view or helper of the preset.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// Name in the target database.
    pub name: String,
    /// Path of its SELECT below the preset's folder.
    pub file: String,
    /// Whether it is a part of other views only.
    #[serde(default)]
    pub helper: bool,
    /// How it is kept.
    pub materialization: Materialization,
    /// Sorting key of a refreshed object's table.
    #[serde(default)]
    pub order_by: Vec<String>,
    /// Days for which rows stay that each refresh adds.
    #[serde(default)]
    pub keep_days: Option<u32>,
    /// Objects that it reads.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Whether it reads ClickHouse's log of queries.
    #[serde(default)]
    pub needs_query_log: bool,
}

/// A preset: `dashboards/<name>/preset.yaml` and the files that it names.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preset {
    /// The preset's name in the resource.
    pub name: String,
    /// Target table to the columns that the views read.
    pub requires: BTreeMap<String, Vec<String>>,
    constants: BTreeMap<String, serde_yaml_ng::Value>,
    settings: BTreeMap<String, serde_yaml_ng::Value>,
    refresh_settings: BTreeMap<String, serde_yaml_ng::Value>,
    /// What is made, in the order in which it is made.
    pub objects: Vec<Object>,
    #[serde(skip)]
    folder: PathBuf,
}

/// What a pipeline fills into the preset's placeholders.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Target database in ClickHouse.
    pub database: String,
    /// The pipeline, as its sinks report it in `_tidemark_progress`.
    pub pipeline: String,
    /// Time zone of days and months.
    pub time_zone: String,
    /// Order statuses that mean cancelled.
    pub cancelled_statuses: Vec<String>,
    /// Order statuses that mean refunded.
    pub refunded_statuses: Vec<String>,
}

impl Parameters {
    /// Returns the resource's defaults for a database.
    pub fn new(database: &str) -> Self {
        Self {
            database: database.into(),
            pipeline: "shop".into(),
            time_zone: "UTC".into(),
            cancelled_statuses: vec!["cancelled".into()],
            refunded_statuses: vec!["refunded".into()],
        }
    }
}

/// The moment that views call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// Whenever the view is read.
    Now,
    /// Microseconds since 1970, UTC.
    Instant(i64),
}

/// The SQL that a text is filled in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    ClickHouse,
    Postgres,
}

impl Preset {
    /// Reads the preset `Ecommerce` of this checkout.
    pub fn ecommerce() -> anyhow::Result<Self> {
        Self::load(&e2e_folder().join("../dashboards/ecommerce"))
    }

    fn load(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("preset.yaml");
        let text = read(&file)?;
        let preset: Self =
            serde_yaml_ng::from_str(&text).with_context(|| format!("parsing {}", file.display()))?;
        Ok(Self { folder: folder.into(), ..preset })
    }

    /// Returns the object of a name.
    pub fn object(&self, name: &str) -> anyhow::Result<&Object> {
        self.objects
            .iter()
            .find(|object| object.name == name)
            .with_context(|| format!("preset {}: no object {name}", self.name))
    }

    /// Returns the names of the views that users see, in the order of creation.
    pub fn views(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().filter(|object| !object.helper).map(|object| object.name.as_str())
    }

    /// Returns the names of the views that have a twin on PostgreSQL.
    pub fn views_with_twin(&self) -> Vec<String> {
        self.views().filter(|name| self.twin_file(name).exists()).map(str::to_owned).collect()
    }

    /// Returns an object's SELECT for ClickHouse.
    pub fn select(&self, name: &str, parameters: &Parameters, as_of: AsOf) -> anyhow::Result<String> {
        let object = self.object(name)?;
        let text = read(&self.folder.join(&object.file))?;
        let limits = object.materialization == Materialization::Refresh;
        self.fill(&text, &self.clickhouse_values(parameters, as_of, limits))
    }

    /// Returns an object's SELECT for ClickHouse over the `_current` views alone: the objects that it reads
    /// stand in it as subqueries, so that it shows no refresh's age and has one clock.
    pub fn standalone_select(
        &self,
        name: &str,
        parameters: &Parameters,
        as_of: AsOf,
    ) -> anyhow::Result<String> {
        let object = self.object(name)?;
        let mut text = read(&self.folder.join(&object.file))?;
        for dependency in &object.depends_on {
            let inner = self.standalone_select(dependency, parameters, as_of)?;
            text = text.replace(&format!("{{{{database}}}}.{dependency}"), &format!("(\n{inner})"));
        }
        self.fill(&text, &self.clickhouse_values(parameters, as_of, false))
    }

    /// Returns a view's twin: the query for PostgreSQL.
    pub fn twin(&self, name: &str, parameters: &Parameters, as_of: AsOf) -> anyhow::Result<String> {
        self.fill(&read(&self.twin_file(name))?, &postgres_values(parameters, as_of))
    }

    fn twin_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("views/{name}.postgres.sql"))
    }

    fn clickhouse_values(
        &self,
        parameters: &Parameters,
        as_of: AsOf,
        refreshed: bool,
    ) -> BTreeMap<&'static str, String> {
        let database = format!("`{}`", parameters.database.replace('`', "``"));
        let mut settings: Vec<String> = self.settings.iter().map(setting).collect();
        if refreshed {
            settings.extend(self.refresh_settings.iter().map(setting));
        }
        let counts: Vec<String> = self
            .requires
            .keys()
            .map(|table| {
                format!("SELECT '{table}' AS table, count() AS rows FROM {database}.{table}_current")
            })
            .collect();
        let mut values = shop_values(parameters, Dialect::ClickHouse);
        values.extend([
            ("as_of", clickhouse_instant(as_of)),
            ("database_name", literal(&parameters.database, Dialect::ClickHouse)),
            ("pipeline", literal(&parameters.pipeline, Dialect::ClickHouse)),
            ("table_rows", counts.join("\n    UNION ALL ")),
            ("settings", settings.join(", ")),
            ("self", format!("{database}.itself")),
            ("viewer", "lower(hex(sipHash64(login)))".to_owned()),
            ("database", database),
        ]);
        values
    }

    /// Replaces each `{{name}}`; a name without a value is an error.
    fn fill(&self, text: &str, values: &BTreeMap<&'static str, String>) -> anyhow::Result<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("{{") {
            let Some((name, after)) = from.split_once("}}") else {
                bail!("a placeholder is not closed: {from}")
            };
            filled.push_str(before);
            match values.get(name) {
                Some(value) => filled.push_str(value),
                None => filled.push_str(&scalar(
                    self.constants
                        .get(name)
                        .with_context(|| format!("placeholder {{{{{name}}}}} has no value"))?,
                )),
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn shop_values(parameters: &Parameters, dialect: Dialect) -> BTreeMap<&'static str, String> {
    let list =
        |texts: &[String]| texts.iter().map(|text| literal(text, dialect)).collect::<Vec<_>>().join(", ");
    BTreeMap::from([
        ("timezone", literal(&parameters.time_zone, dialect)),
        ("cancelled_statuses", list(&parameters.cancelled_statuses)),
        ("refunded_statuses", list(&parameters.refunded_statuses)),
    ])
}

fn postgres_values(parameters: &Parameters, as_of: AsOf) -> BTreeMap<&'static str, String> {
    let mut values = shop_values(parameters, Dialect::Postgres);
    values.insert("as_of", postgres_instant(as_of));
    values
}

fn literal(text: &str, dialect: Dialect) -> String {
    let text = match dialect {
        Dialect::ClickHouse => text.replace('\\', "\\\\"),
        Dialect::Postgres => text.to_owned(),
    };
    format!("'{}'", text.replace('\'', "''"))
}

fn scalar(value: &serde_yaml_ng::Value) -> String {
    match value {
        serde_yaml_ng::Value::String(text) => literal(text, Dialect::ClickHouse),
        other => serde_yaml_ng::to_string(other).unwrap_or_default().trim().to_owned(),
    }
}

fn setting((name, value): (&String, &serde_yaml_ng::Value)) -> String {
    format!("{name} = {}", scalar(value))
}

fn clickhouse_instant(as_of: AsOf) -> String {
    match as_of {
        AsOf::Now => "now64(6, 'UTC')".into(),
        AsOf::Instant(micros) => format!("fromUnixTimestamp64Micro({micros}, 'UTC')"),
    }
}

fn postgres_instant(as_of: AsOf) -> String {
    match as_of {
        AsOf::Now => "now()".into(),
        // to_timestamp takes a float, which has too few digits for microseconds.
        AsOf::Instant(micros) => format!("(timestamptz 'epoch' + interval '{micros} microseconds')"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_without_a_value_is_named() {
        let preset = Preset::ecommerce().unwrap();
        let error = preset.fill("SELECT {{nobody}}", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "placeholder {{nobody}} has no value");
        assert!(preset.fill("SELECT {{nobody", &BTreeMap::new()).is_err());
    }

    #[test]
    fn every_text_is_filled_in_completely() {
        let preset = Preset::ecommerce().unwrap();
        let parameters = Parameters::new("shop");
        for object in &preset.objects {
            for text in [
                preset.select(&object.name, &parameters, AsOf::Now).unwrap(),
                preset.standalone_select(&object.name, &parameters, AsOf::Instant(0)).unwrap(),
            ] {
                assert!(!text.contains("{{") && text.contains("SETTINGS"), "{text}");
            }
        }
    }

    #[test]
    fn each_view_of_the_shop_has_a_twin() {
        let preset = Preset::ecommerce().unwrap();
        let (all, twins) = (preset.views().count(), preset.views_with_twin());
        // The others are about the pipeline itself.
        let own = [
            "data_freshness",
            "pipeline_progress",
            "verification",
            "view_refreshes",
            "connector_history",
            "query_performance",
            "dashboard_usage",
            "dashboard_viewers",
        ];
        assert_eq!(all, twins.len() + own.len());
        assert!(own.iter().all(|name| !twins.contains(&(*name).to_owned())));
    }

    /// A view that they may not read is a panel that fails on the demo's and the tests' clusters alone.
    #[test]
    fn readers_of_the_stack_may_read_each_view_of_the_preset_by_name() {
        let preset = Preset::ecommerce().unwrap();
        let readable: Vec<String> = preset
            .views()
            .map(str::to_owned)
            .chain(preset.requires.keys().map(|table| format!("{table}_current")))
            .collect();
        let users = read(&e2e_folder().join("config/clickhouse/users.xml")).unwrap();
        for user in ["reader", "dashboards"] {
            let (_, account) = users.split_once(&format!("<{user}>\n      <password")).unwrap();
            let (account, _) = account.split_once(&format!("</{user}>")).unwrap();
            for view in &readable {
                let grant = format!("GRANT SELECT ON ${{CLICKHOUSE_DATABASE}}.{view}</query>");
                assert!(account.contains(&grant), "{user} may not read {view}");
            }
        }
    }

    #[test]
    fn a_standalone_select_reads_no_other_view() {
        let preset = Preset::ecommerce().unwrap();
        let parameters = Parameters::new("shop");
        for view in preset.views_with_twin() {
            let text = preset.standalone_select(&view, &parameters, AsOf::Now).unwrap();
            for object in &preset.objects {
                assert!(!text.contains(&format!("`shop`.{}", object.name)), "{view} reads {}", object.name);
            }
        }
    }

    #[test]
    fn texts_are_quoted_for_their_server() {
        assert_eq!(literal(r"a'\b", Dialect::ClickHouse), r"'a''\\b'");
        assert_eq!(literal(r"a'\b", Dialect::Postgres), r"'a''\b'");
    }

    #[test]
    fn an_object_comes_after_what_it_reads() {
        let preset = Preset::ecommerce().unwrap();
        let mut made = Vec::new();
        for object in &preset.objects {
            assert!(
                object.depends_on.iter().all(|name| made.contains(name)),
                "{} comes too early",
                object.name
            );
            made.push(object.name.clone());
        }
    }
}
