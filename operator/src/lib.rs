//! The Tidemark operator: observe → validate → desired → plan → run a wave → observe again.
//!
//! Modules that open with "Pure" see no client, clock or environment; the others are the edge.

pub mod effect;
pub mod facts;
pub mod step;
