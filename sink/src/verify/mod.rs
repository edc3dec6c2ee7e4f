//! Continuous verification: tables are compared with their source while changes go on, and what differs is repaired.
//!
//! One replica compares a table: the owner of partition 0 of its topic. A round goes over it twice. By keys: a range of
//! ClickHouse's own order, by the rule of `_current` (newest version, no tombstone, not below the fence), and the rows
//! of these keys at the source; that finds rows that differ and rows too many. By pages: the keys on a range of the
//! source's pages, looked up in ClickHouse; that finds rows that are missing. Neither needs an order of keys that both
//! servers share, so every type of key will do. Rows are compared as bytes of the state table's own columns, made by
//! the reader that loads tables: there is no second meaning of equal.
//!
//! These two looks are cheap, and not at one moment: a row that changed between them seems different. So what seems
//! different is only a suspect, and is examined behind a barrier. The rows of the keys are read behind a barrier at `W`,
//! then a mark is set in the log, `M`; once the stream has passed `M` and every partition of the table has applied what
//! it had then, the keys are looked up in ClickHouse. A key whose newest version there is above `(W, 0)` changed
//! meanwhile and is left to the next round; of any other, all that the read saw is applied and nothing else, so it has
//! to be equal. A key that differs twice, behind two barriers, is repaired by the rows of the second, which have its
//! version. That is what every read of rows does, so a repair is right even where the finding was not.
//!
//! All of it can be dropped at any time: nothing is kept but how far a round is, and a row that is written twice is one.
//! What a row becomes that moves from a page that is not read yet to one that was, is seen by the way of keys, and by
//! the next round. A row whose version no log has reached yet cannot be outdone by what is written: it is removed first.

mod book;
mod compare;
mod lane;
mod metrics;
mod passage;
mod round;
mod target;
mod verifier;

pub use metrics::VerifyMetrics;
pub(crate) use passage::{NotPassed, Passage};
pub use verifier::{Verifier, VerifierContext};
