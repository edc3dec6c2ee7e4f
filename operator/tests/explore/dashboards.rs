//! Plans with dashboards.

use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_operator::core::desired::grafana::Names;
use tidemark_operator::core::step::Lane;

use super::estate::{CLUSTER, Estate, GRAFANA};
use super::grafana::Server;
use super::plans::{Plan, delete};

/// Another Grafana.
const ELSEWHERE: &str = "http://grafana-2:3000";

fn dashboard(title: &str) -> Value {
    let source = json!({"type": "grafana-clickhouse-datasource", "uid": "${datasource}"});
    let model = json!({
        "title": title, "editable": false, "schemaVersion": 39,
        "templating": {"list": [{"type": "datasource", "name": "datasource"}]},
        "panels": [{
            "type": "table", "title": "Customers", "description": "All of them.", "datasource": source,
            "fieldConfig": {"defaults": {"unit": "short"}},
            "targets": [{"datasource": source, "rawSql": "SELECT count() AS n FROM customers_current LIMIT 1"}],
        }],
    });
    json!({"inline": model.to_string()})
}

/// A spec's part with a dashboard of the user.
fn part(url: &str) -> Value {
    json!({"grafana": {
        "url": url, "credentials": {"secretName": "grafana", "tokenKey": "token"}, "reader": {"secretName": "pg"},
        "dashboards": {"preset": "None", "extra": [{"name": "sales", "json": dashboard("Sales")}]},
        "alerts": "Enabled",
    }})
}

/// A plan that begins with the shop's pipeline and a dashboard.
pub(super) fn shown(name: &str) -> Plan {
    Plan::applied(name).with("dashboards", part(GRAFANA))
}

fn server(estate: &mut Estate) -> &mut Server {
    estate.grafana.get_mut(GRAFANA).unwrap()
}

/// Somebody saves every dashboard with another title.
fn retitle(estate: &mut Estate) {
    for (model, _, version) in server(estate).dashboards.values_mut() {
        model["title"] = json!("Mine");
        *version += 1;
    }
}

/// Plans with a Grafana of our own to show things in.
pub(super) fn dashboards() -> Vec<Plan> {
    let mut plans = vec![
        shown("dashboards")
            .with("two", json!({"grafana": {"dashboards": {"extra": [
                {"name": "sales", "json": dashboard("Sales")}, {"name": "stock", "json": dashboard("Stock")},
            ]}}}))
            .with("another folder", json!({"grafana": {"folder": "Shop"}}))
            .with("one", json!({"grafana": {"dashboards": {"extra": [{"name": "stock", "json": dashboard("Stock")}]}}}))
            .with("no alerts", json!({"grafana": {"alerts": "Disabled"}}))
            .with("none", json!({"grafana": null})),
        shown("dashboards changed by hand")
            .then("another title", retitle)
            .then("the folder's title", |estate| {
                for (title, version) in server(estate).folders.values_mut() {
                    *title = "Theirs".into();
                    *version += 1;
                }
            })
            .then("the data source", |estate| {
                for (source, version) in server(estate).sources.values_mut() {
                    source["jsonData"]["host"] = json!("elsewhere");
                    *version += 1;
                }
            })
            .ready(true),
        shown("dashboards changed by hand, and kept")
            .with("keep", json!({"grafana": {"driftPolicy": "Keep"}}))
            .then("another title", retitle)
            .with("revert", json!({"grafana": {"driftPolicy": "Revert"}}))
            .ready(true),
        shown("dashboards deleted by hand")
            .then("a dashboard", |estate| server(estate).dashboards.clear())
            .then("the data source", |estate| server(estate).sources.clear())
            .then("the folder", |estate| {
                server(estate).folders.clear();
                server(estate).dashboards.clear();
            })
            .ready(true),
        shown("another Grafana").with("moved", part(ELSEWHERE)).ready(true),
        shown("another Grafana, and what is there stays")
            .with("retain", json!({"deletionPolicy": {"grafana": "Retain"}}))
            .with("moved", part(ELSEWHERE)),
        shown("Grafana under another address")
            .then("a new name", |estate| {
                estate.aliases.insert("http://dashboards:3000".into(), GRAFANA.into());
            })
            .with("moved", part("http://dashboards:3000"))
            .ready(true),
        shown("another Grafana while the former one is away")
            .then("away", |estate| {
                estate.silent.insert(Lane::FormerGrafana);
            })
            .with("moved", part(ELSEWHERE))
            .then("it is back", |estate| estate.silent.clear())
            .ready(true),
        shown("dashboards as files, and back")
            .with("files", json!({"grafana": {"mode": "Sidecar", "url": null, "credentials": null, "alerts": "Disabled"}}))
            .with("another title", json!({"grafana": {"dashboards": {"extra": [
                {"name": "sales", "json": dashboard("Turnover")},
            ]}}}))
            .with("back", {
                let mut back = part(GRAFANA);
                back["grafana"]["mode"] = json!("Api");
                back
            })
            .ready(true),
        shown("a mistyped Grafana")
            .with("mistyped", json!({"grafana": {"url": "http://graphana:3000"}}))
            .with("right", part(GRAFANA))
            .ready(true),
        shown("Grafana restored from a backup")
            .then("empty", |estate| *server(estate) = Server::default())
            .ready(true),
        shown("Grafana away").then("away", |estate| {
            estate.silent.insert(Lane::Grafana);
        }).then("it is back", |estate| estate.silent.clear()).ready(true),
    ];
    plans.extend(deletions());
    plans.extend(foreign());
    plans
}

