//! The dashboards that come with Tidemark: short descriptions in YAML, made into Grafana's classic model. Pure.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidemark_crds::quote::literal;

use super::PLUGIN;
use super::classic::Dashboard;

/// Newest schema that Grafana 10 reads as it is.
const SCHEMA_VERSION: u32 = 39;
/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// Currencies that Grafana 10 has a unit for, `currencyEUR` and so on.
const CURRENCIES: [&str; 23] = [
    "BRL", "CHF", "CZK", "DKK", "EUR", "GBP", "IDR", "INR", "ISK", "JPY", "KRW", "MYR", "NOK", "PHP", "PLN",
    "RUB", "SEK", "TRY", "UAH", "USD", "VND", "XPF", "ZAR",
];

/// The last day of the time shown.
const TO_DAY: &str = "toDate($__toTime, {{timezone}})";
/// The last day of it that is over, whatever is shown: sums of days are compared only when they are whole.
const LAST_DAY: &str = "least(toDate($__toTime, {{timezone}}), subtractDays(toDate(now(), {{timezone}}), 1))";
/// The first day that begins in it; where none does that is over, the last one that is.
const FROM_DAY: &str = "least(addDays(toDate(subtractSeconds($__fromTime, 1), {{timezone}}), 1), \
    toDate($__toTime, {{timezone}}), subtractDays(toDate(now(), {{timezone}}), 1))";

macro_rules! boards {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../../dashboards/ecommerce/boards/", $name, ".yaml")))),+]
    };
}

/// The dashboards of the preset `Ecommerce`, in the order in which people read them.
const ECOMMERCE: [(&str, &str); 6] =
    boards!["executive", "customers", "products", "health", "queries", "usage"];

/// What a dashboard is made for.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Prefix of the uids of all dashboards of the pipeline.
    pub uid_prefix: &'a str,
    /// Uid of the data source.
    pub source_uid: &'a str,
    /// Name of the data source.
    pub source_name: &'a str,
    /// Tags of every dashboard of the pipeline.
    pub tags: &'a [String],
    /// Time zone of days and months.
    pub time_zone: &'a str,
    /// Currency of all amounts, an ISO 4217 code.
    pub currency: &'a str,
    /// How often an open dashboard asks again.
    pub refresh: &'a str,
    /// Objective for rows, seconds.
    pub rows_objective_s: f64,
    /// Objective for views, seconds.
    pub views_objective_s: f64,
    /// Whether ClickHouse keeps a log of queries.
    pub has_query_log: bool,
}

/// A dashboard as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Board {
    /// Title.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// Begin of its time range, such as `now-30d`.
    pub from: String,
    /// Whether it reads `system.query_log`.
    #[serde(default)]
    pub needs_query_log: bool,
    /// Other boards that it leads to.
    #[serde(default)]
    pub links: Vec<String>,
    /// Variables whose values a query gives; all of them by default.
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// Panels, placed from left to right and top to bottom.
    pub panels: Vec<Panel>,
}

/// A variable.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its label.
    pub label: String,
    /// ClickHouse query of one column.
    pub sql: String,
    /// What it means on PostgreSQL.
    #[serde(default)]
    pub postgres: Option<String>,
    /// Whether one value is chosen instead of several.
    #[serde(default)]
    pub single: bool,
}

/// A panel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Grafana's type: stat, timeseries, barchart, bargauge, table, row.
    pub r#type: String,
    /// Title.
    pub title: String,
    /// What is counted, and what is not.
    #[serde(default)]
    pub description: String,
    /// Columns of 24.
    #[serde(default = "full_width")]
    pub w: u32,
    /// Rows of 30 pixels and 8 between.
    #[serde(default = "usual_height")]
    pub h: u32,
    /// Unit of every field without one of its own.
    #[serde(default)]
    pub unit: String,
    /// The query.
    #[serde(default)]
    pub sql: String,
    /// What it means on PostgreSQL, over the views' twins; absent: it is not about the shop.
    #[serde(default)]
    pub postgres: Option<String>,
    /// Merged into the panel's `options`.
    #[serde(default)]
    pub options: Value,
    /// Merged into `fieldConfig.defaults`.
    #[serde(default)]
    pub defaults: Value,
    /// Field → properties (`unit`, `custom.width`, `links`, …).
    #[serde(default)]
    pub fields: BTreeMap<String, Map<String, Value>>,
}

