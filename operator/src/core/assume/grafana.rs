//! Grafana after a request. Pure.

use serde_json::{Value, json};

use crate::core::desired::grafana::slug;
use crate::core::effect::{GrafanaEffect, Site, Verb};
use crate::core::facts::{DashboardFacts, FolderFacts, GrafanaFacts, Observation, Observed};

pub(super) fn request(effect: &GrafanaEffect, observed: &mut Observed) {
    // Two addresses can lead to one server: what is done at one of them is then seen at both.
    let is_one = is_one_server(observed);
    let sites = [(Site::Current, &mut observed.grafana), (Site::Former, &mut observed.former_grafana)];
    for (site, facts) in sites {
        if let Observation::Known(facts) = facts
            && (is_one || site == effect.site)
        {
            at(effect, facts);
        }
    }
}

/// Whether both have the same data source of ours, to its number and version.
fn is_one_server(observed: &Observed) -> bool {
    let source = |facts: &Observation<GrafanaFacts>| facts.known().and_then(|facts| facts.source.clone());
    source(&observed.grafana).is_some_and(|current| Some(current) == source(&observed.former_grafana))
}

fn at(effect: &GrafanaEffect, facts: &mut GrafanaFacts) {
    let path: Vec<&str> = effect.path.iter().map(String::as_str).collect();
    let body = effect.body.clone().unwrap_or(Value::Null);
    match (effect.verb, path.as_slice()) {
        (Verb::Delete, ["api", "folders", _]) => facts.folder = None,
        (Verb::Delete, ["api", "datasources", ..]) => facts.source = None,
        (Verb::Delete, ["api", "dashboards", "uid", uid]) => {
            facts.dashboards.remove(*uid);
            facts.ours.remove(*uid);
            facts.titles.retain(|_, of| of.as_str() != *uid);
        }
        (Verb::Delete, [.., "alert-rules", uid]) => {
            facts.rules.iter_mut().for_each(|rules| drop(rules.remove(*uid)));
        }
        (_, ["api", "folders", ..]) => folder(&body, facts),
        (_, ["api", "datasources", ..]) => source(body, facts),
        (_, ["api", "dashboards", "db"]) => dashboard(&body, effect.uid.as_deref(), facts),
        (_, [.., "alert-rules"] | [.., "alert-rules", _]) => {
            let uid = text(&body["uid"]);
            facts.rules.iter_mut().for_each(|rules| drop(rules.insert(uid.clone(), body.clone())));
        }
        _ => {}
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn folder(body: &Value, facts: &mut GrafanaFacts) {
    let before = facts.folder.take().unwrap_or_default();
    facts.folder = Some(FolderFacts { title: text(&body["title"]), ..before });
}

/// The version of a write is the one that follows what it was based on.
fn source(mut body: Value, facts: &mut GrafanaFacts) {
    let based_on = body["jsonData"]["tidemark"]["basedOn"].as_i64().unwrap_or(0);
    body["version"] = json!(based_on + 1);
    if let Some(before) = &facts.source {
        body["id"] = before["id"].clone();
    }
    facts.source = Some(body);
}

fn dashboard(body: &Value, uid: Option<&str>, facts: &mut GrafanaFacts) {
    let Some(uid) = uid.map(str::to_owned) else { return };
    let model = body["dashboard"].clone();
    let based_on = model["tidemark"]["basedOn"].as_i64().unwrap_or(0);
    facts.titles.retain(|_, of| *of != uid);
    facts.titles.insert(slug(&text(&model["title"])), uid.clone());
    facts.ours.insert(uid.clone());
    let made = DashboardFacts {
        model,
        version: based_on + 1,
        folder_uid: body["folderUid"].as_str().map(str::to_owned),
        folder_id: body["folderId"].as_i64().unwrap_or(0),
    };
    facts.dashboards.insert(uid, made);
}
