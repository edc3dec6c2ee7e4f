//! The cases of one pipeline, from their tables to what became of each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt as _;
use futures::future::{join, join_all};
use rdkafka::admin::AdminOptions;
use serde_json::{Value, json};
use tidemark_crds::ledger::{DIFFERENCES_TABLE, PROGRESS_TABLE};
use tidemark_crds::quote;
use tidemark_e2e::cases::canary::{self, Canary};
use tidemark_e2e::cases::{Case, Comparer, Group, Line, Outcome, Relation, Step, Verdict, judge, relations};
use tidemark_e2e::chain::{Chain, pipeline};
use tidemark_e2e::shop::{SCHEMA, SEED};
use tidemark_e2e::stack::{Process, Role, Stack, wait_until};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::subject::{Subject, shop, writable};
use super::writers::{Load, WRITERS};
use crate::chain::objects;

/// How long the first load of all tables, and what follows the last change, may take.
const DEADLINE: Duration = Duration::from_mins(4);
/// Pause between two looks at all tables that are undecided.
const LOOK: Duration = Duration::from_millis(250);
/// Between two lines about what is waited for.
const PROGRESS: Duration = Duration::from_secs(15);
/// Cases whose changes run side by side.
const AT_ONCE: usize = 6;

/// What a group's pipeline is, beside its tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// Nothing special.
    Plain,
    /// The views of a shop, whose names are taken.
    Ecommerce,
    /// Two sinks.
    TwoSinks,
    /// The sink is stopped while the tables change.
    SinkStopped,
    /// The operator is stopped while the tables change.
    OperatorStopped,
    /// Nothing can start before the second part has mended the source.
    SourceUnfit,
}

impl Setting {
    fn of(pipeline: &str) -> Self {
        match pipeline {
            "ecommerce" => Self::Ecommerce,
            "two-sinks" => Self::TwoSinks,
            "sink-stopped" => Self::SinkStopped,
            "operator-stopped" => Self::OperatorStopped,
            "source-unfit" => Self::SourceUnfit,
            _ => Self::Plain,
        }
    }
}

/// A pipeline with its cases.
struct Running<'a> {
    chain: Chain<'a>,
    cases: &'a [Case],
    subjects: Vec<Subject>,
    manifest: Mutex<Value>,
    comparer: Comparer,
    setting: Setting,
    another: Option<Process>,
}

/// Tries the cases of a group in a pipeline of their own, and returns a line for each of their tables.
pub(super) async fn group<'a>(
    stack: &'a Stack,
    name: &'static str,
    cases: &'a [Case],
    group: Group,
) -> anyhow::Result<Vec<Line>> {
    let setting = Setting::of(&group.pipeline);
    stack.postgres().create_database(name).await?;
    let owner = stack.postgres().connect(Role::Shop, name).await?;
    if setting == Setting::Ecommerce {
        owner.batch_execute(SCHEMA).await?;
        owner.batch_execute(SEED).await?;
    }
    owner.batch_execute(canary::DDL).await?;
    let superuser = stack.postgres().connect(Role::Superuser, name).await?;
    let mut lines = Vec::new();
    let mut subjects = Vec::new();
    for number in group.cases {
        let case = &cases[number];
        match set_up(case, &owner, &superuser).await.with_context(|| case.names.join(", ")) {
            Ok(None) => {}
            Ok(Some(relations)) => {
                subjects
                    .extend((0..relations.len()).map(|index| Subject::new(case, number, &relations, index)));
            }
            Err(error) => lines.push(not_set_up(case, &error)),
        }
    }
    let manifest = manifest(stack, name, cases, &subjects, setting);
    let chain = Chain::prepare(stack, name, &objects(manifest.clone()))?;
    let comparer = chain.comparer().await?;
    let another = (setting == Setting::TwoSinks).then(|| chain.another_sink("second")).transpose()?;
    let running =
        Running { chain, cases, subjects, manifest: Mutex::new(manifest), comparer, setting, another };
    match running.tried(&owner).await {
        Ok(tried) => lines.extend(tried),
        // The other pipelines go on, and the report has a line for each table all the same.
        Err(error) => {
            let text = format!("pipeline {name}: {error:#}\n");
            for subject in &running.subjects {
                *subject.failure.lock().unwrap() = Some(text.clone());
                lines.push(subject.line(&Verdict::default(), Instant::now()));
            }
        }
    }
    Ok(lines)
}

