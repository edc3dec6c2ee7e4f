//! Puts the sink together and keeps it running. I/O.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tidemark_crds::ledger::source_place;
use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Error, Options};
use tidemark_runtime::credentials::{CredentialSource, WatchedFile};
use tidemark_runtime::kafka::Connection;
use tidemark_runtime::shell::{ProbeServer, Readiness, Shutdown};

use crate::board::Poller;
use crate::cleanup::{Cleaner, CleanerContext};
use crate::config;
use crate::consume::Event;
use crate::dead_letter::DeadLetterTopic;
use crate::group::{Context, Owned, Records, consumer_config};
use crate::heartbeat::Watch;
use crate::metrics::Metrics;
use crate::plan::Encoding;
use crate::progress::Progress;
use crate::read::{KeyReader, Reader, ReaderContext, ReaderOptions, Source};
use crate::session::{End, Session, Surroundings};
use crate::state::States;
use crate::verify::{Verifier, VerifierContext};
use crate::visible::{self, Asker, Desk, Surveyor, SurveyorContext};
use crate::write::{Writer, WriterParts};

/// Pause before another attempt to set up Kafka's clients.
const RETRY: Duration = Duration::from_secs(2);

/// What the command line says beside the configuration file.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Address of probes and metrics.
    pub listen: SocketAddr,
    /// Name of this replica in the progress table.
    pub replica: String,
    /// How the connector writes what its settings leave open.
    pub encoding: Encoding,
    /// How long the last batches may take when the process ends.
    pub drain: Duration,
}

/// Builds the ClickHouse client of a configuration.
pub fn clickhouse(config: &SinkConfig) -> Result<ClickHouse, Error> {
    let clickhouse = &config.clickhouse;
    let authority =
        clickhouse.ca_file.as_ref().map_or(Authority::System, |path| Authority::File(WatchedFile::new(path)));
    ClickHouse::new(Options {
        url: clickhouse.url.clone(),
        database: Some(clickhouse.database.clone()),
        credentials: Arc::new(CredentialSource::files(&clickhouse.username_file, &clickhouse.password_file)),
        authority,
    })
}

/// Runs the sink with a configuration file until `shutdown`; returns when what was read is applied and committed.
///
/// Where the file changes the sink applies what it has read, and goes on as the new one says. Fails if the file
/// cannot be used at the start; later the last good one stays.
pub async fn run(config_file: PathBuf, options: RunOptions, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut config = Arc::new(config::load(&config_file)?);
    let metrics = Metrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let readiness = Readiness::default();
    readiness.close("kafka", "the brokers have not answered yet");
    readiness.close("tables", "the ledger has not been read yet");
    let probes_end = Shutdown::default();
    let desk = Desk::default();
    let further = visible::routes(desk.clone(), probes_end.clone());
    let registry = Arc::new(registry);
    let probes =
        ProbeServer::start_with(options.listen, registry, readiness.clone(), probes_end.clone(), further)
            .await?;
    tracing::info!(address = %probes.address(), pipeline = config.pipeline, "the sink runs");
    let sink = Sink {
        config_file,
        options,
        metrics,
        readiness,
        desk,
        shutdown,
        runtime: tokio::runtime::Handle::current(),
    };
    let consumer = std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
        loop {
            match sink.session(&config) {
                Ok(End::Shutdown) => break,
                Ok(End::SetBack) => {}
                Ok(End::Reconfigured) => {
                    tracing::info!("the configuration or kafka's secrets changed: beginning again with them");
                }
                Err(error) => {
                    sink.readiness.close("kafka", error.clone());
                    tracing::error!(error, "kafka's clients cannot be set up");
                    let pause = async { tokio::time::timeout(RETRY, sink.shutdown.requested()).await };
                    let _ = sink.runtime.block_on(pause);
                }
            }
            if sink.shutdown.is_requested() {
                break;
            }
            match config::load(&sink.config_file) {
                Ok(changed) => config = Arc::new(changed),
                Err(error) => tracing::error!(%error, "going on with the last good configuration"),
            }
        }
    })?;
    let ended = tokio::task::spawn_blocking(move || consumer.join()).await?;
    probes_end.trigger();
    probes.join().await;
    ended.map_err(|_| anyhow::anyhow!("the consumer thread panicked"))
}

/// What stays the same from one session to the next.
struct Sink {
    config_file: PathBuf,
    options: RunOptions,
    metrics: Metrics,
    readiness: Readiness,
    desk: Desk,
    shutdown: Shutdown,
    runtime: tokio::runtime::Handle,
}

