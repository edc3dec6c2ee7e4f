//! Whether a table's `partitionBy` is safe, and its text for the DDL. Pure.
//!
//! ReplacingMergeTree replaces only within a partition: every version and every tombstone of a key must fall
//! into one. So the expression may read key columns alone, and must give few partitions.

use std::collections::BTreeMap;

use crate::layout::ColumnLayout;
use crate::quote;
use crate::types::ChType;

/// Most partitions that a state table may have.
pub const MAX_PARTITIONS: u64 = 50;

/// What a safe expression looks like, for messages.
const ADVICE: &str = "safe are intDiv(KEY, N), toYYYYMM(UUIDv7ToDateTime(KEY)), \
     toYYYYMM(ULIDStringToDateTime(KEY)), toYYYYMM(snowflakeIDToDateTime(KEY)) and toYYYYMM(KEY) of a date in \
     the key";

/// A partition expression that keeps all versions of a key together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionExpression {
    expression: Expression,
}

/// Why a partition expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It cannot be read.
    #[error("partitionBy {text:?} cannot be read at {at:?}; {ADVICE}")]
    Syntax {
        /// The expression.
        text: String,
        /// From where on it cannot be read.
        at: String,
    },
    /// It reads a column that is not in the key.
    #[error(
        "partitionBy reads {column}, which is not in the primary key ({keys}): a change of it would leave the \
         old row in another partition, where it is never replaced; {ADVICE}"
    )]
    NotInKey {
        /// The column.
        column: String,
        /// The key's columns.
        keys: String,
    },
    /// It calls something that is not known to give few partitions.
    #[error("partitionBy calls {function}, {why}; {ADVICE}")]
    Function {
        /// The function or operator.
        function: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Arguments do not fit the function.
    #[error("partitionBy calls {function} with arguments that it does not take here: {expected}")]
    Arguments {
        /// The function.
        function: String,
        /// What it takes.
        expected: &'static str,
    },
    /// One partition a key value.
    #[error("partitionBy is the bare column {column}, which is one partition a value; {ADVICE}")]
    BareColumn {
        /// The column.
        column: String,
    },
    /// It reads no column.
    #[error("partitionBy reads no key column and so partitions nothing: leave it out")]
    Constant,
    /// The key's present range gives too many partitions.
    #[error(
        "partitionBy gives {partitions} partitions over the key's range {lowest} to {highest}, more than \
         {MAX_PARTITIONS}: use a divisor of at least {divisor}"
    )]
    TooMany {
        /// Partitions of the present range.
        partitions: u64,
        /// Least key.
        lowest: i64,
        /// Greatest key.
        highest: i64,
        /// Least divisor that would do.
        divisor: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Column(String),
    Number(u64),
    Text(String),
    Call(String, Vec<Expression>),
    Tuple(Vec<Expression>),
}

/// Functions that cut a date or time into months or longer.
const CALENDAR: [&str; 6] =
    ["toYYYYMM", "toYear", "toStartOfYear", "toStartOfQuarter", "toStartOfMonth", "toRelativeMonthNum"];

/// Functions that read the time out of a key, and the type of key that they take.
const KEY_TIME: [&str; 3] = ["UUIDv7ToDateTime", "ULIDStringToDateTime", "snowflakeIDToDateTime"];

