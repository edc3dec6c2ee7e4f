//! Grafana after a request. Pure.

use serde_json::{Value, json};

use crate::core::desired::grafana::owned::ObjectName;
use crate::core::desired::grafana::slug;
use crate::core::effect::{GrafanaCall, GrafanaEffect, Saving, Site};
use crate::core::facts::{DashboardFacts, FolderFacts, GrafanaFacts, Observation, Observed};

pub(super) fn request(effect: &GrafanaEffect, observed: &mut Observed) {
    // Two addresses can lead to one server: what is done at one of them is then seen at both.
    let is_one = is_one_server(observed);
    let sites = [(Site::Current, &mut observed.grafana), (Site::Former, &mut observed.former_grafana)];
    for (site, facts) in sites {
        if let Observation::Known(facts) = facts
            && (is_one || site == effect.site)
        {
            match &effect.call {
                GrafanaCall::Save(saving) => saved(saving, facts),
                GrafanaCall::Delete(own) => deleted(own, facts),
            }
        }
    }
}

/// Whether both have the same data source of ours, to its number and version.
fn is_one_server(observed: &Observed) -> bool {
    let source = |facts: &Observation<GrafanaFacts>| facts.known().and_then(|facts| facts.source.clone());
    source(&observed.grafana).is_some_and(|current| Some(current) == source(&observed.former_grafana))
}

fn deleted(object: &ObjectName, facts: &mut GrafanaFacts) {
    match object {
        ObjectName::Folder(_) => facts.folder = None,
        ObjectName::Source(_) => facts.source = None,
        ObjectName::Dashboard(uid) => {
            facts.dashboards.remove(uid);
            facts.tagged.remove(uid);
            facts.titles.retain(|_, of| of != uid);
        }
        ObjectName::Rule(uid) => facts.rules.iter_mut().for_each(|rules| drop(rules.remove(uid))),
    }
}

fn saved(saving: &Saving, facts: &mut GrafanaFacts) {
    let path: Vec<&str> = saving.path.iter().map(String::as_str).collect();
    let body = &saving.body;
    match path.as_slice() {
        ["api", "folders", ..] => folder(body, facts),
        ["api", "datasources", ..] => source(body.clone(), facts),
        ["api", "dashboards", "db"] => dashboard(body, saving.uid.as_deref(), facts),
        [.., "alert-rules"] | [.., "alert-rules", _] => {
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
    let tags = model["tags"].as_array().into_iter().flatten().map(text).collect();
    facts.tagged.insert(uid.clone(), tags);
    let made = DashboardFacts {
        model,
        version: based_on + 1,
        folder_uid: body["folderUid"].as_str().map(str::to_owned),
        folder_id: body["folderId"].as_i64().unwrap_or(0),
    };
    facts.dashboards.insert(uid, made);
}
