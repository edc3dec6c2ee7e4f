//! The same against a Grafana that somebody runs, over nothing but its HTTP API: `make test-grafana`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::chain::{Chain, secret, secrets};
use tidemark_e2e::grafana::{Grafana, Version};
use tidemark_e2e::stack::{PATIENCE, User, shared, wait_until};

use super::{in_motion, in_sync, with_dashboards};
use crate::outages::{open_shop, orders};

const NAME: &str = "boards_real";
const CALL: Duration = Duration::from_secs(10);

/// A Grafana, its account and nothing else.
struct Server {
    url: String,
    user: String,
    password: String,
    client: reqwest::Client,
}

impl Server {
    fn from_environment() -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        Ok(Self {
            url: variable("GRAFANA_URL")?.trim_end_matches('/').to_owned(),
            user: variable("GRAFANA_USER")?,
            password: variable("GRAFANA_PASSWORD")?,
            client: tidemark_runtime::http::builder().timeout(CALL).build()?,
        })
    }

    /// Calls it; None is a 404.
    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Option<Value>> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        serde_json::from_str(&text).map(Some).with_context(|| format!("{path} answered {text}"))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        self.call(reqwest::Method::GET, path, None).await
    }

    /// The pipeline's dashboards by uid, with their versions.
    async fn dashboards(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let found = self.get("/api/search?type=dash-db&limit=1000").await?.unwrap_or_default();
        let mut all = BTreeMap::new();
        for uid in found.as_array().into_iter().flatten().filter_map(|one| one["uid"].as_str()) {
            let Some(board) = self.get(&format!("/api/dashboards/uid/{uid}")).await? else {
                continue;
            };
            if uid.starts_with("tm-") && board["meta"]["folderTitle"] == format!("Shop {NAME}") {
                all.insert(uid.to_owned(), board["dashboard"]["version"].as_i64().unwrap_or(0));
            }
        }
        Ok(all)
    }

    async fn first_title(&self, uid: &str) -> anyhow::Result<Value> {
        let board = self.get(&format!("/api/dashboards/uid/{uid}")).await?.unwrap_or_default();
        Ok(board["dashboard"]["panels"][0]["title"].clone())
    }

    /// Saves a dashboard with another first title, as a person does.
    async fn retitle(&self, uid: &str) -> anyhow::Result<()> {
        let mut board = self.get(&format!("/api/dashboards/uid/{uid}")).await?.context("it is not there")?;
        board["dashboard"]["panels"][0]["title"] = json!("Mine");
        let body = json!({
            "dashboard": board["dashboard"], "folderId": board["meta"]["folderId"],
            "folderUid": board["meta"]["folderUid"], "overwrite": true,
        });
        self.call(reqwest::Method::POST, "/api/dashboards/db", Some(body)).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Grafana: make test-grafana"]
async fn a_real_grafana_gets_keeps_and_loses_the_dashboards() -> anyhow::Result<()> {
    let stack = shared().await?;
    let server = Server::from_environment()?;
    let health = server.get("/api/health").await?.context("no /api/health")?;
    println!("Grafana {} at {}", health["version"], server.url);
    let mut generator = open_shop(stack, NAME).await?;
    orders(&mut generator, 30).await?;
    // The manifest is the other tests', with another address.
    let stand_in = Grafana::start(Version::Old).await?;
    let manifest = with_dashboards(stack, NAME, &stand_in, |part| {
        part["url"] = json!(server.url);
        part["credentials"] =
            json!({"secretName": "grafana", "usernameKey": "username", "passwordKey": "password"});
    });
    let mut all = vec![in_motion(manifest), secret("grafana", &server.user, &server.password)];
    all.push(secret("reader", User::Dashboards.name(), User::Dashboards.password()));
    all.extend(secrets());
    let chain = Chain::prepare(stack, NAME, &all)?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    let made = server.dashboards().await?;
    ensure!(made.len() >= 4, "{made:?}");
    let executive = made.keys().find(|uid| uid.ends_with("-executive")).context("no executive")?;
    let source = executive.trim_end_matches("-executive");
    println!("made {} dashboards and data source {source}", made.len());

    // Nothing changes: no new version.
    let source_path = format!("/api/datasources/uid/{source}");
    let version = async || anyhow::Ok(server.get(&source_path).await?.unwrap_or_default()["version"].clone());
    let source_version = version().await?;
    chain.operator().stop().await?;
    chain.apply_once().await?;
    ensure!(server.dashboards().await? == made, "{made:?} has other versions now");
    ensure!(version().await? == source_version, "the data source has another version");
    chain.operator().spawn()?;

    // A person edits one dashboard, deletes another, changes the data source's password, then deletes it.
    let title = server.first_title(executive).await?;
    server.retitle(executive).await?;
    let products = made.keys().find(|uid| uid.ends_with("-products")).context("no products")?;
    server.call(reqwest::Method::DELETE, &format!("/api/dashboards/uid/{products}"), None).await?;
    let mut changed = server.get(&source_path).await?.context("no data source")?;
    changed["secureJsonData"] = json!({"password": "another"});
    let by_id = format!("/api/datasources/{}", changed["id"]);
    let edited = server.call(reqwest::Method::PUT, &by_id, Some(changed)).await?.unwrap_or_default();
    wait_until(PATIENCE, "dashboards and data source to come back", || async {
        let dashboards = server.dashboards().await?;
        let back = server.first_title(executive).await? == title && dashboards.contains_key(products);
        Ok((back && version().await? != edited["datasource"]["version"]).then_some(()))
    })
    .await?;
    server.call(reqwest::Method::DELETE, &source_path, None).await?;
    wait_until(PATIENCE, "the data source to come back", || async {
        Ok(server.get(&source_path).await?.map(drop))
    })
    .await?;
    in_sync(&chain).await?;
    println!("changes by hand were put right");

    chain.operator().stop().await?;
    chain.sink().stop().await?;
    chain.delete().await?;
    ensure!(server.dashboards().await?.is_empty(), "dashboards are left: {:?}", server.dashboards().await?);
    ensure!(server.get(&source_path).await?.is_none(), "the data source is left");
    let folders = server.get("/api/folders").await?.unwrap_or_default();
    ensure!(!folders.to_string().contains(&format!("Shop {NAME}")), "the folder is left: {folders}");
    println!("deleted, nothing is left");
    Ok(())
}
