//! The operator's metrics: names, labels and counters. Nothing here decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tidemark_crds::status::TablesStatus;

use crate::core::step::Lane;
use crate::core::table_status::TroubleState;

/// Label of the system that was written to or looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SystemLabel {
    /// `clickhouse`, `postgres`, `kafka`, `connect`, `kubernetes`, `grafana`, `former-grafana` or `reader`.
    pub system: &'static str,
}

/// Label of a reconcile's result, as controller-runtime names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// Name of the controller.
    pub controller: &'static str,
    /// `changed`, `unchanged` or `error`.
    pub result: &'static str,
}

/// Label of the object that a deletion left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeftBehindLabel {
    /// What kind of object it is.
    pub system: &'static str,
}

/// Label of a watched namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NamespaceLabel {
    /// Its name; empty where all are watched.
    pub namespace: String,
}

/// Label of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PipelineLabel {
    /// Namespace and name of the pipeline.
    pub pipeline: String,
}

/// Labels of a number of tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TablesLabel {
    /// Namespace and name of the pipeline.
    pub pipeline: String,
    /// `Streaming`, or a state of `status.tables.degraded`.
    pub state: &'static str,
}

/// Labels of a condition as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabel {
    /// Namespace and name of the pipeline.
    pub pipeline: String,
    /// Its type, such as `Ready`.
    pub condition: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
}

/// The series of each pipeline's conditions.
type Told = BTreeMap<String, Vec<ConditionLabel>>;

/// All metrics of the operator.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Family<ResultLabel, Counter>,
    errors: Family<SystemLabel, Counter>,
    writes: Family<SystemLabel, Counter>,
    left_behind: Family<LeftBehindLabel, Counter>,
    seconds: Histogram,
    looks: Family<SystemLabel, Histogram>,
    tables: Family<TablesLabel, Gauge>,
    retained: Family<PipelineLabel, Gauge>,
    conditions: Family<ConditionLabel, Gauge>,
    /// What `conditions` has, since a condition that changes is another series.
    told: Arc<Mutex<Told>>,
    active: Gauge,
    leader: Gauge,
    invalid: Family<NamespaceLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            errors: Family::default(),
            writes: Family::default(),
            left_behind: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            looks: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            tables: Family::default(),
            retained: Family::default(),
            conditions: Family::default(),
            told: Arc::default(),
            active: Gauge::default(),
            leader: Gauge::default(),
            invalid: Family::default(),
        }
    }
}

const CONTROLLER: &str = "analyticspipeline";

