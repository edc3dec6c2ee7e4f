//! The pure core of the operator, plan, status, deletion and objects from values alone; and in `wire` its edge, against a
//! server of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod connect_tls;
mod deletion;
mod doctor;
mod explore;
mod fixture;
mod foresee;
mod objects;
mod ownership;
mod places;
mod purity;
mod status;
mod tables;
mod wire;
