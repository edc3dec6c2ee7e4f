//! The view presets, embedded from `dashboards/`, and how their placeholders are filled. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{ViewerLogins, Views};
use tidemark_crds::quote::{ident, literal, qualified};

const ECOMMERCE: &str = include_str!("../../../../dashboards/ecommerce/preset.yaml");

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../../dashboards/ecommerce/", $name)))),+]
    };
}

/// The SELECT of each object of the preset.
const FILES: [(&str, &str); 28] = files![
    "helpers/order_totals.sql",
    "helpers/daily_sales.sql",
    "helpers/table_rows.sql",
    "views/daily_sales_summary.sql",
    "views/monthly_sales_summary.sql",
    "views/hourly_orders_trend.sql",
    "views/customer_metrics.sql",
    "views/top_customers_by_orders.sql",
    "views/customer_orders.sql",
    "views/product_performance.sql",
    "views/top_selling_products.sql",
    "views/daily_sales_by_country.sql",
    "views/five_minute_sales_by_country.sql",
    "views/month_to_date.sql",
    "views/daily_order_values.sql",
    "views/daily_product_sales.sql",
    "views/customer_cohorts.sql",
    "views/segment_movement.sql",
    "views/recent_activity.sql",
    "views/pipeline_progress.sql",
    "views/verification.sql",
    "views/view_refreshes.sql",
    "views/connector_history.sql",
    "helpers/query_events.sql",
    "views/query_performance.sql",
    "views/dashboard_usage.sql",
    "views/dashboard_viewers.sql",
    "views/data_freshness.sql",
];

/// Stands for the table that a refresh fills, in its own SELECT.
pub(super) const SELF: &str = "{{self}}";

/// How an object of a preset is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Computed {
    /// At each query.
    View,
    /// At an interval, into a table.
    Refresh,
}

/// `preset.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Preset {
    #[serde(rename = "name")]
    _name: String,
    /// Target table → columns that the views read.
    pub(super) requires: BTreeMap<String, BTreeSet<String>>,
    constants: BTreeMap<String, Value>,
    settings: BTreeMap<String, Value>,
    refresh_settings: BTreeMap<String, Value>,
    /// Objects in the order in which they are made.
    pub(super) objects: Vec<Object>,
}

/// One object of a preset.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Object {
    /// Its name.
    pub(super) name: String,
    file: String,
    #[serde(default, rename = "helper")]
    _helper: bool,
    /// How it is computed.
    pub(super) materialization: Computed,
    /// Sorting key of its table.
    #[serde(default)]
    pub(super) order_by: Vec<String>,
    /// Days for which rows stay that each refresh adds; absent: a refresh replaces all rows.
    #[serde(default)]
    pub(super) keep_days: Option<u32>,
    /// Objects of the preset that it reads.
    #[serde(default)]
    pub(super) depends_on: Vec<String>,
    /// Whether it reads `system.query_log`, which not every server keeps.
    #[serde(default)]
    pub(super) needs_query_log: bool,
}

/// What fills the placeholders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling<'a> {
    /// Target database.
    pub(super) database: &'a str,
    /// The pipeline.
    pub(super) name: &'a PipelineName,
    /// The spec's part about views.
    pub(super) views: &'a Views,
    /// Layouts of the state tables.
    pub(super) layouts: &'a [&'a TableLayout],
}

/// The preset of a shop, read once: every look asks for it, some for each table.
pub(super) fn ecommerce() -> &'static Preset {
    static READ: LazyLock<Preset> = LazyLock::new(|| {
        serde_yaml_ng::from_str(ECOMMERCE).expect("the embedded preset is checked by a test")
    });
    &READ
}

impl Preset {
    /// The SELECT of an object, its placeholders still in it.
    pub(super) fn template(object: &Object) -> &'static str {
        FILES.iter().find(|(file, _)| *file == object.file).map_or("", |(_, text)| text)
    }

    /// The SELECT of an object, its placeholders filled.
    pub(super) fn select(&self, object: &Object, filling: &Filling<'_>) -> String {
        let mut text = String::new();
        let mut rest = Self::template(object);
        while let Some((before, after)) = rest.split_once("{{") {
            text.push_str(before);
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            text.push_str(&self.value(name.trim(), object.materialization, filling));
            rest = after;
        }
        text.push_str(rest);
        text.trim_end().to_owned()
    }

    fn value(&self, name: &str, computed: Computed, filling: &Filling<'_>) -> String {
        let statuses =
            |all: &[String]| all.iter().map(|status| literal(status)).collect::<Vec<_>>().join(", ");
        let ecommerce = &filling.views.ecommerce;
        match name {
            "database" => ident(filling.database),
            "database_name" => literal(filling.database),
            "pipeline" => literal(&filling.name.to_string()),
            "timezone" => literal(&filling.views.time_zone),
            "cancelled_statuses" => statuses(&ecommerce.cancelled_statuses),
            "refunded_statuses" => statuses(&ecommerce.refunded_statuses),
            "as_of" => "now64(6, 'UTC')".to_owned(),
            "table_rows" => table_rows(filling),
            "viewer" => match ecommerce.viewer_logins {
                ViewerLogins::Hashed => "lower(hex(sipHash64(login)))".to_owned(),
                // Another type, so that another table is filled: the one must not be read for the other.
                ViewerLogins::Shown => "toLowCardinality(login)".to_owned(),
            },
            // Its name has a hash of columns that are not known yet.
            "self" => SELF.to_owned(),
            "settings" => self.settings(computed),
            constant => self.constants.get(constant).map(scalar).unwrap_or_default(),
        }
    }

    fn settings(&self, computed: Computed) -> String {
        let refreshed = (computed == Computed::Refresh).then_some(&self.refresh_settings);
        let all = self.settings.iter().chain(refreshed.into_iter().flatten());
        let mut text = String::new();
        for (name, value) in all {
            let separator = if text.is_empty() { "" } else { ", " };
            // A String takes every write.
            let _ = write!(text, "{separator}{name} = {}", scalar(value));
        }
        text
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), literal)
}

fn table_rows(filling: &Filling<'_>) -> String {
    let count = |layout: &&TableLayout| {
        let current = qualified(filling.database, &format!("{}_current", layout.target));
        format!("SELECT {} AS table, count() AS rows FROM {current}", literal(&layout.target))
    };
    filling.layouts.iter().map(count).collect::<Vec<_>>().join(" UNION ALL ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_preset_is_whole() {
        let preset = ecommerce();
        let known = [
            "database",
            "database_name",
            "pipeline",
            "timezone",
            "cancelled_statuses",
            "refunded_statuses",
            "as_of",
            "table_rows",
            "settings",
            "viewer",
            "self",
        ];
        assert_eq!(preset.objects.len(), FILES.len());
        for object in &preset.objects {
            let text = Preset::template(object);
            assert!(!text.is_empty(), "{} has no file", object.name);
            for part in text.split("{{").skip(1) {
                let name = part.split_once("}}").unwrap().0;
                assert!(
                    known.contains(&name) || preset.constants.contains_key(name),
                    "{}: {name}",
                    object.name
                );
            }
            for dependency in &object.depends_on {
                assert!(preset.objects.iter().any(|other| other.name == *dependency), "{dependency}");
            }
        }
    }
}
