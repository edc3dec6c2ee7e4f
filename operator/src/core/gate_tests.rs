//! Tests of the gate: every combination of what is found, who says what it was and what is accepted. Pure.

use serde_json::json;
use tidemark_crds::ledger::Kind;

use super::*;

const OWN_MARK: &str = "tidemark here/ns/shop";

/// Everything that a gate is judged from.
struct World {
    spec: AnalyticsPipelineSpec,
    identities: BTreeMap<String, String>,
    known_epoch: u16,
    accepted: Option<String>,
    claimed: Option<Problem>,
    deleting: bool,
    observed: Observed,
}

impl World {
    /// All systems are `a`, and nobody knows anything of before.
    fn new() -> Self {
        let spec = serde_json::from_value(json!({
            "source": {
                "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                "connect": {"url": "a/"},
            },
            "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
            "tables": [{"name": "public.orders"}],
            "clickhouse": {"url": "http://ch:8123", "credentials": {"secretName": "ch"}},
        }))
        .unwrap();
        let observed = Observed {
            clickhouse: Observation::Known(ClickHouseFacts {
                server_uuid: "server".into(),
                database_uuid: "a".into(),
                ..ClickHouseFacts::default()
            }),
            postgres: Observation::Known(PostgresFacts {
                system_identifier: "a".into(),
                ..PostgresFacts::default()
            }),
            kafka: Observation::Known(KafkaFacts { cluster_id: "a".into(), ..KafkaFacts::default() }),
            connect: Observation::Known(ConnectFacts {
                connector: None,
                plugin_installed: true,
                kafka_cluster_id: String::new(),
            }),
            ..Observed::default()
        };
        let identities = BTreeMap::new();
        Self { spec, identities, known_epoch: 1, accepted: None, claimed: None, deleting: false, observed }
    }

    fn ledger(&mut self) -> &mut LedgerFacts {
        let Observation::Known(facts) = &mut self.observed.clickhouse else { unreachable!() };
        &mut facts.ledger
    }

    fn connector(&mut self, key: &str, value: &str) {
        let Observation::Known(facts) = &mut self.observed.connect else { unreachable!() };
        let live = facts.connector.get_or_insert_with(ConnectorFacts::default);
        live.config.insert("tidemark.mark".into(), OWN_MARK.into());
        live.config.insert(key.into(), value.into());
    }

    fn unsee(&mut self, system: System) {
        match system {
            System::Cluster => {}
            System::ClickHouse => self.observed.clickhouse = Observation::NotAsked,
            System::Postgres => self.observed.postgres = Observation::NotAsked,
            System::Kafka => self.observed.kafka = Observation::NotAsked,
            System::Connect => self.observed.connect = Observation::NotAsked,
        }
    }

    fn gate(&self) -> Gate {
        gate(&Seen {
            spec: &self.spec,
            mark: OWN_MARK,
            cluster: "a",
            identities: &self.identities,
            known_epoch: self.known_epoch,
            accepted: self.accepted.as_deref(),
            claimed: self.claimed.as_ref(),
            deleting: self.deleting,
            observed: &self.observed,
        })
    }
}

#[test]
fn topics_that_an_older_pipeline_writes_are_shut_but_to_leave() {
    let mut world = World::new();
    assert!(world.gate().proof(System::Kafka).is_some());
    let text = "an older one writes there";
    world.claimed = Some(Problem::of_all(ConditionType::ConnectorRunning, Reason::Conflict, text));
    let gate = world.gate();
    assert!(gate.proof(System::Kafka).is_none() && gate.proof_of_log().is_none());
    assert!(gate.problems().any(|problem| problem.message == text));
    world.deleting = true;
    assert!(world.gate().proof_to_leave(System::Kafka).is_some(), "what it made before is its own to remove");
}

