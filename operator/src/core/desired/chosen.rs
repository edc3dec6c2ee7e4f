//! Which layout each table of the spec has at this look, and which tables go on without a decision. Pure.

use std::collections::BTreeSet;

use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::history::Position;
use tidemark_crds::layout::{SourceTable, TableLayout};
use tidemark_crds::ledger::SeenStorage;
use tidemark_crds::pipeline::Table as SpecTable;

use super::claims::claim;
use super::layouts::{LayoutInput, decide};
use super::pipeline::{Desired, Subject};
use super::source::judge;
use super::topics;
use crate::core::facts::{LedgerFacts, Observed, PostgresFacts, SeenCatalogue};
use crate::core::problem::Problem;

/// One table with its newest layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The layout.
    pub layout: TableLayout,
    /// What there is to remember of the source's files.
    pub storage: Option<SeenStorage>,
    /// Up to where this look saw the catalogue to be that of the layout; absent: it did not look, or it is not.
    pub seen: Option<Position>,
}

/// The tables of the spec.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Those with a layout.
    pub tables: Vec<Table>,
    /// Targets of those that stand by a former layout, for what the source has now is refused.
    pub refused: BTreeSet<String>,
    /// Tables that must not be followed: PostgreSQL would refuse their own UPDATE and DELETE, or the connector would end.
    pub harmed: BTreeSet<SourceTable>,
    /// Captured tables of which nothing can be decided now: they go on as they are.
    pub kept: Vec<(SourceTable, String)>,
}

impl Chosen {
    /// Every table that is captured.
    pub fn sources(&self) -> Vec<SourceTable> {
        let tables = self.tables.iter().map(|table| table.layout.source.clone());
        let all = tables.chain(self.kept.iter().map(|(source, _)| source.clone()));
        all.filter(|source| !self.harmed.contains(source)).collect()
    }

    fn goes_on(&mut self, layout: &TableLayout) {
        self.tables.push(Table { layout: layout.clone(), storage: None, seen: None });
    }
}

/// Decides the layout of each table; where the source cannot be seen the ledger's newest stays.
pub fn chosen(subject: &Subject<'_>, observed: &Observed, desired: &mut Desired) -> Chosen {
    let nothing = LedgerFacts::default();
    let ledger = observed.clickhouse.known().map_or(&nothing, |facts| &facts.ledger);
    let publication = subject.name.publication();
    let mut chosen = Chosen::default();
    let wanted = subject.spec.all_tables();
    let mut topics = topics::Names::new(&subject.spec.kafka.topic_prefix);
    for table in &wanted {
        let Ok(source) = table.name.parse::<SourceTable>() else {
            continue;
        };
        let target = table.target_name().to_owned();
        desired.tables.push((source.clone(), target.clone()));
        if let Err(problem) = topics.claim(&source) {
            desired.problem(ConditionType::SourceReady, problem);
            continue;
        }
        if let Some(row) = ledger.unreadable_of(&target) {
            let message = format!(
                "table {source}: row {row} of the ledger cannot be read: it was written by a newer version of \
                 tidemark: run that one; until then the table goes on as it is"
            );
            refuse(&source, ConditionType::TablesInSync, Reason::RemoteError, message, desired);
            chosen.kept.push((source, target));
            continue;
        }
        let newest = ledger.newest(&target);
        if let (None, Some(owner)) = (newest, claim(&subject.spec.views, &wanted, table)) {
            let message = format!("table {source}: {owner}: choose another spec.tables[].target");
            refuse(&source, ConditionType::TablesInSync, Reason::Conflict, message, desired);
            continue;
        }
        match observed.postgres.known() {
            Some(postgres) => {
                let look = Look { publication: &publication, postgres, ledger, observed };
                one(table, &source, look, &mut chosen, desired);
            }
            None => newest.into_iter().for_each(|layout| chosen.goes_on(layout)),
        }
    }
    chosen
}

/// What a table is decided from.
#[derive(Clone, Copy)]
struct Look<'a> {
    publication: &'a str,
    postgres: &'a PostgresFacts,
    ledger: &'a LedgerFacts,
    observed: &'a Observed,
}

fn one(table: &SpecTable, source: &SourceTable, look: Look<'_>, chosen: &mut Chosen, desired: &mut Desired) {
    let Look { publication, postgres, ledger, observed } = look;
    let target = table.target_name();
    let newest = ledger.newest(target);
    let Some(facts) = postgres.tables.get(source) else {
        let message = format!(
            "table {source} does not exist at the source, or the role {} may not see it: create it, or remove it \
             from spec.tables",
            postgres.role
        );
        refuse(source, ConditionType::SourceReady, Reason::TableNotFound, message, desired);
        // It may be made anew the next moment.
        if let Some(layout) = newest {
            chosen.refused.insert(target.to_owned());
            chosen.goes_on(layout);
        }
        return;
    };
    if let Err(unfit) = judge(source, facts, postgres, publication) {
        let hurts = unfit.hurts;
        refuse(source, ConditionType::SourceReady, unfit.reason, unfit.message, desired);
        // What runs goes on; where that does harm, all but its being published and streamed.
        if hurts {
            chosen.harmed.insert(source.clone());
            chosen.refused.insert(target.to_owned());
            if let Some(layout) = newest {
                chosen.goes_on(layout);
            }
        }
        if hurts || newest.is_none() {
            return;
        }
    }
    let epoch = ledger.epoch.unwrap_or(0);
    let noted = ledger.confirmed.get(target).map(SeenCatalogue::from);
    let decision = decide(&LayoutInput {
        table,
        source: facts,
        history: ledger.history(target),
        state: observed
            .clickhouse
            .known()
            .and_then(|facts| facts.objects.get(target))
            .map_or(&[], |object| object.columns.as_slice()),
        seen: observed.seen.get(target).copied().into_iter().chain(noted).max(),
        storage: ledger.storages.get(target),
        epoch,
        by: postgres.current_lsn,
    });
    match decision {
        Ok(decision) => {
            // While somebody alters it, events of what it becomes may lie before this position.
            let as_known = newest == Some(&decision.layout) && !facts.altering && postgres.lsn_before > 0;
            let seen = as_known.then_some((epoch, postgres.lsn_before));
            if let Some(at) = seen {
                let layout = decision.layout.version;
                desired.seen.insert(target.to_owned(), SeenCatalogue { layout, at });
            }
            chosen.tables.push(Table { layout: decision.layout, storage: decision.storage, seen });
        }
        Err(problem) => {
            desired.problem(ConditionType::TablesInSync, problem);
            // What runs goes on with the layout that it has.
            if let Some(layout) = newest {
                chosen.refused.insert(target.to_owned());
                chosen.goes_on(layout);
            }
        }
    }
}

fn refuse(
    source: &SourceTable,
    condition: ConditionType,
    reason: Reason,
    message: String,
    desired: &mut Desired,
) {
    desired.problems.push(Problem::of(condition, source.to_string(), reason, message));
}
