//! Reads: when a table has to be read at the source, and why. Pure.
//!
//! The operator asks by a row of the ledger; a sink reads the table behind a barrier in the log and raises its fence
//! to it, so that what is older is hidden. The first load, a table that comes back, a change of the layout after
//! which rows from before are wrong, a sink's doubt, another state table, another topic and a person's wish are one
//! request with different reasons: [`TableState`] alone knows them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidemark_crds::conditions::Reason;
use tidemark_crds::history::{Position, confirmed_to};
use tidemark_crds::layout::{SourceTable, TableLayout};
use tidemark_crds::ledger::{Confirmed, Kind, ReadRequest, source_place};
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use super::epochs::{Phase, before_the_connector, ledger_step, phase, raise};
use super::table::TableState;
use crate::core::desired::connector::{TYPES_KEY, include_list, is_ours, sends_otherwise, types};
use crate::core::desired::part::{Part, Problem};
use crate::core::effect::Effect;
use crate::core::facts::{ClickHouseFacts, ConnectFacts, ConnectorFacts, KafkaFacts, PostgresFacts};
use crate::core::gate::Gate;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// Action whose annotation asks for reads: a token for all tables, `TOKEN TABLE TABLE` for those that it names.
pub const RESNAPSHOT: &str = "resnapshot";

/// What epochs and reads are judged from.
#[derive(Debug, Clone, Copy)]
pub struct ReadsInput<'a> {
    /// The pipeline.
    pub name: &'a PipelineName,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// The spec.
    pub spec: &'a AnalyticsPipelineSpec,
    /// Newest layouts of the tables that are captured.
    pub layouts: &'a [TableLayout],
    /// Targets of those among them that stand by a former layout, for the source has something that cannot be
    /// followed: what would be read now is not what the layout says.
    pub refused: &'a BTreeSet<String>,
    /// Kafka Connect.
    pub connect: &'a ConnectFacts,
    /// PostgreSQL, where it is known.
    pub postgres: Option<&'a PostgresFacts>,
    /// Kafka, where it is known.
    pub kafka: Option<&'a KafkaFacts>,
    /// ClickHouse.
    pub clickhouse: &'a ClickHouseFacts,
    /// Text of the annotation that asks for reads.
    pub request: Option<&'a str>,
    /// Greatest epoch that the resource's status has; 0: none. A ledger with less is not the one of before.
    pub known_epoch: u16,
    /// What may be done.
    pub gate: &'a Gate,
}

/// The next writes for epochs and reads.
pub fn steps(input: &ReadsInput<'_>) -> Part {
    let Some(live) = &input.connect.connector else {
        return before_the_connector(input);
    };
    match phase(input, live) {
        Phase::Following => reads(input, live),
        phase => raise(input, live, phase),
    }
}

fn reads(input: &ReadsInput<'_>, live: &ConnectorFacts) -> Part {
    let mut part = Part::default();
    let ledger = &input.clickhouse.ledger;
    let wish = input
        .request
        .filter(|text| ledger.requests.get(RESNAPSHOT).map(String::as_str) != Some(*text))
        .map(|text| Wish::new(text, input.layouts));
    // A connector that was started by other types than today's decodes by them.
    let knows_types = live.config.get(TYPES_KEY) == types(ledger).as_ref();
    let readable = |layout: &&TableLayout| knows_types && !input.refused.contains(&layout.target);
    for layout in input.layouts.iter().filter(readable) {
        let token = wish.as_ref().filter(|wish| wish.tables.contains(&layout.target)).map(|wish| wish.token);
        table(input, live, layout, token, &mut part);
    }
    if let Some(wish) = wish {
        wish.answer(input, &mut part);
    }
    forgotten(input, &mut part);
    part
}

