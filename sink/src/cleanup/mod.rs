//! Rows that nobody sees are removed, so that a state table does not grow for ever: tombstones with what they hide, and
//! what lies below a fence.
//!
//! A tombstone is needed as long as an older image of its key can still be written. So it goes behind a *horizon* only:
//!
//! 1. Every commit up to a position `L` is visible, by the argument of read-your-writes (docs/visible.md): its records are
//!    applied, and the table has no doubt, no dead letter and no read under way. What comes of it from now on comes again.
//!    With `H = (epoch, stream, L, 0)` these are the changes with a version below `H`.
//! 2. What comes again is not applied: the horizon is written to the ledger first, every replica passes over changes below
//!    it, and nothing is removed before all of them have looked at the ledger.
//! 3. What is written without a record, the rows of a read or of a repair, has the position of its barrier for a version.
//!    While a table is read no horizon is found; and one is used only when everything below it has been visible for a good
//!    while: a process that stood still for as long has lost its connection and its lease.
//!
//! Removing takes two mutations, since one goes over the parts of a table in any order: first the older images, over which
//! the tombstones stay, and the tombstones only once a look finds no image left. Keys are looked up the same way both
//! times, so that a key which is equal to nothing, such as one of NaN, keeps its tombstone.
//!
//! It is done where a tenth of a table's rows are of that kind: a mutation writes every part anew that it touches.

mod cleaner;
mod horizon;
mod metrics;
mod statements;

pub use cleaner::{Cleaner, CleanerContext};
pub use metrics::CleanupMetrics;