impl Metrics {
    /// Registers everything under controller-runtime's names, where it has one.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("controller_runtime_reconcile", "Reconciles by result", self.reconciles.clone());
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a reconcile",
            self.seconds.clone(),
        );
        registry.register("tidemark_look_seconds", "Duration of a look by system", self.looks.clone());
        registry.register("controller_runtime_active_workers", "Reconciles under way", self.active.clone());
        registry.register("leader_election_master_status", "Whether this replica leads", self.leader.clone());
        registry.register("tidemark_tables", "Tables of a pipeline by state", self.tables.clone());
        registry.register(
            "tidemark_slot_retained_bytes",
            "Write-ahead log that the replication slot of a pipeline holds back at the source",
            self.retained.clone(),
        );
        registry.register(
            "tidemark_condition",
            "1 for each condition of a pipeline as it is now",
            self.conditions.clone(),
        );
        registry.register("tidemark_remote_errors", "Failed calls by system", self.errors.clone());
        registry.register("tidemark_remote_writes", "Writes by system", self.writes.clone());
        registry.register(
            "tidemark_left_behind",
            "Objects that a deletion left behind",
            self.left_behind.clone(),
        );
        registry.register(
            "tidemark_invalid_objects",
            "Resources that could not be read at all",
            self.invalid.clone(),
        );
    }

    /// Counts a write.
    pub fn wrote(&self, lane: Lane) {
        self.writes.get_or_create(&SystemLabel { system: lane.as_str() }).inc();
    }

    /// Writes to a system so far.
    pub fn writes(&self, lane: Lane) -> u64 {
        self.writes.get_or_create(&SystemLabel { system: lane.as_str() }).get()
    }

    /// Counts a failed call.
    pub fn failed(&self, lane: Lane) {
        self.errors.get_or_create(&SystemLabel { system: lane.as_str() }).inc();
    }

    /// Counts an object that a deletion left behind.
    pub fn left_behind(&self, lane: Lane) {
        self.left_behind.get_or_create(&LeftBehindLabel { system: lane.as_str() }).inc();
    }

    /// Counts a finished reconcile; `result` is `changed`, `unchanged` or `error`.
    pub fn reconciled(&self, result: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&ResultLabel { controller: CONTROLLER, result }).inc();
        self.seconds.observe(seconds);
    }

    /// Counts a finished look at a system, and how long it took.
    pub fn looked(&self, system: &'static str, seconds: f64) {
        self.looks.get_or_create(&SystemLabel { system }).observe(seconds);
    }

    /// Says what the tables of a pipeline do.
    pub fn set_tables(&self, pipeline: &str, tables: &TablesStatus) {
        let set = |state: &'static str, count: i64| {
            self.tables.get_or_create(&TablesLabel { pipeline: pipeline.to_owned(), state }).set(count);
        };
        set("Streaming", i64::from(tables.streaming));
        for state in TroubleState::ALL.map(TroubleState::as_str) {
            let of_state = tables.degraded.iter().filter(|table| table.state == state);
            set(state, i64::try_from(of_state.count()).unwrap_or(i64::MAX));
        }
    }

    /// Says how much write-ahead log a pipeline's slot holds back; nothing, where it has none or nobody knows.
    pub fn set_retained(&self, pipeline: &str, bytes: Option<u64>) {
        let label = PipelineLabel { pipeline: pipeline.to_owned() };
        match bytes {
            Some(bytes) => {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                self.retained.get_or_create(&label).set(bytes);
            }
            None => drop(self.retained.remove(&label)),
        }
    }

    /// Says how the conditions of a pipeline are.
    pub fn set_conditions(&self, pipeline: &str, conditions: &[Condition]) {
        let now: Vec<ConditionLabel> = (conditions.iter())
            .map(|condition| ConditionLabel {
                pipeline: pipeline.to_owned(),
                condition: condition.type_.clone(),
                status: condition.status.clone(),
                reason: condition.reason.clone(),
            })
            .collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for former in told.remove(pipeline).unwrap_or_default().iter().filter(|former| !now.contains(former))
        {
            self.conditions.remove(former);
        }
        for label in &now {
            self.conditions.get_or_create(label).set(1);
        }
        if !now.is_empty() {
            told.insert(pipeline.to_owned(), now);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.set_conditions(pipeline, &[]);
        self.set_retained(pipeline, None);
        for state in TroubleState::ALL.map(TroubleState::as_str).into_iter().chain(["Streaming"]) {
            self.tables.remove(&TablesLabel { pipeline: pipeline.to_owned(), state });
        }
    }

    /// Says how many reconciles are under way.
    pub fn active(&self) -> &Gauge {
        &self.active
    }

    /// Says whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Says how many resources of a watched namespace cannot be read at all.
    pub fn set_invalid(&self, namespace: &str, count: usize) {
        let label = NamespaceLabel { namespace: namespace.to_owned() };
        self.invalid.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Lane {
    /// Name of the system, as labels and log fields have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClickHouse => "clickhouse",
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Connect => "connect",
            Self::Kubernetes => "kubernetes",
            Self::Grafana => "grafana",
            Self::FormerGrafana => "former-grafana",
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn series(metrics: &Metrics) -> Vec<String> {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.starts_with("tidemark_condition{")).map(str::to_owned).collect()
    }

    #[test]
    fn a_condition_that_changes_is_one_series_and_those_of_a_pipeline_that_is_gone_are_none() {
        let metrics = Metrics::default();
        let condition = |status: &str, reason: &str| Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time("2026-01-01T00:00:00Z".parse().unwrap()),
        };
        metrics.set_conditions("shop/shop", &[condition("False", "Reading")]);
        metrics.set_conditions("shop/other", &[condition("False", "Reading")]);
        metrics.set_conditions("shop/shop", &[condition("True", "AsDesired")]);
        let line = |pipeline: &str, status: &str, reason: &str| {
            format!(
                r#"tidemark_condition{{pipeline="{pipeline}",condition="Ready",status="{status}",reason="{reason}"}} 1"#
            )
        };
        let mut now = series(&metrics);
        now.sort();
        assert_eq!(now, [line("shop/other", "False", "Reading"), line("shop/shop", "True", "AsDesired")]);
        metrics.forget("shop/shop");
        assert_eq!(series(&metrics), [line("shop/other", "False", "Reading")]);
    }
}
