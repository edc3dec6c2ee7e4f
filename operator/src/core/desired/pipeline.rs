//! The whole of one pipeline: every part's steps and problems put together, and the facts that hold. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::layout::{SourceTable, TableLayout};
use tidemark_crds::ledger::{Kind, LEDGER_TABLE, SeenPublication};
use tidemark_crds::names::{PipelineName, Topics, short_hash};
use tidemark_crds::pipeline::AnalyticsPipelineSpec;

use super::chosen::{Chosen, Table as ChosenTable, chosen};
use super::part::{Part, hash_in, is_ours};
use super::sink_config::{Paths, sink_config};
use super::sink_objects::{plan_sink_objects, sink_objects};
use super::views::{Probe, View, Viewer, ViewsInput};
use super::{
    SinkInput, connector, dashboards, drift, held, history, publication, source, tables, topics, views,
};
use crate::core::cdc::{epochs, reads};
use crate::core::credentials::Resolved;
use crate::core::dashboards::Dashboard;
use crate::core::effect::{ConnectEffect, Effect};
use crate::core::facts::{
    ClickHouseFacts, ConnectFacts, LedgerFacts, Observed, PostgresFacts, SeenCatalogue,
};
use crate::core::gate::{Gate, Proof, Seen, System, gate};
use crate::core::problem::{Left, Problem};
use crate::core::retention;
use crate::core::statement;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// One pipeline as the pure core sees it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Namespace and name.
    pub name: &'a PipelineName,
    /// `metadata.uid`; absent without a cluster.
    pub uid: Option<&'a str>,
    /// Mark of every object of ours.
    pub mark: &'a str,
    /// Image of the sink.
    pub image: &'a str,
    /// The spec that runs.
    pub spec: &'a AnalyticsPipelineSpec,
    /// What the spec's references lead to.
    pub resolved: &'a Resolved,
    /// Folders in which the sink finds its files.
    pub paths: &'a Paths,
    /// Annotations of the resource that ask for an action: action to text.
    pub requests: &'a BTreeMap<String, String>,
    /// A random id, taken as incarnation where the ledger has none.
    pub new_incarnation: &'a str,
    /// Greatest epoch that the resource's status has; 0: none.
    pub known_epoch: u16,
    /// Uid of the cluster, or a word in its place.
    pub cluster: &'a str,
    /// Identities of the systems that the resource's status has.
    pub identities: &'a BTreeMap<String, String>,
    /// Text of the annotation that accepts other systems than before.
    pub accepted: Option<&'a str>,
    /// Why the pipeline's topics are another's to write.
    pub claimed: Option<&'a Problem>,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// `metadata.generation` of the spec that was read; without a cluster a number that grows.
    pub generation: i64,
    /// Whether the pause before the next restart of failed tasks is over.
    pub restart_due: bool,
}

impl Subject<'_> {
    /// The account of ClickHouse that makes tables and views; empty where it is not known.
    pub fn maker(&self) -> &str {
        self.resolved.clickhouse.as_ref().map_or("", |account| &account.credentials.username)
    }

    /// What may be done, by what was observed.
    pub fn gate(&self, observed: &Observed) -> Gate {
        gate(&Seen {
            spec: self.spec,
            mark: self.mark,
            cluster: self.cluster,
            identities: self.identities,
            known_epoch: self.known_epoch,
            accepted: self.accepted,
            claimed: self.claimed,
            deleting: self.deleting,
            observed,
        })
    }
}

/// A question that only ClickHouse can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Hash under which the answer is kept.
    pub hash: String,
    /// What is asked.
    pub asked: Asked,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// The columns of a view.
    Columns {
        /// The statement to ask with.
        sql: String,
        /// Whether the account is asked that the user's views run as.
        as_viewer: bool,
    },
    /// Whether each panel of a dashboard answers: its name and model.
    Panels(String, Dashboard),
    /// Whether the panels of dashboards would still answer over another SELECT of a view.
    Replaced {
        /// The view.
        view: String,
        /// Its SELECT as it would be, or one of the same columns.
        select: String,
        /// The dashboards that read it.
        dashboards: Vec<(String, Dashboard)>,
        /// Whether the reader is asked: it may read what dashboards read, and the account that a view runs as need not.
        by_reader: bool,
    },
}

