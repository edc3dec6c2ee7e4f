//! ClickHouse: what it is, what is done to it, what only it can judge. The client is the one that the sinks have. I/O.

pub mod act;
pub mod ledger;
pub mod look;
pub mod probe;
pub mod reader;
pub mod slow;
