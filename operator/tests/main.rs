//! The pure core of the operator: plan, status, deletion and objects from values alone; no I/O.

mod deletion;
mod fixture;
mod objects;
mod purity;
mod status;
