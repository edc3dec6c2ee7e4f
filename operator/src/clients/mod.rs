//! Thin clients of the remote systems: they speak the protocol and classify failures, and decide nothing. I/O.

pub mod connect;
pub mod grafana;
pub mod kafka_admin;
pub mod kept;
pub mod postgres;

use tidemark_runtime::foreign::line;

use crate::facts::{Failure, FailureClass};

/// Longest text of a failure, in characters.
const MESSAGE_LIMIT: usize = 256;

/// Builds a failure with its text cut to what a condition may show of one call.
pub(crate) fn failure(class: FailureClass, message: impl AsRef<str>) -> Failure {
    Failure::new(class, line(message.as_ref(), MESSAGE_LIMIT))
}
