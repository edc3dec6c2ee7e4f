//! The world of a reconcile over an estate: what it asks and does, with faults at chosen calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use tidemark_crds::ledger::Kind;
use tidemark_operator::core::desired::grafana::place::Place;
use tidemark_operator::core::desired::pipeline::{Asked, Question, Subject};
use tidemark_operator::core::desired::views::Probe;
use tidemark_operator::core::effect::{ConnectEffect, Effect, Site};
use tidemark_operator::core::facts::{Failure, Observation, Observed, ReaderFacts};
use tidemark_operator::core::gate::System;
use tidemark_operator::core::plan::details;
use tidemark_operator::core::step::{Lane, Step, StepId, StepKind};
use tidemark_operator::edge::world::World;

use super::estate::{Estate, denied, unanswered};
use super::normal::EPOCH_KEY;
use super::shell::Operator;

/// What goes wrong with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It is not carried out, and the call fails.
    Refused,
    /// It lacks a right each time, until all is at rest; then it is granted.
    Denied,
    /// It is carried out, and no answer comes.
    Lost,
    /// The operator is killed before it.
    KilledBefore,
    /// The operator is killed after it.
    KilledAfter,
    /// It is carried out when another operator has taken over and done everything.
    Late,
    /// It is carried out when another operator has taken over, amid what that one does.
    Between,
    /// Another operator leads too, from there on: it looks and acts amid what this one does, and this one amid what it does.
    Two,
    /// The operator has read the resource as it was a while ago, once.
    Stale,
    /// A system gives no answer from there on; when all is at rest it answers again.
    Silent(Lane),
}

impl Fault {
    pub(super) const ALL: [Self; 15] = [
        Self::Refused,
        Self::Denied,
        Self::Lost,
        Self::KilledBefore,
        Self::KilledAfter,
        Self::Late,
        Self::Between,
        Self::Two,
        Self::Stale,
        Self::Silent(Lane::Postgres),
        Self::Silent(Lane::Kafka),
        Self::Silent(Lane::Connect),
        Self::Silent(Lane::ClickHouse),
        Self::Silent(Lane::Kubernetes),
        Self::Silent(Lane::Grafana),
    ];
}

/// A write that was tried.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) id: StepId,
    /// Whether it takes something away.
    pub(super) takes_away: bool,
    /// Whether the call failed.
    pub(super) failed: bool,
    /// Whether the system refused it, so that nothing of it was done.
    pub(super) refused: bool,
    /// The estate before it, where it is kept.
    pub(super) before: Option<Box<Estate>>,
}

/// Whether a question has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Always,
    Never,
}

/// An estate with an operator at work; a clone is the same one.
#[derive(Clone)]
pub(super) struct Model(Arc<Mutex<Inner>>);

pub(super) struct Inner {
    pub(super) estate: Estate,
    pub(super) acts: Vec<Act>,
    /// Calls of all sorts.
    pub(super) calls: u64,
    /// What goes wrong with the next write.
    pub(super) fault: Option<Fault>,
    /// A write that lacks a right.
    pub(super) denied: Option<StepId>,
    /// A write that is still on its way.
    pub(super) late: Option<Step>,
    /// Whether it arrives before the next look.
    pub(super) arrives: bool,
    /// Before which of the next writes it arrives.
    pub(super) arrives_at: Option<u64>,
    /// Whether the API server says what the resource is when it is asked right before a write.
    pub(super) resource: Answers,
    /// Whether the operator was killed: nothing that it does from now on happens.
    pub(super) killed: bool,
    /// Whether the estate before each write is kept.
    pub(super) keeps: bool,
    /// Address of the Grafana that the spec no longer names.
    pub(super) former_grafana: Option<String>,
    /// Another operator that leads too, and what decides before which writes it has a round.
    pub(super) other: Option<(Operator, u64)>,
    /// What was said that has to stay secret, and writes that may never be made.
    pub(super) leaks: Vec<String>,
}

/// What no log, status, plan or ledger may ever have.
pub(super) const CANARY: &str = "c4n4ry";

impl Model {
    pub(super) fn new(estate: Estate) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            estate,
            acts: Vec::new(),
            calls: 0,
            fault: None,
            denied: None,
            late: None,
            arrives: false,
            arrives_at: None,
            resource: Answers::Always,
            killed: false,
            keeps: false,
            former_grafana: None,
            other: None,
            leaks: Vec::new(),
        })))
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Another operator has a round, where there is one and it is its turn.
    fn let_another_work(&self) {
        let (other, former) = {
            let mut inner = self.inner();
            (inner.other.take(), inner.former_grafana.clone())
        };
        let Some((operator, chance)) = other else { return };
        if chance & 1 == 1 {
            operator.round(&mut self.clone());
        }
        let mut inner = self.inner();
        inner.former_grafana = former;
        inner.other = Some((operator, chance.rotate_right(1)));
    }
}

