//! The world of a reconcile over an estate: what it asks and does, with faults at chosen calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use tidemark_operator::desired::grafana::place::Place;
use tidemark_operator::desired::pipeline::{Asked, Question, Subject};
use tidemark_operator::desired::views::Probe;
use tidemark_operator::effect::Effect;
use tidemark_operator::facts::{Failure, Observation, Observed};
use tidemark_operator::plan::details;
use tidemark_operator::step::{Lane, Step, StepId, StepKind};
use tidemark_operator::world::World;

use super::estate::{Estate, unanswered};

/// What goes wrong with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It is not carried out, and the call fails.
    Refused,
    /// It is carried out, and no answer comes.
    Lost,
    /// The operator is killed before it.
    KilledBefore,
    /// The operator is killed after it.
    KilledAfter,
    /// It is carried out when another operator has taken over and done everything.
    Late,
}

impl Fault {
    pub(super) const ALL: [Self; 5] =
        [Self::Refused, Self::Lost, Self::KilledBefore, Self::KilledAfter, Self::Late];
}

/// A write that was tried.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) id: StepId,
    /// Whether it takes something away.
    pub(super) takes_away: bool,
    /// Whether it was refused.
    pub(super) failed: bool,
    /// The estate before it, where it is kept.
    pub(super) before: Option<Box<Estate>>,
}

/// An estate with an operator at work.
#[derive(Debug)]
pub(super) struct Model(Mutex<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) estate: Estate,
    pub(super) acts: Vec<Act>,
    /// Calls of all sorts.
    pub(super) calls: u64,
    /// What goes wrong with the next write.
    pub(super) fault: Option<Fault>,
    /// A write that is still on its way, and whether it arrives before the next look.
    pub(super) late: Option<Step>,
    pub(super) arrives: bool,
    /// Whether the operator was killed: nothing that it does from now on happens.
    pub(super) killed: bool,
    /// Whether the estate before each write is kept.
    pub(super) keeps: bool,
    /// What was said that has to stay secret.
    pub(super) leaks: Vec<String>,
}

/// What no log, status, plan or ledger may ever have.
pub(super) const CANARY: &str = "c4n4ry";

