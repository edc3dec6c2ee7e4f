//! Every record of three recordings of a real chain, decoded, folded by version and compared with what
//! PostgreSQL itself holds after the same statements.

mod layouts;
mod render;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tidemark_crds::sink_config::TableRoute;
use tidemark_crds::version::Version;
use tidemark_sink::batch::FlushCause;
use tidemark_sink::dead_letter::DeadLetter;
use tidemark_sink::plan::Encoding;
use tidemark_sink::table::{Table, Wanted};

use layouts::{TABLES, stages};

/// A row image as decoded: values in PostgreSQL's words, by column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Image {
    key: Vec<Option<String>>,
    version: Version,
    deleted: bool,
    values: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Default)]
struct Decoded {
    images: BTreeMap<&'static str, Vec<Image>>,
    fences: BTreeMap<&'static str, Version>,
    dead: Vec<DeadLetter>,
    records: usize,
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

/// Decodes a recording as the sink does; each time a table asks for a newer layout, it gets the next one, as
/// it would from the operator. `passes` reads the whole recording more than once: a replay.
fn decode(file: &str, encoding: Encoding, passes: usize) -> Decoded {
    let records = records(file);
    let mut decoded = Decoded { records: records.len(), ..Decoded::default() };
    for source in TABLES {
        let route = TableRoute {
            source: format!("public.{source}").parse().unwrap(),
            topic: String::new(),
            target: source.to_owned(),
        };
        let mut table = Table::new(route, 1000);
        let mut stages = stages(source).into_iter();
        let mut next = |table: &mut Table, wanted: Option<&Wanted>| {
            let layout = stages.next().unwrap_or_else(|| panic!("{source}: no layout for {wanted:?}"));
            table.use_layout(layout, encoding, Instant::now()).unwrap()
        };
        next(&mut table, None);
        for _ in 0..passes {
            for record in records.iter().filter(|r| r.topic.ends_with(&format!(".public.{source}"))) {
                let mut wanted = table.take(record, Instant::now());
                while let Some(field) = wanted {
                    wanted = next(&mut table, Some(&field));
                }
            }
        }
        while let Some((mut batch, _)) = table.next_batch(|_, _, _| Some(FlushCause::Drain)) {
            decoded.dead.append(&mut batch.dead);
            assert_eq!(batch.deferred(), 0, "{source}: all values are in the recording");
            if let Some(fence) = batch.fence() {
                decoded.fences.insert(source, fence);
            }
            let layout = &batch.plan().layout;
            for row in 0..batch.rows() {
                let (version, deleted) = batch.version_of(row);
                let value =
                    |place: usize| render::value(&layout.columns[place].r#type, &batch.columns[place], row);
                let key = batch.plan().key.iter().map(|place| value(*place)).collect();
                let named = |place: usize| (layout.columns[place].target.clone(), value(place));
                let values = (0..layout.columns.len()).map(named).collect();
                decoded.images.entry(source).or_default().push(Image { key, version, deleted, values });
            }
        }
    }
    decoded
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
fn compare(source: &str, rows: &[BTreeMap<String, Option<String>>]) {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let last = stages(source).pop().unwrap();
    let key: Vec<&str> = last.key_columns().iter().map(|column| column.target.as_str()).collect();
    let expected = expected[source].as_array().unwrap();
    // Of a generated key only that there is one can be compared.
    let wild = |row: &Value, name: &str| row[name] == "~";
    let key: Vec<&str> = key.into_iter().filter(|name| !wild(&expected[0], name)).collect();
    assert_eq!(rows.len(), expected.len(), "{source}: number of rows");
    for wanted in expected {
        let same_key = |row: &&BTreeMap<String, Option<String>>| {
            key.iter().all(|name| row[*name].as_deref() == wanted[*name].as_str())
        };
        let found: Vec<_> = rows.iter().filter(same_key).collect();
        assert_eq!(found.len(), 1, "{source}: rows with the key of {wanted}");
        for column in &last.columns {
            let name = column.target.as_str();
            // A row written before the column was has the value that PostgreSQL gives such rows.
            let ours = found[0].get(name).cloned().unwrap_or_else(|| column.missing.clone());
            if wild(wanted, name) {
                assert!(ours.is_some(), "{source}.{name} of {wanted}");
                continue;
            }
            let theirs = wanted[name].as_str().map(|text| render::canonical(column, text));
            // Debezium's binary form of a numeric without limits drops zeros at its end.
            let ours = ours.map(|text| render::canonical(column, &text));
            assert_eq!(ours, theirs, "{source}.{name} of {wanted}");
        }
    }
}

fn check(decoded: &mut Decoded) {
    assert_eq!(decoded.records, 267);
    assert_eq!(decoded.dead, []);
    for source in TABLES {
        let images = decoded.images.get_mut(source).unwrap();
        if source == "debezium_signal" {
            // The connector adds its own signals beside the one that the statements sent.
            images.retain(|image| image.key == [Some("inc-1".to_owned())]);
        }
        let fence = decoded.fences.get(source).copied();
        compare(source, &fold(images, fence));
        images.reverse();
        compare(source, &fold(images, fence));
        shuffle(images);
        let twice: Vec<Image> = images.iter().chain(images.iter()).cloned().collect();
        compare(source, &fold(&twice, fence));
    }
    assert!(decoded.fences.contains_key("audit_log"), "the truncate raised a fence");
}

/// An order that is neither the stream's nor its reverse, and the same each time.
fn shuffle(images: &mut [Image]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for place in (1..images.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        images.swap(place, usize::try_from(state % (place as u64 + 1)).unwrap());
    }
}

#[test]
fn events_with_schemas_become_postgresqls_rows_in_any_order() {
    check(&mut decode("schemas.jsonl", Encoding::Contract, 1));
}

#[test]
fn events_with_text_values_become_postgresqls_rows_in_any_order() {
    check(&mut decode("schemaless-strings.jsonl", Encoding::Contract, 1));
}

#[test]
fn events_of_debeziums_defaults_become_postgresqls_rows_in_any_order() {
    check(&mut decode("schemaless.jsonl", Encoding::DebeziumDefaults, 1));
}

#[test]
fn a_replay_under_the_last_layout_changes_nothing() {
    for file in ["schemas.jsonl", "schemaless-strings.jsonl"] {
        let mut decoded = decode(file, Encoding::Contract, 2);
        // A replay gives old rows of a renamed column no value: the layout does not keep the former name.
        let customers = decode(file, Encoding::Contract, 1).images.remove("customers").unwrap();
        decoded.images.insert("customers", customers);
        check(&mut decoded);
    }
}
