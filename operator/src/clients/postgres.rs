//! PostgreSQL: a connection for one look or one statement. I/O.

use std::time::Duration;

use tidemark_crds::pipeline::TlsMode;
use tidemark_runtime::credentials::Credentials;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{failure, tls};
use crate::facts::{Failure, FailureClass};

/// Deadline of connecting and logging in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

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
}

/// An open connection; it closes when dropped.
#[derive(Debug)]
pub struct PostgresSession {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::ops::Deref for PostgresSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl PostgresTarget {
    /// Connects and logs in within five seconds.
    pub async fn connect(&self) -> Result<PostgresSession, Failure> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.credentials.username)
            .password(self.credentials.password.expose())
            .application_name("tidemark")
            .connect_timeout(CONNECT_DEADLINE)
            // A statement that hangs must not outlive the look that asked.
            .options("-c statement_timeout=8000 -c lock_timeout=5000");
        let connecting = Box::pin(async {
            match self.tls {
                TlsMode::Disable => {
                    let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
                    Ok(Ok((client, tokio::spawn(async { drop(connection.await) }))))
                }
                TlsMode::VerifyCa | TlsMode::VerifyFull => {
                    let tls = match tls::client_config(self.ca.as_deref(), self.tls == TlsMode::VerifyFull) {
                        Ok(tls) => MakeRustlsConnect::new(tls),
                        Err(failure) => return Ok(Err(failure)),
                    };
                    let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls).await?;
                    Ok(Ok((client, tokio::spawn(async { drop(connection.await) }))))
                }
            }
        });
        let at = format!("postgresql at {}:{}", self.host, self.port);
        match tokio::time::timeout(CONNECT_DEADLINE, connecting).await {
            Err(_) => Err(failure(
                FailureClass::Unreachable,
                format!("{at} did not answer within {} s", CONNECT_DEADLINE.as_secs()),
            )),
            Ok(Err(error)) => Err(of_error(&at, &error)),
            Ok(Ok(Err(failure))) => Err(failure),
            Ok(Ok(Ok((client, driver)))) => Ok(PostgresSession { client, driver }),
        }
    }
}

/// Classifies an error of PostgreSQL; `what` says what was tried.
pub(crate) fn of_error(what: &str, error: &tokio_postgres::Error) -> Failure {
    let Some(answer) = error.as_db_error() else {
        return failure(FailureClass::Unreachable, format!("{what}: {}", with_cause(error)));
    };
    let code = answer.code();
    let class = if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code)
    {
        FailureClass::Authentication
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        FailureClass::Permission
    } else if ["57", "53", "08"].iter().any(|class| code.code().starts_with(class)) {
        FailureClass::Unreachable
    } else {
        FailureClass::Remote
    };
    failure(class, format!("{what}: {}", answer.message()))
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
