//! A shop on PostgreSQL and its state tables on ClickHouse, filled directly: no Kafka, no operator.

use std::time::Duration;

use anyhow::Context;
use futures::TryStreamExt;
use tidemark_e2e::oracle::{AsOf, Endpoint, Materialization, Oracle, Parameters, Preset};
use tidemark_e2e::shop::{Database, Generator, SCHEMA, SEED};
use tidemark_e2e::stack::{Part, Role, Stack, User, unique_name, wait_until};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// State tables as section "One state table a source table" of the design has them: name, columns, sorting key.
const STATE_TABLES: &[(&str, &str, &str)] = &[
    (
        "customers",
        "id Int64, email String, name String, country Nullable(String), city Nullable(String), \
         address Nullable(String), created_at DateTime64(6, 'UTC'), updated_at DateTime64(6, 'UTC')",
        "id",
    ),
    (
        "products",
        "id Int64, sku String, name String, category Nullable(String), price Decimal(12, 2), active Bool, \
         created_at DateTime64(6, 'UTC'), updated_at DateTime64(6, 'UTC')",
        "id",
    ),
    (
        "orders",
        "id Int64, customer_id Int64, status LowCardinality(String), currency String, \
         total_amount Decimal(14, 2), note Nullable(String), created_at DateTime64(6, 'UTC'), \
         updated_at DateTime64(6, 'UTC'), INDEX by_created created_at TYPE minmax GRANULARITY 1",
        "id",
    ),
    (
        "order_items",
        "order_id Int64, line_no Int16, product_id Int64, quantity Int32, unit_price Decimal(12, 2)",
        "order_id, line_no",
    ),
];

const PROGRESS: &str = "pipeline String, table String, partition Int32, replica String, rows UInt64, \
    applied_lsn UInt64, applied_epoch UInt16, last_change_at Nullable(DateTime64(3, 'UTC')), fresh_to DateTime64(3, 'UTC'), \
    applied_at DateTime64(3, 'UTC'), dead_letters UInt64, dead_epoch UInt16, dead_lsn UInt64, next_offset Int64, \
    beat UInt64 DEFAULT toUnixTimestamp64Milli(applied_at)";

/// One database of this name on each side.
pub(super) struct Deployment {
    stack: &'static Stack,
    name: String,
    pub(super) preset: Preset,
    pub(super) parameters: Parameters,
    version: u64,
}

impl Deployment {
    /// Makes the shop's empty tables on both sides.
    pub(super) async fn new(prefix: &str) -> anyhow::Result<Self> {
        let stack = STACK.get_or_try_init(|| Stack::start(&[Part::Postgres, Part::Clickhouse])).await?;
        let name = unique_name(&format!("views_{prefix}"));
        stack.postgres().create_database(&name).await?;
        stack.postgres().execute(Role::Shop, &name, SCHEMA).await?;
        let this = Self {
            stack,
            preset: Preset::ecommerce()?,
            parameters: Parameters::new(&name),
            name,
            version: 1,
        };
        this.make_state_tables().await?;
        Ok(this)
    }