fn full_width() -> u32 {
    COLUMNS
}

fn usual_height() -> u32 {
    8
}

/// The boards of the preset: name and description; read once, since every look asks for them, and every link.
pub fn boards() -> &'static [(&'static str, Board)] {
    static READ: LazyLock<Vec<(&str, Board)>> = LazyLock::new(|| {
        let read = |text| read(text).expect("the embedded boards are checked by a test");
        ECOMMERCE.iter().map(|(name, text)| (*name, read(text))).collect()
    });
    &READ
}

/// Reads a board; `<<` takes over what an anchor has.
fn read(text: &str) -> Result<Board, serde_yaml_ng::Error> {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)?;
    value.apply_merge()?;
    serde_yaml_ng::from_value(value)
}

/// The dashboards of the preset `Ecommerce` that can work here: name and model.
pub fn preset(surroundings: &Surroundings<'_>) -> Vec<(String, Dashboard)> {
    boards()
        .iter()
        .filter(|(_, board)| surroundings.has_query_log || !board.needs_query_log)
        .map(|(name, board)| ((*name).to_owned(), render(name, board, surroundings)))
        .collect()
}

/// Makes the classic model of a board.
pub fn render(name: &str, board: &Board, surroundings: &Surroundings<'_>) -> Dashboard {
    let mut tags = surroundings.tags.to_vec();
    tags.push(name.to_owned());
    let model = json!({
        "id": null,
        "uid": uid(surroundings, name),
        "title": board.title,
        "description": board.description,
        "tags": tags,
        "schemaVersion": SCHEMA_VERSION,
        "editable": false,
        "graphTooltip": 1,
        "timezone": surroundings.time_zone,
        "weekStart": "monday",
        "time": {"from": board.from, "to": "now"},
        "refresh": surroundings.refresh,
        "links": board.links.iter().map(|to| link(to, surroundings)).collect::<Vec<_>>(),
        "templating": {"list": variables(board, surroundings)},
        "panels": panels(board, surroundings),
    });
    Dashboard { model }
}

/// Uid of a board: at most 40 characters.
pub fn uid(surroundings: &Surroundings<'_>, name: &str) -> String {
    format!("{}-{name}", surroundings.uid_prefix)
}

fn link(to: &str, surroundings: &Surroundings<'_>) -> Value {
    let title = boards().iter().find(|(name, _)| *name == to).map(|(_, board)| &board.title);
    json!({
        "type": "link", "title": title, "icon": "dashboard", "url": format!("/d/{}", uid(surroundings, to)),
        "keepTime": true, "includeVars": true, "targetBlank": false, "asDropdown": false, "tags": [],
        "tooltip": "",
    })
}

fn source() -> Value {
    json!({"type": PLUGIN, "uid": "${datasource}"})
}

fn variables(board: &Board, surroundings: &Surroundings<'_>) -> Vec<Value> {
    let mut all = vec![json!({
        "type": "datasource", "name": "datasource", "label": "Data source", "query": PLUGIN, "hide": 0,
        "refresh": 1, "regex": "", "multi": false, "includeAll": false, "options": [],
        "current": {"text": surroundings.source_name, "value": surroundings.source_uid},
    })];
    all.extend(board.variables.iter().map(|variable| {
        let current = if variable.single { json!({}) } else { json!({"text": ["All"], "value": ["$__all"]}) };
        json!({
            "type": "query", "name": variable.name, "label": variable.label, "datasource": source(),
            "query": fill(&variable.sql, surroundings), "definition": fill(&variable.sql, surroundings),
            "refresh": 1, "sort": 0, "regex": "", "hide": 0, "multi": !variable.single,
            "includeAll": !variable.single, "options": [], "current": current,
        })
    }));
    all
}

