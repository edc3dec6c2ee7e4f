//! The task of a replica that cleans the tables whose partition 0 it owns. I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidemark_crds::ledger::{FENCES_TABLE, Kind, LEDGER_TABLE, POSITIONS_TABLE, PROGRESS_TABLE};
use tidemark_crds::quote;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{self, ClickHouse, number};
use tokio::task::JoinHandle;

use super::horizon::{Counts, Waiting, horizon};
use super::statements::{Removal, glance, of_others};
use crate::group::{Owned, lock};
use crate::metrics::{CauseLabel, Metrics, TableLabel};
use crate::visible::{Bookkeeping, TableFacts};

/// Shortest and longest pause between two looks at what is visible.
const LOOK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Pauses between two counts of a table are so many times as long as one took.
const PAUSE_PER_COUNT: u32 = 200;
/// By then every replica has looked at the ledger, or cannot write to this server either.
const HEARD: Duration = Duration::from_secs(15);
/// Pauses between two looks at a mutation.
const MUTATION_LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a mutation may take.
const MUTATION: Duration = Duration::from_hours(12);
/// How often images are removed before their tombstones are left for another time.
const ATTEMPTS: u32 = 3;
/// Pause between two looks at the bookkeeping of tables that are followed no more.
const FORMER: Duration = Duration::from_hours(24);
/// Deadline of one count.
const DEADLINE: Duration = Duration::from_mins(5);
/// Settings of every question: what a session could set otherwise, and how much of the server one may take.
const SETTINGS: [(&str, &str); 5] = [
    ("select_sequential_consistency", "1"),
    ("max_threads", "1"),
    ("transform_null_in", "0"),
    ("apply_deleted_mask", "1"),
    ("mutations_sync", "0"),
];

/// Everything that a cleaner works with.
#[derive(Debug, Clone)]
pub struct CleanerContext {
    /// Tables, and whether and when they are cleaned.
    pub config: Arc<SinkConfig>,
    /// Client whose default database is the target.
    pub clickhouse: ClickHouse,
    /// Figures.
    pub metrics: Metrics,
    /// Partitions of this replica.
    pub owned: Owned,
}

/// A running cleaner. What it does ends when it is dropped; what the server does of it goes on.
#[derive(Debug)]
pub struct Cleaner {
    task: JoinHandle<()>,
}

impl Cleaner {
    /// Starts it on the caller's runtime.
    pub fn start(context: CleanerContext) -> Self {
        Self { task: tokio::spawn(Box::pin(Work::new(context).run())) }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a table was not cleaned; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("clickhouse: {0}")]
    Target(#[from] clickhouse::Error),
    #[error("a mutation of the table is not done: {0}")]
    Mutation(String),
    #[error("older images of deleted rows are still there after {ATTEMPTS} mutations")]
    Remains,
    #[error("it is no state table: {0}")]
    Strange(String),
}

impl Trouble {
    fn class(&self) -> &'static str {
        match self {
            Self::Target(error) => error.class.as_str(),
            Self::Mutation(_) => "mutation",
            Self::Remains => "remains",
            Self::Strange(_) => "table",
        }
    }
}

/// A table of this replica.
struct Lane {
    waiting: Waiting,
    /// Horizon and fence of the last count.
    counted: Option<(Version, Version)>,
    /// When it may be counted again.
    next: Instant,
    trouble: String,
}

/// What became of a table.
struct Cleaned {
    /// Its fence.
    fence: Version,
    /// Whether rows were removed.
    removed: bool,
}

struct Work {
    context: CleanerContext,
    bookkeeping: Bookkeeping,
    clickhouse: ClickHouse,
    after: Duration,
    lanes: BTreeMap<String, Lane>,
    /// When the bookkeeping of tables that are followed no more is looked at next.
    former: Instant,
}

#[derive(Deserialize)]
struct CountRow {
    #[serde(deserialize_with = "number::deserialize")]
    rows: u64,
    #[serde(deserialize_with = "number::deserialize")]
    tombstones: u64,
    #[serde(deserialize_with = "number::deserialize")]
    hidden: u64,
}

impl Work {
    fn new(context: CleanerContext) -> Self {
        Self {
            bookkeeping: Bookkeeping::new(&context.clickhouse, &context.config.pipeline),
            clickhouse: context.clickhouse.with_deadline(DEADLINE),
            after: Duration::from_millis(context.config.cleanup.after_ms),
            lanes: BTreeMap::new(),
            former: Instant::now() + LOOK.1,
            context,
        }
    }

