//! `tidemark verify`: asks the sinks to compare tables with their source now, and follows them to the end. I/O: a row of
//! the ledger for each table, and looks at ClickHouse.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidemark_crds::ledger::{DIFFERENCES_TABLE, Kind, VerifyRequest};
use tidemark_crds::quote;
use tidemark_runtime::shell::Shutdown;

use super::look::look;
use super::target::Target;
use super::{Output, VerifyArgs, print};
use crate::core::cdc::table::is_read;
use crate::core::cost::grouped;
use crate::core::facts::{ClickHouseFacts, VerificationFacts};
use crate::core::table_status::TroubleState;
use crate::edge::clickhouse::ledger;

/// Rows differed, repaired or not.
const DIFFERENT: u8 = 1;
/// It could not be found out.
const UNSEEN: u8 = 2;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Differences that are listed.
const MOST_LISTED: usize = 20;

/// What came of it; the names of its fields are stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyView {
    /// Namespace and name.
    pub pipeline: String,
    /// Each table.
    pub tables: Vec<VerifiedView>,
    /// The differences that were found meanwhile, at most 20.
    pub differences: Vec<DifferenceView>,
    /// Why a table's end was not seen.
    pub unseen: Option<String>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedView {
    /// Its name in the spec.
    pub name: String,
    /// `equal`, `different`, `leftOut` (refused from the first: readers have nothing of it), `notCompared` or `waiting`.
    pub state: String,
    /// Rows compared, by both ways of a round.
    pub compared: u64,
    /// Rows found different.
    pub differences: u64,
    /// Those of them that were repaired.
    pub repaired: u64,
    /// Why it is left out, or does not go on; empty: it is and does.
    pub message: String,
}

/// A difference, without values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DifferenceView {
    /// State table.
    pub table: String,
    /// Key as a JSON object.
    pub key: String,
    /// `missing`, `surplus`, `columns` or `version`.
    pub kind: String,
    /// Columns that differed.
    pub columns: Vec<String>,
    /// Whether it is repaired.
    pub repaired: bool,
}

/// A table that was asked for.
struct Asked {
    name: String,
    target: String,
    /// Id of the request; 0: none was made.
    id: u64,
    before: VerificationFacts,
    /// Why none was made.
    left_out: String,
    /// Whether readers have, or are to have, rows of it that nothing is said of then.
    is_open: bool,
}

/// `tidemark verify`.
pub async fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let target = match Box::pin(Target::open(&args.target)).await {
        Ok(target) => target,
        Err(missed) => {
            print::error(&missed);
            return Ok(ExitCode::from(UNSEEN));
        }
    };
    let shutdown = Shutdown::on_signals()?;
    let facts = match look(&target).await {
        Ok(facts) => facts,
        Err(failure) => {
            print::error(&target.blind_for(&failure).line());
            return Ok(ExitCode::from(UNSEEN));
        }
    };
    let tables = chosen(&target, args)?;
    let asked = match Box::pin(ask(&target, &facts, tables)).await {
        Ok(asked) => asked,
        // 1 would say that rows differ.
        Err(failure) => {
            print::error(&format!("{failure:#}"));
            return Ok(ExitCode::from(UNSEEN));
        }
    };
    let begin = Instant::now();
    let mut view = view(&target, &asked, &facts);
    let mut shown = String::new();
    while !is_over(&view) {
        if begin.elapsed() >= args.timeout {
            let seconds = args.timeout.as_secs();
            view.unseen = Some(format!("no end within {seconds} s: `tidemark status` shows how far it is"));
            break;
        }
        if tokio::time::timeout(PAUSE, shutdown.requested()).await.is_ok() {
            view.unseen = Some("interrupted: the comparison goes on".into());
            break;
        }
        // One look that fails says nothing; the timeout counts.
        let Ok(facts) = look(&target).await else { continue };
        view = self::view(&target, &asked, &facts);
        let line = progress(&asked, &facts);
        if args.output == Output::Text && line != shown && !is_over(&view) {
            print::text(&line);
            shown = line;
        }
    }
    view.differences = listed(&target, &asked, &facts).await;
    match args.output {
        Output::Text => print::text(&view.render()),
        Output::Json => print::json(&view, false)?,
    }
    Ok(ExitCode::from(view.exit()))
}

/// Names in the spec, and targets, of the tables that are meant.
fn chosen(target: &Target, args: &VerifyArgs) -> anyhow::Result<Vec<(String, String)>> {
    let all: Vec<(String, String)> = (target.spec.all_tables().iter())
        .map(|table| (table.name.clone(), table.target_name().to_owned()))
        .collect();
    let wanted: Vec<&String> = args.tables.iter().chain(&args.table).collect();
    let is = |(name, target): &(String, String), wanted: &str| name == wanted || target == wanted;
    if let Some(unknown) = wanted.iter().find(|wanted| !all.iter().any(|table| is(table, wanted))) {
        anyhow::bail!("{unknown} is no table of {}: name one of spec.tables", target.name);
    }
    Ok(all
        .into_iter()
        .filter(|table| wanted.is_empty() || wanted.iter().any(|name| is(table, name)))
        .collect())
}

