//! Grafana as it is: our folder, data source and dashboards, and who else has their names. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::core::desired::grafana::{GrafanaQuestion, slug};
use crate::core::facts::{
    DashboardFacts, Failure, FailureClass, FolderFacts, GrafanaFacts, Observation, SourceHealth,
};
use crate::edge::failure::failure;
use crate::edge::grafana::client::Grafana;

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(20);
/// Most results of a search, Grafana's own limit.
const SEARCH_LIMIT: &str = "5000";

/// Looks at Grafana.
pub async fn observe(client: &Grafana, question: &GrafanaQuestion) -> Observation<GrafanaFacts> {
    match tokio::time::timeout(DEADLINE, Box::pin(facts(client, question))).await {
        Ok(Ok(facts)) => Observation::Known(facts),
        Ok(Err(failure)) => Observation::Unreachable(failure),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("grafana did not answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

async fn facts(client: &Grafana, question: &GrafanaQuestion) -> Result<GrafanaFacts, Failure> {
    let version = client.version().await?;
    let folder = client.get(&["api", "folders", &question.folder_uid], &[]).await?;
    let folder = folder.map(|folder| FolderFacts {
        id: folder["id"].as_i64().unwrap_or(0),
        title: text(&folder["title"]),
        version: folder["version"].as_i64(),
    });
    let mut facts = GrafanaFacts { version, ..GrafanaFacts::default() };
    if folder.is_none() {
        let all = client.list(&["api", "folders"], &[("limit", "1000")]).await?.unwrap_or_default();
        facts.folder_title_taken = all
            .iter()
            .find(|other| text(&other["title"]).eq_ignore_ascii_case(&question.folder_title))
            .map(|other| text(&other["uid"]));
    }
    facts.source = client.get(&["api", "datasources", "uid", &question.source_uid], &[]).await?;
    if facts.source.is_none() {
        let other = client.get(&["api", "datasources", "name", &question.source_name], &[]).await?;
        facts.source_name_taken = other.map(|other| text(&other["uid"]));
    } else {
        facts.source_health = source_health(client, &question.source_uid).await?;
    }
    facts.dashboards = dashboards(client, question).await?;
    search(client, question, folder.as_ref(), &mut facts).await?;
    if folder.is_some() {
        facts.has_subfolders = has_subfolders(client, &question.folder_uid).await?;
    }
    facts.folder = folder;
    facts.rules = match rules(client, question).await {
        Err(failure) if !question.alerts && failure.class == FailureClass::Permission => None,
        other => other?,
    };
    Ok(facts)
}

async fn source_health(client: &Grafana, uid: &str) -> Result<SourceHealth, Failure> {
    match client.get(&["api", "datasources", "uid", uid, "health"], &[]).await {
        Ok(None) => Ok(SourceHealth::NotOffered),
        Ok(Some(answer)) if answer["status"] == "OK" => Ok(SourceHealth::Good),
        Ok(Some(answer)) => Ok(SourceHealth::Bad(client.shown(&answer["message"]))),
        Err(problem) if problem.class == FailureClass::Remote => Ok(SourceHealth::Bad(problem.message)),
        Err(problem) => Err(problem),
    }
}

async fn dashboards(
    client: &Grafana,
    question: &GrafanaQuestion,
) -> Result<BTreeMap<String, DashboardFacts>, Failure> {
    let mut dashboards = BTreeMap::new();
    for uid in &question.dashboards {
        let Some(found) = client.get(&["api", "dashboards", "uid", uid], &[]).await? else {
            continue;
        };
        let meta = &found["meta"];
        let facts = DashboardFacts {
            model: found["dashboard"].clone(),
            version: found["dashboard"]["version"].as_i64().unwrap_or(0),
            folder_uid: meta["folderUid"].as_str().filter(|uid| !uid.is_empty()).map(str::to_owned),
            folder_id: meta["folderId"].as_i64().unwrap_or(0),
        };
        dashboards.insert(uid.clone(), facts);
    }
    Ok(dashboards)
}

/// Who else has a title in the folder, and what is left of dashboards that are no longer wanted.
async fn search(
    client: &Grafana,
    question: &GrafanaQuestion,
    folder: Option<&FolderFacts>,
    facts: &mut GrafanaFacts,
) -> Result<(), Failure> {
    let mut tagged = vec![("type", "dash-db"), ("limit", SEARCH_LIMIT)];
    tagged.extend(question.tags.iter().map(|tag| ("tag", tag.as_str())));
    let ours = client.list(&["api", "search"], &tagged).await?.unwrap_or_default();
    // A parameter that a Grafana does not know is ignored without a word: the prefix decides.
    let prefix = format!("{}-", question.uid_prefix);
    let tags = |found: &Value| found["tags"].as_array().into_iter().flatten().map(text).collect();
    facts.tagged = (ours.iter())
        .map(|found| (text(&found["uid"]), tags(found)))
        .filter(|(uid, _)| uid.starts_with(&prefix))
        .collect();
    let Some(folder) = folder else {
        return Ok(());
    };
    let inside = boards_in(client, &question.folder_uid, folder.id).await?;
    facts.titles = inside.iter().map(|found| (slug(&text(&found["title"])), text(&found["uid"]))).collect();
    Ok(())
}

/// The dashboards in a folder, as a search gives them.
pub(super) async fn boards_in(client: &Grafana, uid: &str, id: i64) -> Result<Vec<Value>, Failure> {
    let number = id.to_string();
    let inside =
        [("type", "dash-db"), ("limit", SEARCH_LIMIT), ("folderIds", number.as_str()), ("folderUIDs", uid)];
    let mut inside = client.list(&["api", "search"], &inside).await?.unwrap_or_default();
    // A parameter that a Grafana does not know is ignored without a word.
    inside.retain(|found| {
        found["folderUid"].as_str().is_none_or(|of| of == uid)
            && found["folderId"].as_i64().is_none_or(|of| of == id)
    });
    Ok(inside)
}

/// Whether somebody made folders in ours. A Grafana that has none within others ignores the parameter without a word
/// and gives all folders, ours among them.
pub(super) async fn has_subfolders(client: &Grafana, uid: &str) -> Result<bool, Failure> {
    let query = [("parentUid", uid), ("limit", "1000")];
    let inside = client.list(&["api", "folders"], &query).await?.unwrap_or_default();
    let ignored = inside.iter().any(|folder| text(&folder["uid"]) == uid);
    Ok(!ignored && !inside.is_empty())
}

async fn rules(
    client: &Grafana,
    question: &GrafanaQuestion,
) -> Result<Option<BTreeMap<String, Value>>, Failure> {
    let all = client.list(&["api", "v1", "provisioning", "alert-rules"], &[]).await?;
    let prefix = format!("{}-", question.uid_prefix);
    Ok(all.map(|all| {
        let ours = all.iter().filter(|rule| text(&rule["uid"]).starts_with(&prefix));
        ours.map(|rule| (text(&rule["uid"]), rule.clone())).collect()
    }))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
