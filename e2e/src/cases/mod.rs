//! Cases: other people's tables and changes, put through the live chain with PostgreSQL's own answer as the
//! expectation. `docs/testing.md` says how they are written.
//!
//! A case's table ends *equal* (the rows of `TARGET_current` are PostgreSQL's, column by column), *refused* or *held*
//! (the status names it, with the statement that mends it). Anything else is *different*.

pub mod canary;
mod canonical;
mod file;
mod group;
mod outcome;
mod statements;
mod table;

pub use self::canonical::{Kind, canonical};
pub use self::file::{Case, Expect, Step, parse};
pub use self::group::{Group, groups};
pub use self::outcome::{Line, Outcome, Verdict, judge, mends, report, screen};
pub use self::table::{Comparer, Relation, quoted, relations};
