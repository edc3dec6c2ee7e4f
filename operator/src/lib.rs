//! The Tidemark operator: observe → validate → desired → plan → run a wave → observe again.

pub mod core;
pub mod edge;
pub mod shell;
