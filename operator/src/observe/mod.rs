//! Looks at every system: side by side, each under its own deadline. I/O, read only.

pub mod kubernetes;
