//! Kafka: topics, offsets and groups, what they are and what is done to them. I/O.

pub mod act;
pub mod client;
pub mod look;