impl Asked {
    /// Whether the account is asked that the user's views run as.
    pub fn as_viewer(&self) -> bool {
        match self {
            Self::Columns { as_viewer, .. } => *as_viewer,
            Self::Panels(..) | Self::Replaced { .. } => false,
        }
    }
}

/// What should happen to one pipeline.
#[derive(Debug, Default)]
pub struct Desired {
    /// All steps.
    pub steps: Vec<Step>,
    /// Everything that stands in the way.
    pub problems: Vec<Problem>,
    /// Facts that were observed to hold.
    pub held: BTreeSet<Fact>,
    /// Every table of the spec and its state table.
    pub tables: Vec<(SourceTable, String)>,
    /// Every view that should be there.
    pub views: Vec<String>,
    /// Views that are not as they should be, and of which nothing is said or done: ClickHouse was not asked or gave no
    /// answer, what they read is not there yet, or they are filled for the first time.
    pub views_open: Vec<String>,
    /// What has to be asked before the plan is whole.
    pub questions: Vec<Question>,
    /// Changes by hand in Grafana that the policy keeps.
    pub kept: Vec<String>,
    /// Differences that are known and left.
    pub left: Vec<Left>,
    /// Whether panels of dashboards were not asked yet.
    pub panels_open: bool,
    /// Up to where this look saw the catalogue of each target to be that of its newest layout.
    pub seen: BTreeMap<String, SeenCatalogue>,
}

/// Puts together what should happen, from the spec and the last observation.
pub fn desire(subject: &Subject<'_>, observed: &Observed, answers: &BTreeMap<String, Probe>) -> Desired {
    let mut desired = Desired::default();
    let gate = subject.gate(observed);
    desired.problems.extend(gate.problems().cloned());
    desired.left.extend(gate.unproven());
    let believed = gate.believed(observed, false);
    let observed = believed.as_ref();
    let chosen = chosen(subject, observed, &mut desired);
    let layouts: Vec<TableLayout> = chosen.tables.iter().map(|table| table.layout.clone()).collect();
    let sources = chosen.sources();
    if let Some(postgres) = observed.postgres.known() {
        source(subject, &sources, &chosen.harmed, postgres, &mut desired);
    }
    if let Some(clickhouse) = observed.clickhouse.known()
        && let Some(proof) = gate.proof(System::ClickHouse)
    {
        state(subject, &chosen.tables, clickhouse, proof, &mut desired);
        let raising = epochs::raising(&clickhouse.ledger).is_some();
        desired.steps.extend(gate.notes(subject.mark, &clickhouse.ledger, raising));
        decoded_by(observed, clickhouse, &mut desired);
        all_views(subject, &layouts, clickhouse, (answers, proof), &mut desired);
        // Its pods are pointed at no other server.
        if gate.is_open() {
            sink(subject, &chosen, observed, clickhouse, &mut desired);
        }
        change_data_capture(subject, &gate, &chosen, &layouts, observed, &mut desired);
        let database = &subject.spec.clickhouse.database;
        let last = clickhouse.connector.as_ref();
        let before = last.map_or("", |last| last.wal.as_str());
        let wanted = subject.spec.source.connect.state;
        let wal = observed.postgres.known().map(|facts| retention::held_back(facts, wanted, before));
        desired.steps.extend(history::step(
            database,
            &subject.name.to_string(),
            &observed.connect,
            (observed.postgres.known().and_then(|facts| facts.read_to), wal),
            last,
        ));
        dashboards::desire(subject, observed, clickhouse, answers, &mut desired);
    }
    if let Some(kafka) = observed.kafka.known()
        && !sources.is_empty()
    {
        let dead_letter = topics::dead_letter(subject.spec);
        let ledger = observed.clickhouse.known().map(|facts| &facts.ledger);
        let spec = &subject.spec.kafka;
        let left = ledger.map(|ledger| topics::left(spec, &sources, &dead_letter, kafka, ledger));
        desired.left.extend(left.into_iter().flatten());
        let part = topics::steps(
            spec,
            &sources,
            &dead_letter,
            kafka,
            ledger,
            (subject.mark, gate.proof(System::Kafka)),
        );
        desired.take(ConditionType::ConnectorRunning, part);
    }
    desired.held =
        held::held((subject.name, subject.uid), &desired.steps, &desired.problems, &layouts, observed);
    desired
}

