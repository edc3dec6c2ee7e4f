//! Asks ClickHouse what only it can judge: the columns of a view, the panels of a dashboard. I/O, read only;
//! answers are kept by hash.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use serde::Deserialize;
use tidemark_runtime::clickhouse::{ClickHouse, Error, ErrorClass};

use crate::core::dashboards::Dashboard;
use crate::core::dashboards::classic::VariableQuery;
use crate::core::dashboards::expand::{TimeRange, Values, expand};
use crate::core::desired::pipeline::{Asked, Question};
use crate::core::desired::views::Probe;
use crate::core::facts::{FailureClass, Observation};
use crate::edge::clickhouse::act::of_error;

/// Deadline of one question.
const DEADLINE: Duration = Duration::from_secs(8);
/// Panels that are asked side by side.
const AT_ONCE: usize = 4;
/// Longest error of a panel, characters.
const ERROR_LIMIT: usize = 300;

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
}

/// ClickHouse by the accounts that questions are asked by.
#[derive(Debug)]
pub struct Accounts {
    /// The operator's.
    pub own: ClickHouse,
    /// The one that Grafana will have.
    pub reader: Option<ClickHouse>,
    /// The one that the user's views run as, where that is another one: to be asked for its columns is enough for a text to
    /// read what the account may.
    pub viewer: Option<ClickHouse>,
}

/// Asks each question by its account; one that gets no answer stays open and is asked again at the next look. Returns, too,
/// what was heard by the account that the user's views run as: one that heard nothing is asked nothing more.
pub async fn ask(accounts: &Accounts, questions: &[Question]) -> (BTreeMap<String, Probe>, Observation<()>) {
    let timed = |client: &ClickHouse| client.within(DEADLINE);
    let runs_as =
        |viewer: bool| if viewer { accounts.viewer.as_ref() } else { Some(&accounts.own) }.map(timed);
    let (mut answers, mut heard) = (BTreeMap::new(), Observation::NotAsked);
    for question in questions {
        let as_viewer = question.asked.as_viewer();
        if as_viewer && is_silent(&heard) {
            continue;
        }
        let answer = match &question.asked {
            Asked::Columns { sql, as_viewer } => {
                let Some(client) = runs_as(*as_viewer) else { continue };
                columns(&client, sql, *as_viewer).await
            }
            Asked::Panels(_, dashboard) => {
                let Some(reader) = accounts.reader.as_ref().map(timed) else { continue };
                let now_ms = jiff::Timestamp::now().as_millisecond();
                Box::pin(panels(&reader, dashboard, now_ms)).await.map(Probe::Panels)
            }
            Asked::Replaced { view, select, dashboards, by_reader } => {
                let client = if *by_reader { accounts.reader.as_ref().map(timed) } else { runs_as(false) };
                let Some(client) = client else { continue };
                Box::pin(replaced(&client, view, select, dashboards)).await.map(Probe::Panels)
            }
        };
        if as_viewer {
            heard = match &answer {
                Ok(_) => Observation::Known(()),
                Err(error) => Observation::Unreachable(of_error(error)),
            };
        }
        match answer {
            Ok(answer) => {
                answers.insert(question.hash.clone(), answer);
            }
            Err(error) => tracing::debug!(%error, "a view or dashboard was not judged"),
        }
    }
    (answers, heard)
}

fn is_silent(heard: &Observation<()>) -> bool {
    matches!(heard, Observation::Unreachable(failure) if failure.class == FailureClass::Unreachable)
}

async fn columns(client: &ClickHouse, sql: &str, as_viewer: bool) -> Result<Probe, Error> {
    // No settings go with it: under readonly = 1 each would be an error of its own.
    match client.query_bytes(sql, "JSONEachRow").await {
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer);
            let column = |line: &str| serde_json::from_str::<Column>(line);
            let columns: Result<Vec<Column>, _> = text.lines().map(column).collect();
            let wrong =
                |_| Error::new(ErrorClass::Permanent, "the columns of a view are not of the expected shape");
            let columns = columns.map_err(wrong)?.into_iter().map(|column| (column.name, column.r#type));
            Ok(Probe::Columns(columns.collect()))
        }
        Err(error) if error.class == ErrorClass::Permanent || error.class == ErrorClass::Schema => {
            Ok(Probe::Refused(error.message))
        }
        Err(error)
            if as_viewer && matches!(error.class, ErrorClass::Permission | ErrorClass::Authentication) =>
        {
            Ok(Probe::Denied(error.message))
        }
        Err(error) => Err(error),
    }
}

