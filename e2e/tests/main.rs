//! Integration tests on real components.

mod stack;
