//! The sink against real servers: every column type comes back as it was sent, the recorded events' expected
//! rows are PostgreSQL's own, and a running sink waits, skips, fills in and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use serde_json::{Value, json};
use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};
use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_crds::types::ChType;
use tidemark_e2e::bench::bookkeeping;
use tidemark_e2e::bench::sink_process::{Assignment, SinkProcess};
use tidemark_e2e::stack::{self, Role, Stack, User, unique_name, wait_until};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};
use tidemark_sink::native::{BlockColumn, Column, encode_block};

const SOON: Duration = Duration::from_mins(1);

fn client(stack: &Stack) -> anyhow::Result<ClickHouse> {
    let credentials = Credentials::new(User::Tidemark.name(), User::Tidemark.password());
    Ok(ClickHouse::new(Options {
        url: stack.clickhouse().url(),
        database: None,
        credentials: Arc::new(CredentialSource::memory(credentials)),
        authority: Authority::System,
    })?)
}

/// Types of every width and kind, at the edges of the decimal's widths.
const TYPES: [&str; 30] = [
    "Bool",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt32",
    "UInt64",
    "UInt128",
    "Float32",
    "Float64",
    "Decimal(9, 2)",
    "Decimal(18, 4)",
    "Decimal(38, 10)",
    "Decimal(76, 20)",
    "String",
    "UUID",
    "Date32",
    "DateTime64(3, 'UTC')",
    "DateTime64(6, 'UTC')",
    "Nullable(Int32)",
    "Nullable(String)",
    "Nullable(Decimal(38, 10))",
    "Nullable(DateTime64(6, 'UTC'))",
    "Array(Int32)",
    "Array(Nullable(String))",
    "Array(Nullable(UUID))",
    "LowCardinality(String)",
    "LowCardinality(Nullable(String))",
    "Array(Nullable(Decimal(76, 0)))",
    "Nullable(Bool)",
];

/// A value of a type in RowBinary, the same that ClickHouse gives back.
fn random_value(ch_type: &ChType, random: &mut StdRng, out: &mut Vec<u8>) {
    let mut bytes = |count: usize| out.extend((0..count).map(|_| random.random::<u8>()));
    match ch_type {
        ChType::Bool => out.push(u8::from(random.random::<bool>())),
        ChType::UInt8 => bytes(1),
        ChType::Int16 => bytes(2),
        ChType::Int32 | ChType::UInt32 => bytes(4),
        ChType::Int64 | ChType::UInt64 => bytes(8),
        ChType::UInt128 | ChType::Uuid => bytes(16),
        ChType::Float32 => out.extend(random.random::<f32>().to_le_bytes()),
        ChType::Float64 => out.extend(random.random::<f64>().to_le_bytes()),
        // Small enough for every precision, of both signs.
        ChType::Decimal { precision, .. } => {
            let value = random.random_range(-99_999_999_i64..=99_999_999);
            let fill = if value < 0 { 0xff } else { 0 };
            let mut wide = [fill; 32];
            wide[..8].copy_from_slice(&value.to_le_bytes());
            let width = match precision {
                0..=9 => 4,
                10..=18 => 8,
                19..=38 => 16,
                _ => 32,
            };
            out.extend(&wide[..width]);
        }
        ChType::Date32 => out.extend(random.random_range(-25_567_i32..=120_529).to_le_bytes()),
        ChType::DateTime64 { .. } => {
            out.extend(random.random_range(-2_208_988_800_000_i64..=10_413_791_999_999).to_le_bytes());
        }
        ChType::String => {
            let length = random.random_range(0..200_u8);
            // One or two bytes of length, as LEB128 has it.
            if length >= 0x80 {
                out.extend([length, 1]);
            } else {
                out.push(length);
            }
            (0..length).for_each(|_| out.push(random.random()));
        }
        ChType::Nullable(inner) => {
            let null = random.random::<bool>();
            out.push(u8::from(null));
            if !null {
                random_value(inner, random, out);
            }
        }
        ChType::Array(inner) => {
            let length = random.random_range(0..5_u8);
            out.push(length);
            (0..length).for_each(|_| random_value(inner, random, out));
        }
        ChType::LowCardinality(inner) => random_value(inner, random, out),
    }
}

