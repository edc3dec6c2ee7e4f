//! Every record of three recordings of a real chain, decoded, folded by version and compared with what
//! PostgreSQL itself holds after the same statements.

mod layouts;
mod render;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tidemark_crds::layout::{Begin, TableLayout};
use tidemark_crds::sink_config::TableRoute;
use tidemark_crds::version::Version;
use tidemark_sink::batch::Batch;
use tidemark_sink::dead_letter::DeadLetter;
use tidemark_sink::history::History;
use tidemark_sink::limits::FlushCause;
use tidemark_sink::native::Column;
use tidemark_sink::overlay::{Overlay, Stored};
use tidemark_sink::plan::Encoding;
use tidemark_sink::table::{Table, Taken};

use layouts::{Stage, TABLES, stages};

/// A row image as decoded: values in PostgreSQL's words, by stored column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    key: Vec<Option<String>>,
    version: Version,
    deleted: bool,
    values: BTreeMap<String, Option<String>>,
}

/// Version of a row, whether it is a tombstone, and its values by stored column, in RowBinary.
type Newest = (Version, bool, BTreeMap<String, Vec<u8>>);

/// A table as ClickHouse has it.
#[derive(Debug, Default)]
struct Store {
    /// Everything that was inserted.
    images: Vec<Image>,
    /// Newest row of each key.
    newest: HashMap<Vec<u8>, Newest>,
    fence: Option<Version>,
    dead: Vec<DeadLetter>,
}

/// One table of a recording: its records, and its history as the operator would have written it.
struct Source {
    name: &'static str,
    records: Vec<DeadLetter>,
    layouts: Vec<TableLayout>,
    encoding: Encoding,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Reads a recording; schemas that were taken out are put back.
fn records(file: &str) -> Vec<DeadLetter> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).peekable();
    let schemas = lines.next_if(|line| line.get("schemas").is_some());
    let whole = |record: &Value, part: &str| {
        let text = record[part].as_str()?;
        let schema = record.get(format!("{part}_schema")).and_then(Value::as_u64);
        Some(match (schema, &schemas) {
            (Some(number), Some(schemas)) => {
                let schema = schemas["schemas"][usize::try_from(number).unwrap()].as_str().unwrap();
                format!("{{\"schema\":{schema},\"payload\":{text}}}").into_bytes()
            }
            _ => text.as_bytes().to_vec(),
        })
    };
    lines
        .map(|record| DeadLetter {
            topic: record["topic"].as_str().unwrap().to_owned(),
            partition: i32::try_from(record["partition"].as_i64().unwrap()).unwrap(),
            offset: record["offset"].as_i64().unwrap(),
            key: whole(&record, "key"),
            payload: whole(&record, "value"),
            ..DeadLetter::default()
        })
        .collect()
}

/// The row of a record, and its position.
fn row_of(record: &DeadLetter) -> Option<(Value, u64)> {
    let value: Value = serde_json::from_slice(record.payload.as_deref()?).unwrap();
    let event = value.get("payload").unwrap_or(&value);
    let row = event.get("after").filter(|row| !row.is_null()).or(event.get("before"))?;
    Some((row.clone(), event["source"]["lsn"].as_u64()?))
}

/// Splits a recording. The operator saw each change of a table somewhere between two events of it, `blur` events to
/// either side.
fn sources(file: &str, encoding: Encoding, blur: usize) -> Vec<Source> {
    let all = records(file);
    assert_eq!(all.len(), 267);
    let source = |name: &'static str| {
        let suffix = format!(".public.{name}");
        let records: Vec<DeadLetter> = all.iter().filter(|r| r.topic.ends_with(&suffix)).cloned().collect();
        let rows: Vec<(Value, u64)> = records.iter().filter_map(row_of).collect();
        let streamed = rows.iter().position(|(_, lsn)| *lsn > rows[0].1).unwrap_or(rows.len());
        let layouts = stages(name).into_iter().map(|Stage { mut layout, is_first }| {
            if layout.version > 1 {
                let first = streamed + rows[streamed..].iter().position(|(row, _)| is_first(row)).unwrap();
                let after = rows[(first - 1 - blur).max(streamed - 1)].1;
                let by = rows[(first + blur).min(rows.len() - 1)].1;
                layout.from = Begin { epoch: 1, after, by };
            }
            layout
        });
        Source { name, layouts: layouts.collect(), records, encoding }
    };
    TABLES.map(source).into()
}

impl Source {
    fn table(&self) -> Table {
        let route = TableRoute {
            source: format!("public.{}", self.name).parse().unwrap(),
            topic: String::new(),
            target: self.name.to_owned(),
        };
        // The recorded connectors did not mark their records.
        let mut table = Table::new(route, 1000, Some(1));
        table.use_epoch(1);
        let history = History::new(self.layouts.clone(), None, self.encoding, None);
        assert!(table.use_history(Arc::new(history), Instant::now()));
        table
    }
}

