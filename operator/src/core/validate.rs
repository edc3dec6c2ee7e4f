//! What the schema cannot say about a spec as a whole. Pure; a table or view that is wrong is judged by itself.

use std::collections::BTreeMap;

use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, GrafanaMode};

/// A spec that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Field of the spec.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Judges the spec as a whole; the first thing that is wrong.
pub fn validate(spec: &AnalyticsPipelineSpec) -> Result<(), Invalid> {
    problems(spec).into_iter().next().map_or(Ok(()), Err)
}

/// Everything that is wrong with the spec as a whole.
pub fn problems(spec: &AnalyticsPipelineSpec) -> Vec<Invalid> {
    let mut all = Vec::new();
    let mut invalid = |field: &str, problem: String| all.push(Invalid { field: field.to_owned(), problem });
    let refresh = spec.grafana.as_ref().map(|grafana| &grafana.dashboards.refresh);
    let durations = [
        ("spec.kafka.topics.retention", Some(&spec.kafka.topics.retention)),
        ("spec.sink.batch.maxAge", Some(&spec.sink.batch.max_age)),
        ("spec.views.refreshInterval", Some(&spec.views.refresh_interval)),
        ("spec.freshness.rows", Some(&spec.freshness.rows)),
        ("spec.freshness.views", Some(&spec.freshness.views)),
        ("spec.deletionPolicy.timeout", Some(&spec.deletion_policy.timeout)),
        ("spec.grafana.dashboards.refresh", refresh),
    ];
    for (field, text) in durations {
        if let Some(Err(error)) = text.map(|text| duration::duration(text)) {
            invalid(field, error.to_string());
        }
    }
    if let Err(error) = duration::bytes(&spec.sink.batch.max_bytes) {
        invalid("spec.sink.batch.maxBytes", error.to_string());
    }
    if let Err(error) = duration::per_mille(&spec.sink.dead_letter.max_share) {
        invalid("spec.sink.deadLetter.maxShare", error.to_string());
    }
    let urls = [
        ("spec.clickhouse.url", Some(&spec.clickhouse.url)),
        ("spec.source.connect.url", Some(&spec.source.connect.url)),
        ("spec.grafana.url", spec.grafana.as_ref().and_then(|grafana| grafana.url.as_ref())),
    ];
    for (field, url) in urls {
        if let Some(url) = url.filter(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            invalid(field, format!("{url:?} is no address that starts with http:// or https://"));
        }
    }
    let files = ["database.sslrootcert", "database.sslfactory"];
    let postgres = &spec.source.postgres;
    if postgres.tls.ca.is_some() && !files.iter().any(|key| spec.source.connect.config.contains_key(*key)) {
        let problem = "it reaches the operator and the sink alone: give the connector the same authority as a file of its \
                       Connect workers, in spec.source.connect.config['database.sslrootcert']";
        invalid("spec.source.postgres.tls.ca", problem.to_owned());
    }
    if let Some(grafana) = &spec.grafana
        && grafana.mode == GrafanaMode::Api
        && (grafana.url.is_none() || grafana.credentials.is_none())
    {
        invalid("spec.grafana", "mode Api needs url and credentials".to_owned());
    }
    let wanted = spec.all_tables();
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    for table in &wanted {
        if let Err(error) = table.name.parse::<SourceTable>() {
            invalid("spec.tables", error.to_string());
        }
        let target = table.target_name();
        if let Some(other) = targets.insert(target, &table.name) {
            let problem =
                format!("{other} and {} both go to {target}: give one of them another target", table.name);
            invalid("spec.tables", problem);
        }
    }
    if wanted.is_empty() {
        invalid("spec.tables", "there is no table: name one, or set views.preset".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_the_connector_would_not_have_is_refused_with_what_to_do() {
        let mut spec: AnalyticsPipelineSpec = serde_json::from_value(serde_json::json!({
            "source": {
                "postgres": {
                    "host": "pg", "database": "shop", "credentials": {"secretName": "pg"},
                    "tls": {"mode": "VerifyFull", "ca": {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}},
                },
                "connect": {"url": "http://connect:8083"},
            },
            "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
            "tables": [{"name": "public.orders"}],
            "clickhouse": {"url": "http://ch:8123", "database": "shop", "credentials": {"secretName": "ch"}},
        }))
        .unwrap();
        let refused = validate(&spec).unwrap_err();
        assert_eq!(refused.field, "spec.source.postgres.tls.ca");
        assert!(refused.problem.contains("config['database.sslrootcert']"), "{refused}");
        for file in ["database.sslrootcert", "database.sslfactory"] {
            spec.source.connect.config = [(file.to_owned(), "x".to_owned())].into();
            assert_eq!(validate(&spec), Ok(()), "{file}");
        }
        spec.source.connect.config.clear();
        spec.source.postgres.tls.ca = None;
        assert_eq!(validate(&spec), Ok(()));
    }
}
