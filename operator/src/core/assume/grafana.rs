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

/// Whether both have the same data source of ours, to its number and version; before there is one, the same folder: what
/// was begun at one address and goes on at another one, or with another login, has none in a second server yet.
fn is_one_server(observed: &Observed) -> bool {
    let (Some(current), Some(former)) = (observed.grafana.known(), observed.former_grafana.known()) else {
        return false;
    };
    match (&current.source, &former.source) {
        (None, None) => current.folder.is_some() && current.folder == former.folder,
        (one, other) => one == other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::Verb;

    /// What is foreseen of the former place once the current one has its data source; each has a folder of ours.
    fn source_of_the_former(current: FolderFacts, former: FolderFacts) -> Option<Value> {
        let place =
            |folder| Observation::Known(GrafanaFacts { folder: Some(folder), ..GrafanaFacts::default() });
        let mut observed =
            Observed { grafana: place(current), former_grafana: place(former), ..Observed::default() };
        let saving = Saving {
            verb: Verb::Post,
            path: ["api", "datasources"].map(str::to_owned).into(),
            body: json!({"uid": "ours"}),
            password: None,
            uid: None,
        };
        request(&GrafanaEffect { site: Site::Current, call: GrafanaCall::Save(saving) }, &mut observed);
        observed.former_grafana.known().and_then(|facts| facts.source.clone())
    }

    #[test]
    fn another_login_before_there_is_a_data_source_leads_to_the_same_server() {
        let made = FolderFacts { id: 7, title: "Shop analytics".into(), version: Some(1) };
        assert!(source_of_the_former(made.clone(), made.clone()).is_some());
        // One that is only foreseen has no number and no version.
        let foreseen = FolderFacts { title: made.title.clone(), ..FolderFacts::default() };
        assert_eq!(source_of_the_former(foreseen, made), None);
    }
}
