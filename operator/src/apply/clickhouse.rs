//! Runs one statement on ClickHouse. I/O.

use std::time::Duration;

use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use crate::clients::failure;
use crate::facts::{Failure, FailureClass};

/// Deadline of one statement.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a statement that returns no rows.
pub async fn execute(client: &ClickHouse, sql: &str) -> Result<(), Failure> {
    let client = client.with_deadline(DEADLINE);
    client.execute(sql).await.map_err(|error| of_error(&error))
}

/// What a failed call means for a condition.
pub(crate) fn of_error(error: &Error) -> Failure {
    let class = match error.class {
        ErrorClass::Authentication => FailureClass::Authentication,
        ErrorClass::Permission => FailureClass::Permission,
        ErrorClass::Transient | ErrorClass::InDoubt => FailureClass::Unreachable,
        ErrorClass::MergeBackpressure | ErrorClass::Resource | ErrorClass::Schema | ErrorClass::Permanent => {
            FailureClass::Remote
        }
    };
    failure(class, error.to_string())
}
