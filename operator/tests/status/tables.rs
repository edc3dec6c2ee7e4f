//! What the tables do, by what sinks and ledger say.

use tidemark_crds::conditions::ConditionType;
use tidemark_crds::ledger::{SinkState, TableState};
use tidemark_operator::core::facts::ClickHouseFacts;

use super::{condition, judged, known, letters, say, sink, streaming};
use crate::fixture::fixture;

/// Changes the facts of ClickHouse.
type Change = fn(&mut ClickHouseFacts);

/// What happened; the entry's state and reason; whether it counts as streaming; `TablesInSync`.
const TABLES: &[(&str, Change, &str, i32, &str)] = &[
    ("read, and every sink streams", |_| {}, "", 1, "True AsDesired"),
    (
        "no read was asked for",
        |facts| facts.ledger.reads.clear(),
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    (
        "the request is of an epoch before",
        |facts| facts.ledger.epoch = Some(3),
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    ("no sink took the request yet", |facts| facts.reads.clear(), "Reading Reading", 0, "False Reading"),
    (
        "it is being read",
        |facts| facts.reads.get_mut("orders").unwrap().state = "reading".into(),
        "Reading Reading",
        0,
        "False Reading",
    ),
    (
        "an earlier request was answered",
        |facts| facts.reads.get_mut("orders").unwrap().request = 6,
        "Reading Reading",
        0,
        "False Reading",
    ),
    (
        "the read fails",
        |facts| {
            let read = facts.reads.get_mut("orders").unwrap();
            (read.state, read.error) = ("failed".into(), "permission denied for orders".into());
        },
        "Reading ReadFailed",
        0,
        "False ReadFailed",
    ),
    (
        "one of two replicas holds it",
        |facts| {
            say(
                facts,
                "b",
                sink(TableState::Held, "layout", "public.orders: a value is wider than its column"),
            );
        },
        "Held TableHeld",
        0,
        "False TableHeld",
    ),
    (
        "one retries while the other holds",
        |facts| {
            say(facts, "a", sink(TableState::Held, "layout", ""));
            say(facts, "b", sink(TableState::Retrying, "insert", "code 252: too many parts"));
        },
        "Retrying InsertFailing",
        0,
        "False InsertFailing",
    ),
    (
        "a stopped one is the worst",
        |facts| {
            say(facts, "a", sink(TableState::Stopped, "view", "code 395: thrown by a view"));
            say(facts, "b", sink(TableState::Retrying, "insert", ""));
        },
        "Stopped TableStopped",
        0,
        "False TableStopped",
    ),
    (
        "too many dead letters",
        |facts| say(facts, "a", sink(TableState::Stopped, "dead-letters", "")),
        "Stopped TooManyDeadLetters",
        0,
        "False TooManyDeadLetters",
    ),
    (
        "it cannot be written while it is read",
        |facts| {
            facts.reads.get_mut("orders").unwrap().state = "reading".into();
            say(facts, "a", sink(TableState::Stopped, "disk", "code 243"));
        },
        "Stopped TableStopped",
        0,
        "False TableStopped",
    ),
    (
        "a sink that knows no layout before the first read",
        |facts| {
            facts.ledger.reads.clear();
            say(facts, "a", sink(TableState::Held, "layout", "no layout yet"));
        },
        "Pending InProgress",
        0,
        "False InProgress",
    ),
    ("no replica lives", |facts| facts.states.clear(), "Pending NotObserved", 0, "Unknown NotObserved"),
    (
        "letters since its read",
        |facts| letters(facts, 3, (2, 501)),
        "Degraded DeadLetters",
        1,
        "False DeadLetters",
    ),
    (
        "letters of its read",
        |facts| letters(facts, 3, (2, 500)),
        "Degraded DeadLetters",
        1,
        "False DeadLetters",
    ),
    ("all letters were replayed or skipped", |facts| letters(facts, 0, (2, 501)), "", 1, "True AsDesired"),
    ("letters from before its read", |facts| letters(facts, 3, (2, 499)), "", 1, "True AsDesired"),
    ("letters of an epoch before", |facts| letters(facts, 3, (1, 900)), "", 1, "True AsDesired"),
];

#[test]
fn what_a_table_does_is_what_its_status_says() {
    let fixture = fixture();
    for (what, change, entry, streams, in_sync) in TABLES {
        let mut case = streaming(&fixture);
        change(known(&mut case.observed.clickhouse));
        let status = judged(&fixture, &case);
        let tables = status.tables.as_ref().unwrap();
        let shown: Vec<String> =
            tables.degraded.iter().map(|table| format!("{} {}", table.state, table.reason)).collect();
        assert_eq!(shown.join(", "), *entry, "{what}");
        assert_eq!(tables.streaming, *streams, "{what}");
        let (is, reason, message) = condition(&status, ConditionType::TablesInSync);
        assert_eq!(format!("{is} {reason}"), *in_sync, "{what}");
        assert!(entry.is_empty() || message.starts_with("public.orders: "), "{what}: {message}");
        assert_eq!(condition(&status, ConditionType::Ready).0, is, "{what}");
    }
}

#[test]
fn a_table_that_was_published_while_a_transaction_was_open_names_that() {
    let fixture = fixture();
    let message = |unsettled: bool| {
        let mut case = streaming(&fixture);
        known(&mut case.observed.clickhouse).ledger.reads.clear();
        let postgres = known(&mut case.observed.postgres);
        postgres.blocking = Some("a transaction that is still open: process 42".into());
        let publication = postgres.publication.get_or_insert_default();
        publication.unsettled.extend(unsettled.then(|| "public.orders".parse().unwrap()));
        judged(&fixture, &case).tables.unwrap().degraded[0].message.clone()
    };
    assert!(message(true).ends_with("; it waits for a transaction that is still open: process 42"));
    assert!(message(false).ends_with("for certain: first load"), "{}", message(false));
}

#[test]
fn what_a_sink_says_is_shown_with_the_servers_class_and_its_end() {
    let fixture = fixture();
    let mut case = streaming(&fixture);
    let long = format!("a constraint {} refused it", "of many words ".repeat(100));
    let said = SinkState { error_class: "Permanent".into(), ..sink(TableState::Stopped, "insert", &long) };
    say(known(&mut case.observed.clickhouse), "a", said);
    let status = judged(&fixture, &case);
    let message = &status.tables.unwrap().degraded[0].message;
    assert!(message.starts_with("public.orders: a constraint"), "{message}");
    assert!(message.ends_with("refused it (Permanent)") && message.chars().count() <= 512, "{message}");
}