/// Resources that are deleted, with what their policy says of dashboards.
fn deletions() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (policy, is_away) in [("Delete", false), ("Retain", false), ("Delete", true)] {
        let name = format!("dashboards deleted by {policy}{}", if is_away { ", Grafana away" } else { "" });
        let plan =
            shown(&name).with("policy", json!({"deletionPolicy": {"grafana": policy, "timeout": "1m"}}));
        let plan = plan.then("delete", move |estate| {
            if is_away {
                estate.silent.insert(Lane::Grafana);
            }
            delete(estate);
        });
        plans.push(plan.then("it is back", |estate| estate.silent.clear()));
    }
    plans
}

/// What is of somebody else in Grafana.
fn foreign() -> Vec<Plan> {
    let ends = |plan: Plan| {
        plan.with("dashboards", part(GRAFANA))
            .with("policy", json!({"deletionPolicy": {"grafana": "Delete"}}))
            .then("delete", delete)
    };
    vec![
        ends(Plan::applied("a folder of somebody else with our title").beside(|estate| {
            server(estate).folders.insert("theirs".into(), ("Shop analytics".into(), 3));
        })),
        ends(Plan::applied("an alert rule of somebody else in our folder, with a uid as ours").beside(
            |estate| {
                let name = PipelineName::new("shop", "shop");
                let names = Names::new(&name, &name.mark(CLUSTER));
                let uid = names.dashboard("theirs");
                let rule = json!({"uid": uid, "title": "theirs", "folderUID": names.folder});
                server(estate).rules.insert(uid, rule);
            },
        )),
        ends(Plan::applied("a data source of somebody else with our name").beside(|estate| {
            let source = json!({"uid": "theirs", "name": "Tidemark shop/shop", "jsonData": {}});
            server(estate).sources.insert("theirs".into(), (source, 3));
        })),
        ends(Plan::applied("a dashboard of somebody else in our folder").beside(|estate| {
            let name = PipelineName::new("shop", "shop");
            let folder = Names::new(&name, &name.mark(CLUSTER)).folder;
            server(estate).dashboards.insert("theirs".into(), (json!({"title": "Theirs"}), folder, 1));
        })),
    ]
}
