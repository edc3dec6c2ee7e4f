//! Views of the preset and of the user: what each is, and what is missing of them. Pure.
//!
//! A refreshed view NAME is three objects: a table `NAME__<hash of its columns>`, the refresh `NAME__refresh`
//! that fills it, and a plain view NAME over the table. Where the user's views run as an account of their own it is four: a
//! refresh asks whoever it runs as for the right to make tables, so it runs as the operator's account and reads a plain
//! view `NAME__source`, which runs as that other one. The COMMENT holds our mark and a hash of all that the
//! view is made of, so that one that did not change is never written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::{
    CONNECTOR_TABLE, LEDGER_TABLE, PROGRESS_TABLE, READS_TABLE, STATES_TABLE, VERIFICATION_TABLE,
    VISIBLE_VIEW,
};
use tidemark_crds::names::{PipelineName, short_hash};
use tidemark_crds::pipeline::{ExtraView, MaterializationType, Policy, Preset as PresetChoice, Views};
use tidemark_crds::quote::{ident_list, qualified};

use super::part::{Part, Problem, conflict, hash_in, is_ours};
use super::preset::{Computed, Filling, Object, Preset, SELF, ecommerce};
use super::sql_lint;
use super::tables::is_state_table;
use crate::core::effect::{
    CarriedTable, ClickHouseEffect, ClickHouseName, ColumnDefinition, Effect, Keep, Merge, RefreshDefinition,
    TableDefinition, TableName, ViewDefinition,
};
use crate::core::facts::{ClickHouseFacts, ClickHouseObject};
use crate::core::gate::Proof;
use crate::core::statement;
use crate::core::step::{Fact, Stage, Step, StepKind};

/// What the views are built from.
#[derive(Debug, Clone, Copy)]
pub struct ViewsInput<'a> {
    /// Target database.
    pub database: &'a str,
    /// Mark of the pipeline.
    pub mark: &'a str,
    /// The pipeline.
    pub name: &'a PipelineName,
    /// The spec's part about views.
    pub views: &'a Views,
    /// SELECT of each of the user's views whose source could be read.
    pub extra_sql: &'a BTreeMap<String, String>,
    /// Layouts of the state tables.
    pub layouts: &'a [&'a TableLayout],
    /// Whether ClickHouse keeps a log of queries.
    pub has_query_log: bool,
    /// Whom the user's views run as; absent: the operator's account.
    pub viewer: Option<Viewer<'a>>,
}

/// An account that views run as which another one makes.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// The account.
    pub account: &'a str,
    /// The one that makes the views.
    pub maker: &'a str,
}

/// How a view is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Materialization {
    /// At each query.
    View,
    /// At an interval, into a table.
    Refresh {
        /// Seconds between two refreshes.
        every_s: u64,
        /// Sorting key of the table.
        order_by: Vec<String>,
        /// Refreshes that come first.
        after: Vec<String>,
        /// Days for which rows stay that each refresh adds; absent: a refresh replaces all rows.
        keep_days: Option<u32>,
    },
}

/// One view as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub materialization: Materialization,
    /// Its SELECT.
    pub select: String,
    /// The account that it runs as, and that is asked what it is; absent: the operator's.
    pub definer: Option<String>,
    /// Objects of the target database that it reads.
    pub depends_on: Vec<String>,
    /// Hash of all that it is made of, the types of the columns that it reads included.
    pub hash: String,
    /// The query whose answer is its columns.
    pub probe: String,
}

/// What ClickHouse says to a view's probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Its columns: name and type text.
    Columns(Vec<(String, String)>),
    /// It was not asked, for what the view reads is not there yet: it is taken to be right, as
    /// [`foresee`](crate::core::foresee::foresee) does.
    Unknown,
    /// Why it cannot be.
    Refused(String),
    /// The account that it runs as may not read what it reads, or not log in.
    Denied(String),
    /// What is wrong with a dashboard's panels, one line each; empty: all of them answered.
    Panels(Vec<String>),
}

