//! Which objects of Grafana are a pipeline's: never by the uid alone. Pure.

use serde_json::Value;

use super::Names;
use super::alerts::is_signed;
use crate::core::facts::GrafanaFacts;

/// An object by which it is deleted: its uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectName {
    /// A dashboard.
    Dashboard(String),
    /// An alert rule.
    Rule(String),
    /// A data source.
    Source(String),
    /// A folder.
    Folder(String),
}

impl ObjectName {
    /// Segments of its path.
    pub fn path(&self) -> Vec<&str> {
        match self {
            Self::Dashboard(uid) => vec!["api", "dashboards", "uid", uid],
            Self::Rule(uid) => vec!["api", "v1", "provisioning", "alert-rules", uid],
            Self::Source(uid) => vec!["api", "datasources", "uid", uid],
            Self::Folder(uid) => vec!["api", "folders", uid],
        }
    }
}

/// An object that was seen with the pipeline's mark. Only this module makes one, and nothing else is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    object: ObjectName,
    /// What it is told by, when it is looked at again.
    sign: Sign,
}

/// What tells an object as the pipeline's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sign {
    /// All tags of its dashboards.
    Tags(Vec<String>),
    /// The label or the hash of its rules.
    Rule(Box<Names>),
    /// The mark.
    Mark(String),
    /// Its uid, and that nothing is in it.
    Empty,
}

impl std::ops::Deref for Own {
    type Target = ObjectName;

    fn deref(&self) -> &ObjectName {
        &self.object
    }
}

impl Own {
    /// Whether what Grafana gives at [its path](ObjectName::path) is still the pipeline's. What is in a folder is asked of
    /// Grafana by itself.
    pub fn is_still(&self, live: &Value) -> bool {
        match &self.sign {
            Sign::Tags(tags) => {
                let found = live["dashboard"]["tags"].as_array();
                tags.iter().all(|tag| found.is_some_and(|found| found.iter().any(|found| found == tag)))
            }
            Sign::Rule(names) => is_signed(names, live),
            Sign::Mark(mark) => is_source(mark, live),
            Sign::Empty => true,
        }
    }
}

fn is_source(mark: &str, live: &Value) -> bool {
    live["jsonData"]["tidemark"]["mark"] == *mark && live["readOnly"] != true
}

/// The dashboards of the pipeline: their uids begin as its own do, and they have all of its tags.
pub(super) fn dashboards(names: &Names, facts: &GrafanaFacts) -> Vec<(String, Own)> {
    let is_ours = |(uid, tags): &(&String, &Vec<String>)| {
        names.has(uid) && names.tags.iter().all(|tag| tags.contains(tag))
    };
    let all = facts.tagged.iter().filter(is_ours);
    let own = |uid: &String| Own {
        object: ObjectName::Dashboard(uid.clone()),
        sign: Sign::Tags(names.tags.clone()),
    };
    all.map(|(uid, _)| (uid.clone(), own(uid))).collect()
}

/// The alert rules of the pipeline: their uids begin as its own do, and they have its label or its sign.
pub(super) fn rules(names: &Names, facts: &GrafanaFacts) -> Vec<(String, Own)> {
    let is_ours = |(uid, rule): &(&String, &Value)| names.has(uid) && is_signed(names, rule);
    let all = facts.rules.iter().flatten().filter(is_ours);
    let own = |uid: &String| Own {
        object: ObjectName::Rule(uid.clone()),
        sign: Sign::Rule(Box::new(names.clone())),
    };
    all.map(|(uid, _)| (uid.clone(), own(uid))).collect()
}

/// The data source of the pipeline: it has the mark, and can be deleted.
pub(super) fn source(names: &Names, mark: &str, facts: &GrafanaFacts) -> Option<Own> {
    let live = facts.source.as_ref()?;
    is_source(mark, live)
        .then(|| Own { object: ObjectName::Source(names.prefix.clone()), sign: Sign::Mark(mark.to_owned()) })
}

