//! Kafka: one broker that is its own controller, and small clients for tests.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::message::{OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use super::cache;
use super::component::Component;
use super::ports::Port;
use super::process::{Process, Program, Signal};
use super::template::{Values, render_file};

/// The deadline of one request to the broker.
const REQUEST: Duration = Duration::from_secs(10);

/// What `kafka-storage format` would write; doing it here saves the start of a JVM.
/// The ids are any 16 bytes in base64: that of the cluster tells it from others, as a real one's does.
fn meta_properties() -> String {
    let own = rand::random::<u32>();
    format!("version=1\ncluster.id=dGlkZW1hcmst0{own:08x}g\nnode.id=1\ndirectory.id=dGlkZW1hcmstYnJva2VyMQ\n")
}

/// A Kafka broker of the stack.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    port: Port,
    /// Reserved as long as the broker, whose configuration names it.
    _controller: Port,
}

impl Kafka {
    /// Writes the broker's configuration and empty data folder.
    pub(super) fn prepare(stack: &Path) -> anyhow::Result<Self> {
        let (port, controller) = (Port::reserve()?, Port::reserve()?);
        let data = stack.join("kafka");
        fs::create_dir(&data)?;
        fs::write(data.join("meta.properties"), meta_properties())?;
        let values = Values::from([
            ("BIND", "127.0.0.1".to_owned()),
            ("HOST", "127.0.0.1".to_owned()),
            ("KAFKA_PORT", port.number().to_string()),
            ("KAFKA_CONTROLLER_PORT", controller.number().to_string()),
            ("KAFKA_DATA", data.display().to_string()),
        ]);
        let file = stack.join("server.properties");
        fs::write(&file, render_file("kafka/server.properties", &values)?)?;
        let mut command = java("kafka")?;
        command.extend(["kafka.Kafka".into(), file.into()]);
        let program =
            Program { name: "kafka", command, environment: vec![], stop: Signal::Term, end: Signal::Kill };
        Ok(Self { process: Process::new(stack, program), port, _controller: controller })
    }

