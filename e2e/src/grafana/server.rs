//! The stand-in's socket: one task, the rules behind it. I/O.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::rules::{Request, State, Version};

/// User and password of the server's administrator.
pub const ADMIN: (&str, &str) = ("admin", "grafana-pw");
/// Token of a service account with the role Admin.
pub const TOKEN: &str = "glsa_grafana-token";

/// What a call is answered from: the state, and where ClickHouse is if not where data sources say.
type Known = (Arc<Mutex<State>>, Option<Arc<str>>);

/// A running stand-in; its state outlives a stop.
#[derive(Debug)]
pub struct Grafana {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    clickhouse: Option<Arc<str>>,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Grafana {
    /// Starts on a free port of the loopback.
    pub async fn start(version: Version) -> anyhow::Result<Self> {
        Self::start_on(version, Ipv4Addr::LOCALHOST.into(), None).await
    }

    /// Starts on a free port of an address that a cluster's pods reach. Names of the cluster mean nothing out here:
    /// every data source's server is taken to be at `clickhouse`, `HOST:PORT`.
    pub async fn start_beside(version: Version, address: IpAddr, clickhouse: &str) -> anyhow::Result<Self> {
        Self::start_on(version, address, Some(clickhouse.into())).await
    }

    async fn start_on(
        version: Version,
        address: IpAddr,
        clickhouse: Option<Arc<str>>,
    ) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((address, 0)).await.with_context(|| format!("listening on {address}"))?;
        let grafana = Self {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(State::new(version, ADMIN, TOKEN))),
            clickhouse,
            running: Mutex::new(None),
        };
        grafana.serve(listener);
        Ok(grafana)
    }

    /// Address of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it knows, to look at and to change as a person would.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it; connections are refused until it is started again.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = running {
            let _ = stop.send(());
            let _ = task.await;
        }
    }

    /// Starts it again on the same port, with what it knew.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.context("the port of the stand-in is taken")?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let app = Router::new().fallback(handle).with_state((self.state.clone(), self.clickhouse.clone()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Dropped and not drained: connections that a client keeps open would hold it.
            tokio::select! {
                _ = stopped => {}
                _ = axum::serve(listener, app).into_future() => {}
            }
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, task));
    }
}

async fn handle(
    Extract((state, clickhouse)): Extract<Known>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let url = reqwest::Url::parse(&format!("http://grafana{uri}"));
    let (path, query) = match &url {
        Ok(url) => (
            url.path_segments().into_iter().flatten().map(str::to_owned).collect(),
            url.query_pairs().into_owned().collect(),
        ),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let request = Request {
        method: method.to_string(),
        path,
        query,
        authorization: text("authorization"),
        organization: text("x-grafana-org-id"),
        body: if body.is_empty() { None } else { Some(serde_json::from_slice(&body).unwrap_or(Value::Null)) },
    };
    let (answer, check) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answer(&request)
    };
    let (status, body) = match check {
        // What the plugin does behind the data source's health: a query with the stored account.
        Some(source) => ask_clickhouse(&source, clickhouse.as_deref()).await,
        None => (answer.status, answer.body),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

async fn ask_clickhouse(source: &Value, address: Option<&str>) -> (u16, Value) {
    let settings = &source["jsonData"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = format!("{}:{}", text(&settings["host"]), settings["port"]);
    let url = format!("http://{}/", address.unwrap_or(&named));
    let client = tidemark_runtime::http::builder().build();
    let asked = match client {
        Ok(client) => {
            client
                .post(format!("{url}?max_execution_time=30"))
                .header("X-ClickHouse-User", text(&settings["username"]))
                .header("X-ClickHouse-Key", text(&source["secureJsonData"]["password"]))
                .body("SELECT 1")
                .send()
                .await
        }
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) if answer.status().is_success() => {
            (200, json!({"status": "OK", "message": "Data source is working"}))
        }
        Ok(answer) => (400, json!({"status": "ERROR", "message": format!("[auth] {}", answer.status())})),
        Err(_) => (400, json!({"status": "ERROR", "message": "[network] cannot connect"})),
    }
}
