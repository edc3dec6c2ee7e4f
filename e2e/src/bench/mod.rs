//! The measurements: sink throughput beside ClickHouse's own Kafka engine, and freshness through the whole
//! chain. Each measures real components of a [`Stack`](crate::stack::Stack); the event generator, the
//! statistics and the texts are pure, everything else is I/O.

pub mod bookkeeping;
pub mod events;
pub mod first_row;
pub mod freshness;
pub mod kafka_engine;
pub mod load;
pub mod operator;
pub mod panels;
pub mod report;
pub mod sink_process;
pub mod statistics;
pub mod target;
pub mod throughput;
pub mod topic;
pub mod usage;
