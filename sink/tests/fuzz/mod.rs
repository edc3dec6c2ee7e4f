//! Fuzzing of the decoders: whatever comes from a topic or from PostgreSQL is decoded or refused, and nothing else.
//!
//! A few seconds within the tests; `make fuzz MINUTES=60` goes on for an hour a decoder.

mod engine;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tidemark_crds::layout::{NullAs, OutOfRange, TableLayout};
use tidemark_crds::mapping::{PgColumn, TypeKind, map_columns};
use tidemark_crds::pg_types::TABLE;
use tidemark_sink::decode::connect_schema::Hint;
use tidemark_sink::decode::envelope::{Decoder, Op};
use tidemark_sink::decode::json::{Cursor, Raw};
use tidemark_sink::native::Column;
use tidemark_sink::plan::{Encoding, TablePlan};
use tidemark_sink::value::{Pushed, ValueError, push, push_postgres_text, push_settled};

use engine::{Length, run};

/// Keys and values of the recordings without schemas: those with schemas are the same with a long beginning.
fn events() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut all = Vec::new();
    for file in ["schemaless.jsonl", "schemaless-strings.jsonl"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let parts = ["key", "value"].iter().filter_map(|part| record[part].as_str());
            all.extend(parts.map(|text| text.as_bytes().to_vec()));
        }
    }
    assert!(all.len() > 500, "the recordings have {} keys and values", all.len());
    all
}

