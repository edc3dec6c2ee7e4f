//! May anything be done at all: whether the systems that answer are those of before, and the pipeline is this
//! cluster's. Asked before what is to be done next. Pure.
//!
//! The identity of a system has more witnesses than one, since the ledger lives in one of the systems: the ledger, the
//! connector's configuration and the resource's status. A system that is another one than any of them says is shut:
//! nothing of what it says is used, so that what runs goes on, until it is the one of before or a person accepts it by
//! [`ACCEPT`]. What takes something away needs a [`Proof`], and only a gate that is open gives one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::ledger::Kind;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use crate::core::desired::connector::{CLICKHOUSE_KEY, POSTGRES_KEY, is_ours};
use crate::core::desired::topics;
use crate::core::effect::Effect;
use crate::core::facts::{
    ClickHouseFacts, ConnectFacts, ConnectorFacts, Failure, FailureClass, KafkaFacts, LedgerFacts,
    Observation, Observed, PostgresFacts,
};
use crate::core::problem::{Left, Problem};
use crate::core::step::{Fact, Lane, Stage, Step, StepKind};

/// Action whose annotation accepts what was found: `SYSTEM=IDENTITY`, more of them with spaces between.
pub const ACCEPT: &str = "accept";
/// Format of the ledger that this version reads and writes.
pub const FORMAT: u32 = 1;
/// Key of the ledger's row with its format.
const FORMAT_KEY: &str = "format";
/// Key of the ledger's row with the mark of the pipeline's objects.
pub const MARK: &str = "mark";
/// Key of the ledger's row with the timeline of PostgreSQL's log.
const TIMELINE: &str = "timeline";

/// What has an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// The pipeline itself: the cluster whose resource it is.
    Cluster,
    /// The target database.
    ClickHouse,
    /// The source database.
    Postgres,
    /// The brokers.
    Kafka,
    /// Kafka Connect, as the place of the connector.
    Connect,
}

impl System {
    /// All.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::ClickHouse, Self::Postgres, Self::Kafka, Self::Connect];

    /// Key in the ledger, in `status.identities` and in the annotation.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::ClickHouse => "clickhouse",
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Connect => "connect",
        }
    }

    fn lane(self) -> Option<Lane> {
        match self {
            Self::Cluster => None,
            Self::ClickHouse => Some(Lane::ClickHouse),
            Self::Postgres => Some(Lane::Postgres),
            Self::Kafka => Some(Lane::Kafka),
            Self::Connect => Some(Lane::Connect),
        }
    }

    fn condition(self) -> ConditionType {
        match self {
            Self::Cluster | Self::ClickHouse => ConditionType::TablesInSync,
            Self::Postgres => ConditionType::SourceReady,
            Self::Kafka | Self::Connect => ConditionType::ConnectorRunning,
        }
    }

    /// The field that leads to it.
    fn field(self) -> &'static str {
        match self {
            Self::Cluster => "metadata",
            Self::ClickHouse => "spec.clickhouse",
            Self::Postgres => "spec.source.postgres",
            Self::Kafka => "spec.kafka.bootstrapServers",
            Self::Connect => "spec.source.connect.url",
        }
    }

    /// The systems that have to be those of before where something of this one is taken away: what is whose stands in
    /// the ledger, and where the log is followed from stands in all of them.
    fn rests_on(self) -> &'static [Self] {
        match self {
            Self::Cluster => &[Self::Cluster],
            Self::ClickHouse => &[Self::Cluster, Self::ClickHouse],
            Self::Postgres => &[Self::Cluster, Self::ClickHouse, Self::Postgres],
            Self::Kafka => &[Self::Cluster, Self::ClickHouse, Self::Kafka],
            Self::Connect => &[Self::Cluster, Self::ClickHouse, Self::Postgres, Self::Connect],
        }
    }
}

/// That what is done is done to a system of before, for the pipeline whose it is. Only [`Gate`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof(());

impl Proof {
    /// An act that takes something away, with the proof that it may.
    pub fn allow<T>(self, act: T) -> Allowed<T> {
        Allowed(act)
    }
}

/// An act that takes something away and may be carried out: without a [`Proof`] there is none.
#[derive(Clone, PartialEq, Eq)]
pub struct Allowed<T>(T);

