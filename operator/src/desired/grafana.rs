//! Grafana as it should be: a folder, a data source, dashboards, alert rules, and what differs. Pure.
//!
//! Nothing of others is touched. Uids come from the pipeline's mark, and each object carries a sign of its own: the
//! data source a key in `jsonData`, a dashboard its tags. What has our uid without it is a conflict.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidemark_crds::conditions::Reason;
use tidemark_crds::names::{PipelineName, short_hash};
use tidemark_crds::pipeline::{
    AdoptionPolicy, Alerts, AnalyticsPipelineSpec, DashboardPreset, DriftPolicy, Grafana,
};
use tidemark_runtime::credentials::Credentials;

use super::part::{Part, Problem};
use crate::dashboards::{self, Dashboard, PLUGIN, Surroundings, lint, subset};
use crate::effect::{Effect, GrafanaEffect, Verb};
use crate::facts::{DashboardFacts, GrafanaFacts, ReaderFacts, SourceHealth};
use crate::step::{Fact, Stage, StepKind};

/// Fields that a message names at most.
const MOST_FIELDS: usize = 5;
/// First Grafana that takes a data source's uid in the path of a change.
const UID_PATHS: u32 = 9;
/// Word at the begin of each step that undoes a change by hand.
pub const REVERT: &str = "revert";

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
    /// Whether alert rules are looked at.
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
    let preset = dashboards::board::boards().into_iter().map(|(name, _)| name.to_owned());
    let preset = preset.filter(|_| spec.dashboards.preset == DashboardPreset::Ecommerce);
    let extra = spec.dashboards.extra.iter().map(|extra| format!("x-{}", extra.name));
    GrafanaQuestion {
        folder_uid: names.folder.clone(),
        folder_title: spec.folder.clone(),
        source_uid: names.prefix.clone(),
        source_name: names.source_name.clone(),
        tags: names.tags.clone(),
        uid_prefix: names.prefix.clone(),
        dashboards: preset.chain(extra).map(|name| names.dashboard(&name)).collect(),
        alerts: spec.alerts == Alerts::Enabled,
    }
}

/// The dashboards that should be there, and what keeps others from it. `extra` is the text of each of the user's.
pub fn wanted(
    spec: &AnalyticsPipelineSpec,
    grafana: &Grafana,
    names: &Names,
    extra: &std::collections::BTreeMap<String, String>,
    has_query_log: bool,
) -> (Vec<(String, Dashboard)>, Vec<Problem>) {
    let seconds = |text: &str| {
        let ms = tidemark_crds::duration::milliseconds(text).unwrap_or(0);
        f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
    };
    let surroundings = Surroundings {
        uid_prefix: &names.prefix,
        source_uid: &names.prefix,
        source_name: &names.source_name,
        tags: &names.tags,
        time_zone: &spec.views.time_zone,
        refresh: &grafana.dashboards.refresh,
        rows_objective_s: seconds(&spec.freshness.rows),
        views_objective_s: seconds(&spec.freshness.views),
        has_query_log,
    };
    let mut all = Vec::new();
    let mut problems = Vec::new();
    let views = spec.views.preset == tidemark_crds::pipeline::Preset::Ecommerce;
    if grafana.dashboards.preset == DashboardPreset::Ecommerce && views {
        all.extend(dashboards::preset(&surroundings));
    }
    for dashboard in &grafana.dashboards.extra {
        // A source that could not be read is another part's problem.
        let Some(text) = extra.get(&dashboard.name) else {
            continue;
        };
        match user_dashboard(&dashboard.name, text, &surroundings) {
            Ok(model) => all.push((format!("x-{}", dashboard.name), model)),
            Err(problem) => problems.push(problem),
        }
    }
    (all, problems)
}

