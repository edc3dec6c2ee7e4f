//! What the operator would have made in ClickHouse before a sink starts: database, ledger, fences, progress,
//! demands, state tables and their `_current` views. I/O.

use tidemark_crds::layout::{COMMITTED_AT_COLUMN, DELETED_COLUMN, TableLayout, VERSION_COLUMN};
use tidemark_crds::ledger::{DEMANDS_TABLE, FENCES_TABLE, Kind, LEDGER_TABLE, PROGRESS_TABLE};
use tidemark_crds::names::PipelineName;
use tidemark_crds::quote;
use tidemark_runtime::clickhouse::ClickHouse;

/// Makes the database anew with everything that the sinks of the pipeline expect.
pub async fn prepare(
    client: &ClickHouse,
    database: &str,
    pipeline: &PipelineName,
    layouts: &[TableLayout],
) -> anyhow::Result<()> {
    client
        .execute(&format!(
            "DROP DATABASE IF EXISTS {} SYNC",
            quote::ident(database)
        ))
        .await?;
    client
        .execute(&format!("CREATE DATABASE {}", quote::ident(database)))
        .await?;
    let table = |name: &str| quote::qualified(database, name);
    for (name, columns) in [
        (
            LEDGER_TABLE,
            "pipeline String, kind LowCardinality(String), key String, version UInt64, value String,
             written_at DateTime64(3, 'UTC') DEFAULT now64(3)) \
             ENGINE = ReplacingMergeTree(version) ORDER BY (pipeline, kind, key)",
        ),
        (
            FENCES_TABLE,
            "table String, version UInt128, reason LowCardinality(String),
             raised_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = ReplacingMergeTree(version) ORDER BY table",
        ),
        (
            PROGRESS_TABLE,
            "pipeline String, table String, partition Int32, replica String, rows UInt64, dead_letters UInt64,
             next_offset Int64, applied_lsn UInt64, last_change_at Nullable(DateTime64(3, 'UTC')),
             fresh_to DateTime64(3, 'UTC'), applied_at DateTime64(3, 'UTC')) \
             ENGINE = ReplacingMergeTree(applied_at) ORDER BY (pipeline, table, partition)",
        ),
        (
            DEMANDS_TABLE,
            "pipeline String, table String, field String, layout_version UInt64,
             seen_at DateTime64(3, 'UTC')) ENGINE = ReplacingMergeTree(seen_at) ORDER BY (pipeline, table, field)",
        ),
    ] {
        client.execute(&format!("CREATE TABLE {} ({columns}", table(name))).await?;
    }
    for layout in layouts {
        let columns: Vec<String> = layout
            .columns
            .iter()
            .map(|c| format!("{} {}", quote::ident(&c.target), c.r#type))
            .collect();
        let keys = quote::ident_list(layout.key_columns().iter().map(|c| c.target.as_str()));
        client
            .execute(&format!(
                "CREATE TABLE {} ({}, {VERSION_COLUMN} UInt128 CODEC(ZSTD(1)),
                 {DELETED_COLUMN} UInt8 CODEC(ZSTD(1)), {COMMITTED_AT_COLUMN} DateTime64(3, 'UTC'))
                 ENGINE = ReplacingMergeTree({VERSION_COLUMN}, {DELETED_COLUMN}) ORDER BY ({keys})",
                table(&layout.target),
                columns.join(", ")
            ))
            .await?;
        client
            .execute(&format!(
                "INSERT INTO {} (table, version, reason) VALUES ({}, 0, 'seed')",
                table(FENCES_TABLE),
                quote::literal(&layout.target)
            ))
            .await?;
        client
            .execute(&format!(
                "CREATE VIEW {} AS SELECT {} FROM {} FINAL
                 WHERE {VERSION_COLUMN} >= (SELECT max(version) FROM {} WHERE table = {})
                 SETTINGS use_skip_indexes_if_final_exact_mode = 1",
                table(&format!("{}_current", layout.target)),
                quote::ident_list(layout.columns.iter().map(|c| c.target.as_str())),
                table(&layout.target),
                table(FENCES_TABLE),
                quote::literal(&layout.target)
            ))
            .await?;
        let rows = [
            (
                Kind::Layout,
                layout.target.as_str(),
                layout.version,
                serde_json::to_string(layout)?,
            ),
            (Kind::Epoch, "", 1, "1".to_owned()),
            (Kind::Incarnation, "", 1, "\"bench\"".to_owned()),
        ];
        for (kind, key, version, value) in rows {
            client
                .execute(&format!(
                    "INSERT INTO {} (pipeline, kind, key, version, value) VALUES ({}, {}, {}, {version}, {})",
                    table(LEDGER_TABLE),
                    quote::literal(&pipeline.to_string()),
                    quote::literal(kind.as_str()),
                    quote::literal(key),
                    quote::literal(&value)
                ))
                .await?;
        }
    }
    Ok(())
}
