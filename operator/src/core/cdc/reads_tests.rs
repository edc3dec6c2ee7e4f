//! Tests of epochs and reads: a small world in which the steps are carried out, and the reasons one by one. Pure.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use tidemark_crds::layout::Begin;

use crate::core::cdc::epochs::must_not_start;
use crate::core::desired::connector;
use crate::core::desired::connector::{ConnectorInput, EPOCH_INTENT, MARK_KEY};
use crate::core::effect::{ConnectEffect, PostgresEffect};
use crate::core::facts::{
    ClickHouseObject, LedgerFacts, OffsetFacts, PublicationFacts, ReadFacts, SlotFacts, TaskFacts,
};
use tidemark_crds::ledger::{EPOCH, SeenPublication, SinkState, TableState as Said};
use tidemark_crds::pipeline::OnSlotLost;
use tidemark_crds::version::{Phase, Version};
use tidemark_runtime::credentials::Credentials;

const MARK: &str = "tidemark u/ns/shop";

/// What the pure core sees, and what carrying out its steps makes of it.
struct World {
    name: PipelineName,
    spec: AnalyticsPipelineSpec,
    account: Credentials,
    layouts: Vec<TableLayout>,
    refused: BTreeSet<String>,
    connect: ConnectFacts,
    postgres: PostgresFacts,
    kafka: KafkaFacts,
    clickhouse: ClickHouseFacts,
    request: Option<String>,
    /// Offsets that Connect keeps of a connector that was removed.
    kept: Option<OffsetFacts>,
    /// Of the resource's status.
    known_epoch: u16,
    gate: Gate,
}

fn layout(target: &str) -> TableLayout {
    serde_json::from_value(json!({"version": 1, "source": format!("public.{target}"), "oid": 1,
        "from": {"epoch": 0, "after": 0, "by": 0}, "target": target, "columns": []}))
    .unwrap()
}

