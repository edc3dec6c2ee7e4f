//! Handles of the remote systems of a pipeline, made from its spec and credentials and kept. Connects nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use tidemark_crds::pipeline::{AnalyticsPipelineSpec, TlsMode};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};
use tidemark_runtime::foreign::Hidden;
use tidemark_runtime::kafka::Connection;
use tidemark_runtime::postgres::CONNECT_DEADLINE;

use crate::core::credentials::{Account, ConnectLogin, Login, Missing, Resolved};
use crate::core::desired::grafana::place::Place;
use crate::core::effect::Site;
use crate::core::facts::{Failure, FailureClass, Observation, Observed};
use crate::edge::breaker::Endpoint;
use crate::edge::connect::client;
use crate::edge::connect::client::Connect;
use crate::edge::failure::failure;
use crate::edge::grafana::client::Grafana;
use crate::edge::kafka::client::KafkaAdmin;
use crate::edge::kept::Kept;
use crate::edge::kubernetes::objects::ObjectStore;
use crate::edge::postgres::client::PostgresTarget;

/// A handle, or why there is none.
#[derive(Debug, Clone)]
pub enum Access<T> {
    /// Calls can be made.
    Open(T),
    /// The credentials are not known: nothing can be asked.
    Missing,
    /// Nobody who may said that these credentials are for this address.
    Refused,
    /// The handle could not be made.
    Broken(Failure),
}

impl<T> Access<T> {
    /// What came of making the handle.
    pub fn made(made: Result<T, Failure>) -> Self {
        made.map_or_else(Self::Broken, Self::Open)
    }

    /// The handle, or the failure of a call that cannot be made.
    pub fn open(&self) -> Result<&T, Failure> {
        match self {
            Self::Open(handle) => Ok(handle),
            Self::Broken(failure) => Err(failure.clone()),
            Self::Missing | Self::Refused => {
                Err(failure(FailureClass::Unreachable, "its credentials are missing"))
            }
        }
    }

