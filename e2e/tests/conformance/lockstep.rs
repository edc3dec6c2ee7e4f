//! An operator whose world is the real one, with the model beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::Value;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_e2e::stack::{PATIENCE, Role, User};
use tidemark_operator::core::credentials::{self, Holder, References};
use tidemark_operator::core::desired::grafana::place::Place;
use tidemark_operator::core::desired::pipeline::{Question, Subject};
use tidemark_operator::core::desired::sink_config::Paths;
use tidemark_operator::core::desired::views::Probe;
use tidemark_operator::core::facts::{Failure, Observed};
use tidemark_operator::core::step::Step;
use tidemark_operator::edge::grafana::former::Opener;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_operator::edge::world::{Remote, World};
use tidemark_operator::shell::engine::{Engine, Input, Report};
use tidemark_operator::shell::leader::Term;
use tidemark_operator::shell::reconcile::Mode;

use super::estate::{CLICKHOUSE, CONNECT, Estate, KAFKA, POSTGRES};
use super::seen::{Lines, seen};
use super::world::Model;

/// Rounds without a write that are rest.
const QUIET_ROUNDS: u32 = 3;

/// Key of what Connect shows.
const CONNECTOR: &str = "connector:";

/// A system that gave no answer.
const UNSEEN: &str = "really not seen";

/// What was found.
#[derive(Default)]
struct Found {
    differences: Vec<String>,
    made: Vec<String>,
    /// What changed at the last write, for what is said of a difference.
    last: String,
}

/// One process of the operator, with both worlds.
pub(super) struct Operator {
    engine: Engine,
    name: PipelineName,
    references: References,
    objects: ObjectStore,
    model: Model,
    found: Mutex<Found>,
    status: Mutex<AnalyticsPipelineStatus>,
}

/// The real world; what is done to it is done to the model too.
struct Lockstep<'a> {
    real: Remote<'a>,
    model: Model,
    found: &'a Mutex<Found>,
}

impl Operator {
    pub(super) fn new(name: &str, folder: &Path) -> Self {
        let mut references = References::default();
        let logins = [
            ("postgres", Role::Tidemark.name(), Role::Tidemark.password()),
            ("clickhouse", User::Tidemark.name(), User::Tidemark.password()),
        ];
        for (secret, user, password) in logins {
            let data = [("username", user), ("password", password)];
            let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
            references.insert(Holder::Secret, secret, data.into());
        }
        Self {
            engine: Engine::default(),
            name: PipelineName::new("local", name),
            references,
            objects: ObjectStore::Folder(folder.join("manifests")),
            model: Model::new(Estate::new()),
            found: Mutex::default(),
            status: Mutex::default(),
        }
    }

    /// What the two worlds do not agree on, so far.
    pub(super) fn differences(&self) -> Vec<String> {
        self.found().differences.clone()
    }

    /// What was written, so far.
    pub(super) fn made(&self) -> Vec<String> {
        self.found().made.clone()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap()
    }