impl Desired {
    pub(super) fn take(&mut self, condition: ConditionType, part: Part) {
        self.steps.extend(part.steps);
        for problem in part.problems {
            self.problem(condition, problem);
        }
    }

    pub(super) fn problem(&mut self, condition: ConditionType, problem: super::part::Problem) {
        let super::part::Problem { object, reason, message } = problem;
        let found = match object.as_str() {
            "source" | "connector" | "" => Problem::of_all(condition, reason, message),
            _ => Problem::of(condition, object, reason, message),
        };
        if !self.problems.contains(&found) {
            self.problems.push(found);
        }
    }
}

fn source(
    subject: &Subject<'_>,
    sources: &[SourceTable],
    harmed: &BTreeSet<SourceTable>,
    postgres: &PostgresFacts,
    desired: &mut Desired,
) {
    for problem in source::preflight(postgres) {
        desired.problem(ConditionType::SourceReady, problem);
    }
    let named: Vec<SourceTable> = desired.tables.iter().map(|(source, _)| source.clone()).collect();
    let wanted = publication::Wanted { tables: sources, named: &named, harmed };
    let part = publication::steps(subject.name, subject.mark, &wanted, postgres);
    desired.take(ConditionType::SourceReady, part);
}

/// The keys of the tables that are told apart by another one than their primary key.
fn other_keys(sources: &[SourceTable], postgres: &PostgresFacts) -> BTreeMap<SourceTable, Vec<String>> {
    let other = |source: &SourceTable| {
        let key = source::key(postgres.tables.get(source)?).filter(|key| !key.primary)?;
        Some((source.clone(), key.columns.clone()))
    };
    sources.iter().filter_map(other).collect()
}

fn state(
    subject: &Subject<'_>,
    tables: &[ChosenTable],
    facts: &ClickHouseFacts,
    proof: Proof,
    desired: &mut Desired,
) {
    let database = &subject.spec.clickhouse.database;
    desired.take(ConditionType::TablesInSync, tables::bookkeeping(database, subject.mark, facts));
    desired.take(ConditionType::TablesInSync, tables::visible_view(database, subject.mark, facts, proof));
    if facts.ledger.incarnation.is_none() {
        desired.steps.push(Step {
            stage: Stage::Ledger,
            kind: StepKind::Create,
            what: "write the incarnation of the state tables into the ledger".into(),
            needs: vec![Fact::Bookkeeping],
            gives: Some(Fact::Incarnation),
            effect: Effect::Ledger {
                kind: Kind::Incarnation,
                key: String::new(),
                version: facts.ledger.next_version(Kind::Incarnation, ""),
                value: json!(incarnation(subject, facts)),
            },
        });
    }
    for ChosenTable { layout, storage, seen, .. } in tables {
        let mut part = tables::state(database, subject.mark, layout, storage.as_ref(), facts, Some(proof));
        if let Some(at) = seen {
            part.extend(reads::confirmation(layout, *at, facts));
        }
        desired.take(ConditionType::TablesInSync, part);
    }
}

/// The incarnation of new state tables: the same by whoever writes it down, so that of two that do neither undoes what
/// followed of the other. Where the ledger's table has no id it is a random one.
fn incarnation(subject: &Subject<'_>, facts: &ClickHouseFacts) -> String {
    let ledger = facts.objects.get(LEDGER_TABLE).map_or("", |table| &table.uuid);
    match subject.uid {
        Some(uid) if !ledger.is_empty() => short_hash(&format!("{} {uid} {ledger}", subject.name)),
        _ => subject.new_incarnation.to_owned(),
    }
}