/// All views that should be there, in the order in which they are made, and what keeps others from it.
pub fn views(input: &ViewsInput<'_>) -> (Vec<View>, Vec<Problem>) {
    let mut made: Vec<View> = Vec::new();
    let mut problems = Vec::new();
    if input.layouts.is_empty() {
        return (made, problems);
    }
    if input.views.preset == PresetChoice::Ecommerce {
        preset_views(input, ecommerce(), &mut made, &mut problems);
    }
    for extra in &input.views.extra {
        // A source that could not be read is another part's problem.
        let Some(sql) = input.extra_sql.get(&extra.name) else {
            continue;
        };
        match extra_view(input, extra, sql, &made) {
            Ok(view) => made.push(view),
            Err(problem) => problems.push(problem),
        }
    }
    (made, problems)
}

fn preset_views(input: &ViewsInput<'_>, preset: &Preset, made: &mut Vec<View>, problems: &mut Vec<Problem>) {
    let filling =
        Filling { database: input.database, name: input.name, views: input.views, layouts: input.layouts };
    let lacking = lacking(input, preset);
    for object in preset.objects.iter().filter(|object| input.has_query_log || !object.needs_query_log) {
        let select = preset.select(object, &filling);
        let text: BTreeSet<String> = sql_lint::words(Preset::template(object)).collect();
        let missing: Vec<String> = lacking
            .iter()
            .filter(|(table, column)| {
                let reads = text.contains(table.as_str()) || text.contains(&format!("{table}_current"));
                reads && column.is_none_or(|column| text.contains(column))
            })
            .map(|(table, column)| {
                column.map_or_else(|| format!("table {table}"), |c| format!("{table}.{c}"))
            })
            .collect();
        let missing_views =
            object.depends_on.iter().filter(|name| !made.iter().any(|view| view.name == **name)).cloned();
        let missing: Vec<String> = missing.into_iter().chain(missing_views).collect();
        if is_taken(input, &object.name) {
            let message = format!(
                "view {}: a table of this pipeline has that name: give it another spec.tables[].target",
                object.name
            );
            problems.push(Problem::new(&object.name, Reason::Conflict, message));
        } else if missing.is_empty() {
            made.push(preset_view(input, object, select, made));
        } else {
            let message = format!(
                "view {} needs {}: add it to spec.tables, or map a column of another name onto it with \
                 spec.tables[].columns[].target",
                object.name,
                missing.join(", ")
            );
            problems.push(Problem::new(&object.name, Reason::MissingColumns, message));
        }
    }
}

/// Tables and columns that the preset reads and no layout has; `None`: the whole table.
fn lacking<'a>(input: &ViewsInput<'_>, preset: &'a Preset) -> Vec<(&'a String, Option<&'a String>)> {
    let mut lacking = Vec::new();
    for (table, columns) in &preset.requires {
        match input.layouts.iter().find(|layout| layout.target == *table) {
            None => lacking.push((table, None)),
            Some(layout) => lacking.extend(
                columns
                    .iter()
                    .filter(|column| !layout.columns.iter().any(|known| known.target == **column))
                    .map(|column| (table, Some(column))),
            ),
        }
    }
    lacking
}

/// Whether a state table or its view has a name.
fn is_taken(input: &ViewsInput<'_>, name: &str) -> bool {
    (input.layouts.iter()).any(|layout| layout.target == name || format!("{}_current", layout.target) == name)
}

fn preset_view(input: &ViewsInput<'_>, object: &Object, select: String, made: &[View]) -> View {
    let materialization = match object.materialization {
        Computed::View => Materialization::View,
        Computed::Refresh => Materialization::Refresh {
            every_s: seconds(&input.views.refresh_interval),
            order_by: object.order_by.clone(),
            keep_days: object.keep_days,
            after: object
                .depends_on
                .iter()
                .filter(|name| {
                    made.iter()
                        .any(|view| view.name == **name && view.materialization != Materialization::View)
                })
                .cloned()
                .collect(),
        },
    };
    view(input, &object.name, materialization, (select, None), made)
}

