//! Runs one statement on ClickHouse. I/O.

use std::time::Duration;

use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use serde::Deserialize;
use tidemark_crds::quote;

use crate::core::desired::part::is_ours;
use crate::core::effect::ClickHouseEffect;
use crate::core::facts::{Failure, FailureClass};
use crate::core::statement;
use crate::edge::failure::failure;

/// Deadline of one statement.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct There {
    engine: String,
    comment: String,
}

/// Carries out one write of the pipeline of `mark`; `maker` is the account that does it.
pub async fn carry_out(
    client: &ClickHouse,
    (mark, maker): (&str, &str),
    effect: &ClickHouseEffect,
) -> Result<(), Failure> {
    match effect {
        ClickHouseEffect::ReplaceView(view) => {
            let is_right = |there: &There| there.engine == "View" && is_ours(&there.comment, mark);
            still(client, &view.database, &view.name, is_right).await?;
        }
        ClickHouseEffect::Drop(name) => {
            still(client, &name.database, &name.name, |there| there.comment == name.comment).await?;
        }
        ClickHouseEffect::CarryOver(table) => {
            for statement in statement::carry_over(table) {
                execute(client, &statement).await?;
            }
            return Ok(());
        }
        ClickHouseEffect::CreateDatabase(_)
        | ClickHouseEffect::CreateTable(_)
        | ClickHouseEffect::AddColumn(..)
        | ClickHouseEffect::WidenColumn(..)
        | ClickHouseEffect::CreateView(_)
        | ClickHouseEffect::CreateRefresh(_)
        | ClickHouseEffect::Record(_) => {}
    }
    let done = execute(client, &statement::clickhouse(effect)).await;
    done.map_err(|failure| match definer(effect) {
        Some(viewer) if failure.class == FailureClass::Permission => {
            let grant = statement::grant_definer(viewer, maker);
            Failure::new(failure.class, format!("{}: run {grant}", failure.message))
        }
        _ => failure,
    })
}

/// The account that a view runs as, where it is another one.
fn definer(effect: &ClickHouseEffect) -> Option<&str> {
    match effect {
        ClickHouseEffect::CreateView(view) => view.definer.as_deref(),
        ClickHouseEffect::ReplaceView(view) => view.definer.as_deref(),
        _ => None,
    }
}

/// Looks once more: another object may have come under the name since it was planned. One that is gone is nobody's.
async fn still(
    client: &ClickHouse,
    database: &str,
    name: &str,
    is_right: impl Fn(&There) -> bool,
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT engine, comment FROM system.tables WHERE database = {} AND name = {}",
        quote::literal(database),
        quote::literal(name)
    );
    let found: Vec<There> = client.within(DEADLINE).query(&sql).await.map_err(|error| of_error(&error))?;
    if found.iter().all(is_right) {
        return Ok(());
    }
    let text = format!("{database}.{name} is another object than a moment ago: it is left alone");
    Err(failure(FailureClass::Remote, text))
}

/// Runs a statement that returns no rows.
pub async fn execute(client: &ClickHouse, sql: &str) -> Result<(), Failure> {
    let client = client.within(DEADLINE);
    client.execute(sql).await.map_err(|error| of_error(&error))
}

/// What a failed call means for a condition.
pub(crate) fn of_error(error: &Error) -> Failure {
    let class = match error.class {
        ErrorClass::Authentication => FailureClass::Authentication,
        ErrorClass::Permission => FailureClass::Permission,
        ErrorClass::Transient | ErrorClass::InDoubt => FailureClass::Unreachable,
        ErrorClass::MergeBackpressure | ErrorClass::Resource | ErrorClass::Schema | ErrorClass::Permanent => {
            FailureClass::Remote
        }
    };
    failure(class, error.to_string())
}
