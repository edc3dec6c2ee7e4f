//! What a team does with a pipeline, and what others do to it: plans of moves, each from an estate and a spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tidemark_crds::ledger::LEDGER_TABLE;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::effect::Publishes;
use tidemark_operator::core::step::Lane;

use super::clickhouse::{Database, Server};
use super::connect::{Connector, Workers};
use super::estate::{CLICKHOUSE, CONNECT, Estate, KAFKA, POSTGRES};
use super::kafka::{Brokers, Topic};
use super::kubernetes::Resource;
use super::normal::{difference, normal};
use super::postgres::{Publication, Slot, Source};
use crate::fixture::source_column as column;

/// A change of the estate from outside.
pub(super) type Move = Arc<dyn Fn(&mut Estate) + Send + Sync>;

/// A list of moves; after each the operator comes to rest.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) moves: Vec<(String, Move)>,
    /// What is of somebody else: it has to be at the end as it was at the beginning.
    planted: Option<fn(&mut Estate)>,
    /// Whether it has to be ready at the end.
    pub(super) ends_ready: bool,
}

impl Plan {
    /// A plan that begins with the shop's pipeline.
    pub(super) fn applied(name: impl Into<String>) -> Self {
        Self::new(name).then("apply", |estate| {
            estate.write();
            apply(estate, spec());
        })
    }

    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), moves: Vec::new(), planted: None, ends_ready: false }
    }

    /// Then something happens; rows are written before and after.
    pub(super) fn then(mut self, what: &str, change: impl Fn(&mut Estate) + Send + Sync + 'static) -> Self {
        let change = move |estate: &mut Estate| {
            estate.write();
            change(estate);
            estate.write();
        };
        self.moves.push((what.to_owned(), Arc::new(change)));
        self
    }

    /// Then the spec changes.
    pub(super) fn with(self, what: &str, patch: Value) -> Self {
        self.then(what, move |estate| merge(estate, &patch))
    }

    /// Plants something of somebody else before the first move.
    pub(super) fn beside(mut self, plant: fn(&mut Estate)) -> Self {
        self.planted = Some(plant);
        self
    }

    /// At the end it has to be ready, where `it` does.
    pub(super) fn ready(mut self, it: bool) -> Self {
        self.ends_ready = it;
        self
    }

    /// The estate before the first move.
    pub(super) fn start(&self) -> Estate {
        let mut estate = Estate::new();
        if let Some(plant) = self.planted {
            plant(&mut estate);
        }
        estate
    }

    /// I2: what of somebody else is not as it was.
    pub(super) fn foreign(&self, estate: &Estate) -> Vec<String> {
        let Some(plant) = self.planted else { return Vec::new() };
        let (mut with, without) = (Estate::new(), Estate::new());
        plant(&mut with);
        let planted = difference(&normal(&without), &normal(&with));
        let now = normal(estate);
        let gone = |line: &&String| !now.iter().any(|now| line.strip_prefix("+ ") == Some(now));
        planted.iter().filter(gone).map(|line| format!("I2: changed or gone: {line}")).collect()
    }
}

/// A spec of two tables.
pub(super) fn spec() -> Value {
    json!({
        "source": {
            "postgres": {
                "host": POSTGRES, "database": "shop", "credentials": {"secretName": "pg"},
                "tls": {"mode": "Disable"},
            },
            "connect": {"url": CONNECT},
        },
        "kafka": {"bootstrapServers": KAFKA, "topicPrefix": "shop"},
        "tables": [{"name": "public.orders"}, {"name": "public.customers"}],
        "clickhouse": {"url": CLICKHOUSE, "database": "shop", "credentials": {"secretName": "ch"}},
        "views": {"preset": "None"},
    })
}

/// Applies a spec as `kubectl apply` does.
pub(super) fn apply(estate: &mut Estate, spec: Value) {
    match &mut estate.namespace.resource {
        Some(resource) if resource.spec == spec => {}
        Some(resource) => {
            resource.spec = spec;
            resource.generation += 1;
        }
        none => {
            let uid = estate.ids.name("resource");
            *none = Some(Resource {
                uid,
                generation: 1,
                spec,
                last_valid: None,
                annotations: BTreeMap::new(),
                deleting: false,
                finalizer: false,
                status: AnalyticsPipelineStatus::default(),
            });
        }
    }
}