fn extra_view(input: &ViewsInput<'_>, extra: &ExtraView, sql: &str, made: &[View]) -> Result<View, Problem> {
    let name = &extra.name;
    if let Some(wrong) = sql_lint::lint(sql, input.database) {
        return Err(Problem::new(name, Reason::InvalidView, format!("view {name}: {wrong}")));
    }
    let is_source = || input.views.extra.iter().any(|other| source_of(&other.name) == *name);
    let taken = made.iter().any(|view| view.name == *name) || is_taken(input, name) || is_source();
    if taken || name.starts_with("_tidemark") {
        let message =
            format!("view {name}: another table or view of this pipeline has that name: choose another");
        return Err(Problem::new(name, Reason::InvalidView, message));
    }
    let every = extra.materialization.every.as_ref().unwrap_or(&input.views.refresh_interval);
    let materialization = match extra.materialization.r#type {
        MaterializationType::View => Materialization::View,
        MaterializationType::Refresh => {
            let every_s = seconds(every);
            Materialization::Refresh { every_s, order_by: Vec::new(), after: Vec::new(), keep_days: None }
        }
    };
    let definer = input.viewer.map(|viewer| viewer.account.to_owned());
    Ok(view(input, name, materialization, (sql.trim().to_owned(), definer), made))
}

fn seconds(text: &str) -> u64 {
    // The schema's pattern admits nothing else; a refresh of less than a second is one of a second.
    duration::milliseconds(text).map_or(30, |ms| ms.div_ceil(1000)).max(1)
}

