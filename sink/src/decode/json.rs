//! A flat scanner over JSON text that yields spans instead of values. Pure.
//!
//! Faster here than a general parser, because most of an event is skipped or copied as it is. It is
//! lenient about what it skips (a control character in a string, a leading zero) and strict about structure.

use std::borrow::Cow;

use memchr::memchr2;

/// Nesting beyond which a document is refused.
const MAX_DEPTH: usize = 128;

/// A value of a JSON document, by its place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Raw<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// The text of a number.
    Number(&'a [u8]),
    /// The text between the quotes of a string.
    Text(JsonText<'a>),
    /// The text of an array, brackets included.
    Array(&'a [u8]),
    /// The text of an object, braces included.
    Object(&'a [u8]),
}

/// The inside of a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonText<'a> {
    /// Text between the quotes, escapes not yet undone.
    pub raw: &'a [u8],
    /// Whether there are escapes.
    pub escaped: bool,
}

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid json at byte {at}: {reason}")]
pub struct JsonError {
    /// Byte from the start of the scanned text.
    pub at: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// A place in a JSON text.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> JsonText<'a> {
    /// Returns the string with its escapes undone.
    pub fn unescape(self) -> Result<Cow<'a, [u8]>, JsonError> {
        if self.escaped { unescape(self.raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(self.raw)) }
    }

    /// Appends the string with its escapes undone.
    pub fn unescape_into(self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        if self.escaped {
            append_unescaped(self.raw, out)
        } else {
            out.extend_from_slice(self.raw);
            Ok(())
        }
    }
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of a text.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Starts at a byte of a text; behind its end nothing comes.
    pub fn at(text: &'a [u8], at: usize) -> Self {
        Self { text, at: at.min(text.len()) }
    }

    /// Byte from the start of the text.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Builds an error at this place.
    pub fn error(&self, reason: &'static str) -> JsonError {
        JsonError { at: self.at, reason }
    }

    /// Skips white space and returns the next byte without taking it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the given byte, if it is the next one behind white space.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes exactly these bytes, if they come next.
    #[inline]
    pub fn take_exact(&mut self, bytes: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(bytes);
        if found {
            self.at += bytes.len();
        }
        found
    }

    /// Takes the next byte, which must be the given one.
    pub fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.error(reason)) }
    }

    /// Ends the document: nothing but white space may follow.
    pub fn finish(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error("text behind the end of the document")) }
    }

    /// Takes a string.
    #[inline]
    pub fn string(&mut self) -> Result<JsonText<'a>, JsonError> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let found = memchr2(b'"', b'\\', &self.text[self.at..])
                .ok_or_else(|| self.error("a string does not end"))?;
            self.at += found;
            if self.text[self.at] == b'"' {
                let raw = &self.text[start..self.at];
                self.at += 1;
                return Ok(JsonText { raw, escaped });
            }
            escaped = true;
            self.at += 2;
            if self.at > self.text.len() {
                self.at = self.text.len();
                return Err(self.error("a string does not end"));
            }
        }
    }

    /// Takes a key and the colon behind it.
    pub fn key(&mut self) -> Result<JsonText<'a>, JsonError> {
        let key = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(key)
    }

    /// Takes a value of any kind.
    #[inline]
    pub fn value(&mut self) -> Result<Raw<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(Raw::Text),
            Some(b'0'..=b'9' | b'-') => Ok(Raw::Number(self.number())),
            Some(b'n') => self.literal(b"null", Raw::Null),
            Some(b't') => self.literal(b"true", Raw::Bool(true)),
            Some(b'f') => self.literal(b"false", Raw::Bool(false)),
            Some(b'{') => self.container().map(Raw::Object),
            Some(b'[') => self.container().map(Raw::Array),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the document ends too early")),
        }
    }

    /// Goes to the next member or element; `first` says whether one was taken already.
    ///
    /// Returns false at the closing byte, which is taken.
    #[inline]
    pub fn next_item(&mut self, first: &mut bool, close: u8) -> Result<bool, JsonError> {
        if std::mem::take(first) {
            return Ok(!self.take(close));
        }
        if self.take(b',') {
            // A closing byte here is a comma too many.
            return if self.peek() == Some(close) { Err(self.error("expected a value")) } else { Ok(true) };
        }
        self.expect(close, "expected a comma or the end").map(|()| false)
    }

    fn literal(&mut self, word: &[u8], value: Raw<'a>) -> Result<Raw<'a>, JsonError> {
        if self.take_exact(word) { Ok(value) } else { Err(self.error("expected a value")) }
    }

    #[inline]
    fn number(&mut self) -> &'a [u8] {
        let start = self.at;
        let length = self.text[start..]
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(self.text.len() - start);
        self.at += length;
        &self.text[start..self.at]
    }

    /// Takes an object or array without looking at its members.
    fn container(&mut self) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        let mut closers = [0_u8; MAX_DEPTH];
        let mut depth = 0;
        loop {
            match self.text.get(self.at) {
                None => return Err(self.error("the document ends too early")),
                Some(b'"') => {
                    self.string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    *closers.get_mut(depth).ok_or_else(|| self.error("nested too deeply"))? =
                        if *open == b'{' { b'}' } else { b']' };
                    depth += 1;
                    self.at += 1;
                }
                Some(close @ (b'}' | b']')) => {
                    depth -= 1;
                    if closers[depth] != *close {
                        return Err(self.error("brackets do not match"));
                    }
                    self.at += 1;
                    if depth == 0 {
                        return Ok(&self.text[start..self.at]);
                    }
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

/// Undoes the escapes of a string.
fn unescape(raw: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(raw.len());
    append_unescaped(raw, &mut out)?;
    Ok(out)
}

fn append_unescaped(raw: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + found]);
        at += found;
        let bad = move |reason| JsonError { at, reason };
        let escape = *raw.get(at + 1).ok_or_else(|| bad("an escape is cut off"))?;
        at += 2;
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (character, next) = unicode(raw, at).ok_or_else(|| bad("an invalid unicode escape"))?;
                at = next;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(bad("an unknown escape")),
        });
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// Reads the digits of `\uXXXX`, and a second escape where the first is half of a surrogate pair.
fn unicode(raw: &[u8], at: usize) -> Option<(char, usize)> {
    let four = |at: usize| {
        let digits = raw.get(at..at + 4)?;
        digits.iter().try_fold(0_u32, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
    };
    let high = four(at)?;
    if !(0xD800..0xDC00).contains(&high) {
        return char::from_u32(high).map(|character| (character, at + 4));
    }
    if raw.get(at + 4..at + 6)? != b"\\u" {
        return None;
    }
    let low = four(at + 6)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + low).map(|character| (character, at + 10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_come_back_as_serde_json_reads_them() {
        for text in [r#""plain""#, r#""a\"b\\c\/\b\f\n\r\t""#, r#""\u00dc \ud83d\ude00 \u2028""#, r#""""#] {
            let oracle: String = serde_json::from_str(text).unwrap();
            let ours = Cursor::new(text.as_bytes()).string().unwrap();
            assert_eq!(ours.unescape().unwrap().as_ref(), oracle.as_bytes(), "{text}");
        }
        for text in [r#""\x""#, r#""\ud83d""#, r#""\ud83dx\ude00""#, r#""\u12"#, r#""abc"#, r#""abc\"#] {
            assert!(serde_json::from_str::<String>(text).is_err());
            let ours = Cursor::new(text.as_bytes()).string().and_then(|s| s.unescape().map(Cow::into_owned));
            assert!(ours.is_err(), "{text}");
        }
    }

    #[test]
    fn brackets_must_match() {
        for text in ["{]", "[}", "{\"a\":[1}", "{", "[\"]", "nul", "", "{\"a\":1"] {
            assert!(Cursor::new(text.as_bytes()).value().is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(Cursor::new("[".repeat(100_000).as_bytes()).value().is_err());
    }

    proptest! {
        #[test]
        fn any_document_that_serde_json_writes_is_taken_whole(text in json_text()) {
            let mut cursor = Cursor::new(text.as_bytes());
            prop_assert!(cursor.value().is_ok());
            prop_assert!(cursor.finish().is_ok());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Cursor::new(&bytes).value();
            let _ = unescape(&bytes);
        }
    }

    fn json_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::vec((".*", inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
        .prop_map(|value| value.to_string())
    }
}
