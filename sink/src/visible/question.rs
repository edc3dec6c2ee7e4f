//! Questions for a position: asked of the bookkeeping and of the source, until an answer or the end of the patience. I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_crds::sink_config::SinkConfig;
use tidemark_runtime::clickhouse::ClickHouse;
use tokio::sync::Mutex;

use super::facts::{Bookkeeping, Facts};
use super::lsn::Lsn;
use super::verdict::Verdict;
use crate::read::Source;

/// Pause between two looks for those who wait.
const LOOK: Duration = Duration::from_millis(100);
/// Deadline of a question to ClickHouse.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) lsn: Lsn,
    /// Table as the spec names it; absent: all.
    pub(super) table: Option<String>,
    pub(super) timeout: Duration,
    /// Whose log the position is of, where the asker knows.
    pub(super) server: Option<String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Everything up to the position can be read; up to which, at least.
    Visible(Lsn),
    /// Not yet; up to which it can.
    NotYet(Lsn),
    /// It cannot be known before this is mended.
    Unknown(String),
    /// There is no such table.
    NoTable,
}

/// The answer to many who ask at once: asked for again only for one who came later than it was begun.
#[derive(Debug)]
struct Shared<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Shared<T> {
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// An answer to a question that was begun at `after` or later, and when.
    async fn get(&self, after: Instant, ask: impl AsyncFnOnce() -> T) -> (Instant, T) {
        let mut last = self.0.lock().await;
        if let Some((began, answer)) = last.as_ref().filter(|(began, _)| *began >= after) {
            return (*began, answer.clone());
        }
        let began = Instant::now();
        let answer = ask().await;
        *last = Some((began, answer.clone()));
        (began, answer)
    }
}

/// Answers for one configuration.
#[derive(Debug)]
pub struct Asker {
    bookkeeping: Bookkeeping,
    source: Source,
    /// Name as the spec has it → state table.
    tables: BTreeMap<String, String>,
    server: Shared<Result<String, String>>,
    facts: Shared<Result<Arc<Facts>, String>>,
}

impl Asker {
    /// Asks through a client whose default database is the target; nothing is connected.
    pub fn new(config: &SinkConfig, clickhouse: &ClickHouse) -> Self {
        let tables = config.tables.iter().map(|table| (table.source.to_string(), table.target.clone()));
        Self {
            bookkeeping: Bookkeeping::new(&clickhouse.with_deadline(DEADLINE), &config.pipeline),
            source: Source::new(&config.postgres, &config.pipeline),
            tables: tables.collect(),
            server: Shared::new(),
            facts: Shared::new(),
        }
    }

    /// Answers as soon as it is visible, and when the patience ends.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        let tables: Vec<(&String, &String)> = match &question.table {
            None => self.tables.iter().collect(),
            Some(name) => match self.tables.get_key_value(name) {
                Some(table) => vec![table],
                None => return Answer::NoTable,
            },
        };
        let arrived = Instant::now();
        let mut after = arrived;
        loop {
            // Whose log it is must be known as of now: nothing of before says who answers there today.
            let (_, server) = self.server.get(arrived, async || self.server().await).await;
            let (began, answer) = match server {
                Ok(server) if question.server.as_ref().is_none_or(|asked| *asked == server) => {
                    let (began, facts) = self.facts.get(after, async || self.facts().await).await;
                    let answer = facts.map(|facts| judge(&facts, &tables, &server, question.lsn));
                    (began, answer.unwrap_or_else(Answer::Unknown))
                }
                Ok(server) => return Answer::Unknown(format!("server: the source is {server} now")),
                Err(why) => (Instant::now(), Answer::Unknown(why)),
            };
            let next = began + LOOK;
            if matches!(answer, Answer::Visible(_)) || next >= arrived + question.timeout {
                return answer;
            }
            tokio::time::sleep_until(next.into()).await;
            after = next;
        }
    }

    async fn server(&self) -> Result<String, String> {
        let log = self.source.log().await;
        log.map(|(_, log)| log.server).map_err(|error| format!("whose log it is cannot be known: {error}"))
    }

    async fn facts(&self) -> Result<Arc<Facts>, String> {
        let facts = self.bookkeeping.facts().await;
        facts.map(Arc::new).map_err(|error| format!("clickhouse: {error}"))
    }
}

