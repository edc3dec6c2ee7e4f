//! A ClickHouse server: databases with tables and views, the ledger's rows, the rows of state tables.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, ConnectorRecord, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE, READS_TABLE,
    STATES_TABLE, SinkState, VERIFICATION_TABLE,
};
use tidemark_crds::pipeline::Table;
use tidemark_crds::version::Version;
use tidemark_operator::core::desired::part::is_ours;
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::core::effect::{ClickHouseEffect, Merge, TableDefinition, ViewDefinition};
use tidemark_operator::core::facts::{
    ClickHouseFacts, ClickHouseObject, Failure, LedgerFacts, PartitionProgress, ProgressFacts, ReadFacts,
    RefreshFacts, VerificationFacts,
};
use tidemark_operator::core::ledger::{LedgerRow, facts_of};

use super::estate::{Ids, remote};

/// When tables were compared, milliseconds since 1970: the plans are shorter than any `maxAge` here.
const COMPARED_MS: i64 = 1_800_000_000_000;
/// Partitions of each topic that the sinks report.
const PARTITIONS: i32 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    pub(super) uuid: String,
    pub(super) databases: BTreeMap<String, Database>,
    /// Whether databases may be made.
    pub(super) may_create: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Database {
    pub(super) uuid: String,
    pub(super) objects: BTreeMap<String, ClickHouseObject>,
    /// `(pipeline, kind, key)` → version and value.
    pub(super) ledger: BTreeMap<(String, String, String), (u64, Value)>,
    /// Greatest fence of each target.
    pub(super) fences: BTreeMap<String, Version>,
    /// Next offset of the first partition: pipeline and target.
    pub(super) progress: BTreeMap<(String, String), i64>,
    /// Id of the topic that it is of.
    pub(super) topics: BTreeMap<(String, String), String>,
    pub(super) states: BTreeMap<(String, String), SinkState>,
    pub(super) reads: BTreeMap<(String, String), ReadFacts>,
    pub(super) history: BTreeMap<String, ConnectorRecord>,
    /// Rows of each state table, by its uuid.
    pub(super) rows: BTreeMap<String, Rows>,
}

/// What a state table has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rows {
    /// Changes that were read at the source, by the version of the read.
    pub(super) read: BTreeMap<Version, BTreeSet<u64>>,
    /// Changes that were applied from the stream: version of the row and position of the change.
    pub(super) applied: BTreeSet<(Version, u64)>,
}

impl Rows {
    /// Positions of the changes that are behind a fence.
    pub(super) fn shown(&self, fence: Version) -> BTreeSet<u64> {
        let read = self.read.range(fence..).flat_map(|(_, changes)| changes.iter().copied());
        let applied = self.applied.iter().filter(|(version, _)| *version >= fence).map(|(_, lsn)| *lsn);
        read.chain(applied).collect()
    }
}

impl Server {
    pub(super) fn new(ids: &mut Ids) -> Self {
        Self { uuid: ids.name("clickhouse"), databases: BTreeMap::new(), may_create: true }
    }

    pub(super) fn look(&self, subject: &Subject<'_>, now_ms: i64) -> ClickHouseFacts {
        let server = ClickHouseFacts {
            server_uuid: self.uuid.clone(),
            version: "26.7.2.1".into(),
            has_query_log: true,
            ..ClickHouseFacts::default()
        };
        match self.databases.get(&subject.spec.clickhouse.database) {
            None => server,
            Some(database) => database.look(server, subject, now_ms),
        }
    }

