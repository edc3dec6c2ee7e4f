//! Dashboards: in Grafana as they should be, silent when nothing changes, right again after a change by hand, and
//! every panel's figures those of PostgreSQL.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_e2e::chain::{Chain, secret, secrets, shop};
use tidemark_e2e::grafana::{ADMIN, Grafana, TOKEN, Version};
use tidemark_e2e::stack::{PATIENCE, Stack, User, shared, wait_until};
use tidemark_operator::core::credentials::{Holder, Login, References};
use tidemark_operator::core::desired::grafana as desired;
use tidemark_operator::core::desired::grafana::{GrafanaInput, Names};
use tidemark_operator::core::desired::part::Part;
use tidemark_operator::core::desired::sink_config::Paths;
use tidemark_operator::core::facts::FailureClass;
use tidemark_operator::edge::grafana::client::Grafana as Client;
use tidemark_operator::edge::grafana::look::observe;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_operator::shell::config::DEFAULT_SINK_IMAGE;
use tidemark_operator::shell::engine::{Engine, Input};
use tidemark_operator::shell::leader::Term;
use tidemark_operator::shell::reconcile::Mode;
use tidemark_runtime::credentials::{Credentials, Secret};
use tidemark_runtime::foreign::Hidden;

use crate::outages::{open_shop, orders};

mod panels;
mod pictures;
mod real;
mod sidecar;

/// Whole reconciles without a change: each asks every system, Kafka's history included.
const RECONCILES: u32 = 30;
/// Looks at Grafana without a change, each compared with what should be there.
const LOOKS: u32 = 1000;
/// Alert rules of a shop.
const RULES: usize = 9;
/// The reader's password, looked for everywhere it must not be.
const CANARY: &str = "dashboards-pw";

/// A shop with dashboards; `change` has the last word on `spec.grafana`.
///
/// Its views are filled when they are made, and then every 30 s: a test of rows that come later needs [`in_motion`].
fn with_dashboards(stack: &Stack, name: &str, grafana: &Grafana, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = shop(stack, name);
    manifest["spec"]["views"]["refreshInterval"] = json!("30s");
    manifest["spec"]["grafana"] = json!({
        "url": grafana.url(), "credentials": {"secretName": "grafana", "tokenKey": "token"},
        "folder": format!("Shop {name}"), "reader": {"secretName": "reader"},
    });
    change(&mut manifest["spec"]["grafana"]);
    manifest
}

/// A manifest whose views follow the tables.
fn in_motion(mut manifest: Value) -> Value {
    manifest["spec"]["views"]["refreshInterval"] = json!("2s");
    manifest
}

fn token(token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "grafana", "namespace": "local"},
        "stringData": {"token": token, "username": ADMIN.0, "password": ADMIN.1},
    })
}

fn objects(manifest: Value) -> Vec<Value> {
    let mut all = vec![manifest, token(TOKEN), secret("reader", User::Dashboards.name(), CANARY)];
    all.extend(secrets());
    all
}

/// Runs the operator until it rests, and returns how often it wrote to Grafana meanwhile.
async fn writes_of_one_more(chain: &Chain<'_>, grafana: &Grafana) -> anyhow::Result<u64> {
    let before = grafana.with(|state| state.writes());
    chain.apply_once().await?;
    Ok(grafana.with(|state| state.writes()) - before)
}