/// Asks for one table's read, where there is a reason and nothing in the way of it.
fn table(
    input: &ReadsInput<'_>,
    live: &ConnectorFacts,
    layout: &TableLayout,
    token: Option<&str>,
    part: &mut Part,
) {
    let (clickhouse, target) = (input.clickhouse, &layout.target);
    let ledger = &clickhouse.ledger;
    let (Some(newest), Some(state_table)) = (ledger.newest(target), clickhouse.objects.get(target)) else {
        return;
    };
    let Some(epoch) = ledger.epoch.filter(|_| newest == layout) else {
        return;
    };
    let source = &input.spec.source.postgres;
    let source = source_place(&source.host, source.port, &source.database);
    let state = TableState::of(clickhouse, target, &source, token);
    let Some(reason) = state.to_be_read().filter(|_| is_streamed(input, live, layout)) else {
        return;
    };
    let what = format!("ask for {} to be read: {reason}", layout.source);
    let request = ReadRequest {
        epoch,
        layout: layout.version,
        reason: reason.to_owned(),
        token: token.map(str::to_owned),
        state_table: Some(state_table.uuid.clone()).filter(|uuid| !uuid.is_empty()),
        source: Some(source.clone()),
    };
    let effect = Effect::Ledger {
        kind: Kind::Read,
        key: target.clone(),
        version: ledger.next_version(Kind::Read, target),
        value: json!(request),
    };
    let needs = vec![
        Fact::Bookkeeping,
        Fact::StateTable(target.clone()),
        Fact::Layout(target.clone()),
        Fact::Fence(target.clone()),
    ];
    let kind = if ledger.reads.contains_key(target) { StepKind::Change } else { StepKind::Create };
    part.step((Stage::Read, kind), what, needs, None, effect);
}

/// Whether every change of the table from now on is streamed for certain: only then may it be read, for what
/// happens behind the barrier comes by the stream alone.
fn is_streamed(input: &ReadsInput<'_>, live: &ConnectorFacts, layout: &TableLayout) -> bool {
    let topics = Topics { prefix: &input.spec.kafka.topic_prefix };
    let has = |topic: String| input.kafka.is_some_and(|kafka| kafka.topics.contains_key(&topic));
    let has_topics = has(topics.table(&layout.source)) && has(topics.message());
    let (slot, published) = input.postgres.map_or((false, false), |postgres| {
        let publication = postgres.publication.as_ref();
        (
            postgres.slot.as_ref().is_some_and(|slot| slot.active && slot.wal_status != "lost"),
            // What a transaction from before it was published wrote is in no event: behind its end the read has it.
            publication.is_some_and(|publication| {
                publication.tables.contains(&layout.source) && !publication.unsettled.contains(&layout.source)
            }),
        )
    });
    let running = live.state == "RUNNING" && live.tasks.iter().any(|task| task.state == "RUNNING");
    let included = included(live).contains(entry(&layout.source).as_str()) && !sends_otherwise(live);
    // Without an offset it could still begin anew, behind the barrier.
    slot && published && running && included && live.offset.is_some() && has_topics
}

/// What an annotation asks for.
struct Wish<'a> {
    token: &'a str,
    /// Targets.
    tables: BTreeSet<String>,
    /// Names that no table has.
    unknown: Vec<&'a str>,
}

impl<'a> Wish<'a> {
    fn new(text: &'a str, layouts: &[TableLayout]) -> Self {
        let names: Vec<&str> = text.split_whitespace().skip(1).collect();
        let is =
            |layout: &TableLayout, name: &str| layout.target == name || layout.source.to_string() == name;
        let wanted = |layout: &&TableLayout| names.is_empty() || names.iter().any(|name| is(layout, name));
        let tables = layouts.iter().filter(wanted).map(|layout| layout.target.clone()).collect();
        let unknown = names.iter().copied().filter(|name| !layouts.iter().any(|layout| is(layout, name)));
        Self { token: text, tables, unknown: unknown.collect() }
    }

    /// Answers once every read was asked for; a table that cannot be read now is not waited for.
    fn answer(&self, input: &ReadsInput<'_>, part: &mut Part) {
        if !self.unknown.is_empty() {
            let message = format!(
                "annotation tidemark.dev/{RESNAPSHOT}: {} is no table of this pipeline: set it to a new text with \
                 names of spec.tables behind it, or with none for all of them",
                self.unknown.join(", ")
            );
            part.problems.push(Problem::new("source", Reason::InvalidSpec, message));
            return;
        }
        let ledger = &input.clickhouse.ledger;
        let asked = |target: &String| {
            input.refused.contains(target)
                || ledger
                    .reads
                    .get(target)
                    .is_some_and(|(_, request)| request.token.as_deref() == Some(self.token))
        };
        if self.tables.iter().all(asked) {
            let what = "answer the request for reads".to_owned();
            ledger_step(ledger, (Kind::Request, RESNAPSHOT), json!(self.token), what, part);
        }
    }
}

