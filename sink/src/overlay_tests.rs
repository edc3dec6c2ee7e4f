use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidemark_crds::layout::TableLayout;
use tidemark_crds::version::Phase;

use super::*;
use crate::plan::{Encoding, TablePlan};
use crate::testing::{column, layout};

fn docs() -> TableLayout {
    layout(
        "docs",
        vec![
            column("id", 1, "bigint", "Int64", Some(0)),
            column("doc", 2, "text", "String", None),
            column("note", 3, "text", "String", None),
        ],
    )
}

/// What happens to a row, at the source.
#[derive(Debug, Clone)]
enum Happens {
    /// New values of both columns.
    Insert,
    /// New values of these columns; the event lacks the others.
    Update(bool, bool),
    Delete,
    /// The key changes to this one; the event of the new row lacks these columns.
    Move(u8, bool, bool),
    /// All so far is written to the table.
    Write,
}

fn happens() -> impl Strategy<Value = (u8, Happens)> {
    let what = prop_oneof![
        3 => Just(Happens::Insert),
        6 => any::<(bool, bool)>().prop_map(|(doc, note)| Happens::Update(doc, note)),
        1 => Just(Happens::Delete),
        1 => (0_u8..4, any::<(bool, bool)>()).prop_map(|(to, (doc, note))| Happens::Move(to, doc, note)),
        2 => Just(Happens::Write),
    ];
    (0_u8..4, what)
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(value.len()).unwrap()];
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The table as ClickHouse keeps it: the greatest version of each key.
#[derive(Default)]
struct Stage {
    table: HashMap<Vec<u8>, Stored>,
    at_source: usize,
}

fn version(at: u64) -> Version {
    Version::new(1, Phase::Stream, at, at)
}

impl Stage {
    fn put(&mut self, key: Vec<u8>, row: Stored) {
        let version_of = |row: &Stored| match row {
            Stored::Live { version, .. } | Stored::Deleted { version } => *version,
        };
        match self.table.get(&key) {
            Some(there) if version_of(there) > version_of(&row) => {}
            _ => drop(self.table.insert(key, row)),
        }
    }

    /// Writes a batch as the writer does; what is only at the source is taken from there.
    fn write(&mut self, batch: &mut Batch, source: &BTreeMap<i64, [String; 2]>, now: u64) {
        let deferred = batch.take_deferred();
        let resolution = {
            let overlay = Overlay::new(batch, &deferred);
            let (keys, columns) = overlay.wanted();
            let stored = keys.iter().filter_map(|key| {
                let row = match self.table.get(*key)? {
                    Stored::Live { version, values } => {
                        let mut values = values.clone();
                        values.retain(|column, _| columns.contains(column));
                        Stored::Live { version: *version, values }
                    }
                    deleted @ Stored::Deleted { .. } => deleted.clone(),
                };
                Some((key.to_vec(), row))
            });
            overlay.resolve(batch, &stored.collect(), |_| true)
        };
        for row in resolution.rows {
            batch.append(&row.values, row.version, row.committed_at, row.place).unwrap();
        }
        for row in 0..batch.rows() {
            let (version, deleted) = batch.version_of(row);
            let values = batch.values_of(row).into_iter().enumerate().collect();
            let stored = if deleted { Stored::Deleted { version } } else { Stored::Live { version, values } };
            self.put(batch.key_of(&[0], row), stored);
        }
        for key in resolution.at_source {
            self.at_source += 1;
            let id = i64::from_le_bytes(key.as_slice().try_into().unwrap());
            let row = match source.get(&id) {
                Some([doc, note]) => Stored::Live {
                    version: version(now),
                    values: [key.clone(), text(doc), text(note)].into_iter().enumerate().collect(),
                },
                None => Stored::Deleted { version: version(now) },
            };
            self.put(key, row);
        }
        batch.clear();
    }
}

/// Puts an event into the batch as the row writer would.
fn put(batch: &mut Batch, id: i64, values: [Option<&str>; 2], version: Version, old: Option<i64>) {
    let place = Place::default();
    batch.columns[0].push_fixed(&id.to_le_bytes());
    let mut lacking = Vec::new();
    for (column, value) in (1..).zip(values) {
        if let Some(value) = value {
            batch.columns[column].push_text(value.as_bytes());
        } else {
            batch.columns[column].push_default();
            lacking.push(column);
        }
    }
    if lacking.is_empty() {
        return batch.end_row(version, false, 0, place);
    }
    batch.defer_row(Deferred {
        key: id.to_le_bytes().to_vec(),
        lacking,
        unstreamed: false,
        old_key: old.map(|old| old.to_le_bytes().to_vec()),
        values: vec![],
        version,
        committed_at: 0,
        place,
    });
}

