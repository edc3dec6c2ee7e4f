//! The peer: ClickHouse's own Kafka engine with a materialized view, as one would write it by hand. I/O.

use std::fmt;

use tidemark_crds::quote;
use tidemark_runtime::clickhouse::ClickHouse;

use super::target::TABLE;

/// Settings that were the best of those tried on two cores: 2 consumers, blocks of 262,144 rows, 2 s.
const SETTINGS: &str = "kafka_format = 'JSONAsString', kafka_num_consumers = 2, kafka_thread_per_consumer = 1, \
     kafka_max_block_size = 262144, kafka_poll_max_batch_size = 65536, kafka_flush_interval_ms = 2000, \
     kafka_disable_num_consumers_limit = 1";

const ROW: &str = "Tuple(id Int64, customer_id Int64, status String, currency String, total Decimal(14, 2), \
     note String, ship_to String, placed_at String, updated_at String)";

/// How the materialized view reads an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Extraction {
    /// The operation first, then the one image that counts.
    Image,
    /// The whole envelope at once.
    Envelope,
}

impl fmt::Display for Extraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Envelope => "envelope",
        })
    }
}

/// Begins to consume: makes the queue table and the view that feeds the order table.
pub async fn start(
    client: &ClickHouse,
    database: &str,
    brokers: &str,
    topic: &str,
    extraction: Extraction,
) -> anyhow::Result<()> {
    let queue = quote::qualified(database, "orders_queue");
    let (brokers, topic, group) =
        (quote::literal(brokers), quote::literal(topic), quote::literal(&format!("kafka-engine-{database}")));
    client
        .execute(&format!(
            "CREATE TABLE {queue} (raw String) ENGINE = Kafka SETTINGS kafka_broker_list = {brokers}, \
             kafka_topic_list = {topic}, kafka_group_name = {group}, {SETTINGS}"
        ))
        .await?;
    client
        .execute(&format!(
            "CREATE MATERIALIZED VIEW {} TO {} AS {}",
            quote::qualified(database, "orders_feed"),
            quote::qualified(database, TABLE),
            select(&queue, extraction)
        ))
        .await?;
    Ok(())
}

/// Ends consuming.
pub async fn stop(client: &ClickHouse, database: &str) -> anyhow::Result<()> {
    for name in ["orders_feed", "orders_queue"] {
        client.execute(&format!("DROP TABLE {} SYNC", quote::qualified(database, name))).await?;
    }
    Ok(())
}

fn select(queue: &str, extraction: Extraction) -> String {
    match extraction {
        Extraction::Image => format!(
            "WITH JSONExtractString(raw, 'op') AS op,
                if(op = 'd', JSONExtractRaw(raw, 'before'), JSONExtractRaw(raw, 'after')) AS image,
                JSONExtract(image, '{ROW}') AS r,
                JSONExtract(raw, 'source', 'Tuple(lsn UInt64, ts_ms Int64)') AS s
            SELECT r.id AS id, r.customer_id AS customer_id, r.status AS status, r.currency AS currency,
                r.total AS total, r.note AS note, r.ship_to AS ship_to,
                parseDateTime64BestEffort(r.placed_at, 6, 'UTC') AS placed_at,
                parseDateTime64BestEffort(r.updated_at, 6, 'UTC') AS updated_at,
                toUInt128(s.lsn) AS _version, toUInt8(op = 'd') AS _is_deleted,
                fromUnixTimestamp64Milli(s.ts_ms, 'UTC') AS _committed_at
            FROM {queue} WHERE op IN ('c', 'r', 'u', 'd')"
        ),
        Extraction::Envelope => {
            let of_image = |column: &str| format!("if(gone, e.before.{column}, e.after.{column})");
            let plain: Vec<String> = ["id", "customer_id", "status", "currency", "total", "note", "ship_to"]
                .iter()
                .map(|column| format!("{} AS {column}", of_image(column)))
                .collect();
            let times: Vec<String> = ["placed_at", "updated_at"]
                .iter()
                .map(|column| {
                    format!("parseDateTime64BestEffort({}, 6, 'UTC') AS {column}", of_image(column))
                })
                .collect();
            format!(
                "WITH JSONExtract(raw, 'Tuple(before {ROW}, after {ROW}, \
                      source Tuple(lsn UInt64, ts_ms Int64), op String)') AS e,
                    e.op = 'd' AS gone
                SELECT {}, {}, toUInt128(e.source.lsn) AS _version, toUInt8(gone) AS _is_deleted,
                    fromUnixTimestamp64Milli(e.source.ts_ms, 'UTC') AS _committed_at
                FROM {queue}",
                plain.join(", "),
                times.join(", ")
            )
        }
    }
}
