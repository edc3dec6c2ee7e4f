//! Writers that go on while a table is changed under them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tidemark_e2e::stack::wait_until;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Writers of one case.
pub(super) const WRITERS: usize = 3;
/// Pause between two rounds of a writer.
const ROUND: Duration = Duration::from_millis(40);
/// Rounds of all writers together between two changes.
const BETWEEN: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the writers of a case have done.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Statements that were tried.
    rounds: AtomicU64,
    numbers: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Load {
    /// Repeats statements until it is over. One may fail because the table is another by then.
    pub(super) async fn write(&self, client: &Client, statements: &[String]) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            for statement in statements {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                match client.batch_execute(&statement.replace("{n}", &number.to_string())).await {
                    // Between two changes none of the statements may fit the table.
                    Err(error) if !is_of_the_change(error.code()) => {
                        let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                        *self.failure.lock().unwrap() = Some(format!("{statement}: {text}"));
                        return;
                    }
                    // Between two changes none of the statements may fit the table.
                    _ => {
                        self.rounds.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Waits until the writers have gone on for a while.
    pub(super) async fn goes_on(&self) -> anyhow::Result<()> {
        let begin = self.rounds.load(Ordering::Relaxed);
        wait_until(PATIENCE, "the writers to go on", || async {
            let failure = self.failure.lock().unwrap().clone();
            ensure!(failure.is_none(), "a writer ended: {}", failure.unwrap_or_default());
            Ok((self.rounds.load(Ordering::Relaxed) >= begin + BETWEEN).then_some(()))
        })
        .await
    }

    /// Lets the writers end.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Whether a statement failed because its table was changed meanwhile, or another writer was there first.
fn is_of_the_change(code: Option<&SqlState>) -> bool {
    let expected = [
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_TABLE,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::DATATYPE_MISMATCH,
        SqlState::INVALID_TEXT_REPRESENTATION,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::NOT_NULL_VIOLATION,
        SqlState::UNIQUE_VIOLATION,
        SqlState::CHECK_VIOLATION,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
    ];
    code.is_some_and(|code| expected.contains(code))
}