    async fn make_state_tables(&self) -> anyhow::Result<()> {
        let name = &self.name;
        self.clickhouse(&format!("CREATE DATABASE {name}")).await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_fences (table String, version UInt128) ENGINE = MergeTree ORDER BY table"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_progress ({PROGRESS}) \
             ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table, partition)"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_connector (pipeline String, state LowCardinality(String), tasks UInt32, \
             failed_tasks UInt32, restarts UInt32, error String, lag LowCardinality(String), \
             fresh_to Nullable(DateTime64(3, 'UTC')), wal LowCardinality(String), seen_at DateTime64(3, 'UTC')) \
             ENGINE = ReplacingMergeTree ORDER BY (pipeline, seen_at)"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_states (pipeline String, table String, replica String, beat UInt64, \
             state LowCardinality(String), message String, written_at DateTime64(3, 'UTC')) \
             ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table, replica)"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_reads (pipeline String, table String, state LowCardinality(String), beat UInt64) \
             ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table)"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_verification (pipeline String, table String, began_at DateTime64(3, 'UTC'), \
             coverage Float64, verified_from Nullable(DateTime64(3, 'UTC')), verified_to Nullable(DateTime64(3, 'UTC')), \
             compared UInt64, differences UInt64, repaired UInt64, open UInt64, error String, \
             updated_at DateTime64(3, 'UTC'), beat UInt64) ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table)"
        ))
        .await?;
        self.clickhouse(&format!(
            "CREATE TABLE {name}._tidemark_ledger (pipeline String, kind LowCardinality(String), key String, version UInt64, \
             value String) ENGINE = ReplacingMergeTree(version) ORDER BY (pipeline, kind, key)"
        ))
        .await?;
        for (table, columns, key) in STATE_TABLES {
            self.clickhouse(&format!(
                "CREATE TABLE {name}.{table} ({columns}, _version UInt128, _is_deleted UInt8, \
                 _committed_at DateTime64(3, 'UTC')) \
                 ENGINE = ReplacingMergeTree(_version, _is_deleted) ORDER BY ({key})"
            ))
            .await?;
            self.clickhouse(&format!("INSERT INTO {name}._tidemark_fences VALUES ('{table}', 0)")).await?;
            self.clickhouse(&format!(
                "CREATE VIEW {name}.{table}_current DEFINER = tidemark SQL SECURITY DEFINER AS \
                 SELECT * EXCEPT (_version, _is_deleted, _committed_at) FROM {name}.{table} FINAL \
                 WHERE _version >= (SELECT max(version) FROM {name}._tidemark_fences WHERE table = '{table}') \
                 SETTINGS use_skip_indexes_if_final_exact_mode = 1, aggregate_functions_null_for_empty = 0, \
                 empty_result_for_aggregation_by_empty_set = 0"
            ))
            .await?;
        }
        Ok(())
    }

    /// Fills the shop with what the generator makes of a seed: orders over the 60 days before `end`.
    pub(super) async fn live(&self, seed: u64, orders: u32, end: AsOf) -> anyhow::Result<()> {
        self.postgres(SEED).await?;
        let AsOf::Instant(end) = end else { anyhow::bail!("the history needs an end") };
        self.generator(seed).await?.history(orders, 60, end).await
    }

    pub(super) async fn generator(&self, seed: u64) -> anyhow::Result<Generator> {
        let client = self.stack.postgres().connect(Role::Shop, &self.name).await?;
        Generator::new(Database::new(client).await?, seed).await
    }

    /// Returns PostgreSQL's URL for a program.
    pub(super) fn postgres_url(&self) -> String {
        let (role, address) = (Role::Shop, self.stack.postgres().address());
        format!("postgres://{}:{}@{address}/{}", role.name(), role.password(), self.name)
    }

    /// Returns ClickHouse's URL for a program.
    pub(super) fn clickhouse_url(&self) -> String {
        self.stack.clickhouse().url()
    }

    pub(super) fn database(&self) -> &str {
        &self.name
    }

    /// Runs statements as the shop's owner.
    pub(super) async fn postgres(&self, statements: &str) -> anyhow::Result<()> {
        self.stack.postgres().execute(Role::Shop, &self.name, statements).await
    }

    pub(super) async fn postgres_rows(&self, query: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        self.stack.postgres().query(Role::Shop, &self.name, query).await
    }

    /// Runs one statement as the operator's user, in this database.
    pub(super) async fn clickhouse(&self, statement: &str) -> anyhow::Result<String> {
        self.stack.clickhouse().query(statement).await
    }

    /// Brings the state tables to what the shop holds now: tombstones for all that was there, then every row,
    /// twice, and an older version of each that must not show.
    pub(super) async fn load(&mut self) -> anyhow::Result<()> {
        let (name, tombstone, row) = (self.name.clone(), self.version + 1, self.version + 2);
        self.version = row;
        for (table, ..) in STATE_TABLES {
            self.clickhouse(&format!(
                "INSERT INTO {name}.{table} \
                 SELECT * REPLACE ({tombstone} AS _version, 1 AS _is_deleted) FROM {name}.{table} FINAL"
            ))
            .await?;
            let lines = self.copy(table, row).await?;
            if lines.is_empty() {
                continue;
            }
            let columns = format!(
                "INSERT INTO {name}.{table} SETTINGS date_time_input_format = 'best_effort', \
                 deduplicate_insert = 'disable' FORMAT TSV\n"
            );
            self.clickhouse(&format!("{columns}{lines}")).await?;
            self.clickhouse(&format!("{columns}{lines}")).await?;
            let old = match *table {
                "orders" => "REPLACE (1 AS _version, 'pending' AS status, total_amount + 1 AS total_amount)",
                "order_items" => "REPLACE (1 AS _version, quantity + 1 AS quantity)",
                _ => "REPLACE (1 AS _version, 'old' AS name)",
            };
            self.clickhouse(&format!("INSERT INTO {name}.{table} SELECT * {old} FROM {name}.{table} FINAL"))
                .await?;
        }
        Ok(())
    }

    /// Returns a table's rows as ClickHouse's TabSeparated, which PostgreSQL's COPY text is.
    async fn copy(&self, table: &str, version: u64) -> anyhow::Result<String> {
        let client = self.stack.postgres().connect(Role::Shop, &self.name).await?;
        client.batch_execute("SET timezone = 'UTC'").await?;
        let query = format!("COPY (SELECT *, {version}, 0, now()::timestamptz(3) FROM {table}) TO STDOUT");
        let chunks: Vec<_> = client.copy_out(&query).await?.try_collect().await?;
        String::from_utf8(chunks.concat()).context("PostgreSQL writes UTF-8")
    }

    /// Makes every object of the preset as a plain view with a moment of its own for now.
    pub(super) async fn deploy_plain(&self, as_of: AsOf) -> anyhow::Result<()> {
        for object in self.preset.objects.iter().filter(|object| !object.needs_query_log) {
            let select = self.preset.select(&object.name, &self.parameters, as_of)?;
            self.make_view(&object.name, &select).await?;
        }
        Ok(())
    }

    async fn make_view(&self, view: &str, select: &str) -> anyhow::Result<()> {
        let name = &self.name;
        let create = format!(
            "CREATE OR REPLACE VIEW {name}.{view} DEFINER = tidemark SQL SECURITY DEFINER AS {select}"
        );
        self.clickhouse(&create).await.map(drop).with_context(|| format!("making {view}"))
    }

    /// Makes every object as `preset.yaml` says, refreshed each second.
    pub(super) async fn deploy_as_declared(&self) -> anyhow::Result<()> {
        let name = &self.name;
        for object in self.preset.objects.iter().filter(|object| !object.needs_query_log) {
            let view = &object.name;
            let select = self.preset.select(view, &self.parameters, AsOf::Now)?;
            if object.materialization == Materialization::View {
                self.make_view(view, &select).await?;
                continue;
            }
            self.clickhouse(&format!(
                "CREATE TABLE {name}.{view}__table ENGINE = MergeTree ORDER BY ({}) EMPTY AS {select}",
                object.order_by.join(", ")
            ))
            .await
            .with_context(|| format!("making the table of {view}"))?;
            let depends: Vec<String> =
                object.depends_on.iter().map(|other| format!("{name}.{other}__refresh")).collect();
            let depends =
                if depends.is_empty() { String::new() } else { format!("DEPENDS ON {}", depends.join(", ")) };
            self.clickhouse(&format!(
                "CREATE MATERIALIZED VIEW {name}.{view}__refresh REFRESH EVERY 1 SECOND {depends} \
                 TO {name}.{view}__table DEFINER = tidemark SQL SECURITY DEFINER AS {select}"
            ))
            .await
            .with_context(|| format!("making the refresh of {view}"))?;
            self.make_view(view, &format!("SELECT * FROM {name}.{view}__table")).await?;
        }
        let waiting = format!(
            "SELECT count() FROM system.view_refreshes WHERE database = '{name}' AND last_success_time IS NULL"
        );
        wait_until(Duration::from_secs(30), "every view's first refresh", || async {
            Ok((self.clickhouse(&waiting).await?.trim() == "0").then_some(()))
        })
        .await
    }

    /// Returns an oracle over both sides.
    pub(super) async fn oracle(&self) -> anyhow::Result<Oracle> {
        let client = self.stack.postgres().connect(Role::Tidemark, &self.name).await?;
        let user = User::Tidemark;
        let endpoint = Endpoint::new(&self.clickhouse_url(), user.name(), user.password())?;
        Oracle::new(client, endpoint, self.parameters.clone()).await
    }
}

/// Returns the instant that a text such as `2026-03-29T10:00:00Z` names.
pub(super) fn instant(text: &str) -> AsOf {
    AsOf::Instant(text.parse::<jiff::Timestamp>().expect("the test's own instant").as_microsecond())
}
