//! Dashboards and data source as files for the sidecars beside Grafana: one ConfigMap a dashboard, one Secret. Pure.
//!
//! A sidecar copies what carries its label into Grafana's provisioning folders and has Grafana read them again. It
//! gives no answer, so `DashboardsInSync` speaks of the objects and of the panels, and not of Grafana.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_crds::names::{FIELD_MANAGER, PipelineName, short_hash};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Grafana, Sidecar};
use tidemark_runtime::credentials::{Credentials, Secret};

use super::drift::{self, Verdict};
use super::grafana::{Names, connection};
use super::owned::{conflict, is_owned, own};
use super::part::Part;
use super::sink_objects::{APPLIED_ANNOTATION, key_of};
use super::{owner, selector_labels};
use crate::core::dashboards::{Dashboard, PLUGIN};
use crate::core::effect::{Effect, KubernetesEffect};
use crate::core::facts::KubernetesFacts;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// Value of `app.kubernetes.io/component`.
pub const COMPONENT: &str = "grafana";
/// Kinds of the objects.
pub const KINDS: [&str; 2] = ["ConfigMap", "Secret"];

/// Labels that tell the objects of a pipeline's dashboards from all others.
pub fn labels(name: &PipelineName) -> BTreeMap<String, String> {
    let mut labels = selector_labels(name);
    labels.extend(
        [
            ("app.kubernetes.io/name", "tidemark-dashboards"),
            ("app.kubernetes.io/component", COMPONENT),
            ("app.kubernetes.io/part-of", "tidemark"),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels
}

/// What the objects are built from.
#[derive(Debug)]
pub struct SidecarInput<'a> {
    /// Namespace and name of the pipeline.
    pub name: &'a PipelineName,
    /// `metadata.uid` of the resource.
    pub owner: Option<&'a str>,
    /// The same, absent where nothing shall go with it.
    pub uid: Option<&'a str>,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Its part about Grafana.
    pub grafana: &'a Grafana,
    /// Uids.
    pub names: &'a Names,
    /// The account that panels query with.
    pub reader: &'a Credentials,
    /// The dashboards that should be there.
    pub dashboards: &'a [(String, Dashboard)],
    /// Views that the dashboards read.
    pub views: &'a [String],
    /// The objects as they are.
    pub live: &'a KubernetesFacts,
}

/// Name of the ConfigMap of a dashboard.
pub fn dashboard_map(name: &PipelineName, dashboard: &str) -> String {
    format!("{}-dashboard-{dashboard}", name.name)
}

/// Name of the Secret with the data source.
pub fn source_secret(name: &PipelineName) -> String {
    format!("{}-grafana-datasource", name.name)
}

/// Plans what differs, and the removal of what is no longer wanted; and what is left as others wrote it.
pub fn compare(input: &SidecarInput<'_>) -> (Part, Vec<String>) {
    let sidecar = input.grafana.sidecar.clone().unwrap_or_default();
    let (mut part, mut left) = (Part::default(), Vec::new());
    let mut wanted = Vec::new();
    let (source, data) = source(input, &sidecar);
    wanted.push(key_of(&source));
    left.extend(apply(input, &mut part, (Stage::DataSource, vec![]), source, data));
    let views: Vec<Fact> = input.views.iter().map(|view| Fact::View(view.clone())).collect();
    for (name, dashboard) in input.dashboards {
        let object = config_map(input, &sidecar, name, dashboard);
        wanted.push(key_of(&object));
        left.extend(apply(input, &mut part, (Stage::Dashboard, views.clone()), object, BTreeMap::new()));
    }
    // A dashboard of the user that is refused just now stays as it was.
    let extra = &input.grafana.dashboards.extra;
    let named = extra
        .iter()
        .map(|extra| format!("ConfigMap/{}", dashboard_map(input.name, &format!("x-{}", extra.name))));
    wanted.extend(named);
    part.steps.extend(removal(input.name, input.owner, input.live, &wanted));
    (part, left)
}

/// Plans the removal of all objects of the pipeline's but those to `keep`, by `Kind/name`. `uid` is the resource's.
pub fn removal(
    pipeline: &PipelineName,
    uid: Option<&str>,
    live: &KubernetesFacts,
    keep: &[String],
) -> Vec<Step> {
    let is_part = |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/component"] == COMPONENT;
    live.objects
        .iter()
        .filter(|(key, object)| is_part(object) && !keep.contains(key))
        .filter_map(|(key, object)| {
            let (kind, name) = key.split_once('/')?;
            let own = own(pipeline, uid, ("v1", kind), object)?;
            Some(Step {
                stage: Stage::DropDashboard,
                kind: StepKind::Drop,
                what: format!("delete {kind} {name}"),
                needs: vec![],
                gives: None,
                effect: Effect::Kubernetes(KubernetesEffect::Delete(own)),
            })
        })
        .collect()
}

/// Plans one object; what of it is left as others wrote it.
fn apply(
    input: &SidecarInput<'_>,
    part: &mut Part,
    (stage, needs): (Stage, Vec<Fact>),
    mut object: Value,
    data: BTreeMap<String, Secret>,
) -> Option<String> {
    let key = key_of(&object);
    let before = input.live.objects.get(&key);
    if let Some(live) = before.filter(|live| !is_owned(input.name, input.owner, live)) {
        let (kind, name) = key.split_once('/').unwrap_or_default();
        part.problems.push(conflict(kind, name, live));
        return None;
    }
    let same_data = data.is_empty() || input.live.secrets.get(&key) == Some(&data);
    match before.map(|live| drift::compare(live, &object)) {
        Some(Verdict::Same) if same_data => return None,
        Some(Verdict::Left(fields)) if same_data => return Some(drift::line(&key, &fields)),
        Some(Verdict::Apply(put_right)) => object = put_right,
        _ => {}
    }
    let (kind, verb) =
        if before.is_some() { (StepKind::Change, "change") } else { (StepKind::Create, "create") };
    let what = format!("{verb} {}", key.replacen('/', " ", 1));
    let effect = Effect::Kubernetes(KubernetesEffect::Apply { object, data });
    part.step((stage, kind), what, needs, None, effect);
    None
}

fn object(input: &SidecarInput<'_>, kind: &str, name: &str, theirs: &BTreeMap<String, String>) -> Value {
    let mut all = theirs.clone();
    all.extend(labels(input.name));
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": input.name.namespace, "labels": all, "annotations": {}},
    });
    if let Some(uid) = input.uid {
        object["metadata"]["ownerReferences"] = json!([owner(input.name, uid)]);
    }
    object
}