#[test]
fn a_connect_that_writes_to_other_brokers_is_shut_whoever_it_was_before() {
    for (writes, shut) in [("", false), ("a", false), ("b", true)] {
        let mut world = World::new();
        let Observation::Known(facts) = &mut world.observed.connect else { unreachable!() };
        writes.clone_into(&mut facts.kafka_cluster_id);
        let gate = world.gate();
        assert_eq!(gate.proof(System::Connect).is_none(), shut, "{writes:?}");
        assert_eq!(gate.another(Lane::Connect).is_some(), shut, "{writes:?}");
        if shut {
            let problem = gate.problems().next().unwrap();
            let named = ["cluster b", "leads to a", "spec.kafka.bootstrapServers", "spec.source.connect.url"];
            assert!(named.iter().all(|part| problem.message.contains(part)), "{}", problem.message);
        }
        // What it made there is its own to remove, and brokers that are not seen say nothing.
        world.deleting = true;
        assert!(world.gate().proof_to_leave(System::Connect).is_some());
        world.deleting = false;
        world.unsee(System::Kafka);
        assert!(world.gate().another(Lane::Connect).is_none(), "{writes:?}");
    }
}

#[test]
fn a_system_is_shut_where_any_witness_has_another_and_nobody_accepted_it_and_is_open_otherwise() {
    let says = [None, Some("a"), Some("b")];
    let tokens = [None, Some("a"), Some("b")];
    let mut checked = 0;
    for system in System::ALL {
        let combinations: Vec<_> =
            (0..27).map(|n: usize| (says[n / 9], says[n / 3 % 3], says[n % 3])).collect();
        for (ledger, status, connector) in combinations {
            for (token, settled, deleting) in
                tokens.iter().flat_map(|t| [(*t, true, false), (*t, false, false), (*t, false, true)])
            {
                let mut world = World::new();
                world.known_epoch = u16::from(settled);
                world.deleting = deleting;
                world.accepted = token.map(|token| format!("other=x {}={token}", system.key()));
                if let Some(says) = ledger {
                    world.ledger().identities.insert(system.key().into(), says.into());
                }
                if let Some(says) = status {
                    world.identities.insert(system.key().into(), says.into());
                }
                let key = match system {
                    System::ClickHouse => Some(CLICKHOUSE_KEY),
                    System::Postgres => Some(POSTGRES_KEY),
                    System::Cluster | System::Kafka | System::Connect => None,
                };
                let bears_witness = connector.zip(key);
                if let Some((says, key)) = bears_witness {
                    world.connector(key, says);
                }
                let another = ledger == Some("b")
                    || (status == Some("b") && system != System::Cluster)
                    || bears_witness.is_some_and(|(says, _)| says == "b");
                let compared = settled || deleting || system == System::Cluster;
                let shut = another && compared && token != Some("a");
                let gate = world.gate();
                let what =
                    format!("{system:?} {ledger:?} {status:?} {connector:?} {token:?} {settled} {deleting}");
                assert_eq!(
                    gate.shut.keys().copied().collect::<Vec<_>>(),
                    [system][..usize::from(shut)],
                    "{what}"
                );
                assert_eq!(gate.proof(system).is_none(), shut, "{what}");
                assert_eq!(gate.proof_to_leave(system).is_none(), shut, "{what}");
                assert_eq!(gate.proof_of_log().is_none(), shut, "{what}");
                // What is said names both, and the word that accepts it.
                for problem in gate.problems() {
                    let token = format!("tidemark.dev/accept: {}=a", system.key());
                    assert!(
                        problem.message.contains(&token) && problem.message.contains('b'),
                        "{}",
                        problem.message
                    );
                }
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 5 * 27 * 9);
}

#[test]
fn nothing_that_rests_on_a_system_is_taken_away_while_that_one_is_unseen_or_another() {
    // What is whose stands in ClickHouse; the place in the log hangs on all of them.
    for (system, on) in [
        (System::ClickHouse, vec![System::ClickHouse]),
        (System::Postgres, vec![System::ClickHouse, System::Postgres]),
        (System::Kafka, vec![System::ClickHouse, System::Kafka]),
        (System::Connect, vec![System::ClickHouse, System::Postgres, System::Connect]),
    ] {
        for other in System::ALL.into_iter().skip(1) {
            let mut unseen = World::new();
            unseen.unsee(other);
            let mut shut = World::new();
            shut.identities.insert(other.key().into(), "b".into());
            for world in [&unseen, &shut] {
                assert_eq!(world.gate().proof(system).is_none(), on.contains(&other), "{system:?} {other:?}");
                assert!(world.gate().proof_of_log().is_none(), "{other:?}");
            }
            // A deletion does not wait for a system that gives no answer.
            assert!(unseen.gate().proof_to_leave(system).is_some());
            assert_eq!(shut.gate().proof_to_leave(system).is_none(), system == other);
        }
    }
}

#[test]
fn what_another_system_says_is_not_believed_and_all_others_are() {
    for system in System::ALL.into_iter().skip(1) {
        let mut world = World::new();
        world.identities.insert(system.key().into(), "b".into());
        let gate = world.gate();
        let believed = gate.believed(&world.observed, false);
        let hidden = [
            (System::ClickHouse, believed.clickhouse.known().is_none()),
            (System::Postgres, believed.postgres.known().is_none()),
            (System::Kafka, believed.kafka.known().is_none()),
            (System::Connect, believed.connect.known().is_none()),
        ];
        for (of, is_hidden) in hidden {
            assert_eq!(is_hidden, of == system, "{of:?} where {system:?} is another");
        }
    }
}

#[test]
fn another_clusters_pipeline_is_left_alone_while_it_is_applied_here_and_when_it_is_deleted_here() {
    let mut world = World::new();
    world.ledger().identities.insert("cluster".into(), "there".into());
    let gate = world.gate();
    let believed = gate.believed(&world.observed, false);
    assert!(believed.clickhouse.known().is_none() && believed.connect.known().is_none());
    world.deleting = true;
    let gate = world.gate();
    let believed = gate.believed(&world.observed, true);
    // Nothing there is of this pipeline: the deletion has nothing to wait for, and nothing to advise to remove.
    assert_eq!(believed.clickhouse, Observation::Known(ClickHouseFacts::default()));
    assert_eq!(believed.postgres, Observation::Known(PostgresFacts::default()));
    // Taken over for good, its objects keep the mark that they have.
    world.deleting = false;
    world.accepted = Some("cluster=a".into());
    world.ledger().identities.insert("mark".into(), "tidemark there/ns/shop".into());
    let gate = world.gate();
    assert!(gate.is_open() && !gate.is_consented(), "nothing is read again for it");
    let ledger = world.ledger();
    assert_eq!(adopted_mark(&gate, OWN_MARK, ledger), Some("tidemark there/ns/shop"));
    let notes: Vec<String> =
        gate.notes("tidemark there/ns/shop", ledger, false).into_iter().map(|step| step.what).collect();
    assert!(notes.contains(&"remember the identity of cluster in the ledger".to_owned()), "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("mark")), "{notes:?}");
}

#[test]
fn what_was_accepted_is_remembered_only_once_the_log_is_followed_anew_for_it() {
    let mut world = World::new();
    world.ledger().identities.insert("postgres".into(), "b".into());
    world.identities.insert("postgres".into(), "b".into());
    world.accepted = Some("postgres=a".into());
    let gate = world.gate();
    assert_eq!((gate.accepted().as_deref(), gate.is_consented()), (Some("postgres"), true));
    let notes = |world: &mut World, raising| {
        let gate = world.gate();
        let steps = gate.notes(OWN_MARK, world.ledger(), raising);
        steps.into_iter().any(|step| step.what.contains("of postgres"))
    };
    assert!(!notes(&mut world, false));
    assert!(notes(&mut world, true));
    assert_eq!(gate.identities(&world.identities)["postgres"], "b");
    world.ledger().identities.insert("postgres".into(), "a".into());
    let gate = world.gate();
    assert_eq!(gate.accepted(), None, "no second epoch for one word");
    assert_eq!(gate.identities(&world.identities)["postgres"], "a");
}

#[test]
fn a_server_at_another_address_is_the_same_and_a_moved_connect_is_told_by_its_connector() {
    let mut world = World::new();
    world.spec.source.postgres.host = "another-name".into();
    world.spec.clickhouse.url = "http://another-name:8123".into();
    for system in System::ALL.into_iter().skip(1) {
        world.identities.insert(system.key().into(), "a".into());
    }
    assert!(world.gate().is_open());
    world.spec.source.connect.url = "b".into();
    assert!(world.gate().shut.contains_key(&System::Connect), "another Connect, without the connector");
    world.connector(CLICKHOUSE_KEY, "a");
    let gate = world.gate();
    assert!(gate.is_open(), "the same Connect at another address");
    assert_eq!(gate.identities(&world.identities)["connect"], "b");
}

#[test]
fn a_database_is_told_by_its_own_id_on_every_replica_and_a_missing_one_can_be_accepted_by_its_server() {
    let mut world = World::new();
    world.identities.insert("clickhouse".into(), "a".into());
    let Observation::Known(facts) = &mut world.observed.clickhouse else { unreachable!() };
    facts.server_uuid = "another replica".into();
    assert!(world.gate().is_open());
    let Observation::Known(facts) = &mut world.observed.clickhouse else { unreachable!() };
    facts.database_uuid = String::new();
    assert!(!world.gate().is_open(), "the database is gone");
    world.accepted = Some("clickhouse=another replica".replace(' ', "-"));
    let Observation::Known(facts) = &mut world.observed.clickhouse else { unreachable!() };
    facts.server_uuid = "another-replica".into();
    assert!(world.gate().is_open());
    // Once it is made it has an id of its own.
    let Observation::Known(facts) = &mut world.observed.clickhouse else { unreachable!() };
    facts.database_uuid = "new".into();
    assert!(world.gate().is_open());
}

#[test]
fn a_server_that_may_not_say_any_more_what_it_is_is_told_so_and_not_that_it_is_another() {
    let mut world = World::new();
    let Observation::Known(facts) = &mut world.observed.postgres else { unreachable!() };
    (facts.system_identifier, facts.database_oid) = (String::new(), 16_384);
    let gate = world.gate();
    assert!(gate.is_open(), "nobody ever knew");
    let said: Vec<Left> = gate.unproven().collect();
    assert!(said.len() == 1 && said[0].condition == ConditionType::SourceReady, "{said:?}");
    assert!(said[0].message.contains("pg_control_system()"), "{said:?}");
    world.identities.insert("postgres".into(), "b/16384".into());
    let gate = world.gate();
    let said: Vec<&str> = gate.problems().map(|problem| problem.message.as_str()).collect();
    assert!(said.len() == 1 && said[0].contains("does not say any more what it is"), "{said:?}");
    assert!(said[0].contains("b/16384") && !said[0].contains("tidemark.dev/accept"), "{said:?}");
}

#[test]
fn a_promoted_server_is_named_with_both_ways_out_and_a_ledger_of_a_later_version_is_not_guessed_at() {
    let mut world = World::new();
    world.ledger().identities.insert("timeline".into(), "1".into());
    let Observation::Known(facts) = &mut world.observed.postgres else { unreachable!() };
    facts.timeline = 2;
    assert_eq!(world.gate().timeline(), Some(("1", "2")));
    let remembers = |world: &mut World, raising| {
        let gate = world.gate();
        gate.notes(OWN_MARK, world.ledger(), raising).iter().any(|step| step.what.contains("timeline"))
    };
    assert!(!remembers(&mut world, false) && remembers(&mut world, true));
    world.accepted = Some("timeline=2".into());
    assert_eq!(world.gate().timeline(), None);
    assert!(remembers(&mut world, false));
    // Before anything was followed it is nobody's concern.
    world.accepted = None;
    world.known_epoch = 0;
    assert_eq!(world.gate().timeline(), None);

    for (format, open) in [("1", true), ("2", false), ("?", false)] {
        let mut world = World::new();
        world.ledger().identities.insert("format".into(), format.into());
        assert_eq!(world.gate().is_open(), open, "{format}");
    }
}

#[test]
fn a_ledger_that_was_written_counts_as_followed_also_after_the_place_was_given_up() {
    let mut world = World::new();
    world.known_epoch = 0;
    world.ledger().identities.insert("postgres".into(), "b".into());
    assert!(world.gate().is_open(), "a mistyped address is corrected without a word");
    world.ledger().versions.insert((Kind::Epoch.as_str().into(), String::new()), 2);
    assert!(!world.gate().is_open(), "rows of the other server are there");
}