fn slot() -> SlotFacts {
    SlotFacts { plugin: "pgoutput".into(), wal_status: "reserved".into(), ..SlotFacts::default() }
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
            layouts: Vec::new(),
            refused: BTreeSet::new(),
            connect: ConnectFacts {
                connector: None,
                plugin_installed: true,
                kafka_cluster_id: String::new(),
            },
            postgres: PostgresFacts {
                publication: Some(PublicationFacts { ours: true, ..PublicationFacts::default() }),
                ..PostgresFacts::default()
            },
            kafka: KafkaFacts { topics: [("shop.message".to_owned(), 1)].into(), ..KafkaFacts::default() },
            clickhouse: ClickHouseFacts::default(),
            request: None,
            kept: None,
            known_epoch: 0,
            gate: Gate::open(),
        };
        world.add("orders");
        world.add("items");
        world
    }

    /// Makes everything that a table needs outside of the connector.
    fn add(&mut self, target: &str) {
        let layout = layout(target);
        self.kafka.topics.insert(format!("shop.public.{target}"), 4);
        self.postgres.publication.as_mut().unwrap().tables.insert(layout.source.clone());
        let object = ClickHouseObject { uuid: format!("{target}-1"), ..ClickHouseObject::default() };
        self.clickhouse.objects.insert(target.into(), object);
        self.clickhouse.ledger.layouts.insert(target.into(), vec![layout.clone()]);
        self.layouts.push(layout);
    }

    fn planned(&self) -> Part {
        let sources: Vec<_> = self.layouts.iter().map(|layout| layout.source.clone()).collect();
        let ledger = &self.clickhouse.ledger;
        let reads = ReadsInput {
            name: &self.name,
            mark: MARK,
            spec: &self.spec,
            layouts: &self.layouts,
            refused: &self.refused,
            connect: &self.connect,
            postgres: Some(&self.postgres),
            kafka: Some(&self.kafka),
            clickhouse: &self.clickhouse,
            request: self.request.as_deref(),
            known_epoch: self.known_epoch,
            gate: &self.gate,
        };
        let input = ConnectorInput {
            name: &self.name,
            mark: MARK,
            spec: &self.spec,
            postgres: Some(&self.account),
            tables: &sources,
            layouts: &self.layouts,
            keys: Some(BTreeMap::new()),
            types: connector::types(ledger),
            epoch: ledger.epoch.unwrap_or(0),
            known_epoch: self.known_epoch,
            held: must_not_start(&reads),
            gate: &self.gate,
        };
        let mut part = connector::steps(&input, &self.connect, Some(&self.postgres), ledger);
        part.extend(steps(&reads));
        part
    }

    /// One wave: the steps are planned and carried out, and their names come back.
    fn wave(&mut self) -> Vec<String> {
        let part = self.planned();
        for step in &part.steps {
            self.carry_out(&step.effect);
        }
        self.known_epoch = self.known_epoch.max(self.clickhouse.ledger.epoch.unwrap_or(0));
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
                let made = ConnectorFacts {
                    config: config.clone(),
                    state: "STOPPED".into(),
                    offset: self.kept.take(),
                    ..Default::default()
                };
                self.connect.connector = Some(made);
            }
            Effect::Connect(ConnectEffect::PutConfig { config, .. }) => {
                assert_eq!(
                    self.connector().state,
                    "STOPPED",
                    "a task would go on by the former configuration"
                );
                assert!(self.postgres.slot.as_ref().is_none_or(|slot| !slot.active));
                self.connector().config = (**config).clone();
            }
            Effect::Connect(ConnectEffect::Stop(_)) => {
                self.connector().state = "STOPPED".into();
                self.connector().tasks.clear();
                self.postgres.slot.iter_mut().for_each(|slot| slot.active = false);
            }
            Effect::Connect(ConnectEffect::DeleteOffsets(_)) => self.connector().offset = None,
            Effect::Connect(ConnectEffect::Resume(_)) => {
                self.connector().state = "RUNNING".into();
                self.connector().tasks =
                    vec![TaskFacts { id: 0, state: "RUNNING".into(), ..TaskFacts::default() }];
                let slot = self.postgres.slot.get_or_insert_with(slot);
                slot.active = true;
            }
            Effect::Postgres(PostgresEffect::DropSlot(_)) => self.postgres.slot = None,
            Effect::Ledger { kind, key, version, value } => self.ledger(*kind, key, *version, value),
            other => unreachable!("{other:?} is not expected"),
        }
    }

    fn ledger(&mut self, kind: Kind, key: &str, version: u64, value: &Value) {
        let ledger = &mut self.clickhouse.ledger;
        assert!(version >= ledger.next_version(kind, key), "a row that would lose");
        ledger.versions.insert((kind.as_str().into(), key.into()), version);
        match (kind, value) {
            (Kind::Intent, Value::Null) => drop(ledger.intents.remove(key)),
            (Kind::Read, Value::Null) => drop(ledger.reads.remove(key)),
            (Kind::Intent, value) => drop(ledger.intents.insert(key.into(), value.to_string())),
            (Kind::Epoch, Value::Null) => ledger.epoch = None,
            (Kind::Epoch, value) => ledger.epoch = u16::try_from(value.as_u64().unwrap()).ok(),
            (Kind::Request, value) => {
                drop(ledger.requests.insert(key.into(), value.as_str().unwrap().into()));
            }
            (Kind::Read, value) => {
                ledger.reads.insert(key.into(), (version, serde_json::from_value(value.clone()).unwrap()));
            }
            other => unreachable!("{other:?} is not expected"),
        }
    }

    fn connector(&mut self) -> &mut ConnectorFacts {
        self.connect.connector.as_mut().unwrap()
    }

    /// The connector has sent something, and stored how far it is.
    fn streams(&mut self) {
        self.connector().offset = Some(OffsetFacts { lsn: 100 });
    }

    /// Somebody removes the connector; Connect keeps its offsets.
    fn removed(&mut self) {
        self.kept = self.connect.connector.take().and_then(|connector| connector.offset);
        self.postgres.slot.iter_mut().for_each(|slot| slot.active = false);
    }

    /// Why nothing goes on.
    fn lost(&self) -> String {
        let part = self.planned();
        assert_eq!(part.steps.iter().map(|step| &step.what).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(part.problems[0].reason, Reason::SlotLost);
        part.problems[0].message.clone()
    }

    /// A sink ends the read that was asked for, behind a barrier.
    fn read(&mut self, target: &str, barrier: u64) {
        let (request, said) = self.clickhouse.ledger.reads[target].clone();
        let read = ReadFacts {
            request,
            epoch: said.epoch,
            state: "read".into(),
            barrier,
            layout: said.layout,
            ..ReadFacts::default()
        };
        self.clickhouse.reads.insert(target.into(), read);
    }

    fn says(&mut self, target: &str, replica: &str, state: SinkState) {
        self.clickhouse.states.entry(target.into()).or_default().insert(replica.into(), state);
    }

    fn asked(&self, target: &str) -> &str {
        &self.clickhouse.ledger.reads[target].1.reason
    }

    /// A world whose tables are read.
    fn streaming() -> Self {
        let mut world = Self::new();
        world.settle();
        world.streams();
        world.settle();
        world.read("orders", 200);
        world.read("items", 210);
        assert_eq!(world.settle(), Vec::<String>::new());
        world
    }
}

