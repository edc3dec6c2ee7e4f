//! Fuzzing of the decoders: whatever comes from a topic or from PostgreSQL is decoded or refused, and nothing else.
//!
//! A few seconds within the tests; `make fuzz MINUTES=60` goes on for an hour a decoder.

mod engine;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde_json::Value;
use tidemark_sink::decode::envelope::{SchemaMemo, parse};
use tidemark_sink::decode::json::{Cursor, Raw};

use engine::{Length, run};

/// Keys and values of the recordings, of the events with schemas only some: they are long.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut all = Vec::new();
    for file in ["schemaless.jsonl", "schemaless-strings.jsonl"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            all.extend(["key", "value"].iter().filter_map(|part| record[part].as_str()).map(|s| s.as_bytes().to_vec()));
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
fn json_that_is_valid_is_read_and_what_is_not_is_refused() {
    run("json", corpus(), &Length::asked(), |input| {
        let mut cursor = Cursor::new(input);
        let read = cursor.value().map(|raw| {
            if let Raw::String(text) = &raw {
                let own = text.unescape().ok().map(std::borrow::Cow::into_owned);
                let other = serde_json::from_slice::<String>(input).ok().map(String::into_bytes);
                assert!(other.is_none() || own == other, "a text is another");
            }
            std::mem::discriminant(&raw)
        });
        let whole = read.is_ok() && cursor.finish().is_ok();
        if serde_json::from_slice::<serde::de::IgnoredAny>(input).is_ok() {
            assert!(whole, "valid JSON is refused");
        }
        let refused = read.as_ref().err().map(|error| error.reason);
        kind(&(read.ok(), whole, refused, input.len().min(64)))
    });
}

#[test]
fn an_event_is_decoded_or_refused() {
    run("envelope", corpus(), &Length::asked(), |input| {
        let mut memo = SchemaMemo::default();
        match parse(input, &mut memo) {
            Ok(change) => {
                let fields = (change.before.is_some(), change.after.is_some());
                kind(&(fields, format!("{:?}", change.op)))
            }
            Err(error) => {
                let words: String = error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect();
                kind(&words)
            }
        }
    });
}
