//! Metrics of what is removed. Pure.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::{CauseLabel, TableLabel};

/// Counts what is removed; clones share the figures.
#[derive(Debug, Clone, Default)]
pub struct CleanupMetrics {
    /// Tombstones and rows below the fence, as they were counted last.
    pub hidden: Family<TableLabel, Gauge>,
    /// Rows that were removed.
    pub removed: Family<TableLabel, Counter>,
    /// Attempts that failed, by class of the error.
    pub failed: Family<CauseLabel, Counter>,
}

impl CleanupMetrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("cleanup");
        r.register("hidden_rows", "Rows that no reader sees, as counted last", self.hidden.clone());
        r.register("removed_rows", "Rows that no reader saw and that were removed", self.removed.clone());
        r.register("failed", "Attempts to remove rows that failed, by error class", self.failed.clone());
    }
}
