//! Why a reconcile could not run to its end, and what that means for the next one.

/// A reconcile that did not reach its end; what the systems said is in the status, not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("kubernetes: {0}")]
    Kubernetes(#[from] kube::Error),
    /// A call of the API server ran into its deadline.
    #[error("kubernetes: no answer in time while {0}")]
    Deadline(&'static str),
}