/// Asks every query of every panel as Grafana would; returns what is wrong, one line a panel. An error that says
/// nothing about the queries (no connection) is one of the whole.
pub async fn panels(client: &ClickHouse, dashboard: &Dashboard, now_ms: i64) -> Result<Vec<String>, Error> {
    let range = TimeRange::last_days(dashboard.days(), now_ms);
    let mut faults = Vec::new();
    let mut values = dashboard.fixed_values();
    for variable in dashboard.variable_queries() {
        match values_of(client, &variable, range, &values).await {
            Ok(found) => {
                values.insert(variable.name, found);
            }
            Err(error) => faults.push(fault(&format!("variable {}", variable.name), error)?),
        }
    }
    let queries: Vec<(String, String)> = dashboard
        .queries()
        .into_iter()
        .map(|query| (format!("panel {:?}", query.panel), expand(&query.sql, range, &values)))
        .collect();
    let asked = queries.into_iter().map(|(panel, sql)| {
        let client = client.clone();
        async move { client.query_bytes(&sql, "Null").await.err().map(|error| fault(&panel, error)) }
    });
    let answers: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
    for answer in answers.into_iter().flatten() {
        faults.push(answer?);
    }
    Ok(faults)
}

/// Asks whether the panels of dashboards would still be valid with `select` in the place of `view`: a common table
/// expression of its name goes before the view itself.
async fn replaced(
    client: &ClickHouse,
    view: &str,
    select: &str,
    dashboards: &[(String, Dashboard)],
) -> Result<Vec<String>, Error> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut faults = Vec::new();
    for (name, dashboard) in dashboards {
        let range = TimeRange::last_days(dashboard.days(), now_ms);
        let values = chosen_values(client, dashboard, range).await?;
        for query in dashboard.queries() {
            let sql = format!("EXPLAIN {}", shadow(&expand(&query.sql, range, &values), view, select));
            if let Err(error) = client.query_bytes(&sql, "Null").await {
                faults.push(fault(&format!("dashboard {name}, panel {:?}", query.panel), error)?);
            }
        }
    }
    Ok(faults)
}

/// Puts a common table expression in front of a query. The line break ends a comment at the end of `select`.
fn shadow(sql: &str, name: &str, select: &str) -> String {
    let sql = sql.trim_start();
    match sql.get(..5) {
        Some(with) if with.eq_ignore_ascii_case("with ") => {
            format!("WITH {name} AS ({select}\n), {}", &sql[5..])
        }
        _ => format!("WITH {name} AS ({select}\n) {sql}"),
    }
}

/// The values of a variable that Grafana would choose at first: all of them, or the first where only one can be
/// chosen. None at all are one empty value, so that `IN ()` is valid as in Grafana.
async fn values_of(
    client: &ClickHouse,
    variable: &VariableQuery,
    range: TimeRange,
    before: &Values,
) -> Result<Vec<String>, Error> {
    let answer =
        client.query_bytes(&expand(&variable.sql, range, before), "JSONCompactStringsEachRow").await?;
    let rows = String::from_utf8_lossy(&answer);
    let first = |line: &str| serde_json::from_str::<Vec<String>>(line).ok()?.into_iter().next();
    let most = if variable.many { usize::MAX } else { 1 };
    let mut values: Vec<String> = rows.lines().filter_map(first).take(most).collect();
    if values.is_empty() {
        values.push(String::new());
    }
    Ok(values)
}

fn fault(what: &str, error: Error) -> Result<String, Error> {
    match error.class {
        ErrorClass::Transient | ErrorClass::InDoubt | ErrorClass::Authentication => Err(error),
        _ => {
            let text: String = error.message.chars().take(ERROR_LIMIT).collect();
            Ok(format!("{what}: clickhouse answers: {text}"))
        }
    }
}

/// Values of variables as Grafana chooses them when a dashboard is opened.
pub async fn chosen_values(
    client: &ClickHouse,
    dashboard: &Dashboard,
    range: TimeRange,
) -> Result<Values, Error> {
    let mut values = dashboard.fixed_values();
    for variable in dashboard.variable_queries() {
        let found = values_of(client, &variable, range, &values).await?;
        values.insert(variable.name, found);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_the_other_select_in_the_place_of_the_view() {
        assert_eq!(
            shadow("SELECT a FROM v", "v", "SELECT 1 AS a"),
            "WITH v AS (SELECT 1 AS a\n) SELECT a FROM v"
        );
        assert_eq!(
            shadow("with 1 AS x SELECT x FROM v", "v", "SELECT 2"),
            "WITH v AS (SELECT 2\n), 1 AS x SELECT x FROM v"
        );
    }
}
