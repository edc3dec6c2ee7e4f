//! What happens to the servers and to our own programs while tables are written. I/O; the order is drawn.

use std::time::Duration;

use anyhow::{Context, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::chain::{Chain, secrets};
use crate::stack::{Component, Process, Signal};

/// A replica that stands still for longer than its claims on reads last.
const FROZEN: Duration = Duration::from_secs(35);

/// A fault, or something that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// PostgreSQL ends at once, and recovers.
    PostgresKilled,
    /// The Connect worker ends as by a crash.
    ConnectKilled,
    /// The connector is told to start again.
    ConnectorRestarted,
    /// The broker ends as by a crash.
    BrokerKilled,
    /// ClickHouse ends as by a crash.
    ClickHouseKilled,
    /// ClickHouse's disk is full.
    ClickHouseFull,
    /// ClickHouse's account may only read.
    ClickHouseReadOnly,
    /// A sink ends as by a crash.
    SinkKilled,
    /// A sink is frozen for longer than a lease, and goes on.
    SinkFrozen,
    /// A replica leaves in order, and comes back.
    ReplicaDown,
    /// A third replica comes, and leaves.
    ReplicaUp,
    /// The operator ends as by a crash.
    OperatorKilled,
    /// A topic gets a partition.
    PartitionAdded,
    /// Some tables are to be read again.
    TablesRead,
    /// All tables are to be read again.
    AllRead,
    /// `tidemark verify`.
    Verified,
}

/// Those of servers; one at a time.
pub(super) const SERVERS: [Fault; 7] = [
    Fault::PostgresKilled,
    Fault::ConnectKilled,
    Fault::ConnectorRestarted,
    Fault::BrokerKilled,
    Fault::ClickHouseKilled,
    Fault::ClickHouseFull,
    Fault::ClickHouseReadOnly,
];

/// Those of our own programs, beside the others.
pub(super) const PROGRAMS: [Fault; 9] = [
    Fault::SinkKilled,
    Fault::SinkFrozen,
    Fault::ReplicaDown,
    Fault::ReplicaUp,
    Fault::OperatorKilled,
    Fault::PartitionAdded,
    Fault::TablesRead,
    Fault::AllRead,
    Fault::Verified,
];

impl Fault {
    /// What it is called in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PostgresKilled => "PostgreSQL is killed",
            Self::ConnectKilled => "Connect is killed",
            Self::ConnectorRestarted => "the connector is restarted",
            Self::BrokerKilled => "the broker is killed",
            Self::ClickHouseKilled => "ClickHouse is killed",
            Self::ClickHouseFull => "ClickHouse's disk is full",
            Self::ClickHouseReadOnly => "ClickHouse is read-only",
            Self::SinkKilled => "a sink is killed",
            Self::SinkFrozen => "a sink stands still",
            Self::ReplicaDown => "a replica leaves",
            Self::ReplicaUp => "a replica comes",
            Self::OperatorKilled => "the operator is killed",
            Self::PartitionAdded => "a topic gets a partition",
            Self::TablesRead => "tables are to be read again",
            Self::AllRead => "all tables are to be read again",
            Self::Verified => "a verification is asked for",
        }
    }
}

/// Faults in an order that is drawn, each of them once before any comes again.
#[derive(Debug)]
pub(super) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    /// A deck of these.
    pub(super) fn new(all: &[Fault]) -> Self {
        Self { all: all.to_vec(), left: Vec::new() }
    }

    /// The next one.
    pub(super) fn draw(&mut self, random: &mut StdRng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.left.shuffle(random);
        }
        self.left.pop()
    }
}

/// What faults happen to.
pub(super) struct Subject<'a> {
    /// The pipeline with its operator and first sink.
    pub(super) chain: &'a Chain<'a>,
    /// The other sinks: one that runs, and one that comes now and then.
    pub(super) others: [Process; 2],
    /// The manifest that was applied, without annotations.
    pub(super) manifest: Value,
    /// Tables by their names in the spec.
    pub(super) tables: Vec<String>,
}