#[tokio::test]
async fn columns_of_every_type_come_back_as_they_were_sent() -> anyhow::Result<()> {
    let stack = stack::shared().await?;
    let database = unique_name("native");
    let client = client(stack)?;
    client.execute(&format!("CREATE DATABASE {database}")).await?;
    let client = client.with_database(Some(&database));
    let mut random = StdRng::seed_from_u64(7);
    for (place, name) in TYPES.iter().enumerate() {
        let ch_type: ChType = name.parse()?;
        let table = format!("t{place}");
        let create = format!("CREATE TABLE {table} (n UInt32, v {name}) ENGINE = MergeTree ORDER BY n");
        client.execute(&create).await?;
        let (mut numbers, mut values) = (Column::new(&ChType::UInt32)?, Column::new(&ch_type)?);
        let mut sent = Vec::new();
        // More than 256 different strings: a dictionary's indexes become wider.
        let rows = if name.starts_with("LowCardinality") { 700 } else { 150 };
        for number in 0..rows {
            numbers.push_fixed(&u32::try_from(number)?.to_le_bytes());
            let start = sent.len();
            random_value(&ch_type, &mut random, &mut sent);
            values
                .push_row_binary(&mut &sent[start..])
                .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        }
        // In two pieces, as a batch is split that the server has no memory for.
        let columns =
            [BlockColumn { name: "n", column: &numbers }, BlockColumn { name: "v", column: &values }];
        for piece in [0..rows / 3, rows / 3..rows] {
            let (frames, _) = encode_block(&columns, &piece);
            let insert = format!("INSERT INTO {table} (n, v)");
            client.insert_native(&insert, frames.into(), &[]).await.context(*name)?;
        }
        let back = client.query_bytes(&format!("SELECT v FROM {table} ORDER BY n"), "RowBinary").await?;
        ensure!(back == sent, "{name}: what came back is not what was sent");
    }
    client.execute(&format!("DROP DATABASE {database}")).await?;
    Ok(())
}

