//! ClickHouse after a statement, and after a row of the ledger. Pure.

use serde_json::Value;
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE, READS_TABLE, STATES_TABLE,
    VERIFICATION_TABLE,
};

use super::GIVEN;
use crate::core::effect::{CarriedTable, ClickHouseEffect, Merge, TableDefinition, ViewDefinition};
use crate::core::facts::{ClickHouseFacts, ClickHouseObject, LedgerFacts, RefreshFacts};
use crate::core::ledger::{LedgerRow, note};

pub(super) fn statement(effect: &ClickHouseEffect, facts: &mut ClickHouseFacts) {
    match effect {
        ClickHouseEffect::CreateDatabase(database) => {
            facts.database_exists = true;
            facts.database_uuid = format!("{GIVEN}database {}", database.name);
        }
        ClickHouseEffect::CreateTable(table) => create_table(table, facts),
        ClickHouseEffect::CarryOver(table) => carry_over(table, facts),
        ClickHouseEffect::AddColumn(table, column) => {
            if let Some(live) = facts.objects.get_mut(&table.name) {
                live.columns.push((column.name.clone(), column.kind.clone()));
            }
        }
        ClickHouseEffect::WidenColumn(table, column) => {
            let live = facts.objects.get_mut(&table.name).map(|live| &mut live.columns);
            let live = live.and_then(|columns| columns.iter_mut().find(|(name, _)| *name == column.name));
            if let Some((_, kind)) = live {
                kind.clone_from(&column.kind);
            }
        }
        ClickHouseEffect::CreateView(view) => make(view, "View", facts),
        ClickHouseEffect::ReplaceView(view) => make(view, "View", facts),
        ClickHouseEffect::CreateRefresh(refresh) => {
            make(&refresh.view, "MaterializedView", facts);
            let made = RefreshFacts { status: "Scheduled".to_owned(), ..RefreshFacts::default() };
            facts.refreshes.insert(refresh.view.name.clone(), made);
        }
        ClickHouseEffect::Record(row) => facts.connector = Some(row.record.clone()),
        ClickHouseEffect::Drop(name) => remove(&name.name, facts),
    }
}

fn create_table(table: &TableDefinition, facts: &mut ClickHouseFacts) {
    let engine = if table.merge == Merge::All { "MergeTree" } else { "ReplacingMergeTree" };
    let made = ClickHouseObject {
        engine: engine.to_owned(),
        comment: table.comment.clone(),
        columns: table.columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect(),
        uuid: format!("{GIVEN}table {}", table.name.name),
    };
    facts.objects.insert(table.name.name.clone(), made);
}

fn carry_over(table: &CarriedTable, facts: &mut ClickHouseFacts) {
    let Some(older) = facts.objects.get(&table.from) else { return };
    let mut columns = older.columns.clone();
    columns.retain(|(name, _)| !table.without.contains(name));
    for (column, before) in &table.with {
        let place = before.as_ref().and_then(|before| columns.iter().position(|(name, _)| name == before));
        columns.insert(place.map_or(0, |place| place + 1), (column.name.clone(), column.kind.clone()));
    }
    let made = ClickHouseObject {
        engine: older.engine.clone(),
        comment: table.comment.clone(),
        columns,
        uuid: format!("{GIVEN}table {}", table.name.name),
    };
    facts.objects.insert(table.name.name.clone(), made);
}

fn make(view: &ViewDefinition, engine: &str, facts: &mut ClickHouseFacts) {
    let made = ClickHouseObject {
        engine: engine.to_owned(),
        comment: view.comment.clone(),
        columns: view.columns.clone(),
        uuid: format!("{GIVEN}view {}", view.name),
    };
    facts.objects.insert(view.name.clone(), made);
}

/// A table goes with what it says.
fn remove(name: &str, facts: &mut ClickHouseFacts) {
    facts.objects.remove(name);
    facts.refreshes.remove(name);
    match name {
        LEDGER_TABLE => facts.ledger = LedgerFacts::default(),
        FENCES_TABLE => facts.fences.clear(),
        PROGRESS_TABLE => facts.progress.clear(),
        STATES_TABLE => facts.states.clear(),
        READS_TABLE => facts.reads.clear(),
        VERIFICATION_TABLE => facts.verification.clear(),
        CONNECTOR_TABLE => facts.connector = None,
        _ => {}
    }
}

pub(super) fn row((kind, key): (Kind, &str), version: u64, value: &Value, ledger: &mut LedgerFacts) {
    let row =
        LedgerRow { kind: kind.as_str().to_owned(), key: key.to_owned(), version, value: value.to_string() };
    note(row, ledger);
}
