//! The Tidemark sink: Debezium's events from Kafka into ClickHouse.
//!
//! ```text
//! rdkafka ─▶ decode ─▶ row ─▶ batch (one a table) ─▶ write: Native block, LZ4, HTTP ─▶ ack ─▶ offsets ─▶ commit
//!    ▲                                                        │
//!    └──────────── back-pressure: full batches stop the reading ┘
//! ```
//!
//! State is idempotent: the row with the greatest version wins, so delivery is at least once and no
//! transaction between Kafka and ClickHouse is needed.
//!
//! Pure: `decode`, `native`, `plan`, `value`, `row`, `history`, `table` (which layout a record has), `batch`,
//! `overlay` (values that events lack), `outcome` (what a failed insert becomes), `limits`, `memory`, `router`,
//! `offsets`. I/O: `session` (the thread that reads), `group`, `assignment`, `board` (the operator's word), `write`,
//! `stored`, `read` (rows straight from PostgreSQL), `verify` (tables against their source), `cleanup` (rows that
//! nobody sees), `progress`, `state`,
//! `heartbeat`, `dead_letter`, `letters`, `run`.

pub mod assignment;
pub mod batch;
pub mod board;
pub mod check;
pub mod cleanup;
pub mod config;
pub mod consume;
pub mod dead_letter;
pub mod decode;
pub mod epochs;
pub mod group;
pub mod heartbeat;
pub mod history;
pub mod letters;
pub mod letters_command;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod native;
pub mod offsets;
pub mod outcome;
pub mod overlay;
pub mod plan;
pub mod progress;
pub mod read;
pub mod router;
pub mod row;
pub mod run;
pub mod session;
pub mod state;
pub mod stored;
pub mod table;
#[cfg(test)]
mod testing;
pub mod value;
pub mod verify;
pub mod visible;
pub mod write;
