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

/// Judges the spec as a whole.
pub fn validate(spec: &AnalyticsPipelineSpec) -> Result<(), Invalid> {
    let invalid = |field: &str, problem: String| Err(Invalid { field: field.to_owned(), problem });
    let durations = [
        ("spec.kafka.topics.retention", &spec.kafka.topics.retention),
        ("spec.sink.batch.maxAge", &spec.sink.batch.max_age),
        ("spec.views.refreshInterval", &spec.views.refresh_interval),
        ("spec.freshness.rows", &spec.freshness.rows),
        ("spec.freshness.views", &spec.freshness.views),
        ("spec.deletionPolicy.timeout", &spec.deletion_policy.timeout),
    ];
    for (field, text) in durations {
        if let Err(error) = duration::duration(text) {
            return invalid(field, error.to_string());
        }
    }
    if let Err(error) = duration::bytes(&spec.sink.batch.max_bytes) {
        return invalid("spec.sink.batch.maxBytes", error.to_string());
    }
    if let Err(error) = duration::per_mille(&spec.sink.dead_letter.max_share) {
        return invalid("spec.sink.deadLetter.maxShare", error.to_string());
    }
    for (field, url) in
        [("spec.clickhouse.url", &spec.clickhouse.url), ("spec.source.connect.url", &spec.source.connect.url)]
    {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return invalid(field, format!("{url:?} is no address that starts with http:// or https://"));
        }
    }
    let files = ["database.sslrootcert", "database.sslfactory"];
    let postgres = &spec.source.postgres;
    if postgres.tls.ca.is_some() && !files.iter().any(|key| spec.source.connect.config.contains_key(*key)) {
        let problem = "it reaches the operator and the sink alone: give the connector the same authority as a file of its \
                       Connect workers, in spec.source.connect.config['database.sslrootcert']";
        return invalid("spec.source.postgres.tls.ca", problem.to_owned());
    }
    if let Some(grafana) = &spec.grafana {
        if let Err(error) = duration::duration(&grafana.dashboards.refresh) {
            return invalid("spec.grafana.dashboards.refresh", error.to_string());
        }
        let called = grafana.mode == GrafanaMode::Api;
        if called && (grafana.url.is_none() || grafana.credentials.is_none()) {
            return invalid("spec.grafana", "mode Api needs url and credentials".to_owned());
        }
        if let Some(url) = &grafana.url
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            let problem = format!("{url:?} is no address that starts with http:// or https://");
            return invalid("spec.grafana.url", problem);
        }
    }
    let wanted = spec.all_tables();
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    for table in &wanted {
        if let Err(error) = table.name.parse::<SourceTable>() {
            return invalid("spec.tables", error.to_string());
        }
        let target = table.target_name();
        if let Some(other) = targets.insert(target, &table.name) {
            let problem =
                format!("{other} and {} both go to {target}: give one of them another target", table.name);
            return invalid("spec.tables", problem);
        }
    }
    if wanted.is_empty() {
        return invalid("spec.tables", "there is no table: name one, or set views.preset".to_owned());
    }
    Ok(())
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
