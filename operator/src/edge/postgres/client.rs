//! PostgreSQL: a connection for one look or one statement. I/O.

use std::sync::Arc;
use std::time::Duration;

use tidemark_crds::pipeline::TlsMode;
use tidemark_runtime::clickhouse::Authority;
use tidemark_runtime::credentials::{CredentialSource, Credentials};
pub use tidemark_runtime::postgres::Session as PostgresSession;
use tidemark_runtime::postgres::{Error, ErrorClass, Options, SessionSettings};

use crate::core::facts::{Failure, FailureClass};
use crate::edge::failure::failure;

/// Where a database is and who asks.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role and password.
    pub credentials: Credentials,
    /// How far the server's certificate is checked.
    pub tls: TlsMode,
    /// PEM of the certificate authority; absent: the system's.
    pub ca: Option<String>,
    /// Deadline of connecting and logging in.
    pub deadline: Duration,
}

impl PostgresTarget {
    /// Connects and logs in.
    pub async fn connect(&self) -> Result<PostgresSession, Failure> {
        let options = Options {
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            credentials: Arc::new(CredentialSource::memory(self.credentials.clone())),
            tls: self.tls,
            authority: Arc::new(self.ca.clone().map_or(Authority::System, Authority::Pem)),
            deadline: self.deadline,
        };
        let settings = SessionSettings {
            application_name: "tidemark".to_owned(),
            // A statement that hangs must not outlive the look that asked.
            statement_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(10),
            whole_tables: false,
        };
        options.connect(&settings).await.map_err(|error| of_postgres(&error))
    }
}

/// Classifies an error of PostgreSQL; `what` says what was tried.
pub(crate) fn of_error(what: &str, error: &tokio_postgres::Error) -> Failure {
    of_postgres(&Error::of(what, error))
}

fn of_postgres(error: &Error) -> Failure {
    let class = match error.class {
        ErrorClass::Unreachable => FailureClass::Unreachable,
        ErrorClass::Authentication => FailureClass::Authentication,
        ErrorClass::Permission => FailureClass::Permission,
        ErrorClass::Remote => FailureClass::Remote,
    };
    failure(class, &error.message)
}
