//! The one way to make an HTTP client that carries credentials. I/O.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{ClientBuilder, Response, redirect};

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

/// What an answer that is not a success is read of, in bytes.
pub const ERROR_LIMIT: usize = 64 << 10;

/// Reads an answer's body, at most `limit` bytes of it: the rest is neither read nor kept.
///
/// # Errors
/// Those of the connection.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub async fn body(mut response: Response, limit: usize) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(body.freeze())
}
