//! The systems that are called by HTTP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::CertificateCheck;
use tidemark_operator::core::credentials::{ConnectLogin, Login};
use tidemark_operator::core::desired::connector::CONNECTOR_CLASS;
use tidemark_operator::core::desired::grafana::GrafanaQuestion;
use tidemark_operator::core::effect::{
    ClickHouseEffect, ConnectEffect, DatabaseDefinition, Effect, GrafanaCall, GrafanaEffect,
    KubernetesEffect, Saving, Site, Verb,
};
use tidemark_operator::core::facts::Failure;
use tidemark_operator::edge;
use tidemark_operator::edge::connect::client;
use tidemark_operator::edge::connect::client::Connect;
use tidemark_operator::edge::grafana::client::Grafana;
use tidemark_operator::edge::kubernetes::objects;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials, Secret};
use tidemark_runtime::foreign::Hidden;

use super::server::{Fault, Manners, Own, Server};
use super::{Call, ENOUGH, Row, SECRET, SOON, failed, look};

const JSON: &str = "Content-Type: application/json\r\n";
const MARK: &str = "tidemark uid/shop/shop";

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    ClickHouse,
    Connect,
    Grafana,
    Kubernetes,
}

/// A client of the server, with all that it keeps from one call to the next.
enum Client {
    ClickHouse(ClickHouse),
    Connect(Connect),
    Grafana(Grafana),
    Kubernetes(ObjectStore),
}