/// Merges a patch into the spec; null takes a field away.
pub(super) fn merge(estate: &mut Estate, patch: &Value) {
    fn merged(spec: &mut Value, patch: &Value) {
        let Value::Object(fields) = patch else {
            spec.clone_from(patch);
            return;
        };
        if !spec.is_object() {
            *spec = json!({});
        }
        for (key, value) in fields {
            if value.is_null() {
                spec.as_object_mut().unwrap().remove(key);
            } else {
                merged(&mut spec[key.as_str()], value);
            }
        }
    }
    let mut spec = estate.namespace.resource.as_ref().map_or_else(spec, |resource| resource.spec.clone());
    merged(&mut spec, patch);
    apply(estate, spec);
}

pub(super) fn delete(estate: &mut Estate) {
    if let Some(resource) = &mut estate.namespace.resource {
        resource.deleting = true;
        resource.generation += 1;
    }
}

fn annotate(estate: &mut Estate, action: &str, text: &str) {
    let resource = estate.namespace.resource.as_mut().unwrap();
    resource.annotations.insert(format!("tidemark.dev/{action}"), text.to_owned());
}

/// What the status says was found of a system, as a person copies it into the annotation.
fn accept_what_was_found(estate: &mut Estate) {
    let resource = estate.namespace.resource.as_ref().unwrap();
    let said: Vec<String> = (resource.status.conditions.iter())
        .flat_map(|condition| condition.message.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .map(|word| word.trim_matches(|c: char| ",;:()".contains(c)).to_owned())
        .filter(|word| {
            let systems = ["clickhouse=", "postgres=", "kafka=", "connect=", "cluster=", "timeline="];
            systems.iter().any(|system| word.starts_with(system))
        })
        .collect();
    assert!(!said.is_empty(), "no token is said: {:?}", resource.status.conditions);
    annotate(estate, "accept", &said.join(" "));
}

fn database(estate: &mut Estate) -> &mut Database {
    estate.server().databases.get_mut("shop").unwrap()
}

fn silence(lanes: &'static [Lane]) -> impl Fn(&mut Estate) + Send + Sync {
    move |estate| estate.silent = lanes.iter().copied().collect()
}

const SYSTEMS: [(&str, &[Lane]); 5] = [
    ("clickhouse", &[Lane::ClickHouse]),
    ("postgresql", &[Lane::Postgres]),
    ("kafka", &[Lane::Kafka]),
    ("connect", &[Lane::Connect]),
    ("the API server for objects", &[Lane::Kubernetes]),
];

/// All plans that have names.
pub(super) fn named() -> Vec<Plan> {
    let mut plans = lives();
    plans.extend(deletions());
    plans.extend(outages());
    plans.extend(tables());
    plans.extend(source());
    plans.extend(by_hand());
    plans.extend(by_hand_elsewhere());
    plans.extend(moves());
    plans.extend(foreign());
    plans.extend(super::dashboards::dashboards());
    plans
}

/// Two moves of the plans that have names at once, chosen by a seed.
pub(super) fn pairs(seed: u64, count: usize) -> Vec<Plan> {
    let plans = named();
    let moves: Vec<(String, &Move)> = (plans.iter())
        .filter(|plan| plan.planted.is_none() && plan.moves[0].0 == "apply")
        // What is done to dashboards needs some.
        .filter(|plan| plan.moves.get(1).is_none_or(|(what, _)| what != "dashboards"))
        .flat_map(|plan| {
            plan.moves[1..].iter().map(|(what, change)| (format!("{}: {what}", plan.name), change))
        })
        // A token is said only once another system was seen.
        .filter(|(what, _)| !what.ends_with("accepted"))
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut chosen = || &moves[random.random_range(0..moves.len())];
    (0..count)
        .map(|_| {
            let ((first, one), (second, other)) = (chosen(), chosen());
            let (one, other) = (Arc::clone(one), Arc::clone(other));
            Plan::applied(format!("{first} + {second}")).then("both", move |estate| {
                one(estate);
                if estate.namespace.resource.is_some() {
                    other(estate);
                }
            })
        })
        .collect()
}

fn lives() -> Vec<Plan> {
    vec![
        Plan::applied("a life").then("rows", |_| {}).then("delete", delete),
        Plan::new("a database that cannot be made at first")
            .then("apply", |estate| {
                apply(estate, spec());
                estate.server().may_create = false;
            })
            .then("granted", |estate| estate.server().may_create = true),
        Plan::applied("suspended")
            .with("suspend", json!({"suspend": true}))
            .with("go on", json!({"suspend": false})),
        Plan::applied("an invalid spec")
            .with("no duration", json!({"freshness": {"rows": "soon"}}))
            .with("right again", json!({"freshness": {"rows": "5s"}})),
        Plan::new("an invalid spec from the first")
            .then("apply", |estate| {
                let mut wrong = spec();
                wrong["freshness"] = json!({"rows": "soon"});
                apply(estate, wrong);
            })
            .with("right", json!({"freshness": {"rows": "5s"}})),
        Plan::applied("paused and stopped")
            .with("pause", json!({"source": {"connect": {"state": "Paused"}}}))
            .with("stop", json!({"source": {"connect": {"state": "Stopped"}}}))
            .with("run", json!({"source": {"connect": {"state": "Running"}}})),
        Plan::applied("requests")
            .then("read all", |estate| annotate(estate, "resnapshot", "one"))
            .then("read orders", |estate| annotate(estate, "resnapshot", "two orders"))
            .then("no such table", |estate| annotate(estate, "resnapshot", "three nothing"))
            .then("restart", |estate| annotate(estate, "restart-connector", "one")),
        Plan::applied("views")
            .with(
                "a view and a refresh",
                json!({"views": {"extra": [
                    {"name": "daily", "sql": {"configMapKeyRef": {"name": "views", "key": "daily.sql"}}},
                    {"name": "totals", "sql": {"inline": "SELECT count() AS n FROM orders_current"},
                     "materialization": {"type": "Refresh", "every": "10s"}},
                ]}}),
            )
            .with(
                "other statements",
                json!({"views": {"extra": [
                    {"name": "daily", "sql": {"inline": "SELECT 1 AS n"}},
                    {"name": "totals", "sql": {"inline": "SELECT 2 AS n"},
                     "materialization": {"type": "Refresh", "every": "20s"}},
                ]}}),
            )
            .with("none", json!({"views": {"extra": []}})),
        Plan::applied("scale")
            .with("none", json!({"sink": {"replicas": 0}}))
            .with("two", json!({"sink": {"replicas": 2}})),
    ]
}

/// Every policy, after a life and after nothing, and applied again.
fn deletions() -> Vec<Plan> {
    let word = |bits: u32, bit: u32| if bits & (1 << bit) == 0 { "Retain" } else { "Delete" };
    let policy = move |bits: u32| {
        json!({"deletionPolicy": {
            "clickhouse": word(bits, 0), "connector": word(bits, 1), "replicationSlot": word(bits, 2),
            "topics": word(bits, 3), "timeout": "1m",
        }})
    };
    let name = |bits: u32| format!("deleted by policy {bits:04b}");
    let again = |estate: &mut Estate| apply(estate, spec());
    let mut plans: Vec<Plan> = (0..16)
        .map(|bits| {
            let plan = Plan::applied(name(bits)).with("policy", policy(bits)).then("delete", delete);
            // Where the place in the log was given up on purpose, a new life begins by itself.
            plan.then("apply again", again).ready(bits & 0b0110 == 0b0110)
        })
        .collect();
    // Records of a later epoch stay in the topics, and nothing else does.
    let kept = json!({"source": {"onSlotLost": "Resnapshot"}, "deletionPolicy": {
        "clickhouse": "Delete", "connector": "Delete", "replicationSlot": "Delete", "topics": "Retain",
    }});
    let lose = |estate: &mut Estate| {
        estate.source().slots.values_mut().for_each(|slot| slot.lost = true);
        estate.write();
    };
    plans.push(
        Plan::applied("topics outlive a life of two epochs")
            .with("policy", kept)
            .then("the slot is lost", lose)
            .then("rows", Estate::write)
            .then("delete", delete)
            .then("apply again", again)
            .ready(true),
    );
    for (system, lanes) in SYSTEMS {
        for bits in [0b0000, 0b1111] {
            let plan = Plan::applied(format!("{} while {system} is away", name(bits)))
                .with("policy", policy(bits))
                .then("delete", move |estate| {
                    silence(lanes)(estate);
                    delete(estate);
                })
                .then("it is back", |estate| estate.silent.clear())
                .then("apply again", again);
            plans.push(plan);
        }
    }
    plans
}

/// Each system is away: at the beginning, in the middle of a life, through a change.
fn outages() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (system, lanes) in SYSTEMS {
        plans.push(
            Plan::new(format!("{system} is not there yet"))
                .then("apply", move |estate| {
                    silence(lanes)(estate);
                    apply(estate, spec());
                })
                .then("it comes", |estate| estate.silent.clear()),
        );
        plans.push(
            Plan::applied(format!("{system} goes and comes"))
                .then("it goes", silence(lanes))
                .with(
                    "a table is added",
                    json!({"tables": [
                    {"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.items"}]}),
                )
                .then("it comes", |estate| estate.silent.clear()),
        );
    }
    plans
}

