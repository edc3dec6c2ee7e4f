//! The HTTP client of the harness: one request, one client, since each test has a runtime of its own.

use std::time::Duration;

/// Returns a client whose requests end within `timeout`, and that asks no proxy.
pub(super) fn client(timeout: Duration) -> reqwest::ClientBuilder {
    tidemark_runtime::http::builder().timeout(timeout)
}

/// Chooses the process's provider of cryptography, without which no client can be made.
pub(super) fn install_crypto() {
    // An error means that the program has chosen one already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
