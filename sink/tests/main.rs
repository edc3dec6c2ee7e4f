//! Tests of the sink that need no server.
#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod corpus;
mod fuzz;
mod histories;
mod types;
