//! From the bytes of a Kafka record to typed values: JSON, Debezium's envelope, numbers and times. Pure.
//!
//! Nothing here allocates a value tree and nothing panics, whatever the bytes are.

pub mod connect_schema;
pub mod decimal;
pub mod envelope;
pub mod fields;
pub mod json;
pub mod postgres_text;
pub mod source;
pub mod time;