async fn ask(
    target: &Target,
    facts: &ClickHouseFacts,
    tables: Vec<(String, String)>,
) -> anyhow::Result<Vec<Asked>> {
    let degraded: BTreeMap<&str, (&str, &str)> = (target.said.iter().flat_map(|said| &said.tables))
        .flat_map(|tables| &tables.degraded)
        .map(|table| (table.name.as_str(), (table.state.as_str(), table.message.as_str())))
        .collect();
    let systems = target.systems();
    let client = systems.clickhouse.open().map_err(|failure| anyhow::anyhow!(failure.message))?;
    let (database, pipeline) = (&target.spec.clickhouse.database, target.name.to_string());
    let value = json!(VerifyRequest { asked_at: jiff::Timestamp::now().to_string() });
    let mut all = Vec::new();
    for (name, state_table) in tables {
        let before = facts.verification.get(&state_table).cloned().unwrap_or_default();
        let mut asked =
            Asked { name, target: state_table, id: 0, before, left_out: String::new(), is_open: false };
        let said = degraded.get(asked.name.as_str()).copied();
        // One that was read and is refused since is not what its rows were made of.
        let is_refused = said.is_some_and(|(state, _)| state == TroubleState::Refused.as_str());
        let was_read = is_read(facts, &asked.target);
        asked.is_open = was_read || !is_refused;
        if was_read && !is_refused {
            let next = facts.ledger.next_version(Kind::Verify, &asked.target).max(asked.before.request + 1);
            let row = ledger::row(client, database, &pipeline, Kind::Verify, &asked.target, next, &value);
            row.await.map_err(|failure| anyhow::anyhow!("asking for {}: {}", asked.name, failure.message))?;
            asked.id = next;
        } else {
            let why = said.map_or("it is not read at the source yet", |(_, message)| message);
            why.clone_into(&mut asked.left_out);
        }
        all.push(asked);
    }
    Ok(all)
}

fn view(target: &Target, asked: &[Asked], facts: &ClickHouseFacts) -> VerifyView {
    VerifyView {
        pipeline: target.name.to_string(),
        tables: asked.iter().map(|asked| of_table(asked, facts.verification.get(&asked.target))).collect(),
        ..VerifyView::default()
    }
}

fn of_table(asked: &Asked, now: Option<&VerificationFacts>) -> VerifiedView {
    let nothing = VerificationFacts::default();
    let now = now.unwrap_or(&nothing);
    let differences = now.differences.saturating_sub(asked.before.differences);
    let is_answered = now.request >= asked.id;
    let (state, message) = match (asked.id, is_answered) {
        (0, _) if asked.is_open => ("notCompared", &asked.left_out),
        (0, _) => ("leftOut", &asked.left_out),
        (_, false) => ("waiting", &now.error),
        // What could not be repaired before is found again.
        (_, true) if differences > 0 || now.open > 0 => ("different", &now.error),
        (_, true) => ("equal", &now.error),
    };
    VerifiedView {
        name: asked.name.clone(),
        state: state.to_owned(),
        compared: if is_answered && asked.id > 0 { now.compared } else { 0 },
        differences,
        repaired: now.repaired.saturating_sub(asked.before.repaired),
        message: message.clone(),
    }
}

fn is_over(view: &VerifyView) -> bool {
    view.tables.iter().all(|table| table.state != "waiting")
}

/// How far those are that are not answered yet, one line.
fn progress(asked: &[Asked], facts: &ClickHouseFacts) -> String {
    let open = asked.iter().filter_map(|asked| {
        let found = facts.verification.get(&asked.target)?;
        let is_open = asked.id > 0 && found.request < asked.id;
        let error = if found.error.is_empty() { String::new() } else { format!(" ({})", found.error) };
        is_open.then(|| format!("{} {} %{error}", asked.name, found.per_mille / 10))
    });
    let open: Vec<String> = open.collect();
    if open.is_empty() { String::new() } else { format!("comparing {}\n", open.join(", ")) }
}

/// Differences of the tables that were found since they were asked for.
async fn listed(target: &Target, asked: &[Asked], before: &ClickHouseFacts) -> Vec<DifferenceView> {
    #[derive(Deserialize)]
    struct Row {
        table: String,
        key: String,
        kind: String,
        columns: Vec<String>,
        repaired: u8,
    }
    // By the clock of the sinks, which wrote when the last round began; where none was, all there are.
    let since =
        asked.iter().filter_map(|asked| before.verification.get(&asked.target)).map(|it| it.began_ms).max();
    let tables: Vec<String> = asked.iter().map(|asked| quote::literal(&asked.target)).collect();
    let systems = target.systems();
    let Ok(client) = systems.clickhouse.open() else { return Vec::new() };
    let sql = format!(
        "SELECT table, key, toString(kind) AS kind, columns, toUInt8(repaired_at IS NOT NULL) AS repaired FROM {} FINAL \
         WHERE pipeline = {} AND table IN ({}) AND found_at > fromUnixTimestamp64Milli(toInt64({})) \
         ORDER BY found_at DESC, table, key LIMIT {MOST_LISTED}",
        quote::qualified(&target.spec.clickhouse.database, DIFFERENCES_TABLE),
        quote::literal(&target.name.to_string()),
        tables.join(", "),
        since.unwrap_or(0),
    );
    let rows = client.query::<Row>(&sql).await.unwrap_or_default();
    let view = |row: Row| {
        let Row { table, key, kind, columns, repaired } = row;
        DifferenceView { table, key, kind, columns, repaired: repaired == 1 }
    };
    rows.into_iter().map(view).collect()
}