fn tables() -> Vec<Plan> {
    let all = || json!({"tables": [{"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.items"}]});
    let two = || json!({"tables": [{"name": "public.orders"}, {"name": "public.customers"}]});
    vec![
        Plan::applied("a table comes, goes and comes back")
            .with("comes", all())
            .with("goes", two())
            .with("comes back", all()),
        Plan::applied("a table that is not there")
            .with("named", json!({"tables": [{"name": "public.orders"}, {"name": "public.nothing"}]}))
            .then("made", |estate| {
                let made = super::postgres::table(20_000);
                estate.source().tables.insert("public.nothing".parse().unwrap(), made);
            }),
        Plan::applied("a table that may not be read")
            .then("revoked", |estate| of_source(estate, "public.items", |it| it.may_select = false))
            .with("named", all())
            .then("granted", |estate| of_source(estate, "public.items", |it| it.may_select = true)),
        Plan::applied("another target").with(
            "renamed",
            json!({"tables": [{"name": "public.orders", "target": "sales"}, {"name": "public.customers"}]}),
        ),
        Plan::applied("columns of the spec")
            .with("left out", json!({"tables": [
                {"name": "public.orders", "columns": [{"name": "note", "exclude": true}]}, {"name": "public.customers"}]}))
            .with("wanted again", two())
            .with("another type", json!({"tables": [
                {"name": "public.orders", "columns": [{"name": "note", "type": "LowCardinality(Nullable(String))"}]},
                {"name": "public.customers"}]})),
    ]
}

