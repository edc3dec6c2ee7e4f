//! The one way to make an HTTP client that carries credentials, and to read what it is answered. I/O.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{ClientBuilder, Response, redirect};

/// Longest answer that is read where nothing else is said, bytes.
pub const ANSWER_LIMIT: usize = 64 << 20;
/// What an answer that is not a success is read of, bytes.
pub const ERROR_LIMIT: usize = 64 << 10;

/// What an answer of the classes 3xx means.
pub const REDIRECT: &str = "it answers with a redirect, which is not followed: name the server itself";

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

/// Why an answer was not read to its end.
#[derive(Debug)]
pub enum Unread {
    /// The connection broke, or the call's deadline was over.
    Broken(reqwest::Error),
    /// It is longer than anything that was asked for.
    TooLong,
}

/// Reads an answer: one of at most `limit` bytes where it is a success, and the beginning of any other. One without an end
/// costs no more memory than that, whatever it says of its length.
///
/// # Errors
/// The connection's, and that a success is too long.
pub async fn body(mut response: Response, limit: usize) -> Result<Bytes, Unread> {
    let is_success = response.status().is_success();
    let most = if is_success { limit } else { ERROR_LIMIT };
    let mut body = BytesMut::new();
    while let Some(part) = response.chunk().await.map_err(Unread::Broken)? {
        let room = most - body.len();
        if part.len() > room && is_success {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&part[..part.len().min(room)]);
        if body.len() == most && !is_success {
            break;
        }
    }
    Ok(body.freeze())
}
