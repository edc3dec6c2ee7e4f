//! Integration tests on real components.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod bad_input;
mod chain;
mod cluster;
#[allow(dead_code, reason = "the operator's tests use the rest of it")]
mod conformance;
mod crds;
#[allow(dead_code, reason = "the operator's tests use the rest of it")]
#[path = "../../operator/tests/fixture.rs"]
mod fixture;
mod freshness;
mod grafana;
mod moves;
mod operator;
mod outages;
mod planned;
mod reads;
mod sink;
mod source;
mod stack;
mod tables;
mod verify;
mod views;
