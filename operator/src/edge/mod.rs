//! Everything that the operator reaches outside, by system: `client` speaks the protocol, `look` reads and never writes, `act`
//! writes and decides nothing. I/O.

pub mod act;
pub mod breaker;
pub mod clickhouse;
pub mod connect;
pub mod failure;
pub mod glance;
pub mod grafana;
pub mod kafka;
pub mod kept;
pub mod kubernetes;
pub mod look;
pub mod metrics;
pub mod postgres;
pub mod systems;
pub mod world;