fn of_source(
    estate: &mut Estate,
    table: &str,
    change: impl Fn(&mut tidemark_operator::core::facts::SourceTableFacts),
) {
    // Another move may have dropped it.
    if let Some(live) = estate.source().tables.get_mut(&table.parse().unwrap()) {
        change(live);
    }
}

/// The shop changes its tables.
fn source() -> Vec<Plan> {
    vec![
        Plan::applied("a column is added and dropped")
            .then("added", |estate| {
                of_source(estate, "public.orders", |it| it.columns.push(column("coupon", 3, "text", true)));
            })
            .then("dropped", |estate| {
                of_source(estate, "public.orders", |it| it.columns.retain(|column| column.name != "coupon"));
            })
            .then("added again", |estate| {
                of_source(estate, "public.orders", |it| {
                    it.columns.push(column("coupon", 4, "integer", true));
                });
            }),
        Plan::applied("a column is renamed and typed anew")
            .then("renamed", |estate| {
                of_source(estate, "public.orders", |it| it.columns[1].name = "remark".into());
            })
            .then("typed", |estate| {
                of_source(estate, "public.orders", |it| it.columns[1].type_name = "integer".into());
            }),
        Plan::applied("a table is dropped and made anew")
            .then("dropped", |estate| {
                estate.source().tables.remove(&"public.orders".parse().unwrap());
                for publication in estate.source().publications.values_mut() {
                    publication.tables.remove(&"public.orders".parse().unwrap());
                }
            })
            .then("made", |estate| {
                let made = super::postgres::table(30_000);
                estate.source().tables.insert("public.orders".parse().unwrap(), made);
            }),
        Plan::applied("a replica identity of nothing")
            .then("nothing", |estate| of_source(estate, "public.orders", |it| it.replica_identity = 'n'))
            .then("the key", |estate| of_source(estate, "public.orders", |it| it.replica_identity = 'd')),
    ]
}

