//! The consumer: one thread that reads Kafka, fills batches, hands them to the writer and commits what is
//! acknowledged. I/O.
//!
//! A rebalance needs no draining: what was read and not committed is read again by the partition's new owner,
//! and writing a row twice changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tidemark_crds::layout::TableLayout;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;

use crate::batch::{Batch, FlushCause, InsertBudget, Limits, Moment, due};
use crate::config;
use crate::group::{Borrowed, Context, Owned, consumer_config, lock, log_read_error};
use crate::layouts::{Demand, Layouts};
use crate::metrics::{CauseLabel, Metrics, TableLabel};
use crate::offsets::{OffsetRange, Offsets, Partition};
use crate::plan::Encoding;
use crate::progress::{Progress, Recorded};
use crate::table::{Table, Wanted};
use crate::write::{LateDead, Writer};

/// Bytes of rows that may be in memory, over all tables.
const MEMORY: usize = 96 << 20;
/// Bytes of one batch at most, so that one fills while another is written and compressed.
const BATCH_BYTES: usize = 24 << 20;
/// How long to gather rows after the first one.
const LINGER: Duration = Duration::from_millis(20);
/// How long reading may stand still for a full table before that table alone is paused.
const STALL: Duration = Duration::from_secs(1);
/// Pause between two commits, and between two progress rows.
const SECOND: Duration = Duration::from_secs(1);
/// How often the configuration file and mounted credentials are compared with those in use.
const INPUT_CHECK: Duration = Duration::from_secs(5);
/// How long to wait for a wider layout before a value is treated by its column's policy.
const SETTLE: Duration = Duration::from_secs(30);
/// Records after which the clock is looked at, and payload bytes after which sizes are.
const CHECK_RECORDS: usize = 64;
const CHECK_BYTES: usize = 1 << 20;

/// What the other threads and tasks tell the consumer.
#[derive(Debug)]
pub enum Event {
    /// A batch is acknowledged.
    Written {
        /// Place of its table.
        table: usize,
        /// Offsets that it covers.
        offsets: BTreeMap<i32, OffsetRange>,
        /// Dead letters written, by partition.
        dead: LateDead,
    },
    /// The ledger has a newer layout.
    Layout(usize, Box<TableLayout>),
    /// The operator had time enough to answer.
    Settle(usize, String),
    /// Where reading of a partition starts.
    Start(Partition, i64),
    /// A heartbeat was seen: its instant and the end offsets of partitions at that time.
    Heartbeat(i64, Vec<(Partition, i64)>),
    /// What earlier owners of the partitions recorded.
    Recorded(Vec<Recorded>),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process is to end.
    Shutdown,
    /// The configuration file or the connection's secrets changed: begin again with what they are now.
    Reconfigured,
}

/// Everything that a session needs and does not own.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The configuration.
    pub config: Arc<SinkConfig>,
    /// The file that it was read from.
    pub config_file: PathBuf,
    /// How the connector writes what its settings leave open.
    pub encoding: Encoding,
    /// Writes batches.
    pub writer: Writer,
    /// Reads layouts.
    pub layouts: Layouts,
    /// Writes progress.
    pub progress: Progress,
    /// Metrics.
    pub metrics: Metrics,
    /// Where tasks run.
    pub runtime: tokio::runtime::Handle,
    /// Readiness of the process.
    pub readiness: tidemark_runtime::shell::Readiness,
    /// Whether the process is to end.
    pub shutdown: tidemark_runtime::shell::Shutdown,
    /// How long the last batches may take when the process ends.
    pub drain: Duration,
}

/// One table with what only the consumer needs to know.
#[derive(Debug)]
struct Lane {
    table: Table,
    label: TableLabel,
    events: prometheus_client::metrics::counter::Counter,
    /// Bytes of the batch that is being written.
    in_flight: Option<usize>,
    /// Whether reading is paused for back-pressure.
    blocked: bool,
    /// What librdkafka was told.
    paused: bool,
}

/// One connection to Kafka and everything read through it.
pub struct Session {
    around: Surroundings,
    consumer: Arc<BaseConsumer<Context>>,
    connection: Connection,
    lanes: Vec<Lane>,
    by_topic: HashMap<String, usize>,
    offsets: Offsets,
    owned: Owned,
    recorded: BTreeSet<Partition>,
    limits: Limits,
    budget: InsertBudget,
    events: Receiver<Event>,
    sender: Sender<Event>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    progress_task: Option<tokio::task::JoinHandle<()>>,
    clock: Clock,
    stalled: Option<Instant>,
    /// Whether it is time to look at sizes.
    full: bool,
    /// When reading last waited for a record.
    idle: Instant,
}