/// Remembers which publication the log is decoded by, and since when.
fn decoded_by(observed: &Observed, clickhouse: &ClickHouseFacts, desired: &mut Desired) {
    let ledger = &clickhouse.ledger;
    let Some(postgres) = observed.postgres.known() else { return };
    let Some(oid) = postgres.publication.as_ref().map(|publication| publication.oid) else { return };
    if ledger.publication.is_some_and(|seen| seen.oid == oid) {
        return;
    }
    desired.steps.push(Step {
        stage: Stage::Ledger,
        kind: StepKind::Change,
        what: "remember the publication in the ledger".into(),
        needs: vec![Fact::Bookkeeping],
        gives: None,
        effect: Effect::Ledger {
            kind: Kind::Publication,
            key: String::new(),
            version: ledger.next_version(Kind::Publication, ""),
            value: json!(SeenPublication {
                oid,
                by: postgres.current_lsn,
                anew: ledger.publication.is_some()
            }),
        },
    });
}

fn all_views(
    subject: &Subject<'_>,
    layouts: &[TableLayout],
    facts: &ClickHouseFacts,
    (answers, proof): (&BTreeMap<String, Probe>, Proof),
    desired: &mut Desired,
) {
    // Without the account that they run as there are none of the user's: they would run as another one.
    let readable = subject.resolved.views.iter().filter(|_| subject.resolved.viewer.is_ok());
    let viewer = subject.resolved.viewer.as_ref().ok().and_then(Option::as_ref);
    let extra: BTreeMap<String, String> =
        readable.filter_map(|(name, sql)| Some((name.clone(), sql.as_ref().ok()?.clone()))).collect();
    let layouts: Vec<&TableLayout> = layouts.iter().collect();
    let input = ViewsInput {
        database: &subject.spec.clickhouse.database,
        mark: subject.mark,
        name: subject.name,
        views: &subject.spec.views,
        extra_sql: &extra,
        layouts: &layouts,
        has_query_log: facts.has_query_log,
        viewer: viewer.map(|login| Viewer { account: &login.username, maker: subject.maker() }),
    };
    let (all, problems): (Vec<View>, _) = views::views(&input);
    for problem in problems {
        desired.problem(ConditionType::ViewsInSync, problem);
    }
    let in_place = |view: &View| {
        facts
            .objects
            .get(&view.name)
            .is_some_and(|object| hash_in(&object.comment, subject.mark) == view.hash)
    };
    desired.questions = all
        .iter()
        .filter(|view| !answers.contains_key(&view.hash) && !in_place(view))
        .filter(|view| views::is_ready(&input, &all, view, facts))
        .map(|view| {
            let asked = Asked::Columns { sql: view.probe.clone(), as_viewer: view.definer.is_some() };
            Question { hash: view.hash.clone(), asked }
        })
        .collect();
    desired.views = all.iter().map(|view| view.name.clone()).collect();
    let held = held_back(subject, &all, facts, answers, desired);
    desired.take(ConditionType::ViewsInSync, views::steps(&input, &all, facts, answers, &held, proof));
    let is_named = |view: &&View| desired.problems.iter().any(|it| it.object.as_deref() == Some(&view.name));
    let open = all.iter().filter(|view| !in_place(view) && !is_named(view));
    desired.views_open = open.map(|view| view.name.clone()).collect();
}

/// The user's views whose change would break a panel, or may: they stay as they are until it is known.
fn held_back(
    subject: &Subject<'_>,
    all: &[View],
    facts: &ClickHouseFacts,
    answers: &BTreeMap<String, Probe>,
    desired: &mut Desired,
) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    let boards = dashboards::wanted(subject, facts).0;
    for view in all {
        let changed = facts.objects.get(&view.name).is_some_and(|object| {
            is_ours(&object.comment, subject.mark) && hash_in(&object.comment, subject.mark) != view.hash
        });
        let users = subject.spec.views.extra.iter().any(|extra| extra.name == view.name);
        let columns: &[_] = match answers.get(&view.hash) {
            Some(Probe::Columns(columns)) => columns,
            Some(Probe::Unknown) => &[],
            _ => continue,
        };
        if !changed || !users {
            continue;
        }
        let reads = |board: &Dashboard| board.queries().iter().any(|query| reads(&query.sql, &view.name));
        let readers: Vec<_> = boards.iter().filter(|(_, board)| reads(board)).cloned().collect();
        if readers.is_empty() {
            continue;
        }
        let models: String = readers.iter().map(|(_, board)| board.model.to_string()).collect();
        let hash = short_hash(&format!("replaced {} {models}", view.hash));
        match answers.get(&hash) {
            Some(Probe::Panels(faults)) if faults.is_empty() => continue,
            Some(Probe::Panels(faults)) => {
                let message = format!(
                    "view {} is held back and shows what it did, since its change would break {}: change the panel \
                     first, or keep what it reads",
                    view.name,
                    faults.join("; ")
                );
                let problem = super::part::Problem::new(&view.name, Reason::PanelFailed, message);
                desired.problem(ConditionType::ViewsInSync, problem);
            }
            _ => {
                // A text that runs as another account is nobody else's to ask with.
                let by_reader = view.definer.is_some();
                let select = if by_reader { statement::stand_in(columns) } else { view.select.clone() };
                let asked =
                    Asked::Replaced { view: view.name.clone(), select, dashboards: readers, by_reader };
                desired.questions.push(Question { hash, asked });
            }
        }
        held.insert(view.name.clone());
    }
    held
}