#[test]
fn a_new_pipeline_raises_its_epoch_before_the_connector_runs_and_reads_when_it_streams() {
    let mut world = World::new();
    insta::assert_yaml_snapshot!(world.settle());
    assert_eq!((world.clickhouse.ledger.epoch, world.connector().epoch()), (Some(1), Some(1)));
    assert_eq!(world.connector().state, "RUNNING");
    assert!(world.clickhouse.ledger.intents.is_empty());
    assert!(world.clickhouse.ledger.reads.is_empty(), "nothing is stored yet: it could begin anew");
    world.streams();
    assert_eq!(
        world.settle(),
        ["ask for public.orders to be read: first load", "ask for public.items to be read: first load"]
    );
    let request = &world.clickhouse.ledger.reads["orders"].1;
    assert_eq!((request.epoch, request.layout, request.state_table.as_deref()), (1, 1, Some("orders-1")));
}

#[test]
fn a_crash_between_any_two_steps_ends_in_the_same_place() {
    // Every step is planned from observation alone, so a wave that is cut short after its first steps is a
    // world that saw only those.
    let mut whole = World::new();
    whole.settle();
    let mut world = World::new();
    for _ in 0..60 {
        if let Some(first) = world.planned().steps.first() {
            world.carry_out(&first.effect);
        }
    }
    assert_eq!(world.clickhouse.ledger.epoch, whole.clickhouse.ledger.epoch);
    assert_eq!((world.clickhouse.ledger.epoch, world.connector().state.as_str()), (Some(1), "RUNNING"));
}

#[test]
fn nothing_is_read_while_a_change_could_be_missed() {
    type Break = fn(&mut World);
    let mends: [(&str, Break); 8] = [
        ("the slot is not used", |world| world.postgres.slot.as_mut().unwrap().active = false),
        ("there is no offset", |world| world.connector().offset = None),
        ("the task failed", |world| world.connector().tasks[0].state = "FAILED".into()),
        ("it is not published", |world| world.postgres.publication.as_mut().unwrap().tables.clear()),
        ("a transaction from before it was published is open", |world| {
            let publication = world.postgres.publication.as_mut().unwrap();
            publication.unsettled.insert("public.orders".parse().unwrap());
        }),
        ("it is not included", |world| {
            world.connector().config.insert("table.include.list".into(), "public\\.other".into());
        }),
        ("it has no topic", |world| {
            world.kafka.topics.remove("shop.public.orders");
        }),
        ("its layout is not written", |world| world.layouts[0].version = 2),
    ];
    for (what, break_it) in mends {
        let mut world = World::streaming();
        world.clickhouse.ledger.reads.remove("orders");
        let asks =
            |world: &World| world.planned().steps.iter().any(|step| step.what.contains("orders to be read"));
        assert!(asks(&world));
        break_it(&mut world);
        assert!(!asks(&world), "{what}");
    }
}

