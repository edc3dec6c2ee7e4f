//! What both Tidemark programs do at run time: the ClickHouse, Kafka and PostgreSQL clients, credentials that
//! are re-read, and the shell of a process (logs, probes, metrics, signals).
//!
//! I/O lives here; decisions live in the programs.

pub mod addresses;
pub mod clickhouse;
pub mod clickhouse_error;
pub mod credentials;
pub mod foreign;
pub mod http;
pub mod kafka;
pub mod postgres;
pub mod shell;
pub mod tls;

/// A deadline for people.
pub fn in_words(deadline: std::time::Duration) -> String {
    match deadline.subsec_millis() {
        0 => format!("{} s", deadline.as_secs()),
        _ => format!("{} ms", deadline.as_millis()),
    }
}
