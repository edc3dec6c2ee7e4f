//! What other programs and time bring by themselves, and a plan waits for. Pure.
//!
//! All of it is assumed to come, and named. What nobody can be assumed to bring, as a person's consent, is none of it:
//! steps that need that are left.

use std::collections::BTreeSet;
use std::fmt;

use tidemark_crds::ledger::SinkState;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_crds::version::Version;

use super::{become_state, with};
use crate::core::desired::connector::is_ours;
use crate::core::desired::owned::is_owned;
use crate::core::desired::pipeline::Subject;
use crate::core::facts::{
    ClickHouseFacts, ConnectorFacts, KubernetesFacts, Observed, OffsetFacts, PostgresFacts, ReadFacts,
    SlotFacts,
};
use crate::core::rollout::Rollout;

/// Something that comes by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coming {
    /// The connector, which runs, reads from its slot, and makes it where there is none.
    Streaming,
    /// The task of a connector that is stopped or gone leaves the slot.
    SlotLeft,
    /// Kafka Connect, which was asked for a connector that was there before, has kept its offsets.
    OffsetsKept,
    /// The pause before failed tasks are restarted is over.
    RestartDue,
    /// The sink's pods are those of its Deployment.
    Sinks,
    /// The sink's pods have ended, and left the consumer group.
    SinksEnded,
    /// The sinks use the newest layout of a target.
    Layout(String),
    /// A sink reads a target at the source.
    Read(String),
    /// A view is filled for the first time.
    Filled(String),
}

impl fmt::Display for Coming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Streaming => f.write_str("the connector to read from its slot"),
            Self::SlotLeft => f.write_str("the slot to be left by its reader"),
            Self::OffsetsKept => f.write_str(
                "kafka connect to have kept the connector's offsets: where it has not, changes are lost, and \
                 spec.source.onSlotLost says what then happens",
            ),
            Self::RestartDue => f.write_str("the pause before failed tasks are restarted"),
            Self::Sinks => f.write_str("the sink's pods to be rolled out"),
            Self::SinksEnded => f.write_str("the sink's pods to end"),
            Self::Layout(target) => write!(f, "the sinks to use the newest layout of {target}"),
            Self::Read(target) => write!(f, "{target} to be read"),
            Self::Filled(view) => write!(f, "view {view} to be filled for the first time"),
        }
    }
}

/// Whether it is the pipeline's own connector that reads from the slot: only then it leaves the slot once it is stopped.
/// Nobody stops another reader.
pub fn reader_is_ours(subject: &Subject<'_>, observed: &Observed) -> bool {
    let live = observed.connect.known().and_then(|facts| facts.connector.as_ref());
    live.is_some_and(|live| is_ours(live, subject.mark) && live.state == "RUNNING")
}

/// Lets everything come that comes by itself, and names it.
pub fn settle(subject: &mut Subject<'_>, observed: &mut Observed, reader_is_ours: &mut bool) -> Vec<Coming> {
    let mut all = Vec::new();
    // One thing brings the next: pods that run use a layout, and then read.
    loop {
        let next = coming(subject, observed, *reader_is_ours);
        if next.is_empty() {
            return all;
        }
        for one in next {
            comes(&one, subject, observed);
            *reader_is_ours |= one == Coming::Streaming;
            all.push(one);
        }
    }
}