#[test]
fn a_table_added_later_is_captured_while_no_task_runs_and_then_read() {
    let mut world = World::streaming();
    world.add("refunds");
    world.spec.tables.push(serde_json::from_value(json!({"name": "public.refunds"})).unwrap());
    let name = world.name.connector();
    assert_eq!(
        world.settle(),
        [
            format!("stop connector {name} to change table.include.list"),
            format!("change connector {name}: table.include.list"),
            format!("resume connector {name}"),
            "ask for public.refunds to be read: first load".to_owned(),
        ]
    );
    assert_eq!(world.clickhouse.ledger.epoch, Some(1));
    assert_eq!(world.asked("orders"), "first load", "the others are not read again");
}

#[test]
fn a_table_with_a_type_whose_name_another_kind_had_is_read_once_the_connector_knows_the_types_of_now() {
    let mut world = World::streaming();
    let kind = |version, kind: &str| TableLayout {
        version,
        definitions: [("ncents".to_owned(), kind.to_owned())].into(),
        read_again: (version > 1).then(|| "type cents is another".to_owned()),
        ..layout("orders")
    };
    world.clickhouse.ledger.layouts.insert("orders".into(), vec![kind(1, "b23"), kind(2, "b20")]);
    world.layouts[0] = kind(2, "b20");
    world.says("orders", "a", SinkState { layout: 2, ..SinkState::default() });
    let name = world.name.connector();
    assert_eq!(
        world.settle(),
        [
            format!("stop connector {name} to change tidemark.types"),
            format!("change connector {name}: tidemark.types"),
            format!("resume connector {name}"),
            "ask for public.orders to be read: type cents is another".to_owned(),
        ]
    );
    assert!(world.wave().is_empty());
}

#[test]
fn a_configuration_waits_until_the_last_task_has_left_the_slot() {
    let mut world = World::streaming();
    world.add("refunds");
    world.connector().state = "STOPPED".into();
    let waits = |world: &World| {
        let step = world.planned().steps.into_iter().next().unwrap();
        step.needs.contains(&Fact::Other("the slot to be left by its reader".into()))
    };
    assert!(waits(&world));
    world.postgres.slot.as_mut().unwrap().active = false;
    assert!(!waits(&world));
}

#[test]
fn a_table_that_comes_back_is_read_again() {
    let mut world = World::streaming();
    let items = world.layouts.pop().unwrap();
    world.spec.tables.pop();
    world.settle();
    assert!(!world.clickhouse.ledger.reads.contains_key("items"));
    world.layouts.push(items);
    world.spec.tables.push(serde_json::from_value(json!({"name": "public.items"})).unwrap());
    world.settle();
    let reason = "the connector or the spec left it out for a while";
    assert_eq!((world.asked("items"), world.clickhouse.ledger.epoch), (reason, Some(1)));
}

#[test]
fn a_doubt_is_read_until_a_barrier_behind_it_and_no_request_is_repeated() {
    let mut world = World::streaming();
    let doubt =
        |lsn| SinkState { doubt: "no layout fits".into(), doubt_at: (1, lsn), ..SinkState::default() };
    world.says("orders", "a", doubt(150));
    assert!(world.wave().is_empty(), "the barrier of the last read is behind it");
    world.says("orders", "b", doubt(300));
    assert_eq!(world.settle(), ["ask for public.orders to be read: no layout fits"]);
    let id = world.clickhouse.ledger.reads["orders"].0;
    for state in ["reading", "failed"] {
        world.clickhouse.reads.get_mut("orders").unwrap().request = id;
        world.clickhouse.reads.get_mut("orders").unwrap().state = state.into();
        assert!(world.wave().is_empty(), "{state}: the sink goes on with it by itself");
    }
    world.read("orders", 299);
    assert_eq!(world.wave().len(), 1, "the doubt reaches further than the barrier");
    world.read("orders", 301);
    assert!(world.wave().is_empty());
}

