//! Connections for reads. I/O.

use std::sync::Arc;
use std::time::Duration;

use tidemark_crds::layout::SourceTable;
use tidemark_crds::sink_config::PostgresConfig;
use tidemark_runtime::clickhouse::Authority;
use tidemark_runtime::credentials::{CredentialSource, WatchedFile};
use tidemark_runtime::postgres::{CONNECT_DEADLINE, Error, Options, Session, SessionSettings};

use super::ReadError;

/// First server version whose logical decoding carries messages and whose plans read ranges of pages.
const LEAST_VERSION: i32 = 140_000;
/// How long one range may take.
const RANGE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long rows of keys may take.
const KEYS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a lock is waited for: longer would queue the shop's own statements behind ours.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transaction may lie between two statements: they follow at once.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Where tables are read, and for which pipeline.
#[derive(Debug, Clone)]
pub struct Source {
    options: Options,
    pipeline: Arc<str>,
}

/// What a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// When its first process started: another one may be another server, whose log has other positions.
    pub(super) started: String,
}

impl Source {
    /// Builds the source of a configuration; nothing is connected.
    pub fn new(config: &PostgresConfig, pipeline: &str) -> Self {
        let authority =
            config.ca_file.as_ref().map_or(Authority::System, |path| Authority::File(WatchedFile::new(path)));
        Self {
            options: Options {
                host: config.host.clone(),
                port: config.port,
                database: config.database.clone(),
                credentials: Arc::new(CredentialSource::files(&config.username_file, &config.password_file)),
                tls: config.tls,
                authority: Arc::new(authority),
                deadline: CONNECT_DEADLINE,
            },
            pipeline: Arc::from(pipeline),
        }
    }

    /// Key of the pipeline's rows in the ledger.
    pub(super) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Connects for whole tables.
    pub(super) async fn for_ranges(&self, table: &SourceTable) -> Result<(Session, Server), ReadError> {
        self.connect("tidemark-read", RANGE_TIMEOUT, table).await
    }

    /// Connects for rows by key.
    pub(super) async fn for_keys(&self, table: &SourceTable) -> Result<Session, ReadError> {
        self.connect("tidemark-keys", KEYS_TIMEOUT, table).await.map(|(session, _)| session)
    }

    /// Connects for the comparison of tables.
    pub(super) async fn for_probes(&self, table: &SourceTable) -> Result<Session, ReadError> {
        self.connect("tidemark-verify", KEYS_TIMEOUT, table).await.map(|(session, _)| session)
    }

    /// Answers whether tables could be read: for `tidemark-sink check`.
    pub async fn ping(&self) -> Result<(), String> {
        let session =
            self.session("tidemark-check", KEYS_TIMEOUT).await.map_err(|error| error.to_string())?;
        server(&session).await.map_err(|error| error.to_string())?.map(|_| ())
    }

    async fn connect(
        &self,
        name: &str,
        timeout: Duration,
        table: &SourceTable,
    ) -> Result<(Session, Server), ReadError> {
        let failed = |error| ReadError::Source { table: table.to_string(), error };
        let session = self.session(name, timeout).await.map_err(failed)?;
        match server(&session).await.map_err(failed)? {
            Ok(server) => Ok((session, server)),
            Err(reason) => Err(ReadError::Refused { table: table.to_string(), reason }),
        }
    }

    async fn session(&self, name: &str, statement_timeout: Duration) -> Result<Session, Error> {
        let settings = SessionSettings {
            application_name: name.to_owned(),
            statement_timeout,
            lock_timeout: LOCK_TIMEOUT,
            idle_in_transaction_timeout: IDLE_TIMEOUT,
            whole_tables: true,
        };
        Box::pin(self.options.connect(&settings)).await
    }
}

/// Says which server answers, or why barriers cannot be set there.
async fn server(session: &Session) -> Result<Result<Server, String>, Error> {
    const SERVER: &str = "SELECT pg_postmaster_start_time()::text, pg_is_in_recovery(), \
                          current_setting('server_version_num')::int, current_setting('server_version')";
    let wrong = |error: tokio_postgres::Error| Error::of("the server's version", &error);
    let row = session.query_one(SERVER, &[]).await.map_err(wrong)?;
    let (started, recovery): (String, bool) =
        (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
    let (version, name): (i32, String) = (row.try_get(2).map_err(wrong)?, row.try_get(3).map_err(wrong)?);
    if recovery {
        return Ok(Err(
            "the address leads to a standby, which takes no barrier: set source.postgres.host to the \
                       primary"
                .to_owned(),
        ));
    }
    if version < LEAST_VERSION {
        return Ok(Err(format!("PostgreSQL {name} carries no barrier to the connector: 14 or later does")));
    }
    Ok(Ok(Server { started }))
}
