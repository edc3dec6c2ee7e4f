//! Where Kubernetes objects live: in a cluster, or in a folder when there is no cluster. No decisions.

use std::path::PathBuf;
use std::time::Duration;

use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};

/// Deadline of one call of the Kubernetes API.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Where the sink's objects are kept.
#[derive(Clone)]
pub enum ObjectStore {
    /// A Kubernetes cluster, and the deadline of one call.
    Cluster(kube::Client, Duration),
    /// A folder with one manifest an object.
    Folder(PathBuf),
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster(..) => f.write_str("Cluster"),
            Self::Folder(path) => write!(f, "Folder({})", path.display()),
        }
    }
}

impl ObjectStore {
    /// A Kubernetes cluster, with the usual deadline.
    pub fn cluster(client: kube::Client) -> Self {
        Self::Cluster(client, DEADLINE)
    }
}

/// A client that makes each call once: what is tried again, and when, is decided by whoever calls, and what the API
/// server said does not get lost in a wait for a better answer.
pub fn client(mut config: kube::Config) -> Result<kube::Client, kube::Error> {
    config.default_retry = false;
    kube::Client::try_from(config)
}

/// Interface of one kind in one namespace; `api_version` as in a manifest.
pub fn api(client: &kube::Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// File of an object in the folder.
pub fn file(folder: &std::path::Path, kind: &str, name: &str) -> PathBuf {
    folder.join(format!("{}-{name}.yaml", kind.to_lowercase()))
}
