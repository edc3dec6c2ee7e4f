//! Secrets and ConfigMaps that a spec names: which ones, and what their values become. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::{Reason, Status};
use tidemark_crds::ledger::GrafanaRecord;
use tidemark_crds::pipeline::{
    AnalyticsPipelineSpec, CertificateAuthority, Connect, Credentials as CredentialsRef, GrafanaCredentials,
    KafkaSasl, KeyReference, SaslMechanism,
};
use tidemark_runtime::credentials::{Credentials, Secret};
use tidemark_runtime::foreign::Hidden;
use tidemark_runtime::kafka::{Connection, Sasl, Tls};

use crate::core::facts::{Failure, FailureClass};

/// A Secret or a ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// Text values of one object by key, or why it cannot be read.
type Data = Result<BTreeMap<String, String>, Failure>;

/// Text values of Secrets and ConfigMaps of one namespace, by kind, name and key; and those that cannot be read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct References(BTreeMap<(Holder, String), Data>);

impl std::fmt::Debug for References {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl References {
    /// Remembers the values of one object.
    pub fn insert(&mut self, holder: Holder, name: impl Into<String>, data: BTreeMap<String, String>) {
        self.0.insert((holder, name.into()), Ok(data));
    }

    /// Remembers that an object cannot be read, and why.
    pub fn unread(&mut self, holder: Holder, name: impl Into<String>, why: Failure) {
        self.0.insert((holder, name.into()), Err(why));
    }

    /// Takes what `older` has and this lacks, or could not read: credentials last seen, for cleaning up after the Secrets
    /// went.
    pub fn fill_from(&mut self, older: &Self) {
        for (key, data) in &older.0 {
            if self.0.get(key).is_none_or(|known| known.is_err() && data.is_ok()) {
                self.0.insert(key.clone(), data.clone());
            }
        }
    }

    fn value(&self, holder: Holder, field: &str, name: &str, key: &str) -> Result<String, Missing> {
        let missing = |why| Missing {
            field: field.to_owned(),
            holder,
            name: name.to_owned(),
            key: key.to_owned(),
            why,
        };
        match self.0.get(&(holder, name.to_owned())) {
            None => Err(missing(Lack::Object)),
            Some(Err(failure)) => Err(missing(Lack::Answer(failure.clone()))),
            Some(Ok(data)) => data.get(key).cloned().ok_or_else(|| missing(Lack::Key)),
        }
    }
}

/// A reference that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Missing {
    /// Field of the spec.
    pub field: String,
    /// What it names.
    pub holder: Holder,
    /// Name of the object.
    pub name: String,
    /// Key in its data.
    pub key: String,
    /// Why.
    pub why: Lack,
}

/// Why a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The object does not exist.
    Object,
    /// The object has no such key.
    Key,
    /// The API server refuses to show the object, or gives no answer.
    Answer(Failure),
}

impl Missing {
    fn text(&self) -> String {
        let Self { field, holder, name, key, why } = self;
        match why {
            Lack::Key => format!(
                "{field}: the {holder:?} {name:?} has no key {key:?}: add it, or name another key in {field}"
            ),
            Lack::Object => {
                format!("{field}: the {holder:?} {name:?} does not exist: create it with the key {key:?}")
            }
            Lack::Answer(failure) => {
                let advice = match failure.class {
                    FailureClass::Unreachable => "it is tried again",
                    _ => "grant the operator's service account the right to get it",
                };
                format!("{field}: the {holder:?} {name:?} cannot be read: {}: {advice}", failure.message)
            }
        }
    }

    /// What it makes of the condition: of an API server that gives no answer nobody knows what it would say.
    pub fn verdict(&self) -> (Status, Reason) {
        match &self.why {
            Lack::Object | Lack::Key => (Status::False, Reason::CredentialsMissing),
            Lack::Answer(failure) => match failure.class {
                FailureClass::Unreachable => (Status::Unknown, Reason::Unreachable),
                FailureClass::Authentication | FailureClass::Permission => {
                    (Status::False, Reason::PermissionDenied)
                }
                FailureClass::Remote => (Status::False, Reason::RemoteError),
            },
        }
    }
}