impl Subject<'_> {
    /// Lets a fault happen, and puts it right after `lasting`. `number` is another one each time.
    pub(super) async fn suffer(
        &self,
        fault: Fault,
        lasting: Duration,
        number: u32,
        random: &mut StdRng,
    ) -> anyhow::Result<()> {
        let stack = self.chain.stack;
        match fault {
            Fault::PostgresKilled => killed(stack.postgres(), lasting).await,
            Fault::ConnectKilled => killed(stack.connect(), lasting).await,
            Fault::BrokerKilled => killed(stack.kafka(), lasting).await,
            Fault::ClickHouseKilled => killed(stack.clickhouse(), lasting).await,
            Fault::ConnectorRestarted => self.connector_restarted().await,
            Fault::ClickHouseFull => {
                stack.clickhouse().fill_disk()?;
                tokio::time::sleep(lasting).await;
                stack.clickhouse().free_disk()?;
                // A merge in the middle may have committed a part with an empty file, at which every question fails from
                // then on: a start gives such parts up.
                stack.clickhouse().restart().await.map(drop)
            }
            Fault::ClickHouseReadOnly => {
                stack.clickhouse().restart_read_only(true).await?;
                tokio::time::sleep(lasting).await;
                stack.clickhouse().restart_read_only(false).await
            }
            Fault::SinkKilled => {
                let sink = self.sink(random);
                sink.kill().await?;
                tokio::time::sleep(lasting).await;
                sink.spawn()
            }
            Fault::SinkFrozen => {
                let sink = self.sink(random);
                sink.signal(Signal::Stop)?;
                tokio::time::sleep(FROZEN).await;
                sink.signal(Signal::Continue)
            }
            Fault::ReplicaDown => {
                let sink = self.sink(random);
                sink.stop().await?;
                tokio::time::sleep(lasting).await;
                sink.spawn()
            }
            Fault::ReplicaUp => {
                self.others[1].spawn()?;
                tokio::time::sleep(2 * lasting).await;
                self.others[1].stop().await
            }
            Fault::OperatorKilled => {
                self.chain.operator().kill().await?;
                tokio::time::sleep(lasting).await;
                self.chain.operator().spawn()
            }
            Fault::PartitionAdded => self.partition_added(random).await,
            Fault::TablesRead => {
                let some: Vec<&str> =
                    self.tables.iter().map(String::as_str).filter(|table| !table.contains(' ')).collect();
                let (first, second) =
                    (random.random_range(0..some.len()), random.random_range(0..some.len()));
                self.read_again(&format!("chaos-{number} {} {}", some[first], some[second]))
            }
            Fault::AllRead => self.read_again(&format!("chaos-{number}")),
            Fault::Verified => {
                let (code, text) =
                    self.chain.asks_with("verify", &["--timeout", "40s", "-o", "json"]).await?;
                // 2: not every table could be asked for, or compared by then, which is no wonder.
                ensure!(code != 1, "rows differ:\n{text}");
                Ok(())
            }
        }
    }

    fn sink(&self, random: &mut StdRng) -> &Process {
        if random.random() { self.chain.sink() } else { &self.others[0] }
    }

    fn read_again(&self, text: &str) -> anyhow::Result<()> {
        let mut manifest = self.manifest.clone();
        manifest["metadata"]["annotations"] = json!({"tidemark.dev/resnapshot": text});
        let objects: Vec<Value> = std::iter::once(manifest).chain(secrets()).collect();
        self.chain.write(&objects)
    }

    async fn connector_restarted(&self) -> anyhow::Result<()> {
        let connect = self.chain.stack.connect();
        let all = connect.request(reqwest::Method::GET, "/connectors", None).await?;
        let name = all[0].as_str().context("a connector")?;
        // Refused where the worker rebalances, or the operator was first.
        let path = format!("/connectors/{name}/restart?includeTasks=true");
        let _ = connect.request(reqwest::Method::POST, &path, None).await;
        Ok(())
    }

    async fn partition_added(&self, random: &mut StdRng) -> anyhow::Result<()> {
        let kafka = self.chain.stack.kafka();
        let prefix = format!("{}.public.", self.chain.name);
        // The broker may be away.
        let topics = kafka.topics().await.unwrap_or_default();
        let topics: Vec<String> = topics.into_iter().filter(|topic| topic.starts_with(&prefix)).collect();
        if topics.is_empty() {
            return Ok(());
        }
        let topic = &topics[random.random_range(0..topics.len())];
        let partitions = kafka.partitions(topic).await?;
        if partitions < 6 { kafka.set_partitions(topic, partitions + 1).await } else { Ok(()) }
    }
}

async fn killed<C: Component>(server: &C, lasting: Duration) -> anyhow::Result<()> {
    server.kill().await?;
    tokio::time::sleep(lasting).await;
    server.start().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_fault_comes_once_before_any_comes_again_in_an_order_of_the_seed() {
        let order = |seed| {
            let (mut deck, mut random) = (Deck::new(&PROGRAMS), StdRng::seed_from_u64(seed));
            (0..PROGRAMS.len() * 2)
                .filter_map(|_| deck.draw(&mut random))
                .map(Fault::name)
                .collect::<Vec<_>>()
        };
        let first = order(1);
        for round in first.chunks(PROGRAMS.len()) {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), PROGRAMS.len());
        }
        assert_eq!(first, order(1));
        assert_ne!(first, order(2));
    }
}
