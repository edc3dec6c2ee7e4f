//! PostgreSQL: one table, sessions with transactions, the log, and what a snapshot shows.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidemark_sink::read::barrier::Seen;
use tidemark_sink::read::relation::Relation;

use super::op::{Ddl, How, Value, What};

/// PostgreSQL's text of a value; NULL is absent.
pub(super) type Text = Option<String>;
/// A row: values by `attnum`. One that was written before a column was added has none for it.
pub(super) type Row = BTreeMap<i16, Text>;

pub(super) const OID: u32 = 7;
/// Names that columns beside the key may have.
const NAMES: [&str; 4] = ["n", "doc", "x", "y"];
/// Pages among which rows move.
pub(super) const PAGES: u64 = 48;

/// A column of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) pg_type: &'static str,
    /// What rows from before it was added have.
    pub(super) missing: Text,
}

pub(super) type Catalogue = Rc<Vec<Column>>;

/// What an event says.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Insert(i64, Row),
    /// Key before, key after, row, and the columns whose value is out of line and did not change.
    Update(i64, i64, Row, BTreeSet<i16>),
    Delete(i64),
    Truncate,
    Message,
}

/// A change in the log, with the columns that its table had then.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) lsn: u64,
    pub(super) act: Act,
    pub(super) columns: Catalogue,
}

/// A transaction that is committed in the log.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) lsn: u64,
    pub(super) changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for its client, or a long statement of it runs.
    Open { busy: bool },
    /// Its commit record is written, and nobody sees it yet.
    Flushing,
    /// The same, for a synchronous standby does not answer.
    Standby,
}

#[derive(Debug)]
struct Transaction {
    xid: u64,
    changes: Vec<Change>,
    /// Rows that it has written, or all of the table if it holds the lock; `None`: deleted.
    own: BTreeMap<i64, Option<Row>>,
    catalogue: Catalogue,
    exclusive: bool,
    /// Whether it writes all rows anew.
    rewrites: bool,
    state: State,
}

#[derive(Debug)]
pub(super) struct Source {
    /// Position behind everything that is written.
    pub(super) lsn: u64,
    xid: u64,
    top: i16,
    written: u64,
    /// `pg_relation_filenode`.
    file: u32,
    catalogue: Catalogue,
    /// Rows that a snapshot shows, each with its page.
    rows: BTreeMap<i64, (u64, Row)>,
    sessions: [Option<Transaction>; 3],
    /// Committed transactions in the log's order.
    pub(super) log: Vec<Committed>,
    /// Every image of every key that was ever committed.
    images: BTreeMap<i64, Vec<Row>>,
}

impl Source {
    /// A table with rows that are in no log.
    pub(super) fn new() -> Self {
        let column =
            |attnum, name: &str, pg_type| Column { attnum, name: name.into(), pg_type, missing: None };
        let columns = vec![column(1, "id", "bigint"), column(2, "n", "bigint"), column(3, "doc", "text")];
        let mut source = Self {
            lsn: 1000,
            xid: 700,
            top: 3,
            written: 0,
            file: 1,
            catalogue: Rc::new(columns),
            rows: BTreeMap::new(),
            sessions: [None, None, None],
            log: Vec::new(),
            images: BTreeMap::new(),
        };
        for key in [1, 2] {
            let row: Row =
                [(1, Some(key.to_string())), (2, Some(key.to_string())), (3, Some(format!("L{key}")))].into();
            source.images.entry(key).or_default().push(row.clone());
            source.put(key, row);
        }
        source
    }

    fn put(&mut self, key: i64, row: Row) {
        // Each version of a row has another page, whatever the others have: so that a history can be made shorter.
        let page = self.rows.get(&key).map_or(7 * key.unsigned_abs(), |(page, _)| page + 17);
        self.rows.insert(key, (page % PAGES, row));
    }

    fn advance(&mut self) -> u64 {
        self.lsn += 10;
        self.lsn
    }