impl PartitionExpression {
    /// Judges an expression over the (target) columns of a table.
    pub fn check(text: &str, columns: &[ColumnLayout]) -> Result<Self, Unsafe> {
        let expression = Parser::read(text)?;
        let keys: BTreeMap<&str, &ChType> =
            columns.iter().filter(|c| c.key.is_some()).map(|c| (c.target.as_str(), &c.r#type)).collect();
        let mut read = Vec::new();
        expression.columns(&mut read);
        if let Some(column) = read.iter().find(|column| !keys.contains_key(**column)) {
            let keys = keys.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(Unsafe::NotInKey { column: (*column).to_owned(), keys });
        }
        let constant = read.is_empty();
        match &expression {
            Expression::Tuple(parts) => parts.iter().try_for_each(|part| judge(part, &keys))?,
            single => judge(single, &keys)?,
        }
        if constant { Err(Unsafe::Constant) } else { Ok(Self { expression }) }
    }

    /// Text for `PARTITION BY`, with every name quoted.
    pub fn sql(&self) -> String {
        self.expression.sql()
    }

    /// Refuses an expression that gives more than [`MAX_PARTITIONS`] over the present range of an integer key
    /// of one column; expressions of other shapes pass, since a range says nothing about them.
    pub fn check_range(&self, lowest: i64, highest: i64) -> Result<(), Unsafe> {
        let Expression::Call(name, arguments) = &self.expression else {
            return Ok(());
        };
        let ("intDiv", [Expression::Column(_), Expression::Number(divisor)]) =
            (name.as_str(), arguments.as_slice())
        else {
            return Ok(());
        };
        if highest < lowest {
            return Ok(());
        }
        let divisor = i128::from(*divisor);
        let partitions = i128::from(highest) / divisor - i128::from(lowest) / divisor + 1;
        let partitions = u64::try_from(partitions).unwrap_or(u64::MAX);
        if partitions <= MAX_PARTITIONS {
            return Ok(());
        }
        // One less than the limit: a range of that length can straddle one boundary more.
        let needed = highest.abs_diff(lowest).div_ceil(MAX_PARTITIONS - 1).max(1);
        Err(Unsafe::TooMany { partitions, lowest, highest, divisor: needed })
    }
}

fn judge(expression: &Expression, keys: &BTreeMap<&str, &ChType>) -> Result<(), Unsafe> {
    match expression {
        Expression::Column(name) => match keys.get(name.as_str()) {
            Some(ChType::Bool | ChType::LowCardinality(_)) => Ok(()),
            _ => Err(Unsafe::BareColumn { column: name.clone() }),
        },
        Expression::Number(_) | Expression::Text(_) => Err(Unsafe::Constant),
        Expression::Tuple(_) => {
            Err(Unsafe::Function { function: "tuple".into(), why: "which may stand outermost only" })
        }
        Expression::Call(name, arguments) => judge_call(name, arguments, keys),
    }
}

fn judge_call(name: &str, arguments: &[Expression], keys: &BTreeMap<&str, &ChType>) -> Result<(), Unsafe> {
    let wrong = |expected| Unsafe::Arguments { function: name.to_owned(), expected };
    let refused = |why| Unsafe::Function { function: name.to_owned(), why };
    let key_type = |column: &String| keys.get(column.as_str()).copied();
    match name {
        "intDiv" => match arguments {
            [Expression::Column(column), Expression::Number(1..)]
                if key_type(column).is_some_and(is_integer) =>
            {
                Ok(())
            }
            _ => Err(wrong("intDiv(INTEGER_KEY, N) with N of at least 1")),
        },
        "modulo" | "moduloLegacy" | "positiveModulo" | "%" | "mod" => {
            Err(refused("which spreads every insert over all partitions"))
        }
        "/" | "divide" => Err(refused("which is a floating-point division: use intDiv")),
        "now" | "today" | "rand" | "generateUUIDv4" => Err(refused("which differs from call to call")),
        _ if CALENDAR.contains(&name) => match arguments {
            [time] | [time, Expression::Text(_)] => judge_time(name, time, keys),
            _ => Err(wrong("a date or time of the key, and a time zone at most")),
        },
        _ if KEY_TIME.contains(&name) => {
            Err(refused("which is one partition a moment: put toYYYYMM around it"))
        }
        _ => Err(refused("which is not known to give one and few partitions a key")),
    }
}

fn judge_time(name: &str, time: &Expression, keys: &BTreeMap<&str, &ChType>) -> Result<(), Unsafe> {
    let wrong = |expected| Unsafe::Arguments { function: name.to_owned(), expected };
    match time {
        Expression::Column(column) => match keys.get(column.as_str()) {
            Some(ChType::Date32 | ChType::DateTime64 { .. }) => Ok(()),
            _ => Err(wrong("a key column of a date or timestamp type, or a time read out of the key")),
        },
        Expression::Call(reader, arguments) if KEY_TIME.contains(&reader.as_str()) => {
            let ([Expression::Column(column)]
            | [Expression::Column(column), Expression::Number(_) | Expression::Text(_)]) =
                arguments.as_slice()
            else {
                return Err(Unsafe::Arguments {
                    function: reader.clone(),
                    expected: "one key column, and an epoch or time zone at most",
                });
            };
            let fits = matches!(
                (reader.as_str(), keys.get(column.as_str())),
                ("UUIDv7ToDateTime", Some(ChType::Uuid))
                    | ("ULIDStringToDateTime", Some(ChType::String))
                    | ("snowflakeIDToDateTime", Some(ChType::UInt64 | ChType::Int64))
            );
            if fits {
                Ok(())
            } else {
                Err(wrong("UUIDv7 of a uuid, ULID of a text, snowflake of a bigint key"))
            }
        }
        _ => Err(wrong("a date or time column of the key, or a time read out of it")),
    }
}

fn is_integer(r#type: &ChType) -> bool {
    matches!(
        r#type,
        ChType::Int16 | ChType::Int32 | ChType::Int64 | ChType::UInt8 | ChType::UInt32 | ChType::UInt64
    )
}

impl Expression {
    fn columns<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Column(name) => into.push(name),
            Self::Number(_) | Self::Text(_) => {}
            Self::Call(_, parts) | Self::Tuple(parts) => parts.iter().for_each(|part| part.columns(into)),
        }
    }

