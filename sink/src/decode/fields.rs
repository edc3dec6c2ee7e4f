//! The fields of a row object, by their places in the record: read once, kept without their bytes. Pure.

use super::json::{Cursor, JsonError, JsonText, Raw};

/// Kind of a value, as its first byte tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    Escaped,
    Array,
    Object,
}

/// A value of a record, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
    kind: Kind,
}

impl Span {
    /// The value, out of the record that it was found in.
    #[inline]
    pub fn raw(self, record: &[u8]) -> Raw<'_> {
        let bytes = &record[self.start as usize..self.end as usize];
        match self.kind {
            Kind::Null => Raw::Null,
            Kind::True => Raw::Bool(true),
            Kind::False => Raw::Bool(false),
            Kind::Number => Raw::Number(bytes),
            Kind::Text => Raw::Text(JsonText { raw: bytes, escaped: false }),
            Kind::Escaped => Raw::Text(JsonText { raw: bytes, escaped: true }),
            Kind::Array => Raw::Array(bytes),
            Kind::Object => Raw::Object(bytes),
        }
    }
}

/// The fields of one row after another of a table: names are learned, since events repeat them in one order.
#[derive(Debug, Default)]
pub struct Fields {
    /// Names in order, each with its quotes and colon, as the events have them.
    keys: Vec<Vec<u8>>,
    values: Vec<Span>,
    stamp: u64,
}

impl Fields {
    /// Reads the object at the cursor.
    pub fn scan(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        self.values.clear();
        cursor.expect(b'{', "expected a row")?;
        let (mut first, mut place) = (true, 0);
        while cursor.next_item(&mut first, b'}')? {
            cursor.peek();
            if !self.keys.get(place).is_some_and(|key| cursor.take_exact(key)) {
                let name = cursor.key()?.raw;
                self.keys.truncate(place);
                self.keys.push([b"\"", name, b"\":"].concat());
                self.stamp += 1;
            }
            place += 1;
            self.values.push(span(cursor)?);
        }
        if place < self.keys.len() {
            self.keys.truncate(place);
            self.stamp += 1;
        }
        Ok(())
    }

    /// Another number for each other list of names.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Values in the order of their fields.
    pub fn values(&self) -> &[Span] {
        &self.values
    }

    /// Names in order.
    pub fn names(&self) -> Result<Vec<String>, JsonError> {
        let name = |key: &Vec<u8>| {
            let mut cursor = Cursor::new(key);
            let name = cursor.key()?.unescape()?;
            Ok(String::from_utf8_lossy(&name).into_owned())
        };
        self.keys.iter().map(name).collect()
    }
}

/// Takes a value; a record is far below 4 GiB.
#[inline]
fn span(cursor: &mut Cursor<'_>) -> Result<Span, JsonError> {
    cursor.peek();
    let start = cursor.position();
    let value = cursor.value()?;
    let (quote, kind) = match value {
        Raw::Null => (0, Kind::Null),
        Raw::Bool(true) => (0, Kind::True),
        Raw::Bool(false) => (0, Kind::False),
        Raw::Number(_) => (0, Kind::Number),
        Raw::Text(JsonText { escaped: false, .. }) => (1, Kind::Text),
        Raw::Text(JsonText { escaped: true, .. }) => (1, Kind::Escaped),
        Raw::Array(_) => (0, Kind::Array),
        Raw::Object(_) => (0, Kind::Object),
    };
    let place = |at: usize| u32::try_from(at).map_err(|_| cursor.error("a record above 4 GiB"));
    Ok(Span { start: place(start + quote)?, end: place(cursor.position() - quote)?, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(fields: &mut Fields, text: &str) {
        fields.scan(&mut Cursor::new(text.as_bytes())).unwrap();
    }

    #[test]
    fn values_come_back_and_the_stamp_tells_another_list_of_names() {
        let mut fields = Fields::default();
        let text = r#"{"id":1,"a":"x\"y","b":[1],"c":null,"d":true}"#;
        scan(&mut fields, text);
        let values: Vec<Raw<'_>> = fields.values().iter().map(|span| span.raw(text.as_bytes())).collect();
        let escaped = Raw::Text(JsonText { raw: br#"x\"y"#, escaped: true });
        assert_eq!(values, [Raw::Number(b"1"), escaped, Raw::Array(b"[1]"), Raw::Null, Raw::Bool(true)]);
        let stamp = fields.stamp();
        scan(&mut fields, r#"{"id":2,"a":"","b":[],"c":{},"d":false}"#);
        assert_eq!(fields.stamp(), stamp);
        for (other, names) in [
            (r#"{"id":2,"a":"","b":[],"c":{}}"#, vec!["id", "a", "b", "c"]),
            (r#"{"id":2,"x":"","b":[],"c":{}}"#, vec!["id", "x", "b", "c"]),
            (r#"{"id":2,"x":"","b":[],"c":{},"\u0064":1}"#, vec!["id", "x", "b", "c", "d"]),
        ] {
            let before = fields.stamp();
            scan(&mut fields, other);
            assert_ne!(fields.stamp(), before, "{other}");
            assert_eq!(fields.names().unwrap(), names);
        }
    }
}