    /// Whether another session has a lock on the key, or on the table.
    fn is_locked(&self, session: usize, keys: &[i64]) -> bool {
        self.others(session)
            .any(|other| other.exclusive || keys.iter().any(|key| other.own.contains_key(key)))
    }

    fn others(&self, session: usize) -> impl Iterator<Item = &Transaction> {
        self.sessions
            .iter()
            .enumerate()
            .filter(move |(at, _)| *at != session)
            .filter_map(|(_, open)| open.as_ref())
    }

    /// The transaction of a session, begun where there is none; `None` while it commits.
    fn open(&mut self, session: usize) -> Option<&mut Transaction> {
        if self.sessions[session].is_none() {
            self.xid += 1;
            self.sessions[session] = Some(Transaction {
                xid: self.xid,
                changes: Vec::new(),
                own: BTreeMap::new(),
                catalogue: Rc::clone(&self.catalogue),
                exclusive: false,
                rewrites: false,
                state: State::Open { busy: session == 2 },
            });
        }
        self.sessions[session].as_mut().filter(|open| matches!(open.state, State::Open { .. }))
    }

    fn seen_by(&self, session: usize, key: i64) -> Option<Row> {
        let own = self.sessions[session].as_ref().and_then(|open| open.own.get(&key));
        own.cloned().unwrap_or_else(|| self.rows.get(&key).map(|(_, row)| row.clone()))
    }

    /// Writes a change, and the rows as the session has them from then on.
    fn note(&mut self, session: usize, act: Act, own: impl IntoIterator<Item = (i64, Option<Row>)>) {
        let lsn = self.advance();
        let Some(open) = self.sessions[session].as_mut() else { return };
        // An older transaction has the columns of now: nobody altered the table under it.
        open.changes.push(Change { lsn, act, columns: Rc::clone(&open.catalogue) });
        open.own.extend(own);
    }

    pub(super) fn write(&mut self, session: usize, key: i64, what: What) {
        let keys = if let What::Move(to) = what { vec![key, to.into()] } else { vec![key] };
        if self.is_locked(session, &keys) {
            return;
        }
        let now = Rc::clone(&self.catalogue);
        let Some(open) = self.open(session) else { return };
        if !open.exclusive {
            open.catalogue = now;
        }
        let columns = Rc::clone(&open.catalogue);
        let before = self.seen_by(session, key);
        match (what, before) {
            (What::Put(doc), None) => {
                let row = self.image(&columns, key, None, doc);
                self.note(session, Act::Insert(key, row.clone()), [(key, Some(row))]);
            }
            (What::Put(doc), Some(before)) => {
                let row = self.image(&columns, key, Some(&before), doc);
                let kept = out_of_line(&before, &row);
                self.note(session, Act::Update(key, key, row.clone(), kept), [(key, Some(row))]);
            }
            (What::Move(to), Some(before)) if self.seen_by(session, to.into()).is_none() => {
                let to = i64::from(to);
                let row = self.image(&columns, to, Some(&before), Value::Keep);
                let kept = out_of_line(&before, &row);
                self.note(session, Act::Update(key, to, row.clone(), kept), [(key, None), (to, Some(row))]);
            }
            (What::Delete, Some(_)) => self.note(session, Act::Delete(key), [(key, None)]),
            (What::Delete | What::Move(_), _) => {}
        }
    }

    /// A row with values that no other row has; texts stay where they are kept.
    fn image(&mut self, columns: &[Column], key: i64, before: Option<&Row>, doc: Value) -> Row {
        self.written += 1;
        let fresh = self.written;
        let value = |column: &Column| match (column.attnum, column.pg_type, doc) {
            (1, ..) => Some(key.to_string()),
            (3, _, Value::Keep) => before.and_then(|row| value_of(row, column)),
            (3, _, Value::Null) => None,
            (3, _, Value::Small) => Some(format!("s{fresh}")),
            (3, _, Value::Large) => Some(format!("L{fresh}")),
            (_, "text", _) => Some(format!("t{fresh}")),
            _ => Some(fresh.to_string()),
        };
        columns.iter().map(|column| (column.attnum, value(column))).collect()
    }

