//! Debezium's envelope of a PostgreSQL change, with and without its Connect schema. Pure.

use std::sync::Arc;

use tidemark_crds::version::{Phase, Version};

use super::connect_schema::ConnectSchema;
use super::json::{Cursor, JsonError, JsonText, Raw};

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

/// One change of one table.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// What happened.
    pub op: Op,
    /// JSON object of the row before; absent or complete only as far as the replica identity goes.
    pub before: Option<&'a [u8]>,
    /// JSON object of the row after.
    pub after: Option<&'a [u8]>,
    /// What decides which of two images of one key is the newer one.
    pub version: Version,
    /// Position in the write-ahead log, 0 where the event has none.
    pub lsn: u64,
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

/// Remembers the schema of the last record: the next one nearly always repeats it byte by byte.
#[derive(Debug, Default)]
pub struct SchemaMemo {
    prefix: Vec<u8>,
    schema: Option<Arc<ConnectSchema>>,
}

#[derive(Debug, Default)]
struct Source<'a> {
    snapshot: Option<JsonText<'a>>,
    sequence: Option<JsonText<'a>>,
    lsn: Option<u64>,
    ts_ms: i64,
}

/// Reads the value of a record, `None` for a tombstone; `epoch` comes from the record's header.
pub fn parse<'a>(
    value: &'a [u8],
    epoch: u16,
    memo: &mut SchemaMemo,
) -> Result<Option<Change<'a>>, EnvelopeError> {
    std::str::from_utf8(value).map_err(|error| EnvelopeError::Utf8(error.valid_up_to()))?;
    let mut cursor = Cursor::new(value);
    let mut schema = None;
    let mut wrapped = false;
    if memo.schema.is_some() && cursor.take_exact(&memo.prefix) {
        schema.clone_from(&memo.schema);
        wrapped = true;
    }
    let mut parts = Parts::default();
    if wrapped {
        parts.members(&mut cursor, false, value, memo, &mut schema)?;
    } else {
        cursor.expect(b'{', "expected an object")?;
        parts.members(&mut cursor, true, value, memo, &mut schema)?;
    }
    cursor.finish()?;
    if parts.tombstone {
        return Ok(None);
    }
    parts.change(epoch, schema).map(Some)
}

#[derive(Debug, Default)]
struct Parts<'a> {
    op: Option<JsonText<'a>>,
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    source: Option<Source<'a>>,
    tombstone: bool,
}

impl<'a> Parts<'a> {
    fn members(
        &mut self,
        cursor: &mut Cursor<'a>,
        mut first: bool,
        text: &'a [u8],
        memo: &mut SchemaMemo,
        schema: &mut Option<Arc<ConnectSchema>>,
    ) -> Result<(), EnvelopeError> {
        while cursor.next_item(&mut first, b'}')? {
            match cursor.key()?.raw {
                b"before" => self.before = row(cursor.value()?)?,
                b"after" => self.after = row(cursor.value()?)?,
                b"op" => self.op = text_of(cursor.value()?),
                b"source" => self.source = Some(source(cursor)?),
                b"schema" => {
                    if let Raw::Object(object) = cursor.value()? {
                        let parsed = Arc::new(ConnectSchema::parse(object));
                        memo.prefix = text[..cursor.position()].to_vec();
                        memo.schema = Some(Arc::clone(&parsed));
                        *schema = Some(parsed);
                    }
                }
                // A tombstone of a converter that writes a schema for it all the same.
                b"payload" if cursor.peek() == Some(b'n') => {
                    cursor.value()?;
                    self.tombstone = true;
                }
                b"payload" => {
                    cursor.expect(b'{', "expected the envelope")?;
                    self.members(cursor, true, text, &mut SchemaMemo::default(), &mut None)?;
                }
                _ => {
                    cursor.value()?;
                }
            }
        }
        Ok(())
    }

    fn change(self, epoch: u16, schema: Option<Arc<ConnectSchema>>) -> Result<Change<'a>, EnvelopeError> {
        let op = match self.op.map(|op| op.raw) {
            Some(b"c" | b"r") => Op::Insert,
            Some(b"u") => Op::Update,
            Some(b"d") => Op::Delete,
            Some(b"t") => Op::Truncate,
            Some(b"m") => Op::Message,
            Some(_) => return Err(EnvelopeError::Shape("unknown op")),
            None => return Err(EnvelopeError::Shape("no op")),
        };
        let source = self.source.ok_or(EnvelopeError::Shape("no source"))?;
        match op {
            Op::Insert | Op::Update if self.after.is_none() => {
                return Err(EnvelopeError::Shape("no row after the change"));
            }
            Op::Delete if self.before.is_none() => {
                return Err(EnvelopeError::Shape("no row before the delete"));
            }
            _ => {}
        }
        let (version, lsn) = source.version(epoch)?;
        let snapshot = !matches!(source.snapshot.map(|s| s.raw), None | Some(b"false"));
        let committed_at = source.ts_ms;
        Ok(Change {
            op,
            before: self.before,
            after: self.after,
            version,
            lsn,
            committed_at,
            snapshot,
            schema,
        })
    }
}

fn row(value: Raw<'_>) -> Result<Option<&[u8]>, EnvelopeError> {
    match value {
        Raw::Null => Ok(None),
        Raw::Object(object) => Ok(Some(object)),
        _ => Err(EnvelopeError::Shape("a row that is no object")),
    }
}