    async fn run(mut self) {
        if !self.context.config.cleanup.enabled {
            return;
        }
        let pause = (self.after / 8).clamp(LOOK.0, LOOK.1);
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "what is visible cannot be looked at");
                continue;
            }
            if Instant::now() >= self.former && lock(&self.context.owned).contains(&(0, 0)) {
                self.former = Instant::now() + FORMER;
                if let Err(error) = self.forget_former().await {
                    tracing::debug!(%error, "rows about tables that are followed no more cannot be removed yet");
                }
            }
            let due: Vec<String> = self.lanes.keys().cloned().collect();
            for table in due {
                self.step(&table).await;
            }
        }
    }

    /// Looks which tables are this replica's, and up to where they are visible.
    async fn look(&mut self) -> Result<(), clickhouse::Error> {
        let config = Arc::clone(&self.context.config);
        let owned: Vec<&str> = lock(&self.context.owned)
            .iter()
            .filter(|(_, part)| *part == 0)
            .filter_map(|(at, _)| Some(config.tables.get(*at)?.target.as_str()))
            .collect();
        self.lanes.retain(|table, _| owned.contains(&table.as_str()));
        if owned.is_empty() {
            return Ok(());
        }
        let facts = self.bookkeeping.facts().await?;
        let (now, none) = (Instant::now(), TableFacts::default());
        for table in owned {
            let lane = self.lanes.entry(table.to_owned()).or_insert_with(|| Lane {
                waiting: Waiting::default(),
                counted: None,
                next: now,
                trouble: String::new(),
            });
            if let Some(version) = horizon(facts.tables.get(table).unwrap_or(&none), facts.epoch) {
                lane.waiting.note(version, now, self.after);
            }
        }
        Ok(())
    }

    /// Removes what is known of the partitions of tables that are followed no more. One that comes back is read anew, and its
    /// topic from its beginning.
    async fn forget_former(&self) -> Result<(), clickhouse::Error> {
        let config = &self.context.config;
        let followed: Vec<&str> = config.tables.iter().map(|route| route.target.as_str()).collect();
        for table in [PROGRESS_TABLE, POSITIONS_TABLE] {
            let condition = of_others(&config.pipeline, &followed);
            let table = quote::ident(table);
            let rows: Vec<Rows> =
                self.ask(&format!("SELECT count() AS rows FROM {table} WHERE {condition}")).await?;
            if rows.first().is_some_and(|found| found.rows > 0) {
                self.clickhouse
                    .execute_with_settings(&format!("DELETE FROM {table} WHERE {condition}"), &SETTINGS)
                    .await?;
            }
        }
        Ok(())
    }

    /// Cleans a table where that is due.
    async fn step(&mut self, table: &str) {
        let now = Instant::now();
        let Some(lane) = self.lanes.get_mut(table) else { return };
        let Some(version) = lane.waiting.proven(now, self.after).filter(|_| now >= lane.next) else { return };
        let counted = lane.counted;
        let result = self.clean(table, version, counted).await;
        let Some(lane) = self.lanes.get_mut(table) else { return };
        let took = now.elapsed();
        match result {
            Ok(cleaned) => {
                lane.counted = Some((version, cleaned.fence));
                lane.trouble.clear();
                // A mutation writes parts anew: what is deleted meanwhile waits.
                let pause = if cleaned.removed { self.after } else { took * PAUSE_PER_COUNT };
                lane.next = Instant::now() + pause;
            }
            Err(trouble) => {
                lane.next = Instant::now() + self.after.max(took);
                let cause = CauseLabel { table: table.to_owned(), cause: trouble.class() };
                self.context.metrics.cleanup.failed.get_or_create(&cause).inc();
                let text = trouble.to_string();
                if lane.trouble != text {
                    tracing::warn!(table, error = text, "rows that nobody sees cannot be removed yet");
                    lane.trouble = text;
                }
            }
        }
    }

    /// Counts what can go, and removes it where that is worth it.
    async fn clean(
        &self,
        table: &str,
        horizon: Version,
        counted: Option<(Version, Version)>,
    ) -> Result<Cleaned, Trouble> {
        let fence = self.fence(table).await?;
        let mut cleaned = Cleaned { fence, removed: false };
        if counted == Some((horizon, fence)) {
            return Ok(cleaned);
        }
        let key = self.key(table).await?;
        let removal = Removal::new(&self.context.config.clickhouse.database, table, key, horizon, fence);
        let is_raised = counted.is_none_or(|(_, before)| before != fence);
        // Versions are sixteen bytes a row: first a look without them.
        if !is_raised && !self.counts(&glance(&removal.table)).await?.is_due() {
            return Ok(cleaned);
        }
        let counts = self.counts(&removal.counts()).await?;
        let (metrics, label) = (&self.context.metrics.cleanup, TableLabel { table: table.to_owned() });
        let can_go = counts.tombstones + counts.hidden;
        metrics.hidden.get_or_create(&label).set(i64::try_from(can_go).unwrap_or(i64::MAX));
        if !counts.is_due() {
            return Ok(cleaned);
        }
        self.mutated(table).await?;
        self.announce(table, horizon).await?;
        tokio::time::sleep(HEARD).await;
        let removal = removal.divided(counts.tombstones);
        for slice in 0..removal.slices {
            self.images(table, &removal, slice).await?;
            self.mutate(table, &removal.remove_tombstones(slice)).await?;
        }
        let left = self.counts(&removal.counts()).await?;
        let removed = counts.rows.saturating_sub(left.rows);
        metrics.removed.get_or_create(&label).inc_by(removed);
        let left = left.tombstones + left.hidden;
        metrics.hidden.get_or_create(&label).set(i64::try_from(left).unwrap_or(i64::MAX));
        tracing::info!(
            table,
            tombstones = counts.tombstones,
            hidden = counts.hidden,
            left,
            "removed rows that nobody sees"
        );
        cleaned.removed = true;
        Ok(cleaned)
    }

    /// Removes what tombstones hide, until a look finds nothing of it.
    async fn images(&self, table: &str, removal: &Removal, slice: u64) -> Result<(), Trouble> {
        for _ in 0..ATTEMPTS {
            let rows: Vec<Rows> = self.ask(&removal.images(slice)).await?;
            if rows.first().is_some_and(|found| found.rows == 0) {
                return Ok(());
            }
            self.mutate(table, &removal.remove_images(slice)).await?;
        }
        Err(Trouble::Remains)
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, clickhouse::Error> {
        self.clickhouse.query_with_settings(sql, &SETTINGS).await
    }

    async fn counts(&self, sql: &str) -> Result<Counts, clickhouse::Error> {
        let rows: Vec<CountRow> = self.ask(sql).await?;
        let counts = rows.into_iter().next();
        Ok(counts.map_or(Counts::default(), |CountRow { rows, tombstones, hidden }| Counts {
            rows,
            tombstones,
            hidden,
        }))
    }

    /// The sorting key of a state table: what makes two rows images of one.
    async fn key(&self, table: &str) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        struct Row {
            engine: String,
            sorting_key: String,
        }
        let sql = format!(
            "SELECT engine, sorting_key FROM system.tables WHERE database = currentDatabase() AND name = {}",
            quote::literal(table)
        );
        let rows: Vec<Row> = self.ask(&sql).await?;
        match rows.into_iter().next() {
            Some(Row { engine, sorting_key })
                if engine.ends_with("ReplacingMergeTree") && !sorting_key.is_empty() =>
            {
                Ok(sorting_key)
            }
            Some(Row { engine, .. }) => Err(Trouble::Strange(engine)),
            None => Err(Trouble::Strange("it is not there".to_owned())),
        }
    }

    /// The greatest fence of a table.
    async fn fence(&self, table: &str) -> Result<Version, clickhouse::Error> {
        self.version(&format!(
            "SELECT toString(max(version)) AS version FROM {} WHERE table = {}",
            quote::ident(FENCES_TABLE),
            quote::literal(table)
        ))
        .await
    }

    async fn version(&self, sql: &str) -> Result<Version, clickhouse::Error> {
        #[derive(Deserialize)]
        struct Row {
            version: String,
        }
        let rows: Vec<Row> = self.ask(sql).await?;
        let version = rows.first().and_then(|row| row.version.parse().ok());
        Ok(Version(version.unwrap_or(0)))
    }

    /// Tells every replica to pass over changes below a horizon. One that was told before stays where it is greater.
    async fn announce(&self, table: &str, horizon: Version) -> Result<(), clickhouse::Error> {
        let (pipeline, kind) =
            (quote::literal(&self.context.config.pipeline), quote::literal(Kind::Horizon.as_str()));
        let ledger = quote::ident(LEDGER_TABLE);
        let key = quote::literal(table);
        let told = format!(
            "SELECT JSONExtractString(value) AS version FROM {ledger} FINAL \
             WHERE pipeline = {pipeline} AND kind = {kind} AND key = {key}"
        );
        if self.version(&told).await? >= horizon {
            return Ok(());
        }
        let value = quote::literal(&format!("\"{horizon}\""));
        let sql = format!(
            "INSERT INTO {ledger} (pipeline, kind, key, version, value, written_at) \
             VALUES ({pipeline}, {kind}, {key}, toUnixTimestamp64Milli(now64(3)), {value}, now64(3))"
        );
        self.clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await
    }

    /// Has the server remove rows, and waits until it is done.
    async fn mutate(&self, table: &str, sql: &str) -> Result<(), Trouble> {
        self.clickhouse.execute_with_settings(sql, &SETTINGS).await?;
        self.mutated(table).await
    }

    /// Waits until no mutation of a table is under way, whoever began it.
    async fn mutated(&self, table: &str) -> Result<(), Trouble> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "number::deserialize")]
            open: u64,
            reason: String,
        }
        let sql = format!(
            "SELECT count() AS open, any(latest_fail_reason) AS reason FROM system.mutations \
             WHERE database = currentDatabase() AND table = {} AND NOT is_done",
            quote::literal(table)
        );
        let (begin, mut pause) = (Instant::now(), MUTATION_LOOK.0);
        loop {
            let rows: Vec<Row> = self.ask(&sql).await?;
            let Some(Row { open: 1.., reason }) = rows.into_iter().next() else { return Ok(()) };
            if !reason.is_empty() || begin.elapsed() > MUTATION {
                return Err(Trouble::Mutation(reason));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MUTATION_LOOK.1);
        }
    }
}

#[derive(Deserialize)]
struct Rows {
    #[serde(deserialize_with = "number::deserialize")]
    rows: u64,
}
