//! An operator over a model: rounds as the controller makes them, until nothing happens any more.

use std::time::Duration;

use futures::FutureExt as _;
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::credentials::{Holder, References};
use tidemark_operator::core::desired::neighbours::Neighbour;
use tidemark_operator::core::desired::sink_config::Paths;
use tidemark_operator::core::foresee::Foreseen;
use tidemark_operator::core::status;
use tidemark_operator::core::step::Step;
use tidemark_operator::core::validate::validate;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_operator::shell::engine::{Engine, Input, Report};
use tidemark_operator::shell::leader::Term;
use tidemark_operator::shell::reconcile::Mode;

use super::estate::{CLUSTER, Estate};
use super::kubernetes::Resource;
use super::world::{CANARY, Model};

/// Rounds until what still happens is taken for a circle.
const MOST_ROUNDS: u32 = 80;
/// Rounds without a write and without another status that are rest.
const QUIET_ROUNDS: u32 = 3;

/// One process of the operator.
pub(super) struct Operator {
    /// How long it may write.
    pub(super) term: Term,
    /// Spec of an older pipeline of the same cluster.
    pub(super) older: Option<AnalyticsPipelineSpec>,
    engine: Engine,
    name: PipelineName,
    references: References,
    /// Uid of its cluster.
    cluster: &'static str,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// Whether anything was written, or the status says anything else.
    pub(super) changed: bool,
    /// Whether the next look may find more.
    pub(super) pending: bool,
}

impl Operator {
    pub(super) fn new() -> Self {
        Self::of(CLUSTER)
    }

    /// One of another cluster.
    pub(super) fn of(cluster: &'static str) -> Self {
        let mut references = References::default();
        for secret in ["pg", "ch", "kafka-user", "grafana"] {
            let data =
                [("username", "tidemark"), ("login", "another"), ("password", CANARY), ("token", CANARY)];
            let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
            references.insert(Holder::Secret, secret, data.into());
        }
        references.insert(Holder::ConfigMap, "views", [("daily.sql".to_owned(), SQL.to_owned())].into());
        Self {
            term: Term::without_end(),
            older: None,
            engine: Engine::default(),
            name: PipelineName::new("shop", "shop"),
            references,
            cluster,
        }
    }

    /// One reconcile of the resource, as it is now.
    pub(super) fn round(&self, model: &mut Model) -> Round {
        let resource = model.inner().estate.namespace.resource.clone();
        resource.map_or(Round { changed: false, pending: false }, |resource| self.round_of(model, resource))
    }

    /// One reconcile of the resource, as a cache has it: what is written is written to the one that is there.
    pub(super) fn round_of(&self, model: &mut Model, mut resource: Resource) -> Round {
        let nothing = Round { changed: false, pending: false };
        if !resource.finalizer {
            let known = resource.clone();
            resource.finalizer = !resource.deleting;
            let changed = if resource.deleting {
                // The API server lets it go by itself.
                gone(model, &known, false)
            } else {
                exchange(model, &known, &resource)
            };
            if resource.deleting || !changed {
                return Round { changed, ..nothing };
            }
        }
        let (spec, invalid, runs) = what_runs(&resource);
        if invalid.is_none() && !resource.deleting && resource.last_valid.as_ref() != Some(&resource.spec) {
            resource.last_valid = Some(resource.spec.clone());
            keep(model, &resource);
        }
        let mode = match (resource.deleting, runs) {
            (true, _) => Mode::Delete,
            (false, true) => Mode::Run,
            (false, false) => Mode::PlanOnly,
        };
        let report = self.report(model, &resource, (&spec, invalid.as_deref(), mode));
        if model.inner().killed {
            return Round { changed: true, pending: true };
        }
        let pending = report.next(Duration::from_secs(1)).is_some();
        // What fails again and again is tried at a growing pace: nothing is changed by it.
        let acted = !report.outcome.done.is_empty();
        if resource.deleting && (report.clean || report.time_is_up) {
            return Round { changed: gone(model, &resource, report.clean), ..nothing };
        }
        let other = !status::same(&resource.status, &report.status);
        if other {
            let said = serde_json::to_string(&report.status).unwrap();
            if said.contains(CANARY) {
                model.inner().leaks.push(format!("I13: {said}"));
            }
            say(model, &resource, report.status);
        }
        Round { changed: acted || other, pending }
    }

