//! Asks ClickHouse what only it can judge: the columns of a view. I/O, read only; answers are kept by hash.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidemark_runtime::clickhouse::{ClickHouse, ErrorClass};

use crate::desired::pipeline::Question;
use crate::desired::views::Probe;

/// Deadline of one question.
const DEADLINE: Duration = Duration::from_secs(8);

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
}

/// Asks each question; one that gets no answer stays open and is asked again at the next look.
pub async fn ask(client: &ClickHouse, questions: &[Question]) -> BTreeMap<String, Probe> {
    let client = client.with_deadline(DEADLINE);
    let mut answers = BTreeMap::new();
    for question in questions {
        match client.query::<Column>(&question.sql).await {
            Ok(columns) => {
                let columns = columns.into_iter().map(|column| (column.name, column.r#type)).collect();
                answers.insert(question.hash.clone(), Probe::Columns(columns));
            }
            Err(error) if error.class == ErrorClass::Permanent || error.class == ErrorClass::Schema => {
                answers.insert(question.hash.clone(), Probe::Refused(error.message));
            }
            Err(error) => tracing::debug!(%error, "a view was not judged"),
        }
    }
    answers
}
