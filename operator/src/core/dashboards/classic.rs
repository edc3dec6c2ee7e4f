//! Grafana's classic dashboard model, as far as the operator has to understand it. Pure.

use serde_json::Value;

use super::PLUGIN;

/// A classic dashboard model.
#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    /// The model.
    pub model: Value,
}

/// One query of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelQuery {
    /// The panel's title, or its id where it has none.
    pub panel: String,
    /// The target's `refId`.
    pub ref_id: String,
    /// The query with its macros and variables.
    pub sql: String,
}

/// A variable whose values come from a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableQuery {
    /// Its name.
    pub name: String,
    /// The query; its first column has the values.
    pub sql: String,
    /// Whether more than one of them can be chosen.
    pub many: bool,
}

impl Dashboard {
    /// Reads a model; what is no object, or is of the newer schema, is refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let model: Value =
            serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
        if model.get("elements").is_some() || model.get("kind").is_some() {
            return Err(
                "is of the newer schema (elements, layout): export it as the classic model".to_owned()
            );
        }
        if !model.is_object() {
            return Err("is no JSON object".to_owned());
        }
        if model.get("panels").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err("has no panels".to_owned());
        }
        Ok(Self { model })
    }

    /// The dashboard's title.
    pub fn title(&self) -> &str {
        self.model["title"].as_str().unwrap_or_default()
    }

    /// All panels in order, those inside rows too, the rows themselves left out.
    pub fn panels(&self) -> Vec<&Value> {
        let mut all = Vec::new();
        for panel in self.model["panels"].as_array().into_iter().flatten() {
            if panel["type"] == "row" {
                all.extend(panel["panels"].as_array().into_iter().flatten());
            } else {
                all.push(panel);
            }
        }
        all
    }

    /// Every query of every panel.
    pub fn queries(&self) -> Vec<PanelQuery> {
        let mut all = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                if let Some(sql) = target["rawSql"].as_str()
                    && target["hide"] != true
                {
                    all.push(PanelQuery {
                        panel: name(panel),
                        ref_id: target["refId"].as_str().unwrap_or("A").to_owned(),
                        sql: sql.to_owned(),
                    });
                }
            }
        }
        all
    }

    /// The dashboard's variables.
    pub fn variables(&self) -> &[Value] {
        self.model["templating"]["list"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The variables whose values come from a query, in order.
    pub fn variable_queries(&self) -> Vec<VariableQuery> {
        let query = |variable: &Value| {
            let sql = variable["query"].as_str().or_else(|| variable["query"]["rawSql"].as_str())?;
            (variable["type"] == "query").then(|| VariableQuery {
                name: text(&variable["name"]),
                sql: sql.to_owned(),
                many: many(variable),
            })
        };
        self.variables().iter().filter_map(query).collect()
    }

    /// Values of the variables that are written in the model: custom, constant and text ones.
    pub fn fixed_values(&self) -> super::expand::Values {
        let value = |variable: &Value| {
            let kind = variable["type"].as_str()?;
            if !matches!(kind, "custom" | "constant" | "textbox" | "interval") {
                return None;
            }
            let chosen = match &variable["current"]["value"] {
                Value::String(value) if value != "$__all" => vec![value.clone()],
                Value::Array(values)
                    if values.iter().all(|value| *value != "$__all") && !values.is_empty() =>
                {
                    values.iter().map(text).collect()
                }
                _ => {
                    let most = if many(variable) { usize::MAX } else { 1 };
                    text(&variable["query"])
                        .split(',')
                        .take(most)
                        .map(|part| part.trim().to_owned())
                        .collect()
                }
            };
            Some((text(&variable["name"]), chosen))
        };
        self.variables().iter().filter_map(value).collect()
    }

    /// Days that the dashboard shows when it is opened; 30 where its range is no `now-…`.
    pub fn days(&self) -> u32 {
        let from = self.model["time"]["from"].as_str().unwrap_or("now-30d");
        let rest = from.strip_prefix("now-").unwrap_or("30d");
        let number = |unit: char| rest.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok());
        number('d')
            .or_else(|| number('w').map(|weeks| weeks * 7))
            .or_else(|| number('M').map(|months| months * 30))
            .or_else(|| number('y').map(|years| years * 365))
            .or_else(|| number('h').map(|hours| hours.div_ceil(24)))
            .unwrap_or(30)
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A panel's title, or its id where it has none.
pub fn name(panel: &Value) -> String {
    match panel["title"].as_str() {
        Some(title) if !title.trim().is_empty() => title.to_owned(),
        _ => format!("panel {}", panel["id"]),
    }
}

/// Whether more than one value of a variable can be chosen, or all at once.
fn many(variable: &Value) -> bool {
    variable["multi"] == true || variable["includeAll"] == true
}

/// Whether a reference names the dashboard's data source variable.
pub fn is_variable(reference: &Value) -> bool {
    let uid = reference.as_str().or_else(|| reference["uid"].as_str());
    uid.is_some_and(|uid| matches!(uid, "${datasource}" | "$datasource"))
}

/// Whether a reference is to another plugin than ours: Grafana's own annotations, mixed sources.
pub fn is_foreign(reference: &Value) -> bool {
    reference["type"].as_str().is_some_and(|kind| kind != PLUGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn panels_inside_rows_are_found_and_ranges_are_read() {
        let model = json!({
            "time": {"from": "now-12h"},
            "panels": [
                {"type": "row", "panels": [{"title": "in", "targets": [{"refId": "A", "rawSql": "SELECT 1"}]}]},
                {"title": "out", "targets": [{"refId": "B", "rawSql": "SELECT 2", "hide": true}]},
            ],
        });
        let dashboard = Dashboard::parse(&model.to_string()).unwrap();
        assert_eq!(dashboard.panels().len(), 2);
        assert_eq!(dashboard.queries().len(), 1, "a hidden query is not asked");
        assert_eq!(dashboard.days(), 1);
    }

    #[test]
    fn a_variable_of_one_choice_has_one_value() {
        let variable = |name: &str, kind: &str, multi: bool, all: bool| json!({"name": name, "type": kind, "query": "a, b", "multi": multi, "includeAll": all});
        let model = json!({"panels": [{"title": "one"}], "templating": {"list": [
            variable("one", "custom", false, false), variable("several", "custom", true, false),
            variable("all", "custom", false, true), variable("asked", "query", false, false),
        ]}});
        let dashboard = Dashboard::parse(&model.to_string()).unwrap();
        let values = dashboard.fixed_values();
        assert_eq!(values["one"], ["a"]);
        assert_eq!(values["several"], ["a", "b"]);
        assert_eq!(values["all"], ["a", "b"]);
        let [asked] = &dashboard.variable_queries()[..] else { panic!("one variable is asked for") };
        assert!(!asked.many);
    }

    #[test]
    fn what_is_no_classic_model_is_refused() {
        assert!(Dashboard::parse("{}").is_err());
        assert!(Dashboard::parse(r#"{"elements": {}}"#).unwrap_err().contains("classic"));
    }
}
