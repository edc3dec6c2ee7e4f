//! ClickHouse: the state table, which keeps every row until it merges, fences, the ledger and what sinks write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tidemark_crds::layout::{ColumnLayout, TableLayout};
use tidemark_crds::ledger::{Confirmed, Kind, ReadRequest, SinkState, layout_key};
use tidemark_crds::version::Version;
use tidemark_sink::batch::Batch;
use tidemark_sink::board;
use tidemark_sink::offsets::Applied;
use tidemark_sink::read::claim::ReadState;

use super::mutant::Mutant;
use super::source::{Row, Text};

pub(super) const TARGET: &str = "t";

/// A row of the state table.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) version: Version,
    pub(super) deleted: bool,
    /// Values in RowBinary by the name of their column.
    values: BTreeMap<String, Vec<u8>>,
}

/// What an insert brings.
pub(super) type Block = Vec<(Vec<u8>, Image)>;

/// Row of the reads table.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) request: u64,
    pub(super) epoch: u16,
    pub(super) state: ReadState,
    pub(super) barrier: u64,
    pub(super) owner: usize,
    pub(super) beat: u64,
    pub(super) at_ms: i64,
    /// As the reads table has it.
    pub(super) place: String,
}

#[derive(Debug)]
pub(super) struct ClickHouse {
    mutant: Option<Mutant>,
    /// Rows by key, in the order of their inserts.
    rows: BTreeMap<Vec<u8>, Vec<Image>>,
    /// Inserts that are on their way, though nobody waits for them.
    late: Vec<Block>,
    pub(super) fence: Version,
    /// Columns that were made, with what rows have that were written without.
    columns: BTreeMap<String, Vec<u8>>,
    pub(super) layouts: Vec<TableLayout>,
    pub(super) confirmed: Option<Confirmed>,
    pub(super) epoch: u16,
    pub(super) request: Option<(u64, ReadRequest)>,
    pub(super) read: Option<Read>,
    /// Progress by partition.
    pub(super) progress: BTreeMap<i32, Applied>,
    pub(super) states: BTreeMap<usize, (SinkState, i64)>,
    /// Counts changes of what the board shows.
    pub(super) stamp: u64,
    /// Whether `_current` may show something else than when it was looked at.
    pub(super) changed: bool,
}

