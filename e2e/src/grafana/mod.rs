//! A stand-in for Grafana: no image of it can be had on a machine without an image registry.
//!
//! It keeps what was observed of a real server, Grafana 7.5.5, over its HTTP API, oddities included, each rule with
//! its sign `observed` in [`rules`]. What newer versions are documented to do differently is behind
//! [`Version::Modern`], and was not observed. It draws nothing.

mod rules;
mod server;

pub use self::rules::{Answer, Request, State, Version};
pub use self::server::{ADMIN, Grafana, TOKEN};
