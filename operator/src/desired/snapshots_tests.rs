//! Tests of epochs, snapshots and fences: a small world in which the steps are carried out. Pure.

use serde_json::json;

use super::*;
use crate::desired::connector::{self, ConnectorInput};
use crate::facts::{
    Notification, OffsetFacts, PartitionProgress, ProgressFacts, PublicationFacts, SlotFacts, TaskFacts,
};
use tidemark_runtime::credentials::Credentials;

const MARK: &str = "tidemark u/ns/shop";

/// What the pure core sees, and what carrying out its steps makes of it.
struct World {
    name: PipelineName,
    spec: AnalyticsPipelineSpec,
    account: Credentials,
    layouts: Vec<TableLayout>,
    connect: ConnectFacts,
    postgres: PostgresFacts,
    kafka: KafkaFacts,
    clickhouse: ClickHouseFacts,
    request: Option<String>,
}

fn layout(target: &str) -> TableLayout {
    serde_json::from_value(
        json!({"version": 1, "source": format!("public.{target}"), "oid": 1, "from": {"epoch": 0, "after": 0, "by": 0}, "target": target, "columns": []}),
    )
    .unwrap()
}

impl World {
    fn new() -> Self {
        let spec = serde_json::from_value(json!({
            "source": {
                "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                "connect": {"url": "http://connect:8083"},
            },
            "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
            "tables": [{"name": "public.orders"}, {"name": "public.items"}],
            "clickhouse": {"url": "http://ch:8123", "credentials": {"secretName": "ch"}},
        }))
        .unwrap();
        let mut world = Self {
            name: PipelineName::new("ns", "shop"),
            spec,
            account: Credentials::new("u", "p"),
            layouts: vec![layout("orders"), layout("items")],
            connect: ConnectFacts { connector: None, plugin_installed: true },
            postgres: PostgresFacts::default(),
            kafka: KafkaFacts::default(),
            clickhouse: ClickHouseFacts::default(),
            request: None,
        };
        world.ends("orders", 10);
        world.ends("items", 0);
        world
    }

    fn ends(&mut self, target: &str, end: i64) {
        let topic = format!("shop.public.{target}");
        self.kafka.begin_offsets.insert(topic.clone(), [(0, 0)].into());
        self.kafka.end_offsets.insert(topic, [(0, end)].into());
    }

    /// One wave: the steps are planned and carried out, and their names come back.
    fn wave(&mut self) -> Vec<String> {
        let sources: Vec<_> = self.layouts.iter().map(|layout| layout.source.clone()).collect();
        let ledger = &self.clickhouse.ledger;
        let input = ConnectorInput {
            name: &self.name,
            mark: MARK,
            spec: &self.spec,
            postgres: Some(&self.account),
            tables: &sources,
            epoch: ledger.epoch.unwrap_or(0),
        };
        let mut part = connector::steps(&input, &self.connect, ledger);
        part.extend(steps(&SnapshotInput {
            name: &self.name,
            mark: MARK,
            spec: &self.spec,
            layouts: &self.layouts,
            connect: &self.connect,
            postgres: Some(&self.postgres),
            kafka: Some(&self.kafka),
            clickhouse: &self.clickhouse,
            request: self.request.as_deref(),
        }));
        for step in &part.steps {
            self.carry_out(&step.effect);
        }
        part.steps.iter().map(|step| step.what.clone()).collect()
    }

    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let wave = self.wave();
            if wave.is_empty() {
                return all;
            }
            all.extend(wave);
        }
        unreachable!("no end: {all:#?}")
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Connect(ConnectEffect::Create { config, .. }) => {
                let made =
                    ConnectorFacts { config: config.clone(), state: "STOPPED".into(), ..Default::default() };
                self.connect.connector = Some(made);
            }
            Effect::Connect(ConnectEffect::PutConfig { config, .. }) => self.live().config = config.clone(),
            Effect::Connect(ConnectEffect::Stop(_)) => self.live().state = "STOPPED".into(),
            Effect::Connect(ConnectEffect::DeleteOffsets(_)) => self.live().offset = None,
            Effect::Connect(ConnectEffect::Resume(_)) => {
                self.live().state = "RUNNING".into();
                self.live().tasks = vec![TaskFacts { id: 0, state: "RUNNING".into(), error: None }];
                self.postgres.slot =
                    Some(SlotFacts { wal_status: "reserved".into(), ..SlotFacts::default() });
            }
            Effect::Postgres { sql } if sql.contains("pg_drop_replication_slot") => self.postgres.slot = None,
            Effect::Ledger { kind, key, version, value } => self.ledger(*kind, key, *version, value),
            Effect::Fence { table, version, .. } => {
                self.clickhouse.fences.insert(table.clone(), *version);
            }
            Effect::Kafka(KafkaEffect::Signal { value, .. }) => {
                self.kafka.signals.insert(value["id"].as_str().unwrap().into(), 0);
            }
            other => unreachable!("{other:?} is not expected"),
        }
    }

    fn ledger(&mut self, kind: Kind, key: &str, version: u64, value: &Value) {
        let ledger = &mut self.clickhouse.ledger;
        assert!(version >= ledger.next_version(kind, key), "a row that would lose");
        ledger.versions.insert((kind.as_str().into(), key.into()), version);
        match (kind, value) {
            (Kind::Intent, Value::Null) => drop(ledger.intents.remove(key)),
            (Kind::Snapshot, Value::Null) => drop(ledger.snapshots.remove(key)),
            (Kind::Intent, value) => drop(ledger.intents.insert(key.into(), value.to_string())),
            (Kind::Epoch, value) => ledger.epoch = u16::try_from(value.as_u64().unwrap()).ok(),
            (Kind::Request, value) => {
                drop(ledger.requests.insert(key.into(), value.as_str().unwrap().into()));
            }
            (Kind::Snapshot, value) => {
                ledger.snapshots.insert(key.into(), serde_json::from_value(value.clone()).unwrap());
            }
            other => unreachable!("{other:?} is not expected"),
        }
    }

    fn live(&mut self) -> &mut ConnectorFacts {
        self.connect.connector.as_mut().unwrap()
    }

    fn snapshot_ended(&mut self) {
        self.live().offset =
            Some(OffsetFacts { snapshot_completed: true, lsn: 100, incremental_pending: vec![] });
    }

    fn applied(&mut self, target: &str, offset: i64) {
        let progress = ProgressFacts {
            partitions: [(0, PartitionProgress { next_offset: offset, ..PartitionProgress::default() })]
                .into(),
        };
        self.clickhouse.progress.insert(target.into(), progress);
    }

    fn state(&self, target: &str) -> SnapshotState {
        self.clickhouse.ledger.snapshots[target].state
    }

    /// A world whose first snapshot is done.
    fn streaming() -> Self {
        let mut world = Self::new();
        world.settle();
        world.snapshot_ended();
        world.applied("orders", 10);
        world.clickhouse.snapshot_versions.insert("orders".into(), Version::new(1, Phase::Snapshot, 0, 50));
        world.settle();
        assert_eq!(world.state("orders"), SnapshotState::Done);
        world
    }
}

