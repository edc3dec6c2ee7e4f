//! From `tidemark apply` to the first visible row, on components that run: the operator makes everything, the
//! sink starts, Debezium takes its snapshot. I/O.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::chain::{self, Chain};
use crate::shop::{SCHEMA, SEED};
use crate::stack::{Role, Stack, wait_until};

/// Name of the pipeline and its databases.
const NAME: &str = "first_row";
/// Rows of the followed table before the pipeline is applied.
const ROWS: u32 = 1_000;
const DEADLINE: Duration = Duration::from_secs(180);

/// How long a user waits.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Report {
    /// Rows of the followed table.
    pub rows: u32,
    /// Seconds from apply until one of them was visible in the `_current` view.
    pub first_row_s: f64,
    /// Seconds from apply until all of them were.
    pub all_rows_s: f64,
}

/// Applies the shop's pipeline with the preset's views and waits for its customers.
pub async fn measure(stack: &Stack) -> anyhow::Result<Report> {
    stack.postgres().create_database(NAME).await?;
    for statements in [SCHEMA, SEED] {
        stack.postgres().execute(Role::Shop, NAME, statements).await?;
    }
    let customers = format!(
        "DELETE FROM customers;
         INSERT INTO customers (email, name) SELECT 'c' || n || '@example.com', 'Customer ' || n
         FROM generate_series(1, {ROWS}) AS n"
    );
    stack.postgres().execute(Role::Shop, NAME, &customers).await?;
    let objects: Vec<_> = std::iter::once(chain::shop(stack, NAME)).chain(chain::secrets()).collect();
    let chain = Chain::prepare(stack, NAME, &objects)?;
    let begin = Instant::now();
    let visible = |wanted: u32| async move {
        wait_until(DEADLINE, "rows to be visible", || async {
            let sql = format!("SELECT count() FROM {NAME}.customers_current");
            let count: u32 = stack.clickhouse().query(&sql).await?.trim().parse()?;
            Ok((count >= wanted).then(|| begin.elapsed().as_secs_f64()))
        })
        .await
    };
    chain.start().await?;
    let first_row_s = visible(1).await?;
    let all_rows_s = visible(ROWS).await?;
    Ok(Report { rows: ROWS, first_row_s, all_rows_s })
}
