//! Passwords and tokens are told nowhere, with everything logged that can be: not by what works, and not by what fails.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::{Value, json};
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_e2e::chain::{Chain, pipeline, secret, secrets};
use tidemark_e2e::grafana::{Grafana, TOKEN, Version};
use tidemark_e2e::resources::{prepare, put};
use tidemark_e2e::stack::{PATIENCE, Role, Stack, User, shared, wait_until};

use crate::operator::{of_payments, operator_process, payments, read_is_asked_for, rest_at};

/// Logins of the pipelines here: the last two are wrong, and refused.
const LOGINS: [(&str, &str); 6] = [
    ("tidemark", "tidemark-pw"),
    ("viewer", "viewer-pw"),
    ("dashboards", "dashboards-pw"),
    ("connect", "canary-of-connect"),
    ("tidemark", "canary-that-is-wrong"),
    ("admin", "canary-of-grafana"),
];

/// All that must not be found: the secrets, and what they look like in a Secret's data and in a header.
fn needles(more: &[&str]) -> Vec<String> {
    let coded = |text: &str| {
        // The last characters depend on what follows.
        let coded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        coded[..coded.len() - 1].to_owned()
    };
    let logins = LOGINS
        .iter()
        .flat_map(|(user, secret)| [(*secret).to_owned(), coded(secret), coded(&format!("{user}:{secret}"))]);
    logins.chain(more.iter().flat_map(|secret| [(*secret).to_owned(), coded(secret)])).collect()
}

/// Looks through texts, each with where it is from and the least bytes that there must be of it.
fn search(needles: &[String], texts: &[(String, usize, String)]) -> anyhow::Result<()> {
    for (from, least, text) in texts {
        ensure!(text.len() >= *least, "{from} says too little to have been looked at: {text:?}");
        for needle in needles {
            if let Some(at) = text.find(needle.as_str()) {
                let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String =
                    text[begin..].lines().next().unwrap_or_default().chars().take(600).collect();
                anyhow::bail!("{needle} is in {from}: {line}");
            }
        }
    }
    Ok(())
}

