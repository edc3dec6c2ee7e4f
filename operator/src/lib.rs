//! The Tidemark operator: observe → validate → desired → plan → run a wave → observe again.
//!
//! Modules that open with "Pure" see no client, clock or environment; the others are the edge.

pub mod apply;
pub mod backoff;
pub mod clients;
pub mod config;
pub mod credentials;
pub mod desired;
pub mod effect;
pub mod events;
pub mod facts;
pub mod leader;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod plan;
pub mod problem;
pub mod restart;
pub mod step;
