//! Tests of the contracts: generated files, the table of rules, and properties of types, quoting and mapping.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod generated;
mod mapping;
mod partition;
mod quoting;
mod rules;
mod types;
