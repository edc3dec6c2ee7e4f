//! The one way to make an HTTP client that carries credentials, and to read what it is answered. I/O.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Response, Url, redirect};

use crate::addresses::{Denied, Range, Refused};

/// Longest answer that is read where nothing else is said, bytes.
pub const ANSWER_LIMIT: usize = 64 << 20;
/// What an answer that is not a success is read of, bytes.
pub const ERROR_LIMIT: usize = 64 << 10;

/// What an answer of the classes 3xx means.
pub const REDIRECT: &str = "it answers with a redirect, which is not followed: name the server itself";

/// What this process calls nowhere.
static DENIED: OnceLock<Arc<Denied>> = OnceLock::new();

/// Says what this process does not call, beside what nobody calls: once, before the first client is made.
pub fn deny(more: &[Range]) {
    DENIED.set(Arc::new(Denied::new(more))).expect("it is said once, before the first client");
}

fn denied() -> Arc<Denied> {
    Arc::clone(DENIED.get_or_init(Arc::default))
}

/// Reads the address of a server, which a client of [`builder`] may then call.
///
/// # Errors
/// What is wrong with it, in words that follow its name.
pub fn address(url: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http nor https".to_owned());
    }
    // A name is judged when it is looked up; an address is not looked up.
    let literal = url.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse().ok());
    literal.map_or(Ok(()), |literal| denied().check(literal)).map_err(|refused| refused.to_string())?;
    Ok(url)
}

/// Why a call was not made, where its server's name leads to an address that is not called.
pub fn refused(error: &(dyn std::error::Error + 'static)) -> Option<Refused> {
    error.downcast_ref::<Refused>().copied().or_else(|| error.source().and_then(refused))
}

/// Looks names up as the system does, and gives no address that is not to be called. So a name that leads elsewhere from one
/// call to the next is judged by where it leads now.
struct Guard(Arc<Denied>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let denied = Arc::clone(&self.0);
        Box::pin(async move {
            // The port is the client's to fill in.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            found.iter().try_for_each(|address| denied.check(address.ip()))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Begins a client that calls the address that it is given and no other: it follows no redirect, which could lead
/// credentials and rows elsewhere, asks no proxy that the environment names, and calls no address that is denied.
pub fn builder() -> ClientBuilder {
    guarded(denied())
}

#[allow(clippy::disallowed_methods, reason = "the one place")]
fn guarded(denied: Arc<Denied>) -> ClientBuilder {
    // A second call finds the provider installed, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Guard(denied)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_a_denied_address_is_not_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let loopback = ["127.0.0.0/8", "::1"].map(|range| range.parse().unwrap());
        let client = guarded(Arc::new(Denied::new(&loopback))).build().unwrap();
        let error = client.get(&url).send().await.unwrap_err();
        let said = refused(&error).map(|refused| refused.to_string()).unwrap_or_default();
        assert!(said.starts_with("it leads to ") && said.contains("is called"), "{error:?}");
        let none = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(none.is_err(), "it was called");
        // The same name with nothing denied: the client finds it.
        let call = tokio::spawn(builder().build().unwrap().get(&url).send());
        listener.accept().await.unwrap();
        call.abort();
    }

    #[test]
    fn an_address_that_is_denied_is_refused_however_it_is_written() {
        for host in ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "[fe80::1]"] {
            let error = address(&format!("http://{host}:8123/")).unwrap_err();
            assert!(error.starts_with("it leads to "), "{host}: {error}");
        }
        assert!(address("http://127.0.0.1:8123").is_ok());
        assert!(address("http://clickhouse.shop.svc:8123").is_ok());
        assert!(address("ftp://clickhouse").unwrap_err().contains("neither http nor https"));
    }
}
