//! Kafka as the operator needs it: topics, offsets and groups. I/O.
//!
//! librdkafka's calls block, so each look runs on a blocking thread. Its clients are kept from look to look, for all
//! pipelines of one cluster and login: a new one connects to every broker anew and has threads of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use tidemark_crds::ledger::{EPOCH_HEADER, epoch_of};
use tidemark_runtime::foreign::{Hidden, Text};
use tidemark_runtime::kafka::Connection;

use crate::core::facts::{Failure, FailureClass, TopicSettings};
use crate::edge::failure::failure;

/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Deadline of the question how topics are set up: a look goes on without the answer.
const SETTINGS_DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of reading the last records of topics.
const RECORDS_DEADLINE: Duration = Duration::from_secs(3);
/// Records of a partition that are read, from its end on.
const LAST_RECORDS: i64 = 8;
/// Clients of one cluster that are kept while nobody looks: beyond them looks at the same time make their own.
const MOST_IDLE: usize = 2;
/// After so long without a look a client is closed.
const IDLE: Duration = Duration::from_secs(20);

/// Offsets of topics: topic → partition → offset.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// How to reach one Kafka cluster as an administrator; clones share the clients of looks.
#[derive(Clone)]
pub struct KafkaAdmin {
    connection: Connection,
    deadline: Duration,
    hidden: Hidden,
    /// Clients that nobody looks with now, the one that was used last at the end.
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// A client, and when a look with it ended.
type Idle = (KafkaLook, Instant);

impl std::fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers = &self.connection.bootstrap_servers;
        f.debug_struct("KafkaAdmin").field("bootstrap_servers", servers).finish_non_exhaustive()
    }
}

/// Remembers the last error of the client, which says more than the call that timed out.
#[derive(Debug, Default)]
struct LastError(Mutex<Option<(Code, Text)>>);

impl ClientContext for LastError {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // "All brokers down" follows every cause and hides it.
            if code != Code::AllBrokersDown || last.is_none() {
                // Brokers say why they refuse a login.
                *last = Some((code, Text::new(reason)));
            }
        }
    }
}

impl ConsumerContext for LastError {}

/// A connected look at the cluster; every call blocks.
pub struct KafkaLook {
    deadline: Duration,
    hidden: Hidden,
    consumer: Box<BaseConsumer<LastError>>,
    admin: AdminClient<DefaultClientContext>,
}

impl KafkaAdmin {
    /// Keeps how to connect; nothing is connected before the first call. What is `hidden` is in no text that is shown.
    pub fn new(connection: &Connection, hidden: &Hidden) -> Self {
        let (connection, hidden) = (connection.clone(), hidden.clone());
        Self { connection, hidden, deadline: DEADLINE, idle: Arc::default() }
    }

