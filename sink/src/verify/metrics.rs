//! Metrics of the verification. Pure.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{CauseLabel, TableLabel};

/// Counts what is compared; clones share the figures.
#[derive(Debug, Clone, Default)]
pub struct VerifyMetrics {
    /// Rows and keys compared, one that both ways of a round meet counted twice.
    pub rows: Family<TableLabel, Counter>,
    /// Rows that were examined behind a barrier.
    pub examined: Family<TableLabel, Counter>,
    /// Rows found different, by kind.
    pub differences: Family<CauseLabel, Counter>,
    /// Rows repaired.
    pub repaired: Family<TableLabel, Counter>,
    /// Time that comparing took, without the pauses.
    pub time: Family<TableLabel, Counter<f64, AtomicU64>>,
    /// Full rounds.
    pub rounds: Family<TableLabel, Counter>,
    /// Attempts that failed, by class of the error.
    pub failed: Family<CauseLabel, Counter>,
    /// Beginning of the last full round, seconds since 1970-01-01.
    pub oldest: Family<TableLabel, Gauge>,
}

impl VerifyMetrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("verify");
        r.register("rows", "Rows compared with the source", self.rows.clone());
        r.register("examined", "Rows examined behind a barrier", self.examined.clone());
        r.register("differences", "Rows found different from the source, by kind", self.differences.clone());
        r.register("repaired", "Rows repaired", self.repaired.clone());
        r.register_with_unit("time", "Time that comparing took", Unit::Seconds, self.time.clone());
        r.register("rounds", "Full rounds over a table", self.rounds.clone());
        r.register("failed", "Attempts to compare that failed, by error class", self.failed.clone());
        r.register(
            "oldest_timestamp_seconds",
            "Beginning of the last full round over a table",
            self.oldest.clone(),
        );
    }
}
