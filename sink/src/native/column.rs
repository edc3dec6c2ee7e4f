//! Typed column builders that keep their values in wire form. Pure.

use std::collections::HashMap;
use std::ops::Range;

use tidemark_crds::types::ChType;

use super::{FrameWriter, put_varint, take_varint};

/// A type for which there is no builder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a column of type {0} cannot be written; use another type for it")]
pub struct UnsupportedType(String);

/// A value in RowBinary that ends too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value in RowBinary is cut off")]
pub struct Corrupt;

/// Values of one column of a block under construction.
#[derive(Debug, Clone)]
pub struct Column {
    wire_type: String,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    /// Values of `1 << log_width` bytes each: the number of rows is a shift away, not a division.
    Fixed {
        log_width: u32,
        bytes: Vec<u8>,
    },
    Text(Text),
    Nullable {
        nulls: Vec<u8>,
        inner: Box<Data>,
    },
    Array {
        ends: Vec<u64>,
        inner: Box<Data>,
    },
    Dictionary(Dictionary),
}

/// Length-prefixed strings, and where each ends.
#[derive(Debug, Clone, Default)]
struct Text {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// `LowCardinality(String)` or `LowCardinality(Nullable(String))`.
#[derive(Debug, Clone)]
struct Dictionary {
    nullable: bool,
    keys: Text,
    positions: HashMap<Box<[u8]>, u32>,
    rows: Vec<u32>,
}

impl Column {
    /// Builds an empty column of the given type.
    pub fn new(ch_type: &ChType) -> Result<Self, UnsupportedType> {
        // The server converts what is written plainly into its own low-cardinality form.
        let wire = match ch_type {
            ChType::LowCardinality(inner) if Dictionary::of(inner).is_none() => inner.as_ref().clone(),
            ChType::Array(element) => ChType::Array(Box::new(match element.as_ref() {
                ChType::LowCardinality(inner) => inner.as_ref().clone(),
                other => other.clone(),
            })),
            other => other.clone(),
        };
        Ok(Self { wire_type: wire.to_string(), data: Data::new(&wire)? })
    }

    /// Type that the block announces; ClickHouse converts it to that of the table.
    pub fn wire_type(&self) -> &str {
        &self.wire_type
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the values take, without spare capacity.
    pub fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Drops all values and keeps the room that they took.
    pub fn clear(&mut self) {
        self.data.clear();
    }

    /// Bytes of a row's value where all values of the type take the same; nothing for other types.
    pub fn fixed(&self, row: usize) -> &[u8] {
        match &self.data {
            Data::Fixed { log_width, bytes } => &bytes[row << log_width..(row + 1) << log_width],
            _ => &[],
        }
    }

    /// Appends NULL, or the type's default where NULL is no value of it.
    pub fn push_default(&mut self) {
        self.data.push_default();
    }

    /// Appends a value of fixed width in little-endian wire form. Returns false, with nothing appended, where the
    /// column is not of values of that width.
    #[inline]
    pub fn push_fixed(&mut self, value: &[u8]) -> bool {
        self.data.push_fixed(value)
    }

    /// Appends the bytes of a string. Returns false, with nothing appended, where the column is not of strings.
    #[inline]
    pub fn push_text(&mut self, value: &[u8]) -> bool {
        self.data.push_text(value)
    }

    /// Appends an element to the array that [`end_array`](Self::end_array) will close.
    pub fn element(&mut self) -> Option<ElementColumn<'_>> {
        match &mut self.data {
            Data::Array { inner, .. } => Some(ElementColumn(inner)),
            _ => None,
        }
    }

    /// Closes the array whose elements were appended since the last one.
    pub fn end_array(&mut self) {
        if let Data::Array { ends, inner } = &mut self.data {
            ends.push(inner.len() as u64);
        }
    }

