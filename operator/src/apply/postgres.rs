//! Runs one statement on PostgreSQL. I/O.

use std::time::Duration;

use crate::clients::failure;
use crate::clients::postgres::{PostgresTarget, of_error};
use crate::facts::{Failure, FailureClass};

/// Deadline of one statement, connecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a text of one or more statements; all of them or none take effect.
pub async fn execute(target: &PostgresTarget, sql: &str) -> Result<(), Failure> {
    let run = Box::pin(async {
        let session = target.connect().await?;
        session.batch_execute(sql).await.map_err(|error| of_error("postgresql", &error))
    });
    tokio::time::timeout(DEADLINE, run).await.unwrap_or_else(|_| {
        let text = format!("postgresql did not finish within {} s", DEADLINE.as_secs());
        Err(failure(FailureClass::Unreachable, text))
    })
}