#[test]
fn a_changed_layout_is_read_once_every_living_sink_has_it() {
    let mut world = World::streaming();
    let mut changed = layout("orders");
    changed.version = 2;
    changed.read_again = Some("its rows were rewritten at the source".into());
    let later = TableLayout { version: 3, read_again: None, ..changed.clone() };
    world.clickhouse.ledger.layouts.get_mut("orders").unwrap().extend([changed, later.clone()]);
    world.layouts[0] = later;
    let knows = |layout| SinkState { layout, ..SinkState::default() };
    assert!(world.wave().is_empty(), "no sink lives that could say so");
    world.says("orders", "a", knows(2));
    world.says("orders", "b", knows(1));
    assert!(world.wave().is_empty(), "one decodes by the former layout");
    world.says("orders", "b", knows(3));
    assert_eq!(world.settle(), ["ask for public.orders to be read: its rows were rewritten at the source"]);
    assert_eq!(world.clickhouse.ledger.reads["orders"].1.layout, 3);
    world.read("orders", 500);
    assert!(world.wave().is_empty());
}

#[test]
fn another_state_table_is_read_again() {
    let mut world = World::streaming();
    world.clickhouse.objects.get_mut("orders").unwrap().uuid = "orders-2".into();
    world.settle();
    assert!(world.asked("orders").contains("state table is another one"));
}

#[test]
fn an_annotation_reads_all_tables_or_those_that_it_names_and_is_answered_once() {
    let mut world = World::streaming();
    world.request = Some("again".into());
    world.settle();
    assert_eq!(world.clickhouse.ledger.requests[RESNAPSHOT], "again");
    assert_eq!(
        (world.asked("orders"), world.clickhouse.ledger.epoch),
        ("asked for by annotation (again)", Some(1))
    );
    world.read("orders", 300);
    world.read("items", 300);
    assert!(world.wave().is_empty());
    world.request = Some("t2 public.items".into());
    assert_eq!(
        world.settle(),
        [
            "ask for public.items to be read: asked for by annotation (t2 public.items)",
            "answer the request for reads"
        ]
    );
    world.request = Some("t3 public.nothing".into());
    let part = world.planned();
    assert!(part.steps.is_empty() && part.problems[0].message.contains("public.nothing"), "{part:?}");
}

#[test]
fn a_table_that_is_refused_is_not_read_and_does_not_keep_the_others_from_it() {
    let mut world = World::streaming();
    world.refused.insert("orders".into());
    world.request = Some("again".into());
    assert_eq!(world.settle().len(), 2, "one table, and the answer");
    assert_eq!(world.asked("orders"), "first load");
}

#[test]
fn a_connector_that_was_removed_is_made_again_and_goes_on_where_it_ended() {
    let mut world = World::streaming();
    world.removed();
    let name = world.name.connector();
    assert_eq!(
        world.settle(),
        [format!("create connector {name}, stopped"), format!("resume connector {name}")]
    );
    assert_eq!((world.clickhouse.ledger.epoch, world.connector().epoch()), (Some(1), Some(1)));
    assert_eq!(world.asked("orders"), "first load", "nothing is read again");
}

#[test]
fn a_connector_that_was_removed_with_its_offsets_or_its_slot_is_a_loss_and_a_person_or_the_policy_says_what_then()
 {
    let mut world = World::streaming();
    world.removed();
    world.kept = None;
    let name = world.name.connector();
    assert_eq!(world.wave(), [format!("create connector {name}, stopped")]);
    assert!(world.lost().contains("no offsets"), "{}", world.lost());
    assert_eq!(world.connector().state, "STOPPED", "it would begin anew, and lack what changed meanwhile");
    world.request = Some("again".into());
    assert!(world.settle().iter().any(|step| step.contains("write epoch 2")));

    let mut world = World::streaming();
    world.removed();
    world.postgres.slot = None;
    world.wave();
    assert!(world.lost().contains("is lost"), "{}", world.lost());
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    let what = world.settle();
    assert_eq!((world.clickhouse.ledger.epoch, world.connector().epoch()), (Some(2), Some(2)));
    let at = |text: &str| what.iter().position(|step| step.contains(text)).unwrap();
    assert!(at("note the intent") < at("write epoch 2"));
    assert!(at("write epoch 2") < at("close the intent"));
    assert!(at("close the intent") < at("resume"));
    world.streams();
    world.settle();
    assert_eq!(world.asked("orders"), "the log is followed anew, as epoch 2");
}

