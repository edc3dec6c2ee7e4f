//! Waiting for a condition, with a deadline and a text that says what was awaited. I/O is the caller's.

use std::time::{Duration, Instant};

/// How long a test waits for what takes seconds on a quiet machine.
///
/// A processor that other tests keep busy must fail no test: how quick something is, is measured where nothing runs
/// beside it.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// The least and the greatest pause between two looks at a condition.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long to wait after a look that took so long: what is waited for needs the processor more than the next look.
pub fn pause_after(look: Duration) -> Duration {
    (3 * look).clamp(PAUSES.0, PAUSES.1)
}

/// Polls `look` until it yields a value, and returns that value.
///
/// `what` completes the sentence "waited 10 s for ...". `look` returns
/// `Ok(Some(value))` when the condition holds and `Ok(None)` while it does not;
/// an error counts as "not yet" and is told when the deadline passes, since a
/// server that is starting refuses connections first. One look may not outlast
/// the deadline either.
pub async fn wait_until<T, F>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let start = Instant::now();
    let mut last = String::from("the condition never held");
    loop {
        let begin = Instant::now();
        let left = deadline.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = "the condition did not hold".into(),
            Ok(Err(error)) => last = format!("{error:#}"),
            // The look before this one says more than that this one took too long.
            Err(_) => {}
        }
        // A look that never waits is never cut off by the timeout above.
        anyhow::ensure!(
            start.elapsed() < deadline,
            "waited {:.1} s for {what}; at the last look: {last}",
            deadline.as_secs_f64()
        );
        tokio::time::sleep(pause_after(begin.elapsed()).min(deadline.saturating_sub(start.elapsed()))).await;
    }
}
