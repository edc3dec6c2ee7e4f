//! Debezium's envelope of a PostgreSQL change, with and without its Connect schema, read once. Pure.

use std::sync::Arc;

use tidemark_crds::version::Version;

use super::connect_schema::ConnectSchema;
use super::fields::Fields;
use super::json::{Cursor, JsonError, Raw};
use super::source::{Source, Template};

/// What happened to a row or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A row was inserted (`c`) or read by a snapshot (`r`).
    Insert,
    /// A row was updated (`u`).
    Update,
    /// A row was deleted (`d`).
    Delete,
    /// All rows of the table were removed at once (`t`).
    Truncate,
    /// A logical message that concerns no table (`m`).
    Message,
}

/// One change of one table; its rows are in the [`Decoder`].
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// Where the record has the row before; it is complete only as far as the replica identity goes.
    pub before: Option<std::ops::Range<usize>>,
    /// What decides which of two images of one key is the newer one.
    pub version: Version,
    /// Position in the write-ahead log: its own, or that of the commit before it.
    pub position: u64,
    /// Commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: i64,
    /// Whether the row was read by a snapshot of any kind.
    pub snapshot: bool,
    /// What the record's schema says about the values, if it has one.
    pub schema: Option<Arc<ConnectSchema>>,
}

/// Why a record is not a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The value is not JSON.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// The value is not UTF-8.
    #[error("the value is not valid utf-8 at byte {0}")]
    Utf8(usize),
    /// The value is JSON, but not Debezium's envelope.
    #[error("not a debezium envelope: {0}; the connector must not unwrap events")]
    Shape(&'static str),
}

/// Reads the records of one table, and keeps the rows of the last one.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Fields of the row after the change.
    pub after: Fields,
    /// Fields of the row before, once [`read_before`](Self::read_before) was asked for them.
    pub before: Fields,
    template: Template,
    /// The schema of the last record and all text in front of its payload: the next one nearly always repeats it.
    prefix: Vec<u8>,
    schema: Option<Arc<ConnectSchema>>,
}

#[derive(Debug, Default)]
struct Parts {
    op: Option<Op>,
    before: Option<std::ops::Range<usize>>,
    after: bool,
    source: Option<Source>,
    schema: Option<Arc<ConnectSchema>>,
    tombstone: bool,
    /// Whether all is known that counts: what follows is not looked at.
    complete: bool,
}

impl Decoder {
    /// Reads the value of a record, `None` for a tombstone; `epoch` comes from the record's header.
    pub fn read(&mut self, record: &[u8], epoch: u16) -> Result<Option<Change>, EnvelopeError> {
        std::str::from_utf8(record).map_err(|error| EnvelopeError::Utf8(error.valid_up_to()))?;
        let mut cursor = Cursor::new(record);
        let mut parts = Parts::default();
        let repeated = self.schema.is_some() && cursor.take_exact(&self.prefix);
        if repeated {
            parts.schema.clone_from(&self.schema);
        } else {
            cursor.expect(b'{', "expected an object")?;
        }
        self.members(&mut cursor, !repeated, record, &mut parts, 0)?;
        if !parts.complete {
            cursor.finish()?;
        }
        if parts.tombstone { Ok(None) } else { parts.change(epoch).map(Some) }
    }

    /// Reads the fields of the row before the last change.
    pub fn read_before(&mut self, record: &[u8], place: &std::ops::Range<usize>) -> Result<(), JsonError> {
        // The cursor goes over the whole record, so that places are those in the record.
        let mut cursor = Cursor::at(&record[..place.end], place.start);
        self.before.scan(&mut cursor)
    }