#[derive(Debug)]
struct Clock {
    refilled: Instant,
    committed: Instant,
    progressed: Instant,
    checked: Instant,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and subscribes; also returns the sender of events.
    pub fn start(around: Surroundings, connection: Connection, client_id: &str) -> KafkaResult<Self> {
        let config = &around.config;
        let consumer: BaseConsumer<Context> =
            consumer_config(&connection, config, client_id).create_with_context(Context::default())?;
        let topics: Vec<&str> = config.tables.iter().map(|table| table.topic.as_str()).collect();
        consumer.subscribe(&topics)?;
        let (sender, events) = std::sync::mpsc::channel();
        let lanes: Vec<Lane> = config
            .tables
            .iter()
            .map(|route| {
                let label = TableLabel { table: route.target.clone() };
                Lane {
                    table: Table::new(route.clone(), config.dead_letter.max_share_per_mille),
                    events: around.metrics.events.get_or_create(&label).clone(),
                    label,
                    in_flight: None,
                    blocked: false,
                    paused: false,
                }
            })
            .collect();
        let batch = &config.batch;
        let now = Instant::now();
        let session = Self {
            by_topic: config.tables.iter().enumerate().map(|(at, t)| (t.topic.clone(), at)).collect(),
            limits: Limits {
                rows: usize::try_from(batch.max_rows).unwrap_or(usize::MAX),
                bytes: usize::try_from(batch.max_bytes).unwrap_or(usize::MAX).min(BATCH_BYTES),
                linger: LINGER.min(Duration::from_millis(batch.max_age_ms)),
                age: Duration::from_millis(batch.max_age_ms),
            },
            budget: InsertBudget::new(batch.inserts_per_second, batch.replicas),
            consumer: Arc::new(consumer),
            connection,
            lanes,
            offsets: Offsets::default(),
            owned: Owned::default(),
            recorded: BTreeSet::new(),
            events,
            sender,
            tasks: Vec::new(),
            progress_task: None,
            clock: Clock { refilled: now, committed: now, progressed: now, checked: now },
            stalled: None,
            full: false,
            idle: now,
            around,
        };
        for at in 0..session.lanes.len() {
            session.await_layout(at, 0);
        }
        session.show_missing_layouts();
        Ok(session)
    }

    /// Returns what the heartbeat thread needs.
    pub fn shared(&self) -> (Arc<BaseConsumer<Context>>, Owned, Sender<Event>) {
        (Arc::clone(&self.consumer), Arc::clone(&self.owned), self.sender.clone())
    }

    /// Reads until the process ends, or the configuration or the secrets change.
    pub fn run(mut self) -> End {
        let (mut records, mut bytes) = (0, 0);
        loop {
            if self.around.shutdown.is_requested() {
                return self.drain(End::Shutdown);
            }
            while let Ok(event) = self.events.try_recv() {
                self.on_event(event);
            }
            if records >= CHECK_RECORDS || bytes >= CHECK_BYTES {
                (records, bytes) = (0, 0);
                if self.house_keeping(Instant::now()) {
                    return self.drain(End::Reconfigured);
                }
                self.full = true;
            }
            if self.full && self.must_wait() {
                match self.events.recv_timeout(Duration::from_millis(5)) {
                    Ok(event) => self.on_event(event),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                records = CHECK_RECORDS;
                continue;
            }
            let consumer = Arc::clone(&self.consumer);
            let message = consumer.poll(self.poll_timeout());
            if consumer.context().changed.swap(false, Ordering::AcqRel) {
                self.on_rebalance();
            }
            match message {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += message.payload_len();
                    self.on_message(&message);
                }
                Some(Err(error)) => {
                    log_read_error(&error);
                    records = CHECK_RECORDS;
                }
                None => {
                    self.idle = Instant::now();
                    records = CHECK_RECORDS;
                }
            }
        }
    }

