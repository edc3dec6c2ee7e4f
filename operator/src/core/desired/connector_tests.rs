//! Tests of the connector's configuration and life. Pure.

use serde_json::{Value, json};

use tidemark_crds::layout::LeftOut;

use super::*;
use crate::core::facts::ConnectorFacts;
use crate::core::step::Step;

const MARK: &str = "tidemark u/ns/shop";

fn spec(connect: &Value) -> AnalyticsPipelineSpec {
    serde_json::from_value(json!({
        "source": {
            "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
            "connect": connect,
        },
        "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
        "tables": [{"name": "public.orders"}],
        "clickhouse": {"url": "http://ch:8123", "credentials": {"secretName": "ch"}},
    }))
    .unwrap()
}

struct Case {
    name: PipelineName,
    spec: AnalyticsPipelineSpec,
    account: Credentials,
    tables: Vec<SourceTable>,
    gate: Gate,
}

fn case(connect: &Value) -> Case {
    Case {
        name: PipelineName::new("ns", "shop"),
        spec: spec(connect),
        account: Credentials::new("tidemark", "s3cret"),
        tables: ["public.orders", "public.Odd.Name"].map(|name| name.parse().unwrap()).into(),
        gate: Gate::open(),
    }
}

fn plain() -> Case {
    case(&json!({"url": "http://connect:8083"}))
}

impl Case {
    fn input(&self, epoch: u16) -> ConnectorInput<'_> {
        ConnectorInput {
            name: &self.name,
            mark: MARK,
            spec: &self.spec,
            postgres: Some(&self.account),
            tables: &self.tables,
            layouts: &[],
            keys: Some(BTreeMap::new()),
            types: None,
            epoch,
            known_epoch: 0,
            held: false,
            gate: &self.gate,
        }
    }

    fn live(&self, epoch: u16, state: &str) -> ConnectFacts {
        let mut config = config(&self.input(epoch)).unwrap();
        config.insert("name".into(), self.name.connector());
        let connector = ConnectorFacts { config, state: state.into(), ..ConnectorFacts::default() };
        ConnectFacts { connector: Some(connector), plugin_installed: true, kafka_cluster_id: String::new() }
    }
}

fn ledger(epoch: u16) -> LedgerFacts {
    LedgerFacts { epoch: Some(epoch), ..LedgerFacts::default() }
}

fn effects(part: &Part) -> Vec<String> {
    part.steps.iter().map(|Step { effect, .. }| format!("{effect:?}").chars().take(40).collect()).collect()
}

#[test]
fn the_configuration_is_that_of_the_design() {
    let case = plain();
    insta::assert_yaml_snapshot!(config(&case.input(3)).unwrap());
}

#[test]
fn what_somebody_changed_by_hand_is_told_from_what_was_written() {
    let written = config(&plain().input(3)).unwrap();
    let with = |key: &str, value: &str| {
        let mut config = written.clone();
        config.insert("name".into(), "as Connect adds it".into());
        config.insert(key.to_owned(), value.to_owned());
        ConnectorFacts { config, ..ConnectorFacts::default() }
    };
    for (key, value, expected) in [
        ("name", "another", false),
        ("database.password", "a new one", false),
        ("poll.interval.ms", "7", false),
        ("skipped.operations", "d", true),
        ("transforms", "", true),
        ("binary.handling.mode", "hex", true),
        ("errors.tolerance", "all", true),
        ("a.property.of.tomorrow", "x", true),
        ("producer.override.linger.ms", "5", false),
        ("producer.override.acks", "1", true),
    ] {
        assert_eq!(sends_otherwise(&with(key, value)), expected, "{key}");
    }
    let case = plain();
    let full = ConnectorInput { types: Some("t".into()), ..case.input(3) };
    let own: Vec<String> = config(&full).unwrap().into_keys().collect();
    let is_known = |key: &String| fixed().contains_key(key) || SET.contains(&key.as_str()) || is_free(key);
    assert_eq!(own.iter().find(|key| !is_known(key)), None);
    // As an older version may have written it.
    let mut older = with("skipped.operations", "t");
    older.config.insert(HASH_KEY.to_owned(), hash(&older.config));
    assert!(!sends_otherwise(&older));
}