fn view(
    input: &ViewsInput<'_>,
    name: &str,
    materialization: Materialization,
    (select, definer): (String, Option<String>),
    made: &[View],
) -> View {
    let words: BTreeSet<String> = sql_lint::words(&select).collect();
    let mut depends_on = Vec::new();
    let mut basis = format!("{materialization:?}\n{select}");
    if let Some(definer) = &definer {
        let _ = write!(basis, "\nas {definer}");
    }
    for layout in input.layouts {
        let current = format!("{}_current", layout.target);
        for object in [&layout.target, &current].into_iter().filter(|object| words.contains(object.as_str()))
        {
            depends_on.push(object.clone());
            for column in &layout.columns {
                if words.contains(&column.target) || select.contains('*') {
                    let _ = write!(basis, "\n{object}.{} {}", column.target, column.r#type);
                }
            }
        }
    }
    for other in made.iter().filter(|other| words.contains(&other.name)) {
        depends_on.push(other.name.clone());
        let _ = write!(basis, "\n{} {}", other.name, other.hash);
    }
    let bookkeeping =
        [PROGRESS_TABLE, CONNECTOR_TABLE, STATES_TABLE, READS_TABLE, VERIFICATION_TABLE, LEDGER_TABLE]
            .into_iter()
            .filter(|table| words.contains(*table));
    depends_on.extend(bookkeeping.map(str::to_owned));
    let hash = short_hash(&basis);
    // Nothing is known of the table yet, and its columns do not change those of the SELECT.
    let itself = "(SELECT now64(6, 'UTC') AS at, '' AS query_id WHERE 0)";
    // The line break ends a comment at the end of a user's text.
    let probe = format!("DESCRIBE TABLE ({}\n)", select.replace(SELF, itself));
    View { name: name.to_owned(), materialization, select, definer, depends_on, hash, probe }
}

/// Whether a probe of the view would be asked of what it will be made on: all that it reads is there, and of
/// the layout and hash that it should have.
pub fn is_ready(input: &ViewsInput<'_>, all: &[View], view: &View, facts: &ClickHouseFacts) -> bool {
    view.depends_on.iter().all(|name| {
        let Some(object) = facts.objects.get(name) else {
            return false;
        };
        if let Some(other) = all.iter().find(|other| other.name == *name) {
            return hash_in(&object.comment, input.mark) == other.hash;
        }
        let base = name.strip_suffix("_current").unwrap_or(name);
        let layout = input.layouts.iter().find(|layout| layout.target == base);
        layout.is_none_or(|layout| {
            layout.columns.iter().all(|column| {
                let text = column.r#type.to_string();
                let wanted = if base == name { &column.stored } else { &column.target };
                object.columns.iter().any(|(name, live)| name == wanted && *live == text)
            })
        })
    })
}

/// What brings the views to what they should be: those that ClickHouse refused are named, those that are `held`
/// stay as they are, the others go on.
pub fn steps(
    input: &ViewsInput<'_>,
    all: &[View],
    facts: &ClickHouseFacts,
    answers: &BTreeMap<String, Probe>,
    held: &BTreeSet<String>,
    proof: Proof,
) -> Part {
    let mut part = Part::default();
    for view in all.iter().filter(|view| !held.contains(&view.name)) {
        if let Some(object) = facts.objects.get(&view.name) {
            if !is_ours(&object.comment, input.mark) {
                let what = format!("{}.{}", input.database, view.name);
                part.problems.push(conflict(&view.name, &what, &object.comment));
                continue;
            }
            if object.engine != "View" {
                let kind = if is_state_table(object) { "a state table" } else { "a table" };
                let message = format!(
                    "view {}: {}.{} is {kind} of this pipeline and is not replaced: choose another name, or drop it",
                    view.name, input.database, view.name
                );
                part.problems.push(Problem::new(&view.name, Reason::Conflict, message));
                continue;
            }
            if hash_in(&object.comment, input.mark) == view.hash {
                continue;
            }
        }
        match answers.get(&view.hash) {
            None | Some(Probe::Panels(_)) => {}
            Some(Probe::Refused(message)) => {
                let message =
                    format!("view {} is refused by clickhouse: {message}: correct its SQL", view.name);
                part.problems.push(Problem::new(&view.name, Reason::InvalidView, message));
            }
            Some(Probe::Denied(message)) => {
                let (account, maker) = input.viewer.map_or(("", ""), |viewer| (viewer.account, viewer.maker));
                let grants = [
                    statement::grant_select(input.database, &view.depends_on, account),
                    Some(statement::grant_definer(account, maker)),
                ];
                let grants: Vec<String> = grants.into_iter().flatten().collect();
                let message = format!(
                    "view {}: it runs as {account}, the account of spec.clickhouse.viewer: {message}: run {}",
                    view.name,
                    grants.join("; ")
                );
                part.problems.push(Problem::new(&view.name, Reason::PermissionDenied, message));
            }
            Some(Probe::Columns(columns)) => part.extend(make(input, view, Some(columns), facts, proof)),
            Some(Probe::Unknown) => part.extend(make(input, view, None, facts, proof)),
        }
    }
    part.steps.extend(orphans(input, all, facts, proof));
    part
}

fn make(
    input: &ViewsInput<'_>,
    view: &View,
    columns: Option<&[(String, String)]>,
    facts: &ClickHouseFacts,
    proof: Proof,
) -> Part {
    let mut part = Part::default();
    let mut needs: Vec<Fact> = view.depends_on.iter().cloned().map(Fact::View).collect();
    let comment = format!("{} {}", input.mark, view.hash);
    let (select, definer) = match &view.materialization {
        Materialization::View => (view.select.clone(), view.definer.clone()),
        Materialization::Refresh { every_s, order_by, after, keep_days } => {
            let rule = Rule { every_s: *every_s, order_by, after, keep_days: *keep_days };
            let refreshed = Refreshed { input, view, rule, columns, comment: &comment, facts };
            if refreshed.plan(&needs, proof, &mut part) {
                // Readers keep the old table until the new one was filled once.
                needs = vec![Fact::View(refreshed.refresh())];
            } else {
                return part;
            }
            (refreshed.all_of(&refreshed.table()), None)
        }
    };
    let definition = ViewDefinition {
        database: input.database.to_owned(),
        name: view.name.clone(),
        comment,
        definer,
        select,
        columns: columns.unwrap_or_default().to_vec(),
    };
    let replaces = facts.objects.contains_key(&view.name).then_some(proof);
    part.view(Stage::View, needs, Some(Fact::View(view.name.clone())), definition, replaces);
    part
}

/// How a view is refreshed: the fields of [`Materialization::Refresh`].
struct Rule<'a> {
    every_s: u64,
    order_by: &'a [String],
    after: &'a [String],
    keep_days: Option<u32>,
}

/// The table and the refresh behind a view.
struct Refreshed<'a> {
    input: &'a ViewsInput<'a>,
    view: &'a View,
    rule: Rule<'a>,
    /// Absent: not known yet.
    columns: Option<&'a [(String, String)]>,
    comment: &'a str,
    facts: &'a ClickHouseFacts,
}

