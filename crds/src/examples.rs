//! The shipped examples, built from the types so that they cannot go out of date. Pure.
//!
//! `minimal` is the least that works, `shop` is what the README and the demo apply, `full` shows every field with
//! its description.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;

use crate::commented_yaml::{Style, print_fields};
use crate::layout::OutOfRange;
use crate::manifest::definition;
use crate::pipeline as spec;
use crate::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};

/// One file of examples.
#[derive(Debug, Clone)]
pub struct Example {
    /// File name.
    pub file: &'static str,
    /// Content.
    pub text: String,
}

/// All examples.
pub fn all() -> Vec<Example> {
    vec![
        Example {
            file: "minimal.yaml",
            text: [
                "# The least that a pipeline needs: where the shop is, what travels between, where it goes.\n",
                &document(&minimal(), Style::WithoutDefaults),
            ]
            .concat(),
        },
        Example {
            file: "shop.yaml",
            text: [
                "# A shop with customers, products, orders and order_items, and the nine views of the preset.\n",
                "# The accounts are those of the demo: take your own elsewhere, and keep Secrets out of Git.\n",
                &secret("shop-postgres"),
                "---\n",
                &secret("shop-clickhouse"),
                "---\n",
                &document(&shop(), Style::WithoutDefaults),
            ]
            .concat(),
        },
        Example {
            file: "full.yaml",
            text: [
                "# Every field, with what it means. Nobody needs all of them: start from shop.yaml.\n",
                &document(&full(), Style::Described),
            ]
            .concat(),
        },
    ]
}

fn secret(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: shop\ntype: Opaque\n\
         stringData:\n  username: tidemark\n  password: tidemark-pw\n"
    )
}

fn credentials(secret_name: &str) -> spec::Credentials {
    spec::Credentials {
        secret_name: secret_name.into(),
        username_key: "username".into(),
        password_key: "password".into(),
    }
}

fn pipeline(name: &str, spec: AnalyticsPipelineSpec) -> AnalyticsPipeline {
    let metadata =
        ObjectMeta { name: Some(name.into()), namespace: Some("shop".into()), ..ObjectMeta::default() };
    AnalyticsPipeline { metadata, spec, status: None }
}

fn minimal() -> AnalyticsPipeline {
    pipeline(
        "minimal",
        AnalyticsPipelineSpec {
            source: spec::Source {
                postgres: spec::Postgres {
                    host: "shop-postgres.shop.svc".into(),
                    port: 5432,
                    database: "shop".into(),
                    credentials: credentials("shop-postgres"),
                    tls: spec::PostgresTls::default(),
                    reads: spec::Reads::default(),
                },
                connect: spec::Connect {
                    url: "http://shop-connect.shop.svc:8083".into(),
                    credentials: None,
                    tls: None,
                    state: spec::ConnectorState::Running,
                    database_credentials: spec::DatabaseCredentials::default(),
                    config: BTreeMap::new(),
                },
                on_slot_lost: spec::OnSlotLost::Stop,
            },
            kafka: spec::Kafka {
                bootstrap_servers: "shop-kafka.shop.svc:9092".into(),
                topic_prefix: "minimal".into(),
                topics: spec::Topics::default(),
                max_message_bytes: "64Mi".into(),
                tls: None,
                sasl: None,
                consumer_properties: BTreeMap::new(),
            },
            tables: vec![spec::Table::new("public.orders")],
            clickhouse: spec::ClickHouse {
                url: "http://shop-clickhouse.shop.svc:8123".into(),
                database: "ecommerce_analytics".into(),
                credentials: credentials("shop-clickhouse"),
                viewer: None,
                tls: None,
                cleanup: spec::Cleanup::default(),
            },
            sink: spec::Sink::default(),
            views: spec::Views::default(),
            grafana: None,
            freshness: spec::Freshness::default(),
            verification: spec::Verification::default(),
            deletion_policy: spec::DeletionPolicy::default(),
            suspend: false,
        },
    )
}

