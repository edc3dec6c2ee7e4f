//! One connection to Kafka: reads records, fills batches, hands them to the writer and commits what is acknowledged.
//! I/O.
//!
//! A rebalance needs no draining: what was read and not applied is read again by the partition's new owner, and
//! writing a row twice changes nothing.

mod assign;
mod events;
mod pace;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message};
use tidemark_crds::ledger::TableState;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::kafka::Connection;
use tokio::sync::watch;

use crate::board::{Board, Poller};
use crate::consume::{Event, Failure};
use crate::group::{Borrowed, Context, Owned, consumer_config, log_read_error};
use crate::letters::Open;
use crate::limits::{InsertBudget, Limits};
use crate::memory::Memory;
use crate::metrics::{Metrics, TableLabel};
use crate::offsets::{Offsets, Partition};
use crate::plan::{Encoding, TablePlan};
use crate::progress::Progress;
use crate::router::{Router, Step};
use crate::state::States;
use crate::table::{Table, Taken};
use crate::write::Writer;

/// How long to gather rows after the first one.
const LINGER: Duration = Duration::from_millis(20);
/// How often the configuration file and mounted credentials are compared with those in use.
const INPUT_CHECK: Duration = Duration::from_secs(5);
/// Pause between two commits, and between two progress rows.
const SECOND: Duration = Duration::from_secs(1);
/// Records after which the clock is looked at, and payload bytes after which sizes are.
const CHECK_RECORDS: usize = 64;
const CHECK_BYTES: usize = 1 << 20;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process is to end.
    Shutdown,
    /// The configuration file or the connection's secrets changed: begin again with what they are now.
    Reconfigured,
    /// The tables were set back, as by a backup, or may have been: begin again where they are.
    SetBack,
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
    /// Looks at the ledger.
    pub poller: Poller,
    /// Where others see the ledger.
    pub boards: watch::Sender<Arc<Board>>,
    /// Writes progress.
    pub progress: Progress,
    /// Writes states.
    pub states: States,
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

/// One table with what only the session needs to know.
#[derive(Debug)]
struct Lane {
    table: Table,
    label: TableLabel,
    events: Counter,
    /// Bytes of the batch that is being written.
    in_flight: Option<usize>,
    /// Why that one is not written yet.
    failure: Option<Failure>,
    /// Whether reading is paused for want of memory.
    blocked: bool,
    /// What librdkafka was told.
    paused: bool,
    /// Whether it is in the set of those that have something.
    active: bool,
    /// Its open dead letters.
    letters: Open,
    /// Those that were written and have not been heard of yet.
    dying: Vec<Dying>,
    /// The newest plan, for the batch that is being written; absent before the first.
    newest: Option<watch::Sender<Arc<TablePlan>>>,
    /// Layout under which dead letters stopped it.
    stopped_under: u64,
}

/// Dead letters of a range of offsets that is applied. The topic of the letters says which are open, and says it a moment
/// later: until then they are counted as they were written.
#[derive(Debug)]
struct Dying {
    partition: i32,
    offsets: std::ops::Range<i64>,
    dead: u64,
    since: Instant,
}

/// One connection to Kafka and everything read through it.
pub struct Session {
    around: Surroundings,
    consumer: Arc<BaseConsumer<Context>>,
    connection: Connection,
    lanes: Vec<Lane>,
    /// Lanes that have rows, or a batch that is being written.
    active: BTreeSet<usize>,
    router: Router,
    offsets: Offsets,
    owned: Owned,
    /// Partitions whose recorded counters are known.
    recorded: BTreeSet<Partition>,
    board: Arc<Board>,
    /// Whether the operator was heard.
    heard: bool,
    limits: Limits,
    memory: Memory,
    budget: InsertBudget,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Ended with the session.
    tasks: tokio::task::JoinSet<()>,
    report_task: Option<tokio::task::AbortHandle>,
    clock: Clock,
    stalled: Option<Instant>,
    /// Whether the tables have less than this session has applied, or may have.
    set_back: bool,
    /// Whether it is time to look at sizes.
    full: bool,
}

#[derive(Debug)]
struct Clock {
    /// Taken once a look, not once a record.
    now: Instant,
    /// When reading last waited for a record.
    idle: Instant,
    refilled: Instant,
    committed: Instant,
    reported: Instant,
    checked: Instant,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and subscribes.
    pub fn start(around: Surroundings, connection: Connection, client_id: &str) -> KafkaResult<Self> {
        let config = Arc::clone(&around.config);
        let consumer: BaseConsumer<Context> =
            consumer_config(&connection, &config, client_id).create_with_context(Context::default())?;
        let topics: Vec<&str> = config.tables.iter().map(|table| table.topic.as_str()).collect();
        consumer.subscribe(&topics)?;
        let (sender, events) = std::sync::mpsc::channel();
        let memory = Memory::of_container();
        let batch = &config.batch;
        let now = Instant::now();
        let mut session = Self {
            router: Router::new(topics),
            limits: Limits {
                rows: usize::try_from(batch.max_rows).unwrap_or(usize::MAX),
                bytes: usize::try_from(batch.max_bytes).unwrap_or(usize::MAX).min(memory.batch()),
                linger: LINGER.min(Duration::from_millis(batch.max_age_ms)),
                age: Duration::from_millis(batch.max_age_ms),
            },
            memory,
            budget: InsertBudget::new(batch.inserts_per_second, batch.replicas),
            consumer: Arc::new(consumer),
            connection,
            lanes: lanes(&around),
            active: BTreeSet::new(),
            offsets: Offsets::default(),
            owned: Owned::default(),
            recorded: BTreeSet::new(),
            board: Arc::default(),
            heard: false,
            events,
            sender,
            tasks: tokio::task::JoinSet::new(),
            report_task: None,
            clock: Clock { now, idle: now, refilled: now, committed: now, reported: now, checked: now },
            stalled: None,
            set_back: false,
            full: false,
            around,
        };
        session.follow_operator();
        session.show_missing_layouts();
        Ok(session)
    }