/// An array of texts as ClickHouse reads it.
fn array(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote::literal(text)).collect();
    format!("CAST([{}] AS Array(String))", texts.join(", "))
}

/// Runs the first part of a case and returns the tables that are captured; `None` where the server lacks an extension.
async fn set_up(case: &Case, owner: &Client, superuser: &Client) -> anyhow::Result<Option<Vec<Relation>>> {
    let before = relations(owner).await?;
    for statement in &case.before {
        // An extension is the superuser's to make; the shop's own statement finds it there.
        if let Some((_, extension)) = statement.split_once("CREATE EXTENSION IF NOT EXISTS ") {
            let known = "SELECT FROM pg_available_extensions WHERE name = $1";
            if superuser.query_opt(known, &[&extension.trim()]).await?.is_none() {
                return Ok(None);
            }
            superuser
                .batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA public"))
                .await?;
            continue;
        }
        owner.batch_execute(statement).await.with_context(|| statement.clone())?;
    }
    let made = relations(owner).await?.into_iter().filter(|relation| !before.contains(relation));
    let wanted = |relation: &Relation| {
        case.tables.is_empty()
            || case.tables.contains(&relation.source())
            || case.tables.contains(&relation.name)
    };
    let tables: Vec<Relation> = made.filter(wanted).collect();
    anyhow::ensure!(!tables.is_empty(), "it makes no table");
    for relation in &tables {
        let grant =
            format!("GRANT USAGE ON SCHEMA {} TO tidemark", tidemark_e2e::cases::quoted(&relation.schema));
        owner.batch_execute(&grant).await?;
    }
    Ok(Some(tables))
}

fn not_set_up(case: &Case, error: &anyhow::Error) -> Line {
    Line {
        name: case.names.join("+"),
        outcome: Outcome::Different,
        seconds: 0.0,
        unexpected: Some("tables that can be made".into()),
        seen: format!("{error:#}"),
    }
}

fn manifest(stack: &Stack, name: &str, cases: &[Case], subjects: &[Subject], setting: Setting) -> Value {
    let mut manifest = pipeline(stack, name, &["public.canary"]);
    let tables = manifest["spec"]["tables"].as_array_mut().expect("a pipeline has tables");
    for subject in subjects.iter().filter(|subject| !subject.added) {
        let source = subject.source();
        let said = cases[subject.case].spec.iter().find(|entry| entry["name"] == source.as_str());
        tables.push(said.cloned().unwrap_or_else(|| json!({"name": source})));
    }
    // Rounds go on whatever becomes of the tables: none may take a change for a difference.
    manifest["spec"]["verification"] = json!({"interval": "10s"});
    if setting == Setting::Ecommerce {
        manifest["spec"]["views"] = json!({"preset": "Ecommerce", "refreshInterval": "5s"});
    }
    manifest
}