impl Sink {
    /// Writes rows, with Kafka's properties of a consumer and of a producer.
    fn writer(
        &self,
        config: &SinkConfig,
        client: &ClickHouse,
        (consumer, producer): (ClientConfig, ClientConfig),
        states: States,
    ) -> Writer {
        let dead_letters =
            DeadLetterTopic::new(producer, config.dead_letter.topic.clone(), config.kafka.max_message_bytes);
        let source = Source::new(&config.postgres, &config.pipeline);
        let keys = KeyReader::new(source, &config.kafka.topic_prefix, self.metrics.reads.clone());
        let parts = WriterParts {
            dead_letters,
            records: Records::new(consumer),
            source: Arc::new(keys),
            place: source_place(&config.postgres.host, config.postgres.port, &config.postgres.database),
            states,
            metrics: self.metrics.clone(),
            pipeline: config.pipeline.clone(),
            max_share_per_mille: config.dead_letter.max_share_per_mille,
        };
        Writer::new(client, parts)
    }

    /// Watches the topics beside those of the tables, with what a session shares.
    fn watch(
        &self,
        config: &SinkConfig,
        (consumer, owned, events): (Arc<BaseConsumer<Context>>, Owned, Sender<Event>),
        stop: &Arc<AtomicBool>,
    ) -> Watch {
        Watch {
            consumer,
            owned,
            events,
            topics: config.tables.iter().map(|table| table.topic.clone()).collect(),
            heartbeat_topic: config.kafka.heartbeat_topic.clone(),
            dead_letter_topic: config.dead_letter.topic.clone(),
            readiness: self.readiness.clone(),
            stop: Arc::clone(stop),
        }
    }

    /// One configuration and one connection to Kafka, from their beginning to their end.
    fn session(&self, config: &Arc<SinkConfig>) -> Result<End, String> {
        let client = clickhouse(config).map_err(|error| error.to_string())?;
        let connection = Connection::read(&config.kafka).map_err(|error| error.to_string())?;
        let client_id = format!("tidemark-sink-{}", self.options.replica);
        let _entered = self.runtime.enter();
        let kafka = consumer_config(&connection, config, &client_id);
        let states = States::new(&client, &config.pipeline, &self.options.replica);
        let producer = connection.producer_config(&client_id);
        let writer = self.writer(config, &client, (kafka.clone(), producer), states.clone());
        let reading = ReaderContext {
            config: Arc::clone(config),
            clickhouse: client.clone(),
            writer: writer.clone(),
            metrics: self.metrics.clone(),
            replica: self.options.replica.clone(),
            options: ReaderOptions::of(&config.postgres.reads),
        };
        let repairs = writer.clone();
        self.desk.open(Asker::new(config, &client));
        let around = Surroundings {
            config: Arc::clone(config),
            config_file: self.config_file.clone(),
            encoding: self.options.encoding,
            writer,
            poller: Poller::new(&client, &config.pipeline, self.options.encoding),
            boards: tokio::sync::watch::Sender::default(),
            progress: Progress::new(&client, &config.pipeline, &self.options.replica),
            states,
            metrics: self.metrics.clone(),
            runtime: self.runtime.clone(),
            readiness: self.readiness.clone(),
            shutdown: self.shutdown.clone(),
            drain: self.options.drain,
        };
        let session = Session::start(around, connection, &client_id).map_err(|error| error.to_string())?;
        let (consumer, owned, events) = session.shared();
        let verifying = VerifierContext {
            config: Arc::clone(config),
            clickhouse: client.clone(),
            writer: repairs,
            metrics: self.metrics.clone(),
            replica: self.options.replica.clone(),
            owned: Arc::clone(&owned),
            kafka: kafka.clone(),
        };
        let cleaning = CleanerContext {
            config: Arc::clone(config),
            clickhouse: client.clone(),
            metrics: self.metrics.clone(),
            owned: Arc::clone(&owned),
        };
        let surveying = SurveyorContext {
            config: Arc::clone(config),
            clickhouse: client,
            replica: self.options.replica.clone(),
            owned: Arc::clone(&owned),
            kafka: kafka.clone(),
            demand: self.desk.demand().clone(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let watch = self.watch(config, (consumer, owned, events), &stop);
        let watcher = std::thread::Builder::new()
            .name("heartbeats".to_owned())
            .spawn(move || watch.run(&kafka))
            .map_err(|error| error.to_string())?;
        let reader = Reader::start(reading);
        let verifier = Verifier::start(verifying);
        let surveyor = Surveyor::start(surveying);
        let cleaner = Cleaner::start(cleaning);
        let end = session.run();
        drop((reader, verifier, surveyor, cleaner));
        stop.store(true, Ordering::Release);
        match watcher.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "heartbeats were not read"),
            Err(_) => tracing::error!("the heartbeat thread panicked"),
        }
        Ok(end)
    }
}