    /// Returns what the heartbeat thread needs.
    pub fn shared(&self) -> (Arc<BaseConsumer<Context>>, Owned, Sender<Event>) {
        (Arc::clone(&self.consumer), Arc::clone(&self.owned), self.sender.clone())
    }

    /// Starts the tasks that look at the ledger and at what was said before.
    fn follow_operator(&mut self) {
        let (poller, boards, sender) =
            (self.around.poller.clone(), self.around.boards.clone(), self.sender.clone());
        let states = self.around.states.clone();
        let runtime = self.around.runtime.clone();
        self.tasks.spawn_on(
            async move {
                let mut pause = Duration::from_millis(250);
                // Doubts that outlive a replica come first: the layouts set the records free.
                loop {
                    match states.earlier().await {
                        Ok(earlier) => break drop(sender.send(Event::Earlier(earlier))),
                        Err(error) => tracing::debug!(%error, "earlier states cannot be read yet"),
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                let looked = |board: Option<Arc<Board>>| {
                    if let Some(board) = board {
                        boards.send_replace(Arc::clone(&board));
                        let _ = sender.send(Event::Board(board));
                    }
                    let _ = sender.send(Event::Looked);
                };
                poller.run(looked).await;
            },
            &runtime,
        );
    }

    /// Reads until the process ends, or the configuration or the secrets change.
    pub fn run(mut self) -> End {
        let (mut records, mut bytes) = (0, 0);
        loop {
            if records >= CHECK_RECORDS || bytes >= CHECK_BYTES {
                (records, bytes) = (0, 0);
                if self.around.shutdown.is_requested() {
                    return self.drain(End::Shutdown);
                }
                while let Ok(event) = self.events.try_recv() {
                    self.on_event(event);
                }
                if self.set_back {
                    // Neither what is in memory nor what was committed says where these tables are.
                    return End::SetBack;
                }
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
            let wait = Duration::from_millis(if self.active.is_empty() { 50 } else { 5 });
            let message = consumer.poll(wait);
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
                    self.clock.idle = Instant::now();
                    records = CHECK_RECORDS;
                }
            }
        }
    }

    fn on_message(&mut self, message: &BorrowedMessage<'_>) {
        let Some(index) = self.router.find(message.topic(), message.partition()) else {
            return;
        };
        let offset = message.offset();
        let part = self.router.part(index);
        let at = part.partition.0;
        match part.step(offset) {
            Step::Take => {}
            Step::Skip => return,
            Step::Look => return self.look_again(index, offset),
        }
        let lane = &mut self.lanes[at];
        match lane.table.take(&Borrowed(message), self.clock.now) {
            Taken::Refused => {
                part.refused = Some(offset);
                return;
            }
            Taken::Applied | Taken::Held => part.next = offset + 1,
        }
        lane.events.inc();
        if !lane.active {
            lane.active = true;
            self.active.insert(at);
        }
        if lane.table.waits() {
            self.on_hold(at);
        }
    }

    /// Stops reading a table whose record has to wait, or whose records die.
    #[cold]
    fn on_hold(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let state = lane.table.state();
        if state.state == TableState::Stopped {
            if lane.table.is_stopped() {
                lane.stopped_under = state.layout;
            }
            tracing::error!(table = lane.label.table, state.message, "the table stops");
        } else {
            tracing::warn!(table = lane.label.table, state.reason, state.message, "the table is held");
        }
        self.around.states.set(&lane.label.table, state);
        self.steer(at);
    }

    /// Sends everything, waits for the acknowledgements and commits.
    fn drain(mut self, end: End) -> End {
        let deadline = Instant::now() + self.around.drain;
        for at in 0..self.lanes.len() {
            self.lanes[at].blocked = true;
            self.steer(at);
        }
        loop {
            self.around.readiness.beat();
            self.flush(Instant::now(), true);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.lanes.iter().all(|lane| lane.in_flight.is_none()) {
                break;
            }
            if left.is_zero() {
                tracing::warn!(
                    "some rows are not acknowledged in time; they are read again at the next start"
                );
                break;
            }
            // Rebalances of the others wait for this member's answers.
            let consumer = Arc::clone(&self.consumer);
            drop(consumer.poll(Duration::from_millis(5)));
            if consumer.context().changed.swap(false, Ordering::AcqRel) {
                self.on_rebalance();
            }
            while let Ok(event) = self.events.try_recv() {
                self.on_event(event);
            }
        }
        self.commit(CommitMode::Async);
        self.last_report();
        self.tasks.abort_all();
        tracing::info!(?end, "stopped reading");
        end
    }
}

fn lanes(around: &Surroundings) -> Vec<Lane> {
    let config = &around.config;
    // Only the operator's own connector is known to mark its records.
    let default_epoch = (around.encoding == Encoding::DebeziumDefaults).then_some(1);
    let lane = |route: &tidemark_crds::sink_config::TableRoute| {
        let label = TableLabel { table: route.target.clone() };
        Lane {
            table: Table::new(route.clone(), config.dead_letter.max_share_per_mille, default_epoch),
            events: around.metrics.events.get_or_create(&label).clone(),
            label,
            in_flight: None,
            failure: None,
            blocked: false,
            paused: false,
            active: false,
            letters: Open::default(),
            dying: Vec::new(),
            newest: None,
            stopped_under: 0,
        }
    };
    config.tables.iter().map(lane).collect()
}
