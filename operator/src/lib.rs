//! The Tidemark operator: observe → validate → desired → plan → run a wave → observe again.
//!
//! Modules that open with "Pure" see no client, clock or environment; the others are the edge.

pub mod admission;
pub mod apply;
pub mod backoff;
pub mod blind;
pub mod cli;
pub mod clients;
pub mod config;
pub mod context;
pub mod controller;
pub mod cost;
pub mod credentials;
pub mod dashboards;
pub mod desired;
pub mod doctor;
pub mod effect;
pub mod engine;
pub mod error;
pub mod events;
pub mod facts;
pub mod finalize;
pub mod former;
pub mod freshness;
pub mod judge;
pub mod leader;
pub mod metrics;
pub mod objects;
pub mod observe;
pub mod plan;
pub mod position;
pub mod probe;
pub mod problem;
pub mod reconcile;
pub mod references;
pub mod restart;
pub mod revisions;
pub mod run;
pub mod status;
pub mod step;
pub mod systems;
pub mod table_status;
pub mod validate;
