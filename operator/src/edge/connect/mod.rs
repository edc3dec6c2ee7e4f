//! Kafka Connect: its REST interface, our connector as it shows it, what is done to that. I/O.

pub mod act;
pub mod client;
pub mod look;
