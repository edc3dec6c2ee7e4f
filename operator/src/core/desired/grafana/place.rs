//! Where a pipeline's dashboards are: the ledger remembers each Grafana that was given some, so that one that the spec
//! no longer names is cleaned up, or left by policy, and never forgotten in silence. Pure.
//!
//! Two addresses can lead to one server. So the new place is made first, its data source says which place it belongs
//! to, and only then the former one is looked at: where its data source names the new place, it is the same server.

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::ledger::{GrafanaRecord, Kind};
use tidemark_crds::names::short_hash;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, GrafanaMode, Policy};
use tidemark_crds::status::GrafanaPlace;

use super::{Names, Part, Problem, removal, source_fact};
use crate::core::effect::{Effect, Site};
use crate::core::facts::{GrafanaFacts, LedgerFacts, Observation};
use crate::core::step::{Fact, Stage, Step, StepKind};

/// A Grafana that was given dashboards, by the key of its ledger row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Hash of address and organization.
    pub key: String,
    /// Address, login, folder.
    pub record: GrafanaRecord,
}

/// The place that the spec names; none where Grafana is not called.
pub fn current(spec: &AnalyticsPipelineSpec) -> Option<Place> {
    let grafana = spec.grafana.as_ref().filter(|grafana| grafana.mode == GrafanaMode::Api)?;
    let credentials = grafana.credentials.clone()?;
    let url = grafana.url.as_ref()?.trim_end_matches('/').to_owned();
    // A token belongs to one organization, whatever the spec says.
    let organization_id = credentials.token_key.is_none().then_some(grafana.organization_id);
    let key = short_hash(&format!("{url} {organization_id:?}"));
    let (tls, folder) = (grafana.tls.clone(), grafana.folder.clone());
    Some(Place { key, record: GrafanaRecord { url, organization_id, credentials, tls, folder } })
}

/// A place that the spec no longer names; one at a time, in the order of the ledger.
pub fn former(spec: &AnalyticsPipelineSpec, ledger: &LedgerFacts) -> Option<Place> {
    let current = current(spec).map(|place| place.key);
    let mut others = ledger.grafanas.iter().filter(|(key, _)| Some(*key) != current.as_ref());
    others.next().map(|(key, record)| Place { key: key.clone(), record: record.clone() })
}

/// What the status keeps of a place: a login is used for the address alone that a spec of the resource named it for.
/// The ledger is written by others too, and no proof of it.
pub fn kept(record: &GrafanaRecord) -> GrafanaPlace {
    let login = json!({
        "organizationId": record.organization_id, "credentials": record.credentials, "tls": record.tls,
    });
    GrafanaPlace { url: record.url.clone(), login: login.to_string() }
}

/// The places that a spec of the resource named, as far as something may be left there.
pub fn places(
    before: &[GrafanaPlace],
    spec: &AnalyticsPipelineSpec,
    ledger: Option<&LedgerFacts>,
) -> Vec<GrafanaPlace> {
    let current = current(spec).map(|place| kept(&place.record));
    let left = |place: &&GrafanaPlace| {
        Some(*place) == current.as_ref()
            || ledger.is_none_or(|ledger| ledger.grafanas.values().any(|record| kept(record) == **place))
    };
    let mut places: Vec<GrafanaPlace> = before.iter().filter(left).cloned().collect();
    places.extend(current.filter(|place| !before.contains(place)));
    places
}

/// The fact that the ledger knows the place.
pub fn fact() -> Fact {
    Fact::Other("the address of Grafana in the ledger".into())
}

fn row(key: &str, ledger: &LedgerFacts, what: String, value: Value) -> Step {
    Step {
        stage: Stage::Ledger,
        kind: StepKind::Change,
        what,
        needs: vec![Fact::Bookkeeping],
        gives: None,
        effect: Effect::Ledger {
            kind: Kind::Grafana,
            key: key.to_owned(),
            version: ledger.next_version(Kind::Grafana, key),
            value,
        },
    }
}