impl Refreshed<'_> {
    /// Table, named by its columns, since those of a table that is being read cannot be altered.
    fn table(&self) -> String {
        let Some(columns) = self.columns else {
            return format!("{}__*", self.view.name);
        };
        let shape: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        format!("{}__{}", self.view.name, short_hash(&shape.join("\n")))
    }

    fn refresh(&self) -> String {
        refresh_of(&self.view.name)
    }

    /// The view that the refresh reads, where another account than the operator's is to.
    fn source(&self) -> Option<String> {
        self.view.definer.as_ref().map(|_| source_of(&self.view.name))
    }

    /// The query of all columns of an object.
    fn all_of(&self, name: &str) -> String {
        let names = self.columns.map_or_else(
            || "*".to_owned(),
            |columns| ident_list(columns.iter().map(|(name, _)| name.as_str())),
        );
        format!("SELECT {names} FROM {}", qualified(self.input.database, name))
    }

    /// Whether an object is of the view as it is wanted now.
    fn is_current(&self, object: &ClickHouseObject) -> bool {
        hash_in(&object.comment, self.input.mark) == self.view.hash
    }

    /// Names what has a name of the view's and is not what the view needs there; whether there is none.
    fn names_are_free(&self, part: &mut Part) -> bool {
        let database = self.input.database;
        let names = [
            (Some(self.table()), is_derived as fn(&_) -> bool),
            (Some(self.refresh()), is_refresh),
            (self.source(), |object: &ClickHouseObject| object.engine == "View"),
        ];
        for (name, is_right) in names {
            let Some((name, object)) = name.and_then(|name| self.facts.objects.get_key_value(&name)) else {
                continue;
            };
            let mut found = if !is_ours(&object.comment, self.input.mark) {
                conflict(name, &format!("{database}.{name}"), &object.comment)
            } else if is_right(object) {
                continue;
            } else {
                let message = format!(
                    "view {}: {database}.{name} is another object of this pipeline: choose another name for one",
                    self.view.name
                );
                Problem::new(name, Reason::Conflict, message)
            };
            found.object.clone_from(&self.view.name);
            part.problems.push(found);
            return false;
        }
        true
    }

    /// Adds the steps of table, source and refresh; whether the view over them may be made.
    fn plan(&self, needs: &[Fact], proof: Proof, part: &mut Part) -> bool {
        let (table, refresh, database) = (self.table(), self.refresh(), self.input.database);
        if !self.names_are_free(part) {
            return false;
        }
        if !self.facts.objects.contains_key(&table) {
            let gives = Some(Fact::View(table.clone()));
            let mut what = format!("create table {table} of view {}", self.view.name);
            let effect = match self.carried(&table) {
                Some(carried) => {
                    what = format!("{what} with the rows of {}", carried.from);
                    ClickHouseEffect::CarryOver(carried)
                }
                None => ClickHouseEffect::CreateTable(self.create_table(&table)),
            };
            part.step((Stage::View, StepKind::Create), what, needs.to_vec(), gives, effect);
        }
        let live = self.facts.objects.get(&refresh);
        if let Some(live) = live.filter(|live| !self.is_current(live)) {
            let effect = drop_effect(database, &refresh, live, proof);
            let what = format!("drop the refresh of view {} to replace it", self.view.name);
            part.step((Stage::View, StepKind::Replace), what, vec![], None, effect);
            return false;
        }
        self.plan_source(needs, proof, part);
        if live.is_none() {
            let mut needs = needs.to_vec();
            needs.push(Fact::View(table.clone()));
            needs.extend(self.source().map(Fact::View));
            needs.extend(self.rule.after.iter().map(|name| Fact::View(refresh_of(name))));
            let effect = ClickHouseEffect::CreateRefresh(self.create_refresh(&table));
            let what = format!("create the refresh of view {}", self.view.name);
            let gives = Some(Fact::View(refresh.clone()));
            part.step((Stage::View, StepKind::Create), what, needs, gives, effect);
        }
        let filled = self.facts.refreshes.get(&refresh).is_some_and(|refresh| refresh.last_success_ms > 0);
        filled || !self.facts.objects.contains_key(&self.view.name)
    }

    /// Adds the step of the view that the refresh reads.
    fn plan_source(&self, needs: &[Fact], proof: Proof, part: &mut Part) {
        let Some(name) = self.source() else { return };
        let live = self.facts.objects.get(&name);
        if live.is_some_and(|live| self.is_current(live)) {
            return;
        }
        let definition = ViewDefinition {
            database: self.input.database.to_owned(),
            name: name.clone(),
            comment: self.comment.to_owned(),
            definer: self.view.definer.clone(),
            select: self.view.select.clone(),
            columns: self.columns.unwrap_or_default().to_vec(),
        };
        part.view(Stage::View, needs.to_vec(), Some(Fact::View(name)), definition, live.map(|_| proof));
    }

    /// Where rows stay when the view is refreshed, its table begins with those of the one that is shown now, or was: columns
    /// of the same name and type. What a column of another type holds may be what somebody wanted to be rid of.
    fn carried(&self, table: &str) -> Option<CarriedTable> {
        self.rule.keep_days?;
        let columns = self.columns?;
        let prefix = format!("{}__", self.view.name);
        let shown = self.facts.objects.get(&self.view.name).map(|live| &live.columns);
        let common = |object: &ClickHouseObject| {
            object.columns.iter().filter(|column| columns.contains(column)).count()
        };
        let is_older = |(name, object): &(&String, &ClickHouseObject)| {
            let is_key = |key: &String| {
                let of = |columns: &[(String, String)]| columns.iter().find(|(name, _)| name == key).cloned();
                of(&object.columns).is_some_and(|column| Some(column) == of(columns))
            };
            name.starts_with(&prefix)
                && is_history(name, object)
                && is_ours(&object.comment, self.input.mark)
                && self.rule.order_by.iter().all(is_key)
        };
        let (from, older) = (self.facts.objects.iter())
            .filter(is_older)
            .max_by_key(|(_, object)| (Some(&object.columns) == shown, common(object)))?;
        let without = older.columns.iter().filter(|column| !columns.contains(column));
        let before = std::iter::once(None).chain(columns.iter().map(|(name, _)| Some(name.clone())));
        let with = columns.iter().zip(before).filter(|(column, _)| !older.columns.contains(column));
        Some(CarriedTable {
            name: TableName::new(self.input.database, table),
            comment: self.comment.to_owned(),
            from: from.clone(),
            without: without.map(|(name, _)| name.clone()).collect(),
            with: with.map(|((name, kind), before)| (ColumnDefinition::new(name, kind), before)).collect(),
        })
    }

    fn create_table(&self, table: &str) -> TableDefinition {
        let order_by = self.rule.order_by;
        let keep = |days| Some(Keep { from: order_by.first()?.clone(), days });
        TableDefinition {
            name: TableName::new(self.input.database, table),
            comment: self.comment.to_owned(),
            columns: (self.columns.into_iter().flatten())
                .map(|(name, kind)| ColumnDefinition::new(name, kind))
                .collect(),
            indexed: Vec::new(),
            merge: Merge::All,
            partition_by: None,
            order_by: order_by.to_vec(),
            keep: self.rule.keep_days.and_then(keep),
        }
    }

    fn create_refresh(&self, table: &str) -> RefreshDefinition {
        let database = self.input.database;
        RefreshDefinition {
            view: ViewDefinition {
                database: database.to_owned(),
                name: self.refresh(),
                comment: self.comment.to_owned(),
                definer: None,
                select: self.source().map_or_else(
                    || self.view.select.replace(SELF, &qualified(database, table)),
                    |source| self.all_of(&source),
                ),
                columns: self.columns.unwrap_or_default().to_vec(),
            },
            every_s: self.rule.every_s,
            after: self.rule.after.iter().map(|name| refresh_of(name)).collect(),
            append: self.rule.keep_days.is_some(),
            to: table.to_owned(),
        }
    }
}