fn delete(batch: &mut Batch, id: i64, version: Version) {
    batch.columns[0].push_fixed(&id.to_le_bytes());
    batch.columns[1].push_default();
    batch.columns[2].push_default();
    batch.end_row(version, true, 0, Place::default());
}

proptest! {
    /// However updates that lack values are cut into batches, the table ends as the source is.
    #[test]
    fn the_table_ends_as_the_source_is(events in prop::collection::vec(happens(), 1..60)) {
        let plan = Arc::new(TablePlan::new(Arc::new(docs()), Encoding::Contract).unwrap());
        let mut batch = Batch::new(plan).unwrap();
        let mut stage = Stage::default();
        let mut source: BTreeMap<i64, [String; 2]> = BTreeMap::new();
        let mut now = 0;
        for (id, what) in events {
            now += 10;
            let (id, fresh) = (i64::from(id), |column: &str| format!("{column}{now}"));
            let changed = |old: &[String; 2], doc: bool, note: bool| {
                [if doc { fresh("d") } else { old[0].clone() }, if note { fresh("n") } else { old[1].clone() }]
            };
            let shown = |new: &[String; 2], doc: bool, note: bool| {
                [doc.then(|| new[0].clone()), note.then(|| new[1].clone())]
            };
            match what {
                Happens::Insert => {
                    let new = [fresh("d"), fresh("n")];
                    put(&mut batch, id, [Some(&new[0]), Some(&new[1])], version(now), None);
                    source.insert(id, new);
                }
                Happens::Update(doc, note) => {
                    let Some(old) = source.get(&id).cloned() else { continue };
                    let new = changed(&old, doc, note);
                    let values = shown(&new, doc, note);
                    put(&mut batch, id, [values[0].as_deref(), values[1].as_deref()], version(now), None);
                    source.insert(id, new);
                }
                Happens::Delete => {
                    if source.remove(&id).is_some() {
                        delete(&mut batch, id, version(now));
                    }
                }
                Happens::Move(to, doc, note) => {
                    let to = i64::from(to);
                    if to == id || source.contains_key(&to) {
                        continue;
                    }
                    let Some(old) = source.remove(&id) else { continue };
                    let new = changed(&old, doc, note);
                    let values = shown(&new, doc, note);
                    delete(&mut batch, id, version(now));
                    put(&mut batch, to, [values[0].as_deref(), values[1].as_deref()], version(now), Some(id));
                    source.insert(to, new);
                }
                Happens::Write => stage.write(&mut batch, &source, now + 5),
            }
        }
        stage.write(&mut batch, &source, now + 5);
        for id in 0..4_i64 {
            let ours = match stage.table.get(id.to_le_bytes().as_slice()) {
                Some(Stored::Live { values, .. }) => Some([values[&1].clone(), values[&2].clone()]),
                _ => None,
            };
            let theirs = source.get(&id).map(|[doc, note]| [text(doc), text(note)]);
            prop_assert_eq!(ours, theirs, "key {}", id);
        }
    }
}

fn batch() -> Batch {
    Batch::new(Arc::new(TablePlan::new(Arc::new(docs()), Encoding::Contract).unwrap())).unwrap()
}

#[test]
fn of_three_updates_in_one_batch_the_last_has_the_document_of_the_second() {
    let mut batch = batch();
    put(&mut batch, 1, [None, Some("n1")], version(10), None);
    put(&mut batch, 1, [Some("new"), Some("n2")], version(20), None);
    put(&mut batch, 1, [None, Some("n3")], version(30), None);
    let deferred = batch.take_deferred();
    let overlay = Overlay::new(&batch, &deferred);
    assert!(overlay.wanted().0.is_empty(), "nothing is read");
    let resolution = overlay.resolve(&batch, &HashMap::new(), |_| true);
    assert!(resolution.at_source.is_empty());
    let [row] = resolution.rows.as_slice() else { panic!("one row: {resolution:?}") };
    assert_eq!((row.version, &row.values[1], &row.values[2]), (version(30), &text("new"), &text("n3")));
}

