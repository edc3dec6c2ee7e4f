//! Connections for reads. I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_crds::layout::SourceTable;
use tidemark_crds::sink_config::PostgresConfig;
use tidemark_runtime::clickhouse::Authority;
use tidemark_runtime::credentials::{CredentialSource, WatchedFile};
use tidemark_runtime::postgres::{CONNECT_DEADLINE, Error, ErrorClass, Options, Session, SessionSettings};

use super::ReadError;
use super::barrier::{self, Mark};

/// First server version whose logical decoding carries messages and whose plans read ranges of pages.
const LEAST_VERSION: i32 = 140_000;
/// How long one range may take.
const RANGE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long rows of keys may take.
const KEYS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a lock is waited for: longer would queue the shop's own statements behind ours.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a standby may take to come to a barrier.
const REPLAY_PATIENCE: Duration = Duration::from_mins(5);
/// Pause between two looks at how far a standby is.
const REPLAY_POLL: Duration = Duration::from_millis(100);
/// How long a transaction may lie between two statements: they follow at once.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Where tables are read, and for which pipeline.
#[derive(Debug, Clone)]
pub struct Source {
    options: Options,
    /// The standby that the rows of whole tables come from.
    standby: Option<Options>,
    pipeline: Arc<str>,
}

/// The log of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// Whose it is: `STARTED/TIMELINE`. Another start may be another server, or one that lost what it had not flushed, and
    /// in another timeline the same positions are others.
    pub(crate) server: String,
    /// Where the next record goes, in bytes.
    pub(crate) end: u64,
}

/// What a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// When its first process started: another one may be another server, whose log has other positions.
    pub(super) started: String,
    /// `system_identifier`, which a standby has from its primary; absent where the role may not read it.
    system: Option<String>,
    /// Whether it is a standby.
    recovers: bool,
}

impl std::fmt::Display for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let system = self.system.as_deref().unwrap_or("unknown");
        write!(formatter, "{system} since {}{}", self.started, if self.recovers { ", a standby" } else { "" })
    }
}

impl Source {
    /// Builds the source of a configuration; nothing is connected.
    pub fn new(config: &PostgresConfig, pipeline: &str) -> Self {
        let authority =
            config.ca_file.as_ref().map_or(Authority::System, |path| Authority::File(WatchedFile::new(path)));
        let options = Options {
            host: config.host.clone(),
            port: config.port,
            database: config.database.clone(),
            credentials: Arc::new(CredentialSource::files(&config.username_file, &config.password_file)),
            tls: config.tls,
            authority: Arc::new(authority),
            deadline: CONNECT_DEADLINE,
        };
        let standby = config.reads.standby.as_ref().map(|standby| Options {
            host: standby.host.clone(),
            port: standby.port,
            ..options.clone()
        });
        Self { options, standby, pipeline: Arc::from(pipeline) }
    }

    /// Key of the pipeline's rows in the ledger.
    pub(super) fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Connects for the barrier of a read.
    pub(super) async fn for_barrier(&self, table: &SourceTable) -> Result<(Session, Server), ReadError> {
        self.connect("tidemark-read", RANGE_TIMEOUT, table).await
    }

    /// Connects where the rows of whole tables come from.
    pub(super) async fn for_ranges(&self, table: &SourceTable) -> Result<(Session, Server), ReadError> {
        match &self.standby {
            None => self.for_barrier(table).await,
            Some(standby) => connect(standby, ("tidemark-read", RANGE_TIMEOUT), table).await,
        }
    }

    /// Goes on where the rows come from, once all is there that `primary` has now: a standby has then the barrier that was
    /// set, and shows what was committed before it, since it shows a commit when it has replayed its record.
    pub(super) async fn behind(
        &self,
        primary: Session,
        server: Server,
        table: &SourceTable,
    ) -> Result<(Session, Server), ReadError> {
        const WRITTEN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
        const REPLAYED: &str = "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint";
        if self.standby.is_none() {
            return Ok((primary, server));
        }
        let failed = |error| ReadError::Source { table: table.to_string(), error };
        let refused =
            |reason: &str| ReadError::Refused { table: table.to_string(), reason: reason.to_owned() };
        let wanted = position(&primary, WRITTEN).await.map_err(failed)?;
        drop(primary);
        let (session, standby) = self.for_ranges(table).await?;
        if !standby.recovers {
            return Err(refused(
                "source.postgres.reads.host leads to a server that is no standby: name one, or leave it out",
            ));
        }
        match (&standby.system, &server.system) {
            (Some(its), Some(ours)) if its == ours => {}
            (Some(_), Some(_)) => {
                return Err(refused("source.postgres.reads.host leads to a standby of another server"));
            }
            _ => {
                return Err(refused(
                    "whose standby source.postgres.reads.host leads to cannot be told: GRANT EXECUTE ON FUNCTION                      pg_control_system() TO the role of source.postgres.credentials",
                ));
            }
        }
        let begin = Instant::now();
        loop {
            let replayed = position(&session, REPLAYED).await.map_err(failed)?;
            if replayed >= wanted {
                return Ok((session, standby));
            }
            if begin.elapsed() > REPLAY_PATIENCE {
                let message = format!(
                    "the standby of source.postgres.reads.host is {} bytes behind the barrier after {} s",
                    wanted - replayed,
                    REPLAY_PATIENCE.as_secs()
                );
                return Err(failed(Error::new(ErrorClass::Unreachable, message)));
            }
            tokio::time::sleep(REPLAY_POLL).await;
        }
    }