#[tokio::test]
async fn the_rows_that_the_corpus_expects_are_postgresqls_own() -> anyhow::Result<()> {
    let stack = stack::shared().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sink/tests/corpus");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    let mut runs = Vec::new();
    for _ in 0..2 {
        let database = unique_name("corpus");
        stack.postgres().create_database(&database).await?;
        stack.postgres().execute(Role::Superuser, &database, &text("schema.sql")?).await?;
        for statement in statements(&text("workload.sql")?) {
            stack.postgres().execute(Role::Superuser, &database, &statement).await?;
        }
        runs.push(stack.postgres().query(Role::Superuser, &database, &text("expected.sql")?).await?);
    }
    let found = expectation(&runs[0], &runs[1])?;
    let file = folder.join("expected.json");
    if std::env::var_os("TIDEMARK_UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    }
    let committed: Value = serde_json::from_str(&text("expected.json")?)?;
    ensure!(
        sorted(&committed) == sorted(&found),
        "run with TIDEMARK_UPDATE_EXPECTED=1 and look at the change"
    );
    Ok(())
}

/// Splits a script into what is sent at once: a statement, or a transaction from BEGIN to its end.
fn statements(script: &str) -> Vec<String> {
    let mut whole = Vec::new();
    let mut open = String::new();
    for line in script.lines().filter(|line| !line.starts_with("--")) {
        open.push_str(line);
        open.push('\n');
        let code = line.split(" -- ").next().unwrap_or(line).trim_end();
        let in_transaction =
            open.trim_start().starts_with("BEGIN") && !open.contains("COMMIT") && !open.contains("ROLLBACK");
        if code.trim_end().ends_with(';') && !in_transaction {
            whole.push(std::mem::take(&mut open));
        }
    }
    whole
}

/// Rows by table; what differs between two runs of the same statements is `~`.
fn expectation(one: &[Vec<Option<String>>], other: &[Vec<Option<String>>]) -> anyhow::Result<Value> {
    let rows = |run: &[Vec<Option<String>>]| -> anyhow::Result<Vec<(String, Value)>> {
        run.iter()
            .map(|row| {
                let cell = |at: usize| row[at].as_deref().context("a NULL in the answer");
                Ok((cell(0)?.to_owned(), serde_json::from_str(cell(1)?)?))
            })
            .collect()
    };
    let mut tables: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let others = rows(other)?;
    for (table, mut row) in rows(one)? {
        let identity =
            |row: &Value| ["id", "order_id", "line_no", "actor", "action"].map(|name| row.get(name).cloned());
        let twin = others.iter().find(|(name, twin)| *name == table && identity(twin) == identity(&row));
        let twin = &twin.with_context(|| format!("a row of {table} is in one run only"))?.1;
        if let Value::Object(values) = &mut row {
            for (name, value) in values.iter_mut() {
                if twin[name] != *value {
                    *value = "~".into();
                }
            }
        }
        tables.entry(table).or_default().push(row);
    }
    Ok(json!(tables))
}

/// Rows as texts in an order of their own, for a comparison that does not depend on it.
fn sorted(tables: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let rows = |rows: &Value| rows.as_array().into_iter().flatten().map(Value::to_string).collect();
    tables.as_object().into_iter().flatten().map(|(table, all)| (table.clone(), rows(all))).collect()
}

fn note_layout(oid: u32) -> TableLayout {
    let column = |attnum: i16, source: &str, pg_type: &str, wire, ch_type: ChType, key| ColumnLayout {
        source: source.into(),
        target: source.into(),
        stored: source.into(),
        attnum,
        pg_type: pg_type.into(),
        wire,
        array: false,
        r#type: ch_type,
        key,
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    };
    TableLayout {
        version: 1,
        source: "public.notes".parse().expect("schema and table"),
        target: "notes".into(),
        columns: vec![
            column(1, "id", "bigint", Wire::Int, ChType::Int64, Some(0)),
            column(2, "code", "text", Wire::Text, ChType::String, Some(1)),
            column(3, "body", "text", Wire::Text, ChType::String, None),
            column(
                4,
                "total",
                "numeric(10,2)",
                Wire::Decimal,
                ChType::Decimal { precision: 10, scale: 2 },
                None,
            ),
        ],
        oid,
        from: Begin::default(),
        left_out: vec![],
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
        full_before: false,
        partition_by: None,
    }
}

fn event(op: &str, lsn: u64, row: &str) -> Vec<u8> {
    let (before, after) = if op == "d" { (row, "null") } else { ("null", row) };
    let source = json!({
        "ts_ms": 1_790_000_000_000_u64, "snapshot": "false", "lsn": lsn, "sequence": format!("[\"{lsn}\",\"{lsn}\"]"),
    });
    format!(r#"{{"before":{before},"after":{after},"source":{source},"op":"{op}"}}"#).into_bytes()
}

/// A row with its fields in the order of the columns, as Debezium writes them.
fn note(id: i64, body: &str, total: &str) -> String {
    format!(r#"{{"id":{id},"code":"k'\u00e9","body":"{body}","total":"{total}"}}"#)
}

#[allow(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test]
async fn a_sink_waits_for_its_tables_skips_what_is_broken_and_finds_what_an_event_lacks() -> anyhow::Result<()>
{
    let stack = stack::shared().await?;
    let name = unique_name("notes");
    let assignment = Assignment {
        name: PipelineName::new("sink", name.clone()),
        topic_prefix: name.clone(),
        database: name.clone(),
        source: Some(stack.postgres().port()),
        routes: vec![("public.notes".parse()?, "notes".into())],
    };
    stack.postgres().create_database(&name).await?;
    let made = "CREATE TABLE notes (id bigint, code text, body text NOT NULL, total numeric(10,2) NOT NULL, \
                PRIMARY KEY (id, code)); INSERT INTO notes VALUES (2, 'k''\u{e9}', 'only at the source', 7)";
    stack.postgres().execute(Role::Shop, &name, made).await?;
    let oid = stack.postgres().query(Role::Superuser, &name, "SELECT 'public.notes'::regclass::oid").await?;
    let layout = note_layout(oid[0][0].as_deref().context("an oid")?.parse()?);
    let topics = Topics { prefix: &name };
    let topic = topics.table(&"public.notes".parse()?);
    for made in [&topic, &topics.heartbeat(), &topics.dead_letter()] {
        stack.kafka().create_topic(made, 1).await?;
    }
    let marked = || OwnedHeaders::new().insert(Header { key: EPOCH_HEADER, value: Some("1") });
    let produce = async |payload: &[u8]| {
        stack.kafka().produce_with(&topic, Some(b"key"), Some(payload), marked()).await
    };
    produce(&event("c", 100, &note(1, "long body", "1.50"))).await?;
    let placeholder = "__debezium_unavailable_value";
    produce(b"{\"not\": \"an envelope\"}").await?;
    stack.kafka().produce(&topic, Some(b"key"), None).await?;
    // The sink runs before there is a database, and takes up its work when there is.
    let sink = SinkProcess::start(stack, &assignment)?;
    let client = client(stack)?;
    bookkeeping::prepare(&client, &name, &assignment.name, &layout).await?;
    let rows = async || {
        let sql = format!("SELECT id, body, toString(total) FROM {name}.notes FINAL ORDER BY id FORMAT TSV");
        stack.clickhouse().query(&sql).await
    };
    let expect = async |wanted: &str| {
        wait_until(SOON, &format!("the rows {wanted:?}"), || async {
            Ok(rows().await?.trim().eq(wanted).then_some(()))
        })
        .await
    };
    expect("1\tlong body\t1.5").await?;
    let dead = stack.kafka().consume_until(&topics.dead_letter(), SOON, |all| !all.is_empty()).await?;
    ensure!(dead[0].payload() == Some(b"{\"not\": \"an envelope\"}"), "the record as it came");
    let headers: BTreeMap<&str, &[u8]> = dead[0]
        .headers()
        .into_iter()
        .flat_map(Headers::iter)
        .map(|h| (h.key, h.value.unwrap_or_default()))
        .collect();
    ensure!(headers["tidemark.offset"] == b"1" && headers["tidemark.topic"] == topic.as_bytes());
    ensure!(std::str::from_utf8(headers["tidemark.error"])?.contains("not a debezium envelope"));
    // The body is not in the event: it comes from the table, under a key that has to be quoted.
    produce(&event("u", 200, &note(1, placeholder, "2.50"))).await?;
    expect("1\tlong body\t2.5").await?;
    // A replay of something older changes nothing; of a row that the table never had the source is asked.
    produce(&event("u", 150, &note(1, placeholder, "9.99"))).await?;
    produce(&event("u", 300, &note(2, placeholder, "1.00"))).await?;
    produce(&event("c", 400, &note(3, "third", "3.00"))).await?;
    expect("1\tlong body\t2.5\n2\tonly at the source\t7\n3\tthird\t3").await?;
    // A record without an epoch is not one of the first.
    stack.kafka().produce(&topic, Some(b"key"), Some(&event("c", 450, &note(9, "x", "1.00")))).await?;
    stack.kafka().consume_until(&topics.dead_letter(), SOON, |all| all.len() == 2).await?;
    let progress =
        format!("SELECT dead_letters, next_offset FROM {name}._tidemark_progress FINAL FORMAT TSV");
    wait_until(SOON, "the progress table to count the dead letters", || async {
        Ok((stack.clickhouse().query(&progress).await?.trim() == "2\t8").then_some(()))
    })
    .await?;
    // The source's own position is far behind those of the events here: what comes now is later than that row.
    let later = 1_u64 << 50;
    // A truncate hides what is older, whatever comes after it.
    produce(&event("t", later, "null")).await?;
    produce(&event("c", later + 100, &note(4, "fourth", "4.00"))).await?;
    let visible = format!("SELECT id FROM {name}.notes_current ORDER BY id FORMAT TSV");
    wait_until(SOON, "only the row behind the truncate to be visible", || async {
        Ok((stack.clickhouse().query(&visible).await?.trim() == "4").then_some(()))
    })
    .await?;
    // What is dealt with counts no more.
    sink.letters(&["skip", "--table", "notes"])?;
    wait_until(SOON, "no dead letter to be open", || async {
        let open = format!("SELECT max(dead_letters) FROM {name}._tidemark_progress FINAL FORMAT TSV");
        Ok((stack.clickhouse().query(&open).await?.trim() == "0").then_some(()))
    })
    .await?;
    ensure!(sink.letters(&["list"])?.contains("no open dead letters"));
    sink.stop().await?;
    client.execute(&format!("DROP DATABASE {name}")).await?;
    Ok(())
}