fn panels(board: &Board, surroundings: &Surroundings<'_>) -> Vec<Value> {
    let (mut x, mut y, mut row_height) = (0, 0, 0);
    let mut all = Vec::new();
    for (index, panel) in board.panels.iter().enumerate() {
        let (w, h) = if panel.r#type == "row" { (COLUMNS, 1) } else { (panel.w, panel.h) };
        if x + w > COLUMNS {
            x = 0;
            y += row_height;
            row_height = 0;
        }
        let place = json!({"x": x, "y": y, "w": w, "h": h});
        all.push(model(panel, index + 1, &place, surroundings));
        x += w;
        row_height = row_height.max(h);
    }
    all
}

fn model(panel: &Panel, id: usize, place: &Value, surroundings: &Surroundings<'_>) -> Value {
    if panel.r#type == "row" {
        return json!({"id": id, "type": "row", "title": panel.title, "gridPos": place, "collapsed": false, "panels": []});
    }
    let series = panel.r#type == "timeseries";
    let mut defaults = match panel.r#type.as_str() {
        "timeseries" => series_defaults(),
        "table" => json!({"custom": {"align": "auto", "filterable": false}}),
        "barchart" => {
            json!({"custom": {"fillOpacity": 80, "lineWidth": 0}, "color": {"mode": "palette-classic"}})
        }
        _ => json!({"color": {"mode": "thresholds"}, "thresholds": plain()}),
    };
    defaults["unit"] = json!(fill(&panel.unit, surroundings));
    let mut options = match panel.r#type.as_str() {
        "stat" => json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "orientation": "auto", "textMode": "value_and_name", "wideLayout": true, "colorMode": "value",
            "graphMode": "none", "justifyMode": "auto", "showPercentChange": false,
        }),
        "timeseries" => json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        "bargauge" => json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": true, "limit": 20},
            "orientation": "horizontal", "displayMode": "basic", "valueMode": "color", "showUnfilled": true,
            "minVizWidth": 8, "minVizHeight": 16, "namePlacement": "auto", "text": {"titleSize": 13, "valueSize": 16},
        }),
        "barchart" => json!({
            "orientation": "auto", "xTickLabelRotation": 0, "showValue": "auto", "stacking": "none",
            "groupWidth": 0.7, "barWidth": 0.9, "legend": {"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        }),
        "table" => {
            json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false, "reducer": ["sum"], "fields": "", "countRows": false}})
        }
        _ => json!({}),
    };
    merge(&mut defaults, &filled(&panel.defaults, surroundings));
    merge(&mut options, &filled(&panel.options, surroundings));
    let overrides: Vec<Value> = panel
        .fields
        .iter()
        .map(|(field, properties)| {
            let properties: Vec<Value> = properties
                .iter()
                .map(|(id, value)| json!({"id": id, "value": filled(value, surroundings)}))
                .collect();
            json!({"matcher": {"id": "byName", "options": field}, "properties": properties})
        })
        .collect();
    json!({
        "id": id, "type": panel.r#type, "title": panel.title, "description": panel.description.trim(),
        "gridPos": place, "datasource": source(), "transparent": false,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [{
            "refId": "A", "datasource": source(), "editorType": "sql",
            "queryType": if series { "timeseries" } else { "table" }, "format": i32::from(!series),
            "rawSql": fill(&panel.sql, surroundings),
        }],
    })
}

fn plain() -> Value {
    json!({"mode": "absolute", "steps": [{"color": "text", "value": null}]})
}

fn series_defaults() -> Value {
    json!({
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 2, "fillOpacity": 8,
            "gradientMode": "none", "showPoints": "never", "spanNulls": false, "axisPlacement": "auto",
            "axisSoftMin": 0, "stacking": {"mode": "none", "group": "A"},
        },
        "thresholds": plain(),
    })
}