#[test]
fn a_change_that_the_connector_never_gets_past_is_a_loss_where_its_table_leaves_the_publication() {
    let mut world = World::streaming();
    let stuck = TaskFacts { state: "FAILED".into(), is_stuck: true, ..TaskFacts::default() };
    world.connector().tasks = vec![stuck];
    world.postgres.publication.as_mut().unwrap().ours = false;
    assert!(world.planned().problems.is_empty(), "the next change of the table would be another loss");
    world.postgres.publication.as_mut().unwrap().ours = true;
    assert!(world.lost().contains("cannot get past a change"), "{}", world.lost());
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    assert!(world.settle().iter().any(|step| step.contains("write epoch 2")));
    world.streams();
    world.settle();
    assert_eq!(world.asked("orders"), "the log is followed anew, as epoch 2");
}

#[test]
fn records_of_another_connector_are_outbid_by_a_persons_word_alone() {
    let mut world = World::streaming();
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    let refused =
        SinkState { state: Said::Stopped, reason: EPOCH.into(), wants: (7, 0), ..SinkState::default() };
    world.says("orders", "a", refused);
    assert_eq!(world.settle(), Vec::<String>::new());
    world.request = Some("now items".into());
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(1), "tables by name are read in the same epoch");
    world.request = Some("again".into());
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(8));
}

#[test]
fn an_epoch_of_retained_rows_or_fences_is_never_used_again() {
    let mut world = World::new();
    world.clickhouse.greatest_epochs.insert("orders".into(), 6);
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(7));
    let mut world = World::new();
    world.clickhouse.fences.insert("gone".into(), Version::new(8, Phase::Stream, 1, 1));
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(9));
}

#[test]
fn a_lost_slot_stops_or_reads_again_as_the_spec_or_a_person_says() {
    let lost = || {
        let mut world = World::streaming();
        world.postgres.slot = None;
        world
    };
    let part = lost().planned();
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::SlotLost));
    let mut world = lost();
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(2));
    let mut world = lost();
    world.request = Some("again".into());
    world.settle();
    assert_eq!(world.clickhouse.ledger.epoch, Some(2));
}

#[test]
fn a_ledger_that_is_not_the_one_that_the_connector_was_started_with_costs_no_slot() {
    type Break = fn(&mut LedgerFacts);
    let breaks: [(&str, Break); 2] = [
        ("another database", |ledger| *ledger = LedgerFacts::default()),
        ("a backup", |ledger| ledger.epoch = Some(1)),
    ];
    for (what, break_it) in breaks {
        let mut world = World::new();
        world.clickhouse.greatest_epochs.insert("orders".into(), 1);
        world.settle();
        world.streams();
        world.settle();
        break_it(&mut world.clickhouse.ledger);
        let message = world.lost();
        assert!(message.contains("as epoch 2") && message.contains("http://ch:8123"), "{what}: {message}");
        assert!(world.postgres.slot.is_some() && world.connector().offset.is_some(), "{what}");
        world.removed();
        world.wave();
        assert!(world.postgres.slot.is_some() && world.connector().state == "STOPPED", "{what}");
        world.lost();
    }
}

#[test]
fn a_log_that_a_deletion_left_is_followed_anew_without_a_question() {
    let mut world = World::streaming();
    world.connect.connector = None;
    world.postgres.slot = None;
    world.ledger(Kind::Epoch, "", 9, &Value::Null);
    world.clickhouse.fences.insert("orders".into(), Version::new(1, Phase::Stream, 200, 0));
    world.settle();
    assert_eq!((world.clickhouse.ledger.epoch, world.connector().state.as_str()), (Some(2), "RUNNING"));
}

#[test]
fn a_slot_of_another_pipeline_is_never_dropped() {
    let mut world = World::new();
    world.postgres.slot = Some(slot());
    let publication = world.postgres.publication.as_mut().unwrap();
    (publication.ours, publication.comment) = (false, "tidemark another/ns/shop".into());
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    world.settle();
    let problems = world.planned().problems;
    assert_eq!(problems[0].reason, Reason::Conflict, "{problems:?}");
    assert!(world.postgres.slot.is_some());
    assert_eq!(world.connector().state, "STOPPED");
}

