//! Tests of the contracts: generated files, the table of rules, and properties of types, quoting and mapping.

mod generated;
mod mapping;
mod partition;
mod quoting;
mod rules;
mod types;
