//! Names in the target database: each belongs to one object of the pipeline. Pure.

use tidemark_crds::pipeline::{Preset, Table, Views};

use super::preset::ecommerce;

/// What else of the pipeline has the name that a table's state table would have, for people.
pub(super) fn claim(views: &Views, tables: &[Table], table: &Table) -> Option<String> {
    let target = table.target_name();
    if target.starts_with("_tidemark") {
        return Some(format!("{target} is a name that tidemark keeps for its own tables"));
    }
    let shown = |other: &&Table| format!("{}_current", other.target_name()) == target;
    if let Some(other) = tables.iter().find(shown) {
        return Some(format!("{target} is the view of table {}", other.name));
    }
    let preset = match views.preset {
        Preset::Ecommerce => ecommerce().objects.iter().map(|object| object.name.clone()).collect(),
        Preset::None => Vec::new(),
    };
    let extra = views.extra.iter().map(|extra| extra.name.clone());
    let view = preset.into_iter().chain(extra).find(|view| {
        let Some(rest) = target.strip_prefix(view.as_str()) else {
            return false;
        };
        let helper = rest.strip_prefix("__");
        let is_hash = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        rest.is_empty()
            || helper.is_some_and(|suffix| ["refresh", "source"].contains(&suffix) || is_hash(suffix))
    })?;
    Some(if view == target {
        format!("{target} is a view of spec.views")
    } else {
        format!("{target} is a name that view {view} of spec.views may need")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::unwrap_in_result, reason = "a test may fail by panicking")]
    fn claimed(views: &serde_json::Value, names: &[&str]) -> Option<String> {
        let table = |name: &&str| serde_json::from_value(json!({"name": format!("public.{name}")})).unwrap();
        let tables: Vec<Table> = names.iter().map(table).collect();
        claim(&serde_json::from_value(views.clone()).unwrap(), &tables, &tables[tables.len() - 1])
    }

    #[test]
    fn a_table_that_would_have_the_name_of_a_view_is_named_with_it() {
        let mine = json!({"preset": "None", "extra": [
            {"name": "mine", "sql": {"inline": "SELECT 1"}, "materialization": {"type": "View"}}
        ]});
        for name in ["mine", "mine__refresh", "mine__source", "mine__0a1b2c3d", "_tidemark_ledger"] {
            assert!(claimed(&mine, &[name]).is_some(), "{name}");
        }
        for name in ["mine__items", "mining", "orders", "daily_sales_summary", "other_current"] {
            assert_eq!(claimed(&mine, &[name]), None, "{name}");
        }
        let current = claimed(&mine, &["orders", "orders_current"]).unwrap();
        assert!(current.contains("view of table public.orders"), "{current}");
        assert!(claimed(&json!({"preset": "Ecommerce"}), &["daily_sales_summary"]).is_some());
    }
}