/// Grafana's unit of a currency.
fn currency_unit(code: &str) -> String {
    if CURRENCIES.contains(&code) { format!("currency{code}") } else { format!("currency:{code} ") }
}

/// Replaces the placeholders of a text.
fn fill(text: &str, surroundings: &Surroundings<'_>) -> String {
    text.trim()
        .replace("{{from_day}}", FROM_DAY)
        .replace("{{last_day}}", LAST_DAY)
        .replace("{{to_day}}", TO_DAY)
        .replace("{{currency}}", &currency_unit(surroundings.currency))
        .replace("{{timezone}}", &literal(surroundings.time_zone))
        .replace("{{uid}}", surroundings.uid_prefix)
        .replace("{{rows_objective}}", &surroundings.rows_objective_s.to_string())
        .replace("{{views_objective}}", &surroundings.views_objective_s.to_string())
}

/// Replaces the placeholders in every text of a value; a text that is nothing but a number becomes one.
fn filled(value: &Value, surroundings: &Surroundings<'_>) -> Value {
    match value {
        Value::String(text) if text.contains("{{") => {
            let text = fill(text, surroundings);
            text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        Value::Array(list) => list.iter().map(|each| filled(each, surroundings)).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, each)| (key.clone(), filled(each, surroundings))).collect()
        }
        other => other.clone(),
    }
}

/// Merges maps key by key; everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dashboards::lint::lint;

    fn surroundings(tags: &[String]) -> Surroundings<'_> {
        Surroundings {
            uid_prefix: "tm-0a1b2c3d",
            source_uid: "tm-0a1b2c3d",
            source_name: "ClickHouse",
            tags,
            time_zone: "Europe/Berlin",
            currency: "CHF",
            refresh: "30s",
            rows_objective_s: 5.0,
            views_objective_s: 120.0,
            has_query_log: true,
        }
    }

    #[test]
    fn every_board_passes_the_lint_and_leaves_no_placeholder() {
        let all = preset(&surroundings(&[]));
        assert_eq!(all.len(), ECOMMERCE.len());
        for (name, dashboard) in all {
            assert_eq!(lint(&dashboard), Vec::<String>::new(), "{name}");
            assert!(!dashboard.model.to_string().contains("{{"), "{name} has an unknown placeholder");
            assert!(dashboard.model["uid"].as_str().unwrap().len() <= 40);
        }
    }

    #[test]
    fn panels_fill_rows_without_overlap() {
        for (name, dashboard) in preset(&surroundings(&[])) {
            let mut cells = std::collections::BTreeSet::new();
            for panel in dashboard.model["panels"].as_array().unwrap() {
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                for x in at("x")..at("x") + at("w") {
                    for y in at("y")..at("y") + at("h") {
                        assert!(x < 24 && cells.insert((x, y)), "{name}: {} overlaps", panel["title"]);
                    }
                }
            }
        }
    }

    #[test]
    fn amounts_are_in_the_pipelines_currency() {
        let with = |currency| preset(&Surroundings { currency, ..surroundings(&[]) });
        for (currency, unit) in [("USD", "currencyUSD"), ("CAD", "currency:CAD ")] {
            for (name, dashboard) in with(currency) {
                let text = dashboard.model.to_string();
                assert!(!text.contains("currencyEUR"), "{name} shows euros");
                let money = matches!(name.as_str(), "executive" | "customers" | "products");
                assert_eq!(text.contains(&format!("\"unit\":\"{unit}\"")), money, "{name}: {unit}");
            }
        }
    }

    #[test]
    fn links_lead_to_boards() {
        let all = boards();
        for (name, board) in all {
            for to in &board.links {
                assert!(all.iter().any(|(other, _)| other == to), "{name} leads to {to}");
            }
        }
    }
}
