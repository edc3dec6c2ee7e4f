//! The contracts of Tidemark, shared by the operator, the sink and the tests.
//!
//! Pure: no client, no I/O, no clock. What the operator writes and the sink reads is defined here once.

mod commented_yaml;
pub mod conditions;
pub mod connect_settings;
pub mod duration;
pub mod examples;
pub mod generated;
pub mod history;
pub mod layout;
pub mod ledger;
pub mod manifest;
pub mod mapping;
pub mod names;
pub mod partition;
pub mod pg_quote;
pub mod pg_types;
pub mod pipeline;
pub mod quote;
pub mod secrets;
pub mod sink_config;
pub mod status;
pub mod types;
pub mod version;

/// API group of the custom resources.
pub const GROUP: &str = "tidemark.dev";
