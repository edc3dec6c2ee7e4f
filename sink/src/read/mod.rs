//! Reading PostgreSQL directly, exactly, at any time: whole tables that were asked for, and rows by their key.
//!
//! A read sets a barrier, a logical message whose position in the log is `W`, waits until what was committed before
//! it can be seen, and reads in any later snapshots. Every row has the version `(epoch, stream, W, 0)`: a change that
//! the read may have seen or missed was committed after the barrier, so its event is above that and comes with the
//! stream; what was committed before is below and was seen. So a read can be repeated, in part or as a whole, by any
//! replica and by several at once, and each ends in the same rows.

pub mod barrier;
pub mod claim;
pub mod copy;
mod copy_text;
mod error;
mod key_text;
pub mod keys;
mod metrics;
mod pace;
mod probe;
pub mod ranges;
mod reader;
pub mod relation;
mod requests;
mod source;
mod table;
#[cfg(test)]
pub(crate) mod table_tests;

pub(crate) use barrier::Mark;
pub(crate) use claim::Open as OpenRead;
pub use error::ReadError;
pub(crate) use key_text::key_json;
pub use keys::KeyReader;
pub use metrics::ReadMetrics;
pub(crate) use pace::Pace;
pub(crate) use probe::{Page, Probe};
pub use reader::{Reader, ReaderContext, ReaderOptions};
pub(crate) use requests::Requests;
pub use source::Source;