    pub(super) fn truncate(&mut self, session: usize) {
        if self.others(session).next().is_some() || self.open(session).is_none() {
            return;
        }
        self.lock(session);
        if let Some(open) = self.sessions[session].as_mut() {
            open.rewrites = true;
        }
        let keys: Vec<i64> =
            self.sessions[session].iter().flat_map(|open| open.own.keys().copied()).collect();
        self.note(session, Act::Truncate, keys.into_iter().map(|key| (key, None)));
    }

    /// Takes the whole table into a transaction that holds its lock.
    fn lock(&mut self, session: usize) {
        let rows = self.rows.clone();
        let catalogue = Rc::clone(&self.catalogue);
        let Some(open) = self.sessions[session].as_mut() else { return };
        if !open.exclusive {
            open.exclusive = true;
            open.catalogue = catalogue;
            for (key, (_, row)) in rows {
                open.own.entry(key).or_insert(Some(row));
            }
        }
    }

    pub(super) fn alter(&mut self, session: usize, ddl: Ddl) {
        if self.others(session).next().is_some() || self.open(session).is_none() {
            return;
        }
        self.lock(session);
        let Some(open) = self.sessions[session].as_mut() else { return };
        let mut columns = open.catalogue.to_vec();
        let free = NAMES.into_iter().find(|name| columns.iter().all(|column| column.name != *name));
        let others = (columns.len() - 1).max(1);
        let place = |number: u8| 1 + usize::from(number) % others;
        match (ddl, free) {
            (Ddl::Add(default), Some(name)) => {
                self.top += 1;
                let missing = default.then(|| "7".to_owned());
                columns.push(Column { attnum: self.top, name: name.into(), pg_type: "bigint", missing });
            }
            (Ddl::Drop(number), _) if columns.len() > 2 => drop(columns.remove(place(number))),
            (Ddl::Rename(number), Some(name)) if columns.len() > 1 => {
                columns[place(number)].name = name.into();
            }
            (Ddl::Swap, _) if columns.len() > 2 => {
                let name = std::mem::take(&mut columns[1].name);
                columns[1].name = std::mem::replace(&mut columns[2].name, name);
            }
            (Ddl::Retype, _) => {
                let Some(column) = columns.iter_mut().find(|column| column.attnum > 3 || column.attnum == 2)
                else {
                    return;
                };
                if column.pg_type == "bigint" {
                    open.rewrites = true;
                    column.pg_type = "text";
                    let old = Column { missing: column.missing.take(), ..column.clone() };
                    for row in open.own.values_mut().flatten() {
                        let value = value_of(row, &old).map(|text| format!("{text}!"));
                        row.insert(old.attnum, value);
                    }
                }
            }
            _ => return,
        }
        open.catalogue = Rc::new(columns);
        self.advance();
    }

    /// `VACUUM FULL`: the same rows on other pages.
    pub(super) fn vacuum(&mut self) {
        if self.is_quiet() {
            self.file += 1;
            for (key, (_, row)) in self.rows.clone() {
                self.put(key, row);
            }
        }
    }

    /// Writes the commit record; the transaction is seen at once, or later.
    pub(super) fn commit(&mut self, session: usize, how: How) {
        let Some(open) = &self.sessions[session] else { return };
        if !matches!(open.state, State::Open { .. }) {
            return;
        }
        let lsn = self.advance();
        let Some(open) = self.sessions[session].as_mut() else { return };
        let changes = std::mem::take(&mut open.changes);
        let images = changes.iter().filter_map(|change| match &change.act {
            Act::Insert(key, row) | Act::Update(_, key, row, _) => Some((*key, row.clone())),
            _ => None,
        });
        let rows = open.own.iter().filter_map(|(key, row)| Some((*key, row.clone()?)));
        for (key, row) in images.chain(rows) {
            self.images.entry(key).or_default().push(row);
        }
        // PostgreSQL 15 and later send no transaction in which nothing is.
        if !changes.is_empty() {
            self.log.push(Committed { lsn, changes });
        }
        open.state = if how == How::Standby { State::Standby } else { State::Flushing };
        if how == How::AtOnce {
            self.show(session);
        }
    }