/// What people and other programs do to what is the pipeline's.
fn by_hand() -> Vec<Plan> {
    let slot = |estate: &mut Estate| estate.source().slots.clear();
    let lost = |estate: &mut Estate| estate.source().slots.values_mut().for_each(|slot| slot.lost = true);
    let always = json!({"source": {"onSlotLost": "Resnapshot"}});
    let ask = |estate: &mut Estate| annotate(estate, "resnapshot", "after the loss");
    let stop_and_drop = move |estate: &mut Estate| {
        for live in estate.workers().connectors.values_mut() {
            (live.target, live.state) = ("STOPPED", "STOPPED");
        }
        slot(estate);
    };
    vec![
        Plan::applied("the slot is dropped").then("dropped", stop_and_drop).then("asked", ask),
        Plan::applied("the slot is dropped, by policy")
            .with("policy", always.clone())
            .then("dropped", stop_and_drop),
        Plan::applied("the slot is lost").then("lost", lost).then("asked", ask),
        Plan::applied("the slot is lost, by policy").with("policy", always).then("lost", lost),
        Plan::applied("the connector is deleted")
            .then("deleted", |estate| estate.workers().connectors.clear()),
        Plan::applied("the connector and its offsets are deleted")
            .then("deleted", |estate| {
                estate.workers().connectors.clear();
                estate.workers().offsets.clear();
            })
            .then("asked", ask),
        Plan::applied("the connector is reconfigured").then("reconfigured", |estate| {
            for live in estate.workers().connectors.values_mut() {
                live.config.insert("poll.interval.ms".into(), "9999".into());
                live.config.insert("table.include.list".into(), "nothing".into());
            }
        }),
        Plan::applied("the connector is told to leave changes out").then("told", |estate| {
            for live in estate.workers().connectors.values_mut() {
                live.config.insert("skipped.operations".into(), "c,u,d".into());
            }
        }),
        Plan::applied("a task fails").then("fails", |estate| {
            for live in estate.workers().connectors.values_mut() {
                live.error = Some("it is broken".into());
            }
        }),
    ]
}

