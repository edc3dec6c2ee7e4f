//! One block in Native format. Pure.

use std::ops::Range;

use super::{Column, FrameWriter, put_varint};

/// A column with the name and type that the block announces.
#[derive(Debug, Clone, Copy)]
pub struct BlockColumn<'a> {
    /// Name in the table.
    pub name: &'a str,
    /// The values.
    pub column: &'a Column,
}

/// Encodes the given rows of all columns as one compressed block; also returns its size before compression.
pub fn encode_block(columns: &[BlockColumn<'_>], rows: &Range<usize>) -> (Vec<u8>, u64) {
    let mut out = FrameWriter::new();
    let mut head = Vec::new();
    put_varint(&mut head, columns.len() as u64);
    put_varint(&mut head, rows.len() as u64);
    out.write(&head);
    for BlockColumn { name, column } in columns {
        head.clear();
        for text in [*name, column.wire_type()] {
            put_varint(&mut head, text.len() as u64);
            head.extend_from_slice(text.as_bytes());
        }
        out.write(&head);
        column.write(rows, &mut out);
    }
    let raw = out.raw_bytes();
    (out.finish(), raw)
}
