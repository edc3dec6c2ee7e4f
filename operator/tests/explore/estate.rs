//! Everything outside the operator, as values: systems by their addresses, and what they do by themselves.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::{READS_TABLE, STATES_TABLE, SinkState, source_place};
use tidemark_crds::sink_config::{SinkConfig, TableRoute};
use tidemark_crds::version::{Phase, Version};
use tidemark_operator::core::facts::{Failure, FailureClass, LedgerFacts, ReadFacts};
use tidemark_operator::core::step::Lane;

use super::clickhouse::Server;
use super::connect::{Connector, Workers};
use super::grafana::Server as Dashboards;
use super::kafka::{Brokers, Record};
use super::kubernetes::Namespace;
use super::postgres::{Slot, Source};

/// Time that passes between two rounds, milliseconds.
const TICK_MS: i64 = 2_000;

/// Where the systems are, unless a plan moves them.
pub(super) const POSTGRES: &str = "pg";
pub(super) const KAFKA: &str = "kafka:9092";
pub(super) const CONNECT: &str = "http://connect:8083";
pub(super) const CLICKHOUSE: &str = "http://ch:8123";
pub(super) const GRAFANA: &str = "http://grafana:3000";

/// Uid of the operator's cluster.
pub(super) const CLUSTER: &str = "cluster-uid";

/// Why a sink has a table read again whose topic is another one.
pub(super) const TOPIC_MADE_ANEW: &str = "the topic was made anew";

/// Names and numbers that are given once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ids(u32);

impl Ids {
    pub(super) fn number(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }

    pub(super) fn name(&mut self, sort: &str) -> String {
        format!("{sort}-id{:05}", self.number())
    }
}

/// The failure of a call that a server answered with an error.
pub(super) fn remote(message: String) -> Failure {
    Failure { class: FailureClass::Remote, message }
}

/// The failure of a call without an answer.
pub(super) fn unanswered() -> Failure {
    Failure { class: FailureClass::Unreachable, message: "connection refused".into() }
}

pub(super) fn denied() -> Failure {
    Failure { class: FailureClass::Permission, message: "not enough privileges".into() }
}

/// All systems.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estate {
    pub(super) now_ms: i64,
    pub(super) ids: Ids,
    /// Further addresses of a system.
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) postgres: BTreeMap<String, Source>,
    pub(super) kafka: BTreeMap<String, Brokers>,
    pub(super) connect: BTreeMap<String, Workers>,
    pub(super) clickhouse: BTreeMap<String, Server>,
    pub(super) grafana: BTreeMap<String, Dashboards>,
    pub(super) namespace: Namespace,
    /// Systems that give the operator no answer.
    pub(super) silent: BTreeSet<Lane>,
}

impl Estate {
    /// A shop with two tables, and one of each system.
    pub(super) fn new() -> Self {
        let mut ids = Ids::default();
        let source = Source::new(&mut ids, &["public.orders", "public.customers", "public.items"]);
        let (brokers, server) = (Brokers::new(&mut ids), Server::new(&mut ids));
        Self {
            now_ms: 1_800_000_000_000,
            ids,
            aliases: BTreeMap::new(),
            postgres: [(POSTGRES.to_owned(), source)].into(),
            kafka: [(KAFKA.to_owned(), brokers)].into(),
            connect: [(CONNECT.to_owned(), Workers::new(KAFKA))].into(),
            clickhouse: [(CLICKHOUSE.to_owned(), server)].into(),
            grafana: [GRAFANA, "http://grafana-2:3000"]
                .map(|url| (url.to_owned(), Dashboards::default()))
                .into(),
            namespace: Namespace::default(),
            silent: BTreeSet::new(),
        }
    }

    /// The system behind an address.
    pub(super) fn name<'a>(&'a self, address: &'a str) -> &'a str {
        self.aliases.get(address).map_or(address, String::as_str)
    }

    pub(super) fn source(&mut self) -> &mut Source {
        self.postgres.get_mut(POSTGRES).unwrap()
    }

    pub(super) fn brokers(&mut self) -> &mut Brokers {
        self.kafka.get_mut(KAFKA).unwrap()
    }

    pub(super) fn workers(&mut self) -> &mut Workers {
        self.connect.get_mut(CONNECT).unwrap()
    }

    pub(super) fn server(&mut self) -> &mut Server {
        self.clickhouse.get_mut(CLICKHOUSE).unwrap()
    }

