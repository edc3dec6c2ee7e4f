//! The sink's ServiceAccount: a name without a token, since the sink never talks to Kubernetes. Pure.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{SinkInput, meta};

/// Builds the ServiceAccount.
pub fn service_account(input: &SinkInput<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: meta(input, &input.name.sink()),
        automount_service_account_token: Some(false),
        ..Default::default()
    }
}
