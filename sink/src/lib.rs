//! The Tidemark sink: Debezium's events from Kafka into ClickHouse.
//!
//! ```text
//! rdkafka ─▶ decode ─▶ row ─▶ batch (one a table) ─▶ write: Native block, LZ4, HTTP ─▶ ack ─▶ offsets ─▶ commit
//!    ▲                                                        │
//!    └──────────── back-pressure: full batches stop the reading ┘
//! ```
//!
//! State is idempotent: the row with the greatest version wins, so delivery is at least once and no
//! transaction between Kafka and ClickHouse is needed. Pure: `decode`, `native`, `plan`, `value`, `row`,
//! `batch`, `offsets`, `table`. I/O: `consume`, `group`, `heartbeat`, `write`, `layouts`, `progress`, `dead_letter`,
//! `read`, `run`.

pub mod batch;
pub mod check;
pub mod config;
pub mod consume;
pub mod dead_letter;
pub mod decode;
pub mod group;
pub mod heartbeat;
pub mod layouts;
pub mod metrics;
pub mod native;
pub mod offsets;
pub mod plan;
pub mod progress;
pub mod read;
pub mod row;
pub mod run;
pub mod table;
pub mod value;
pub mod write;
