//! Our connector as Kafka Connect shows it. I/O, read only.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::secrets::{is_placeholder, is_secret};
use tidemark_runtime::foreign::{Hidden, Text};

use crate::core::desired::connector::CONNECTOR_CLASS;
use crate::core::facts::{
    ConnectFacts, ConnectorFacts, Failure, FailureClass, Observation, OffsetFacts, TaskFacts,
};
use crate::core::status::cut;
use crate::edge::connect::client::Connect;
use crate::edge::failure::failure;

/// Deadline of the whole look.
const DEADLINE: Duration = Duration::from_secs(9);
/// What a connector or a task can be.
const STATES: [&str; 7] = ["RUNNING", "PAUSED", "STOPPED", "FAILED", "UNASSIGNED", "RESTARTING", "DESTROYED"];
/// Longest error of a task, in characters.
const ERROR_LIMIT: usize = 512;

#[derive(Deserialize, Default)]
struct Worker {
    #[serde(default)]
    kafka_cluster_id: Option<String>,
}

/// Whether a text looks like an id of a Kafka cluster: only such are shown.
fn is_cluster_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[derive(Deserialize)]
struct Status {
    connector: State,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct State {
    state: Text,
    #[serde(default)]
    trace: Option<Text>,
}

#[derive(Deserialize)]
struct Task {
    id: i32,
    state: Text,
    #[serde(default)]
    trace: Option<Text>,
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

/// Asks for the state of the connector `name` and of its tasks alone.
pub async fn pulse(connect: &Connect, name: &str) -> Observation<ConnectorFacts> {
    let path = ["connectors", name, "status"];
    let asked = connect.get::<Status>(&path);
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(Some(status))) => {
            // No text of it is used.
            let (state, tasks) = states(status, &Hidden::default());
            Observation::Known(ConnectorFacts { state, tasks, ..ConnectorFacts::default() })
        }
        Ok(Ok(None)) => Observation::Absent,
        Ok(Err(failure)) => Observation::Unreachable(failure),
        Err(_) => {
            Observation::Unreachable(failure(FailureClass::Unreachable, "kafka connect did not answer"))
        }
    }
}

async fn look(connect: &Connect, name: &str) -> Result<ConnectFacts, Failure> {
    let plugin_installed = connect.has_plugin(CONNECTOR_CLASS).await?;
    // What stands before Connect may keep its first page to itself: then nothing is compared.
    let worker: Worker = connect.get(&[]).await.ok().flatten().unwrap_or_default();
    let kafka_cluster_id = worker.kafka_cluster_id.filter(|id| is_cluster_id(id)).unwrap_or_default();
    let config: Option<BTreeMap<String, Option<String>>> =
        connect.get(&["connectors", name, "config"]).await?;
    let Some(config) = config else {
        return Ok(ConnectFacts { connector: None, plugin_installed, kafka_cluster_id });
    };
    let config: BTreeMap<String, String> =
        config.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    // Right after a connector was made its status is not there yet.
    let status: Option<Status> = connect.get(&["connectors", name, "status"]).await?;
    let offsets: StoredOffsets = connect.get(&["connectors", name, "offsets"]).await?.unwrap_or_default();
    let secrets = config.iter().filter(|(key, value)| is_secret(key) && !is_placeholder(value));
    let hidden = secrets.fold(connect.hidden().clone(), |hidden, (_, value)| hidden.with(value));
    let (state, tasks) = match status {
        None => ("UNASSIGNED".to_owned(), Vec::new()),
        Some(status) => states(status, &hidden),
    };
    let offset =
        offsets.offsets.into_iter().find_map(|stored| stored.offset).map(|offset| of_offset(&offset));
    let connector = Some(ConnectorFacts { config, state, tasks, offset });
    Ok(ConnectFacts { connector, plugin_installed, kafka_cluster_id })
}

fn states(status: Status, hidden: &Hidden) -> (String, Vec<TaskFacts>) {
    let state =
        |state: &Text| STATES.into_iter().find(|known| state.is(known)).unwrap_or("UNKNOWN").to_owned();
    let task = |task: Task| TaskFacts {
        id: task.id,
        state: state(&task.state),
        is_stuck: task.trace.as_ref().is_some_and(is_stuck),
        error: task.trace.map(|trace| short_trace(&trace, hidden)),
    };
    let mut tasks: Vec<TaskFacts> = status.tasks.into_iter().map(task).collect();
    if let (Some(trace), true) = (status.connector.trace, tasks.is_empty()) {
        // The connector itself failed, before it had a task.
        let error = Some(short_trace(&trace, hidden));
        let state = state(&status.connector.state);
        tasks.push(TaskFacts { id: -1, state, error, is_stuck: false });
    }
    (state(&status.connector.state), tasks)
}

/// Whether the task ended at what the log has of a table, and will at each start: a change of a table two of whose columns
/// differed in case alone when it was made (Debezium's `PgOutputMessageDecoder.handleRelationMessage`).
fn is_stuck(trace: &Text) -> bool {
    trace.lines().any(|line| line.contains("has columns that differ only by case"))
}