    /// Rounds until nothing is written any more.
    pub(super) async fn rest(&mut self, spec: &Value, deletes: bool) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            let report = self.round(spec, deletes).await?;
            ensure!(std::time::Instant::now() < end, "never at rest: {:?}", report.outcome.plan);
            let failures: Vec<String> = report
                .outcome
                .failures
                .iter()
                .map(|(step, why)| format!("{}: {}", step.what, why.message))
                .collect();
            // Debezium makes the slot, and its offsets, a moment after the connector was resumed.
            let streams = report.outcome.observed.postgres.known().is_some_and(|facts| facts.slot.is_some());
            let is_quiet = report.outcome.done.is_empty() && failures.is_empty() && streams;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// One reconcile.
    pub(super) async fn round(&self, spec: &Value, deletes: bool) -> anyhow::Result<Report> {
        let spec: AnalyticsPipelineSpec = serde_json::from_value(spec.clone())?;
        {
            let aliases = [
                (spec.source.postgres.host.clone(), POSTGRES),
                (spec.kafka.bootstrap_servers.clone(), KAFKA),
                (spec.source.connect.url.clone(), CONNECT),
                (spec.clickhouse.url.clone(), CLICKHOUSE),
            ];
            let mut inner = self.model.inner();
            inner.estate.aliases = aliases.map(|(real, name)| (real, name.to_owned())).into();
            inner.estate.source().database.clone_from(&spec.source.postgres.database);
        }
        let resolved = credentials::resolve(&spec, &self.references);
        let breakers = tidemark_operator::edge::breaker::Breakers::default();
        let mut world = Lockstep {
            real: Remote {
                systems: self.engine.handles.systems(
                    &self.name.to_string(),
                    &spec,
                    &resolved,
                    self.objects.clone(),
                ),
                opener: Opener { references: &self.references, handles: &self.engine.handles, places: &[] },
                metrics: self.engine.metrics.clone(),
                breakers: &breakers,
                slowest: Duration::ZERO,
            },
            model: self.model.clone(),
            found: &self.found,
        };
        let before = self.status.lock().unwrap().clone();
        let input = Input {
            name: &self.name,
            uid: None,
            generation: 1,
            spec: &spec,
            addresses: &spec,
            invalid: None,
            annotations: &BTreeMap::new(),
            references: &self.references,
            objects: self.objects.clone(),
            cluster: "local",
            paths: &Paths::in_container(),
            image: "tidemark-sink:test",
            created: None,
            neighbours: &[],
            before: &before,
            term: &Term::without_end(),
            mode: if deletes { Mode::Delete } else { Mode::Run },
        };
        let report = Box::pin(self.engine.run_in(&mut world, &input, &|_, _| {})).await;
        *self.status.lock().unwrap() = report.status.clone();
        Ok(report)
    }
}

impl Lockstep<'_> {
    /// What only one of the two shows.
    fn compare(&self, real: &Lines, model: &Lines) {
        let keys: BTreeSet<&String> = real.keys().chain(model.keys()).collect();
        let nothing = String::from("nothing");
        let mut found = self.found.lock().unwrap();
        let last = found.last.clone();
        // Connect shows what was written a moment later, and a busy server may give no answer once: there what counts is what
        // stays.
        found.differences.retain(|known| !known.starts_with(CONNECTOR) && !known.contains(UNSEEN));
        for key in keys {
            let (real, model) = (real.get(key).unwrap_or(&nothing), model.get(key).unwrap_or(&nothing));
            if real != model {
                let line = format!("{key}:\n  really {real}\n  model  {model}");
                if !found.differences.iter().any(|known| known.starts_with(&line)) {
                    found.differences.push(format!("{line}\n  after {last:?}"));
                }
            }
        }
    }
}

impl World for Lockstep<'_> {
    async fn look(&mut self, subject: &Subject<'_>, former: Option<&Place>) -> Observed {
        let observed = Box::pin(self.real.look(subject, former)).await;
        if let Some(facts) = observed.postgres.known() {
            // The tables are the shop's, and no part of what is written.
            let tables = facts.tables.clone();
            self.model.inner().estate.source().tables = tables;
        }
        let model = Box::pin(self.model.look(subject, former)).await;
        self.compare(&seen(subject.spec, &observed), &seen(subject.spec, &model));
        observed
    }

    async fn ask(&self, subject: &Subject<'_>, questions: &[Question]) -> BTreeMap<String, Probe> {
        self.real.ask(subject, questions).await
    }

    async fn is_still(&self, _: &Subject<'_>) -> Result<bool, Failure> {
        Ok(true)
    }

    async fn act(&self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        let real = Box::pin(self.real.act(subject, step)).await;
        let model = self.model.inner().carry_out(subject, step);
        let mut found = self.found.lock().unwrap();
        found.made.push(step.what.clone());
        found.last.clone_from(&step.what);
        if real.is_ok() != model.is_ok() {
            found.differences.push(format!("{}: really {real:?}, in the model {model:?}", step.what));
        }
        real
    }

    fn now(&self) -> Timestamp {
        self.real.now()
    }

    fn new_id(&self) -> u32 {
        self.real.new_id()
    }
}