fn user_dashboard(name: &str, text: &str, surroundings: &Surroundings<'_>) -> Result<Dashboard, Problem> {
    let refuse =
        |text: String| Problem::new(name, Reason::InvalidDashboard, format!("dashboard {name}: {text}"));
    let mut dashboard = Dashboard::parse(text).map_err(refuse)?;
    let faults = lint::lint(&dashboard);
    if !faults.is_empty() {
        let more = faults.len().saturating_sub(MOST_FIELDS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(refuse(format!("{}{more}", faults[..faults.len().min(MOST_FIELDS)].join("; "))));
    }
    let model = &mut dashboard.model;
    if let Some(map) = model.as_object_mut() {
        for key in ["version", "iteration", "__inputs", "__requires", "__elements"] {
            map.remove(key);
        }
    }
    model["id"] = Value::Null;
    model["uid"] = json!(dashboards::board::uid(surroundings, &format!("x-{name}")));
    let mut tags: Vec<Value> = model["tags"].as_array().cloned().unwrap_or_default();
    for tag in surroundings.tags {
        if !tags.iter().any(|other| other == tag) {
            tags.push(json!(tag));
        }
    }
    model["tags"] = json!(tags);
    for variable in model["templating"]["list"].as_array_mut().into_iter().flatten() {
        if variable["type"] == "datasource" && variable["name"] == "datasource" {
            variable["current"] = json!({"text": surroundings.source_name, "value": surroundings.source_uid});
        }
    }
    Ok(dashboard)
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
    source(input, &mut comparison);
    for (name, dashboard) in input.dashboards {
        one_dashboard(input, name, dashboard, &mut comparison);
    }
    orphans(input, &mut comparison.part);
    if input.grafana.alerts == Alerts::Enabled {
        super::alerts::compare(input, &mut comparison);
    }
    comparison
}

fn request(verb: Verb, path: &[&str], body: Option<Value>) -> Effect {
    Effect::Grafana(GrafanaEffect {
        verb,
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        body,
        password: None,
        uid: None,
    })
}

fn folder(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let (uid, title) = (&input.names.folder, &input.grafana.folder);
    match &input.facts.folder {
        None => {
            if let Some(other) = &input.facts.folder_title_taken {
                let message = format!(
                    "grafana has another folder with the title {title:?} (uid {other}): it is left alone; choose \
                     another title in spec.grafana.folder"
                );
                out.part.problems.push(Problem::new("folder", Reason::Conflict, message));
                return;
            }
            let body = json!({"uid": uid, "title": title});
            let effect = request(Verb::Post, &["api", "folders"], Some(body));
            let what = format!("create folder {title:?} in Grafana");
            out.part.step((Stage::Folder, StepKind::Create), what, vec![], Some(folder_fact()), effect);
        }
        Some(live) if live.title != *title => {
            let mut body = json!({"title": title});
            match live.version {
                Some(version) => body["version"] = json!(version),
                None => body["overwrite"] = json!(true),
            }
            let effect = request(Verb::Put, &["api", "folders", uid], Some(body));
            let what = format!("{REVERT} the title of folder {title:?} in Grafana");
            out.part.step((Stage::Folder, StepKind::Change), what, vec![], None, effect);
        }
        Some(_) => {}
    }
}

/// The fact that the folder is there.
pub fn folder_fact() -> Fact {
    Fact::Other("the folder in Grafana".into())
}

/// The fact that the data source is there.
pub fn source_fact() -> Fact {
    Fact::Other("the data source in Grafana".into())
}

/// How the data source reaches ClickHouse: its `jsonData`.
pub fn connection(spec: &AnalyticsPipelineSpec, username: &str) -> Value {
    let clickhouse = &spec.clickhouse;
    let secure = clickhouse.url.starts_with("https://");
    let rest = clickhouse.url.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(8123)),
        _ => (authority, if secure { 443 } else { 80 }),
    };
    json!({
        "host": host, "port": port, "protocol": "http", "secure": secure, "path": path,
        "username": username, "defaultDatabase": clickhouse.database,
        "dialTimeout": "10", "queryTimeout": "30", "validateSql": true,
    })
}

/// The data source without its password.
fn source_body(input: &GrafanaInput<'_>, based_on: i64) -> Value {
    let mut settings = connection(input.spec, &input.reader.username);
    settings["tidemark"] = json!({
        "mark": input.mark,
        "secret": secret_hash(input.key, &input.names.prefix, input.reader.password.expose()),
        "basedOn": based_on,
    });
    json!({
        "uid": input.names.prefix,
        "name": input.names.source_name,
        "type": PLUGIN,
        "access": "proxy",
        "url": "",
        "basicAuth": false,
        "isDefault": false,
        "jsonData": settings,
    })
}

