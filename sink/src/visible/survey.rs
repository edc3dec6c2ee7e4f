//! Finds positions with the ends of the partitions that hold everything up to them, and writes them down. I/O.
//!
//! Two places a table: what is written over is void or outdone by the other one, which readers have meanwhile. So one that
//! is waited for is never replaced by a later one before it holds, however late the sink is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidemark_crds::ledger::POSITIONS_TABLE;
use tidemark_crds::names::Topics;
use tidemark_crds::quote;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::clickhouse::{self, ClickHouse};
use tidemark_runtime::postgres;
use tokio::task::JoinHandle;

use super::delivered::{Delivered, Unasked};
use super::demand::Demand;
use super::facts::{Bookkeeping, Facts};
use super::verdict::{Claim, TableFacts};
use crate::group::{Owned, lock};
use crate::read::Source;
use crate::verify::{NotPassed, Passage};

/// Pause between two looks at the connector's position, for those who ask and for the view alone.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// How long Connect may take to commit a position: it does so every minute unless it is told otherwise.
const PATIENCE: Duration = Duration::from_mins(3);
/// Deadline of one question to the brokers, and to ClickHouse.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a surveyor works with.
#[derive(Debug, Clone)]
pub struct SurveyorContext {
    /// Tables, and where they are.
    pub config: Arc<SinkConfig>,
    /// Client whose default database is the target.
    pub clickhouse: ClickHouse,
    /// Name of this replica, unlike that of any other.
    pub replica: String,
    /// Partitions of this replica.
    pub owned: Owned,
    /// Properties of Kafka's consumers.
    pub kafka: ClientConfig,
    /// Whether this replica is asked.
    pub demand: Demand,
}

/// A running surveyor: idle but in the owner of the first table's partition 0, and where somebody asks. What it does ends
/// when it is dropped.
#[derive(Debug)]
pub struct Surveyor {
    task: JoinHandle<()>,
}

impl Surveyor {
    /// Starts it on the caller's runtime.
    pub fn start(context: SurveyorContext) -> Self {
        Self { task: tokio::spawn(Box::pin(run(context))) }
    }
}