impl<T> std::ops::Deref for Allowed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Allowed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the gate is judged from.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Mark of the pipeline's objects.
    pub mark: &'a str,
    /// Uid of the cluster, or a word in its place.
    pub cluster: &'a str,
    /// Identities that the resource's status has.
    pub identities: &'a BTreeMap<String, String>,
    /// Greatest epoch that the resource's status has; 0: none.
    pub known_epoch: u16,
    /// Text of the annotation that accepts.
    pub accepted: Option<&'a str>,
    /// Why the pipeline's topics are another's to write.
    pub claimed: Option<&'a Problem>,
    /// Whether the pipeline is being deleted.
    pub deleting: bool,
    /// The last observation.
    pub observed: &'a Observed,
}

/// What may be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Identities that were found and are those of before, or new, or accepted.
    found: BTreeMap<System, String>,
    /// Systems that were not seen.
    unseen: BTreeSet<System>,
    /// Systems that are others than before, and what is said of it.
    shut: BTreeMap<System, Problem>,
    /// Systems that are others than before and were accepted, and whose identity the ledger has not yet.
    accepted: BTreeSet<System>,
    /// Whether anything that is another was accepted: what follows of it is consented to.
    consented: bool,
    /// Systems that are told by what they are in for now: a database that is not there yet by its server.
    passing: BTreeSet<System>,
    /// Systems that have nothing to be told by, and never had.
    nameless: BTreeSet<System>,
    /// Timeline of before and of now, where they differ and nobody accepted it.
    timeline: Option<(String, String)>,
    /// The timeline of now, where it may be remembered.
    remembered_timeline: Option<String>,
}

/// How a system shows itself.
enum Found {
    /// It was not seen.
    Unseen,
    /// It was seen, and has nothing to tell it by.
    Nameless,
    /// What it is told by.
    Is(String),
}

/// Judges who answers.
pub fn gate(seen: &Seen<'_>) -> Gate {
    let mut gate = Gate::new();
    let nothing = LedgerFacts::default();
    let ledger = seen.observed.clickhouse.known().map_or(&nothing, |facts| &facts.ledger);
    let connector = seen.observed.connect.known().and_then(|facts| facts.connector.as_ref());
    let connector = connector.filter(|live| is_ours(live, seen.mark));
    let settled = is_settled(seen, ledger, connector);
    if let Some(problem) = newer_format(seen, ledger) {
        gate.shut.insert(System::ClickHouse, problem);
    }
    // What it made before is its own to remove.
    if !seen.deleting
        && let Some(problem) = seen.claimed.cloned().or_else(|| claimed_elsewhere(seen))
    {
        gate.shut.insert(System::Kafka, problem);
    }
    if !seen.deleting
        && let Some(problem) = writes_elsewhere(seen)
    {
        gate.shut.insert(System::Connect, problem);
    }
    for system in System::ALL {
        if gate.shut.contains_key(&system) {
            continue;
        }
        let witnesses = witnesses(system, seen, ledger, connector);
        let identity = match found(system, seen) {
            Found::Unseen => {
                gate.unseen.insert(system);
                continue;
            }
            Found::Nameless if witnesses.is_empty() => {
                gate.nameless.insert(system);
                continue;
            }
            Found::Nameless => String::new(),
            Found::Is(identity) => identity,
        };
        let others: Vec<&Witness> = witnesses.iter().filter(|witness| witness.says != identity).collect();
        // Where the connector is, there is the Connect of before, whatever its address.
        let moved = system == System::Connect && connector.is_some();
        let compared = system == System::Cluster || settled || seen.deleting;
        if !others.is_empty() && compared && !moved {
            if !is_accepted(system, &identity, seen) {
                gate.shut.insert(system, another(system, &identity, &others, seen));
                continue;
            }
            gate.consented |= system != System::Cluster;
            if system != System::Cluster && ledger.identities.get(system.key()) != Some(&identity) {
                gate.accepted.insert(system);
            }
        }
        gate.found.insert(system, identity);
    }
    if seen.observed.clickhouse.known().is_some_and(|facts| !facts.database_exists) {
        gate.passing.insert(System::ClickHouse);
    }
    timeline(seen, ledger, settled, &mut gate);
    gate
}