    /// Cuts the column to its first rows, also elements of an array that was never closed.
    pub fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows);
    }

    /// Appends a copy of one of its own rows.
    pub fn push_copy(&mut self, row: usize) {
        let mut value = Vec::new();
        self.data.row_binary(row, &mut value);
        let copied = self.data.push_row_binary(&mut value.as_slice());
        debug_assert!(copied.is_ok(), "a value written by row_binary is whole");
    }

    /// Appends a value in RowBinary, taken off the front of `input`.
    pub fn push_row_binary(&mut self, input: &mut &[u8]) -> Result<(), Corrupt> {
        let rows = self.len();
        self.data.push_row_binary(input).inspect_err(|_| self.data.truncate(rows))
    }

    /// Appends the value of a row, in RowBinary, to `out`.
    pub fn row_binary(&self, row: usize, out: &mut Vec<u8>) {
        self.data.row_binary(row, out);
    }

    /// Little-endian 64-bit values of a column of that width; others give none.
    pub fn int64_values(&self) -> impl Iterator<Item = i64> + '_ {
        let bytes: &[u8] = match &self.data {
            Data::Fixed { log_width: 3, bytes } => bytes,
            _ => &[],
        };
        bytes.as_chunks::<8>().0.iter().map(|value| i64::from_le_bytes(*value))
    }

    /// Writes the given rows in Native form.
    pub fn write(&self, rows: &Range<usize>, out: &mut FrameWriter) {
        self.data.write(rows, out);
    }
}

/// The elements of an array column.
#[derive(Debug)]
pub struct ElementColumn<'a>(&'a mut Data);

impl ElementColumn<'_> {
    /// Appends NULL, or the element type's default.
    pub fn push_default(&mut self) {
        self.0.push_default();
    }

    /// Appends a value of fixed width. Returns false where the elements are none.
    pub fn push_fixed(&mut self, value: &[u8]) -> bool {
        self.0.push_fixed(value)
    }

    /// Appends the bytes of a string. Returns false where the elements are none.
    pub fn push_text(&mut self, value: &[u8]) -> bool {
        self.0.push_text(value)
    }
}

impl Text {
    #[inline]
    fn push(&mut self, value: &[u8]) {
        put_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(value);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a batch is sealed far below 4 GiB"));
    }

    fn start(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.ends[row - 1] as usize }
    }

    /// The value with its length in front: RowBinary and Native agree on strings.
    fn wire(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[self.start(rows.start)..self.start(rows.end)]
    }

    fn truncate(&mut self, rows: usize) {
        self.bytes.truncate(self.start(rows));
        self.ends.truncate(rows);
    }
}

impl Dictionary {
    fn of(inner: &ChType) -> Option<Self> {
        let nullable = match inner {
            ChType::String => false,
            ChType::Nullable(inner) if **inner == ChType::String => true,
            _ => return None,
        };
        let mut dictionary =
            Self { nullable, keys: Text::default(), positions: HashMap::new(), rows: vec![] };
        // Position 0 stands for NULL, or for the default value.
        dictionary.seed();
        Some(dictionary)
    }

    fn seed(&mut self) {
        self.keys.push(b"");
        if self.nullable {
            self.keys.push(b"");
        }
        self.positions.insert(Box::from(&b""[..]), u32::from(self.nullable));
    }

    fn clear(&mut self) {
        self.rows.clear();
        // Values that did not come for a while are not carried from block to block.
        self.keys.truncate(0);
        self.positions.clear();
        self.seed();
    }

    fn push(&mut self, value: &[u8]) {
        let position = if let Some(position) = self.positions.get(value) {
            *position
        } else {
            let position =
                u32::try_from(self.keys.ends.len()).expect("a batch has fewer rows than 4 billion");
            self.keys.push(value);
            self.positions.insert(Box::from(value), position);
            position
        };
        self.rows.push(position);
    }