#[test]
fn a_new_pipeline_raises_its_epoch_before_the_connector_runs() {
    let mut world = World::new();
    insta::assert_yaml_snapshot!(world.settle());
    assert_eq!((world.clickhouse.ledger.epoch, world.live().epoch()), (Some(1), Some(1)));
    assert_eq!(world.live().state, "RUNNING");
    assert!(world.clickhouse.ledger.intents.is_empty());
}

#[test]
fn a_crash_between_any_two_steps_ends_in_the_same_place() {
    // Every step is planned from observation alone, so a wave that is cut short after its first steps is a
    // world that saw only those.
    let mut whole = World::new();
    whole.settle();
    let mut world = World::new();
    for _ in 0..60 {
        let mut before = std::mem::replace(&mut world, World::new());
        let sources: Vec<_> = before.layouts.iter().map(|layout| layout.source.clone()).collect();
        let input = ConnectorInput {
            name: &before.name,
            mark: MARK,
            spec: &before.spec,
            postgres: Some(&before.account),
            tables: &sources,
            epoch: before.clickhouse.ledger.epoch.unwrap_or(0),
        };
        let mut part = connector::steps(&input, &before.connect, &before.clickhouse.ledger);
        part.extend(steps(&SnapshotInput {
            name: &before.name,
            mark: MARK,
            spec: &before.spec,
            layouts: &before.layouts,
            connect: &before.connect,
            postgres: Some(&before.postgres),
            kafka: Some(&before.kafka),
            clickhouse: &before.clickhouse,
            request: None,
        }));
        if let Some(first) = part.steps.first() {
            before.carry_out(&first.effect);
        }
        world = before;
    }
    assert_eq!(world.clickhouse.ledger.snapshots, whole.clickhouse.ledger.snapshots);
    assert_eq!((world.clickhouse.ledger.epoch, world.live().state.as_str()), (Some(1), "RUNNING"));
}

#[test]
fn the_fence_waits_for_every_partition_and_is_the_last_snapshots_version_for_all_tables() {
    let mut world = World::new();
    world.settle();
    world.snapshot_ended();
    // An interrupted first try left rows of a lower version, and `items` has no row in the second.
    world.clickhouse.snapshot_versions.insert("orders".into(), Version::new(1, Phase::Snapshot, 0, 50));
    world.clickhouse.snapshot_versions.insert("items".into(), Version::new(1, Phase::Snapshot, 0, 20));
    world.applied("orders", 9);
    world.settle();
    assert_eq!(world.state("orders"), SnapshotState::Applying);
    assert!(world.clickhouse.fences.is_empty());
    world.applied("orders", 10);
    world.settle();
    let fence = Version::new(1, Phase::Snapshot, 0, 50);
    assert_eq!(world.clickhouse.fences, [("orders".to_owned(), fence), ("items".to_owned(), fence)].into());
    assert_eq!(world.state("items"), SnapshotState::Done);
}