/// Why the topic prefix is a pipeline's of which this cluster may know nothing.
fn claimed_elsewhere(seen: &Seen<'_>) -> Option<Problem> {
    topics::taken(&seen.spec.kafka.topic_prefix, seen.mark, seen.observed.kafka.known()?)
}

/// Why Kafka Connect is not the one of these brokers: a connector writes to those of its workers, and what is read from
/// others would be nothing, without an error anywhere.
fn writes_elsewhere(seen: &Seen<'_>) -> Option<Problem> {
    let (connect, kafka) = (seen.observed.connect.known()?, seen.observed.kafka.known()?);
    let (writes, reads) = (&connect.kafka_cluster_id, &kafka.cluster_id);
    if writes.is_empty() || reads.is_empty() || writes == reads {
        return None;
    }
    let message = format!(
        "Kafka Connect at {} writes to the Kafka cluster {writes}, and spec.kafka.bootstrapServers ({}) leads to {reads}: \
         nothing would arrive there. Set spec.kafka.bootstrapServers to the brokers of the workers, or \
         spec.source.connect.url to workers of these brokers",
        seen.spec.source.connect.url, seen.spec.kafka.bootstrap_servers
    );
    Some(Problem::of_all(ConditionType::ConnectorRunning, Reason::InvalidSpec, message))
}

/// Whether the log was followed. Before that nothing is lost by another server: a mistyped address is corrected
/// without a word.
fn is_settled(seen: &Seen<'_>, ledger: &LedgerFacts, connector: Option<&ConnectorFacts>) -> bool {
    let header = connector.and_then(ConnectorFacts::epoch).unwrap_or(0);
    seen.known_epoch > 0 || header > 0 || ledger.has_row(Kind::Epoch, "")
}

fn found(system: System, seen: &Seen<'_>) -> Found {
    let observed = seen.observed;
    let identity = match system {
        System::Cluster => Some(seen.cluster.to_owned()),
        System::ClickHouse => observed.clickhouse.known().map(database_identity),
        System::Postgres => observed.postgres.known().map(|facts| match facts.database_oid {
            oid if oid > 0 && !facts.system_identifier.is_empty() => {
                format!("{}/{oid}", facts.system_identifier)
            }
            // An oid alone is that of many databases.
            _ => facts.system_identifier.clone(),
        }),
        System::Kafka => observed.kafka.known().map(|facts| facts.cluster_id.clone()),
        System::Connect => {
            let url = seen.spec.source.connect.url.trim_end_matches('/');
            observed.connect.known().map(|_| url.to_owned())
        }
    };
    match identity {
        None => Found::Unseen,
        Some(identity) if identity.is_empty() => Found::Nameless,
        Some(identity) => Found::Is(identity),
    }
}

/// A database is told by its own id, which it has on all replicas of a server; one that is not there yet, or keeps none,
/// by the server's.
fn database_identity(facts: &ClickHouseFacts) -> String {
    if facts.database_uuid.is_empty() { &facts.server_uuid } else { &facts.database_uuid }.clone()
}

/// Who says what a system was.
struct Witness {
    /// For people.
    who: &'static str,
    says: String,
}