#[test]
fn rows_that_are_not_trusted_are_asked_for_at_the_source() {
    let mut batch = batch();
    put(&mut batch, 1, [None, Some("n1")], version(100), None);
    put(&mut batch, 2, [Some("d"), Some("n")], version(40), None);
    put(&mut batch, 2, [None, Some("n2")], version(110), None);
    let deferred = batch.take_deferred();
    let overlay = Overlay::new(&batch, &deferred);
    let (key, other) = (1_i64.to_le_bytes().to_vec(), 2_i64.to_le_bytes().to_vec());
    assert_eq!(overlay.wanted(), (vec![key.as_slice()], BTreeSet::from([1])));
    let values = BTreeMap::from([(1, text("old"))]);
    let stored = HashMap::from([(key.clone(), Stored::Live { version: version(50), values })]);
    let after = |floor: u64| move |row: Version| row > version(floor);
    assert_eq!(overlay.resolve(&batch, &stored, after(50)).at_source, [key, other.clone()]);
    let resolution = overlay.resolve(&batch, &stored, after(49));
    assert_eq!((resolution.at_source, resolution.rows.len()), (vec![other], 1));
}

#[test]
fn a_value_that_no_event_has_is_read_at_the_source() {
    let mut batch = batch();
    put(&mut batch, 1, [Some("d"), Some("n")], version(10), None);
    put(&mut batch, 1, [None, Some("n")], version(20), None);
    let mut deferred = batch.take_deferred();
    deferred[0].unstreamed = true;
    let overlay = Overlay::new(&batch, &deferred);
    assert!(overlay.wanted().0.is_empty());
    assert_eq!(overlay.resolve(&batch, &HashMap::new(), |_| true).at_source, [1_i64.to_le_bytes().to_vec()]);
}

#[test]
fn a_row_of_a_later_epoch_has_no_value_of_an_earlier_one() {
    let later = |lsn| Version::new(2, Phase::Stream, 0, lsn);
    let mut batch = batch();
    put(&mut batch, 1, [Some("old"), Some("n")], version(10), None);
    put(&mut batch, 1, [None, Some("n")], later(5), None);
    put(&mut batch, 2, [None, Some("n")], later(6), None);
    let deferred = batch.take_deferred();
    let keys: Vec<Vec<u8>> = [1_i64, 2].iter().map(|id| id.to_le_bytes().to_vec()).collect();
    let values = BTreeMap::from([(1, text("old"))]);
    let mut stored =
        HashMap::from([(keys[1].clone(), Stored::Live { version: version(20), values: values.clone() })]);
    let overlay = Overlay::new(&batch, &deferred);
    assert_eq!(overlay.resolve(&batch, &stored, |_| true).at_source, keys);
    stored.insert(keys[1].clone(), Stored::Live { version: later(1), values });
    let resolution = overlay.resolve(&batch, &stored, |_| true);
    assert_eq!((resolution.at_source, resolution.rows.len()), (vec![keys[0].clone()], 1));
}

#[test]
fn a_row_that_moved_has_nothing_of_a_truncated_one_under_its_new_key() {
    let mut batch = batch();
    put(&mut batch, 2, [Some("gone"), Some("n")], version(1), None);
    // A truncate, of which no row tells.
    put(&mut batch, 1, [Some("kept"), Some("n")], version(3), None);
    delete(&mut batch, 1, version(4));
    put(&mut batch, 2, [None, Some("n")], version(4), Some(1));
    let deferred = batch.take_deferred();
    let overlay = Overlay::new(&batch, &deferred);
    let resolution = overlay.resolve(&batch, &HashMap::new(), |_| true);
    assert_eq!(resolution.rows.len(), 1, "{resolution:?}");
    assert_eq!(resolution.rows[0].values[1], text("kept"));
}

#[test]
fn a_row_that_moved_has_the_values_of_the_last_row_under_its_old_key() {
    let mut batch = batch();
    put(&mut batch, 1, [Some("d1"), Some("n1")], version(10), None);
    put(&mut batch, 1, [Some("d2"), None], version(20), None);
    delete(&mut batch, 1, version(30));
    put(&mut batch, 2, [None, None], version(30), Some(1));
    put(&mut batch, 3, [Some("d3"), Some("n3")], version(35), None);
    delete(&mut batch, 3, version(40));
    put(&mut batch, 4, [None, Some("n4")], version(40), Some(3));
    let deferred = batch.take_deferred();
    let resolution = Overlay::new(&batch, &deferred).resolve(&batch, &HashMap::new(), |_| true);
    assert_eq!(resolution.at_source, [2_i64.to_le_bytes().to_vec()], "what it had last is not in the batch");
    let [row] = resolution.rows.as_slice() else { panic!("one row: {resolution:?}") };
    assert_eq!((&row.values[1], &row.values[2]), (&text("d3"), &text("n4")));
}