    fn write(&self, rows: &Range<usize>, out: &mut FrameWriter) {
        // Version 1: dictionaries travel with the block.
        out.write(&1_u64.to_le_bytes());
        if rows.is_empty() {
            return;
        }
        let keys = self.keys.ends.len();
        let (index_type, width) = match keys {
            0..=0x100 => (0_u64, 1),
            0x101..=0x1_0000 => (1, 2),
            _ => (2, 4),
        };
        // Bit 9: additional keys follow; bit 10: the dictionary is to be updated.
        out.write(&(index_type | 1 << 9 | 1 << 10).to_le_bytes());
        out.write(&(keys as u64).to_le_bytes());
        out.write(&self.keys.bytes);
        out.write(&(rows.len() as u64).to_le_bytes());
        let mut indexes = Vec::with_capacity(rows.len() * width);
        for position in &self.rows[rows.clone()] {
            indexes.extend_from_slice(&position.to_le_bytes()[..width]);
        }
        out.write(&indexes);
    }
}

impl Data {
    fn new(ch_type: &ChType) -> Result<Self, UnsupportedType> {
        let fixed = |width: u32| Ok(Self::Fixed { log_width: width.trailing_zeros(), bytes: Vec::new() });
        match ch_type {
            ChType::Bool | ChType::UInt8 => fixed(1),
            ChType::Int16 => fixed(2),
            ChType::Int32 | ChType::UInt32 | ChType::Float32 | ChType::Date32 => fixed(4),
            ChType::Int64 | ChType::UInt64 | ChType::Float64 | ChType::DateTime64 { .. } => fixed(8),
            ChType::UInt128 | ChType::Uuid => fixed(16),
            ChType::Decimal { precision, .. } => fixed(match precision {
                0..=9 => 4,
                10..=18 => 8,
                19..=38 => 16,
                _ => 32,
            }),
            ChType::String => Ok(Self::Text(Text::default())),
            ChType::Nullable(inner) if !matches!(**inner, ChType::Nullable(_) | ChType::Array(_)) => {
                Ok(Self::Nullable { nulls: Vec::new(), inner: Box::new(Self::new(inner)?) })
            }
            ChType::Array(inner) if !matches!(**inner, ChType::Array(_) | ChType::LowCardinality(_)) => {
                Ok(Self::Array { ends: Vec::new(), inner: Box::new(Self::new(inner)?) })
            }
            ChType::LowCardinality(inner) => match Dictionary::of(inner) {
                Some(dictionary) => Ok(Self::Dictionary(dictionary)),
                None => Err(UnsupportedType(ch_type.to_string())),
            },
            other => Err(UnsupportedType(other.to_string())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Fixed { log_width, bytes } => bytes.len() >> log_width,
            Self::Text(text) => text.ends.len(),
            Self::Nullable { nulls, .. } => nulls.len(),
            Self::Array { ends, .. } => ends.len(),
            Self::Dictionary(dictionary) => dictionary.rows.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Fixed { bytes, .. } => bytes.len(),
            Self::Text(text) => text.bytes.len() + 4 * text.ends.len(),
            Self::Nullable { nulls, inner } => nulls.len() + inner.bytes(),
            Self::Array { ends, inner } => 8 * ends.len() + inner.bytes(),
            Self::Dictionary(d) => 3 * d.keys.bytes.len() + 4 * d.rows.len(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Dictionary(dictionary) => dictionary.clear(),
            Self::Nullable { nulls, inner } => {
                nulls.clear();
                inner.clear();
            }
            Self::Array { ends, inner } => {
                ends.clear();
                inner.clear();
            }
            other => other.truncate(0),
        }
    }

    fn push_default(&mut self) {
        match self {
            Self::Fixed { log_width, bytes } => bytes.resize(bytes.len() + (1 << *log_width), 0),
            Self::Text(text) => text.push(b""),
            Self::Nullable { nulls, inner } => {
                nulls.push(1);
                inner.push_default();
            }
            Self::Array { ends, inner } => ends.push(inner.len() as u64),
            Self::Dictionary(dictionary) => dictionary.rows.push(0),
        }
    }

    #[inline]
    fn push_fixed(&mut self, value: &[u8]) -> bool {
        match self {
            Self::Fixed { log_width, bytes } if value.len() == 1 << *log_width => {
                bytes.extend_from_slice(value);
            }
            Self::Nullable { nulls, inner } => {
                if !inner.push_fixed(value) {
                    return false;
                }
                nulls.push(0);
            }
            _ => return false,
        }
        true
    }

    #[inline]
    fn push_text(&mut self, value: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.push(value),
            Self::Nullable { nulls, inner } => {
                if !inner.push_text(value) {
                    return false;
                }
                nulls.push(0);
            }
            Self::Dictionary(dictionary) => dictionary.push(value),
            Self::Fixed { .. } | Self::Array { .. } => return false,
        }
        true
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Fixed { log_width, bytes } => bytes.truncate(rows << *log_width),
            Self::Text(text) => text.truncate(rows.min(text.ends.len())),
            Self::Nullable { nulls, inner } => {
                nulls.truncate(rows);
                inner.truncate(rows);
            }
            Self::Array { ends, inner } => {
                ends.truncate(rows);
                let elements = ends.last().copied().unwrap_or(0);
                inner.truncate(usize::try_from(elements).unwrap_or(usize::MAX));
            }
            Self::Dictionary(dictionary) => dictionary.rows.truncate(rows),
        }
    }

