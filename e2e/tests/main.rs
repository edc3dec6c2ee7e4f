//! Integration tests on real components.

mod bad_input;
mod chain;
mod stack;
mod views;
