//! Reads of tables on real servers: behind a barrier a read has every row that was committed before it and none of a
//! version that would hide what comes after; a replica that is gone is replaced; what cannot be read is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};
use tidemark_crds::ledger::{Kind, ReadRequest, layout_key, source_place};
use tidemark_crds::names::PipelineName;
use tidemark_crds::sink_config::{SinkConfig, StandbyConfig};
use tidemark_crds::types::ChType;
use tidemark_crds::version::{Phase, Version};
use tidemark_e2e::bench::bookkeeping;
use tidemark_e2e::stack::{Component, PATIENCE, Part, Role, Stack, User, unique_name, wait_until};
use tidemark_operator::edge::clickhouse::ledger;
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};
use tidemark_sink::dead_letter::DeadLetterTopic;
use tidemark_sink::group::Records;
use tidemark_sink::metrics::Metrics;
use tidemark_sink::plan::{Encoding, TablePlan};
use tidemark_sink::read::{KeyReader, ReadMetrics, Reader, ReaderContext, ReaderOptions, Source};
use tidemark_sink::state::States;
use tidemark_sink::write::{Writer, WriterParts};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

static STACK: OnceCell<Stack> = OnceCell::const_new();
/// One test at a time: one of them holds all commits of the server up.
static TURN: Mutex<()> = Mutex::const_new(());

/// Two servers are enough: nothing of a read goes through Kafka.
async fn stack() -> anyhow::Result<(&'static Stack, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().await;
    Ok((STACK.get_or_try_init(|| Stack::start(&[Part::Postgres, Part::Clickhouse])).await?, turn))
}

/// A table at the source with its state table, in databases of their own.
struct Place {
    stack: &'static Stack,
    /// Name of both databases, of the pipeline and of the topic prefix.
    name: String,
    pipeline: PipelineName,
    layout: TableLayout,
    clickhouse: ClickHouse,
    config: Arc<SinkConfig>,
}

/// Columns of a layout: name, PostgreSQL's type, how it is read, ClickHouse's type, place in the key.
type Columns<'a> = &'a [(&'a str, &'a str, Wire, ChType, Option<u16>)];

impl Place {
    async fn new(
        stack: &'static Stack,
        table: &str,
        statements: &str,
        columns: Columns<'_>,
    ) -> anyhow::Result<Self> {
        let name = unique_name("reads");
        stack.postgres().create_database(&name).await?;
        stack.postgres().execute(Role::Shop, &name, statements).await?;
        let oid = format!("SELECT 'public.{table}'::regclass::oid");
        let oid = stack.postgres().query(Role::Superuser, &name, &oid).await?;
        let oid = oid[0][0].as_deref().context("an oid")?.parse()?;
        let layout = layout(table, oid, columns);
        let pipeline = PipelineName::new("reads", name.clone());
        let config = config(stack, &name, &pipeline, table)?;
        let credentials = Credentials::new(User::Tidemark.name(), User::Tidemark.password());
        let clickhouse = ClickHouse::new(Options {
            url: stack.clickhouse().url(),
            database: None,
            credentials: Arc::new(CredentialSource::memory(credentials)),
            authority: Authority::System,
        })?;
        bookkeeping::prepare(&clickhouse, &name, &pipeline, &layout).await?;
        let place =
            Self { stack, clickhouse: clickhouse.with_database(Some(&name)), name, pipeline, layout, config };
        place
            .clickhouse
            .execute(
                "CREATE TABLE IF NOT EXISTS _tidemark_reads (pipeline String, table String, request UInt64, \
                 epoch UInt16, state LowCardinality(String), barrier UInt64, layout UInt64, owner String, \
                 rows UInt64, bytes UInt64, estimated_rows UInt64, place String, error String, \
                 started_at DateTime64(3, 'UTC'), updated_at DateTime64(3, 'UTC'), beat UInt64) \
                 ENGINE = ReplacingMergeTree(beat) ORDER BY (pipeline, table)",
            )
            .await?;
        let value = serde_json::to_value(&place.layout)?;
        place.ledger(Kind::Layout, &layout_key(table, place.layout.version), 1, &value).await?;
        Ok(place)
    }

