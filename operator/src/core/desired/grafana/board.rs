//! One dashboard in Grafana: whose it is, what differs, and whether that was made by hand. Pure.

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::names::short_hash;
use tidemark_crds::pipeline::{AdoptionPolicy, DriftPolicy};

use super::removal::drop_dashboard;
use super::{
    Comparison, GrafanaInput, MOST_FIELDS, Part, Problem, changed, folder_fact, owned, saving, slug,
    source_fact,
};
use crate::core::dashboards::{Dashboard, subset};
use crate::core::effect::{Effect, Saving, Site, Verb};
use crate::core::facts::DashboardFacts;
use crate::core::step::{Fact, Stage, StepKind};

/// Whether a stored dashboard is this pipeline's: its uid is ours, and so are its tags or the mark inside.
fn is_ours(input: &GrafanaInput<'_>, live: &DashboardFacts) -> bool {
    let tagged = |tag: &String| live.model["tags"].as_array().into_iter().flatten().any(|other| other == tag);
    live.model["tidemark"]["mark"] == *input.mark || input.names.tags.iter().all(tagged)
}

/// Compares one dashboard with what it should be.
pub(super) fn compare(input: &GrafanaInput<'_>, name: &str, dashboard: &Dashboard, out: &mut Comparison) {
    let uid = input.names.dashboard(name);
    let wanted =
        Wanted { uid: &uid, model: &dashboard.model, hash: short_hash(&dashboard.model.to_string()) };
    let mut needs = vec![folder_fact(), source_fact()];
    needs.extend(input.views.iter().map(|view| Fact::View(view.clone())));
    let Some(live) = input.facts.dashboards.get(&uid) else {
        if let Some(other) = input.facts.titles.get(&slug(dashboard.title())) {
            let message = format!(
                "dashboard {name}: the folder {:?} has another dashboard with the title {:?} (uid {other}): it is left \
                 alone; rename it or move it",
                input.grafana.folder,
                dashboard.title()
            );
            out.part.problems.push(Problem::new(name, Reason::Conflict, message));
            return;
        }
        let what = format!("create dashboard {name} in Grafana");
        let effect = save(input, &wanted, None, "created by Tidemark");
        out.part.step((Stage::Dashboard, StepKind::Create), what, needs, None, effect);
        return;
    };
    if !is_ours(input, live) && input.grafana.adoption_policy == AdoptionPolicy::Never {
        let message = format!(
            "dashboard {name}: grafana has a dashboard with the uid {uid} that this pipeline did not make: it is left \
             alone; remove it, or set spec.grafana.adoptionPolicy to Adopt"
        );
        out.part.problems.push(Problem::new(name, Reason::Conflict, message));
        return;
    }
    let mut compared = wanted.stored(input.mark);
    if let Some(map) = compared.as_object_mut() {
        map.remove("id");
    }
    let mut fields = subset::differences(&live.model, &compared, MOST_FIELDS);
    let moved = match (&live.folder_uid, &input.facts.folder) {
        (Some(folder), _) => *folder != input.names.folder,
        (None, Some(folder)) => folder.id != 0 && live.folder_id != folder.id,
        (None, None) => false,
    };
    if moved {
        fields.push("folder".to_owned());
    }
    if fields.is_empty() {
        return;
    }
    // Our save made the version that follows the one it was based on: another version is another's save, and so is
    // one without our key, since a page of Grafana drops keys that it does not know.
    let sign = &live.model["tidemark"];
    let by_hand = sign["basedOn"].as_i64().is_none_or(|based_on| based_on + 1 != live.version) || moved;
    let what = shown(&fields);
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push(format!("dashboard {name}: {what}"));
        return;
    }
    let (kind, verb) = changed(by_hand);
    let message = if by_hand { "put right by Tidemark" } else { "changed by Tidemark" };
    let effect = save(input, &wanted, Some(live.version), message);
    let what = format!("{verb} dashboard {name} in Grafana: {what}");
    out.part.step((Stage::Dashboard, kind), what, needs, None, effect);
}

/// The fields for people; a new model may differ in nothing else than our own key.
fn shown(fields: &[String]) -> String {
    let others: Vec<&str> =
        fields.iter().map(String::as_str).filter(|field| !field.starts_with("tidemark")).collect();
    if others.is_empty() { "its mark".to_owned() } else { others.join(", ") }
}

/// A dashboard as it should be.
struct Wanted<'a> {
    uid: &'a str,
    model: &'a Value,
    hash: String,
}

impl Wanted<'_> {
    /// The model with our key, as it is stored.
    fn stored(&self, mark: &str) -> Value {
        let mut model = self.model.clone();
        model["tidemark"] = json!({"mark": mark, "hash": self.hash});
        model
    }
}

/// Saves a dashboard over the version that was seen; never with `overwrite`, which could hit another one.
fn save(input: &GrafanaInput<'_>, wanted: &Wanted<'_>, version: Option<i64>, message: &str) -> Effect {
    let mut model = wanted.stored(input.mark);
    model["tidemark"]["basedOn"] = json!(version.unwrap_or(0));
    if let Some(version) = version {
        model["version"] = json!(version);
    }
    let mut body = json!({
        "dashboard": model, "folderUid": input.names.folder, "overwrite": false, "message": message,
    });
    if let Some(folder) = &input.facts.folder
        && folder.id != 0
    {
        body["folderId"] = json!(folder.id);
    }
    let saving = saving(Verb::Post, &["api", "dashboards", "db"], body);
    super::save(Saving { uid: Some(wanted.uid.to_owned()), ..saving })
}

/// Removes dashboards that are no longer wanted.
pub(super) fn orphans(input: &GrafanaInput<'_>, part: &mut Part) {
    let wanted = |uid: &String| input.dashboards.iter().any(|(name, _)| input.names.dashboard(name) == *uid);
    // A dashboard of the user that is refused just now stays as it was.
    let named = |uid: &String| {
        let extra = &input.grafana.dashboards.extra;
        extra.iter().any(|extra| input.names.dashboard(&format!("x-{}", extra.name)) == *uid)
    };
    let ours = owned::dashboards(input.names, input.facts).into_iter();
    for (uid, own) in ours.filter(|(uid, _)| !wanted(uid) && !named(uid)) {
        part.steps.push(drop_dashboard(&uid, own, Site::Current));
    }
}