fn witnesses(
    system: System,
    seen: &Seen<'_>,
    ledger: &LedgerFacts,
    connector: Option<&ConnectorFacts>,
) -> Vec<Witness> {
    let in_config = |key: &str| connector.and_then(|live| live.config.get(key));
    let by_connector = match system {
        System::ClickHouse => in_config(CLICKHOUSE_KEY),
        System::Postgres => in_config(POSTGRES_KEY),
        System::Cluster | System::Kafka | System::Connect => None,
    };
    // Of its own cluster a resource knows nothing that could have been carried to another one.
    let by_status = (system != System::Cluster).then(|| seen.identities.get(system.key())).flatten();
    let all = [
        ("the ledger", ledger.identities.get(system.key())),
        ("the connector", by_connector),
        ("status.identities", by_status),
    ];
    let said = |(who, says): (&'static str, Option<&String>)| Some(Witness { who, says: says?.clone() });
    all.into_iter().filter_map(said).filter(|witness| !witness.says.is_empty()).collect()
}

/// Whether the annotation names what was found. A database that was not there when it was accepted was named by its
/// server.
fn is_accepted(system: System, identity: &str, seen: &Seen<'_>) -> bool {
    let server = seen.observed.clickhouse.known().map(|facts| facts.server_uuid.as_str());
    accepted(seen, system.key()).any(|token| {
        !token.is_empty() && (token == identity || (system == System::ClickHouse && Some(token) == server))
    })
}

fn accepted<'a>(seen: &Seen<'a>, key: &'a str) -> impl Iterator<Item = &'a str> {
    let tokens = seen.accepted.unwrap_or_default().split_whitespace();
    tokens.filter_map(|token| token.split_once('=')).filter(move |(name, _)| *name == key).map(|(_, is)| is)
}

/// What is said of a system that is another one than before.
fn another(system: System, identity: &str, others: &[&Witness], seen: &Seen<'_>) -> Problem {
    let spec = seen.spec;
    let expected = &others[0].says;
    let who: Vec<&str> =
        others.iter().filter(|witness| witness.says == *expected).map(|witness| witness.who).collect();
    let has = if who.len() == 1 { "has" } else { "have" };
    let who = format!("{} {has} {expected}", who.join(" and "));
    let accept = format!("annotate the pipeline with tidemark.dev/{ACCEPT}: {}={identity}", system.key());
    let anew = "the log is then followed anew and every table is read again";
    let database = format!("database {} of {}", spec.clickhouse.database, spec.clickhouse.url);
    let message = match system {
        System::Cluster => format!(
            "{database} is kept by a pipeline of this name in another cluster or folder ({expected}; this one is {identity}): is \
             this resource applied here by mistake? Nothing is done: give it another name or another \
             spec.clickhouse.database; or, where it has moved here for good, {accept}, and the other cluster's pipeline \
             leaves all of it alone"
        ),
        System::Connect => format!(
            "{identity} has no connector of this pipeline, and {who} for its place: set spec.source.connect.url back; \
             or, where Kafka Connect has moved, stop the connector at its former place and {accept}: {anew}"
        ),
        _ if identity.is_empty() => format!(
            "{} does not say any more what it is, and {who}: set {} back, or give the account the right that it had",
            system.key(),
            system.field()
        ),
        System::ClickHouse => format!(
            "{database} is another one than before ({identity}), and {who}: set spec.clickhouse back; or, where it was \
             moved, restored or made anew, {accept}: {anew}"
        ),
        System::Postgres => format!(
            "database {} of {} is another one than before ({identity}), and {who}: set spec.source.postgres back; or, \
             where it was moved, restored or upgraded, {accept}: {anew}",
            spec.source.postgres.database, spec.source.postgres.host
        ),
        System::Kafka => format!(
            "{} are brokers of another cluster than before ({identity}), and {who}: set spec.kafka.bootstrapServers \
             back; or, where the topics have moved, {accept}: {anew}",
            spec.kafka.bootstrap_servers
        ),
    };
    let reason = if system == System::Cluster { Reason::Conflict } else { Reason::IdentityChanged };
    Problem::of_all(system.condition(), reason, message)
}

/// A ledger of a later version may say what this one does not understand.
fn newer_format(seen: &Seen<'_>, ledger: &LedgerFacts) -> Option<Problem> {
    let format = ledger.identities.get(FORMAT_KEY)?;
    if format.parse::<u32>().is_ok_and(|format| format <= FORMAT) {
        return None;
    }
    let message = format!(
        "the ledger in database {} of {} has format {format}, and this version of tidemark knows {FORMAT}: run the \
         version that wrote it, or a later one; until then all of it goes on as it is",
        seen.spec.clickhouse.database, seen.spec.clickhouse.url
    );
    Some(Problem::of_all(ConditionType::TablesInSync, Reason::RemoteError, message))
}

/// A server that was promoted, or restored to a moment, goes on with another timeline: what was committed last on the
/// former one may be missing there, or be another change at the same position.
fn timeline(seen: &Seen<'_>, ledger: &LedgerFacts, settled: bool, gate: &mut Gate) {
    let now = match seen.observed.postgres.known() {
        Some(facts) if facts.timeline > 0 && !gate.shut.contains_key(&System::Postgres) => {
            facts.timeline.to_string()
        }
        _ => return,
    };
    match ledger.identities.get(TIMELINE) {
        Some(before) if *before == now => {}
        Some(before) if settled && !accepted(seen, TIMELINE).any(|token| token == now) => {
            gate.timeline = Some((before.clone(), now.clone()));
            gate.remembered_timeline = Some(now);
        }
        _ => gate.remembered_timeline = Some(now),
    }
}

impl Gate {
    /// Nothing is found, and nothing is shut: only the judgement of what was seen begins with it.
    fn new() -> Self {
        Self {
            found: BTreeMap::new(),
            unseen: BTreeSet::new(),
            shut: BTreeMap::new(),
            accepted: BTreeSet::new(),
            consented: false,
            passing: BTreeSet::new(),
            nameless: BTreeSet::new(),
            timeline: None,
            remembered_timeline: None,
        }
    }

    /// A gate that is open, for tests of what lies behind it.
    #[cfg(test)]
    pub(crate) fn open() -> Self {
        Self::new()
    }

    /// Everything that keeps it shut.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.shut.values()
    }

    /// What would not be noticed, since the system does not say what it is: objects in it are told by their marks alone.
    pub fn unproven(&self) -> impl Iterator<Item = Left> {
        let said = |system: &System| {
            let way_out = match system {
                System::Postgres => {
                    "let the role of its credentials call pg_control_system() and pg_control_checkpoint()"
                }
                System::Kafka => "the brokers give no cluster.id",
                System::Cluster | System::ClickHouse | System::Connect => "it gives no identity",
            };
            let message =
                format!("whether {} leads to the server of before cannot be told: {way_out}", system.field());
            Left::settled(system.condition(), message)
        };
        self.nameless.iter().map(said)
    }

    /// Why nothing is done in a lane: the system there is another one than before.
    pub fn another(&self, lane: Lane) -> Option<&Problem> {
        let of = |system: &System| system.lane() == Some(lane);
        self.shut.iter().find(|(system, _)| of(system)).map(|(_, problem)| problem)
    }

    /// Whether every system that was seen is the one of before.
    pub fn is_open(&self) -> bool {
        self.shut.is_empty()
    }

    /// The proof that something of a system may be taken away: it was seen, as were those that it rests on, and all of
    /// them are those of before.
    pub fn proof(&self, system: System) -> Option<Proof> {
        let is_proven = |system: &System| !self.unseen.contains(system) && !self.shut.contains_key(system);
        system.rests_on().iter().all(is_proven).then_some(Proof(()))
    }

    /// The proof that the place in the log may be given up, which hangs on all of them.
    pub fn proof_of_log(&self) -> Option<Proof> {
        (self.unseen.is_empty() && self.is_open()).then_some(Proof(()))
    }

    /// The proof at a deletion, which does not wait for a system that gives no answer: none of those that do is
    /// another one than before. That an object is the pipeline's is asked of the object.
    pub fn proof_to_leave(&self, system: System) -> Option<Proof> {
        let shut = [System::Cluster, system].iter().any(|system| self.shut.contains_key(system));
        (!shut).then_some(Proof(()))
    }

    /// Whether a person accepted another system, and with it that every table is read again.
    pub fn is_consented(&self) -> bool {
        self.consented
    }

    /// Systems that were accepted and that the ledger does not know: the log has to be followed anew for them.
    pub fn accepted(&self) -> Option<String> {
        let all: Vec<&str> = self.accepted.iter().map(|system| system.key()).collect();
        (!all.is_empty()).then(|| all.join(" and "))
    }

    /// The timelines of PostgreSQL's log before and now, where they differ and nobody accepted that.
    pub fn timeline(&self) -> Option<(&str, &str)> {
        self.timeline.as_ref().map(|(before, now)| (before.as_str(), now.as_str()))
    }

    /// What was found, for `status.identities`: a system that was not seen, or is another one, keeps what it has, as
    /// does one that was accepted until the ledger has it.
    pub fn identities(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = before.clone();
        let written = |system: &System| {
            *system != System::Cluster && !self.accepted.contains(system) && !self.passing.contains(system)
        };
        let of_systems =
            self.found.iter().filter(|(system, identity)| written(system) && !identity.is_empty());
        all.extend(of_systems.map(|(system, identity)| (system.key().to_owned(), identity.clone())));
        all
    }

    /// The identity of a system of before, where it was found.
    pub fn identity(&self, system: System) -> Option<&str> {
        self.found.get(&system).map(String::as_str)
    }

    /// Writes into the ledger who is who. What was accepted is written once the ledger has it that the log is followed
    /// anew (`raising`), so that a crash in between forgets neither.
    pub fn notes(&self, mark: &str, ledger: &LedgerFacts, raising: bool) -> Vec<Step> {
        let waits = |system: &System| self.accepted.contains(system) && !raising;
        let found = self.found.iter().filter(|(system, identity)| !identity.is_empty() && !waits(system));
        let mut rows: Vec<(&str, &str)> =
            found.map(|(system, identity)| (system.key(), identity.as_str())).collect();
        let format = FORMAT.to_string();
        rows.push((FORMAT_KEY, format.as_str()));
        // The one under which the first objects were made stays, whichever cluster keeps them.
        rows.extend((!ledger.identities.contains_key(MARK)).then_some((MARK, mark)));
        let timeline = self.remembered_timeline.as_deref().filter(|_| self.timeline.is_none() || raising);
        rows.extend(timeline.map(|timeline| (TIMELINE, timeline)));
        let note = |(key, value): (&str, &str)| {
            let before = ledger.identities.get(key);
            if before.is_some_and(|before| before == value) {
                return None;
            }
            Some(Step {
                stage: Stage::Ledger,
                kind: if before.is_none() { StepKind::Create } else { StepKind::Change },
                what: format!("remember the identity of {key} in the ledger"),
                needs: vec![Fact::Bookkeeping],
                gives: None,
                effect: Effect::Ledger {
                    kind: Kind::Identity,
                    key: key.to_owned(),
                    version: ledger.next_version(Kind::Identity, key),
                    value: json!(value),
                },
            })
        };
        rows.into_iter().filter_map(note).collect()
    }

    /// What may be believed: what a system says that is another one than before is nothing, and what belongs to another
    /// cluster's pipeline is not there for this one, also where it is deleted.
    pub fn believed<'a>(&self, observed: &'a Observed, deleting: bool) -> Cow<'a, Observed> {
        if self.is_open() {
            return Cow::Borrowed(observed);
        }
        let mut believed = observed.clone();
        let is_anothers = self.shut.contains_key(&System::Cluster);
        if is_anothers && deleting {
            believed.clickhouse = Observation::Known(ClickHouseFacts::default());
            believed.postgres = Observation::Known(PostgresFacts::default());
            believed.kafka = Observation::Known(KafkaFacts::default());
            believed.connect = Observation::Known(ConnectFacts::default());
            return Cow::Owned(believed);
        }
        let why = |system| self.shut.get(&system).or_else(|| self.shut.get(&System::Cluster));
        hide(&mut believed.clickhouse, why(System::ClickHouse));
        hide(&mut believed.postgres, why(System::Postgres));
        hide(&mut believed.kafka, why(System::Kafka));
        hide(&mut believed.connect, why(System::Connect));
        hide(&mut believed.grafana, self.shut.get(&System::Cluster));
        hide(&mut believed.former_grafana, self.shut.get(&System::Cluster));
        Cow::Owned(believed)
    }
}

/// What a system says that is another one than before is as if it gave no answer.
fn hide<T>(observation: &mut Observation<T>, problem: Option<&Problem>) {
    if let (Observation::Known(_), Some(problem)) = (&observation, problem) {
        *observation = Observation::Unreachable(Failure::new(FailureClass::Remote, &problem.message));
    }
}

/// The mark under which the pipeline's objects were made, where the ledger has another one and this cluster keeps it.
pub fn adopted_mark<'a>(gate: &Gate, mark: &str, ledger: &'a LedgerFacts) -> Option<&'a str> {
    let kept = ![System::Cluster, System::ClickHouse].iter().any(|system| gate.shut.contains_key(system));
    ledger.identities.get(MARK).map(String::as_str).filter(|theirs| kept && *theirs != mark)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