    fn report(
        &self,
        model: &mut Model,
        resource: &Resource,
        (spec, invalid, mode): (&AnalyticsPipelineSpec, Option<&str>, Mode),
    ) -> Report {
        let older = |spec| Neighbour {
            name: PipelineName::new("shop", "older"),
            created: Some(jiff::Timestamp::UNIX_EPOCH),
            kafka: None,
            spec,
        };
        let neighbours: Vec<Neighbour<'_>> = self.older.iter().map(older).collect();
        let input = Input {
            name: &self.name,
            uid: Some(&resource.uid),
            generation: resource.generation,
            spec,
            addresses: spec,
            invalid,
            annotations: &resource.annotations,
            references: &self.references,
            objects: ObjectStore::Folder("/nowhere".into()),
            cluster: self.cluster,
            paths: &Paths::in_container(),
            image: "tidemark-sink:test",
            created: None,
            neighbours: &neighbours,
            before: &resource.status,
            term: &self.term,
            mode,
        };
        // Nothing in it waits; and one operator works amid the other.
        let report = Box::pin(self.engine.run_in(model, &input, &|_, _: &[&Step]| {}));
        report.now_or_never().expect("the model answers at once")
    }

    /// What a process that knows nothing foresees, at the first look after the estate became so; `None`: the resource is
    /// not there, or is not carried out.
    pub(super) fn foresee(estate: &Estate) -> Option<Foreseen> {
        let mut estate = estate.clone();
        estate.tick();
        let resource = estate.namespace.resource.clone().filter(|it| it.finalizer || !it.deleting)?;
        let (spec, invalid, runs) = what_runs(&resource);
        let is_carried_out = resource.deleting || (runs && !spec.suspend);
        let mode = if resource.deleting { Mode::ForeseeDeletion } else { Mode::Foresee };
        let report =
            Self::new().report(&mut Model::new(estate), &resource, (&spec, invalid.as_deref(), mode));
        report.foreseen.filter(|_| is_carried_out)
    }

    /// Rounds until nothing happens any more; the number of rounds, or `None`: it never ends.
    pub(super) fn rest(&self, model: &mut Model) -> Option<u32> {
        let mut quiet = 0;
        for round in 1..=MOST_ROUNDS {
            model.inner().estate.tick();
            let Round { changed, pending } = self.round(model);
            if model.inner().killed {
                return Some(round);
            }
            quiet = if changed { 0 } else { quiet + 1 };
            // What waits, or is to be tried again after a pause, may go on by itself.
            if quiet >= if pending || is_unwell(model) { 3 * QUIET_ROUNDS } else { QUIET_ROUNDS } {
                return Some(round);
            }
        }
        None
    }
}

/// The spec that runs, why the one that was applied does not, and whether anything is carried out.
pub(super) fn what_runs(resource: &Resource) -> (AnalyticsPipelineSpec, Option<String>, bool) {
    let read: AnalyticsPipelineSpec = serde_json::from_value(resource.spec.clone()).unwrap();
    let Err(invalid) = validate(&read) else {
        return (read, None, true);
    };
    let last = resource.last_valid.clone().map(|spec| serde_json::from_value(spec).unwrap());
    let runs = last.is_some();
    (last.unwrap_or(read), Some(invalid.to_string()), runs)
}

/// A user's view.
const SQL: &str = "SELECT toDate(now('UTC'), 'UTC') AS day, count() AS n FROM orders_current GROUP BY day";

/// Whether the connector is said not to run.
fn is_unwell(model: &Model) -> bool {
    let inner = model.inner();
    let resource = inner.estate.namespace.resource.iter();
    let mut conditions = resource.flat_map(|resource| &resource.status.conditions);
    conditions.any(|it| it.type_ == ConditionType::ConnectorRunning.as_str() && it.status != "True")
}

/// Writes the resource with the resourceVersion that was read: false where it is another one by now.
fn exchange(model: &Model, known: &Resource, new: &Resource) -> bool {
    let live = &mut model.inner().estate.namespace.resource;
    let is_same = live.as_ref() == Some(known);
    if is_same {
        *live = Some(new.clone());
    }
    is_same
}

/// Keeps a revision of the spec, which belongs to this life of the name.
fn keep(model: &Model, resource: &Resource) {
    let mut inner = model.inner();
    let live = inner.estate.namespace.resource.as_mut();
    if let Some(live) = live.filter(|live| live.uid == resource.uid && live.generation == resource.generation)
    {
        live.last_valid.clone_from(&resource.last_valid);
    }
}

/// Writes the status of this life of the name, unless it is of an older spec.
fn say(model: &Model, resource: &Resource, status: AnalyticsPipelineStatus) {
    let mut inner = model.inner();
    let live = inner.estate.namespace.resource.as_mut();
    let is_its = |live: &&mut Resource| live.uid == resource.uid && live.generation <= resource.generation;
    if let Some(live) = live.filter(is_its) {
        live.status = status;
    }
}

/// The resource goes, and what it owns with it; false where it is another one by now.
fn gone(model: &Model, resource: &Resource, clean: bool) -> bool {
    let namespace = &mut model.inner().estate.namespace;
    if namespace.resource.as_ref() != Some(resource) {
        return false;
    }
    namespace.gone = namespace.resource.take().filter(|_| clean);
    namespace.objects.retain(|_, object| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        !owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == resource.uid.as_str()))
    });
    true
}
