//! Integration tests on real components.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod bad_input;
mod chain;
mod chaos;
mod cluster;
mod conflicts;
#[allow(dead_code, reason = "the operator's tests use the rest of it")]
mod conformance;
mod continuous;
mod crds;
mod faults;
#[allow(dead_code, reason = "the operator's tests use the rest of it")]
#[path = "../../operator/tests/fixture.rs"]
mod fixture;
mod freshness;
mod grafana;
mod looked_again;
mod moves;
mod namespaced;
mod operator;
mod outages;
mod outside;
mod planned;
mod reads;
mod records;
mod secrets;
mod sink;
mod source;
mod stack;
mod tables;
mod views;
