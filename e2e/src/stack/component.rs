//! What all parts of a stack can do: start until ready, stop, be killed, start again.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::process::Process;
use super::wait::wait_until;

/// How long a part may take to be ready. Generous: a machine of two cores may
/// compile beside it, and a part that fails ends by itself, which is noticed at once.
const READY_DEADLINE: Duration = Duration::from_mins(2);

/// How many lines of the log a failure shows.
const TAIL: usize = 25;

/// A part of the stack that is one server process on loopback.
pub trait Component: Sync {
    /// Returns the process that serves.
    fn process(&self) -> &Process;

    /// Succeeds when the server answers a real request.
    fn probe(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts right what the last run left and a start would stumble over.
    fn prepare_start(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Says what to look at when the part does not start.
    fn advice(&self) -> &'static str;

    /// Starts the server, on the ports and data that it had before, and waits until it is ready.
    ///
    /// Returns how long that took. A failure names the part and shows the end of its log.
    fn start(&self) -> impl Future<Output = anyhow::Result<Duration>> + Send {
        async {
            let begin = Instant::now();
            self.prepare_start()?;
            self.process().spawn()?;
            self.ready().await?;
            Ok(begin.elapsed())
        }
    }

    /// Waits until the running server is ready, or has ended.
    fn ready(&self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async {
            let process = self.process();
            let what = format!("{} to be ready", process.name());
            let awaited = wait_until(READY_DEADLINE, &what, || async {
                if let Some(status) = process.ended()? {
                    return Ok(Some(Err(anyhow!("{} ended by itself: {status}", process.name()))));
                }
                self.probe().await.map(|()| Some(Ok(())))
            });
            awaited.await.and_then(|outcome| outcome).with_context(|| {
                format!(
                    "{} did not start. {}\n--- the last lines of {}\n{}",
                    process.name(),
                    self.advice(),
                    process.log().display(),
                    process.log_tail(TAIL)
                )
            })
        }
    }

    /// Ends the server in order.
    fn stop(&self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { self.process().stop().await }
    }

    /// Ends the server as a crash would.
    fn kill(&self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { self.process().kill().await }
    }

    /// Ends the server in order and starts it again.
    fn restart(&self) -> impl Future<Output = anyhow::Result<Duration>> + Send {
        async {
            self.stop().await?;
            self.start().await
        }
    }
}