#[test]
fn end_offsets_are_those_of_a_wave_after_the_end_was_seen() {
    let mut world = World::new();
    world.settle();
    world.snapshot_ended();
    world.wave();
    assert!(world.clickhouse.ledger.snapshots["orders"].end_offsets.is_empty());
    world.ends("orders", 30);
    world.wave();
    assert_eq!(world.clickhouse.ledger.snapshots["orders"].end_offsets, [(0, 30)].into());
}

#[test]
fn a_database_without_a_row_is_fenced_to_the_stream() {
    let mut world = World::new();
    world.ends("orders", 0);
    world.settle();
    world.snapshot_ended();
    world.settle();
    assert_eq!(world.clickhouse.fences["orders"], Version::new(1, Phase::Stream, 0, 0));
}

#[test]
fn a_settled_pipeline_plans_nothing() {
    assert!(World::streaming().wave().is_empty());
}

#[test]
fn a_request_reads_everything_again_under_the_next_epoch_and_is_answered_once() {
    let mut world = World::streaming();
    world.request = Some("again".into());
    let what = world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(2));
    assert_eq!(world.clickhouse.ledger.requests[RESNAPSHOT], "again");
    assert_eq!(world.state("orders"), SnapshotState::Requested);
    let at = |text: &str| what.iter().position(|step| step.contains(text)).unwrap();
    assert!(at("note the intent") < at("stop the tasks"));
    assert!(at("stop the tasks") < at("delete the offsets"));
    assert!(at("delete the offsets") < at("drop replication slot"));
    assert!(at("drop replication slot") < at("write epoch 2"));
    assert!(at("write epoch 2") < at("close the intent"));
    assert!(at("close the intent") < at("resume"));
}

#[test]
fn a_connector_that_was_removed_and_made_again_gets_another_epoch() {
    let mut world = World::streaming();
    world.connect.connector = None;
    world.postgres.slot = None;
    world.settle();
    assert_eq!((world.clickhouse.ledger.epoch, world.live().epoch()), (Some(2), Some(2)));
}

#[test]
fn an_epoch_of_retained_rows_is_never_used_again() {
    let mut world = World::new();
    world.clickhouse.greatest_versions.insert("orders".into(), Version::new(6, Phase::Stream, 1, 1));
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(7));
}

#[test]
fn a_lost_slot_stops_or_reads_again_as_the_spec_says() {
    let mut world = World::streaming();
    world.postgres.slot = None;
    let input = SnapshotInput {
        name: &world.name,
        mark: MARK,
        spec: &world.spec,
        layouts: &world.layouts,
        connect: &world.connect,
        postgres: Some(&world.postgres),
        kafka: Some(&world.kafka),
        clickhouse: &world.clickhouse,
        request: None,
    };
    let part = steps(&input);
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::SlotLost));
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(2));
}

#[test]
fn a_table_added_later_is_asked_for_by_a_signal_and_done_when_its_end_is_applied() {
    let mut world = World::streaming();
    world.layouts.push(layout("refunds"));
    world.spec.tables.push(serde_json::from_value(json!({"name": "public.refunds"})).unwrap());
    world.ends("refunds", 4);
    world.settle();
    assert!(world.kafka.signals.is_empty(), "nobody publishes the table yet");
    world.kafka.topics = ["shop.public.refunds", "shop.signal"].map(|topic| (topic.to_owned(), 1)).into();
    world.postgres.publication = Some(PublicationFacts {
        tables: world.layouts.iter().map(|layout| layout.source.clone()).collect(),
        all_operations: true,
        ours: true,
    });
    world.settle();
    let signal = world.clickhouse.ledger.snapshots["refunds"].signal.clone().unwrap();
    assert!(world.kafka.signals.contains_key(&signal));
    world.kafka.signals.insert(signal.clone(), SIGNAL_PATIENCE_MS + 1);
    assert_eq!(world.wave(), ["ask for an incremental snapshot of public.refunds"]);
    let aggregate = "Incremental Snapshot".to_owned();
    world.kafka.notifications.push(Notification {
        aggregate,
        kind: "COMPLETED".into(),
        id: signal,
        epoch: 1,
    });
    world.settle();
    assert_eq!(world.state("refunds"), SnapshotState::Applying);
    world.applied("refunds", 4);
    world.settle();
    assert_eq!(world.state("refunds"), SnapshotState::Done);
    assert_eq!(world.clickhouse.ledger.epoch, Some(1));
}

#[test]
fn a_table_that_comes_back_with_its_old_rows_is_read_under_a_new_epoch() {
    let mut world = World::streaming();
    let items = world.layouts.pop().unwrap();
    world.spec.tables.pop();
    world.settle();
    assert!(!world.clickhouse.ledger.snapshots.contains_key("items"));
    world.layouts.push(items);
    world.spec.tables.push(serde_json::from_value(json!({"name": "public.items"})).unwrap());
    world.clickhouse.greatest_versions.insert("items".into(), Version::new(1, Phase::Stream, 9, 9));
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(2));
}

#[test]
fn a_connector_of_somebody_else_is_left_alone() {
    let mut world = World::streaming();
    world.request = Some("again".into());
    world.live().config.insert(MARK_KEY.into(), "tidemark other".into());
    assert!(world.wave().is_empty());
}