    fn members(
        &mut self,
        cursor: &mut Cursor<'_>,
        mut first: bool,
        record: &[u8],
        parts: &mut Parts,
        depth: u8,
    ) -> Result<(), EnvelopeError> {
        while cursor.next_item(&mut first, b'}')? {
            match cursor.key()?.raw {
                b"before" => {
                    cursor.peek();
                    let start = cursor.position();
                    parts.before = match cursor.value()? {
                        Raw::Null => None,
                        Raw::Object(_) => Some(start..cursor.position()),
                        _ => return Err(EnvelopeError::Shape("a row that is no object")),
                    };
                }
                b"after" => {
                    parts.after = match cursor.peek() {
                        Some(b'{') => {
                            self.after.scan(cursor)?;
                            true
                        }
                        _ if cursor.value()? == Raw::Null => false,
                        _ => return Err(EnvelopeError::Shape("a row that is no object")),
                    };
                }
                b"source" => {
                    if cursor.peek() != Some(b'{') {
                        return Err(EnvelopeError::Shape("a source that is no object"));
                    }
                    parts.source = Some(self.template.read(cursor, record)?);
                }
                b"op" => parts.op = Some(op(cursor.value()?)?),
                b"schema" if depth == 0 => {
                    if let Raw::Object(object) = cursor.value()? {
                        let parsed = Arc::new(ConnectSchema::parse(object));
                        self.prefix = record[..cursor.position()].to_vec();
                        self.schema = Some(Arc::clone(&parsed));
                        parts.schema = Some(parsed);
                    }
                }
                // A tombstone of a converter that writes a schema for it all the same.
                b"payload" if depth == 0 && cursor.peek() == Some(b'n') => {
                    cursor.value()?;
                    parts.tombstone = true;
                }
                b"payload" if depth == 0 => {
                    cursor.expect(b'{', "expected the envelope")?;
                    self.members(cursor, true, record, parts, 1)?;
                }
                _ => {
                    cursor.value()?;
                }
            }
            if parts.is_complete() {
                parts.complete = true;
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Parts {
    /// Whether what is missing could not be of use.
    fn is_complete(&self) -> bool {
        self.source.is_some()
            && match self.op {
                Some(Op::Insert | Op::Update) => self.after,
                Some(Op::Delete) => self.before.is_some(),
                _ => false,
            }
    }

    fn change(self, epoch: u16) -> Result<Change, EnvelopeError> {
        let op = self.op.ok_or(EnvelopeError::Shape("no op"))?;
        let source = self.source.ok_or(EnvelopeError::Shape("no source"))?;
        match op {
            Op::Insert | Op::Update if !self.after => {
                return Err(EnvelopeError::Shape("no row after the change"));
            }
            Op::Delete if self.before.is_none() => {
                return Err(EnvelopeError::Shape("no row before the delete"));
            }
            _ => {}
        }
        let (version, position) =
            source.version(epoch).ok_or(EnvelopeError::Shape("the source has neither sequence nor lsn"))?;
        Ok(Change {
            op,
            before: self.before,
            version,
            position,
            committed_at: source.committed_at,
            snapshot: source.is_snapshot(),
            schema: self.schema,
        })
    }
}

fn op(value: Raw<'_>) -> Result<Op, EnvelopeError> {
    let Raw::Text(text) = value else {
        return Err(EnvelopeError::Shape("no op"));
    };
    Ok(match text.raw {
        b"c" | b"r" => Op::Insert,
        b"u" => Op::Update,
        b"d" => Op::Delete,
        b"t" => Op::Truncate,
        b"m" => Op::Message,
        _ => return Err(EnvelopeError::Shape("unknown op")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(op: &str, source: &str) -> String {
        format!(r#"{{"before":{{"id":1}},"after":{{"id":1}},"source":{source},"op":"{op}"}}"#)
    }

    fn read(text: &[u8]) -> Result<Option<Change>, EnvelopeError> {
        Decoder::default().read(text, 1)
    }

    #[test]
    fn a_repeated_schema_is_recognised_and_a_new_one_replaces_it() {
        let mut decoder = Decoder::default();
        let wrap = |schema: &str| {
            format!(r#"{{"schema":{schema},"payload":{}}}"#, event("c", r#"{"lsn":7,"ts_ms":5}"#))
        };
        for schema in [r#"{"fields":[]}"#, r#"{"fields":[]}"#, r#"{"fields":[{"field":"after"}]}"#] {
            let text = wrap(schema);
            let change = decoder.read(text.as_bytes(), 1).unwrap().unwrap();
            assert!(change.schema.is_some());
            assert_eq!((change.position, change.committed_at), (7, 5));
            assert_eq!(decoder.after.values()[0].raw(text.as_bytes()), Raw::Number(b"1"));
        }
    }

    #[test]
    fn the_row_before_is_read_on_demand() {
        let text = r#"{"op":"d","source":{"lsn":7,"ts_ms":5},"before":{"id":31,"v":"x"},"after":null}"#;
        let mut decoder = Decoder::default();
        let change = decoder.read(text.as_bytes(), 1).unwrap().unwrap();
        decoder.read_before(text.as_bytes(), &change.before.unwrap()).unwrap();
        assert_eq!(decoder.before.names().unwrap(), ["id", "v"]);
        assert_eq!(decoder.before.values()[0].raw(text.as_bytes()), Raw::Number(b"31"));
    }

    #[test]
    fn what_is_no_envelope_is_refused_by_name() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"op":"x","source":{}}"#,
            r#"{"op":"c","after":{},"source":{}}"#,
            r#"{"op":"c","source":{"lsn":1}}"#,
            r#"{"op":"c","after":1,"source":{"lsn":1}}"#,
            "{\"op\":\"\u{0}",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(matches!(read(b"{\"op\":\"\xff\"}"), Err(EnvelopeError::Utf8(7))));
    }

    /// The same reading by a general parser.
    fn oracle(text: &[u8]) -> Option<(String, u64, Option<serde_json::Value>)> {
        let value: serde_json::Value = serde_json::from_slice(text).ok()?;
        let op = value["op"].as_str()?.to_owned();
        Some((op, value["source"]["lsn"].as_u64()?, value["after"].get("id").cloned()))
    }

    proptest! {
        /// No bytes make it panic, and what a general parser reads as an event it reads as the same one.
        #[test]
        fn it_reads_what_a_general_parser_reads(
            cut in 0_usize..200, byte in any::<u8>(), at in 0_usize..200, op in "[curdtx]",
        ) {
            let mut text = event(&op, r#"{"snapshot":"false","sequence":null,"lsn":120}"#).into_bytes();
            text.truncate(cut.max(1));
            if let Some(place) = text.get_mut(at) { *place = byte; }
            let mut decoder = Decoder::default();
            let ours = decoder.read(&text, 1);
            let known = |op: &str| ["c", "r", "u"].contains(&op);
            if let Some((op, lsn, Some(id))) = oracle(&text) && known(&op) && id.is_number() {
                let change = ours.unwrap().unwrap();
                prop_assert_eq!(change.position, lsn);
                let names = decoder.after.names().unwrap();
                let place = names.iter().rposition(|name| name == "id").unwrap();
                let Raw::Number(ours) = decoder.after.values()[place].raw(&text) else {
                    return Err(TestCaseError::fail("no number"));
                };
                prop_assert_eq!(std::str::from_utf8(ours).unwrap(), id.to_string());
            }
        }
    }
}
