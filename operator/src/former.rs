//! Opens the Grafana that a spec no longer names, with the login that it had. I/O, read only.

use tidemark_crds::names::PipelineName;

use crate::clients::grafana::{Clients, Grafana};
use crate::credentials::{References, resolve_record, wanted_by_record};
use crate::desired::grafana::place::Place;
use crate::objects::ObjectStore;
use crate::references;
use crate::systems::Access;

/// What a former Grafana is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// What was read for the spec, and seen before: in a namespace that goes, Secrets go first.
    pub references: &'a References,
    /// Clients that remember refused logins.
    pub clients: &'a Clients,
}

impl Opener<'_> {
    /// Makes the handle; a Secret that the spec does not name any more is read from the cluster.
    pub async fn open(&self, place: &Place, name: &PipelineName, objects: &ObjectStore) -> Access<Grafana> {
        let mut seen = References::default();
        if let ObjectStore::Cluster(client) = objects {
            let wanted = wanted_by_record(&place.record);
            match references::read(client, &name.namespace, wanted).await {
                Ok(live) => seen = live,
                Err(failure) => {
                    tracing::debug!(pipeline = %name, error = failure.message, "the Secret of the former grafana cannot be read");
                }
            }
        }
        seen.fill_from(self.references);
        let Ok((login, ca)) = resolve_record(&place.record, &seen) else {
            return Access::Missing;
        };
        match Grafana::new(&place.record.url, login, ca.as_deref()) {
            Ok(client) => Access::Open(self.clients.keep(&format!("{name} former"), client)),
            Err(failure) => Access::Broken(failure),
        }
    }
}