#[test]
fn names_match_themselves_alone_and_survive_the_lists_of_debezium() {
    let table: SourceTable = "public.Odd, Na:me;x".parse().unwrap();
    assert_eq!(exact(&table), r"(?-i)public\.Odd\x{2c}\x{20}Na\x{3a}me\x{3b}x");
    let list = include_list(&["b.größe".parse().unwrap(), "a.$t".parse().unwrap()]);
    assert_eq!(list, r"(?-i)a\.\x{24}t,(?-i)b\.größe");
    let keys = [(table, vec!["co de".to_owned(), "b".to_owned()])].into();
    let case = plain();
    let with = ConnectorInput { keys: Some(keys), ..case.input(1) };
    assert_eq!(
        config(&with).unwrap()[KEY_COLUMNS],
        r"(?-i)public\.Odd\x{2c}\x{20}Na\x{3a}me\x{3b}x:co\x{20}de,b"
    );
}

#[test]
fn columns_that_no_event_can_carry_rightly_are_left_out_of_it() {
    let mut layout: TableLayout = serde_json::from_value(json!({
        "version": 1, "source": "public.orders", "oid": 1, "target": "orders",
        "from": {"epoch": 0, "after": 0, "by": 0}, "columns": [],
    }))
    .unwrap();
    let left_out = |source: &str, attnum, why| LeftOut { source: source.into(), attnum, why };
    layout.left_out = vec![
        left_out("area", 2, LeftOutReason::Generated),
        left_out("secret", 3, LeftOutReason::Excluded),
        left_out("odd one", 4, LeftOutReason::Unreadable),
    ];
    assert_eq!(exclude_list(&[layout]), r"(?-i)public\.orders\.area,(?-i)public\.orders\.odd\x{20}one");
    assert!(!config(&plain().input(1)).unwrap().contains_key("column.exclude.list"));
}

#[test]
fn keys_stay_as_they_are_while_the_source_cannot_be_seen() {
    let case = plain();
    let keys = [(case.tables[0].clone(), vec!["code".to_owned()])].into();
    let known = ConnectorInput { keys: Some(keys), ..case.input(2) };
    let mut facts = case.live(2, "RUNNING");
    let live = &mut facts.connector.as_mut().unwrap().config;
    live.extend(config(&known).unwrap());
    assert_eq!(
        steps(&ConnectorInput { keys: None, ..case.input(2) }, &facts, None, &ledger(2)),
        Part::default()
    );
    // A source that is seen decides.
    let part = steps(&case.input(2), &facts, None, &ledger(2));
    assert!(part.steps[0].what.contains(KEY_COLUMNS), "{part:?}");
}

#[test]
fn with_a_configuration_provider_no_secret_is_written() {
    let case = case(&json!({
        "url": "http://connect:8083",
        "databaseCredentials": {"type": "ConfigProvider", "username": "${f:u}", "password": "${f:p}"},
    }));
    let config = config(&ConnectorInput { postgres: None, ..case.input(1) }).unwrap();
    assert_eq!(config["database.password"], "${f:p}");
    assert!(config.values().all(|value| !value.contains("s3cret")));
}

#[test]
fn users_keys_are_taken_and_those_of_ours_and_secrets_refused() {
    let with = |key: &str| {
        let case = case(&json!({"url": "http://connect:8083", "config": {key: "x"}}));
        config(&case.input(1)).map(|config| config[key].clone())
    };
    assert_eq!(with("database.sslrootcert").unwrap(), "x");
    for key in [
        "snapshot.mode",
        "transforms",
        "transforms.mine.type",
        "value.converter.schemas.enable",
        "some.password",
        "database.sslpassword",
        "errors.tolerance",
        "producer.override.acks",
        "a.property.of.tomorrow",
    ] {
        assert_eq!(with(key).unwrap_err()[0].reason, Reason::InvalidSpec, "{key}");
    }
}

