//! The `source` of an event: which commit and position it has. Pure.
//!
//! From event to event of a table only its numbers change, so the text between them is compared and not parsed.

use tidemark_crds::version::{Phase, Version};

use super::json::{Cursor, JsonError, Raw};

/// What a source says, as far as it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Source {
    /// How a snapshot read the row.
    snapshot: Snapshot,
    /// Positions of the last commit before and of the change, where there is a sequence.
    sequence: Option<(Option<u64>, Option<u64>)>,
    lsn: Option<u64>,
    /// Commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Snapshot {
    #[default]
    Streamed,
    Incremental,
    Initial,
}

/// What a part of the text that changes stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    CommittedAt,
    Lsn,
    Sequence,
    Other,
}

/// The text of the last source with holes where it changes.
#[derive(Debug, Default)]
pub struct Template {
    parts: Vec<(Vec<u8>, Variable)>,
    tail: Vec<u8>,
    snapshot: Snapshot,
}

impl Template {
    /// Reads the source at the cursor; `text` is what the cursor goes over.
    pub fn read(&mut self, cursor: &mut Cursor<'_>, text: &[u8]) -> Result<Source, JsonError> {
        cursor.peek();
        let mut ahead = *cursor;
        if let Some(source) = self.repeated(&mut ahead) {
            *cursor = ahead;
            return Ok(source);
        }
        self.learn(cursor, text)
    }

    /// Reads a source that differs from the last one in its numbers alone.
    #[inline]
    fn repeated(&self, cursor: &mut Cursor<'_>) -> Option<Source> {
        if self.tail.is_empty() {
            return None;
        }
        let mut source = Source { snapshot: self.snapshot, ..Source::default() };
        for (constant, variable) in &self.parts {
            if !cursor.take_exact(constant) {
                return None;
            }
            source.take(*variable, cursor.value().ok()?)?;
        }
        cursor.take_exact(&self.tail).then_some(source)
    }

    fn learn(&mut self, cursor: &mut Cursor<'_>, text: &[u8]) -> Result<Source, JsonError> {
        *self = Self::default();
        let mut source = Source::default();
        let mut constant = cursor.position();
        cursor.expect(b'{', "expected the source")?;
        let mut first = true;
        let mut parts = Vec::new();
        while cursor.next_item(&mut first, b'}')? {
            let key = cursor.key()?.raw;
            cursor.peek();
            let begin = cursor.position();
            let value = cursor.value()?;
            let variable = match (key, value) {
                (b"ts_ms", Raw::Number(_)) => Variable::CommittedAt,
                (b"lsn", Raw::Number(_)) => Variable::Lsn,
                (b"sequence", Raw::Text(_)) => Variable::Sequence,
                (_, Raw::Number(_)) => Variable::Other,
                (b"snapshot", Raw::Text(text)) => {
                    source.snapshot = match text.raw {
                        b"false" => Snapshot::Streamed,
                        // Its position can be that of the commit itself, and would beat a change of a transaction
                        // that was open meanwhile: inside its commit position the row is older than any change.
                        b"incremental" => Snapshot::Incremental,
                        _ => Snapshot::Initial,
                    };
                    continue;
                }
                _ => continue,
            };
            // A number that is none leaves the field empty.
            let _ = source.take(variable, value);
            parts.push((text[constant..begin].to_vec(), variable));
            constant = cursor.position();
        }
        let tail = text[constant..cursor.position()].to_vec();
        *self = Self { parts, tail, snapshot: source.snapshot };
        Ok(source)
    }
}

impl Source {
    /// Takes the value of one part; `None` where it is not of the part's form.
    #[inline]
    fn take(&mut self, variable: Variable, value: Raw<'_>) -> Option<()> {
        match (variable, value) {
            (Variable::Other, Raw::Number(_)) => {}
            (Variable::CommittedAt, Raw::Number(text)) => {
                self.committed_at = match text.strip_prefix(b"-") {
                    Some(digits) => -i64::try_from(whole(digits)?).ok()?,
                    None => i64::try_from(whole(text)?).ok()?,
                };
            }
            (Variable::Lsn, Raw::Number(text)) => self.lsn = Some(whole(text)?),
            (Variable::Sequence, Raw::Text(text)) => self.sequence = Some(positions(text.raw)?),
            _ => return None,
        }
        Some(())
    }

