//! PostgreSQL's `COPY … TO STDOUT` in text format: chunks to lines, lines to fields. Pure.
//!
//! A row is a line and a field ends at a tab: both, and the backslash, are escaped inside values. `\N` is NULL. The
//! server writes none of the octal and hexadecimal forms that `COPY … FROM` takes.

use memchr::{memchr, memchr2};

/// A field that `COPY … TO` does not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer of COPY is not in its text format")]
pub(super) struct NotCopyText;

/// Puts lines together from chunks that may end anywhere.
#[derive(Debug, Default)]
pub(super) struct Lines {
    carry: Vec<u8>,
}

impl Lines {
    /// Hands every line that the chunk completes to `line`, without its end.
    pub(super) fn feed<E>(
        &mut self,
        chunk: &[u8],
        mut line: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(end);
            rest = &tail[1..];
            if self.carry.is_empty() {
                line(head)?;
            } else {
                self.carry.extend_from_slice(head);
                let result = line(&self.carry);
                self.carry.clear();
                result?;
            }
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Whether the last chunk ended with a line.
    pub(super) fn is_complete(&self) -> bool {
        self.carry.is_empty()
    }
}

/// A field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// NULL.
    Null,
    /// Text of a value, without escapes.
    Text(&'a [u8]),
}

/// The fields of a line, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Begins at the first field; even an empty line has one.
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { rest: Some(line) }
    }

    /// Returns the next field, `None` behind the last; a value that had escapes is in `scratch`.
    #[inline]
    pub(super) fn next<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<Option<Field<'s>>, NotCopyText>
    where
        'a: 's,
    {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        match memchr2(b'\t', b'\\', rest) {
            None => {
                self.rest = None;
                Ok(Some(Field::Text(rest)))
            }
            Some(end) if rest[end] == b'\t' => {
                self.rest = Some(&rest[end + 1..]);
                Ok(Some(Field::Text(&rest[..end])))
            }
            Some(_) => {
                let raw = if let Some(end) = memchr(b'\t', rest) {
                    self.rest = Some(&rest[end + 1..]);
                    &rest[..end]
                } else {
                    self.rest = None;
                    rest
                };
                if raw == b"\\N" {
                    return Ok(Some(Field::Null));
                }
                unescape(raw, scratch)?;
                Ok(Some(Field::Text(scratch)))
            }
        }
    }
}

/// Writes a value without its escapes.
fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), NotCopyText> {
    out.clear();
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (escape, tail) = rest[at + 1..].split_first().ok_or(NotCopyText)?;
        out.push(match escape {
            b'\\' => b'\\',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            _ => return Err(NotCopyText),
        });
        rest = tail;
    }
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(line: &[u8]) -> Result<Vec<Option<Vec<u8>>>, NotCopyText> {
        let (mut fields, mut scratch, mut all) = (Fields::new(line), Vec::new(), Vec::new());
        while let Some(field) = fields.next(&mut scratch)? {
            all.push(match field {
                Field::Null => None,
                Field::Text(text) => Some(text.to_vec()),
            });
        }
        Ok(all)
    }

    /// As PostgreSQL's `CopyAttributeOutText` writes a row.
    fn copy_out(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut line = Vec::new();
        for (place, field) in row.iter().enumerate() {
            if place > 0 {
                line.push(b'\t');
            }
            let Some(field) = field else {
                line.extend(b"\\N");
                continue;
            };
            for byte in field {
                match byte {
                    b'\\' => line.extend(b"\\\\"),
                    0x08 => line.extend(b"\\b"),
                    0x0c => line.extend(b"\\f"),
                    b'\n' => line.extend(b"\\n"),
                    b'\r' => line.extend(b"\\r"),
                    b'\t' => line.extend(b"\\t"),
                    0x0b => line.extend(b"\\v"),
                    other => line.push(*other),
                }
            }
        }
        line.push(b'\n');
        line
    }

    #[test]
    fn null_the_empty_text_and_a_backslash_n_that_was_typed_are_three_values() {
        let text = |text: &[u8]| Some(text.to_vec());
        assert_eq!(
            fields(b"\\N\t\t\\\\N\ta\\tb\\nc\\\\").unwrap(),
            vec![None, text(b""), text(b"\\N"), text(b"a\tb\nc\\")]
        );
        assert_eq!(fields(b"").unwrap(), vec![text(b"")]);
        assert_eq!(
            fields("\u{e9}\\b\\f\\r\\v".as_bytes()).unwrap(),
            vec![text("\u{e9}\u{8}\u{c}\r\u{b}".as_bytes())]
        );
    }

    #[test]
    fn what_copy_never_writes_is_refused() {
        for line in [&b"\\x41"[..], b"a\\101", b"\\", b"a\\Nb", b"x\t\\q"] {
            assert_eq!(fields(line), Err(NotCopyText), "{line:?}");
        }
    }

    #[test]
    fn an_error_of_a_row_ends_the_feed() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"a\nb\n", |line| if line == b"b" { Err(7) } else { Ok(()) }), Err(7));
    }

    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        let byte = prop_oneof![
            3 => any::<u8>(),
            2 => proptest::sample::select(b"\\\t\n\r\x08\x0c\x0bNnbtfrv".to_vec()),
        ];
        proptest::option::weighted(0.8, proptest::collection::vec(byte, 0..20))
    }

    proptest! {
        #[test]
        fn rows_come_back_wherever_the_chunks_end(
            rows in proptest::collection::vec(proptest::collection::vec(value(), 1..6), 0..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = rows.iter().flat_map(|row| copy_out(row)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in cuts.windows(2) {
                lines.feed(&stream[piece[0]..piece[1]], |line| {
                    found.push(fields(line)?);
                    Ok::<(), NotCopyText>(())
                }).unwrap();
            }
            prop_assert!(lines.is_complete());
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut lines = Lines::default();
            for chunk in chunks {
                let _ = lines.feed(&chunk, |line| fields(line).map(|_| ()));
            }
        }
    }
}