/// Writes down the place that the spec names, before anything is made there: once it answers, since a mistyped address
/// would have to be cleaned up ever after.
pub fn remember(
    spec: &AnalyticsPipelineSpec,
    ledger: &LedgerFacts,
    facts: Option<&GrafanaFacts>,
) -> Option<Step> {
    let Place { key, record } = current(spec)?;
    let known = ledger.grafanas.get(&key);
    if known == Some(&record) || (known.is_none() && facts.is_none()) {
        return None;
    }
    // A new title enters the ledger after the folder has it: until then the old one tells a change of the spec from
    // one by hand.
    let renamed =
        known.is_some_and(|known| GrafanaRecord { folder: record.folder.clone(), ..known.clone() } == record);
    let has_it =
        |facts: &GrafanaFacts| facts.folder.as_ref().is_none_or(|folder| folder.title == record.folder);
    if renamed && !facts.is_some_and(has_it) {
        return None;
    }
    let what = format!("remember Grafana {} in the ledger", record.url);
    let step = row(&key, ledger, what, json!(record));
    // What is known needs no wait.
    Some(Step { gives: known.is_none().then(fact), ..step })
}

/// Takes a place out of the ledger.
fn forget(place: &Place, ledger: &LedgerFacts) -> Step {
    row(&place.key, ledger, format!("forget Grafana {} in the ledger", place.record.url), Value::Null)
}

/// Whose dashboards they are, and where else.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Names of everything.
    pub names: &'a Names,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// The ledger.
    pub ledger: &'a LedgerFacts,
}

impl Leaving<'_> {
    /// Cleans a place up that the spec no longer names, as the policy says.
    pub fn former(&self, place: &Place, observed: &Observation<GrafanaFacts>) -> Part {
        if self.spec.deletion_policy.grafana == Policy::Retain {
            return Part { steps: vec![forget(place, self.ledger)], problems: vec![] };
        }
        let url = &place.record.url;
        let trouble = match observed {
            Observation::Known(facts) => return Part { steps: self.clean(place, facts), problems: vec![] },
            Observation::Unreachable(failure) => failure.message.clone(),
            Observation::Absent => format!(
                "the ledger names the Secret {:?} for it, and no spec of this resource that its status knows did, so it \
                 is not used: name both in spec.grafana once more, and remove them when it is Ready",
                place.record.credentials.secret_name
            ),
            Observation::NotAsked => {
                format!("its login is not there: the Secret {:?}", place.record.credentials.secret_name)
            }
        };
        let message = format!(
            "grafana {url}, which spec.grafana does not name any more, still has this pipeline's dashboards and cannot \
             be cleaned up: {trouble}: mend it, or set spec.deletionPolicy.grafana to Retain to leave them there"
        );
        Part::problem(Problem::new("former grafana", Reason::LeftBehind, message))
    }

    fn clean(&self, place: &Place, facts: &GrafanaFacts) -> Vec<Step> {
        let sign = facts.source.as_ref().map_or(&Value::Null, |source| &source["jsonData"]["tidemark"]);
        let another = sign["mark"] == *self.mark && sign["place"] != *place.key;
        let mut steps = removal(self.names, self.mark, facts, Site::Former);
        if another || steps.is_empty() {
            return vec![forget(place, self.ledger)];
        }
        if current(self.spec).is_some() {
            for step in &mut steps {
                step.needs.push(source_fact());
            }
        }
        steps
    }

    /// At the pipeline's end: the place that the spec names leaves the ledger once nothing of ours is there, or is to
    /// stay.
    pub fn end(&self, observed: &Observation<GrafanaFacts>) -> Option<Step> {
        let place = current(self.spec).filter(|place| self.ledger.grafanas.contains_key(&place.key))?;
        let left = |facts| !removal(self.names, self.mark, facts, Site::Current).is_empty();
        let done = self.spec.deletion_policy.grafana == Policy::Retain
            || observed.known().is_some_and(|facts| !left(facts));
        done.then(|| forget(&place, self.ledger))
    }
}
