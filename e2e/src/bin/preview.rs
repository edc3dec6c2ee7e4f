//! `tidemark-preview`: the dashboards in a page on the loopback, over live rows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_operator::core::dashboards::expand::{TimeRange, Values, expand};
use tidemark_operator::core::dashboards::{Dashboard, Surroundings, preset};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};

/// Shows the dashboards where no Grafana can be had: the same models, drawn with Grafana's own components.
#[derive(Debug, Parser)]
#[command(name = "tidemark-preview", version)]
struct Arguments {
    /// Address of ClickHouse's HTTP interface.
    #[arg(long)]
    clickhouse: String,
    /// Database with the views.
    #[arg(long, default_value = "ecommerce_analytics")]
    database: String,
    /// User that panels query with.
    #[arg(long, default_value = "dashboards")]
    user: String,
    /// Its password.
    #[arg(long, env = "TIDEMARK_PREVIEW_PASSWORD", hide_env_values = true, default_value = "dashboards-pw")]
    password: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: std::net::SocketAddr,
    /// Folder with index.html, page.js and page.css, as e2e/setup/preview.sh makes it.
    #[arg(long)]
    page: PathBuf,
}

struct Preview {
    clickhouse: ClickHouse,
    dashboards: Vec<(String, Dashboard)>,
    page: PathBuf,
}

#[derive(Deserialize)]
struct Query {
    sql: String,
    from: i64,
    to: i64,
    interval: u32,
    #[serde(default)]
    values: Values,
    #[serde(default)]
    dashboard: String,
    #[serde(default)]
    panel: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let clickhouse = ClickHouse::new(Options {
        url: arguments.clickhouse.clone(),
        database: Some(arguments.database),
        credentials: Arc::new(CredentialSource::memory(Credentials::new(arguments.user, arguments.password))),
        authority: Authority::System,
    })?
    .with_deadline(Duration::from_secs(30));
    anyhow::ensure!(
        arguments.page.join("index.html").is_file(),
        "{} has no page: run e2e/setup/preview.sh first",
        arguments.page.display()
    );
    let dashboards = preset(&Surroundings {
        uid_prefix: "preview",
        source_uid: "preview",
        source_name: "ClickHouse",
        tags: &[],
        time_zone: "UTC",
        currency: "EUR",
        refresh: "30s",
        rows_objective_s: 5.0,
        views_objective_s: 120.0,
        has_query_log: true,
    });
    let preview = Arc::new(Preview { clickhouse, dashboards, page: arguments.page });
    let app = Router::new()
        .route("/api/dashboards", get(list))
        .route("/api/dashboards/{name}", get(model))
        .route("/api/query", post(query))
        .route("/", get(page))
        .route("/d/{uid}", get(page))
        .route("/{name}", get(file))
        .route("/build/img/icons/{folder}/{name}", get(icon))
        .with_state(preview);
    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("{} cannot be listened on: give another --listen", arguments.listen))?;
    tracing_subscriber::fmt().with_target(false).init();
    tracing::info!("the dashboards are at http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}

fn answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn list(State(preview): State<Arc<Preview>>) -> Response {
    answer(
        &preview
            .dashboards
            .iter()
            .map(|(name, board)| json!({"name": name, "uid": board.model["uid"], "title": board.title()}))
            .collect(),
    )
}

async fn model(State(preview): State<Arc<Preview>>, Path(name): Path<String>) -> Response {
    match preview.dashboards.iter().find(|(known, _)| *known == name) {
        Some((_, board)) => answer(&board.model),
        None => (StatusCode::NOT_FOUND, format!("there is no dashboard {name}")).into_response(),
    }
}

async fn query(State(preview): State<Arc<Preview>>, body: Bytes) -> Response {
    let query: Query = match serde_json::from_slice(&body) {
        Ok(query) => query,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let range = TimeRange { from_ms: query.from, to_ms: query.to, interval_s: query.interval.max(1) };
    let sql = expand(&query.sql, range, &query.values);
    // As the plugin names itself, so that the views about use have something to show.
    let agent = format!(
        "tidemark-preview (grafana_dashboard:{}; grafana_panel:{}; grafana_user:preview)",
        query.dashboard, query.panel
    );
    match preview.clickhouse.with_agent(&agent).query_bytes(&sql, "JSONCompact").await {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

/// An icon of Grafana, where its components look for it.
async fn icon(State(preview): State<Arc<Preview>>, Path((folder, name)): Path<(String, String)>) -> Response {
    let plain = |part: &str| part.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign));
    if !plain(&folder) || !plain(&name) || folder.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(preview.page.join("icons").join(folder).join(name)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/svg+xml")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The page for any dashboard: it reads in its own address which one.
async fn page(state: State<Arc<Preview>>) -> Response {
    file(state, Path("index.html".to_owned())).await
}

async fn file(State(preview): State<Arc<Preview>>, Path(name): Path<String>) -> Response {
    let kind = match name.rsplit_once('.') {
        Some(("index", "html")) => "text/html; charset=utf-8",
        Some(("page", "js")) => "text/javascript",
        Some(("page", "css")) => "text/css",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match tokio::fs::read(preview.page.join(&name)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
