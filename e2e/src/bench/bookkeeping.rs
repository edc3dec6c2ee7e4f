//! What the operator makes in ClickHouse before a sink starts, made by the operator's own steps: database,
//! ledger with the first epoch, fences, progress, states, reads, state table and `_current` view. I/O.

use anyhow::{anyhow, bail, ensure};
use serde_json::json;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::Kind;
use tidemark_crds::names::PipelineName;
use tidemark_operator::core::desired::part::Part;
use tidemark_operator::core::desired::tables;
use tidemark_operator::core::effect::Effect;
use tidemark_operator::core::facts::ClickHouseFacts;
use tidemark_operator::edge::clickhouse::{act, ledger};
use tidemark_runtime::clickhouse::ClickHouse;

/// Makes a database that does not exist yet, with everything that a sink of the pipeline expects.
pub async fn prepare(
    client: &ClickHouse,
    database: &str,
    pipeline: &PipelineName,
    layout: &TableLayout,
) -> anyhow::Result<()> {
    let (mark, nothing) = (pipeline.mark("bench"), ClickHouseFacts::default());
    let mut part = tables::bookkeeping(database, &mark, &nothing);
    part.extend(tables::state(database, &mark, layout, None, &nothing, None));
    let Part { steps, problems } = part;
    ensure!(problems.is_empty(), "the operator refuses the order table: {problems:?}");
    let pipeline = pipeline.to_string();
    for step in steps {
        let done = match step.effect {
            Effect::ClickHouse(effect) => act::carry_out(client, (&mark, "tidemark"), &effect).await,
            Effect::Ledger { kind, key, version, value } => {
                ledger::row(client, database, &pipeline, kind, &key, version, &value).await
            }
            Effect::Fence { table, version, reason } => {
                ledger::fence(client, database, &table, version, reason).await
            }
            other => bail!("making a state table takes no {other:?}"),
        };
        done.map_err(|failure| anyhow!("{}: {}", step.what, failure.message))?;
    }
    // No record is taken of an epoch that the ledger has not.
    ledger::row(client, database, &pipeline, Kind::Epoch, "", 1, &json!(1))
        .await
        .map_err(|failure| anyhow!("the epoch: {}", failure.message))
}
