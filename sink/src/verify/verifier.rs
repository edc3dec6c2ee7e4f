//! The task of a replica that compares the tables whose partition 0 it owns. I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use tidemark_crds::ledger::source_place;
use tidemark_crds::names::Topics;
use tidemark_crds::sink_config::{SinkConfig, TableRoute};
use tidemark_crds::version::Version;
use tidemark_runtime::clickhouse::{self, ClickHouse};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::book::{Book, Entry, Said};
use super::compare::{self, Difference};
use super::lane::{Lane, Next, RANGE_KEYS, Wanted};
use super::passage::{NotPassed, Passage};
use super::round::{Place, next_pages};
use super::target::Target;
use crate::batch::Batch;
use crate::consume::now_ms;
use crate::group::{Owned, lock};
use crate::metrics::{CauseLabel, Metrics, TableLabel};
use crate::read::{KeyReader, OpenRead, Pace, Probe, ReadError, Requests, Source, key_json};
use crate::write::Writer;

/// Pause between two looks at what is to be compared.
const LOOK: Duration = Duration::from_secs(5);
/// Longest pause between two ranges.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Pauses are so many times as long as what was done: of the round's own accord, and where somebody waits.
const PAUSE_PER_WORK: (u32, u32) = (4, 1);
/// Pause between two examinations of the same keys.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long a repair may take.
const REPAIR_DEADLINE: Duration = Duration::from_mins(2);
/// How often a row about a round under way is written at most.
const KEEP: Duration = Duration::from_secs(2);
/// Records behind which a sink has other things to do.
const MOST_LAG: i64 = 20_000;
/// Bytes that count as one row of the budget.
const BYTES_OF_A_ROW: usize = 8192;

/// Everything that a verifier works with.
#[derive(Debug, Clone)]
pub struct VerifierContext {
    /// Tables, where they are read, and the budget.
    pub config: Arc<SinkConfig>,
    /// Client whose default database is the target.
    pub clickhouse: ClickHouse,
    /// Where repairs go.
    pub writer: Writer,
    /// Figures.
    pub metrics: Metrics,
    /// Name of this replica, unlike that of any other.
    pub replica: String,
    /// Partitions of this replica.
    pub owned: Owned,
    /// Properties of Kafka's consumers.
    pub kafka: ClientConfig,
}

/// A running verifier. What it does ends when it is dropped.
#[derive(Debug)]
pub struct Verifier {
    task: JoinHandle<()>,
}

