//! Dashboards as values: those that come with Tidemark, the classic model, its queries, what is wrong with it. Pure.

pub mod board;
pub mod classic;
pub mod expand;
pub mod lint;
pub mod subset;

pub use board::{Surroundings, preset};
pub use classic::{Dashboard, PanelQuery};

/// Type of the data source plugin.
pub const PLUGIN: &str = "grafana-clickhouse-datasource";
