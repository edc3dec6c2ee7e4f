//! One table of a case while it is tried.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemark_e2e::cases::{Case, Comparer, Line, Outcome, Relation, Verdict, judge, quoted};
use tidemark_e2e::chain::Chain;
use tidemark_e2e::stack::Role;
use tokio_postgres::Client;

/// How long a table must be held that is not expected to be, before that is what became of it.
const LASTING: Duration = Duration::from_secs(20);

/// A table that is tried.
pub(super) struct Subject {
    /// Name in the report.
    pub(super) name: String,
    /// Number of its case.
    pub(super) case: usize,
    /// Name in the spec, which a step may change.
    pub(super) source: Mutex<String>,
    /// State table.
    pub(super) target: String,
    /// What is expected; `None`: equal, refused or held.
    pub(super) expect: Option<Outcome>,
    /// Columns that the product says it leaves out.
    pub(super) without: Mutex<Vec<String>>,
    /// Whether it is not in the spec from the beginning.
    pub(super) added: bool,
    /// When the last of its case's statements had run.
    pub(super) since: Mutex<Instant>,
    /// Why its case could not be carried out.
    pub(super) failure: Mutex<Option<String>>,
}

impl Subject {
    /// A table of a case, before anything was done.
    pub(super) fn new(case: &Case, number: usize, relations: &[Relation], index: usize) -> Self {
        let relation = &relations[index];
        let name = match &case.names[..] {
            names if names.len() == relations.len() => names[index].clone(),
            names => format!("{}/{}", names.join("+"), relation.name),
        };
        let source = relation.source();
        let own = || relation.name.clone();
        let spec = case.spec.iter().find(|entry| entry["name"] == source.as_str());
        Self {
            name,
            case: number,
            target: spec.and_then(|entry| entry["target"].as_str().map(str::to_owned)).unwrap_or_else(own),
            expect: case.expect.of(&relation.name),
            without: Mutex::new(case.without.clone()),
            added: case.added.contains(&relation.name),
            source: Mutex::new(source),
            since: Mutex::new(Instant::now()),
            failure: Mutex::new(None),
        }
    }

    /// Its name in the spec now.
    pub(super) fn source(&self) -> String {
        self.source.lock().unwrap().clone()
    }

    /// Its name as SQL has it.
    pub(super) fn quoted(&self) -> String {
        let source = self.source();
        let (schema, name) = source.split_once('.').unwrap_or(("public", &source));
        format!("{}.{}", quoted(schema), quoted(name))
    }

    /// Looks at it once.
    pub(super) async fn look(&self, chain: &Chain<'_>, comparer: &Comparer) -> Verdict {
        let named = named(&chain.status().unwrap_or_default(), &self.source());
        if matches!(&named, Some((state, _)) if state == "Refused") {
            return Verdict { equal: false, named, differences: String::new() };
        }
        let without = self.without.lock().unwrap().clone();
        match comparer.check(&self.quoted(), &self.target, &without).await {
            Ok(None) => Verdict { equal: true, named, differences: String::new() },
            Ok(Some(mismatch)) => Verdict { equal: false, named, differences: mismatch.to_string() },
            Err(error) => Verdict { equal: false, named, differences: format!("{error:#}") },
        }
    }

    /// Whether PostgreSQL has it under its name in the spec.
    pub(super) async fn exists(&self, client: &Client) -> bool {
        let query = "SELECT to_regclass($1) IS NOT NULL";
        client.query_one(query, &[&self.quoted()]).await.is_ok_and(|row| row.get(0))
    }

    /// Whether an outcome is what was expected.
    pub(super) fn is_expected(&self, outcome: Outcome) -> bool {
        self.expect.map_or(outcome != Outcome::Different, |expected| expected == outcome)
    }

    /// Whether nothing better is to be waited for. A table is held for a moment at many changes.
    pub(super) fn is_final(&self, outcome: Outcome) -> bool {
        let lasting = self.since.lock().unwrap().elapsed() > LASTING;
        self.is_expected(outcome) && (self.expect.is_some() || outcome != Outcome::Held || lasting)
    }

    /// The line of the report for what was seen last.
    pub(super) fn line(&self, verdict: &Verdict, at: Instant) -> Line {
        let failure = self.failure.lock().unwrap().clone();
        let outcome = if failure.is_some() { Outcome::Different } else { judge(verdict) };
        let expected = || self.expect.map_or("equal, refused or held", Outcome::as_str).to_owned();
        let named = verdict
            .named
            .as_ref()
            .map(|(state, message)| format!("{state}: {message}\n"))
            .unwrap_or_default();
        Line {
            name: self.name.clone(),
            outcome,
            seconds: at.saturating_duration_since(*self.since.lock().unwrap()).as_secs_f64(),
            unexpected: (!self.is_expected(outcome)).then(expected),
            seen: failure.unwrap_or_default() + &named + &verdict.differences,
        }
    }
}

/// State and message of a table's entry in `status.tables.degraded`.
fn named(status: &Value, source: &str) -> Option<(String, String)> {
    let entry = status["tables"]["degraded"].as_array()?.iter().find(|entry| entry["name"] == source)?;
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Some((text("state"), text("message")))
}

/// Whether the shop can go on writing the table: a statement of each kind, taken back at the end.
pub(super) async fn writable(client: &Client, table: &str) -> anyhow::Result<()> {
    let query = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
        AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a' ORDER BY attnum LIMIT 1";
    let column: String = quoted(client.query_one(query, &[&table]).await?.get(0));
    let write = format!("BEGIN; UPDATE {table} SET {column} = {column}; DELETE FROM {table}; ROLLBACK");
    let written = client.batch_execute(&write).await;
    if written.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(written?)
}

/// A session of the shop's.
pub(super) async fn shop(chain: &Chain<'_>) -> anyhow::Result<Client> {
    let client = chain.stack.postgres().connect(Role::Shop, &chain.name).await?;
    // Cases change what the database's sessions begin with.
    let own = "SET search_path = public; SET statement_timeout = 0; SET standard_conforming_strings = on";
    client.batch_execute(own).await?;
    Ok(client)
}