/// Signs the object with the hash of what it was made of: tells what is no longer wanted from what others added.
fn signed(mut object: Value) -> Value {
    let hash = short_hash(&object.to_string());
    object["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(hash);
    object
}

fn config_map(input: &SidecarInput<'_>, sidecar: &Sidecar, name: &str, dashboard: &Dashboard) -> Value {
    let uid = input.names.dashboard(name);
    let map = dashboard_map(input.name, name);
    let mut object = object(input, "ConfigMap", &map, &sidecar.dashboard_labels);
    object["metadata"]["annotations"][&sidecar.folder_annotation] = json!(input.grafana.folder);
    let text = serde_json::to_string_pretty(&dashboard.model).unwrap_or_default();
    object["data"] = json!({ format!("{uid}.json"): text });
    signed(object)
}

/// The Secret without its data, and the data: Grafana's provisioning file of the data source.
fn source(input: &SidecarInput<'_>, sidecar: &Sidecar) -> (Value, BTreeMap<String, Secret>) {
    let object = object(input, "Secret", &source_secret(input.name), &sidecar.data_source_labels);
    let mut file = json!({
        "apiVersion": 1,
        "datasources": [{
            "name": input.names.source_name,
            "uid": input.names.prefix,
            "type": PLUGIN,
            "access": "proxy",
            "orgId": input.grafana.organization_id,
            "isDefault": false,
            "editable": false,
            "jsonData": connection(input.spec, &input.reader.username),
            "secureJsonData": {"password": input.reader.password.expose()},
        }],
    });
    escape(&mut file);
    let text = serde_yaml_ng::to_string(&file).unwrap_or_default();
    (signed(object), [(format!("{}.yaml", input.names.prefix), Secret::new(text))].into())
}

/// Grafana takes `$NAME` in a provisioning file for a variable of its environment, and `$$` for the sign itself.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(list) => list.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_in_a_password_stays_one() {
        let mut file = json!({"datasources": [{"password": "a$HOME$$b", "port": 8123}]});
        escape(&mut file);
        assert_eq!(file, json!({"datasources": [{"password": "a$$HOME$$$$b", "port": 8123}]}));
    }
}