impl Running<'_> {
    async fn tried(&self, owner: &Client) -> anyhow::Result<Vec<Line>> {
        self.chain.start().await?;
        if let Some(second) = &self.another {
            second.spawn()?;
        }
        if self.setting == Setting::SourceUnfit {
            return self.mended(owner).await;
        }
        let all = 0..self.subjects.len();
        let first: Vec<usize> = all.filter(|index| !self.subjects[*index].added).collect();
        // What the second part brings about is not there yet.
        self.decided(&first, |_, outcome| outcome != Outcome::Different).await;
        let canary = Canary::new(matches!(self.setting, Setting::SinkStopped | Setting::TwoSinks));
        self.canary_is_there().await?;
        let writer = shop(&self.chain).await?;
        let beside = async {
            let (written, ()) =
                join(canary.write(&writer), canary.watch(self.comparer.clickhouse(), &self.chain.name)).await;
            written
        };
        let (written, lines) = join(beside, async {
            let lines = self.changed().await;
            canary.end();
            lines
        })
        .await;
        written.context("writing the canary")?;
        let mut lines = self.last(lines?, owner).await;
        self.canary_is_there().await?;
        lines.push(canary.line(&format!("canary/{}", self.chain.name), &self.comparer).await);
        lines.push(self.verified(&lines).await?);
        Ok(lines)
    }

    /// Waits until the source is named as unfit, and runs the second part, which mends it.
    async fn mended(&self, owner: &Client) -> anyhow::Result<Vec<Line>> {
        wait_until(DEADLINE, "the source to be named as unfit", || async {
            let (status, _, message) = self.chain.condition("SourceReady")?;
            anyhow::ensure!(status == "False" && message.contains("ALTER "), "{status}: {message}");
            Ok(Some(()))
        })
        .await?;
        let seen = self.changed().await?;
        let mut lines = self.last(seen, owner).await;
        lines.push(self.verified(&lines).await?);
        Ok(lines)
    }

    /// Asks for a comparison of all tables. Whatever happened to them, no row may ever have been found different: but for
    /// those that are refused, whose rows may be others by then.
    async fn verified(&self, lines: &[Line]) -> anyhow::Result<Line> {
        let refused = self.subjects.iter().filter(|subject| {
            lines.iter().any(|line| line.name == subject.name && line.outcome == Outcome::Refused)
        });
        let refused: Vec<&str> = refused.map(|subject| subject.target.as_str()).collect();
        let begin = Instant::now();
        let (code, answer) = self.chain.asks_with("verify", &["--timeout", "90s", "-o", "json"]).await?;
        let found = format!(
            "SELECT concat(table, ' ', kind, ' ', toString(columns), ' ', any(key)), count() \
             FROM `{}`.{DIFFERENCES_TABLE} FINAL WHERE NOT has({}, table) GROUP BY table, kind, columns ORDER BY table",
            self.chain.name,
            array(&refused)
        );
        let found: Vec<(String, u64)> = self.comparer.clickhouse().rows(&found, &[]).await?;
        // Each table is compared to its end, but for those that are refused.
        let view: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
        let is_compared = |table: &Value| match table["state"].as_str() {
            Some("equal") => true,
            Some("leftOut" | "notCompared") => self.subjects.iter().any(|subject| {
                table["name"] == subject.source() && refused.contains(&subject.target.as_str())
            }),
            _ => false,
        };
        let all = view["tables"].as_array().is_some_and(|tables| tables.iter().all(is_compared));
        let is_equal = found.is_empty() && view["unseen"].is_null() && all;
        Ok(Line {
            name: format!("verified/{}", self.chain.name),
            outcome: if is_equal { Outcome::Equal } else { Outcome::Different },
            seconds: begin.elapsed().as_secs_f64(),
            unexpected: (!is_equal).then(|| "no row that differs".to_owned()),
            seen: if is_equal { String::new() } else { format!("exit {code}, {found:?}\n{answer}") },
        })
    }

    /// Runs the second part of all cases and waits until every table has become what is expected.
    async fn changed(&self) -> anyhow::Result<Vec<(Verdict, Instant)>> {
        match self.setting {
            Setting::SinkStopped => self.chain.sink().stop().await?,
            Setting::OperatorStopped => self.chain.operator().stop().await?,
            _ => {}
        }
        let mut cases: Vec<usize> = self.subjects.iter().map(|subject| subject.case).collect();
        cases.dedup();
        futures::stream::iter(cases)
            .map(|case| self.later(case))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<()>>()
            .await;
        match self.setting {
            Setting::SinkStopped => self.chain.sink().spawn()?,
            Setting::OperatorStopped => self.chain.start_operator()?,
            _ => {}
        }
        let everything: Vec<usize> = (0..self.subjects.len()).collect();
        let seen = self.decided(&everything, Subject::is_final).await;
        if self.setting == Setting::TwoSinks {
            self.applied_again().await.context("applying everything again")?;
        }
        Ok(seen)
    }

    /// Lets one sink apply every record again from the first: the same bytes must give the same rows.
    async fn applied_again(&self) -> anyhow::Result<()> {
        let progress = format!("`{}`.{PROGRESS_TABLE}", self.chain.name);
        let offsets = || async {
            let select = format!("SELECT table, partition, toInt32(next_offset) FROM {progress} FINAL");
            let rows: Vec<(String, i32, i64)> = self.comparer.clickhouse().rows(&select, &[]).await?;
            anyhow::Ok(
                rows.into_iter()
                    .map(|(table, partition, next)| ((table, partition), next))
                    .collect::<BTreeMap<_, _>>(),
            )
        };
        let before = offsets().await?;
        self.chain.sink().stop().await?;
        if let Some(second) = &self.another {
            second.stop().await?;
        }
        self.comparer.clickhouse().query(&format!("TRUNCATE TABLE {progress}"), &[]).await?;
        let group = self.chain.consumer_group()?;
        let admin = self.chain.stack.kafka().admin()?;
        wait_until(DEADLINE, "the consumer group to be gone", || async {
            let deleted = admin.delete_groups(&[&group], &AdminOptions::new()).await?;
            anyhow::ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
            Ok(Some(()))
        })
        .await?;
        self.chain.sink().spawn()?;
        wait_until(DEADLINE, "every record to be applied again", || async {
            let now = offsets().await?;
            let behind: Vec<_> = before.iter().filter(|(place, next)| now.get(place) < Some(next)).collect();
            anyhow::ensure!(behind.is_empty(), "behind: {behind:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Runs the second part of one case, beside its writers.
    async fn later(&self, number: usize) {
        let case = &self.cases[number];
        let own: Vec<usize> =
            (0..self.subjects.len()).filter(|index| self.subjects[*index].case == number).collect();
        let outcome = if case.load.is_empty() {
            self.steps(case, &own, None).await
        } else {
            let load = Load::default();
            let (clients, load) = (self.sessions().await, &load);
            match clients {
                Ok(clients) => {
                    let writers = join_all(clients.iter().map(|client| load.write(client, &case.load)));
                    let steps = async {
                        let outcome = self.steps(case, &own, Some(load)).await;
                        load.end();
                        outcome
                    };
                    join(writers, steps).await.1
                }
                Err(error) => Err(error),
            }
        };
        for index in own {
            let subject = &self.subjects[index];
            *subject.since.lock().unwrap() = Instant::now();
            if let Err(error) = &outcome {
                *subject.failure.lock().unwrap() = Some(format!("its second part failed: {error:#}\n"));
            }
        }
    }

    async fn sessions(&self) -> anyhow::Result<Vec<Client>> {
        futures::future::try_join_all((0..WRITERS).map(|_| shop(&self.chain))).await
    }

    async fn steps(&self, case: &Case, own: &[usize], load: Option<&Load>) -> anyhow::Result<()> {
        let client = shop(&self.chain).await?;
        if let Some(load) = load {
            load.goes_on().await?;
        }
        let mut open = false;
        for step in &case.later {
            match step {
                Step::Sql(statement) => {
                    client.batch_execute(statement).await.with_context(|| statement.clone())?;
                    open = match statement.as_str() {
                        "BEGIN" => true,
                        "COMMIT" | "ROLLBACK" => false,
                        _ => open,
                    };
                }
                Step::Spec(entry) => self.respecify(entry, own).await?,
                Step::Settle => {
                    self.decided(own, |_, outcome| outcome != Outcome::Different).await;
                }
            }
            // Within a transaction the writers may wait for its locks.
            if let Some(load) = load.filter(|_| !open) {
                load.goes_on().await?;
            }
        }
        Ok(())
    }

    /// Changes an entry of `spec.tables`, or puts one in the place of the one that it `replaces`.
    async fn respecify(&self, entry: &Value, own: &[usize]) -> anyhow::Result<()> {
        let mut manifest = self.manifest.lock().await;
        let mut entry = entry.clone();
        let replaced = entry.as_object_mut().and_then(|fields| fields.remove("replaces"));
        let name = entry["name"].as_str().context("an entry of spec.tables has a name")?.to_owned();
        let old = replaced.as_ref().and_then(Value::as_str).unwrap_or(&name);
        let tables = manifest["spec"]["tables"].as_array_mut().context("a pipeline has tables")?;
        match tables.iter_mut().find(|table| table["name"] == old) {
            Some(table) => *table = entry,
            None => tables.push(entry),
        }
        for subject in own.iter().map(|index| &self.subjects[*index]) {
            let mut source = subject.source.lock().unwrap();
            if *source == old {
                source.clone_from(&name);
                // What was left out may be wanted now.
                subject.without.lock().unwrap().clear();
            }
        }
        self.chain.write(&objects(manifest.clone()))
    }

    /// Looks at tables until `enough` says so of the outcome of each, or the deadline has passed.
    async fn decided(
        &self,
        indices: &[usize],
        enough: impl Fn(&Subject, Outcome) -> bool,
    ) -> Vec<(Verdict, Instant)> {
        let begin = Instant::now();
        let mut said = begin;
        let mut seen: Vec<Option<(Verdict, Instant)>> = vec![None; indices.len()];
        let mut open: Vec<usize> = (0..indices.len()).collect();
        while !open.is_empty() {
            let mut still = Vec::new();
            for place in open {
                let subject = &self.subjects[indices[place]];
                let verdict = subject.look(&self.chain, &self.comparer).await;
                let failed = subject.failure.lock().unwrap().is_some();
                if !failed && !enough(subject, judge(&verdict)) {
                    still.push(place);
                }
                seen[place] = Some((verdict, Instant::now()));
            }
            open = still;
            if begin.elapsed() >= DEADLINE {
                break;
            }
            if said.elapsed() >= PROGRESS && !open.is_empty() {
                said = Instant::now();
                let waiting: Vec<String> = open
                    .iter()
                    .map(|place| {
                        let seen = seen[*place].as_ref().map(|(verdict, _)| verdict.to_string());
                        format!("  {}: {}", self.subjects[indices[*place]].name, seen.unwrap_or_default())
                    })
                    .collect();
                let (name, seconds) = (&self.chain.name, begin.elapsed().as_secs());
                let text = format!("{name}: after {seconds} s waiting for\n{}\n", waiting.join("\n"));
                let _ = std::io::stdout().write_all(text.as_bytes());
            }
            tokio::time::sleep(LOOK).await;
        }
        seen.into_iter().map(|seen| seen.unwrap_or_else(|| (Verdict::default(), Instant::now()))).collect()
    }

    /// Looks once more at what was equal, since a late event could have undone it, and tries what the shop may do.
    async fn last(&self, seen: Vec<(Verdict, Instant)>, owner: &Client) -> Vec<Line> {
        let mut lines = Vec::new();
        for (subject, (mut verdict, at)) in self.subjects.iter().zip(seen) {
            if judge(&verdict) == Outcome::Equal {
                verdict = subject.look(&self.chain, &self.comparer).await;
            }
            if let Err(error) = writable(owner, &subject.quoted()).await
                && subject.exists(owner).await
            {
                let text = format!("the shop cannot write it any more: {error:#}\n");
                subject.failure.lock().unwrap().get_or_insert(text);
            }
            lines.push(subject.line(&verdict, at));
        }
        lines
    }

    async fn canary_is_there(&self) -> anyhow::Result<()> {
        Canary::is_there(&self.comparer, DEADLINE).await.with_context(|| {
            let status = self.chain.status().unwrap_or_default();
            let (operator, sink) = (self.chain.operator().log_tail(8), self.chain.sink().log_tail(8));
            format!("status {status}\nthe operator's log ends with\n{operator}\nthe sink's with\n{sink}")
        })
    }
}