async fn in_sync(chain: &Chain<'_>) -> anyhow::Result<()> {
    chain.wait_condition("DashboardsInSync", "True", "AsDesired", PATIENCE).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_are_made_stay_untouched_and_come_back_after_changes_by_hand() -> anyhow::Result<()> {
    for (name, version) in [("boards_old", Version::Old), ("boards_new", Version::Modern)] {
        let stack = shared().await?;
        let grafana = Grafana::start(version).await?;
        let mut generator = open_shop(stack, name).await?;
        orders(&mut generator, 30).await?;
        let manifest = with_dashboards(stack, name, &grafana, |part| {
            if version == Version::Modern {
                part["alerts"] = json!("Enabled");
            } else {
                part["credentials"] =
                    json!({"secretName": "grafana", "usernameKey": "username", "passwordKey": "password"});
            }
        });
        let chain = Chain::prepare(stack, name, &objects(manifest))?;
        chain.start().await?;
        chain.wait_ready(PATIENCE).await?;
        let made = grafana.with(|state| state.dashboards());
        assert!(made.len() >= 4, "{:?}", made.keys());
        assert_eq!(grafana.with(|state| state.folders()), [format!("Shop {name}")]);
        assert_eq!(
            grafana.with(|state| state.rules().len()),
            if version == Version::Modern { RULES } else { 0 }
        );
        let uid = |board: &str| made.keys().find(|uid| uid.ends_with(board)).cloned().unwrap_or_default();
        let (executive, source) = (uid("-executive"), uid("-executive").replace("-executive", ""));

        // Nothing changes: no write, no new version.
        chain.operator().stop().await?;
        let before = grafana.with(|state| state.versions());
        assert_eq!(writes_of_one_more(&chain, &grafana).await?, 0, "an operator with nothing to do wrote");
        assert_eq!(before, grafana.with(|state| state.versions()));
        chain.operator().spawn()?;

        // Someone edits a dashboard, deletes another, changes the data source's password, then removes it.
        grafana.with(|state| {
            state.save_in_browser(&executive, |model| model["panels"][0]["title"] = json!("Mine"));
            state.remove_dashboard(&uid("-products"));
            state.edit_source(&source, |source| source["secureJsonData"]["password"] = json!("another"));
        });
        wait_until(PATIENCE, "the dashboards to come back", || async {
            let now = grafana.with(|state| state.dashboards());
            let password = grafana.with(|state| state.sources()[0]["secureJsonData"]["password"].clone());
            let back = now.get(&executive).is_some_and(|model| model["panels"][0]["title"] == "Revenue");
            Ok((back && now.contains_key(&uid("-products")) && password == CANARY).then_some(()))
        })
        .await?;
        grafana.with(|state| state.remove_source(&source));
        wait_until(PATIENCE, "the data source to come back", || async {
            Ok((grafana.with(|state| state.sources().len()) == 1).then_some(()))
        })
        .await?;
        in_sync(&chain).await?;

        // Grafana goes down and comes back: the rest goes on meanwhile.
        grafana.stop().await;
        chain.wait_condition("DashboardsInSync", "Unknown", "Unreachable", PATIENCE).await?;
        grafana.restart().await?;
        grafana.with(|state| state.set_fault(Some(503)));
        chain.wait_condition("DashboardsInSync", "Unknown", "Unreachable", PATIENCE).await?;
        grafana.with(|state| state.set_fault(None));
        in_sync(&chain).await?;

        // The password is in the data source's secret part, and nowhere that anybody sees.
        assert!(!grafana.with(|state| state.visible()).contains(CANARY));
        assert!(!chain.status()?.to_string().contains(CANARY));

        // Deletion takes all of it.
        chain.operator().stop().await?;
        chain.sink().stop().await?;
        chain.delete().await?;
        assert!(grafana.with(|state| state.dashboards()).is_empty());
        assert!(
            grafana.with(|state| (state.sources().len(), state.folders().len(), state.rules().len()))
                == (0, 0, 0)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_left_alone_and_named() -> anyhow::Result<()> {
    const NAME: &str = "boards_taken";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    // A folder of that title is there already, with somebody's dashboard in it.
    let client = tidemark_runtime::http::builder().build()?;
    let post = |path: &str, body: Value| {
        client.post(format!("{}{path}", grafana.url())).bearer_auth(TOKEN).json(&body).send()
    };
    post("/api/folders", json!({"uid": "theirs", "title": format!("Shop {NAME}")}))
        .await?
        .error_for_status()?;
    let board = json!({"dashboard": {"uid": "board", "title": "Executive"}, "folderUid": "theirs"});
    post("/api/dashboards/db", board).await?.error_for_status()?;

    let chain = Chain::prepare(stack, NAME, &objects(with_dashboards(stack, NAME, &grafana, |_| {})))?;
    chain.start().await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "Conflict", PATIENCE).await?;
    assert!(message.contains("theirs") && message.contains("spec.grafana.folder"), "{message}");
    // The rest goes on.
    chain.wait_condition("ViewsInSync", "True", "AsDesired", PATIENCE).await?;
    assert_eq!(grafana.with(|state| state.dashboards().len()), 1);

    // Another title mends it, and theirs stays as it was.
    let other = with_dashboards(stack, NAME, &grafana, |part| part["folder"] = json!("Shop, ours"));
    chain.write(&objects(other))?;
    in_sync(&chain).await?;
    let theirs = grafana.with(|state| state.dashboards()["board"].clone());
    assert_eq!((&theirs["title"], &theirs["version"]), (&json!("Executive"), &json!(1)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_login_is_tried_once_and_the_new_secret_heals() -> anyhow::Result<()> {
    const NAME: &str = "boards_login";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    let manifest = with_dashboards(stack, NAME, &grafana, |_| {});
    let mut all = objects(manifest.clone());
    all[1] = token("wrong");
    let chain = Chain::prepare(stack, NAME, &all)?;
    chain.start().await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "AuthenticationFailed", PATIENCE).await?;
    assert!(!message.contains("wrong"), "{message}");
    chain.wait_condition("ConnectorRunning", "True", "AsDesired", PATIENCE).await?;
    assert_eq!(grafana.with(|state| state.logins_refused()), 1, "a refused login was tried again");
    chain.write(&objects(manifest))?;
    in_sync(&chain).await?;
    assert_eq!(grafana.with(|state| state.logins_refused()), 1);
    Ok(())
}

/// Whatever is under way when a token stops being good, Grafana counts one failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_side_by_side_cost_one_refused_login() -> anyhow::Result<()> {
    let grafana = Grafana::start(Version::Modern).await?;
    let client = Client::new(&grafana.url(), Login::Token(Secret::new(TOKEN)), None, Hidden::default())
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    assert!(client.list(&["api", "folders"], &[]).await.is_ok());
    grafana.with(|state| state.set_token("another"));
    let calls = (0..8).map(|_| client.list(&["api", "folders"], &[]));
    for answer in futures::future::join_all(calls).await {
        assert!(answer.is_err_and(|failure| failure.class == FailureClass::Authentication));
    }
    assert_eq!(grafana.with(|state| state.logins_refused()), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_hand_stay_where_the_policy_keeps_them() -> anyhow::Result<()> {
    const NAME: &str = "boards_kept";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    let manifest = |change: fn(&mut Value)| {
        with_dashboards(stack, NAME, &grafana, |part| {
            part["driftPolicy"] = json!("Keep");
            part["alerts"] = json!("Enabled");
            change(part);
        })
    };
    let chain = Chain::prepare(stack, NAME, &objects(manifest(|_| {})))?;
    chain.start().await?;
    in_sync(&chain).await?;
    let (executive, products) = (uid(&grafana, "-executive")?, uid(&grafana, "-products")?);
    let rule = grafana.with(|state| state.rules()).into_iter().find(|uid| uid.ends_with("-stale"));
    let rule = rule.context("no rule")?;
    grafana.with(|state| {
        state.save_in_browser(&executive, |model| model["panels"][0]["title"] = json!("Mine"));
        state.rename_folder(&format!("Shop {NAME}"), "My folder");
        state.edit_rule(&rule, |rule| rule["for"] = json!("1h"));
    });
    let message = chain.wait_condition("DashboardsInSync", "True", "Drifted", PATIENCE).await?;
    for kept in ["executive", "panels[0].title", "folder: title", "alert rule"] {
        assert!(message.contains(kept), "{kept} is not in {message}");
    }

    // The pipeline's own next version: what nobody touched follows, what somebody changed waits and is named.
    chain.write(&objects(manifest(|part| part["dashboards"] = json!({"refresh": "1m"}))))?;
    let refresh = |uid: &str| grafana.with(|state| state.dashboards()[uid]["refresh"].clone());
    wait_until(PATIENCE, "the dashboard that nobody touched to follow", || async {
        Ok((refresh(&products) == "1m").then_some(()))
    })
    .await?;
    // Whoever follows is written in the order of the boards: the executive one had its turn before the products.
    assert_eq!(refresh(&executive), "30s");
    assert_eq!(grafana.with(|state| state.dashboards()[&executive]["panels"][0]["title"].clone()), "Mine");
    assert_eq!(grafana.with(|state| state.folders()), ["My folder"]);

    // A title that the spec asks for anew is no change by hand.
    chain.write(&objects(manifest(|part| part["folder"] = json!("Ours, renamed"))))?;
    wait_until(PATIENCE, "the folder to follow the spec", || async {
        Ok((grafana.with(|state| state.folders()) == ["Ours, renamed"]).then_some(()))
    })
    .await?;

    // Another policy puts all of it right.
    chain.write(&objects(manifest(|part| part["driftPolicy"] = json!("Revert"))))?;
    in_sync(&chain).await?;
    assert_eq!(grafana.with(|state| state.folders()), [format!("Shop {NAME}")]);
    assert_eq!(grafana.with(|state| state.dashboards()[&executive]["panels"][0]["title"].clone()), "Revenue");

    // Rules that are not wanted go.
    chain.write(&objects(manifest(|part| part["alerts"] = json!("Disabled"))))?;
    wait_until(PATIENCE, "the rules to go", || async {
        Ok(grafana.with(|state| state.rules().is_empty()).then_some(()))
    })
    .await
}

/// Uid of the dashboard that ends like this.
fn uid(grafana: &Grafana, end: &str) -> anyhow::Result<String> {
    let found = grafana.with(|state| state.dashboards().into_keys().find(|uid| uid.ends_with(end)));
    found.with_context(|| format!("no dashboard {end}"))
}

/// How much is there: dashboards, data sources, folders, rules.
fn amounts(grafana: &Grafana) -> [usize; 4] {
    grafana.with(|state| {
        [state.dashboards().len(), state.sources().len(), state.folders().len(), state.rules().len()]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_the_ledger_sends_no_login_anywhere() -> anyhow::Result<()> {
    const NAME: &str = "boards_forged";
    let stack = shared().await?;
    let (grafana, evil) = (Grafana::start(Version::Modern).await?, Grafana::start(Version::Modern).await?);
    open_shop(stack, NAME).await?;
    let chain = Chain::prepare(stack, NAME, &objects(with_dashboards(stack, NAME, &grafana, |_| {})))?;
    chain.start().await?;
    in_sync(&chain).await?;
    let row = |version: u32, value: &str| {
        format!(
            "INSERT INTO {NAME}._tidemark_ledger SELECT pipeline, 'grafana', 'forged', {version}, '{value}', now64(3) \
             FROM {NAME}._tidemark_ledger LIMIT 1"
        )
    };
    let place = json!({
        "url": evil.url(), "credentials": {"secretName": "grafana", "tokenKey": "token"}, "folder": "Shop",
    });
    stack.clickhouse().query(&row(1, &place.to_string())).await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "LeftBehind", PATIENCE).await?;
    assert!(message.contains(&evil.url()) && message.contains("is not used"), "{message}");
    assert_eq!(evil.with(|state| state.calls()), 0, "it was called, with a login");
    stack.clickhouse().query(&row(2, "null")).await?;
    in_sync(&chain).await?;
    assert_eq!(evil.with(|state| state.calls()), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grafana_that_is_no_longer_named_is_left_clean() -> anyhow::Result<()> {
    const NAME: &str = "boards_moved";
    let stack = shared().await?;
    let (first, second) = (Grafana::start(Version::Modern).await?, Grafana::start(Version::Modern).await?);
    open_shop(stack, NAME).await?;
    let at =
        |grafana: &Grafana| with_dashboards(stack, NAME, grafana, |part| part["alerts"] = json!("Enabled"));
    let without = || {
        let mut manifest = at(&first);
        manifest["spec"].as_object_mut().map(|spec| spec.remove("grafana"));
        objects(manifest)
    };
    let chain = Chain::prepare(stack, NAME, &objects(at(&first)))?;
    chain.start().await?;
    in_sync(&chain).await?;
    let full = amounts(&first);
    assert_eq!(full, [6, 1, 1, RULES]);

    // To another one: made there, then gone here.
    chain.apply(&objects(at(&second)), PATIENCE).await?;
    wait_until(PATIENCE, "the dashboards to move", || async {
        Ok(((amounts(&first), amounts(&second)) == ([0; 4], full)).then_some(()))
    })
    .await?;
    in_sync(&chain).await?;

    // The same server by another address: nothing goes, and no dashboard gets a new version.
    let versions = |grafana: &Grafana| {
        let mut all = grafana.with(|state| state.versions());
        all.retain(|uid, _| uid.matches('-').count() > 1);
        all
    };
    let before = versions(&second);
    assert_eq!(before.len(), 6);
    let mut alias = at(&second);
    alias["spec"]["grafana"]["url"] = json!(second.url().replace("127.0.0.1", "localhost"));
    let place =
        |grafana: &Grafana| grafana.with(|state| state.sources()[0]["jsonData"]["tidemark"]["place"].clone());
    let old = place(&second);
    chain.apply(&objects(alias), PATIENCE).await?;
    wait_until(PATIENCE, "the data source to say where it is", || async {
        Ok((place(&second) != old).then_some(()))
    })
    .await?;
    in_sync(&chain).await?;
    assert_eq!((amounts(&second), versions(&second)), (full, before));

    // One that is down is named until it is back, and does not hold up the next.
    second.stop().await;
    chain.apply(&objects(at(&first)), PATIENCE).await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "LeftBehind", PATIENCE).await?;
    assert!(message.contains("localhost") && message.contains("spec.deletionPolicy.grafana"), "{message}");
    wait_until(PATIENCE, "the dashboards to be made at the first again", || async {
        Ok((amounts(&first) == full).then_some(()))
    })
    .await?;
    second.restart().await?;
    in_sync(&chain).await?;
    assert_eq!(amounts(&second), [0; 4]);

    // Without a Grafana: what others put into the folder stays with it.
    let folder = uid(&first, "-executive")?.replace("-executive", "-folder");
    let client = tidemark_runtime::http::builder().build()?;
    let theirs = json!({"uid": "theirs", "title": "Theirs", "parentUid": folder});
    let made = client.post(format!("{}/api/folders", first.url())).bearer_auth(TOKEN).json(&theirs);
    made.send().await?.error_for_status()?;
    chain.apply(&without(), PATIENCE).await?;
    chain.wait_condition("DashboardsInSync", "True", "NotConfigured", PATIENCE).await?;
    assert_eq!(amounts(&first), [0, 0, 2, 0]);

    // Kept by policy, and given up: nothing is asked of it any more.
    chain.apply(&objects(at(&second)), PATIENCE).await?;
    in_sync(&chain).await?;
    let mut kept = without();
    kept[0]["spec"]["deletionPolicy"] = json!({"grafana": "Retain"});
    chain.apply(&kept, PATIENCE).await?;
    chain.wait_condition("DashboardsInSync", "True", "NotConfigured", PATIENCE).await?;
    chain.operator().stop().await?;
    let calls = second.with(|state| state.calls());
    chain.apply_once().await?;
    assert_eq!((amounts(&second), second.with(|state| state.calls())), (full, calls));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciles_and_a_thousand_looks_without_a_change_write_nothing() -> anyhow::Result<()> {
    const NAME: &str = "boards_quiet";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    let manifest = with_dashboards(stack, NAME, &grafana, |part| part["alerts"] = json!("Enabled"));
    let all = objects(manifest.clone());
    let chain = Chain::prepare(stack, NAME, &all)?;
    chain.start().await?;
    chain.wait_ready(PATIENCE).await?;
    chain.operator().stop().await?;
    // What it found last is written down.
    chain.apply_once().await?;
    let before = grafana.with(|state| (state.writes(), state.versions()));

    let mut references = References::default();
    for object in all.iter().filter(|object| object["kind"] == "Secret") {
        let data = serde_json::from_value(object["stringData"].clone())?;
        references.insert(Holder::Secret, object["metadata"]["name"].as_str().unwrap_or_default(), data);
    }
    let spec: AnalyticsPipelineSpec = serde_json::from_value(manifest["spec"].clone())?;
    let status: AnalyticsPipelineStatus = serde_json::from_value(chain.status()?)?;
    let name = PipelineName::new("local", manifest["metadata"]["name"].as_str().unwrap_or_default());
    let out = chain.manifests().parent().map(std::path::Path::to_owned).context("a folder")?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let paths = Paths { config: text(&out), secrets: text(&out.join("secrets")) };
    let annotations = BTreeMap::new();
    let owner = chain.owner()?;
    let engine = Engine::default();
    let input = Input {
        created: None,
        neighbours: &[],
        name: &name,
        uid: None,
        generation: status.observed_generation.unwrap_or(1),
        spec: &spec,
        addresses: &spec,
        invalid: None,
        annotations: &annotations,
        references: &references,
        objects: ObjectStore::Folder(chain.manifests()),
        cluster: &owner,
        paths: &paths,
        image: DEFAULT_SINK_IMAGE,
        before: &status,
        term: &Term::without_end(),
        mode: Mode::Run,
    };
    let start = std::time::Instant::now();
    let reconciles = match std::env::var("TIDEMARK_RECONCILES") {
        Ok(number) => number.parse().context("TIDEMARK_RECONCILES")?,
        Err(_) => RECONCILES,
    };
    for number in 0..reconciles {
        let report = Box::pin(engine.run(&input, &|_, _| {})).await;
        anyhow::ensure!(report.outcome.done.is_empty(), "reconcile {number}: {:?}", report.outcome.done);
        anyhow::ensure!(report.outcome.plan.is_empty(), "reconcile {number}: {:?}", report.outcome.plan);
    }
    let took = start.elapsed().as_secs_f64();
    println!("{reconciles} reconciles wrote nothing, {:.0} ms each", took * 1000.0 / f64::from(reconciles));
    looks(&grafana, &spec, &name, &owner).await?;
    assert_eq!(before, grafana.with(|state| (state.writes(), state.versions())));
    Ok(())
}

/// Looks at Grafana again and again: nothing differs from what should be there.
async fn looks(
    grafana: &Grafana,
    spec: &AnalyticsPipelineSpec,
    name: &PipelineName,
    owner: &str,
) -> anyhow::Result<()> {
    let part = spec.grafana.as_ref().context("the manifest has it")?;
    let mark = name.mark(owner);
    let names = Names::new(name, &mark);
    let client = Client::new(&grafana.url(), Login::Token(Secret::new(TOKEN)), None, Hidden::default())
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    let views: Vec<String> = [
        "data_freshness",
        "pipeline_progress",
        "view_refreshes",
        "hourly_orders_trend",
        "connector_history",
        "verification",
    ]
    .map(str::to_owned)
    .into();
    let (dashboards, problems) = desired::wanted(spec, part, &names, &BTreeMap::new(), true);
    anyhow::ensure!(problems.is_empty(), "{problems:?}");
    let reader = Credentials::new(User::Dashboards.name(), CANARY);
    for look in 0..LOOKS {
        let observed = observe(&client, &desired::question(part, &names)).await;
        let facts = observed.known().ok_or_else(|| anyhow::anyhow!("look {look}: {observed:?}"))?;
        let input = GrafanaInput {
            spec,
            grafana: part,
            mark: &mark,
            names: &names,
            reader: &reader,
            key: User::Tidemark.password(),
            record: None,
            facts,
            dashboards: &dashboards,
            views: &views,
        };
        let comparison = desired::compare(&input);
        anyhow::ensure!(comparison.part == Part::default(), "look {look}: {:?}", comparison.part);
    }
    Ok(())
}

/// A dashboard of the user with one panel.
fn refunds(sql: &str) -> String {
    let source = json!({"type": "grafana-clickhouse-datasource", "uid": "${datasource}"});
    json!({
        "title": "Refunds", "editable": false, "tags": ["mine"],
        "templating": {"list": [{"type": "datasource", "name": "datasource", "query": "grafana-clickhouse-datasource"}]},
        "panels": [{
            "id": 1, "type": "table", "title": "Refunds by status", "description": "All of them.", "datasource": source,
            "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
            "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
            "targets": [{"refId": "A", "datasource": source, "format": 1, "rawSql": sql}],
        }],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_of_the_user_is_linted_asked_and_applied() -> anyhow::Result<()> {
    const NAME: &str = "boards_extra";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    let apply = |sql: &'static str| {
        let manifest = with_dashboards(stack, NAME, &grafana, |part| {
            part["dashboards"] = json!({"extra": [{"name": "refunds", "json": {"configMapKeyRef": {"name": "mine", "key": "refunds.json"}}}]});
        });
        let mut all = objects(manifest);
        all.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "local"},
            "data": {"refunds.json": refunds(sql)},
        }));
        all
    };
    let chain = Chain::prepare(stack, NAME, &apply("SELECT * FROM orders_current"))?;
    chain.start().await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "InvalidDashboard", PATIENCE).await?;
    assert!(
        message.contains("refunds") && message.contains("SELECT *") && message.contains("LIMIT"),
        "{message}"
    );

    chain.write(&apply("SELECT no_such_column FROM customer_metrics LIMIT 9"))?;
    let message = chain.wait_condition("DashboardsInSync", "False", "PanelFailed", PATIENCE).await?;
    assert!(message.contains("Refunds by status") && message.contains("no_such_column"), "{message}");

    chain.write(&apply(
        "SELECT segment, count() AS customers FROM customer_metrics GROUP BY segment LIMIT 9",
    ))?;
    in_sync(&chain).await?;
    let all: BTreeMap<String, Value> = grafana.with(|state| state.dashboards());
    let mine = all.iter().find(|(uid, _)| uid.ends_with("-x-refunds")).map(|(_, model)| model.clone());
    assert_eq!(mine.unwrap_or_default()["title"], "Refunds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_whose_change_would_break_a_panel_is_held_back() -> anyhow::Result<()> {
    held_back("boards_held", false).await?;
    // It may read what the view reads, and nothing of what the dashboard reads beside it.
    held_back("boards_held_viewer", true).await
}

/// `viewed`: whether the user's views run as an account of their own.
async fn held_back(name: &'static str, viewed: bool) -> anyhow::Result<()> {
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, name).await?;
    let apply = |select: &str| {
        let mut board: Value =
            serde_json::from_str(&refunds("SELECT status, number FROM by_status ORDER BY status LIMIT 9"))
                .unwrap();
        let mut other = board["panels"][0].clone();
        other["id"] = json!(2);
        other["title"] = json!("Segments");
        other["gridPos"]["x"] = json!(12);
        other["targets"][0]["rawSql"] =
            json!("SELECT segment, count() AS customers FROM customer_metrics GROUP BY segment LIMIT 9");
        board["panels"].as_array_mut().unwrap().push(other);
        let mut manifest = with_dashboards(stack, name, &grafana, |part| {
            part["dashboards"] =
                json!({"extra": [{"name": "statuses", "json": {"inline": board.to_string()}}]});
        });
        manifest["spec"]["views"]["extra"] = json!([{"name": "by_status", "sql": {"inline": select}}]);
        if viewed {
            manifest["spec"]["clickhouse"]["viewer"] = json!({"secretName": "viewer"});
        }
        let mut all = objects(manifest);
        all.push(secret("viewer", User::Viewer.name(), User::Viewer.password()));
        all
    };
    let chain = Chain::prepare(
        stack,
        name,
        &apply("SELECT status, count() AS number FROM orders_current GROUP BY status"),
    )?;
    chain.start().await?;
    in_sync(&chain).await?;

    chain.write(&apply("SELECT status, count() AS orders FROM orders_current GROUP BY status"))?;
    let message = chain.wait_condition("ViewsInSync", "False", "PanelFailed", PATIENCE).await?;
    for part in ["by_status", "held back", "Refunds by status", "number"] {
        anyhow::ensure!(message.contains(part), "{part}: {message}");
    }
    // The old one goes on, and so does everything else.
    stack.clickhouse().query(&format!("SELECT number FROM {name}.by_status")).await?;
    in_sync(&chain).await?;

    // A change that keeps what the panel reads goes through.
    chain.write(&apply(
        "SELECT status, count() AS orders, orders AS number FROM orders_current GROUP BY status",
    ))?;
    chain.wait_condition("ViewsInSync", "True", "AsDesired", PATIENCE).await?;
    stack.clickhouse().query(&format!("SELECT orders, number FROM {name}.by_status")).await?;
    in_sync(&chain).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_password_changed_is_named() -> anyhow::Result<()> {
    const NAME: &str = "boards_reader";
    let stack = shared().await?;
    let grafana = Grafana::start(Version::Modern).await?;
    open_shop(stack, NAME).await?;
    let mut all = objects(with_dashboards(stack, NAME, &grafana, |_| {}));
    all[2] = secret("reader", User::Tidemark.name(), User::Tidemark.password());
    let chain = Chain::prepare(stack, NAME, &all)?;
    chain.start().await?;
    let message = chain.wait_condition("DashboardsInSync", "False", "ReaderNotReady", PATIENCE).await?;
    assert!(message.contains("may write") && message.contains("readonly"), "{message}");
    all[2] = secret("reader", User::Dashboards.name(), "wrong");
    chain.write(&all)?;
    let message = chain.wait_condition("DashboardsInSync", "False", "AuthenticationFailed", PATIENCE).await?;
    assert!(message.contains("spec.grafana.reader"), "{message}");
    all[2] = secret("reader", User::Dashboards.name(), CANARY);
    chain.write(&all)?;
    in_sync(&chain).await
}