impl Inner {
    /// I5: a connector is never told an epoch that the ledger does not have, and none is given after a later one.
    fn ahead_of_the_ledger(&self, subject: &Subject<'_>, step: &Step) -> Option<String> {
        let url = self.estate.name(&subject.spec.clickhouse.url);
        let databases = self.estate.clickhouse.get(url).map(|server| &server.databases);
        let database = databases.and_then(|all| all.get(&subject.spec.clickhouse.database));
        let known = database.and_then(|database| database.epoch_of(&subject.name.to_string()));
        let known = known.unwrap_or(0);
        match &step.effect {
            Effect::Connect(ConnectEffect::Create { config, .. }) => ahead(config, known),
            Effect::Connect(ConnectEffect::PutConfig { name, config }) => {
                // Where the ledger was lost it goes on as it was told.
                let workers = self.estate.connect.get(self.estate.name(&subject.spec.source.connect.url))?;
                let told = workers.connectors.get(name).and_then(|live| live.setting(EPOCH_KEY).parse().ok());
                ahead(config, known.max(told.unwrap_or(0)))
            }
            Effect::Ledger { kind: Kind::Epoch, value, .. } => {
                let given = value.as_u64()?;
                (given < u64::from(known)).then(|| format!("I5: epoch {given} is given after {known}"))
            }
            _ => None,
        }
    }

