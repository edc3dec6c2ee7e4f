//! Addresses lead elsewhere: to the same system by another name, or to another one.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemark_crds::names::Topics;

use super::{Plan, accept_what_was_found, apply, merge, spec};
use crate::explore::clickhouse::Server;
use crate::explore::connect::Workers;
use crate::explore::estate::{CLICKHOUSE, CONNECT, Estate, KAFKA, POSTGRES};
use crate::explore::kafka::{Brokers, Record, Topic};
use crate::explore::postgres::Source;

/// Another system: its name, how it comes to be, and the spec that leads there and back.
type Another = (&'static str, fn(&mut Estate), Value, Value);

/// Addresses lead elsewhere: to the same system by another name, or to another one.
pub(super) fn moves() -> Vec<Plan> {
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
    for (system, made, patch, restored) in another(host, workers, server) {
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
                .then("back", back(restored.clone())),
        );
        plans.push(
            Plan::applied(format!("another {system}, accepted"))
                .then("another", there.clone())
                .then("accepted", accept_what_was_found),
        );
        let returns = Plan::applied(format!("another {system}, accepted, and back again"))
            .then("another", there)
            .then("accepted", accept_what_was_found)
            .then("back", back(restored));
        // Connect has no identity but its workers' brokers, which are the same.
        plans.push(if system == "connect" {
            returns
        } else {
            returns.then("accepted", accept_what_was_found)
        });
    }
    plans.push(
        Plan::applied("another kafka, which the workers do not write to")
            .then("another", |estate| {
                let made = Brokers::new(&mut estate.ids);
                estate.kafka.insert("new:9092".into(), made);
                merge(estate, &json!({"kafka": {"bootstrapServers": "new:9092"}}));
            })
            .then("back", back(json!({"kafka": {"bootstrapServers": KAFKA}}))),
    );
    plans.push(Plan::applied("a promoted standby").then("promoted", |estate| estate.source().timeline = 2));
    plans.push(a_prefix_that_is_taken());
    plans.push(a_publication_that_nobody_makes_again());
    plans
}

/// Each system anew at another address.
fn another(host: Value, workers: Value, server: Value) -> [Another; 4] {
    [
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
                estate.connect.insert("http://beside:8083".into(), Workers::new("new:9092"));
            },
            // Workers write to the brokers that they have: they move together.
            json!({"kafka": {"bootstrapServers": "new:9092"}, "source": {"connect": {"url": "http://beside:8083"}}}),
            json!({"kafka": {"bootstrapServers": KAFKA}, "source": {"connect": {"url": CONNECT}}}),
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
    ]
}

/// The connector's task fails, and what it would have to be started again for is not made: another server gives answers.
fn a_publication_that_nobody_makes_again() -> Plan {
    Plan::applied("the publication is dropped, and another postgresql answers").then("both", |estate| {
        estate.source().publications.clear();
        let made = Source::new(&mut estate.ids, &["public.orders", "public.customers", "public.items"]);
        estate.postgres.insert("pg-new".into(), made);
        merge(estate, &json!({"source": {"postgres": {"host": "pg-new"}}}));
    })
}

/// Another cluster's pipeline has the topic prefix, and goes.
fn a_prefix_that_is_taken() -> Plan {
    Plan::new("a topic prefix of another cluster's pipeline")
        .then("apply", |estate| {
            take_the_prefix(estate);
            apply(estate, spec());
        })
        .then("theirs is gone", |estate| {
            estate.brokers().topics.remove(&theirs());
        })
        .ready(true)
}

/// The topic that says that the prefix is another cluster's pipeline's.
fn theirs() -> String {
    Topics { prefix: "shop" }.owner("tidemark another/their/shop")
}

/// Topics of another cluster's pipeline, one of them with its changes.
pub(super) fn take_the_prefix(estate: &mut Estate) {
    let records = vec![Record { epoch: 3, lsn: 77 }];
    for (name, records) in [(theirs(), vec![]), ("shop.public.orders".to_owned(), records)] {
        let made = Topic {
            id: format!("theirs {name}"),
            partitions: 1,
            replicas: 1,
            config: BTreeMap::new(),
            records,
        };
        estate.brokers().topics.insert(name, made);
    }
}