    /// Commits a change of each table of the shop.
    pub(super) fn write(&mut self) {
        for source in self.postgres.values_mut() {
            let tables: Vec<SourceTable> = source.tables.keys().cloned().collect();
            for table in tables {
                source.commit(&table);
            }
        }
    }

    /// Lets everything go on by itself for a while.
    pub(super) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.namespace.tick();
        let clusters: Vec<String> = self.connect.keys().cloned().collect();
        for cluster in clusters {
            let mut workers = self.connect.remove(&cluster).unwrap();
            for (name, connector) in &mut workers.connectors {
                let kafka = workers.kafka.clone();
                self.run(&cluster, &kafka, name, connector, &mut workers.offsets);
            }
            self.leave_slots(&cluster, &workers);
            self.connect.insert(cluster, workers);
        }
        for brokers in self.kafka.values_mut() {
            for members in brokers.groups.values_mut() {
                *members = 0;
            }
        }
        // States are those of living sinks.
        for database in self.clickhouse.values_mut().flat_map(|server| server.databases.values_mut()) {
            database.states.clear();
        }
        for sink in self.namespace.sinks() {
            self.apply(&sink);
        }
    }

    /// A connector that is gone, or runs no task, reads from no slot.
    fn leave_slots(&mut self, cluster: &str, workers: &Workers) {
        let runs = |reader: &str| {
            reader.strip_prefix(cluster).and_then(|rest| rest.strip_prefix(' ')).is_none_or(|name| {
                workers
                    .connectors
                    .get(name)
                    .is_some_and(|live| live.state == "RUNNING" && live.error.is_none())
            })
        };
        for slot in self.postgres.values_mut().flat_map(|source| source.slots.values_mut()) {
            slot.reader = slot.reader.take().filter(|reader| runs(reader));
        }
    }

    /// A connector takes the state that was asked for, and sends what its slot has.
    fn run(
        &mut self,
        cluster: &str,
        kafka: &str,
        name: &str,
        connector: &mut Connector,
        offsets: &mut BTreeMap<String, u64>,
    ) {
        connector.state = connector.target;
        if connector.state != "RUNNING"
            || connector.error.is_some()
            || connector.setting("slot.name").is_empty()
        {
            return;
        }
        let host = self.name(connector.setting("database.hostname")).to_owned();
        let brokers = self.name(kafka).to_owned();
        let reader = format!("{cluster} {name}");
        let (Some(source), Some(brokers)) = (self.postgres.get_mut(&host), self.kafka.get_mut(&brokers))
        else {
            connector.error = Some("no connection".into());
            return;
        };
        if let Err(error) = stream(source, brokers, connector, (name, &reader), offsets) {
            connector.error = Some(error.to_owned());
        }
    }

    /// A sink reads what was asked for and applies what has come.
    fn apply(&mut self, sink: &SinkConfig) {
        let kafka = self.name(&sink.kafka.bootstrap_servers).to_owned();
        let host = self.name(&sink.postgres.host).to_owned();
        let url = self.name(&sink.clickhouse.url).to_owned();
        let Some(brokers) = self.kafka.get_mut(&kafka) else { return };
        brokers.groups.insert(sink.kafka.group_id.clone(), 1);
        let database =
            self.clickhouse.get_mut(&url).and_then(|it| it.databases.get_mut(&sink.clickhouse.database));
        let Some(database) = database else { return };
        let has = |name: &str| database.objects.contains_key(name);
        if !has(STATES_TABLE) || !has(READS_TABLE) {
            return;
        }
        let source = self.postgres.get_mut(&host);
        let mut source = source.filter(|source| source.database == sink.postgres.database);
        let ledger = database.ledger_of(&sink.pipeline);
        for route in &sink.tables {
            database.apply((sink, &ledger), route, brokers, source.as_deref_mut());
        }
    }
}

