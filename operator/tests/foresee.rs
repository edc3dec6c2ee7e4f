//! Plans from values alone, with what the model of `explore` has not: Grafana, the preset's views, estimates.

use std::collections::BTreeMap;

use serde_json::json;
use tidemark_crds::pipeline::Policy;
use tidemark_operator::core::assume::assume;
use tidemark_operator::core::assume::coming::Coming;
use tidemark_operator::core::credentials::{Holder, References, resolve};
use tidemark_operator::core::facts::{
    ClickHouseFacts, ConnectFacts, Estimate, GrafanaFacts, KafkaFacts, KubernetesFacts, Observation,
    Observed, PostgresFacts, ReaderFacts, SourceTableFacts,
};
use tidemark_operator::core::foresee::{End, Foreseen, foresee};
use tidemark_operator::core::step::{Lane, StepKind};

use crate::fixture::{Fixture, fixture, source_column, source_table, unreachable};

/// A pipeline with dashboards, in Grafana or beside it.
fn with_dashboards(mode: &str) -> Fixture {
    let mut fixture = fixture();
    let mut grafana = json!({"mode": mode, "reader": {"secretName": "reader"}, "alerts": "Enabled"});
    if mode == "Api" {
        grafana["url"] = json!("http://grafana:3000");
        grafana["credentials"] = json!({"secretName": "grafana", "tokenKey": "token"});
    } else {
        grafana["alerts"] = json!("Disabled");
    }
    fixture.spec.grafana = Some(serde_json::from_value(grafana).unwrap());
    let mut references = References::default();
    for secret in ["pg", "ch", "kafka-user", "grafana", "reader"] {
        let data = [("username", "tidemark"), ("password", "hunter2"), ("token", "hunter2")];
        references.insert(Holder::Secret, secret, data.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }
    references.insert(Holder::Secret, "kafka-ca", [("ca.crt".to_owned(), "PEM".to_owned())].into());
    fixture.resolved = resolve(&fixture.spec, &references);
    fixture
}

/// Systems that answer and have nothing of the pipeline.
fn nothing() -> Observed {
    let table = SourceTableFacts {
        estimate: Some(Estimate { rows: 10_000_000, bytes: 1 << 30 }),
        ..source_table(16_384, vec![source_column("id", 1, "bigint", false)])
    };
    Observed {
        postgres: Observation::Known(PostgresFacts {
            system_identifier: "7".into(),
            database_oid: 5,
            server_version: 170_000,
            wal_level: "logical".into(),
            server_encoding: "UTF8".into(),
            free_replication_slots: 5,
            free_wal_senders: 5,
            may_replicate: true,
            may_create: true,
            role: "tidemark".into(),
            database: "shop".into(),
            tables: [("public.orders".parse().unwrap(), table)].into(),
            lsn_before: 1_000,
            current_lsn: 1_000,
            ..PostgresFacts::default()
        }),
        kafka: Observation::Known(KafkaFacts { cluster_id: "k".into(), ..KafkaFacts::default() }),
        connect: Observation::Known(ConnectFacts {
            connector: None,
            plugin_installed: true,
            kafka_cluster_id: String::new(),
        }),
        clickhouse: Observation::Known(ClickHouseFacts {
            server_uuid: "server".into(),
            has_query_log: true,
            ..ClickHouseFacts::default()
        }),
        grafana: Observation::Known(GrafanaFacts {
            version: "12.4.0".into(),
            rules: Some(BTreeMap::new()),
            ..GrafanaFacts::default()
        }),
        reader: Observation::Known(ReaderFacts {
            is_readonly: true,
            may_set_time: true,
            ..ReaderFacts::default()
        }),
        kubernetes: Observation::Known(KubernetesFacts::default()),
        ..Observed::default()
    }
}

fn foreseen(fixture: &Fixture, observed: &Observed) -> Foreseen {
    foresee(&fixture.subject(), observed, &BTreeMap::new())
}

/// The waves, a line a step and a line for what is waited for.
fn lines(foreseen: &Foreseen) -> String {
    let waves = foreseen.waves.iter().zip(1..).map(|(wave, number)| {
        let step = |it: &tidemark_operator::core::step::Step| {
            format!("{number} {} {:<10} {}", it.kind.as_str(), it.lane().as_str(), it.what)
        };
        let then = wave.then.iter().map(|coming| format!("{number} then waits for {coming}"));
        wave.steps.iter().map(|(it, _)| step(it)).chain(then).collect::<Vec<_>>().join("\n")
    });
    waves.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_plan_is_a_whole_life_with_views_dashboards_and_reads() {
    let fixture = with_dashboards("Api");
    let found = foreseen(&fixture, &nothing());
    insta::assert_snapshot!(lines(&found));
    assert_eq!((found.end, &found.left), (End::Rest, &vec![]));
    let reads = found.reads().unwrap();
    assert_eq!((reads.rows, reads.bytes), (Some(10_000_000), Some(1 << 30)));
    for coming in [Coming::Sinks, Coming::Streaming, Coming::Read("orders".into())] {
        assert!(found.comings().any(|it| *it == coming), "{coming}");
    }
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn what_is_done_once_is_not_done_again() {
    for mode in ["Api", "Sidecar"] {
        let fixture = with_dashboards(mode);
        let found = foreseen(&fixture, &nothing());
        assert_eq!(found.end, End::Rest);
        let mut ids = found.ids();
        let all = ids.len();
        ids.dedup();
        assert!(all > 40 && ids.len() == all, "{all} steps, {} of them once", ids.len());
        for (place, id) in ids.iter().enumerate() {
            let again = ids[place + 1..].iter().find(|other| other.what == id.what && other.lane == id.lane);
            assert_eq!(again, None, "{mode}");
        }
    }
}

#[test]
fn a_deletion_leaves_nothing_of_what_the_first_plan_made() {
    for mode in ["Api", "Sidecar"] {
        let mut fixture = with_dashboards(mode);
        let policy = &mut fixture.spec.deletion_policy;
        (policy.clickhouse, policy.topics) = (Policy::Delete, Policy::Delete);
        let mut world = nothing();
        let life = foreseen(&fixture, &world);
        for step in life.steps() {
            assume(&fixture.subject(), &step.effect, &mut world);
        }
        fixture.deleting = true;
        let end = foreseen(&fixture, &world);
        assert_eq!((end.end, &end.left), (End::Rest, &vec![]), "{}", lines(&end));
        for step in end.steps() {
            assert!(matches!(step.kind, StepKind::Drop | StepKind::Change), "{}", step.what);
            assume(&fixture.subject(), &step.effect, &mut world);
        }
        let is_gone = |there: bool, what: &str| assert!(!there, "{mode}: {what} is left: {}", lines(&end));
        is_gone(!world.clickhouse.known().unwrap().objects.is_empty(), "an object of clickhouse");
        is_gone(!world.kafka.known().unwrap().topics.is_empty(), "a topic");
        is_gone(world.connect.known().unwrap().connector.is_some(), "the connector");
        is_gone(world.postgres.known().unwrap().publication.is_some(), "the publication");
        is_gone(!world.kubernetes.known().unwrap().objects.is_empty(), "an object of kubernetes");
        let grafana = world.grafana.known().unwrap();
        is_gone(
            grafana.folder.is_some() || grafana.source.is_some() || !grafana.tagged.is_empty(),
            "grafana",
        );
        is_gone(grafana.rules.as_ref().is_some_and(|rules| !rules.is_empty()), "an alert rule");
    }
}

#[test]
fn a_lane_that_gives_no_answer_keeps_its_steps_and_those_behind_them() {
    let fixture = fixture();
    let observed = Observed { kafka: unreachable(), ..nothing() };
    let found = foreseen(&fixture, &observed);
    assert_eq!(found.end, End::Rest);
    assert!(found.steps().all(|step| step.lane() != Lane::Kafka && step.lane() != Lane::Connect));
    let left: Vec<String> = found.left.iter().map(|(step, why)| format!("{}: {why}", step.what)).collect();
    assert!(
        left.iter().any(|line| line.starts_with("create connector") && line.contains("topic")),
        "{left:?}"
    );
}
