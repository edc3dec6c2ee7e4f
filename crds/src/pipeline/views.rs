//! `spec.views`: the preset and the user's own views. Pure.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyReference, bounds};

/// Views over the state tables.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Views {
    /// Views that come with Tidemark.
    #[serde(default)]
    pub preset: Preset,
    /// How the preset reads the shop.
    #[serde(default)]
    pub ecommerce: Ecommerce,
    /// How often refreshed views are computed, a duration such as `30s`.
    #[serde(default = "refresh_interval")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("views.refreshInterval must be between 1s and 24h"))]
    pub refresh_interval: String,
    /// Time zone of days and months, an IANA name.
    #[serde(default = "time_zone")]
    #[schemars(schema_with = "bounds::time_zone")]
    pub time_zone: String,
    /// Views of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 64))]
    pub extra: Vec<ExtraView>,
}

fn refresh_interval() -> String {
    "30s".into()
}

fn time_zone() -> String {
    "UTC".into()
}

impl Default for Views {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            ecommerce: Ecommerce::default(),
            refresh_interval: refresh_interval(),
            time_zone: time_zone(),
            extra: Vec::new(),
        }
    }
}

/// Views that come with Tidemark.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum Preset {
    /// No views but the user's.
    #[default]
    None,
    /// Nine views of a shop with customers, products, orders and order_items.
    Ecommerce,
}

impl Preset {
    /// Targets of the tables that the preset reads.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Ecommerce => &["customers", "products", "orders", "order_items"],
        }
    }
}

/// How the Ecommerce preset reads the shop.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ecommerce {
    /// Order statuses that mean cancelled.
    #[serde(default = "cancelled_statuses")]
    #[schemars(schema_with = "bounds::statuses")]
    pub cancelled_statuses: Vec<String>,
    /// Order statuses that mean refunded.
    #[serde(default = "refunded_statuses")]
    #[schemars(schema_with = "bounds::statuses")]
    pub refunded_statuses: Vec<String>,
    /// Currency of all amounts, an ISO 4217 code; dashboards show it. One pipeline is one currency.
    #[serde(default = "currency")]
    #[schemars(schema_with = "bounds::currency")]
    pub currency: String,
    /// How those who look at dashboards are told apart in `dashboard_viewers`.
    #[serde(default)]
    pub viewer_logins: ViewerLogins,
}

/// How those who look at dashboards are told apart.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum ViewerLogins {
    /// By a hash of their login.
    #[default]
    Hashed,
    /// By their login. A change of this drops what was kept in the other way.
    Shown,
}

fn cancelled_statuses() -> Vec<String> {
    vec!["cancelled".into()]
}

fn refunded_statuses() -> Vec<String> {
    vec!["refunded".into()]
}

fn currency() -> String {
    "EUR".into()
}

impl Default for Ecommerce {
    fn default() -> Self {
        Self {
            cancelled_statuses: cancelled_statuses(),
            refunded_statuses: refunded_statuses(),
            currency: currency(),
            viewer_logins: ViewerLogins::default(),
        }
    }
}

/// A view of the user: one SELECT.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraView {
    /// Name of the view.
    #[schemars(schema_with = "bounds::object_in_clickhouse")]
    pub name: String,
    /// Its SELECT.
    pub sql: SqlSource,
    /// How it is computed.
    #[serde(default)]
    pub materialization: Materialization,
}

/// SQL text: exactly one of the two.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.inline) != has(self.configMapKeyRef)")
        .message("exactly one of inline and configMapKeyRef must be set"),
)]
#[serde(rename_all = "camelCase")]
pub struct SqlSource {
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sql")]
    pub inline: Option<String>,
    /// From a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// How a view is computed.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.type == 'Refresh' || !has(self.every)")
        .message("materialization.every is for type Refresh"),
)]
#[serde(rename_all = "camelCase")]
pub struct Materialization {
    /// View: at each query. Refresh: at an interval, into a table.
    #[serde(default)]
    pub r#type: MaterializationType,
    /// Interval of a refresh, a duration such as `1m`; absent: `views.refreshInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("materialization.every must be between 1s and 24h"))]
    pub every: Option<String>,
}

/// How a view is computed.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub enum MaterializationType {
    /// At each query.
    #[default]
    View,
    /// At an interval, into a table.
    Refresh,
}