/// Names of all Secrets and ConfigMaps that a spec refers to.
pub fn wanted(spec: &AnalyticsPipelineSpec) -> BTreeSet<(Holder, String)> {
    let mut all = BTreeSet::new();
    let mut secret = |name: &str| all.insert((Holder::Secret, name.to_owned()));
    secret(&spec.source.postgres.credentials.secret_name);
    secret(&spec.clickhouse.credentials.secret_name);
    if let Some(viewer) = &spec.clickhouse.viewer {
        secret(&viewer.secret_name);
    }
    if let Some(credentials) = &spec.source.connect.credentials {
        secret(&credentials.secret_name);
    }
    if let Some(sasl) = &spec.kafka.sasl {
        secret(&sasl.credentials.secret_name);
    }
    if let Some(certificate) = spec.kafka.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
        secret(&certificate.secret_name);
    }
    if let Some(grafana) = &spec.grafana {
        secret(&grafana.reader.secret_name);
        if let Some(credentials) = &grafana.credentials {
            secret(&credentials.secret_name);
        }
        for dashboard in &grafana.dashboards.extra {
            if let Some(reference) = &dashboard.json.config_map_key_ref {
                all.insert((Holder::ConfigMap, reference.name.clone()));
            }
        }
    }
    let grafana_tls = spec.grafana.as_ref().and_then(|grafana| grafana.tls.as_ref());
    let authorities = [
        grafana_tls.and_then(|tls| tls.ca.as_ref()),
        spec.source.postgres.tls.ca.as_ref(),
        spec.source.connect.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
        spec.kafka.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
        spec.clickhouse.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
    ];
    all.extend(authorities.into_iter().flatten().flat_map(holders));
    for view in &spec.views.extra {
        if let Some(reference) = &view.sql.config_map_key_ref {
            all.insert((Holder::ConfigMap, reference.name.clone()));
        }
    }
    all
}

/// Where a certificate authority is.
fn holders(authority: &CertificateAuthority) -> impl Iterator<Item = (Holder, String)> + '_ {
    let secret = authority.secret_key_ref.iter().map(|key| (Holder::Secret, key.name.clone()));
    secret.chain(authority.config_map_key_ref.iter().map(|key| (Holder::ConfigMap, key.name.clone())))
}

/// Names of the Secrets and ConfigMaps that lead to a Grafana which the spec does not name any more.
pub fn wanted_by_record(record: &GrafanaRecord) -> BTreeSet<(Holder, String)> {
    let login = (Holder::Secret, record.credentials.secret_name.clone());
    let authority = record.tls.iter().filter_map(|tls| tls.ca.as_ref()).flat_map(holders);
    std::iter::once(login).chain(authority).collect()
}

/// The login and certificate authority for such a Grafana.
pub fn resolve_record(
    record: &GrafanaRecord,
    references: &References,
) -> Result<(Login, Option<String>), Missing> {
    let ca = record.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let organization = record.organization_id.unwrap_or(1);
    Look { references }.grafana("the former spec.grafana", &record.credentials, organization, ca)
}

/// What the references of a spec lead to, part by part: one that is missing does not hold up the others.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Account and certificate authority for PostgreSQL.
    pub postgres: Result<Account, Missing>,
    /// Account and certificate authority for Connect's REST interface.
    pub connect: Result<ConnectLogin, Missing>,
    /// How to reach Kafka.
    pub kafka: Result<Connection, Missing>,
    /// Account and certificate authority for ClickHouse.
    pub clickhouse: Result<Account, Missing>,
    /// The account that the user's views run as; `None` where it is that of the operator.
    pub viewer: Result<Option<Credentials>, Missing>,
    /// SELECT of each view of the user.
    pub views: BTreeMap<String, Result<String, Missing>>,
    /// Login and certificate authority for Grafana's API; `None` where it is not called.
    pub grafana: Result<Option<(Login, Option<String>)>, Missing>,
    /// The account that panels query with; `None` where there are no dashboards.
    pub reader: Result<Option<Credentials>, Missing>,
    /// Model of each dashboard of the user, as text.
    pub dashboards: BTreeMap<String, Result<String, Missing>>,
}

