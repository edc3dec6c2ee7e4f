//! The one way to make an HTTP client that carries credentials. I/O.

use std::time::Duration;

use reqwest::{ClientBuilder, redirect};

/// Begins a client that calls the address that it is given and no other: it follows no redirect, which could lead
/// credentials and rows elsewhere, and asks no proxy that the environment names.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn builder() -> ClientBuilder {
    // A second call finds the provider installed, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .redirect(redirect::Policy::none())
        .no_proxy()
}