/// Sends what a slot has.
fn stream(
    source: &mut Source,
    brokers: &mut Brokers,
    connector: &Connector,
    (name, reader): (&str, &str),
    offsets: &mut BTreeMap<String, u64>,
) -> Result<(), &'static str> {
    let publication = connector.setting("publication.name");
    let made = source.publications.get(publication).ok_or("the publication does not exist")?.made;
    let end = source.lsn;
    // As Debezium does it: a slot that is not there is made, from here on.
    let slot = source.slots.entry(connector.setting("slot.name").to_owned()).or_insert_with(|| Slot {
        database: source.database.clone(),
        plugin: "pgoutput".into(),
        confirmed: end,
        reader: None,
        lost: false,
    });
    if slot.lost || slot.plugin != "pgoutput" {
        return Err("the slot gives nothing");
    }
    if slot.reader.get_or_insert_with(|| reader.to_owned()) != reader {
        return Err("the slot is active");
    }
    let from = slot.confirmed.max(offsets.get(name).copied().unwrap_or(0));
    let prefix = connector.setting("topic.prefix");
    let included = |table: &SourceTable| {
        let entry = format!("(?-i){}\\.{}", table.schema, table.name);
        connector.setting("table.include.list").split(',').any(|listed| listed == entry)
    };
    let epoch = connector.setting("transforms.epoch.value.literal").parse().unwrap_or(0);
    for change in source.changes.iter().filter(|change| change.lsn > from && change.lsn <= end) {
        let skips = connector.setting("skipped.operations").contains('u');
        // Looked up in the catalogue as it was then.
        if change.lsn <= made {
            return Err("the publication does not exist");
        }
        if skips || !change.published_by.contains(publication) || !included(&change.table) {
            continue;
        }
        let topic = format!("{prefix}.{}", change.table);
        let topic = brokers.topics.get_mut(&topic).ok_or("a topic does not exist")?;
        topic.records.push(Record { epoch, lsn: change.lsn });
    }
    slot.confirmed = end.max(slot.confirmed);
    offsets.insert(name.to_owned(), slot.confirmed);
    Ok(())
}

impl super::clickhouse::Database {
    /// One table of a sink.
    fn apply(
        &mut self,
        (sink, ledger): (&SinkConfig, &LedgerFacts),
        route: &TableRoute,
        brokers: &Brokers,
        source: Option<&mut Source>,
    ) {
        let Some(layout) = ledger.newest(&route.target).map(|layout| layout.version) else { return };
        let Some(table) = self.objects.get(&route.target).map(|live| live.uuid.clone()) else { return };
        let key = (sink.pipeline.clone(), route.target.clone());
        let mut state = SinkState { layout, ..SinkState::default() };
        let barrier = self.reads.get(&key).map_or((0, 0), |read| (read.epoch, read.barrier));
        let is_read = self.reads.get(&key).is_some_and(|read| read.state == "read");
        if let Some(before) = self.states.get(&key).filter(|before| !is_read || before.doubt_at >= barrier) {
            (state.doubt, state.doubt_at) = (before.doubt.clone(), before.doubt_at);
        }
        let rows = self.rows.entry(table).or_default();
        let next = self.progress.entry(key.clone()).or_default();
        if let Some(topic) = brokers.topics.get(&route.topic) {
            let before = self.topics.insert(key.clone(), topic.id.clone());
            if *next > 0 && before.is_some_and(|before| before != topic.id) {
                *next = 0;
                state.doubt = TOPIC_MADE_ANEW.into();
                let applied = rows.applied.iter().map(|(version, lsn)| (version.epoch(), *lsn)).max();
                state.doubt_at = applied.unwrap_or_default().max(barrier);
            }
            for record in &topic.records[usize::try_from(*next).unwrap()..] {
                let version = Version::new(record.epoch, Phase::Stream, record.lsn, record.lsn);
                rows.applied.insert((version, record.lsn));
            }
            *next = i64::try_from(topic.records.len()).unwrap();
        }
        self.states.insert(key.clone(), state);
        let Some((request, wanted)) = ledger.reads.get(&route.target) else { return };
        let answered =
            self.reads.get(&key).is_some_and(|read| read.request == *request && read.state == "read");
        let place = source_place(&sink.postgres.host, sink.postgres.port, &sink.postgres.database);
        let elsewhere = wanted.source.as_ref().is_some_and(|source| *source != place);
        if answered || elsewhere || Some(wanted.epoch) != ledger.epoch || wanted.layout > layout {
            return;
        }
        let mut read = ReadFacts { request: *request, epoch: wanted.epoch, layout, ..ReadFacts::default() };
        match source.filter(|source| source.tables.get(&route.source).is_some_and(|live| live.may_select)) {
            None => {
                read.state = "failed".into();
                read.error = "the table cannot be read".into();
            }
            Some(source) => {
                // A logical message: the barrier.
                source.lsn += 10;
                read.state = "read".into();
                read.barrier = source.lsn;
                let changes = source.changes.iter().filter(|change| change.table == route.source);
                let version = Version::of_read(wanted.epoch, source.lsn);
                rows.read.insert(version, changes.map(|change| change.lsn).collect());
                let fence = self.fences.entry(route.target.clone()).or_default();
                *fence = version.max(*fence);
            }
        }
        self.reads.insert(key, read);
    }
}