    fn sql(&self) -> String {
        let list = |parts: &[Self]| parts.iter().map(Self::sql).collect::<Vec<_>>().join(", ");
        match self {
            Self::Column(name) => quote::ident(name),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => quote::literal(text),
            // Bigint columns are signed, and ClickHouse reads snowflakes from UInt64 alone.
            Self::Call(name, parts) if name == "snowflakeIDToDateTime" => match parts.split_first() {
                Some((key, [])) => format!("{name}(toUInt64({}))", key.sql()),
                Some((key, rest)) => format!("{name}(toUInt64({}), {})", key.sql(), list(rest)),
                None => format!("{name}()"),
            },
            Self::Call(name, parts) => format!("{name}({})", list(parts)),
            Self::Tuple(parts) => format!("({})", list(parts)),
        }
    }
}

/// Reads calls, names, numbers and tuples: all that a safe expression needs.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn read(text: &'a str) -> Result<Expression, Unsafe> {
        let mut parser = Self { text, rest: text.trim() };
        let expression = parser.expression(0)?;
        match parser.rest.chars().next() {
            None => Ok(expression),
            Some('%') => Err(Unsafe::Function {
                function: "%".into(),
                why: "which spreads every insert over all partitions",
            }),
            Some('/') => Err(Unsafe::Function {
                function: "/".into(),
                why: "which is a floating-point division: use intDiv",
            }),
            Some(_) => Err(parser.syntax()),
        }
    }

    fn syntax(&self) -> Unsafe {
        Unsafe::Syntax { text: self.text.to_owned(), at: self.rest.chars().take(20).collect() }
    }

    fn expression(&mut self, depth: u8) -> Result<Expression, Unsafe> {
        if depth > 4 {
            return Err(self.syntax());
        }
        match self.rest.chars().next() {
            Some('(') => {
                let mut parts = self.list(depth)?;
                Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Tuple(parts) })
            }
            Some(quote @ ('`' | '\'')) => {
                let text = self.quoted(quote)?;
                Ok(if quote == '`' { Expression::Column(text) } else { Expression::Text(text) })
            }
            Some(c) if c.is_ascii_digit() => {
                let digits = self.take_while(|c| c.is_ascii_digit());
                digits.parse().map(Expression::Number).map_err(|_| self.syntax())
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
                if self.rest.starts_with('(') {
                    Ok(Expression::Call(name, self.list(depth)?))
                } else {
                    Ok(Expression::Column(name))
                }
            }
            _ => Err(self.syntax()),
        }
    }

    fn list(&mut self, depth: u8) -> Result<Vec<Expression>, Unsafe> {
        let mut parts = Vec::new();
        self.expect('(')?;
        if self.rest.starts_with(')') {
            self.expect(')')?;
            return Ok(parts);
        }
        loop {
            parts.push(self.expression(depth + 1)?);
            if self.rest.starts_with(',') {
                self.expect(',')?;
            } else {
                self.expect(')')?;
                return Ok(parts);
            }
        }
    }

    fn expect(&mut self, character: char) -> Result<(), Unsafe> {
        self.rest = self.rest.strip_prefix(character).ok_or_else(|| self.syntax())?.trim_start();
        Ok(())
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        taken
    }

    fn quoted(&mut self, quote: char) -> Result<String, Unsafe> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(at, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends.then_some(at + 1)
        });
        let (text, rest) = self.rest.split_at(end.ok_or_else(|| self.syntax())?);
        let text = quote::unquote(text).ok_or_else(|| self.syntax())?;
        self.rest = rest.trim_start();
        Ok(text)
    }
}
