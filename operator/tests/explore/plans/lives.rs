//! Lives, their ends, and systems that are away meanwhile.

use serde_json::json;

use super::{Plan, SYSTEMS, annotate, apply, delete, silence, spec};
use crate::explore::estate::Estate;

pub(super) fn lives() -> Vec<Plan> {
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
pub(super) fn deletions() -> Vec<Plan> {
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
pub(super) fn outages() -> Vec<Plan> {
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
