//! Whether somebody asks: nobody's question costs the source a connection a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// For how long after a question the next one is expected.
const LASTING: Duration = Duration::from_mins(1);
/// Pause between two rounds for those who ask: an interval of the heartbeats, which move the connector's position behind a
/// mark.
const ASKED: Duration = Duration::from_secs(1);
/// The same for the view alone.
const UNASKED: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct State {
    last: Mutex<Option<Instant>>,
    asked: Notify,
}

/// Questions of this replica, as far as they set a pace.
#[derive(Debug, Clone, Default)]
pub struct Demand(Arc<State>);

impl Demand {
    /// Notes a question.
    pub(super) fn note(&self) {
        *self.last() = Some(Instant::now());
        self.0.asked.notify_one();
    }

    /// Whether somebody asked a short while ago.
    pub(super) fn is_there(&self) -> bool {
        self.last().is_some_and(|last| last.elapsed() < LASTING)
    }

    /// Returns when the next round is due.
    pub(super) async fn next_round(&self) {
        if self.is_there() {
            tokio::time::sleep(ASKED).await;
        } else {
            // It also ends at once by a question that was noted before; one round more does no harm.
            let _ = tokio::time::timeout(UNASKED, self.0.asked.notified()).await;
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_ends_a_long_pause_and_makes_the_next_ones_short() {
        let demand = Demand::default();
        assert!(!demand.is_there());
        let waits = tokio::spawn({
            let demand = demand.clone();
            async move { demand.next_round().await }
        });
        demand.note();
        tokio::time::timeout(UNASKED / 2, waits).await.unwrap().unwrap();
        assert!(demand.is_there());
        tokio::time::timeout(UNASKED / 2, demand.next_round()).await.unwrap();
    }
}