    fn push_row_binary(&mut self, input: &mut &[u8]) -> Result<(), Corrupt> {
        match self {
            Self::Fixed { log_width, bytes } => {
                bytes.extend_from_slice(take(input, 1 << *log_width)?);
            }
            Self::Text(text) => text.push(take_text(input)?),
            Self::Nullable { nulls, inner } => {
                let null = take(input, 1)?[0];
                if null == 0 {
                    inner.push_row_binary(input)?;
                } else {
                    inner.push_default();
                }
                nulls.push(null);
            }
            Self::Array { ends, inner } => {
                for _ in 0..take_varint(input).ok_or(Corrupt)? {
                    inner.push_row_binary(input)?;
                }
                ends.push(inner.len() as u64);
            }
            Self::Dictionary(dictionary) => {
                if dictionary.nullable && take(input, 1)?[0] != 0 {
                    dictionary.rows.push(0);
                } else {
                    dictionary.push(take_text(input)?);
                }
            }
        }
        Ok(())
    }

    fn row_binary(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Fixed { log_width, bytes } => {
                out.extend_from_slice(&bytes[row << log_width..(row + 1) << log_width]);
            }
            Self::Text(text) => out.extend_from_slice(text.wire(row..row + 1)),
            Self::Nullable { nulls, inner } => {
                out.push(nulls[row]);
                if nulls[row] == 0 {
                    inner.row_binary(row, out);
                }
            }
            Self::Array { ends, inner } => {
                let elements = element_range(ends, row..row + 1);
                put_varint(out, elements.len() as u64);
                elements.for_each(|element| inner.row_binary(element, out));
            }
            Self::Dictionary(dictionary) => {
                let position = dictionary.rows[row];
                if dictionary.nullable {
                    out.push(u8::from(position == 0));
                }
                if !(dictionary.nullable && position == 0) {
                    let position = position as usize;
                    out.extend_from_slice(dictionary.keys.wire(position..position + 1));
                }
            }
        }
    }

    fn write(&self, rows: &Range<usize>, out: &mut FrameWriter) {
        match self {
            Self::Fixed { log_width, bytes } => {
                out.write(&bytes[rows.start << log_width..rows.end << log_width]);
            }
            Self::Text(text) => out.write(text.wire(rows.clone())),
            Self::Nullable { nulls, inner } => {
                out.write(&nulls[rows.clone()]);
                inner.write(rows, out);
            }
            Self::Array { ends, inner } => {
                let elements = element_range(ends, rows.clone());
                for end in &ends[rows.clone()] {
                    out.write(&(end - elements.start as u64).to_le_bytes());
                }
                inner.write(&elements, out);
            }
            Self::Dictionary(dictionary) => dictionary.write(rows, out),
        }
    }
}