/// Puts the tables' verdicts together.
fn judge(facts: &Facts, tables: &[(&String, &String)], server: &str, lsn: Lsn) -> Answer {
    let (mut least, mut causes) = (u64::MAX, Vec::new());
    for (name, target) in tables {
        let known = facts.tables.get(*target).cloned().unwrap_or_default();
        match known.judge(facts.epoch, server) {
            Verdict::Upto(upto) => least = least.min(upto),
            Verdict::Stuck(upto, cause) => {
                least = least.min(upto);
                if upto < lsn.0 {
                    causes.push(format!("{name}: {cause}"));
                }
            }
            Verdict::Unknown(cause) => {
                least = 0;
                causes.push(format!("{name}: {cause}"));
            }
        }
    }
    if !causes.is_empty() {
        Answer::Unknown(causes.join("; "))
    } else if lsn.0 <= least && !tables.is_empty() {
        Answer::Visible(Lsn(least))
    } else {
        Answer::NotYet(Lsn(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visible::{Claim, Read, TableFacts};

    fn table(lsn: u64) -> TableFacts {
        TableFacts {
            claims: vec![Claim { epoch: 1, server: "a".to_owned(), lsn, ends: BTreeMap::new() }],
            request: Some((7, 1)),
            read: Some(Read { request: 7, barrier: (1, 5), done: true }),
            ..TableFacts::default()
        }
    }

    #[test]
    fn all_tables_have_to_show_it_and_one_that_cannot_be_judged_is_named() {
        let names = ["public.a".to_owned(), "public.b".to_owned()];
        let targets = ["a".to_owned(), "b".to_owned()];
        let tables: Vec<(&String, &String)> = names.iter().zip(&targets).collect();
        let with = |a: TableFacts, b: TableFacts| Facts {
            epoch: 1,
            tables: [("a".to_owned(), a), ("b".to_owned(), b)].into(),
        };
        let both = |a, b, lsn| judge(&with(table(a), table(b)), &tables, "a", Lsn(lsn));
        assert_eq!(both(100, 90, 90), Answer::Visible(Lsn(90)));
        assert_eq!(both(100, 90, 91), Answer::NotYet(Lsn(90)));
        let of_a = judge(&with(table(100), table(90)), &tables[..1], "a", Lsn(91));
        assert_eq!(of_a, Answer::Visible(Lsn(100)));
        let unread = TableFacts { read: None, ..table(100) };
        let why = "public.b: it is being read at the source".to_owned();
        assert_eq!(judge(&with(table(100), unread), &tables, "a", Lsn(1)), Answer::Unknown(why));
        let held = |lsn| {
            let held = TableFacts { trouble: Some("held".to_owned()), ..table(50) };
            judge(&with(table(100), held), &tables, "a", Lsn(lsn))
        };
        assert_eq!(held(50), Answer::Visible(Lsn(50)));
        assert_eq!(held(51), Answer::Unknown("public.b: held".to_owned()));
        // One of which nothing is known, and a position that is of none.
        let nothing = judge(&Facts { epoch: 1, ..Facts::default() }, &tables, "a", Lsn(1));
        assert!(matches!(nothing, Answer::Unknown(_)), "{nothing:?}");
        let nothing = judge(&with(table(1), table(1)), &[], "a", Lsn(1));
        assert!(!matches!(nothing, Answer::Visible(_)), "{nothing:?}");
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_an_answer_that_is_no_older_than_the_question() {
        let shared = Shared::new();
        let begin = Instant::now();
        let (first, one) = shared.get(begin, async || 1).await;
        assert_eq!(shared.get(begin, async || 2).await, (first, one));
        let later = first + Duration::from_nanos(1);
        assert_eq!(shared.get(later, async || 3).await.1, 3);
    }
}