    async fn ledger(
        &self,
        kind: Kind,
        key: &str,
        version: u64,
        value: &serde_json::Value,
    ) -> anyhow::Result<()> {
        let pipeline = self.pipeline.to_string();
        ledger::row(&self.clickhouse, &self.name, &pipeline, kind, key, version, value)
            .await
            .map_err(|failure| anyhow::anyhow!(failure.message))
    }

    async fn request(&self, id: u64) -> anyhow::Result<()> {
        let request = ReadRequest { epoch: 1, layout: 1, reason: "a test".into(), ..ReadRequest::default() };
        self.ledger(Kind::Read, &self.layout.target, id, &serde_json::to_value(request)?).await
    }

    fn reader(&self, replica: &str, rows_per_second: Option<u32>) -> Reader {
        // No record goes there: nothing of these tables is a dead letter.
        let nowhere = rdkafka::ClientConfig::new();
        let metrics = Metrics::default();
        let pipeline = self.pipeline.to_string();
        let writer = Writer::new(
            &self.clickhouse,
            WriterParts {
                dead_letters: DeadLetterTopic::new(nowhere.clone(), "dead".into(), 1 << 20),
                records: Records::new(nowhere),
                source: Arc::new(self.keys()),
                place: source_place(
                    &self.config.postgres.host,
                    self.config.postgres.port,
                    &self.config.postgres.database,
                ),
                states: States::new(&self.clickhouse, &pipeline, replica),
                metrics: metrics.clone(),
                pipeline,
                max_share_per_mille: 10,
            },
        );
        Reader::start(ReaderContext {
            config: Arc::clone(&self.config),
            clickhouse: self.clickhouse.clone(),
            writer,
            metrics,
            replica: replica.to_owned(),
            options: ReaderOptions { connections: 2, rows_per_second, lease: Duration::from_secs(3) },
        })
    }

    /// Takes the rows of whole tables from a standby at this port from here on.
    fn read_from(&mut self, port: u16) {
        let mut config = (*self.config).clone();
        config.postgres.reads.standby = Some(StandbyConfig { host: "127.0.0.1".into(), port });
        self.config = Arc::new(config);
    }

    fn keys(&self) -> KeyReader {
        let source = Source::new(&self.config.postgres, &self.config.pipeline);
        KeyReader::new(source, &self.config.kafka.topic_prefix, ReadMetrics::default())
    }

    /// Fields of the newest row of the reads table, once `done` takes them.
    async fn answer(
        &self,
        what: &str,
        done: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        #[derive(serde::Deserialize)]
        struct Row {
            m: BTreeMap<String, String>,
        }
        let sql = "SELECT mapFromArrays(['request', 'state', 'barrier', 'owner', 'rows', 'error'], \
                   [toString(request), toString(state), toString(barrier), owner, toString(rows), error]) AS m \
                   FROM _tidemark_reads FINAL";
        wait_until(PATIENCE, what, || async {
            let rows: Vec<Row> = self.clickhouse.query(sql).await?;
            let Some(row) = rows.into_iter().next() else { return Ok(None) };
            if done(&row.m) {
                return Ok(Some(row.m));
            }
            anyhow::bail!("{:?}", row.m)
        })
        .await
    }

    async fn read(&self, id: u64) -> anyhow::Result<u64> {
        let id = id.to_string();
        let answer =
            self.answer("the table to be read", |row| row["request"] == id && row["state"] == "read").await?;
        Ok(answer["barrier"].parse()?)
    }

    async fn clickhouse(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let text = self.clickhouse.query_text(sql, "TSV", &[]).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Rows as PostgreSQL has them, in the text that ClickHouse writes of them.
    async fn postgres(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let rows = self.stack.postgres().query(Role::Superuser, &self.name, sql).await?;
        let text = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "\\N".to_owned());
        Ok(rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("\t")).collect())
    }

    async fn end(self) -> anyhow::Result<()> {
        self.clickhouse.execute(&format!("DROP DATABASE {}", self.name)).await?;
        Ok(())
    }
}

