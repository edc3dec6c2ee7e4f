//! The account that panels query with: what it must and must not be able to do. Pure.

use tidemark_crds::conditions::Reason;

use super::Problem;
use crate::core::facts::ReaderFacts;

/// The reader's account: what is missing for panels to work, or for the shop to be safe from them.
pub fn reader_problem(name: &str, database: &str, facts: &ReaderFacts) -> Option<Problem> {
    let wrong = match facts.without_limit.first() {
        _ if !facts.is_readonly => "may write".to_owned(),
        _ if !facts.may_set_time => {
            "may not set max_execution_time, which the data source sends with every query".to_owned()
        }
        Some(setting) => format!("has no {setting}"),
        None => return None,
    };
    let message = format!(
        "spec.grafana.reader: the user {name} {wrong}: run ALTER USER {name} SETTINGS readonly = 1, \
         max_execution_time = 30 MAX 60 CHANGEABLE_IN_READONLY, max_memory_usage = 2000000000, max_result_rows = \
         100000, and GRANT SELECT ON {database}.* TO {name} or on each view"
    );
    Some(Problem::new("reader", Reason::ReaderNotReady, message))
}
