//! Grafana: folders, data sources, dashboards and alert rules of one organization.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_operator::core::desired::grafana::owned::ObjectName;
use tidemark_operator::core::desired::grafana::{GrafanaQuestion, Names, leaving, question, slug};
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::effect::{GrafanaCall, GrafanaEffect, Saving, Verb};
use tidemark_operator::core::facts::{DashboardFacts, Failure, FolderFacts, GrafanaFacts, SourceHealth};

use super::estate::remote;

/// One server. Every object has a version, which counts its writes from 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Server {
    /// Title of each folder by its uid.
    pub(super) folders: BTreeMap<String, (String, i64)>,
    pub(super) sources: BTreeMap<String, (Value, i64)>,
    /// Model and folder of each dashboard by its uid.
    pub(super) dashboards: BTreeMap<String, (Value, String, i64)>,
    /// Each alert rule by its uid.
    pub(super) rules: BTreeMap<String, Value>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Server {
    /// What is seen of it: with the spec's part, or for a place that the spec does not name any more.
    pub(super) fn look(&self, subject: &Subject<'_>, left: Option<&str>) -> Option<GrafanaFacts> {
        let names = Names::new(subject.name, subject.mark);
        let question = match left {
            Some(folder) => leaving(folder, &names),
            None => question(subject.spec.grafana.as_ref()?, &names),
        };
        Some(self.answer(&question))
    }

    fn answer(&self, question: &GrafanaQuestion) -> GrafanaFacts {
        let titled = |(uid, (title, _)): (&String, &(String, i64))| {
            title.eq_ignore_ascii_case(&question.folder_title).then(|| uid.clone())
        };
        let named = |(uid, (source, _)): (&String, &(Value, i64))| {
            (source["name"] == *question.source_name).then(|| uid.clone())
        };
        let folder = self.folders.get(&question.folder_uid);
        let source = self.sources.get(&question.source_uid);
        let prefix = format!("{}-", question.uid_prefix);
        let is_tagged = |model: &Value| {
            let tags = model["tags"].as_array().cloned().unwrap_or_default();
            question.tags.iter().all(|tag| tags.contains(&json!(tag)))
        };
        let inside = self.dashboards.iter().filter(|(_, (_, of, _))| *of == question.folder_uid);
        GrafanaFacts {
            version: "12.4.0".into(),
            folder: folder.map(|(title, version)| FolderFacts {
                id: 0,
                title: title.clone(),
                version: Some(*version),
            }),
            folder_title_taken: if folder.is_none() { self.folders.iter().find_map(titled) } else { None },
            source: source.map(|(source, version)| {
                let mut source = source.clone();
                source["version"] = json!(version);
                source
            }),
            source_name_taken: if source.is_none() { self.sources.iter().find_map(named) } else { None },
            source_health: SourceHealth::Good,
            dashboards: (question.dashboards.iter())
                .filter_map(|uid| {
                    let (model, folder, version) = self.dashboards.get(uid)?;
                    let mut model = model.clone();
                    model["version"] = json!(version);
                    let folder_uid = Some(folder.clone());
                    Some((uid.clone(), DashboardFacts { model, version: *version, folder_uid, folder_id: 0 }))
                })
                .collect(),
            titles: (inside.clone())
                .filter(|_| folder.is_some())
                .map(|(uid, (model, ..))| (slug(&text(&model["title"])), uid.clone()))
                .collect(),
            tagged: (self.dashboards.iter())
                .filter(|(uid, (model, ..))| uid.starts_with(&prefix) && is_tagged(model))
                .map(|(uid, (model, ..))| {
                    (uid.clone(), model["tags"].as_array().into_iter().flatten().map(text).collect())
                })
                .collect(),
            has_subfolders: false,
            rules: Some(
                (self.rules.iter())
                    .filter(|(uid, _)| uid.starts_with(&prefix))
                    .map(|(uid, rule)| (uid.clone(), rule.clone()))
                    .collect(),
            ),
        }
    }

    pub(super) fn act(&mut self, effect: &GrafanaEffect) -> Result<(), Failure> {
        match &effect.call {
            GrafanaCall::Save(saving) => self.change(saving),
            GrafanaCall::Delete(own) => {
                self.delete(own);
                Ok(())
            }
        }
    }

    /// As Grafana does it: a folder goes with all that is in it.
    fn delete(&mut self, object: &ObjectName) {
        match object {
            ObjectName::Folder(uid) => {
                self.folders.remove(uid);
                self.dashboards.retain(|_, (_, folder, _)| folder != uid);
                self.rules.retain(|_, rule| rule["folderUID"] != **uid);
            }
            ObjectName::Source(uid) => drop(self.sources.remove(uid)),
            ObjectName::Dashboard(uid) => drop(self.dashboards.remove(uid)),
            ObjectName::Rule(uid) => drop(self.rules.remove(uid)),
        }
    }

    fn change(&mut self, saving: &Saving) -> Result<(), Failure> {
        let body = saving.body.clone();
        let path: Vec<&str> = saving.path.iter().map(String::as_str).collect();
        match (saving.verb, &path[..]) {
            (Verb::Post, ["api", "folders"]) => {
                let (uid, title) = (text(&body["uid"]), text(&body["title"]));
                let taken = self.folders.iter().any(|(of, (name, _))| *of == uid || *name == title);
                absent(taken, "a folder with this uid or title")?;
                self.folders.insert(uid, (title, 1));
            }
            (Verb::Put, ["api", "folders", uid]) => {
                let (title, version) = self.folders.get_mut(*uid).ok_or_else(|| lacks(uid))?;
                same(*version, &body["version"])?;
                *title = text(&body["title"]);
                *version += 1;
            }
            (Verb::Post, ["api", "datasources"]) => {
                let taken = self
                    .sources
                    .iter()
                    .any(|(uid, (source, _))| body["uid"] == **uid || source["name"] == body["name"]);
                absent(taken, "a data source with this uid or name")?;
                self.sources.insert(text(&body["uid"]), (body, 1));
            }
            (Verb::Put, ["api", "datasources", "uid", uid]) => {
                let (source, version) = self.sources.get_mut(*uid).ok_or_else(|| lacks(uid))?;
                same(*version, &body["version"])?;
                *source = body;
                *version += 1;
            }
            (Verb::Post, ["api", "dashboards", "db"]) => self.save(&body)?,
            (Verb::Post, ["api", "v1", "provisioning", "alert-rules"]) => {
                let uid = text(&body["uid"]);
                absent(self.rules.contains_key(&uid), "a rule with this uid")?;
                self.rules.insert(uid, body);
            }
            (Verb::Put, ["api", "v1", "provisioning", "alert-rules", uid]) => {
                *self.rules.get_mut(*uid).ok_or_else(|| lacks(uid))? = body;
            }
            (verb, path) => return Err(remote(format!("grafana has no {verb:?} {path:?}"))),
        }
        Ok(())
    }

    fn save(&mut self, body: &Value) -> Result<(), Failure> {
        let (model, folder) = (body["dashboard"].clone(), text(&body["folderUid"]));
        let uid = text(&model["uid"]);
        if !self.folders.contains_key(&folder) {
            return Err(lacks(&folder));
        }
        if let Some((stored, of, version)) = self.dashboards.get_mut(&uid) {
            same(*version, &model["version"])?;
            (*stored, *of) = (model, folder);
            *version += 1;
            return Ok(());
        }
        let title = slug(&text(&model["title"]));
        let taken = (self.dashboards.values())
            .any(|(other, of, _)| *of == folder && slug(&text(&other["title"])) == title);
        absent(taken, "a dashboard with this title")?;
        self.dashboards.insert(uid, (model, folder, 1));
        Ok(())
    }
}

fn lacks(uid: &str) -> Failure {
    remote(format!("grafana has no {uid}"))
}

fn absent(taken: bool, what: &str) -> Result<(), Failure> {
    if taken { Err(remote(format!("there is {what} already"))) } else { Ok(()) }
}

/// What is saved over a version has to name it.
fn same(version: i64, asked: &Value) -> Result<(), Failure> {
    if *asked == version { Ok(()) } else { Err(remote("the version is another one by now".into())) }
}