/// Whether an object is what a refresh fills: state and bookkeeping tables are of another engine.
fn is_derived(object: &ClickHouseObject) -> bool {
    object.engine.ends_with("MergeTree") && !is_state_table(object)
}

/// Whether an object is the table of a view whose rows stay when it is refreshed.
pub fn is_history(name: &str, object: &ClickHouseObject) -> bool {
    let base = name.rsplit_once("__").map_or(name, |(base, _)| base);
    is_derived(object) && ecommerce().objects.iter().any(|view| view.name == base && view.keep_days.is_some())
}

fn is_refresh(object: &ClickHouseObject) -> bool {
    object.engine == "MaterializedView"
}

fn refresh_of(name: &str) -> String {
    format!("{name}__refresh")
}

fn source_of(name: &str) -> String {
    format!("{name}__source")
}

/// Marked views that are not wanted any more, and tables that no refresh fills any more. A view that is wanted
/// and cannot be made now keeps what it has.
fn orphans(input: &ViewsInput<'_>, all: &[View], facts: &ClickHouseFacts, proof: Proof) -> Vec<Step> {
    let mut wanted: BTreeSet<String> = input.views.extra.iter().map(|extra| extra.name.clone()).collect();
    if input.views.preset == PresetChoice::Ecommerce {
        wanted.extend(ecommerce().objects.iter().map(|object| object.name.clone()));
    }
    let is_left = |name: &str, object: &ClickHouseObject| {
        // The `_current` view of a state table lives as long as the table.
        if name.strip_suffix("_current").is_some_and(|base| facts.objects.contains_key(base)) {
            return false;
        }
        let (base, suffix) = name.rsplit_once("__").unwrap_or((name, ""));
        // Its rows go by their age.
        if is_history(name, object) {
            return false;
        }
        if !wanted.contains(name) && !wanted.contains(base) {
            return true;
        }
        let live = facts.objects.get(base);
        let settled = all
            .iter()
            .find(|view| view.name == base)
            .is_some_and(|view| live.is_some_and(|live| hash_in(&live.comment, input.mark) == view.hash));
        let plain = all.iter().any(|view| view.name == base && view.materialization == Materialization::View);
        let direct = plain || all.iter().any(|view| view.name == base && view.definer.is_none());
        // A table is named by its columns, and the view over it shows all of them: no other table has the same.
        let in_use = !plain && live.is_some_and(|live| live.columns == object.columns);
        if is_derived(object) {
            return settled && !in_use;
        }
        if object.engine == "View" && suffix == "source" {
            return settled && direct && !wanted.contains(name);
        }
        is_refresh(object) && suffix == "refresh" && settled && plain
    };
    derived(input.mark, facts)
        .into_iter()
        .filter(|(name, object)| is_left(name, object))
        .map(|(name, object)| drop_step(Stage::Cleanup, input.database, name, object, proof))
        .collect()
}

