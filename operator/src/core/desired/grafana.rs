//! Grafana as it should be: a folder, a data source, dashboards, alert rules, and what differs. Pure.
//!
//! Nothing of others is touched. Uids come from the pipeline's mark, and each object carries a sign of its own: the
//! data source a key in `jsonData`, a dashboard its tags. What has our uid without it is a conflict.

pub mod alerts;
mod board;
pub mod owned;
pub mod place;
mod reader;
mod removal;
mod source;
mod wanted;

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::ledger::GrafanaRecord;
use tidemark_crds::names::{PipelineName, short_hash};
use tidemark_crds::pipeline::{Alerts, AnalyticsPipelineSpec, DashboardPreset, DriftPolicy, Grafana};
use tidemark_runtime::credentials::Credentials;

pub use self::reader::reader_problem;
pub use self::removal::removal;
pub use self::source::connection;
pub use self::wanted::wanted;
use super::part::{Part, Problem};
use crate::core::dashboards;
use crate::core::dashboards::Dashboard;
use crate::core::effect::{Effect, GrafanaCall, GrafanaEffect, Saving, Site, Verb};
use crate::core::facts::GrafanaFacts;
use crate::core::step::{Fact, Stage, StepKind};

/// Fields that a message names at most.
const MOST_FIELDS: usize = 5;

/// Kind and verb of a change: of the spec, or of what somebody changed by hand.
fn changed(by_hand: bool) -> (StepKind, &'static str) {
    if by_hand { (StepKind::Revert, "revert") } else { (StepKind::Change, "change") }
}

/// Names of everything in Grafana.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Prefix of all uids, and the data source's uid.
    pub prefix: String,
    /// The folder's uid.
    pub folder: String,
    /// The data source's name.
    pub source_name: String,
    /// Tags of every dashboard.
    pub tags: Vec<String>,
}

impl Names {
    /// Derives the names from the pipeline and its mark.
    pub fn new(name: &PipelineName, mark: &str) -> Self {
        let prefix = format!("tm-{}", short_hash(mark));
        Self {
            folder: format!("{prefix}-folder"),
            source_name: format!("Tidemark {name}"),
            tags: vec!["tidemark".to_owned(), name.to_string()],
            prefix,
        }
    }

