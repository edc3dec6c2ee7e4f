//! Our connector as Kafka Connect shows it. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::secrets::{is_placeholder, is_secret};

use crate::clients::connect::Connect;
use crate::clients::failure;
use crate::desired::connector::CONNECTOR_CLASS;
use crate::facts::{
    ConnectFacts, ConnectorFacts, Failure, FailureClass, Observation, OffsetFacts, TaskFacts,
};
use crate::status::cut;

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);
/// Longest error of a task, in characters.
const ERROR_LIMIT: usize = 512;

#[derive(Deserialize)]
struct Plugin {
    class: String,
}

#[derive(Deserialize)]
struct Status {
    connector: State,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct State {
    state: String,
    #[serde(default)]
    trace: Option<String>,
}

#[derive(Deserialize)]
struct Task {
    id: i32,
    state: String,
    #[serde(default)]
    trace: Option<String>,
}

#[derive(Deserialize, Default)]
struct StoredOffsets {
    #[serde(default)]
    offsets: Vec<StoredOffset>,
}

#[derive(Deserialize)]
struct StoredOffset {
    offset: Option<BTreeMap<String, Value>>,
}

/// Looks at the connector `name`.
pub async fn observe(connect: &Connect, name: &str) -> Observation<ConnectFacts> {
    match tokio::time::timeout(DEADLINE, Box::pin(look(connect, name))).await {
        Ok(Ok(facts)) => Observation::Known(facts),
        Ok(Err(failure)) => Observation::Unreachable(failure),
        Err(_) => Observation::Unreachable(failure(
            FailureClass::Unreachable,
            format!("kafka connect did not answer within {} s", DEADLINE.as_secs()),
        )),
    }
}

async fn look(connect: &Connect, name: &str) -> Result<ConnectFacts, Failure> {
    let plugins: Option<Vec<Plugin>> = connect.get(&["connector-plugins"]).await?;
    let plugins = plugins.ok_or_else(|| {
        let text = "kafka connect: /connector-plugins is not found: is it Kafka Connect that listens there?";
        failure(FailureClass::Remote, text)
    })?;
    let plugin_installed = plugins.iter().any(|plugin| plugin.class == CONNECTOR_CLASS);
    let config: Option<BTreeMap<String, Option<String>>> =
        connect.get(&["connectors", name, "config"]).await?;
    let Some(config) = config else {
        return Ok(ConnectFacts { connector: None, plugin_installed });
    };
    let config: BTreeMap<String, String> =
        config.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    // Right after a connector was made its status is not there yet.
    let status: Option<Status> = connect.get(&["connectors", name, "status"]).await?;
    let offsets: StoredOffsets = connect.get(&["connectors", name, "offsets"]).await?.unwrap_or_default();
    let secrets: Vec<String> = config
        .iter()
        .filter(|(key, value)| is_secret(key) && !is_placeholder(value) && !value.is_empty())
        .map(|(_, value)| value.clone())
        .collect();
    let (state, tasks) = match status {
        None => ("UNASSIGNED".to_owned(), Vec::new()),
        Some(status) => states(status, &secrets),
    };
    let offset =
        offsets.offsets.into_iter().find_map(|stored| stored.offset).map(|offset| of_offset(&offset));
    Ok(ConnectFacts { connector: Some(ConnectorFacts { config, state, tasks, offset }), plugin_installed })
}

fn states(status: Status, secrets: &[String]) -> (String, Vec<TaskFacts>) {
    let task = |task: Task| TaskFacts {
        id: task.id,
        state: task.state,
        error: task.trace.map(|trace| short_trace(&trace, secrets)),
    };
    let mut tasks: Vec<TaskFacts> = status.tasks.into_iter().map(task).collect();
    if let (Some(trace), true) = (status.connector.trace, tasks.is_empty()) {
        // The connector itself failed, before it had a task.
        let error = Some(short_trace(&trace, secrets));
        tasks.push(TaskFacts { id: -1, state: status.connector.state.clone(), error });
    }
    (status.connector.state, tasks)
}

/// First line of a Java trace and of its root cause, without class names, packages and secrets.
fn short_trace(trace: &str, secrets: &[String]) -> String {
    let text_of = |line: &str| {
        let line = line.trim().trim_start_matches("Caused by: ");
        match line.split_once(": ") {
            Some((class, text)) if !class.contains(' ') => text.to_owned(),
            _ => line.to_owned(),
        }
    };
    let mut text = trace.lines().next().map(text_of).unwrap_or_default();
    let root = trace.lines().rfind(|line| line.starts_with("Caused by: ")).map(text_of);
    if let Some(root) = root.filter(|root| !root.is_empty() && !text.contains(root.as_str())) {
        text = format!("{text}: {root}");
    }
    for secret in secrets {
        text = text.replace(secret.as_str(), "***");
    }
    cut(&text, ERROR_LIMIT)
}

fn of_offset(offset: &BTreeMap<String, Value>) -> OffsetFacts {
    let number = |key: &str| offset.get(key).and_then(Value::as_u64);
    OffsetFacts { lsn: number("lsn").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_becomes_its_message_and_root_cause_without_the_password() {
        let trace = "org.apache.kafka.connect.errors.ConnectException: Error configuring an instance\n\tat x.Y\n\
                     Caused by: org.postgresql.util.PSQLException: FATAL: login of hunter2 failed\n\tat z\n";
        let text = short_trace(trace, &["hunter2".to_owned()]);
        assert_eq!(text, "Error configuring an instance: FATAL: login of *** failed");
    }

    #[test]
    fn the_cause_at_the_end_of_a_long_trace_stays() {
        let trace = format!("a.B: {}\n\tat x.Y\nCaused by: c.D: the slot is gone\n", "long ".repeat(200));
        let text = short_trace(&trace, &[]);
        assert!(text.starts_with("long") && text.ends_with("the slot is gone"), "{text}");
        assert!(text.chars().count() <= ERROR_LIMIT);
    }

    #[test]
    fn an_offset_has_its_position() {
        let read = |json: &str| of_offset(&serde_json::from_str(json).unwrap());
        assert_eq!(read(r#"{"lsn":26844872,"txId":741}"#), OffsetFacts { lsn: 26_844_872 });
    }
}