fn text_of(value: Raw<'_>) -> Option<JsonText<'_>> {
    match value {
        Raw::Text(text) => Some(text),
        _ => None,
    }
}

fn source<'a>(cursor: &mut Cursor<'a>) -> Result<Source<'a>, EnvelopeError> {
    let mut source = Source::default();
    cursor.expect(b'{', "expected the source")?;
    let mut first = true;
    while cursor.next_item(&mut first, b'}')? {
        match cursor.key()?.raw {
            b"snapshot" => source.snapshot = text_of(cursor.value()?),
            b"sequence" => source.sequence = text_of(cursor.value()?),
            b"lsn" => source.lsn = number(cursor.value()?),
            b"ts_ms" => source.ts_ms = number(cursor.value()?).unwrap_or(0),
            _ => {
                cursor.value()?;
            }
        }
    }
    Ok(source)
}

fn number<T: std::str::FromStr>(value: Raw<'_>) -> Option<T> {
    match value {
        Raw::Number(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

impl Source<'_> {
    /// The row's version and its log position.
    fn version(&self, epoch: u16) -> Result<(Version, u64), EnvelopeError> {
        let sequence = self.sequence.and_then(|text| positions(text.raw));
        // Without a sequence the log position alone orders the stream.
        let (commit, lsn) = match (sequence, self.lsn) {
            (Some((commit, lsn)), own) => (commit.unwrap_or(0), lsn.or(own).unwrap_or(0)),
            (None, Some(lsn)) => (lsn, lsn),
            (None, None) => return Err(EnvelopeError::Shape("the source has neither sequence nor lsn")),
        };
        let version = match self.snapshot.map(|snapshot| snapshot.raw) {
            None | Some(b"false") => Version::new(epoch, Phase::Stream, commit, lsn),
            // Its position can be that of the commit itself, and would beat a change of a transaction that
            // was open meanwhile: inside its commit position the row is older than any change.
            Some(b"incremental") => Version::new(epoch, Phase::Stream, commit, 0),
            Some(_) => Version::new(epoch, Phase::Snapshot, commit, lsn),
        };
        Ok((version, lsn))
    }
}

/// Reads the text `[null,"50038160"]`, in which the quotes are escaped.
fn positions(text: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let inside = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let comma = memchr::memchr(b',', inside)?;
    Some((position(&inside[..comma])?, position(&inside[comma + 1..])?))
}

/// Reads `null` or digits between quotes; `None` for anything else.
#[allow(clippy::option_option, reason = "null and nonsense are two different answers")]
fn position(text: &[u8]) -> Option<Option<u64>> {
    let text = text.trim_ascii();
    if text == b"null" {
        return Some(None);
    }
    let quote = |byte: &u8| matches!(byte, b'"' | b'\\');
    let start = text.iter().take_while(|byte| quote(byte)).count();
    let end = text.iter().rev().take_while(|byte| quote(byte)).count();
    let digits = text.get(start..text.len().checked_sub(end)?)?;
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        value =
            value.checked_mul(10)?.checked_add(u64::from(if digit <= 9 { digit } else { return None }))?;
    }
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(op: &str, source: &str) -> String {
        format!(r#"{{"before":{{"id":1}},"after":{{"id":1}},"source":{source},"op":"{op}"}}"#)
    }

    fn version(source: &str) -> Version {
        let text = event("u", source);
        parse(text.as_bytes(), 1, &mut SchemaMemo::default()).unwrap().unwrap().version
    }

    #[test]
    fn the_version_comes_from_the_sequence() {
        let streamed = version(r#"{"snapshot":"false","sequence":"[\"100\",\"120\"]","lsn":120}"#);
        assert_eq!(streamed, Version::new(1, Phase::Stream, 100, 120));
        let first = version(r#"{"snapshot":"first","sequence":"[null,\"90\"]","lsn":90}"#);
        assert_eq!(first, Version::new(1, Phase::Snapshot, 0, 90));
        let incremental = version(r#"{"snapshot":"incremental","sequence":"[\"100\",\"100\"]","lsn":null}"#);
        assert_eq!(incremental, Version::new(1, Phase::Stream, 100, 0));
        let bare = version(r#"{"sequence":null,"lsn":120}"#);
        assert_eq!(bare, Version::new(1, Phase::Stream, 120, 120));
    }

    #[test]
    fn a_repeated_schema_is_recognised_and_a_new_one_replaces_it() {
        let mut memo = SchemaMemo::default();
        let wrap = |schema: &str| {
            format!(r#"{{"schema":{schema},"payload":{}}}"#, event("c", r#"{"lsn":7,"ts_ms":5}"#))
        };
        for schema in [r#"{"fields":[]}"#, r#"{"fields":[]}"#, r#"{"fields":[{"field":"after"}]}"#] {
            let text = wrap(schema);
            let change = parse(text.as_bytes(), 1, &mut memo).unwrap().unwrap();
            assert!(change.schema.is_some());
            assert_eq!((change.lsn, change.committed_at), (7, 5));
        }
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
            assert!(parse(text.as_bytes(), 1, &mut SchemaMemo::default()).is_err(), "{text}");
        }
        assert!(matches!(
            parse(b"{\"op\":\"\xff\"}", 1, &mut SchemaMemo::default()),
            Err(EnvelopeError::Utf8(7))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0_usize..200, byte in any::<u8>(), at in 0_usize..200) {
            let mut text = event("u", r#"{"snapshot":"false","sequence":"[\"100\",\"120\"]","lsn":120}"#).into_bytes();
            text.truncate(cut);
            if let Some(place) = text.get_mut(at) { *place = byte; }
            let ours = parse(&text, 1, &mut SchemaMemo::default());
            if ours.is_err() && serde_json::from_slice::<serde_json::Value>(&text).is_ok() {
                // Only what is no envelope may be refused once it is JSON.
                prop_assert!(matches!(ours, Err(EnvelopeError::Shape(_) | EnvelopeError::Json(_))));
            }
        }
    }
}
