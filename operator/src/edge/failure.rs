//! What a call that failed says. Pure.

use tidemark_runtime::foreign::line;

use crate::core::facts::{Failure, FailureClass};

/// Longest text of a failure, in characters.
const MESSAGE_LIMIT: usize = 256;

/// Builds a failure with its text cut to what a condition may show of one call.
pub(crate) fn failure(class: FailureClass, message: impl AsRef<str>) -> Failure {
    Failure::new(class, line(message.as_ref(), MESSAGE_LIMIT))
}