    pub(super) fn act(
        &mut self,
        mark: &str,
        effect: &ClickHouseEffect,
        ids: &mut Ids,
    ) -> Result<(), Failure> {
        match effect {
            ClickHouseEffect::CreateDatabase(_) if !self.may_create => {
                Err(remote("not enough privileges".into()))
            }
            ClickHouseEffect::CreateDatabase(database) => {
                self.databases.entry(database.name.clone()).or_insert_with(|| Database::new(ids));
                Ok(())
            }
            ClickHouseEffect::CreateTable(table) => {
                self.database(&table.name.database)?.create_table(table, ids);
                Ok(())
            }
            ClickHouseEffect::CarryOver(table) => {
                let database = self.database(&table.name.database)?;
                let older = database.object(&table.from)?.clone();
                let mut columns = older.columns;
                columns.retain(|(name, _)| !table.without.contains(name));
                columns
                    .extend(table.with.iter().map(|(column, _)| (column.name.clone(), column.kind.clone())));
                let made = ClickHouseObject { columns, ..object(&older.engine, &table.comment, ids) };
                database.objects.entry(table.name.name.clone()).or_insert(made);
                Ok(())
            }
            ClickHouseEffect::AddColumn(table, column) => {
                let columns = &mut self.database(&table.database)?.object(&table.name)?.columns;
                if !columns.iter().any(|(name, _)| *name == column.name) {
                    columns.push((column.name.clone(), column.kind.clone()));
                }
                Ok(())
            }
            ClickHouseEffect::WidenColumn(table, column) => {
                let columns = &mut self.database(&table.database)?.object(&table.name)?.columns;
                let live = columns.iter_mut().find(|(name, _)| *name == column.name);
                live.ok_or_else(|| remote("no such column".into()))?.1.clone_from(&column.kind);
                Ok(())
            }
            ClickHouseEffect::CreateView(view) => {
                self.database(&view.database)?.create_view(view, ids, false)
            }
            ClickHouseEffect::CreateRefresh(refresh) => {
                let database = self.database(&refresh.view.database)?;
                database.object(&refresh.to)?;
                let made = object("MaterializedView", &refresh.view.comment, ids);
                database.objects.entry(refresh.view.name.clone()).or_insert(made);
                Ok(())
            }
            ClickHouseEffect::Record(row) => {
                let database = self.database(&row.database)?;
                database.object(CONNECTOR_TABLE)?;
                database.history.insert(row.pipeline.clone(), row.record.clone());
                Ok(())
            }
            ClickHouseEffect::ReplaceView(view) => {
                let database = self.database(&view.database)?;
                let is_right =
                    |live: &ClickHouseObject| live.engine == "View" && is_ours(&live.comment, mark);
                if !database.objects.get(&view.name).is_none_or(is_right) {
                    return Err(remote(format!("{} is another object than a moment ago", view.name)));
                }
                database.create_view(view, ids, true)
            }
            ClickHouseEffect::Drop(name) => {
                let database = self.database(&name.database)?;
                if database.objects.get(&name.name).is_some_and(|live| live.comment != name.comment) {
                    return Err(remote(format!("{} is another object than a moment ago", name.name)));
                }
                database.remove(&name.name);
                Ok(())
            }
        }
    }

    /// A row of the ledger; the greatest version stays.
    pub(super) fn note(
        &mut self,
        database: &str,
        row: (String, String, String),
        version: u64,
        value: &Value,
    ) -> Result<(), Failure> {
        let database = self.database(database)?;
        database.object(LEDGER_TABLE)?;
        let live = database.ledger.entry(row).or_insert((0, Value::Null));
        // Of two rows with the same version a merge keeps the last one.
        if version >= live.0 {
            *live = (version, value.clone());
        }
        Ok(())
    }

    pub(super) fn fence(&mut self, database: &str, table: &str, version: Version) -> Result<(), Failure> {
        let database = self.database(database)?;
        database.object(FENCES_TABLE)?;
        let live = database.fences.entry(table.to_owned()).or_default();
        *live = version.max(*live);
        Ok(())
    }

    fn database(&mut self, name: &str) -> Result<&mut Database, Failure> {
        self.databases.get_mut(name).ok_or_else(|| remote(format!("database {name} does not exist")))
    }
}