    fn on_message(&mut self, message: &BorrowedMessage<'_>) {
        let Some(&at) = self.by_topic.get(message.topic()) else {
            return;
        };
        if !self.offsets.has((at, message.partition())) {
            return;
        }
        let lane = &mut self.lanes[at];
        lane.events.inc();
        let wanted = lane.table.take(&Borrowed(message), Instant::now());
        self.after_take(at, wanted);
    }

    fn after_take(&mut self, at: usize, wanted: Option<Wanted>) {
        let quiet = wanted.is_none() && !self.lanes[at].paused;
        if quiet && !self.lanes[at].table.stopped() {
            return;
        }
        if let Some(wanted) = wanted {
            self.demand(at, wanted);
        }
        if self.lanes[at].table.stopped() && !self.lanes[at].paused {
            tracing::error!(
                table = self.lanes[at].label.table,
                "too many records cannot be applied: the table stops; look into the dead-letter topic"
            );
        }
        self.steer(at);
    }

    fn poll_timeout(&self) -> Duration {
        let busy = self.lanes.iter().any(|lane| lane.in_flight.is_some() || lane.table.has_batch());
        Duration::from_millis(if busy { 5 } else { 50 })
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Written { table, offsets, dead } => {
                self.lanes[table].in_flight = None;
                self.lanes[table].blocked = false;
                for (partition, mut range) in offsets {
                    range.dead += dead.get(&partition).copied().unwrap_or(0);
                    self.offsets.apply((table, partition), &range);
                    if self.offsets.has((table, partition)) {
                        let topic = self.lanes[table].table.route.topic.clone();
                        lock(&self.consumer.context().applied).insert((topic, partition), range.next);
                    }
                }
                self.flush(now, false);
                self.steer(table);
            }
            Event::Layout(at, layout) => {
                let version = layout.version;
                let lane = &mut self.lanes[at];
                match lane.table.use_layout(*layout, self.around.encoding, now) {
                    Ok(wanted) => {
                        tracing::info!(table = lane.label.table, version, "using the layout of the ledger");
                        self.after_take(at, wanted);
                    }
                    Err(error) => {
                        tracing::error!(table = lane.label.table, version, %error, "the layout cannot be used");
                        self.await_layout(at, version);
                    }
                }
                self.show_missing_layouts();
            }
            Event::Settle(at, field) => {
                let wanted = self.lanes[at].table.settle(&field, now);
                self.after_take(at, wanted);
            }
            Event::Start(partition, next) => self.offsets.start(partition, next),
            Event::Heartbeat(instant, ends) => {
                let mut lag: BTreeMap<usize, i64> = BTreeMap::new();
                for (partition, end) in ends {
                    self.offsets.heartbeat(partition, instant, end);
                    let next = self.offsets.next(partition);
                    *lag.entry(partition.0).or_default() += next.map_or(0, |next| (end - next).max(0));
                }
                for (at, records) in lag {
                    self.around.metrics.lag.get_or_create(&self.lanes[at].label).set(records);
                }
            }
            Event::Recorded(rows) => {
                for row in rows {
                    let at = self.lanes.iter().position(|lane| lane.label.table == row.table);
                    if let Some(partition) = at.map(|at| (at, row.partition))
                        && !self.recorded.contains(&partition)
                    {
                        self.offsets.resume(partition, &row.applied());
                    }
                }
                self.recorded = self.offsets.all().map(|(partition, _)| partition).collect();
            }
        }
    }

    fn on_rebalance(&mut self) {
        let changes = std::mem::take(&mut *lock(&self.consumer.context().changes));
        for (assigned, partitions) in changes {
            for (topic, partition) in &partitions {
                let Some(&at) = self.by_topic.get(topic) else {
                    continue;
                };
                if assigned {
                    self.offsets.assign((at, *partition), None);
                    // A paused table's new partitions are not paused yet.
                    self.lanes[at].paused = false;
                } else {
                    self.offsets.revoke((at, *partition));
                    self.recorded.remove(&(at, *partition));
                    self.lanes[at].table.forget(*partition);
                }
            }
            tracing::info!(assigned, count = partitions.len(), "partitions changed");
        }
        *lock(&self.owned) = self.offsets.all().map(|(partition, _)| partition).collect();
        (0..self.lanes.len()).for_each(|at| self.steer(at));
        let (progress, sender) = (self.around.progress.clone(), self.sender.clone());
        self.around.runtime.spawn(async move {
            let mut pause = Duration::from_millis(250);
            loop {
                match progress.recorded().await {
                    Ok(rows) => break drop(sender.send(Event::Recorded(rows))),
                    Err(error) => tracing::debug!(%error, "progress cannot be read yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        });
    }

    /// Does what time asks for; returns whether the configuration or the secrets changed.
    fn house_keeping(&mut self, now: Instant) -> bool {
        self.budget.refill(now - self.clock.refilled);
        self.clock.refilled = now;
        self.flush(now, false);
        if now - self.clock.committed >= SECOND {
            self.clock.committed = now;
            self.commit(CommitMode::Async);
        }
        if now - self.clock.progressed >= SECOND {
            self.clock.progressed = now;
            self.report();
        }
        if now - self.clock.checked < INPUT_CHECK {
            return false;
        }
        self.clock.checked = now;
        // A file that is half written, or of another version, leaves the last good one running.
        config::load(&self.around.config_file).is_ok_and(|config| config != *self.around.config)
            || Connection::read(&self.around.config.kafka)
                .is_ok_and(|connection| connection != self.connection)
    }

    /// Sends what is due, oldest first, as far as the budget goes.
    fn flush(&mut self, now: Instant, drain: bool) {
        let mut order: Vec<usize> = (0..self.lanes.len())
            .filter(|at| self.lanes[*at].in_flight.is_none() && self.lanes[*at].table.has_batch())
            .collect();
        order.sort_by_key(|at| self.lanes[*at].table.waiting_since());
        let (limits, idle) = (self.limits, self.idle);
        for at in order {
            let lane = &mut self.lanes[at];
            let due_now = |rows, bytes, first: Instant| {
                let age = now.saturating_duration_since(first);
                due(&limits, rows, bytes, Moment { age, caught_up: idle >= first, drain })
            };
            if !drain && !lane.table.is_due(due_now) {
                continue;
            }
            if !drain && !self.budget.take() {
                break;
            }
            if let Some((batch, cause)) = self.lanes[at].table.next_batch(due_now) {
                self.send(at, batch, cause);
            }
        }
    }

    fn send(&mut self, at: usize, batch: Batch, cause: FlushCause) {
        let lane = &mut self.lanes[at];
        lane.in_flight = Some(batch.bytes());
        let metrics = &self.around.metrics;
        let cause = CauseLabel { table: lane.label.table.clone(), cause: cause.as_str() };
        metrics.batches.get_or_create(&cause).inc();
        let freshness = metrics.freshness.get_or_create(&lane.label).clone();
        let (writer, sender) = (self.around.writer.clone(), self.sender.clone());
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(self.around.runtime.spawn(async move {
            let (batch, dead) = Box::pin(writer.write(batch)).await;
            let now = now_ms();
            batch.commit_times().for_each(|committed_at| freshness.observe_ms(now - committed_at));
            let _ = sender.send(Event::Written { table: at, offsets: batch.offsets, dead });
        }));
    }

    /// Whether reading must stand still until something is acknowledged; pauses tables when that lasts.
    fn must_wait(&mut self) -> bool {
        let used: usize = self.lanes.iter().map(|l| l.table.bytes() + l.in_flight.unwrap_or(0)).sum();
        let over = used > MEMORY;
        let full: Vec<usize> = (0..self.lanes.len())
            .filter(|at| {
                let lane = &self.lanes[*at];
                let (rows, bytes) = lane.table.filling();
                let full = rows >= self.limits.rows || bytes >= self.limits.bytes;
                lane.in_flight.is_some() && !lane.blocked && (full || over)
            })
            .collect();
        if full.is_empty() {
            self.full = false;
            self.stalled = None;
            return false;
        }
        if self.stalled.get_or_insert_with(Instant::now).elapsed() < STALL {
            return true;
        }
        self.stalled = None;
        for at in full {
            self.lanes[at].blocked = true;
            self.steer(at);
        }
        false
    }

    /// Tells librdkafka whether a table is to be read.
    fn steer(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let held = lane.table.waits();
        let stopped = lane.table.stopped();
        self.around.metrics.held.get_or_create(&lane.label).set(i64::from(held));
        self.around.metrics.stopped.get_or_create(&lane.label).set(i64::from(stopped));
        let pause = held || stopped || lane.blocked;
        if pause == lane.paused {
            return;
        }
        lane.paused = pause;
        let mut list = TopicPartitionList::new();
        for ((table, partition), _) in self.offsets.all() {
            if table == at {
                list.add_partition(&lane.table.route.topic, partition);
            }
        }
        if list.count() == 0 {
            return;
        }
        let done = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            tracing::warn!(table = lane.label.table, pause, %error, "reading cannot be paused or resumed");
        }
    }

    fn commit(&mut self, mode: CommitMode) {
        if self.consumer.context().commit_failed.swap(false, Ordering::AcqRel) {
            self.around.metrics.commit_failures.inc();
            let again = self.offsets.all().filter_map(|(p, applied)| Some((p, applied.next?))).collect();
            self.offsets.put_back(again);
        }
        let offsets = self.offsets.take_committable();
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for ((at, partition), next) in &offsets {
            let topic = &self.lanes[*at].table.route.topic;
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        }
        if let Err(error) = self.consumer.commit(&list, mode) {
            tracing::warn!(%error, "offsets cannot be committed yet");
            self.around.metrics.commit_failures.inc();
            self.offsets.put_back(offsets);
        }
    }

    /// Writes progress rows and gauges.
    fn report(&mut self) {
        for lane in &self.lanes {
            let bytes = lane.table.bytes() + lane.in_flight.unwrap_or(0);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.around.metrics.queued_bytes.get_or_create(&lane.label).set(bytes);
        }
        if self.progress_task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let rows: Vec<_> = self
            .offsets
            .all()
            .filter(|(partition, applied)| self.recorded.contains(partition) && applied.next.is_some())
            .map(|((at, partition), applied)| (self.lanes[at].label.table.clone(), partition, applied))
            .collect();
        let progress = self.around.progress.clone();
        self.progress_task = Some(self.around.runtime.spawn(async move {
            if let Err(error) = progress.write(&rows).await {
                tracing::debug!(%error, "progress cannot be written yet");
            }
        }));
    }

    fn demand(&self, at: usize, wanted: Wanted) {
        let lane = &self.lanes[at];
        let known = lane.table.layout_version();
        let Wanted { field, why } = wanted;
        tracing::warn!(table = lane.label.table, field, why, known, "holding the table for a newer layout");
        let demand = Demand { table: lane.label.table.clone(), field: field.clone(), layout_version: known };
        let layouts = self.around.layouts.clone();
        self.around.runtime.spawn(async move { layouts.demand(&demand).await });
        self.await_layout(at, known);
        // An unknown field is waited for as long as it takes; a value that does not fit is not.
        if lane.table.knows(&field) {
            let sender = self.sender.clone();
            self.around.runtime.spawn(async move {
                tokio::time::sleep(SETTLE).await;
                let _ = sender.send(Event::Settle(at, field));
            });
        }
    }

    fn await_layout(&self, at: usize, known: u64) {
        let (layouts, sender) = (self.around.layouts.clone(), self.sender.clone());
        let table = self.lanes[at].label.table.clone();
        self.around.runtime.spawn(async move {
            let layout = layouts.newer(&table, known).await;
            let _ = sender.send(Event::Layout(at, Box::new(layout)));
        });
    }

    fn show_missing_layouts(&self) {
        let missing: Vec<&str> = self
            .lanes
            .iter()
            .filter(|lane| lane.table.layout_version() == 0)
            .map(|lane| lane.label.table.as_str())
            .collect();
        if missing.is_empty() {
            self.around.readiness.open("tables");
        } else {
            let why = format!("the ledger has no layout yet of {}", missing.join(", "));
            self.around.readiness.close("tables", why);
        }
    }

    /// Sends everything, waits for the acknowledgements and commits.
    fn drain(mut self, end: End) -> End {
        let deadline = Instant::now() + self.around.drain;
        loop {
            self.flush(Instant::now(), true);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.lanes.iter().all(|lane| lane.in_flight.is_none()) {
                break;
            }
            match self.events.recv_timeout(left.min(Duration::from_millis(200))) {
                Ok(event) => self.on_event(event),
                Err(_) if left.is_zero() => {
                    tracing::warn!(
                        "some rows are not acknowledged in time; they are read again at the next start"
                    );
                    break;
                }
                Err(_) => {}
            }
        }
        self.commit(CommitMode::Sync);
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        tracing::info!(?end, "stopped reading");
        end
    }
}

/// Milliseconds since 1970-01-01 by this machine's clock.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