fn element_range(ends: &[u64], rows: Range<usize>) -> Range<usize> {
    let end_of = |rows: usize| match rows {
        0 => 0,
        n => usize::try_from(ends[n - 1]).expect("elements are counted in memory"),
    };
    end_of(rows.start)..end_of(rows.end)
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Corrupt> {
    let (taken, rest) = input.split_at_checked(count).ok_or(Corrupt)?;
    *input = rest;
    Ok(taken)
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Corrupt> {
    let length = take_varint(input).ok_or(Corrupt)?;
    take(input, usize::try_from(length).map_err(|_| Corrupt)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(column: &Column) -> Vec<Vec<u8>> {
        (0..column.len())
            .map(|row| {
                let mut value = Vec::new();
                column.row_binary(row, &mut value);
                value
            })
            .collect()
    }

    #[test]
    fn a_failed_row_leaves_no_trace_in_any_kind_of_column() {
        for ch_type in ["Int64", "Nullable(String)", "Array(Nullable(String))", "LowCardinality(String)"] {
            let ch_type: ChType = ch_type.parse().unwrap();
            let mut column = Column::new(&ch_type).unwrap();
            column.push_default();
            let before = rows(&column);
            if let Some(mut element) = column.element() {
                assert!(element.push_text(b"never closed"), "{ch_type}");
            } else {
                assert!(column.push_text(b"12345678") || column.push_fixed(b"12345678"), "{ch_type}");
            }
            assert_eq!(column.len(), 1 + usize::from(!matches!(ch_type, ChType::Array(_))), "{ch_type}");
            column.truncate(1);
            assert_eq!(rows(&column), before, "{ch_type}");
            column.push_copy(0);
            assert_eq!(rows(&column), [before.concat(), before.concat()], "{ch_type}");
        }
    }

    #[test]
    fn a_value_of_another_kind_is_refused_and_not_a_default() {
        for (ch_type, fixed, text) in [
            ("Int64", true, false),
            ("Nullable(Int64)", true, false),
            ("Int32", false, false),
            ("String", false, true),
            ("Nullable(String)", false, true),
            ("LowCardinality(Nullable(String))", false, true),
            ("Array(Int64)", false, false),
        ] {
            let mut column = Column::new(&ch_type.parse().unwrap()).unwrap();
            let took = (column.push_fixed(b"12345678"), column.push_text(b"12345678"));
            assert_eq!(took, (fixed, text), "{ch_type}");
            assert_eq!(column.len(), usize::from(fixed || text), "{ch_type}");
        }
    }

    #[test]
    fn elements_of_low_cardinality_are_written_plainly() {
        let column = Column::new(&"Array(LowCardinality(Nullable(String)))".parse().unwrap()).unwrap();
        assert_eq!(column.wire_type(), "Array(Nullable(String))");
    }

    #[test]
    fn a_nullable_dictionary_tells_null_from_empty() {
        let ch_type: ChType = "LowCardinality(Nullable(String))".parse().unwrap();
        let mut column = Column::new(&ch_type).unwrap();
        column.push_default();
        column.push_text(b"");
        column.push_text(b"a");
        assert_eq!(rows(&column), [vec![1], vec![0, 0], vec![0, 1, b'a']]);
    }

    #[test]
    fn a_cut_off_value_is_refused() {
        let mut column = Column::new(&ChType::String).unwrap();
        assert_eq!(column.push_row_binary(&mut &[5_u8, b'a'][..]), Err(Corrupt));
        assert!(column.is_empty());
    }
}
