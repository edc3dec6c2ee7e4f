//! Handles of the remote systems of one pipeline, made from its spec and credentials. Connects nothing.

use std::sync::Arc;

use tidemark_crds::pipeline::{AnalyticsPipelineSpec, TlsMode};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::CredentialSource;

use crate::clients::connect::Connect;
use crate::clients::grafana::Grafana;
use crate::clients::kafka_admin::KafkaAdmin;
use crate::clients::postgres::PostgresTarget;
use crate::credentials::{Account, Resolved};
use crate::desired::grafana::place::Place;
use crate::effect::Site;
use crate::facts::{Failure, FailureClass, Observation};
use crate::objects::ObjectStore;

/// A handle, or why there is none.
#[derive(Debug, Clone)]
pub enum Access<T> {
    /// Calls can be made.
    Open(T),
    /// The credentials are not known: nothing can be asked.
    Missing,
    /// The handle could not be made.
    Broken(Failure),
}

impl<T> Access<T> {
    fn of<M>(resolved: Result<Result<T, Failure>, M>) -> Self {
        match resolved {
            Ok(Ok(handle)) => Self::Open(handle),
            Ok(Err(failure)) => Self::Broken(failure),
            Err(_) => Self::Missing,
        }
    }

    /// The handle, or the failure of a call that cannot be made.
    pub fn open(&self) -> Result<&T, Failure> {
        match self {
            Self::Open(handle) => Ok(handle),
            Self::Broken(failure) => Err(failure.clone()),
            Self::Missing => Err(Failure {
                class: FailureClass::Unreachable,
                message: "its credentials are missing".into(),
            }),
        }
    }

    /// The observation of a system that has no handle.
    pub fn closed<F>(&self) -> Observation<F> {
        match self {
            Self::Broken(failure) => Observation::Unreachable(failure.clone()),
            Self::Open(_) | Self::Missing => Observation::NotAsked,
        }
    }
}

/// The systems of one pipeline.
#[derive(Debug, Clone)]
pub struct Systems {
    /// PostgreSQL.
    pub postgres: Access<PostgresTarget>,
    /// Kafka's admin interface.
    pub kafka: Access<KafkaAdmin>,
    /// Kafka Connect.
    pub connect: Access<Connect>,
    /// ClickHouse.
    pub clickhouse: Access<ClickHouse>,
    /// ClickHouse by the account that panels query with.
    pub reader: Access<ClickHouse>,
    /// Grafana's API.
    pub grafana: Access<Grafana>,
    /// The Grafana that the spec named before and that still has something of the pipeline; the ledger knows it.
    pub former_grafana: Option<(Place, Access<Grafana>)>,
    /// Kubernetes, or the folder in its place.
    pub objects: ObjectStore,
}

impl Systems {
    /// Makes the handles.
    pub fn new(spec: &AnalyticsPipelineSpec, resolved: &Resolved, objects: ObjectStore) -> Self {
        let source = &spec.source.postgres;
        Self {
            postgres: Access::of(resolved.postgres.as_ref().map(|account| {
                Ok(PostgresTarget {
                    host: source.host.clone(),
                    port: source.port,
                    database: source.database.clone(),
                    credentials: account.credentials.clone(),
                    tls: source.tls.mode,
                    ca: account.ca.clone().filter(|_| source.tls.mode != TlsMode::Disable),
                })
            })),
            kafka: Access::of(resolved.kafka.as_ref().map(KafkaAdmin::new)),
            connect: Access::of(
                resolved
                    .connect
                    .as_ref()
                    .map(|credentials| Connect::new(&spec.source.connect.url, credentials.clone())),
            ),
            clickhouse: Access::of(resolved.clickhouse.as_ref().map(|account| clickhouse(spec, account))),
            reader: match (&resolved.reader, &resolved.clickhouse) {
                (Ok(Some(credentials)), Ok(account)) => {
                    let account = Account { credentials: credentials.clone(), ca: account.ca.clone() };
                    Access::of::<()>(Ok(clickhouse(spec, &account)))
                }
                _ => Access::Missing,
            },
            grafana: match (&resolved.grafana, spec.grafana.as_ref().and_then(|part| part.url.as_deref())) {
                (Ok(Some((login, ca))), Some(url)) => {
                    Access::of::<()>(Ok(Grafana::new(url, login.clone(), ca.as_deref())))
                }
                _ => Access::Missing,
            },
            former_grafana: None,
            objects,
        }
    }

    /// The Grafana that a write is for.
    pub fn grafana(&self, site: Site) -> Result<&Grafana, Failure> {
        match (site, &self.former_grafana) {
            (Site::Current, _) => self.grafana.open(),
            (Site::Former, Some((_, access))) => access.open(),
            (Site::Former, None) => Access::Missing.open(),
        }
    }
}

fn clickhouse(spec: &AnalyticsPipelineSpec, account: &Account) -> Result<ClickHouse, Failure> {
    ClickHouse::new(Options {
        url: spec.clickhouse.url.clone(),
        // The database may not exist yet: every statement names it.
        database: None,
        credentials: Arc::new(CredentialSource::memory(account.credentials.clone())),
        authority: account.ca.clone().map_or(Authority::System, Authority::Pem),
    })
    .map_err(|error| Failure {
        class: FailureClass::Remote,
        message: format!("spec.clickhouse: {error}").chars().take(256).collect(),
    })
}
