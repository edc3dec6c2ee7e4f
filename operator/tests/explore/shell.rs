//! An operator over a model: rounds as the controller makes them, until nothing happens any more.

use futures::executor::block_on;
use tidemark_crds::conditions::ConditionType;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_operator::credentials::{Holder, References};
use tidemark_operator::desired::sink_config::Paths;
use tidemark_operator::engine::{Engine, Input, Report};
use tidemark_operator::leader::Term;
use tidemark_operator::objects::ObjectStore;
use tidemark_operator::reconcile::Mode;
use tidemark_operator::status;
use tidemark_operator::step::Step;
use tidemark_operator::validate::validate;

use super::estate::CLUSTER;
use super::kubernetes::Resource;
use super::world::{CANARY, Model};

/// Rounds until what still happens is taken for a circle.
const MOST_ROUNDS: u32 = 80;
/// Rounds without a write and without another status that are rest.
const QUIET_ROUNDS: u32 = 3;

/// One process of the operator.
pub(super) struct Operator {
    engine: Engine,
    name: PipelineName,
    references: References,
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
        let mut references = References::default();
        for secret in ["pg", "ch", "kafka-user", "grafana"] {
            let data = [("username", "tidemark"), ("password", CANARY), ("token", CANARY)];
            let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
            references.insert(Holder::Secret, secret, data.into());
        }
        references.insert(Holder::ConfigMap, "views", [("daily.sql".to_owned(), SQL.to_owned())].into());
        Self { engine: Engine::default(), name: PipelineName::new("shop", "shop"), references }
    }

    /// One reconcile of the resource, as it is now.
    pub(super) fn round(&self, model: &mut Model) -> Round {
        let nothing = Round { changed: false, pending: false };
        let Some(mut resource) = model.inner().estate.namespace.resource.clone() else { return nothing };
        if !resource.finalizer {
            if resource.deleting {
                gone(model, &resource, false);
                return Round { changed: true, ..nothing };
            }
            resource.finalizer = true;
            store(model, &resource);
        }
        let read: AnalyticsPipelineSpec = serde_json::from_value(resource.spec.clone()).unwrap();
        let (spec, invalid, runs) = match validate(&read) {
            Ok(()) => {
                if !resource.deleting && resource.last_valid.as_ref() != Some(&resource.spec) {
                    resource.last_valid = Some(resource.spec.clone());
                    store(model, &resource);
                }
                (read, None, true)
            }
            Err(invalid) => {
                let last = resource.last_valid.clone().map(|spec| serde_json::from_value(spec).unwrap());
                let runs = last.is_some();
                (last.unwrap_or(read), Some(invalid.to_string()), runs)
            }
        };
        let report = self.report(model, &resource, (&spec, invalid.as_deref(), runs));
        if model.inner().killed {
            return Round { changed: true, pending: true };
        }
        // What fails again and again is tried at a growing pace: nothing is changed by it.
        let acted = !report.outcome.done.is_empty();
        if resource.deleting && (report.clean || report.time_is_up) {
            gone(model, &resource, report.clean);
            return Round { changed: true, ..nothing };
        }
        let other = !status::same(&resource.status, &report.status);
        if other {
            let said = serde_json::to_string(&report.status).unwrap();
            if said.contains(CANARY) {
                model.inner().leaks.push(said);
            }
            resource.status = report.status;
            store(model, &resource);
        }
        Round { changed: acted || other, pending: report.outcome.is_pending() || resource.deleting }
    }

    fn report(
        &self,
        model: &mut Model,
        resource: &Resource,
        (spec, invalid, runs): (&AnalyticsPipelineSpec, Option<&str>, bool),
    ) -> Report {
        let mode = match (resource.deleting, runs) {
            (true, _) => Mode::Delete,
            (false, true) => Mode::Run,
            (false, false) => Mode::PlanOnly,
        };
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
            cluster: CLUSTER,
            paths: &Paths::in_container(),
            image: "tidemark-sink:test",
            created: None,
            neighbours: &[],
            before: &resource.status,
            term: &Term::without_end(),
            mode,
        };
        block_on(self.engine.run_in(model, &input, &|_, _: &[&Step]| {}))
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

/// A user's view.
const SQL: &str = "SELECT toDate(now('UTC'), 'UTC') AS day, count() AS n FROM orders_current GROUP BY day";

/// Whether the connector is said not to run.
fn is_unwell(model: &Model) -> bool {
    let inner = model.inner();
    let resource = inner.estate.namespace.resource.iter();
    let mut conditions = resource.flat_map(|resource| &resource.status.conditions);
    conditions.any(|it| it.type_ == ConditionType::ConnectorRunning.as_str() && it.status != "True")
}

fn store(model: &Model, resource: &Resource) {
    model.inner().estate.namespace.resource = Some(resource.clone());
}

/// The resource goes, and what it owns with it.
fn gone(model: &Model, resource: &Resource, clean: bool) {
    let namespace = &mut model.inner().estate.namespace;
    namespace.gone = namespace.resource.take().filter(|_| clean);
    namespace.objects.retain(|_, object| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        !owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == resource.uid.as_str()))
    });
}