fn coming(subject: &Subject<'_>, observed: &Observed, reader_is_ours: bool) -> Vec<Coming> {
    let mut all = Vec::new();
    if let Some(connect) = observed.connect.known() {
        let own = connect.connector.as_ref().filter(|live| is_ours(live, subject.mark));
        let runs = own.is_some_and(|live| live.state == "RUNNING" || live.state == "FAILED");
        if let Some(live) = own.filter(|_| runs) {
            of_tasks(live, observed.postgres.known(), subject.restart_due, &mut all);
        }
        let is_left = own.map_or(connect.connector.is_none(), |live| live.state == "STOPPED");
        let slot = observed.postgres.known().and_then(|facts| facts.slot.as_ref());
        if is_left && reader_is_ours && slot.is_some_and(|slot| slot.active) {
            all.push(Coming::SlotLeft);
        }
    }
    if let Some(kubernetes) = observed.kubernetes.known() {
        match sink(subject, kubernetes) {
            Some(sink) if !kubernetes.rollout.is_complete(sink.replicas) => {
                all.extend(kubernetes.rollout.failure.is_none().then_some(Coming::Sinks));
            }
            Some(sink) if sink.replicas > 0 => of_sinks(&sink.targets, observed, &mut all),
            Some(_) => {}
            None => {
                let groups = observed.kafka.known().map(|facts| &facts.groups);
                let has_members = groups.is_some_and(|groups| groups.values().any(|members| *members > 0));
                all.extend(has_members.then_some(Coming::SinksEnded));
            }
        }
    }
    if let Some(clickhouse) = observed.clickhouse.known() {
        let empty = clickhouse.refreshes.iter().filter(|(name, refresh)| {
            let ours = clickhouse
                .objects
                .get(*name)
                .is_some_and(|live| crate::core::desired::part::is_ours(&live.comment, subject.mark));
            ours && refresh.last_success_ms == 0 && refresh.exception.is_empty()
        });
        let view = |name: &String| name.strip_suffix("__refresh").unwrap_or(name).to_owned();
        all.extend(empty.map(|(name, _)| Coming::Filled(view(name))));
    }
    all
}

fn of_tasks(live: &ConnectorFacts, postgres: Option<&PostgresFacts>, due: bool, all: &mut Vec<Coming>) {
    if live.state == "FAILED" || live.tasks.iter().any(|task| task.state == "FAILED") {
        all.extend((!due).then_some(Coming::RestartDue));
        return;
    }
    let Some(postgres) = postgres.filter(|facts| facts.publication.is_some()) else { return };
    let reads = postgres.slot.as_ref().is_some_and(|slot| slot.active || slot.wal_status == "lost");
    let runs = live.tasks.iter().any(|task| task.state == "RUNNING");
    all.extend((!reads || !runs || live.offset.is_none()).then_some(Coming::Streaming));
}

/// The sinks that the objects make.
struct Sink {
    replicas: i32,
    group: String,
    /// Targets that its configuration leads to.
    targets: BTreeSet<String>,
}

fn sink(subject: &Subject<'_>, facts: &KubernetesFacts) -> Option<Sink> {
    let name = subject.name.sink();
    let own = |kind: &str| {
        facts.objects.get(&format!("{kind}/{name}")).filter(|live| is_owned(subject.name, subject.uid, live))
    };
    let replicas = own("Deployment")?["spec"]["replicas"].as_i64().unwrap_or(1);
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    let mut texts = own("ConfigMap").and_then(|map| map["data"].as_object()).into_iter().flatten();
    let config = texts.find_map(|(_, text)| serde_json::from_str::<SinkConfig>(text.as_str()?).ok());
    let (group, routes) = config.map_or_else(Default::default, |it| (it.kafka.group_id, it.tables));
    Some(Sink { replicas, group, targets: routes.into_iter().map(|route| route.target).collect() })
}

/// What sinks do with their tables.
fn of_sinks(targets: &BTreeSet<String>, observed: &Observed, all: &mut Vec<Coming>) {
    let Some(facts) = observed.clickhouse.known() else { return };
    for target in targets {
        let (Some(newest), true) = (facts.ledger.newest(target), facts.objects.contains_key(target)) else {
            continue;
        };
        let states = facts.states.get(target).into_iter().flatten();
        let uses = states.map(|(_, state)| state.layout).min();
        if uses.is_none_or(|layout| layout < newest.version) {
            all.push(Coming::Layout(target.clone()));
        } else if is_read_next(target, newest.version, facts) {
            all.push(Coming::Read(target.clone()));
        }
    }
}

/// Whether a read was asked for and goes on. One that failed is tried again, and nobody knows with what success.
fn is_read_next(target: &str, layout: u64, facts: &ClickHouseFacts) -> bool {
    let Some((id, request)) = facts.ledger.reads.get(target) else { return false };
    let answer = facts.reads.get(target).filter(|read| read.request == *id);
    let open = answer.is_none_or(|read| read.state != "read" && read.error.is_empty());
    open && Some(request.epoch) == facts.ledger.epoch && request.layout <= layout
}