fn layout(table: &str, oid: u32, columns: Columns<'_>) -> TableLayout {
    let columns = columns.iter().zip(1..).map(|((name, pg_type, wire, ch_type, key), attnum)| ColumnLayout {
        source: (*name).into(),
        target: (*name).into(),
        stored: (*name).into(),
        attnum,
        pg_type: (*pg_type).into(),
        wire: *wire,
        array: false,
        r#type: ch_type.clone(),
        key: *key,
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    });
    TableLayout {
        version: 1,
        source: format!("public.{table}").parse().expect("schema and table"),
        oid,
        target: table.into(),
        from: Begin::default(),
        columns: columns.collect(),
        left_out: vec![],
        full_before: false,
        partition_by: None,
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
    }
}

fn config(
    stack: &Stack,
    name: &str,
    pipeline: &PipelineName,
    table: &str,
) -> anyhow::Result<Arc<SinkConfig>> {
    let folder = stack.folder().join(name);
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let (user, password) =
        (file("username", Role::Tidemark.name())?, file("password", Role::Tidemark.password())?);
    let text = json!({
        "version": tidemark_crds::sink_config::SINK_CONFIG_VERSION,
        "pipeline": pipeline.to_string(),
        "kafka": {"bootstrapServers": "127.0.0.1:1", "groupId": "g", "topicPrefix": name,
                  "heartbeatTopic": "h", "maxMessageBytes": 1_000_000},
        "clickhouse": {"url": stack.clickhouse().url(), "database": name,
                       "usernameFile": "/nowhere", "passwordFile": "/nowhere"},
        "postgres": {"host": "127.0.0.1", "port": stack.postgres().port(), "database": name,
                     "usernameFile": user, "passwordFile": password, "tls": "Disable",
                     "reads": {"maxConnections": 2}},
        "tables": [{"source": format!("public.{table}"), "topic": format!("{name}.public.{table}"),
                    "target": table}],
        "batch": {"maxRows": 100_000, "maxBytes": 8_388_608, "maxAgeMs": 300, "insertsPerSecond": 25,
                  "replicas": 1},
        "deadLetter": {"topic": "dead", "maxSharePerMille": 10},
        "verification": {"enabled": false, "rowsPerSecond": 1000, "intervalMs": 1000},
        "cleanup": {"enabled": false, "afterMs": 3_600_000}
    });
    Ok(Arc::new(tidemark_sink::config::parse(&text.to_string())?))
}

/// A table of one row a page, so that a few thousand rows are several ranges.
const ITEMS: &str =
    "CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, pad text) WITH (fillfactor = 10);
    ALTER TABLE items ALTER COLUMN pad SET STORAGE PLAIN;
    INSERT INTO items SELECT id, 0, repeat('x', 700) FROM generate_series(1, 18000) AS id";

fn item_columns() -> Vec<(&'static str, &'static str, Wire, ChType, Option<u16>)> {
    vec![
        ("id", "bigint", Wire::Int, ChType::Int64, Some(0)),
        ("n", "bigint", Wire::Int, ChType::Int64, None),
        ("pad", "text", Wire::Text, ChType::String.nullable(), None),
    ]
}

/// Changes rows until it is told to stop: short and long transactions, some rolled back, each commit held up
/// between its record in the log and the moment in which others see it.
async fn write(place: &Place, seed: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let client = place.stack.postgres().connect(Role::Superuser, &place.name).await?;
    client.batch_execute("SET commit_delay = 100000; SET commit_siblings = 0").await?;
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute("BEGIN").await?;
        // In the order of their keys, so that no two writers wait for each other for ever.
        let mut ids: Vec<i64> =
            (0..random.random_range(1..4)).map(|_| random.random_range(1..18_100)).collect();
        ids.sort_unstable();
        for id in ids {
            let statement = match random.random_range(0..4) {
                0 => format!("DELETE FROM items WHERE id = {id}"),
                1 => format!(
                    "INSERT INTO items VALUES ({id}, 1, 'new') ON CONFLICT (id) DO UPDATE SET n = items.n + 7"
                ),
                _ => format!("UPDATE items SET n = n + 1 WHERE id = {id}"),
            };
            client.batch_execute(&statement).await?;
            if random.random_range(0..3) == 0 {
                tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await;
            }
        }
        client.batch_execute(if random.random_range(0..8) == 0 { "ROLLBACK" } else { "COMMIT" }).await?;
    }
    Ok(())
}