/// Tells one password from the next to whoever has the key, and nothing to others: RFC 2104 over SHA-256.
fn secret_hash(key: &str, uid: &str, password: &str) -> String {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    let digest = Sha256::digest(key.as_bytes());
    block[..digest.len()].copy_from_slice(&digest);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner =
        Sha256::new().chain_update(pad(0x36)).chain_update(uid).chain_update([0]).chain_update(password);
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner.finalize()).finalize();
    outer.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn source(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let uid = &input.names.prefix;
    let name = &input.names.source_name;
    let Some(live) = &input.facts.source else {
        if let Some(other) = &input.facts.source_name_taken {
            let message = format!(
                "grafana has another data source with the name {name:?} (uid {other}): it is left alone; rename or \
                 remove it"
            );
            out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
            return;
        }
        let effect =
            with_password(request(Verb::Post, &["api", "datasources"], Some(source_body(input, 0))), input);
        let what = format!("create data source {name:?} in Grafana");
        out.part.step((Stage::DataSource, StepKind::Create), what, vec![], Some(source_fact()), effect);
        return;
    };
    let sign = &live["jsonData"]["tidemark"];
    if sign["mark"] != *input.mark && input.grafana.adoption_policy == AdoptionPolicy::Never {
        let message = format!(
            "grafana has a data source with the uid {uid} that this pipeline did not make: it is left alone; remove \
             it, or set spec.grafana.adoptionPolicy to Adopt"
        );
        out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
        return;
    }
    if live["readOnly"] == true {
        let message = format!(
            "the data source {name:?} is provisioned from a file in Grafana, which wins over the API: remove the file"
        );
        out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
        return;
    }
    let version = live["version"].as_i64().unwrap_or(0);
    let based_on = sign["basedOn"].as_i64().unwrap_or(-1);
    // Our write made the version that follows the one it was based on: another one is another's write, and may have
    // changed the password, which nobody can read back.
    let untouched = version == based_on || version == based_on + 1;
    let ours = source_body(input, based_on);
    let mut fields = subset::differences(live, &ours, MOST_FIELDS);
    if !untouched {
        fields.push("version".to_owned());
    }
    if fields.is_empty() {
        match &input.facts.source_health {
            SourceHealth::Bad(text) => {
                let message = format!(
                    "grafana's check of the data source {name:?} fails: {text}: see that the plugin {PLUGIN} (4.15 or \
                     newer) is installed and that Grafana reaches {}",
                    input.spec.clickhouse.url
                );
                out.part.problems.push(Problem::new("data source", Reason::DataSourceFailed, message));
            }
            SourceHealth::Good | SourceHealth::NotOffered => {}
        }
        return;
    }
    let by_hand = !untouched && sign["secret"] == ours["jsonData"]["tidemark"]["secret"];
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push(format!("data source: {}", fields.join(", ")));
        return;
    }
    let mut body = source_body(input, version);
    body["version"] = json!(version);
    let id = live["id"].to_string();
    let path: &[&str] = if input.facts.major() >= UID_PATHS {
        &["api", "datasources", "uid", uid]
    } else {
        &["api", "datasources", &id]
    };
    let effect = with_password(request(Verb::Put, path, Some(body)), input);
    let verb = if by_hand { REVERT } else { "change" };
    let what = format!("{verb} data source {name:?} in Grafana: {}", fields.join(", "));
    out.part.step((Stage::DataSource, StepKind::Change), what, vec![], None, effect);
}

fn with_password(effect: Effect, input: &GrafanaInput<'_>) -> Effect {
    match effect {
        Effect::Grafana(effect) => {
            Effect::Grafana(GrafanaEffect { password: Some(input.reader.password.clone()), ..effect })
        }
        other => other,
    }
}

/// Whether a stored dashboard is this pipeline's: its uid is ours, and so are its tags or the mark inside.
fn is_ours(input: &GrafanaInput<'_>, live: &DashboardFacts) -> bool {
    let tagged = |tag: &String| live.model["tags"].as_array().into_iter().flatten().any(|other| other == tag);
    live.model["tidemark"]["mark"] == *input.mark || input.names.tags.iter().all(tagged)
}

fn one_dashboard(input: &GrafanaInput<'_>, name: &str, dashboard: &Dashboard, out: &mut Comparison) {
    let uid = input.names.dashboard(name);
    let mut model = dashboard.model.clone();
    let hash = short_hash(&model.to_string());
    model["tidemark"] = json!({"mark": input.mark, "hash": hash});
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
        let effect = save(input, &uid, model, None, "created by Tidemark");
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
    let mut compared = model.clone();
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
    // A page of Grafana drops keys that it does not know, our own among them: where the key is gone, or names the
    // model that we have now, somebody else made the difference.
    let recorded = live.model["tidemark"]["hash"].as_str();
    let by_hand = recorded.is_none_or(|recorded| recorded == hash);
    let what =
        fields.iter().filter(|field| !field.starts_with("tidemark")).cloned().collect::<Vec<_>>().join(", ");
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push(format!("dashboard {name}: {what}"));
        return;
    }
    let (verb, message) =
        if by_hand { (REVERT, "put right by Tidemark") } else { ("change", "changed by Tidemark") };
    let effect = save(input, &uid, model, Some(live.version), message);
    let what = format!("{verb} dashboard {name} in Grafana: {what}");
    out.part.step((Stage::Dashboard, StepKind::Change), what, needs, None, effect);
}