impl VerifyView {
    /// 0: every row is equal; 1: rows differed; 2: not every table was compared to its end.
    pub fn exit(&self) -> u8 {
        if self.tables.iter().any(|table| table.state == "different" || table.differences > 0) {
            DIFFERENT
        } else if self.unseen.is_some() || self.tables.iter().any(|table| table.state == "notCompared") {
            UNSEEN
        } else {
            0
        }
    }

    /// For people.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let message =
                if table.message.is_empty() { String::new() } else { format!(": {}", table.message) };
            let said = match table.state.as_str() {
                "equal" => format!("equal, {} comparisons", grouped(table.compared)),
                "different" => format!(
                    "{} different, {} repaired, {} comparisons",
                    grouped(table.differences),
                    grouped(table.repaired),
                    grouped(table.compared)
                ),
                "leftOut" => "left out".to_owned(),
                "notCompared" => "not compared".to_owned(),
                _ => "not compared to its end".to_owned(),
            };
            let _ = writeln!(text, "{}: {said}{message}", table.name);
        }
        for found in &self.differences {
            let columns = if found.columns.is_empty() {
                String::new()
            } else {
                format!(" in {}", found.columns.join(", "))
            };
            let repaired = if found.repaired { "repaired" } else { "not repaired" };
            let _ = writeln!(text, "  {} {}: {}{columns}, {repaired}", found.table, found.key, found.kind);
        }
        if let Some(unseen) = &self.unseen {
            let _ = writeln!(text, "{unseen}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(id: u64, differences: u64) -> Asked {
        let before = VerificationFacts { differences, repaired: differences, ..VerificationFacts::default() };
        let left_out = if id == 0 { "it has no key".to_owned() } else { String::new() };
        let (name, target) = ("public.orders".into(), "orders".into());
        Asked { name, target, id, before, left_out, is_open: false }
    }

    fn now(request: u64, differences: u64, open: u64) -> VerificationFacts {
        let repaired = differences - open;
        VerificationFacts {
            request,
            differences,
            repaired,
            open,
            compared: 40,
            ..VerificationFacts::default()
        }
    }

    #[test]
    fn the_code_says_whether_rows_differed_and_what_differed_before_does_not_count() {
        for (asked, now, state, exit) in [
            (asked(7, 5), now(7, 5, 0), "equal", 0),
            (asked(7, 5), now(8, 5, 0), "equal", 0),
            (asked(7, 5), now(7, 6, 0), "different", 1),
            (asked(7, 5), now(6, 5, 0), "waiting", 0),
            // Found before, still there.
            (asked(7, 5), now(7, 5, 1), "different", 1),
            (asked(0, 5), now(6, 5, 0), "leftOut", 0),
            // Refused after it was read, or not read yet: readers have rows that nothing is said of.
            (Asked { is_open: true, ..asked(0, 5) }, now(6, 5, 0), "notCompared", 2),
        ] {
            let tables = vec![of_table(&asked, Some(&now))];
            let view = VerifyView { tables, ..VerifyView::default() };
            assert_eq!((view.tables[0].state.as_str(), view.exit()), (state, exit), "{now:?}");
            let unseen = VerifyView { unseen: Some("no end".into()), ..view };
            assert_eq!(unseen.exit(), if exit == DIFFERENT { DIFFERENT } else { UNSEEN });
        }
    }

    #[test]
    fn each_table_has_a_line_and_each_difference_its_key() {
        let view = VerifyView {
            tables: vec![
                of_table(&asked(7, 0), Some(&now(7, 0, 0))),
                of_table(&asked(7, 0), Some(&now(7, 2, 1))),
                of_table(&asked(0, 0), None),
            ],
            differences: vec![DifferenceView {
                table: "orders".into(),
                key: r#"{"id":"7"}"#.into(),
                kind: "columns".into(),
                columns: vec!["note".into()],
                repaired: true,
            }],
            unseen: Some("interrupted".into()),
            pipeline: "shop/shop".into(),
        };
        insta::assert_snapshot!(view.render(), @r#"
        public.orders: equal, 40 comparisons
        public.orders: 2 different, 1 repaired, 40 comparisons
        public.orders: left out: it has no key
          orders {"id":"7"}: columns in note, repaired
        interrupted
        "#);
    }
}