impl ClickHouse {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            rows: BTreeMap::new(),
            late: Vec::new(),
            fence: Version(0),
            columns: BTreeMap::new(),
            layouts: Vec::new(),
            confirmed: None,
            epoch: 1,
            request: None,
            read: None,
            progress: BTreeMap::new(),
            states: BTreeMap::new(),
            stamp: 0,
            changed: true,
        }
    }

    /// Makes a column that is not there yet.
    pub(super) fn add_column(&mut self, stored: &str, default: Vec<u8>) {
        self.columns.entry(stored.to_owned()).or_insert(default);
    }

    /// Rows of a batch as an insert has them.
    pub(super) fn block(&self, batch: &Batch, rows: Range<usize>) -> Block {
        let plan = batch.plan();
        let names = || plan.layout.columns.iter().map(|column| column.stored.clone());
        let row = |row| {
            let (mut version, deleted) = batch.version_of(row);
            if deleted && self.mutant == Some(Mutant::TombstoneWithoutVersion) {
                version = Version(0);
            }
            let values = names().zip(batch.values_of(row)).collect();
            (batch.key_of(&plan.key, row), Image { version, deleted, values })
        };
        rows.map(row).collect()
    }

    pub(super) fn insert(&mut self, block: Block) {
        self.changed = true;
        for (key, image) in block {
            self.rows.entry(key).or_default().push(image);
        }
    }

    pub(super) fn insert_later(&mut self, block: Block) {
        self.late.push(block);
    }

    pub(super) fn land(&mut self) {
        for block in std::mem::take(&mut self.late) {
            self.insert(block);
        }
    }

    /// Of a key's rows those go which a newer one replaces.
    pub(super) fn merge(&mut self) {
        for images in self.rows.values_mut() {
            let newest = newest(self.mutant, images).cloned();
            *images = newest.into_iter().collect();
        }
    }

    pub(super) fn raise_fence(&mut self, version: Version) {
        self.changed |= version > self.fence;
        self.fence = self.fence.max(version);
    }

    /// The newest row of a key.
    pub(super) fn newest(&self, key: &[u8]) -> Option<&Image> {
        newest(self.mutant, self.rows.get(key)?)
    }

    /// Value of a column of a row.
    pub(super) fn value(&self, image: &Image, stored: &str) -> Vec<u8> {
        let value = image.values.get(stored).or_else(|| self.columns.get(stored));
        value.cloned().unwrap_or_else(|| vec![1])
    }

    /// What `_current` shows, by key.
    pub(super) fn current(&self) -> BTreeMap<i64, Row> {
        let Some(layout) = self.layouts.last() else { return BTreeMap::new() };
        let shown = |(key, images): (&Vec<u8>, &Vec<Image>)| {
            let image = newest(self.mutant, images)?;
            if image.deleted || image.version < self.fence {
                return None;
            }
            let value = |stored: &str, text: bool| text_of(&self.value(image, stored), text);
            let columns = layout.columns.iter().map(|column| {
                let shown = if column.key.is_some() {
                    Some(key_of(key).to_string())
                } else {
                    value(&column.stored, column.pg_type == "text")
                };
                (column.attnum, shown)
            });
            Some((key_of(key), columns.collect()))
        };
        self.rows.iter().filter_map(shown).collect()
    }

    /// Columns that the shown row of a key lacks because a read brought it whose layout did not have them yet: what they
    /// got is in events behind the barrier.
    pub(super) fn unread(&self, key: i64) -> BTreeSet<i16> {
        let image = self.newest(&key.to_le_bytes()).filter(|image| image.version.lsn() == 0);
        let columns = self.layouts.last().map_or(&[][..], |layout| layout.columns.as_slice());
        let lacks = |column: &&ColumnLayout| {
            column.key.is_none() && image.is_some_and(|image| !image.values.contains_key(&column.stored))
        };
        columns.iter().filter(lacks).map(|column| column.attnum).collect()
    }

    /// Writes what is said of a read, unless a newer row is there.
    pub(super) fn answer(&mut self, read: Read) {
        if self.read.as_ref().is_none_or(|before| before.beat <= read.beat) {
            self.read = Some(read);
            self.stamp += 1;
        }
    }

    /// The rows that a look at the ledger finds.
    pub(super) fn board_rows(&self) -> Vec<board::Row> {
        let row = |kind: &str, key: &str, version, value: String| board::Row {
            kind: kind.to_owned(),
            key: key.to_owned(),
            version,
            value,
        };
        let mut rows: Vec<board::Row> = (self.layouts.iter())
            .map(|layout| {
                row(Kind::Layout.as_str(), &layout_key(TARGET, layout.version), layout.version, json(layout))
            })
            .collect();
        rows.push(row(Kind::Epoch.as_str(), "", 1, self.epoch.to_string()));
        if let Some(confirmed) = &self.confirmed {
            rows.push(row(Kind::Confirmed.as_str(), TARGET, 1, json(confirmed)));
        }
        if let Some((id, request)) = &self.request {
            rows.push(row(Kind::Read.as_str(), TARGET, *id, json(request)));
        }
        if let Some(read) = &self.read {
            let value = format!("{} {} {}", read.epoch, read.barrier, read.state.as_str());
            rows.push(row("read-state", TARGET, read.request, value));
        }
        rows
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// What `FINAL` leaves of a key: the greatest version, and of equal ones the one that came last.
fn newest(mutant: Option<Mutant>, images: &[Image]) -> Option<&Image> {
    if mutant == Some(Mutant::LastInsertWins) {
        return images.last();
    }
    images.iter().max_by_key(|image| image.version)
}

pub(super) fn key_of(key: &[u8]) -> i64 {
    i64::from_le_bytes(key.try_into().unwrap())
}

/// PostgreSQL's text of a nullable value in RowBinary.
fn text_of(value: &[u8], text: bool) -> Text {
    match value {
        [0, length, rest @ ..] if text => {
            assert_eq!(usize::from(*length), rest.len(), "a short text");
            Some(String::from_utf8(rest.to_vec()).unwrap())
        }
        [0, number @ ..] => Some(key_of(number).to_string()),
        _ => None,
    }
}