impl Store {
    /// Takes records by a replica and writes what it gathered.
    fn apply<'a>(&mut self, table: &mut Table, records: impl IntoIterator<Item = &'a DeadLetter>) {
        for record in records {
            assert_eq!(table.take(record, Instant::now()), Taken::Applied, "{:?}", table.state());
        }
        while let Some((batch, _)) = table.next_batch(|_, _, _| Some(FlushCause::Drain)) {
            self.write(batch);
        }
    }

    /// Does with a batch what the writer does.
    fn write(&mut self, mut batch: Batch) {
        let deferred = batch.take_deferred();
        let resolution = {
            let overlay = Overlay::new(&batch, &deferred);
            let (keys, _) = overlay.wanted();
            let stored: HashMap<Vec<u8>, Stored> =
                keys.iter().filter_map(|key| Some((key.to_vec(), self.stored(&batch, key)?))).collect();
            overlay.resolve(&batch, &stored, |_| true)
        };
        assert!(resolution.at_source.is_empty(), "all values are in the recording");
        for row in resolution.rows {
            batch.append(&row.values, row.version, row.committed_at, row.place).unwrap();
        }
        self.dead.append(&mut batch.dead);
        self.fence = self.fence.max(batch.fence());
        let plan = Arc::clone(batch.plan());
        let layout = &plan.layout;
        for row in 0..batch.rows() {
            let (version, deleted) = batch.version_of(row);
            let value =
                |place: usize| render::value(&layout.columns[place].r#type, &batch.columns[place], row);
            let key = plan.key.iter().map(|place| value(*place)).collect();
            let named = |place: usize| (layout.columns[place].stored.clone(), value(place));
            let values = (0..layout.columns.len()).map(named).collect();
            self.images.push(Image { key, version, deleted, values });
            let place = batch.key_of(&plan.key, row);
            if self.newest.get(&place).is_none_or(|(there, ..)| version >= *there) {
                let columns = layout.columns.iter().map(|column| column.stored.clone());
                let bytes = columns.zip(batch.values_of(row)).collect();
                self.newest.insert(place, (version, deleted, bytes));
            }
        }
    }

    fn stored(&self, batch: &Batch, key: &[u8]) -> Option<Stored> {
        let (version, deleted, values) = self.newest.get(key)?;
        if *deleted {
            return Some(Stored::Deleted { version: *version });
        }
        let value = |column: &tidemark_crds::layout::ColumnLayout| {
            values.get(&column.stored).cloned().unwrap_or_else(|| {
                let mut bytes = Vec::new();
                let mut default = Column::new(&column.r#type).unwrap();
                default.push_default();
                default.row_binary(0, &mut bytes);
                bytes
            })
        };
        let values = batch.plan().layout.columns.iter().map(value).enumerate().collect();
        Some(Stored::Live { version: *version, values })
    }

    /// Compares with PostgreSQL's rows, whatever order the images came in.
    fn check(&mut self, source: &Source) {
        assert_eq!(self.dead, [], "{}", source.name);
        if source.name == "debezium_signal" {
            // The connector adds its own signals beside the one that the statements sent.
            self.images.retain(|image| image.key == [Some("inc-1".to_owned())]);
        }
        if source.name == "audit_log" {
            assert!(self.fence.is_some(), "the truncate raised a fence");
        }
        compare(source, &fold(&self.images, self.fence));
        self.images.reverse();
        compare(source, &fold(&self.images, self.fence));
        shuffle(&mut self.images, 1);
        let twice: Vec<Image> = self.images.iter().chain(&self.images).cloned().collect();
        compare(source, &fold(&twice, self.fence));
    }
}

/// The rows that remain when the greatest version of each key wins and fences hide what is older.
fn fold(images: &[Image], fence: Option<Version>) -> Vec<BTreeMap<String, Option<String>>> {
    let mut newest: BTreeMap<&[Option<String>], &Image> = BTreeMap::new();
    for image in images {
        let entry = newest.entry(&image.key).or_insert(image);
        if image.version >= entry.version {
            *entry = image;
        }
    }
    let visible = |image: &&&Image| !image.deleted && fence.is_none_or(|fence| image.version >= fence);
    newest.values().filter(visible).map(|image| image.values.clone()).collect()
}

/// Compares the rows of a table with PostgreSQL's.
fn compare(source: &Source, rows: &[BTreeMap<String, Option<String>>]) {
    let name = source.name;
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let last = source.layouts.last().unwrap();
    let key: Vec<_> = last.key_columns();
    let expected = expected[name].as_array().unwrap();
    // Of a generated key only that there is one can be compared.
    let wild = |row: &Value, name: &str| row[name] == "~";
    let key: Vec<_> = key.into_iter().filter(|column| !wild(&expected[0], &column.target)).collect();
    assert_eq!(rows.len(), expected.len(), "{name}: number of rows");
    for wanted in expected {
        let same_key = |row: &&BTreeMap<String, Option<String>>| {
            key.iter().all(|column| row[&column.stored].as_deref() == wanted[&column.target].as_str())
        };
        let found: Vec<_> = rows.iter().filter(same_key).collect();
        assert_eq!(found.len(), 1, "{name}: rows with the key of {wanted}");
        for column in &last.columns {
            // A row written before the column was has the value that PostgreSQL gives such rows.
            let ours = found[0].get(&column.stored).cloned().unwrap_or_else(|| column.missing.clone());
            let target = column.target.as_str();
            if wild(wanted, target) {
                assert!(ours.is_some(), "{name}.{target} of {wanted}");
                continue;
            }
            let theirs = wanted[target].as_str().map(|text| render::canonical(column, text));
            // Debezium's binary form of a numeric without limits drops zeros at its end.
            let ours = ours.map(|text| render::canonical(column, &text));
            assert_eq!(ours, theirs, "{name}.{target} of {wanted}");
        }
    }
}

/// A sequence of numbers that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit as u64)).unwrap()
    }
}