impl Drop for Surveyor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a round came to nothing; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Source(#[from] postgres::Error),
    #[error("clickhouse: {0}")]
    Target(#[from] clickhouse::Error),
    #[error("{0}")]
    NotPassed(#[from] NotPassed),
    #[error("{0}")]
    Unasked(#[from] Unasked),
    #[error("kafka does not say where the partitions end: {0}")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Other(String),
}

async fn run(context: SurveyorContext) {
    let Some(connect) = &context.config.connect else { return };
    let delivered = match Delivered::new(connect) {
        Ok(delivered) => delivered,
        Err(error) => {
            tracing::error!(%error, "nobody says which positions are visible");
            return;
        }
    };
    let mut work = Work::new(context.clone(), delivered);
    let mut said = String::new();
    loop {
        context.demand.next_round().await;
        if !work.is_wanted() {
            continue;
        }
        match work.round().await {
            Ok(()) => said.clear(),
            Err(trouble) => {
                let trouble = trouble.to_string();
                if said != trouble {
                    tracing::warn!(error = trouble, "which positions are visible is not known at present");
                    said = trouble;
                }
            }
        }
    }
}

struct Work {
    context: SurveyorContext,
    bookkeeping: Bookkeeping,
    source: Source,
    passage: Passage,
    delivered: Delivered,
    /// Asks where partitions end; opened when it is needed.
    questions: Option<Arc<BaseConsumer>>,
    /// Marks that were set.
    marks: u64,
    /// The last position that was found, and whose log it is of.
    found: (String, u64),
    /// What was found last of each table.
    claims: BTreeMap<String, Claim>,
}

impl Work {
    fn new(context: SurveyorContext, delivered: Delivered) -> Self {
        let config = &context.config;
        let clickhouse = context.clickhouse.with_deadline(DEADLINE);
        let messages = Topics { prefix: &config.kafka.topic_prefix }.message();
        Self {
            bookkeeping: Bookkeeping::new(&clickhouse, &config.pipeline),
            source: Source::new(&config.postgres, &config.pipeline),
            passage: Passage::new(context.kafka.clone(), messages, clickhouse, config.pipeline.clone()),
            delivered,
            questions: None,
            marks: 0,
            found: (String::new(), 0),
            claims: BTreeMap::new(),
            context,
        }
    }

    /// Whether this replica looks: one does for the view, and each that is asked. More than one are right all the same.
    fn is_wanted(&self) -> bool {
        self.context.demand.is_there() || lock(&self.context.owned).contains(&(0, 0))
    }

    async fn round(&mut self) -> Result<(), Trouble> {
        let (session, log) = self.source.log().await?;
        if self.found.0 != log.server {
            self.found = (log.server.clone(), 0);
            self.claims.clear();
        }
        self.settle().await?;
        if log.end <= self.found.1 {
            // Nothing was written at the source since: nothing is written there for this either.
            return Ok(());
        }
        self.passage.listen().await?;
        let before = self.delivered.position().await?;
        self.marks += 1;
        let id = format!(
            "visible {} {} {}",
            self.context.replica,
            jiff::Timestamp::now().as_millisecond(),
            self.marks
        );
        let mark = self.source.mark(&session, &id).await?;
        drop(session);
        if before >= mark.lsn {
            return Err(Trouble::Other(
                "the position that connect has committed is beyond the source's log: it is of another server"
                    .into(),
            ));
        }
        let Some(epoch) = self.passage.seen(&mark).await? else {
            return Err(Trouble::Other("the connector's records have no epoch".into()));
        };
        let begin = Instant::now();
        let lsn = loop {
            let lsn = self.delivered.position().await?;
            if lsn >= mark.lsn {
                break lsn;
            }
            if begin.elapsed() > PATIENCE || !self.is_wanted() {
                let seconds = begin.elapsed().as_secs();
                return Err(Trouble::Other(format!(
                    "connect has committed no position of the connector behind one of {seconds} s ago"
                )));
            }
            tokio::time::sleep(if self.context.demand.is_there() { LOOK.0 } else { LOOK.1 }).await;
            self.settle().await?;
        };
        let server = self.found.0.clone();
        self.claims = self
            .ends()
            .await?
            .into_iter()
            .map(|(table, ends)| (table, Claim { epoch, server: server.clone(), lsn, ends }))
            .collect();
        self.found.1 = lsn;
        tracing::debug!(mark = mark.lsn, end = log.end, lsn, "found where everything up to a position lies");
        self.settle().await
    }

    /// End of each partition of each table.
    async fn ends(&mut self) -> Result<BTreeMap<String, BTreeMap<i32, i64>>, Trouble> {
        // Before the ends: what is applied beyond them was of another topic of the same name.
        let mut applied = Facts::default();
        self.bookkeeping.progress(&mut applied).await?;
        let questions = match &self.questions {
            Some(questions) => Arc::clone(questions),
            None => Arc::new(self.context.kafka.create()?),
        };
        let routes = self.context.config.tables.iter();
        let topics: Vec<(String, String)> =
            routes.map(|route| (route.target.clone(), route.topic.clone())).collect();
        let asked = Arc::clone(&questions);
        let ends = tokio::task::spawn_blocking(move || ends(&asked, &topics)).await;
        let ends = ends.map_err(|error| Trouble::Other(error.to_string()))??;
        self.questions = Some(questions);
        for (table, ends) in &ends {
            let next = applied.tables.get(table).map(|facts| &facts.next);
            let is_beyond =
                |(partition, next): (&i32, &i64)| ends.get(partition).is_none_or(|end| end < next);
            if ends.is_empty() || next.into_iter().flatten().any(is_beyond) {
                return Err(Trouble::Other(format!("the topic of {table} has less than was applied of it")));
            }
        }
        Ok(ends)
    }

    /// Writes down what was found where there is a place for it.
    async fn settle(&mut self) -> Result<(), Trouble> {
        let mut facts = Facts { tables: self.bookkeeping.claims().await?, ..Facts::default() };
        self.bookkeeping.progress(&mut facts).await?;
        let none = TableFacts::default();
        let mut rows = Vec::new();
        for route in &self.context.config.tables {
            let table = &route.target;
            let known = facts.tables.get(table).unwrap_or(&none);
            let void = Claim { epoch: 0, server: self.found.0.clone(), lsn: 0, ends: BTreeMap::new() };
            if is_strange(&known.claims, &self.found.0) {
                rows.extend([0, 1].map(|slot| (table.clone(), slot, void.clone())));
            } else if let Some(claim) = self.claims.get(table)
                && let Some(slot) = slot_of(&known.claims, &known.next, claim)
            {
                rows.push((table.clone(), slot, claim.clone()));
            }
        }
        if !rows.is_empty() {
            let sql = insert(&self.context.config.pipeline, &rows);
            let clickhouse = self.context.clickhouse.with_deadline(DEADLINE);
            clickhouse.execute_with_settings(&sql, &[("async_insert", "0")]).await?;
        }
        Ok(())
    }
}

/// Whether nothing is known of a table on this server, so that what is there is of another one.
fn is_strange(claims: &[Claim], server: &str) -> bool {
    claims.len() < 2 || claims.iter().all(|claim| claim.server != server)
}

/// The place for a claim, where there is one: not while another one is waited for that can still come true.
fn slot_of(claims: &[Claim], next: &BTreeMap<i32, i64>, new: &Claim) -> Option<usize> {
    let is_valid = |claim: &Claim| (claim.epoch, &claim.server) == (new.epoch, &new.server);
    if claims.iter().any(|claim| is_valid(claim) && claim.lsn >= new.lsn) {
        return None;
    }
    let can_come = |claim: &Claim| {
        claim.ends.iter().all(|(partition, end)| new.ends.get(partition).is_some_and(|now| now >= end))
    };
    let is_waited_for = |claim: &&Claim| is_valid(claim) && !claim.is_passed(next) && can_come(claim);
    if claims.iter().any(|claim| is_waited_for(&claim)) {
        return None;
    }
    // The one that readers have stays.
    let rank = |claim: &Claim| if is_valid(claim) && claim.is_passed(next) { claim.lsn } else { 0 };
    claims.iter().enumerate().min_by_key(|(_, claim)| rank(claim)).map(|(slot, _)| slot)
}

/// End of each partition of each topic, by table. Blocks.
fn ends(
    consumer: &BaseConsumer,
    topics: &[(String, String)],
) -> Result<BTreeMap<String, BTreeMap<i32, i64>>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (_, topic) in topics {
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
        for found in metadata.topics() {
            if let Some(error) = found.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            for partition in found.partitions() {
                list.add_partition_offset(topic, partition.id(), Offset::End)?;
            }
        }
    }
    let mut ends: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    let found = consumer.offsets_for_times(list, DEADLINE)?;
    for (table, topic) in topics {
        let ends = ends.entry(table.clone()).or_default();
        for element in found.elements_for_topic(topic) {
            element.error()?;
            let Offset::Offset(end) = element.offset() else {
                return Err(KafkaError::OffsetFetch(rdkafka::types::RDKafkaErrorCode::NoOffset));
            };
            ends.insert(element.partition(), end);
        }
    }
    Ok(ends)
}

fn insert(pipeline: &str, rows: &[(String, usize, Claim)]) -> String {
    let mut sql = format!(
        "INSERT INTO {} (pipeline, table, slot, epoch, server, lsn, partitions, ends, seen_at, beat) VALUES ",
        quote::ident(POSITIONS_TABLE)
    );
    let list = |numbers: Vec<String>| format!("[{}]", numbers.join(", "));
    for (place, (table, slot, claim)) in rows.iter().enumerate() {
        let _ = write!(
            sql,
            "{}({}, {}, {slot}, {}, {}, {}, {}, {}, now64(3), toUnixTimestamp64Milli(now64(3)))",
            if place == 0 { "" } else { ", " },
            quote::literal(pipeline),
            quote::literal(table),
            claim.epoch,
            quote::literal(&claim.server),
            claim.lsn,
            list(claim.ends.keys().map(ToString::to_string).collect()),
            list(claim.ends.values().map(ToString::to_string).collect()),
        );
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(epoch: u16, lsn: u64, end: i64) -> Claim {
        Claim { epoch, server: "a".to_owned(), lsn, ends: [(0, end)].into() }
    }

    #[test]
    fn a_claim_that_is_waited_for_or_that_readers_have_is_not_written_over() {
        let slot = |claims: [Claim; 2], next: i64, new: Claim| slot_of(&claims, &[(0, next)].into(), &new);
        // Both hold: the older one goes.
        assert_eq!(slot([claim(1, 50, 5), claim(1, 40, 4)], 9, claim(1, 60, 6)), Some(1));
        assert_eq!(slot([claim(1, 40, 4), claim(1, 50, 5)], 9, claim(1, 60, 6)), Some(0));
        // One is waited for.
        assert_eq!(slot([claim(1, 40, 4), claim(1, 50, 5)], 4, claim(1, 60, 6)), None);
        // It can come true no more, since its topic is another one now.
        assert_eq!(slot([claim(1, 40, 4), claim(1, 50, 500)], 4, claim(1, 60, 6)), Some(1));
        // It is there, or less is.
        assert_eq!(slot([claim(1, 40, 4), claim(1, 60, 6)], 9, claim(1, 60, 6)), None);
        assert_eq!(slot([claim(1, 40, 4), claim(1, 60, 6)], 9, claim(1, 50, 5)), None);
        // Those of an epoch before, whatever they say.
        assert_eq!(slot([claim(1, 400, 40), claim(1, 500, 50)], 9, claim(2, 60, 6)), Some(0));
        let strange = Claim { server: "b".to_owned(), ..claim(1, 500, 50) };
        assert_eq!(slot([claim(1, 40, 4), strange.clone()], 9, claim(1, 60, 6)), Some(1));
        assert!(!is_strange(&[claim(1, 40, 4), strange.clone()], "a"));
        assert!(is_strange(&[strange.clone(), strange], "a") && is_strange(&[claim(1, 40, 4)], "a"));
    }

    #[test]
    fn names_are_quoted_and_partitions_stand_beside_their_ends() {
        let two = Claim { ends: [(0, 7), (1, 9)].into(), ..claim(3, 90, 0) };
        let sql = insert("a/b", &[("it's".to_owned(), 1, two)]);
        assert!(
            sql.ends_with(
                r"('a/b', 'it\'s', 1, 3, 'a', 90, [0, 1], [7, 9], now64(3), toUnixTimestamp64Milli(now64(3)))"
            ),
            "{sql}"
        );
    }
}
