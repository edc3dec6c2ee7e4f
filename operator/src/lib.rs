//! The Tidemark operator: observe → validate → desired → plan → run a wave → observe again.
//!
//! Modules that open with "Pure" see no client, clock or environment; the others are the edge.

pub mod apply;
pub mod backoff;
pub mod config;
pub mod credentials;
pub mod desired;
pub mod effect;
pub mod facts;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod leader;
pub mod plan;
pub mod problem;
pub mod status;
pub mod step;