impl Model {
    pub(super) fn new(estate: Estate) -> Self {
        Self(Mutex::new(Inner {
            estate,
            acts: Vec::new(),
            calls: 0,
            fault: None,
            late: None,
            arrives: false,
            killed: false,
            keeps: false,
            leaks: Vec::new(),
        }))
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Inner {
    /// Carries out a write as its edge does.
    pub(super) fn carry_out(&mut self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        let (spec, name, estate) = (subject.spec, subject.name.to_string(), &mut self.estate);
        let address = |address: &str| estate.name(address).to_owned();
        let url = address(&spec.clickhouse.url);
        let host = address(&spec.source.postgres.host);
        let brokers = address(&spec.kafka.bootstrap_servers);
        let workers = address(&spec.source.connect.url);
        let database = &spec.clickhouse.database;
        let ids = &mut estate.ids;
        let server = estate.clickhouse.get_mut(&url).ok_or_else(unanswered);
        match &step.effect {
            Effect::ClickHouse(effect) => server?.act(subject.mark, effect, ids),
            Effect::Ledger { kind, key, version, value } => {
                server?.note(database, (name, kind.as_str().to_owned(), key.clone()), *version, value)
            }
            Effect::Fence { table, version, .. } => server?.fence(database, table, *version),
            Effect::Postgres(effect) => {
                estate.postgres.get_mut(&host).ok_or_else(unanswered)?.act(subject.mark, effect, ids)
            }
            Effect::Kafka(effect) => estate.kafka.get_mut(&brokers).ok_or_else(unanswered)?.act(effect, ids),
            Effect::Connect(effect) => {
                estate.connect.get_mut(&workers).ok_or_else(unanswered)?.act(subject.mark, effect)
            }
            Effect::Kubernetes(effect) => estate.namespace.act(subject, effect, ids),
            Effect::Grafana(_) => Err(unanswered()),
        }
    }

    fn observed<T>(&mut self, lane: Lane, facts: impl FnOnce(&Estate) -> Option<T>) -> Observation<T> {
        self.calls += 1;
        if self.killed || self.estate.silent.contains(&lane) {
            return Observation::Unreachable(unanswered());
        }
        facts(&self.estate).map_or_else(|| Observation::Unreachable(unanswered()), Observation::Known)
    }
}

impl World for Model {
    async fn look(
        &mut self,
        subject: &Subject<'_>,
        incarnation: Option<&str>,
        _: Option<&Place>,
    ) -> Observed {
        let (mut inner, spec) = (self.inner(), subject.spec);
        if inner.arrives
            && let Some(step) = inner.late.take()
        {
            let _ = inner.carry_out(subject, &step);
        }
        let now_ms = inner.estate.now_ms;
        Observed {
            postgres: inner.observed(Lane::Postgres, |estate| {
                let source = estate.postgres.get(estate.name(&spec.source.postgres.host))?;
                (source.database == spec.source.postgres.database).then(|| source.look(subject, now_ms))
            }),
            kafka: inner.observed(Lane::Kafka, |estate| {
                let brokers = estate.kafka.get(estate.name(&spec.kafka.bootstrap_servers))?;
                Some(brokers.look(subject, incarnation))
            }),
            connect: inner.observed(Lane::Connect, |estate| {
                let workers = estate.connect.get(estate.name(&spec.source.connect.url))?;
                Some(workers.look(&subject.name.connector()))
            }),
            clickhouse: inner.observed(Lane::ClickHouse, |estate| {
                let server = estate.clickhouse.get(estate.name(&spec.clickhouse.url))?;
                Some(server.look(subject, now_ms))
            }),
            kubernetes: inner.observed(Lane::Kubernetes, |estate| Some(estate.namespace.look(subject))),
            ..Observed::default()
        }
    }

    async fn ask(&self, _: &Subject<'_>, questions: &[Question]) -> BTreeMap<String, Probe> {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed || inner.estate.silent.contains(&Lane::ClickHouse) {
            return BTreeMap::new();
        }
        let answer = |question: &Question| match question.asked {
            Asked::Columns(_) => {
                Probe::Columns(vec![("day".into(), "Date".into()), ("n".into(), "UInt64".into())])
            }
            Asked::Panels(..) | Asked::Replaced { .. } => Probe::Panels(Vec::new()),
        };
        questions.iter().map(|question| (question.hash.clone(), answer(question))).collect()
    }

    async fn is_still(&self, subject: &Subject<'_>) -> Result<bool, Failure> {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed {
            return Err(unanswered());
        }
        Ok(inner.estate.namespace.resource.as_ref().is_some_and(|live| {
            Some(live.uid.as_str()) == subject.uid
                && live.deleting == subject.deleting
                && live.generation == subject.generation
        }))
    }

    async fn act(&self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed || inner.estate.silent.contains(&step.lane()) {
            return Err(unanswered());
        }
        let said = format!("{step:?} {:?}", details(&step.effect));
        if said.contains(CANARY) {
            inner.leaks.push(said);
        }
        let before = inner.keeps.then(|| Box::new(inner.estate.clone()));
        let takes_away = step.effect.takes_away() || matches!(step.kind, StepKind::Drop | StepKind::Replace);
        inner.acts.push(Act { id: step.id(), takes_away, failed: false, before });
        let place = inner.acts.len() - 1;
        let done = match inner.fault.take() {
            None => inner.carry_out(subject, step),
            Some(Fault::Refused) => Err(unanswered()),
            Some(Fault::Lost) => {
                let _ = inner.carry_out(subject, step);
                Err(unanswered())
            }
            Some(fault @ (Fault::KilledBefore | Fault::KilledAfter | Fault::Late)) => {
                match fault {
                    Fault::KilledAfter => drop(inner.carry_out(subject, step)),
                    Fault::Late => inner.late = Some(step.clone()),
                    _ => {}
                }
                inner.killed = true;
                Err(unanswered())
            }
        };
        inner.acts[place].failed = done.is_err();
        done
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.inner().estate.now_ms).unwrap()
    }

    fn new_id(&self) -> u32 {
        0xABC0_0000 + self.inner().estate.ids.number()
    }
}