/// Whether a query names a view.
fn reads(sql: &str, view: &str) -> bool {
    sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == view)
}

fn sink(
    subject: &Subject<'_>,
    chosen: &Chosen,
    observed: &Observed,
    clickhouse: &ClickHouseFacts,
    desired: &mut Desired,
) {
    let Some(live) = observed.kubernetes.known() else {
        return;
    };
    // A table that cannot be made, for another owner's sits in its place, does not hold up the others.
    let refused = |layout: &&TableLayout| {
        let name = layout.source.to_string();
        let named = |problem: &Problem| {
            let object = problem.object.as_deref();
            object == Some(name.as_str()) || object == Some(layout.target.as_str())
        };
        clickhouse.ledger.newest(&layout.target).is_none() && desired.problems.iter().any(named)
    };
    let layouts: Vec<&TableLayout> =
        chosen.tables.iter().map(|table| &table.layout).filter(|layout| !refused(layout)).collect();
    let mut routes: Vec<(SourceTable, String)> =
        layouts.iter().map(|layout| (layout.source.clone(), layout.target.clone())).collect();
    routes.extend(chosen.kept.iter().cloned());
    if routes.is_empty() {
        return;
    }
    // Shown in the plan; never applied, since the steps need the incarnation.
    let incarnation = clickhouse.ledger.incarnation.as_deref().unwrap_or("known-after-apply");
    let config = match sink_config(subject.spec, subject.name, incarnation, &routes, subject.paths) {
        Ok(config) => config,
        Err(error) => {
            let message = format!("spec.sink: {error}");
            desired.problems.push(Problem::of_all(ConditionType::SpecValid, Reason::InvalidSpec, message));
            return;
        }
    };
    let input = SinkInput { name: subject.name, uid: subject.uid, image: subject.image, spec: subject.spec };
    let mut needs = vec![Fact::Incarnation];
    needs.extend(layouts.iter().map(|layout| Fact::Layout(layout.target.clone())));
    if !live.objects.keys().any(|name| name.starts_with("Deployment/")) {
        // The first one reads no topic before it is known whose the prefix is.
        let names = Topics { prefix: &subject.spec.kafka.topic_prefix };
        needs.push(Fact::Topic(names.owner(subject.mark)));
    }
    let objects = sink_objects(&input, &config);
    let condition = ConditionType::SinkAvailable;
    desired.left.extend(drift::left(&objects, live).into_iter().map(|left| Left::settled(condition, left)));
    let part = plan_sink_objects(&input, &objects, live, &needs);
    desired.take(ConditionType::SinkAvailable, part);
}

