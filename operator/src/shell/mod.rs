//! The program around the core: watches, workers, leader election, one reconcile after another, the command line. I/O.

pub mod backoff;
pub mod cli;
pub mod config;
pub mod context;
pub mod controller;
pub mod engine;
pub mod error;
pub mod events;
pub mod leader;
pub mod planned;
pub mod pools;
pub mod reconcile;
pub mod run;