#[test]
fn a_slot_that_another_reads_from_is_waited_for_with_a_word() {
    let mut world = World::streaming();
    world.spec.source.on_slot_lost = OnSlotLost::Resnapshot;
    world.connector().state = "STOPPED".into();
    world.connector().offset = None;
    world.postgres.slot.as_mut().unwrap().active_pid = Some(4711);
    world.settle();
    let problems = world.planned().problems;
    assert!(problems[0].message.contains("by process 4711"), "{problems:?}");
}

#[test]
fn a_publication_made_anew_is_a_loss_where_the_connector_cannot_get_past_it() {
    let mut world = World::streaming();
    world.postgres.publication.as_mut().unwrap().oid = 9;
    let seen = |anew| Some(SeenPublication { oid: 9, by: 500, anew });
    world.clickhouse.ledger.publication = seen(true);
    assert!(world.wave().is_empty(), "what was changed before may be nothing");
    world.connector().tasks[0].state = "FAILED".into();
    world.clickhouse.ledger.publication = seen(false);
    assert!(world.wave().is_empty(), "it is the first");
    world.clickhouse.ledger.publication = seen(true);
    world.request = Some("t2 orders".into());
    assert!(world.lost().contains("made anew"), "one table is asked for, and not all");
    world.request = None;
    assert!(world.lost().contains("made anew"), "{}", world.lost());
    world.connector().offset = Some(OffsetFacts { lsn: 501 });
    assert!(world.wave().is_empty(), "it fails for another reason");
}

#[test]
fn a_connector_of_somebody_else_is_left_alone() {
    let mut world = World::streaming();
    world.request = Some("again".into());
    world.connector().config.insert(MARK_KEY.into(), "tidemark other".into());
    assert!(world.wave().is_empty());
}

#[test]
fn an_intent_says_which_epoch_comes() {
    let mut world = World::new();
    world.wave();
    world.wave();
    assert_eq!(world.clickhouse.ledger.intents[EPOCH_INTENT], r#"{"epoch":1}"#);
}

#[test]
fn a_catalogue_is_confirmed_where_a_sink_asks_and_only_as_far_as_it_was_seen() {
    let world = World::streaming();
    let mut facts = world.clickhouse.clone();
    let layout = &world.layouts[0];
    let mut asks = |wants| {
        let state = SinkState { wants, ..SinkState::default() };
        facts.states.insert("orders".into(), [("a".to_owned(), state)].into());
        let part = confirmation(layout, (1, 500), &facts);
        part.steps.into_iter().next().map(|step| match step.effect {
            Effect::Ledger { value, .. } => serde_json::from_value::<Confirmed>(value).unwrap(),
            other => unreachable!("{other:?}"),
        })
    };
    assert_eq!(asks((0, 0)), None);
    assert_eq!(asks((1, 501)), None, "the next look is behind it");
    assert_eq!(asks((1, 500)), Some(Confirmed { layout: 1, epoch: 1, lsn: 500 }));
    facts.ledger.confirmed.insert("orders".into(), Confirmed { layout: 1, epoch: 1, lsn: 500 });
    assert!(confirmation(layout, (1, 900), &facts).steps.is_empty(), "it is answered");

    facts.states.clear();
    // What came later is confirmed once, by the first look that is behind its beginning, whoever asks.
    let later = TableLayout { version: 2, from: Begin { epoch: 1, after: 400, by: 600 }, ..layout.clone() };
    facts.ledger.layouts.entry("orders".into()).or_default().push(later.clone());
    let count = |at, facts: &ClickHouseFacts| confirmation(&later, at, facts).steps.len();
    assert_eq!([count((1, 599), &facts), count((1, 600), &facts)], [0, 1]);
    facts.ledger.confirmed.insert("orders".into(), Confirmed { layout: 2, epoch: 1, lsn: 600 });
    assert_eq!(count((1, 900), &facts), 0, "nothing is written at rest");
}