impl Verifier {
    /// Starts the verifier on the caller's runtime.
    pub fn start(context: VerifierContext) -> Self {
        Self { task: tokio::spawn(Box::pin(Work::new(context).run())) }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a step came to nothing; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Source(#[from] ReadError),
    #[error("clickhouse: {0}")]
    Target(#[from] clickhouse::Error),
    #[error("{0}")]
    NotPassed(#[from] NotPassed),
    /// Truncated or read meanwhile.
    #[error("the table was read or truncated meanwhile")]
    Fenced,
    /// The ledger has something else to say meanwhile.
    #[error("what the ledger has of the table changed meanwhile")]
    Changed,
    #[error("a key is not in the form of the layout's key columns")]
    Key,
    #[error("repaired rows were not acknowledged within {} s", REPAIR_DEADLINE.as_secs())]
    Repair,
}

impl Trouble {
    fn class(&self) -> &'static str {
        match self {
            Self::Source(error) => error.class(),
            Self::Target(error) => error.class.as_str(),
            Self::NotPassed(_) => "late",
            Self::Fenced | Self::Changed => "changed",
            Self::Key => "key",
            Self::Repair => "repair",
        }
    }
}

/// What a step cost at the source.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    rows: u64,
    bytes: usize,
}

/// Rows behind a barrier, and those of them that differ.
struct Examined {
    batch: Batch,
    different: Vec<Difference>,
}

/// The state of the task.
struct Work {
    context: VerifierContext,
    place: String,
    requests: Requests,
    book: Book,
    target: Target,
    probe: Probe,
    keys: KeyReader,
    passage: Passage,
    pace: Pace,
    lanes: BTreeMap<String, Lane>,
    /// The table that had the last turn.
    last: String,
    /// When the next range of a round of its own accord may be compared.
    ready: Instant,
    trouble: Option<String>,
}

impl Work {
    fn new(context: VerifierContext) -> Self {
        let config = &context.config;
        let source = Source::new(&config.postgres, &config.pipeline);
        let reads = context.metrics.reads.clone();
        let messages = Topics { prefix: &config.kafka.topic_prefix }.message();
        Self {
            place: source_place(&config.postgres.host, config.postgres.port, &config.postgres.database),
            requests: Requests::new(&context.clickhouse, &config.pipeline, &context.replica),
            book: Book::new(&context.clickhouse, &config.pipeline, &context.replica),
            target: Target::new(&context.clickhouse),
            probe: Probe::new(source.clone(), format!("{} {}", context.replica, now_ms())),
            keys: KeyReader::new(source, &config.kafka.topic_prefix, reads),
            passage: Passage::new(
                context.kafka.clone(),
                messages,
                context.clickhouse.clone(),
                config.pipeline.clone(),
            ),
            pace: Pace::new(Some(config.verification.rows_per_second)),
            lanes: BTreeMap::new(),
            last: String::new(),
            ready: Instant::now(),
            trouble: None,
            context,
        }
    }

    async fn run(mut self) {
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                match self.look().await {
                    Ok(()) => self.trouble = None,
                    Err(error) => self.complain(error.to_string()),
                }
                looked = Some(Instant::now());
            }
            let now = Instant::now();
            let verification = &self.context.config.verification;
            let (enabled, interval_ms) = (verification.enabled, verification.interval_ms);
            for lane in self.lanes.values_mut() {
                lane.begin(enabled, interval_ms, now_ms());
            }
            match self.turn(now) {
                Some(table) => self.step(&table).await,
                // The next look, or the end of a pause.
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn complain(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(error = text, "what is to be compared cannot be looked at");
            self.trouble = Some(text);
        }
    }

    /// Looks which tables are this replica's, and what the ledger has of them.
    async fn look(&mut self) -> Result<(), clickhouse::Error> {
        let owned: Vec<usize> = lock(&self.context.owned)
            .iter()
            .filter(|(_, part)| *part == 0)
            .map(|(table, _)| *table)
            .collect();
        let config = Arc::clone(&self.context.config);
        let routes: Vec<_> = owned.iter().filter_map(|at| config.tables.get(*at)).collect();
        self.lanes.retain(|table, _| routes.iter().any(|route| route.target == *table));
        if routes.is_empty() {
            return Ok(());
        }
        let all = self.requests.look().await?;
        let (asked, said) = tokio::try_join!(self.book.requests(), self.book.said())?;
        for route in routes {
            let open = all.iter().find(|open| open.table == route.target && open.is_settled(&self.place));
            let Some(open) = open.filter(|open| !self.is_busy(open, said.get(&route.target))) else {
                self.lanes.remove(&route.target);
                continue;
            };
            let request = asked.get(&route.target).copied().unwrap_or(0);
            let wanted = Wanted { epoch: open.epoch, layout: open.layout, request };
            match self.lanes.get_mut(&route.target) {
                Some(lane) if (lane.wanted.epoch, lane.wanted.layout) == (open.epoch, open.layout) => {
                    lane.wanted = wanted;
                }
                _ => {
                    self.lanes.remove(&route.target);
                    self.take(route, open, wanted).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the table is in doubt or kept back, here or by another replica: then it is not what the stream made of it.
    fn is_busy(&self, open: &OpenRead, said: Option<&Said>) -> bool {
        let (metrics, label) = (&self.context.metrics, label(&open.table));
        let here = [&metrics.doubt, &metrics.held, &metrics.stopped]
            .into_iter()
            .any(|gauge| gauge.get_or_create(&label).get() != 0);
        let barrier = open.seen.as_ref().map_or((0, 0), |seen| seen.barrier);
        here || said.is_some_and(|said| said.is_busy(barrier))
    }

    /// Takes a table over.
    async fn take(
        &mut self,
        route: &TableRoute,
        open: &OpenRead,
        wanted: Wanted,
    ) -> Result<(), clickhouse::Error> {
        let layout = self.requests.layout(&route.target, open.layout).await?;
        if layout.read_again.is_some() && layout.version > open.request.layout {
            return Ok(());
        }
        let kept = self.book.kept(&route.target).await?;
        match Lane::new(route.clone(), layout, wanted, kept) {
            Ok(lane) => drop(self.lanes.insert(route.target.clone(), lane)),
            Err(error) => self.complain(error.to_string()),
        }
        Ok(())
    }

    /// The table whose turn it is: first those that somebody waits for, then one after the other.
    fn turn(&self, now: Instant) -> Option<String> {
        let metrics = &self.context.metrics;
        let lags = self.lanes.keys().map(|table| metrics.lag.get_or_create(&label(table)).get());
        if lags.max().unwrap_or(0) > MOST_LAG {
            return None;
        }
        let due = |lane: &&Lane| lane.next(now) != Next::Rest && (lane.is_asked() || now >= self.ready);
        let due: Vec<&Lane> = self.lanes.values().filter(due).collect();
        let asked: Vec<&Lane> = due.iter().copied().filter(|lane| lane.is_asked()).collect();
        let among = if asked.is_empty() { due } else { asked };
        let after = among.iter().find(|lane| lane.route.target > self.last);
        after.or(among.first()).map(|lane| lane.route.target.clone())
    }

    /// Does the next piece of work on a table, pays for it, and says how far it is.
    async fn step(&mut self, table: &str) {
        let Some(mut lane) = self.lanes.remove(table) else { return };
        table.clone_into(&mut self.last);
        let begin = Instant::now();
        let next = lane.next(begin);
        let counted = lane.kept.differences;
        let result = match next {
            Next::Rest => Ok(Cost::default()),
            Next::Examine => self.settle(&mut lane).await,
            Next::Keys => self.by_keys(&mut lane).await,
            Next::Pages => self.by_pages(&mut lane).await,
            Next::Finish => {
                self.finish(&mut lane);
                Ok(Cost::default())
            }
        };
        let (now, took) = (Instant::now(), begin.elapsed());
        tracing::debug!(table, step = ?next, ms = took.as_millis(), "compared");
        let metrics = self.context.metrics.verify.clone();
        metrics.time.get_or_create(&label(table)).inc_by(took.as_secs_f64());
        match result {
            Ok(cost) => {
                lane.went_well();
                let rows = cost.rows.max((cost.bytes / BYTES_OF_A_ROW) as u64);
                let paid = self.pace.pay(u32::try_from(rows).unwrap_or(u32::MAX), now);
                // An examination mostly waits.
                let work = if next == Next::Examine { Duration::ZERO } else { took };
                if lane.is_asked() {
                    tokio::time::sleep((work * PAUSE_PER_WORK.1).min(LONGEST_PAUSE)).await;
                } else {
                    self.ready = now + paid.max((work * PAUSE_PER_WORK.0).min(LONGEST_PAUSE));
                }
            }
            Err(error) => {
                let cause = CauseLabel { table: table.to_owned(), cause: error.class() };
                metrics.failed.get_or_create(&cause).inc();
                if matches!(error, Trouble::Fenced | Trouble::Changed) {
                    // What is suspected is another table's by now, so to say.
                    lane.forget();
                }
                if lane.failed(&error.to_string(), now) {
                    tracing::warn!(table, class = error.class(), %error, "a table cannot be compared yet");
                }
            }
        }
        let is_due = lane.written.is_none_or(|written| written.elapsed() >= KEEP);
        // What was found is found no more once it is repaired: a count that is lost stays lost.
        let has_counted = lane.kept.differences != counted;
        if is_due || has_counted || next == Next::Finish || !lane.kept.error.is_empty() {
            let row = lane.row();
            match self.book.keep(&row).await {
                Ok(()) => lane.written = Some(Instant::now()),
                Err(error) => tracing::debug!(table, %error, "how far a round is cannot be written yet"),
            }
        }
        self.lanes.insert(table.to_owned(), lane);
    }

    /// Compares a range of ClickHouse's order with the rows of its keys at the source.
    async fn by_keys(&mut self, lane: &mut Lane) -> Result<Cost, Trouble> {
        let (plan, rows) = (Arc::clone(&lane.plan), lane.rows);
        if lane.pages.is_none() {
            self.measure(lane).await?;
        }
        let Some(after) = lane.round.as_ref().map(super::round::Round::after) else {
            return Ok(Cost::default());
        };
        let last = self.target.edge(&plan, after.as_deref(), rows).await?;
        let stored = self.target.range(&plan, after.as_deref(), last.as_deref()).await?;
        let mut keys: Vec<Vec<u8>> = stored.keys().cloned().collect();
        keys.sort_unstable();
        let mut cost = Cost { rows: keys.len() as u64, bytes: 0 };
        if !keys.is_empty() {
            let (source, absent) = self.probe.rows(&plan, &keys).await?;
            cost.bytes = source.bytes();
            lane.suspect(compare::suspects(&stored, &source, absent), Instant::now());
        }
        self.count(lane, cost.rows);
        if let Some(round) = &mut lane.round {
            round.passed_keys(cost.rows, last.as_deref());
        }
        Ok(cost)
    }

    /// Looks up the keys of a range of the source's pages in ClickHouse.
    async fn by_pages(&mut self, lane: &mut Lane) -> Result<Cost, Trouble> {
        if lane.pages.is_none() {
            self.measure(lane).await?;
        }
        let (Some(round), Some(pages)) = (&mut lane.round, lane.pages.clone()) else {
            return Ok(Cost::default());
        };
        let Place::Pages { relation, page } = round.place.clone() else { return Ok(Cost::default()) };
        let Some(range) = next_pages(&pages, &relation, page) else {
            round.place = Place::Over;
            return Ok(Cost::default());
        };
        let keys = self.probe.keys(&lane.keys_plan, range.relation, range.pages).await?;
        let cost = Cost { rows: keys.len() as u64, bytes: keys.iter().map(Vec::len).sum() };
        let stored = self.target.having(&lane.keys_plan, &keys).await?;
        let missing = compare::missing(&stored, keys);
        lane.suspect(missing, Instant::now());
        if let Some(round) = &mut lane.round {
            round.passed_pages(cost.rows, &range);
        }
        self.count(lane, cost.rows);
        Ok(cost)
    }

    /// Asks how large the table is.
    async fn measure(&mut self, lane: &mut Lane) -> Result<(), Trouble> {
        let pages = self.probe.pages(&lane.plan, RANGE_KEYS).await?;
        if let Some(round) = &mut lane.round {
            round.estimated = pages.iter().map(|page| page.rows).sum();
        }
        lane.pages = Some(pages);
        Ok(())
    }

    fn count(&self, lane: &Lane, rows: u64) {
        self.context.metrics.verify.rows.get_or_create(&label(&lane.route.target)).inc_by(rows);
    }

    fn finish(&mut self, lane: &mut Lane) {
        let seconds = lane.round.as_ref().map_or(0, |round| (now_ms() - round.began_ms) / 1000);
        lane.finish(now_ms());
        let (metrics, label) = (&self.context.metrics.verify, label(&lane.route.target));
        metrics.rounds.get_or_create(&label).inc();
        metrics.oldest.get_or_create(&label).set(lane.kept.from_ms / 1000);
        tracing::info!(
            table = lane.route.target,
            rows = lane.kept.compared,
            seconds,
            open = lane.kept.open,
            "compared a table with its source"
        );
    }

    /// Examines some suspects twice; what differs both times is repaired.
    async fn settle(&mut self, lane: &mut Lane) -> Result<Cost, Trouble> {
        let suspects = lane.some_suspects();
        let first = self.examine(lane, &suspects).await?;
        let mut rows = suspects.len() as u64;
        if !first.different.is_empty() {
            let keys: Vec<Vec<u8>> = first.different.into_iter().map(|it| it.key).collect();
            drop(first.batch);
            tokio::time::sleep(BETWEEN).await;
            let second = self.examine(lane, &keys).await?;
            rows += keys.len() as u64;
            if !second.different.is_empty() {
                self.repair(lane, second).await?;
            }
        }
        lane.cleared(&suspects, Instant::now());
        Ok(Cost { rows, bytes: 0 })
    }

    /// Reads the rows of keys behind a barrier, waits until all that the read saw is applied, and compares.
    async fn examine(&mut self, lane: &Lane, keys: &[Vec<u8>]) -> Result<Examined, Trouble> {
        let (plan, table) = (&lane.plan, &lane.route.target);
        let epoch = lane.wanted.epoch;
        self.passage.listen().await?;
        let batch = self.keys.rows(plan, epoch, keys).await?;
        let mark = self.probe.mark(&plan.layout.source).await?;
        self.passage.wait(&mark, &lane.route.topic, table).await?;
        let found = self.target.found(plan, keys).await?;
        self.context.metrics.verify.examined.get_or_create(&label(table)).inc_by(keys.len() as u64);
        if batch.rows() == 0 {
            return Ok(Examined { batch, different: Vec::new() });
        }
        let (barrier, _) = batch.version_of(0);
        if self.target.fence(plan).await? > barrier {
            return Err(Trouble::Fenced);
        }
        let later = found.values().any(|found| found.newest.is_some_and(|newest| newest > barrier));
        let end = if later { self.probe.mark(&plan.layout.source).await? } else { mark };
        let outcome = compare::examine(&batch, &found, end.lsn);
        tracing::debug!(
            table,
            keys = keys.len(),
            moved = outcome.moved,
            different = outcome.different.len(),
            barrier = barrier.last_commit_lsn(),
            "examined rows"
        );
        Ok(Examined { batch, different: outcome.different })
    }

    /// Writes the rows of an examination over what differs, and notes what was found.
    async fn repair(&mut self, lane: &mut Lane, examined: Examined) -> Result<(), Trouble> {
        let Examined { mut batch, different } = examined;
        let table = lane.route.target.clone();
        self.confirm(lane).await?;
        let found_ms = now_ms();
        let entries: Result<Vec<Entry>, Trouble> =
            different.iter().map(|difference| entry(lane, difference)).collect();
        let mut entries = entries?;
        self.book.differences(&table, found_ms, &entries).await?;
        let keys: Vec<Vec<u8>> = different.iter().map(|difference| difference.key.clone()).collect();
        let of_nowhere = different.iter().filter_map(|it| Some((it.key.as_slice(), it.of_nowhere?)));
        let of_nowhere: Vec<(&[u8], Version)> = of_nowhere.collect();
        if !of_nowhere.is_empty() {
            match self.target.remove(&lane.plan, &of_nowhere).await {
                // A change that came meanwhile may have gone with the row that hid it: what is written has to be newer.
                Ok(()) => batch = self.examine(lane, &keys).await?.batch,
                Err(error) => {
                    tracing::warn!(table, %error, "rows whose version no log has reached cannot be removed");
                }
            }
        }
        let repaired = self.write(lane, batch, &keys).await?;
        for (entry, repaired) in entries.iter_mut().zip(repaired) {
            entry.repaired = repaired;
        }
        // Before it is written down, so that a failure to write counts nothing twice.
        self.note(lane, &different, &entries);
        entries.retain(|entry| entry.repaired);
        if let Err(error) = self.book.differences(&table, found_ms, &entries).await {
            tracing::warn!(table, %error, "that rows are repaired cannot be written");
        }
        Ok(())
    }

    /// Looks whether the table is still the one that was examined: it took a while, and rows of another epoch or of another
    /// server must not be written.
    async fn confirm(&self, lane: &Lane) -> Result<(), Trouble> {
        let all = self.requests.look().await?;
        let same = all.iter().any(|open| {
            let known = (open.epoch, open.layout) == (lane.wanted.epoch, lane.wanted.layout);
            open.table == lane.route.target && known && open.is_settled(&self.place)
        });
        if same { Ok(()) } else { Err(Trouble::Changed) }
    }

    /// Writes rows that were read behind a barrier, and says of each key whether nothing older is seen any more.
    async fn write(&mut self, lane: &Lane, mut batch: Batch, keys: &[Vec<u8>]) -> Result<Vec<bool>, Trouble> {
        self.confirm(lane).await?;
        // Those that no column can hold were sent when they were read or changed.
        batch.dead.clear();
        if batch.rows() == 0 {
            return Ok(vec![false; keys.len()]);
        }
        let (barrier, _) = batch.version_of(0);
        let (events, _said) = std::sync::mpsc::channel();
        // It was confirmed just now, and will not be again.
        let (_, known) = watch::channel(Instant::now());
        let store = self.context.writer.store(batch, &lane.route.topic, events, known);
        tokio::time::timeout(REPAIR_DEADLINE, Box::pin(store)).await.map_err(|_| Trouble::Repair)?;
        let now = self.target.found(&lane.plan, keys).await?;
        let end = self.probe.mark(&lane.plan.layout.source).await?;
        let is_repaired = |key: &Vec<u8>| {
            let newest = now.get(key).and_then(|found| found.newest);
            newest.is_some_and(|newest| {
                newest >= barrier && !compare::is_impossible(newest, barrier.epoch(), end.lsn)
            })
        };
        Ok(keys.iter().map(is_repaired).collect())
    }

    /// Counts differences, and says them.
    fn note(&self, lane: &mut Lane, different: &[Difference], entries: &[Entry]) {
        let table = &lane.route.target;
        let count = different.len() as u64;
        let repaired = entries.iter().filter(|entry| entry.repaired).count() as u64;
        lane.kept.differences += count;
        lane.kept.repaired += repaired;
        if let Some(round) = &mut lane.round {
            round.differences += count;
            round.open += count - repaired;
        }
        let metrics = &self.context.metrics.verify;
        for difference in different {
            let cause = CauseLabel { table: table.clone(), cause: difference.kind.as_str() };
            metrics.differences.get_or_create(&cause).inc();
        }
        metrics.repaired.get_or_create(&label(table)).inc_by(repaired);
        tracing::error!(
            table,
            rows = count,
            repaired,
            kinds = kinds(entries),
            "rows differed from their source; which ones is in _tidemark_differences"
        );
    }
}

fn entry(lane: &Lane, difference: &Difference) -> Result<Entry, Trouble> {
    let name = |place: &usize| lane.plan.layout.columns[*place].target.clone();
    Ok(Entry {
        key: key_json(&lane.plan, &difference.key).map_err(|_| Trouble::Key)?,
        kind: difference.kind.as_str(),
        columns: difference.columns.iter().map(name).collect(),
        repaired: false,
    })
}

/// Kinds and columns, for people.
fn kinds(entries: &[Entry]) -> String {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        let columns =
            if entry.columns.is_empty() { String::new() } else { format!(" {}", entry.columns.join(",")) };
        *all.entry(format!("{}{columns}", entry.kind)).or_default() += 1;
    }
    let texts: Vec<String> = all.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    texts.join("; ")
}

fn label(table: &str) -> TableLabel {
    TableLabel { table: table.to_owned() }
}