    /// Others see a transaction that has committed.
    pub(super) fn show(&mut self, session: usize) {
        let Some(open) = self.sessions[session].take_if(|open| !matches!(open.state, State::Open { .. }))
        else {
            return;
        };
        if open.exclusive {
            self.catalogue = open.catalogue;
        }
        self.file += u32::from(open.rewrites);
        for (key, row) in open.own {
            match row {
                Some(row) if !open.rewrites && self.rows.get(&key).is_some_and(|(_, old)| *old == row) => {}
                Some(row) => self.put(key, row),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    pub(super) fn roll_back(&mut self, session: usize) {
        self.sessions[session].take_if(|open| matches!(open.state, State::Open { .. }));
    }

    /// No flush takes seconds.
    pub(super) fn seconds_pass(&mut self) {
        for session in 0..self.sessions.len() {
            if self.sessions[session].as_ref().is_some_and(|open| open.state == State::Flushing) {
                self.show(session);
            }
        }
    }

    /// Ends whatever is open.
    pub(super) fn rest(&mut self) {
        for session in 0..self.sessions.len() {
            self.commit(session, How::AtOnce);
            self.show(session);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.sessions.iter().all(Option::is_none)
    }

    /// Emits a logical message, in a transaction whose commit is [`Self::commit_message`].
    pub(super) fn message(&mut self) -> u64 {
        self.xid += 1;
        self.advance()
    }

    pub(super) fn commit_message(&mut self, at: u64) {
        let lsn = self.advance();
        let change = Change { lsn: at, act: Act::Message, columns: Rc::clone(&self.catalogue) };
        self.log.push(Committed { lsn, changes: vec![change] });
    }

    /// `pg_snapshot_xmax(pg_current_snapshot())`.
    pub(super) fn xmax(&self) -> u64 {
        self.xid + 1
    }

    /// What is open of the transactions below a bound.
    pub(super) fn open_below(&self, bound: u64) -> Seen {
        let all = || self.sessions.iter().flatten();
        let below = || all().filter(|open| open.xid < bound);
        let count = |number: usize| i64::try_from(number).unwrap();
        Seen {
            open: count(below().count()),
            idle: count(below().filter(|open| open.state == State::Open { busy: false }).count()),
            standby: all().any(|open| open.state == State::Standby),
        }
    }

    /// Whether a statement on the table would wait for somebody's lock.
    pub(super) fn is_altered(&self) -> bool {
        self.sessions.iter().flatten().any(|open| open.exclusive)
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(super) fn files(&self) -> BTreeMap<u32, u32> {
        [(OID, self.file)].into()
    }

    pub(super) fn relation(&self) -> Relation {
        let columns = self.catalogue.iter().map(|column| (column.attnum, column.name.clone()));
        Relation { oid: OID, partitioned: false, columns: columns.collect() }
    }

    /// Rows that a snapshot shows, by key, with their pages; each has all columns.
    pub(super) fn rows(&self) -> impl Iterator<Item = (i64, u64, Row)> + '_ {
        self.rows.iter().map(|(key, (page, row))| {
            let whole = self.catalogue.iter().map(|column| (column.attnum, value_of(row, column))).collect();
            (*key, *page, whole)
        })
    }

    pub(super) fn images(&self, key: i64) -> &[Row] {
        self.images.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// Value of a column, which a row from before it was added lacks.
pub(super) fn value_of(row: &Row, column: &Column) -> Text {
    row.get(&column.attnum).cloned().unwrap_or_else(|| column.missing.clone())
}

/// Columns whose value lies out of line and is the same in both rows.
fn out_of_line(before: &Row, after: &Row) -> BTreeSet<i16> {
    let large = |value: &Text| value.as_ref().is_some_and(|text| text.starts_with('L'));
    let same = |(attnum, value): &(&i16, &Text)| large(value) && before.get(*attnum) == Some(*value);
    after.iter().filter(same).map(|(attnum, _)| *attnum).collect()
}
