//! A server that answers as it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What no status may show.
pub(super) const PAGE: &str = "<html><body><h1>the wiki of the board</h1></body></html>";

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Reset,
    HalfBody,
    Garbage,
    OtherJson,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    TooMany,
    Unavailable,
    Redirect,
    Slow,
    Endless,
}

impl Fault {
    pub(super) const ALL: [Self; 13] = [
        Self::Reset,
        Self::HalfBody,
        Self::Garbage,
        Self::OtherJson,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooMany,
        Self::Unavailable,
        Self::Redirect,
        Self::Slow,
        Self::Endless,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Reset => "connection reset",
            Self::HalfBody => "half a body",
            Self::Garbage => "200 with a page",
            Self::OtherJson => "200 with other JSON",
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::NotFound => "404 with a page",
            Self::Conflict => "409",
            Self::TooMany => "429, Retry-After: 7",
            Self::Unavailable => "503 with a page",
            Self::Redirect => "307 elsewhere",
            Self::Slow => "no answer in time",
            Self::Endless => "a body without end",
        }
    }
}

/// An answer of the system itself: status, headers (each with its line break) and body.
pub(super) type Own = (&'static str, &'static str, &'static str);

/// Answers of the system itself: to what the fault leaves alone, and to what it hits.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    /// The answer to a request that begins so, whatever the fault.
    pub(super) well: &'static [(&'static str, Own)],
    pub(super) own: fn(Fault) -> Option<Own>,
}

/// A running server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// First lines of the requests that the fault hit.
    seen: Arc<Mutex<Vec<String>>>,
    elsewhere: Arc<Mutex<usize>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    pub(super) async fn start(fault: Fault, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = other.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let elsewhere = Arc::new(Mutex::new(0));
        let noted = seen.clone();
        let serve = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, fault, manners, target, noted.clone()));
            }
        });
        let visits = elsewhere.clone();
        let watch = tokio::spawn(async move {
            while let Ok((mut stream, _)) = other.accept().await {
                *visits.lock().unwrap() += 1;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        Self { address, seen, elsewhere, tasks: [serve, watch] }
    }

    /// First lines of the requests since the last time that this was asked.
    pub(super) fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Connections to the place that redirects lead to.
    pub(super) fn elsewhere(&self) -> usize {
        *self.elsewhere.lock().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    fault: Fault,
    manners: Manners,
    target: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let Some(request) = Box::pin(request(&mut stream)).await else {
        return;
    };
    if let Some((_, own)) = manners.well.iter().find(|(begin, _)| request.starts_with(begin)) {
        return answer(&mut stream, *own).await;
    }
    seen.lock().unwrap().push(request);
    if let Some(own) = (manners.own)(fault) {
        return answer(&mut stream, own).await;
    }
    let page = |status| (status, "Content-Type: text/html\r\n", PAGE);
    match fault {
        Fault::Reset => {
            let _ = stream.set_zero_linger();
        }
        Fault::HalfBody => {
            let half = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: 1\r\nContent-Length: 1000\r\n\r\n{\"a\":";
            let _ = stream.write_all(half).await;
            let _ = stream.shutdown().await;
        }
        Fault::Garbage => answer(&mut stream, page("200 OK")).await,
        Fault::OtherJson => {
            let json = ("200 OK", "Content-Type: application/json\r\n", r#"{"wiki":"of the board"}"#);
            answer(&mut stream, json).await;
        }
        Fault::Unauthorized => answer(&mut stream, page("401 Unauthorized")).await,
        Fault::Forbidden => answer(&mut stream, page("403 Forbidden")).await,
        Fault::NotFound => answer(&mut stream, page("404 Not Found")).await,
        Fault::Conflict => answer(&mut stream, page("409 Conflict")).await,
        Fault::TooMany => answer(&mut stream, ("429 Too Many Requests", "Retry-After: 7\r\n", PAGE)).await,
        Fault::Unavailable => answer(&mut stream, page("503 Service Unavailable")).await,
        Fault::Redirect => {
            let head = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{target}/\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
        }
        // Until the other side gives up.
        Fault::Slow => drop(stream.read(&mut [0; 1]).await),
        Fault::Endless => {
            let head = "HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes()).await;
            let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x0010_0000));
            while sent.is_ok() {
                sent = stream.write_all(chunk.as_bytes()).await;
            }
        }
    }
}

async fn answer(stream: &mut TcpStream, (status, headers, body): Own) {
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
    // What is closed with bytes unread is reset, and the answer may be lost.
    while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
}

/// Reads a request to its end; its first line, without the parameters.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let mut part = [0; 16_384];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            let line = head.lines().next()?.trim_end_matches(" HTTP/1.1");
            return Some(line.split('?').next()?.to_owned());
        }
    }
}
