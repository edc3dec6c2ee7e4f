//! Every dashboard as a picture: no panel is empty, and the page has no error.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemark_e2e::chain::{Chain, program, secrets, shop};
use tidemark_e2e::stack::{PATIENCE, cache, shared, wait_until};

use crate::outages::open_shop;

/// Twelve pictures, each of a page that loads and draws.
const DEADLINE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dashboard_is_drawn_without_an_empty_panel() -> anyhow::Result<()> {
    const NAME: &str = "boards_pictures";
    let stack = shared().await?;
    let mut generator = open_shop(stack, NAME).await?;
    generator.history(6000, 240, jiff::Timestamp::now().as_microsecond()).await?;
    let mut objects = vec![shop(stack, NAME)];
    objects.extend(secrets());
    let chain = Chain::prepare(stack, NAME, &objects)?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    // Tables are read side by side, and views are refreshed in turn: one by country has rows once both its tables are there.
    wait_until(PATIENCE, "the views to have been refreshed since the tables were read", || async {
        let query = format!("SELECT count() > 0 FROM {NAME}.five_minute_sales_by_country");
        Ok((stack.clickhouse().query(&query).await?.trim() == "1").then_some(()))
    })
    .await?;
    // What the first dashboard says of the data's age: seconds, since heartbeats come every second.
    wait_until(PATIENCE, "the data to be seen as fresh", || async {
        let lag = stack
            .clickhouse()
            .query(&format!("SELECT max(lag_seconds) < 3 FROM {NAME}.data_freshness"))
            .await?;
        Ok((lag.trim() == "1").then_some(()))
    })
    .await?;

    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let _preview = tokio::process::Command::new(program("tidemark-preview")?)
        .args(["--clickhouse", &stack.clickhouse().url(), "--database", NAME])
        .args(["--listen", &listen.to_string(), "--page"])
        .arg(cache::part("preview")?)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("the preview")?;
    let address = format!("http://{listen}");
    let client = tidemark_runtime::http::builder().build()?;
    wait_until(PATIENCE, "the preview to listen", || async {
        Ok(client.get(format!("{address}/api/dashboards")).send().await.is_ok().then_some(()))
    })
    .await?;
    let broken = json!({"sql": "SELECT nothing FROM nowhere", "from": 0, "to": 1000, "interval": 1});
    let answer = client.post(format!("{address}/api/query")).body(broken.to_string()).send().await?;
    let (status, words) = (answer.status(), answer.text().await?);
    ensure!(status == 400 && words.contains("nowhere"), "{status}, and not ClickHouse's words: {words}");
    let folder = cache::e2e_folder().join("../target/pictures");
    let pictures = tokio::process::Command::new("node")
        .args(["--experimental-websocket", "--no-warnings"])
        .arg(cache::e2e_folder().join("preview/picture.mjs"))
        .arg(&address)
        .arg(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, pictures).await.context("the pictures took too long")??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "a picture is not as it should be:\n{text}{errors}");
    let all: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(all.len() == 13, "six dashboards, light and dark, a walk, and not {}:\n{text}", all.len());
    ensure!(all[12]["walk"].is_object(), "nobody walked: {}", all[12]);
    for picture in &all[..12] {
        // The pictures before it were looks at dashboards, so it has something to show.
        let nothing = picture["dashboard"] == "usage" && picture["nothing"] != 0;
        ensure!(!nothing, "nobody is said to have looked: {picture}");
        let file = folder.join(picture["file"].as_str().unwrap_or_default());
        let size = std::fs::metadata(&file)?.len();
        ensure!((8_000..300_000).contains(&size), "{} has {size} bytes", file.display());
    }
    Ok(())
}
