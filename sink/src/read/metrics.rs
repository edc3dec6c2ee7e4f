//! Metrics of reads. Pure.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{CauseLabel, TableLabel};

/// Counts what is read at the source; clones share the figures.
#[derive(Debug, Clone, Default)]
pub struct ReadMetrics {
    /// Rows read, those of ranges that were read twice counted twice.
    pub rows: Family<TableLabel, Counter>,
    /// Bytes of their text.
    pub bytes: Family<TableLabel, Counter>,
    /// Time from a read's beginning to its end, or its failure.
    pub time: Family<TableLabel, Counter<f64, AtomicU64>>,
    /// Reads that ended.
    pub finished: Family<TableLabel, Counter>,
    /// Reads that failed, by class of the error.
    pub failed: Family<CauseLabel, Counter>,
    /// 1 while the table is read.
    pub running: Family<TableLabel, Gauge>,
    /// Rows asked for by their key.
    pub keys: Family<TableLabel, Counter>,
}

impl ReadMetrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("read");
        r.register("rows", "Rows read at the source", self.rows.clone());
        r.register("bytes", "Bytes of text read at the source", self.bytes.clone());
        r.register_with_unit("time", "Time that reads took", Unit::Seconds, self.time.clone());
        r.register("finished", "Reads of tables that ended", self.finished.clone());
        r.register("failed", "Reads of tables that failed, by error class", self.failed.clone());
        r.register("running", "1 while a table is read", self.running.clone());
        r.register("keys", "Rows asked for by their key", self.keys.clone());
    }
}