fn shop() -> AnalyticsPipeline {
    let mut shop = minimal();
    shop.metadata.name = Some("shop".into());
    shop.spec.kafka.topic_prefix = "shop".into();
    shop.spec.tables = spec::Preset::Ecommerce
        .tables()
        .iter()
        .map(|name| spec::Table::new(format!("public.{name}")))
        .collect();
    shop.spec.sink.resources = Some(resources([("cpu", "250m"), ("memory", "128Mi")], [("memory", "256Mi")]));
    shop.spec.views.preset = spec::Preset::Ecommerce;
    shop
}

fn full() -> AnalyticsPipeline {
    let mut full = shop();
    full.metadata.name = Some("full".into());
    let spec = &mut full.spec;
    spec.source.postgres.tls =
        spec::PostgresTls { mode: spec::TlsMode::VerifyFull, ca: Some(from_secret("postgres-ca", "ca.crt")) };
    spec.source.connect = spec::Connect {
        url: "https://shop-connect.shop.svc:8083".into(),
        credentials: Some(credentials("shop-connect")),
        tls: Some(spec::ConnectTls {
            mode: spec::CertificateCheck::VerifyFull,
            ca: Some(from_secret("connect-ca", "ca.crt")),
        }),
        state: spec::ConnectorState::Running,
        database_credentials: spec::DatabaseCredentials {
            r#type: spec::DatabaseCredentialsType::ConfigProvider,
            username: Some("${secrets:shop/shop-postgres:username}".into()),
            password: Some("${secrets:shop/shop-postgres:password}".into()),
        },
        config: strings([("database.sslrootcert", "/mnt/postgres-ca/ca.crt")]),
    };
    spec.kafka = full_kafka();
    spec.tables = vec![full_table()];
    spec.clickhouse.url = "https://shop-clickhouse.shop.svc:8443".into();
    let ca = spec::KeyReference { name: "clickhouse-ca".into(), key: "ca.crt".into() };
    spec.clickhouse.viewer = Some(credentials("shop-clickhouse-viewer"));
    spec.clickhouse.tls = Some(spec::ClickHouseTls {
        ca: Some(spec::CertificateAuthority { secret_key_ref: None, config_map_key_ref: Some(ca) }),
    });
    spec.sink.replicas = 2;
    spec.sink.dead_letter.topic = Some("full.dead-letter".into());
    spec.sink.pod = Some(full_pod());
    spec.views.extra = full_views();
    spec.grafana = Some(full_grafana());
    full
}

fn full_kafka() -> spec::Kafka {
    spec::Kafka {
        bootstrap_servers: "shop-kafka-0.shop.svc:9093,shop-kafka-1.shop.svc:9093".into(),
        topic_prefix: "full".into(),
        topics: spec::Topics::default(),
        max_message_bytes: "64Mi".into(),
        tls: Some(spec::KafkaTls {
            ca: Some(from_secret("shop-cluster-ca-cert", "ca.crt")),
            client_certificate: Some(spec::ClientCertificate {
                secret_name: "shop-kafka-client".into(),
                certificate_key: "tls.crt".into(),
                private_key_key: "tls.key".into(),
            }),
        }),
        sasl: Some(spec::KafkaSasl {
            mechanism: spec::SaslMechanism::ScramSha512,
            credentials: spec::SaslCredentials {
                username: Some("shop".into()),
                secret_name: "shop-kafka-user".into(),
                username_key: "username".into(),
                password_key: "password".into(),
            },
        }),
        consumer_properties: strings([("fetch.min.bytes", "1")]),
    }
}

fn full_table() -> spec::Table {
    let column = |name: &str| spec::Column { name: name.into(), ..spec::Column::default() };
    spec::Table {
        name: "sales.purchase".into(),
        target: Some("orders".into()),
        partition_by: Some("intDiv(id, 10000000)".into()),
        columns: vec![
            spec::Column { target: Some("total_amount".into()), ..column("total") },
            spec::Column { exclude: true, ..column("internal_memo") },
            spec::Column {
                r#type: Some("Decimal(38, 6)".into()),
                out_of_range: Some(OutOfRange::DeadLetter),
                ..column("exchange_rate")
            },
        ],
    }
}