    /// Whether a snapshot of any kind read the row.
    pub fn is_snapshot(&self) -> bool {
        self.snapshot != Snapshot::Streamed
    }

    /// The row's version and its position in the log, which is that of the commit before it where it has none of
    /// its own; `None` without any position.
    pub fn version(&self, epoch: u16) -> Option<(Version, u64)> {
        // Without a sequence the log position alone orders the stream.
        let (commit, lsn) = match (self.sequence, self.lsn) {
            (Some((commit, lsn)), own) => (commit.unwrap_or(0), lsn.or(own).unwrap_or(0)),
            (None, Some(lsn)) => (lsn, lsn),
            (None, None) => return None,
        };
        let version = match self.snapshot {
            Snapshot::Streamed => Version::new(epoch, Phase::Stream, commit, lsn),
            Snapshot::Incremental => Version::new(epoch, Phase::Stream, commit, 0),
            Snapshot::Initial => Version::new(epoch, Phase::Snapshot, commit, lsn),
        };
        Some((version, if lsn > 0 { lsn } else { commit }))
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
    whole(text.get(start..text.len().checked_sub(end)?)?).map(Some)
}

#[inline]
fn whole(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(template: &mut Template, text: &str) -> Source {
        let mut cursor = Cursor::new(text.as_bytes());
        let source = template.read(&mut cursor, text.as_bytes()).unwrap();
        assert_eq!(cursor.position(), text.len(), "{text}");
        source
    }

    proptest! {
        /// A source means the same whatever came before it.
        #[test]
        fn what_was_learned_changes_nothing(
            events in prop::collection::vec(
                (0_u64..1 << 40, prop::option::of(0_u64..1 << 40), 0_usize..3, any::<bool>(), 0_i64..1 << 41), 1..12),
        ) {
            let mut learned = Template::default();
            for (lsn, commit, snapshot, bare, at) in events {
                let snapshot = ["false", "incremental", "true"][snapshot];
                let commit = commit.map_or("null".to_owned(), |commit| format!("\\\"{commit}\\\""));
                let own = if bare { "null".to_owned() } else { lsn.to_string() };
                let text = format!(
                    r#"{{"version":"3","ts_ms":{at},"snapshot":"{snapshot}","sequence":"[{commit},\"{lsn}\"]","txId":{},"lsn":{own},"xmin":null}}"#,
                    lsn / 3);
                prop_assert_eq!(read(&mut learned, &text), read(&mut Template::default(), &text));
            }
        }
    }

    #[test]
    fn the_version_comes_from_the_sequence() {
        let version = |text: &str| read(&mut Template::default(), text).version(1).unwrap();
        let streamed = version(r#"{"snapshot":"false","sequence":"[\"100\",\"120\"]","lsn":120}"#);
        assert_eq!(streamed, (Version::new(1, Phase::Stream, 100, 120), 120));
        let first = version(r#"{"snapshot":"first","sequence":"[null,\"90\"]","lsn":90}"#);
        assert_eq!(first, (Version::new(1, Phase::Snapshot, 0, 90), 90));
        let incremental = version(r#"{"snapshot":"incremental","sequence":"[\"100\",\"100\"]","lsn":null}"#);
        assert_eq!(incremental, (Version::new(1, Phase::Stream, 100, 0), 100));
        let bare = version(r#"{"sequence":null,"lsn":120}"#);
        assert_eq!(bare, (Version::new(1, Phase::Stream, 120, 120), 120));
        assert_eq!(read(&mut Template::default(), r#"{"sequence":"[x]"}"#).version(1), None);
    }
}