/// The same beside the connector.
fn by_hand_elsewhere() -> Vec<Plan> {
    let ask = |estate: &mut Estate| annotate(estate, "resnapshot", "after the loss");
    vec![
        Plan::applied("the publication is dropped")
            .then("dropped", |estate| estate.source().publications.clear()),
        Plan::applied("the publication is another's").then("marked", |estate| {
            for live in estate.source().publications.values_mut() {
                live.comment = "tidemark another/ns/shop".into();
            }
        }),
        Plan::applied("a topic is deleted").then("deleted", |estate| {
            estate.brokers().topics.remove("shop.public.orders");
        }),
        Plan::applied("topics are set up otherwise").then("set", |estate| {
            for topic in estate.brokers().topics.values_mut() {
                topic.config.insert("retention.ms".into(), "1000".into());
                topic.config.insert("segment.ms".into(), "7".into());
            }
        }),
        Plan::applied("a state table is dropped").then("dropped", |estate| database(estate).remove("orders")),
        Plan::applied("a view is dropped")
            .then("dropped", |estate| database(estate).remove("orders_current")),
        Plan::applied("a view is replaced by hand").then("replaced", |estate| {
            let ids = &mut estate.ids.clone();
            database(estate).plant("orders_current", "View", "by hand", ids);
            estate.ids = ids.clone();
        }),
        Plan::applied("the ledger is dropped")
            .then("dropped", |estate| database(estate).remove(LEDGER_TABLE))
            .then("asked", ask),
        Plan::applied("the database is dropped")
            .then("dropped", |estate| estate.server().databases.clear())
            .then("accepted", accept_what_was_found),
        Plan::applied("the sink's objects are deleted")
            .then("deleted", |estate| estate.namespace.objects.clear()),
        Plan::applied("the sink's objects are changed").then("changed", |estate| {
            for object in estate.namespace.objects.values_mut() {
                if object["kind"] == "Deployment" {
                    object["spec"]["replicas"] = json!(7);
                }
                if object["kind"] == "ConfigMap" {
                    object["data"]["sink.json"] = json!("{}");
                }
            }
        }),
    ]
}

/// Another system: its name, how it comes to be, and the spec that leads there and back.
type Another = (&'static str, fn(&mut Estate), Value, Value);

/// Addresses lead elsewhere: to the same system by another name, or to another one.
fn moves() -> Vec<Plan> {
    let renamed = |system: &'static str, address: &'static str, name: &'static str, patch: Value| {
        Plan::applied(format!("{system} by another name")).then("renamed", move |estate| {
            estate.aliases.insert(name.to_owned(), address.to_owned());
            merge(estate, &patch);
        })
    };
    let host = json!({"source": {"postgres": {"host": "pg-new"}}});
    let brokers = json!({"kafka": {"bootstrapServers": "new:9092"}});
    let workers = json!({"source": {"connect": {"url": "http://new:8083"}}});
    let server = json!({"clickhouse": {"url": "http://new:8123"}});
    let back = |patch: Value| move |estate: &mut Estate| merge(estate, &patch);
    let mut plans = vec![
        renamed("postgresql", POSTGRES, "pg-new", host.clone()),
        renamed("kafka", KAFKA, "new:9092", brokers.clone()),
        renamed("connect", CONNECT, "http://new:8083", workers.clone()),
        renamed("clickhouse", CLICKHOUSE, "http://new:8123", server.clone()),
    ];
    let another: [Another; 4] = [
        (
            "postgresql",
            |estate| {
                let tables = ["public.orders", "public.customers", "public.items"];
                let made = Source::new(&mut estate.ids, &tables);
                estate.postgres.insert("pg-new".into(), made);
            },
            host,
            json!({"source": {"postgres": {"host": POSTGRES}}}),
        ),
        (
            "kafka",
            |estate| {
                let made = Brokers::new(&mut estate.ids);
                estate.kafka.insert("new:9092".into(), made);
            },
            brokers,
            json!({"kafka": {"bootstrapServers": KAFKA}}),
        ),
        (
            "connect",
            |estate| {
                estate.connect.insert("http://new:8083".into(), Workers::new(KAFKA));
            },
            workers,
            json!({"source": {"connect": {"url": CONNECT}}}),
        ),
        (
            "clickhouse",
            |estate| {
                let made = Server::new(&mut estate.ids);
                estate.clickhouse.insert("http://new:8123".into(), made);
            },
            server,
            json!({"clickhouse": {"url": CLICKHOUSE}}),
        ),
    ];
    for (system, made, patch, restored) in another {
        let there = {
            let patch = patch.clone();
            move |estate: &mut Estate| {
                made(estate);
                merge(estate, &patch);
            }
        };
        plans.push(
            Plan::applied(format!("another {system}, by mistake"))
                .then("another", there.clone())
                .then("back", back(restored)),
        );
        plans.push(
            Plan::applied(format!("another {system}, accepted"))
                .then("another", there)
                .then("accepted", accept_what_was_found),
        );
    }
    plans.push(Plan::applied("a promoted standby").then("promoted", |estate| estate.source().timeline = 2));
    plans
}