/// An order that is neither the stream's nor its reverse.
fn shuffle<T>(things: &mut [T], seed: u64) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ seed);
    for place in (1..things.len()).rev() {
        things.swap(place, numbers.below(place + 1));
    }
}

fn in_one_go(file: &str, encoding: Encoding, blur: usize) {
    for source in sources(file, encoding, blur) {
        let mut store = Store::default();
        store.apply(&mut source.table(), &source.records);
        store.check(&source);
    }
}

#[test]
fn events_with_schemas_become_postgresqls_rows_in_any_order() {
    in_one_go("schemas.jsonl", Encoding::Contract, 0);
}

#[test]
fn events_with_text_values_become_postgresqls_rows_in_any_order() {
    in_one_go("schemaless-strings.jsonl", Encoding::Contract, 0);
}

#[test]
fn events_of_debeziums_defaults_become_postgresqls_rows_in_any_order() {
    in_one_go("schemaless.jsonl", Encoding::DebeziumDefaults, 0);
}

#[test]
fn events_near_a_change_find_their_layout_by_their_shape() {
    for file in ["schemas.jsonl", "schemaless-strings.jsonl"] {
        in_one_go(file, Encoding::Contract, 3);
    }
}

/// However the records are cut over replicas that start, are killed and read again what was not acknowledged: one
/// table comes of them.
#[test]
fn any_cut_over_replicas_and_restarts_gives_one_table() {
    for (file, encoding) in [
        ("schemas.jsonl", Encoding::Contract),
        ("schemaless-strings.jsonl", Encoding::Contract),
        ("schemaless.jsonl", Encoding::DebeziumDefaults),
    ] {
        for seed in 1..12 {
            for source in sources(file, encoding, 0) {
                let mut numbers = Numbers(seed);
                let mut store = Store::default();
                let mut at = 0;
                while at < source.records.len() {
                    let end = source.records.len().min(at + 1 + numbers.below(12));
                    store.apply(&mut source.table(), &source.records[at..end]);
                    // The next owner begins at or before what this one wrote.
                    at = end - numbers.below(5).min(end - at - 1);
                }
                // And once more from the beginning, under the same layouts.
                store.apply(&mut source.table(), &source.records);
                store.check(&source);
            }
        }
    }
}

/// The history decides, not what a replica knew when it met the record: with the layouts of the end from the
/// beginning on, and with a new one only when a record asks for it, the same rows come.
#[test]
fn a_replica_that_learns_layouts_late_writes_the_same_rows() {
    for source in sources("schemaless-strings.jsonl", Encoding::Contract, 0) {
        let mut store = Store::default();
        let mut table = source.table();
        let mut known = 1;
        let history = |known: usize| {
            Arc::new(History::new(source.layouts[..known].to_vec(), None, source.encoding, None))
        };
        table.use_history(history(known), Instant::now());
        for record in &source.records {
            if table.take(record, Instant::now()) == Taken::Held {
                let wants = table.state().wants;
                assert!(wants > (0, 0), "{}: the operator is told where to look", source.name);
                while table.waits() {
                    known += 1;
                    assert!(known <= source.layouts.len(), "{}: {:?}", source.name, table.state());
                    table.use_history(history(known), Instant::now());
                }
            }
        }
        store.apply(&mut table, []);
        store.check(&source);
    }
}
