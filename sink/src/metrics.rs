//! Metrics of the sink: names and labels in one place. Pure, but for reading its own process's figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::cleanup::CleanupMetrics;
use crate::read::ReadMetrics;
use crate::verify::VerifyMetrics;

/// Label of a state table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabel {
    /// State table.
    pub table: String,
}

/// Label of a state table and a cause.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    /// State table.
    pub table: String,
    /// Why, or of which class.
    pub cause: &'static str,
}

/// Label of a column of a state table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ColumnLabel {
    /// State table.
    pub table: String,
    /// Column as readers see it.
    pub column: String,
}

/// Upper bounds of the freshness histogram, in milliseconds.
const BOUNDS: [u32; 15] =
    [25, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 60_000, 600_000];

/// A histogram of durations that takes many values cheaply.
#[derive(Debug, Clone, Default)]
pub struct DurationHistogram {
    counts: Arc<[AtomicU64; BOUNDS.len() + 1]>,
    sum_ms: Arc<AtomicU64>,
}

impl DurationHistogram {
    /// Counts one duration in milliseconds; a clock that runs behind makes it zero.
    pub fn observe_ms(&self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        let place = BOUNDS.partition_point(|bound| u64::from(*bound) < ms);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Number of durations counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a sum of milliseconds is exact far beyond the life of a process"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl TypedMetric for DurationHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|bound| f64::from(*bound) / 1000.0).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = seconds(self.sum_ms.load(Ordering::Relaxed));
        encoder.encode_histogram::<TableLabel>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// All metrics of the sink; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Records read from Kafka, of all kinds.
    pub events: Family<TableLabel, Counter>,
    /// Rows that ClickHouse acknowledged.
    pub rows: Family<TableLabel, Counter>,
    /// Bytes of rows that ClickHouse acknowledged, before compression.
    pub bytes: Family<TableLabel, Counter>,
    /// Batches sent, by what made them go.
    pub batches: Family<CauseLabel, Counter>,
    /// Attempts that failed and were repeated, by error class.
    pub retries: Family<CauseLabel, Counter>,
    /// Records that went to the dead letters.
    pub dead_letters: Family<TableLabel, Counter>,
    /// Records in Kafka that are not applied yet.
    pub lag: Family<TableLabel, Gauge>,
    /// Bytes of rows in memory.
    pub queued_bytes: Family<TableLabel, Gauge>,
    /// 1 while a table is held for a newer layout.
    pub held: Family<TableLabel, Gauge>,
    /// 1 while a table is stopped because too many of its records die.
    pub stopped: Family<TableLabel, Gauge>,
    /// 1 while a table has to be read again.
    pub doubt: Family<TableLabel, Gauge>,
    /// Values that are in the table as another one, since the type cannot hold them.
    pub changed_values: Family<ColumnLabel, Counter>,
    /// Commits of offsets that failed.
    pub commit_failures: Counter,
    /// Time from commit at the source to ClickHouse's acknowledgement.
    pub freshness: Family<TableLabel, DurationHistogram>,
    /// Time of one insert, from request to acknowledgement.
    pub insert_time: DurationHistogram,
    /// What is read at the source.
    pub reads: ReadMetrics,
    /// What is compared with the source.
    pub verify: VerifyMetrics,
    /// Rows that nobody sees.
    pub cleanup: CleanupMetrics,
}

impl Metrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("tidemark_sink");
        r.register("events", "Records read from Kafka", self.events.clone());
        r.register("rows", "Rows acknowledged by ClickHouse", self.rows.clone());
        r.register("row_bytes", "Bytes of acknowledged rows before compression", self.bytes.clone());
        r.register("batches", "Batches sent by cause", self.batches.clone());
        r.register("retries", "Repeated attempts by error class", self.retries.clone());
        r.register("dead_letters", "Records written to the dead-letter topic", self.dead_letters.clone());
        r.register("lag", "Records in Kafka that are not applied yet", self.lag.clone());
        r.register("queued_bytes", "Bytes of rows in memory", self.queued_bytes.clone());
        r.register("table_held", "1 while a table waits for a newer layout", self.held.clone());
        r.register("table_stopped", "1 while a table is stopped by dead letters", self.stopped.clone());
        r.register("table_in_doubt", "1 while a table has to be read again", self.doubt.clone());
        r.register(
            "changed_values",
            "Values stored as NULL or as the nearest one that the type can hold",
            self.changed_values.clone(),
        );
        r.register("commit_failures", "Failed commits of offsets", self.commit_failures.clone());
        r.register_with_unit(
            "freshness",
            "Commit at the source to acknowledgement by ClickHouse",
            Unit::Seconds,
            self.freshness.clone(),
        );
        r.register_with_unit("insert", "Duration of an insert", Unit::Seconds, self.insert_time.clone());
        self.reads.register(r);
        self.verify.register(r);
        self.cleanup.register(r);
        registry.register_collector(Box::new(ProcessCollector));
    }
}

/// CPU time and memory of this process, read from procfs when asked for.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(cpu) = cpu_seconds() {
            let counter = ConstCounter::new(cpu);
            let name = "process_cpu";
            let metric = encoder.encode_descriptor(
                name,
                "CPU time of the process",
                Some(&Unit::Seconds),
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        for (name, help, field) in [
            ("process_resident_memory", "Resident memory of the process", "VmRSS:"),
            ("process_peak_resident_memory", "Greatest resident memory of the process", "VmHWM:"),
        ] {
            if let Some(bytes) = memory_bytes(field) {
                let gauge = ConstGauge::new(bytes);
                let metric =
                    encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; user and system time are fields 14 and 15 of the line.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // Linux counts in hundredths of a second towards programs, whatever the kernel's own rate.
    Some(ticks / 100.0)
}

fn memory_bytes(field: &str) -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<i64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_metric_and_the_histogram_counts_cumulatively() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let table = TableLabel { table: "orders".into() };
        for ms in [10, 60, 60, -5, 10_000_000] {
            metrics.freshness.get_or_create(&table).observe_ms(ms);
        }
        metrics.events.get_or_create(&table).inc();
        metrics.reads.rows.get_or_create(&table).inc_by(3);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            "tidemark_sink_freshness_seconds_bucket{le=\"0.025\",table=\"orders\"} 2",
            "tidemark_sink_freshness_seconds_bucket{le=\"0.075\",table=\"orders\"} 4",
            "tidemark_sink_freshness_seconds_bucket{le=\"+Inf\",table=\"orders\"} 5",
            "tidemark_sink_freshness_seconds_count{table=\"orders\"} 5",
            "tidemark_sink_events_total{table=\"orders\"} 1",
            "tidemark_sink_read_rows_total{table=\"orders\"} 3",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