    /// Returns the bootstrap address, `HOST:PORT`.
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Returns a client configuration that knows the broker.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap_servers())
            .set("broker.address.family", "v4")
            // The default waits up to 10 s before it finds a broker that is back.
            .set("reconnect.backoff.max.ms", "500")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        config
    }

    /// Returns an admin client.
    pub fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        self.client_config().create().context("making a Kafka admin client")
    }

    /// Makes a topic.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let made = self.admin()?.create_topics([&topic], &options).await?;
        made.into_iter().try_for_each(|result| match result {
            Ok(_) => Ok(()),
            Err((topic, code)) => Err(anyhow::anyhow!("topic {topic} was not made: {code}")),
        })
    }

    /// Gives a topic more partitions.
    pub async fn set_partitions(&self, topic: &str, partitions: usize) -> anyhow::Result<()> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let made =
            self.admin()?.create_partitions([&NewPartitions::new(topic, partitions)], &options).await?;
        made.into_iter().try_for_each(|result| {
            result
                .map(drop)
                .map_err(|(topic, code)| anyhow::anyhow!("topic {topic} got no partition: {code}"))
        })
    }

    /// Returns how many partitions a topic has.
    pub async fn partitions(&self, topic: &str) -> anyhow::Result<usize> {
        let (config, name) = (self.client_config(), topic.to_owned());
        let count = tokio::task::spawn_blocking(move || -> anyhow::Result<usize> {
            let client: BaseConsumer = config.create()?;
            let metadata = client.fetch_metadata(Some(&name), REQUEST)?;
            Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
        });
        count.await?.with_context(|| format!("the partitions of {topic}"))
    }

    /// Returns the names of all topics, sorted.
    pub async fn topics(&self) -> anyhow::Result<Vec<String>> {
        let config = self.client_config();
        let names = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<String>> {
            let client: BaseConsumer = config.create()?;
            let metadata = client.fetch_metadata(None, REQUEST)?;
            let mut names: Vec<String> =
                metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
            names.sort();
            Ok(names)
        });
        names.await?.context("listing Kafka's topics")
    }

    /// Appends one record and waits for the broker's acknowledgement.
    pub async fn produce(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        self.produce_with(topic, key, payload, OwnedHeaders::new()).await
    }

    /// As [`produce`](Self::produce), with headers.
    pub async fn produce_with(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> anyhow::Result<()> {
        let producer: FutureProducer = self.client_config().set("message.timeout.ms", "10000").create()?;
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.key = key;
        record.payload = payload;
        producer
            .send(record, REQUEST)
            .await
            .map_err(|(error, _)| error)
            .with_context(|| format!("producing to {topic}"))?;
        Ok(())
    }

    /// Reads a topic from its beginning until `enough` says so of all records read so far.
    ///
    /// Fails at the deadline, saying how many records had come.
    pub async fn consume_until(
        &self,
        topic: &str,
        deadline: Duration,
        mut enough: impl FnMut(&[OwnedMessage]) -> bool,
    ) -> anyhow::Result<Vec<OwnedMessage>> {
        let consumer = self.reader(topic).await?;
        let mut records = Vec::new();
        let reading = async {
            while !enough(&records) {
                records.push(consumer.recv().await?.detach());
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(deadline, reading).await {
            Ok(read) => read.with_context(|| format!("reading {topic}"))?,
            Err(_) => anyhow::bail!(
                "waited {:.1} s for enough records in {topic}: {} had come",
                deadline.as_secs_f64(),
                records.len()
            ),
        }
        Ok(records)
    }

    /// Returns a consumer without a group, at the beginning of all partitions of a topic.
    async fn reader(&self, topic: &str) -> anyhow::Result<StreamConsumer> {
        let mut config = self.client_config();
        // The library asks for a group's name even where no group is used.
        config.set("group.id", "tidemark-reader").set("enable.auto.commit", "false");
        let topic = topic.to_owned();
        let made = tokio::task::spawn_blocking(move || -> anyhow::Result<StreamConsumer> {
            let consumer: StreamConsumer = config.create()?;
            let metadata = consumer.fetch_metadata(Some(&topic), REQUEST)?;
            let mut partitions = TopicPartitionList::new();
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                partitions.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
            }
            anyhow::ensure!(partitions.count() > 0, "topic {topic} does not exist");
            consumer.assign(&partitions)?;
            Ok(consumer)
        });
        made.await?
    }
}

impl Component for Kafka {
    fn process(&self) -> &Process {
        &self.process
    }

    async fn probe(&self) -> anyhow::Result<()> {
        // Cheap and without log noise until somebody listens.
        tokio::net::TcpStream::connect(self.bootstrap_servers()).await?;
        self.topics().await.map(drop)
    }

    fn advice(&self) -> &'static str {
        "it needs Java 17 and 1 GB of memory"
    }
}

/// Returns the beginning of a command that runs a class of the part `kafka`, with logs on standard error.
///
/// `classes` names the archive of the classes that the program loads. It, and a compiler that does not go over its
/// work again, make a start three times as quick: a test's JVM lives too briefly to earn more.
pub(super) fn java(classes: &str) -> anyhow::Result<Vec<OsString>> {
    let jars = cache::part("kafka")?.join("libs/*");
    let mut archive = OsString::from("-XX:SharedArchiveFile=");
    archive.push(cache::part("classes")?.join(classes).with_extension("jsa"));
    Ok(vec![
        "java".into(),
        "-Xms128m".into(),
        "-Xmx1g".into(),
        "-XX:+UseSerialGC".into(),
        "-XX:TieredStopAtLevel=1".into(),
        archive,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info".into(),
        "-Dorg.slf4j.simpleLogger.showDateTime=true".into(),
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS".into(),
        "-cp".into(),
        jars.into(),
    ])
}
