//! Things of somebody else have the names of ours.

use serde_json::json;
use tidemark_crds::names::PipelineName;
use tidemark_operator::core::effect::Publishes;

use super::moves::take_the_prefix;
use super::{Plan, delete};
use crate::explore::clickhouse::Database;
use crate::explore::connect::Connector;
use crate::explore::estate::Estate;
use crate::explore::kafka::Topic;
use crate::explore::postgres::{Publication, Slot};

/// Makes an object of somebody else in the target database.
fn plant(estate: &mut Estate, name: &str, engine: &str, comment: &str) {
    let mut ids = estate.ids.clone();
    let made = Database::new(&mut ids);
    let database = estate.server().databases.entry("shop".into()).or_insert(made);
    database.plant(name, engine, comment, &mut ids);
    estate.ids = ids;
}

/// Things of somebody else have the names of ours.
pub(super) fn foreign() -> Vec<Plan> {
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
            let name = PipelineName::new("shop", "shop").connector();
            estate.workers().connectors.insert(name, Connector::foreign());
        }),
        life("publication", |estate| {
            let name = PipelineName::new("shop", "shop").publication();
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
            let name = PipelineName::new("shop", "shop").replication_slot();
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
        life("topic prefix", take_the_prefix),
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
            let name = PipelineName::new("shop", "shop").sink();
            let labels =
                json!({"app.kubernetes.io/managed-by": "tidemark", "app.kubernetes.io/instance": "shop"});
            let owner = json!([{"kind": "AnalyticsPipeline", "name": "shop", "uid": "another life", "controller": true}]);
            let metadata = json!({"name": name, "uid": "theirs", "labels": labels, "ownerReferences": owner});
            let object = json!({"kind": "Service", "metadata": metadata});
            estate.namespace.objects.insert(format!("Service/{name}"), object);
        }),
        life("Deployment and ConfigMap", |estate| {
            let name = PipelineName::new("shop", "shop").sink();
            for kind in ["Deployment", "ConfigMap", "Service"] {
                let object = json!({"kind": kind, "metadata": {"name": name, "uid": "theirs"}, "spec": {"replicas": 0}});
                estate.namespace.objects.insert(format!("{kind}/{name}"), object);
            }
        }),
    ]
}
