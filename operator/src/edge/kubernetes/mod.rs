//! Kubernetes, or a folder in its place: the sink's objects, the resource as it is now, what a pipeline refers to. I/O.

pub mod act;
pub mod look;
pub mod objects;
pub mod references;
pub mod resource;
pub mod revisions;
