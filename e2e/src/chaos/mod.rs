//! Chaos: tables of every kind are written, altered and read again while servers and our own programs die, and in the end
//! every column of every row is PostgreSQL's. I/O; what is written and what fails is drawn by a seed.
//!
//! What comes in which order is the seed's, and when is the machine's: a seed repeats the kind of a run, not the run.

mod fault;
mod migration;
mod table;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Client;

use self::fault::{Deck, Fault, Subject};
use self::table::{Column, KINDS, TYPES, Table, Type};
use crate::cases::canary::{self, Canary};
use crate::cases::{Comparer, Outcome};
use crate::chain::{self, Chain};
use crate::stack::{Component, PATIENCE, Role, Stack, wait_until};

const NAME: &str = "chaos";
const WRITERS: u64 = 4;
/// How long a fault lasts, and how long there is none, in seconds.
const LASTING: std::ops::Range<u64> = 1..9;
const BETWEEN: std::ops::Range<u64> = 1..6;
/// How long all may take to be equal once nobody writes and everything runs.
const SETTLE: Duration = Duration::from_mins(8);
/// Bytes of ClickHouse's disk, which is memory.
const DISK: u64 = 3 << 30;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long tables are written.
    pub lasting: Duration,
    /// What decides what is drawn.
    pub seed: u64,
}

/// The report of `target/reports/chaos.json`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What decided.
    pub seed: u64,
    /// Seconds during which tables were written.
    pub seconds: f64,
    /// Seconds from the last write until all was equal.
    pub settled_after: f64,
    /// Transactions that PostgreSQL committed.
    pub transactions: u64,
    /// Those that it refused or lost, by its code.
    pub refused: BTreeMap<String, u64>,
    /// Changes of tables, by their kind.
    pub migrations: BTreeMap<&'static str, u64>,
    /// Faults, by their kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rows of each table in the end, all of which were compared.
    pub rows: BTreeMap<String, u64>,
    /// Rows that the verification compared meanwhile, by its last rounds.
    pub verified: u64,
    /// Looks at a table that is written all the time.
    pub looks: u64,
    /// Parts that ClickHouse lost to a full disk.
    pub broken_parts: u64,
    /// Rows of these that the verification brought back.
    pub repaired: u64,
    /// Rows that were wrong otherwise, in the end or by a verification.
    pub wrong: u64,
}

/// What the tasks share.
struct World<'a> {
    stack: &'a Stack,
    tables: Mutex<Vec<Table>>,
    report: Mutex<Report>,
    until: Instant,
}

