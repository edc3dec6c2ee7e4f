//! Carries out one step: the only place that writes to a remote system. I/O, a deadline on every call.

pub mod clickhouse;
pub mod connect;
pub mod grafana;
pub mod kafka;
pub mod kubernetes;
pub mod ledger;
pub mod postgres;

use std::time::Duration;

use crate::clients::failure;
use crate::desired::pipeline::Subject;
use crate::effect::Effect;
use crate::facts::{Failure, FailureClass};
use crate::step::{Stage, Step};
use crate::systems::Systems;

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
            clickhouse::carry_out(&client, (subject.mark, subject.maker()), effect).await
        }
        Effect::Ledger { kind, key, version, value } => {
            let pipeline = name.to_string();
            ledger::row(systems.clickhouse.open()?, database, &pipeline, *kind, key, *version, value).await
        }
        Effect::Fence { table, version, reason } => {
            ledger::fence(systems.clickhouse.open()?, database, table, *version, reason).await
        }
        Effect::Postgres(effect) => postgres::carry_out(systems.postgres.open()?, subject.mark, effect).await,
        Effect::Kafka(effect) => kafka::execute(systems.kafka.open()?, effect).await,
        Effect::Connect(effect) => connect::execute(systems.connect.open()?, subject.mark, effect).await,
        Effect::Grafana(effect) => grafana::execute(systems.grafana(effect.site)?, effect).await,
        Effect::Kubernetes(effect) => kubernetes::apply(&systems.objects, name, subject.uid, effect).await,
    }
}