    /// Connects for rows by key.
    pub(super) async fn for_keys(&self, table: &SourceTable) -> Result<Session, ReadError> {
        self.connect("tidemark-keys", KEYS_TIMEOUT, table).await.map(|(session, _)| session)
    }

    /// Connects for the comparison of tables.
    pub(super) async fn for_probes(&self, table: &SourceTable) -> Result<Session, ReadError> {
        self.connect("tidemark-verify", KEYS_TIMEOUT, table).await.map(|(session, _)| session)
    }

    /// Connects anew, since the address may lead elsewhere by now, and says whose log is there and where it ends.
    pub(crate) async fn log(&self) -> Result<(Session, Log), Error> {
        const LOG: &str = "
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint END";
        let wrong = |error: tokio_postgres::Error| Error::of("the log's end", &error);
        let session = session(&self.options, "tidemark-visible", KEYS_TIMEOUT).await?;
        let row = session.query_one(LOG, &[]).await.map_err(wrong)?;
        let started: i64 = row.try_get(0).map_err(wrong)?;
        let timeline: Option<String> = row.try_get(1).map_err(wrong)?;
        let end: Option<i64> = row.try_get(2).map_err(wrong)?;
        let (Some(timeline), Some(end)) = (timeline, end.and_then(|end| u64::try_from(end).ok())) else {
            return Err(Error::new(ErrorClass::Remote, "the address of the source leads to a standby"));
        };
        Ok((session, Log { server: format!("{started}/{timeline}"), end }))
    }

    /// Sets a mark in the log that is told from every other by `id`.
    pub(crate) async fn mark(&self, session: &Session, id: &str) -> Result<Mark, Error> {
        barrier::mark(session, &self.pipeline, "", id).await
    }

    /// Answers whether tables could be read: for `tidemark-sink check`.
    pub async fn ping(&self) -> Result<(), String> {
        for options in std::iter::once(&self.options).chain(&self.standby) {
            let session =
                session(options, "tidemark-check", KEYS_TIMEOUT).await.map_err(|error| error.to_string())?;
            server(&session).await.map_err(|error| error.to_string())?.map(|_| ())?;
        }
        Ok(())
    }

    async fn connect(
        &self,
        name: &str,
        timeout: Duration,
        table: &SourceTable,
    ) -> Result<(Session, Server), ReadError> {
        let (session, server) = connect(&self.options, (name, timeout), table).await?;
        if server.recovers {
            let reason = "the address leads to a standby, which takes no barrier: set source.postgres.host to the primary";
            return Err(ReadError::Refused { table: table.to_string(), reason: reason.to_owned() });
        }
        Ok((session, server))
    }
}

/// Connects, and says which server answers.
async fn connect(
    options: &Options,
    (name, timeout): (&str, Duration),
    table: &SourceTable,
) -> Result<(Session, Server), ReadError> {
    let failed = |error| ReadError::Source { table: table.to_string(), error };
    let session = session(options, name, timeout).await.map_err(failed)?;
    match server(&session).await.map_err(failed)? {
        Ok(server) => Ok((session, server)),
        Err(reason) => Err(ReadError::Refused { table: table.to_string(), reason }),
    }
}

async fn session(options: &Options, name: &str, statement_timeout: Duration) -> Result<Session, Error> {
    let settings = SessionSettings {
        application_name: name.to_owned(),
        statement_timeout,
        lock_timeout: LOCK_TIMEOUT,
        idle_in_transaction_timeout: IDLE_TIMEOUT,
        whole_tables: true,
    };
    Box::pin(options.connect(&settings)).await
}

/// A position of the log, in bytes.
async fn position(session: &Session, sql: &str) -> Result<i64, Error> {
    let wrong = |error: tokio_postgres::Error| Error::of("the log's position", &error);
    let row = session.query_one(sql, &[]).await.map_err(wrong)?;
    // A standby that has not replayed anything yet has none.
    Ok(row.try_get::<_, Option<i64>>(0).map_err(wrong)?.unwrap_or(0))
}

/// Says which server answers, or why tables cannot be read there.
async fn server(session: &Session) -> Result<Result<Server, String>, Error> {
    const SERVER: &str = "SELECT pg_postmaster_start_time()::text, pg_is_in_recovery(), \
                          current_setting('server_version_num')::int, current_setting('server_version')";
    const SYSTEM: &str = "SELECT system_identifier::text FROM pg_control_system()";
    let wrong = |error: tokio_postgres::Error| Error::of("the server's version", &error);
    let row = session.query_one(SERVER, &[]).await.map_err(wrong)?;
    let (started, recovers): (String, bool) =
        (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
    let (version, name): (i32, String) = (row.try_get(2).map_err(wrong)?, row.try_get(3).map_err(wrong)?);
    if version < LEAST_VERSION {
        return Ok(Err(format!("PostgreSQL {name} carries no barrier to the connector: 14 or later does")));
    }
    // A refusal is an answer, too.
    let system = session.query_one(SYSTEM, &[]).await.and_then(|row| row.try_get(0)).ok();
    Ok(Ok(Server { started, system, recovers }))
}