    /// The observation of a system that has no handle.
    pub fn closed<F>(&self) -> Observation<F> {
        match self {
            Self::Broken(failure) => Observation::Unreachable(failure.clone()),
            Self::Refused => Observation::Absent,
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
    /// ClickHouse by the account that the user's views run as.
    pub viewer: Access<ClickHouse>,
    /// Grafana's API.
    pub grafana: Access<Grafana>,
    /// The Grafana that the spec named before and that still has something of the pipeline; the ledger knows it.
    pub former_grafana: Option<(Place, Access<Grafana>)>,
    /// Kubernetes, or the folder in its place.
    pub objects: ObjectStore,
    /// What each of them is told by, where it has a handle.
    pub endpoints: BTreeMap<&'static str, Endpoint>,
}

/// Handles that outlive a reconcile: connections that stay open, logins that are known to be refused.
#[derive(Debug, Default)]
pub struct Handles {
    kafka: Kept<(Connection, Hidden), KafkaAdmin>,
    connect: Kept<client::Options, Connect>,
    clickhouse: Kept<(String, Account), ClickHouse>,
    reader: Kept<(String, Account), ClickHouse>,
    viewer: Kept<(String, Account), ClickHouse>,
    grafana: Kept<GrafanaKey, Grafana>,
    former_grafana: Kept<GrafanaKey, Grafana>,
}

/// Address, login and certificate authority of a Grafana, and the secrets that no text of it has that is shown.
type GrafanaKey = (String, Login, Option<String>, Hidden);

impl Handles {
    /// The handles of one pipeline; connects nothing.
    pub fn systems(
        &self,
        pipeline: &str,
        spec: &AnalyticsPipelineSpec,
        resolved: &Resolved,
        objects: ObjectStore,
    ) -> Systems {
        let source = &spec.source.postgres;
        let postgres = |account: &Account| PostgresTarget {
            host: source.host.clone(),
            port: source.port,
            database: source.database.clone(),
            credentials: account.credentials.clone(),
            tls: source.tls.mode,
            ca: account.ca.clone().filter(|_| source.tls.mode != TlsMode::Disable),
            deadline: CONNECT_DEADLINE,
        };
        let hidden = resolved.hidden();
        let kafka = |key: &Connection| {
            let key = (key.clone(), hidden.clone());
            self.kafka.get(pipeline, key, |(connection, hidden)| Ok(KafkaAdmin::new(connection, hidden)))
        };
        let connect = |login: &ConnectLogin| {
            let part = &spec.source.connect;
            let check = part.tls.as_ref().map(|tls| tls.mode).unwrap_or_default();
            let (url, login, hidden) = (part.url.clone(), login.clone(), hidden.clone());
            self.connect.get(pipeline, client::Options { url, login, check, hidden }, Connect::new)
        };
        let clickhouse = |kept: &Kept<(String, Account), ClickHouse>, account: Account| {
            let key = (spec.clickhouse.url.clone(), account);
            kept.get(pipeline, key, |(url, account)| clickhouse(url, account))
        };
        let other = |kept, login: &Result<Option<Credentials>, Missing>| match (login, &resolved.clickhouse) {
            (Ok(Some(credentials)), Ok(account)) => {
                let account = Account { credentials: credentials.clone(), ca: account.ca.clone() };
                Access::made(clickhouse(kept, account))
            }
            _ => Access::Missing,
        };
        let url = spec.grafana.as_ref().and_then(|part| part.url.clone());
        Systems {
            postgres: resolved.postgres.as_ref().map_or(Access::Missing, |it| Access::Open(postgres(it))),
            kafka: resolved.kafka.as_ref().map_or(Access::Missing, |it| Access::made(kafka(it))),
            connect: resolved.connect.as_ref().map_or(Access::Missing, |it| Access::made(connect(it))),
            clickhouse: (resolved.clickhouse.as_ref())
                .map_or(Access::Missing, |it| Access::made(clickhouse(&self.clickhouse, it.clone()))),
            reader: other(&self.reader, &resolved.reader),
            viewer: other(&self.viewer, &resolved.viewer),
            grafana: match (&resolved.grafana, url) {
                (Ok(Some((login, ca))), Some(url)) => {
                    let key = (url, login.clone(), ca.clone(), hidden.clone());
                    Access::made(grafana(&self.grafana, pipeline, key))
                }
                _ => Access::Missing,
            },
            former_grafana: None,
            objects,
            endpoints: endpoints(spec, resolved),
        }
    }

    /// Closes what stays open from look to look though nobody looks: a client of Kafka has threads of its own, and keeps
    /// what it knows of all topics. Blocks.
    pub fn close_idle(&self, now: Instant) {
        self.kafka.each(|admin| admin.close_idle(now));
    }

    /// The Grafana that the spec named before.
    pub fn former_grafana(&self, pipeline: &str, key: GrafanaKey) -> Access<Grafana> {
        Access::made(grafana(&self.former_grafana, pipeline, key))
    }

    /// Forgets the handles of systems that did not answer, or not as they should: a connection that stays open may
    /// lead to a server that is not, or no longer, the right one. A login that is known to be refused stays known.
    pub fn forget_failed(&self, pipeline: &str, observed: &Observed) {
        if failed(&observed.kafka) {
            self.kafka.give_up(pipeline);
        }
        if failed(&observed.connect) {
            self.connect.give_up(pipeline);
        }
        if failed(&observed.clickhouse) {
            self.clickhouse.give_up(pipeline);
            self.viewer.give_up(pipeline);
        }
        if failed(&observed.reader) {
            self.reader.give_up(pipeline);
        }
        if failed(&observed.grafana) {
            self.grafana.give_up(pipeline);
        }
        if failed(&observed.former_grafana) {
            self.former_grafana.give_up(pipeline);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.kafka.forget(pipeline);
        self.connect.forget(pipeline);
        self.clickhouse.forget(pipeline);
        self.reader.forget(pipeline);
        self.viewer.forget(pipeline);
        self.grafana.forget(pipeline);
        self.former_grafana.forget(pipeline);
    }
}

/// What tells the systems of a pipeline from others: address and account.
fn endpoints(spec: &AnalyticsPipelineSpec, resolved: &Resolved) -> BTreeMap<&'static str, Endpoint> {
    fn endpoint(system: &'static str, address: &str, account: &impl Hash) -> (&'static str, Endpoint) {
        let mut hasher = DefaultHasher::new();
        account.hash(&mut hasher);
        (system, Endpoint { system, address: address.to_owned(), account: hasher.finish() })
    }
    let source = &spec.source.postgres;
    let postgres = format!("{}:{}/{}", source.host, source.port, source.database);
    let url = spec.grafana.as_ref().and_then(|part| part.url.as_deref());
    let check = spec.source.connect.tls.as_ref().map(|tls| tls.mode).unwrap_or_default();
    let clickhouse = &spec.clickhouse.url;
    // They have their login alone of their own.
    let other = |system, login: &Result<Option<Credentials>, Missing>| match (login, &resolved.clickhouse) {
        (Ok(Some(credentials)), Ok(account)) => {
            Some(endpoint(system, clickhouse, &(credentials, &account.ca)))
        }
        _ => None,
    };
    let all = [
        resolved
            .postgres
            .as_ref()
            .ok()
            .map(|account| endpoint("postgres", &postgres, &(account, format!("{:?}", source.tls.mode)))),
        resolved.kafka.as_ref().ok().map(|account| endpoint("kafka", &spec.kafka.bootstrap_servers, account)),
        resolved
            .connect
            .as_ref()
            .ok()
            .map(|login| endpoint("connect", &spec.source.connect.url, &(login, format!("{check:?}")))),
        resolved.clickhouse.as_ref().ok().map(|account| endpoint("clickhouse", clickhouse, account)),
        other("reader", &resolved.reader),
        other("viewer", &resolved.viewer),
        url.zip(resolved.grafana.as_ref().ok()).map(|(url, account)| endpoint("grafana", url, account)),
    ];
    all.into_iter().flatten().collect()
}

fn failed<T>(observation: &Observation<T>) -> bool {
    match observation {
        Observation::Unreachable(failure) => {
            matches!(failure.class, FailureClass::Unreachable | FailureClass::Remote)
        }
        Observation::Known(_) | Observation::Absent | Observation::NotAsked => false,
    }
}

fn grafana(kept: &Kept<GrafanaKey, Grafana>, pipeline: &str, key: GrafanaKey) -> Result<Grafana, Failure> {
    kept.get(pipeline, key, |(url, login, ca, hidden)| {
        Grafana::new(url, login.clone(), ca.as_deref(), hidden.clone())
    })
}

impl Systems {
    /// The Grafana that a write is for.
    pub fn grafana(&self, site: Site) -> Result<&Grafana, Failure> {
        match (site, &self.former_grafana) {
            (Site::Current, _) => self.grafana.open(),
            (Site::Former, Some((_, access))) => access.open(),
            (Site::Former, None) => Access::Missing.open(),
        }
    }
}

fn clickhouse(url: &str, account: &Account) -> Result<ClickHouse, Failure> {
    ClickHouse::new(Options {
        url: url.to_owned(),
        // The database may not exist yet: every statement names it.
        database: None,
        credentials: Arc::new(CredentialSource::memory(account.credentials.clone())),
        authority: account.ca.clone().map_or(Authority::System, Authority::Pem),
    })
    .map_err(|error| failure(FailureClass::Remote, format!("spec.clickhouse: {error}")))
}

#[cfg(test)]
mod tests {
    use tidemark_crds::pipeline::CertificateCheck;

    use super::*;

    #[test]
    fn a_handle_is_made_anew_after_a_failed_look_but_not_after_a_refused_login() {
        let handles = Handles::default();
        let mut clients = 0;
        let mut look = |class: Option<FailureClass>| {
            let options = client::Options {
                url: "http://connect:8083".to_owned(),
                login: ConnectLogin::default(),
                check: CertificateCheck::VerifyFull,
                hidden: Hidden::default(),
            };
            let make = |options: &client::Options| {
                clients += 1;
                Connect::new(options)
            };
            handles.connect.get("shop/shop", options, make).unwrap();
            let failed = |class| Observation::Unreachable(failure(class, ""));
            let connect = class.map_or(Observation::Absent, failed);
            handles.forget_failed("shop/shop", &Observed { connect, ..Observed::default() });
            clients
        };
        assert_eq!(look(None), 1);
        assert_eq!(look(Some(FailureClass::Authentication)), 1);
        assert_eq!(look(Some(FailureClass::Remote)), 1);
        assert_eq!(look(Some(FailureClass::Unreachable)), 2);
        assert_eq!(look(None), 3);
    }
}
