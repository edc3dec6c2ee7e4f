//! Which objects of Kubernetes are a pipeline's: never by the name alone. Pure.

use serde_json::Value;
use tidemark_crds::conditions::Reason;
use tidemark_crds::names::{FIELD_MANAGER, PipelineName};

use super::part::Problem;

/// Whether an object was made for the pipeline: its labels say so, and no other life of that name, and nobody else,
/// controls it. `uid` is that of the resource; without a cluster there is none, and nothing is controlled.
pub fn is_owned(name: &PipelineName, uid: Option<&str>, live: &Value) -> bool {
    let label = |key: &str| live["metadata"]["labels"][key].as_str();
    label("app.kubernetes.io/managed-by") == Some(FIELD_MANAGER)
        && label("app.kubernetes.io/instance") == Some(&name.name)
        && controller(live).is_none_or(|controller| Some(controller) == uid)
}

/// An object by which it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Name in the pipeline's namespace.
    pub name: String,
    /// Uid that it was seen with: another object of that name is not deleted. Absent without a cluster.
    pub uid: Option<String>,
}

/// An object that was seen and is the pipeline's. Only [`own`] makes one, and nothing else is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own(ObjectName);

impl std::ops::Deref for Own {
    type Target = ObjectName;

    fn deref(&self) -> &ObjectName {
        &self.0
    }
}

/// The object as what may be deleted, where it [is the pipeline's](is_owned).
pub fn own(
    name: &PipelineName,
    uid: Option<&str>,
    (api_version, kind): (&str, &str),
    live: &Value,
) -> Option<Own> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    is_owned(name, uid, live).then(|| {
        Own(ObjectName {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: text(&live["metadata"]["name"]).unwrap_or_default(),
            uid: text(&live["metadata"]["uid"]),
        })
    })
}

/// Uid of what controls an object.
pub fn controller(live: &Value) -> Option<&str> {
    let owners = live["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// The problem of an object that has the name of one of ours and is somebody else's.
pub fn conflict(kind: &str, name: &str, live: &Value) -> Problem {
    let owner = match live["metadata"]["ownerReferences"].as_array().and_then(|owners| owners.first()) {
        Some(owner) => format!(
            "belongs to {} {}",
            owner["kind"].as_str().unwrap_or_default(),
            owner["name"].as_str().unwrap_or_default()
        ),
        None => "was not made by this pipeline".to_owned(),
    };
    let message = format!("{kind} {name} exists and {owner}: it is left alone; rename or remove it");
    Problem::new(format!("{kind} {name}"), Reason::Conflict, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_owned_by_labels_and_controller_and_never_by_its_name() {
        let name = PipelineName::new("ns", "shop");
        let labels = |instance: &str, manager: &str| json!({"app.kubernetes.io/managed-by": manager, "app.kubernetes.io/instance": instance});
        let by = |uid: &str| json!([{"kind": "AnalyticsPipeline", "name": "shop", "uid": uid, "controller": true}]);
        for (labels, owners, expected) in [
            (labels("shop", "tidemark"), by("1234"), true),
            // Left by `--cascade=orphan`, or kept by the deletion policy.
            (labels("shop", "tidemark"), json!(null), true),
            (labels("shop", "tidemark"), by("another life"), false),
            (labels("other", "tidemark"), by("1234"), false),
            (labels("shop", "Helm"), json!(null), false),
            (json!({}), json!(null), false),
        ] {
            let live =
                json!({"metadata": {"name": "shop-sink", "labels": labels, "ownerReferences": owners}});
            assert_eq!(is_owned(&name, Some("1234"), &live), expected, "{live}");
        }
        let another = json!({"metadata": {"ownerReferences": by("another life")}});
        assert!(conflict("Deployment", "shop-sink", &another).message.contains("AnalyticsPipeline shop"));
    }
}