/// Every file below a folder but those of Secrets, as one text.
fn files(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "secrets") {
            files(&path, text)?;
        } else if path.is_file() {
            let _ = writeln!(text, "{}:\n{}", path.display(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The rows of all bookkeeping of a pipeline, and every statement that ClickHouse was asked, with all that its log says of
/// it.
async fn of_clickhouse(stack: &Stack, database: &str, needles: &[String]) -> anyhow::Result<String> {
    let clickhouse = stack.clickhouse();
    let mut rows = String::new();
    let tables = format!(
        "SELECT name FROM system.tables WHERE database = '{database}' AND name LIKE '\\\\_tidemark%'"
    );
    for table in clickhouse.query(&tables).await?.lines() {
        rows += &clickhouse.query(&format!("SELECT * FROM {database}.{table} FORMAT JSONEachRow")).await?;
    }
    let shown =
        format!("SELECT create_table_query, comment FROM system.tables WHERE database = '{database}'");
    rows += &clickhouse.query(&shown).await?;
    clickhouse.query("SYSTEM FLUSH LOGS").await?;
    for needle in needles {
        // The halves apart, since this statement is in the log too.
        let (head, tail) = needle.split_at(needle.len() / 2);
        let found = clickhouse
            .query(&format!(
                "SELECT user, query, exception FROM system.query_log \
                 WHERE position(formatRow('JSONEachRow', *), concat('{head}', '{tail}')) > 0 LIMIT 1"
            ))
            .await?;
        ensure!(found.is_empty(), "a statement at ClickHouse has {needle}: {found}");
    }
    Ok(rows)
}

/// A pipeline that has every login there is, and Secrets of which one may be wrong.
fn objects(stack: &Stack, grafana: &Grafana, name: &str, is_right: bool) -> Vec<Value> {
    let mut manifest = pipeline(stack, name, &["public.payments"]);
    let spec = &mut manifest["spec"];
    spec["source"]["connect"]["credentials"] = json!({"secretName": "connect"});
    spec["clickhouse"]["viewer"] = json!({"secretName": "viewer"});
    spec["views"] = json!({"preset": "None", "refreshInterval": "1s", "extra": [
        {"name": "totals", "sql": {"inline": "SELECT 1 AS one"}, "materialization": {"type": "Refresh"}},
    ]});
    spec["grafana"] = json!({
        "url": grafana.url(), "folder": name, "reader": {"secretName": "reader"},
        "credentials": if is_right {
            json!({"secretName": "grafana", "tokenKey": "token"})
        } else {
            json!({"secretName": "grafana", "usernameKey": "username", "passwordKey": "password"})
        },
    });
    let password = |right: &'static str| if is_right { right } else { "canary-that-is-wrong" };
    vec![
        manifest,
        secret("postgres", Role::Tidemark.name(), password(Role::Tidemark.password())),
        secret("clickhouse", User::Tidemark.name(), password(User::Tidemark.password())),
        secret("viewer", User::Viewer.name(), User::Viewer.password()),
        secret("reader", User::Dashboards.name(), User::Dashboards.password()),
        secret("connect", "connect", "canary-of-connect"),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "grafana", "namespace": "local"},
            "stringData": {"token": TOKEN, "username": "admin", "password": "canary-of-grafana"},
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_logs_everything_tells_no_secret() -> anyhow::Result<()> {
    const NAME: &str = "boards_secret";
    let stack = shared().await?;
    payments(stack, NAME).await?;
    let grafana = Grafana::start(Version::Modern).await?;
    let wrong = objects(stack, &grafana, NAME, false);
    let chain = Chain::prepare_in(stack, NAME, &wrong, &["RUST_LOG=trace"])?;
    chain.start_operator()?;
    chain.wait_condition("SourceReady", "False", "AuthenticationFailed", PATIENCE).await?;
    chain.wait_condition("TablesInSync", "False", "AuthenticationFailed", PATIENCE).await?;
    let mut told = serde_json::to_string(&chain.status()?)?;
    told += &chain.asks("doctor").await?.1;

    chain.write(&objects(stack, &grafana, NAME, true))?;
    chain.start_sink().await?;
    chain.wait_condition("DashboardsInSync", "True", "", PATIENCE).await?;
    chain.wait_condition("TablesInSync", "True", "", PATIENCE).await?;
    let garbage: &[u8] = br#"{"before":null,"after":{"id":"#;
    let topic = format!("{NAME}.public.payments");
    stack.kafka().produce(&topic, Some(br#"{"id":3}"#), Some(garbage)).await?;
    let letters = stack
        .kafka()
        .consume_until(&format!("{NAME}.dead-letter"), PATIENCE, |records| !records.is_empty())
        .await?;
    let mut letter = String::new();
    for record in &letters {
        let headers = record.headers().map(|headers| {
            headers
                .iter()
                .map(|header| String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
        });
        let headers: Vec<String> = headers.into_iter().flatten().collect();
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let _ = writeln!(letter, "{} {} {headers:?}", text(record.key()), text(record.payload()));
    }
    chain.wait_condition("TablesInSync", "False", "DeadLetters", PATIENCE).await?;
    for command in ["plan", "status", "doctor"] {
        told += &chain.asks(command).await?.1;
    }
    told += &chain.dead_letters(&["show", "--table", "payments"]).await?;
    let needles = needles(&[TOKEN]);
    let ledger = of_clickhouse(stack, NAME, &needles).await?;
    // Their last lines, too.
    chain.operator().stop().await?;
    chain.sink().stop().await?;
    let mut made = String::new();
    files(&chain.manifests().join(".."), &mut made)?;
    let log = |process: &tidemark_e2e::stack::Process| std::fs::read_to_string(process.log());
    search(
        &needles,
        &[
            ("the operator's log".into(), 100_000, log(chain.operator())?),
            ("the sink's log".into(), 10_000, log(chain.sink())?),
            ("what it made".into(), 2_000, made),
            ("what the commands print".into(), 1_000, told),
            ("the ledger".into(), 1_000, ledger),
            ("the dead letter".into(), 20, letter),
            ("what Grafana shows".into(), 200, grafana.with(|state| state.visible())),
        ],
    )
}

/// All objects of a kind in a namespace, as text.
async fn all<K>(client: &kube::Client, namespace: &str) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(serde_json::to_string(&api.list(&ListParams::default()).await?.items)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_logs_everything_tells_the_cluster_no_secret() -> anyhow::Result<()> {
    const NAME: &str = "discreet";
    let stack = shared().await?;
    let client = stack.api_server().client().await?;
    prepare(&client, NAME).await?;
    payments(stack, NAME).await?;
    let secrets_of = |is_right: bool| {
        secrets().into_iter().map(move |mut object| {
            object["metadata"]["namespace"] = json!(NAME);
            if !is_right {
                object["stringData"]["password"] = json!("canary-that-is-wrong");
            }
            object
        })
    };
    let api: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), NAME);
    for object in secrets_of(false) {
        put(&api, object).await?;
    }
    let pipelines: Api<AnalyticsPipeline> = Api::namespaced(client.clone(), NAME);
    let mut manifest = of_payments(stack, NAME);
    manifest["metadata"]["annotations"] = json!({"tidemark.dev/plan": "now"});
    put(&pipelines, manifest).await?;
    let (operator, listen) = operator_process(stack, NAME, "discreet-operator", "trace")?;
    operator.spawn()?;
    wait_until(PATIENCE, "the wrong password to be named", || async {
        let status = pipelines.get(NAME).await?.status.context("no status yet")?;
        let failed = status.conditions.iter().find(|condition| condition.reason == "AuthenticationFailed");
        Ok(failed.map(drop))
    })
    .await?;
    for object in secrets_of(true) {
        put(&api, object).await?;
    }
    read_is_asked_for(stack, NAME).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAME);
    wait_until(PATIENCE, "the plan", || async { Ok(maps.get_opt("discreet-plan").await?.map(drop)) }).await?;
    rest_at(listen).await?;
    operator.stop().await?;

    // The operator's own login at the API server is one too.
    let kubeconfig: Value =
        serde_yaml_ng::from_str(&std::fs::read_to_string(stack.api_server().kubeconfig())?)?;
    let token = kubeconfig["users"][0]["user"]["token"].as_str().context("a token")?;
    let needles = needles(&[token]);
    let ledger = of_clickhouse(stack, NAME, &needles).await?;
    search(
        &needles,
        &[
            ("the operator's log".into(), 100_000, std::fs::read_to_string(operator.log())?),
            ("pipelines".into(), 1_000, all::<AnalyticsPipeline>(&client, NAME).await?),
            ("events".into(), 200, all::<Event>(&client, NAME).await?),
            ("ConfigMaps".into(), 500, all::<ConfigMap>(&client, NAME).await?),
            ("Deployments".into(), 1_000, all::<Deployment>(&client, NAME).await?),
            ("revisions".into(), 500, all::<ControllerRevision>(&client, NAME).await?),
            ("the ledger".into(), 1_000, ledger),
        ],
    )
}