/// The secrets of a login at Grafana.
pub fn hidden_of(login: &Login) -> Hidden {
    match login {
        Login::Token(token) => Hidden::default().with(token.expose()),
        Login::User(credentials, _) => Hidden::of_login(credentials),
    }
}

/// Who calls Grafana.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// A service account's token: it belongs to one organization.
    Token(Secret),
    /// User and password, in an organization.
    User(Credentials, i64),
}

/// An account and the certificate authority of its server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// User and password.
    pub credentials: Credentials,
    /// PEM; absent: the system's.
    pub ca: Option<String>,
}

/// An account of Connect's REST interface and the certificate authority of its workers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectLogin {
    /// User and password; absent where the interface asks for none.
    pub credentials: Option<Credentials>,
    /// PEM; absent: the system's.
    pub ca: Option<String>,
}

impl Resolved {
    /// Every secret among them, however a server may repeat it: one system can tell what another was given.
    pub fn hidden(&self) -> Hidden {
        let accounts =
            [&self.postgres, &self.clickhouse].into_iter().filter_map(|account| account.as_ref().ok());
        let kafka = self.kafka.as_ref().ok().and_then(|kafka| kafka.sasl.as_ref());
        let grafana = match &self.grafana {
            Ok(Some((login, _))) => hidden_of(login),
            Ok(None) | Err(_) => Hidden::default(),
        };
        let logins = accounts
            .map(|account| &account.credentials)
            .chain(self.connect.as_ref().ok().and_then(|login| login.credentials.as_ref()))
            .chain(kafka.map(|sasl| &sasl.credentials))
            .chain(
                [&self.reader, &self.viewer].into_iter().filter_map(|login| login.as_ref().ok()?.as_ref()),
            );
        logins.fold(grafana, |hidden, login| hidden.and(&Hidden::of_login(login)))
    }

    /// Everything that is missing, in the order of the spec.
    pub fn missing(&self) -> Vec<Missing> {
        let parts = [
            self.postgres.as_ref().err(),
            self.connect.as_ref().err(),
            self.kafka.as_ref().err(),
            self.clickhouse.as_ref().err(),
            self.viewer.as_ref().err(),
            self.grafana.as_ref().err(),
            self.reader.as_ref().err(),
        ];
        parts
            .into_iter()
            .flatten()
            .chain(self.dashboards.values().filter_map(|dashboard| dashboard.as_ref().err()))
            .chain(self.views.values().filter_map(|view| view.as_ref().err()))
            .cloned()
            .collect()
    }
}

/// Follows every reference of a spec.
pub fn resolve(spec: &AnalyticsPipelineSpec, references: &References) -> Resolved {
    let look = Look { references };
    let postgres = &spec.source.postgres;
    let clickhouse = &spec.clickhouse;
    Resolved {
        postgres: look.account("spec.source.postgres", &postgres.credentials, postgres.tls.ca.as_ref()),
        connect: look.connect(&spec.source.connect),
        kafka: look.kafka(spec),
        clickhouse: look.account(
            "spec.clickhouse",
            &clickhouse.credentials,
            clickhouse.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
        ),
        viewer: (clickhouse.viewer.as_ref())
            .map(|viewer| look.credentials("spec.clickhouse.viewer", viewer))
            .transpose(),
        views: spec
            .views
            .extra
            .iter()
            .map(|view| {
                let sql = match (&view.sql.inline, &view.sql.config_map_key_ref) {
                    (None, Some(reference)) => {
                        let field = format!("spec.views.extra[{}].sql.configMapKeyRef", view.name);
                        look.key(Holder::ConfigMap, &field, reference)
                    }
                    (inline, _) => Ok(inline.clone().unwrap_or_default()),
                };
                (view.name.clone(), sql)
            })
            .collect(),
        grafana: (spec.grafana.as_ref())
            .and_then(|grafana| Some((grafana, grafana.credentials.as_ref()?)))
            .map(|(grafana, credentials)| {
                let ca = grafana.tls.as_ref().and_then(|tls| tls.ca.as_ref());
                look.grafana("spec.grafana", credentials, grafana.organization_id, ca)
            })
            .transpose(),
        reader: (spec.grafana.as_ref())
            .map(|grafana| look.credentials("spec.grafana.reader", &grafana.reader))
            .transpose(),
        dashboards: (spec.grafana.iter())
            .flat_map(|grafana| &grafana.dashboards.extra)
            .map(|dashboard| {
                let json = match (&dashboard.json.inline, &dashboard.json.config_map_key_ref) {
                    (None, Some(reference)) => {
                        let field =
                            format!("spec.grafana.dashboards.extra[{}].json.configMapKeyRef", dashboard.name);
                        look.key(Holder::ConfigMap, &field, reference)
                    }
                    (inline, _) => Ok(inline.clone().unwrap_or_default()),
                };
                (dashboard.name.clone(), json)
            })
            .collect(),
    }
}

