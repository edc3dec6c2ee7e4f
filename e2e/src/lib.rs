//! Integration and end-to-end tests of Tidemark: the real components they run on, the demo and the benchmarks.

pub mod bench;
pub mod cases;
pub mod chain;
pub mod chaos;
pub mod cluster;
pub mod grafana;
pub mod oracle;
pub mod resources;
pub mod shop;
pub mod stack;