fn object(engine: &str, comment: &str, ids: &mut Ids) -> ClickHouseObject {
    ClickHouseObject {
        engine: engine.into(),
        comment: comment.into(),
        columns: Vec::new(),
        uuid: ids.name("table"),
    }
}

impl Database {
    pub(super) fn new(ids: &mut Ids) -> Self {
        Self {
            uuid: ids.name("database"),
            objects: BTreeMap::new(),
            ledger: BTreeMap::new(),
            fences: BTreeMap::new(),
            progress: BTreeMap::new(),
            topics: BTreeMap::new(),
            states: BTreeMap::new(),
            reads: BTreeMap::new(),
            history: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Plants an object of somebody else.
    pub(super) fn plant(&mut self, name: &str, engine: &str, comment: &str, ids: &mut Ids) {
        self.objects.insert(name.into(), object(engine, comment, ids));
    }

    fn object(&mut self, name: &str) -> Result<&mut ClickHouseObject, Failure> {
        self.objects.get_mut(name).ok_or_else(|| remote(format!("table {name} does not exist")))
    }

    fn create_table(&mut self, table: &TableDefinition, ids: &mut Ids) {
        let engine = if table.merge == Merge::All { "MergeTree" } else { "ReplacingMergeTree" };
        let columns = table.columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
        let made = ClickHouseObject { columns, ..object(engine, &table.comment, ids) };
        self.objects.entry(table.name.name.clone()).or_insert(made);
    }

    fn create_view(&mut self, view: &ViewDefinition, ids: &mut Ids, replaces: bool) -> Result<(), Failure> {
        if !replaces && self.objects.contains_key(&view.name) {
            return Err(remote(format!("table {} already exists", view.name)));
        }
        // A view over the table of a refresh has its columns.
        let table = self
            .objects
            .iter()
            .find(|(name, live)| live.engine == "MergeTree" && view.select.contains(&format!("`{name}`")));
        let mut columns = table.map_or_else(|| self.shown(&view.select), |(_, live)| live.columns.clone());
        if columns.is_empty() {
            // What it computes is what ClickHouse said when it was asked.
            columns.clone_from(&view.columns);
        }
        let made = ClickHouseObject { columns, ..object("View", &view.comment, ids) };
        self.objects.insert(view.name.clone(), made);
        Ok(())
    }

    /// Columns of a `_current` view: `NAME`, or `ROW.NAME AS TARGET`, of one state table.
    fn shown(&self, select: &str) -> Vec<(String, String)> {
        let Some((list, rest)) = select.trim_start_matches("SELECT ").split_once(" FROM ") else {
            return Vec::new();
        };
        let from = rest.split(' ').next().unwrap_or_default();
        let table = self.objects.iter().find(|(name, _)| from.ends_with(&format!(".`{name}`")));
        let Some((_, table)) = table else { return Vec::new() };
        let plain = |text: &str| text.rsplit('.').next().unwrap_or_default().trim_matches('`').to_owned();
        let column = |item: &str| {
            let (stored, target) = item.split_once(" AS ").unwrap_or((item, item));
            let kind = table.columns.iter().find(|(name, _)| *name == plain(stored))?.1.clone();
            Some((plain(target), kind))
        };
        list.split(", ").filter_map(column).collect()
    }

    /// Drops a table with what it has.
    pub(super) fn remove(&mut self, name: &str) {
        let Some(gone) = self.objects.remove(name) else { return };
        self.rows.remove(&gone.uuid);
        match name {
            LEDGER_TABLE => self.ledger.clear(),
            FENCES_TABLE => self.fences.clear(),
            PROGRESS_TABLE => {
                self.progress.clear();
                self.topics.clear();
            }
            STATES_TABLE => self.states.clear(),
            READS_TABLE => self.reads.clear(),
            CONNECTOR_TABLE => self.history.clear(),
            _ => {}
        }
    }

    /// The epoch that the ledger has of a pipeline.
    pub(super) fn epoch_of(&self, pipeline: &str) -> Option<u16> {
        let row = (pipeline.to_owned(), Kind::Epoch.as_str().to_owned(), String::new());
        u16::try_from(self.ledger.get(&row)?.1.as_u64()?).ok()
    }

    /// What the ledger says of a pipeline.
    pub(super) fn ledger_of(&self, pipeline: &str) -> LedgerFacts {
        let own = self.ledger.iter().filter(|((of, ..), _)| of == pipeline);
        let row = |((_, kind, key), (version, value)): (&(String, String, String), &(u64, Value))| {
            LedgerRow { kind: kind.clone(), key: key.clone(), version: *version, value: value.to_string() }
        };
        facts_of(own.map(row).collect())
    }

    fn look(&self, server: ClickHouseFacts, subject: &Subject<'_>, now_ms: i64) -> ClickHouseFacts {
        let pipeline = subject.name.to_string();
        let ledger = self.ledger_of(&pipeline);
        let wanted = subject.spec.all_tables();
        let targets: Vec<&str> = wanted.iter().map(Table::target_name).collect();
        let asks_epochs = ledger.epoch.is_none();
        let greatest = |target: &&str| {
            let rows = self.rows.get(&self.objects.get(*target)?.uuid)?;
            let versions = rows.read.keys().copied().chain(rows.applied.iter().map(|(version, _)| *version));
            Some(((*target).to_owned(), versions.map(Version::epoch).max()?))
        };
        let greatest_epochs =
            if asks_epochs { targets.iter().filter_map(greatest).collect() } else { BTreeMap::new() };
        let of_pipeline = |of: &str| of == pipeline;
        let refreshed = |live: &ClickHouseObject| live.engine == "MaterializedView";
        let progress = |next_offset: i64| PartitionProgress {
            next_offset,
            fresh_to_ms: now_ms,
            applied_at_ms: now_ms,
            dead_letters: 0,
            dead_at: (0, 0),
        };
        ClickHouseFacts {
            database_uuid: self.uuid.clone(),
            database_exists: true,
            objects: self.objects.clone(),
            ledger,
            fences: self.fences.clone(),
            greatest_epochs,
            progress: (self.progress.iter().filter(|((of, _), _)| of_pipeline(of)))
                .map(|((_, target), next)| {
                    let others = (1..PARTITIONS).map(|partition| (partition, progress(0)));
                    let partitions = others.chain([(0, progress(*next))]).collect();
                    (target.clone(), ProgressFacts { partitions })
                })
                .collect(),
            states: (self.states.iter().filter(|((of, _), _)| of_pipeline(of)))
                .map(|((_, target), state)| (target.clone(), [("sink-0".to_owned(), state.clone())].into()))
                .collect(),
            reads: (self.reads.iter().filter(|((of, _), _)| of_pipeline(of)))
                .map(|((_, target), read)| (target.clone(), read.clone()))
                .collect(),
            // What was read is compared once, by a sink that is quick.
            verification: (self.reads.iter().filter(|((of, _), _)| of_pipeline(of)))
                .filter(|(_, read)| read.state == "read" && self.objects.contains_key(VERIFICATION_TABLE))
                .map(|((_, target), _)| {
                    let facts = VerificationFacts {
                        from_ms: COMPARED_MS,
                        per_mille: 1000,
                        ..VerificationFacts::default()
                    };
                    (target.clone(), facts)
                })
                .collect(),
            connector: self.history.get(&pipeline).cloned(),
            refreshes: (self.objects.iter().filter(|(_, live)| refreshed(live)))
                .map(|(name, _)| {
                    let facts = RefreshFacts {
                        status: "Scheduled".into(),
                        last_success_ms: now_ms,
                        ..RefreshFacts::default()
                    };
                    (name.clone(), facts)
                })
                .collect(),
            ..server
        }
    }
}