impl World<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn tables<T>(&self, with: impl FnOnce(&mut Vec<Table>) -> T) -> T {
        with(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, with: impl FnOnce(&mut Report)) {
        with(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts what PostgreSQL says of a statement that failed.
    fn refused(&self, error: &tokio_postgres::Error) {
        let code = error.code().map_or_else(|| "connection lost".to_owned(), |code| code.code().to_owned());
        self.note(|report| *report.refused.entry(code).or_default() += 1);
    }

    /// A session of the shop, once there is a server.
    async fn session(&self) -> anyhow::Result<Client> {
        wait_until(PATIENCE, "a session at PostgreSQL", || async {
            let client = self.stack.postgres().connect(Role::Shop, NAME).await?;
            client.batch_execute("SET lock_timeout = '3s'; SET statement_timeout = '20s'").await?;
            Ok(Some(client))
        })
        .await
    }
}

/// Runs it all on servers that are the caller's alone; an error names the first row that is wrong.
pub async fn run(stack: &Stack, plan: Plan, say: impl Fn(String)) -> anyhow::Result<Report> {
    prepare(stack).await?;
    let manifest = manifest(stack);
    let objects: Vec<Value> = std::iter::once(manifest.clone()).chain(chain::secrets()).collect();
    let chain = Chain::prepare(stack, NAME, &objects)?;
    chain.start().await?;
    let subject = Subject {
        others: [chain.another_sink("second")?, chain.another_sink("third")?],
        chain: &chain,
        manifest,
        tables: KINDS.iter().map(|kind| format!("public.{}", kind.name)).collect(),
    };
    subject.others[0].spawn()?;
    chain.wait_ready(PATIENCE).await?;
    let comparer = chain.comparer().await?;
    let begin = Instant::now();
    let world = World {
        stack,
        tables: Mutex::new(catalogue(comparer.postgres()).await?),
        report: Mutex::new(Report { seed: plan.seed, ..Report::default() }),
        until: begin + plan.lasting,
    };
    let canary = Canary::amid_outages();
    let writers =
        futures::future::try_join_all((0..WRITERS).map(|number| write(&world, plan.seed ^ (number << 32))));
    tokio::try_join!(
        async { writers.await.map(drop) },
        alter(&world, plan.seed, &say),
        suffer(&world, &subject, &fault::SERVERS, plan.seed, &say),
        suffer(&world, &subject, &fault::PROGRAMS, !plan.seed, &say),
        async {
            let watch = canary.watch(comparer.clickhouse(), NAME);
            tokio::join!(fly(&world, &canary), watch).0
        },
    )?;
    let seconds = begin.elapsed().as_secs_f64();
    let settling = Instant::now();
    say(format!("{seconds:4.0} s: nobody writes any more"));
    let settled = settled(&chain, &world, &canary).await;
    let settled = settled
        .with_context(|| format!("{:?}", world.report.lock().unwrap_or_else(PoisonError::into_inner)))?;
    let mut report = world.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.seconds = seconds;
    report.settled_after = settling.elapsed().as_secs_f64();
    Settled {
        rows: report.rows,
        verified: report.verified,
        lost: report.broken_parts,
        repaired: report.repaired,
    } = settled;
    report.looks = canary.looks();
    subject.others[0].stop().await?;
    Ok(report)
}

/// The database, its tables, and a disk of ClickHouse's own that can be full.
async fn prepare(stack: &Stack) -> anyhow::Result<()> {
    stack.clickhouse().stop().await?;
    stack.clickhouse().confine(DISK)?;
    stack.clickhouse().start().await?;
    stack.postgres().create_database(NAME).await?;
    let shop = |sql: String| async move { stack.postgres().execute(Role::Shop, NAME, &sql).await };
    shop(TYPES.to_owned()).await?;
    for kind in KINDS {
        shop(kind.ddl()).await.with_context(|| kind.ddl())?;
    }
    let grant = "GRANT SET ON PARAMETER commit_delay, commit_siblings TO shop";
    stack.postgres().execute(Role::Superuser, NAME, grant).await?;
    shop(canary::DDL.to_owned()).await
}

fn manifest(stack: &Stack) -> Value {
    let mut manifest = chain::pipeline(stack, NAME, &["public.canary"]);
    let tables =
        KINDS.iter().map(|kind| json!({"name": format!("public.{}", kind.name), "target": kind.target}));
    if let Some(all) = manifest["spec"]["tables"].as_array_mut() {
        all.extend(tables);
    }
    manifest["spec"]["verification"] = json!({"interval": "1s", "rowsPerSecond": 20_000});
    manifest["spec"]["clickhouse"]["cleanup"] = json!({"after": "1m"});
    manifest
}

/// Tables with their columns as PostgreSQL has them now.
async fn catalogue(client: &Client) -> anyhow::Result<Vec<Table>> {
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let mut tables = Vec::new();
    for kind in KINDS {
        let rows = client.query(sql, &[&format!("public.{}", kind.quoted())]).await?;
        let mut columns = Vec::new();
        for row in rows {
            let (name, type_name): (String, String) = (row.get(0), row.get(1));
            if name != "n" && !kind.key.contains(&name.as_str()) {
                let kind = Type::by_name(&type_name).with_context(|| format!("a type {type_name}"))?;
                columns.push(Column { name, kind, nullable: row.get(2) });
            }
        }
        tables.push(Table { kind, columns });
    }
    Ok(tables)
}

/// Writes transactions until it is over.
async fn write(world: &World<'_>, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = world.session().await?;
    while !world.is_over() {
        let statements = world.tables(|tables| transaction(tables, &mut random));
        match client.batch_execute(&statements).await {
            Ok(()) => world.note(|report| report.transactions += 1),
            Err(error) => {
                world.refused(&error);
                if client.batch_execute("ROLLBACK").await.is_err() {
                    client = world.session().await?;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..160))).await;
    }
    Ok(())
}

/// One to four statements over any tables, some of them rolled back, some committed late.
fn transaction(tables: &[Table], random: &mut StdRng) -> String {
    let table = |random: &mut StdRng| &tables[random.random_range(0..tables.len())];
    if random.random_range(0..40) == 0 {
        return table(random).bulk(random);
    }
    let mut all = vec!["BEGIN".to_owned()];
    for _ in 0..random.random_range(1..=4) {
        let statement = table(random).statement(random);
        match random.random_range(0..8) {
            0 => all.extend(["SAVEPOINT s".into(), statement, "ROLLBACK TO SAVEPOINT s".into()]),
            1 => all.extend(["SAVEPOINT s".into(), statement, "RELEASE SAVEPOINT s".into()]),
            2 => all.extend([statement, "SELECT pg_sleep(0.1)".into()]),
            _ => all.push(statement),
        }
    }
    // In the log before it can be seen.
    if random.random_range(0..4) == 0 {
        all.insert(
            1,
            "SELECT set_config('commit_delay', '30000', true), set_config('commit_siblings', '0', true)"
                .into(),
        );
    }
    all.push(if random.random_range(0..12) == 0 { "ROLLBACK" } else { "COMMIT" }.to_owned());
    all.join("; ")
}

/// Alters tables until it is over.
async fn alter(world: &World<'_>, seed: u64, say: &impl Fn(String)) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut random = StdRng::seed_from_u64(seed ^ 0xA17E);
    let mut client = world.session().await?;
    let mut number = 0;
    while !world.is_over() {
        tokio::time::sleep(Duration::from_secs(random.random_range(2..7))).await;
        number += 1;
        let table = world.tables(|tables| tables[random.random_range(0..tables.len())].clone());
        let migration = migration::draw(&table, number, &mut random);
        match client.batch_execute(&migration.statements).await {
            Ok(()) => {
                let statements: Vec<&str> = migration.statements.split_whitespace().collect();
                say(format!("{:4} s: {}", begin.elapsed().as_secs(), statements.join(" ")));
                world.note(|report| *report.migrations.entry(migration.kind).or_default() += 1);
            }
            Err(error) => {
                world.refused(&error);
                if client.batch_execute("ROLLBACK").await.is_err() {
                    client = world.session().await?;
                }
            }
        }
        // A commit whose answer was lost may have been one.
        match catalogue(&client).await {
            Ok(now) => world.tables(|tables| *tables = now),
            Err(_) if client.is_closed() => client = world.session().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets faults happen, one after the other, until it is over.
async fn suffer(
    world: &World<'_>,
    subject: &Subject<'_>,
    faults: &[Fault],
    seed: u64,
    say: &impl Fn(String),
) -> anyhow::Result<()> {
    let (mut deck, mut random) = (Deck::new(faults), StdRng::seed_from_u64(seed));
    let begin = Instant::now();
    let mut number = 0;
    while !world.is_over() {
        tokio::time::sleep(Duration::from_secs(random.random_range(BETWEEN))).await;
        let Some(fault) = deck.draw(&mut random) else { bail!("no faults") };
        number += 1;
        let lasting = Duration::from_secs(random.random_range(LASTING));
        let at = begin.elapsed().as_secs();
        subject.suffer(fault, lasting, number, &mut random).await.with_context(|| fault.name())?;
        say(format!("{at:4} s: {}", fault.name()));
        world.note(|report| *report.faults.entry(fault.name()).or_default() += 1);
    }
    Ok(())
}

/// Writes the canary, whatever happens to its session, until it is over.
async fn fly(world: &World<'_>, canary: &Canary) -> anyhow::Result<()> {
    let over = async {
        tokio::time::sleep_until(world.until.into()).await;
        canary.end();
    };
    let write = async {
        while !world.is_over() {
            let client = world.session().await?;
            if let Err(error) = canary.write(&client).await {
                ensure!(client.is_closed(), error);
            }
        }
        Ok(())
    };
    tokio::join!(write, over).0
}

/// What there is once everything has come to rest.
struct Settled {
    /// By table.
    rows: BTreeMap<String, u64>,
    /// Rows that the verification compared.
    verified: u64,
    /// Parts that ClickHouse found broken at a start.
    lost: u64,
    /// Rows that the verification repaired.
    repaired: u64,
}

/// Waits until everything is ready, equal and verified.
///
/// A ClickHouse whose disk is full may commit a part with an empty file, which it gives up at its next start, with rows that it
/// had acknowledged. What the verification repairs then is no wrong row of ours; without such a part every one is.
async fn settled(chain: &Chain<'_>, world: &World<'_>, canary: &Canary) -> anyhow::Result<Settled> {
    let since = jiff::Timestamp::now().as_millisecond();
    let logs = || format!("the operator's log ends with\n{}", chain.operator().log_tail(15));
    chain.wait_ready(SETTLE).await?;
    let comparer = chain.comparer().await?;
    let mut rows = BTreeMap::new();
    for kind in KINDS {
        let table = format!("public.{}", kind.quoted());
        equal(&comparer, &table, kind.target).await.with_context(logs)?;
        let count = format!("SELECT count(*) FROM {table}");
        let count: i64 = comparer.postgres().query_one(&count, &[]).await?.get(0);
        rows.insert(kind.target.to_owned(), u64::try_from(count)?);
    }
    let parts = "SELECT count() FROM system.detached_parts WHERE startsWith(reason, 'broken')";
    let lost: u64 = world.stack.clickhouse().query(parts).await?.trim().parse()?;
    let line = canary.line("canary", &comparer).await;
    ensure!(line.outcome == Outcome::Equal || lost > 0, "the canary: {}", line.seen);
    let sql = format!(
        "SELECT countIf(verified_from > fromUnixTimestamp64Milli(toInt64({since}))), sum(compared), sum(differences), sum(open) \
         FROM {NAME}._tidemark_verification FINAL"
    );
    let [_, verified, differences, open] = wait_until(SETTLE, "a full round of every table", || async {
        let text = world.stack.clickhouse().query(&sql).await?;
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        let numbers = <[u64; 4]>::try_from(numbers?).map_err(|numbers| anyhow::anyhow!("{numbers:?}"))?;
        ensure!(numbers[0] > KINDS.len() as u64, "{} tables", numbers[0]);
        Ok(Some(numbers))
    })
    .await
    .with_context(logs)?;
    if open > 0 || (differences > 0 && lost == 0) {
        let sql = format!(
            "SELECT table, kind, columns, count(), any(key), min(found_at) FROM {NAME}._tidemark_differences FINAL GROUP BY ALL"
        );
        let found = world.stack.clickhouse().query(&sql).await?;
        let sql = format!(
            "SELECT key, value FROM {NAME}._tidemark_ledger FINAL WHERE kind = 'layout' AND splitByChar('@', key)[1] IN \
             (SELECT table FROM {NAME}._tidemark_differences) ORDER BY ALL"
        );
        bail!("rows were wrong meanwhile:\n{found}\n{}", world.stack.clickhouse().query(&sql).await?);
    }
    Ok(Settled { rows, verified, lost, repaired: differences })
}

async fn equal(comparer: &Comparer, table: &str, target: &str) -> anyhow::Result<()> {
    wait_until(SETTLE, &format!("{table} to be equal"), || async {
        let mismatch = comparer.check(table, target, &[]).await?;
        ensure!(mismatch.is_none(), "{}", mismatch.map(|found| found.to_string()).unwrap_or_default());
        Ok(Some(()))
    })
    .await
}

/// The report for people.
pub fn text(report: &Report) -> String {
    let list = |counts: &BTreeMap<&'static str, u64>| {
        let lines: Vec<String> = counts.iter().map(|(name, count)| format!("  {count:>5}  {name}")).collect();
        lines.join("\n")
    };
    let rows: u64 = report.rows.values().sum();
    format!(
        "{:.0} s, seed {}: {} transactions, {} refused\nchanges of tables\n{}\nfaults\n{}\n\
         {rows} rows of {} tables equal {:.0} s later, {} compared meanwhile, {} looks; {} parts lost by \
         ClickHouse, {} rows of them repaired; {} wrong otherwise\n",
        report.seconds,
        report.seed,
        report.transactions,
        report.refused.values().sum::<u64>(),
        list(&report.migrations),
        list(&report.faults),
        report.rows.len(),
        report.settled_after,
        report.verified,
        report.looks,
        report.broken_parts,
        report.repaired,
        report.wrong,
    )
}