fn comes(one: &Coming, subject: &mut Subject<'_>, observed: &mut Observed) {
    match one {
        Coming::Streaming => streams(observed),
        Coming::SlotLeft => with(&mut observed.postgres, |facts| {
            facts.slot.iter_mut().for_each(|slot| slot.active = false);
        }),
        Coming::OffsetsKept => {}
        Coming::RestartDue => subject.restart_due = true,
        Coming::Sinks => roll_out(subject, observed),
        Coming::SinksEnded => with(&mut observed.kafka, |facts| {
            facts.groups.values_mut().for_each(|members| *members = 0);
        }),
        Coming::Layout(target) => with(&mut observed.clickhouse, |facts| uses_newest(target, facts)),
        Coming::Read(target) => {
            let end = observed.postgres.known().map_or(0, |facts| facts.current_lsn);
            with(&mut observed.clickhouse, |facts| is_read(target, end, facts));
        }
        Coming::Filled(view) => with(&mut observed.clickhouse, |facts| {
            if let Some(refresh) = facts.refreshes.get_mut(&format!("{view}__refresh")) {
                refresh.last_success_ms = 1;
            }
        }),
    }
}

fn streams(observed: &mut Observed) {
    let mut at = 0;
    with(&mut observed.postgres, |facts| {
        let end = facts.current_lsn;
        let slot = facts.slot.get_or_insert_with(|| SlotFacts {
            database: facts.database.clone(),
            plugin: "pgoutput".to_owned(),
            wal_status: "reserved".to_owned(),
            confirmed_lsn: end,
            ..SlotFacts::default()
        });
        slot.active = true;
        at = slot.confirmed_lsn;
    });
    with(&mut observed.connect, |facts| {
        if let Some(live) = &mut facts.connector {
            become_state(live, "RUNNING");
            let before = live.offset.as_ref().map_or(0, |offset| offset.lsn);
            live.offset = Some(OffsetFacts { lsn: before.max(at) });
        }
    });
}

fn roll_out(subject: &Subject<'_>, observed: &mut Observed) {
    let Some(sink) = observed.kubernetes.known().and_then(|facts| sink(subject, facts)) else { return };
    let replicas = sink.replicas;
    with(&mut observed.kubernetes, |facts| {
        facts.rollout = Rollout { replicas, available: replicas, updated: replicas, failure: None };
    });
    with(&mut observed.kafka, |facts| {
        if !sink.group.is_empty() {
            facts.groups.insert(sink.group, usize::try_from(replicas).unwrap_or(0));
        }
    });
}

fn uses_newest(target: &str, facts: &mut ClickHouseFacts) {
    let Some(version) = facts.ledger.newest(target).map(|layout| layout.version) else { return };
    let states = facts.states.entry(target.to_owned()).or_default();
    if states.is_empty() {
        states.insert("sink".to_owned(), SinkState::default());
    }
    for state in states.values_mut() {
        state.layout = version;
    }
}

/// A read ends whatever doubt there was.
fn is_read(target: &str, end: u64, facts: &mut ClickHouseFacts) {
    let Some((request, wanted)) = facts.ledger.reads.get(target) else { return };
    let doubts = facts.states.get(target).into_iter().flatten();
    let doubted = doubts.map(|(_, state)| state.doubt_at.1.saturating_add(1)).max().unwrap_or(0);
    let barrier = end.max(doubted);
    let read = ReadFacts {
        request: *request,
        epoch: wanted.epoch,
        state: "read".to_owned(),
        barrier,
        layout: facts.ledger.newest(target).map_or(wanted.layout, |layout| layout.version),
        ..ReadFacts::default()
    };
    let version = Version::of_read(wanted.epoch, barrier);
    facts.reads.insert(target.to_owned(), read);
    let fence = facts.fences.entry(target.to_owned()).or_default();
    *fence = (*fence).max(version);
}
