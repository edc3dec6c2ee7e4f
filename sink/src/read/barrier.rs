//! The barrier of a read: its position in the log, and the wait after which everything before it can be seen. I/O.

use std::time::{Duration, Instant};

use tidemark_runtime::postgres::{Error, ErrorClass, Session};

/// Prefix of the message: the one that the connector lets through.
const PREFIX: &str = "tidemark";
/// How long the message may take to be committed.
const EMIT_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks at the transactions that are open.
const POLL: Duration = Duration::from_millis(20);
/// How long a commit takes at most that waits for no standby: what is open then is a long transaction.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a commit that waits for a standby is waited for.
const STANDBY_PATIENCE: Duration = Duration::from_mins(1);

/// A position of the log behind everything that a read must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Position in bytes of write-ahead log.
    pub lsn: u64,
    /// The server's time, milliseconds since 1970-01-01: the commit time of the rows that are read.
    pub at: i64,
}

/// Commits a logical message, returns its position, and waits until what was committed before can be seen.
pub(super) async fn set(session: &Session, pipeline: &str, table: &str) -> Result<Barrier, Error> {
    let content = serde_json::json!({"pipeline": pipeline, "table": table}).to_string();
    let barrier = commit(session, &content).await?;
    settle(session).await?;
    Ok(barrier)
}

/// A message in the log that is like no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Position in bytes of write-ahead log.
    pub(crate) lsn: u64,
    /// What it says.
    pub(crate) content: String,
}

/// Commits a logical message that is told from every other by `id`: the stream has everything that could be seen before
/// the call in front of it.
pub(super) async fn mark(session: &Session, pipeline: &str, table: &str, id: &str) -> Result<Mark, Error> {
    let content = serde_json::json!({"pipeline": pipeline, "table": table, "mark": id}).to_string();
    let Barrier { lsn, .. } = commit(session, &content).await?;
    Ok(Mark { lsn, content })
}

/// Commits a logical message and returns its position.
async fn commit(session: &Session, content: &str) -> Result<Barrier, Error> {
    let emitted = tokio::time::timeout(EMIT_DEADLINE, emit(session, content)).await;
    emitted.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorClass::Unreachable,
            format!(
                "the barrier was not committed within {} s; a synchronous standby that is gone holds all commits",
                EMIT_DEADLINE.as_secs()
            ),
        ))
    })
}

async fn emit(session: &Session, content: &str) -> Result<Barrier, Error> {
    let sql = format!(
        "SELECT (pg_logical_emit_message(true, '{PREFIX}', $1::text) - '0/0'::pg_lsn)::bigint, \
         (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    );
    let wrong = |error: tokio_postgres::Error| Error::of("setting a barrier", &error);
    let row = session.query_one(&sql, &[&content]).await.map_err(wrong)?;
    let lsn: i64 = row.try_get(0).map_err(wrong)?;
    let lsn = u64::try_from(lsn).map_err(|_| {
        Error::new(ErrorClass::Remote, "setting a barrier: its position is beyond the log of this program")
    })?;
    Ok(Barrier { lsn, at: row.try_get(1).map_err(wrong)? })
}

/// Waits until every transaction whose commit record may lie before the barrier can be seen.
///
/// A commit record is written before other sessions see the transaction as ended, and the flush, or the wait for a
/// standby, lies between. All transactions that can be in that gap are below `X`, read after the barrier.
async fn settle(session: &Session) -> Result<(), Error> {
    const BOUND: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    // The snapshot is taken before the activity is read: whoever is idle then had not begun to commit.
    const OPEN: &str = "
SELECT count(*),
       count(*) FILTER (WHERE a.state IN ('idle in transaction', 'idle in transaction (aborted)')),
       EXISTS (SELECT FROM pg_stat_activity w WHERE w.wait_event = 'SyncRep')
FROM pg_snapshot_xip(pg_current_snapshot()) AS x(xid)
LEFT JOIN pg_stat_activity a ON a.backend_xid = x.xid::xid
WHERE x.xid < $1::text::xid8";
    let wrong = |error: tokio_postgres::Error| Error::of("waiting for commits", &error);
    let bound: String = session.query_one(BOUND, &[]).await.and_then(|row| row.try_get(0)).map_err(wrong)?;
    let open = session.prepare(OPEN).await.map_err(wrong)?;
    let begin = Instant::now();
    loop {
        let row = session.query_one(&open, &[&bound]).await.map_err(wrong)?;
        let seen = Seen {
            open: row.try_get(0).map_err(wrong)?,
            idle: row.try_get(1).map_err(wrong)?,
            standby: row.try_get(2).map_err(wrong)?,
        };
        match seen.verdict(begin.elapsed()) {
            Verdict::Done => return Ok(()),
            Verdict::Wait => tokio::time::sleep(POLL).await,
            Verdict::Hangs => {
                return Err(Error::new(
                    ErrorClass::Unreachable,
                    format!(
                        "commits have waited for a synchronous standby for {} s (pg_stat_activity.wait_event \
                         SyncRep); bring it back or change synchronous_standby_names",
                        STANDBY_PATIENCE.as_secs()
                    ),
                ));
            }
        }
    }
}

/// What is open of the transactions that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// All of them.
    pub open: i64,
    /// Those whose session waits for its client: their commit will be behind the barrier.
    pub idle: i64,
    /// Whether any commit waits for a standby, where the role may see that.
    pub standby: bool,
}

/// Whether a read may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything of before the barrier can be seen.
    Done,
    /// A commit may be on its way.
    Wait,
    /// Commits wait for a standby for longer than a read waits.
    Hangs,
}

impl Seen {
    /// Judges what is still open after this time.
    pub fn verdict(self, waited: Duration) -> Verdict {
        match (self.open <= self.idle, self.standby) {
            (true, _) => Verdict::Done,
            (false, false) if waited >= PATIENCE => Verdict::Done,
            (false, true) if waited >= STANDBY_PATIENCE => Verdict::Hangs,
            (false, _) => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_transaction_holds_no_read_up_and_a_commit_that_waits_for_a_standby_does() {
        let seen = |open, idle, standby| Seen { open, idle, standby };
        let after = |seen: Seen, seconds| seen.verdict(Duration::from_secs(seconds));
        assert_eq!(after(seen(0, 0, false), 0), Verdict::Done);
        assert_eq!(after(seen(2, 2, true), 0), Verdict::Done, "both wait for their clients");
        assert_eq!(after(seen(2, 1, false), 4), Verdict::Wait);
        assert_eq!(after(seen(2, 1, false), 5), Verdict::Done);
        assert_eq!(after(seen(1, 0, true), 5), Verdict::Wait);
        assert_eq!(after(seen(1, 0, true), 60), Verdict::Hangs);
    }
}
