//! The shell of a process: logs, probes and metrics over HTTP, signals as a shutdown token. I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("log format {other:?} is neither text nor json")),
        }
    }
}

/// Starts logging to standard error; `directives` as in `RUST_LOG`, which wins if it is set.
///
/// A second call in one process changes nothing.
pub fn start_logging(format: LogFormat, directives: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Tells tasks that the process is to end; clones share one state.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// Returns a token that SIGTERM and SIGINT trigger; needs a running tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let token = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let trigger = token.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            trigger.trigger();
        });
        Ok(token)
    }

    /// Asks everyone to end.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the process is to end.
    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns when the process is to end.
    pub async fn requested(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives in `self`, so waiting cannot fail before the value is true.
        let _ = receiver.wait_for(|requested| *requested).await;
    }
}

/// How long the main loop of a process may be silent.
pub const SILENCE: Duration = Duration::from_secs(30);

/// What must be so before the process counts as ready; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    beat: Arc<Mutex<Option<Instant>>>,
}

impl Readiness {
    /// Adds a closed gate, or closes it again; `why` says what is waited for.
    pub fn close(&self, gate: &str, why: impl Into<String>) {
        self.set(gate, Err(why.into()));
    }

    /// Opens a gate.
    pub fn open(&self, gate: &str) {
        self.set(gate, Ok(()));
    }

    /// Says that the process's main loop goes round. Once it was said it has to be said again and again: a process
    /// that is silent for longer than [`SILENCE`] counts as dead.
    pub fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// For how long the main loop has been silent, if it is too long.
    pub fn silence(&self) -> Option<Duration> {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.map(|beat| beat.elapsed()).filter(|silence| *silence > SILENCE)
    }

    /// Returns what is still waited for, a line a closed gate; `None` when ready.
    pub fn missing(&self) -> Option<String> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<String> = gates
            .iter()
            .filter_map(|(gate, state)| state.as_ref().err().map(|why| format!("{gate}: {why}\n")))
            .collect();
        if missing.is_empty() { None } else { Some(missing.concat()) }
    }

    fn set(&self, gate: &str, state: Result<(), String>) {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).insert(gate.to_owned(), state);
    }
}

/// The probe and metrics server: `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug)]
pub struct ProbeServer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Probes {
    registry: Arc<Registry>,
    readiness: Readiness,
}

impl ProbeServer {
    /// Listens on `address` (port 0: any) and serves until `shutdown`.
    pub async fn start(
        address: SocketAddr,
        registry: Arc<Registry>,
        readiness: Readiness,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        Self::start_with(address, registry, readiness, shutdown, Router::new()).await
    }

    /// The same, with further routes.
    pub async fn start_with(
        address: SocketAddr,
        registry: Arc<Registry>,
        readiness: Readiness,
        shutdown: Shutdown,
        further: Router,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .route("/healthz", get(alive))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Probes { registry, readiness })
            .merge(further);
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(async move {
                shutdown.requested().await;
            });
            if let Err(error) = served.await {
                tracing::error!(%error, "the probe server ended");
            }
        });
        Ok(Self { address, task })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has ended, which it does after `shutdown`.
    pub async fn join(self) {
        let _ = self.task.await;
    }
}

async fn alive(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.readiness.silence() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(silence) => {
            let text = format!("the main loop has been silent for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn ready(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.readiness.missing() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &probes.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(address: SocketAddr, path: &str) -> (u16, String) {
        let response = crate::http::builder().build().unwrap();
        let response = response.get(format!("http://{address}{path}")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_and_shutdown_ends_the_server() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (readiness, shutdown) = (Readiness::default(), Shutdown::default());
        readiness.close("tables", "waiting for orders");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server =
            ProbeServer::start(any, Arc::default(), readiness.clone(), shutdown.clone()).await.unwrap();
        let address = server.address();
        assert_eq!(status(address, "/healthz").await.0, 200);
        assert_eq!(status(address, "/readyz").await, (503, "tables: waiting for orders\n".to_owned()));
        readiness.open("tables");
        assert_eq!(status(address, "/readyz").await.0, 200);
        assert!(status(address, "/metrics").await.1.ends_with("# EOF\n"));
        shutdown.trigger();
        server.join().await;
        assert!(shutdown.is_requested());
    }
}