fn kind(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn json_that_is_valid_is_read_as_it_is() {
    run("json", events(), &Length::asked(), |input| {
        let mut cursor = Cursor::new(input);
        let read = cursor.value();
        if let Ok(Raw::Text(text)) = &read {
            let own = text.unescape().ok().map(std::borrow::Cow::into_owned);
            let other = serde_json::from_slice::<String>(input).ok().map(String::into_bytes);
            assert!(other.is_none() || own == other, "a text is another");
        }
        let whole = read.is_ok() && cursor.finish().is_ok();
        if serde_json::from_slice::<Value>(input).is_ok() {
            assert!(whole, "valid JSON is refused");
        }
        let refused = read.as_ref().err().map(|error| error.reason);
        kind(&(read.as_ref().ok().map(std::mem::discriminant), whole, refused, input.len().min(64)))
    });
}

#[test]
fn an_event_is_decoded_or_refused() {
    // One decoder, as a table has: it learns from each record, and must not be misled by the one before.
    let mut learned = Decoder::default();
    run("envelope", events(), &Length::asked(), |input| {
        let mut fresh = Decoder::default();
        let (first, again) = (fresh.read(input, 1), learned.read(input, 1));
        assert_eq!(first.is_ok(), again.is_ok(), "what was learned decides whether a record is one");
        match (&first, &again) {
            (Ok(Some(change)), Ok(Some(_))) => {
                // Others have no row after the change, and leave that of the record before.
                if matches!(change.op, Op::Insert | Op::Update) {
                    assert_eq!(fresh.after.names().ok(), learned.after.names().ok());
                    assert_eq!(fresh.after.values(), learned.after.values());
                }
                if let Some(place) = &change.before {
                    let read = fresh.read_before(input, place);
                    assert_eq!(read, learned.read_before(input, place));
                    assert_eq!(fresh.before.values(), learned.before.values());
                }
                kind(&(format!("{:?}", change.op), change.before.is_some(), fresh.after.values().len()))
            }
            (Ok(_), Ok(_)) => kind(&"tombstone"),
            (Err(error), _) => {
                let words: String = error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect();
                kind(&words)
            }
            _ => unreachable!("both are read or refused"),
        }
    });
}

/// A table with a column of each type, of arrays of each, each with and without NULL.
fn plan() -> TablePlan {
    let names = TABLE.iter().flat_map(|row| row.names).map(|name| (*name).to_owned());
    let modified = [
        "numeric(10,2)",
        "numeric(76,10)",
        "character varying(5)",
        "character(3)",
        "bit(5)",
        "timestamp(0) without time zone",
    ];
    let scalars: Vec<String> = names.chain(modified.map(str::to_owned)).collect();
    let arrays: Vec<String> = scalars.iter().map(|name| format!("{name}[]")).collect();
    let key = "integer".to_owned();
    let column = |(number, (name, nullable)): (i16, (&String, bool))| PgColumn {
        name: format!("c{number}"),
        attnum: number,
        type_name: name.clone(),
        kind: TypeKind::Base,
        nullable,
        key: (number == 1).then_some(0),
        deterministic: true,
        missing: None,
        null_as: NullAs::Null,
        dimensions: 0,
        domain: false,
        generated: false,
    };
    let types = scalars.iter().chain(&arrays).flat_map(|name| [(name, false), (name, true)]);
    let source: Vec<PgColumn> = (1..).zip(std::iter::once((&key, false)).chain(types)).map(column).collect();
    let mapped = map_columns(&source, &[]).unwrap();
    let mut columns = mapped.columns;
    for (column, policy) in
        columns.iter_mut().zip([OutOfRange::Clamp, OutOfRange::DeadLetter].into_iter().cycle())
    {
        if column.out_of_range != OutOfRange::Null {
            column.out_of_range = policy;
        }
    }
    let layout = TableLayout {
        version: 1,
        source: "public.t".parse().unwrap(),
        oid: 1,
        target: "t".into(),
        from: tidemark_crds::layout::Begin::default(),
        columns,
        left_out: Vec::new(),
        full_before: false,
        partition_by: None,
        storage: tidemark_crds::layout::Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
    };
    TablePlan::new(Arc::new(layout), Encoding::Contract).unwrap()
}

/// Puts a value into the column that the first two bytes choose, and checks the column before and after.
fn pushed(
    plan: &TablePlan,
    input: &[u8],
    push: impl Fn(&mut Column, usize, &[u8]) -> Option<Result<Pushed, ValueError>>,
) -> u64 {
    let Some((chosen, value)) = input.split_first_chunk::<2>() else { return 0 };
    let place = usize::from(u16::from_le_bytes(*chosen)) % plan.columns.len();
    let mut column = Column::new(&plan.layout.columns[place].r#type).unwrap();
    column.push_default();
    let Some(result) = push(&mut column, place, value) else { return 1 };
    if result.is_ok() {
        assert_eq!(column.len(), 2, "a value is one row");
    } else {
        column.truncate(1);
    }
    let rows = column.len();
    let mut bytes = Vec::new();
    (0..rows).for_each(|row| column.row_binary(row, &mut bytes));
    let mut copy = Column::new(&plan.layout.columns[place].r#type).unwrap();
    let mut rest = &bytes[..];
    for _ in 0..rows {
        copy.push_row_binary(&mut rest).unwrap();
    }
    assert!(rest.is_empty(), "what a row was written as is not what it is read as");
    let mut again = Vec::new();
    (0..rows).for_each(|row| copy.row_binary(row, &mut again));
    assert_eq!(bytes, again);
    kind(&(place, format!("{result:?}").chars().filter(|c| !c.is_ascii_digit()).collect::<String>()))
}

/// Every value of every event behind a choice of column, so that each type meets what is meant for another.
fn values(columns: usize) -> Vec<Vec<u8>> {
    let mut texts: Vec<String> = [
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "\"NaN\"",
        "\"abc\"",
        "\"1\"",
        "[1,null]",
        "[\"a\",null]",
        "[]",
        "\"AQI=\"",
        "{\"scale\":2,\"value\":\"AQ==\"}",
        "\"2026-01-01T00:00:00.000001Z\"",
        "\"P1Y2M3DT4H5M6.7S\"",
        "\"(1,2)\"",
        "\"{\\\"a\\\":\\\"b\\\"}\"",
        "{\"x\":1.0,\"y\":2.0,\"wkb\":\"AQ==\",\"srid\":null}",
        "20454",
        "1767225600000000",
    ]
    .map(str::to_owned)
    .to_vec();
    for event in events() {
        let Ok(Value::Object(event)) = serde_json::from_slice(&event) else { continue };
        if let Some(Value::Object(row)) = event.get("after") {
            texts.extend(row.values().map(Value::to_string));
        }
    }
    texts.sort();
    texts.dedup();
    behind_a_choice(texts.iter().map(String::as_bytes), columns)
}

fn behind_a_choice<'a>(texts: impl Iterator<Item = &'a [u8]>, columns: usize) -> Vec<Vec<u8>> {
    let choice = |number: usize| u16::try_from(number % columns).unwrap().to_le_bytes();
    // Primes apart, so that a few thousand values meet all columns.
    texts.enumerate().map(|(number, text)| [&choice(number * 31)[..], text].concat()).collect()
}

#[test]
fn a_value_of_an_event_becomes_one_row_or_none() {
    let plan = plan();
    for settled in [false, true] {
        run("values", values(plan.columns.len()), &Length::asked(), |input| {
            pushed(&plan, input, |column, place, text| {
                std::str::from_utf8(text).ok()?;
                let raw = Cursor::new(text).value().ok()?;
                let (plan, hint) = (&plan.columns[place], Hint::default());
                let push = if settled { push_settled } else { push };
                Some(push(column, plan, raw, hint, Encoding::Contract))
            })
        });
    }
}

#[test]
fn a_text_of_postgresql_becomes_one_row_or_none() {
    let plan = plan();
    let texts = [
        "t",
        "f",
        "0",
        "-1",
        "9223372036854775807",
        "NaN",
        "-Infinity",
        "1.50",
        "abc",
        "",
        "{}",
        "{1,NULL}",
        "{a,\"b,c\",NULL,\"\\\"\"}",
        "{{1,2},{3,4}}",
        "[0:1]={1,2}",
        "\\x00ff",
        "2026-01-01",
        "0044-03-15 BC",
        "infinity",
        "2026-01-01 00:00:00.000001+00",
        "294276-12-31 23:59:59+00",
        "24:00:00",
        "1 year 2 mons -3 days 04:05:06.7",
        "00000000-0000-0000-0000-000000000000",
        "(1.5,-2)",
        "<(0,0),1>",
        "\"a\"=>\"1\", \"b\"=>NULL",
        "10110",
        "16/B374D848",
        "[1,5)",
        "{[1,3),[7,9)}",
        "-92233720368547758.08",
        "$1.00",
        "[1,2,3]",
    ];
    run(
        "postgres text",
        behind_a_choice(texts.iter().map(|text| text.as_bytes()), 7),
        &Length::asked(),
        |input| {
            pushed(&plan, input, |column, place, text| {
                Some(push_postgres_text(column, &plan.columns[place], text))
            })
        },
    );
}