fn full_pod() -> spec::Pod {
    spec::Pod {
        labels: strings([("team", "data")]),
        annotations: strings([("example.com/owner", "data-platform")]),
        node_selector: strings([("pool", "data")]),
        tolerations: vec![core::Toleration {
            key: Some("dedicated".into()),
            operator: Some("Equal".into()),
            value: Some("data".into()),
            effect: Some("NoSchedule".into()),
            ..core::Toleration::default()
        }],
        priority_class_name: Some("high".into()),
        image_pull_secrets: vec![core::LocalObjectReference { name: "registry".into() }],
        security_context: Some(spec::PodUser {
            run_as_user: Some(1_000_690_000),
            run_as_group: Some(1_000_690_000),
            fs_group: Some(1_000_690_000),
        }),
    }
}

fn full_views() -> Vec<spec::ExtraView> {
    let file = spec::KeyReference { name: "shop-views".into(), key: "refunds.sql".into() };
    vec![
        spec::ExtraView {
            name: "orders_by_status".into(),
            sql: spec::SqlSource {
                inline: Some("SELECT status, count() AS orders FROM orders_current GROUP BY status".into()),
                config_map_key_ref: None,
            },
            materialization: spec::Materialization::default(),
        },
        spec::ExtraView {
            name: "refunds_by_reason".into(),
            sql: spec::SqlSource { inline: None, config_map_key_ref: Some(file) },
            materialization: spec::Materialization {
                r#type: spec::MaterializationType::Refresh,
                every: Some("1m".into()),
            },
        },
    ]
}

fn full_grafana() -> spec::Grafana {
    let file = spec::KeyReference { name: "shop-dashboards".into(), key: "refunds.json".into() };
    spec::Grafana {
        mode: spec::GrafanaMode::Api,
        url: Some("https://shop-grafana.shop.svc:3000".into()),
        organization_id: 1,
        credentials: Some(spec::GrafanaCredentials {
            secret_name: "shop-grafana".into(),
            token_key: Some("token".into()),
            username_key: None,
            password_key: None,
        }),
        sidecar: None,
        tls: Some(spec::GrafanaTls { ca: Some(from_secret("grafana-ca", "ca.crt")) }),
        folder: "Shop analytics".into(),
        reader: credentials("shop-clickhouse-reader"),
        dashboards: spec::Dashboards {
            extra: vec![spec::ExtraDashboard {
                name: "refunds".into(),
                json: spec::JsonSource { inline: None, config_map_key_ref: Some(file) },
            }],
            ..spec::Dashboards::default()
        },
        alerts: spec::Alerts::Enabled,
        drift_policy: spec::DriftPolicy::Revert,
        adoption_policy: spec::AdoptionPolicy::Never,
    }
}

fn from_secret(name: &str, key: &str) -> spec::CertificateAuthority {
    let reference = spec::KeyReference { name: name.into(), key: key.into() };
    spec::CertificateAuthority { secret_key_ref: Some(reference), config_map_key_ref: None }
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn resources<const R: usize, const L: usize>(
    requests: [(&str, &str); R],
    limits: [(&str, &str); L],
) -> core::ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect())
    };
    core::ResourceRequirements { claims: None, requests: quantities(&requests), limits: quantities(&limits) }
}

fn document(object: &AnalyticsPipeline, style: Style) -> String {
    let crd = definition();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let metadata = &object.metadata;
    let spec = serde_yaml_ng::to_value(&object.spec).expect("a spec has string keys only");
    let mut text = format!(
        "apiVersion: {}\nkind: {}\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n",
        AnalyticsPipeline::api_resource().api_version,
        AnalyticsPipeline::api_resource().kind,
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
    );
    print_fields(&mut text, &spec, schema, style, 2);
    text
}
