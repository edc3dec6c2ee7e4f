//! Reads the Secrets and ConfigMaps that a pipeline needs, and the cluster's uid. I/O, read only.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;

use crate::core::credentials::{Holder, References};
use crate::edge::kubernetes::look::{failure, timed_out};
use crate::edge::kubernetes::objects::DEADLINE;

/// Reads the Secrets and ConfigMaps that are `wanted`, side by side; those that do not exist are left out. One that cannot
/// be read is noted with its reason, and holds up no other.
pub async fn read(client: &kube::Client, namespace: &str, wanted: BTreeSet<(Holder, String)>) -> References {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let reads = wanted.into_iter().map(|(holder, name)| {
        let (secrets, maps) = (secrets.clone(), maps.clone());
        async move {
            let data = async {
                match holder {
                    Holder::Secret => Ok(secrets.get_opt(&name).await?.map(|secret| {
                        let data = secret.data.unwrap_or_default().into_iter();
                        data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                            .collect()
                    })),
                    Holder::ConfigMap => {
                        Ok(maps.get_opt(&name).await?.map(|map| map.data.unwrap_or_default()))
                    }
                }
            };
            let answer: Result<Result<Option<BTreeMap<String, String>>, kube::Error>, _> =
                tokio::time::timeout(DEADLINE, data).await;
            let data = answer
                .map_err(|_| timed_out(DEADLINE))
                .and_then(|data| data.map_err(|error| failure(&error)));
            (holder, name, data)
        }
    });
    let mut references = References::default();
    for (holder, name, data) in futures::future::join_all(reads).await {
        match data {
            Ok(Some(data)) => references.insert(holder, name, data),
            Ok(None) => {}
            Err(why) => references.unread(holder, name, why),
        }
    }
    references
}

/// The cluster's identity: the uid of the namespace `kube-system`.
pub async fn cluster_uid(client: &kube::Client) -> Result<String, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    Ok(namespaces.get("kube-system").await?.metadata.uid.unwrap_or_default())
}
