//! Rules for a dashboard over ClickHouse: what makes panels fail, lie or mislead later. Pure.

use serde_json::Value;

use super::classic::{Dashboard, is_foreign, is_variable, name};
use super::expand::references;

/// Views whose rows grow with time: a query over one says which time it means.
const FACTS: [&str; 8] = [
    "orders_current",
    "order_items_current",
    "customer_orders",
    "daily_sales_by_country",
    "five_minute_sales_by_country",
    "daily_product_sales",
    "daily_order_values",
    "daily_sales_summary",
];
/// Panels that show rows as they come.
const LISTS: [&str; 2] = ["table", "logs"];
/// Panels without numbers.
const TEXTS: [&str; 5] = ["text", "dashlist", "alertlist", "news", "row"];

/// Everything that is wrong, each with what to do; empty: nothing.
pub fn lint(dashboard: &Dashboard) -> Vec<String> {
    let mut found = Vec::new();
    let model = &dashboard.model;
    if dashboard.title().trim().is_empty() {
        found.push("the dashboard has no title".to_owned());
    }
    let has_source = dashboard
        .variables()
        .iter()
        .any(|variable| variable["type"] == "datasource" && variable["name"] == "datasource");
    if !has_source {
        found.push(
            "there is no variable \"datasource\": add one of type datasource, so that the dashboard works everywhere"
                .to_owned(),
        );
    }
    if model["editable"] == true {
        found.push("editable is true: set it to false, since edits in Grafana are reverted".to_owned());
    }
    for variable in dashboard.variables() {
        if matches!(variable["type"].as_str(), Some("query" | "adhoc"))
            && !is_variable(&variable["datasource"])
        {
            found.push(format!(
                "variable {}: its data source is not ${{datasource}}",
                variable["name"].as_str().unwrap_or_default()
            ));
        }
    }
    for annotation in model["annotations"]["list"].as_array().into_iter().flatten() {
        let source = &annotation["datasource"];
        if !is_variable(source) && !is_foreign(source) {
            let title = annotation["name"].as_str().unwrap_or_default();
            found.push(format!("annotation {title}: its data source is not ${{datasource}}"));
        }
    }
    for panel in dashboard.panels() {
        lint_panel(panel, &mut found);
    }
    found
}

fn lint_panel(panel: &Value, found: &mut Vec<String>) {
    let kind = panel["type"].as_str().unwrap_or_default();
    let who = name(panel);
    let mut say = |text: &str| found.push(format!("panel {who:?}: {text}"));
    let blank = |value: &Value| value.as_str().is_none_or(|text| text.trim().is_empty());
    if TEXTS.contains(&kind) {
        return;
    }
    if blank(&panel["title"]) {
        say("it has no title");
    }
    if blank(&panel["description"]) {
        say("it has no description: say what is counted and what is not");
    }
    if !is_variable(&panel["datasource"]) {
        say("its data source is not ${datasource}");
    }
    let unit = |value: &Value| value["defaults"]["unit"].as_str().is_some_and(|unit| !unit.is_empty());
    let overrides = |value: &Value| {
        value["overrides"].as_array().into_iter().flatten().any(|each| {
            each["properties"].as_array().into_iter().flatten().any(|property| property["id"] == "unit")
        })
    };
    if !unit(&panel["fieldConfig"]) && !overrides(&panel["fieldConfig"]) {
        say("it has no unit: set fieldConfig.defaults.unit, \"short\" for plain numbers");
    }
    let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
    if targets.is_empty() {
        say("it has no query");
    }
    for target in targets {
        if !is_variable(&target["datasource"]) {
            say("a query's data source is not ${datasource}");
        }
        let Some(sql) = target["rawSql"].as_str() else {
            say("a query has no rawSql");
            continue;
        };
        lint_sql(sql, kind, &mut say);
    }
}

fn lint_sql(sql: &str, kind: &str, say: &mut impl FnMut(&str)) {
    let words: Vec<String> = sql
        .to_ascii_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '*' | '$'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    if words.windows(2).any(|pair| pair[0] == "select" && pair[1] == "*") {
        say("SELECT * breaks when a column is added: name the columns");
    }
    let timed = ["$__timefilter", "$__datefilter", "$__datetimefilter", "$__dt", "$__fromtime", "$__totime"];
    let timed = words.iter().any(|word| timed.iter().any(|start| word.starts_with(start)));
    if let Some(fact) = FACTS.iter().find(|fact| has(fact))
        && !timed
    {
        say(&format!(
            "it reads {fact} without the time range: filter by $__timeFilter, $__dateFilter or $__fromTime"
        ));
    }
    if LISTS.contains(&kind) && !has("limit") {
        say("a table without LIMIT can freeze the browser: add one");
    }
    for (variable, format) in references(sql) {
        if !matches!(format.as_str(), "singlequote" | "sqlstring") {
            say(&format!("variable {variable} is not quoted: write ${{{variable}:singlequote}}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn panel(change: impl FnOnce(&mut Value)) -> Dashboard {
        let source = json!({"type": super::super::PLUGIN, "uid": "${datasource}"});
        let mut model = json!({
            "title": "t", "editable": false,
            "templating": {"list": [{"type": "datasource", "name": "datasource"}]},
            "panels": [{
                "type": "table", "title": "p", "description": "d", "datasource": source,
                "fieldConfig": {"defaults": {"unit": "short"}},
                "targets": [{"datasource": source, "rawSql":
                    "SELECT day, orders FROM daily_sales_summary WHERE $__dateFilter(day) LIMIT 10"}],
            }],
        });
        change(&mut model);
        Dashboard { model }
    }

    #[test]
    fn a_good_dashboard_passes() {
        assert_eq!(lint(&panel(|_| {})), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let sql = |sql: &'static str| {
            move |model: &mut Value| model["panels"][0]["targets"][0]["rawSql"] = json!(sql)
        };
        let cases: Vec<(Dashboard, &str)> = vec![
            (panel(|m| m["title"] = json!(" ")), "no title"),
            (panel(|m| m["templating"] = json!({})), "no variable \"datasource\""),
            (panel(|m| m["editable"] = json!(true)), "editable"),
            (panel(|m| m["templating"]["list"][0] = json!({"type": "query", "name": "c"})), "variable c"),
            (
                panel(|m| m["annotations"] = json!({"list": [{"name": "a", "datasource": "x"}]})),
                "annotation a",
            ),
            (panel(|m| m["panels"][0]["title"] = json!("")), "has no title"),
            (panel(|m| m["panels"][0]["description"] = json!("")), "no description"),
            (panel(|m| m["panels"][0]["datasource"] = json!({"uid": "abc"})), "its data source"),
            (panel(|m| m["panels"][0]["fieldConfig"] = json!({})), "no unit"),
            (panel(|m| m["panels"][0]["targets"] = json!([])), "no query"),
            (panel(|m| m["panels"][0]["targets"][0]["datasource"] = json!("abc")), "a query's data source"),
            (panel(sql("SELECT * FROM top_selling_products LIMIT 1")), "SELECT *"),
            (panel(sql("SELECT sum(orders) FROM daily_sales_summary LIMIT 1")), "without the time range"),
            (panel(sql("SELECT rank FROM top_selling_products")), "LIMIT"),
            (panel(sql("SELECT rank FROM t WHERE c IN ($country) LIMIT 1")), "not quoted"),
        ];
        for (dashboard, expected) in cases {
            let found = lint(&dashboard);
            assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}");
        }
    }
}