#[test]
fn a_connector_is_made_stopped_with_the_epoch_that_it_goes_on_with_or_none() {
    let case = plain();
    let facts = ConnectFacts { connector: None, plugin_installed: true, kafka_cluster_id: String::new() };
    let epoch = |known_epoch: u16, ledger: &LedgerFacts| {
        let input = ConnectorInput { known_epoch, ..case.input(ledger.epoch.unwrap_or(0)) };
        let part = steps(&input, &facts, None, ledger);
        let Effect::Connect(ConnectEffect::Create { config, .. }) = &part.steps[0].effect else {
            unreachable!("the only step creates")
        };
        config[EPOCH_KEY].clone()
    };
    assert_eq!(epoch(7, &ledger(7)), "7", "it was removed, and goes on");
    assert_eq!(epoch(0, &LedgerFacts::default()), "0");
    assert_eq!(epoch(8, &ledger(7)), "0", "the ledger is not the one of before");
    let mut raising = ledger(7);
    raising.intents.insert(EPOCH_INTENT.into(), r#"{"epoch":8}"#.into());
    assert_eq!(epoch(7, &raising), "0");
}

#[test]
fn a_connector_without_its_plugin_or_with_another_mark_is_a_problem() {
    let case = plain();
    let facts = ConnectFacts { connector: None, plugin_installed: false, kafka_cluster_id: String::new() };
    assert_eq!(steps(&case.input(1), &facts, None, &ledger(1)).problems[0].reason, Reason::ConnectorFailed);
    let mut facts = case.live(1, "RUNNING");
    facts.connector.as_mut().unwrap().config.insert(MARK_KEY.into(), "tidemark u/ns/shop2".into());
    let part = steps(&case.input(1), &facts, None, &ledger(1));
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::Conflict));
}

#[test]
fn a_running_connector_as_wanted_is_left_alone_and_a_drifted_one_is_mended() {
    let case = plain();
    let mut facts = case.live(2, "RUNNING");
    assert_eq!(steps(&case.input(2), &facts, None, &ledger(2)), Part::default());
    facts.connector.as_mut().unwrap().config.insert("snapshot.mode".into(), "never".into());
    let part = steps(&case.input(2), &facts, None, &ledger(2));
    assert!(part.steps[0].what.ends_with("snapshot.mode"), "{part:?}");
    assert!(!format!("{part:?}").contains("s3cret"));
}

#[test]
fn a_connector_stays_stopped_until_its_epoch_is_settled() {
    let case = plain();
    assert_eq!(
        steps(&case.input(0), &case.live(0, "STOPPED"), None, &LedgerFacts::default()),
        Part::default()
    );
    let mut raising = ledger(1);
    raising.intents.insert(EPOCH_INTENT.into(), r#"{"epoch":1}"#.into());
    let part = steps(&case.input(1), &case.live(0, "STOPPED"), None, &raising);
    assert!(part.steps[0].what.ends_with(EPOCH_KEY), "{part:?}");
    assert_eq!(steps(&case.input(1), &case.live(1, "STOPPED"), None, &raising), Part::default());
    let part = steps(&case.input(1), &case.live(1, "STOPPED"), None, &ledger(1));
    assert_eq!(effects(&part), [format!("Connect(Resume({}))", case.name.connector())]);
}

#[test]
fn the_state_of_the_spec_is_followed() {
    for (wanted, live, verb) in
        [("Paused", "RUNNING", "Pause"), ("Stopped", "RUNNING", "Stop"), ("Running", "PAUSED", "Resume")]
    {
        let case = case(&json!({"url": "http://connect:8083", "state": wanted}));
        let part = steps(&case.input(1), &case.live(1, live), None, &ledger(1));
        assert!(effects(&part)[0].starts_with(&format!("Connect({verb}")), "{part:?}");
    }
}
