//! Carries out one step: the only place that writes to a remote system. I/O, a deadline on every call.

pub mod kubernetes;