/// Every marked view, refresh and derived table, in the order in which they can be dropped.
fn derived<'a>(mark: &str, facts: &'a ClickHouseFacts) -> Vec<(&'a String, &'a ClickHouseObject)> {
    let rank = |object: &ClickHouseObject| match object {
        refresh if is_refresh(refresh) => Some(0),
        view if is_view(view) => Some(1),
        table if is_derived(table) => Some(2),
        _ => None,
    };
    let mut found: Vec<_> = facts
        .objects
        .iter()
        // That one is the bookkeeping's.
        .filter(|(name, object)| is_ours(&object.comment, mark) && *name != VISIBLE_VIEW)
        .filter_map(|(name, object)| Some((rank(object)?, (name, object))))
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, object)| object).collect()
}

fn drop_step(stage: Stage, database: &str, name: &str, object: &ClickHouseObject, proof: Proof) -> Step {
    let kind = if is_view(object) { "view" } else { "table" };
    Step {
        stage,
        kind: StepKind::Drop,
        what: format!("drop {kind} {name}"),
        needs: vec![],
        gives: None,
        effect: drop_effect(database, name, object, proof),
    }
}

fn is_view(object: &ClickHouseObject) -> bool {
    object.engine.ends_with("View")
}

/// Drops an object as it was seen.
pub fn drop_effect(database: &str, name: &str, object: &ClickHouseObject, proof: Proof) -> Effect {
    let name = ClickHouseName {
        database: database.to_owned(),
        name: name.to_owned(),
        is_view: is_view(object),
        comment: object.comment.clone(),
    };
    Effect::ClickHouse(ClickHouseEffect::Drop(proof.allow(name)))
}

/// Deletion: drops every view of ours, and the tables that refreshes filled. What such a table has gathered over time
/// nothing can make again: it stays where tables stay.
pub fn drop_all(
    database: &str,
    mark: &str,
    facts: &ClickHouseFacts,
    policy: Policy,
    proof: Proof,
) -> Vec<Step> {
    derived(mark, facts)
        .into_iter()
        .filter(|(name, object)| policy == Policy::Delete || !is_history(name, object))
        .map(|(name, object)| drop_step(Stage::DropView, database, name, object, proof))
        .collect()
}

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;