/// Makes an object of somebody else in the target database.
fn plant(estate: &mut Estate, name: &str, engine: &str, comment: &str) {
    let mut ids = estate.ids.clone();
    let made = Database::new(&mut ids);
    let database = estate.server().databases.entry("shop".into()).or_insert(made);
    database.plant(name, engine, comment, &mut ids);
    estate.ids = ids;
}

/// Things of somebody else have the names of ours.
fn foreign() -> Vec<Plan> {
    let life = |name: &str, plant: fn(&mut Estate)| {
        let everything = json!({"deletionPolicy": {
            "clickhouse": "Delete", "connector": "Delete", "replicationSlot": "Delete", "topics": "Delete", "timeout": "1m",
        }});
        Plan::applied(format!("foreign {name}"))
            .beside(plant)
            .with("policy", everything)
            .then("delete", delete)
    };
    vec![
        life("connector", |estate| {
            let name = tidemark_crds::names::PipelineName::new("shop", "shop").connector();
            estate.workers().connectors.insert(name, Connector::foreign());
        }),
        life("publication", |estate| {
            let name = tidemark_crds::names::PipelineName::new("shop", "shop").publication();
            let made = Publication {
                oid: 7,
                made: 0,
                tables: [("public.items".parse().unwrap(), 8)].into(),
                publishes: Publishes::Operations,
                comment: "theirs".into(),
            };
            estate.source().publications.insert(name, made);
        }),
        life("slot", |estate| {
            let name = tidemark_crds::names::PipelineName::new("shop", "shop").replication_slot();
            let made = Slot {
                database: "bank".into(),
                plugin: "pgoutput".into(),
                confirmed: 5,
                reader: Some("theirs".into()),
                lost: false,
            };
            estate.source().slots.insert(name, made);
        }),
        life("topics", |estate| {
            for name in ["shop.public.orders", "shop.dead-letter", "shop.public.other"] {
                let config = [("retention.ms".to_owned(), "77".to_owned())].into();
                let made = Topic {
                    id: format!("theirs {name}"),
                    partitions: 3,
                    replicas: 1,
                    config,
                    records: Vec::new(),
                };
                estate.brokers().topics.insert(name.into(), made);
            }
        }),
        life("state table", |estate| plant(estate, "orders", "MergeTree", "theirs")),
        life("state table of another pipeline", |estate| {
            plant(estate, "orders", "ReplacingMergeTree", "tidemark another/ns/shop");
        }),
        life("view", |estate| plant(estate, "orders_current", "View", "theirs")),
        life("table with a view's name", |estate| plant(estate, "orders_current", "MergeTree", "theirs")),
        life("tables beside ours", |estate| {
            plant(estate, "ledger_of_accounts", "MergeTree", "");
            plant(estate, "report", "View", "tidemark another/ns/shop 1234");
        }),
        life("objects of another life", |estate| {
            let name = tidemark_crds::names::PipelineName::new("shop", "shop").sink();
            let labels =
                json!({"app.kubernetes.io/managed-by": "tidemark", "app.kubernetes.io/instance": "shop"});
            let owner = json!([{"kind": "AnalyticsPipeline", "name": "shop", "uid": "another life", "controller": true}]);
            let metadata = json!({"name": name, "uid": "theirs", "labels": labels, "ownerReferences": owner});
            let object = json!({"kind": "Service", "metadata": metadata});
            estate.namespace.objects.insert(format!("Service/{name}"), object);
        }),
        life("Deployment and ConfigMap", |estate| {
            let name = tidemark_crds::names::PipelineName::new("shop", "shop").sink();
            for kind in ["Deployment", "ConfigMap", "Service"] {
                let object = json!({"kind": kind, "metadata": {"name": name, "uid": "theirs"}, "spec": {"replicas": 0}});
                estate.namespace.objects.insert(format!("{kind}/{name}"), object);
            }
        }),
    ]
}