    /// Whether a uid begins as those of the pipeline's dashboards and rules do.
    pub fn has(&self, uid: &str) -> bool {
        uid.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Uid of a dashboard.
    pub fn dashboard(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct GrafanaQuestion {
    /// Uid of the folder.
    pub folder_uid: String,
    /// Title of the folder.
    pub folder_title: String,
    /// Uid of the data source.
    pub source_uid: String,
    /// Name of the data source.
    pub source_name: String,
    /// Tags that all dashboards of the pipeline have.
    pub tags: Vec<String>,
    /// Prefix of the uids of the pipeline's dashboards.
    pub uid_prefix: String,
    /// Uids of the dashboards that should be there.
    pub dashboards: Vec<String>,
    /// Whether there shall be alert rules. Without, a login needs no right to them.
    pub alerts: bool,
}

/// Titles of a folder collide by what Grafana makes of them in an address: letters and digits.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for sign in title.to_lowercase().chars() {
        if sign.is_alphanumeric() {
            slug.push(sign);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// What to look for in Grafana.
pub fn question(spec: &Grafana, names: &Names) -> GrafanaQuestion {
    let preset = dashboards::board::boards().iter().map(|(name, _)| (*name).to_owned());
    let preset = preset.filter(|_| spec.dashboards.preset == DashboardPreset::Ecommerce);
    let extra = spec.dashboards.extra.iter().map(|extra| format!("x-{}", extra.name));
    GrafanaQuestion {
        dashboards: preset.chain(extra).map(|name| names.dashboard(&name)).collect(),
        alerts: spec.alerts == Alerts::Enabled,
        ..leaving(&spec.folder, names)
    }
}

/// What to look for in a Grafana that is left.
pub fn leaving(folder: &str, names: &Names) -> GrafanaQuestion {
    GrafanaQuestion {
        folder_uid: names.folder.clone(),
        folder_title: folder.to_owned(),
        source_uid: names.prefix.clone(),
        source_name: names.source_name.clone(),
        tags: names.tags.clone(),
        uid_prefix: names.prefix.clone(),
        dashboards: Vec::new(),
        alerts: false,
    }
}

/// A duration of the spec in seconds.
fn seconds(text: &str) -> f64 {
    let ms = duration::milliseconds(text).unwrap_or(0);
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

/// What Grafana is brought to.
#[derive(Debug)]
pub struct GrafanaInput<'a> {
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Its part about Grafana.
    pub grafana: &'a Grafana,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// Names of everything.
    pub names: &'a Names,
    /// The account that panels query with.
    pub reader: &'a Credentials,
    /// A secret that Grafana does not have: the hash of the reader's password is keyed with it.
    pub key: &'a str,
    /// What the ledger says of this Grafana; absent: nothing was made there yet.
    pub record: Option<&'a GrafanaRecord>,
    /// Grafana as it is.
    pub facts: &'a GrafanaFacts,
    /// The dashboards that should be there.
    pub dashboards: &'a [(String, Dashboard)],
    /// Views that the dashboards read.
    pub views: &'a [String],
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Steps and problems.
    pub part: Part,
    /// Changes by hand that are kept, one line each.
    pub kept: Vec<String>,
}

/// Compares Grafana with what it should be.
pub fn compare(input: &GrafanaInput<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    folder(input, &mut comparison);
    source::compare(input, &mut comparison);
    for (name, dashboard) in input.dashboards {
        board::compare(input, name, dashboard, &mut comparison);
    }
    board::orphans(input, &mut comparison.part);
    alerts::compare(input, &mut comparison);
    comparison
}

/// What is made or changed in the Grafana that the spec names.
fn saving(verb: Verb, path: &[&str], body: Value) -> Saving {
    let path = path.iter().map(|part| (*part).to_owned()).collect();
    Saving { verb, path, body, password: None, uid: None }
}

fn request(verb: Verb, path: &[&str], body: Value) -> Effect {
    save(saving(verb, path, body))
}

fn save(saving: Saving) -> Effect {
    Effect::Grafana(GrafanaEffect { site: Site::Current, call: GrafanaCall::Save(saving) })
}

fn folder(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let (uid, title) = (&input.names.folder, &input.grafana.folder);
    let Some(live) = &input.facts.folder else {
        if let Some(other) = &input.facts.folder_title_taken {
            let message = format!(
                "grafana has another folder with the title {title:?} (uid {other}): it is left alone; choose \
                 another title in spec.grafana.folder"
            );
            out.part.problems.push(Problem::new("folder", Reason::Conflict, message));
            return;
        }
        let body = json!({"uid": uid, "title": title});
        let effect = request(Verb::Post, &["api", "folders"], body);
        let what = format!("create folder {title:?} in Grafana");
        let (needs, gives) = (vec![place::fact()], Some(folder_fact()));
        out.part.step((Stage::Folder, StepKind::Create), what, needs, gives, effect);
        return;
    };
    if live.title == *title {
        return;
    }
    // The ledger has the title that the pipeline gave it last: where the spec still asks for it, a person renamed it.
    let by_hand = input.record.is_some_and(|record| record.folder == *title);
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push("folder: title".to_owned());
        return;
    }
    let mut body = json!({"title": title});
    match live.version {
        Some(version) => body["version"] = json!(version),
        None => body["overwrite"] = json!(true),
    }
    let effect = request(Verb::Put, &["api", "folders", uid], body);
    let (kind, verb) = changed(by_hand);
    let what = format!("{verb} the title of folder {title:?} in Grafana");
    out.part.step((Stage::Folder, kind), what, vec![], None, effect);
}

/// The fact that the folder is there.
pub fn folder_fact() -> Fact {
    Fact::Other("the folder in Grafana".into())
}

/// The fact that the data source is there.
pub fn source_fact() -> Fact {
    Fact::Other("the data source in Grafana".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_collide_by_their_letters() {
        assert_eq!(slug("Orders per day"), slug("Orders-per day!"));
        assert_ne!(slug("Orders per day"), slug("Orders per week"));
    }
}
