//! Grafana: its HTTP API, what is ours there, what is done to it, and the one that a spec named before. I/O.

pub mod act;
pub mod client;
pub mod former;
pub mod look;