/// Forgets the reads of tables that the spec no longer names: one that comes back is read again.
fn forgotten(input: &ReadsInput<'_>, part: &mut Part) {
    let named: BTreeSet<String> =
        input.spec.all_tables().iter().map(|table| table.target_name().to_owned()).collect();
    let ledger = &input.clickhouse.ledger;
    for target in ledger.reads.keys().filter(|target| !named.contains(*target)) {
        let what = format!("forget the read of {target}, which the spec no longer names");
        ledger_step(ledger, (Kind::Read, target), Value::Null, what, part);
    }
}

/// Forgets the reads of tables that the connector leaves out, or of all where somebody changed what it sends: what changes
/// meanwhile is in no event, so that they are read again once they are streamed again. Whatever brings that about waits for
/// the fact that these steps give. What the publication leaves out is seen by
/// [`Storage::published`](tidemark_crds::layout::Storage::published).
pub fn interrupted(input: &ReadsInput<'_>) -> (Vec<Step>, Fact) {
    let fact = Fact::Other("the ledger to have it which tables are read again".into());
    let mut part = Part::default();
    let Some(live) = input.connect.connector.as_ref().filter(|live| is_ours(live, input.mark)) else {
        return (part.steps, fact);
    };
    let ledger = &input.clickhouse.ledger;
    let (listed, sends_otherwise) = (included(live), sends_otherwise(live));
    for table in &input.spec.all_tables() {
        let target = table.target_name();
        let current = ledger.reads.get(target).filter(|(_, request)| Some(request.epoch) == ledger.epoch);
        let Ok(source) = table.name.parse::<SourceTable>() else { continue };
        if current.is_some() && (sends_otherwise || !listed.contains(entry(&source).as_str())) {
            let what =
                format!("forget the read of {source}, whose changes the connector was told to leave out");
            ledger_step(ledger, (Kind::Read, target), Value::Null, what, &mut part);
        }
    }
    for step in &mut part.steps {
        step.gives = Some(fact.clone());
    }
    (part.steps, fact)
}

/// Entries of the connector's list of tables.
fn included(live: &ConnectorFacts) -> BTreeSet<&str> {
    live.config.get("table.include.list").map_or_else(BTreeSet::new, |list| list.split(',').collect())
}

/// A table's entry in that list.
fn entry(source: &SourceTable) -> String {
    include_list(std::slice::from_ref(source))
}

/// Says that the catalogue is still that of the newest layout at `at`: once behind its beginning, from where another look
/// goes on, and where a sink waits until the catalogue was seen at or behind an event's position.
pub fn confirmation(layout: &TableLayout, at: Position, facts: &ClickHouseFacts) -> Part {
    let (mut part, target) = (Part::default(), &layout.target);
    let ledger = &facts.ledger;
    let known = confirmed_to(ledger.history(target), ledger.confirmed.get(target));
    let states = facts.states.get(target).into_iter().flatten();
    let wanted =
        states.map(|(_, state)| state.wants).filter(|wants| *wants != (0, 0)).filter(|wants| *wants <= at);
    let begun = Some(layout.from.by()).filter(|by| *by <= at);
    if wanted.max().max(begun).is_some_and(|wanted| known.is_none_or(|known| known < wanted)) {
        let row = Confirmed { layout: layout.version, epoch: at.0, lsn: at.1 };
        let effect = Effect::Ledger {
            kind: Kind::Confirmed,
            key: target.clone(),
            version: ledger.next_version(Kind::Confirmed, target),
            value: json!(row),
        };
        let what = format!("confirm layout {} of {target}", layout.version);
        let needs = vec![Fact::Bookkeeping, Fact::Layout(target.clone())];
        part.step((Stage::Layout, StepKind::Change), what, needs, None, effect);
    }
    part
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
