//! Opens the Grafana that a spec no longer names, with the login that it had. I/O, read only.

use tidemark_crds::names::PipelineName;
use tidemark_crds::status::GrafanaPlace;

use crate::edge::grafana::client::Grafana;

use crate::core::credentials::{References, hidden_of, resolve_record, wanted_by_record};
use crate::core::desired::grafana::place::{Place, kept};
use crate::edge::kubernetes::objects::ObjectStore;
use crate::edge::kubernetes::references;
use crate::edge::systems::{Access, Handles};

/// What a former Grafana is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// What was read for the spec, and seen before: in a namespace that goes, Secrets go first.
    pub references: &'a References,
    /// Handles that remember refused logins.
    pub handles: &'a Handles,
    /// Which login was named for which address.
    pub places: &'a [GrafanaPlace],
}

impl Opener<'_> {
    /// Makes the handle; a Secret that the spec does not name any more is read from the cluster, where a spec of this
    /// resource named it for this address.
    pub async fn open(&self, place: &Place, name: &PipelineName, objects: &ObjectStore) -> Access<Grafana> {
        if !self.places.contains(&kept(&place.record)) {
            return Access::Refused;
        }
        let mut seen = References::default();
        if let ObjectStore::Cluster(client, _) = objects {
            let wanted = wanted_by_record(&place.record);
            seen = references::read(client, &name.namespace, wanted).await;
        }
        seen.fill_from(self.references);
        let Ok((login, ca)) = resolve_record(&place.record, &seen) else {
            return Access::Missing;
        };
        let hidden = hidden_of(&login);
        self.handles.former_grafana(&name.to_string(), (place.record.url.clone(), login, ca, hidden))
    }
}
