//! Carries out one step: the only place that writes to a remote system. I/O, a deadline on every call.

use std::time::Duration;

use crate::core::desired::pipeline::Subject;
use crate::core::effect::Effect;
use crate::core::facts::{Failure, FailureClass};
use crate::core::step::{Stage, Step};
use crate::edge::failure::failure;
use crate::edge::systems::Systems;
use crate::edge::{clickhouse, connect, grafana, kafka, kubernetes, postgres};

/// Longest time that one step may take.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Carries out `step` for a pipeline.
pub async fn apply(systems: &Systems, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
    let done = Box::pin(carry_out(systems, subject, step));
    tokio::time::timeout(DEADLINE, done).await.unwrap_or_else(|_| {
        Err(failure(FailureClass::Unreachable, format!("no answer within {} s", DEADLINE.as_secs())))
    })
}

async fn carry_out(systems: &Systems, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
    let (name, database) = (subject.name, subject.spec.clickhouse.database.as_str());
    match &step.effect {
        Effect::ClickHouse(effect) => {
            // A user's view names its tables without their database, which has to exist first.
            let default = (step.stage > Stage::Database).then_some(database);
            let client = systems.clickhouse.open()?.with_database(default);
            clickhouse::act::carry_out(&client, (subject.mark, subject.maker()), effect).await
        }
        Effect::Ledger { kind, key, version, value } => {
            let pipeline = name.to_string();
            clickhouse::ledger::row(
                systems.clickhouse.open()?,
                database,
                &pipeline,
                *kind,
                key,
                *version,
                value,
            )
            .await
        }
        Effect::Fence { table, version, reason } => {
            clickhouse::ledger::fence(systems.clickhouse.open()?, database, table, *version, reason).await
        }
        Effect::Postgres(effect) => {
            postgres::act::carry_out(systems.postgres.open()?, subject.mark, effect).await
        }
        Effect::Kafka(effect) => kafka::act::execute(systems.kafka.open()?, effect).await,
        Effect::Connect(effect) => connect::act::execute(systems.connect.open()?, subject.mark, effect).await,
        Effect::Grafana(effect) => grafana::act::execute(systems.grafana(effect.site)?, effect).await,
        Effect::Kubernetes(effect) => {
            kubernetes::act::apply(&systems.objects, name, subject.uid, effect).await
        }
    }
}