impl System {
    fn title(self) -> &'static str {
        match self {
            Self::ClickHouse => "clickhouse",
            Self::Connect => "connect",
            Self::Grafana => "grafana",
            Self::Kubernetes => "kubernetes",
        }
    }

    fn client(self, url: &str, deadline: Duration) -> Client {
        let credentials = Credentials::new("tidemark", SECRET);
        match self {
            Self::ClickHouse => {
                let options = Options {
                    url: url.to_owned(),
                    database: None,
                    credentials: Arc::new(CredentialSource::memory(credentials)),
                    authority: Authority::System,
                };
                Client::ClickHouse(ClickHouse::new(options).unwrap().with_deadline(deadline))
            }
            Self::Connect => {
                let hidden = Hidden::of_login(&credentials);
                let login = ConnectLogin { credentials: Some(credentials), ..ConnectLogin::default() };
                let check = CertificateCheck::VerifyFull;
                let options = client::Options { url: url.to_owned(), login, check, hidden };
                Client::Connect(Connect::new(&options).unwrap().with_deadline(deadline))
            }
            Self::Grafana => {
                let login = Login::Token(Secret::new(SECRET));
                let hidden = Hidden::default().with(SECRET);
                Client::Grafana(Grafana::new(url, login, None, hidden).unwrap().with_deadline(deadline))
            }
            Self::Kubernetes => {
                let mut config = kube::Config::new(url.parse().unwrap());
                config.auth_info = serde_json::from_value(json!({"token": SECRET})).unwrap();
                Client::Kubernetes(ObjectStore::Cluster(objects::client(config).unwrap(), deadline))
            }
        }
    }

    fn effect(self) -> Effect {
        match self {
            Self::ClickHouse => Effect::ClickHouse(ClickHouseEffect::CreateDatabase(DatabaseDefinition {
                name: "shop".into(),
                comment: MARK.into(),
            })),
            Self::Connect => Effect::Connect(ConnectEffect::Create {
                name: "shop".into(),
                config: [("database.password".to_owned(), SECRET.to_owned())].into(),
            }),
            Self::Grafana => Effect::Grafana(GrafanaEffect {
                site: Site::Current,
                call: GrafanaCall::Save(Saving {
                    verb: Verb::Post,
                    path: ["api", "datasources"].map(str::to_owned).into(),
                    body: json!({"name": "shop"}),
                    password: Some(Secret::new(SECRET)),
                    uid: None,
                }),
            }),
            Self::Kubernetes => {
                let metadata = json!({"name": "shop-sink", "namespace": "shop"});
                Effect::Kubernetes(KubernetesEffect::Apply {
                    object: json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}),
                    data: [("password".to_owned(), Secret::new(SECRET))].into(),
                })
            }
        }
    }

    /// What is answered as it should be, so that the fault hits what is asked next, and the system's own refusals.
    fn manners(self) -> Manners {
        match self {
            Self::ClickHouse => Manners { well: &[], own: of_clickhouse },
            Self::Connect => {
                Manners { well: &[("GET /connector-plugins", ("200 OK", JSON, "[]"))], own: of_connect }
            }
            Self::Grafana => Manners {
                well: &[("GET /api/health", ("200 OK", JSON, r#"{"database":"ok","version":"12.1.0"}"#))],
                own: of_grafana,
            },
            Self::Kubernetes => Manners {
                well: &[(
                    "GET /api/v1/namespaces/shop/secrets/shop-sink",
                    ("404 Not Found", JSON, NO_OBJECT),
                )],
                own: of_kubernetes,
            },
        }
    }
}

const NO_OBJECT: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"secrets \"shop-sink\" not found","reason":"NotFound","code":404}"#;

fn of_clickhouse(fault: Fault) -> Option<Own> {
    match fault {
        Fault::Unauthorized => Some((
            "401 Unauthorized",
            "X-ClickHouse-Exception-Code: 516\r\n",
            "Code: 516. DB::Exception: tidemark: Authentication failed: password is incorrect, or there is no user \
             with such name. (AUTHENTICATION_FAILED) (version 26.7.2.1)\n",
        )),
        Fault::Forbidden => Some((
            "403 Forbidden",
            "X-ClickHouse-Exception-Code: 497\r\n",
            "Code: 497. DB::Exception: tidemark: Not enough privileges. To execute this query, it's necessary to have \
             the grant CREATE DATABASE ON shop.*. (ACCESS_DENIED) (version 26.7.2.1)\n",
        )),
        _ => None,
    }
}

fn of_connect(fault: Fault) -> Option<Own> {
    match fault {
        Fault::Conflict => Some((
            "409 Conflict",
            JSON,
            r#"{"error_code":409,"message":"Cannot complete request momentarily due to stale configuration\n(hunter2)"}"#,
        )),
        _ => None,
    }
}

fn of_grafana(fault: Fault) -> Option<Own> {
    match fault {
        Fault::Unauthorized => Some(("401 Unauthorized", JSON, r#"{"message":"Invalid API key"}"#)),
        Fault::Forbidden => Some((
            "403 Forbidden",
            JSON,
            r#"{"message":"You'll need additional permissions to perform this action. Permissions needed: datasources:create"}"#,
        )),
        Fault::Conflict => Some((
            "409 Conflict",
            JSON,
            r#"{"message":"data source with the same name already exists: hunter2"}"#,
        )),
        _ => None,
    }
}

fn of_kubernetes(fault: Fault) -> Option<Own> {
    match fault {
        Fault::Unauthorized => Some((
            "401 Unauthorized",
            JSON,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#,
        )),
        Fault::Forbidden => Some((
            "403 Forbidden",
            JSON,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"is forbidden: User \"system:serviceaccount:tidemark:tidemark\" cannot do this","reason":"Forbidden","code":403}"#,
        )),
        Fault::Conflict => Some((
            "409 Conflict",
            JSON,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled:\nthe object has been modified","reason":"Conflict","code":409}"#,
        )),
        _ => None,
    }
}

impl Client {
    /// A step comes after a look: what the system is has been seen.
    async fn introduce(&self) {
        match self {
            Self::Connect(client) => drop(client.has_plugin(CONNECTOR_CLASS).await.unwrap()),
            Self::Grafana(client) => drop(client.version().await.unwrap()),
            Self::ClickHouse(_) | Self::Kubernetes(_) => {}
        }
    }

    async fn call(&self, call: Call, effect: &Effect) -> Result<(), Failure> {
        let name = PipelineName::new("shop", "shop");
        match (self, call, effect) {
            (Self::ClickHouse(client), Call::Read, _) => look(
                edge::clickhouse::look::observe(client, "shop", "shop/shop", &["orders".to_owned()]).await,
            ),
            (Self::ClickHouse(client), Call::Write, Effect::ClickHouse(effect)) => {
                edge::clickhouse::act::carry_out(client, (MARK, "tidemark"), effect).await
            }
            (Self::Connect(client), Call::Read, _) => {
                look(edge::connect::look::observe(client, "shop").await)
            }
            (Self::Connect(client), Call::Write, Effect::Connect(effect)) => {
                edge::connect::act::execute(client, MARK, effect).await
            }
            (Self::Grafana(client), Call::Read, _) => {
                let question = GrafanaQuestion {
                    folder_uid: "tm".into(),
                    folder_title: "Shop".into(),
                    source_uid: "tm-source".into(),
                    source_name: "shop".into(),
                    tags: vec!["tidemark".into()],
                    uid_prefix: "tm".into(),
                    dashboards: vec!["tm-one".into()],
                    alerts: true,
                };
                look(edge::grafana::look::observe(client, &question).await)
            }
            (Self::Grafana(client), Call::Write, Effect::Grafana(effect)) => {
                edge::grafana::act::execute(client, effect).await
            }
            (Self::Kubernetes(store), Call::Read, _) => {
                look(edge::kubernetes::look::observe(store, &name).await)
            }
            (Self::Kubernetes(store), Call::Write, Effect::Kubernetes(effect)) => {
                edge::kubernetes::act::apply(store, &name, Some("1234"), effect).await
            }
            (_, Call::Write, other) => panic!("{other:?} is for another system"),
        }
    }
}

/// Every fault at a look and at a step.
pub(super) async fn rows(system: System) -> Vec<Row> {
    let mut rows = Vec::new();
    for call in Call::ALL {
        for fault in Fault::ALL {
            rows.push(row(system, call, fault).await);
        }
    }
    rows
}

async fn row(system: System, call: Call, fault: Fault) -> Row {
    let server = Server::start(fault, system.manners()).await;
    let at = format!("{system:?}, {call:?}, {}", fault.title());
    // Of an API server that never ends, the deadline is the only bound.
    let endless = (system, fault) == (System::Kubernetes, Fault::Endless);
    let deadline = if fault == Fault::Slow || endless { SOON } else { ENOUGH };
    let client = system.client(&format!("http://{}", server.address), deadline);
    if call == Call::Write {
        client.introduce().await;
    }
    let effect = system.effect();
    let failure = failed(&at, deadline, client.call(call, &effect)).await;
    let mut seen = server.take_seen();
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "{at}: the same is asked twice in one call: {seen:?}");
    assert!(client.call(call, &effect).await.is_err(), "{at}: the second call is taken for an answer");
    let again = !server.take_seen().is_empty();
    assert_eq!(server.elsewhere(), 0, "{at}: the redirect is followed");
    Row::new((system.title(), call, fault.title()), Some(again), effect, failure)
}
