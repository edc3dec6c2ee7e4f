//! A small pipeline and its facts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_operator::core::credentials::{Holder, References, Resolved, resolve};
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::desired::sink_config::Paths;
use tidemark_operator::core::facts::{
    ClickHouseFacts, ConnectFacts, ConnectorFacts, Failure, FailureClass, IndexFacts, KafkaFacts,
    KubernetesFacts, LedgerFacts, Observation, Observed, PostgresFacts, PublicationFacts, SlotFacts,
    SourceColumn, SourceTableFacts, TaskFacts,
};
use tidemark_operator::core::rollout::Rollout;

/// Everything that a subject borrows.
pub(crate) struct Fixture {
    pub(crate) name: PipelineName,
    pub(crate) mark: String,
    pub(crate) spec: AnalyticsPipelineSpec,
    pub(crate) resolved: Resolved,
    pub(crate) paths: Paths,
    pub(crate) requests: BTreeMap<String, String>,
    pub(crate) identities: BTreeMap<String, String>,
    pub(crate) accepted: Option<String>,
    pub(crate) known_epoch: u16,
    pub(crate) deleting: bool,
}

pub(crate) fn fixture() -> Fixture {
    let spec: AnalyticsPipelineSpec = serde_json::from_value(json!({
        "source": {
            "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
            "connect": {"url": "http://connect:8083"},
        },
        "kafka": {
            "bootstrapServers": "kafka:9093", "topicPrefix": "shop",
            "tls": {"ca": {"secretKeyRef": {"name": "kafka-ca", "key": "ca.crt"}}},
            "sasl": {"mechanism": "ScramSha512", "credentials": {"username": "shop", "secretName": "kafka-user"}},
        },
        "tables": [{"name": "public.orders"}],
        "clickhouse": {"url": "http://ch:8123", "database": "shop", "credentials": {"secretName": "ch"}},
        "sink": {"replicas": 2, "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}}},
    }))
    .unwrap();
    let name = PipelineName::new("shop", "shop");
    let mut references = References::default();
    for secret in ["pg", "ch", "kafka-user"] {
        let data =
            [("username", "tidemark"), ("password", "hunter2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        references.insert(Holder::Secret, secret, data.into());
    }
    references.insert(Holder::Secret, "kafka-ca", [("ca.crt".to_owned(), "PEM".to_owned())].into());
    Fixture {
        mark: name.mark("uid"),
        resolved: resolve(&spec, &references),
        name,
        spec,
        paths: Paths::in_container(),
        requests: BTreeMap::new(),
        identities: BTreeMap::new(),
        accepted: None,
        known_epoch: 0,
        deleting: false,
    }
}

impl Fixture {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.name,
            uid: Some("1234"),
            mark: &self.mark,
            image: "tidemark-sink:test",
            spec: &self.spec,
            resolved: &self.resolved,
            paths: &self.paths,
            requests: &self.requests,
            new_incarnation: "0badcafe",
            known_epoch: self.known_epoch,
            cluster: "uid",
            identities: &self.identities,
            accepted: self.accepted.as_deref(),
            claimed: None,
            deleting: self.deleting,
            generation: 1,
            restart_due: false,
        }
    }

    /// Systems that answer and hold what a running pipeline leaves in each.
    pub(crate) fn running(&self) -> Observed {
        let sink = self.name.sink();
        let connector = ConnectorFacts {
            state: "RUNNING".into(),
            config: [("tidemark.mark".to_owned(), self.mark.clone())].into(),
            tasks: vec![TaskFacts { id: 0, state: "RUNNING".into(), ..TaskFacts::default() }],
            ..ConnectorFacts::default()
        };
        Observed {
            seen: BTreeMap::new(),
            grafana: Observation::NotAsked,
            former_grafana: Observation::NotAsked,
            reader: Observation::NotAsked,
            postgres: Observation::Known(PostgresFacts {
                slot: Some(SlotFacts {
                    active: true,
                    plugin: "pgoutput".into(),
                    database: "shop".into(),
                    ..SlotFacts::default()
                }),
                publication: Some(PublicationFacts { ours: true, ..PublicationFacts::default() }),
                database: "shop".into(),
                ..PostgresFacts::default()
            }),
            kafka: Observation::Known(KafkaFacts {
                groups: [(self.name.consumer_group("0badcafe"), 2)].into(),
                ..KafkaFacts::default()
            }),
            connect: Observation::Known(ConnectFacts {
                connector: Some(connector),
                plugin_installed: true,
                kafka_cluster_id: String::new(),
            }),
            clickhouse: Observation::Known(ClickHouseFacts {
                database_exists: true,
                ledger: LedgerFacts { incarnation: Some("0badcafe".into()), ..LedgerFacts::default() },
                ..ClickHouseFacts::default()
            }),
            kubernetes: Observation::Known(KubernetesFacts {
                objects: [
                    (format!("Deployment/{sink}"), object(&sink)),
                    (format!("ConfigMap/{sink}"), object(&sink)),
                ]
                .into(),
                rollout: Rollout { replicas: 2, available: 2, updated: 2, failure: None },
                ..KubernetesFacts::default()
            }),
        }
    }
}

/// An object of the pipeline as the API server shows it.
fn object(name: &str) -> Value {
    json!({"metadata": {
        "name": name,
        "uid": "5678",
        "labels": {"app.kubernetes.io/managed-by": "tidemark", "app.kubernetes.io/instance": "shop"},
        "ownerReferences": [{"kind": "AnalyticsPipeline", "name": "shop", "uid": "1234", "controller": true}],
    }})
}

pub(crate) fn unreachable<T>() -> Observation<T> {
    Observation::Unreachable(Failure {
        class: FailureClass::Unreachable,
        message: "connection refused".into(),
    })
}

/// A table of the source whose key is its column `id`.
pub(crate) fn source_table(oid: u32, columns: Vec<SourceColumn>) -> SourceTableFacts {
    let key = IndexFacts {
        name: "pkey".into(),
        columns: vec!["id".into()],
        primary: true,
        immediate: true,
        valid: true,
        not_null: true,
        ..IndexFacts::default()
    };
    SourceTableFacts {
        oid,
        kind: 'r',
        persistence: 'p',
        replica_identity: 'd',
        access_method: "heap".into(),
        indexes: vec![key],
        columns,
        may_select: true,
        owned: true,
        owner: "shop".into(),
        ..SourceTableFacts::default()
    }
}

/// A column of a base type.
pub(crate) fn source_column(name: &str, attnum: i16, type_name: &str, nullable: bool) -> SourceColumn {
    SourceColumn {
        name: name.into(),
        attnum,
        type_name: type_name.into(),
        type_kind: 'b',
        nullable,
        deterministic: true,
        ..SourceColumn::default()
    }
}