/// A committed change: version's two positions, key, and the new value unless it is a delete.
type Change = (u64, u64, i64, Option<i64>);

/// Reads what a slot decodes as the stream would bring it.
fn changes(rows: &[Vec<Option<String>>]) -> anyhow::Result<Vec<Change>> {
    let (mut all, mut last_commit) = (Vec::new(), 0);
    for row in rows {
        let (lsn, data) = (row[0].as_deref().context("lsn")?.parse()?, row[1].as_deref().context("data")?);
        if data.starts_with("COMMIT") {
            last_commit = lsn;
        }
        let Some(rest) = data.strip_prefix("table public.items: ") else { continue };
        let number = |name: &str| -> anyhow::Result<i64> {
            let (_, value) = rest.split_once(&format!("{name}[bigint]:")).with_context(|| rest.to_owned())?;
            Ok(value.split(' ').next().unwrap_or(value).parse()?)
        };
        let value = if rest.starts_with("DELETE") { None } else { Some(number(" n")?) };
        all.push((last_commit, lsn, number(" id")?, value));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_and_the_stream_behind_its_barrier_are_the_table() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    reads_and_stream(&place).await?;
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_standby_and_the_stream_behind_the_barrier_are_the_table() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let mut place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    let standby = stack.postgres().standby(stack)?;
    standby.start().await?;
    // Later by more than a barrier takes.
    for statement in ["ALTER SYSTEM SET recovery_min_apply_delay = '300ms'", "SELECT pg_reload_conf()"] {
        standby.execute(Role::Superuser, "postgres", statement).await?;
    }
    place.read_from(standby.port());
    reads_and_stream(&place).await?;
    let scanned = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'items'";
    let scanned: u64 = place.postgres(scanned).await?[0].parse()?;
    ensure!(scanned < 4 * 18_000, "the primary gave {scanned} rows to eight reads, which are the standby's");

    place.read_from(stack.postgres().port());
    let _reader = place.reader("a", None);
    place.request(9).await?;
    let refused = |row: &BTreeMap<String, String>| row["request"] == "9" && row["state"] == "failed";
    let answer = place.answer("the read to be refused", refused).await?;
    ensure!(
        answer["error"].contains("source.postgres.reads.host leads to a server that is no standby"),
        "{answer:?}"
    );
    standby.stop().await?;
    place.end().await
}

/// Reads the table again and again under writers. The rows of each read, and what the log has behind its barrier, have to be
/// the table as it is at the end.
async fn reads_and_stream(place: &Place) -> anyhow::Result<()> {
    let stack = place.stack;
    let slot = place.name.clone();
    let make = format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')");
    stack.postgres().query(Role::Superuser, &place.name, &make).await?;
    let stop = AtomicBool::new(false);
    let reads = async {
        let _reader = place.reader("a", None);
        let mut all = Vec::new();
        for id in 1..=8 {
            place.request(id).await?;
            let barrier = place.read(id).await?;
            // At once: a merge keeps no row that a later read has too.
            let version = Version::new(1, Phase::Stream, barrier, 0);
            let sql = format!(
                "SELECT id, n FROM items WHERE _version = toUInt128('{version}') AND _is_deleted = 0"
            );
            all.push((barrier, place.clickhouse(&sql).await?));
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(all)
    };
    let stop = &stop;
    let writers = futures::future::try_join_all((0..6).map(|seed| write(place, seed, stop)));
    let (all, _) = tokio::try_join!(reads, writers)?;
    let decoded = format!(
        "SELECT (lsn - '0/0'::pg_lsn)::bigint, data FROM pg_logical_slot_get_changes('{slot}', NULL, NULL)"
    );
    let changes = changes(&stack.postgres().query(Role::Superuser, &place.name, &decoded).await?)?;
    let drop_slot = format!("SELECT pg_drop_replication_slot('{slot}')");
    stack.postgres().query(Role::Superuser, &place.name, &drop_slot).await?;
    let table = place.postgres("SELECT id, n FROM items ORDER BY id").await?;
    for (barrier, read) in all {
        let mut rows: BTreeMap<i64, i64> = BTreeMap::new();
        for row in read {
            let (id, n) = row.split_once('\t').context("two columns")?;
            ensure!(rows.insert(id.parse()?, n.parse()?).is_none(), "row {id} was read twice");
        }
        ensure!(rows.len() > 10_000, "only {} rows were read at {barrier}", rows.len());
        let mut applied = 0;
        for (_, _, id, value) in changes.iter().filter(|(commit, lsn, ..)| (*commit, *lsn) > (barrier, 0)) {
            applied += 1;
            match value {
                Some(n) => rows.insert(*id, *n),
                None => rows.remove(id),
            };
        }
        let rows: Vec<String> = rows.iter().map(|(id, n)| format!("{id}\t{n}")).collect();
        let wrong: Vec<_> = rows.iter().filter(|row| !table.contains(row)).take(3).collect();
        ensure!(rows == table, "behind {barrier} and {applied} changes: {wrong:?} and more are wrong");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_sees_yet_is_waited_for() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    let superuser = stack.postgres().connect(Role::Superuser, &place.name).await?;
    // Commits wait for a standby that does not exist, but not the barrier's: its record can only be behind theirs.
    for statement in [
        "SET synchronous_commit = 'local'",
        "ALTER ROLE tidemark SET synchronous_commit = 'local'",
        "GRANT pg_read_all_stats TO tidemark",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
    ] {
        superuser.batch_execute(statement).await?;
    }
    let waiting = async |what: &str, condition: &str| {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        wait_until(PATIENCE, what, || async {
            Ok((superuser.query_one(&sql, &[]).await?.get::<_, i64>(0) == 1).then_some(()))
        })
        .await
    };
    superuser.batch_execute("SELECT pg_reload_conf()").await?;
    wait_until(PATIENCE, "the setting to be in force", || async {
        let row = superuser.query_one("SHOW synchronous_standby_names", &[]).await?;
        Ok((row.get::<_, &str>(0) == "nobody").then_some(()))
    })
    .await?;
    let writer = stack.postgres().connect(Role::Shop, &place.name).await?;
    let commit =
        tokio::spawn(async move { writer.batch_execute("UPDATE items SET n = 42 WHERE id = 17").await });
    waiting("a commit in the gap", "wait_event = 'SyncRep'").await?;
    let _reader = place.reader("a", None);
    place.request(1).await?;
    let polling = "application_name = 'tidemark-read' AND query LIKE '%pg_snapshot_xip%'";
    waiting("the read to wait behind its barrier", polling).await?;
    superuser.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
    superuser.batch_execute("SELECT pg_reload_conf()").await?;
    commit.await??;
    let barrier = place.read(1).await?;
    superuser
        .batch_execute("ALTER ROLE tidemark RESET synchronous_commit; REVOKE pg_read_all_stats FROM tidemark")
        .await?;
    let version = Version::new(1, Phase::Stream, barrier, 0);
    let sql = format!("SELECT n FROM items WHERE id = 17 AND _version = toUInt128('{version}')");
    ensure!(
        place.clickhouse(&sql).await? == ["42"],
        "the row from before the commit has a version above its event"
    );
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_replica_is_gone_is_read_again_by_another() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    // A row of before that the source has no more: the fence hides it.
    let old = Version::new(1, Phase::Stream, 1, 1);
    let ghost = format!("INSERT INTO items (id, n, _version) VALUES (1000000, 1, toUInt128('{old}'))");
    place.clickhouse.execute(&ghost).await?;
    let first = place.reader("a", Some(1500));
    place.request(1).await?;
    place
        .answer("some rows to be read by the first replica", |row| {
            row["owner"] == "a" && row["rows"].parse::<u64>().is_ok_and(|rows| rows > 0)
        })
        .await?;
    drop(first);
    let half = place.clickhouse("SELECT count() FROM items").await?;
    ensure!(half[0].parse::<u64>()? < 18_000, "the first replica read all before it was ended");
    stack
        .postgres()
        .execute(Role::Shop, &place.name, "DELETE FROM items WHERE id % 7 = 0; UPDATE items SET n = id")
        .await?;
    let _second = place.reader("b", None);
    let answer = place.answer("the other replica to read", |row| row["state"] == "read").await?;
    let shown = place.clickhouse("SELECT id, n, pad FROM items_current ORDER BY id").await?;
    let table = place.postgres("SELECT id, n, pad FROM items ORDER BY id").await?;
    ensure!(answer["owner"] == "b" && answer["rows"] == table.len().to_string(), "{answer:?}");
    ensure!(shown == table, "{} rows are shown, {} are in the table", shown.len(), table.len());
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_the_layout_lacks_holds_a_read_up() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    // What it gets before the barrier is in events that the read's rows would supersede.
    let add = "ALTER TABLE items ADD COLUMN extra bigint; UPDATE items SET extra = 9 WHERE id = 17";
    stack.postgres().execute(Role::Shop, &place.name, add).await?;
    let _reader = place.reader("a", None);
    place.request(1).await?;
    let answer = place.answer("the read to fail", |row| row["state"] == "failed").await?;
    ensure!(answer["error"].contains("column extra was added"), "{}", answer["error"]);
    ensure!(
        place.clickhouse("SELECT count() FROM items").await? == ["0"],
        "rows were read without the column"
    );
    let plan = Arc::new(TablePlan::new(Arc::new(place.layout.clone()), Encoding::Contract)?);
    let by_key = place.keys().rows(&plan, 1, &[17_i64.to_le_bytes().to_vec()]).await;
    ensure!(
        by_key.is_err_and(|error| error.to_string().contains("extra")),
        "a row was read without the column"
    );
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_written_anew_between_two_ranges_is_read_again() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    // A page a row, and three ranges of pages.
    let place = Place::new(stack, "items", ITEMS, &item_columns()).await?;
    let pages = place.postgres("SELECT pg_relation_size('items') / 8192 > 16384").await?;
    ensure!(pages == ["t"], "the table has too few pages");
    let _reader = place.reader("a", Some(4000));
    place.request(1).await?;
    place.answer("some rows to be read", |row| row["rows"].parse::<u64>().is_ok_and(|rows| rows > 0)).await?;
    // It waits for the ranges that are being read; behind it all rows lie on the first pages.
    stack.postgres().execute(Role::Shop, &place.name, "VACUUM FULL items").await?;
    place
        .answer("the read to fail", |row| row["state"] == "failed" && row["error"].contains("written anew"))
        .await?;
    place.read(1).await?;
    let shown = place.clickhouse("SELECT count(), sum(id) FROM items_current").await?;
    ensure!(shown == ["18000\t162009000"], "{shown:?}");
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_whose_rows_are_hidden_from_the_role_fails_by_name() -> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let hidden = "CREATE TABLE secrets (id bigint PRIMARY KEY, n bigint NOT NULL, pad text);
        INSERT INTO secrets VALUES (1, 1, 'mine'), (2, 2, 'yours');
        ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
        ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
        CREATE POLICY mine ON secrets USING (pad = 'mine')";
    let place = Place::new(stack, "secrets", hidden, &item_columns()).await?;
    let _reader = place.reader("a", None);
    place.request(1).await?;
    let answer = place.answer("the read to fail", |row| row["state"] == "failed").await?;
    for part in ["public.secrets", "permission", "42501", "row-level security"] {
        ensure!(answer["error"].contains(part), "{part} is not in {}", answer["error"]);
    }
    ensure!(place.clickhouse("SELECT count() FROM secrets").await? == ["0"], "a part of the rows was read");
    // A mended cause ends it without another request.
    stack
        .postgres()
        .execute(Role::Shop, &place.name, "ALTER TABLE secrets DISABLE ROW LEVEL SECURITY")
        .await?;
    place.read(1).await?;
    ensure!(place.clickhouse("SELECT count() FROM secrets_current").await? == ["2"]);
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_is_read_whole_and_its_rows_by_key_with_tombstones_for_those_that_are_gone()
-> anyhow::Result<()> {
    let (stack, _turn) = stack().await?;
    let parted = "CREATE TABLE visits (day date, who text, n numeric(10,2) NOT NULL, note text,
            PRIMARY KEY (day, who)) PARTITION BY RANGE (day);
        CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE visits_rest PARTITION OF visits DEFAULT;
        INSERT INTO visits SELECT date '2024-12-30' + i, E'it''s \\\\' || i || E'\\t', i, NULL FROM generate_series(1, 500) i";
    let columns = [
        ("day", "date", Wire::Date, ChType::Date32, Some(0)),
        ("who", "text", Wire::Text, ChType::String, Some(1)),
        ("n", "numeric(10,2)", Wire::Decimal, ChType::Decimal { precision: 10, scale: 2 }, None),
        ("note", "text", Wire::Text, ChType::String.nullable(), None),
    ];
    let place = Place::new(stack, "visits", parted, &columns).await?;
    let _reader = place.reader("a", None);
    place.request(1).await?;
    place.read(1).await?;
    let shown =
        "SELECT day, base64Encode(who), toString(toDecimal64(n, 2)), note FROM visits_current ORDER BY day";
    let table =
        "SELECT day, encode(convert_to(who, 'UTF8'), 'base64'), trim_scale(n), note FROM visits ORDER BY day";
    let (shown, table) = (place.clickhouse(shown).await?, place.postgres(table).await?);
    ensure!(shown == table && shown.len() == 500, "{:?} and {:?}", shown.first(), table.first());
    let plan = Arc::new(TablePlan::new(Arc::new(place.layout.clone()), Encoding::Contract)?);
    let key = |day: i32, who: &str| {
        let mut key = day.to_le_bytes().to_vec();
        key.push(u8::try_from(who.len()).expect("a short name"));
        key.extend(who.as_bytes());
        key
    };
    // 2024-12-31 is day 20088 since 1970.
    let wanted: Vec<Vec<u8>> = (0..300).map(|i| key(20_088 + i, &format!("it's \\{}\t", i + 1))).collect();
    let gone = key(20_088, "nobody");
    stack
        .postgres()
        .execute(
            Role::Shop,
            &place.name,
            "DELETE FROM visits WHERE n = 5; UPDATE visits SET note = 'seen' WHERE n = 6",
        )
        .await?;
    let reader = place.keys();
    for _ in 0..2 {
        let asked: Vec<Vec<u8>> = wanted.iter().cloned().chain([gone.clone(), gone.clone()]).collect();
        let batch = reader.rows(&plan, 1, &asked).await?;
        let mut deleted = BTreeSet::new();
        for row in 0..batch.rows() {
            let (version, tombstone) = batch.version_of(row);
            ensure!(version.last_commit_lsn() > 0 && version.lsn() == 0 && version.epoch() == 1);
            if tombstone {
                deleted.insert(batch.key_of(&plan.key, row));
            }
        }
        ensure!(batch.rows() == 301, "{} rows", batch.rows());
        ensure!(deleted == BTreeSet::from([gone.clone(), wanted[4].clone()]), "{deleted:?}");
        let mut note = Vec::new();
        let row = (0..301).find(|row| batch.key_of(&plan.key, *row) == wanted[5]).context("row 6")?;
        batch.columns[3].row_binary(row, &mut note);
        ensure!(note == b"\0\x04seen", "{note:?}");
    }
    place.end().await
}
