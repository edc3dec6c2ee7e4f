//! The systems that gave no answer, each with why and what to do next. Pure.
//!
//! What is not seen is not judged: a plan without it is none, and nothing is wrong or right with it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, GrafanaMode};

use crate::core::credentials::{Lack, Missing, Resolved};
use crate::core::facts::{Failure, FailureClass, Observation, Observed};

/// A system that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// `postgres`, `kafka`, `connect`, `clickhouse`, `viewer`, `kubernetes`, `grafana`, `former-grafana` or
    /// `reader`.
    pub system: Cow<'static, str>,
    /// Its address.
    pub address: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: String,
    /// Whether it says nothing about whoever runs the pipeline, whose address, network and rights are other ones.
    #[serde(skip)]
    pub only_from_here: bool,
}

impl Blind {
    /// One whose call failed.
    pub fn failed(system: &'static str, address: impl Into<String>, failure: &Failure) -> Self {
        let next = match (system, failure.class) {
            ("kubernetes", FailureClass::Permission) => {
                "grant your account the right, or take a context with one that has it (--context)".to_owned()
            }
            ("kubernetes", _) => "check KUBECONFIG and --context, and that the API server is up".to_owned(),
            ("reader" | "former-grafana", class) => class.advice().to_owned(),
            (system, FailureClass::Unreachable) => format!(
                "check its address in the spec and that it is up; where it has another address from here, give it with \
                 --endpoint {system}=ADDRESS"
            ),
            (_, class) => class.advice().to_owned(),
        };
        let only_from_here = failure.class == FailureClass::Unreachable || system == "kubernetes";
        Self {
            system: system.into(),
            address: address.into(),
            why: failure.message.clone(),
            next,
            only_from_here,
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let Self { system, address, why, next, .. } = self;
        format!("{system} {address}: {why}: {next}")
    }
}

/// What could not be seen of all that the spec needs.
pub fn blind(spec: &AnalyticsPipelineSpec, observed: &Observed, resolved: &Resolved) -> Vec<Blind> {
    let missing = |system, address: &str, missing: &Missing| {
        let unread = matches!(missing.why, Lack::Answer(_));
        let (why, next) = match &missing.why {
            Lack::Answer(failure) => (
                format!("its Secrets cannot be read: {}", failure.message),
                "put the Secrets into the file, or grant your account the right to get them".to_owned(),
            ),
            Lack::Object | Lack::Key => {
                (missing.to_string(), "create the Secret, or put it into the file".to_owned())
            }
        };
        Blind {
            system: Cow::Borrowed(system),
            address: address.to_owned(),
            why,
            next,
            only_from_here: unread,
        }
    };
    let source = &spec.source.postgres;
    let grafana = spec.grafana.as_ref().filter(|grafana| grafana.mode == GrafanaMode::Api);
    let grafana = grafana.and_then(|grafana| grafana.url.clone()).unwrap_or_default();
    let postgres = format!("{}:{}", source.host, source.port);
    let looks = [
        ("postgres", postgres.as_str(), failed(&observed.postgres), resolved.postgres.as_ref().err()),
        ("kafka", &spec.kafka.bootstrap_servers, failed(&observed.kafka), resolved.kafka.as_ref().err()),
        ("connect", &spec.source.connect.url, failed(&observed.connect), resolved.connect.as_ref().err()),
        (
            "clickhouse",
            &spec.clickhouse.url,
            failed(&observed.clickhouse),
            resolved.clickhouse.as_ref().err(),
        ),
        ("viewer", &spec.clickhouse.url, None, resolved.viewer.as_ref().err()),
        ("kubernetes", "the sink's objects", failed(&observed.kubernetes), None),
        ("grafana", &grafana, failed(&observed.grafana), resolved.grafana.as_ref().err()),
        ("former-grafana", "that the spec named before", failed(&observed.former_grafana), None),
        ("reader", &spec.clickhouse.url, failed(&observed.reader), resolved.reader.as_ref().err()),
    ];
    looks
        .into_iter()
        .filter_map(|(system, address, failure, absent)| match (failure, absent) {
            (_, Some(absent)) => Some(missing(system, address, absent)),
            (Some(failure), None) => Some(Blind::failed(system, address, failure)),
            (None, None) => None,
        })
        .collect()
}

fn failed<T>(observation: &Observation<T>) -> Option<&Failure> {
    match observation {
        Observation::Unreachable(failure) => Some(failure),
        Observation::Known(_) | Observation::Absent | Observation::NotAsked => None,
    }
}
