//! Integration tests on real components.

mod bad_input;
mod chain;
mod cluster;
mod crds;
mod freshness;
mod operator;
mod sink;
mod stack;
mod views;