/// The connector and the reads: what brings changes, and what was there before.
fn change_data_capture(
    subject: &Subject<'_>,
    gate: &Gate,
    chosen: &Chosen,
    layouts: &[TableLayout],
    observed: &Observed,
    desired: &mut Desired,
) {
    let Some(clickhouse) = observed.clickhouse.known() else {
        return;
    };
    let sources = &chosen.sources();
    let ledger = &clickhouse.ledger;
    if let Some(row) = ledger.unreadable_of_all() {
        let message = format!(
            "row {row} of the ledger in {} cannot be read: it was written by a newer version of tidemark: run that \
             one; until then the connector is left as it is",
            subject.spec.clickhouse.database
        );
        desired.problems.push(Problem::of_all(ConditionType::TablesInSync, Reason::RemoteError, message));
        return;
    }
    let Some(connect) = observed.connect.known() else {
        return;
    };
    if sources.is_empty() && connect.connector.is_none() {
        return;
    }
    let reads_input = reads::ReadsInput {
        name: subject.name,
        mark: subject.mark,
        spec: subject.spec,
        layouts,
        refused: &chosen.refused,
        connect,
        postgres: observed.postgres.known(),
        kafka: observed.kafka.known(),
        clickhouse,
        request: subject.requests.get(reads::RESNAPSHOT).map(String::as_str),
        known_epoch: subject.known_epoch,
        gate,
    };
    let held = epochs::must_not_start(&reads_input);
    let input = connector::ConnectorInput {
        name: subject.name,
        mark: subject.mark,
        spec: subject.spec,
        postgres: subject.resolved.postgres.as_ref().ok().map(|account| &account.credentials),
        tables: sources,
        layouts,
        keys: observed.postgres.known().map(|postgres| other_keys(sources, postgres)),
        types: connector::types(ledger),
        epoch: ledger.epoch.unwrap_or(0),
        known_epoch: subject.known_epoch,
        held,
        gate,
    };
    desired.take(
        ConditionType::ConnectorRunning,
        connector::steps(&input, connect, observed.postgres.known(), ledger),
    );
    restart(subject, (connect, observed.postgres.known()), ledger, held, desired);
    desired.take(ConditionType::SourceReady, reads::steps(&reads_input));
    let (forgotten, known) = reads::interrupted(&reads_input);
    if !forgotten.is_empty() {
        for step in desired.steps.iter_mut().filter(|step| begins_to_stream(&step.effect)) {
            step.needs.push(known.clone());
        }
        desired.steps.extend(forgotten);
    }
}

/// Whether changes of tables may come after it that did not come before.
fn begins_to_stream(effect: &Effect) -> bool {
    matches!(effect, Effect::Connect(ConnectEffect::Create { .. } | ConnectEffect::PutConfig { .. }))
}

/// Restarts failed tasks: after a pause, or because somebody asks for it. One that nobody asks for is only named where it can
/// be: how long the pause has been is forgotten with the process, and what is to be done hangs on no memory.
fn restart(
    subject: &Subject<'_>,
    (connect, postgres): (&ConnectFacts, Option<&PostgresFacts>),
    ledger: &LedgerFacts,
    held: bool,
    desired: &mut Desired,
) {
    let failed = connect.connector.as_ref().is_some_and(|connector| {
        connector.state == "FAILED" || connector.tasks.iter().any(|task| task.state == "FAILED")
    });
    let asked = subject.requests.get("restart-connector").filter(|token| {
        ledger.requests.get("restart-connector") != Some(*token) && connect.connector.is_some() && !held
    });
    let is_published = postgres.is_some_and(|facts| facts.publication.is_some())
        || desired.steps.iter().any(|step| step.gives == Some(Fact::Publication));
    if (failed && subject.restart_due && !held && is_published) || asked.is_some() {
        desired.steps.push(Step {
            stage: Stage::Connector,
            kind: StepKind::Restart,
            what: "restart the connector's failed tasks".into(),
            // As everything that starts a task: see `connector::state_step`.
            needs: vec![Fact::Connector, Fact::Publication],
            gives: None,
            effect: Effect::Connect(ConnectEffect::RestartFailed(subject.name.connector())),
        });
    }
    if let Some(token) = asked {
        desired.steps.push(Step {
            stage: Stage::Request,
            kind: StepKind::Change,
            what: "answer the request restart-connector".into(),
            needs: vec![Fact::Bookkeeping, Fact::Publication],
            gives: None,
            effect: Effect::Ledger {
                kind: Kind::Request,
                key: "restart-connector".into(),
                version: ledger.next_version(Kind::Request, "restart-connector"),
                value: json!(token),
            },
        });
    }
}
