//! Carries out one statement on PostgreSQL; all of it or nothing takes effect. I/O.

use std::time::Duration;

use crate::core::desired::part::is_ours;
use crate::core::effect::PostgresEffect;
use crate::core::facts::{Failure, FailureClass};
use crate::core::statement;
use crate::edge::failure::failure;
use crate::edge::postgres::client::{PostgresTarget, of_error};

/// Deadline of one statement, connecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a publication's COMMENT is; one without has the empty one.
const COMMENT: &str = "
SELECT coalesce(obj_description(p.oid, 'pg_publication'), '') FROM pg_publication p WHERE p.pubname = $1";

/// Whether a slot is one of the plugin and database that pipelines have theirs in.
const SLOT: &str = "
SELECT plugin = 'pgoutput' AND database = current_database() FROM pg_replication_slots WHERE slot_name = $1";

/// Carries out one write of the pipeline of `mark`. What is dropped is looked at once more: another object may have
/// come under the name since it was planned.
pub async fn carry_out(target: &PostgresTarget, mark: &str, effect: &PostgresEffect) -> Result<(), Failure> {
    let sql = statement::postgres(effect);
    let run = Box::pin(async {
        let session = target.connect().await?;
        let wrong = |error: tokio_postgres::Error| of_error("postgresql", &error);
        let (name, is_right) = match effect {
            PostgresEffect::CreatePublication { .. } | PostgresEffect::AlterPublication { .. } => ("", true),
            PostgresEffect::DropSlot(slot) => {
                let row = session.query_opt(SLOT, &[&slot.as_str()]).await.map_err(wrong)?;
                (slot.as_str(), row.is_none_or(|row| row.get(0)))
            }
            PostgresEffect::DropPublication(publication) => {
                let row = session.query_opt(COMMENT, &[&publication.as_str()]).await.map_err(wrong)?;
                (publication.as_str(), row.is_none_or(|row| is_ours(&row.get::<_, String>(0), mark)))
            }
        };
        if !is_right {
            let text = format!("{name} is another one than a moment ago: it is left alone");
            return Err(failure(FailureClass::Remote, text));
        }
        session.batch_execute(&sql).await.map_err(wrong)
    });
    tokio::time::timeout(DEADLINE, run).await.unwrap_or_else(|_| {
        let text = format!("postgresql did not finish within {} s", DEADLINE.as_secs());
        Err(failure(FailureClass::Unreachable, text))
    })
}