    /// The same cluster with another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.deadline)).operation_timeout(Some(self.deadline))
    }

    /// Looks at the cluster; a client whose look failed is not used again. Blocks.
    pub fn look<T>(&self, look: impl FnOnce(&KafkaLook) -> Result<T, Failure>) -> Result<T, Failure> {
        // The lock is not held meanwhile: a look that hangs holds up no other.
        let known = self.idle().pop();
        let client = known.map_or_else(|| self.client(), |(client, _)| Ok(client))?;
        // What happened since the last look is not the cause of what happens in this one.
        client.take_error();
        let seen = look(&client)?;
        let spare = {
            let mut idle = self.idle();
            idle.push((client, Instant::now()));
            let most = idle.len().saturating_sub(MOST_IDLE);
            idle.drain(..most).collect::<Vec<_>>()
        };
        // Closing one takes a while.
        drop(spare);
        Ok(seen)
    }

    /// Closes the clients that nobody has looked with for a while. Blocks.
    pub fn close_idle(&self, now: Instant) {
        let old: Vec<Idle> =
            self.idle().extract_if(.., |(_, used)| now.saturating_duration_since(*used) > IDLE).collect();
        drop(old);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Result<KafkaLook, Failure> {
        let mut config = self.connection.client_config("tidemark-operator");
        config
            // No member of it: the client wants a name for what it never commits.
            .set("group.id", "tidemark-operator")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "50")
            // Brokers close what is idle; the next look connects anew.
            .set("log.connection.close", "false");
        let consumer: BaseConsumer<LastError> =
            config.create_with_context(LastError::default()).map_err(|error| of_error("client", &error))?;
        Ok(KafkaLook {
            deadline: self.deadline,
            hidden: self.hidden.clone(),
            consumer: Box::new(consumer),
            admin: self.admin()?,
        })
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        self.connection
            .client_config("tidemark-operator")
            .create()
            .map_err(|error| of_error("client", &error))
    }

    /// Makes a topic. One that exists is a failure: somebody else may have made it.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i32,
        config: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let admin = self.admin()?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication_factor));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let made = admin.create_topics([&topic], &self.options()).await;
        accept("create topic", made, None)
    }

    /// Sets up a topic. What was set for it before and is not among `config` becomes the brokers' default.
    pub async fn alter_topic(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let admin = self.admin()?;
        let mut wanted = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in config {
            wanted = wanted.set(key, value);
        }
        let altered = admin.alter_configs([&wanted], &self.options()).await;
        for answer in altered.map_err(|error| of_error("alter topic", &error))? {
            answer
                .map_err(|(_, code)| failure(class_of(code), format!("kafka: alter topic {name}: {code}")))?;
        }
        Ok(())
    }

    /// Removes topics; those that are gone are as they should be.
    pub async fn delete_topics(&self, names: &[String]) -> Result<(), Failure> {
        let admin = self.admin()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        accept(
            "delete topic",
            admin.delete_topics(&names, &self.options()).await,
            Some(Code::UnknownTopicOrPartition),
        )
    }

    /// Removes a consumer group; one that is gone is as it should be.
    pub async fn delete_group(&self, id: &str) -> Result<(), Failure> {
        let admin = self.admin()?;
        accept("delete group", admin.delete_groups(&[id], &self.options()).await, Some(Code::GroupIdNotFound))
    }
}

/// Of each topic its partitions, and the replicas of the partition that has the fewest.
pub type Shapes = BTreeMap<String, (i32, i32)>;

impl KafkaLook {
    /// `cluster.id`, empty where the brokers have none.
    pub fn cluster_id(&self) -> String {
        self.consumer.client().fetch_cluster_id(self.deadline).unwrap_or_default()
    }

    /// Number of brokers; of each topic its partitions, and the replicas of the partition that has the fewest.
    pub fn topics(&self) -> Result<(usize, Shapes), Failure> {
        let metadata = self
            .consumer
            .fetch_metadata(None, self.deadline)
            .map_err(|error| self.explain("metadata", &error))?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let shape = |topic: &MetadataTopic| {
            let partitions = topic.partitions();
            let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
            (topic.name().to_owned(), (number(partitions.len()), number(replicas.unwrap_or(0))))
        };
        Ok((metadata.brokers().len(), topics.map(shape).collect()))
    }