/// The exceptions of a Java trace: class and message of the first one and of the root cause. What is no trace is not shown.
fn short_trace(trace: &Text, hidden: &Hidden) -> String {
    let mut lines = trace.lines();
    let first = lines.find(|line| !line.trim().is_empty()).and_then(|line| exception(line, hidden));
    let root = lines.filter_map(|line| exception(line.strip_prefix("Caused by: ")?, hidden)).next_back();
    let Some((class, message)) = first else {
        return "the trace has no exception of Java: look at the task in Connect".to_owned();
    };
    let mut text = if message.is_empty() { class } else { format!("{class}: {message}") };
    if let Some((class, message)) = root {
        // Wrappers repeat what they wrap.
        let known = !message.is_empty() && text.contains(&message);
        match (known, message.is_empty()) {
            (true, _) => {}
            (false, true) => text = format!("{text}: {class}"),
            (false, false) => text = format!("{text}: {class}: {message}"),
        }
    }
    cut(&text, ERROR_LIMIT)
}

/// Class, without its package, and message of `org.example.SomeException: message`.
fn exception(line: &str, hidden: &Hidden) -> Option<(String, String)> {
    let (class, message) = line.trim().split_once(": ").unwrap_or((line.trim(), ""));
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
    };
    let (_, name) = class.rsplit_once('.').filter(|_| class.len() <= 256 && class.split('.').all(is_part))?;
    Some((name.to_owned(), Text::new(message).shown(hidden)))
}

fn of_offset(offset: &BTreeMap<String, Value>) -> OffsetFacts {
    let number = |key: &str| offset.get(key).and_then(Value::as_u64);
    OffsetFacts { lsn: number("lsn").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(trace: &str) -> String {
        short_trace(&Text::new(trace), &Hidden::default().with("hunter2"))
    }

    #[test]
    fn a_trace_becomes_its_exceptions_without_the_password() {
        let trace = "org.apache.kafka.connect.errors.ConnectException: Error configuring an instance\n\tat x.Y\n\
                     Caused by: java.io.IOException: in between\n\tat y\n\
                     Caused by: org.postgresql.util.PSQLException: FATAL: login of hunter2 failed\n\tat z\n";
        assert_eq!(
            short(trace),
            "ConnectException: Error configuring an instance: PSQLException: FATAL: login of *** failed"
        );
        assert_eq!(short("a.B: x: c.D: gone\n\tat y\nCaused by: c.D: gone\n"), "B: x: c.D: gone");
        let null = "java.lang.NullPointerException\n\tat x.Y\nCaused by: a.Outer$Inner\n";
        assert_eq!(short(null), "NullPointerException: Outer$Inner");
    }

    #[test]
    fn what_is_no_trace_is_not_shown() {
        for trace in [
            "",
            "the board's wiki",
            "<html>board.x: y</html>",
            "board: x",
            "\u{1b}[31mboard.x: y",
            "not a.class: board",
            "a..b: board",
        ] {
            let text = short(trace);
            assert!(text.starts_with("the trace has no exception"), "{trace:?}: {text}");
        }
        let text = short(&format!("a.B: {}\u{1b}[2J hunter2", "x\u{0}".repeat(5 << 20)));
        assert!(text.chars().count() <= ERROR_LIMIT && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_cause_at_the_end_of_a_long_trace_stays() {
        let trace = format!("a.B: {}\n\tat x.Y\nCaused by: c.D: the slot is gone\n", "long ".repeat(200));
        let text = short(&trace);
        assert!(text.starts_with("B: long") && text.ends_with("the slot is gone"), "{text}");
        assert!(text.chars().count() <= ERROR_LIMIT);
    }

    #[test]
    fn a_task_that_never_gets_past_a_change_is_told_from_others() {
        let trace = "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.\n\tat x.Y\n\
                     Caused by: io.debezium.DebeziumException: Table 'public.t' has columns that differ only by case. Column name: 'V'.\n";
        assert!(is_stuck(&Text::new(trace)));
        assert!(!is_stuck(&Text::new("java.io.IOException: gone\n")));
    }

    #[test]
    fn a_state_is_one_of_those_that_there_are() {
        let status = r#"{"connector":{"state":"RUNNING"},"tasks":[{"id":0,"state":"<b>board</b>"}]}"#;
        let (state, tasks) = states(serde_json::from_str(status).unwrap(), &Hidden::default());
        assert_eq!((state.as_str(), tasks[0].state.as_str()), ("RUNNING", "UNKNOWN"));
    }

    #[test]
    fn an_offset_has_its_position() {
        let read = |json: &str| of_offset(&serde_json::from_str(json).unwrap());
        assert_eq!(read(r#"{"lsn":26844872,"txId":741}"#), OffsetFacts { lsn: 26_844_872 });
    }
}