/// The folder of the pipeline, once nothing is in it: Grafana deletes a folder with all that is in it, and what others put
/// there keeps it. A folder has no place for a mark but its uid, which is made of the mark.
pub(super) fn folder(names: &Names, facts: &GrafanaFacts) -> Option<Own> {
    facts.folder.as_ref()?;
    let has_rules = facts.rules.as_ref().is_some_and(|rules| !rules.is_empty());
    let is_empty = facts.titles.is_empty() && facts.tagged.is_empty() && !has_rules && !facts.has_subfolders;
    is_empty.then(|| Own { object: ObjectName::Folder(names.folder.clone()), sign: Sign::Empty })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemark_crds::names::PipelineName;

    use super::*;
    use crate::core::facts::FolderFacts;

    const MARK: &str = "tidemark u/ns/shop";

    #[test]
    fn what_has_our_uid_and_not_our_mark_is_nobodys_to_delete() {
        let names = Names::new(&PipelineName::new("ns", "shop"), MARK);
        let (uid, others) = (names.dashboard("sales"), "tm-00000000-sales".to_owned());
        let ours = names.tags.clone();
        for (uid, tags, expected) in [
            (&uid, ours.clone(), 1),
            (&uid, [ours.clone(), vec!["more".into()]].concat(), 1),
            (&uid, vec!["tidemark".into(), "ns/other".into()], 0),
            (&uid, vec![], 0),
            (&others, ours, 0),
        ] {
            let facts = GrafanaFacts { tagged: [(uid.clone(), tags)].into(), ..GrafanaFacts::default() };
            let found = dashboards(&names, &facts);
            assert_eq!(found.len(), expected, "{facts:?}");
            for (_, own) in found {
                let still = |tags: &[&str]| own.is_still(&json!({"dashboard": {"tags": tags}}));
                assert!(
                    still(&["tidemark", "ns/shop"]) && !still(&["tidemark"]) && !own.is_still(&json!({}))
                );
            }
        }
        for (uid, rule, expected) in [
            (&uid, json!({"labels": {"managed_by": "tidemark", "pipeline": "ns/shop"}}), 1),
            (&uid, json!({"labels": {}, "data": [{}, {"model": {"tidemark": "1a2b"}}]}), 1),
            (&uid, json!({"labels": {"managed_by": "tidemark", "pipeline": "ns/other"}}), 0),
            (&uid, json!({"title": "theirs"}), 0),
            (&others, json!({"labels": {"managed_by": "tidemark", "pipeline": "ns/shop"}}), 0),
        ] {
            let facts =
                GrafanaFacts { rules: Some([(uid.clone(), rule.clone())].into()), ..GrafanaFacts::default() };
            let found = rules(&names, &facts);
            assert_eq!(found.len(), expected, "{facts:?}");
            for (_, own) in found {
                assert!(own.is_still(&rule) && !own.is_still(&json!({"title": "theirs"})));
            }
        }
        for (live, expected) in [
            (json!({"jsonData": {"tidemark": {"mark": MARK}}}), true),
            (json!({"jsonData": {"tidemark": {"mark": MARK}}, "readOnly": true}), false),
            (json!({"jsonData": {"tidemark": {"mark": "tidemark u/ns/other"}}}), false),
            (json!({"jsonData": {}}), false),
        ] {
            let facts = GrafanaFacts { source: Some(live.clone()), ..GrafanaFacts::default() };
            let own = source(&names, MARK, &facts);
            assert_eq!(own.is_some(), expected, "{facts:?}");
            assert!(own.is_none_or(|own| own.is_still(&live) && !own.is_still(&json!({"jsonData": {}}))));
        }
        let empty = GrafanaFacts { folder: Some(FolderFacts::default()), ..GrafanaFacts::default() };
        assert!(folder(&names, &empty).is_some() && folder(&names, &GrafanaFacts::default()).is_none());
        let theirs = || json!({"title": "theirs"});
        for full in [
            GrafanaFacts { titles: [("theirs".to_owned(), "x".to_owned())].into(), ..empty.clone() },
            GrafanaFacts { tagged: [("x".to_owned(), vec![])].into(), ..empty.clone() },
            GrafanaFacts { rules: Some([("x".to_owned(), theirs())].into()), ..empty.clone() },
            GrafanaFacts { has_subfolders: true, ..empty.clone() },
        ] {
            assert_eq!(folder(&names, &full), None, "{full:?}");
        }
    }
}