/// Saves a dashboard over the version that was seen; never with `overwrite`, which could hit another one.
fn save(
    input: &GrafanaInput<'_>,
    uid: &str,
    mut model: Value,
    version: Option<i64>,
    message: &str,
) -> Effect {
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
    match request(Verb::Post, &["api", "dashboards", "db"], Some(body)) {
        Effect::Grafana(effect) => Effect::Grafana(GrafanaEffect { uid: Some(uid.to_owned()), ..effect }),
        other => other,
    }
}

fn orphans(input: &GrafanaInput<'_>, part: &mut Part) {
    let wanted = |uid: &String| input.dashboards.iter().any(|(name, _)| input.names.dashboard(name) == *uid);
    // A dashboard of the user that is refused just now stays as it was.
    let named = |uid: &String| {
        let extra = &input.grafana.dashboards.extra;
        extra.iter().any(|extra| input.names.dashboard(&format!("x-{}", extra.name)) == *uid)
    };
    for uid in input.facts.ours.iter().filter(|uid| !wanted(uid) && !named(uid)) {
        part.extend(Part { steps: vec![drop_dashboard(uid)], problems: vec![] });
    }
}

fn drop_dashboard(uid: &str) -> crate::step::Step {
    crate::step::Step {
        stage: Stage::DropDashboard,
        kind: StepKind::Drop,
        what: format!("delete dashboard {uid} in Grafana"),
        needs: vec![],
        gives: None,
        effect: request(Verb::Delete, &["api", "dashboards", "uid", uid], None),
    }
}

/// The reader's account: what is missing for panels to work, or for the shop to be safe from them.
pub fn reader_problem(name: &str, database: &str, facts: &ReaderFacts) -> Option<Problem> {
    let wrong = match facts.without_limit.first() {
        _ if !facts.is_readonly => "may write".to_owned(),
        _ if !facts.may_set_time => {
            "may not set max_execution_time, which the data source sends with every query".to_owned()
        }
        Some(setting) => format!("has no {setting}"),
        None => return None,
    };
    let message = format!(
        "spec.grafana.reader: the user {name} {wrong}: run ALTER USER {name} SETTINGS readonly = 1, \
         max_execution_time = 30 MAX 60 CHANGEABLE_IN_READONLY, max_memory_usage = 2000000000, max_result_rows = \
         100000, and GRANT SELECT ON {database}.* TO {name} or on each view"
    );
    Some(Problem::new("reader", Reason::ReaderNotReady, message))
}

/// Deletion: dashboards, rules, data source, and the folder when nothing of others is in it.
pub fn removal(names: &Names, mark: &str, facts: &GrafanaFacts) -> Vec<crate::step::Step> {
    use crate::step::Step;
    let mut steps: Vec<Step> = facts.ours.iter().map(|uid| drop_dashboard(uid)).collect();
    let drop = |what: String, path: &[&str], needs| Step {
        stage: Stage::DropDashboard,
        kind: StepKind::Drop,
        what,
        needs,
        gives: None,
        effect: request(Verb::Delete, path, None),
    };
    for uid in facts.rules.iter().flat_map(|rules| rules.keys()) {
        let path = ["api", "v1", "provisioning", "alert-rules", uid.as_str()];
        steps.push(drop(format!("delete alert rule {uid} in Grafana"), &path, vec![]));
    }
    let ours = |source: &Value| source["jsonData"]["tidemark"]["mark"] == *mark && source["readOnly"] != true;
    if facts.source.as_ref().is_some_and(ours) {
        let path = ["api", "datasources", "uid", names.prefix.as_str()];
        let what = format!("delete data source {:?} in Grafana", names.source_name);
        steps.push(drop(what, &path, vec![]));
    }
    // Grafana deletes a folder with all that is in it: others' dashboards keep it.
    if facts.folder.is_some() && steps.is_empty() && facts.titles.is_empty() {
        steps.push(drop(
            "delete the folder in Grafana".to_owned(),
            &["api", "folders", names.folder.as_str()],
            vec![],
        ));
    }
    steps
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