    /// First ([`Offset::Beginning`]) or next ([`Offset::End`]) offset of each partition.
    pub fn edge(&self, topics: &BTreeMap<String, i32>, edge: Offset) -> Result<Offsets, Failure> {
        if topics.is_empty() {
            return Ok(Offsets::new());
        }
        let mut wanted = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                let added = wanted.add_partition_offset(topic, partition, edge);
                added.map_err(|error| of_error("offsets", &error))?;
            }
        }
        let answer = self.consumer.offsets_for_times(wanted, self.deadline);
        Ok(offsets(&answer.map_err(|error| self.explain("offsets", &error))?))
    }

    /// Greatest epoch that the last records of each topic are marked with; one without a mark counts as 0. Topics of which no
    /// record could be read in time, or may be, are left out, as those that have none.
    pub fn last_epochs(&self, begins: &Offsets, ends: &Offsets) -> BTreeMap<String, u16> {
        let mut open: BTreeMap<(String, i32), i64> = BTreeMap::new();
        let mut from = TopicPartitionList::new();
        for (topic, ends) in ends {
            for (partition, end) in ends {
                let begin = begins.get(topic).and_then(|begins| begins.get(partition)).copied().unwrap_or(0);
                // The last of them may be marks of Kafka's own.
                let start = Offset::Offset(begin.max(end - LAST_RECORDS));
                if *end > begin && from.add_partition_offset(topic, *partition, start).is_ok() {
                    open.insert((topic.clone(), *partition), *end);
                }
            }
        }
        let mut found = BTreeMap::new();
        if open.is_empty() || self.consumer.assign(&from).is_err() {
            return found;
        }
        let end = Instant::now() + self.deadline.min(RECORDS_DEADLINE);
        while !open.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let Some(Ok(record)) = self.consumer.poll(left) else { continue };
            let header =
                record.headers().and_then(|all| all.iter().find(|header| header.key == EPOCH_HEADER));
            let epoch = header.and_then(|header| epoch_of(header.value?)).unwrap_or(0);
            let greatest: &mut u16 = found.entry(record.topic().to_owned()).or_default();
            *greatest = epoch.max(*greatest);
            let place = (record.topic().to_owned(), record.partition());
            if open.get(&place).is_some_and(|end| record.offset() + 1 >= *end) {
                open.remove(&place);
            }
        }
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "partitions stay assigned");
        }
        found
    }

    /// How topics are set up; those that the account may not ask about are left out, and all of them where the brokers
    /// do not answer: nothing waits for them.
    pub fn settings(&self, topics: &[&str]) -> BTreeMap<String, TopicSettings> {
        if topics.is_empty() {
            return BTreeMap::new();
        }
        let asked: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(SETTINGS_DEADLINE.min(self.deadline)));
        match futures::executor::block_on(self.admin.describe_configs(&asked, &options)) {
            Ok(answers) => answers.into_iter().flatten().filter_map(settings_of).collect(),
            Err(error) => {
                tracing::debug!(%error, "topics' settings are not known");
                BTreeMap::new()
            }
        }
    }

    /// Consumer groups whose id starts with `prefix`, and their numbers of members.
    pub fn groups(&self, prefix: &str) -> Result<BTreeMap<String, usize>, Failure> {
        let list = self.consumer.client().fetch_group_list(None, self.deadline);
        let list = list.map_err(|error| self.explain("groups", &error))?;
        let ours =
            list.groups().iter().filter(|group| group.name().starts_with(prefix) && group.state() != "Dead");
        Ok(ours.map(|group| (group.name().to_owned(), group.members().len())).collect())
    }

    /// The call's error, or the client's own where that says more (a refused login looks like a time-out).
    fn explain(&self, what: &str, error: &KafkaError) -> Failure {
        match self.take_error() {
            Some((code, reason)) => {
                let reason = reason.shown(&self.hidden);
                failure(class_of(code), format!("kafka: {what}: {reason}"))
            }
            None => of_error(what, error),
        }
    }

    fn take_error(&self) -> Option<(Code, Text)> {
        // Polling delivers the client's errors to the context.
        while let Some(Err(_)) = self.consumer.poll(Duration::ZERO) {}
        self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn settings_of(resource: ConfigResource) -> Option<(String, TopicSettings)> {
    let OwnedResourceSpecifier::Topic(name) = resource.specifier else {
        return None;
    };
    let mut settings = TopicSettings::default();
    for entry in resource.entries {
        if entry.source == ConfigSource::DynamicTopic {
            settings.own.insert(entry.name.clone());
        }
        settings.all.insert(entry.name, entry.value?);
    }
    Some((name, settings))
}

fn offsets(list: &TopicPartitionList) -> Offsets {
    let mut found = Offsets::new();
    for element in list.elements() {
        if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
            found.entry(element.topic().to_owned()).or_default().insert(element.partition(), offset);
        }
    }
    found
}

/// What an admin call says of each object: its name, or its name and why not.
type Answers = Vec<Result<String, (String, Code)>>;

/// Reads the answers of an admin call; `fine` means that nothing was left to do.
fn accept(what: &str, answer: Result<Answers, KafkaError>, fine: Option<Code>) -> Result<(), Failure> {
    for result in answer.map_err(|error| of_error(what, &error))? {
        match result {
            Err((name, code)) if Some(code) != fine => {
                return Err(failure(class_of(code), format!("kafka: {what} {name}: {code}")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn of_error(what: &str, error: &KafkaError) -> Failure {
    let class = error.rdkafka_error_code().map_or(FailureClass::Remote, class_of);
    failure(class, format!("kafka: {what}: {error}"))
}

fn class_of(code: Code) -> FailureClass {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => FailureClass::Authentication,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => FailureClass::Permission,
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::Resolve
        | Code::SSL
        | Code::NotController
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable => FailureClass::Unreachable,
        _ => FailureClass::Remote,
    }
}
