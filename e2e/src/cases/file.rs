//! The files of cases: `-- case NAME: today | right`, directives, statements, `-- later`, statements. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::outcome::Outcome;
use super::statements::split;

/// What is said to become of the tables of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Of every table that is not named; absent: equal, refused or held.
    pub all: Option<Outcome>,
    /// Of single tables.
    pub tables: BTreeMap<String, Outcome>,
}

impl Expect {
    /// What is said of one table; `None`: equal, refused or held.
    pub fn of(&self, table: &str) -> Option<Outcome> {
        self.tables.get(table).copied().or(self.all)
    }
}

/// One step of what happens while the table streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A statement of the shop's.
    Sql(String),
    /// Another entry of `spec.tables`, by its name.
    Spec(Value),
    /// Waits until the case's tables are equal.
    Settle,
}

/// Tables, and what is done to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Names, one for each table or one for all.
    pub names: Vec<String>,
    /// What is said to become of its tables.
    pub expect: Expect,
    /// Pipeline that the case asks for; absent: any.
    pub pipeline: Option<String>,
    /// Tables that are captured, with their schemas; empty: every table that the first part makes.
    pub tables: Vec<String>,
    /// Tables that only a later step puts into the spec.
    pub added: Vec<String>,
    /// Columns that are left out of the comparison because the product says that it leaves them out.
    pub without: Vec<String>,
    /// Least and greatest version of PostgreSQL.
    pub versions: (u32, u32),
    /// Entries of `spec.tables` that say more than a name.
    pub spec: Vec<Value>,
    /// Statements before the pipeline exists.
    pub before: Vec<String>,
    /// Statements that writers repeat before, during and after the second part; `{n}` is a number that counts up.
    pub load: Vec<String>,
    /// What happens while it streams.
    pub later: Vec<Step>,
}

/// Which part of a case a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Load,
    Later,
}

/// A case while its lines are read.
struct Reader {
    case: Case,
    part: Part,
    text: String,
}

/// Reads a file of cases.
pub fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut reader: Option<Reader> = None;
    for (index, line) in text.lines().enumerate() {
        let context = || format!("line {}: {line}", index + 1);
        if let Some(title) = line.strip_prefix("-- case ") {
            cases.extend(reader.take().map(Reader::end));
            reader = Some(Reader::begin(title).with_context(context)?);
        } else if let Some(reader) = &mut reader {
            reader.line(line).with_context(context)?;
        }
    }
    cases.extend(reader.take().map(Reader::end));
    ensure!(!cases.is_empty(), "there is no line `-- case NAME: today | right`");
    Ok(cases)
}

impl Reader {
    fn begin(title: &str) -> anyhow::Result<Self> {
        let (names, _) = title.split_once(':').context("`-- case NAME: today | right` has a colon")?;
        let names = names.split(',').map(|name| name.trim().to_owned()).collect();
        let case = Case { names, versions: (0, u32::MAX), ..Case::default() };
        Ok(Self { case, part: Part::Before, text: String::new() })
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let Some(comment) = line.strip_prefix("-- ") else {
            self.text.push_str(line);
            self.text.push('\n');
            return Ok(());
        };
        let (word, rest) = comment.trim().split_once(' ').unwrap_or((comment.trim(), ""));
        let words = || rest.split_whitespace().map(str::to_owned);
        match word {
            "later" => self.enter(Part::Later),
            "load" => self.enter(Part::Load),
            "settle" => {
                self.flush();
                self.case.later.push(Step::Settle);
            }
            "expect" => self.expect(rest)?,
            "pipeline" => self.case.pipeline = Some(rest.trim().to_owned()),
            "tables" => self.case.tables.extend(words()),
            "added" => self.case.added.extend(words()),
            "without" => self.case.without.extend(words()),
            "since" => self.case.versions.0 = rest.trim().parse()?,
            "until" => self.case.versions.1 = rest.trim().parse()?,
            "spec" => {
                let value: Value = serde_json::from_str(rest)?;
                ensure!(value["name"].is_string(), "an entry of spec.tables has a name");
                self.flush();
                if self.part == Part::Later {
                    self.case.later.push(Step::Spec(value));
                } else {
                    self.case.spec.push(value);
                }
            }
            // Anything else is said to people.
            _ => {}
        }
        Ok(())
    }

    fn expect(&mut self, rest: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words[..] {
            [outcome] => self.case.expect.all = Some(outcome.parse()?),
            [table, outcome] => {
                self.case.expect.tables.insert(table.to_owned(), outcome.parse()?);
            }
            _ => bail!("`-- expect [TABLE] equal|refused|held`"),
        }
        Ok(())
    }

    fn enter(&mut self, part: Part) {
        self.flush();
        self.part = part;
    }

    fn flush(&mut self) {
        let statements = split(&std::mem::take(&mut self.text));
        match self.part {
            Part::Before => self.case.before.extend(statements),
            Part::Load => self.case.load.extend(statements),
            Part::Later => self.case.later.extend(statements.into_iter().map(Step::Sql)),
        }
    }

    fn end(mut self) -> Case {
        self.flush();
        self.case
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_names_directives_and_the_statements_of_each_part() {
        let text = "prose\n-- case a, b: today | right\n-- expect equal\n-- expect b refused\n-- since 16\n\
                    -- spec {\"name\": \"public.a\", \"target\": \"x\"}\n\
                    CREATE TABLE a(id int); CREATE TABLE b(id int);\n\
                    -- load\nUPDATE a SET id = {n};\n-- later\n-- prose; again\nUPDATE a SET id = 2;\n-- settle\nDELETE FROM a;\n\
                    -- case c: d | e\nSELECT 1;\n";
        let cases = parse(text).unwrap();
        let [first, second] = &cases[..] else { panic!("{cases:?}") };
        assert_eq!(first.names, ["a", "b"]);
        assert_eq!(
            (first.expect.of("a"), first.expect.of("b")),
            (Some(Outcome::Equal), Some(Outcome::Refused))
        );
        assert_eq!(first.versions, (16, u32::MAX));
        assert_eq!(first.before, ["CREATE TABLE a(id int)", "CREATE TABLE b(id int)"]);
        assert_eq!(first.load, ["UPDATE a SET id = {n}"]);
        assert_eq!(
            first.later,
            [Step::Sql("UPDATE a SET id = 2".into()), Step::Settle, Step::Sql("DELETE FROM a".into())]
        );
        assert_eq!(first.spec[0]["target"], "x");
        assert_eq!((second.names[0].as_str(), second.expect.of("c")), ("c", None));
    }

    #[test]
    fn a_directive_that_cannot_be_read_is_an_error_with_its_line() {
        let error = parse("-- case a: b | c\n-- expect something\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: -- expect something"), "{error:#}");
        assert!(parse("SELECT 1;").is_err());
    }
}