struct Look<'a> {
    references: &'a References,
}

impl Look<'_> {
    fn key(&self, holder: Holder, field: &str, reference: &KeyReference) -> Result<String, Missing> {
        self.references.value(holder, field, &reference.name, &reference.key)
    }

    fn credentials(&self, field: &str, reference: &CredentialsRef) -> Result<Credentials, Missing> {
        let value = |key: &str| {
            let text = self.references.value(Holder::Secret, field, &reference.secret_name, key)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        Ok(Credentials::new(value(&reference.username_key)?, value(&reference.password_key)?))
    }

    fn connect(&self, connect: &Connect) -> Result<ConnectLogin, Missing> {
        let credentials = (connect.credentials.as_ref())
            .map(|credentials| self.credentials("spec.source.connect.credentials", credentials))
            .transpose()?;
        let ca = connect.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        Ok(ConnectLogin { credentials, ca: self.authority("spec.source.connect", ca)? })
    }

    fn authority(
        &self,
        field: &str,
        authority: Option<&CertificateAuthority>,
    ) -> Result<Option<String>, Missing> {
        let Some(authority) = authority else {
            return Ok(None);
        };
        let field = format!("{field}.tls.ca");
        match (&authority.secret_key_ref, &authority.config_map_key_ref) {
            (Some(reference), _) => self.key(Holder::Secret, &field, reference).map(Some),
            (None, Some(reference)) => self.key(Holder::ConfigMap, &field, reference).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn account(
        &self,
        field: &str,
        reference: &CredentialsRef,
        authority: Option<&CertificateAuthority>,
    ) -> Result<Account, Missing> {
        Ok(Account {
            credentials: self.credentials(&format!("{field}.credentials"), reference)?,
            ca: self.authority(field, authority)?,
        })
    }

    /// The login for Grafana's API.
    fn grafana(
        &self,
        field: &str,
        credentials: &GrafanaCredentials,
        organization: i64,
        ca: Option<&CertificateAuthority>,
    ) -> Result<(Login, Option<String>), Missing> {
        let login_field = format!("{field}.credentials");
        let value = |key: &str| {
            let text = self.references.value(Holder::Secret, &login_field, &credentials.secret_name, key)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        let login = || match (&credentials.token_key, &credentials.username_key, &credentials.password_key) {
            (None, Some(username), Some(password)) => {
                let account = Credentials::new(value(username)?, value(password)?);
                Ok(Login::User(account, organization))
            }
            (token, _, _) => Ok(Login::Token(Secret::new(value(token.as_deref().unwrap_or("token"))?))),
        };
        Ok((login()?, self.authority(field, ca)?))
    }

    fn kafka(&self, spec: &AnalyticsPipelineSpec) -> Result<Connection, Missing> {
        let tls = match &spec.kafka.tls {
            None => None,
            Some(tls) => {
                let mut material =
                    Tls { ca: self.authority("spec.kafka", tls.ca.as_ref())?, ..Tls::default() };
                if let Some(client) = &tls.client_certificate {
                    let field = "spec.kafka.tls.clientCertificate";
                    let value =
                        |key: &str| self.references.value(Holder::Secret, field, &client.secret_name, key);
                    material.certificate = Some(value(&client.certificate_key)?);
                    material.key = Some(Secret::new(value(&client.private_key_key)?));
                }
                Some(material)
            }
        };
        let sasl = spec.kafka.sasl.as_ref().map(|sasl| self.sasl(sasl)).transpose()?;
        Ok(Connection { bootstrap_servers: spec.kafka.bootstrap_servers.clone(), tls, sasl })
    }

    fn sasl(&self, sasl: &KafkaSasl) -> Result<Sasl, Missing> {
        let field = "spec.kafka.sasl.credentials";
        let reference = &sasl.credentials;
        let value = |key: &str| {
            let text = self.references.value(Holder::Secret, field, &reference.secret_name, key)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        let username = match &reference.username {
            Some(username) => username.clone(),
            None => value(&reference.username_key)?,
        };
        let credentials = Credentials::new(username, value(&reference.password_key)?);
        Ok(Sasl { mechanism: mechanism(sasl.mechanism).to_owned(), credentials })
    }
}

/// librdkafka's name of a mechanism.
pub fn mechanism(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: FailureClass) -> Failure {
        Failure { class, message: "the API server answered 403: forbidden".into() }
    }

    fn data() -> BTreeMap<String, String> {
        [("username", "u"), ("password", "p")].map(|(key, text)| (key.to_owned(), text.to_owned())).into()
    }

    #[test]
    fn what_cannot_be_read_is_a_verdict_of_its_own_and_closes_what_needs_it_alone() {
        let spec: AnalyticsPipelineSpec = serde_json::from_value(serde_json::json!({
            "source": {
                "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                "connect": {"url": "http://connect:8083"},
            },
            "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
            "tables": [{"name": "public.orders"}],
            "clickhouse": {"url": "http://ch:8123", "database": "shop", "credentials": {"secretName": "ch"}},
        }))
        .unwrap();
        for (class, verdict, part) in [
            (FailureClass::Permission, (Status::False, Reason::PermissionDenied), "service account"),
            (FailureClass::Unreachable, (Status::Unknown, Reason::Unreachable), "tried again"),
            (FailureClass::Remote, (Status::False, Reason::RemoteError), "403"),
        ] {
            let mut references = References::default();
            references.insert(Holder::Secret, "ch", data());
            references.unread(Holder::Secret, "pg", failure(class));
            let resolved = resolve(&spec, &references);
            assert!(resolved.clickhouse.is_ok() && resolved.kafka.is_ok() && resolved.connect.is_ok());
            let missing = resolved.missing();
            assert_eq!(missing.len(), 1, "{missing:?}");
            assert_eq!(missing[0].verdict(), verdict);
            let text = missing[0].to_string();
            assert!(
                text.starts_with("spec.source.postgres.credentials: the Secret \"pg\" cannot be read"),
                "{text}"
            );
            assert!(text.contains(part), "{text}");
        }
        let absent = resolve(&spec, &References::default()).missing();
        assert!(absent.iter().all(|lack| lack.verdict() == (Status::False, Reason::CredentialsMissing)));
    }

    #[test]
    fn what_was_seen_last_stands_in_for_what_is_gone_or_cannot_be_read() {
        let mut before = References::default();
        before.insert(Holder::Secret, "pg", data());
        before.insert(Holder::Secret, "ch", data());
        before.unread(Holder::Secret, "kafka", failure(FailureClass::Permission));
        let mut now = References::default();
        now.unread(Holder::Secret, "pg", failure(FailureClass::Unreachable));
        now.fill_from(&before);
        let value = |name: &str| now.value(Holder::Secret, "field", name, "username");
        assert_eq!((value("pg"), value("ch")), (Ok("u".into()), Ok("u".into())));
        assert!(matches!(value("kafka").unwrap_err().why, Lack::Answer(_)), "it is not known to be absent");
        let mut newer = References::default();
        newer.insert(Holder::Secret, "pg", [("username".to_owned(), "new".to_owned())].into());
        newer.fill_from(&now);
        assert_eq!(newer.value(Holder::Secret, "field", "pg", "username"), Ok("new".into()));
    }
}