    /// Carries out a write as its edge does.
    pub(super) fn carry_out(&mut self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        let (spec, name, estate) = (subject.spec, subject.name.to_string(), &mut self.estate);
        let address = |address: &str| estate.name(address).to_owned();
        let url = address(&spec.clickhouse.url);
        let host = address(&spec.source.postgres.host);
        let brokers = address(&spec.kafka.bootstrap_servers);
        let workers = address(&spec.source.connect.url);
        let shown = spec.grafana.as_ref().and_then(|part| part.url.as_deref()).map(address);
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
            Effect::Grafana(effect) => {
                let url = match effect.site {
                    Site::Current => shown,
                    Site::Former => self.former_grafana.as_deref().map(|url| estate.name(url).to_owned()),
                };
                let server = url.and_then(|url| estate.grafana.get_mut(&url));
                server.ok_or_else(unanswered)?.act(effect)
            }
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

fn ahead(config: &BTreeMap<String, String>, known: u16) -> Option<String> {
    let told: u16 = config.get(EPOCH_KEY)?.parse().ok()?;
    (told > known).then(|| format!("I5: the connector is told epoch {told}, and the ledger has {known}"))
}

/// I2: what may be taken away of a system though it, or one that says whose it is, was not seen, or is another one.
fn unproven(subject: &Subject<'_>, observed: &Observed) -> Vec<String> {
    let gate = subject.gate(observed);
    let ledger = observed.clickhouse.known().is_some();
    let (source, brokers) = (observed.postgres.known().is_some(), observed.kafka.known().is_some());
    let all = [
        (System::ClickHouse, Lane::ClickHouse, ledger),
        (System::Postgres, Lane::Postgres, ledger && source),
        (System::Kafka, Lane::Kafka, ledger && brokers),
        (System::Connect, Lane::Connect, ledger && source && observed.connect.known().is_some()),
    ];
    let mut wrong = Vec::new();
    for (system, lane, seen) in all {
        let another = gate.another(lane).is_some();
        if (!seen || another) && gate.proof(system).is_some() {
            wrong.push(format!("I2: {} may be touched, unseen or another", system.key()));
        }
        if another && gate.proof_to_leave(system).is_some() {
            wrong.push(format!("I2: a deletion may take from another {}", system.key()));
        }
    }
    wrong
}

impl World for Model {
    async fn look(&mut self, subject: &Subject<'_>, former: Option<&Place>) -> Observed {
        let (mut inner, spec) = (self.inner(), subject.spec);
        inner.former_grafana = former.map(|place| place.record.url.clone());
        if inner.arrives
            && let Some(step) = inner.late.take()
        {
            let _ = inner.carry_out(subject, &step);
        }
        let now_ms = inner.estate.now_ms;
        let observed = Observed {
            postgres: inner.observed(Lane::Postgres, |estate| {
                let source = estate.postgres.get(estate.name(&spec.source.postgres.host))?;
                (source.database == spec.source.postgres.database).then(|| source.look(subject, now_ms))
            }),
            kafka: inner.observed(Lane::Kafka, |estate| {
                let brokers = estate.kafka.get(estate.name(&spec.kafka.bootstrap_servers))?;
                Some(brokers.look(subject))
            }),
            connect: inner.observed(Lane::Connect, |estate| {
                let workers = estate.connect.get(estate.name(&spec.source.connect.url))?;
                let brokers = estate.kafka.get(estate.name(&workers.kafka))?;
                Some(workers.look(&subject.name.connector(), &brokers.cluster_id))
            }),
            clickhouse: inner.observed(Lane::ClickHouse, |estate| {
                let server = estate.clickhouse.get(estate.name(&spec.clickhouse.url))?;
                Some(server.look(subject, now_ms))
            }),
            kubernetes: inner.observed(Lane::Kubernetes, |estate| Some(estate.namespace.look(subject))),
            grafana: match spec.grafana.as_ref().and_then(|part| part.url.as_deref()) {
                None => Observation::NotAsked,
                Some(url) => inner.observed(Lane::Grafana, |estate| {
                    estate.grafana.get(estate.name(url))?.look(subject, None)
                }),
            },
            former_grafana: match former {
                None => Observation::NotAsked,
                Some(place) => inner.observed(Lane::FormerGrafana, |estate| {
                    estate
                        .grafana
                        .get(estate.name(&place.record.url))?
                        .look(subject, Some(&place.record.folder))
                }),
            },
            reader: match spec.grafana {
                None => Observation::NotAsked,
                Some(_) => inner.observed(Lane::ClickHouse, |_| {
                    Some(ReaderFacts { is_readonly: true, may_set_time: true, without_limit: Vec::new() })
                }),
            },
            ..Observed::default()
        };
        inner.leaks.extend(unproven(subject, &observed));
        observed
    }

    async fn ask(&self, _: &Subject<'_>, questions: &[Question]) -> BTreeMap<String, Probe> {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed || inner.estate.silent.contains(&Lane::ClickHouse) {
            return BTreeMap::new();
        }
        let answer = |question: &Question| match question.asked {
            Asked::Columns { .. } => {
                Probe::Columns(vec![("day".into(), "Date".into()), ("n".into(), "UInt64".into())])
            }
            Asked::Panels(..) | Asked::Replaced { .. } => Probe::Panels(Vec::new()),
        };
        questions.iter().map(|question| (question.hash.clone(), answer(question))).collect()
    }

    async fn is_still(&self, subject: &Subject<'_>) -> Result<bool, Failure> {
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed || inner.resource == Answers::Never {
            return Err(unanswered());
        }
        Ok(inner.estate.namespace.resource.as_ref().is_some_and(|live| {
            Some(live.uid.as_str()) == subject.uid
                && live.deleting == subject.deleting
                && live.generation == subject.generation
        }))
    }

    async fn act(&self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        self.let_another_work();
        let mut inner = self.inner();
        inner.calls += 1;
        if inner.killed || inner.estate.silent.contains(&step.lane()) {
            return Err(unanswered());
        }
        if inner.arrives_at == Some(0)
            && let Some(step) = inner.late.take()
        {
            let _ = inner.carry_out(subject, &step);
        }
        inner.arrives_at = inner.arrives_at.and_then(|left| left.checked_sub(1));
        let said = format!("{step:?} {:?}", details(&step.effect));
        if said.contains(CANARY) {
            inner.leaks.push(format!("I13: {said}"));
        }
        let wrong = inner.ahead_of_the_ledger(subject, step);
        inner.leaks.extend(wrong);
        let before = inner.keeps.then(|| Box::new(inner.estate.clone()));
        let takes_away = step.effect.takes_away() || matches!(step.kind, StepKind::Drop | StepKind::Replace);
        if inner.fault == Some(Fault::Denied) {
            inner.fault = None;
            inner.denied = Some(step.id());
        }
        let is_denied = inner.denied.as_ref() == Some(&step.id());
        inner.acts.push(Act { id: step.id(), takes_away, failed: false, refused: false, before });
        let place = inner.acts.len() - 1;
        let fault = inner.fault.take();
        let is_undisturbed = matches!(fault, None | Some(Fault::Two | Fault::Stale | Fault::Silent(_)));
        let done = match fault {
            _ if is_denied => Err(denied()),
            None | Some(Fault::Two | Fault::Stale | Fault::Silent(_)) => inner.carry_out(subject, step),
            Some(Fault::Refused | Fault::Denied) => Err(unanswered()),
            Some(Fault::Lost) => {
                let _ = inner.carry_out(subject, step);
                Err(unanswered())
            }
            Some(fault @ (Fault::KilledBefore | Fault::KilledAfter | Fault::Late | Fault::Between)) => {
                match fault {
                    Fault::KilledAfter => drop(inner.carry_out(subject, step)),
                    Fault::Late | Fault::Between => inner.late = Some(step.clone()),
                    _ => {}
                }
                inner.killed = true;
                Err(unanswered())
            }
        };
        inner.acts[place].failed = done.is_err();
        inner.acts[place].refused = is_denied || (done.is_err() && is_undisturbed);
        done
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.inner().estate.now_ms).unwrap()
    }

    fn new_id(&self) -> u32 {
        0xABC0_0000 + self.inner().estate.ids.number()
    }
}
