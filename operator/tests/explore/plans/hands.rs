//! What people and other programs do to what is the pipeline's.

use serde_json::json;
use tidemark_crds::ledger::LEDGER_TABLE;

use super::{Plan, accept_what_was_found, annotate, database};
use crate::explore::estate::Estate;

/// What people and other programs do to what is the pipeline's.
pub(super) fn by_hand() -> Vec<Plan> {
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
pub(super) fn by_hand_elsewhere() -> Vec<Plan> {
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
