//! The state of the source, one machine: where the following of the log is, how far each table is in it, and the next write
//! that brings them on. Pure.
//!
//! ```text
//! log    Beginning ─▶ Raising(n) ─▶ Following(n) ─▶ Lost ─(consent)─▶ Beginning
//! table  Unread ─▶ Reading ─▶ Streaming ─▶ Doubt ─▶ Reading        any ─(new epoch)─▶ Unread
//! ```
//!
//! Nothing of it is kept here: [`Phase`] and [`TableState`] are found anew from what was seen, so that a restart in the middle
//! of either goes on where it ended.

pub mod epochs;
pub mod reads;
pub mod slot;
pub mod table;

pub use self::epochs::{Phase, phase};
pub use self::table::TableState;
